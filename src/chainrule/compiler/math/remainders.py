"""Floating division rounded down, and its remainder, step for step as NumPy has it."""

from __future__ import annotations

from ..vector import F64
from .lanes import Lanes, anywhere, fma, outlined, sign_of, size, where


def _truncated(a: Lanes, b: Lanes) -> Lanes:
    """The exact remainder with the sign of ``a`` of float64 numbers, NaN for b = 0 or infinite a.

    With q the float nearest to r / b, or the whole number nearest to that, r - q b is representable; so
    each turn shortens r by 52 bits without error.
    """
    e = a.e
    divisor = size(b)
    place = e.variable(a.v.type, size(a).v)
    head, body, after = (e.b.append_basic_block(k) for k in ("remainder", "shorten", "done"))
    e.b.branch(head)
    e.b.position_at_end(head)
    r = Lanes(e, e.b.load(place, typ=a.v.type))
    more = (size(r) < divisor) ^ True
    e.b.cbranch(anywhere(more & (r.is_nan() ^ True)), body, after)
    e.b.position_at_end(body)
    step = where(size(r / divisor) < 2.0**1000, divisor, divisor * 2.0**1000)
    shorter = fma(-(r / step).intrinsic("rint"), step, r)
    e.b.store(where(more, shorter, r).v, place)
    e.b.branch(head)
    e.b.position_at_end(after)
    return sign_of(where(r < 0.0, r + divisor, r), a)


def truncated(a: Lanes, b: Lanes) -> Lanes:
    """C's ``fmod``."""
    found = outlined("math.fmod", _truncated, a.to(F64), b.to(F64))
    return found.to(a.scalar)


def _divmod(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    rest = truncated(a, b)
    quotient = (a - rest) / b
    wrong_side = (rest.eq(0.0) ^ True) & ((b < 0.0) ^ (rest < 0.0))
    quotient = where(wrong_side, quotient - 1.0, quotient)
    rest = where(rest.eq(0.0), sign_of(rest.const(0.0), b), where(wrong_side, rest + b, rest))
    down = quotient.intrinsic("floor")
    down = where((quotient - down) > 0.5, down + 1.0, down)
    down = where(quotient.eq(0.0), sign_of(down.const(0.0), a / b), down)
    return down, rest


def floor_divide(a: Lanes, b: Lanes) -> Lanes:
    """``floor(a / b)``; of b = 0 the quotient itself."""
    return where(b.eq(0.0), a / b, _divmod(a, b)[0])


def remainder(a: Lanes, b: Lanes) -> Lanes:
    """``a - b floor(a / b)``."""
    return where(b.eq(0.0), b.const(float("nan")), _divmod(a, b)[1])
