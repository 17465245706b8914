"""Hyperbolic functions."""

from __future__ import annotations

import math

from ..vector import F32
from .exponential import exp_normal, exp_parts, scaled
from .lanes import Lanes, at_most, fma, poly, sign_of, size, where
from .logarithm import outlined_log1p

# (tanh(x) / x - 1) / x² in x², highest power first: minimax on |x| <= 0.625, errors 2^-27.7 and 2^-56.4 of tanh.
_TANH32 = (-0.005692296661436558, 0.02062816731631756, -0.05373651534318924, 0.13331405818462372, -0.3333328068256378)
_TANH64 = (
    -1.60691682972084e-05,
    7.713742659732038e-05,
    -0.00022855811743706053,
    0.0005863135290894539,
    -0.0014549579586482053,
    0.003591988994664011,
    -0.008863220980402067,
    0.02186948757439645,
    -0.05396825393119355,
    0.13333333333261932,
    -0.33333333333332854,
)
# (sinh(x) / x - 1) / x² in x²: minimax on |x| <= 1, error 2^-61.8 of sinh.
_SINH = (
    7.776598263395249e-13,
    1.6056659213877652e-10,
    2.5052130998305554e-08,
    2.755731910675836e-06,
    0.00019841269841593408,
    0.008333333333332912,
    0.16666666666666669,
)
_LOG2 = math.log(2)


def tanh(x: Lanes) -> Lanes:
    """A polynomial up to 0.625, then ``1 - 2 / (e^2x + 1)``."""
    coefficients, one = (_TANH32, 10.0) if x.scalar == F32 else (_TANH64, 22.0)
    s = size(x)
    square = s * s
    near = fma(s * square, poly(square, coefficients), s)
    t = at_most(s, one)
    far = 1.0 - 2.0 / (exp_normal(t + t) + 1.0)
    return sign_of(where(s < 0.625, near, far), x)


def _half_exp(s: Lanes) -> Lanes:
    """``e^s / 2``."""
    p, n = exp_parts(at_most(s, 712.0))
    return scaled(p, n - 1)


def sinh(x: Lanes) -> Lanes:
    """``(e^x - e^-x) / 2``, and a polynomial up to 1."""
    s = size(x)
    square = s * s
    near = fma(s * square, poly(square, _SINH), s)
    half = _half_exp(s)
    return sign_of(where(s < 1.0, near, half - 0.25 / half), x)


def cosh(x: Lanes) -> Lanes:
    """``(e^x + e^-x) / 2``."""
    half = _half_exp(size(x))
    return half + 0.25 / half


def asinh(x: Lanes) -> Lanes:
    """``log1p(x + x² / (1 + sqrt(1 + x²)))``; for large x ``log 2x``."""
    s = size(x)
    big = s > 2.0**55
    square = s * s
    inner = s + square / ((square + 1.0).intrinsic("sqrt") + 1.0)
    value = outlined_log1p(where(big, s, inner))
    return sign_of(where(big, value + _LOG2, value), x)


def acosh(x: Lanes) -> Lanes:
    """``log1p(t + sqrt(2 t + t²))`` with t = x - 1; for large x ``log 2x``."""
    t = x - 1.0
    big = x > 2.0**55
    value = outlined_log1p(where(big, x, t + fma(t, t, t + t).intrinsic("sqrt")))
    return where(x < 1.0, math.nan, where(big, value + _LOG2, value))


def atanh(x: Lanes) -> Lanes:
    """``log1p(2 x / (1 - x)) / 2``."""
    s = size(x)
    return sign_of(0.5 * outlined_log1p((s + s) / (1.0 - s)), x)
