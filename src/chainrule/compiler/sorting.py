"""Sorting lines, and the places of extrema.

A line is sorted as words: the upper bits are a key, an unsigned integer whose order is that of the elements, the lower
32 bits the element's place. So all words differ, equal elements keep their order, and NaN comes last; a descending
order has all bits of the key turned. Runs of a few words are sorted by insertion, then runs are merged, each time twice
as long, back and forth between two halves of the thread's scratch memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from .. import dtypes
from ..dtypes import DType
from ..graph.ir import Node
from .kernel import Call, Code, Frame, Lowered, Ref
from .moving import grain_for, moved, scalar
from .running import above, around, blocks_of, columns, compared
from .vector import I32, I64, LANES, PTR, Emitter, is_float, is_signed, smaller

RUN = 12
"""Runs of this length are sorted by insertion."""

_PLACE_BITS = 32
_LONGEST = 2**31 - 1
_INFINITY = {
    dtypes.float16: 0x7C00, dtypes.bfloat16: 0x7F80, dtypes.float32: 0x7F800000, dtypes.float64: 0x7FF << 52,
}  # fmt: skip


def _key(e: Emitter, bits: Any, dtype: DType, descending: bool) -> Any:
    """An unsigned integer that orders elements as sorting does, from their bits."""
    b, width = e.b, bits.type.width
    sign = ir.Constant(bits.type, 1 << (width - 1))
    if is_float(dtype):
        magnitude = b.and_(bits, b.not_(sign))
        negative = b.icmp_signed("<", bits, e.like(bits, 0))
        # Zeros of both signs are equal, and so are all NaNs.
        key = b.select(negative, b.sub(sign, magnitude), b.add(sign, magnitude))
        nan = b.icmp_unsigned(">", magnitude, e.like(bits, _INFINITY[dtype]))
        key = b.select(nan, e.like(bits, -1), key)
    else:
        key = b.xor(bits, sign) if is_signed(dtype) else bits
    return b.not_(key) if descending else key


@contextmanager
def _while(b: Any, test: Callable[[], Any]) -> Iterator[None]:
    """A loop as long as a condition holds, which is computed before each round."""
    head, body, after = (b.append_basic_block(n) for n in ("test", "round", "after"))
    b.branch(head)
    b.position_at_end(head)
    b.cbranch(test(), body, after)
    b.position_at_end(body)
    yield
    b.branch(head)
    b.position_at_end(after)


class _Sorter:
    """Emits the sorting of words in memory."""

    def __init__(self, e: Emitter, word: Any) -> None:
        self.e, self.b, self.word = e, e.b, word

    def at(self, base: Any, i: Any) -> Any:
        return self.b.gep(base, [i], source_etype=self.word)

    def load(self, base: Any, i: Any) -> Any:
        return self.b.load(self.at(base, i), align=8, typ=self.word)

    def store(self, value: Any, base: Any, i: Any) -> None:
        self.b.store(value, self.at(base, i), align=8)

    def insertion(self, base: Any, n: Any) -> None:
        """Sort each run of `RUN` words."""
        b, e = self.b, self.e
        place = e.variable(I64)
        with e.loop(I64(0), n, RUN) as low:
            high = smaller(b, b.add(low, I64(RUN)), n)
            with e.loop(b.add(low, I64(1)), high) as i:
                value = self.load(base, i)
                b.store(i, place)
                done = b.append_basic_block("placed")

                def behind_its_left(low: Any = low) -> Any:
                    return b.icmp_signed(">", b.load(place), low)

                with _while(b, behind_its_left):
                    j = b.load(place)
                    before = b.sub(j, I64(1))
                    left = self.load(base, before)
                    go_on = b.append_basic_block("move")
                    b.cbranch(b.icmp_unsigned(">", left, value), go_on, done)
                    b.position_at_end(go_on)
                    self.store(left, base, j)
                    b.store(before, place)
                b.branch(done)
                b.position_at_end(done)
                self.store(value, base, b.load(place))

    def merges(self, first: Any, second: Any, n: Any) -> Any:
        """Merge runs until there is one; gives the buffer in which it is."""
        b, e = self.b, self.e
        source, target = e.variable(PTR, first), e.variable(PTR, second)
        length = e.variable(I64, I64(RUN))
        with _while(b, lambda: b.icmp_signed("<", b.load(length), n)):
            run = b.load(length)
            given, made = b.load(source), b.load(target)
            low = e.variable(I64)
            b.store(I64(0), low)
            with _while(b, lambda: b.icmp_signed("<", b.load(low), n)):
                start = b.load(low)
                middle = smaller(b, b.add(start, run), n)
                end = smaller(b, b.add(middle, run), n)
                self._merge(given, made, start, middle, end)
                b.store(end, low)
            b.store(made, source)
            b.store(given, target)
            b.store(b.shl(run, I64(1)), length)
        return b.load(source)

    def _merge(self, given: Any, made: Any, start: Any, middle: Any, end: Any) -> None:
        """Merge two neighbouring runs; which word is taken is a choice of values, not a branch."""
        b, e = self.b, self.e
        left, right, to = (e.variable(I64) for _ in range(3))
        for place, initial in ((left, start), (right, middle), (to, start)):
            b.store(initial, place)

        def both() -> Any:
            return b.and_(b.icmp_signed("<", b.load(left), middle), b.icmp_signed("<", b.load(right), end))

        with _while(b, both):
            i, j, k = b.load(left), b.load(right), b.load(to)
            x, y = self.load(given, i), self.load(given, j)
            from_right = b.icmp_unsigned("<", y, x)
            self.store(b.select(from_right, y, x), made, k)
            step = b.zext(from_right, I64)
            b.store(b.add(i, b.sub(I64(1), step)), left)
            b.store(b.add(j, step), right)
            b.store(b.add(k, I64(1)), to)
        for rest, limit in ((left, middle), (right, end)):
            i, k = b.load(rest), b.load(to)
            count = b.sub(limit, i)
            with e.loop(I64(0), count) as step:
                self.store(self.load(given, b.add(i, step)), made, b.add(k, step))
            b.store(b.add(k, count), to)


def _emit_sort(frame: Frame, dtype: DType, descending: bool, values: bool, places: bool) -> None:
    b, e = frame.b, scalar(frame)
    n, inner, kept = frame.words
    source, *targets = frame.buffers
    bits, _ = moved(dtype)
    word = ir.IntType(128) if dtype.itemsize == 8 else I64
    sorter = _Sorter(e, word)
    second = sorter.at(frame.scratch, n)
    with e.loop(frame.begin, frame.end) as line:
        place, column = b.udiv(line, inner), b.urem(line, inner)
        first = b.add(b.mul(b.mul(place, n), inner), column)
        with e.loop(I64(0), n) as i:
            key = _key(e, e.load(source, b.add(first, b.mul(i, inner)), bits), dtype, descending)
            shifted = b.shl(b.zext(key, word), ir.Constant(word, _PLACE_BITS))
            sorter.store(b.or_(shifted, b.zext(i, word) if word != I64 else i), frame.scratch, i)
        sorter.insertion(frame.scratch, n)
        result = sorter.merges(frame.scratch, second, n)
        to = b.add(b.mul(b.mul(place, kept), inner), column)
        with e.loop(I64(0), kept) as i:
            origin = b.zext(b.trunc(sorter.load(result, i), I32), I64)
            at = b.add(to, b.mul(i, inner))
            if values:
                value = e.load(source, b.add(first, b.mul(origin, inner)), bits)
                e.store(value, targets[0], at, bits)
            if places:
                e.store(origin, targets[-1], at, dtypes.int64)


def _sort_call(node: Node, axis: int, kept: int | None, descending: bool, values: bool, places: bool) -> Lowered | None:
    x = node.inputs[0]
    if x.dtype in dtypes.COMPLEX or (x.size and x.shape[axis] > _LONGEST):
        return None
    if not node.outputs[0].size:
        return Lowered([])
    outer, n, inner = around(x.shape, axis)

    def build(module: ir.Module, name: str) -> None:
        frame = Frame(module, name, 1 + values + places, 3)
        _emit_sort(frame, x.dtype, descending, values, places)
        frame.done()

    key = f"sort/{x.dtype.name}/{int(descending)}{int(values)}{int(places)}"
    refs = (Ref("in", 0), *(Ref("out", i) for i in range(values + places)))
    levels = max(1, math.ceil(math.log2(n / RUN)) + 3) if n > RUN else 3
    word = 16 if x.dtype.itemsize == 8 else 8
    call = Call(
        Code(key, build),
        refs,
        (n, inner, n if kept is None else kept),
        items=outer * inner,
        grain=grain_for(n * levels * word),
        flops=n * levels * outer * inner,
        scratch=2 * n * word,
    )
    return Lowered([call])


def _lower_sort(node: Node) -> Lowered | None:
    return _sort_call(node, node.static["axis"], None, node.static["descending"], values=True, places=False)


def _lower_argsort(node: Node) -> Lowered | None:
    return _sort_call(node, node.static["axis"], None, node.static["descending"], values=False, places=True)


def _lower_top_k(node: Node) -> Lowered | None:
    last = node.inputs[0].ndim - 1
    return _sort_call(node, last, node.static["k"], descending=True, values=True, places=True)


# --- places of extrema ------------------------------------------------------------------------------------


class _Best:
    """The best element so far and its place, in each lane."""

    def __init__(self, e: Emitter, dtype: DType, sign: str, value: Any) -> None:
        self.e, self.dtype, self.sign = e, dtype, sign
        self.value = e.variable(value.type, value)
        zero = e.const(I64, 0)
        self.place = e.variable(zero.type, zero)

    def offer(self, x: Any, place: Any) -> None:
        """Take ``x`` if it is better: the first of equals stays, and so does the first NaN."""
        e, b = self.e, self.e.b
        best = b.load(self.value)
        better = above(e, x, best, self.dtype, self.sign)
        if is_float(self.dtype):
            better = b.and_(better, b.fcmp_ordered("ord", best, best))
        if e.mask is not None:
            better = b.and_(better, e.mask)
        b.store(e.select(better, x, best), self.value)
        b.store(e.select(better, place, b.load(self.place)), self.place)


def _emit_columns(frame: Frame, dtype: DType, sign: str) -> None:
    """Lanes are neighbouring columns, each with its own best element."""
    n, inner, blocks = frame.words
    source, target = frame.buffers

    def column(e: Emitter, place: Any, first: Any) -> None:
        best = _Best(e, dtype, sign, e.load(source, first, dtype))
        with e.loop(I64(1), n) as i:
            at = e.b.add(first, e.b.mul(i, inner))
            best.offer(e.load(source, at, dtype), e.splat(i))
        e.store(e.b.load(best.place), target, place, dtypes.int64)

    columns(frame, inner, blocks, n, column)


def _emit_lines(frame: Frame, dtype: DType, sign: str) -> None:
    """Lanes are parts of one line: every 16th element; then the best lane is found."""
    b, e = frame.b, frame.e
    (n,) = frame.words
    source, target = frame.buffers
    with e.loop(frame.begin, frame.end) as line:
        base = e.address(source, b.mul(line, n), dtype)
        best = _Best(e, dtype, sign, e.load_one(base, I64(0), dtype))
        e.blocks(n, lambda i: best.offer(e.load(base, i, dtype), b.add(e.splat(i), e.lanes())))
        values, places = b.load(best.value), b.load(best.place)
        e1 = scalar(frame)
        winner = _Best(e1, dtype, sign, b.extract_element(values, I32(0)))
        b.store(b.extract_element(places, I32(0)), winner.place)
        with e1.loop(I64(1), I64(LANES)) as lane:
            number = b.trunc(lane, I32)
            _offer_lane(winner, b.extract_element(values, number), b.extract_element(places, number))
        e1.store(b.load(winner.place), target, line, dtypes.int64)


def _offer_lane(winner: _Best, x: Any, place: Any) -> None:
    """Take another lane's best if it is better, or as good and earlier."""
    e, b = winner.e, winner.e.b
    best, before = b.load(winner.value), b.icmp_signed("<", place, b.load(winner.place))
    equal = compared(e, "==", x, best, winner.dtype)
    if is_float(winner.dtype):
        equal = b.or_(equal, b.and_(b.fcmp_unordered("uno", x, x), b.fcmp_unordered("uno", best, best)))
    earlier = b.and_(equal, before)
    winner.offer(x, place)
    b.store(e.select(earlier, place, b.load(winner.place)), winner.place)


