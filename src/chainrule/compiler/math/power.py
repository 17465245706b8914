"""``x^y`` of floats, as ``e^(y log x)`` with a logarithm of about 64 digits for float64."""

from __future__ import annotations

import math

from ..vector import F64
from .exponential import exp_parts, scaled
from .lanes import Lanes, at_least, at_most, fma, poly, size, where
from .logarithm import LOG2_64, log_of, split, whole

# ((2 atanh(s) / s - 2) / s² - 2/3) / s² in s²: minimax on |s| <= 3 - 2 sqrt(2), error 2^-66.3 of 2 atanh(s).
_REST = (
    0.13196341045695648,
    0.1325681652541776,
    0.1538675737787169,
    0.1818178436627835,
    0.22222222519929777,
    0.2857142857009956,
    0.40000000000002256,
)
_TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)


def _long_log(f: Lanes, n: Lanes) -> tuple[Lanes, Lanes]:
    """``n log 2 + log(1 + f)`` as the sum of two floats: `log_of` with the rounding errors of its large terms."""
    d = f + 2.0
    s = f / d
    s_low = (fma(-s, d, f) - s * (f - (d - 2.0))) / d
    z = s * s
    z_low = fma(s, s, -z) + (s + s) * s_low
    # c = 2/3 + z P(z)
    w = z * poly(z, _REST)
    c = w + _TWO_THIRDS[0]
    c_low = (_TWO_THIRDS[0] - c) + w + _TWO_THIRDS[1]
    p = z * c
    p_low = fma(z, c, -p) + fma(z, c_low, z_low * c)
    q = s * p
    q_low = fma(s, p, -q) + fma(s, p_low, s_low * p)
    # 2 s + q, then n log 2
    double = s + s
    log = double + q
    low = (double - log) + q + fma(2.0, s_low, q_low)
    large = n * LOG2_64[0]
    total = large + log
    part = total - large
    lost = (large - (total - part)) + (log - part)
    return total, lost + fma(n, LOG2_64[1], low)


def _magnitude(x: Lanes, y: Lanes, long: bool) -> Lanes:
    """``x^y`` in float64 for 0 < x < inf."""
    tiny = x < 2.0**-1022
    n, m = split(where(tiny, x * 2.0**52, x))
    f, n = m - 1.0, whole(where(tiny, n - 52, n), x)
    if long:
        log, low = _long_log(f, n)
        product = y * log
        low = fma(y, log, -product) + y * low
        inside = size(product) < 750.0
        low = where(inside, low, 0.0)
        return scaled(*exp_parts(at_most(at_least(product, -750.0), 710.0), low))
    product = y * log_of(f, n)
    return scaled(*exp_parts(at_most(at_least(product, -750.0), 710.0)))


def power(x: Lanes, y: Lanes) -> Lanes:
    """``x^y`` with the special values of C (annex F)."""
    of, long = x.scalar, x.scalar == F64
    x, y = x.to(F64), y.to(F64)
    base = size(x)
    value = _magnitude(base, y, long)
    rising = (y > 0.0) ^ (base < 1.0)
    at_end = where(rising, y.const(math.inf), 0.0)  # base 0 or infinite
    value = where(base.eq(0.0) | base.eq(math.inf), at_end, value)
    half = y * 0.5
    whole_y = y.intrinsic("rint").eq(y)
    odd = whole_y & (half.intrinsic("rint").eq(half) ^ True)
    negative = x.bits() < 0
    value = where(negative & odd, -value, value)
    undefined = (x < 0.0) & (base < math.inf) & (whole_y ^ True)
    value = where(undefined | x.is_nan() | y.is_nan(), math.nan, value)
    one = y.eq(0.0) | x.eq(1.0) | (x.eq(-1.0) & size(y).eq(math.inf))
    return where(one, 1.0, value).to(of)
