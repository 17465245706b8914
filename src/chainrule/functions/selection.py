"""Choosing elements: indexing, taking, scattering, where, clip."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import ArgumentError, ChainruleError, DTypeError, IndexOutOfRangeError, ShapeError
from ..graph.ir import Value
from ..primitives import binary, indexing, layout
from ..primitives.layout import check_axis
from ..tensor import Tensor, TensorLike, asarray, promote
from .creation import arange
from .shaping import broadcast_arrays, broadcast_to, flip, moveaxis, permute_dims, reshape

__all__ = [
    "clip", "dynamic_slice", "dynamic_update_slice", "gather", "nonzero", "scatter_add", "scatter_set", "take",
    "take_along_axis", "where",
]  # fmt: skip


def where(condition: TensorLike, x1: TensorLike, x2: TensorLike) -> Tensor:
    """Return ``x1`` where the condition holds, ``x2`` elsewhere.

    The gradient goes to the branch that was taken; the other gets zero, even if its value is NaN.

    >>> where(tensor([True, False]), tensor([1.0, 2.0]), 0.0)
    tensor([1., 0.])
    """
    chosen = asarray(condition)
    if chosen.dtype != dtypes.bool_:
        raise DTypeError("where", "the condition is of bool", received=chosen.dtype.name, fix="write x != 0")
    first, second = promote(x1, x2)
    return binary.select(chosen, first, second)


def clip(x: TensorLike, min: TensorLike | None = None, max: TensorLike | None = None) -> Tensor:
    """Return ``x`` limited to [min, max]. At a bound the gradient goes to ``x``, beyond it to the bound.

    >>> clip(tensor([-2.0, 0.5, 2.0]), 0.0, 1.0)
    tensor([0. , 0.5, 1. ])
    """
    x = asarray(x)
    limits: tuple[float, float] = (-np.inf, np.inf)
    if x.dtype in dtypes.INTEGER:
        limits = int(np.iinfo(x.dtype).min), int(np.iinfo(x.dtype).max)
    elif x.dtype == dtypes.bool_:
        limits = False, True
    low, high = limits[0] if min is None else min, limits[1] if max is None else max
    return binary.clip(*promote(x, low, high))


# --- x[key] -----------------------------------------------------------------------------------------------


class _Key:
    """An index expression, taken apart: first a basic view, then whole-number indices into some of its axes."""

    def __init__(self, x: Tensor, key: Any) -> None:
        self.slices: list[tuple[int, int, int]] = []
        self.flips: list[int] = []
        self.shape: list[int] = []  # of the view, with new axes and without those at a single place
        self.arrays: list[tuple[int, Tensor]] = []  # (axis of the view, index)
        self._read(x, key if isinstance(key, tuple) else (key,))

    def _read(self, x: Tensor, key: tuple[Any, ...]) -> None:
        items = list(key)
        # As NumPy has it, whole numbers beside arrays count as arrays; apart from each other, their axes come first.
        chosen = [i for i, k in enumerate(items) if not (k is None or k is Ellipsis or isinstance(k, slice))]
        self.together = not chosen or chosen[-1] - chosen[0] == len(chosen) - 1
        ellipses = [i for i, k in enumerate(items) if k is Ellipsis]
        if len(ellipses) > 1:
            raise ArgumentError("index", "only one ellipsis (...) can stand in an index")
        used = sum(_axes_used(k) for k in items)
        if used > x.ndim:
            raise IndexOutOfRangeError("index", f"too many indices: {used} for {x.ndim} axes", received=f"{key!r}")
        rest = [slice(None)] * (x.ndim - used)
        at = ellipses[0] if ellipses else len(items)
        items[at : at + len(ellipses)] = rest
        axis = 0
        for item in items:
            axis = self._read_item(x, item, axis)

    def _read_item(self, x: Tensor, item: Any, axis: int) -> int:
        if item is None:
            self.shape.append(1)
            return axis
        n = x.shape[axis] if axis < x.ndim else 0
        if isinstance(item, slice):
            start, stop, step = _bounds(item, n)
            if step < 0:
                count = len(range(start, stop, step))
                start, stop, step = start + (count - 1) * step, start + 1, -step
                start, stop = (start, stop) if count else (0, 0)
                self.flips.append(axis)
            self.slices.append((start, max(stop, start), step))
            self.shape.append(len(range(start, max(stop, start), step)))
            return axis + 1
        if isinstance(item, (bool, np.bool_)):
            raise DTypeError("index", "a single truth value is no index", fix="use x[None] or a mask")
        if isinstance(item, (int, np.integer)):
            place = operator.index(item)
            if not -n <= place < n:
                raise IndexOutOfRangeError(
                    "index", f"index {place} is outside of axis {axis} of size {n}", received=f"shape {x.shape}"
                )
            self.slices.append((place % n, place % n + 1, 1))
            return axis + 1
        return self._read_array(x, asarray(item), axis)

    def _read_array(self, x: Tensor, index: Tensor, axis: int) -> int:
        if index.dtype == dtypes.bool_:
            shape = x.shape[axis : axis + index.ndim]
            if index.shape != shape:
                raise ShapeError("index", f"the mask must have shape {shape}", received=f"shape {index.shape}")
            places = [asarray(i) for i in np.nonzero(_mask(index))]
        elif index.dtype in dtypes.INTEGER:
            places = [index]
        else:
            raise DTypeError("index", "indices are whole numbers or a mask", received=index.dtype.name)
        for i, place in enumerate(places):
            self.slices.append((0, x.shape[axis + i], 1))
            self.arrays.append((len(self.shape), place))
            self.shape.append(x.shape[axis + i])
        return axis + len(places)

    def view(self, x: Tensor) -> Tensor:
        """The basic part."""
        if any(s != (0, n, 1) for s, n in zip(self.slices, x.shape, strict=True)):
            x = layout.slice_(x, slices=tuple(self.slices))
        if self.flips:
            x = flip(x, self.flips)
        return reshape(x, self.shape)

    def indices(self) -> tuple[tuple[int, ...], list[Tensor], int]:
        """Axes of the view that arrays index, the arrays in one shape, and where their axes go in the result."""
        axes = tuple(a for a, _ in self.arrays)
        arrays = broadcast_arrays(*(i for _, i in self.arrays))
        return axes, arrays, axes[0] if self.together else 0


def _bounds(item: slice, n: int) -> tuple[int, int, int]:
    try:
        return item.indices(n)
    except ChainruleError:
        raise
    except TypeError as error:
        raise DTypeError("index", "a slice goes from and to whole numbers", received=repr(item)) from error
    except ValueError as error:
        raise ArgumentError("index", "the step of a slice is not zero", received=repr(item)) from error


def _axes_used(item: Any) -> int:
    if item is None or item is Ellipsis:
        return 0
    if isinstance(item, (list, np.ndarray, Tensor)):
        index = asarray(item)
        return index.ndim if index.dtype == dtypes.bool_ else 1
    return 1


def _mask(mask: Tensor) -> np.ndarray:
    if isinstance(mask.value, Value):
        raise ShapeError(
            "index",
            "a traced mask would give a shape that depends on values",
            fix="use cr.where, or multiply with the mask",
        )
    return mask.detach().numpy()


def getitem(x: TensorLike, key: Any) -> Tensor:
    """Return ``x[key]``: integers, slices, None, an ellipsis, integer arrays and masks, as NumPy has them."""
    x = asarray(x)
    parts = _Key(x, key)
    view = parts.view(x)
    if not parts.arrays:
        return view
    axes, arrays, place = parts.indices()
    rest = [a for a in range(view.ndim) if a not in axes]
    picked = indexing.gather(permute_dims(view, [*axes, *rest]), *arrays)
    k = arrays[0].ndim
    order = [*range(k, k + place), *range(k), *range(k + place, picked.ndim)]
    return permute_dims(picked, order)


def setitem(x: TensorLike, key: Any, value: TensorLike, add: bool) -> Tensor:
    """Return ``x`` with ``value`` put at, or added to, the places ``x[key]``."""
    x = asarray(x)
    scatter = indexing.scatter_add if add else indexing.scatter_set
    keys = key if isinstance(key, tuple) else (key,)
    if keys and all(isinstance(k, (Tensor, np.ndarray)) for k in keys):
        _, arrays, _ = _Key(x, key).indices()  # of the first axes, and so whole rows are written
        updates = broadcast_to(asarray(value, x.dtype), (*arrays[0].shape, *x.shape[len(arrays) :]))
        return scatter(x, updates, *arrays)
    places = getitem(reshape(arange(x.size), x.shape), key)
    updates = reshape(broadcast_to(asarray(value, x.dtype), places.shape), (-1,))
    flat = scatter(reshape(x, (-1,)), updates, reshape(places, (-1,)))
    return reshape(flat, x.shape)


# --- functions --------------------------------------------------------------------------------------------


def take(x: TensorLike, indices: TensorLike, axis: int | None = None) -> Tensor:
    """Return the slices ``indices`` along an axis (of the flattened tensor, if None).

    Args:
        x: shape (..., n, ...).
        indices: integers of any shape S, -n..n-1.
        axis: where they count.

    Returns:
        shape (..., *S, ...).

    Raises:
        IndexOutOfRangeError: an index is outside of the axis.

    >>> take(tensor([10, 20, 30]), tensor([2, 0]), axis=0)
    tensor([30, 10])
    """
    x, index = asarray(x), asarray(indices)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    axis = check_axis("take", axis, x.ndim)
    picked = indexing.gather(moveaxis(x, axis, 0), index)
    k = index.ndim
    return permute_dims(picked, [*range(k, k + axis), *range(k), *range(k + axis, picked.ndim)])


def _grid(x: Tensor, index: Tensor, axis: int) -> list[Tensor]:
    """Index arrays that stand still on every axis but one."""
    grids = []
    for a in range(x.ndim):
        if a == axis:
            grids.append(index)
        else:
            shape = [index.shape[a] if i == a else 1 for i in range(x.ndim)]
            grids.append(broadcast_to(reshape(arange(index.shape[a]), shape), index.shape))
    return grids


def take_along_axis(x: TensorLike, indices: TensorLike, axis: int = -1) -> Tensor:
    """Return ``x[..., indices[..., j, ...], ...]``: along ``axis`` the index says, elsewhere the position.

    >>> take_along_axis(tensor([[1, 2], [3, 4]]), tensor([[1], [0]]))
    tensor([[2],
            [3]])
    """
    x, index = asarray(x), asarray(indices)
    axis = check_axis("take_along_axis", axis, x.ndim)
    expected = [n for i, n in enumerate(x.shape) if i != axis]
    if index.ndim != x.ndim or [n for i, n in enumerate(index.shape) if i != axis] != expected:
        raise ShapeError(
            "take_along_axis",
            f"the indices must have the shape of x but for axis {axis}",
            received=f"shapes {x.shape} and {index.shape}",
        )
    return indexing.gather(x, *_grid(x, index, axis))


def scatter_along_axis(x: Tensor, indices: Tensor, updates: Tensor, axis: int) -> Tensor:
    """Return ``x`` with the updates added at the places that `take_along_axis` would take."""
    return indexing.scatter_add(x, updates, *_grid(x, indices, axis % x.ndim))


def gather(x: TensorLike, *indices: TensorLike) -> Tensor:
    """Return ``x[i1, i2, ...]`` for integer arrays of one shape that index the first axes.

    >>> gather(tensor([[1, 2], [3, 4]]), tensor([0, 1]), tensor([1, 0]))
    tensor([2, 3])
    """
    return indexing.gather(asarray(x), *broadcast_arrays(*indices))


def scatter_add(x: TensorLike, updates: TensorLike, *indices: TensorLike) -> Tensor:
    """Return ``x`` with the updates added at ``x[i1, i2, ...]``; several to one place all count.

    >>> scatter_add(zeros((3,)), ones((2,)), tensor([1, 1]))
    tensor([0., 2., 0.])
    """
    x = asarray(x)
    return indexing.scatter_add(x, asarray(updates, x.dtype), *broadcast_arrays(*indices))


def scatter_set(x: TensorLike, updates: TensorLike, *indices: TensorLike) -> Tensor:
    """Return ``x`` with the updates at ``x[i1, i2, ...]``; of several to one place the last one stands.

    >>> scatter_set(zeros((3,)), tensor([5.0, 6.0]), tensor([1, 1]))
    tensor([0., 6., 0.])
    """
    x = asarray(x)
    return indexing.scatter_set(x, asarray(updates, x.dtype), *broadcast_arrays(*indices))


def dynamic_slice(x: TensorLike, starts: Any, sizes: tuple[int, ...]) -> Tensor:
    """Return ``sizes`` elements from ``starts`` on, which may be computed.

    >>> dynamic_slice(arange(5), (tensor(2),), (2,))
    tensor([2, 3])
    """
    return indexing.dynamic_slice(asarray(x), *(asarray(s) for s in starts), sizes=tuple(sizes))


def dynamic_update_slice(x: TensorLike, update: TensorLike, starts: Any) -> Tensor:
    """Return ``x`` with ``update`` in place of the elements from ``starts`` on.

    >>> dynamic_update_slice(zeros((4,)), ones((2,)), (1,))
    tensor([0., 1., 1., 0.])
    """
    x = asarray(x)
    return indexing.dynamic_update_slice(x, asarray(update, x.dtype), *(asarray(s) for s in starts))


def nonzero(x: TensorLike) -> tuple[Tensor, ...]:
    """Return, for each axis, the indices of the elements that are not zero (true); not in traced code.

    >>> nonzero(tensor([0, 3, 4]))
    (tensor([1, 2]),)
    """
    return tuple(asarray(i) for i in np.nonzero(_mask(asarray(x))))


def size_of(shape: tuple[int, ...]) -> int:
    """Number of elements of a shape."""
    return math.prod(shape)
