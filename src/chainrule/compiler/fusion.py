"""Fusion: which operations share a loop.

A cluster becomes one kernel. It runs over ``n`` elements in row-major order, seen as rows of ``c`` elements where it
reduces rows. Within it a value is

    full   one element for each of the n
    row    one for each row: the result of a reduction over the rows, or a map of such
    late   complete only when the whole kernel is: a reduction over columns, or over everything, or a "concat"

Clusters are numbered, and an operation may join the one that makes its newest input, or a younger one that reads what
it reads. So every cluster reads from older ones only: there can be no circle, and the order of numbers is an order in
which to run them. The work is linear in the number of operations.

What going backward computes does not join what going forward does, even where it could be known early: it would have to
be kept until it is needed. The same holds for what is computed a second time in order not to be kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..graph.ir import Value
from .convolution import can_finish
from .ops import Op, Ops
from .views import View, boundaries, chain

MAX_OPS = 64
"""Operations of one kernel."""
MAX_VALUES = 64
"""Values that one kernel reads or makes."""
MAX_STAGES = 6
"""Passes over a row."""
MAX_DEPTH = 32
"""Maps that wait for one another."""
MAX_DIMS = 6
"""Dims that operations may have together; one alone may have more."""

FULL, ROW, LATE = "full", "row", "late"


@dataclass(eq=False)
class Reduction:
    """How a reduction sees its input.

    ``row``: over the last ``c`` elements of each row; ``column``: ``o`` blocks of ``m`` rows of ``c`` elements, over
    the rows; ``all``: over everything.
    """

    kind: str
    o: int = 1
    m: int = 1
    c: int = 1


@dataclass(eq=False)
class Cluster:
    """Operations that become one kernel.

    Attributes:
        kind: "loop", "fill" (a reduction over nothing), "product" (a contraction with maps and sums over its rows
            appended), "closed" (one that takes none), or that of its only operation.
        n: number of elements that it runs over.
        row: length of the rows that it reduces, if it does.
        column: shape (o, m, c) of its reductions over columns, if any.
        total: whether it reduces everything.
        members: for each value made within, whether it is full, row or late.
        stages: for each member, after how many row reductions it is known.
        cuts: boundaries of the dims of all that it reads, and of where it writes.
        targets: how members lie in their buffers that do not fill them.
    """

    kind: str
    number: int
    n: int
    ops: list[Op] = field(default_factory=list)
    row: int | None = None
    column: tuple[int, int, int] | None = None
    total: bool = False
    members: dict[Value, str] = field(default_factory=dict)
    stages: dict[Value, int] = field(default_factory=dict)
    cuts: set[int] = field(default_factory=set)
    reads: dict[Value, None] = field(default_factory=dict)
    reductions: dict[Op, Reduction] = field(default_factory=dict)
    targets: dict[Value, View] = field(default_factory=dict)

    def aligned(self, view: View) -> bool:
        """Whether element i of the view is the one that was made as element i."""
        target = self.targets.get(view.root)
        if target is None:
            return view.is_whole
        return (view.offset, view.dims) == (target.offset, target.dims)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.n // self.row if self.row else 1


def classify(view: View, axes: tuple[int, ...]) -> tuple[Reduction, View]:
    """How to reduce a view over axes, and the view in the order in which to go through it."""
    reduced = math.prod(view.shape[a] for a in axes)
    if reduced == view.size:
        return Reduction("all"), view
    ndim = len(view.shape)
    real = [a for a in range(ndim) if view.shape[a] != 1]
    over = [a for a in real if a in axes]
    kept = [a for a in real if a not in axes]
    if kept[-1] < over[0]:  # all reduced axes are last
        return Reduction("row", c=reduced), _in_order(view, kept + over)
    last = over[-1]
    inner = [a for a in kept if a > last]
    if inner:
        outer = [a for a in kept if a < last]
        o = math.prod(view.shape[a] for a in outer)
        c = math.prod(view.shape[a] for a in inner)
        return Reduction("column", o, reduced, c), _in_order(view, outer + over + inner)
    return Reduction("row", c=reduced), _in_order(view, kept + over)


def _in_order(view: View, axes: list[int]) -> View:
    return view.permute(axes)


def clusters(ops: Ops) -> list[Cluster]:
    """Group the operations; the result is in an order in which to run them."""
    made = _Clusters()
    for op in _repeated_first(ops.list):
        made.add(op)
    made.settle(made.waiting.values(), together=False)
    return [cluster for cluster in made.list if cluster.ops]


def _repeated_first(ops: list[Op]) -> list[Op]:
    """The operations, with maps whose values are repeated (one for each channel, say) moved up to what they wait for.

    Further down they would be younger than loops that could read them.
    """
    repeated: set[Value] = set()
    for op in reversed(ops):
        for view in op.inputs if op.kind == "map" else ():
            if math.prod(op.shape) > view.root.size or op.outputs[0] in repeated:
                repeated.add(view.root)
    begin = {op.place: i for i, op in reversed(list(enumerate(ops)))}
    after: dict[Value, int] = {}
    keys: list[tuple[int, int, int]] = []
    for i, op in enumerate(ops):
        moved = op.kind == "map" and op.outputs[0] in repeated
        at = max([begin[op.place] - 1, *(after.get(view.root, -1) for view in op.inputs)]) if moved else i
        after |= dict.fromkeys(op.outputs, at)
        keys.append((at, int(moved), i))
    return [ops[i] for _, _, i in sorted(keys)]


class _Clusters:
    """The clusters made so far.

    A map of what is there before its phase begins (a decayed weight, or the slope of an activation when going backward)
    waits for what reads it, and enters its cluster if it fits: one of its own would be younger than those it could have
    joined, and draw its readers away.

    Attributes:
        home: the cluster of each value.
        readers: the cluster that read a value last.
        waiting: maps that wait, by their result; ``depths``, how many wait for one another; ``free``, those that depend
            on nothing that was computed, but for single numbers.
        singles: clusters of single numbers.
    """

    def __init__(self) -> None:
        self.list: list[Cluster] = []
        self.home: dict[Value, Cluster] = {}
        self.readers: dict[Value, Cluster] = {}
        self.waiting: dict[Value, Op] = {}
        self.depths: dict[Value, int] = {}
        self.free: set[Value] = set()
        self.singles: list[Cluster] = []

    def add(self, op: Op) -> None:
        if op.kind in ("map", "reduce") and all(v.size == 0 for v in op.outputs):
            return
        if op.kind == "map":
            self._map(op)
            return
        self.settle(self._awaited(op))
        if op.kind == "reduce" and op.inputs[0].size:
            self._reduce(op)
        else:
            size = op.outputs[0].size if op.outputs else 0
            kind = op.kind if op.kind != "product" or can_finish(op.name, op.static) else "closed"
            kind = "fill" if kind == "reduce" else kind  # a reduction over nothing
            self._enter(op, self._new(kind, size), FULL)

    def _new(self, kind: str, n: int) -> Cluster:
        cluster = Cluster(kind, len(self.list), n)
        self.list.append(cluster)
        if kind == "loop" and n == 1:
            self.singles.append(cluster)
        return cluster

    def _candidates(self, op: Op) -> list[Cluster]:
        """Clusters that it may join: the one of its newest input, and younger ones that read what it reads."""
        newest = self._newest(op)
        found = [self.list[newest]] if newest >= 0 else []
        siblings = {self.readers[v.root] for v in op.inputs if v.root in self.readers and v.root.size > 1}
        # What reads an operand of a product, and not its result, has the size of that by chance only; but what reads
        # the state of a recurrent step keeps it.
        found += [c for c in siblings if c.number > newest and (c.kind != "product" or len(c.ops[0].outputs) > 1)]
        return [c for c in sorted(found, key=lambda c: -c.number) if _has_room(c, op) and _same_place(c, op)]

    def _newest(self, op: Op) -> int:
        """Number of the youngest cluster that it reads from."""
        return max((self.home[v.root].number for v in op.inputs if v.root in self.home), default=-1)

    def _enter(self, op: Op, cluster: Cluster, level: str, stage: int = 0) -> None:
        cluster.ops.append(op)
        for out in op.outputs:
            cluster.members[out] = level
            cluster.stages[out] = stage
            self.home[out] = cluster
            if op.target is not None:
                cluster.targets[out] = op.target
        for view in op.inputs:
            if view.root not in cluster.members:
                cluster.reads[view.root] = None
                self.readers[view.root] = cluster

    # --- maps ---------------------------------------------------------------------------------------------

    def _map(self, op: Op) -> None:
        awaited = self._awaited(op)
        depth = 1 + max((self.depths[o.outputs[0]] for o in awaited), default=0)
        if depth <= MAX_DEPTH and self._can_wait(op):
            self.waiting[op.outputs[0]] = op
            self.depths[op.outputs[0]] = depth
            if not self._made(op) and self.free.issuperset(o.outputs[0] for o in awaited):
                self.free.add(op.outputs[0])
            return
        self._place(op)

    def _place(self, op: Op) -> None:
        """Enter into a cluster that is there, with all that it waits for, or else into a new one."""
        n = math.prod(op.shape)
        if self._enter_with(op):
            return
        self.settle(self._of_other_size(op))
        if self._enter_with(op):
            return
        cluster = self._new("loop", n)
        if self._bring(self._awaited(op), cluster) and self._join_full(op, cluster):
            return
        self.settle(self._awaited(op))
        if not self._enter_with(op) and not self._join_full(op, self._new("loop", n)):
            raise AssertionError(f"{op.name} fits no loop of its own")

    def _enter_with(self, op: Op) -> bool:
        """Enter a cluster together with the maps that it waits for; say whether one was found."""
        for cluster in self._candidates(op):
            if self._newest(op) > cluster.number:
                break  # what it waits for went to a younger one
            if self._bring(self._awaited(op), cluster) and (
                self._join_full(op, cluster) or self._join_row(op, cluster)
            ):
                return True
        return False

    def _awaited(self, op: Op) -> list[Op]:
        return [self.waiting[v.root] for v in op.inputs if v.root in self.waiting]

    def _of_other_size(self, op: Op) -> list[Op]:
        """What it waits for, at once or through others, and that cannot share a loop with it."""
        found: dict[Op, bool] = {}
        pending = self._awaited(op)
        while pending:
            one = pending.pop()
            if one not in found:
                found[one] = math.prod(one.shape) != math.prod(op.shape)
                pending += [] if found[one] else self._awaited(one)
        return [one for one, other in found.items() if other]

    def _can_wait(self, op: Op) -> bool:
        """Whether it has more than one element, and depends on nothing such that its phase computes."""
        if math.prod(op.shape) == 1 or op.name == "concat":
            return False
        return not any(_same_place(cluster, op) for cluster in self._made(op))

    def _made(self, op: Op) -> list[Cluster]:
        """The clusters of what it reads, but for single numbers."""
        return [self.home[v.root] for v in op.inputs if v.root.size > 1 and v.root in self.home]

    def _bring(self, ops: Iterable[Op], cluster: Cluster) -> bool:
        """Let maps that wait enter a cluster, after those that they wait for; say whether all could."""
        for op in ops:
            if op.outputs[0] not in self.waiting:
                continue
            fits = self._newest(op) <= cluster.number and _has_room(cluster, op) and _same_place(cluster, op)
            if not fits or not self._bring(self._awaited(op), cluster) or not self._join_full(op, cluster):
                return False
            del self.waiting[op.outputs[0]]
        return True

    def settle(self, ops: Iterable[Op], together: bool = True) -> None:
        """Let maps that wait do so no longer; those that one operation reads share a loop, if they can.

        What is free comes last, and may find a cluster of what reads it.
        """
        home: Cluster | None = None
        for op in sorted(ops, key=lambda op: op.outputs[0] in self.free):
            if op.outputs[0] not in self.waiting or (home is not None and self._bring([op], home)):
                continue
            del self.waiting[op.outputs[0]]
            self._place(op)
            home = self.home[op.outputs[0]] if together else None

    def _join_full(self, op: Op, cluster: Cluster) -> bool:
        """Enter as an operation on all elements."""
        if math.prod(op.shape) != cluster.n or cluster.kind not in ("loop", "product"):
            return False
        if op.name == "random_bits" and op.inputs[0].root in cluster.members:
            return False  # its state is read before the loop
        cuts = set(cluster.cuts) | (boundaries(op.target.dims) if op.target else set())
        stage = 0
        for view in _read(op):
            level = cluster.members.get(view.root)
            if level is None:
                cuts |= boundaries(view.dims)
            elif not (level == FULL and cluster.aligned(view)) and not (level == ROW and _one_per_row(view, cluster)):
                return False
            stage = max(stage, cluster.stages.get(view.root, 0))
        joins = op.name == "concat"  # several elements for each: read from outside alone
        if (joins and stage) or not _fits(cluster, cuts, cluster.row, bool(cluster.column)):
            return False
        cluster.cuts = cuts
        self._enter(op, cluster, LATE if joins else FULL, stage)
        return True

    def _join_row(self, op: Op, cluster: Cluster) -> bool:
        """Enter as an operation on one element of each row."""
        if not cluster.row or math.prod(op.shape) != cluster.rows or op.name == "random_bits" or op.target:
            return False
        cuts = set(cluster.cuts)
        stage, inside = 0, False
        for view in op.inputs:
            level = cluster.members.get(view.root)
            if level == ROW and view.is_whole:
                inside = True
            elif level is not None:
                return False
            else:
                cuts |= {cut * cluster.row for cut in boundaries(view.dims)}
            stage = max(stage, cluster.stages.get(view.root, 0))
        if not inside or not _fits(cluster, cuts, cluster.row, bool(cluster.column)):
            return False
        cluster.cuts = cuts
        self._enter(op, cluster, ROW, stage)
        return True

    # --- reductions ---------------------------------------------------------------------------------------

    def _reduce(self, op: Op) -> None:
        how, view = classify(op.inputs[0], op.static["axes"])
        op.inputs = (view,)
        for cluster in self._candidates(op):
            if self._join_reduction(op, how, view, cluster):
                return
        if not self._join_reduction(op, how, view, self._new("loop", view.size)):
            raise AssertionError(f"{op.name} fits no loop of its own")

    def _join_reduction(self, op: Op, how: Reduction, view: View, cluster: Cluster) -> bool:
        if cluster.n != view.size or not (cluster.kind == "loop" or _sums_columns(cluster, how)):
            return False
        level = cluster.members.get(view.root)
        if level is not None and not (level == FULL and cluster.aligned(view)):
            return False
        if level is None and cluster.kind == "product":
            return False
        cuts = set(cluster.cuts)
        if level is None:
            cuts |= boundaries(view.dims)
        row, column, total = cluster.row, cluster.column, cluster.total
        if how.kind == "row":
            row = how.c
        elif how.kind == "column":
            column = (how.o, how.m, how.c)
        else:
            total = True
        if not _compatible(cluster, row, column, total):
            return False
        cuts |= {row} if row else set()
        cuts |= {column[2], column[1] * column[2]} if column else set()
        stage = cluster.stages.get(view.root, 0)
        if not _fits(cluster, cuts, row, bool(column)) or stage >= MAX_STAGES:
            return False
        cluster.row, cluster.column, cluster.total, cluster.cuts = row, column, total, cuts
        cluster.reductions[op] = how
        self._enter(op, cluster, ROW if how.kind == "row" else LATE, stage + 1)
        return True


def _read(op: Op) -> tuple[View, ...]:
    """The views that are read element by element; the state of a random draw is read once."""
    return () if op.name == "random_bits" else op.inputs


def _same_place(cluster: Cluster, op: Op) -> bool:
    """Whether both belong to one phase."""
    return not cluster.ops or None in (cluster.ops[0].place, op.place) or cluster.ops[0].place == op.place


def _has_room(cluster: Cluster, op: Op) -> bool:
    return len(cluster.ops) < MAX_OPS and len(cluster.reads) + len(cluster.members) + len(op.inputs) < MAX_VALUES


def _one_per_row(view: View, cluster: Cluster) -> bool:
    """Whether all elements of a row of the view are the row's one element of its root."""
    if view.offset or not cluster.row:
        return False
    dims = view.dims
    return dims in (((cluster.rows, 1), (cluster.row, 0)), ((cluster.row, 0),) if cluster.rows == 1 else ())


