"""Kernels that read and write at places which are values: gathers, scatters, slices with computed starts.

An index outside of its axis is noted as a fault and its row is left out, so nothing is read or written out of bounds;
the program's results are then thrown away.

A scatter is cut by destination: an item owns a block of rows of the result, copies it from ``x``, then goes through
all indices and takes those that point into its block, in order. So several updates to one row are added in the same
order for any number of threads, of several that are set the last one stands, and no thread writes where another does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from .. import dtypes
from ..dtypes import DType
from ..graph.ir import Node, Value
from .kernel import Call, Code, Frame, Lowered, Ref
from .moving import copied, copy_call, grain_for, moved, plan_copy, scalar, split
from .running import add, real_parts
from .vector import I1, I64, Emitter, is_signed, scalar_type, smaller
from .views import row_major

_BLOCK_BYTES = 65536
"""A scatter's item has at least so many bytes of result and updates."""

_MOST_BLOCKS = 64


def _index(e: Emitter, buffer: Any, i: Any, extent: Any, dtype: DType) -> Any:
    """Index number ``i``, counted from the front. As an unsigned number it is too large if it is outside."""
    b = e.b
    index = e.load(buffer, i, dtype)
    if dtype.itemsize < 8:
        index = b.sext(index, I64) if is_signed(dtype) else b.zext(index, I64)
    if not is_signed(dtype):
        return index
    return b.select(b.icmp_signed("<", index, I64(0)), b.add(index, extent), index)


def _place(e: Emitter, buffers: Sequence[Any], i: Any, extents: Sequence[Any], kinds: Sequence[DType]) -> Any:
    """Row number to which the indices number ``i`` point, and whether all are in range; notes a fault if not."""
    b = e.b
    place, fine = I64(0), I1(1)
    for buffer, extent, dtype in zip(buffers, extents, kinds, strict=True):
        index = _index(e, buffer, i, extent, dtype)
        fine = b.and_(fine, b.icmp_unsigned("<", index, extent))
        place = b.add(b.mul(place, extent), index)
    e.fault(b.not_(fine))
    return place, fine


def _names(kinds: Sequence[DType]) -> str:
    return ",".join(d.name for d in kinds)


# --- gather -----------------------------------------------------------------------------------------------


def _lower_gather(node: Node) -> Lowered | None:
    x, *indices = node.inputs
    kinds, rank = [i.dtype for i in indices], len(indices)
    bits, parts = moved(x.dtype)
    rest = math.prod(x.shape[rank:]) * parts
    single = rest == 1
    block, blocks = split(rest, bits.itemsize)
    blocks = max(1, blocks)  # faults are noted even if rows are empty

    def build(module: ir.Module, name: str) -> None:
        frame = Frame(module, name, rank + 2, rank if single else rank + 3)
        _emit_gather(frame, bits, kinds, single)
        frame.done()

    key = f"gather/{bits.itemsize}/{_names(kinds)}/{'single' if single else 'rows'}"
    words = x.shape[:rank] if single else (*x.shape[:rank], rest, block, blocks)
    refs = (Ref("in", 0), Ref("out", 0), *(Ref("in", 1 + i) for i in range(rank)))
    items = indices[0].size * (1 if single else blocks)
    grain = grain_for(block * bits.itemsize + 8)
    return _lowered(Call(Code(key, build), refs, tuple(words), items, grain, flops=indices[0].size * rest))


def _emit_gather(frame: Frame, bits: DType, kinds: Sequence[DType], single: bool) -> None:
    b, e, rank = frame.b, scalar(frame), len(kinds)
    source, target, *indices = frame.buffers
    extents, sizes = frame.words[:rank], frame.words[rank:]
    with e.loop(frame.begin, frame.end) as item:
        if single:
            place, fine = _place(e, indices, item, extents, kinds)
            with b.if_then(fine, likely=True):
                e.store(e.load(source, place, bits), target, item, bits)
            return
        rest, block, blocks = sizes
        row, start = b.udiv(item, blocks), b.mul(b.urem(item, blocks), block)
        place, fine = _place(e, indices, row, extents, kinds)
        with b.if_then(fine, likely=True):
            at, to = (e.address(p, b.add(b.mul(r, rest), start), bits) for p, r in ((source, place), (target, row)))
            copied(frame.e, at, to, smaller(b, block, b.sub(rest, start)), bits)


# --- scatter ----------------------------------------------------------------------------------------------


def _is_zero(value: Value) -> bool:
    """Whether a value is known to be all zeros, as is what gradients are scattered into."""
    while value.node is not None and value.node.primitive.name in ("broadcast_to", "reshape"):
        value = value.node.inputs[0]
    array = value.graph.constants.get(value)
    return array is not None and not array.any()


