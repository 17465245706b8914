"""Every primitive, forward and gradient, compiled and in eager mode: the entries of the table of primitives."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path
from typing import Any

import agree
import ml_dtypes
import numpy as np
import pytest
from agree import Case, check

import chainrule as cr
from chainrule.compiler import program
from chainrule.primitives.base import REGISTRY

sys.path.append(str(Path(__file__).parent.parent / "primitives"))
import linalg_table  # noqa: F401
from primitive_table import NO_GRADIENT, TABLE, Case as Entry, unary_cases

for _module in pkgutil.walk_packages(cr.__path__, "chainrule."):  # some rooms are loaded at first use otherwise
    importlib.import_module(_module.name)

FLOATS = np.array([-2.5, -1.0, -0.0, 0.0, 1.0, 2.5, 6e4, np.inf, -np.inf, np.nan])
TRUTH = np.array([True, False, True, True, False])
WHOLE = np.array([[-7, -1, 0], [3, 5, 100]])
OTHER = np.array([2, 0, 5])


def same(names: str, calls: list[Any]) -> dict[str, list[Any]]:
    return dict.fromkeys(names.split(), calls)


# What has no gradient is in no table of gradients: its inputs, and its other arguments.
PLAIN: dict[str, list[tuple[Any, ...]]] = (
    same("isfinite isnan isinf stop_gradient", [(FLOATS,)])
    | same(
        "equal not_equal less less_equal greater greater_equal",
        [(FLOATS, FLOATS[::-1]), (FLOATS, np.array(0.0)), (WHOLE, OTHER), (WHOLE, WHOLE)],
    )
    | same("logical_and logical_or logical_xor", [(TRUTH, TRUTH[::-1]), (TRUTH, np.array(True))])
    | same("bitwise_and bitwise_or bitwise_xor", [(WHOLE, OTHER), (TRUTH, TRUTH[::-1])])
    | same("bitwise_left_shift bitwise_right_shift", [(WHOLE, OTHER), (WHOLE, np.array(64))])
    | {"logical_not": [(TRUTH,)], "bitwise_invert": [(WHOLE,), (TRUTH,)]}
)
RANDOM = np.random.default_rng(1).standard_normal((3, 4, 5))
KEYED: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = (
    same(
        "reduce_argmax reduce_argmin",
        [*(((RANDOM,), {"axes": axes}) for axes in ((0,), (1,), (2,))), ((WHOLE,), {"axes": (1,)})],
    )
    | same("reduce_any reduce_all", [((RANDOM > 0.5,), {"axes": axes}) for axes in ((0,), (2,), (0, 1, 2))])
    | {
        "argsort": [((RANDOM,), {"axis": a, "descending": d}) for a in (0, 1, 2) for d in (False, True)],
        "random_bits": [((np.array([5, 2**40], np.uint64),), {"shape": s}) for s in ((), (1,), (0,), (7,), (3, 33))],
    }
)
COMPLEX = {"complex", "real", "imag", "conj"}  # parts of names
OUTSIDE = {"print": "it has no result"}


def entries_of(name: str) -> list[Entry]:
    """All calls of a primitive."""
    found = (unary_cases(name) if REGISTRY[name].domain is not None else []) + TABLE.get(name, [])
    found += [Entry(tuple(np.asarray(x) for x in inputs)) for inputs in PLAIN.get(name, ())]
    return found + [Entry(inputs, static) for inputs, static in KEYED.get(name, ())]


def converted(x: np.ndarray, dtype: str) -> np.ndarray:
    if x.dtype == np.complex128 and dtype == "float32":
        return x.astype(np.complex64)
    return x.astype(dtype) if x.dtype == np.float64 else x


def case_of(name: str, number: int, entry: Entry, dtype: str) -> Case:
    """A function of real arrays: complex inputs come, and complex results go, as two of them."""
    given = [converted(np.asarray(x), dtype) for x in entry.inputs]
    label = f"{name}-{number}"
    if entry.function is not None:
        return Case(label, entry.function, given, gradient=True)
    parts = [part for x in given for part in ((x.real, x.imag) if x.dtype.kind == "c" else (x,))]

    def function(*parts: Any) -> list[Any]:
        rest = iter(parts)
        inputs = [cr.complex(next(rest), next(rest)) if x.dtype.kind == "c" else next(rest) for x in given]
        out = REGISTRY[name](*map(cr.asarray, inputs), **entry.static)
        out = out if isinstance(out, tuple) else (out,)
        return [p for o in out for p in ((cr.real(o), cr.imag(o)) if o.dtype.name.startswith("complex") else (o,))]

    return Case(label, function, parts, gradient=name not in NO_GRADIENT)


@pytest.mark.parametrize("name", list(REGISTRY))
def test_every_primitive_has_a_case(name):
    assert entries_of(name) or name in OUTSIDE, f"{name} is never compiled: give it an entry in a table"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [name for name in REGISTRY if name not in OUTSIDE])
def test_primitive_agrees(name, dtype):
    check([case_of(name, i, entry, dtype) for i, entry in enumerate(entries_of(name))])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_elementwise_primitives_of_16_bit_floats_agree(dtype):
    """They are computed in float32 and rounded once; all in one program."""
    taken = [name for name, p in REGISTRY.items() if p.elementwise and not set(name.split("_")) & COMPLEX]
    entries = [(name, entry) for name in taken for entry in entries_of(name)[-1:]]
    real = [(name, e) for name, e in entries if all(np.asarray(x).dtype.kind != "c" for x in e.inputs)]
    cases = []
    for name, entry in real:
        case = case_of(name, 0, entry, "float32")
        case.args = [
            x.astype(np.dtype(getattr(ml_dtypes, dtype, dtype))) if x.dtype == np.float32 else x for x in case.args
        ]
        cases.append(case)
    assert len(cases) > 50
    check(cases)


def test_print_works_in_a_compiled_function(capsys):
    @cr.compile
    def function(x):
        cr.debug.print("x is {}", x)
        return x + 1

    assert function(np.float32(2.0)).item() == 3
    assert capsys.readouterr().out == "x is 2.0\n"


# --- the harness itself -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [lambda y: y * (1 + 3e-6), lambda y: y + 1e-6, lambda y: y.astype("float64"), lambda y: y[:-1]]
)
def test_a_wrong_result_is_noticed(monkeypatch, wrong):
    x = np.linspace(0.5, 2, 9).astype(np.float32)
    case = Case("sine", cr.sin, [x])
    check([case])
    native = agree.compiled
    monkeypatch.setattr(agree, "compiled", lambda f: lambda *args: [wrong(y) for y in native(f)(*args)])
    with pytest.raises(AssertionError, match=r"sine\(float32\(9,\)\), result 0: .* expected, .* given"):
        check([case])


def test_cancellation_is_no_excuse_and_no_trap():
    """An error of the size of the terms is allowed in their difference, and no more."""
    x = np.linspace(1, 2, 5).astype(np.float32)
    value, error = agree.bounds_of(lambda x: cr.exp(x) - cr.exp(x * 0.5) ** 2, (x,))[0]
    assert np.all(np.abs(value) <= error)
    assert np.all(error < 1e-5 * np.exp(x))


def test_writing_beyond_an_array_is_noticed():
    def write():
        with agree.fences():
            made = program.np.zeros((4,), np.int32)
            np.lib.stride_tricks.as_strided(made, (5,), (4,))[4] = 1

    with pytest.raises(AssertionError, match="beyond the memory of an array int32"):
        write()
