"""Every public array function, forward and gradient, compiled and in eager mode; random numbers bit for bit."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from agree import Case, agree, check
from function_cases import CASES, VALUES

import chainrule as cr

ROOMS = {
    "": ["arithmetic", "reductions", "selection", "shaping", "products", "creation", "linalg", "decompositions"],
    "fft.": ["fft"],
}
SHAPE = (5, 67)  # odd, and of more than one vector


def public_names() -> list[str]:
    names = []
    for prefix, rooms in ROOMS.items():
        for room in rooms:
            names += [prefix + name for name in importlib.import_module(f"chainrule.functions.{room}").__all__]
    for room in ("elementwise", "binary"):
        names += importlib.import_module(f"chainrule.primitives.{room}").__all__
    return names


@pytest.mark.parametrize("name", public_names())
def test_every_function_has_a_case(name):
    assert name in CASES or name in VALUES, f"{name} is never compiled: give it a case in function_cases.py"


def converted(case: Case, dtype: str) -> Case:
    others = {np.dtype("float64"): np.dtype(dtype)}
    if dtype == "float32":
        others[np.dtype("complex128")] = np.dtype("complex64")
    args = [x.astype(others.get(x.dtype, x.dtype)) for x in case.args]
    return Case(case.name, case.function, args, case.gradient)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [name for name, cases in CASES.items() if cases[0].name == name])
def test_function_agrees(name, dtype):
    check([converted(case, dtype) for case in CASES[name]])


# --- random numbers ---------------------------------------------------------------------------------------


def test_words_masks_and_uniform_numbers_are_the_same_bits():
    generator = cr.Generator(11)

    def draws(p):
        generator.manual_seed(11)
        result = []
        for dtype in ("float32", "float64", "float16", "bfloat16"):
            result.append(cr.uniform(SHAPE, dtype=dtype, generator=generator))
        result.append(cr.uniform(SHAPE, -3.0, 2.5, generator=generator))
        result.append(cr.randint(-5, 1000, SHAPE, generator=generator))
        result.append(cr.randint(0, 200, SHAPE, "uint8", generator=generator))
        result.append(cr.bernoulli(p, generator=generator))
        result.append(cr.bernoulli(0.3, SHAPE, generator=generator))
        result.append(cr.permutation(33, generator=generator))
        result.append(cr.permutation(p, generator=generator))
        return result

    agree(draws, np.linspace(0, 1, SHAPE[1]), exact=True)


def test_normal_numbers_are_the_same_within_rounding():
    generator = cr.Generator(12)

    def draws():
        generator.manual_seed(12)
        result = [cr.normal(SHAPE, dtype=dtype, generator=generator) for dtype in ("float32", "float64", "float16")]
        result.append(cr.normal(SHAPE, 2.0, 0.5, generator=generator))
        result.append(cr.truncated_normal(SHAPE, low=-1.0, high=2.0, generator=generator))
        result.append(cr.exponential(SHAPE, 3.0, generator=generator))
        return result

    agree(draws)


def test_a_generator_goes_on_from_call_to_call():
    """The state after a compiled call is the one after an eager call."""
    results = []
    for compile in (lambda f: f, cr.compile):
        generator = cr.Generator(5)

        @compile
        def draw(x, generator=generator):
            mask = cr.bernoulli(0.5, x.shape, generator=generator)
            return cr.where(mask, x, 0.0), cr.uniform((3,), generator=generator)

        results.append([out.numpy() for _ in range(3) for out in draw(np.ones(SHAPE, np.float32))])
        results[-1].append(cr.uniform((4,), generator=generator).numpy())
    for eager, native in zip(*results, strict=True):
        np.testing.assert_array_equal(eager, native)
    assert not np.array_equal(results[1][0], results[1][2])


def test_random_numbers_in_a_loop():
    """A draw of each iteration, and one that the iterations share."""
    results = []
    for compile in (lambda f: f, cr.compile):
        generator = cr.Generator(6)

        @compile
        def walk(x, generator=generator):
            def step(total, row):
                jump = cr.uniform((3,), generator=generator)
                kept = cr.cond(row[0] > 0, lambda: cr.bernoulli(0.5, (3,), generator=generator), lambda: row > 0)
                return total + cr.where(kept, jump, row), jump

            return cr.scan(step, cr.zeros((3,)), x), cr.uniform((2,), generator=generator)

        (c, jumps), after = walk(np.linspace(-1, 1, 21).reshape(7, 3).astype(np.float32))
        results.append([c.numpy(), jumps.numpy(), after.numpy()])
    for eager, native in zip(*results, strict=True):
        np.testing.assert_array_equal(eager, native)