class _Scatter:
    """How a scatter is done.

    Attributes:
        kind: "add" or "set".
        stored: dtype of the elements; moved as bits if they are set.
        computed: dtype in which they are added: 16-bit floats are added in float32 and rounded once, which takes a
            temporary buffer.
        kinds: dtypes of the indices.
        single: whether rows have one element.
        zero: whether ``x`` is all zeros and need not be read.
    """

    def __init__(self, kind: str, node: Node, in_place: bool = False) -> None:
        x, _, *indices = node.inputs
        self.kind, self.kinds, self.in_place = kind, [i.dtype for i in indices], in_place
        self.stored, parts = moved(x.dtype) if kind == "set" else real_parts(x.dtype)
        self.computed = dtypes.float32 if self.stored in dtypes.HALF else self.stored
        self.rank = len(indices)
        self.rows = math.prod(x.shape[: self.rank])
        self.rest = math.prod(x.shape[self.rank :]) * parts
        self.count = indices[0].size
        self.single, self.zero = self.rest == 1, _is_zero(x)
        self.extents = x.shape[: self.rank]

    @property
    def widened(self) -> bool:
        """Whether sums are kept in a temporary buffer."""
        return self.computed != self.stored

    def call(self) -> Lowered:
        """The call."""
        size = self.rest * self.stored.itemsize
        touched = self.count if self.in_place else self.rows + self.count
        blocks = touched * size // _BLOCK_BYTES
        # Every block looks at all indices, which must not cost more than a fraction of the work itself.
        blocks = min(blocks, _MOST_BLOCKS, 1 + touched * self.rest // (16 * max(1, self.count)))
        block = -(-self.rows // max(1, blocks)) or 1
        n_buffers = 3 + self.rank + self.widened

        def build(module: ir.Module, name: str) -> None:
            frame = Frame(module, name, n_buffers, self.rank + 4)
            self._emit(frame)
            frame.done()

        shape = f"{'single' if self.single else 'rows'}{'/zero' if self.zero else ''}{'/in place' * self.in_place}"
        code = Code(f"scatter/{self.kind}/{self.stored.name}/{_names(self.kinds)}/{shape}", build)
        refs = [Ref("in", 0), Ref("out", 0), Ref("in", 1), *(Ref("in", 2 + i) for i in range(self.rank))]
        temps = [self.rows * self.rest * self.computed.itemsize] if self.widened else []
        refs += [Ref("temp", 0)] * self.widened
        words = (*self.extents, self.rows, self.rest, self.count, block)
        items = max(1, -(-self.rows // block))
        flops = touched * self.rest
        return Lowered([Call(code, tuple(refs), words, items, 1, flops)], temps)

    def _emit(self, frame: Frame) -> None:
        b, e, rank = frame.b, scalar(frame), self.rank
        source, target, updates, *indices = frame.buffers
        sums = indices.pop() if self.widened else target
        rows, rest, count, block = frame.words[rank:]
        with e.loop(frame.begin, frame.end) as item:
            low = b.mul(item, block)
            high = smaller(b, b.add(low, block), rows)
            first, n = b.mul(low, rest), b.mul(b.sub(high, low), rest)
            if not self.in_place:
                self._start(frame.e, source, sums, first, n)
            with e.loop(I64(0), count) as i:
                place, fine = _place(e, indices, i, frame.words[:rank], self.kinds)
                mine = b.and_(b.icmp_signed(">=", place, low), b.icmp_signed("<", place, high))
                with b.if_then(b.and_(fine, mine)):
                    self._update(frame, updates, sums, i, place, rest)
            if self.widened:
                self._converted(frame.e, sums, target, first, n, self.computed, self.stored)

    def _start(self, e: Emitter, source: Any, sums: Any, first: Any, n: Any) -> None:
        """Fill the block with ``x``."""
        if not self.zero:
            self._converted(e, source, sums, first, n, self.stored, self.computed)
            return
        to, nothing = e.address(sums, first, self.computed), e.const(scalar_type(self.computed), 0)
        e.blocks(n, lambda i: e.store(nothing, to, i, self.computed))

    def _converted(self, e: Emitter, source: Any, target: Any, first: Any, n: Any, given: DType, made: DType) -> None:
        at, to = e.address(source, first, given), e.address(target, first, made)
        e.blocks(n, lambda i: e.store(e.load(at, i, given), to, i, made))

    def _update(self, frame: Frame, updates: Any, sums: Any, i: Any, place: Any, rest: Any) -> None:
        """Bring update number ``i`` to its row."""
        b = frame.b

        def elements(e: Emitter, at: Any, to: Any, j: Any) -> None:
            value = e.load(at, j, self.stored)
            if self.kind == "add":
                value = add(e, e.load(to, j, self.computed), value, self.computed)
            e.store(value, to, j, self.computed)

        if self.single:
            e = scalar(frame)
            elements(e, e.address(updates, i, self.stored), e.address(sums, place, self.computed), I64(0))
            return
        e = frame.e
        at, to = e.address(updates, b.mul(i, rest), self.stored), e.address(sums, b.mul(place, rest), self.computed)
        e.blocks(rest, lambda j: elements(e, at, to, j))


def _lower_scatter_add(node: Node) -> Lowered | None:
    return None if node.inputs[0].dtype == dtypes.bool_ else _Scatter("add", node).call()


def _lower_scatter_set(node: Node) -> Lowered | None:
    return _Scatter("set", node).call()


def scatter_in_place(node: Node) -> Lowered | None:
    """The call of a scatter whose result takes the memory of ``x``; None if it needs a temporary buffer."""
    scatter = _Scatter(node.primitive.name.removeprefix("scatter_"), node, in_place=True)
    return None if scatter.widened else scatter.call()


# --- slices whose start is a value ------------------------------------------------------------------------


def _start(frame: Frame, starts: Sequence[Any], words: Sequence[Any], kinds: Sequence[DType]) -> Any:
    """Offset of the first element; words are extent, size and stride of each axis. Starts are kept within bounds."""
    b, e = frame.b, scalar(frame)
    offset, fine = I64(0), I1(1)
    for axis, (buffer, dtype) in enumerate(zip(starts, kinds, strict=True)):
        extent, size, stride = words[3 * axis : 3 * axis + 3]
        start = _index(e, buffer, I64(0), extent, dtype)
        inside = b.icmp_unsigned("<=", start, b.sub(extent, size))
        start = b.select(inside, start, I64(0))
        offset, fine = b.add(offset, b.mul(start, stride)), b.and_(fine, inside)
    e.fault(b.not_(fine))
    return offset


def _moving_window(node: Node, part: tuple[int, ...], x: Value, first_start: int, update: bool) -> Call:
    """A copy between a part of ``x`` and a buffer of the part's own order, the part's place being computed."""
    starts = node.inputs[first_start:]
    kinds = [s.dtype for s in starts]
    strides = row_major(x.shape)
    bits, parts = moved(x.dtype)
    copy = plan_copy(part, row_major(part), x.dtype, strides) if update else plan_copy(part, strides, x.dtype)
    n = len(copy.words)
    words = [w for axis in zip(x.shape, part, (s * parts for s in strides), strict=True) for w in axis]

    def build(module: ir.Module, name: str) -> None:
        frame = Frame(module, name, 2 + len(kinds), n + 3 * len(kinds))
        source, target, *places = frame.buffers
        offset = _start(frame, places, frame.words[n:], kinds)
        if update:
            target = frame.e.address(target, offset, bits)
        else:
            source = frame.e.address(source, offset, bits)
        copy.emit(frame, frame.words[:n], source, target)
        frame.done()

    key = f"window {'update' if update else 'slice'}/{copy.key}/{_names(kinds)}"
    refs = [Ref("in", int(update)), Ref("out", 0), *(Ref("in", first_start + i) for i in range(len(kinds)))]
    # At least one item, since a wrong start of an empty part is a fault as well.
    items = max(1, copy.items) if kinds else copy.items
    return Call(Code(key, build), tuple(refs), (*copy.words, *words), items, copy.grain, flops=math.prod(part))


def _lower_dynamic_slice(node: Node) -> Lowered | None:
    return _lowered(_moving_window(node, tuple(node.static["sizes"]), node.inputs[0], 1, update=False))


def _lower_dynamic_update_slice(node: Node) -> Lowered | None:
    x, update = node.inputs[:2]
    whole = copy_call((x.size,), (1,), x.dtype)
    return _lowered(whole, _moving_window(node, tuple(update.shape), x, 2, update=True))


def _lowered(*calls: Call) -> Lowered:
    return Lowered([call for call in calls if call.items])


LOWER: dict[str, Callable[[Node], Lowered | None]] = {
    "gather": _lower_gather,
    "scatter_add": _lower_scatter_add,
    "scatter_set": _lower_scatter_set,
    "dynamic_slice": _lower_dynamic_slice,
    "dynamic_update_slice": _lower_dynamic_update_slice,
}
