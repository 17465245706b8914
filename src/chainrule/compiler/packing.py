"""Copies that bring the operands of a contraction into shape.

`pack` makes of the right operand panels of a tile's columns, [batch][panel][k][column], in which what the kernel reads
is contiguous. `pad` puts zeros around an image, so that a convolution needs no test at its borders.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from llvmlite import ir

from ..dtypes import DType
from .kernel import Call, Code, Frame, Lowered, Ref
from .tiling import Axis, Tile, collapse, size
from .vector import I32, I64, LANES

#: Bytes that a chunk of a copy moves, at least.
CHUNK_BYTES = 64 << 10


class Packed(NamedTuple):
    """A packed operand: its buffer, the distance between panels, and its stride for one step of k and of a batch."""

    ref: Ref
    panel: int
    k_step: int
    batch_step: int


def pack(
    source: Ref, dtype: DType, tile: Tile, batch: list[Axis], k: list[Axis], columns: list[Axis], lowered: Lowered
) -> Packed:
    """Append the call that packs an operand (strides ``b`` of the dimensions); k is flat in the result.

    What lies beyond the last column of the last panel is undefined.
    """
    n, total, panels = size(columns), size(k), -(-size(columns) // tile.columns)
    batches = size(batch)
    lowered.temps.append(batches * panels * total * tile.columns * dtype.itemsize)
    target = Ref("temp", len(lowered.temps) - 1)
    packed = Packed(target, total * tile.columns, tile.columns, panels * total * tile.columns)
    if 0 in (n, total, batches):
        return packed
    batch, k, columns = ([Axis(x.extent, b=x.b) for x in axes] for axes in (batch, k, columns))
    batch, columns = collapse(batch), collapse(columns) or [Axis(1, b=1)]
    k = collapse(k) or [Axis(1)]
    kind = "gather"
    if len(columns) == 1 and columns[0].b == 1:
        kind = "copy"
    elif len(columns) == 1 and k[-1].b == 1 and k[-1].extent >= LANES:
        kind = "transpose"
    inner = k.pop()
    words = [n, panels, inner.extent, inner.b, total, size(k)]
    for axis in (*batch, *k, *columns):
        words += [axis.extent, axis.b]
    counts = (len(batch), len(k), len(columns))
    items = batches * panels * size(k)
    grain = max(1, CHUNK_BYTES // (inner.extent * tile.columns * dtype.itemsize))
    key = f"pack {dtype} {tile.vectors} {kind} {counts}"

    def build(module: ir.Module, name: str) -> None:
        frame = Frame(module, name, 2, 6 + 2 * sum(counts))
        _Pack(frame, dtype, tile.vectors, kind, counts).emit()
        frame.done()

    lowered.calls.append(Call(Code(key, build), (source, target), tuple(words), items, min(grain, items)))
    return packed


class _Pack:
    """The kernel of `pack`; an item is one panel, for the last dimension of k."""

    def __init__(self, frame: Frame, dtype: DType, vectors: int, kind: str, counts: tuple[int, int, int]) -> None:
        self.frame, self.e, self.b = frame, frame.e, frame.b
        self.dtype, self.vectors, self.kind, self.counts = dtype, vectors, kind, counts
        self.source, self.target = frame.buffers
        self.n, self.panels, self.inner, self.step, self.total, self.outer = frame.words[:6]
        pairs = list(zip(frame.words[6::2], frame.words[7::2], strict=True))
        self.batch, self.k, self.columns = (
            pairs[sum(counts[:i]) : sum(counts[: i + 1])] for i in range(3)
        )  # fmt: skip

    def emit(self) -> None:
        """All items."""
        b, e = self.b, self.e
        with e.loop(self.frame.begin, self.frame.end) as item:
            rest, outer = b.udiv(item, self.outer), b.urem(item, self.outer)
            batch, panel = b.udiv(rest, self.panels), b.urem(rest, self.panels)
            start = b.add(self._offset(self.batch, batch), self._offset(self.k, outer))
            row = b.add(b.mul(rest, self.total), b.mul(outer, self.inner))
            target = b.mul(row, I64(self.vectors * LANES))
            first = b.mul(panel, I64(self.vectors * LANES))
            getattr(self, f"_{self.kind}")(start, target, first)

    def _offset(self, axes: list[tuple[Any, Any]], index: Any) -> Any:
        """The offset of element number ``index`` of some dimensions; of scalars or of lanes."""
        b, total = self.b, None
        vector = isinstance(index.type, ir.VectorType)
        for i, (extent, step) in reversed(list(enumerate(axes))):
            extent, step = (self.e.splat(x) if vector else x for x in (extent, step))
            one = b.urem(index, extent) if i else index
            index = b.udiv(index, extent) if i else index
            term = b.mul(one, step)
            total = term if total is None else b.add(total, term)
        return I64(0) if total is None else total

    def _place(self, target: Any, k: Any, vector: int) -> Any:
        return self.b.add(target, self.b.add(self.b.mul(k, I64(self.vectors * LANES)), I64(vector * LANES)))

    def _copy(self, start: Any, target: Any, first: Any) -> None:
        """Rows of k that are contiguous along the columns."""
        b, e = self.b, self.e
        rest = b.sub(self.n, first)
        masks = [e.tail_mask(b.sub(rest, I64(LANES * v))) for v in range(self.vectors)]
        with e.loop(I64(0), self.inner) as k:
            at = b.add(b.add(start, first), b.mul(k, self.step))
            for v, mask in enumerate(masks):
                with e.masked(mask):
                    value = e.load(self.source, b.add(at, I64(LANES * v)), self.dtype)
                e.store(value, self.target, self._place(target, k, v), self.dtype)

    def _gather(self, start: Any, target: Any, first: Any) -> None:
        """Any strides."""
        b, e = self.b, self.e
        last = e.splat(b.sub(self.n, I64(1)))
        for v in range(self.vectors):
            column = b.add(e.splat(b.add(first, I64(LANES * v))), e.lanes())
            column = e.intrinsic("smin", column, last)
            offsets = b.add(e.splat(start), self._offset(self.columns, column))
            with e.loop(I64(0), self.inner) as k:
                value = e.gather(self.source, b.add(offsets, e.splat(b.mul(k, self.step))), self.dtype)
                e.store(value, self.target, self._place(target, k, v), self.dtype)

    def _transpose(self, start: Any, target: Any, first: Any) -> None:
        """Columns that are contiguous along k: blocks of 16 by 16, of which the last may overlap the one before."""
        b, e = self.b, self.e
        ((_, step),) = self.columns
        last = b.sub(self.n, I64(1))
        final = b.sub(self.inner, I64(LANES))
        with e.loop(I64(0), I64(self.vectors)) as v:
            begin = b.add(first, b.mul(v, I64(LANES)))
            with e.loop(I64(0), self.inner, LANES) as at:
                k = e.intrinsic("smin", at, final)
                rows = []
                for i in range(LANES):
                    column = e.intrinsic("smin", b.add(begin, I64(i)), last)
                    where = b.add(b.add(start, k), b.mul(column, step))
                    rows.append(e.load(self.source, where, self.dtype))
                for i, row in enumerate(transposed(b, rows)):
                    place = b.add(self._place(target, b.add(k, I64(i)), 0), b.mul(v, I64(LANES)))
                    e.store(row, self.target, place, self.dtype)


def transposed(b: ir.IRBuilder, rows: list[Any]) -> list[Any]:
    """A 16x16 matrix, transposed by swapping ever smaller off-diagonal blocks."""
    half = LANES // 2
    while half:
        keep = [i if not i & half else LANES + i - half for i in range(LANES)]
        swap = [i + half if not i & half else LANES + i for i in range(LANES)]
        after = list(rows)
        for i in range(LANES):
            if not i & half:
                after[i] = b.shuffle_vector(rows[i], rows[i + half], _lanes(keep))
                after[i + half] = b.shuffle_vector(rows[i], rows[i + half], _lanes(swap))
        rows = after
        half //= 2
    return rows


def _lanes(order: list[int]) -> Any:
    return ir.Constant(ir.VectorType(I32, LANES), [I32(i) for i in order])


# --- padding ----------------------------------------------------------------------------------------------


class Border(NamedTuple):
    """How one dimension of an image is laid out anew: zeros ``before`` and ``after`` (negative: cut off), and elements
    ``step`` apart, with zeros between.
    """

    extent: int
    stride: int
    before: int
    after: int
    step: int = 1

    @property
    def size(self) -> int:
        """The new extent."""
        return max(self.before + self.step * (self.extent - 1) + 1 + self.after, 0)

    @property
    def words(self) -> tuple[int, ...]:
        """The new extent, the first element that is kept and its new place, how many are kept, the step, the stride."""
        first = max(-(self.before // self.step), 0)
        at = self.before + first * self.step
        kept = max(min(self.extent - first, -(-(self.size - at) // self.step)), 0)
        return self.size, first, at, kept, self.step, self.stride


def pad(source: Ref, dtype: DType, borders: list[Border], run: int, run_step: int, lowered: Lowered) -> Ref:
    """Append the call that copies an image with zeros around it; the result is dense.

    Args:
        source: the image.
        dtype: of its elements.
        borders: its dimensions, but for the last.
        run: extent of the last dimension.
        run_step: stride of the last dimension.
        lowered: where to append.
    """
    *outer, line = borders
    if line.step == 1 and run_step == 1 and line.stride == run:
        # A line with its channels is one run.
        line = Border(1, 0, 0, 0)
        inner = borders[-1]
        before, first, kept = max(inner.before, 0) * run, max(-inner.before, 0) * run, inner.words[3] * run
        row = inner.size * run
    else:
        before, first, kept, row = 0, 0, run, run * line.size
    lowered.temps.append(row * math.prod(b.size for b in outer) * dtype.itemsize)
    target = Ref("temp", len(lowered.temps) - 1)
    items = math.prod(b.size for b in outer)
    if not row or not items:
        return target
    words = [row, before, first, kept, run, run_step]
    for border in (*outer, line):
        words += border.words
    count, unit = len(outer), run_step == 1
    grain = max(1, CHUNK_BYTES // (row * dtype.itemsize))

    def build(module: ir.Module, name: str) -> None:
        frame = Frame(module, name, 2, len(words))
        _Pad(frame, dtype, count, unit).emit()
        frame.done()

    code = Code(f"pad {dtype} {count} {unit}", build)
    lowered.calls.append(Call(code, (source, target), tuple(words), items, min(grain, items)))
    return target


class _Pad:
    """The kernel of `pad`; an item is a line of the result."""

    def __init__(self, frame: Frame, dtype: DType, count: int, unit: bool) -> None:
        self.frame, self.e, self.b, self.dtype, self.unit = frame, frame.e, frame.b, dtype, unit
        self.source, self.target = frame.buffers
        self.row, self.before, self.first, self.kept, self.run, self.run_step = frame.words[:6]
        rest = frame.words[6:]
        *self.outer, self.line = [rest[i : i + 6] for i in range(0, len(rest), 6)]

    def emit(self) -> None:
        """All items."""
        b, e = self.b, self.e
        with e.loop(self.frame.begin, self.frame.end) as item:
            target = b.mul(item, self.row)
            inside, at = self._source(item)
            # A line that is all border has no runs.
            self._line(at, target, b.select(inside, self.line[3], I64(0)))

    def _source(self, item: Any) -> tuple[Any, Any]:
        """Whether a line comes from the image, and its offset there."""
        b, inside, offset = self.b, ir.Constant(ir.IntType(1), 1), I64(0)
        for extent, first, at, kept, step, stride in reversed(self.outer):
            index = b.sub(b.urem(item, extent), at)
            item = b.udiv(item, extent)
            number = b.sdiv(index, step)
            here = b.and_(b.icmp_signed(">=", index, I64(0)), b.icmp_signed("==", b.mul(number, step), index))
            inside = b.and_(inside, b.and_(here, b.icmp_signed("<", number, kept)))
            offset = b.add(offset, b.mul(b.add(first, number), stride))
        return inside, offset

    def _line(self, at: Any, target: Any, runs: Any) -> None:
        """A line: zeros and a run, by turns; the last run is empty, at the end of the line."""
        b, e = self.b, self.e
        _, first, place, _, step, stride = self.line
        zero = ir.Constant(e.of(self.dtype), None)
        done = e.variable(I64, I64(0))
        with e.loop(I64(0), b.add(runs, I64(1))) as i:
            more = b.icmp_signed("<", i, runs)
            begin = b.add(b.mul(b.add(place, b.mul(i, step)), self.run), self.before)
            begin = b.select(more, begin, self.row)
            at_zeros = b.load(done, typ=I64)
            clear = b.add(target, at_zeros)
            e.blocks(b.sub(begin, at_zeros), lambda j: e.store(zero, self.target, b.add(clear, j), self.dtype))
            source = b.add(at, b.add(b.mul(b.add(first, i), stride), self.first))
            self._copy(source, b.add(target, begin), b.select(more, self.kept, I64(0)))
            b.store(b.add(begin, self.kept), done)

    def _copy(self, source: Any, target: Any, count: Any) -> None:
        b, e = self.b, self.e

        def some(i: Any) -> None:
            if self.unit:
                value = e.load(self.source, b.add(source, i), self.dtype)
            else:
                value = e.load_strided(self.source, b.add(source, b.mul(i, self.run_step)), self.run_step, self.dtype)
            e.store(value, self.target, b.add(target, i), self.dtype)

        e.blocks(count, some)
