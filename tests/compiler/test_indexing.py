"""Gathers, scatters and moving windows against NumPy; faults are noted and write nothing out of bounds."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_harness import apply, node_of, run, same, same_sums, sample

import chainrule as cr
from chainrule import dtypes
from chainrule.compiler.indexing import LOWER
from chainrule.errors import IndexOutOfRangeError
from chainrule.primitives.base import REGISTRY

ALL = sorted(dtypes.ALL, key=lambda d: d.name)
INDICES = sorted(dtypes.INTEGER, key=lambda d: d.name)


def _check(name, *inputs, **static):
    (result,) = apply(LOWER[name], name, *inputs, **static)
    same(result, REGISTRY[name].reference(*inputs, **static))


def _check_sums(*inputs):
    (result,) = apply(LOWER["scatter_add"], "scatter_add", *inputs)
    dtype = inputs[0].dtype
    if dtype in dtypes.HALF:  # added in float32, rounded once
        x, updates, *indices = inputs
        wide = REGISTRY["scatter_add"].reference(x.astype(np.float32), updates.astype(np.float32), *indices)
        np.testing.assert_array_equal(result, wide.astype(dtype))
        return
    same_sums(result, REGISTRY["scatter_add"].reference(*inputs))


def _fails(name, *inputs, **static):
    with pytest.raises(IndexOutOfRangeError):
        REGISTRY[name].reference(*inputs, **static)
    apply(LOWER[name], name, *inputs, fault=True, **static)


def _indices(rng, shape, extents, dtype=dtypes.int64):
    low = 0 if dtype.kind == "u" else -1
    return [rng.integers(low * n, n, shape).astype(dtype) for n in extents]


# Shape of x, number of indexed axes, shape of the indices.
CASES = [
    ((5,), 1, (7,)), ((5,), 1, ()), ((5, 3), 1, (2, 4)), ((5, 3), 2, (40,)), ((50, 37), 1, (23,)),
    ((6, 4, 16), 2, (9,)), ((4, 0), 1, (3,)), ((4, 3), 1, (0,)), ((0, 3), 1, (0,)),
    ((1, 40), 1, (5, 1)), ((7, 3, 5, 2), 3, (3, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "rank", "picked"), CASES)
def test_shapes(shape, rank, picked):
    rng = np.random.default_rng(1)
    indices = _indices(rng, picked, shape[:rank])
    updates = sample(rng, (*picked, *shape[rank:]), dtypes.float32)
    x = sample(rng, shape, dtypes.float32)
    _check("gather", x, *indices)
    _check("scatter_set", x, updates, *indices)
    _check_sums(x, updates, *indices)


@pytest.mark.parametrize("dtype", ALL, ids=str)
@pytest.mark.parametrize("shape", [(6,), (6, 5)])
def test_dtypes(dtype, shape):
    rng = np.random.default_rng(2)
    (index,) = _indices(rng, (20,), shape[:1])
    x, updates = sample(rng, shape, dtype), sample(rng, (20, *shape[1:]), dtype)
    _check("gather", x, index)
    _check("scatter_set", x, updates, index)
    if dtype != dtypes.bool_:  # bools have no sum
        _check_sums(x, updates, index)


@pytest.mark.parametrize("dtype", INDICES, ids=str)
def test_index_dtypes(dtype):
    rng = np.random.default_rng(3)
    x = sample(rng, (100, 20), dtypes.float32)
    indices = _indices(rng, (30,), x.shape, dtype)
    _check("gather", x, *indices)
    _check("gather", x, indices[0])
    (sums,) = apply(LOWER["scatter_add"], "scatter_add", x, np.ones(30, np.float32), *indices)
    signed = (index.astype(np.int64) for index in indices)
    same(sums, REGISTRY["scatter_add"].reference(x, np.ones(30, np.float32), *signed))
    wrong = [indices[0].copy(), indices[1]]
    wrong[0][7] = 100
    _fails("gather", x, *wrong)


@pytest.mark.parametrize("wrong", [5, -6, 2**40, -(2**63)])
@pytest.mark.parametrize("rest", [(), (20,), (0,)])
def test_faults(wrong, rest):
    x, index = np.zeros((5, *rest), np.float32), np.array([0, wrong, -5])
    updates = np.ones((3, *rest), np.float32)
    _fails("gather", x, index)
    if 0 not in rest:
        for name in ("scatter_set", "scatter_add"):
            _fails(name, x, updates, index)


def test_fault_of_an_unsigned_index():
    _fails("gather", np.zeros((5, 2), np.float32), np.array([2**64 - 1], np.uint64))


def test_faults_of_empty_axes():
    index = np.zeros(3, np.int64)
    _fails("gather", np.zeros((0, 2), np.float32), index)
    _fails("scatter_set", np.zeros((0, 2), np.float32), np.zeros((3, 2), np.float32), index)


def test_second_index_is_checked():
    x = np.zeros((5, 3), np.float32)
    _fails("gather", x, np.array([0, 4]), np.array([0, 3]))


def test_bools_are_not_added():
    x = np.zeros(3, bool)
    assert LOWER["scatter_add"](node_of("scatter_add", [x, x, np.arange(3)])) is None


def test_large_scatter():
    rng = np.random.default_rng(4)
    x, updates = np.zeros((3000, 64), np.float32), sample(rng, (1000, 64), dtypes.float32)
    index = (rng.random(1000) ** 3 * 3000).astype(np.int32)
    node = node_of("scatter_add", [x, updates, index])
    lowered = LOWER["scatter_add"](node)
    assert lowered.calls[0].items > 4
    _check_sums(x, updates, index)
    _check("scatter_set", x, updates, index)
    _check_sums(x.astype(dtypes.bfloat16), updates.astype(dtypes.bfloat16), index)


def test_scatter_into_zeros_does_not_read_them():
    rng = np.random.default_rng(5)
    x, updates, index = np.zeros((40, 7), np.float32), sample(rng, (9, 7), dtypes.float32), np.arange(9) * 4
    expected = REGISTRY["scatter_add"].reference(x, updates, index)
    node = node_of("scatter_add", [x, updates, index])
    node.inputs[0].graph.constants[node.inputs[0]] = x
    lowered = LOWER["scatter_add"](node)
    (result,), _ = run(lowered, [x + 1, updates, index], [node.outputs[0].type])
    same(result, expected)


def _starts(*values, dtype=np.int64):
    return [np.array(v, dtype) for v in values]


WINDOWS = [
    ((7,), (3,), (2,)), ((7,), (7,), (0,)), ((7,), (3,), (-3,)), ((6, 5), (2, 5), (4, 0)), ((6, 5), (2, 3), (-6, -3)),
    ((2, 3, 40), (1, 2, 17), (1, 0, 23)), ((6, 5), (0, 3), (6, 1)), ((), (), ()), ((1, 1), (1, 1), (0, -1)),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "sizes", "starts"), WINDOWS)
def test_windows(shape, sizes, starts):
    rng = np.random.default_rng(6)
    x, update = sample(rng, shape, dtypes.float32), sample(rng, sizes, dtypes.float32)
    for dtype in (np.int64, np.int8):
        _check("dynamic_slice", x, *_starts(*starts, dtype=dtype), sizes=sizes)
        _check("dynamic_update_slice", x, update, *_starts(*starts, dtype=dtype))


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_window_dtypes(dtype):
    rng = np.random.default_rng(7)
    x, update = sample(rng, (4, 9), dtype), sample(rng, (2, 5), dtype)
    _check("dynamic_slice", x, *_starts(1, 3, dtype=np.uint8), sizes=(2, 5))
    _check("dynamic_update_slice", x, update, *_starts(1, 3, dtype=np.int32))


@pytest.mark.parametrize("starts", [(5, 0), (0, 3), (-7, 0), (0, -6), (2**62, 0)])
@pytest.mark.parametrize("sizes", [(2, 3), (2, 0)])
def test_window_faults(starts, sizes):
    x = np.zeros((6, 5), np.float32)
    if sizes[1] == 0 and starts[1]:
        starts = (starts[0], 6 if starts[1] > 0 else -6)
    _fails("dynamic_slice", x, *_starts(*starts), sizes=sizes)
    _fails("dynamic_update_slice", x, np.ones(sizes, np.float32), *_starts(*starts))


def test_other_extents_are_the_same_code():
    keys = set()
    for vocabulary, tokens in ((30, 4), (5000, 900)):
        inputs = [np.zeros((vocabulary, 8), np.float32), np.zeros(tokens, np.int64)]
        keys.add(LOWER["gather"](node_of("gather", inputs)).calls[0].code.key)
    assert len(keys) == 1


def test_new_rows_of_a_cell_are_written_in_place():
    """Where the same places were read before, nothing can fail, and the rest of the table is not touched."""
    table, x = cr.Cell(np.arange(4000, dtype=np.float32).reshape(1000, 4)), np.array([3, 999, 3], np.int64)

    @cr.compile
    def step(i):
        rows = table.read()[i]
        table.assign(table.read().at[i].add(rows))

    expected = table.numpy().copy()
    np.add.at(expected, x, expected[x])
    step(cr.asarray(x))
    np.testing.assert_array_equal(table.numpy(), expected)
    program = step.programs[0]
    assert program.arena_size < 4000
    assert not [s for s in program.steps if s.kind == "copy" and s.size >= 16000]
    with pytest.raises(IndexOutOfRangeError):
        step(cr.asarray(np.array([1, 1000, 2])))
    np.testing.assert_array_equal(table.numpy(), expected)


def test_rows_written_without_having_been_read_wait_for_the_check():
    table = cr.Cell(np.zeros((10, 2), np.float32))
    other = cr.Cell(np.zeros((), np.float32))

    @cr.compile
    def step(i):
        other.assign(other.read() + 1)
        table.assign(table.read().at[i].add(1.0))

    with pytest.raises(IndexOutOfRangeError):
        step(cr.asarray(np.array([1, 10])))
    assert not table.numpy().any()
    assert other.numpy() == 0
