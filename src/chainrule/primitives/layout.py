"""Functions that move elements and compute nothing: each is linear, and its gradient moves them back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..graph.ir import TensorType
from ..registry import F
from .base import Array, primitive, same_type
from .batching import shifted, spread


def _reshape_types(x: Any, *, shape: tuple[int, ...]) -> TensorType:
    if math.prod(shape) != math.prod(x.shape):
        raise ShapeError(
            "reshape",
            f"{math.prod(x.shape)} elements do not fill {math.prod(shape)}",
            received=f"shape {tuple(x.shape)} to {shape}",
            fix="let one axis be -1, so that it is computed",
        )
    return TensorType(shape, x.dtype)


@primitive(
    _reshape_types,
    vjp=(lambda ct, out, x, *, shape: F.reshape(ct, x.shape),),
    linear=(0,),
    batching=lambda apply, examples, batched, x, *, shape: apply(x, shape=(examples.size, *shape)),
    lowering="layout",
)
def reshape(x: Array, *, shape: tuple[int, ...]) -> Array:
    """The same elements in row-major order, in another shape."""
    return x.reshape(shape)


@primitive(
    lambda x, *, axes: TensorType(tuple(x.shape[a] for a in axes), x.dtype),
    vjp=(lambda ct, out, x, *, axes: F.permute_dims(ct, tuple(np.argsort(axes).tolist())),),
    linear=(0,),
    batching=lambda apply, examples, batched, x, *, axes: apply(x, axes=(0, *(a + 1 for a in axes))),
    lowering="layout",
)
def permute(x: Array, *, axes: tuple[int, ...]) -> Array:
    """Axis ``i`` of the result is axis ``axes[i]`` of ``x``."""
    return x.transpose(axes)


def _broadcast_types(x: Any, *, shape: tuple[int, ...]) -> TensorType:
    given = (1,) * (len(shape) - len(x.shape)) + tuple(x.shape)
    if len(given) != len(shape) or any(a not in (1, b) for a, b in zip(given, shape, strict=True)):
        raise ShapeError(
            "broadcast_to",
            "only axes of size 1 can be repeated",
            received=f"shape {tuple(x.shape)} to {shape}",
            fix="use cr.tile or cr.repeat to repeat longer axes",
        )
    return TensorType(shape, x.dtype)


def _broadcast_batching(apply, examples, batched, x, *, shape):
    aligned = F.reshape(x, (examples.size, *(1,) * (len(shape) + 1 - x.ndim), *x.shape[1:]))
    return apply(aligned, shape=(examples.size, *shape))


@primitive(
    _broadcast_types,
    vjp=(lambda ct, out, x, *, shape: F.unbroadcast(ct, x.shape),),
    linear=(0,),
    batching=_broadcast_batching,
    lowering="layout",
)
def broadcast_to(x: Array, *, shape: tuple[int, ...]) -> Array:
    """Repeat axes of size 1 and add axes in front."""
    return np.broadcast_to(x, shape)


def _slice_types(x: Any, *, slices: tuple[tuple[int, int, int], ...]) -> TensorType:
    return TensorType(tuple(len(range(*s)) for s in slices), x.dtype)


def _slice_vjp(ct, out, x, *, slices):
    # Put the elements back at their distance, with zeros around and between them.
    widths = []
    for (start, _, step), n, size in zip(slices, ct.shape, x.shape, strict=True):
        if n == 0:
            return F.zeros_like(x)
        widths.append((start, size - start - ((n - 1) * step + 1), step - 1))
    return pad(ct, F.zeros((), dtype=ct.dtype), widths=tuple(widths))


@primitive(
    _slice_types,
    vjp=(_slice_vjp,),
    linear=(0,),
    batching=lambda apply, examples, batched, x, *, slices: apply(x, slices=((0, examples.size, 1), *slices)),
    lowering="layout",
)
def slice_(x: Array, *, slices: tuple[tuple[int, int, int], ...]) -> Array:
    """Elements ``start, start + step, ...`` below ``stop`` along each axis; steps are positive."""
    return x[tuple(slice(*s) for s in slices)]


def _pad_types(x: Any, value: Any, *, widths: tuple[tuple[int, int, int], ...]) -> TensorType:
    if value.shape != () or value.dtype != x.dtype:
        raise DTypeError("pad", "needs one value of the dtype of x", received=f"{value.dtype}{value.shape}")
    shape = tuple(low + n + max(n - 1, 0) * inner + high for n, (low, high, inner) in zip(x.shape, widths, strict=True))
    return TensorType(shape, x.dtype)


def _pad_vjp_input(ct, out, x, value, *, widths):
    if x.size == 0:
        return F.zeros_like(x)
    # A negative width has cut elements off; their gradient is zero.
    cut = tuple((max(-low, 0), max(-high, 0), 0) for low, high, _ in widths)
    grown = F.zeros((), dtype=ct.dtype)
    ct = pad(ct, grown, widths=cut) if any(map(any, cut)) else ct
    slices = tuple(
        (max(low, 0), max(low, 0) + (n - 1) * (inner + 1) + 1, inner + 1)
        for n, (low, _, inner) in zip(x.shape, widths, strict=True)
    )
    return slice_(ct, slices=slices)


def _pad_batching(apply, examples, batched, x, value, *, widths):
    (x,) = spread(examples, batched[:1], (x,))
    widths = ((0, 0, 0), *widths)
    if not batched[1]:
        return apply(x, value, widths=widths)
    inside = apply(F.ones(x.shape, dtype="bool"), F.zeros((), dtype="bool"), widths=widths)
    around = F.reshape(value, (examples.size, *(1,) * (x.ndim - 1)))
    return F.where(inside, apply(x, F.zeros((), dtype=x.dtype), widths=widths), around)


@primitive(
    _pad_types,
    vjp=(
        _pad_vjp_input,
        lambda ct, out, x, value, *, widths: F.sum(ct) - F.sum(_pad_vjp_input(ct, out, x, value, widths=widths)),
    ),
    linear=(0, 1),
    batching=_pad_batching,
    lowering="layout",
)
def pad(x: Array, value: Array, *, widths: tuple[tuple[int, int, int], ...]) -> Array:
    """Put ``low`` and ``high`` times ``value`` around, and ``inner`` times between the elements of each axis.

    A negative ``low`` or ``high`` cuts elements off.
    """
    types = _pad_types(x, value, widths=widths)
    grown = zip(x.shape, widths, strict=True)
    outer = tuple(max(low, 0) + n + max(n - 1, 0) * i + max(high, 0) for n, (low, high, i) in grown)
    full = np.full(outer, value, dtype=x.dtype)
    inside = tuple(
        slice(max(low, 0), max(low, 0) + max(n - 1, 0) * (i + 1) + min(n, 1), i + 1)
        for n, (low, _, i) in zip(x.shape, widths, strict=True)
    )
    full[inside] = x
    kept = tuple(slice(max(-low, 0), max(-low, 0) + n) for n, (low, _, _) in zip(types.shape, widths, strict=True))
    return full[kept]


def _concat_types(*xs: Any, axis: int) -> TensorType:
    first = xs[0]
    for x in xs[1:]:
        if x.ndim != first.ndim or any(x.shape[i] != n for i, n in enumerate(first.shape) if i != axis):
            raise ShapeError(
                "concat",
                f"all axes but axis {axis} must agree",
                received="shapes " + ", ".join(str(tuple(x.shape)) for x in xs),
                fix="use cr.stack to join along a new axis",
            )
    size = sum(x.shape[axis] for x in xs)
    return TensorType((*first.shape[:axis], size, *first.shape[axis + 1 :]), first.dtype)


def _concat_vjp(ct, out, *xs, axis):
    parts, start = [], 0
    for x in xs:
        parts.append(F.take_slice(ct, axis, start, start + x.shape[axis]))
        start += x.shape[axis]
    return tuple(parts)


@primitive(_concat_types, vjp=_concat_vjp, linear=True, batching=shifted("axis"), lowering="layout")
def concat(*xs: Array, axis: int) -> Array:
    """Join along an existing axis."""
    return np.concatenate(xs, axis=axis)


@primitive(
    same_type,
    vjp=(lambda ct, out, x, *, axes: flip(ct, axes=axes),),
    linear=(0,),
    batching=shifted("axes"),
    lowering="layout",
)
def flip(x: Array, *, axes: tuple[int, ...]) -> Array:
    """Reverse the order along ``axes``."""
    return np.flip(x, axes)


@primitive(
    same_type,
    vjp=(lambda ct, out, x, *, shift, axis: roll(ct, shift=-shift, axis=axis),),
    linear=(0,),
    batching=shifted("axis"),
    lowering="layout",
)
def roll(x: Array, *, shift: int, axis: int) -> Array:
    """Move elements ``shift`` places along ``axis``; those that leave come in at the other end."""
    return np.roll(x, shift, axis)


@primitive(same_type, vjp=(lambda ct, out, x: ct,), linear=(0,), elementwise=True, lowering="layout")
def alias(x: Array) -> Array:
    """The same value under a new name: the point at which a transform takes hold of an argument."""
    return x


@primitive(same_type, elementwise=True, lowering="layout")
def stop_gradient(x: Array) -> Array:
    """The same value without a gradient: `Tensor.detach` in a traced function, which may be run again for gradients."""
    return x


def check_axis(operation: str, axis: int, ndim: int) -> int:
    """Return ``axis`` counted from the front; raise `ArgumentError` if there is no such axis."""
    if not isinstance(axis, (int, np.integer)) or not -ndim <= axis < ndim:
        raise ArgumentError(
            operation,
            f"there is no such axis; a tensor of {ndim} axes has axes {-ndim}..{ndim - 1}"
            if ndim
            else "a tensor without axes (a scalar) has none to work on",
            received=f"axis={axis!r}",
        )
    return int(axis) % ndim
