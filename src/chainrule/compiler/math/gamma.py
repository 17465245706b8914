"""The logarithm of the gamma function and its derivatives, in float64, by the fits of the NumPy reference."""

from __future__ import annotations

import math
from typing import Any

from ...primitives import special_math as tables
from ..vector import I64
from .lanes import Lanes, fma, outlined, poly, rational, size, where
from .logarithm import outlined_log
from .trigonometric import outlined_sin


def _stirling(m: Lanes, log: Lanes) -> Lanes:
    """DLMF 5.11.1, m > 8."""
    rest = poly(1.0 / (m * m), tables._STIRLING) / m + (0.5 * math.log(2.0 * math.pi) - 0.5)
    return fma(m - 0.5, log - 1.0, rest)


def lgamma(x: Lanes) -> Lanes:
    """``log|Gamma(x)|``: fits up to 8, with their zeros as factors, then Stirling's series; reflection below 0."""
    m = size(x)
    below = m < 1.0
    z = where(below, m, m - 1.0)
    log = outlined_log(m)
    fit = z * (z - 1.0) * where(m <= 2.0, rational(tables._LGAMMA_LOW, z), rational(tables._LGAMMA, z)) + 0.0
    value = where(m > 8.0, _stirling(m, log), fit)  # of 1 + m, if m < 1
    positive = where(below, value - log, value)
    # the reflection Gamma(-m) Gamma(1 + m) = -pi / sin(pi m) (DLMF 5.5.3)
    r = size(m - m.intrinsic("rint"))
    sine = outlined_sin(r * math.pi) * (1 / math.pi)
    negative = -outlined_log(sine * where(below, 1.0, m)) - value
    negative = where(m.intrinsic("floor").eq(m), math.inf, negative)
    value = where(x >= 0.0, positive, where(x < 0.0, negative, x))
    return where(m.eq(math.inf), math.inf, value)


def _cot(x: Lanes) -> Lanes:
    """``cot(pi x)``."""
    r = x - x.intrinsic("rint")
    return outlined_sin((0.5 - size(r)) * math.pi) / outlined_sin(r * math.pi)


def digamma(x: Lanes) -> Lanes:
    """A fit on [1, 2] and a series above 10; between by DLMF 5.5.2, negative by 5.5.4."""
    negative, low = x < 0.0, x < 1.0
    m = where(negative, 1.0 - x, where(low, x + 1.0, x))
    far = m > 10.0
    t = where(far, m, m + 8.0)
    v = 1.0 / t
    series = outlined_log(t) - fma(0.5, v, poly(v * v, tables._DIGAMMA_SERIES))
    steps = m.const(0.0)
    for k in reversed(range(8)):
        steps = steps + 1.0 / (m + float(k))
    near = ((m - tables._ROOT) - tables._ROOT_REST) * rational(tables._DIGAMMA_LOW, m - 1.0)
    value = where(far, series, where(m > 2.0, series - steps, near))
    value = where(negative, value - math.pi * _cot(x), where(low, value - 1.0 / x, value))
    whole = negative & x.intrinsic("floor").eq(x)
    return where(whole, math.nan, value)


def _to_power(x: Lanes, n: int) -> Lanes:
    """``x^n``, n >= 1, by squaring."""
    result: Lanes | None = None
    while n:
        if n & 1:
            result = x if result is None else result * x
        n >>= 1
        if n:
            x = x * x
    assert result is not None
    return result


def _zeta(n: int, x: Lanes) -> Lanes:
    """n! zeta(n + 1, x) for x > 0: below n + 12 that many terms first (DLMF 25.11.3), then DLMF 5.11.2, n times
    differentiated."""
    e, shift = x.e, n + 12
    far = x >= float(shift)
    t = where(far, x, x + float(shift))
    v = 1.0 / t
    bernoulli = enumerate(tables._bernoulli(12), 1)
    series = [0.0, *(float(b * math.comb(2 * k + n - 1, 2 * k)) for k, b in bernoulli)][::-1]
    value = _to_power(v, n) * float(math.factorial(n - 1)) * (1.0 + fma(0.5 * n, v, poly(v * v, series)))
    total = e.variable(value.v.type, value.const(0.0).v)
    with e.loop(I64(0), I64(shift)) as i:  # the small terms first
        k = Lanes(e, e.splat(e.b.sitofp(e.b.sub(I64(shift - 1), i), x.scalar)))
        term = _to_power(1.0 / (x + k), n + 1) * float(math.factorial(n))
        e.b.store((Lanes(e, e.b.load(total, typ=value.v.type)) + term).v, total)
    return where(far, value, value + Lanes(e, e.b.load(total, typ=value.v.type)))


def _polygamma(n: int, x: Lanes) -> Lanes:
    """n >= 1; reflection by DLMF 5.15.6, whose derivative of cot is odd or even in cot."""
    negative = x < 0.0
    zeta = outlined(f"math.zeta.{n}", lambda t: _zeta(n, t), where(negative, 1.0 - x, x))
    c = _cot(x)
    derivative = poly(c * c, tables._cot_derivative(n)[::2])
    derivative = (derivative if n % 2 else derivative * c) * math.pi ** (n + 1)
    value = where(negative, derivative + (zeta if n % 2 == 0 else -zeta), zeta)
    pole = (x <= 0.0) & x.intrinsic("floor").eq(x)
    value = where(pole, math.inf, value)
    return value if n % 2 else -value


def polygamma(order: int) -> Any:
    """Derivative number ``order`` of `digamma`, which itself is number 0."""
    return digamma if order == 0 else lambda x: _polygamma(order, x)
