"""From a graph to steps: kernels in order, with the buffers that they work on.

The last steps are the commit phase: what only makes new values of cells waits until everything that can fail is done.
There it may write into the memory of the cells, if nothing reads the old value any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .. import dtypes
from ..graph.ir import Graph, Value
from ..graph.passes.effects import can_fail
from .cheap import make_again
from .convolution import Operand, lower_contraction
from .fusion import FULL, Cluster, clusters
from .halos import edges
from .indexing import scatter_in_place
from .kernel import Call, Lowered
from .loop_kernels import Appended, Kernel, constant_fill, loop_kernel
from .memory import Buffer
from .moving import copy_call
from .ops import Op, Ops
from .parts import split
from .threads import PARALLEL_THRESHOLD
from .views import View, row_major


@dataclass(eq=False)
class Step:
    """One entry of the program.

    Attributes:
        kind: "kernel", "host", "copy", "scan", "cond", "while" or "gate".
        call: of a kernel.
        buffers: of a kernel or host call; of a copy, destination and source; each with an offset in bytes.
        ops: what it computes, for tables.
        bodies: steps of the bodies of a loop or branch.
        result: buffer of the test of a while loop or the predicate of a branch.
        length, reverse: of a scan.
        time: when it runs, in the order of buffers' lives.
        again: whether it makes what was made before, to save memory.
    """

    kind: str
    call: Call | None = None
    buffers: list[tuple[Buffer, int]] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    bodies: list[list[Step]] = field(default_factory=list)
    result: Buffer | None = None
    length: int = 0
    reverse: bool = False
    size: int = 0
    commits: bool = False
    time: int = 0
    again: bool = False

    @property
    def parallel(self) -> bool:
        """Whether it is worth more than one thread."""
        call = self.call
        return call is not None and call.ns > PARALLEL_THRESHOLD and call.items > call.grain

    @property
    def name(self) -> str:
        """What it does, in a few words."""
        names = [op.name for op in self.ops]
        return self.kind if not names else " + ".join(dict.fromkeys(names))

    @property
    def source(self) -> str:
        """The user's line."""
        return next((op.source for op in self.ops if op.source), "")


@dataclass(eq=False)
class Around:
    """A loop or branch while its bodies are scheduled.

    Attributes:
        began: when.
        used: what it uses from outside: that lives to its end.
        step: the loop.
        varying: what is another value in each iteration.
        prelude: steps to run before it; None for a branch.
    """

    began: int
    used: set[Buffer]
    step: Step
    varying: set[Buffer]
    prelude: list[Step] | None


class Schedule:
    """The steps of a graph and of the bodies in it."""

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.time = 0
        self.around: list[Around] = []

    # --- buffers ------------------------------------------------------------------------------------------

    def arena(self, size: int, value: Value | None = None) -> Buffer:
        """A buffer in the arena."""
        made = Buffer(size, value=value)
        self.buffers.append(made)
        return made

    def emit(self, step: Step, into: list[Step]) -> None:
        """Append a step, and note what it uses."""
        self.time += 1
        step.time = self.time
        for buffer, _ in step.buffers:
            self._use(buffer)
        into.append(step)

    def _use(self, buffer: Buffer) -> None:
        buffer.use(self.time)
        for loop in self.around:
            if buffer.root.start < loop.began:
                loop.used.add(buffer.root)

    def ahead(self, step: Step, temps: Sequence[Buffer]) -> bool:
        """Move a step that only fills temporary buffers to before the loop, if that changes nothing; say whether so.

        So weights are packed once for all iterations.
        """
        loop = self.around[-1] if self.around else None
        if loop is None or loop.prelude is None or step.call is None:
            return False
        for ref, (buffer, _) in zip(step.call.refs, step.buffers, strict=True):
            fresh = buffer in temps and (buffer.end < 0 or buffer.start < loop.began)
            if ref.kind == "out" or (ref.kind == "temp" and not fresh):
                return False
            root = buffer.root
            if root in loop.varying or (buffer.kind == "slice" and buffer.loop is loop.step):
                return False
            if ref.kind == "in" and root.kind == "arena" and root.start >= loop.began:
                return False
        for buffer, _ in step.buffers:
            buffer.use(loop.began - 1)
            loop.used.add(buffer.root)
        step.time = loop.began - 1
        loop.prelude.append(step)
        return True

    def graph(
        self, graph: Graph, inputs: Sequence[Buffer], outputs: Sequence[Buffer | None], into: list[Step],
        commit: Commit | None = None, carries: Sequence[Buffer] = (),
    ) -> list[Buffer]:  # fmt: skip
        """Append the steps of a graph.

        Args:
            graph: the graph.
            inputs: the buffer of each input.
            outputs: where each output is to be; None where it does not matter.
            into: the steps.
            commit: for the outermost graph, which outputs are new values of cells.
            carries: for the body of a loop, the memory of what its first outputs take the place of.

        Returns:
            the buffer of each output.
        """
        return GraphSchedule(self, graph, inputs, outputs, commit, carries).steps(into)


