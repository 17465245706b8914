"""Every primitive over many examples is what a loop over the examples gives, whichever of its inputs differ."""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import sys
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule.autodiff.trees import flatten
from chainrule.primitives.base import REGISTRY
from chainrule.primitives.batching import one_by_one

sys.path.append(str(Path(__file__).parents[1] / "primitives"))

import linalg_table  # noqa: F401
from primitive_table import NO_GRADIENT, TABLE, Case, unary_cases

for _module in pkgutil.walk_packages(cr.__path__, "chainrule."):  # some rooms are loaded at first use otherwise
    importlib.import_module(_module.name)

# Primitives without a gradient are not in the table.
_whole, _truth = np.array([[3, 0, 2], [1, 5, 2]]), np.array([[True, False, True], [False, False, True]])
OTHERS = {
    "logical_not": [Case((_truth,))],
    "bitwise_invert": [Case((_whole,))],
    "stop_gradient": [Case((_whole,))],
    "reduce_any": [Case((_truth,), {"axes": (1,)})],
    "reduce_all": [Case((_truth,), {"axes": (0,)})],
    "reduce_argmax": [Case((_whole,), {"axes": (1,)})],
    "reduce_argmin": [Case((_whole,), {"axes": (0,)})],
    "argsort": [Case((_whole,), {"axis": a, "descending": d}) for a in (0, 1) for d in (False, True)],
    "random_bits": [Case((np.array([7, 3], np.uint64),), {"shape": (2, 3)})],
    "print": [Case((_whole, _truth), {"text": "{} {}"})],
}
for _name in ("logical_and", "logical_or", "logical_xor"):
    OTHERS[_name] = [Case((_truth, _truth[0]))]
for _name in ("isfinite", "isnan", "isinf"):
    OTHERS[_name] = [Case((np.array([1.0, np.inf, np.nan]),))]
for _name in NO_GRADIENT:
    OTHERS.setdefault(_name, [Case((_whole, _whole[:, :1])), Case((_whole[0], _whole))])


def cases_of(name):
    with_domain = unary_cases(name) if REGISTRY[name].domain is not None else []
    return with_domain + TABLE.get(name, []) + OTHERS.get(name, [])


CASES = [(name, i, case) for name in REGISTRY for i, case in enumerate(cases_of(name))]
every_case = pytest.mark.parametrize(
    ("name", "case"), [(n, c) for n, _, c in CASES], ids=[f"{n}-{i}" for n, i, _ in CASES]
)
DECIDING = {"cond": 0, "while": 0}


def calling(name, case):
    return case.function or (lambda *xs: REGISTRY[name](*xs, **case.static))


def variants(x, size, rng):
    """Examples like ``x``: floating ones differ a little, whole ones change places."""
    if x.dtype == np.uint64:
        return np.stack([x + np.uint64(i) for i in range(size)])
    if x.dtype.kind in "fc":
        return np.stack([x * (1 + 0.001 * i) for i in range(size)])
    return np.stack([np.flip(x) if i % 2 else x for i in range(size)])


def check(f, inputs, choice, size=3, wrap=lambda f: f, factor=1.0):
    rng = np.random.default_rng(0)
    given = [variants(x, size, rng) if has else x for x, has in zip(inputs, choice, strict=True)]
    examples = [[x[i] if has else x for x, has in zip(given, choice, strict=True)] for i in range(size)]
    expected = [flatten(f(*map(cr.asarray, own)))[0] for own in examples]
    axes = tuple(0 if has else None for has in choice)
    found = flatten(wrap(cr.vmap(f, in_axes=axes, axis_size=size, randomness="same"))(*map(cr.asarray, given)))[0]
    assert len(found) == len(expected[0])
    for k, y in enumerate(found):
        stacked = np.stack([row[k].numpy() for row in expected])
        assert y.dtype == stacked.dtype
        assert y.shape == stacked.shape
        np.testing.assert_allclose(y.numpy(), stacked, rtol=1e-9 * factor, atol=1e-11 * factor)


