"""Running reductions: each element of the result combines all elements before it along an axis.

An array is seen as outer x n x inner. An item is a block of columns of `inner` for one place of `outer`: its state is
one vector, which goes along the axis. Where `inner` is 1 the same code is scalar. Complex sums are sums of their parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from .. import dtypes
from ..dtypes import DType
from ..graph.ir import Node
from .kernel import Call, Code, Frame, Lowered, Ref
from .moving import grain_for, scalar
from .vector import I64, LANES, Emitter, is_float, is_signed, scalar_type

Combine = Callable[[Emitter, Any, Sequence[Any], DType], Any]


def real_parts(dtype: DType) -> tuple[DType, int]:
    """What a sum of ``dtype`` is a sum of, and how many of it an element has."""
    return (dtypes.real_of(dtype), 2) if dtype in dtypes.COMPLEX else (dtype, 1)


def add(e: Emitter, x: Any, y: Any, dtype: DType) -> Any:
    """Sum as NumPy has it: of bools, whether one of them is true."""
    if is_float(dtype):
        return e.b.fadd(x, y)
    return e.b.or_(x, y) if dtype == dtypes.bool_ else e.b.add(x, y)


def multiply(e: Emitter, x: Any, y: Any, dtype: DType) -> Any:
    """Product."""
    return e.b.fmul(x, y) if is_float(dtype) else e.b.mul(x, y)


def compared(e: Emitter, sign: str, x: Any, y: Any, dtype: DType) -> Any:
    """``x sign y``; false where one is NaN, except for ``!=``."""
    if is_float(dtype):
        return e.b.fcmp_unordered(sign, x, y) if sign == "!=" else e.b.fcmp_ordered(sign, x, y)
    compare = e.b.icmp_signed if is_signed(dtype) else e.b.icmp_unsigned
    return compare(sign, x, y)


def above(e: Emitter, x: Any, best: Any, dtype: DType, sign: str = ">") -> Any:
    """Whether ``x`` takes the place of ``best``: it is greater, or a NaN."""
    better = compared(e, sign, x, best, dtype)
    return e.b.or_(better, compared(e, "!=", x, x, dtype)) if is_float(dtype) else better


def lowest(dtype: DType) -> float | int:
    """What no element is below."""
    if is_float(dtype):
        return -math.inf
    return 0 if dtype == dtypes.bool_ else int(np.iinfo(dtype).min)


def around(shape: Sequence[int], axis: int) -> tuple[int, int, int]:
    """A shape as outer x n x inner, with n along ``axis``."""
    return math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])


def blocks_of(inner: int) -> int:
    """Into how many vectors ``inner`` columns are cut."""
    return -(-inner // LANES)


def columns(frame: Frame, inner: Any, blocks: Any, n: Any, body: Callable[[Emitter, Any, Any], None]) -> None:
    """Emit ``body(e, place, first)`` for each item: a block of columns of one place of outer.

    ``first`` is the number of its first element in outer x n x inner, and ``place`` that in outer x inner; where
    ``inner`` is None there is one column.
    """
    b = frame.b
    with frame.e.loop(frame.begin, frame.end) as item:
        if inner is None:
            body(scalar(frame), item, b.mul(item, n))
            return
        place, block = b.udiv(item, blocks), b.urem(item, blocks)
        column = b.mul(block, I64(LANES))
        first = b.add(b.mul(b.mul(place, n), inner), column)
        place = b.add(b.mul(place, inner), column)
        remaining = b.sub(inner, column)
        with b.if_else(b.icmp_signed(">=", remaining, I64(LANES))) as (whole, tail):
            with whole:
                body(frame.e, place, first)
            with tail, frame.e.masked(frame.e.tail_mask(remaining)):
                body(frame.e, place, first)


def _sums(e: Emitter, state: Any, xs: Sequence[Any], dtype: DType) -> Any:
    return add(e, state, xs[0], dtype)


def _products(e: Emitter, state: Any, xs: Sequence[Any], dtype: DType) -> Any:
    return multiply(e, state, xs[0], dtype)


def _maxima(e: Emitter, state: Any, xs: Sequence[Any], dtype: DType) -> Any:
    return e.select(above(e, xs[0], state, dtype), xs[0], state)


def _recurrence(e: Emitter, state: Any, xs: Sequence[Any], dtype: DType) -> Any:
    return add(e, multiply(e, xs[0], state, dtype), xs[1], dtype)


def _running(name: str, combine: Combine, initial: Callable[[DType], float | int]) -> Callable[[Node], Lowered | None]:
    def lower(node: Node) -> Lowered | None:
        out, static = node.outputs[0], node.static
        dtype, parts = real_parts(out.dtype)
        if any(x.type != out.type for x in node.inputs) or (parts > 1 and name != "cumsum"):
            return None
        if dtype == dtypes.bool_ and name != "cummax":
            return None
        if not out.size:
            return Lowered([])
        outer, n, inner = around(out.shape, static["axis"])
        inner *= parts
        single = inner == 1
        count = len(node.inputs)

        def build(module: ir.Module, symbol: str) -> None:
            frame = Frame(module, symbol, count + 1, 1 if single else 3)
            _emit(frame, dtype, static["reverse"], combine, initial(dtype), single)
            frame.done()

        key = f"running/{name}/{dtype.name}/{'reverse' if static['reverse'] else ''}/{'single' if single else ''}"
        refs = (*(Ref("in", i) for i in range(count)), Ref("out", 0))
        words = (n,) if single else (n, inner, blocks_of(inner))
        grain = grain_for(n * min(inner, LANES) * dtype.itemsize)
        items = outer if single else outer * blocks_of(inner)
        return Lowered([Call(Code(key, build), refs, words, items, grain, flops=out.size * parts * count)])

    return lower


def _emit(frame: Frame, dtype: DType, reverse: bool, combine: Combine, initial: float | int, single: bool) -> None:
    b = frame.b
    *sources, target = frame.buffers
    n, inner, blocks = (*frame.words, None, None) if single else frame.words
    step = I64(1) if inner is None else inner

    def column(e: Emitter, place: Any, first: Any) -> None:
        state = e.variable(e.of(dtype), e.const(scalar_type(dtype), initial))
        with e.loop(I64(0), n) as i:
            position = b.sub(b.sub(n, I64(1)), i) if reverse else i
            at = b.add(first, b.mul(position, step))
            value = combine(e, b.load(state), [e.load(x, at, dtype) for x in sources], dtype)
            b.store(value, state)
            e.store(value, target, at, dtype)

    columns(frame, inner, blocks, n, column)


LOWER: dict[str, Callable[[Node], Lowered | None]] = {
    "cumsum": _running("cumsum", _sums, lambda dtype: 0),
    "cumprod": _running("cumprod", _products, lambda dtype: 1),
    "cummax": _running("cummax", _maxima, lowest),
    "recurrence": _running("recurrence", _recurrence, lambda dtype: 0),
}
