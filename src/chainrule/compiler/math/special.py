"""Error functions. In float64 the fits are those of the NumPy reference."""

from __future__ import annotations

import math

from ...primitives import special_math as tables
from ..vector import F32, F64
from .exponential import exp_normal, exp_parts, outlined_exp, scaled
from .lanes import Lanes, at_least, at_most, fma, outlined, poly, rational, sign_of, size, where
from .logarithm import outlined_log

# erf(x) / x - 1 in x², highest power first: minimax on |x| <= 1, error 2^-29.4 of erf.
_ERF32 = (
    7.806903158780187e-05,
    -0.0007997853099368513,
    0.005187162198126316,
    -0.026853347197175026,
    0.11283578723669052,
    -0.3761262595653534,
    0.12837916612625122,
)
# log(erfc(x)): minimax on [1, 3.95], error 2^-29.8 of erf.
_LOG_ERFC32 = (
    0.00018637249013409019,
    -0.002947613364085555,
    0.021837938576936722,
    -0.10310657322406769,
    -0.6381449699401855,
    -1.1270891427993774,
    -0.0003415273386053741,
)


def _erf32(x: Lanes) -> Lanes:
    """A polynomial up to 1, then 1 minus the exponential of one; from 3.93 on it rounds to 1."""
    s = size(x)
    near = fma(s, poly(s * s, _ERF32), s)
    far = 1.0 - exp_normal(poly(at_most(s, 3.95), _LOG_ERFC32))
    return sign_of(where(s < 1.0, near, far), x)


def _center(x: Lanes) -> Lanes:
    """erf(x) for |x| <= 1."""
    return fma(x, rational(tables._ERF, x * x), x)


def _tail(x: Lanes) -> Lanes:
    """erfc(x) for x >= 1/2: exp(-x²) (0.5625 + P/Q) / (x + 0.4375), with x² in two parts."""
    x = at_most(x, 30.0)
    high = x.to(F32).to(F64)  # its square is exact
    low = (x - high) * (x + high)
    p, n = exp_parts(-(high * high), -low)
    return scaled(p * ((rational(tables._ERFC, 1.0 / (x + 2.0)) + 0.5625) / (x + 0.4375)), n)


def erf(x: Lanes) -> Lanes:
    """``erf(x)``: a fit up to 1, then ``1 - erfc(x)``."""
    if x.scalar == F32:
        return _erf32(x)
    s = size(x)
    return sign_of(where(s <= 1.0, _center(s), 1.0 - outlined("math.erfc_tail", _tail, s)), x)


def erfc(x: Lanes) -> Lanes:
    """``1 - erf(x)``, accurate in the tail."""
    tail = outlined("math.erfc_tail", _tail, size(x))
    inner = where(x < 0.5, 1.0 - _center(x), tail)
    return where(x < -1.0, 2.0 - tail, inner)


def _erfinv(y: Lanes, newton: bool) -> Lanes:
    """A fit in ``w = -log(1 - y²)`` up to w = 5; then one in sqrt(w), good to 1e-9, and a Newton step."""
    s = size(y)
    w = -outlined_log((1.0 - s) * (s + 1.0))
    center = s * rational(tables._ERFINV, w)
    x = s * rational(tables._ERFINV_TAIL, at_most(at_least(w.intrinsic("sqrt"), 2.0), 6.1))
    if newton:
        missed = outlined("math.erfc_tail", _tail, x) - (1.0 - s)
        x = fma(outlined_exp(x * x) * (0.5 * math.sqrt(math.pi)), missed, x)
    tail = where(s < 1.0, x, where(s.eq(1.0), s.const(math.inf), math.nan))
    return sign_of(where(s <= 0.9966, center, tail), y)


def erfinv(y: Lanes) -> Lanes:
    """The x with ``erf(x) = y``."""
    return _erfinv(y, newton=True)


def erfinv32(y: Lanes) -> Lanes:
    """`erfinv` of a float32, which needs no Newton step; computed and returned in float64."""
    return _erfinv(y, newton=False)