def _extremum(sign: str) -> Callable[[Node], Lowered | None]:
    def lower(node: Node) -> Lowered | None:
        x, out = node.inputs[0], node.outputs[0]
        if x.dtype in dtypes.COMPLEX:
            return None
        if not out.size:
            return Lowered([])
        outer, n, inner = around(x.shape, node.static["axes"][0])
        single = inner == 1

        def build(module: ir.Module, name: str) -> None:
            frame = Frame(module, name, 2, 1 if single else 3)
            (_emit_lines if single else _emit_columns)(frame, x.dtype, sign)
            frame.done()

        key = f"place of best {sign}/{x.dtype.name}/{'line' if single else 'columns'}"
        words: Sequence[int] = (n,) if single else (n, inner, blocks_of(inner))
        items = outer if single else outer * blocks_of(inner)
        grain = grain_for(n * min(inner, LANES) * x.dtype.itemsize)
        call = Call(Code(key, build), (Ref("in", 0), Ref("out", 0)), tuple(words), items, grain, flops=x.size)
        return Lowered([call])

    return lower


LOWER: dict[str, Callable[[Node], Lowered | None]] = {
    "sort": _lower_sort,
    "argsort": _lower_argsort,
    "top_k": _lower_top_k,
    "reduce_argmax": _extremum(">"),
    "reduce_argmin": _extremum("<"),
}
