"""Shapes: reshaping, reordering, joining, repeating and padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..primitives import indexing, layout, reduction
from ..primitives.base import broadcast_shapes
from ..primitives.layout import check_axis
from ..tensor import Tensor, TensorLike, asarray, promote
from .checks import Axis, as_axes, as_shape

__all__ = [
    "broadcast_arrays", "broadcast_to", "concat", "expand_dims", "flatten", "flip", "matrix_transpose", "moveaxis",
    "pad", "permute_dims", "repeat", "reshape", "roll", "split", "squeeze", "stack", "swapaxes", "tile", "unstack",
]  # fmt: skip


def reshape(x: TensorLike, shape: Any) -> Tensor:
    """Return the same elements, in row-major order, in another shape.

    Args:
        x: a tensor.
        shape: the new shape; one axis may be -1 and is computed.

    Raises:
        ShapeError: the number of elements differs.

    >>> reshape(arange(4), (2, -1))
    tensor([[0, 1],
            [2, 3]])
    """
    x = asarray(x)
    sizes = [int(n) for n in ((shape,) if not isinstance(shape, (tuple, list)) else shape)]
    if sizes.count(-1) == 1:
        rest = -math.prod(sizes)
        if rest == 0 or x.size % rest:
            raise ShapeError("reshape", f"{x.size} elements do not fill {tuple(sizes)}", received=f"shape {x.shape}")
        sizes[sizes.index(-1)] = x.size // rest
    wanted = as_shape("reshape", sizes)
    return x if wanted == x.shape else layout.reshape(x, shape=wanted)


def flatten(x: TensorLike, start_axis: int = 0, end_axis: int = -1) -> Tensor:
    """Join the axes from ``start_axis`` to ``end_axis`` into one.

    >>> flatten(zeros((2, 3, 4)), 1).shape
    (2, 12)
    """
    x = asarray(x)
    if x.ndim == 0:
        return reshape(x, (1,))
    first, last = check_axis("flatten", start_axis, x.ndim), check_axis("flatten", end_axis, x.ndim)
    if first > last:
        raise ArgumentError(
            "flatten", "the first axis comes before the last", received=f"axes {start_axis}, {end_axis}"
        )
    joined = math.prod(x.shape[first : last + 1])
    return reshape(x, (*x.shape[:first], joined, *x.shape[last + 1 :]))


def permute_dims(x: TensorLike, axes: Sequence[int]) -> Tensor:
    """Reorder the axes: axis ``i`` of the result is axis ``axes[i]`` of ``x``.

    >>> permute_dims(zeros((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    x = asarray(x)
    order = tuple(check_axis("permute_dims", a, x.ndim) for a in axes)
    if sorted(order) != list(range(x.ndim)):
        raise ArgumentError("permute_dims", f"needs each of the {x.ndim} axes once", received=f"axes={tuple(axes)}")
    return x if order == tuple(range(x.ndim)) else layout.permute(x, axes=order)


def swapaxes(x: TensorLike, axis1: int, axis2: int) -> Tensor:
    """Exchange two axes.

    >>> swapaxes(zeros((2, 3, 4)), 0, 2).shape
    (4, 3, 2)
    """
    x = asarray(x)
    order = list(range(x.ndim))
    a, b = check_axis("swapaxes", axis1, x.ndim), check_axis("swapaxes", axis2, x.ndim)
    order[a], order[b] = order[b], order[a]
    return permute_dims(x, order)


def matrix_transpose(x: TensorLike) -> Tensor:
    """Exchange the last two axes.

    >>> matrix_transpose(zeros((5, 2, 3))).shape
    (5, 3, 2)
    """
    x = asarray(x)
    if x.ndim < 2:
        raise ShapeError("matrix_transpose", "needs at least two axes", received=f"shape {x.shape}")
    return swapaxes(x, -1, -2)


def moveaxis(x: TensorLike, source: int, destination: int) -> Tensor:
    """Move one axis to another place; the others keep their order.

    >>> moveaxis(zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    x = asarray(x)
    order = list(range(x.ndim))
    order.insert(check_axis("moveaxis", destination, x.ndim), order.pop(check_axis("moveaxis", source, x.ndim)))
    return permute_dims(x, order)


def broadcast_to(x: TensorLike, shape: Any) -> Tensor:
    """Repeat axes of size 1, and add axes in front, to reach ``shape``.

    >>> broadcast_to(tensor([1, 2]), (2, 2))
    tensor([[1, 2],
            [1, 2]])
    """
    x = asarray(x)
    wanted = as_shape("broadcast_to", shape)
    return x if wanted == x.shape else layout.broadcast_to(x, shape=wanted)


def broadcast_arrays(*xs: TensorLike) -> list[Tensor]:
    """Broadcast all to one shape.

    >>> [x.shape for x in broadcast_arrays(zeros((3, 1)), zeros((2,)))]
    [(3, 2), (3, 2)]
    """
    tensors = [asarray(x) for x in xs]
    shape = broadcast_shapes("broadcast_arrays", *(x.shape for x in tensors))
    return [broadcast_to(x, shape) for x in tensors]


def unbroadcast(x: TensorLike, shape: tuple[int, ...]) -> Tensor:
    """Sum over the axes along which ``shape`` was broadcast to the shape of ``x``: the transpose of `broadcast_to`."""
    x = asarray(x)
    extra = x.ndim - len(shape)
    if extra < 0:
        return broadcast_to(x, shape)
    axes = tuple(i for i in range(x.ndim) if i < extra or (shape[i - extra] == 1 and x.shape[i] != 1))
    summed = reduction.reduce_sum(x, axes=axes) if axes else x
    kept = reshape(summed, tuple(1 if i in axes else n for i, n in enumerate(x.shape))[extra:])
    return broadcast_to(kept, shape)  # a gradient rule may give a smaller result


def expand_dims(x: TensorLike, axis: int | Sequence[int] = 0) -> Tensor:
    """Insert axes of size 1 at the places ``axis`` of the result.

    >>> expand_dims(zeros((2, 3)), -1).shape
    (2, 3, 1)
    """
    x = asarray(x)
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    places = as_axes("expand_dims", given, x.ndim + len(given))
    sizes = iter(x.shape)
    return reshape(x, tuple(1 if i in places else next(sizes) for i in range(x.ndim + len(given))))


def squeeze(x: TensorLike, axis: Axis = None) -> Tensor:
    """Remove axes of size 1: those named, or all.

    >>> squeeze(zeros((2, 1, 3)), 1).shape
    (2, 3)
    """
    x = asarray(x)
    axes = [i for i, n in enumerate(x.shape) if n == 1] if axis is None else as_axes("squeeze", axis, x.ndim)
    if any(x.shape[i] != 1 for i in axes):
        raise ShapeError("squeeze", "only axes of size 1 can go", received=f"shape {x.shape}, axis={axis}")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def concat(xs: Sequence[TensorLike], axis: int | None = 0) -> Tensor:
    """Join tensors along an existing axis (flattened, if ``axis`` is None).

    >>> concat([tensor([1, 2]), tensor([3])])
    tensor([1, 2, 3])
    """
    if not len(xs):
        raise ArgumentError("concat", "needs at least one tensor")
    tensors = promote(*xs)
    if axis is None:
        tensors, axis = tuple(reshape(x, (-1,)) for x in tensors), 0
    if len(tensors) == 1:
        return tensors[0]
    return layout.concat(*tensors, axis=check_axis("concat", axis, tensors[0].ndim))


def stack(xs: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """Join tensors of one shape along a new axis.

    >>> stack([tensor([1, 2]), tensor([3, 4])])
    tensor([[1, 2],
            [3, 4]])
    """
    if not len(xs):
        raise ArgumentError("stack", "needs at least one tensor")
    tensors = promote(*xs)
    if any(x.shape != tensors[0].shape for x in tensors):
        shapes = ", ".join(str(x.shape) for x in tensors)
        raise ShapeError("stack", "needs tensors of one shape", received=shapes, fix="use cr.concat to join")
    return concat([expand_dims(x, axis) for x in tensors], axis)


def unstack(x: TensorLike, axis: int = 0) -> tuple[Tensor, ...]:
    """Return the slices along an axis.

    >>> unstack(tensor([1, 2]))
    (tensor(1), tensor(2))
    """
    x = asarray(x)
    axis = check_axis("unstack", axis, x.ndim)
    return tuple(squeeze(take_slice(x, axis, i, i + 1), axis) for i in range(x.shape[axis]))


def split(x: TensorLike, sizes: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
    """Cut an axis into pieces of ``sizes`` (all of one size, the last perhaps smaller, if it is one number).

    >>> split(arange(5), 2)
    (tensor([0, 1]), tensor([2, 3]), tensor([4]))
    """
    x = asarray(x)
    axis = check_axis("split", axis, x.ndim)
    n = x.shape[axis]
    parts = [min(sizes, n - i) for i in range(0, n, sizes)] if isinstance(sizes, int) else list(sizes)
    if sum(parts) != n:
        raise ShapeError("split", f"the sizes must add up to {n}", received=f"sizes={sizes}")
    ends = np.cumsum(parts).tolist()
    return tuple(take_slice(x, axis, end - size, end) for size, end in zip(parts, ends, strict=True))


def take_slice(x: Tensor, axis: int, start: int, stop: int, step: int = 1) -> Tensor:
    """Return elements ``start, start + step, ...`` below ``stop`` along one axis."""
    axis %= x.ndim
    slices = tuple((start, stop, step) if i == axis else (0, n, 1) for i, n in enumerate(x.shape))
    return layout.slice_(x, slices=slices)


def shift(x: Tensor, axis: int, by: int, fill: Tensor) -> Tensor:
    """Move elements one place along an axis (``by`` 1 or -1), and put ``fill``, of size 1 along it, at the open end."""
    n = x.shape[axis]
    if by > 0:
        return concat([fill, take_slice(x, axis, 0, n - 1)], axis)
    return concat([take_slice(x, axis, 1, n), fill], axis)


def flip(x: TensorLike, axis: Axis = None) -> Tensor:
    """Reverse the order along axes (all, if None).

    >>> flip(tensor([1, 2, 3]))
    tensor([3, 2, 1])
    """
    x = asarray(x)
    return layout.flip(x, axes=as_axes("flip", axis, x.ndim))


def roll(x: TensorLike, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
    """Move elements along axes; those that leave at one end come in at the other.

    >>> roll(tensor([1, 2, 3]), 1)
    tensor([3, 1, 2])
    """
    x = asarray(x)
    if axis is None:
        return reshape(layout.roll(reshape(x, (-1,)), shift=int(shift), axis=0), x.shape)  # type: ignore[arg-type]
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    shifts = (shift,) * len(axes) if isinstance(shift, int) else tuple(shift)
    for a, s in zip(axes, shifts, strict=True):
        x = layout.roll(x, shift=int(s), axis=check_axis("roll", a, x.ndim))
    return x


def pad(x: TensorLike, widths: Sequence[Any] | int, mode: str = "constant", value: float = 0.0) -> Tensor:
    """Put elements around a tensor.

    Args:
        x: a tensor.
        widths: for each axis (before, after); one such pair or number serves all axes. Negative widths cut off.
        mode: "constant", "reflect" (mirrored without the edge), "replicate" (the edge repeated) or "circular".
        value: of the new elements, if constant.

    >>> pad(tensor([1.0, 2.0, 3.0]), (1, 2), mode="reflect")
    tensor([2., 1., 2., 3., 2., 1.])
    """
    x = asarray(x)
    pairs = _pairs(x.ndim, widths)
    if any(n + a + b < 0 for n, (a, b) in zip(x.shape, pairs, strict=True)):
        raise ShapeError("pad", "more is cut off than there is", received=f"shape {x.shape}, widths {widths}")
    if mode == "constant":
        fill = asarray(value, x.dtype)
        return layout.pad(x, fill, widths=tuple((a, b, 0) for a, b in pairs)) if any(map(any, pairs)) else x
    if mode not in ("reflect", "replicate", "circular"):
        raise ArgumentError("pad", "mode is constant, reflect, replicate or circular", received=repr(mode))
    for axis, (before, after) in enumerate(pairs):
        if before or after:
            places = _beyond(x.shape[axis], before, after, mode)
            x = moveaxis(indexing.gather(moveaxis(x, axis, 0), asarray(places)), 0, axis)
    return x


def _beyond(n: int, before: int, after: int, mode: str) -> np.ndarray:
    """The place of an axis of size ``n`` that each place of the padded one repeats; what is cut off goes first."""
    kept = np.arange(max(-before, 0), n - max(-after, 0))
    n, before, after = len(kept), max(before, 0), max(after, 0)
    most = {"reflect": n - 1, "circular": n, "replicate": np.inf if n else 0}[mode]
    if max(before, after) > most:
        raise ShapeError(
            "pad", f"an axis of size {n} is too short for the mode {mode!r}", received=f"widths {before} and {after}"
        )
    places = np.arange(-before, n + after)
    if mode == "replicate":
        return kept[np.clip(places, 0, n - 1)]
    return kept[places % n if mode == "circular" else n - 1 - np.abs(n - 1 - np.abs(places))]


def _pairs(ndim: int, widths: Any) -> list[tuple[int, int]]:
    if isinstance(widths, int):
        return [(widths, widths)] * ndim
    if len(widths) == 2 and all(isinstance(w, int) for w in widths):
        return [tuple(widths)] * ndim
    pairs = [(w, w) if isinstance(w, int) else tuple(w) for w in widths]
    if len(pairs) != ndim:
        raise ArgumentError("pad", f"needs a pair of widths for each of {ndim} axes", received=repr(widths))
    return pairs


def tile(x: TensorLike, repetitions: Sequence[int]) -> Tensor:
    """Repeat a tensor as a whole along its axes.

    >>> tile(tensor([1, 2]), (2,))
    tensor([1, 2, 1, 2])
    """
    x = asarray(x)
    times = (1,) * (x.ndim - len(repetitions)) + tuple(repetitions)
    x = reshape(x, (1,) * (len(times) - x.ndim) + x.shape)
    spread = broadcast_to(
        reshape(x, [n for size in x.shape for n in (1, size)]),
        [n for t, size in zip(times, x.shape, strict=True) for n in (t, size)],
    )
    return reshape(spread, tuple(t * size for t, size in zip(times, x.shape, strict=True)))


def repeat(x: TensorLike, repeats: int, axis: int | None = None) -> Tensor:
    """Repeat each element along an axis (of the flattened tensor, if None).

    >>> repeat(tensor([1, 2]), 2)
    tensor([1, 1, 2, 2])
    """
    x = asarray(x)
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    axis = check_axis("repeat", axis, x.ndim)
    shape = (*x.shape[: axis + 1], repeats, *x.shape[axis + 1 :])
    wide = broadcast_to(expand_dims(x, axis + 1), shape)
    return reshape(wide, (*x.shape[:axis], x.shape[axis] * repeats, *x.shape[axis + 1 :]))
