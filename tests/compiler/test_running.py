"""Running reductions against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_harness import apply, node_of, same, sample

from chainrule import dtypes
from chainrule.compiler.running import LOWER
from chainrule.primitives.base import NUMERIC, REAL, REGISTRY

SHAPES = [((7,), 0), ((0, 3), 0), ((3, 0), 0), ((1, 1), 1), ((5, 4), 0), ((3, 50), 1), ((2, 13, 37), 1), ((40, 16), 0)]
TOLERANCE = {4: 1e-6, 8: 1e-13}


def _by_name(kinds):
    return sorted(kinds, key=lambda d: d.name)


def _check(name, *inputs, **static):
    (result,) = apply(LOWER[name], name, *inputs, **static)
    dtype = inputs[0].dtype
    if dtype in dtypes.HALF:  # computed in float32, rounded once
        expected = REGISTRY[name].reference(*(x.astype(np.float32) for x in inputs), **static).astype(dtype)
        np.testing.assert_allclose(result.astype(np.float32), expected.astype(np.float32), rtol=1e-2)
        return
    with np.errstate(over="ignore"):
        expected = REGISTRY[name].reference(*inputs, **static)
    if dtype in dtypes.INEXACT and name != "cummax":
        tolerance = TOLERANCE[dtypes.real_of(dtype).itemsize]
        assert result.dtype == expected.dtype
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)
    elif dtype in dtypes.FLOATING:
        np.testing.assert_array_equal(result, expected)
    else:
        same(result, expected)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("name", ["cumsum", "cumprod", "cummax", "recurrence"])
def test_shapes(name, shape, axis, reverse):
    rng = np.random.default_rng(1)
    for dtype in (dtypes.float32, dtypes.int32):
        x = sample(rng, shape, dtype)
        inputs = (x, sample(rng, shape, dtype)) if name == "recurrence" else (x,)
        if name == "cumprod" and dtype == dtypes.float32:
            inputs = (rng.uniform(-1.5, 1.5, shape).astype(dtype),)
        if name == "recurrence" and dtype == dtypes.float32:
            inputs = (rng.uniform(-1, 1, shape).astype(dtype), x)
        _check(name, *inputs, axis=axis, reverse=reverse)


@pytest.mark.parametrize("dtype", _by_name(NUMERIC), ids=str)
@pytest.mark.parametrize("shape", [(3, 20), (3, 20, 5)])
def test_sums(dtype, shape):
    _check("cumsum", sample(np.random.default_rng(2), shape, dtype), axis=1, reverse=True)


@pytest.mark.parametrize("dtype", _by_name(REAL), ids=str)
@pytest.mark.parametrize("shape", [(3, 20), (3, 20, 5)])
def test_products(dtype, shape):
    rng = np.random.default_rng(3)
    x = sample(rng, shape, dtype) if dtype.kind in "iu" else rng.uniform(-1.2, 1.2, shape).astype(dtype)
    _check("cumprod", x, axis=1, reverse=False)
    _check("recurrence", x, x, axis=1, reverse=False)


@pytest.mark.parametrize("dtype", _by_name(REAL | {dtypes.bool_}), ids=str)
@pytest.mark.parametrize("shape", [(9, 20), (9, 20, 5), (9, 20, 16)])
@pytest.mark.parametrize("reverse", [False, True])
def test_maxima(dtype, shape, reverse):
    if dtype in dtypes.HALF:
        rng = np.random.default_rng(4)
        _check("cummax", sample(rng, shape, dtype), axis=1, reverse=reverse)
    else:
        _check("cummax", sample(np.random.default_rng(4), shape, dtype, special=True), axis=1, reverse=reverse)


def test_other_extents_are_the_same_code():
    lowered = [
        LOWER["cumsum"](node_of("cumsum", [np.zeros(shape, np.float32)], axis=1, reverse=False))
        for shape in ((2, 3, 4), (64, 100, 33))
    ]
    assert lowered[0].calls[0].code.key == lowered[1].calls[0].code.key


@pytest.mark.parametrize(("name", "dtype"), [("recurrence", dtypes.complex64), ("recurrence", dtypes.bool_)])
def test_not_supported(name, dtype):
    x = np.zeros((2, 3), dtype)
    assert LOWER[name](node_of(name, [x, x], axis=1, reverse=False)) is None
