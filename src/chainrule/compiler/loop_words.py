"""The numbers of a call of a fused loop."""

from __future__ import annotations

from typing import Any

from .loops import Leaf, Loop, Scalar, accumulated
from .ops import Op
from .vector import I64


class Words:
    """The numbers of a call: their order when the code is written, and their values when it is called.

    Order: inner, grain, n or rows of a block, columns, those of a turn; extents; then for each leaf its offset, its
    strides other than 0, and its inner stride if other than 0 and 1; constants; offsets in scratch memory.
    """

    def __init__(self, loop: Loop, loaded: list[Any] | None = None, partial: bool = False) -> None:
        self.loop = loop
        self.partial = partial
        self._loaded = loaded
        self._place: dict[Any, int] = {}
        self.values: list[int] = []
        self._scratch_size = 0
        self._lay_out()

    def _put(self, key: Any, value: int) -> None:
        self._place[key] = len(self.values)
        self.values.append(value)

    def _lay_out(self) -> None:
        loop = self.loop
        cluster = loop.cluster
        _, m, c = loop.column or (1, 1, 1)
        self._put("inner", loop.inner)
        self._put("grain", loop.division()[1] if loop.columns is None else 0)
        self._put("n", cluster.n if loop.structure == "flat" else m * c // max(loop.inner, 1))
        self._put("columns", c)
        if loop.turns:
            self._put("turn", c // loop.times)
        for i, extent in enumerate(loop.extents):
            self._put(("extent", i), extent)
        for leaf in (*loop.leaves.values(), *loop.places.values()):
            if isinstance(leaf, Scalar):
                self._put(leaf, leaf.bits)
                continue
            self._put((leaf, "offset"), leaf.offset)
            for i, stride in enumerate(leaf.outer):
                if stride:
                    self._put((leaf, i), stride)
            if leaf.inner not in (0, 1):
                self._put((leaf, -1), leaf.inner)
        for value, place in loop.places.items():
            if loop.maker[value].name == "concat":
                self._put((place, "part"), cluster.targets[value].shape[-1])
        for value in loop.saved:
            self._reserve(value, (cluster.row or 0) * value.dtype.itemsize)
        for op in loop.late:
            if cluster.reductions[op].kind == "column" and loop.columns is None:
                self._reserve(op, c * accumulated(op).itemsize)

    def _reserve(self, key: Any, size: int) -> None:
        self._put(("scratch", key), self._scratch_size)
        self._scratch_size += -(-(size + 64) // 64) * 64

    @property
    def scratch_size(self) -> int:
        """Bytes of scratch memory."""
        return self._scratch_size

    def place(self, key: Any) -> int:
        """The position of a number."""
        return self._place[key]

    def _word(self, key: Any) -> Any:
        assert self._loaded is not None
        return self._loaded[self._place[key]]

    @property
    def inner(self) -> Any:
        """Length of a row: a constant where it is part of the code."""
        return I64(self.loop.inner) if self.loop.static else self._word("inner")

    @property
    def row_length(self) -> Any:
        """The same for `Emitter.blocks`: an int where it is known."""
        return self.loop.inner if self.loop.static else self._word("inner")

    @property
    def grain(self) -> Any:
        """Items of a chunk."""
        return self._word("grain")

    @property
    def n(self) -> Any:
        """Elements in all of a flat loop; rows of a block of one over columns."""
        return self._word("n")

    @property
    def columns(self) -> Any:
        """Sums of a reduction over columns."""
        return self._word("columns")

    @property
    def turn(self) -> Any:
        """Sums of one of the rows that are one."""
        return self._word("turn")

    @property
    def extents(self) -> list[Any]:
        """Extents of the dims of the rows."""
        return [self._word(("extent", i)) for i in range(len(self.loop.extents))]

    def offset(self, leaf: Leaf) -> Any:
        """Where a leaf begins."""
        return self._word((leaf, "offset"))

    def stride(self, leaf: Leaf, number: int) -> Any:
        """Stride along a dim of the rows, or within a row (-1)."""
        return self._word((leaf, number))

    def part(self, place: Leaf) -> Any:
        """How far the parts of a "concat" are apart."""
        return self._word((place, "part"))

    def constant(self, leaf: Scalar) -> Any:
        """A constant's bits."""
        return self._word(leaf)

    def scratch(self, key: Any) -> Any:
        """Offset in scratch memory."""
        return self._word(("scratch", key))

    def late_dtype(self, op: Op) -> Any:
        """In what a late result is written: as it adds up, if it is of a part only."""
        return accumulated(op) if self.partial else op.outputs[0].dtype
