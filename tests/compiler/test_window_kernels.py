"""Pooling against NumPy: one to three axes, stride, padding, dilation, overlap, ties and NaN."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_harness import apply, node_of, same, same_sums, sample

from chainrule import dtypes
from chainrule.compiler.windows import LOWER
from chainrule.primitives.base import NUMERIC, REAL, REGISTRY

# Shape of the image, window, stride, padding, dilation.
GEOMETRIES = [
    ((2, 9, 5), (2,), (2,), ((0, 0),), (1,)),
    ((2, 9, 16), (3,), (1,), ((1, 1),), (1,)),
    ((2, 4, 0, 3), (2, 2), (1, 1), ((0, 0), (1, 1)), (1, 1)),
    ((2, 9, 17), (3,), (2,), ((2, 0),), (2,)),
    ((3, 8, 8, 20), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    ((2, 6, 4, 32), (3, 2), (3, 2), ((0, 0), (0, 0)), (1, 1)),
    ((2, 6, 4, 3), (3, 2), (3, 2), ((0, 0), (0, 0)), (1, 1)),
    ((3, 7, 9, 3), (3, 2), (2, 1), ((0, 0), (0, 0)), (1, 1)),
    ((2, 7, 7, 40), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)),
    ((2, 11, 10, 1), (3, 2), (1, 3), ((2, 1), (0, 1)), (2, 3)),
    ((2, 5, 5, 18), (5, 5), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    ((2, 4, 4, 3), (2, 2), (3, 3), ((2, 3), (3, 2)), (1, 1)),  # windows of padding only
    ((1, 6, 5, 4, 3), (2, 2, 2), (2, 2, 2), ((0, 0), (0, 0), (0, 0)), (1, 1, 1)),
    ((2, 5, 6, 5, 19), (3, 2, 3), (1, 2, 2), ((1, 1), (0, 0), (1, 2)), (1, 2, 1)),
    ((0, 8, 8, 3), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    ((2, 8, 8, 0), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
]
PADDED = GEOMETRIES[5]


def _how(geometry):
    return dict(zip(("window", "stride", "padding", "dilation"), geometry[1:], strict=True))


def _sums(result, name, *inputs, **static):
    dtype = result.dtype
    if dtype in dtypes.HALF:
        expected = REGISTRY[name].reference(*(x.astype(np.float32) for x in inputs), **static)
        np.testing.assert_allclose(result.astype(np.float32), expected, rtol=0.02, atol=0.1)
        return
    same_sums(result, REGISTRY[name].reference(*inputs, **static))


def _check(geometry, dtype, special, maxima=True):
    rng = np.random.default_rng(1)
    how, shape = _how(geometry), geometry[0]
    x = sample(rng, shape, dtype, special)
    numbers = sample(rng, shape, dtype)
    (total,) = apply(LOWER["sum_pool"], "sum_pool", numbers, **how)
    _sums(total, "sum_pool", numbers, **how)
    y = sample(rng, total.shape, dtype)
    (spread,) = apply(LOWER["sum_pool_spread"], "sum_pool_spread", y, shape=shape, **how)
    _sums(spread, "sum_pool_spread", y, shape=shape, **how)
    if not maxima:
        return
    # NumPy has no lowest bfloat16; float32 holds its elements.
    wide = [a.astype(np.float32) if dtype == dtypes.bfloat16 else a for a in (x, numbers)]
    (best,) = apply(LOWER["max_pool"], "max_pool", x, **how)
    np.testing.assert_array_equal(best.astype(wide[0].dtype), REGISTRY["max_pool"].reference(wide[0], **how))
    (taken,) = apply(LOWER["max_pool_gather"], "max_pool_gather", numbers, x, **how)
    same(taken, REGISTRY["max_pool_gather"].reference(wide[1], wide[0], **how).astype(dtype))
    (given,) = apply(LOWER["max_pool_scatter"], "max_pool_scatter", y, x, **how)
    _sums(given, "max_pool_scatter", y, x, **how)


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_geometries(geometry, special):
    _check(geometry, dtypes.float32, special)


@pytest.mark.parametrize("dtype", sorted(NUMERIC, key=lambda d: d.name), ids=str)
def test_dtypes(dtype):
    _check(PADDED, dtype, special=dtype in dtypes.FLOATING, maxima=dtype in REAL)


def test_first_of_equals_gets_the_gradient():
    x = np.zeros((1, 4, 4, 2), np.float32)
    x[0, 3, 2, 1] = np.nan
    y = np.ones((1, 2, 2, 2), np.float32)
    how = {"window": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}
    (given,) = apply(LOWER["max_pool_scatter"], "max_pool_scatter", y, x, **how)
    assert given[0, ::2, ::2, 0].all()
    assert given.sum() == 8
    assert given[0, 3, 2, 1] == 1


def test_padding_wins_a_tie_that_comes_first():
    """As in the reference: where all elements are the lowest number, padding before them takes the gradient."""
    x = np.full((1, 3, 1), -np.inf, np.float32)
    how = {"window": (2,), "stride": (1,), "padding": ((1, 1),), "dilation": (1,)}
    y = np.ones((1, 4, 1), np.float32)
    (given,) = apply(LOWER["max_pool_scatter"], "max_pool_scatter", y, x, **how)
    same(given, REGISTRY["max_pool_scatter"].reference(y, x, **how))


def test_other_extents_are_the_same_code():
    how = _how(PADDED)
    keys = {
        LOWER["max_pool"](node_of("max_pool", [np.zeros(shape, np.float32)], **how)).calls[0].code.key
        for shape in ((2, 7, 7, 40), (64, 32, 30, 24))
    }
    assert len(keys) == 1


def test_windows_that_tile_the_image_share_the_work_by_rows():
    """Nothing is set to zero first, so no chunk writes what is another's."""
    how = {"window": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}
    y, names = np.zeros((3, 4, 5, 20), np.float32), ("max_pool_scatter", "sum_pool_spread")
    for height, items in ((8, 12), (9, 3)):
        x = np.zeros((3, height, 10, 20), np.float32)
        nodes = node_of(names[0], [y, x], **how), node_of(names[1], [y], shape=x.shape, **how)
        assert [LOWER[name](node).calls[0].items for name, node in zip(names, nodes, strict=True)] == [items, items]
