"""Elementwise primitives compute what their NumPy reference does, special values and wraparound included."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from scalar_harness import Compiled, Spec, assembly, compile_all

from chainrule import dtypes
from chainrule.compiler import halves
from chainrule.compiler.elementwise import cost, lower, philox, supports
from chainrule.compiler.math.functions import FUNCTIONS
from chainrule.primitives.base import REGISTRY
from chainrule.primitives.random import random_bits
from chainrule.tensor.bind import run

REAL = sorted((d for d in dtypes.ALL if d not in dtypes.COMPLEX), key=lambda d: d.name)
PRIMITIVES = {
    name: primitive
    for name, primitive in REGISTRY.items()
    if (primitive.elementwise or primitive.lowering == "elementwise")
    and primitive.reference.__module__.startswith("chainrule")
}
NOT_REAL = {"complex", "real", "imag"}
FAILING = {"floor_divide": lambda y: y != 0, "remainder": lambda y: y != 0, "power": lambda y: y >= 0}
N = 999


def arity(name: str) -> int:
    """How many inputs a primitive has."""
    code = PRIMITIVES[name].reference.__code__
    return code.co_argcount


def values(dtype: Any, rng: np.random.Generator) -> np.ndarray:
    """Special values among ordinary ones."""
    if dtype == dtypes.bool_:
        return rng.random(N) < 0.5
    if dtype in dtypes.INTEGER:
        limits = np.iinfo(dtype)
        wanted = [0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, -1, -2, -3, -8, limits.min, limits.max]
        wanted += [limits.min + 1, limits.max - 1]
        special = np.array([v for v in wanted if limits.min <= v <= limits.max], dtype)
        usual = rng.integers(max(limits.min, -50), 50, N)
    else:
        whole = [
            0.0,
            -0.0,
            1,
            -1,
            127.5,
            255.9,
            256,
            -129,
            2.0**31,
            2.0**31 - 1,
            -(2.0**31),
            2.0**32,
            2.0**63,
            -(2.0**63),
        ]
        others = [2.0**64, 1.8e19, 0.5, -0.5, 1.5, 2.5, -2.5, 3e-5, 1e-8, 65504, 65520, 1e30, -1e30]
        with np.errstate(all="ignore"):
            special = np.array([*whole, *others, np.inf, -np.inf, np.nan]).astype(dtype)
        usual = rng.standard_normal(N) * 10 ** rng.uniform(-4, 4, N)
    return np.where(rng.random(N) < 0.5, rng.choice(special, N), usual.astype(dtype))


def spec(name: str, types: list, out: Any, static: dict | None = None, width: int = 16) -> Spec:
    """A primitive to compile."""
    static = static or {}
    return Spec(lambda e, inputs, words, i: lower(e, name, inputs, types, out, static), types, out, width=width)


def assert_same(
    found: np.ndarray, expected: np.ndarray, inputs: list[np.ndarray], what: str, signs: bool = True
) -> None:
    """Equal values, with the same sign of zeros, and NaN in the same places."""
    wide = found.dtype in dtypes.FLOATING
    a, b = (v.astype(np.float64) if wide else v for v in (found, expected))
    same = (a == b) | ((a != a) & (b != b))
    if wide and signs:
        same &= (a != 0) | (np.signbit(a) == np.signbit(b))
    wrong = np.flatnonzero(~same)[:3]
    assert not wrong.size, f"{what}: " + "; ".join(
        f"{[x[i] for x in inputs]} gives {found[i]!r} instead of {expected[i]!r}" for i in wrong
    )


@functools.cache
def cases(dtype: Any, width: int) -> list[tuple[str, Spec, Compiled]]:
    """All primitives with exact results, for one dtype of inputs."""
    specs = []
    for name, primitive in PRIMITIVES.items():
        rounded = name in FUNCTIONS and (dtype in dtypes.FLOATING or name != "power")
        if rounded or name in {"cast", *NOT_REAL}:
            continue
        types = [dtype] * arity(name)
        if name == "select":
            types[0] = dtypes.bool_
        try:
            out = primitive.types(*(np.zeros(1, t) for t in types)).dtype
        except TypeError:
            continue
        assert supports(name, types, out, {}), f"no code for {name} of {dtype}"
        specs.append((name, spec(name, types, out, width=width)))
    return [(name, s, c) for (name, s), c in zip(specs, compile_all([s for _, s in specs]), strict=True)]


@pytest.mark.parametrize("dtype", REAL, ids=str)
def test_equals_the_reference(dtype):
    rng = np.random.default_rng(7)
    for name, made, compiled in cases(dtype, 16):
        inputs = [values(t, rng) for t in made.types]
        if name in FAILING and dtype in dtypes.INTEGER:
            fine = FAILING[name](inputs[1])
            _, status = compiled(*inputs)
            assert bool(status) != bool(fine.all()), name
            inputs = [x[fine] for x in inputs]
        found, status = compiled(*inputs)
        assert status == 0, name
        ties = name in {"maximum", "minimum", "clip"}  # of 0.0 and -0.0 NumPy takes either
        assert_same(found, run(PRIMITIVES[name], inputs, {}), inputs, f"{name} of {dtype}", signs=not ties)


@pytest.mark.parametrize("dtype", [dtypes.int64, dtypes.float16, dtypes.float64], ids=str)
def test_scalar_code_gives_the_same(dtype):
    rng = np.random.default_rng(8)
    for (name, made, wide), (_, _, single) in zip(cases(dtype, 16), cases(dtype, 1), strict=True):
        inputs = [values(t, rng) for t in made.types]
        if name in FAILING and dtype in dtypes.INTEGER:
            inputs[1] = np.maximum(inputs[1], 1)
        assert_same(single(*inputs)[0], wide(*inputs)[0], inputs, name)


@pytest.mark.parametrize("source", REAL, ids=str)
def test_casts_saturate_and_wrap_as_the_reference(source):
    x = values(source, np.random.default_rng(9))
    specs = [spec("cast", [source], target, {"dtype": target}) for target in REAL]
    for target, compiled in zip(REAL, compile_all(specs), strict=True):
        with np.errstate(all="ignore"):
            expected = run(PRIMITIVES["cast"], [x], {"dtype": target})
        assert_same(compiled(x)[0], expected, [x], f"{source} to {target}")


def test_every_primitive_has_code_or_declines():
    for name in PRIMITIVES:
        types = [dtypes.bool_ if name == "select" else dtypes.float32] * arity(name)
        known = supports(name, types, dtypes.float32, {"order": 1, "dtype": dtypes.float32})
        assert known == (name not in NOT_REAL), name
        assert not supports(name, [dtypes.complex64], dtypes.complex64, {})
        assert cost(name, dtypes.float32) >= 0
    assert not supports("polygamma", [dtypes.float64], dtypes.float64, {"order": 31})


@pytest.mark.parametrize("name", ["floor_divide", "remainder"])
def test_float_division_of_far_magnitudes(name):
    rng = np.random.default_rng(10)
    for dtype, reach in ((dtypes.float64, 300), (dtypes.float32, 37)):
        (compiled,) = compile_all([spec(name, [dtype, dtype], dtype)])
        a, b = (10 ** rng.uniform(-reach, reach, 3000) * rng.choice([-1, 1], 3000) for _ in range(2))
        b[:1500] = a[:1500] * 10 ** rng.uniform(-20, 2, 1500)
        a, b = a.astype(dtype), b.astype(dtype)
        with np.errstate(all="ignore"):
            expected = getattr(np, name)(a, b)
        assert_same(compiled(a, b)[0], expected, [a, b], f"{name} of {dtype}")


@pytest.mark.parametrize("name", ["floor_divide", "power"])
def test_lanes_outside_of_the_mask_cause_no_fault(name):
    def emit(e, inputs, words, i):
        with e.masked(e.b.icmp_signed("!=", inputs[0], e.const(inputs[0].type.element, 99))):
            return lower(e, name, inputs, [dtypes.int32] * 2, dtypes.int32, {})

    (compiled,) = compile_all([Spec(emit, [dtypes.int32] * 2, dtypes.int32)])
    x, bad = np.full(32, 99), 0 if name == "floor_divide" else -1
    assert compiled(x, np.full(32, bad))[1] == 0
    x[5] = 1
    assert compiled(x, np.full(32, bad))[1] == 1


@pytest.mark.parametrize("half", sorted(dtypes.HALF, key=str), ids=str)
def test_halves_round_as_their_type(half):
    bits = np.arange(65536, dtype=np.uint16)
    every = bits.view(half)
    wide = every.astype(np.float32)
    around = wide.view(np.uint32).astype(np.int64)[:, None] + np.array(
        [-1, 0, 1, 0xFFF, 0x1000, 0x1001, 0x7FFF, 0x8000]
    )
    around = around.astype(np.uint32).view(np.float32).reshape(-1)
    with np.errstate(all="ignore"):
        exact = around.astype(np.float64)
        doubles = np.concatenate([exact, exact * (1 + 2.0**-40), exact * (1 - 2.0**-45)])
    up, down, double = compile_all(
        [
            spec("cast", [a], b, {"dtype": b})
            for a, b in ((half, dtypes.float32), (dtypes.float32, half), (dtypes.float64, half))
        ]
    )
    with np.errstate(all="ignore"):
        assert_same(up(every)[0], wide, [every], "up")
        assert_same(down(around)[0], around.astype(half), [around], "down")
        assert_same(double(doubles)[0], doubles.astype(half), [doubles], "from float64")


def test_a_half_function_is_on_the_grid_before_it_is_stored():
    def emit(e, inputs, words, i):
        value = lower(e, "exp", inputs, [dtypes.float16], dtypes.float16, {})
        again = halves.nearest(e, value, dtypes.float16)
        return e.b.fcmp_ordered("==", value, again)

    (compiled,) = compile_all([Spec(emit, [dtypes.float16], dtypes.bool_)])
    assert compiled(np.linspace(-5, 5, 320))[0].all()


def test_random_bits_equal_the_reference():
    seed, draw = 0x9123456789ABCDEF, 0xFEDCBA9876543210
    expected = random_bits.reference(np.array([seed, draw], np.uint64), shape=(600,))

    def made(width: int, aligned: bool) -> Spec:
        def emit(e, inputs, words, i):
            return philox(e, words[0], words[1], e.b.add(words[2], i), aligned)

        return Spec(emit, [], dtypes.uint32, 3, width)

    wide, aligned, single = compile_all([made(16, False), made(16, True), made(1, False)])
    for first in (0, 1, 2, 3, 4, 5, 7, 400):
        for compiled in (wide, single) if first % 4 else (wide, single, aligned):
            found, _ = compiled(size=160, words=(seed, draw, first))
            np.testing.assert_array_equal(found, expected[first : first + 160])


@pytest.mark.parametrize("name", ["sin", "erf", "lgamma", "floor_divide", "cast"])
def test_an_older_processor_needs_no_outside_function_either(name):
    types = [dtypes.float64] * (2 if name == "floor_divide" else 1)
    out = dtypes.int64 if name == "cast" else dtypes.float64
    code = assembly(spec(name, types, out, {"dtype": out}), "haswell")
    calls = {line.split()[1] for line in code.splitlines() if line.strip().startswith("call")}
    assert all("math." in call for call in calls), calls
