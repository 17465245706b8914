"""What `explain` and `profile` know about a program: its steps in numbers, its memory, what it keeps to go backward."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..compiler import threads
from ..compiler.compiled import Compiled
from ..compiler.interface import CellSource
from ..compiler.memory import ALIGNMENT, Buffer
from ..compiler.ops import Op
from ..compiler.program import Program, walk
from ..compiler.schedule import Step
from ..compiler.views import View
from ..errors import ArgumentError
from ..graph.ir import TensorType, Value
from ..tensor.cells import Cell, Parameter
from .tables import extents, shortened

# What a processor of today does at the least, where a kernel brings no estimate of its own.
_FLOPS_PER_SECOND = 50e9
_BYTES_PER_SECOND = 10e9
_HOST_SECONDS = 20e-6  # a call of Python from native code
_LOOPS = ("scan", "cond", "while")
_READ_IN_PART = frozenset({"gather", "dynamic_slice"})  # of their first input they read as much as they give
_SHOWN = {"alias": "copy", "strong_multiply": "multiply", "dot": "matmul"}  # names that a user would use


def program_of(operation: str, step: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Program:
    """The native program of a compiled function for these arguments, made if there is none yet.

    Raises:
        ArgumentError: ``step`` is not compiled.
    """
    if not isinstance(step, Compiled):
        raise ArgumentError(
            operation,
            "takes a compiled function, then its arguments",
            received=getattr(step, "__name__", type(step).__name__),
            fix=f"decorate it with @cr.compile, or call cr.{operation}(cr.compile(step), *args)",
        )
    program = step.program_for(*args, **kwargs)
    if not isinstance(program, Program):
        raise ArgumentError(operation, "the function runs in NumPy and has no kernels", received=repr(step))
    return program


# --- steps ------------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """One step of a program. Its numbers are those of running it once.

    Attributes:
        number: of the step in the program, and in a profile.
        depth: in how many loops and branches it is.
        kind: "kernel", "host", "copy", "scan", "cond" or "while".
        name: what it computes.
        shape: over what: ``m×n×k 64×32×20``, ``map 64×32``, ``rows 64×5``, ...
        times: how often it runs in one run of the program: the product of the lengths of the loops around it. A branch
            counts as taken every second time, a ``while`` loop as run once.
        flops: floating-point operations.
        read, written: bytes.
        seconds: predicted time.
        threads: how many share it.
        source: the user's line.
        after: numbers of the steps whose results it reads; if there are none, of the loop that it is in.
        again: whether it makes what was made before, to save memory.
    """

    number: int
    depth: int
    kind: str
    name: str
    shape: str
    times: float
    flops: int = 0
    read: int = 0
    written: int = 0
    seconds: float = 0.0
    threads: int = 1
    source: str = ""
    after: list[int] = field(default_factory=list)
    again: bool = False

    @property
    def bytes(self) -> int:
        """Bytes read and written."""
        return self.read + self.written

    @property
    def is_loop(self) -> bool:
        """Whether it only runs other steps."""
        return self.kind in _LOOPS


def rows_of(program: Program) -> list[Row]:
    """The steps of a program in order, those of bodies after the loop or branch that runs them."""
    return list(_Rows(program).of(program.steps, 0, 1.0, None))


class _Rows:
    def __init__(self, program: Program) -> None:
        self.numbers = {step: number for number, step in enumerate(program.numbered)}
        self.writer: dict[Buffer, int] = {}

    def of(self, steps: Sequence[Step], depth: int, times: float, around: int | None) -> Iterator[Row]:
        for step in steps:
            if step.kind == "gate":
                continue
            reads, writes = uses(step, self.writer)
            row = Row(self.numbers[step], depth, step.kind, _name(step, reads, writes), _shape(step), times)
            row.source, row.again = step.source, step.again
            row.after = list(dict.fromkeys(self.writer[b] for b in (read.root for read in reads) if b in self.writer))
            if not row.after and around is not None:
                row.after = [around]
            self.writer |= {b.root: row.number for b in writes}
            if not row.is_loop:
                row.read, row.written = _traffic(step, reads, writes)
                _predict(row, step)
            yield row
            inside = times * {"scan": float(step.length), "cond": 0.5}.get(step.kind, 1.0)
            for body in step.bodies:
                yield from self.of(body, depth + 1, inside, row.number)


def _predict(row: Row, step: Step) -> None:
    call = step.call
    row.seconds = max(row.bytes / _BYTES_PER_SECOND, _HOST_SECONDS if step.kind == "host" else 0.0)
    if call is None:
        return
    row.flops = call.flops
    row.seconds = call.ns * 1e-9 or max(row.flops / _FLOPS_PER_SECOND, row.seconds)
    if step.parallel:
        row.threads = min(threads.get_num_threads(), -(-call.items // call.grain))
        row.seconds /= row.threads


def _is_temporary(buffer: Buffer) -> bool:
    return buffer.kind == "arena" and buffer.value is None


def uses(step: Step, known: Collection[Buffer]) -> tuple[list[Buffer], list[Buffer]]:
    """The buffers that a step reads and those that it writes.

    A temporary one is written where it is used first, and read after that, when it is among the ``known``.
    """
    buffers = [buffer for buffer, _ in step.buffers]
    if step.call is not None:
        kinds = [ref.kind for ref in step.call.refs]
    elif step.kind == "copy":
        kinds = ["out", "in"]
    elif step.kind == "host":
        n = len(step.ops[0].inputs)
        kinds = ["in"] * n + ["out"] * (len(buffers) - n)
    else:
        return ([] if step.result is None else [step.result]), []
    reads: dict[Buffer, None] = {}
    writes: dict[Buffer, None] = {}
    for kind, buffer in zip(kinds, buffers, strict=True):
        taken = kind == "in" or (kind == "temp" and buffer in known)
        (reads if taken else writes)[buffer] = None
    return list(reads), list(writes)


def _traffic(step: Step, reads: Sequence[Buffer], writes: Sequence[Buffer]) -> tuple[int, int]:
    """Bytes that a step reads and writes, each buffer once; of a view it reads what the view shows."""
    read = sum(b.size for b in reads if not _is_temporary(b))
    if step.ops:
        read = min(read, _touched(step.ops))
    return read + sum(b.size for b in reads if _is_temporary(b)), sum(b.size for b in writes)


def _touched(ops: Sequence[Op]) -> int:
    """Bytes of what the operations read from outside."""
    made = {value for op in ops for value in op.outputs}
    touched: Counter[Value] = Counter()
    for op in ops:
        for i, view in enumerate(op.inputs):
            if view.root not in made:
                part = op.outputs[0].size if i == 0 and op.name in _READ_IN_PART else _distinct(view)
                touched[view.root] += part * view.root.dtype.itemsize
    return sum(min(n, root.size * root.dtype.itemsize) for root, n in touched.items())


def _distinct(view: View) -> int:
    return math.prod(n for n, stride in zip(view.shape, view.strides, strict=True) if stride)


# --- words ------------------------------------------------------------------------------------------------------------


def _name(step: Step, reads: Sequence[Buffer], writes: Sequence[Buffer]) -> str:
    if step.kind == "scan":
        return f"scan of {step.length}" + (", backward" if step.reverse else "")
    if not step.ops:
        return step.kind
    names = [_shown(op) for op in step.ops]
    if writes and all(map(_is_temporary, writes)):
        return f"prepare {names[0]}"
    if reads and all(map(_is_temporary, reads)):
        return f"combine {names[0]}"
    return shortened(list(dict.fromkeys(names)))


def _shown(op: Op) -> str:
    return _SHOWN.get(op.name, op.name.removeprefix("reduce_"))


def _shape(step: Step) -> str:
    """Over what a step runs."""
    if not step.ops or step.kind in _LOOPS:
        return ""
    op = step.ops[0]
    if op.kind == "product":
        return _product_shape(op)
    if op.kind in ("map", "reduce"):
        reductions = [_reduction_shape(op) for op in step.ops if op.kind == "reduce"]
        largest = max((op for op in step.ops if op.kind == "map"), key=lambda op: math.prod(op.shape), default=op)
        return reductions[0] if reductions else f"map {extents(largest.shape)}"
    given, made = op.inputs[0].shape if op.inputs else (), op.outputs[0].shape if op.outputs else ()
    return f"{extents(given)} → {extents(made)}"


def _product_shape(op: Op) -> str:
    a, b = (view.shape for view in op.inputs)
    if op.name != "dot":
        return f"{extents(a)} by {extents(b)}"
    contract, batch = op.static["contract"], op.static["batch"]
    m = math.prod(n for axis, n in enumerate(a) if axis not in (*contract[0], *batch[0]))
    n = math.prod(n for axis, n in enumerate(b) if axis not in (*contract[1], *batch[1]))
    k = math.prod(a[axis] for axis in contract[0])
    several = math.prod(a[axis] for axis in batch[0])
    return f"m×n×k {m}×{n}×{k}" + (f", {several} times" if several != 1 else "")


def _reduction_shape(op: Op) -> str:
    assert op.node is not None
    shape, axes = op.node.inputs[0].shape, op.static["axes"]
    real = [axis for axis, n in enumerate(shape) if n != 1]
    if all(axis in axes for axis in real):
        return f"all of {extents(shape)}"
    return f"{'rows' if real[-1] in axes else 'columns'} of {extents(shape)}"


# --- what is kept for the backward phase ------------------------------------------------------------------------------


@dataclass
class Kept:
    """A value in memory from the forward phase to the backward phase.

    Attributes:
        name: the operation that makes it.
        type: shape and dtype.
        bytes: memory that it takes.
        source: the user's line of that operation, or of its kernel if going backward only begins with it.
        made, read: numbers of the step that makes it, and of the last one that reads it in the backward phase.
    """

    name: str
    type: TensorType
    bytes: int
    source: str
    made: int
    read: int


def kept_of(program: Program) -> list[Kept]:
    """The values that the forward phase computes and the backward phase reads, in order.

    A kernel belongs to the phase of its first operation. So what is computed early, in a kernel of the forward phase,
    counts as kept, and what is used up within that kernel does not.
    """
    numbers = {step: number for number, step in enumerate(program.numbered)}
    steps = [step for step in walk(program.steps) if step.ops]
    maker: dict[Value, tuple[Op, Step]] = {}
    for step in steps:
        written = {buffer.value for buffer in uses(step, ())[1]}
        for op in step.ops:
            maker |= {value: (op, step) for value in op.outputs if value not in maker or value in written}
    phases = _phases(steps)
    remade = {buffer.value for step in steps if step.again for buffer in uses(step, ())[1]}
    kept: dict[Value, Kept] = {}
    for step in steps:
        for root in dict.fromkeys(view.root for op in step.ops for view in op.inputs):
            if root not in maker or root in remade:
                continue
            op, made = maker[root]
            phase = phases[id(made.ops)]
            if made.ops is step.ops or phase >= phases[id(step.ops)]:
                continue
            if root not in kept:
                size = root.size * root.dtype.itemsize
                early = op.node is not None and op.node.phase > phase  # its own line is that of `backward`
                source = made.source if early else op.source
                kept[root] = Kept(_shown(op), root.type, size, source, numbers[made], 0)
            kept[root].read = numbers[step]
    return sorted(kept.values(), key=lambda k: k.made)


def _phases(steps: Sequence[Step]) -> dict[int, int]:
    """The phase of each list of operations; a copy made for a reader belongs to the reader."""
    phases: dict[int, int] = {}
    readers: dict[Value, int] = {}
    for step in reversed(steps):
        key = id(step.ops)
        if key in phases:
            continue
        own = [op.node.phase for op in step.ops if op.node is not None and not _is_helper(op)]
        later = [readers[v] for op in step.ops for v in op.outputs if v in readers]
        phases[key] = own[0] if own else min(later, default=0)
        for op in step.ops:
            for view in op.inputs:
                readers[view.root] = min(phases[key], readers.get(view.root, phases[key]))
    return phases


def _is_helper(op: Op) -> bool:
    """Whether it only brings a value into the form in which its reader wants it."""
    return op.kind == "map" and op.node is not None and op.outputs[0] not in op.node.outputs


# --- state and memory -------------------------------------------------------------------------------------------------


@dataclass
class Use:
    """A cell of a program.

    Attributes:
        name: dotted path in the model, or an empty string.
        kind: "parameter" or "cell".
        type: shape and dtype.
        bytes: of its value.
        read, written: whether the program does that.
    """

    name: str
    kind: str
    type: TensorType
    bytes: int
    read: bool
    written: bool


def cells_of(program: Program) -> list[Use]:
    """The cells that a program reads and writes."""
    read: dict[int, Cell] = {}
    for source in program._inputs:
        if isinstance(source, CellSource):
            read[id(source.cell.storage())] = source.cell
    results = {id(staging) for _, staging, _ in program._results}
    written: dict[int, Any] = {}
    for step in walk(program.steps):
        if step.commits:
            fixed = [buffer.owner for buffer in uses(step, ())[1] if buffer.kind == "fixed"]
            written |= {id(owner): owner for owner in fixed if id(owner) not in results}
    found = []
    for key in dict.fromkeys([*read, *written]):
        cell = read.get(key)
        array = written[key] if cell is None else cell.storage()
        kind = "parameter" if isinstance(cell, Parameter) else "cell"
        name = "" if cell is None else cell.name
        type = TensorType(tuple(array.shape), array.dtype)
        found.append(Use(name, kind, type, array.nbytes, key in read, key in written))
    return found


def memory_of(program: Program, cells: Sequence[Use]) -> dict[str, int]:
    """Bytes that a program needs, by what for. The arguments are the caller's, and not among them."""
    steps = walk(program.steps)
    scratch = max((step.call.scratch for step in steps if step.call is not None), default=0)
    fixed = {
        id(b.owner): b.size for step in steps for b, _ in step.buffers if b.kind == "fixed" and b.value is not None
    }
    return {
        "arena": program.arena_size + ALIGNMENT,
        "parameters": sum(use.bytes for use in cells if use.kind == "parameter"),
        "other state": sum(use.bytes for use in cells if use.kind != "parameter"),
        "results": sum(buffer.size for buffer, _, _ in program._results),
        "constants": sum(fixed.values()),
        "scratch": scratch * threads.get_num_threads(),
    }
