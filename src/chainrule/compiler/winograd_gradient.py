"""The gradient of a convolution by its windows, with the tiles of `winograd`: G^T [(B^T d B) * (A y A^T)] G.

Here y are 2x2 elements of the cotangent, and the 16 products, (channels, tiles) @ (tiles, outputs), add up over all
tiles. A kernel goes row by row through the 4x4 places, of which each needs half of the pixels, for a part of the tiles;
a second one adds up the parts, in order, and transforms the sums to windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from .kernel import Call, Code, Frame, Lowered, Ref
from .packing import transposed
from .tiling import CHUNKS, choose_tile
from .vector import I64, LANES, Emitter
from .winograd import FLOAT, PLACES, SUMS, Tiles, add

# As in `winograd`, for the four places of a row.
BLOCK = 4 * LANES + LANES
# Tiles that a part of the sum has at least.
_LEAST = 128
# Channels times outputs up to which the sums at all places stay in the cache; else each row of them is an item.
_FEW = 2048


def lower_gradient(
    image: Ref, strides: Sequence[int], cotangent: Ref, steps: Sequence[int], positions: Sequence[int],
    shape: Sequence[int], lowered: Lowered,
) -> None:  # fmt: skip
    """Append the calls that compute the gradient by the windows.

    Args:
        image: its buffer, with the zeros around it that the convolution wants.
        strides: of its dimensions but the last, which is contiguous.
        cotangent: its buffer.
        steps: its strides, likewise.
        positions: its shape but the last, (N, H, W).
        shape: of the result, (outputs, 3, 3, channels), dense.
        lowered: where to append.
    """
    outputs, channels = shape[0], shape[-1]
    tile = choose_tile(FLOAT, 9 * channels, outputs)
    rows = 8 if tile.rows % 8 == 0 else 4
    down, across = -(-positions[1] // 2), -(-positions[2] // 2)
    tiles = positions[0] * down * across
    block = max(32, min(128, (12 << 10) // (channels + outputs)))
    blocks = -(-tiles // block)
    # The cuts are by the shape alone.
    lines = 4 if channels * outputs <= _FEW else 1
    splits = max(min(CHUNKS * lines // 4, tiles // _LEAST, blocks), 1)
    each = -(-blocks // splits)
    splits = -(-blocks // each)
    cotangents = block * (channels // LANES) * BLOCK * 4
    words = {
        "tiles": tiles, "block": block, "each": each * block, "down": down, "across": across, "height": positions[1],
        "width": positions[2], "channels": channels, "outputs": outputs, "cotangents": cotangents, "lines": lines,
        "n": strides[0], "h": strides[1], "w": strides[2], "yn": steps[0], "yh": steps[1], "yw": steps[2],
    }  # fmt: skip

    def build(module: ir.Module, name: str) -> None:
        frame = Frame(module, name, 3, len(words))
        _Sums(frame, dict(zip(words, frame.words, strict=True)), rows, tile.vectors).emit()
        frame.done()

    lowered.temps.append(splits * PLACES * channels * outputs * 4)
    sums = Ref("temp", len(lowered.temps) - 1)
    flops = 2 * 9 * channels * outputs * positions[0] * positions[1] * positions[2]
    scratch = cotangents + block * (outputs // LANES) * BLOCK * 4
    code = Code(f"winograd sums {rows} {tile.vectors}", build)
    lowered.calls.append(
        Call(code, (image, cotangent, sums), tuple(words.values()), splits * 4 // lines, 1, flops, scratch)
    )
    items = channels * outputs // LANES**2
    numbers = (channels, outputs, splits)
    flops = PLACES * channels * outputs * (splits + 3)
    back = Call(Code("winograd windows' gradient", _windows), (sums, Ref("out", 0)), numbers, items, 1, flops)
    back.grain, back.scratch = max(1, (1 << 16) * items // flops), 9 * LANES * LANES * 4
    lowered.calls.append(back)


class _Sums(Tiles):
    """The first kernel; an item is a row of places, for a part of the tiles."""

    def __init__(self, frame: Frame, words: dict[str, Any], rows: int, vectors: int) -> None:
        super().__init__(frame, words)
        self.rows, self.vectors = rows, vectors
        self.image, self.cotangent, self.sums = frame.buffers
        self.pixels = frame.scratch
        self.cotangents = frame.b.gep(frame.scratch, [words["cotangents"]], source_etype=ir.IntType(8))

    def emit(self) -> None:
        """All items."""
        b, e, w = self.b, self.e, self.w
        with e.loop(self.frame.begin, self.frame.end) as item:
            groups = b.udiv(I64(4), w["lines"])
            part, group = b.udiv(item, groups), b.urem(item, groups)
            start = b.mul(group, w["lines"])
            first = b.mul(part, w["each"])
            end = e.intrinsic("smin", w["tiles"], b.add(first, w["each"]))
            blocks = b.udiv(b.add(b.sub(end, first), b.sub(w["block"], I64(1))), w["block"])
            with e.loop(I64(0), blocks) as number:
                begin = b.add(first, b.mul(number, w["block"]))
                count = e.intrinsic("smin", w["block"], b.sub(end, begin))
                with e.loop(start, b.add(start, w["lines"])) as line:
                    factors = self._factors(line)
                    with e.loop(I64(0), count) as t:
                        self._take_in(t, b.add(begin, t), *factors)
                    place = b.add(b.mul(part, I64(PLACES)), b.mul(line, I64(4)))
                    with e.loop(I64(0), I64(4)) as column:
                        self._multiply(b.add(place, column), column, count, b.icmp_signed("==", number, I64(0)))

    def _factors(self, line: Any) -> tuple[tuple[Any, Any], Any, Any, Any]:
        """For a row of places: which rows of pixels it joins, the factor of the second, those of the cotangent."""
        b = self.b

        def choose(*numbers: int) -> Any:
            result = I64(numbers[-1])
            for i, number in enumerate(numbers[:-1]):
                result = b.select(b.icmp_signed("==", line, I64(i)), I64(number), result)
            return result

        rows = choose(*(s[0] for s in SUMS)), choose(*(s[1] for s in SUMS))
        sign = choose(*(1 if s[2] else -1 for s in SUMS))
        return rows, *(self._factor(x) for x in (sign, choose(1, 1, 1, 0), choose(0, 1, -1, -1)))

    def _factor(self, number: Any) -> Any:
        return self.e.splat(self.b.sitofp(number, ir.FloatType()))

    def _take_in(self, t: Any, number: Any, joined: tuple[Any, Any], sign: Any, upper: Any, lower: Any) -> None:
        """Transform the pixels and the cotangent of a tile. What is not there of the cotangent counts as 0."""
        b, e, w = self.b, self.e, self.w
        n, y, x, height, width = self.place(number)
        start, columns = self.window(self.image, n, y, x, width)
        row_p, row_q = (self.row(k, height) for k in joined)

        def pixel(column: Any) -> Any:
            p, q = (e.load(start, b.add(row, column), FLOAT) for row in (row_p, row_q))
            return e.fma(sign, q, p)

        def places(half: list[Any]) -> list[Any]:
            return [add(b, half, s) for s in SUMS]

        self._transform(self.pixels, t, w["channels"], columns, pixel, places)

        two, both = b.sub(height, I64(1)), b.sub(width, I64(1))
        begin = b.add(b.add(b.mul(n, w["yn"]), b.mul(y, w["yh"])), b.mul(x, w["yw"]))
        lower, right = b.fmul(lower, self._factor(two)), self._factor(both)
        second = b.mul(two, w["yh"])

        def element(column: Any) -> Any:
            at = b.add(begin, column)
            first = b.fmul(upper, e.load(self.cotangent, at, FLOAT))
            return e.fma(lower, e.load(self.cotangent, b.add(at, second), FLOAT), first)

        def spread(half: list[Any]) -> list[Any]:
            left, other = half[0], b.fmul(right, half[1])
            return [left, b.fadd(left, other), b.fsub(left, other), b.fneg(other)]

        self._transform(self.cotangents, t, w["outputs"], [I64(0), b.mul(both, w["yw"])], element, spread)

    def _transform(
        self, target: Any, t: Any, channels: Any, columns: list[Any], value: Callable[[Any], Any],
        places: Callable[[list[Any]], list[Any]],
    ) -> None:  # fmt: skip
        """Store the four places of a row, for all channels."""
        b, e = self.b, self.e
        step = b.mul(b.udiv(channels, I64(LANES)), I64(BLOCK))
        to = e.address(target, b.mul(t, step), FLOAT)
        with e.loop(I64(0), b.udiv(channels, I64(LANES))) as vector:
            channel, at = b.mul(vector, I64(LANES)), b.mul(vector, I64(BLOCK))
            for c, found in enumerate(places([value(b.add(channel, column)) for column in columns])):
                e.store(found, to, b.add(at, I64(c * LANES)), FLOAT)

    def _multiply(self, place: Any, column: Any, count: Any, fresh: Any) -> None:
        """Add the products of a block at one place to the sums."""
        b, e, w = self.b, self.e, self.w
        channels, outputs = w["channels"], w["outputs"]
        in_block = b.mul(column, I64(LANES))
        source, right = (e.address(x, in_block, FLOAT) for x in (self.pixels, self.cotangents))
        step_a, step_b = (b.mul(b.udiv(x, I64(LANES)), I64(BLOCK)) for x in (channels, outputs))
        sums = e.address(self.sums, b.mul(place, b.mul(channels, outputs)), FLOAT)
        zero = ir.Constant(e.of(FLOAT), None)
        with e.loop(I64(0), outputs, self.vectors * LANES) as output:
            at_b = b.mul(b.udiv(output, I64(LANES)), I64(BLOCK))
            with e.loop(I64(0), channels, self.rows) as channel:
                at_a = b.add(b.mul(b.udiv(channel, I64(LANES)), I64(BLOCK)), b.urem(channel, I64(LANES)))
                totals = [e.variable(e.of(FLOAT)) for _ in range(self.rows * self.vectors)]
                for total in totals:
                    b.store(zero, total)
                at = [e.variable(I64), e.variable(I64)]
                b.store(at_a, at[0])
                b.store(at_b, at[1])
                with e.loop(I64(0), count):
                    here = [b.load(x, typ=I64) for x in at]
                    b.store(b.add(here[0], step_a), at[0])
                    b.store(b.add(here[1], step_b), at[1])
                    vectors = [e.load(right, b.add(here[1], I64(j * BLOCK)), FLOAT) for j in range(self.vectors)]
                    for r in range(self.rows):
                        number = e.load_one(source, b.add(here[0], I64(r)), FLOAT)
                        for j, vector in enumerate(vectors):
                            total = totals[r * self.vectors + j]
                            b.store(e.fma(number, vector, b.load(total, typ=e.of(FLOAT))), total)
                for r in range(self.rows):
                    to = b.add(b.mul(b.add(channel, I64(r)), outputs), output)
                    for j in range(self.vectors):
                        where = b.add(to, I64(j * LANES))
                        before = b.select(fresh, zero, e.load(sums, where, FLOAT))
                        value = b.load(totals[r * self.vectors + j], typ=e.of(FLOAT))
                        e.store(b.fadd(before, value), sums, where, FLOAT)


def _windows(module: ir.Module, name: str) -> None:
    """The second kernel; an item is 16 channels by 16 outputs."""
    frame = Frame(module, name, 2, 3)
    b, e = frame.b, frame.e
    sums, out = frame.buffers
    channels, outputs, splits = frame.words
    step = b.mul(channels, outputs)
    with e.loop(frame.begin, frame.end) as item:
        across = b.udiv(outputs, I64(LANES))
        channel, output = (b.mul(x, I64(LANES)) for x in (b.udiv(item, across), b.urem(item, across)))
        with e.loop(I64(0), I64(LANES)) as k:
            at = b.add(b.mul(b.add(channel, k), outputs), output)
            totals = [e.variable(e.of(FLOAT)) for _ in range(PLACES)]
            for i, total in enumerate(totals):
                b.store(e.load(sums, b.add(at, b.mul(step, I64(i))), FLOAT), total)
            with e.loop(I64(1), splits) as part:
                for i, total in enumerate(totals):
                    where = b.add(at, b.mul(step, b.add(b.mul(part, I64(PLACES)), I64(i))))
                    b.store(b.fadd(b.load(total, typ=e.of(FLOAT)), e.load(sums, where, FLOAT)), total)
            u = [b.load(total, typ=e.of(FLOAT)) for total in totals]
            columns = [_gather(e, u[c::4]) for c in range(4)]
            for r in range(3):
                for c, value in enumerate(_gather(e, [column[r] for column in columns])):
                    e.store(value, frame.scratch, b.add(b.mul(k, I64(LANES)), I64((3 * r + c) * LANES**2)), FLOAT)
        with e.loop(I64(0), I64(9)) as place:
            at = b.mul(place, I64(LANES**2))
            rows = [e.load(frame.scratch, b.add(at, I64(k * LANES)), FLOAT) for k in range(LANES)]
            for r, row in enumerate(transposed(b, rows)):
                line = b.add(b.mul(b.add(output, I64(r)), I64(9)), place)
                e.store(row, out, b.add(b.mul(line, channels), channel), FLOAT)
    frame.done()


def _gather(e: Emitter, u: list[Any]) -> list[Any]:
    """G^T u."""
    b = e.b
    half = e.like(u[0], 0.5)
    h = b.fmul(half, b.fadd(u[1], u[2]))
    return [b.fadd(u[0], h), b.fmul(half, b.fsub(u[1], u[2])), b.fadd(h, u[3])]