class Commit:
    """Which outputs of a graph are new values of cells: a number of output and the buffer of the cell for each."""

    def __init__(self, first: int, homes: Sequence[Buffer]) -> None:
        self.first = first
        self.homes = homes


class GraphSchedule:
    """The steps of one graph."""

    def __init__(
        self, schedule: Schedule, graph: Graph, inputs: Sequence[Buffer], outputs: Sequence[Buffer | None],
        commit: Commit | None, carries: Sequence[Buffer] = (),
    ) -> None:  # fmt: skip
        self.schedule = schedule
        self.ops = Ops(graph)
        self.constants = graph.constants
        self.place: dict[Value, Buffer] = dict(zip(graph.inputs, inputs, strict=True))
        for value, array in graph.constants.items():
            owner = np.ascontiguousarray(array)
            self.place[value] = Buffer(owner.nbytes, "fixed", value, owner)
        taken = set(self.place)
        self.results: list[Value] = []
        for value in graph.outputs:
            root = self.ops.fresh(value, taken)
            taken.add(root)
            self.results.append(root)
        self.targets = list(outputs)
        self.commit = commit
        self.carries = carries
        self.ops.list = split(self.ops, set(self.results))
        self.clusters = clusters(self.ops)
        read = {view.root for op in self.ops.list for view in op.inputs}
        checks = {out for op in self.ops.list if _can_fail(op) for out in op.outputs if out not in read}
        self.needed = set(self.results) | checks  # what fails in Python does so here, used or not
        make_again(self.clusters, self.needed)
        if carries:  # what keeps an old carry is done before a new one is written over it
            given = set(graph.inputs)
            self.clusters.sort(key=lambda c: any(op.name != "alias" or op.inputs[0].root not in given for op in c.ops))
            for number, cluster in enumerate(self.clusters):
                cluster.number = number
        self._find_uses()

    def _find_uses(self) -> None:
        made = {v: c for c in self.clusters for v in c.members}
        self.made = made
        self.readers: dict[Value, list[Cluster]] = {}
        for cluster in self.clusters:
            for root in cluster.reads:
                self.readers.setdefault(root, []).append(cluster)
        self.gathered = {
            (op.inputs[0].shape[: len(op.inputs) - 1], *(i.root for i in op.inputs[1:]))
            for op in self.ops.list
            if op.name == "gather"
        }
        self.needed |= set(self.readers)

    # --- the commit phase ---------------------------------------------------------------------------------

    def _deferred(self) -> set[Cluster]:
        """Clusters that only make new values of cells, and cannot fail."""
        if self.commit is None:
            return set()
        results = set(self.results[: self.commit.first])
        deferred: set[Cluster] = set()
        for cluster in reversed(self.clusters):
            kept = [v for v in cluster.members if v in self.needed]
            safe = cluster.kind == "loop" and not any(_can_fail(op) for op in cluster.ops)
            if not (safe or self._is_checked_scatter(cluster)) or results.intersection(kept):
                continue
            if all(r in deferred for v in kept for r in self.readers.get(v, ())):
                deferred.add(cluster)
        return deferred

    def _is_checked_scatter(self, cluster: Cluster) -> bool:
        """Whether it writes to places from which something was read before, so that its indices are in range."""
        op = cluster.ops[0]
        if op.name not in ("scatter_add", "scatter_set"):
            return False
        x, _, *indices = op.inputs
        return (x.shape[: len(indices)], *(i.root for i in indices)) in self.gathered

    def _direct(self, deferred: list[Cluster]) -> dict[Value, Buffer]:
        """New values that can be written into the memory of their cells at once."""
        assert self.commit is not None
        entry = {buffer: value for value, buffer in self.place.items()}
        last = {root: cluster for cluster in deferred for root in cluster.reads}
        direct: dict[Value, Buffer] = {}
        for value, home in zip(self.results[self.commit.first :], self.commit.homes, strict=True):
            cluster = self.made.get(value)
            if cluster is None or cluster not in deferred or cluster.reductions:
                continue
            old = entry.get(home)
            reader = last.get(old) if old is not None else None
            if reader is not None and reader.number > cluster.number:
                continue
            if cluster.kind == "kernel":
                op = cluster.ops[0]
                reads = [v.root for v in op.inputs]
                call = (
                    None
                    if op.node is None or reads[0] is not old or reads.count(old) > 1
                    else scatter_in_place(op.node)
                )
                if call is not None:
                    direct[value], op.lowered = home, call
            elif cluster.members[value] == FULL and (old is None or _reads_in_place(cluster, old)):
                direct[value] = home
        return direct

    def _renewed(self) -> dict[Value, Buffer]:
        """New carries that can be written over the old ones, since nothing reads these any more."""
        entry = {buffer: value for value, buffer in self.place.items()}
        found: dict[Value, Buffer] = {}
        for value, home in zip(self.results, self.carries, strict=False):
            cluster, old = self.made.get(value), entry[home]
            if cluster is None or cluster.kind not in ("loop", "product") or cluster.reductions:
                continue
            readers = self.readers.get(old, [])
            if cluster.members.get(value) != FULL or any(reader.number > cluster.number for reader in readers):
                continue
            factors = cluster.ops[0].inputs if cluster.kind == "product" else ()
            if all(v.root is not old for v in factors) and _reads_in_place(cluster, old):
                found[value] = home
        return found

    # --- steps --------------------------------------------------------------------------------------------

    def steps(self, into: list[Step]) -> list[Buffer]:
        """Append all steps; return the buffers of the outputs."""
        deferred = self._deferred()
        late = [c for c in self.clusters if c in deferred]
        direct = self._direct(late) if self.commit else self._renewed()
        for root, target in zip(self.results, self.targets, strict=True):
            if target is not None and root in self.made and root not in direct:
                self.place[root] = target
        self.place.update(direct)
        self.late = False
        for cluster in self.clusters:
            if cluster not in deferred:
                self._cluster(cluster, into)
        if self.commit is not None:
            self.schedule.emit(Step("gate"), into)
            self.late = True
            for cluster in late:
                self._cluster(cluster, into)
        found = []
        homes = self.commit.homes if self.commit else ()
        goals: list[Buffer | None] = [*self.targets[: len(self.results) - len(homes)], *homes]
        for root, target in zip(self.results, goals, strict=True):
            here = self.buffer(root)
            if target is not None and here is not target:
                self.copy(target, here, into)
            found.append(here if target is None else target)
        return found

    def buffer(self, root: Value) -> Buffer:
        """Where a value is."""
        if root not in self.place:
            self.place[root] = self.schedule.arena(root.size * root.dtype.itemsize, root)
        return self.place[root]

    def copy(self, target: Buffer, source: Buffer, into: list[Step]) -> None:
        """Append a copy of a whole buffer."""
        if source.size:
            step = Step("copy", buffers=[(target, 0), (source, 0)], size=source.size, commits=self.late)
            self.schedule.emit(step, into)

    def _border(self, root: Value, target: View, ops: list[Op], into: list[Step]) -> None:
        """Set the border of a buffer to zero."""
        zero = Buffer(root.dtype.itemsize, "fixed", None, np.zeros(1, root.dtype))
        strides = row_major(root.shape)
        for offset, shape in edges(target):
            call = copy_call(shape, (0,) * len(shape), root.dtype, target_strides=strides)
            buffers = [(zero, 0), (self.buffer(root), offset * root.dtype.itemsize)]
            self.schedule.emit(Step("kernel", call, buffers, ops, commits=self.late), into)

    def _cluster(self, cluster: Cluster, into: list[Step]) -> None:
        if cluster.kind in ("loop", "product") and self.needed.isdisjoint(cluster.members):
            return  # all that read it was empty
        for root, target in cluster.targets.items():
            if root in self.needed and cluster.members[root] == FULL:
                self._border(root, target, cluster.ops, into)
        if _is_copy(cluster):
            view = cluster.ops[0].inputs[0]
            call = copy_call(view.shape, view.strides, view.root.dtype)
            kernel = Kernel(Lowered([call]), [view.root], list(cluster.ops[0].outputs))
            self._calls(kernel, cluster.ops, into, {0: view.offset * view.root.dtype.itemsize})
        elif cluster.kind == "loop":
            self._calls(loop_kernel(cluster, self.needed, self.constants), cluster.ops, into)
        elif cluster.kind == "fill":
            array = constant_fill(cluster.ops[0])
            constant = Buffer(array.nbytes, "fixed", None, array)
            self.copy(self.buffer(cluster.ops[0].outputs[0]), constant, into)
        elif cluster.kind in ("product", "closed"):
            self._product(cluster, into)
        elif cluster.kind == "kernel":
            op = cluster.ops[0]
            self._calls(Kernel(op.lowered, [v.root for v in op.inputs], list(op.outputs)), cluster.ops, into)
        elif cluster.kind == "control":
            from .loops_and_branches import steps_of

            steps_of(self, cluster.ops[0], into)
        else:
            op = cluster.ops[0]
            roots = [*(v.root for v in op.inputs), *op.outputs]
            self.schedule.emit(Step("host", buffers=[(self.buffer(r), 0) for r in roots], ops=cluster.ops), into)

    def _product(self, cluster: Cluster, into: list[Step]) -> None:
        op = cluster.ops[0]
        out = op.outputs[0]
        views = op.inputs
        first, second = (Operand(v.shape, v.strides) for v in views)
        inputs, outputs, parts = [v.root for v in views], [out], len(op.outputs)
        appended = Appended(cluster, self.needed, self.constants) if len(cluster.ops) > 1 or parts > 1 else None
        finish = None if appended is None else appended.finish
        shape = (*out.shape[:-1], out.shape[-1] * parts) if parts > 1 else tuple(out.shape)
        lowered = lower_contraction(op.name, first, second, shape, op.static, out.dtype, finish, parts)
        if appended is not None:
            inputs, outputs = [*inputs, *appended.loop.buffers], appended.complete(lowered)
        offsets = {i: v.offset * v.root.dtype.itemsize for i, v in enumerate(views)}
        self._calls(Kernel(lowered, inputs, outputs), cluster.ops, into, offsets)

    def _calls(self, kernel: Kernel, ops: list[Op], into: list[Step], offsets: dict[int, int] | None = None) -> None:
        schedule = self.schedule
        temps = [schedule.arena(size) for size in kernel.lowered.temps]
        for call in kernel.lowered.calls:
            call.ns = call.ns or _rough_ns(call, ops[0].kind == "product")
            buffers = []
            for ref in call.refs:
                if ref.kind == "temp":
                    buffers.append((temps[ref.number], ref.offset))
                elif ref.kind == "in":
                    more = (offsets or {}).get(ref.number, 0)
                    buffers.append((self.buffer(kernel.inputs[ref.number]), ref.offset + more))
                else:
                    buffers.append((self.buffer(kernel.outputs[ref.number]), ref.offset))
            if not call.items:
                continue
            step = Step("kernel", call, buffers, ops, commits=self.late)
            if ops[0].kind != "product" or not schedule.ahead(step, temps):
                schedule.emit(step, into)


def _is_copy(cluster: Cluster) -> bool:
    """Whether it only brings elements into another order."""
    if cluster.kind != "loop" or len(cluster.ops) != 1 or cluster.ops[0].name != "alias":
        return False
    return len(cluster.ops[0].inputs[0].dims) > 1 and cluster.ops[0].inputs[0].root.dtype not in dtypes.COMPLEX


def _rough_ns(call: Call, product: bool) -> float:
    """About the time of a kernel that does not know better; what has no operations brings elements into order."""
    if not call.flops:
        return 1e4 * call.items / call.grain
    return call.flops * (0.015 if product else 0.4)


def _can_fail(op: Op) -> bool:
    """Whether the operation itself, not a copy or cast made for its node, raises for some values."""
    return op.node is not None and op.name == op.node.primitive.name and can_fail(op.node)


def _reads_in_place(cluster: Cluster, old: Value) -> bool:
    """Whether all that the cluster reads of a buffer are the elements that it writes at that moment."""
    views = [v for op in cluster.ops for v in op.inputs if v.root is old]
    return all(v.is_whole and v.size == cluster.n for v in views)
