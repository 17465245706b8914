"""Pooling: loops over images, positions of the window, channels, and places in the window.

Lanes are channels. For each position the places that lie within the image are a range along each axis, computed
outside of the channel loop; so there is no padded copy and no test inside. Without padding all places are valid, and
those of a small window are written out.

Kernels that read windows, or write to windows that tile the image, share the work by rows of positions; those that
write to other windows, which may overlap or leave gaps, by images. What is added to an element of 16 bits is rounded
each time, as in the reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from llvmlite import ir

from ..dtypes import DType
from ..graph.ir import Node
from . import elementwise
from .kernel import Call, Code, Frame, Lowered, Ref
from .math.lanes import Lanes
from .moving import grain_for
from .running import above, add, lowest, real_parts
from .vector import I1, I32, I64, LANES, is_float, scalar_type, smaller

_WRITTEN_OUT = 9
"""Windows of at most so many places are written out if all are valid."""


class _How(NamedTuple):
    """What is static of a window."""

    window: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.window)

    @property
    def written_out(self) -> bool:
        """Whether its places are written out one by one."""
        return not any(map(any, self.padding)) and math.prod(self.window) <= _WRITTEN_OUT

    @property
    def overlaps(self) -> bool:
        """Whether an element may be in two windows."""
        return any((k - 1) * d + 1 > s for k, s, d in zip(self.window, self.stride, self.dilation, strict=True))

    def tiles(self, image: tuple[int, ...], pooled: tuple[int, ...]) -> bool:
        """Whether every element of an image (N, spatial..., C) is in one window."""
        dense = self.window == self.stride and not any(map(any, self.padding)) and set(self.dilation) == {1}
        return dense and image[1:-1] == tuple(n * k for n, k in zip(pooled[1:-1], self.window, strict=True))

    @property
    def key(self) -> str:
        """A description."""
        return "/".join(str(part).replace(" ", "") for part in self)


def _how(static: Mapping[str, Any]) -> _How:
    return _How(
        tuple(static["window"]),
        tuple(static["stride"]),
        tuple((low, high) for low, high in static["padding"]),
        tuple(static["dilation"]),
    )


class _Span(NamedTuple):
    """A position of the window along an axis: where it begins, and which of its places are within the image."""

    start: Any
    low: Any
    high: Any


class _Place(NamedTuple):
    """A place in the window.

    Attributes:
        offset: of its element in the image, without the channel.
        number: among all places of the window, row-major.
        first: whether it is number 0, where that is known when code is written; else an i1.
    """

    offset: Any
    number: Any
    first: Any


class _Nest:
    """The loops of a kernel.

    Args:
        frame: the kernel, whose first words are those of `_sizes`.
        how: the window.
        ending: of the channels, see `_ending`.
    """

    def __init__(self, frame: Frame, how: _How, ending: str) -> None:
        rank = how.rank
        self.frame, self.e, self.b, self.how, self.rank = frame, frame.e, frame.b, how, rank
        self.image, self.pooled = frame.words[:rank], frame.words[rank : 2 * rank]
        self.channels, self.ending = frame.words[2 * rank], ending
        self.steps = [self.channels]  # from an element to the next along each axis
        for extent in reversed(self.image[1:]):
            self.steps.insert(0, self.b.mul(self.steps[0], extent))
        self.image_size = self.b.mul(self.steps[0], self.image[0])

    def lanes(self, body: Callable[[Any], None]) -> None:
        """Emit ``body(channel)`` for the channels, as many at a time as there are lanes."""
        if self.ending == "tail":
            self.e.blocks(self.channels, body)
            return
        with self.e.loop(I64(0), self.channels, LANES) as channel:
            last = self.b.sub(self.channels, I64(LANES))
            body(channel if self.ending == "whole" else smaller(self.b, channel, last))

    def rows(self, buffers: list[Any], dtype: DType, body: Callable[[list[Any], tuple[_Span, ...], Any], None]) -> None:
        """Emit ``body(images, spans, number)`` for items that are places along the first axis, in an image."""
        b = self.b
        with self.e.loop(self.frame.begin, self.frame.end) as row:
            image, p = b.udiv(row, self.pooled[0]), b.urem(row, self.pooled[0])
            images = [self.e.address(buffer, b.mul(image, self.image_size), dtype) for buffer in buffers]
            self.positions((self.span(0, p),), row, lambda spans, number: body(images, spans, number))

    def span(self, axis: int, position: Any) -> _Span:
        """A position along an axis."""
        b, how = self.b, self.how
        k, s, (low_pad, _), d = how.window[axis], how.stride[axis], how.padding[axis], how.dilation[axis]
        start = b.sub(b.mul(position, I64(s)), I64(low_pad))
        if how.written_out:
            return _Span(start, None, None)

        def places_below(edge: Any) -> Any:
            """How many places lie before an edge, a distance from the start."""
            edge = b.select(b.icmp_signed(">", edge, I64(0)), edge, I64(0))
            count = b.udiv(b.add(edge, I64(d - 1)), I64(d))
            return b.select(b.icmp_signed("<", count, I64(k)), count, I64(k))

        return _Span(start, places_below(b.neg(start)), places_below(b.sub(self.image[axis], start)))

    def positions(self, spans: tuple[_Span, ...], number: Any, body: Callable[[tuple[_Span, ...], Any], None]) -> None:
        """Emit ``body(spans, number)`` for all positions along the axes that have no span yet."""
        axis = len(spans)
        if axis == self.rank:
            body(spans, number)
            return
        extent = self.pooled[axis]
        base = self.b.mul(number, extent)
        with self.e.loop(I64(0), extent) as p:
            self.positions((*spans, self.span(axis, p)), self.b.add(base, p), body)

    def places(self, spans: tuple[_Span, ...], body: Callable[[_Place], None]) -> None:
        """Emit ``body(place)`` for each place of a window that is within the image, in row-major order."""
        offset = I64(0)
        for span, step in zip(spans, self.steps, strict=True):
            offset = self.b.add(offset, self.b.mul(span.start, step))
        self._along(0, spans, _Place(offset, I64(0), True), body)

    def _along(self, axis: int, spans: tuple[_Span, ...], place: _Place, body: Callable[[_Place], None]) -> None:
        if axis == self.rank:
            body(place)
            return
        b = self.b
        step = b.mul(self.steps[axis], I64(self.how.dilation[axis]))
        base = b.mul(place.number, I64(self.how.window[axis]))
        if self.how.written_out:
            for t in range(self.how.window[axis]):
                offset = b.add(place.offset, b.mul(I64(t), step))
                self._along(axis + 1, spans, _Place(offset, b.add(base, I64(t)), place.first and t == 0), body)
            return
        with self.e.loop(spans[axis].low, spans[axis].high) as i:
            first = b.icmp_signed("==", i, I64(0))
            first = first if place.first is True else b.and_(place.first, first)
            offset = b.add(place.offset, b.mul(i, step))
            self._along(axis + 1, spans, _Place(offset, b.add(base, i), first), body)


def _sizes(image: tuple[int, ...], pooled: tuple[int, ...], parts: int = 1) -> tuple[int, ...]:
    """The words of a kernel, from two shapes (N, spatial..., C)."""
    return (*image[1:-1], *pooled[1:-1], image[-1] * parts)


def _ending(channels: int, *, repeatable: bool) -> str:
    """How channels end: "whole" if they fill all lanes, "again" if some may be done twice, else "tail", with a mask."""
    if channels % LANES == 0:
        return "whole"
    return "again" if repeatable and channels > LANES else "tail"


# --- reading windows --------------------------------------------------------------------------------------

# What a kernel computes for 16 channels of one window: (nest, sources, spans, channel, dtype) -> result.
_Read = Callable[[_Nest, list[Any], tuple[_Span, ...], Any, DType], Any]


def _maximum(nest: _Nest, sources: list[Any], spans: tuple[_Span, ...], channel: Any, dtype: DType) -> Any:
    e, b = nest.e, nest.b
    best = e.variable(e.of(dtype), e.const(scalar_type(dtype), lowest(dtype)))

    def visit(place: _Place) -> None:
        x, before = (Lanes(e, v) for v in (e.load(sources[0], b.add(place.offset, channel), dtype), b.load(best)))
        b.store(elementwise.larger(before, x, dtype).v, best)

    nest.places(spans, visit)
    return b.load(best)


def _total(nest: _Nest, sources: list[Any], spans: tuple[_Span, ...], channel: Any, dtype: DType) -> Any:
    e, b = nest.e, nest.b
    total = e.variable(e.of(dtype), e.const(scalar_type(dtype), 0))

    def visit(place: _Place) -> None:
        b.store(add(e, b.load(total), e.load(sources[0], b.add(place.offset, channel), dtype), dtype), total)

    nest.places(spans, visit)
    return b.load(total)


def _best(
    nest: _Nest, x: Any, spans: tuple[_Span, ...], channel: Any, dtype: DType, take: Callable[[_Place, Any], None]
) -> None:
    """Emit ``take(place, lanes)`` in the order of places for those that are better than all before.

    The first of equals stays, also where it is padding: then nothing is taken until something is better. The first NaN
    stays.
    """
    e, b = nest.e, nest.b
    best = e.variable(e.of(dtype), e.const(scalar_type(dtype), lowest(dtype)))

    def visit(place: _Place) -> None:
        value, before = e.load(x, b.add(place.offset, channel), dtype), b.load(best)
        better = above(e, value, before, dtype)
        if is_float(dtype):
            better = b.and_(better, b.fcmp_ordered("ord", before, before))
        if place.first is True:
            better = e.const(I1, 1)
        elif place.first is not False:
            better = b.or_(better, e.splat(place.first))
        b.store(e.select(better, value, before), best)
        take(place, better)

    nest.places(spans, visit)


def _taken(nest: _Nest, sources: list[Any], spans: tuple[_Span, ...], channel: Any, dtype: DType) -> Any:
    e, b = nest.e, nest.b
    values, x = sources
    result = e.variable(e.of(dtype), e.const(scalar_type(dtype), 0))

    def take(place: _Place, better: Any) -> None:
        value = e.load(values, b.add(place.offset, channel), dtype)
        b.store(e.select(better, value, b.load(result)), result)

    _best(nest, x, spans, channel, dtype, take)
    return b.load(result)


def _emit_reading(frame: Frame, nest: _Nest, dtype: DType, read: _Read) -> None:
    *images, target = frame.buffers

    def position(sources: list[Any], spans: tuple[_Span, ...], number: Any) -> None:
        to = nest.e.address(target, nest.b.mul(number, nest.channels), dtype)
        nest.lanes(lambda c: nest.e.store(read(nest, sources, spans, c, dtype), to, c, dtype))

    nest.rows(images, dtype, position)


# --- writing to windows -----------------------------------------------------------------------------------

# Adds 16 channels of one window to an image: (nest, target, sources, spans, channel, value, dtype).
_Write = Callable[[_Nest, Any, list[Any], tuple[_Span, ...], Any, Any, DType], None]


def _add_to(nest: _Nest, target: Any, at: Any, value: Any, dtype: DType) -> None:
    """Add to elements, which are still zero if windows do not overlap."""
    e = nest.e
    if nest.how.overlaps:
        value = add(e, e.load(target, at, dtype), value, dtype)
    e.store(value, target, at, dtype)


def _spread(
    nest: _Nest, target: Any, sources: list[Any], spans: tuple[_Span, ...], channel: Any, value: Any, dtype: DType
) -> None:
    nest.places(spans, lambda place: _add_to(nest, target, nest.b.add(place.offset, channel), value, dtype))


def _scattered(
    nest: _Nest, target: Any, sources: list[Any], spans: tuple[_Span, ...], channel: Any, value: Any, dtype: DType
) -> None:
    e, b = nest.e, nest.b
    nowhere = e.const(I32, -1)
    which = e.variable(nowhere.type, nowhere)

    def take(place: _Place, better: Any) -> None:
        number = e.splat(b.trunc(place.number, I32))
        b.store(e.select(better, number, b.load(which)), which)

    _best(nest, sources[0], spans, channel, dtype, take)
    winner, zero = b.load(which), e.const(scalar_type(dtype), 0)

    def give(place: _Place) -> None:
        here = b.icmp_signed("==", winner, e.splat(b.trunc(place.number, I32)))
        _add_to(nest, target, b.add(place.offset, channel), e.select(here, value, zero), dtype)

    nest.places(spans, give)


def _position(nest: _Nest, dtype: DType, write: _Write) -> Callable[[list[Any], tuple[_Span, ...], Any], None]:
    """What emits the code of a position, given the images (the first is written to), spans and its number."""
    e, b = nest.e, nest.b

    def position(images: list[Any], spans: tuple[_Span, ...], number: Any) -> None:
        given = e.address(nest.frame.buffers[0], b.mul(number, nest.channels), dtype)
        target, *sources = images

        def some(c: Any) -> None:
            write(nest, target, sources, spans, c, e.load(given, c, dtype), dtype)

        nest.lanes(some)

    return position


def _emit_tiling(frame: Frame, nest: _Nest, dtype: DType, write: _Write) -> None:
    """Windows that tile the image: each writes its elements, once."""
    _, *images, result = frame.buffers
    nest.rows([result, *images], dtype, _position(nest, dtype, write))


def _emit_writing(frame: Frame, nest: _Nest, dtype: DType, write: _Write) -> None:
    e, b = frame.e, frame.b
    _, *images, result = frame.buffers
    zero, position = e.const(scalar_type(dtype), 0), _position(nest, dtype, write)
    with e.loop(frame.begin, frame.end) as image:
        at = [e.address(p, b.mul(image, nest.image_size), dtype) for p in (result, *images)]
        e.blocks(nest.image_size, lambda i: e.store(zero, at[0], i, dtype))
        # Positions are numbered through all images, so that number begins with the image's.
        nest.positions((), image, lambda spans, number: position(at, spans, number))


# --- lowering ---------------------------------------------------------------------------------------------


def _lowering(name: str, compute: _Read | _Write, *, writes: bool) -> Any:
    """What lowers a primitive that reads windows, or writes to them: then the image is the result."""

    def lower(node: Node) -> Lowered | None:
        how = _how(node.static)
        out = node.outputs[0]
        image, pooled = (out, node.inputs[0]) if writes else (node.inputs[-1], out)
        dtype, parts = real_parts(out.dtype)
        if not out.size:
            return Lowered([])
        count, tiles = len(node.inputs), how.tiles(image.shape, pooled.shape)
        ending = _ending(out.shape[-1] * parts, repeatable=not (writes and how.overlaps))
        emit: Any = (_emit_tiling if tiles else _emit_writing) if writes else _emit_reading

        def build(module: ir.Module, symbol: str) -> None:
            frame = Frame(module, symbol, count + 1, 2 * how.rank + 1)
            emit(frame, _Nest(frame, how, ending), dtype, compute)
            frame.done()

        refs = (*(Ref("in", i) for i in range(count)), Ref("out", 0))
        flops = (pooled.size * math.prod(how.window) + (out.size if writes else 0)) * parts
        items = out.shape[0] if emit is _emit_writing else pooled.shape[0] * pooled.shape[1]
        grain = grain_for(flops // items * dtype.itemsize)
        code = Code(f"{name}/{dtype.name}/{how.key}/{ending}/{emit.__name__}", build)
        return Lowered([Call(code, refs, _sizes(image.shape, pooled.shape, parts), items, grain, flops)])

    return lower


LOWER: dict[str, Callable[[Node], Lowered | None]] = {
    "max_pool": _lowering("max_pool", _maximum, writes=False),
    "max_pool_gather": _lowering("max_pool_gather", _taken, writes=False),
    "sum_pool": _lowering("sum_pool", _total, writes=False),
    "max_pool_scatter": _lowering("max_pool_scatter", _scattered, writes=True),
    "sum_pool_spread": _lowering("sum_pool_spread", _spread, writes=True),
}
