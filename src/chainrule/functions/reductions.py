"""Reductions over axes, running reductions, and sorting."""

from __future__ import annotations

import builtins
import math
from typing import Any

from .. import dtypes
from ..errors import ArgumentError
from ..primitives import reduction
from ..primitives.layout import check_axis
from ..tensor import Tensor, TensorLike, asarray
from .checks import Axis, as_axes
from .selection import where
from .shaping import concat, expand_dims, moveaxis, reshape, take_slice

__all__ = [
    "all", "any", "argmax", "argmin", "argsort", "count_nonzero", "cumulative_max", "cumulative_prod", "cumulative_sum",
    "diff", "logsumexp", "max", "mean", "median", "min", "prod", "sort", "std", "sum", "top_k", "var",
]  # fmt: skip


def _keep(x: Tensor, result: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    if not keepdims:
        return result
    return reshape(result, tuple(1 if i in axes else n for i, n in enumerate(x.shape)))


def _reduce(primitive: Any, operation: str, x: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    axes = as_axes(operation, axis, x.ndim)
    return _keep(x, primitive(x, axes=axes), axes, keepdims)


def _accumulator(x: TensorLike) -> Tensor:
    """Truth values and small integers are added up in int64, as the array API standard asks."""
    x = asarray(x)
    if x.dtype in dtypes.INEXACT or x.dtype in (dtypes.int64, dtypes.uint64):
        return x
    return x.astype(dtypes.uint64 if x.dtype in dtypes.UNSIGNED else dtypes.int64)


def sum(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Sum over axes. Truth values and small integers are added up in int64.

    Args:
        x: a tensor.
        axis: an axis, several, or None for all.
        keepdims: keep the axes, with size 1.

    >>> sum(tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
    tensor([4., 6.])
    """
    return _reduce(reduction.reduce_sum, "sum", _accumulator(x), axis, keepdims)


def prod(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Product over axes; its gradient is right at zeros too.

    >>> prod(tensor([2.0, 3.0]))
    tensor(6.)
    """
    return _reduce(reduction.reduce_prod, "prod", _accumulator(x), axis, keepdims)


def max(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Maximum over axes; elements that tie share the gradient equally. NaN if there is one.

    Raises:
        ArgumentError: an axis is empty.

    >>> max(tensor([[1.0, 5.0], [3.0, 2.0]]), axis=1)
    tensor([5., 3.])
    """
    return _reduce(reduction.reduce_max, "max", asarray(x), axis, keepdims)


def min(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Minimum over axes; elements that tie share the gradient equally. NaN if there is one.

    >>> min(tensor([[1.0, 5.0], [3.0, 2.0]]), axis=1)
    tensor([1., 2.])
    """
    return _reduce(reduction.reduce_min, "min", asarray(x), axis, keepdims)


def _truth(x: TensorLike) -> Tensor:
    x = asarray(x)
    return x if x.dtype == dtypes.bool_ else x != 0


def any(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether any element over the axes is true (not zero).

    >>> any(tensor([False, True]))
    tensor(True)
    """
    return _reduce(reduction.reduce_any, "any", _truth(x), axis, keepdims)


def all(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether all elements over the axes are true (not zero).

    >>> all(tensor([False, True]))
    tensor(False)
    """
    return _reduce(reduction.reduce_all, "all", _truth(x), axis, keepdims)


def count_nonzero(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Number of elements over the axes that are not zero.

    >>> count_nonzero(tensor([0, 3, 4]))
    tensor(2)
    """
    return sum(_truth(x), axis, keepdims)


def _arg(primitive: Any, operation: str, x: TensorLike, axis: int | None, keepdims: bool) -> Tensor:
    x = asarray(x)
    if axis is None:
        flat = primitive(reshape(x, (-1,)), axes=(0,))
        return reshape(flat, (1,) * x.ndim) if keepdims else flat
    return _reduce(primitive, operation, x, check_axis(operation, axis, x.ndim), keepdims)


def argmax(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the first maximum along an axis (of the flattened tensor, if None), as int64.

    >>> argmax(tensor([1.0, 5.0, 5.0]))
    tensor(1)
    """
    return _arg(reduction.reduce_argmax, "argmax", x, axis, keepdims)


def argmin(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the first minimum along an axis (of the flattened tensor, if None), as int64.

    >>> argmin(tensor([1.0, 5.0, 1.0]))
    tensor(0)
    """
    return _arg(reduction.reduce_argmin, "argmin", x, axis, keepdims)


def _floating(x: TensorLike) -> Tensor:
    x = asarray(x)
    return x if x.dtype in dtypes.INEXACT else x.astype(dtypes.float32)


def mean(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Arithmetic mean over axes; NaN over none.

    >>> mean(tensor([1.0, 2.0, 6.0]))
    tensor(3.)
    """
    x = _floating(x)
    if x.dtype in dtypes.HALF:  # float16 holds neither the sum of many nor their number
        return mean(x.astype(dtypes.float32), axis, keepdims).astype(x.dtype)
    axes = as_axes("mean", axis, x.ndim)
    n = math.prod(x.shape[a] for a in axes)
    return sum(x, axes, keepdims) / n if n else sum(x, axes, keepdims) * math.nan


def var(x: TensorLike, axis: Axis = None, keepdims: bool = False, correction: float = 0.0) -> Tensor:
    """Variance over axes, ``sum((x - mean)^2) / (n - correction)``.

    Args:
        x: a tensor.
        axis: the axes.
        keepdims: keep the axes, with size 1.
        correction: 0 for the population's variance (as the array API has it), 1 for the sample's (PyTorch's default).

    >>> var(tensor([1.0, 3.0])), var(tensor([1.0, 3.0]), correction=1)
    (tensor(1.), tensor(2.))
    """
    x = _floating(x)
    axes = as_axes("var", axis, x.ndim)
    n = math.prod(x.shape[a] for a in axes) - correction
    centered = x - mean(x, axes, keepdims=True)
    total = sum(centered * centered, axes, keepdims)
    return total / n if n > 0 else total * math.nan


def std(x: TensorLike, axis: Axis = None, keepdims: bool = False, correction: float = 0.0) -> Tensor:
    """Standard deviation over axes, the square root of `var`; its gradient where it is 0 is 0.

    >>> std(tensor([1.0, 3.0]))
    tensor(1.)
    """
    square = var(x, axis, keepdims, correction)
    zero = square == 0
    return where(zero, 0.0, where(zero, 1.0, square).sqrt())


def median(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Middle value along an axis (of all elements, if None); the mean of the two middle ones for an even number.

    >>> median(tensor([3.0, 1.0, 2.0]))
    tensor(2.)
    """
    x = _floating(x)
    kept = (1,) * x.ndim
    if axis is None:
        x, along = reshape(x, (-1,)), 0
    else:
        along = check_axis("median", axis, x.ndim)
        kept = tuple(1 if i == along else n for i, n in enumerate(x.shape))
    n = x.shape[along]
    if n == 0:
        raise ArgumentError("median", "has no value over an empty axis", received=f"shape {x.shape}")
    ordered = moveaxis(sort(x, axis=along), along, -1)
    middle, last = (ordered[..., (n - 1) // 2] + ordered[..., n // 2]) / 2, ordered[..., n - 1]
    middle = where(last.isnan(), last, middle)  # NaN is sorted to the end
    return reshape(middle, kept) if keepdims else middle


def logsumexp(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """``log(sum(exp(x)))`` over axes, without overflow; -inf over none.

    >>> logsumexp(tensor([1000.0, 1000.0]))
    tensor(1000.693...)
    """
    x = _floating(x)
    axes = as_axes("logsumexp", axis, x.ndim)
    if 0 in (x.shape[a] for a in axes):
        return sum(x, axes, keepdims).log()
    peak = _finite(max(x.detach(), axes, keepdims=True))
    total = sum((x - peak).exp(), axes, keepdims=True).log() + peak
    return total if keepdims else reshape(total, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def _finite(x: Tensor) -> Tensor:
    return where(x.isfinite(), x, 0.0)


# --- along one axis ---------------------------------------------------------------------------------------


def _along(operation: str, x: TensorLike, axis: int | None) -> tuple[Tensor, int]:
    x = asarray(x)
    if axis is None:
        return reshape(x, (-1,)), 0
    return x, check_axis(operation, axis, x.ndim)


def cumulative_sum(x: TensorLike, axis: int | None = None, include_initial: bool = False) -> Tensor:
    """Sums of the elements up to each along an axis.

    >>> cumulative_sum(tensor([1.0, 2.0, 3.0]))
    tensor([1., 3., 6.])
    """
    x, axis = _along("cumulative_sum", _accumulator(x), axis)
    total = reduction.cumsum(x, axis=axis, reverse=False)
    return concat([expand_dims(sum(x, axis) * 0, axis), total], axis) if include_initial else total


def cumulative_prod(x: TensorLike, axis: int | None = None) -> Tensor:
    """Products of the elements up to each along an axis; the gradient is right at zeros too.

    >>> cumulative_prod(tensor([1.0, 2.0, 3.0]))
    tensor([1., 2., 6.])
    """
    x, axis = _along("cumulative_prod", _accumulator(x), axis)
    return reduction.cumprod(x, axis=axis, reverse=False)


def cumulative_max(x: TensorLike, axis: int | None = None) -> Tensor:
    """Maxima of the elements up to each along an axis.

    >>> cumulative_max(tensor([1.0, 3.0, 2.0]))
    tensor([1., 3., 3.])
    """
    x, axis = _along("cumulative_max", x, axis)
    return reduction.cummax(x, axis=axis, reverse=False)


def diff(x: TensorLike, axis: int = -1) -> Tensor:
    """Differences of neighbours along an axis.

    >>> diff(tensor([1.0, 3.0, 2.0]))
    tensor([ 2., -1.])
    """
    x, axis = _along("diff", x, axis)
    n = x.shape[axis]
    return take_slice(x, axis, 1, n) - take_slice(x, axis, 0, builtins.max(n - 1, 0))


def sort(x: TensorLike, axis: int = -1, descending: bool = False) -> Tensor:
    """Sort along an axis, stably; NaN last in ascending order.

    >>> sort(tensor([3.0, 1.0, 2.0]))
    tensor([1., 2., 3.])
    """
    x, axis = _along("sort", x, axis)
    return reduction.sort(x, axis=axis, descending=bool(descending))


def argsort(x: TensorLike, axis: int = -1, descending: bool = False) -> Tensor:
    """Indices that sort along an axis, stably.

    >>> argsort(tensor([3.0, 1.0, 2.0]))
    tensor([1, 2, 0])
    """
    x, axis = _along("argsort", x, axis)
    return reduction.argsort(x, axis=axis, descending=bool(descending))


def top_k(x: TensorLike, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    """The ``k`` largest elements along an axis in descending order, and their indices.

    >>> top_k(tensor([3.0, 1.0, 2.0]), 2)
    (tensor([3., 2.]), tensor([0, 2]))
    """
    x, axis = _along("top_k", x, axis)
    values, indices = reduction.top_k(moveaxis(x, axis, -1), k=k)
    return moveaxis(values, -1, axis), moveaxis(indices, -1, axis)
