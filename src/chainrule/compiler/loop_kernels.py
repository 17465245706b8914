"""Kernels of clusters: from fused operations to calls.

A reduction over columns or everything gives a partial result for each chunk, and a second kernel combines them in
their order; both depend on shapes alone.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from ..graph.ir import Value
from .contraction import Finish, Store
from .fusion import Cluster, columns_of
from .kernel import Call, Code, Frame, Lowered, Ref
from .loop_code import Body, LoopBody, combine, identity, neutral, write_loop
from .loop_words import Words
from .loops import Leaf, Loop, Scalar, accumulated
from .ops import Op
from .vector import I64, LANES, Emitter


class Kernel(NamedTuple):
    """How a cluster is computed: its calls, and the values that the refs "in" and "out" number."""

    lowered: Lowered
    inputs: list[Value]
    outputs: list[Value]


# --- what decides the code --------------------------------------------------------------------------------


def describe(loop: Loop, words: Words) -> str:
    """All that the code of a loop depends on, as text."""
    number: dict[Any, str] = {}
    buffers = {root: i for i, root in enumerate(loop.buffers)}
    inner = "" if loop.structure == "flat" or loop.columns is not None else "even" if loop.even else "any"
    inner = str(loop.inner) if loop.static else inner
    lines = [
        f"{loop.structure} w{loop.width()} dims{len(loop.extents)} parts{loop.parts_dims if loop.parts > 1 else 0}"
        f" row{loop.cluster.row if loop.parts > 1 else ''} inner {inner}"
    ]
    for leaf in loop.leaves.values():
        number[leaf] = f"L{len(number)}"
        lines.append(f"{number[leaf]}={_leaf_text(leaf, buffers)}")
    products = [value for value in loop.cluster.members if value not in loop.maker]
    number |= {value: f"product{i or ''}" for i, value in enumerate(products)}
    for op in loop.ops:
        out = op.outputs[0]
        number[out] = f"v{len(number)}"
        static = {} if op.kind == "reduce" or op.name == "random_bits" else op.static
        how = loop.cluster.reductions[op].kind if op.kind == "reduce" else ""
        how += " of several rows" if how == "column" and loop.columns_in_rows else ""
        args = ",".join(number[s] for s in loop.args[op])
        types = ",".join(v.root.dtype.name for v in op.inputs)
        lines.append(
            f"{number[out]}:{out.dtype.name}@{loop.cluster.stages[out]}={op.name}({args};{types}){_text(static)}{how}"
        )
    marks = [("stored", loop.stored), ("saved", loop.saved)]
    lines += [f"{what}:" + ",".join(number[v] for v in values) for what, values in marks]
    lines += [f"{number[v]} at {_leaf_text(place, {place.root: -1})}" for v, place in loop.places.items()]
    lines.append("late:" + ",".join(f"{number[op.outputs[0]]}:{words.late_dtype(op).name}" for op in loop.late))
    return "\n".join(lines)


def _leaf_text(leaf: Leaf | Scalar, buffers: dict[Value, int]) -> str:
    if isinstance(leaf, Scalar):
        return f"const:{leaf.root.dtype.name}"
    strides = "".join("1" if s else "0" for s in leaf.outer)
    inner = str(leaf.inner) if leaf.inner in (0, 1) else "s"
    return f"{leaf.level}:{leaf.root.dtype.name}:b{buffers[leaf.root]}:{strides}:{inner}"


def _text(static: Any) -> str:
    return "{" + ",".join(f"{k}={v}" for k, v in static.items()) + "}"


# --- loops ------------------------------------------------------------------------------------------------


def loop_kernel(cluster: Cluster, stored: set[Value], constants: dict[Value, np.ndarray]) -> Kernel:
    """The calls that compute a cluster of maps and reductions."""
    loop = Loop(cluster, stored, constants)
    items, grain = loop.division()
    chunks = -(-items // grain) if items else 0
    partial = bool(loop.late) and loop.structure != "columns" and chunks * loop.times > 1
    words = Words(loop, partial=partial)
    outputs = [*loop.stored, *(op.outputs[0] for op in loop.late)]
    refs = [Ref("in", i) for i in range(len(loop.buffers))]
    refs += [Ref("out", i) for i in range(len(loop.stored))]
    temps: list[int] = []
    more: list[Call] = []
    for i, op in enumerate(loop.late):
        target = Ref("out", len(loop.stored) + i)
        if not partial:
            refs.append(target)
            continue
        in_column = cluster.reductions[op].kind == "column"
        columns = cluster.column[2] if in_column else 1  # type: ignore[index]
        parts = chunks * loop.times if in_column else chunks
        temps.append(parts * columns * accumulated(op).itemsize)
        part = Ref("temp", len(temps) - 1)
        refs.append(part)
        more.append(_combining(op, part, target, parts, columns))
    key = "loop\n" + describe(loop, words)

    def build(module: ir.Module, name: str) -> None:
        frame = Frame(module, name, len(refs), len(words.values), loop.width())
        written = Words(loop, frame.words, partial)
        write_loop(loop, frame, LoopBody(loop, frame, frame.buffers, written), written)
        frame.done()

    call = Call(Code(key, build), tuple(refs), tuple(words.values), items, grain, loop.flops, words.scratch_size)
    call.ns = loop.work_ns * cluster.n
    return Kernel(Lowered([call, *more], temps), loop.buffers, outputs)


def _combining(op: Op, part: Ref, target: Ref, chunks: int, columns: int) -> Call:
    """Combine the partial results of chunks, in their order."""
    dtype, out = accumulated(op), op.outputs[0].dtype
    write = _combine_columns if columns > 1 else _combine_total
    key = f"combine {op.name} {dtype.name} {out.name} {columns > 1}"

    def build(module: ir.Module, name: str) -> None:
        frame = Frame(module, name, 2, 2)
        write(frame, op.name, dtype, out)
        frame.done()

    items = -(-columns // LANES)
    call = Call(Code(key, build), (part, target), (chunks, columns), items, max(1, items), chunks * columns)
    call.ns = 0.3 * chunks * columns
    return call


def _combine_columns(frame: Frame, name: str, dtype: Any, out: Any) -> None:
    b, e = frame.b, frame.e
    source, target = frame.buffers
    chunks, columns = frame.words
    with e.loop(frame.begin, frame.end) as item:
        at = b.mul(item, I64(LANES))
        with e.masked(e.tail_mask(b.sub(columns, at))):
            total = e.variable(e.of(dtype), identity(e, name, dtype))
            with e.loop(I64(0), chunks) as i:
                value = e.load(source, b.add(b.mul(i, columns), at), dtype)
                b.store(combine(e, name, b.load(total, typ=e.of(dtype)), value, dtype), total)
            e.store(b.load(total, typ=e.of(dtype)), target, at, out)


def _combine_total(frame: Frame, name: str, dtype: Any, out: Any) -> None:
    b = frame.b
    source, target = frame.buffers
    one = Emitter(b, 1, frame.status)
    total = one.variable(one.of(dtype), identity(one, name, dtype))
    with one.loop(I64(0), frame.words[0]) as i:
        value = one.load(source, i, dtype)
        b.store(combine(one, name, b.load(total, typ=one.of(dtype)), value, dtype), total)
    one.store(b.load(total, typ=one.of(dtype)), target, I64(0), out)


# --- maps appended to a contraction -----------------------------------------------------------------------


class _AppendedBody(Body):
    """Maps of finished columns, and sums of them over the rows of a chunk, in the chunk's part of a buffer."""

    def __init__(self, loop: Loop, frame: Frame, pointers: list[Any], parts: list[Any], words: Words) -> None:
        super().__init__(loop, frame, pointers, words)
        self._sums = dict(zip(loop.late, parts, strict=True))
        if self._sums:
            self._chunk = self.b.mul(self.b.udiv(frame.begin, words.grain), words.columns)
        for op, place in self._sums.items():
            start = identity(self.e, op.name, accumulated(op))

            def clear(i: Any, op: Op = op, place: Any = place, start: Any = start) -> None:
                self.e.store(start, place, self.b.add(self._chunk, i), accumulated(op))

            self.e.blocks(words.columns, clear)

    def take_in(self, op: Op, value: Any, index: Any) -> None:
        """Add a row's columns to the sums."""
        e, dtype, place = self.e, accumulated(op), self._sums[op]
        at = self.b.add(self._chunk, index)
        e.store(combine(e, op.name, e.load(place, at, dtype), value, dtype), place, at, dtype)


