"""Products that are read by equal parts of their columns: the same numbers, to the bit, in fewer kernels."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.compiler.program import walk


def array(*shape, dtype="float32", seed=0):
    x = np.random.default_rng(seed).standard_normal(shape)
    return (x * 4).astype(dtype) if np.dtype(dtype).kind == "i" else x.astype(dtype)


def numpy(found):
    return [x.numpy() for x in (found if isinstance(found, tuple) else (found,))]


def kernels(function, *arguments):
    """The operations of each kernel that is not a copy into order."""
    steps = walk(cr.compile(function).program_for(*arguments).steps)
    return [[op.name for op in s.ops] for s in steps if s.call and not s.call.code.key.startswith(("pack", "copy"))]


@pytest.fixture
def both_ways(monkeypatch):
    """Gives a function that computes compiled results, with products in parts and with whole ones."""

    def compute(f, *arguments):
        parted = numpy(cr.compile(f)(*arguments))
        with monkeypatch.context() as patch:
            patch.setattr("chainrule.compiler.schedule.split", lambda ops, results: ops.list)
            return parted, numpy(cr.compile(f)(*arguments))

    return compute


def check(both_ways, f, *arguments, rtol=1e-5):
    parted, whole = both_ways(f, *arguments)
    for a, b, c in zip(parted, whole, numpy(f(*map(cr.tensor, arguments))), strict=True):
        assert a.tobytes() == b.tobytes()
        np.testing.assert_allclose(a, c, rtol=rtol, atol=rtol)


def gated(parts, width):
    """A sum of functions of the parts of ``h @ w + x``."""

    def f(h, w, x):
        y = h @ w + x
        pieces = [y[..., i * width : (i + 1) * width] for i in range(parts)]
        total = pieces[0]
        for i, piece in enumerate(pieces[1:]):
            total = total * piece + i
        return total, pieces[-1] - pieces[0]

    return f


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32"])
@pytest.mark.parametrize(("parts", "rows", "width"), [(2, 1, 16), (3, 5, 24), (4, 33, 16), (4, 7, 128), (2, 25, 40)])
def test_maps_of_parts_join_the_product(both_ways, parts, rows, width, dtype):
    h, w, x = array(rows, 19, dtype=dtype), array(19, parts * width, dtype=dtype), array(parts * width, dtype=dtype)
    check(both_ways, gated(parts, width), h, w, x, rtol=0.05 if dtype == "float16" else 1e-4)
    if dtype != "float16":  # whose operands are widened first
        assert len(kernels(gated(parts, width), h, w, x)) == 1


@pytest.mark.parametrize("registers", [(32, 16), (16, 16)])
def test_other_hardware_gives_the_same_bits(monkeypatch, registers):
    arguments = array(33, 40), array(40, 4 * 48), array(4 * 48)
    here = numpy(cr.compile(gated(4, 48))(*arguments))
    monkeypatch.setattr("chainrule.compiler.tiling._registers", lambda: registers)
    there = numpy(cr.compile(gated(4, 48))(*arguments))
    assert [x.tobytes() for x in here] == [x.tobytes() for x in there]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("lead", [(26,), (3, 9)])
def test_operands_may_lie_in_any_order(both_ways, lead, transposed):
    w = array(96, 20).T if not transposed else array(20, 96)
    x = array(96, *lead)

    def f(h, w, x):
        return gated(3, 32)(h, w, cr.moveaxis(x, 0, -1))

    check(both_ways, f, array(*lead, 20), w, x)


def test_long_sums_are_cut_as_those_of_the_whole(both_ways):
    h, w, x = array(4, 5000), array(5000, 32) * np.float32(0.01), array(4, 32)
    check(both_ways, gated(2, 16), h, w, x, rtol=1e-4)


def test_sums_in_pieces(both_ways):
    h, w, x = array(20, 1100), array(1100, 4 * 160) * np.float32(0.03), array(20, 4 * 160)
    check(both_ways, gated(4, 160), h, w, x, rtol=1e-4)


def test_batches_of_products(both_ways):
    def f(a, b):
        y = a @ b
        return cr.tanh(y[..., :16]) * cr.sigmoid(y[..., 16:])

    check(both_ways, f, array(3, 30, 7), array(3, 7, 32))


def test_a_gated_convolution_is_one_kernel(both_ways):
    layer = nn.Conv1d(6, 64, 3, padding=1)

    def f(x):
        a, b = cr.split(layer(x), 32, axis=-1)
        return cr.tanh(a) * cr.sigmoid(b)

    x = array(2, 11, 6)
    check(both_ways, f, x)
    assert all("conv" in names for names in kernels(f, x))  # of which one only pads


def test_what_is_read_whole_too_is_put_together(both_ways):
    def f(h, w, x):
        y = h @ w + x
        return y, cr.tanh(y[:, :16]) * y[:, 16:], (y * y).sum(axis=1)

    arguments = array(9, 12), array(12, 32), array(9, 32)
    check(both_ways, f, *arguments)
    assert [{"dot", "concat", "tanh"} <= set(names) for names in kernels(f, *arguments)] == [True, False]


def test_other_ways_to_read_are_left_alone(both_ways):
    def f(h, w):
        y = h @ w
        odd = cr.tanh(y[:, :20]) + y[:, 1:21]  # no parts
        return odd, cr.exp(y[:, :24]) + y[:, 24:], y[:, ::-1] * y

    check(both_ways, f, array(9, 12), array(12, 48))


def test_of_two_products_the_later_one_is_cut(both_ways):
    def f(x, v, h, w):
        return gated(4, 16)(h, w, x @ v)

    arguments = array(5, 6), array(6, 64), array(5, 16), array(16, 64)
    check(both_ways, f, *arguments)
    assert len(kernels(f, *arguments)) == 2


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_step_of_a_recurrent_layer_is_one_kernel(kind):
    net = getattr(nn, kind)(3, 32)
    program = cr.compile(lambda x: net(x)[0]).program_for(array(4, 6, 3))
    (loop,) = [step for step in program.steps if step.kind == "scan"]
    assert [s.kind for s in loop.bodies[0]] == ["kernel", "copy"]  # the product needs the old state to the end


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("hidden", [16, 24])
def test_gradients_of_a_recurrent_layer(both_ways, kind, hidden):
    net = getattr(nn, kind)(3, hidden)

    def gradients(x):
        gradient = cr.grad(lambda weights: (cr.functional_call(net, weights, x)[0] ** 2).mean())
        return tuple(gradient(dict(net.named_parameters())).values())

    check(both_ways, gradients, array(5, 4, 3))


def test_gradients_of_a_cell_by_hand():
    def step(h, w):
        y = h @ w
        z, n = cr.sigmoid(y[:, :16]), cr.tanh(y[:, 16:])
        return h + z * (n - h)

    f = cr.compile(lambda w: cr.scan(lambda h, _: (step(h, w), None), cr.ones((3, 16), "float64"), None, length=3)[0])
    cr.check_grads(f, (cr.tensor(array(16, 32, dtype="float64") * 0.2),))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_maps_write_into_what_they_are_put_together_to(axis):
    def f(x):
        return cr.concat([cr.exp(x), x * 2.0, cr.tanh(x)], axis=axis)

    x = array(3, 5, 20)
    assert kernels(f, x) == [["exp", "multiply", "tanh", "concat"]]
    np.testing.assert_allclose(cr.compile(f)(x).numpy(), f(cr.tensor(x)).numpy(), rtol=2e-6)