def test_every_primitive_has_cases_and_a_rule():
    assert {name for name in REGISTRY if not cases_of(name)} == set()
    without = [n for n, p in REGISTRY.items() if p.batching is None and not p.elementwise]
    assert without == []
    loops = [n for n, p in REGISTRY.items() if p.batching is one_by_one]
    assert loops == ["print"]


@every_case
def test_as_a_loop(name, case):
    for choice in itertools.product((False, True), repeat=len(case.inputs)):
        check(calling(name, case), case.inputs, choice)


def representative(name):
    """The case of a primitive with the most axes that is not too large."""
    cases = [c for c in cases_of(name) if all(0 < x.size < 100 for x in c.inputs)]
    return max(cases, key=lambda c: sum(x.ndim for x in c.inputs))


SMOOTH = [n for n, p in REGISTRY.items() if p.vjp is not None and n != "callback"]


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_within_and_outside(name):
    case = representative(name)
    smooth = [i for i, x in enumerate(case.inputs) if x.dtype.kind in "fc"]
    call = calling(name, case)

    def loss(*xs):
        parts = [p for p in flatten(call(*xs))[0] if p.dtype.kind in "fc"]
        return sum((cr.abs(p) ** 2 if p.dtype.kind == "c" else p * p * (p + 0.3)).sum() for p in parts)

    def gradients(*xs):
        def of_smooth(*some):
            full = list(xs)
            for i, x in zip(smooth, some, strict=True):
                full[i] = x
            return loss(*full)

        return cr.vjp(of_smooth, *(xs[i] for i in smooth))[1](1.0)

    everyone = (True,) * len(case.inputs)
    check(gradients, case.inputs, everyone, factor=100)
    check(gradients, case.inputs, (*everyone[1:], False), factor=100)

    given = [cr.asarray(variants(x, 2, None)) for x in case.inputs]
    for choice in {everyone, (*everyone[1:], False)}:
        axes = tuple(0 if has else None for has in choice)
        point = [x if has else x[0] for x, has in zip(given, choice, strict=True)]

        def total(f, axes=axes, point=point):
            def of_smooth(*some):
                full = list(point)
                for i, x in zip(smooth, some, strict=True):
                    full[i] = x
                return f(*full)

            return cr.vjp(of_smooth, *(point[i] for i in smooth))[1](1.0)

        found = total(lambda *xs, axes=axes: cr.vmap(loss, axes, axis_size=2)(*xs).sum())
        expected = total(
            lambda *xs, axes=axes: sum(
                loss(*(x if a is None else x[i] for x, a in zip(xs, axes, strict=True))) for i in (0, 1)
            )
        )
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", [n for n in REGISTRY if n != "print"])
def test_compiled(name):
    case = representative(name)
    check(calling(name, case), case.inputs, (True,) * len(case.inputs), wrap=cr.compile, factor=100)
    if len(case.inputs) > 1:
        check(
            calling(name, case), case.inputs, (True,) + (False,) * (len(case.inputs) - 1), wrap=cr.compile, factor=100
        )


@pytest.mark.parametrize("name", ["conv", "dot", "gather", "scatter_add", "dynamic_slice", "select", "solve", "pad"])
def test_nested(name):
    case = representative(name)
    f = calling(name, case)
    for outer, inner in itertools.product(itertools.product((0, None), repeat=len(case.inputs)), repeat=2):
        given = []
        for x, a, b in zip(case.inputs, outer, inner, strict=True):
            x = x if b is None else variants(x, 2, None)
            given.append(cr.asarray(x if a is None else variants(x, 3, None)))
        found = cr.vmap(cr.vmap(f, inner, axis_size=2), outer, axis_size=3)(*given)
        rows = []
        for i, j in itertools.product(range(3), range(2)):
            own = [x if a is None else x[i] for x, a in zip(given, outer, strict=True)]
            rows.append(f(*(x if b is None else x[j] for x, b in zip(own, inner, strict=True))).numpy())
        np.testing.assert_allclose(found.numpy(), np.stack(rows).reshape(found.shape), rtol=1e-9, atol=1e-11)
