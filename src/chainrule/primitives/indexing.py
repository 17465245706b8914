"""Reading and writing elements at places that are themselves values.

In `gather`, `scatter_add` and `scatter_set` index arrays of one shape ``S`` address the first axes of ``x``: the
elements are ``x[i1, i2, ...]``, of shape ``S + rest``. Indices count from 0; negative ones count from the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..errors import DTypeError, IndexOutOfRangeError, ShapeError
from ..graph.ir import TensorType
from ..registry import F
from .base import Array, check_dtype, primitive, same_type
from .batching import spread


def _check_indices(operation: str, x: Any, indices: tuple[Any, ...]) -> None:
    for index in indices:
        check_dtype(operation, index.dtype, dtypes.INTEGER)
    if any(tuple(i.shape) != tuple(indices[0].shape) for i in indices) or not 0 < len(indices) <= x.ndim:
        raise ShapeError(
            operation,
            "needs index arrays of one shape, at most one for each axis",
            received=f"index shapes {[tuple(i.shape) for i in indices]} into shape {tuple(x.shape)}",
        )


def _checked(operation: str, x: Array, indices: tuple[Array, ...]) -> tuple[Array, ...]:
    """Raise `IndexOutOfRangeError` where an index is outside of its axis; return them for NumPy."""
    for axis, index in enumerate(indices):
        n = x.shape[axis]
        if index.size and (index.max() >= n or (index.dtype.kind == "i" and index.min() < -n)):
            wrong = index[(index >= n) | (index.astype(np.int64) < -n)].flat[0]
            raise IndexOutOfRangeError(
                operation,
                f"index {wrong} is outside of an axis of size {n}",
                received=f"an index into axis {axis} of shape {x.shape}",
                fix="indices count from 0, so the last one is size - 1",
            )
    return indices


def _gather_types(x: Any, *indices: Any) -> TensorType:
    _check_indices("gather", x, indices)
    return TensorType((*indices[0].shape, *x.shape[len(indices) :]), x.dtype)


def _gather_vjp(ct, out, x, *indices):
    return (scatter_add(F.zeros_like(x), ct, *indices), *(None for _ in indices))


def _of_examples(examples, batched, indices):
    """Index arrays for all examples, with the number of the example in front."""
    everyone = spread(examples, batched, indices)
    shape = everyone[0].shape
    return [
        F.broadcast_to(F.reshape(F.arange(examples.size), (examples.size, *(1,) * (len(shape) - 1))), shape),
        *everyone,
    ]


def _gather_batching(apply, examples, batched, x, *indices):
    if batched[0]:
        return apply(x, *_of_examples(examples, batched[1:], indices))
    return apply(x, *spread(examples, batched[1:], indices))


@primitive(_gather_types, vjp=_gather_vjp, linear=(0,), batching=_gather_batching, lowering="gather")
def gather(x: Array, *indices: Array) -> Array:
    """Elements ``x[i1, i2, ...]``."""
    return x[_checked("gather", x, indices)]


def _scatter_types(operation: str) -> Any:
    def types(x: Any, updates: Any, *indices: Any) -> TensorType:
        _check_indices(operation, x, indices)
        expected = (*indices[0].shape, *x.shape[len(indices) :])
        if tuple(updates.shape) != tuple(expected):
            raise ShapeError(
                operation, f"the updates must have shape {expected}", received=f"shape {tuple(updates.shape)}"
            )
        if updates.dtype != x.dtype:
            raise DTypeError(operation, f"the updates must be {x.dtype.name}", received=updates.dtype.name)
        return same_type(x)

    return types


def _scatter_batching(apply, examples, batched, x, updates, *indices):
    return apply(*spread(examples, batched[:2], (x, updates)), *_of_examples(examples, batched[2:], indices))


def _scatter_add_vjp(ct, out, x, updates, *indices):
    return (ct, gather(ct, *indices), *(None for _ in indices))


@primitive(
    _scatter_types("scatter_add"),
    vjp=_scatter_add_vjp,
    linear=(0, 1),
    batching=_scatter_batching,
    lowering="scatter",
)
def scatter_add(x: Array, updates: Array, *indices: Array) -> Array:
    """``x`` with the updates added at ``x[i1, i2, ...]``; several to one place all count."""
    indices = _checked("scatter_add", x, indices)
    leading, rest = x.shape[: len(indices)], x.shape[len(indices) :]
    result = x.copy()
    if not updates.size:
        return result
    flat: Array = np.zeros(indices[0].shape, np.int64)
    for index, n in zip(indices, leading, strict=True):
        flat = flat * n + np.where(index < 0, index + n, index)
    flat = flat.reshape(-1)
    # Sorting brings equal places together, so that each is summed in one go: much faster than one by one.
    order = np.argsort(flat, kind="stable")
    places, first = np.unique(flat[order], return_index=True)
    sums = np.add.reduceat(updates.reshape(flat.size, -1)[order], first, axis=0)
    result.reshape(int(np.prod(leading)), -1)[places] += sums
    return result.reshape(*leading, *rest)


def _scatter_set_vjp(ct, out, x, updates, *indices):
    none = tuple(None for _ in indices)
    # Of several updates to one place the last one stands, and it alone has a gradient.
    shape = indices[0].shape
    number = F.reshape(F.arange(F.size_of(shape)), shape)
    leading = x.shape[: len(indices)]
    winner = gather(scatter_set(F.zeros(leading, dtype=number.dtype), number, *indices), *indices)
    stands = F.reshape(F.equal(winner, number), (*shape, *(1,) * (x.ndim - len(indices))))
    from_ct = gather(ct, *indices)
    zero = F.zeros_like(updates)
    return (scatter_set(ct, zero, *indices), F.where(stands, from_ct, zero), *none)


@primitive(
    _scatter_types("scatter_set"),
    vjp=_scatter_set_vjp,
    linear=(0, 1),
    batching=_scatter_batching,
    lowering="scatter",
)
def scatter_set(x: Array, updates: Array, *indices: Array) -> Array:
    """``x`` with the updates in place of ``x[i1, i2, ...]``; of several to one place the last one stands."""
    result = x.copy()
    result[_checked("scatter_set", x, indices)] = updates
    return result


def _check_starts(operation: str, x: Any, starts: tuple[Any, ...], sizes: tuple[int, ...]) -> None:
    if len(starts) != x.ndim or len(sizes) != x.ndim or any(s.shape != () for s in starts):
        raise ShapeError(
            operation,
            "needs a scalar start and a size for each axis",
            received=f"{len(starts)} starts and {len(sizes)} sizes for shape {tuple(x.shape)}",
        )
    for start in starts:
        check_dtype(operation, start.dtype, dtypes.INTEGER)
    for axis, (n, size) in enumerate(zip(x.shape, sizes, strict=True)):
        if not 0 <= size <= n:
            raise ShapeError(operation, f"axis {axis} has {n} elements, not {size}", received=f"sizes {sizes}")


def _window(operation: str, x: Array, starts: tuple[Array, ...], sizes: tuple[int, ...]) -> tuple[slice, ...]:
    window = []
    for axis, (start, size, n) in enumerate(zip(map(int, starts), sizes, x.shape, strict=True)):
        start = start + n if start < 0 else start
        if not 0 <= start <= n - size:
            raise IndexOutOfRangeError(operation, f"{size} elements from {start} on leave axis {axis} of size {n}")
        window.append(slice(start, start + size))
    return tuple(window)


def _places(examples, batched, shape, starts, sizes):
    """For a window that starts elsewhere in each example: the axes of ``shape`` that it does not fill, and the indices
    along those, each of shape (examples, sizes along those)."""
    partial = [a for a, (n, size, has) in enumerate(zip(shape, sizes, batched, strict=True)) if has or size != n]
    grids = []
    for place, a in enumerate(partial):
        start = F.astype(starts[a], "int64")
        start = F.where(start < 0, start + shape[a], start)
        start = F.where(start < 0, shape[a], start)  # still outside, and not to be taken for one from the end
        along = F.arange(sizes[a])
        index = (
            F.expand_dims(start, -1) + along if batched[a] else F.broadcast_to(start + along, (examples.size, sizes[a]))
        )
        ones = (1,) * (len(partial) - place - 1)
        index = F.reshape(index, (examples.size, *(1,) * place, sizes[a], *ones))
        grids.append(F.broadcast_to(index, (examples.size, *(sizes[b] for b in partial))))
    return partial, grids


def _dynamic_slice_batching(apply, examples, batched, x, *starts, sizes):
    if not any(batched[1:]):
        return apply(x, F.zeros((), dtype="int64"), *starts, sizes=(examples.size, *sizes))
    shape = x.shape[1:] if batched[0] else x.shape
    partial, grids = _places(examples, batched[1:], shape, starts, sizes)
    order = [*partial, *(a for a in range(len(shape)) if a not in partial)]
    back = [0, *(1 + order.index(a) for a in range(len(shape)))]
    if not batched[0]:
        return F.permute_dims(gather(F.permute_dims(x, order), *grids), back)
    grids = _of_examples(examples, [True] * len(grids), grids)
    return F.permute_dims(gather(F.permute_dims(x, [0, *(a + 1 for a in order)]), *grids), back)


def _dynamic_slice_types(x: Any, *starts: Any, sizes: tuple[int, ...]) -> TensorType:
    _check_starts("dynamic_slice", x, starts, sizes)
    return TensorType(sizes, x.dtype)


def _dynamic_slice_vjp(ct, out, x, *starts, sizes):
    return (dynamic_update_slice(F.zeros_like(x), ct, *starts), *(None for _ in starts))


@primitive(
    _dynamic_slice_types,
    vjp=_dynamic_slice_vjp,
    linear=(0,),
    batching=_dynamic_slice_batching,
    lowering="gather",
)
def dynamic_slice(x: Array, *starts: Array, sizes: tuple[int, ...]) -> Array:
    """``sizes[i]`` elements from ``starts[i]`` on along each axis ``i``."""
    return x[_window("dynamic_slice", x, starts, sizes)]


def _update_types(x: Any, update: Any, *starts: Any) -> TensorType:
    _check_starts("dynamic_update_slice", x, starts, tuple(update.shape))
    if update.dtype != x.dtype:
        raise DTypeError("dynamic_update_slice", f"the update must be {x.dtype}", received=str(update.dtype))
    return same_type(x)


def _update_vjp(ct, out, x, update, *starts):
    without = dynamic_update_slice(ct, F.zeros_like(update), *starts)
    return (without, dynamic_slice(ct, *starts, sizes=update.shape), *(None for _ in starts))


def _update_batching(apply, examples, batched, x, update, *starts):
    x, update = spread(examples, batched[:2], (x, update))
    if not any(batched[2:]):
        return apply(x, update, F.zeros((), dtype="int64"), *starts)
    partial, grids = _places(examples, batched[2:], x.shape[1:], starts, update.shape[1:])
    order = [0, *(a + 1 for a in partial), *(a + 1 for a in range(x.ndim - 1) if a not in partial)]
    grids = _of_examples(examples, [True] * len(grids), grids)
    moved = scatter_set(F.permute_dims(x, order), F.permute_dims(update, order), *grids)
    return F.permute_dims(moved, np.argsort(order).tolist())


@primitive(_update_types, vjp=_update_vjp, linear=(0, 1), batching=_update_batching, lowering="scatter")
def dynamic_update_slice(x: Array, update: Array, *starts: Array) -> Array:
    """``x`` with ``update`` in place of the elements from ``starts`` on."""
    result = x.copy()
    result[_window("dynamic_update_slice", x, starts, update.shape)] = update
    return result