def _fits(cluster: Cluster, cuts: set[int], row: int | None, column: bool) -> bool:
    """Whether all that is read can be gone through in common dims."""
    ordered = chain(cuts)
    if row and column and any(1 < cut < row for cut in cuts):
        return False
    if ordered is None or (ordered and cluster.n % ordered[-1]):
        return False
    if cluster.kind == "product":
        columns = columns_of(cluster.ops[0])
        return all(cut >= columns for cut in ordered) and chain(cuts | {columns}) is not None
    return len(ordered) <= MAX_DIMS or not cluster.ops


def room_for(ops: list[Op], cluster: Cluster) -> set[int] | None:
    """The boundaries of dims of a cluster that also runs these maps over all its elements; None if it cannot."""
    cuts, made = set(cluster.cuts), {out for op in ops for out in op.outputs}
    for view in (view for op in ops for view in op.inputs if view.root not in made):
        level = cluster.members.get(view.root)
        if level is None:
            cuts |= boundaries(view.dims)
        elif level != FULL or not cluster.aligned(view):
            return None
    return cuts if _fits(cluster, cuts, cluster.row, bool(cluster.column)) else None


def _sums_columns(cluster: Cluster, how: Reduction) -> bool:
    """Whether it is a contraction, and the reduction is over the rows of its result."""
    if cluster.kind != "product" or how.kind != "column" or how.o != 1:
        return False
    return how.c == columns_of(cluster.ops[0])


def columns_of(op: Op) -> int:
    """Length of a row of a product's result, in the sense of a matrix; of one in parts, that of each."""
    shape = op.outputs[0].shape
    if op.name != "dot" or len(op.outputs) > 1:
        return shape[-1]
    second = op.inputs[1]
    used = {*op.static["contract"][1], *op.static["batch"][1]}
    return math.prod(n for axis, n in enumerate(second.shape) if axis not in used)


def _compatible(cluster: Cluster, row: int | None, column: tuple[int, int, int] | None, total: bool) -> bool:
    if cluster.row is not None and row != cluster.row:
        return False
    if cluster.column is not None and column != cluster.column:
        return False
    if total and (row or column):
        return False
    return not (row and column and (column[0] != 1 or column[2] != row))
