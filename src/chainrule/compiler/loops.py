"""Fused loops: what a cluster needs to know before its code is written.

The elements of a cluster are rows of ``inner`` elements; each thing that it reads is a leaf with a stride for every
dim of the rows and one within a row. Extents and strides are numbers of the call, so that another batch size is the
same code; what shapes the code is in `Loop.key`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import dtypes
from ..graph.ir import Value
from . import elementwise
from .fusion import FULL, LATE, ROW, Cluster
from .ops import Op, accumulator
from .vector import LANES
from .views import Dims, View, chain, collapsed, joined, refined

BLOCK = 1024
"""Elements of one item of a loop without rows."""

STATIC = LANES
"""Rows shorter than this have their length in their code, which then has no loop; longer ones gain nothing by it."""

MOST_PARTS = 256
"""At most so many partial results of a reduction are combined in the end."""

ROWS_OF_PART = 16
"""A row of partial sums is of at least so many rows, so that writing it costs little."""

SHORT_SUMS = 128
"""Rows of sums shorter than this are begun as sums of several rows together, see `Loop`."""

CHUNK_NS = 30_000
"""About so much work makes a chunk that a thread takes."""

RECOMPUTED = 8
"""What costs at most this many operations is computed again in a later pass over a row instead of being kept."""


@dataclass(frozen=True)
class Leaf:
    """Something that is read: a view, its strides by dim of the rows, and the stride within a row.

    ``level`` is "scalar" for one element, "row" for one a row, "full" for the rest; "item" for what maps on row
    values read; "state" for the state of a random draw; "place" for where a result goes; "turn" for a row of sums'
    length that is read again in each of the rows that are one.
    """

    root: Value
    offset: int
    level: str
    outer: tuple[int, ...] = ()
    inner: int = 0


@dataclass(frozen=True)
class Scalar:
    """A constant that is a number of the call."""

    bits: int
    root: Value


class Loop:
    """A cluster, analysed.

    Args:
        cluster: its operations.
        stored: the members that others need, in a buffer each.
        constants: values of the graph that are known.
        columns: for maps that are appended to a contraction, the length of its rows.

    Attributes:
        structure: "flat", "rows", "reduce" (of rows) or "columns" (of several blocks of rows).
        extents: of the dims of the rows, outermost first.
        inner: length of a row; ``even`` if it is a multiple of the lanes.
        parts: how many rows in this sense one reduced row has.
        column: as in the cluster, but a few rows of sums may be one, if they lie together in all that is read or are
            equal: then rows are longer and a multiple of the lanes, and fewer additions wait for the one before.
        times: how many that are.
        places: where results go that do not fill their buffers.
    """

    def __init__(
        self, cluster: Cluster, stored: set[Value], constants: dict[Value, np.ndarray], columns: int | None = None
    ) -> None:
        self.cluster = cluster
        self.columns = columns
        self.ops = [op for op in cluster.ops if op.kind in ("map", "reduce")]
        self.maker = {out: op for op in self.ops for out in op.outputs}
        self.column, self.times = cluster.column, 1
        self._factor()
        self.constants = constants
        self.leaves: dict[Any, Leaf | Scalar] = {}
        self.args = {op: [self._source(op, view) for view in op.inputs] for op in self.ops}
        self.stored = [v for op in cluster.ops for v in op.outputs if v in stored and op.kind in ("map", "reduce")]
        self.places = {v: self._place(cluster.targets[v]) for v in self.stored if v in cluster.targets}
        self.late = [op for op in self.ops if op.kind == "reduce" and cluster.members[op.outputs[0]] == LATE]
        self.stages = max([cluster.stages[v] for v in cluster.members], default=0)
        self.saved: list[Value] = []
        if self.structure == "reduce":
            self._find_saved()

    # --- dims ---------------------------------------------------------------------------------------------

    def _factor(self) -> None:
        times = _rows_together(self.column) if self.column and self.columns is None else 1
        if self.column and times > 1:
            blocks, m, c = self.column
            self.column, self.times = (blocks, m // times, c * times), times
            self._cut()
            if self.inner == c * times:
                return
            self.column, self.times = self.cluster.column, 1
        self._cut()

    def _cut(self) -> None:
        cluster = self.cluster
        fixed = {cut for cut in (cluster.row, self.columns) if cut and cut > 1}
        if self.column:
            _, m, c = self.column
            fixed |= {cut for cut in (c, m * c) if cut > 1}
        ordered = chain(cluster.cuts | fixed | ({cluster.n} if cluster.n > 1 else set())) or []
        strides = [refined(dims, ordered) for op in self.ops for dims in self._read_dims(op) if not self._in_turn(dims)]
        strides += [refined(target.dims, ordered) for target in cluster.targets.values()]
        self.ordered = joined(ordered, strides, fixed)
        if self.columns is not None:
            self.inner = self.columns
            outer = [cut // self.columns for cut in self.ordered if cut > self.columns]
        else:
            self.inner = self.ordered[0] if self.ordered else 1
            outer = [cut // self.inner for cut in self.ordered[1:]]
        self.extents = _extents(outer)
        self.rows = cluster.n // max(self.inner, 1)
        self.parts = cluster.row // self.inner if cluster.row else 1
        self.parts_dims = sum(1 for cut in self.ordered[1:] if cut <= (cluster.row or 0))
        if cluster.row:
            self.structure = "reduce"
        elif self.column and self.column[0] > 1:
            self.structure = "columns"
        else:
            self.structure = "rows" if len(self.ordered) > 1 else "flat"
        self.even = self.inner % LANES == 0
        inside = self.structure != "flat" and self.columns is None
        self.static = inside and self.inner < STATIC

    def _read_dims(self, op: Op) -> list[Dims]:
        """Dims, over all elements, of what comes from outside."""
        if op.name == "random_bits":
            return []
        found = [v.dims for v in op.inputs if v.root not in self.cluster.members]
        return [collapsed([*dims, (self.cluster.row or 1, 0)]) for dims in found] if self._is_row(op) else found

    def _in_turn(self, dims: Dims) -> bool:
        """Whether each of the rows that are one reads the same, in whole vectors."""
        c = self.column[2] // self.times if self.column else 1
        return self.times > 1 and c % LANES == 0 and dims == ((self.cluster.n // c, 0), (c, 1))

    def _is_row(self, op: Op) -> bool:
        return self.cluster.members[op.outputs[0]] == ROW and op.kind == "map"

    def _source(self, op: Op, view: View) -> Any:
        """A member, or a leaf."""
        root = view.root
        if root in self.cluster.members:
            return root
        if op.name == "random_bits":
            return self._leaf(Leaf(root, view.offset, "state"))
        constant = self.constants.get(root)
        if constant is not None and constant.size == 1 and root.dtype not in dtypes.COMPLEX:
            return self._leaf(Scalar(word_of(constant.reshape(())[()], root.dtype), root))
        if self._is_row(op):
            row = self.cluster.row or 1
            above = [cut // row for cut in self.ordered if cut > row]
            return self._leaf(Leaf(root, view.offset, "item", refined(view.dims, above)))
        if self._in_turn(view.dims):
            return self._leaf(Leaf(root, view.offset, "turn", (0,) * len(self.extents), 1))
        strides = refined(view.dims, self.ordered)
        outer, inner = (strides[:-1], strides[-1]) if strides else ((), 0)
        if self.columns == 1:
            outer, inner = strides, 0
        if not any(strides):
            return self._leaf(Leaf(root, view.offset, "scalar"))
        return self._leaf(Leaf(root, view.offset, "full" if inner else "row", outer, inner))

    def _place(self, target: View) -> Leaf:
        """Where a result goes that does not fill its buffer."""
        strides = refined(target.dims, self.ordered)
        return Leaf(target.root, target.offset, "place", strides[:-1], strides[-1])

    def _leaf(self, leaf: Leaf | Scalar) -> Leaf | Scalar:
        return self.leaves.setdefault(leaf, leaf)

    @property
    def buffers(self) -> list[Value]:
        """What is read, a buffer each."""
        return list(dict.fromkeys(leaf.root for leaf in self.leaves if isinstance(leaf, Leaf)))

    # --- passes over a row --------------------------------------------------------------------------------

    def wanted(self, stage: int) -> list[Value]:
        """What the pass of this stage is for: values to store or to keep, and inputs of reductions."""
        cluster = self.cluster
        found = [
            v for v in [*self.stored, *self.saved]
            if cluster.members[v] != ROW and cluster.stages[v] == stage and self.maker[v].kind == "map"
        ]  # fmt: skip
        return list(dict.fromkeys(found))

    def reductions(self, stage: int) -> list[Op]:
        """Reductions that take in the elements in the pass of this stage."""
        return [op for op in self.ops if op.kind == "reduce" and self.cluster.stages[op.outputs[0]] == stage + 1]

    def row_maps(self, stage: int) -> list[Op]:
        """Maps on row values that are known after the pass before this stage."""
        return [op for op in self.ops if self._is_row(op) and self.cluster.stages[op.outputs[0]] == stage]

    def again(self, value: Value) -> bool:
        """Whether a value is cheap enough to be computed again."""
        return self._weight(value) <= RECOMPUTED

    def _weight(self, value: Value) -> float:
        if self.cluster.members.get(value) != FULL or value not in self.maker:
            return 0.5 if value not in self.maker else 0.0
        op = self.maker[value]
        if op.name == "random_bits":
            return math.inf
        weight = float(elementwise.cost(op.name, value.dtype))
        for source in self.args[op]:
            if isinstance(source, Value):
                weight += self._weight(source)
            if weight > RECOMPUTED:
                return math.inf
        return weight

    def _find_saved(self) -> None:
        """Find the values of one pass that a later one needs, and that are kept in scratch memory."""
        for stage in range(self.stages, 0, -1):
            pending = [*self.wanted(stage), *(op.inputs[0].root for op in self.reductions(stage))]
            seen: set[Value] = set()
            while pending:
                value = pending.pop()
                if value in seen or self.cluster.members.get(value) != FULL or value not in self.maker:
                    continue
                seen.add(value)
                if self.cluster.stages[value] < stage and not self.again(value):
                    if value not in self.stored and value not in self.saved:
                        self.saved.append(value)
                    continue
                pending += [s for s in self.args[self.maker[value]] if isinstance(s, Value)]

    @property
    def columns_in_rows(self) -> bool:
        """Whether one row of sums over columns is several rows here."""
        return self.column is not None and self.column[2] != self.inner

    @property
    def turns(self) -> bool:
        """Whether something is read in turn."""
        return any(isinstance(leaf, Leaf) and leaf.level == "turn" for leaf in self.leaves)

    # --- numbers of the call ------------------------------------------------------------------------------

    @property
    def work_ns(self) -> float:
        """Rough time of one element, in nanoseconds."""
        flops = sum(elementwise.cost(op.name, op.outputs[0].dtype) for op in self.ops if op.kind == "map")
        flops += sum(1 for op in self.ops if op.kind == "reduce")
        moved = sum(leaf.root.dtype.itemsize for leaf in self.leaves if isinstance(leaf, Leaf) and leaf.level == "full")
        moved += sum(v.dtype.itemsize for v in self.stored)
        strided = sum(1 for leaf in self.leaves if isinstance(leaf, Leaf) and leaf.inner not in (0, 1))
        return 0.02 * flops + 0.04 * moved + 0.5 * strided

    @property
    def flops(self) -> int:
        """Floating-point operations in all."""
        total = 0
        for op in self.ops:
            size = op.inputs[0].size if op.kind == "reduce" else math.prod(op.shape)
            total += size * (1 if op.kind == "reduce" else elementwise.cost(op.name, op.outputs[0].dtype))
        return total

    def division(self) -> tuple[int, int]:
        """Items, and how many of them make a chunk; a function of shapes alone."""
        each = {
            "flat": (-(-self.cluster.n // BLOCK), BLOCK),
            "rows": (self.rows, self.inner),
            "reduce": (self.rows // self.parts, self.inner * self.parts),
            "columns": (self.column[0] if self.column else 1, 0),
        }
        items, size = each[self.structure]
        size = size or self.cluster.n // max(items, 1)
        grain = max(1, int(CHUNK_NS / max(size * self.work_ns, 1e-3)))
        if self.late:  # a partial result for each chunk: few, but short sums
            grain = max(grain, -(-items * self.times // MOST_PARTS), ROWS_OF_PART if self.structure == "rows" else 1)
        return items, min(grain, max(items, 1))

    def width(self) -> int:
        """Lanes of the code."""
        return 1 if self.cluster.n == 1 else LANES


def _rows_together(column: tuple[int, int, int]) -> int:
    """How many rows of sums should be one: as many as fill the lanes, if there are far more."""
    blocks, m, c = column
    times = 1
    while c * times < SHORT_SUMS or c * times % LANES:
        times *= 2
    short = c < SHORT_SUMS and blocks == 1
    return times if short and m % times == 0 and m >= ROWS_OF_PART * times else 1


def _extents(outer: list[int]) -> list[int]:
    """Extents of dims, outermost first, from their boundaries, innermost first."""
    extents, low = [], 1
    for high in outer:
        extents.append(high // low)
        low = high
    return extents[::-1]


def word_of(number: Any, dtype: Any) -> int:
    """A constant as a 64-bit word: a floating one as the bits of its float64."""
    if dtype in dtypes.FLOATING:
        return int(np.float64(number).view(np.int64))
    return int(np.array(int(number) & 0xFFFFFFFFFFFFFFFF, np.uint64).view(np.int64))


def accumulated(op: Op) -> Any:
    """The dtype in which a reduction adds up."""
    return accumulator(op.outputs[0].dtype)
