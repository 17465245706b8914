"""Vector functions against mpmath (float64) and NumPy or SciPy in float64 (float32), over the whole range.

Errors are in ulp of the exact result, those of subnormal results in ulp of the smallest normal number.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath
import numpy as np
import pytest
import scipy.special
from scalar_harness import Compiled, Spec, compile_all

from chainrule import dtypes
from chainrule.compiler.elementwise import lower
from chainrule.compiler.math.functions import FUNCTIONS
from chainrule.primitives.base import REGISTRY
from chainrule.tensor.bind import run

INF, NAN = math.inf, math.nan


class Case(NamedTuple):
    """A function: its exact value, the same in float64 of NumPy, and where it is looked at."""

    exact: Callable[..., Any]
    double: Callable[..., Any]
    ranges: tuple[tuple[float, float], ...] = ()


CASES = {
    "exp": Case(mpmath.exp, np.exp, ((-746, 711), (-104, 89))),
    "expm1": Case(mpmath.expm1, np.expm1, ((-2, 2), (-40, 710), (-20, 89))),
    "log": Case(mpmath.log, np.log, ((0.3, 3),)),
    "log1p": Case(mpmath.log1p, np.log1p, ((-1, 3),)),
    "sqrt": Case(mpmath.sqrt, np.sqrt),
    "rsqrt": Case(lambda x: 1 / mpmath.sqrt(x), lambda x: 1 / np.sqrt(x)),
    "reciprocal": Case(lambda x: 1 / x, np.reciprocal),
    "sigmoid": Case(lambda x: 1 / (1 + mpmath.exp(-x)), scipy.special.expit, ((-20, 20), (-740, 40), (-103, 20))),
    "sin": Case(mpmath.sin, np.sin, ((-10, 10),)),
    "cos": Case(mpmath.cos, np.cos, ((-10, 10),)),
    "tan": Case(mpmath.tan, np.tan, ((-10, 10),)),
    "asin": Case(mpmath.asin, np.arcsin, ((-1, 1),)),
    "acos": Case(mpmath.acos, np.arccos, ((-1, 1),)),
    "atan": Case(mpmath.atan, np.arctan, ((-3, 3),)),
    "sinh": Case(mpmath.sinh, np.sinh, ((-2, 2), (-711, 711), (-89, 89))),
    "cosh": Case(mpmath.cosh, np.cosh, ((-2, 2), (-711, 711), (-89, 89))),
    "tanh": Case(mpmath.tanh, np.tanh, ((-1, 1), (-23, 23))),
    "asinh": Case(mpmath.asinh, np.arcsinh, ((-2, 2),)),
    "acosh": Case(mpmath.acosh, np.arccosh, ((1, 3),)),
    "atanh": Case(mpmath.atanh, np.arctanh, ((-1, 1),)),
    "erf": Case(mpmath.erf, scipy.special.erf, ((-6, 6),)),
    "erfc": Case(lambda x: mpmath.erfc(max(-100, min(x, 100))), scipy.special.erfc, ((-6, 6), (0, 27))),
    "erfinv": Case(mpmath.erfinv, scipy.special.erfinv, ((-1, 1), (0.99, 1))),
    "lgamma": Case(mpmath.loggamma, scipy.special.gammaln, ((0.5, 12),)),
}
BOUNDS = {4: 2.0, 8: 4.0}  # ulp, by the size of the type


@functools.cache
def compiled(name: str, dtype: Any, arguments: int = 1, order: int = 0) -> Compiled:
    """A function as machine code."""
    types = [dtype] * arguments
    return compile_all([Spec(lambda e, xs, w, i: lower(e, name, xs, types, dtype, {"order": order}), types, dtype)])[0]


def ulps(found: np.ndarray, exact: Any, dtype: Any) -> np.ndarray:
    """Distance from the exact values, mpmath numbers or wider floats; infinite where only one is NaN or infinite."""
    limits = np.finfo(dtype)
    top = mpmath.mpf(float(limits.max)) * (1 + mpmath.mpf(2) ** (-limits.nmant - 2))  # rounds to infinity above
    result = []
    for a, b in zip(found, exact, strict=True):
        b = mpmath.mpf(b) if not isinstance(b, mpmath.mpc) else mpmath.nan
        if mpmath.isnan(b) or abs(b) >= top:
            result.append(0.0 if (np.isnan(a) if mpmath.isnan(b) else np.isinf(a) and (a > 0) == (b > 0)) else INF)
            continue
        exponent = max(mpmath.frexp(b)[1] - 1 if b else limits.minexp, limits.minexp)
        unit = mpmath.mpf(2) ** (exponent - limits.nmant)
        result.append(float(abs(mpmath.mpf(float(a)) - b) / unit) if np.isfinite(a) else INF)
    return np.array(result)


def inputs(name: str, dtype: Any, count: int) -> np.ndarray:
    """All magnitudes, and more in the ranges of the case."""
    rng = np.random.default_rng(3)
    limits = np.finfo(dtype)
    low, high = math.log2(float(limits.tiny)), math.log2(float(limits.max))
    sizes = 2.0 ** rng.uniform(low, high, count)
    signs = [1] if name == "lgamma" else [1, -1]  # its zeros below 0 have a test of their own
    parts = [sizes * s for s in signs] + [rng.uniform(a, b, count) for a, b in CASES[name].ranges]
    return np.concatenate(parts).astype(dtype)


@pytest.mark.parametrize("name", CASES)
def test_float32_within_2_ulp(name):
    x = inputs(name, np.float32, 20_000)
    with np.errstate(all="ignore"):
        exact = CASES[name].double(x.astype(np.float64))
        expected = exact.astype(np.float32)
        found, _ = compiled(name, dtypes.float32)(x)
        unit = np.spacing(np.maximum(np.abs(expected), np.finfo(np.float32).tiny)).astype(np.float64)
        error = np.abs(found - exact) / unit
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    error[same] = 0
    worst = np.argmax(np.nan_to_num(error, nan=INF))
    assert error[worst] <= BOUNDS[4], f"{name}({x[worst]!r}) = {found[worst]!r}, not {exact[worst]!r}"


@pytest.mark.parametrize("name", CASES)
def test_float64_within_4_ulp(name):
    x = inputs(name, np.float64, 60 if name in {"lgamma", "erfinv"} else 150)
    found, _ = compiled(name, dtypes.float64)(x)
    with mpmath.workprec(160):
        exact = [_exact(CASES[name].exact, v) for v in x]
        error = ulps(found, exact, np.float64)
    worst = np.argmax(error)
    assert error[worst] <= BOUNDS[8], f"{name}({x[worst]!r}) = {found[worst]!r}, not {mpmath.nstr(exact[worst], 20)}"


def _exact(function: Callable[..., Any], *x: float) -> Any:
    """Its value at the exact numbers given; NaN where it has none, real if its value is."""
    try:
        value = function(*(mpmath.mpf(float(v)) for v in x))
    except (ValueError, ZeroDivisionError):
        return mpmath.nan
    return value.real if isinstance(value, mpmath.mpc) and value.imag == 0 else value


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_angles_are_reduced_properly_up_to_the_largest_number(name):
    rng = np.random.default_rng(4)
    hard = [6381956970095103 * 2.0**797, 5.319372648326541e255, 2.0**1023, np.finfo(np.float64).max]
    x = np.concatenate([2.0 ** rng.uniform(35, 1023, 150), -(2.0 ** rng.uniform(12, 60, 100)), hard])
    for dtype in (np.float64, np.float32):
        x = x[np.abs(x) < np.finfo(dtype).max].astype(dtype)
        found, _ = compiled(name, np.dtype(dtype))(x)
        with mpmath.workprec(1300):
            error = ulps(found, [_exact(CASES[name].exact, v) for v in x], dtype)
        assert error.max() <= BOUNDS[np.dtype(dtype).itemsize], x[np.argmax(error)]


SPECIAL = {
    "exp": ((INF, INF), (-INF, 0), (0, 1), (1e9, INF), (-1e9, 0)),
    "expm1": ((INF, INF), (-INF, -1), (0.0, 0.0), (-0.0, -0.0)),
    "log": ((0.0, -INF), (-0.0, -INF), (1, 0.0), (INF, INF), (-1, NAN), (-INF, NAN)),
    "log1p": ((0.0, 0.0), (-0.0, -0.0), (-1, -INF), (INF, INF), (-2, NAN), (-INF, NAN)),
    "sqrt": ((-0.0, -0.0), (-1, NAN), (INF, INF)),
    "rsqrt": ((0.0, INF), (-0.0, -INF), (INF, 0.0), (-1, NAN)),
    "reciprocal": ((0.0, INF), (-0.0, -INF), (-INF, -0.0)),
    "sigmoid": ((0, 0.5), (INF, 1), (-INF, 0), (1e9, 1), (-1e9, 0)),
    "sin": ((0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN)),
    "cos": ((0.0, 1), (INF, NAN), (-INF, NAN)),
    "tan": ((0.0, 0.0), (-0.0, -0.0), (INF, NAN)),
    "asin": ((0.0, 0.0), (-0.0, -0.0), (1, math.pi / 2), (1.5, NAN), (-INF, NAN)),
    "acos": ((1, 0.0), (-1, math.pi), (-1.5, NAN), (INF, NAN)),
    "atan": ((-0.0, -0.0), (INF, math.pi / 2), (-INF, -math.pi / 2)),
    "sinh": ((-0.0, -0.0), (INF, INF), (-INF, -INF), (1e9, INF)),
    "cosh": ((0.0, 1), (-INF, INF), (1e9, INF)),
    "tanh": ((-0.0, -0.0), (INF, 1), (-INF, -1), (1e9, 1)),
    "asinh": ((-0.0, -0.0), (INF, INF), (-INF, -INF)),
    "acosh": ((1, 0.0), (INF, INF), (0.5, NAN), (-5, NAN), (-INF, NAN)),
    "atanh": ((-0.0, -0.0), (1, INF), (-1, -INF), (1.5, NAN), (-INF, NAN)),
    "erf": ((-0.0, -0.0), (INF, 1), (-INF, -1)),
    "erfc": ((0.0, 1), (INF, 0), (-INF, 2)),
    "erfinv": ((-0.0, -0.0), (1, INF), (-1, -INF), (1.5, NAN), (INF, NAN)),
    "lgamma": ((0.0, INF), (-0.0, INF), (1, 0.0), (2, 0.0), (-3, INF), (INF, INF), (-INF, INF)),
}


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64], ids=str)
@pytest.mark.parametrize("name", SPECIAL)
def test_special_values_are_exact(name, dtype):
    x, expected = np.array([*SPECIAL[name], (NAN, NAN)], dtype).T
    found, _ = compiled(name, dtype)(x)
    np.testing.assert_array_equal(found, expected)
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(found)[known], np.signbit(expected)[known])


def test_overflow_and_underflow_begin_where_they_should():
    for dtype in (np.float32, np.float64):
        top = dtype(mpmath.log(mpmath.mpf(float(np.finfo(dtype).max))))
        bottom = dtype(mpmath.log(mpmath.mpf(float(np.finfo(dtype).smallest_subnormal))) - 0.7)
        x = np.array([np.nextafter(v, dtype(s)) for v in (top, bottom) for s in (-INF, INF)] + [top, bottom])
        found, _ = compiled("exp", np.dtype(dtype))(x)
        with mpmath.workprec(200):
            assert ulps(found, [mpmath.exp(mpmath.mpf(float(v))) for v in x], dtype).max() < 1
        subnormal, _ = compiled("exp", np.dtype(dtype))(np.array([bottom + 3], dtype))
        assert 0 < subnormal[0] < np.finfo(dtype).tiny


# --- two arguments --------------------------------------------------------------------------------------------


def test_power_within_its_bound():
    rng = np.random.default_rng(5)
    x = np.concatenate([2.0 ** rng.uniform(-1000, 1000, 300), rng.uniform(0.5, 2, 300)])
    y = rng.uniform(-740, 709, 600) / np.log(x)
    found, _ = compiled("power", dtypes.float64, 2)(x, y)
    with mpmath.workprec(200):
        assert ulps(found, [_exact(mpmath.power, a, b) for a, b in zip(x, y, strict=True)], np.float64).max() <= 1.5
    x = (2.0 ** rng.uniform(-120, 120, 300)).astype(np.float32)
    y = (rng.uniform(-87, 88, 300) / np.log(x)).astype(np.float32)
    found, _ = compiled("power", dtypes.float32, 2)(x, y)
    with mpmath.workprec(200):
        assert ulps(found, [_exact(mpmath.power, a, b) for a, b in zip(x, y, strict=True)], np.float32).max() <= 0.51


def test_atan2_within_its_bound():
    rng = np.random.default_rng(6)
    for dtype, reach in ((np.float64, 1000), (np.float32, 120)):
        x = 2.0 ** rng.uniform(-reach, reach, 400) * rng.choice([-1, 1], 400)
        y = x * 2.0 ** rng.uniform(-6, 6, 400) * rng.choice([-1, 1], 400)
        x, y = x.astype(dtype), y.astype(dtype)
        found, _ = compiled("atan2", np.dtype(dtype), 2)(y, x)
        with mpmath.workprec(200):
            exact = [_exact(mpmath.atan2, a, b) for a, b in zip(y, x, strict=True)]
            assert ulps(found, exact, dtype).max() <= BOUNDS[np.dtype(dtype).itemsize]


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64], ids=str)
@pytest.mark.parametrize("name", ["power", "atan2"])
def test_special_pairs_equal_those_of_numpy(name, dtype):
    special = [0.0, -0.0, 0.5, -0.5, 1, -1, 2, -2, 3, -3, 2.5, -2.5, 1e30, -1e30, 2.0**53, INF, -INF, NAN]
    x, y = (v.reshape(-1) for v in np.meshgrid(np.array(special, dtype), np.array(special, dtype)))
    found, _ = compiled(name, dtype, 2)(x, y)
    with np.errstate(all="ignore"):
        expected = REGISTRY[name].reference(x, y)
    np.testing.assert_allclose(found, expected, rtol=4 * np.finfo(dtype).eps, atol=0)
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(found)[known], np.signbit(expected)[known])


# --- gamma functions ------------------------------------------------------------------------------------------


def test_lgamma_of_negative_numbers_within_its_bound():
    x = np.random.default_rng(7).uniform(-30, 0, 150)
    found, _ = compiled("lgamma", dtypes.float64)(x)
    with mpmath.workprec(120):
        for a, b in zip(x, found, strict=True):
            exact = mpmath.log(abs(mpmath.gamma(mpmath.mpf(float(a)))))
            assert abs(mpmath.mpf(float(b)) - exact) <= 7.1e-15 * max(1, abs(exact)), a


@pytest.mark.parametrize("order", [0, 1, 2, 3, 10])
def test_polygamma_within_its_bound(order):
    rng = np.random.default_rng(8)
    x = np.concatenate([rng.uniform(0, 30, 60), 2.0 ** rng.uniform(-40, 40, 30), rng.uniform(-20, 0, 40)])
    found, _ = compiled("polygamma", dtypes.float64, order=order)(x)
    narrow, _ = compiled("polygamma", dtypes.float32, order=order)(x)
    with mpmath.workprec(120):
        for a, b, c in zip(x, found, narrow, strict=True):
            value = mpmath.psi(order, mpmath.mpf(float(a)))
            zero_near = a < 0 and order % 2 == 0
            scale = 1 + abs(value) + 2 * abs(mpmath.psi(order, 1 - a)) if zero_near else abs(value)
            assert abs(mpmath.mpf(float(b)) - value) <= 3e-15 * scale, a
            value = mpmath.psi(order, mpmath.mpf(float(np.float32(a))))
            unit = 2.0**-149 if abs(value) < 2.0**-126 else 2.0**-23 * abs(value)
            if not zero_near and abs(value) < 3e38:
                assert abs(mpmath.mpf(float(c)) - value) <= 0.51 * unit, a


def test_poles_equal_those_of_the_reference():
    x = np.array([0.0, -0.0, -1, -2, -3, INF, -INF, NAN])
    for order in range(4):
        found, _ = compiled("polygamma", dtypes.float64, order=order)(x)
        np.testing.assert_array_equal(found, REGISTRY["polygamma"].reference(x, order=order))


# --- 16 bits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", sorted(dtypes.HALF, key=str), ids=str)
def test_halves_are_rounded_once_from_float32(half):
    x = np.arange(65536, dtype=np.uint16).view(half)[::37]
    step = 2.0 ** -(10 if half == dtypes.float16 else 7)
    for name in ("exp", "tanh", "sigmoid", "erf", "log"):
        found = compiled(name, half)(x)[0].astype(np.float64)
        expected = run(REGISTRY[name], [x], {}).astype(np.float64)
        np.testing.assert_allclose(found, expected, rtol=step, atol=2.0**-24)
        assert np.mean(found == expected) + np.mean(np.isnan(found)) > 0.999, name


def test_every_function_is_in_these_tables():
    assert set(FUNCTIONS) == set(CASES) | {"power", "atan2", "polygamma"}
    assert set(SPECIAL) == set(CASES)
