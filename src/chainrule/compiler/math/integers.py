"""Integer division, powers and shifts; defined for all operands. Faults are the caller's."""

from __future__ import annotations

from typing import Any

from ...dtypes import DType
from ..vector import F64, is_signed
from .lanes import Lanes, anywhere, where


def least(dtype: DType) -> int:
    """The smallest number of an integer type."""
    return -(1 << (8 * dtype.itemsize - 1)) if is_signed(dtype) else 0


def _to_float64(x: Lanes, dtype: DType) -> Lanes:
    emit = x.e.b.sitofp if is_signed(dtype) else x.e.b.uitofp
    return Lanes(x.e, emit(x.v, x.e.type(F64)))


def _safe(x: Lanes, y: Lanes, dtype: DType) -> Lanes:
    """The divisor, or 1 where the quotient is undefined or overflows: least // -1 wraps around to least."""
    bad = y.eq(0)
    if is_signed(dtype):
        bad = bad | (y.eq(-1) & x.eq(least(dtype)))
    return where(bad, 1, y)


def floor_divide(x: Lanes, y: Lanes, dtype: DType) -> Lanes:
    """The quotient rounded down."""
    y = _safe(x, y, dtype)
    if dtype.itemsize < 8:
        # in float64 no quotient of such numbers rounds to or over a whole number it is not
        quotient = (_to_float64(x, dtype) / _to_float64(y, dtype)).intrinsic("floor")
        magic = quotient.const(1.5 * 2.0**52)
        return (quotient + magic).bits().to(x.scalar)  # the last bits are the number
    if not is_signed(dtype):
        return Lanes(x.e, x.e.b.udiv(x.v, y.v))
    quotient = x / y
    rest = x - quotient * y
    down = (rest.eq(0) ^ True) & ((rest ^ y) < 0)
    return where(down, quotient - 1, quotient)


def remainder(x: Lanes, y: Lanes, dtype: DType) -> Lanes:
    """The remainder with the sign of the divisor."""
    return x - floor_divide(x, y, dtype) * _safe(x, y, dtype)


def power(x: Lanes, n: Lanes) -> Lanes:
    """``x^n``, modulo the width, by squaring; n is taken as unsigned."""
    e = x.e
    places = [e.variable(v.v.type, v.v) for v in (x.const(1), x, n)]
    head, body, after = (e.b.append_basic_block(k) for k in ("power", "square", "done"))
    e.b.branch(head)
    e.b.position_at_end(head)
    result, base, left = (Lanes(e, e.b.load(p, typ=x.v.type)) for p in places)
    e.b.cbranch(anywhere(left.eq(0) ^ True), body, after)
    e.b.position_at_end(body)
    odd = (left & 1).eq(0) ^ True
    for place, value in zip(places, (where(odd, result * base, result), base * base, left.shift_right(1)), strict=True):
        e.b.store(value.v, place)
    e.b.branch(head)
    e.b.position_at_end(after)
    return result


def shift_left(x: Lanes, count: Lanes, dtype: DType) -> Lanes:
    """``x << count``; 0 for a count outside of the width."""
    inside = count.below(8 * dtype.itemsize)
    return where(inside, x << where(inside, count, 0), 0)


def shift_right(x: Lanes, count: Lanes, dtype: DType) -> Lanes:
    """``x >> count``; the sign alone for a count outside of the width."""
    width = 8 * dtype.itemsize
    inside = count.below(width)
    if is_signed(dtype):
        return x >> where(inside, count, width - 1)
    return where(inside, x.shift_right(where(inside, count, 0)), 0)


def compare(sign: str, x: Lanes, y: Lanes, dtype: DType) -> Lanes:
    """A comparison, false for NaN but for ``!=``."""
    b = x.e.b
    if x.is_float:
        emit: Any = b.fcmp_unordered if sign == "!=" else b.fcmp_ordered
    else:
        emit = b.icmp_signed if is_signed(dtype) else b.icmp_unsigned
    return Lanes(x.e, emit(sign, x.v, y.v))
