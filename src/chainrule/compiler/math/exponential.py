"""Exponentials: exp, expm1, sigmoid.

``x = n log 2 + r`` with whole n, and ``e^r`` by a polynomial; log 2 is subtracted in two parts, the first of which
has so few digits that n times it is exact.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..vector import F32, I32
from .lanes import Lanes, at_least, at_most, fma, nearest_product, outlined, poly, power_of_two, sign_of, size, where
from .logarithm import LOG2_32, LOG2_64


class _Exp(NamedTuple):
    log2: tuple[float, float]  # high and low part
    coefficients: tuple[float, ...]  # of (e^r - 1 - r) / r², highest power first
    low: float  # e^x is 0 below
    high: float  # and infinite above
    least: float  # where e^x - 1 rounds to -1


# Minimax polynomials on |r| <= log(2) / 2 (see the package for how to make them). Errors relative to e^r: 2^-28.2
# and 2^-56.7.
_EXP32 = _Exp(
    LOG2_32,
    (0.001383890281431377, 0.008369192481040955, 0.04166810214519501, 0.16666516661643982, 0.4999999403953552),
    -104.0,
    89.0,
    -18.0,
)
_EXP64 = _Exp(
    LOG2_64,
    (
        2.498186025536521e-08,
        2.7630366654904624e-07,
        2.7557620627064456e-06,
        2.480149324787202e-05,
        0.00019841269509584769,
        0.0013888888943201286,
        0.008333333333463462,
        0.04166666666653126,
        0.16666666666666535,
        0.5000000000000011,
    ),
    -746.0,
    710.0,
    -40.0,
)


def _numbers(x: Lanes) -> _Exp:
    return _EXP32 if x.scalar == F32 else _EXP64


def _reduced(x: Lanes, low: Lanes | None = None) -> tuple[Lanes, Lanes, Lanes]:
    """r, n, and (e^r - 1 - r) / r², for ``x`` (plus a small ``low``) within the range of exponents."""
    k = _numbers(x)
    whole, n = nearest_product(x, 1 / math.log(2))
    r = fma(whole, -k.log2[1], fma(whole, -k.log2[0], x))
    if low is not None:
        r = r + low
    return r, n, poly(r, k.coefficients)


def exp_parts(x: Lanes, low: Lanes | None = None) -> tuple[Lanes, Lanes]:
    """p, about 1, and an integer n with ``e^x = p 2^n``, or of a sum ``x + low``."""
    r, n, q = _reduced(x, low)
    return fma(fma(q, r, 1.0), r, 1.0), n


def scaled(p: Lanes, n: Lanes) -> Lanes:
    """``p 2^n``; in two steps, so that what underflows is rounded once and what overflows is infinite."""
    half = n >> 1
    return p * power_of_two(half) * power_of_two(n - half)


def exp_normal(x: Lanes) -> Lanes:
    """``e^x`` where it is a normal number."""
    p, n = exp_parts(x)
    return (p.bits() + (n << (23 if n.scalar == I32 else 52))).bits()


def exp_within(x: Lanes) -> Lanes:
    """``e^x`` for ``x`` within the range of exponents, subnormal results included."""
    return scaled(*exp_parts(x))


def exp(x: Lanes) -> Lanes:
    """``e^x``."""
    k = _numbers(x)
    return exp_within(at_most(at_least(x, k.low), k.high))


def expm1(x: Lanes) -> Lanes:
    """``e^x - 1 = 2^n (e^r - 1) + (2^n - 1)``."""
    k = _numbers(x)
    r, n, q = _reduced(at_most(at_least(x, k.least), k.high))
    half = power_of_two(n - 1)  # 2^n may overflow
    m = fma(r * r, q, r)
    value = fma(half, m, half - 0.5)
    return sign_of(value + value, x)


def sigmoid(x: Lanes) -> Lanes:
    """``1 / (1 + e^-x)``, by ``e^-|x|``, which does not overflow."""
    small = exp_within(at_least(-size(x), _numbers(x).low))
    below = small + 1.0
    quotient = where(x >= 0.0, 1.0, small) / below
    lost = small - (below - 1.0)  # in rounding the sum
    return fma(-quotient, lost, quotient)


def outlined_exp(x: Lanes) -> Lanes:
    """`exp` as a function of the module, for use in long formulas."""
    return outlined("math.exp", exp, x)
