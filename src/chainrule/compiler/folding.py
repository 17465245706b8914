"""Adding up overlapping windows: the other way to the gradient of a convolution by its image.

Where few channels would fill a vector badly, or the border of a small image is most of the work, the gradient is first
computed for each window by itself, as a plain product (positions, o) @ (o, window and channels), and then every pixel
adds up what the windows have for it, in the order of the places in the window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from ..dtypes import DType
from .contraction import Finish, Store
from .kernel import Call, Code, Frame, Lowered, Ref
from .packing import CHUNK_BYTES
from .vector import I64, LANES, is_float

# What adding up 16 elements costs, in multiplications; fewer channels than 16 take turns in waiting for each other's
# stores. And the largest buffer.
_BLOCK_COST = 256
_MOST_BYTES = 32 << 20


def padded(channels: int) -> int:
    """Columns for which a product of so many is computed: the last vector may be half of one."""
    half = LANES // 2
    return -(-channels // half) * half


def pays(direct: int, positions: int, outputs: int, places: int, channels: int, itemsize: int) -> bool:
    """Whether folding is faster.

    Args:
        direct: multiplications of the direct way.
        positions: number of windows.
        outputs: channels of the convolution's result.
        places, channels: the extents of a window.
        itemsize: bytes of a number.
    """
    terms = places * channels
    folded = positions * (outputs * padded(terms) + places * -(-channels // LANES) * _BLOCK_COST)
    return channels >= LANES and folded < direct and positions * terms * itemsize <= _MOST_BYTES


def fold(
    windows: Ref, dtype: DType, shape: Sequence[int], positions: Sequence[int], window: Sequence[int],
    how: tuple[Sequence[int], Sequence[int], Sequence[int]], finish: Finish | None, lowered: Lowered,
) -> None:  # fmt: skip
    """Append the call that adds up windows (N, P..., K..., C) to an image (N, H..., C).

    Args:
        windows: their buffer, dense.
        dtype: of all.
        shape: of the image.
        positions, window: the extents P and K.
        how: strides, dilations, and the zeros before the image.
        finish: what to do with the results; None to store them.
        lowered: where to append.
    """
    words = [shape[0], shape[-1], math.prod(positions), math.prod(window)]
    for i, sizes in enumerate(zip(shape[1:-1], positions, window, *how, strict=True)):
        words += [*sizes, math.prod(positions[i + 1 :]), math.prod(window[i + 1 :])]
    dims = len(window)
    items, line = math.prod(shape[:-2]), shape[-2] * shape[-1]
    grain = max(1, CHUNK_BYTES // (line * math.prod(window) * dtype.itemsize))
    n_refs, n_words = (len(finish.refs), len(finish.words)) if finish else (0, 0)

    def build(module: ir.Module, name: str) -> None:
        frame = Frame(module, name, 2 + n_refs, len(words) + n_words)
        store = finish.emit(frame, frame.buffers[2:], frame.words[len(words) :]) if finish else None
        _Fold(frame, dtype, dims, store).emit()
        frame.done()

    code = Code(f"fold {dtype} {dims} finish {finish.key if finish else None}", build)
    more = (finish.refs, finish.words) if finish else ((), ())
    refs = (windows, Ref("out", 0), *more[0])
    flops = math.prod(positions) * math.prod(window) * shape[0] * shape[-1]
    scratch = -(-line * dtype.itemsize // 64) * 64
    lowered.calls.append(Call(code, refs, (*words, *more[1]), items, min(grain, items), flops, scratch))


class _Axis:
    """The numbers of a dimension, as values at run time."""

    def __init__(self, words: list[Any]) -> None:
        self.size, self.positions, self.window, self.stride, self.dilation, self.before = words[:6]
        self.position_step, self.place_step = words[6:]


class _Fold:
    """The kernel of `fold`; an item is a line of the image, along its last dimension."""

    def __init__(self, frame: Frame, dtype: DType, dims: int, store: Store | None) -> None:
        self.frame, self.e, self.b, self.dtype, self.store = frame, frame.e, frame.b, dtype, store
        self.windows, self.out = frame.buffers[:2]
        self.images, self.channels, self.positions, self.places = frame.words[:4]
        *self.outer, self.line = [_Axis(frame.words[i : i + 8]) for i in range(4, 4 + 8 * dims, 8)]

    def emit(self) -> None:
        """All items."""
        b, e = self.b, self.e
        zero = ir.Constant(e.of(self.dtype), None)
        with e.loop(self.frame.begin, self.frame.end) as item:
            count = b.mul(self.line.size, self.channels)
            e.blocks(count, lambda i: e.store(zero, self.frame.scratch, i, self.dtype))
            rest = item
            indices: list[Any] = []
            for axis in reversed(self.outer):
                indices.insert(0, b.urem(rest, axis.size))
                rest = b.udiv(rest, axis.size)
            self._over(0, indices, b.mul(rest, self.positions), I64(0))
            first = b.mul(item, self.line.size)
            with e.loop(I64(0), self.line.size) as pixel:
                start = b.mul(pixel, self.channels)
                e.blocks(self.channels, lambda c: self._finish(b.add(first, pixel), start, c))

    def _over(self, level: int, indices: list[Any], position: Any, place: Any) -> None:
        """All places of the window that reach this line, in the dimensions from ``level`` on."""
        b, e = self.b, self.e
        if level == len(self.outer):
            self._add_line(position, place)
            return
        axis = self.outer[level]
        with e.loop(I64(0), axis.window) as k:
            distance = b.sub(b.add(indices[level], axis.before), b.mul(axis.dilation, k))
            p = b.sdiv(distance, axis.stride)
            whole = b.icmp_signed("==", b.mul(p, axis.stride), distance)
            inside = b.and_(b.icmp_signed(">=", distance, I64(0)), b.icmp_signed("<", p, axis.positions))
            with b.if_then(b.and_(whole, inside)):
                here = b.add(position, b.mul(p, axis.position_step))
                self._over(level + 1, indices, here, b.add(place, b.mul(k, axis.place_step)))

    def _add_line(self, position: Any, place: Any) -> None:
        """Add the windows along the last dimension to the line in scratch."""
        b, e, axis = self.b, self.e, self.line
        with e.loop(I64(0), axis.window) as k:
            # Position p reaches pixel p * stride + shift: those that lie on the line.
            shift = b.sub(b.mul(axis.dilation, k), axis.before)
            round_up = b.sub(axis.stride, I64(1))
            low = b.sdiv(b.add(e.intrinsic("smax", b.sub(I64(0), shift), I64(0)), round_up), axis.stride)
            reach = e.intrinsic("smax", b.sub(axis.size, shift), I64(0))
            high = e.intrinsic("smin", b.sdiv(b.add(reach, round_up), axis.stride), axis.positions)

            def add(channel: Any, k: Any = k, low: Any = low, high: Any = high, shift: Any = shift) -> None:
                # Pixels inside: a masked store must not be followed by a load that overlaps it.
                with e.loop(low, high) as p:
                    pixel = b.add(b.mul(p, axis.stride), shift)
                    window = b.add(b.mul(b.add(position, p), self.places), b.add(place, k))
                    source = b.add(b.mul(window, self.channels), channel)
                    self._add(source, b.add(b.mul(pixel, self.channels), channel))

            e.blocks(self.channels, add)

    def _add(self, source: Any, target: Any) -> None:
        b, e = self.b, self.e
        value, old = e.load(self.windows, source, self.dtype), e.load(self.frame.scratch, target, self.dtype)
        total = b.fadd(old, value) if is_float(self.dtype) else b.add(old, value)
        e.store(total, self.frame.scratch, target, self.dtype)

    def _finish(self, row: Any, start: Any, column: Any) -> None:
        b, e = self.b, self.e
        value = e.load(self.frame.scratch, b.add(start, column), self.dtype)
        if self.store:
            self.store.write(e, [value], row, column)
        else:
            e.store(value, self.out, b.add(b.mul(row, self.channels), column), self.dtype)
