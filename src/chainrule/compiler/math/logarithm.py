"""Logarithms: log, log1p.

``x = 2^n (1 + f)`` with 1 + f between sqrt(1/2) and sqrt(2), and ``log(1 + f)`` by a polynomial in f (float32), or in
s² with ``s = f / (2 + f)``, as ``log(1 + f) = 2 atanh(s)`` (float64, DLMF 4.6.4).
"""

from __future__ import annotations

import math

from ..vector import F32
from .lanes import Lanes, fma, outlined, poly, sign_of, where

# (log(1 + f) - f) / f², highest power first: minimax on sqrt(1/2) - 1 <= f <= sqrt(2) - 1, error 2^-27.8 of the log.
_LOG32 = (
    -0.0767299234867096,
    0.1294126659631729,
    -0.1324126273393631,
    0.14176294207572937,
    -0.1660861372947693,
    0.20002225041389465,
    -0.25001609325408936,
    0.33333322405815125,
    -0.49999988079071045,
)
# (2 atanh(s) / s - 2) / s² in s²: minimax on |s| <= 3 - 2 sqrt(2), error 2^-59.5 of the log.
_LOG64 = (
    0.1479562990867712,
    0.15314085157671595,
    0.18183562839994807,
    0.22222198605250706,
    0.28571428742026517,
    0.39999999999416647,
    0.6666666666666734,
)
# log 2 in two parts; n times the first is exact
LOG2_32 = (0.693359375, -2.12194440e-4)
LOG2_64 = (0.6931471803691238, 1.9082149292705877e-10)


def split(x: Lanes) -> tuple[Lanes, Lanes]:
    """n, an integer, and 1 + f, of a positive normal number."""
    digits, bias, root = (23, 127, 0x3F3504F3) if x.scalar == F32 else (52, 1023, 0x3FE6A09E667F3BCD)
    moved = x.bits() + ((bias << digits) - root)
    n = moved.shift_right(digits) - bias
    return n, ((moved & ((1 << digits) - 1)) + root).bits()


def whole(n: Lanes, like: Lanes) -> Lanes:
    """A small integer as a float, without the instruction that only newer machines have for 64 bits."""
    if like.scalar == F32:
        return n.to(F32)
    magic = 1.5 * 2.0**52
    return (n + like.const(magic).bits()).bits() - magic


def log_of(f: Lanes, n: Lanes) -> Lanes:
    """``n log 2 + log(1 + f)``; n as a float."""
    if f.scalar == F32:
        rest = fma(n, LOG2_32[1], f * f * poly(f, _LOG32))
        return fma(n, LOG2_32[0], f + rest)
    s = f / (f + 2.0)
    z = s * s
    half = 0.5 * f * f
    # log(1 + f) = f - f²/2 + s (f²/2 + z P(z)), where the small terms come first
    rest = fma(s, fma(z, poly(z, _LOG64), half), n * LOG2_64[1])
    return fma(n, LOG2_64[0], f - (half - rest))


def log(x: Lanes) -> Lanes:
    """``log(x)``."""
    least, digits = (2.0**-126, 23) if x.scalar == F32 else (2.0**-1022, 52)
    tiny = x < least
    n, m = split(where(tiny, x * 2.0**digits, x))
    n = n - where(tiny, n.const(digits), n.const(0))
    value = log_of(m - 1.0, whole(n, x))
    outside = where(x.eq(0.0), x.const(-math.inf), x.const(math.nan))
    return where(x > 0.0, where(x < math.inf, value, x), outside)


def log1p(x: Lanes) -> Lanes:
    """``log(1 + x)``: f is ``2^-n x + (2^-n - 1)``, in which little is lost, but for large x where 1 does not count."""
    big, digits, bias = (2.0**30, 23, 127) if x.scalar == F32 else (2.0**60, 52, 1023)
    n, m = split(x + 1.0)
    scale = ((bias - n) << digits).bits()
    f = where(x < big, fma(x, scale, scale - 1.0), m - 1.0)
    value = log_of(f, whole(n, x))
    outside = where(x.eq(-1.0), x.const(-math.inf), x.const(math.nan))
    return sign_of(where(x > -1.0, where(x < math.inf, value, x), outside), x)


def outlined_log(x: Lanes) -> Lanes:
    """`log` as a function of the module, for use in long formulas."""
    return outlined("math.log", log, x)


def outlined_log1p(x: Lanes) -> Lanes:
    """`log1p` likewise."""
    return outlined("math.log1p", log1p, x)
