"""Writing the code of fused loops.

flat      for i in the chunk's elements:  maps
rows      for r in rows: for i in row:  maps; column and total reductions of the chunk in scratch memory
reduce    for r in rows: pass 0 over the row, its reductions, maps on them, pass 1 over the row, ...
columns   for b in blocks: for r in the block's rows: for i in row:  maps, reductions into a row of sums
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir

from .. import dtypes
from ..graph.ir import Value
from . import elementwise
from .fusion import ROW
from .kernel import Frame
from .loop_words import Words
from .loops import BLOCK, Leaf, Loop, Scalar, accumulated
from .ops import Op
from .vector import F64, I64, LANES, Emitter, scalar_type, smaller

_COMBINE = {
    "reduce_sum": "add", "reduce_prod": "multiply", "reduce_max": "maximum", "reduce_min": "minimum",
    "reduce_any": "logical_or", "reduce_all": "logical_and",
}  # fmt: skip


def combine(e: Emitter, op: str, a: Any, b: Any, dtype: Any) -> Any:
    """One step of a reduction."""
    return elementwise.lower(e, _COMBINE[op], [a, b], [dtype, dtype], dtype, {})


def identity(e: Emitter, op: str, dtype: Any) -> Any:
    """What changes no value of a reduction."""
    return e.const(scalar_type(dtype), neutral(op, dtype))


def neutral(op: str, dtype: Any) -> Any:
    """The number that changes no value of a reduction; -0.0 for sums, since 0.0 would lose the sign of -0.0."""
    if op in ("reduce_any", "reduce_all"):
        return int(op == "reduce_all")
    if op in ("reduce_sum", "reduce_prod"):
        return (-0.0 if dtype in dtypes.FLOATING else 0) if op == "reduce_sum" else 1
    if dtype == dtypes.bool_:
        return int(op == "reduce_min")
    if dtype in dtypes.FLOATING:
        return -np.inf if op == "reduce_max" else np.inf
    limits = np.iinfo(dtype)
    return limits.min if op == "reduce_max" else limits.max


class Body:
    """The maps and reductions of a loop, on the elements or the row at hand.

    The leaves' addresses are set up by `at_row`; `value` gives a value for the elements from ``index`` on.
    """

    def __init__(self, loop: Loop, frame: Frame, pointers: list[Any], words: Words) -> None:
        self.loop = loop
        self.b = frame.b
        self.e = frame.e
        self.one = Emitter(frame.b, 1, frame.status)
        self.frame = frame
        self.words = words
        self.pointer = dict(zip(loop.buffers, pointers, strict=False))
        self.targets = dict(zip(loop.stored, pointers[len(loop.buffers) :], strict=False))
        self.row_values: dict[Value, Any] = {}
        self.cache: dict[Any, Any] = {}
        self.offsets: dict[Any, Any] = {}
        self.row_cache: dict[Any, Any] = {}
        self.base: Any = I64(0)  # number of the first element of the row
        self.kept: dict[Value, Any] = {}
        self.stage = 0
        self.hoisted = {leaf: self._once(leaf) for leaf in loop.leaves.values() if self._is_constant(leaf)}

    # --- leaves -------------------------------------------------------------------------------------------

    def _is_constant(self, leaf: Any) -> bool:
        return isinstance(leaf, Scalar) or leaf.level in ("scalar", "state")

    def _once(self, leaf: Any) -> Any:
        """What is read before the loop, as a scalar."""
        if isinstance(leaf, Scalar):
            return self._number(leaf)
        pointer = self.pointer[leaf.root]
        if leaf.level == "state":
            return [self.b.load(self.one.address(pointer, I64(i), leaf.root.dtype), typ=I64) for i in range(2)]
        return self.one.load(pointer, self.words.offset(leaf), leaf.root.dtype)

    def _number(self, leaf: Scalar) -> Any:
        word, of = self.words.constant(leaf), scalar_type(leaf.root.dtype)
        if leaf.root.dtype in dtypes.FLOATING:
            number = self.b.bitcast(word, F64)
            return number if of == F64 else self.b.fptrunc(number, of)
        return word if of == I64 else self.b.trunc(word, of)

    def at_row(self, row: Any, index: list[Any] | None = None) -> None:
        """Set up addresses for the row of this number, whose index along each dim may be known."""
        self.row_cache = {}
        self.base = self.b.mul(row, self.words.inner)
        index = self._decompose(row, self.words.extents) if index is None else index
        for leaf in (*self.loop.leaves.values(), *self.loop.places.values()):
            if isinstance(leaf, Leaf) and leaf.level in ("full", "row", "place"):
                self.offsets[leaf] = self._offset(leaf, index)
            if isinstance(leaf, Leaf) and leaf.level == "row":
                found = self.one.load(self.pointer[leaf.root], self.offsets[leaf], leaf.root.dtype)
                self.row_cache[leaf] = self.e.splat(found)

    def at_item(self, item: Any) -> None:
        """Set up addresses of what maps on row values read."""
        self.row_values = {}
        above = len(self.loop.extents) - self.loop.parts_dims
        index = self._decompose(item, self.words.extents[:above])
        for leaf in self.loop.leaves.values():
            if isinstance(leaf, Leaf) and leaf.level == "item":
                self.offsets[leaf] = self._offset(leaf, index)

    @contextmanager
    def rows(self, begin: Any, end: Any) -> Iterator[Any]:
        """A loop over rows, with addresses set up: the index along each dim counts on, since dividing takes long."""
        b, extents = self.b, self.words.extents
        places = [self.e.variable(I64, i) for i in self._decompose(begin, extents)]
        with self.e.loop(begin, end) as row:
            index = [b.load(place, typ=I64) for place in places]
            self.at_row(row, index)
            yield row
            carry: Any = I64(1)
            for i, place, extent in zip(reversed(index), reversed(places), reversed(extents), strict=True):
                moved = b.add(i, carry)
                full = b.icmp_signed("==", moved, extent)
                b.store(b.select(full, I64(0), moved), place)
                carry = b.zext(full, I64)

    def _decompose(self, index: Any, extents: list[Any]) -> list[Any]:
        parts: list[Any] = []
        for extent in reversed(extents[1:]):
            parts.append(self.b.urem(index, extent))
            index = self.b.udiv(index, extent)
        return [*([index] if extents else []), *reversed(parts)]

    def _offset(self, leaf: Leaf, index: list[Any]) -> Any:
        total = self.words.offset(leaf)
        for number, (i, stride) in enumerate(zip(index, leaf.outer, strict=True)):
            if stride:
                total = self.b.add(total, self.b.mul(i, self.words.stride(leaf, number)))
        return total

    def _read(self, leaf: Any, index: Any) -> Any:
        if leaf in self.hoisted:
            return self.e.splat(self.hoisted[leaf])
        pointer, dtype = self.pointer[leaf.root], leaf.root.dtype
        offset = self.offsets.get(leaf, I64(0)) if self.loop.structure != "flat" or self.loop.columns else None
        if offset is None:
            offset = self.words.offset(leaf)
        if leaf.level == "row":
            return self.row_cache[leaf]
        if leaf.level == "turn":
            return self.e.load(pointer, self.b.add(self.words.offset(leaf), self.turn), dtype)
        if leaf.inner == 1:
            return self.e.load(pointer, self.b.add(offset, index), dtype)
        stride = self.words.stride(leaf, -1)
        return self.e.load_strided(pointer, self.b.add(offset, self.b.mul(index, stride)), stride, dtype)

    # --- values -------------------------------------------------------------------------------------------

    def value(self, source: Any, index: Any) -> Any:
        """A leaf or a member for the elements from ``index`` of the row on."""
        if source in self.cache:
            return self.cache[source]
        if not isinstance(source, Value):
            found = self._read(source, index)
        elif self.loop.cluster.members[source] == ROW:
            found = self.e.splat(self.row_values[source])
        else:
            found = self._member(source, index)
        self.cache[source] = found
        return found

    def _member(self, value: Value, index: Any) -> Any:
        loop = self.loop
        if loop.cluster.stages[value] < self.stage and not loop.again(value):
            if value in self.targets:
                return self.e.load(self.targets[value], self._at(value, index), value.dtype)
            return self.e.load(self.kept[value], self.b.add(self.within, index), value.dtype)
        op = loop.maker[value]
        if op.name == "random_bits":
            seed, draw = self.hoisted[loop.args[op][0]]
            return elementwise.philox(self.e, seed, draw, self.b.add(self.base, index))
        return self._apply(self.e, op, [self.value(s, index) for s in loop.args[op]])

    def _apply(self, e: Emitter, op: Op, args: list[Any]) -> Any:
        types = [view.root.dtype for view in op.inputs]
        return elementwise.lower(e, op.name, args, types, op.outputs[0].dtype, op.static)

    def _at(self, value: Value, index: Any) -> Any:
        """Where in its buffer a result goes."""
        place = self.loop.places.get(value)
        if place is None:
            return self.b.add(self.base, index)
        return self.b.add(self.offsets[place] if place in self.offsets else self.words.offset(place), index)

    def _parts(self, value: Value, index: Any) -> list[Any]:
        """The elements of a value, or those of each part of a "concat"."""
        op = self.loop.maker[value]
        return [self.value(source, index) for source in (self.loop.args[op] if op.name == "concat" else [value])]

    turn: Any = I64(0)  # the index within one of the rows that are one
    within: Any = I64(0)  # of a row that has several parts, where this one begins

    def elements(self, index: Any, stage: int = 0, known: dict[Value, Any] | None = None) -> None:
        """All that the pass of this stage does with the elements from ``index`` on."""
        self.cache, self.stage = dict(known or {}), stage
        loop = self.loop
        found_values = [(value, self._parts(value, index)) for value in loop.wanted(stage)]
        for value, parts in found_values:  # all is read before the first is written, which may be in place
            if value in self.kept:
                self.e.store(parts[0], self.kept[value], self.b.add(self.within, index), value.dtype)
                continue
            at = self._at(value, index)
            for i, found in enumerate(parts):
                at = self.b.add(at, self.words.part(loop.places[value])) if i else at
                self.e.store(found, self.targets[value], at, value.dtype)
        for op in loop.reductions(stage):
            self.take_in(op, self.value(loop.args[op][0], index), index)
        self.cache = {}

    def take_in(self, op: Op, value: Any, index: Any) -> None:
        """Add elements to a reduction."""
        raise NotImplementedError

    def row_maps(self, stage: int, item: Any) -> None:
        """Maps on row values that are known by now."""
        loop, one = self.loop, self.one
        for op in loop.row_maps(stage):
            args = []
            for source in loop.args[op]:
                if isinstance(source, Value):
                    args.append(self.row_values[source])
                elif source in self.hoisted:
                    args.append(self.hoisted[source])
                else:
                    args.append(one.load(self.pointer[source.root], self.offsets[source], source.root.dtype))
            self.row_values[op.outputs[0]] = self._apply(one, op, args)
        for value in loop.stored:
            if loop.cluster.members[value] == ROW and loop.cluster.stages[value] == stage:
                one.store(self.row_values[value], self.targets[value], item, value.dtype)


class LoopBody(Body):
    """A body with reductions: over rows in registers, over columns and everything for each chunk."""

    def __init__(self, loop: Loop, frame: Frame, pointers: list[Any], words: Words) -> None:
        super().__init__(loop, frame, pointers, words)
        self.sums: dict[Op, Any] = {}
        self.late = dict(zip(loop.late, pointers[len(loop.buffers) + len(loop.stored) :], strict=False))
        for value in loop.saved:
            self.kept[value] = self._scratch(words.scratch(value))
        for op in loop.late:
            if loop.cluster.reductions[op].kind == "column":
                self.sums[op] = self._scratch(words.scratch(op))

    def _scratch(self, offset: Any) -> Any:
        return self.b.gep(self.frame.scratch, [offset], source_etype=ir.IntType(8))

    # --- reductions ---------------------------------------------------------------------------------------

    def begin(self, ops: list[Op]) -> None:
        """Start sums, in registers."""
        for op in ops:
            dtype = accumulated(op)
            start = identity(self.e, op.name, dtype)
            self.sums[op] = self.e.variable(self.e.of(dtype), start)

    def take_in(self, op: Op, value: Any, index: Any) -> None:
        """Add elements to a reduction."""
        e, dtype = self.e, accumulated(op)
        if self.loop.cluster.reductions[op].kind == "column":
            at = self.b.add(self.column, index)
            with e.masked(self._column_mask()):
                before = e.load(self.sums[op], at, dtype)
                e.store(combine(e, op.name, before, value, dtype), self.sums[op], at, dtype)
            return
        if e.mask is not None and e.width > 1:
            value = e.select(e.mask, value, identity(e, op.name, dtype))
        place = self.sums[op]
        before = self.b.load(place, typ=e.of(dtype))
        self.b.store(combine(e, op.name, before, value, dtype), place)

    def _column_mask(self) -> Any:
        """Which lanes of a row of sums to load and store.

        All of them, if there is room: a masked store that is loaded again at once takes three times as long.
        """
        return self.e.mask if self.loop.columns_in_rows else None

    column: Any = I64(0)  # where in the row of sums this row goes

    def result(self, op: Op) -> Any:
        """A sum over all lanes."""
        dtype = accumulated(op)
        lanes = self.b.load(self.sums[op], typ=self.e.of(dtype))
        return self.e.tree(lanes, lambda a, b: combine(self._lanes_of(a), op.name, a, b, dtype))

    def _lanes_of(self, x: Any) -> Emitter:
        count = x.type.count if isinstance(x.type, ir.VectorType) else 1
        return Emitter(self.b, count, self.frame.status)

    def clear_columns(self) -> None:
        """Start the rows of sums."""
        for op in self.loop.late:
            if op in self.sums and self.loop.cluster.reductions[op].kind == "column":
                dtype, place = accumulated(op), self.sums[op]

                def clear(i: Any, op: Op = op, dtype: Any = dtype, place: Any = place) -> None:
                    with self.e.masked(self._column_mask()):
                        self.e.store(identity(self.e, op.name, dtype), place, i, dtype)

                self.e.blocks(self.words.columns, clear)

    def finish_columns(self, number: Any) -> None:
        """Write the rows of sums of this chunk or block."""
        for op in self.loop.late:
            if self.loop.cluster.reductions[op].kind == "column":
                base = self.b.mul(number, self.words.columns)
                self._finish_column(op, base)

    def _finish_column(self, op: Op, base: Any) -> None:
        dtype, place, target = accumulated(op), self.sums[op], self.late[op]
        out = self.words.late_dtype(op)

        def write(i: Any) -> None:
            self.e.store(self.e.load(place, i, dtype), target, self.b.add(base, i), out)

        self.e.blocks(self.words.columns, write)

    def finish_totals(self, chunk: Any) -> None:
        """Write the totals of this chunk."""
        for op in self.loop.late:
            if self.loop.cluster.reductions[op].kind == "all":
                self.one.store(self.result(op), self.late[op], chunk, self.words.late_dtype(op))


def write_loop(loop: Loop, frame: Frame, body: LoopBody, words: Words) -> None:
    """Write the loop of a cluster into a kernel."""
    b, e = frame.b, frame.e
    body.begin([op for op in loop.late if loop.cluster.reductions[op].kind == "all"])
    if loop.structure == "columns":
        _blocks_of_rows(loop, frame, body, words)
        return
    if loop.late:
        body.clear_columns()
    if loop.structure == "flat":
        first = b.mul(frame.begin, I64(BLOCK))
        last = smaller(b, b.mul(frame.end, I64(BLOCK)), words.n)
        if e.width == 1:
            body.elements(I64(0))
        else:
            e.blocks(b.sub(last, first), lambda i: body.elements(b.add(first, i)))
    elif loop.structure == "reduce":
        with e.loop(frame.begin, frame.end) as item:
            _reduced_row(loop, body, words, item)
    else:
        with body.rows(frame.begin, frame.end) as item:
            body.column = _column(loop, body, words, item)
            e.blocks(words.row_length, _in_turn(body, words) if loop.turns else body.elements, loop.even)
    if loop.late:
        chunk = b.udiv(frame.begin, words.grain)
        body.finish_columns(chunk)
        body.finish_totals(chunk)


def _in_turn(body: LoopBody, words: Words) -> Callable[[Any], None]:
    """What a pass over a row does that is several, with the index within each, which counts on."""
    b, place = body.b, body.e.variable(I64, I64(0))

    def elements(index: Any) -> None:
        body.turn = b.load(place, typ=I64)
        body.elements(index)
        after = b.add(body.turn, I64(LANES))
        b.store(b.select(b.icmp_signed("==", after, words.turn), I64(0), after), place)

    return elements


def _column(loop: Loop, body: LoopBody, words: Words, row: Any) -> Any:
    """Where in the row of sums a row begins: 0, unless the columns are several rows."""
    if not loop.columns_in_rows:
        return I64(0)
    b = body.b
    return b.mul(b.urem(row, b.udiv(words.columns, words.inner)), words.inner)


def _blocks_of_rows(loop: Loop, frame: Frame, body: LoopBody, words: Words) -> None:
    e, b = frame.e, frame.b
    with e.loop(frame.begin, frame.end) as block:
        body.clear_columns()
        with e.loop(I64(0), words.n) as i:
            row = b.add(b.mul(block, words.n), i)
            body.at_row(row)
            body.column = _column(loop, body, words, i)
            e.blocks(words.row_length, body.elements, loop.even)
        body.finish_columns(block)


def _reduced_row(loop: Loop, body: LoopBody, words: Words, item: Any) -> None:
    """Passes over one row: each as far as the reductions of the ones before allow."""
    body.at_item(item)
    if loop.parts == 1:
        body.at_row(item)
    for stage in range(loop.stages + 1):
        sums = loop.reductions(stage)
        in_row = [op for op in sums if loop.cluster.reductions[op].kind == "row"]
        if sums or loop.wanted(stage):
            body.begin(in_row)
            _pass(loop, body, words, item, stage)
        for op in in_row:
            body.row_values[op.outputs[0]] = _rounded(body, op)
        body.row_maps(stage + 1, item)


def _rounded(body: LoopBody, op: Op) -> Any:
    """The sum in the precision of its dtype: 16-bit floats are rounded once."""
    total, out = body.result(op), op.outputs[0].dtype
    if out not in dtypes.HALF:
        return total
    return body.one.from_memory(body.one.to_memory(total, out), out)


def _pass(loop: Loop, body: LoopBody, words: Words, item: Any, stage: int) -> None:
    b, e = body.b, body.e
    elements: Callable[[Any], None] = lambda i: body.elements(i, stage)  # noqa: E731
    if loop.parts == 1:
        e.blocks(words.row_length, elements, loop.even)
        return
    parts = b.udiv(I64(loop.cluster.row), words.inner)
    with e.loop(I64(0), parts) as part:
        body.at_row(b.add(b.mul(item, parts), part))
        body.within = b.mul(part, words.inner)
        e.blocks(words.row_length, elements, loop.even)
    body.within = I64(0)
