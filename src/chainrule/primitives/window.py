"""Pooling windows over channels-last images (N, spatial..., C).

Padding adds no element to a maximum, and zeros to a sum. As with convolution, each primitive that moves cotangents
is the transpose of another, so the family is closed under differentiation.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..graph.ir import TensorType
from .base import NUMERIC, REAL, Array, check_dtype, primitive, same_type
from .batching import folded
from .contraction import Axes, conv_output_size


def _pooled(operation: str, x: Any, window: Axes, stride: Axes, padding: Any, dilation: Axes) -> Axes:
    if x.ndim != len(window) + 2:
        raise ShapeError(
            operation,
            f"needs an image of {len(window) + 2} axes, (N, spatial..., C)",
            received=f"shape {tuple(x.shape)}",
            fix="add the batch axis with x[None], a channel axis with x[..., None]",
        )
    spatial = tuple(
        conv_output_size(n, k, s, p, d)
        for n, k, s, p, d in zip(x.shape[1:-1], window, stride, padding, dilation, strict=True)
    )
    if 0 in spatial and 0 not in x.shape:
        raise ShapeError(
            operation,
            "the window is larger than the padded image",
            received=f"image {tuple(x.shape[1:-1])}, window {window}",
            fix="use a smaller window, fewer pooling layers, or larger images",
        )
    return (x.shape[0], *spatial, x.shape[-1])


def _offsets(window: Axes, dilation: Axes, stride: Axes, spatial: Axes) -> list[tuple[slice, ...]]:
    """For each place in the window, the slices of the padded image that it covers, over all positions."""
    return [
        (
            slice(None),
            *(
                slice(o * d, o * d + (p - 1) * s + 1, s)
                for o, d, p, s in zip(offset, dilation, spatial, stride, strict=True)
            ),
        )
        for offset in product(*map(range, window))
    ]


def _padded(x: Array, padding: Any, value: Any) -> Array:
    if not any(map(any, padding)):
        return x
    return np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)


def _lowest(dtype: np.dtype) -> Any:
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _types(operation: str, takes: frozenset, like: int = 0) -> Any:
    def types(*inputs: Any, window: Axes, stride: Axes, padding: Any, dilation: Axes) -> TensorType:
        x = inputs[like]
        check_dtype(operation, x.dtype, takes)
        return TensorType(_pooled(operation, x, window, stride, padding, dilation), x.dtype)

    return types


@primitive(
    _types("max_pool", REAL),
    vjp=(lambda ct, out, x, **how: max_pool_scatter(ct, x, **how),),
    lowering="window",
    batching=folded,
)
def max_pool(x: Array, *, window: Axes, stride: Axes, padding: Any, dilation: Axes) -> Array:
    """Maximum of each window; at a tie the first element, in row-major order, gets the gradient."""
    spatial = _pooled("max_pool", x, window, stride, padding, dilation)[1:-1]
    full = _padded(x, padding, _lowest(x.dtype))
    result = None
    for place in _offsets(window, dilation, stride, spatial):
        result = full[place].copy() if result is None else np.maximum(result, full[place], out=result)
    return result  # type: ignore[return-value]


def _winner(full: Array, places: list[tuple[slice, ...]]) -> Array:
    """Which place of the window has the maximum (the first of equals; a NaN wins)."""
    best = full[places[0]].copy()
    which = np.zeros(best.shape, np.int16)
    for number, place in enumerate(places[1:], start=1):
        candidate = full[place]
        better = (candidate > best) | ((candidate != candidate) & (best == best))
        best = np.where(better, candidate, best)
        which[better] = number
    return which


@primitive(
    lambda ct, x, **how: same_type(x),
    vjp=(lambda ct, out, y, x, **how: max_pool_gather(ct, x, **how), None),
    linear=(0,),
    lowering="window",
    batching=folded,
)
def max_pool_scatter(y: Array, x: Array, *, window: Axes, stride: Axes, padding: Any, dilation: Axes) -> Array:
    """Add each ``y`` to the place of ``x`` that is the maximum of its window."""
    full = _padded(x, padding, _lowest(x.dtype))
    places = _offsets(window, dilation, stride, y.shape[1:-1])
    which = _winner(full, places)
    result = np.zeros(full.shape, y.dtype)
    for number, place in enumerate(places):
        result[place] += np.where(which == number, y, 0)
    return result[(slice(None), *(slice(low, low + n) for n, (low, _) in zip(x.shape[1:-1], padding, strict=True)))]


@primitive(
    _types("max_pool", REAL, like=1),
    vjp=(lambda ct, out, t, x, **how: max_pool_scatter(ct, x, **how), None),
    linear=(0,),
    lowering="window",
    batching=folded,
)
def max_pool_gather(t: Array, x: Array, *, window: Axes, stride: Axes, padding: Any, dilation: Axes) -> Array:
    """Take of each window the element of ``t`` at the place where ``x`` has its maximum."""
    spatial = _pooled("max_pool", x, window, stride, padding, dilation)[1:-1]
    places = _offsets(window, dilation, stride, spatial)
    which = _winner(_padded(x, padding, _lowest(x.dtype)), places)
    full = _padded(t, padding, 0)
    result = np.zeros(which.shape, t.dtype)
    for number, place in enumerate(places):
        result = np.where(which == number, full[place], result)
    return result


@primitive(
    _types("sum_pool", NUMERIC),
    vjp=(lambda ct, out, x, **how: sum_pool_spread(ct, shape=x.shape, **how),),
    linear=(0,),
    lowering="window",
    batching=folded,
)
def sum_pool(x: Array, *, window: Axes, stride: Axes, padding: Any, dilation: Axes) -> Array:
    """Sum of each window; average pooling divides it."""
    spatial = _pooled("avg_pool", x, window, stride, padding, dilation)[1:-1]
    full = _padded(x, padding, 0)
    result = np.zeros((x.shape[0], *spatial, x.shape[-1]), x.dtype)
    for place in _offsets(window, dilation, stride, spatial):
        result += full[place]
    return result


@primitive(
    lambda y, *, shape, **how: TensorType(tuple(shape), y.dtype),
    vjp=(lambda ct, out, y, *, shape, **how: sum_pool(ct, **how),),
    linear=(0,),
    lowering="window",
    batching=folded,
)
def sum_pool_spread(y: Array, *, shape: Axes, window: Axes, stride: Axes, padding: Any, dilation: Axes) -> Array:
    """Add each ``y`` to all places of its window in an image of ``shape``: the transpose of `sum_pool`."""
    full = np.zeros((shape[0], *(n + sum(p) for n, p in zip(shape[1:-1], padding, strict=True)), shape[-1]), y.dtype)
    for place in _offsets(window, dilation, stride, y.shape[1:-1]):
        full[place] += y
    return full[(slice(None), *(slice(low, low + n) for n, (low, _) in zip(shape[1:-1], padding, strict=True)))]