class Appended:
    """The maps of a cluster that begins with a contraction, applied to its result while that is in registers.

    Reductions over its rows are begun there too: each chunk leaves a row of sums, which are combined at the end.
    """

    def __init__(self, cluster: Cluster, stored: set[Value], constants: dict[Value, np.ndarray]) -> None:
        self.products = cluster.ops[0].outputs
        self.loop = Loop(cluster, stored, constants, columns=columns_of(cluster.ops[0]))
        self.words = Words(self.loop, partial=True)
        self.kept = [value for value in self.products if value in stored]
        self.outputs = [*self.kept, *self.loop.stored]

    @cached_property
    def finish(self) -> Finish:
        """What the contraction has to know."""
        refs = [Ref("in", 2 + i) for i in range(len(self.loop.buffers))]
        refs += [Ref("out", i) for i in range(len(self.outputs))]
        refs += [Ref("part", i) for i in range(len(self.loop.late))]
        key = f"{describe(self.loop, self.words)}\nkeeps:{[value in self.kept for value in self.products]}"
        return Finish(key, tuple(refs), tuple(self.words.values), self._emit)

    def _emit(self, frame: Frame, pointers: list[Any], words: list[Any]) -> Store:
        """Begin in a kernel; return what is to be done with 16 finished columns of a row."""
        loop = self.loop
        reads, writes, own = len(loop.buffers), len(self.outputs), len(self.kept)
        parts, kept = pointers[reads + writes :], dict(zip(self.kept, pointers[reads : reads + own], strict=True))
        given = [*pointers[:reads], *pointers[reads + own : reads + writes]]
        body = _AppendedBody(loop, frame, given, parts, Words(loop, words, partial=True))

        def write(e: Emitter, values: list[Any], row: Any, col: Any) -> None:
            body.e = e
            body.at_row(row)
            known = dict(zip(self.products, values, strict=True))
            for product, own in kept.items():
                e.store(known[product], own, frame.b.add(body.base, col), product.dtype)
            body.elements(col, known=known)

        def fetch(e: Emitter, row: Any, col: Any) -> None:
            body.at_row(row)
            for leaf in ahead:
                e.fetch(body.pointer[leaf.root], frame.b.add(body.offsets[leaf], col), leaf.root.dtype)

        ahead = [leaf for leaf in loop.leaves.values() if isinstance(leaf, Leaf) and leaf.level == "full"]
        ahead = [leaf for leaf in ahead if leaf.inner == 1 and any(leaf.outer)]
        return Store(write, fetch if ahead else None)

    def complete(self, lowered: Lowered) -> list[Value]:
        """Give the sums of each chunk their place, and combine them; return all that is made."""
        late = self.loop.late
        if not late:
            return self.outputs
        finish, columns = self.finish, self.loop.inner
        calls = [call for call in lowered.calls if call.refs[len(call.refs) - len(finish.refs) :] == finish.refs]
        chunks = [-(-call.items // call.grain) for call in calls]
        first = len(lowered.temps)
        lowered.temps += [sum(chunks) * columns * accumulated(op).itemsize for op in late]
        for i, call in enumerate(calls):
            before = sum(chunks[:i]) * columns
            parts = [Ref("temp", first + j, before * accumulated(op).itemsize) for j, op in enumerate(late)]
            call.refs = (*call.refs[: len(call.refs) - len(late)], *parts)
            numbers = list(call.words)
            numbers[len(numbers) - len(finish.words) + self.words.place("grain")] = call.grain
            call.words = tuple(numbers)
        for j, op in enumerate(late):
            target = Ref("out", len(self.outputs) + j)
            lowered.calls.append(_combining(op, Ref("temp", first + j), target, sum(chunks), columns))
        return [*self.outputs, *(op.outputs[0] for op in late)]


def constant_fill(op: Op) -> np.ndarray:
    """What a reduction over nothing gives."""
    out = op.outputs[0]
    value = 0 if op.name == "reduce_sum" else neutral(op.name, out.dtype)
    return np.full(out.shape, value, out.dtype)
