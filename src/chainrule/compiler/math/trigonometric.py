"""Trigonometric functions and their inverses."""

from __future__ import annotations

import math

from ..vector import F32
from .lanes import Lanes, fma, outlined, poly, sign_of, size, where
from .reduction import quadrants

# Minimax polynomials on |x| <= 1.005 pi/4 in x², highest power first: (sin(x) / x - 1) / x², errors 2^-27.8 and 2^-57.8
# of the sine, and (cos(x) - 1 + x²/2) / x⁴, errors 2^-32.9 and 2^-63.8.
_SIN32 = (-0.00019507882825564593, 0.008332106284797192, -0.16666653752326965)
_COS32 = (2.4431425117654726e-05, -0.0013887304812669754, 0.04166664555668831)
_SIN64 = (
    1.5894842687529198e-10,
    -2.505072511693028e-08,
    2.755731348676111e-06,
    -0.00019841269829238555,
    0.008333333333321745,
    -0.1666666666666663,
)
_COS64 = (
    -1.1357336743715565e-11,
    2.087567808519525e-09,
    -2.7557314015124523e-07,
    2.4801587288295393e-05,
    -0.0013888888888872186,
    0.04166666666666659,
)
# (atan(x) / x - 1) / x² in x² on |x| <= sqrt(2) - 1, error 2^-59.4 of atan.
_ATAN = (
    -0.017868369012044676,
    0.03802924895447263,
    -0.05037920823587417,
    0.058475834427069315,
    -0.06663062175647055,
    0.0769205654409539,
    -0.09090897552042859,
    0.11111110776331543,
    -0.1428571428005458,
    0.19999999999952187,
    -0.3333333333333319,
)
# (asin(x) / x - 1) / x² in x² on |x| <= 1/2, error 2^-55.9 of asin.
_ASIN = (
    0.03193452100177695,
    -0.01625610828363875,
    0.01954816069941488,
    0.006520861185333476,
    0.012170818225789913,
    0.013884997056001153,
    0.017359728204993936,
    0.022371756547364795,
    0.03038195919720543,
    0.04464285682693772,
    0.07500000000338593,
    0.16666666666665403,
)
_HALF_PI, _HALF_PI_LOW = 1.5707963267948966, 6.123233995736766e-17  # their sum is pi/2


def _sin_cos(r: Lanes) -> tuple[Lanes, Lanes]:
    """Sine and cosine for |r| <= pi/4."""
    sin, cos = (_SIN32, _COS32) if r.scalar == F32 else (_SIN64, _COS64)
    square = r * r
    return fma(r * square, poly(square, sin), r), fma(square, fma(square, poly(square, cos), -0.5), 1.0)


def _turned(x: Lanes, quarters: int) -> Lanes:
    """The sine of ``x`` plus right angles."""
    r, n = quadrants(x)
    n = n + quarters
    sin, cos = _sin_cos(r)
    value = where((n & 1).eq(0), sin, cos)
    return (value.bits() ^ ((n & 2) << (30 if x.scalar == F32 else 62))).bits()


def sin(x: Lanes) -> Lanes:
    """``sin(x)``."""
    return where(x.eq(0.0), x, _turned(x, 0))


def cos(x: Lanes) -> Lanes:
    """``cos(x)``."""
    return _turned(x, 1)


def tan(x: Lanes) -> Lanes:
    """``sin(x) / cos(x)``."""
    r, n = quadrants(x)
    sin, cos = _sin_cos(r)
    even = (n & 1).eq(0)
    return where(x.eq(0.0), x, where(even, sin, -cos) / where(even, cos, sin))


def _half_arc(x: Lanes) -> tuple[Lanes, Lanes]:
    """Whether |x| > 1/2, and asin(|x|), or if so half of acos(|x|), by ``acos(x) = 2 asin(sqrt((1 - x) / 2))``."""
    s = size(x)
    beyond = s > 0.5
    square = where(beyond, (1.0 - s) * 0.5, s * s)
    t = where(beyond, square.intrinsic("sqrt"), s)
    return beyond, fma(t * square, poly(square, _ASIN), t)


def asin(x: Lanes) -> Lanes:
    """``asin(x)``."""
    beyond, arc = _half_arc(x)
    return sign_of(where(beyond, _HALF_PI - (arc + arc - _HALF_PI_LOW), arc), x)


def acos(x: Lanes) -> Lanes:
    """``acos(x)``."""
    beyond, arc = _half_arc(x)
    near = _HALF_PI - (sign_of(arc, x) - _HALF_PI_LOW)
    far = arc + arc
    return where(beyond, where(x > 0.0, far, 2 * _HALF_PI - (far - 2 * _HALF_PI_LOW)), near)


def _angle(y: Lanes, x: Lanes) -> Lanes:
    """``atan(y / x)`` for y, x >= 0, by ``atan(t) = pi/4 + atan((t - 1) / (t + 1)) = pi/2 - atan(1 / t)``."""
    swapped = y > x
    low, high = where(swapped, x, y), where(swapped, y, x)
    far = low > (math.sqrt(2) - 1) * high
    t = where(far, low - high, low) / where(far, low + high, high)
    square = t * t
    arc = fma(t * square, poly(square, _ATAN), t)
    arc = where(swapped, -arc, arc)
    zero = t.const(0.0)
    base = where(far, _HALF_PI / 2, where(swapped, _HALF_PI, zero))
    rest = where(far, _HALF_PI_LOW / 2, where(swapped, _HALF_PI_LOW, zero))
    return base + (arc + rest)


def _outlined_angle(y: Lanes, x: Lanes) -> Lanes:
    return outlined("math.angle", _angle, y, x)


def atan(x: Lanes) -> Lanes:
    """``atan(x)``."""
    return sign_of(_outlined_angle(size(x), x.const(1.0)), x)


def atan2(y: Lanes, x: Lanes) -> Lanes:
    """The angle of the point (x, y)."""
    a, b = size(y), size(x)
    both = a.eq(math.inf) & b.eq(math.inf)
    zero = a.eq(0.0) & b.eq(0.0)
    # sums of the largest numbers would overflow
    scale = where((a > 2.0**1000) | (b > 2.0**1000), a.const(2.0**-60), 1.0)
    a, b = where(both, 1.0, a * scale), where(both | zero, 1.0, b * scale)
    angle = _outlined_angle(a, b)
    left = x.bits() < 0
    return sign_of(where(left, 2 * _HALF_PI - (angle - 2 * _HALF_PI_LOW), angle), y)


def outlined_sin(x: Lanes) -> Lanes:
    """`sin` as a function of the module, for use in long formulas."""
    return outlined("math.sin", sin, x)
