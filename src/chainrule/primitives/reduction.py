"""Reductions over axes, running (cumulative) reductions, and sorting.

``axes`` is always a tuple of distinct, non-negative axes, which the result does not have; the public functions in
``functions`` normalize ``axis=`` and restore axes for ``keepdims=``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..errors import ArgumentError
from ..graph.ir import TensorType
from ..registry import F
from .base import BOOL, NUMERIC, REAL, Array, check_dtype, primitive, same_type
from .batching import shifted, stacked

_ORDERED = REAL | BOOL
_over_axes, _along_axis = shifted("axes"), shifted("axis")


def _reduced(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for axis, n in enumerate(shape) if axis not in axes)


def _types(operation: str, takes: frozenset, gives: Any = None, nonempty: bool = False) -> Any:
    def types(x: Any, *, axes: tuple[int, ...]) -> TensorType:
        check_dtype(operation, x.dtype, takes)
        if nonempty and 0 in (x.shape[a] for a in axes):
            raise ArgumentError(
                operation,
                "has no value over an empty axis",
                received=f"shape {tuple(x.shape)} over axes {axes}",
                fix="test x.size first",
            )
        return TensorType(_reduced(x.shape, axes), gives or x.dtype)

    return types


def _back(ct, x, axes):
    """Spread ``ct`` over the reduced axes of ``x``."""
    kept = tuple(1 if axis in axes else n for axis, n in enumerate(x.shape))
    return F.broadcast_to(F.reshape(ct, kept), x.shape)


@primitive(
    _types("sum", NUMERIC),
    vjp=(lambda ct, out, x, *, axes: _back(ct, x, axes),),
    linear=(0,),
    lowering="reduction",
    batching=_over_axes,
)
def reduce_sum(x: Array, *, axes: tuple[int, ...]) -> Array:
    """Sum over ``axes``."""
    return np.sum(x, axis=axes, dtype=x.dtype)


def _prod_vjp(ct, out, x, *, axes):
    # The product of all the other elements, from the left times from the right, so that zeros do no harm.
    if not x.size:
        return F.zeros_like(x)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    moved = F.permute_dims(x, kept + axes)
    flat = F.reshape(moved, (*(x.shape[a] for a in kept), -1))
    one = F.ones_like(flat[..., :1])
    left = F.concat([one, F.cumulative_prod(flat[..., :-1], axis=-1)], axis=-1)
    right = F.flip(F.concat([one, F.cumulative_prod(F.flip(flat[..., 1:], axis=-1), axis=-1)], axis=-1), axis=-1)
    grad = F.reshape(F.expand_dims(ct, -1) * left * right, moved.shape)
    return F.permute_dims(grad, tuple(np.argsort(kept + axes).tolist()))


@primitive(_types("prod", REAL), vjp=(_prod_vjp,), lowering="reduction", batching=_over_axes)
def reduce_prod(x: Array, *, axes: tuple[int, ...]) -> Array:
    """Product over ``axes``; its gradient is right at zeros too."""
    return np.prod(x, axis=axes, dtype=x.dtype)


def _extremum_vjp(ct, out, x, *, axes):
    at = F.astype(F.equal(x, _back(out, x, axes)), x.dtype)
    return F.strong_multiply(_back(F.strong_multiply(ct, 1 / F.sum(at, axis=axes)), x, axes), at)


@primitive(_types("max", _ORDERED, nonempty=True), vjp=(_extremum_vjp,), lowering="reduction", batching=_over_axes)
def reduce_max(x: Array, *, axes: tuple[int, ...]) -> Array:
    """Maximum over ``axes``; elements that tie share the gradient equally."""
    return np.max(x, axis=axes)


@primitive(_types("min", _ORDERED, nonempty=True), vjp=(_extremum_vjp,), lowering="reduction", batching=_over_axes)
def reduce_min(x: Array, *, axes: tuple[int, ...]) -> Array:
    """Minimum over ``axes``; elements that tie share the gradient equally."""
    return np.min(x, axis=axes)


@primitive(_types("argmax", _ORDERED, dtypes.int64, nonempty=True), lowering="reduction", batching=_over_axes)
def reduce_argmax(x: Array, *, axes: tuple[int, ...]) -> Array:
    """Index of the first maximum over the one axis in ``axes``."""
    return np.argmax(x, axis=axes[0])


@primitive(_types("argmin", _ORDERED, dtypes.int64, nonempty=True), lowering="reduction", batching=_over_axes)
def reduce_argmin(x: Array, *, axes: tuple[int, ...]) -> Array:
    """Index of the first minimum over the one axis in ``axes``."""
    return np.argmin(x, axis=axes[0])


@primitive(_types("any", BOOL), lowering="reduction", batching=_over_axes)
def reduce_any(x: Array, *, axes: tuple[int, ...]) -> Array:
    """Whether any element over ``axes`` is true."""
    return np.any(x, axis=axes)


@primitive(_types("all", BOOL), lowering="reduction", batching=_over_axes)
def reduce_all(x: Array, *, axes: tuple[int, ...]) -> Array:
    """Whether all elements over ``axes`` are true."""
    return np.all(x, axis=axes)


# --- running reductions along one axis --------------------------------------------------------------------


def _running(operation: str, takes: frozenset) -> Any:
    def types(x: Any, *, axis: int, reverse: bool) -> TensorType:
        check_dtype(operation, x.dtype, takes)
        return same_type(x)

    return types


def _directed(function: Any, x: Array, axis: int, reverse: bool, **options: Any) -> Array:
    if reverse:
        return np.flip(function(np.flip(x, axis), axis=axis, **options), axis)
    return function(x, axis=axis, **options)


@primitive(
    _running("cumulative_sum", NUMERIC),
    vjp=(lambda ct, out, x, *, axis, reverse: cumsum(ct, axis=axis, reverse=not reverse),),
    linear=(0,),
    lowering="running",
    batching=_along_axis,
)
def cumsum(x: Array, *, axis: int, reverse: bool) -> Array:
    """Sums of the elements up to each along ``axis`` (from each on, if ``reverse``)."""
    return _directed(np.cumsum, x, axis, reverse, dtype=x.dtype)


def _cumprod_vjp(ct, out, x, *, axis, reverse):
    # With P[i] = x[0]...x[i]:  dL/dx[i] = P[i-1] S[i],  S[i] = ct[i] + x[i+1] S[i+1].  No division, so zeros are safe.
    n = x.shape[axis]
    if n == 0:
        return ct
    step = -1 if reverse else 1
    one = F.ones_like(F.take_slice(out, axis, 0, 1))
    before = F.shift(out, axis, step, one)
    following = F.shift(x, axis, -step, one)
    return before * recurrence(following, ct, axis=axis, reverse=not reverse)


@primitive(_running("cumulative_prod", REAL), vjp=(_cumprod_vjp,), lowering="running", batching=_along_axis)
def cumprod(x: Array, *, axis: int, reverse: bool) -> Array:
    """Products of the elements up to each along ``axis``; its gradient is right at zeros too."""
    return _directed(np.cumprod, x, axis, reverse, dtype=x.dtype)


def _cummax_vjp(ct, out, x, *, axis, reverse):
    # Each result goes back to the element that it is: the last one so far that equals it.
    n = x.shape[axis]
    shape = tuple(n if a == axis else 1 for a in range(x.ndim))
    position = F.broadcast_to(F.reshape(F.arange(n), shape), x.shape)
    position = n - 1 - position if reverse else position
    here = F.where(F.logical_or(F.equal(x, out), F.not_equal(x, x)), position, -1)  # a NaN stands for itself
    origin = cummax(here, axis=axis, reverse=reverse)
    origin = n - 1 - origin if reverse else origin
    return F.scatter_along_axis(F.zeros_like(x), origin, ct, axis)


@primitive(_running("cumulative_max", _ORDERED), vjp=(_cummax_vjp,), lowering="running", batching=_along_axis)
def cummax(x: Array, *, axis: int, reverse: bool) -> Array:
    """Maxima of the elements up to each along ``axis``; at a tie the latest gets the gradient."""
    return _directed(np.maximum.accumulate, x, axis, reverse)


def _recurrence_vjp_factor(ct, out, a, b, *, axis, reverse):
    back = _recurrence_vjp_input(ct, out, a, b, axis=axis, reverse=reverse)
    zero = F.zeros_like(F.take_slice(out, axis, 0, 1))
    return back * F.shift(out, axis, -1 if reverse else 1, zero)


def _recurrence_vjp_input(ct, out, a, b, *, axis, reverse):
    zero = F.zeros_like(F.take_slice(a, axis, 0, 1))
    following = F.shift(a, axis, 1 if reverse else -1, zero)
    return recurrence(following, ct, axis=axis, reverse=not reverse)


@primitive(
    lambda a, b, *, axis, reverse: same_type(b),
    vjp=(_recurrence_vjp_factor, _recurrence_vjp_input),
    linear=(1,),
    lowering="running",
    batching=_along_axis,
)
def recurrence(a: Array, b: Array, *, axis: int, reverse: bool) -> Array:
    """Linear recurrence ``s[i] = a[i] s[i-1] + b[i]`` along ``axis``, from ``s[-1] = 0``."""
    a, b = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
    result = np.empty_like(b)
    state = np.zeros(b.shape[1:], b.dtype)
    order = range(len(b) - 1, -1, -1) if reverse else range(len(b))
    for i in order:
        state = a[i] * state + b[i]
        result[i] = state
    return np.moveaxis(result, 0, axis)


# --- sorting ----------------------------------------------------------------------------------------------


def _argsort(x: Array, axis: int, descending: bool) -> Array:
    """Stable in both directions; NaN last."""
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    backward = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
    return x.shape[axis] - 1 - np.flip(backward, axis)


def _sort_vjp(ct, out, x, *, axis, descending):
    order = argsort(x, axis=axis, descending=descending)
    return F.scatter_along_axis(F.zeros_like(x), order, ct, axis)


def _sort_types(operation: str, gives: Any = None) -> Any:
    def types(x: Any, *, axis: int, descending: bool) -> TensorType:
        check_dtype(operation, x.dtype, _ORDERED)
        return TensorType(x.shape, gives or x.dtype)

    return types


@primitive(_sort_types("sort"), vjp=(_sort_vjp,), lowering="sort", batching=_along_axis)
def sort(x: Array, *, axis: int, descending: bool) -> Array:
    """Sort along ``axis``, stably; the gradient goes back to where each element came from."""
    return np.take_along_axis(x, _argsort(x, axis, descending), axis)


@primitive(_sort_types("argsort", dtypes.int64), lowering="sort", batching=_along_axis)
def argsort(x: Array, *, axis: int, descending: bool) -> Array:
    """Indices that sort along ``axis``, stably."""
    return _argsort(x, axis, descending)


def _top_k_types(x: Any, *, k: int) -> tuple[TensorType, TensorType]:
    if x.ndim == 0 or not 0 <= k <= x.shape[-1]:
        raise ArgumentError(
            "top_k", "needs as many elements along the last axis as are asked for", received=f"k={k} of {x.shape}"
        )
    shape = (*x.shape[:-1], k)
    return TensorType(shape, x.dtype), TensorType(shape, dtypes.int64)


def _top_k_vjp(ct, out, x, *, k):
    return F.scatter_along_axis(F.zeros_like(x), out[1], ct[0], -1)


@primitive(_top_k_types, vjp=(_top_k_vjp,), lowering="sort", batching=stacked)
def top_k(x: Array, *, k: int) -> tuple[Array, Array]:
    """The ``k`` largest elements along the last axis, in descending order, and their indices."""
    order = _argsort(x, x.ndim - 1, descending=True)[..., :k]
    return np.take_along_axis(x, order, -1), order
