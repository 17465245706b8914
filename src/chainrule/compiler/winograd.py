"""Convolutions with 3x3 windows by fewer multiplications: F(2x2, 3x3) of Winograd.

Lavin and Gray, Fast algorithms for convolutional neural networks, arXiv 1509.09308. Tiles of 2x2 results are made of
4x4 pixels d and a window g as A^T [(G g G^T) * (B^T d B)] A with

    B^T = 1  0 -1  0    G =  1   0   0    A^T = 1  1  1  0
          0  1  1  0        1/2 1/2 1/2         0  1 -1 -1
          0 -1  1  0        1/2 -1/2 1/2
          0  1  0 -1         0   0   1

where * is elementwise: 16 multiplications instead of 36. Summed over channels, each of the 16 places is a product
(tiles, channels) @ (channels, outputs). Windows are transformed once; then a kernel takes some tiles at a time through
all three steps, in scratch memory: transformed pixels, products, and results, which are finished as those of any other
contraction.

It is for float32; float64 and eager mode compute directly. Whether it is used depends on shapes alone. Rounding errors
for normal numbers (16x16 pixels, as many outputs as channels), root mean square and largest, in units of 2^-23 of the
root mean square of the results:

    channels           16          32          64          128         256
    direct          1.8  19     2.5  27     3.5  39     3.7  38     3.6  27
    Winograd        1.4   7     1.7   9     2.2  13     3.0  20     4.2  28

since its sums have a ninth of the terms; for the gradient by the windows at most 3.3 and 24 directly, 3.1 and 18 here.
But an error is relative to all the pixels of a window times all its weights, not only to the nine products that matter.
What is infinite makes the results whose windows it is in infinite or NaN, and no others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from llvmlite import ir

from .. import dtypes
from ..dtypes import DType
from .contraction import Finish, Store
from .kernel import Call, Code, Frame, Lowered, Ref
from .tiling import CHUNK_FLOPS, Tile
from .vector import I64, LANES, Emitter

PLACES = 16
# The 16 places of 16 channels of a tile lie together: so addresses are constants. The gap keeps those of consecutive
# tiles out of the same set of the cache.
BLOCK = PLACES * LANES + LANES
# Row i of B^T d: the pixels that are added or subtracted.
SUMS = ((0, 2, False), (1, 2, True), (2, 1, False), (1, 3, False))
FLOAT = dtypes.float32
# With fewer channels the transforms cost what the products save; with fewer tiles, those of the windows do.
LEAST_CHANNELS = 32
_LEAST_TILES = 64


class Windows(NamedTuple):
    """Where the windows lie, with contiguous outputs: their buffer, the distance between panels of outputs, and the
    strides of rows, columns and channels.
    """

    ref: Ref
    panel: int
    row: int
    column: int
    channel: int


def fits(
    shape: Sequence[int], window: Sequence[int], stride: Sequence[int], dilation: Sequence[int], groups: int,
    dtype: DType,
) -> bool:  # fmt: skip
    """Whether a convolution is computed so: where that is faster.

    Args:
        shape: of the result, (N, P..., O).
        window: shape of a window, (K..., C).
        stride, dilation, groups: the arguments of the convolution.
        dtype: of all.
    """
    if (*window[:-1], *stride, *dilation, groups) != (3, 3, 1, 1, 1, 1, 1) or dtype != FLOAT:
        return False
    outputs, channels, tiles = shape[-1], window[-1], -(-shape[1] // 2) * -(-shape[2] // 2)
    if outputs % LANES or channels % LANES or min(outputs, channels) < LEAST_CHANNELS:
        return False
    # Not where most tiles are cut off by the edge.
    return 5 * shape[1] * shape[2] >= 12 * tiles and shape[0] * tiles >= _LEAST_TILES


def lower(
    image: Ref, strides: Sequence[int], windows: Windows, channels: int, shape: Sequence[int], tile: Tile,
    lowered: Lowered, finish: Finish | None,
) -> None:  # fmt: skip
    """Append the calls that compute a convolution.

    Args:
        image: its buffer, with the zeros around it that the convolution wants.
        strides: of its dimensions but the last, which is contiguous.
        windows: the windows.
        channels: of the image.
        shape: of the result, (N, H, W, outputs), dense.
        tile: the register tile of the products, whose columns are those of a panel.
        lowered: where to append.
        finish: what to do with the results; None to store them.
    """
    transformed = _transform(windows, channels, shape[-1], tile, lowered)
    down, across = -(-shape[1] // 2), -(-shape[2] // 2)
    tiles, panels = shape[0] * down * across, shape[-1] // tile.columns
    block = block_of(channels)
    pixels = -(-block * 24 // 64) * 64
    products = pixels + block * (channels // LANES) * BLOCK * 4
    results = products + block * tile.vectors * BLOCK * 4
    words = {
        "tiles": tiles, "block": block, "down": down, "across": across, "height": shape[1], "width": shape[2],
        "vectors": channels // LANES, "panels": panels, "pixels": pixels, "products": products, "results": results,
        "n": strides[0], "h": strides[1], "w": strides[2],
    }  # fmt: skip
    refs = (image, transformed, Ref("out", 0))
    n_refs, n_words = (len(finish.refs), len(finish.words)) if finish else (0, 0)

    def build(module: ir.Module, name: str) -> None:
        frame = Frame(module, name, len(refs) + n_refs, len(words) + n_words)
        store = finish.emit(frame, frame.buffers[len(refs) :], frame.words[len(words) :]) if finish else None
        _Forward(frame, tile, dict(zip(words, frame.words, strict=False)), store).emit()
        frame.done()

    code = Code(f"winograd {tuple(tile)} finish {finish.key if finish else None}", build)
    more = (finish.refs, finish.words) if finish else ((), ())
    items = -(-tiles // block)
    flops = 2 * 9 * channels * math.prod(shape)
    grain = max(1, CHUNK_FLOPS * items // flops)
    numbers = (*words.values(), *more[1])
    scratch = results + 4 * tile.columns * 4
    lowered.calls.append(Call(code, (*refs, *more[0]), numbers, items, min(grain, items), flops, scratch))


def block_of(channels: int) -> int:
    """Tiles that are taken at a time; a multiple of the rows of all register tiles."""
    return 48 if channels <= 64 else 24


class Tiles:
    """What the kernels of both directions share: where a tile is."""

    def __init__(self, frame: Frame, words: dict[str, Any]) -> None:
        self.frame, self.e, self.b, self.w = frame, frame.e, frame.b, words

    def place(self, number: Any) -> tuple[Any, Any, Any, Any, Any]:
        """The image of a tile, its first row and column in the result, and how many of either it has there."""
        b, e, w = self.b, self.e, self.w
        rest, j = b.udiv(number, w["across"]), b.urem(number, w["across"])
        n, i = b.udiv(rest, w["down"]), b.urem(rest, w["down"])
        y, x = b.mul(i, I64(2)), b.mul(j, I64(2))
        sizes = [e.intrinsic("smin", I64(2), b.sub(w[f], at)) for f, at in (("height", y), ("width", x))]
        return n, y, x, *sizes

    def window(self, image: Any, n: Any, y: Any, x: Any, width: Any) -> tuple[Any, list[Any]]:
        """The address of the first of 4x4 pixels, and the offsets of their columns."""
        b, w = self.b, self.w
        at = b.add(b.add(b.mul(n, w["n"]), b.mul(y, w["h"])), b.mul(x, w["w"]))
        columns = [b.mul(w["w"], k) for k in (I64(0), I64(1), I64(2), b.add(width, I64(1)))]
        return self.e.address(image, at, FLOAT), columns

    def row(self, number: Any, height: Any) -> Any:
        """The offset of a row of the 4x4 pixels.

        The last one of a tile that is cut off by the edge of the result matters to nobody: another is read instead. So
        it is with columns.
        """
        return self.b.mul(self.w["h"], self.e.intrinsic("smin", number, self.b.add(height, I64(1))))


def add(b: ir.IRBuilder, values: Sequence[Any], line: tuple[int, int, bool]) -> Any:
    """One of the `SUMS`."""
    p, q, plus = line
    return (b.fadd if plus else b.fsub)(values[p], values[q])


class _Forward(Tiles):
    """The kernel; an item is a block of tiles."""

    def __init__(self, frame: Frame, tile: Tile, words: dict[str, Any], store: Store | None) -> None:
        super().__init__(frame, words)
        self.tile, self.store = tile, store
        self.image, self.windows, self.out = frame.buffers[:3]
        self.pixels, self.products, self.results = (
            frame.b.gep(frame.scratch, [words[name]], source_etype=ir.IntType(8))
            for name in ("pixels", "products", "results")
        )
        self.tile_step = self.b.mul(words["vectors"], I64(BLOCK))

    def emit(self) -> None:
        """All items."""
        b, e, w = self.b, self.e, self.w
        with e.loop(self.frame.begin, self.frame.end) as item:
            first = b.mul(item, w["block"])
            count = e.intrinsic("smin", w["block"], b.sub(w["tiles"], first))
            with e.loop(I64(0), count) as t:
                self._take_in(t, b.add(first, t))
            with e.loop(I64(0), w["panels"]) as panel:
                with e.loop(I64(0), I64(PLACES)) as place:
                    self._multiply(panel, place, count)
                with e.loop(I64(0), count) as t:
                    self._give_out(t, panel)

    def _entry(self, t: Any, field: int) -> Any:
        """Address of what is noted of a tile: its first pixel in the result, and its height and width there."""
        return self.b.gep(self.frame.scratch, [self.b.add(self.b.mul(t, I64(3)), I64(field))], source_etype=I64)

    def _take_in(self, t: Any, number: Any) -> None:
        """Transform the pixels of a tile."""
        b, e, w = self.b, self.e, self.w
        n, y, x, *sizes = self.place(number)
        first = b.add(b.mul(b.add(b.mul(n, w["height"]), y), w["width"]), x)
        for field, value in enumerate((first, *sizes)):
            b.store(value, self._entry(t, field))
        start, columns = self.window(self.image, n, y, x, sizes[1])
        rows = [e.address(start, self.row(I64(k), sizes[0]), FLOAT) for k in range(4)]
        target = e.address(self.pixels, b.mul(t, self.tile_step), FLOAT)
        with e.loop(I64(0), w["vectors"]) as vector:
            channel, to = b.mul(vector, I64(LANES)), b.mul(vector, I64(BLOCK))
            here = [b.add(channel, column) for column in columns]
            for r, (p, q, plus) in enumerate(SUMS):
                join = b.fadd if plus else b.fsub
                half = [join(*(e.load(rows[k], column, FLOAT) for k in (p, q))) for column in here]
                for c, line in enumerate(SUMS):
                    e.store(add(b, half, line), target, b.add(to, I64((4 * r + c) * LANES)), FLOAT)

    def _multiply(self, panel: Any, place: Any, count: Any) -> None:
        """The products of all tiles at one of the 16 places, for the columns of a panel."""
        b, e, w, tile = self.b, self.e, self.w, self.tile
        at = b.mul(b.add(b.mul(place, w["panels"]), panel), w["vectors"])
        window = e.address(self.windows, b.mul(at, I64(LANES * tile.columns)), FLOAT)
        in_block = b.mul(place, I64(LANES))
        source, target = (e.address(x, in_block, FLOAT) for x in (self.pixels, self.products))
        with e.loop(I64(0), count, tile.rows) as row:
            first = e.address(source, b.mul(row, self.tile_step), FLOAT)
            pointers = [first]
            for _ in range(tile.rows - 1):
                pointers.append(e.address(pointers[-1], self.tile_step, FLOAT))
            zero = ir.Constant(e.of(FLOAT), None)
            sums = [e.variable(e.of(FLOAT), zero) for _ in range(tile.rows * tile.vectors)]
            for place_ in sums:
                b.store(zero, place_)
            with e.loop(I64(0), w["vectors"]) as vector:
                at_a, at_b = b.mul(vector, I64(BLOCK)), b.mul(vector, I64(LANES * tile.columns))
                for k in range(LANES):
                    right = [
                        e.load(window, b.add(at_b, I64(k * tile.columns + j * LANES)), FLOAT)
                        for j in range(tile.vectors)
                    ]
                    for r, pointer in enumerate(pointers):
                        number = e.load_one(pointer, b.add(at_a, I64(k)), FLOAT)
                        for j, value in enumerate(right):
                            total = sums[r * tile.vectors + j]
                            b.store(e.fma(number, value, b.load(total, typ=e.of(FLOAT))), total)
            for r in range(tile.rows):
                to = b.mul(b.add(row, I64(r)), I64(tile.vectors * BLOCK))
                for j in range(tile.vectors):
                    value = b.load(sums[r * tile.vectors + j], typ=e.of(FLOAT))
                    e.store(value, target, b.add(to, I64(j * BLOCK)), FLOAT)

    def _give_out(self, t: Any, panel: Any) -> None:
        """Transform the products of a tile back, and finish its 2x2 pixels."""
        b, e, w, tile = self.b, self.e, self.w, self.tile
        source = e.address(self.products, b.mul(t, I64(tile.vectors * BLOCK)), FLOAT)
        with e.loop(I64(0), I64(tile.vectors)) as j:
            at, to = b.mul(j, I64(BLOCK)), b.mul(j, I64(LANES))
            halves: list[list[Any]] = [[], []]
            for c in range(4):
                m = [e.load(source, b.add(at, I64((4 * r + c) * LANES)), FLOAT) for r in range(4)]
                for half, value in zip(halves, self._pair(m), strict=True):
                    half.append(value)
            for r, half in enumerate(halves):
                for c, value in enumerate(self._pair(half)):
                    e.store(value, self.results, b.add(to, I64((2 * r + c) * tile.columns)), FLOAT)
        first, height, width = (b.load(self._entry(t, field), typ=I64) for field in range(3))
        with e.loop(I64(0), height) as y, e.loop(I64(0), width) as x:
            row = b.add(first, b.add(b.mul(y, w["width"]), x))
            of_pixel = b.mul(b.add(b.mul(y, I64(2)), x), I64(tile.columns))
            for j in range(tile.vectors):
                at = I64(j * LANES)
                value = e.load(self.results, b.add(of_pixel, at), FLOAT)
                column = b.add(b.mul(panel, I64(tile.columns)), at)
                if self.store:
                    self.store.write(e, [value], row, column)
                else:
                    outputs = b.mul(w["panels"], I64(tile.columns))
                    e.store(value, self.out, b.add(b.mul(row, outputs), column), FLOAT)

    def _pair(self, m: Sequence[Any]) -> tuple[Any, Any]:
        """A^T m."""
        b = self.b
        return b.fadd(b.fadd(m[0], m[1]), m[2]), b.fsub(b.fsub(m[1], m[2]), m[3])


def _transform(windows: Windows, channels: int, outputs: int, tile: Tile, lowered: Lowered) -> Ref:
    """Append the call that transforms windows to [place][panel][channel][column of the panel]."""
    lowered.temps.append(PLACES * channels * outputs * 4)
    target = Ref("temp", len(lowered.temps) - 1)
    words = (channels, channels * outputs, *windows[1:])

    def build(module: ir.Module, name: str) -> None:
        frame = Frame(module, name, 2, len(words))
        _emit_transform(frame, tile)
        frame.done()

    items = channels * outputs // tile.columns
    flops = channels * outputs * 42
    code = Code(f"winograd windows {tile.vectors}", build)
    lowered.calls.append(Call(code, (windows.ref, target), words, items, min(256, items), flops))
    return target


def _emit_transform(frame: Frame, tile: Tile) -> None:
    """An item is a channel of a panel of outputs."""
    b, e = frame.b, frame.e
    source, target = frame.buffers
    channels, step, of_panel, of_row, of_column, of_channel = frame.words
    with e.loop(frame.begin, frame.end) as item:
        panel, channel = b.udiv(item, channels), b.urem(item, channels)
        at = b.add(b.mul(panel, of_panel), b.mul(channel, of_channel))
        to = b.mul(item, I64(tile.columns))
        for j in range(tile.vectors):
            columns = []
            for c in range(3):
                top = b.add(b.add(at, I64(j * LANES)), b.mul(of_column, I64(c)))
                columns.append(_spread(e, [e.load(source, b.add(top, b.mul(of_row, I64(r))), FLOAT) for r in range(3)]))
            for r in range(4):
                for c, value in enumerate(_spread(e, [column[r] for column in columns])):
                    where = b.add(b.add(to, I64(j * LANES)), b.mul(step, I64(4 * r + c)))
                    e.store(value, target, where, FLOAT)


def _spread(e: Emitter, g: list[Any]) -> list[Any]:
    """G g."""
    b = e.b
    half = e.like(g[0], 0.5)
    outer, inner = b.fmul(half, b.fadd(g[0], g[2])), b.fmul(half, g[1])
    return [g[0], b.fadd(outer, inner), b.fsub(outer, inner), g[2]]
