"""The memory plan: where every value lives, decided before the first run.

A value lives from the step that makes it to the last step that reads it; in between, its place in the arena is its own.
Steps are counted in the order of the tables, bodies of loops within their loop, so a value that a loop reads lives to
the loop's end.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Any

from ..graph.ir import Value

ALIGNMENT = 64
SMALL = 16
"""A buffer so many times smaller than the largest is small."""


@dataclass(eq=False)
class Buffer:
    """Memory of one value.

    Attributes:
        size: in bytes.
        kind: "arena"; "fixed", the memory of ``owner``, an array; "base", an argument or result whose address comes
            with the call; "slice", part number t of another buffer, within a loop.
        value: what it holds, for tables.
        start, end: the steps between which it is in use.
        offset: place in the arena.
        number: of a base.
        parent, stride: of a slice.
    """

    size: int
    kind: str = "arena"
    value: Value | None = None
    owner: Any = None
    start: int = 1 << 60
    end: int = -1
    offset: int = 0
    number: int = 0
    parent: Buffer | None = None
    stride: int = 0
    loop: Any = None

    @property
    def root(self) -> Buffer:
        """The buffer of which it is a part of a part; itself for most."""
        return self if self.parent is None else self.parent.root

    def use(self, time: int) -> None:
        """Note a use at this step."""
        self.start = min(self.start, time)
        self.end = max(self.end, time)
        if self.parent is not None:
            self.parent.use(time)


def place(buffers: list[Buffer]) -> int:
    """Give every buffer its offset in the arena, and return the size of the arena.

    In the order of their beginnings, each takes the smallest gap that holds it; gaps are few. Small buffers have a part
    of the arena to themselves, if that makes it smaller: in a gap left by a large one they are in the next one's way.
    """
    alive = sorted((b for b in buffers if b.end >= 0), key=lambda b: (b.start, -b.size))
    limit = max((b.size for b in alive), default=0) // SMALL
    small = [b for b in alive if b.size <= limit]
    together, large, rest = _place(alive), _place([b for b in alive if b.size > limit]), _place(small)
    if together <= large + rest:
        return _place(alive)
    for buffer in small:
        buffer.offset += large
    return large + rest


def _place(buffers: list[Buffer]) -> int:
    free = _Gaps()
    active: list[tuple[int, int, int]] = []  # (end, offset, size), by end
    for buffer in buffers:
        size = -(-max(buffer.size, 1) // ALIGNMENT) * ALIGNMENT + ALIGNMENT
        over = bisect.bisect_left(active, (buffer.start, 0, 0))
        for _, offset, held in active[:over]:
            free.give(offset, held)
        del active[:over]
        buffer.offset = free.take(size)
        bisect.insort(active, (buffer.end, buffer.offset, size))
    return free.top


class _Gaps:
    """Free parts of the arena, neighbours joined."""

    def __init__(self) -> None:
        self.top = 0
        self._starts: list[int] = []
        self._sizes: dict[int, int] = {}

    def take(self, size: int) -> int:
        best = min((s for s in self._starts if self._sizes[s] >= size), key=lambda s: self._sizes[s], default=None)
        if best is None:
            last = self._starts[-1] if self._starts else None
            if last is not None and last + self._sizes[last] == self.top:
                self._remove(last)
                self.top = last + size
                return last
            self.top += size
            return self.top - size
        held = self._sizes[best]
        self._remove(best)
        if held > size:
            self._insert(best + size, held - size)
        return best

    def give(self, start: int, size: int) -> None:
        at = bisect.bisect_left(self._starts, start)
        if at < len(self._starts) and self._starts[at] == start + size:
            size += self._sizes[self._starts[at]]
            self._remove(self._starts[at])
        if at and self._starts[at - 1] + self._sizes[self._starts[at - 1]] == start:
            start, held = self._starts[at - 1], self._sizes[self._starts[at - 1]]
            size += held
            self._remove(start)
        self._insert(start, size)

    def _insert(self, start: int, size: int) -> None:
        bisect.insort(self._starts, start)
        self._sizes[start] = size

    def _remove(self, start: int) -> None:
        del self._starts[bisect.bisect_left(self._starts, start)]
        del self._sizes[start]
