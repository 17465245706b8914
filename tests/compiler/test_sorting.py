"""Sorting and the places of extrema against NumPy, exactly."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_harness import apply, node_of, same, sample

from chainrule import dtypes
from chainrule.compiler.sorting import LOWER
from chainrule.primitives.base import REAL, REGISTRY

ORDERED = sorted(REAL | {dtypes.bool_}, key=lambda d: d.name)


def _check(name, x, **static):
    results = apply(LOWER[name], name, x, **static)
    # NumPy has no order for NaN of bfloat16; in float32 the elements are the same.
    known = x.astype(np.float32) if x.dtype == dtypes.bfloat16 else x
    expected = REGISTRY[name].reference(known, **static)
    for result, right in zip(results, expected if isinstance(expected, tuple) else (expected,), strict=True):
        same(result, np.asarray(right).astype(result.dtype))


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", ORDERED, ids=str)
@pytest.mark.parametrize("name", ["sort", "argsort"])
def test_dtypes(name, dtype, descending):
    rng = np.random.default_rng(1)
    for n in (3, 12, 100):
        _check(name, sample(rng, (4, n), dtype, special=True), axis=1, descending=descending)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        *(((n,), 0) for n in (0, 1, 2, 13, 24, 25)),
        *(((0, 3), 0), ((3, 0), 0), ((5, 1), 1), ((7, 3), 0), ((2, 97, 3), 1), ((3, 48, 2), 1), ((2, 2, 49), 2)),
    ],
)
def test_shapes(shape, axis, descending):
    rng = np.random.default_rng(2)
    for dtype in (dtypes.float32, dtypes.int64):
        for name in ("sort", "argsort"):
            _check(name, sample(rng, shape, dtype, special=True), axis=axis, descending=descending)


@pytest.mark.parametrize("kind", ["random", "ascending", "descending", "equal"])
def test_long(kind):
    x = np.random.default_rng(3).integers(0, 5000, 100_003).astype(np.float32)
    x = {"random": x, "ascending": np.sort(x), "descending": np.sort(x)[::-1].copy(), "equal": x * 0}[kind]
    _check("argsort", x, axis=0, descending=False)


@pytest.mark.parametrize("dtype", ORDERED, ids=str)
@pytest.mark.parametrize(("shape", "k"), [((5,), 2), ((3, 40), 5), ((3, 40), 40), ((3, 40), 0), ((0, 4), 2), ((1,), 1)])
def test_top_k(dtype, shape, k):
    _check("top_k", sample(np.random.default_rng(4), shape, dtype, special=True), k=k)


@pytest.mark.parametrize("name", ["reduce_argmax", "reduce_argmin"])
@pytest.mark.parametrize("dtype", ORDERED, ids=str)
@pytest.mark.parametrize("special", [False, True])
def test_places_dtypes(name, dtype, special):
    rng = np.random.default_rng(5)
    for axis in (0, 1, 2):
        _check(name, sample(rng, (6, 37, 18), dtype, special), axes=(axis,))


@pytest.mark.parametrize("name", ["reduce_argmax", "reduce_argmin"])
@pytest.mark.parametrize("shape", [(1,), (16,), (5, 1), (3, 10), (7, 16, 16), (2, 3, 33), (0, 3, 2), (40, 100)])
def test_places_shapes(name, shape):
    rng = np.random.default_rng(6)
    for axis, n in enumerate(shape):
        if n:
            _check(name, sample(rng, shape, dtypes.float32), axes=(axis,))


def test_first_nan_wins():
    x = np.zeros((2, 50), np.float32)
    x[0, [21, 5, 37]] = np.nan
    x[1, 49] = np.nan
    _check("reduce_argmax", x, axes=(1,))
    _check("reduce_argmin", x, axes=(1,))
    _check("reduce_argmax", x.T.copy(), axes=(0,))


def test_other_extents_are_the_same_code():
    for name, static in (("sort", {"axis": 1, "descending": False}), ("reduce_argmax", {"axes": (1,)})):
        lowered = [LOWER[name](node_of(name, [np.zeros(s, np.float32)], **static)) for s in ((2, 3), (64, 1000))]
        assert lowered[0].calls[0].code.key == lowered[1].calls[0].code.key
