"""Strided copies, fills and the primitives made of them, against NumPy, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_harness import apply, run, same, sample

from chainrule import dtypes
from chainrule.compiler.kernel import Lowered, Ref
from chainrule.compiler.moving import LOWER, copy_call
from chainrule.graph.ir import TensorType
from chainrule.primitives.base import REGISTRY

ALL = sorted(dtypes.ALL, key=lambda d: d.name)
SIZES = [dtypes.bool_, dtypes.float16, dtypes.float32, dtypes.float64, dtypes.complex128]


def _check(name, *inputs, **static):
    (result,) = apply(LOWER[name], name, *inputs, **static)
    same(result, REGISTRY[name].reference(*inputs, **static))


def _copied(view: np.ndarray, base: np.ndarray) -> np.ndarray:
    size = base.dtype.itemsize
    offset = view.ctypes.data - base.ctypes.data if view.size else 0
    call = copy_call(view.shape, [s // size for s in view.strides], base.dtype, Ref("in", 0, offset))
    results = [
        run(Lowered([call]), [base], [TensorType(view.shape, base.dtype)], backwards)[0][0]
        for backwards in (False, True)
    ]
    same(*results)
    return results[0]


VIEWS = {
    "whole": lambda x: x,
    "transposed": lambda x: x.T,
    "middle axes": lambda x: x.swapaxes(1, 2),
    "channels first": lambda x: np.moveaxis(x, -1, 1),
    "channels last": lambda x: np.moveaxis(x, 1, -1),
    "first last": lambda x: np.moveaxis(x, 0, -1),
    "every other": lambda x: x[..., ::2],
    "part": lambda x: x[:, 1:, 1:, :],
    "reversed": lambda x: x[::-1, :, ::-1, ::-1],
    "reversed transposed": lambda x: x[:, ::-1].T,
    "repeated": lambda x: np.broadcast_to(x[..., :1], x.shape),
    "rows repeated": lambda x: np.broadcast_to(x[:, :1], (*x.shape[:1], 5, *x.shape[2:])),
    "scalar repeated": lambda x: np.broadcast_to(x.reshape(-1)[:1], (3, 700)),
    "columns": lambda x: x[..., 0],
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 17, 33, 3), (2, 5, 16, 32), (3, 1, 1, 40), (2, 37, 19, 16)])
def test_copy_views(view, shape):
    x = sample(np.random.default_rng(1), shape, dtypes.float32)
    same(_copied(VIEWS[view](x), x), VIEWS[view](x).copy())


@pytest.mark.parametrize("dtype", SIZES, ids=str)
@pytest.mark.parametrize("view", ["whole", "transposed", "channels last", "reversed", "repeated"])
def test_copy_sizes(dtype, view):
    x = sample(np.random.default_rng(2), (3, 18, 6, 35), dtype)
    same(_copied(VIEWS[view](x), x), VIEWS[view](x).copy())


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4), ()])
def test_copy_few(shape):
    x = np.ones(shape, np.float32)
    same(_copied(x.T, x), x.T.copy())


def test_copy_long():
    x = np.arange(100_003, dtype=np.float32)
    same(_copied(x, x), x)
    wide = x[:100_000].reshape(20, 5000)
    same(_copied(wide.T, x), wide.T.copy())
    tall = x[:100_000].reshape(5000, 20)
    same(_copied(tall.T, x), tall.T.copy())


def test_other_extents_are_the_same_code():
    first, second = (copy_call((n, 7, m), (9 * m, m, 1), dtypes.float32).code.key for n, m in ((2, 16), (5000, 33333)))
    assert first == second


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_pad_dtypes(dtype):
    x = sample(np.random.default_rng(3), (3, 4), dtype)
    _check("pad", x, np.ones((), dtype), widths=((1, 2, 0), (0, 3, 1)))


@pytest.mark.parametrize(
    ("shape", "widths"),
    [
        ((5,), ((0, 0, 0),)),
        ((5,), ((-1, -2, 0),)),
        ((5,), ((-3, -3, 0),)),
        ((5,), ((-7, 9, 0),)),
        ((5,), ((3, -7, 0),)),
        ((5,), ((-3, 4, 2),)),
        ((5,), ((-1, -1, 3),)),
        ((0,), ((2, 1, 3),)),
        ((1,), ((0, 0, 3),)),
        ((), ()),
        ((2, 3, 4, 17), ((0, 0, 0), (1, 1, 0), (2, 0, 0), (0, 0, 0))),
        ((2, 3, 4, 17), ((0, 1, 1), (-1, 1, 2), (2, -2, 0), (-3, 0, 1))),
        ((2, 0, 4), ((1, 1, 0), (2, 0, 0), (0, 0, 0))),
    ],
)
def test_pad_widths(shape, widths):
    x = sample(np.random.default_rng(4), shape, dtypes.float32)
    _check("pad", x, np.float32(7).reshape(()), widths=widths)


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_concat_roll_flip_dtypes(dtype):
    x = sample(np.random.default_rng(5), (3, 5, 2), dtype)
    _check("concat", x, x[:, :1].copy(), x, axis=1)
    _check("roll", x, shift=2, axis=1)
    _check("flip", x, axes=(0, 2))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concat(axis):
    rng = np.random.default_rng(6)
    xs = []
    for n in (4, 0, 1, 37):
        shape = [3, 5, 20]
        shape[axis] = n
        xs.append(sample(rng, tuple(shape), dtypes.float32))
    _check("concat", *xs, axis=axis)


@pytest.mark.parametrize("shape", [(7, 5, 3), (1, 33, 40), (0, 4, 2), (4, 1, 1)])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shift", [0, 1, -2, 13])
def test_roll(shape, axis, shift):
    _check("roll", sample(np.random.default_rng(7), shape, dtypes.float32), shift=shift, axis=axis)


@pytest.mark.parametrize("axes", [(), (0,), (1,), (2,), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize("shape", [(7, 5, 3), (1, 33, 40), (0, 4, 2)])
def test_flip(shape, axes):
    _check("flip", sample(np.random.default_rng(8), shape, dtypes.float32), axes=axes)
