"""Views: strided ways to look at a buffer.

Reshaping, permuting, repeating, slicing and flipping move no element: they give another view of the same buffer. A
view is written as dims, pairs (extent, stride in elements), outermost first; its flat order is row-major over them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from ..graph.ir import Node, Value

Dims = tuple[tuple[int, int], ...]


class View(NamedTuple):
    """A strided view of the buffer of ``root``: element ``(i, j, ...)`` is at ``offset + i * s0 + j * s1 + ...``."""

    root: Value
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def dims(self) -> Dims:
        """Pairs (extent, stride), neighbours joined where they can be."""
        return collapsed(zip(self.shape, self.strides, strict=True))

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its root in the root's own order."""
        return self.offset == 0 and self.size == self.root.size and is_flat(self.dims)

    def broadcast(self, shape: Sequence[int]) -> View:
        """The view repeated to ``shape``."""
        added = len(shape) - len(self.shape)
        strides = (0,) * added + tuple(
            0 if n != m else s for n, m, s in zip(self.shape, shape[added:], self.strides, strict=True)
        )
        return self._replace(shape=tuple(shape), strides=strides)

    def permute(self, axes: Sequence[int]) -> View:
        """Axis ``i`` of the result is axis ``axes[i]``."""
        return self._replace(shape=tuple(self.shape[a] for a in axes), strides=tuple(self.strides[a] for a in axes))


def is_flat(dims: Dims) -> bool:
    """Whether collapsed dims are consecutive elements."""
    return not dims or (len(dims) == 1 and dims[0][1] == 1)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of consecutive elements."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def whole(value: Value) -> View:
    """All of a buffer."""
    return View(value, 0, tuple(value.shape), row_major(value.shape))


def collapsed(dims: Iterable[tuple[int, int]]) -> Dims:
    """Drop extents of 1, and join neighbours that one stride goes through."""
    result: list[tuple[int, int]] = []
    for n, s in dims:
        if n == 1:
            continue
        if result and result[-1][1] == n * s:
            result[-1] = (result[-1][0] * n, s)
        else:
            result.append((n, s))
    return tuple(result)


def reshaped(view: View, shape: tuple[int, ...]) -> View | None:
    """The view in another shape, or None if no strides do it."""
    if view.size == 0:
        return View(view.root, view.offset, shape, row_major(shape))
    dims = list(view.dims)
    strides: list[int] = []
    for n in reversed(shape):
        if n == 1:
            strides.append(1)
            continue
        if not dims or dims[-1][0] % n:
            return None
        extent, stride = dims.pop()
        strides.append(stride)
        if extent != n:
            dims.append((extent // n, stride * n))
    return View(view.root, view.offset, shape, tuple(reversed(strides)))


def _sliced(view: View, slices: Any) -> View:
    offset = view.offset + sum(start * s for (start, _, _), s in zip(slices, view.strides, strict=True))
    strides = tuple(step * s for (_, _, step), s in zip(slices, view.strides, strict=True))
    return View(view.root, offset, tuple(len(range(*s)) for s in slices), strides)


def _flipped(view: View, axes: Any) -> View:
    if view.size == 0:
        return view
    offset = view.offset + sum((view.shape[a] - 1) * view.strides[a] for a in axes)
    strides = tuple(-s if a in axes else s for a, s in enumerate(view.strides))
    return view._replace(offset=offset, strides=strides)


def through(node: Node, view: View) -> View | None:
    """What ``node`` makes of a view of its input: a view, or None if it has to move elements."""
    name, static = node.primitive.name, node.static
    if name in ("alias", "stop_gradient"):
        return view
    if name == "reshape":
        return reshaped(view, tuple(static["shape"]))
    if name == "permute":
        return view.permute(static["axes"])
    if name == "broadcast_to":
        return view.broadcast(static["shape"])
    if name == "slice":
        return _sliced(view, static["slices"])
    if name == "flip":
        return _flipped(view, static["axes"])
    return None


LOOKS = frozenset({"alias", "stop_gradient", "reshape", "permute", "broadcast_to", "slice", "flip"})
"""Primitives that move no element, or at most in a copy (a reshape of what is not in order)."""


# --- common dims ------------------------------------------------------------------------------------------


def boundaries(dims: Dims) -> set[int]:
    """The sizes of the inner parts at which one dim ends and the next begins."""
    found, size = set(), 1
    for n, _ in reversed(dims):
        size *= n
        found.add(size)
    return found


def chain(sizes: set[int]) -> list[int] | None:
    """Sizes in ascending order, if each divides the next."""
    ordered = sorted(sizes - {1})
    if any(b % a for a, b in pairwise(ordered)):
        return None
    return ordered


def refined(dims: Dims, ordered: Sequence[int]) -> tuple[int, ...]:
    """Strides of the view along the factors given by a chain of boundaries that includes its own, outermost first."""
    strides: list[int] = []
    inner = list(reversed(dims))
    low, at, used = 1, 0, 1  # the part of dim number `at` that is used up has `used` elements
    for high in ordered:
        if at < len(inner):
            n, s = inner[at]
            strides.append(s * used)
            used *= high // low
            if used >= n:
                at, used = at + 1, 1
        else:
            strides.append(0)
        low = high
    return tuple(reversed(strides))


def joined(ordered: Sequence[int], strides: Sequence[tuple[int, ...]], fixed: set[int]) -> list[int]:
    """The boundaries that are needed: those in ``fixed``, and those that some view cannot step over with one stride."""
    if not ordered:
        return []
    kept = []
    for i, high in enumerate(ordered[:-1]):
        low = ordered[i - 1] if i else 1
        outer, inner = len(ordered) - 2 - i, len(ordered) - 1 - i
        if high in fixed or any(s[outer] != s[inner] * (high // low) for s in strides):
            kept.append(high)
    return [*kept, ordered[-1]]
