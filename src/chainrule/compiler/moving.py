"""Kernels that move elements without computing: strided copies, and what is made of them.

Elements are moved as bits, so any dtype is one of a few sizes. A copy goes through *rows*, pieces of the last axis of
the target, of which a chunk of the work does several; an odometer follows the other axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llvmlite import ir

from .. import dtypes
from ..dtypes import DType
from ..graph.ir import Node
from .kernel import Call, Code, Frame, Lowered, Ref
from .vector import I32, I64, LANES, Emitter, smaller
from .views import row_major

CHUNK = 32768
"""About so many bytes make a chunk of work."""

INPUT, OUTPUT = Ref("in", 0), Ref("out", 0)

_BITS = {1: dtypes.uint8, 2: dtypes.uint16, 4: dtypes.uint32, 8: dtypes.uint64}


def moved(dtype: DType) -> tuple[DType, int]:
    """The integer type as which elements are moved, and how many of it an element has."""
    return (dtypes.uint64, 2) if dtype.itemsize == 16 else (_BITS[dtype.itemsize], 1)


def grain_for(bytes_per_item: int) -> int:
    """How many items make a chunk."""
    return max(1, CHUNK // max(1, bytes_per_item))


def split(n: int, size: int) -> tuple[int, int]:
    """Length and number of the blocks into which ``n`` consecutive elements of ``size`` bytes are cut."""
    block = min(n, CHUNK // size) or 1
    return block, -(-n // block)


def scalar(frame: Frame) -> Emitter:
    """An emitter of code for one element at a time."""
    return Emitter(frame.b, 1, frame.status)


def copied(e: Emitter, source: Any, target: Any, n: Any, dtype: DType) -> None:
    """Emit a copy of ``n`` consecutive elements."""
    e.blocks(n, lambda i: e.store(e.load(source, i, dtype), target, i, dtype))


class Odometer:
    """Coordinates of an item and offsets that go with them, counted on instead of divided anew.

    Args:
        frame: the kernel; counting begins at its first item.
        extents: of the axes, outermost first.
        strides: lists of as many strides; each gives an offset.
    """

    def __init__(self, frame: Frame, extents: Sequence[Any], *strides: Sequence[Any]) -> None:
        self.e, b = frame.e, frame.b
        self._extents, self._strides = extents, strides
        rest, coordinates = frame.begin, []
        for extent in reversed(extents[1:]):
            coordinates.append(b.urem(rest, extent))
            rest = b.udiv(rest, extent)
        coordinates = [rest, *reversed(coordinates)]
        self._coordinates = [self.e.variable(I64, c) for c in coordinates]
        self._offsets = []
        for steps in strides:
            offset = I64(0)
            for c, step in zip(coordinates, steps, strict=True):
                offset = b.add(offset, b.mul(c, step))
            self._offsets.append(self.e.variable(I64, offset))

    def coordinate(self, axis: int) -> Any:
        """The coordinate of the current item along an axis."""
        return self.e.b.load(self._coordinates[axis])

    def offsets(self) -> list[Any]:
        """The offsets of the current item."""
        return [self.e.b.load(o) for o in self._offsets]

    def advance(self) -> None:
        """Emit the step to the next item."""
        self._carry(len(self._extents) - 1)

    def _carry(self, axis: int) -> None:
        b = self.e.b
        count = b.add(b.load(self._coordinates[axis]), I64(1))
        b.store(count, self._coordinates[axis])
        self._move([steps[axis] for steps in self._strides])
        if axis:
            extent = self._extents[axis]
            with b.if_then(b.icmp_signed(">=", count, extent), likely=False):
                b.store(I64(0), self._coordinates[axis])
                self._move([b.neg(b.mul(extent, steps[axis])) for steps in self._strides])
                self._carry(axis - 1)

    def _move(self, steps: Sequence[Any]) -> None:
        for offset, step in zip(self._offsets, steps, strict=True):
            self.e.b.store(self.e.b.add(self.e.b.load(offset), step), offset)


# --- strided copies ---------------------------------------------------------------------------------------


class Copy(NamedTuple):
    """A strided copy, analysed.

    Attributes:
        mode: how a row is done: "row" (consecutive on both sides), "splat" (one element repeated), "tile" (a transpose
            of blocks) or "single" (one element at a time).
        bits: what is moved.
        axes: extent, source stride and target stride of each axis that the odometer follows.
        inner: numbers for the inside of a row; see `words`.
        items, grain: the parts of the work.
    """

    mode: str
    bits: DType
    axes: tuple[tuple[int, int, int], ...]
    inner: tuple[int, ...]
    items: int
    grain: int

    @property
    def key(self) -> str:
        """What the code depends on."""
        return f"{self.mode}/{self.bits.itemsize}/{len(self.axes)}"

    @property
    def words(self) -> tuple[int, ...]:
        """The numbers of the code: three for each axis, then the inner ones."""
        return (*(word for axis in self.axes for word in axis), *self.inner)

    def emit(self, frame: Frame, words: Sequence[Any], source: Any, target: Any) -> None:
        """Emit the copy; ``words`` are those of the property."""
        n = len(self.axes)
        axes = [words[3 * i : 3 * i + 3] for i in range(n)]
        inner = words[3 * n :]
        odometer = Odometer(frame, *([axis[k] for axis in axes] for k in range(3)))
        row = _MODES[self.mode]
        with frame.e.loop(frame.begin, frame.end):
            at, to = (
                frame.e.address(base, offset, self.bits)
                for base, offset in zip((source, target), odometer.offsets(), strict=True)
            )
            row(frame, self.bits, odometer, inner, at, to)
            odometer.advance()


def _collapsed(shape: Sequence[int], sources: Sequence[int], targets: Sequence[int]) -> list[tuple[int, int, int]]:
    """Axes without those of extent 1, neighbours joined where one stride on each side goes through both."""
    axes: list[tuple[int, int, int]] = []
    for n, s, t in zip(shape, sources, targets, strict=True):
        if n == 1:
            continue
        if axes and axes[-1][1:] == (n * s, n * t):
            axes[-1] = (axes[-1][0] * n, s, t)
        else:
            axes.append((n, s, t))
    return axes or [(1, 1, 1)]


def plan_copy(shape: Sequence[int], sources: Sequence[int], dtype: DType, targets: Sequence[int] | None = None) -> Copy:
    """Analyse a copy of elements of ``shape`` from one set of strides to another (row-major, unless said)."""
    bits, parts = moved(dtype)
    targets = row_major(shape) if targets is None else targets
    if 0 in shape:
        return Copy("row", bits, ((1, 0, 0),), (1, 0), 0, 1)
    if parts > 1:
        shape = (*shape, parts)
        sources, targets = ((*(parts * s for s in strides), 1) for strides in (sources, targets))
    *outer, (n, s, t) = _collapsed(shape, sources, targets)
    across = next((i for i, axis in enumerate(outer) if axis[1] == 1), None)
    if t == 1 and s not in (0, 1) and across is not None:
        return _plan_tiles(bits, outer, across, n, s)
    block, blocks = split(n, bits.itemsize)
    axes = (*outer, (blocks, block * s, block * t))
    items = math.prod(axis[0] for axis in axes)
    grain = grain_for(block * bits.itemsize)
    if t == 1 and s in (0, 1):
        return Copy("row" if s else "splat", bits, axes, (block, n), items, grain)
    return Copy("single", bits, axes, (block, n, s, t), items, grain)


def _plan_tiles(bits: DType, outer: list[tuple[int, int, int]], across: int, n: int, s: int) -> Copy:
    """A transpose: the last axis is consecutive in the target, axis ``across`` in the source."""
    m, _, t = outer.pop(across)
    block = LANES * 64
    axes = (*outer, (-(-m // LANES), LANES, LANES * t), (-(-n // block), block * s, block))
    items = math.prod(axis[0] for axis in axes)
    grain = grain_for(min(n, block) * min(m, LANES) * bits.itemsize)
    return Copy("tile", bits, axes, (block, n, s, m, t), items, grain)


def copy_call(
    shape: Sequence[int],
    strides: Sequence[int],
    dtype: DType,
    source: Ref = INPUT,
    target: Ref = OUTPUT,
    target_strides: Sequence[int] | None = None,
) -> Call:
    """A call that copies a strided view into a buffer.

    Args:
        shape: of what is copied.
        strides: of the source, in elements; 0 and negative ones are fine.
        dtype: of the elements.
        source: the first element of the view.
        target: the first element to write.
        target_strides: row-major, unless given; two elements must not meet.
    """
    copy = plan_copy(shape, strides, dtype, target_strides)

    def build(module: ir.Module, name: str) -> None:
        frame = Frame(module, name, 2, len(copy.words))
        copy.emit(frame, frame.words, *frame.buffers)
        frame.done()

    code = Code(f"copy/{copy.key}", build)
    return Call(code, (source, target), copy.words, copy.items, copy.grain, flops=math.prod(shape))


# How the inside of a row is written: (frame, bits, odometer, inner numbers, source, target).


def _length(frame: Frame, odometer: Odometer, axis: int, block: Any, n: Any) -> Any:
    """How many elements the current block has: the last one of an axis may be shorter."""
    b = frame.b
    return smaller(b, block, b.sub(n, b.mul(odometer.coordinate(axis), block)))


def _emit_row(frame: Frame, bits: DType, odometer: Odometer, inner: Sequence[Any], source: Any, target: Any) -> None:
    block, n = inner
    copied(frame.e, source, target, _length(frame, odometer, -1, block, n), bits)


def _emit_splat(frame: Frame, bits: DType, odometer: Odometer, inner: Sequence[Any], source: Any, target: Any) -> None:
    block, n = inner
    value = frame.e.load_one(source, I64(0), bits)
    frame.e.blocks(_length(frame, odometer, -1, block, n), lambda i: frame.e.store(value, target, i, bits))


def _emit_single(frame: Frame, bits: DType, odometer: Odometer, inner: Sequence[Any], source: Any, target: Any) -> None:
    block, n, s, t = inner
    e = scalar(frame)
    with e.loop(I64(0), _length(frame, odometer, -1, block, n)) as i:
        value = e.load(source, frame.b.mul(i, s), bits)
        e.store(value, target, frame.b.mul(i, t), bits)


def _emit_tile(frame: Frame, bits: DType, odometer: Odometer, inner: Sequence[Any], source: Any, target: Any) -> None:
    block, n, s, m, t = inner
    b, e = frame.b, scalar(frame)
    wide = _length(frame, odometer, -1, block, n)
    high = _length(frame, odometer, -2, I64(LANES), m)
    full = b.icmp_signed("==", high, I64(LANES))
    whole = b.select(full, b.and_(wide, I64(-LANES)), I64(0))
    with e.loop(I64(0), whole, LANES) as i:
        rows = [frame.e.load(source, b.mul(b.add(i, I64(k)), s), bits) for k in range(LANES)]
        for k, row in enumerate(transposed(b, rows)):
            frame.e.store(row, target, b.add(i, b.mul(I64(k), t)), bits)
    with e.loop(I64(0), high) as j, e.loop(whole, wide) as i:
        value = e.load(source, b.add(b.mul(i, s), j), bits)
        e.store(value, target, b.add(b.mul(j, t), i), bits)


def transposed(b: Any, rows: Sequence[Any]) -> list[Any]:
    """The columns of `LANES` vectors of as many elements.

    Each round exchanges, in all squares of ``2 * size`` rows and columns, the upper right block with the lower left
    one. The larger sizes come first: where a vector is several registers, they only rename those.
    """
    rows, size = list(rows), LANES // 2
    while size:
        upper, lower = (
            ir.Constant(ir.VectorType(I32, LANES), [I32(k) for k in kept])
            for kept in (
                [k + LANES - size if k & size else k for k in range(LANES)],
                [k + LANES if k & size else k + size for k in range(LANES)],
            )
        )
        for i in range(LANES):
            if not i & size:
                x, y = rows[i], rows[i + size]
                rows[i], rows[i + size] = b.shuffle_vector(x, y, upper), b.shuffle_vector(x, y, lower)
        size //= 2
    return rows


_MODES: dict[str, Callable[..., None]] = {
    "row": _emit_row, "splat": _emit_splat, "single": _emit_single, "tile": _emit_tile,
}  # fmt: skip


# --- primitives -------------------------------------------------------------------------------------------


def _lower_concat(node: Node) -> Lowered:
    out, axis = node.outputs[0], node.static["axis"]
    strides = row_major(out.shape)
    calls, start = [], 0
    for i, x in enumerate(node.inputs):
        target = Ref("out", 0, start * strides[axis] * x.dtype.itemsize)
        calls.append(copy_call(x.shape, row_major(x.shape), x.dtype, Ref("in", i), target, strides))
        start += x.shape[axis]
    return _lowered(calls)


def _lower_roll(node: Node) -> Lowered:
    x, axis = node.inputs[0], node.static["axis"]
    if not x.size:
        return Lowered([])
    strides, n = row_major(x.shape), x.shape[axis]
    shift = node.static["shift"] % n
    step = strides[axis] * x.dtype.itemsize

    def part(length: int, at: int, to: int) -> Call:
        shape = (*x.shape[:axis], length, *x.shape[axis + 1 :])
        return copy_call(shape, strides, x.dtype, Ref("in", 0, at * step), Ref("out", 0, to * step), strides)

    return _lowered([part(n - shift, 0, shift), part(shift, n - shift, 0)])


def _lower_flip(node: Node) -> Lowered:
    x, axes = node.inputs[0], node.static["axes"]
    strides = row_major(x.shape)
    last = sum(strides[a] * (x.shape[a] - 1) for a in axes) if x.size else 0
    turned = [-s if a in axes else s for a, s in enumerate(strides)]
    return _lowered([copy_call(x.shape, turned, x.dtype, Ref("in", 0, last * x.dtype.itemsize))])


def _lower_pad(node: Node) -> Lowered:
    x, out = node.inputs[0], node.outputs[0]
    given, made = row_major(x.shape), row_major(out.shape)
    shape, sources, at, to = [], [], 0, 0
    for axis, (low, _, inner) in enumerate(node.static["widths"]):
        step = inner + 1
        first = -(-max(0, -low) // step)  # elements before it are cut off
        last = (out.shape[axis] - 1 - low) // step  # and those after it
        shape.append(max(0, min(x.shape[axis] - 1, last) - first + 1))
        sources.append(given[axis])
        at, to = at + first * given[axis], to + (low + first * step) * made[axis]
        made = (*made[:axis], made[axis] * step, *made[axis + 1 :])
    size = x.dtype.itemsize
    calls = []
    if math.prod(shape) < out.size:
        calls.append(copy_call((out.size,), (0,), x.dtype, Ref("in", 1)))
    if 0 not in shape:
        calls.append(copy_call(shape, sources, x.dtype, Ref("in", 0, at * size), Ref("out", 0, to * size), made))
    return _lowered(calls)


def _lowered(calls: Sequence[Call]) -> Lowered:
    return Lowered([call for call in calls if call.items])


LOWER: dict[str, Callable[[Node], Lowered | None]] = {
    "concat": _lower_concat, "roll": _lower_roll, "flip": _lower_flip, "pad": _lower_pad,
}  # fmt: skip
