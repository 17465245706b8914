"""Contractions in native code against the NumPy references. Inputs are small integers, so results are exact."""

from __future__ import annotations

import math

import numpy as np
import pytest
from contraction_harness import Runner, aligned, compute, operand
from llvmlite import ir

from chainrule.compiler import tiling
from chainrule.compiler.contraction import Finish, Store
from chainrule.compiler.convolution import can_finish, lower_contraction
from chainrule.compiler.kernel import Ref
from chainrule.compiler.packing import Border
from chainrule.compiler.tiling import PIECE, Axis, Tile, choose_blocks, collapse
from chainrule.compiler.vector import LANES
from chainrule.primitives import contraction

DTYPES = ["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def numbers(rng, shape, dtype="float32", strided=False):
    """Small integers; with ``strided``, as a view with strides of its own."""
    low = 0 if np.dtype(dtype).kind == "u" else -4
    if not strided or not shape:
        return np.asarray(rng.integers(low, 5, shape), dtype)
    order = rng.permutation(len(shape))
    big = rng.integers(low, 5, [2 * shape[i] + 1 for i in order]).astype(dtype)
    return big.transpose(np.argsort(order))[tuple(slice(1, 2 * n + 1, 2) for n in shape)]


def check(kind, a, b, static, **how):
    want = getattr(contraction, kind).reference(a, b, **static)
    got = compute(kind, a, b, want.shape, static, **how)
    np.testing.assert_array_equal(got, want)
    return got


def matmul(a, b, **how):
    return check("dot", a, b, {"contract": ((a.ndim - 1,), (b.ndim - 2,)), "batch": ((), ())}, **how)


# --- dot --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [1, 2, 3, 5, 8, 13, 40])
@pytest.mark.parametrize("n", [1, 7, 16, 17, 33, 48, 50, 100])
def test_all_sizes_of_the_output(m, n):
    rng = np.random.default_rng(m * 1000 + n)
    for k in (1, 2, 19):
        a, b = numbers(rng, (m, k)), numbers(rng, (k, n))
        matmul(a, b)
        matmul(numbers(rng, (k, m)).T, numbers(rng, (n, k)).T)


@pytest.mark.parametrize("shape", [(200, 700, 300), (65, 1100, 130), (31, 5000, 17), (130, 33, 1030), (3, 2500, 64)])
def test_large_products_in_all_orders(shape):
    m, k, n = shape
    rng = np.random.default_rng(0)
    for a in (numbers(rng, (m, k)), numbers(rng, (k, m)).T):
        for b in (numbers(rng, (k, n)), numbers(rng, (n, k)).T):
            matmul(a, b, reverse=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype):
    rng = np.random.default_rng(1)
    for m, k, n in ((9, 20, 21), (70, 1600, 70)):
        matmul(numbers(rng, (m, k), dtype), numbers(rng, (k, n), dtype))
        matmul(numbers(rng, (m, k), dtype), numbers(rng, (n, k), dtype).T)


def test_integers_wrap():
    a = np.full((4, 900), 127, np.int8)
    matmul(a, a.T.copy())


DOTS = [
    # shape of a, shape of b, contract, batch
    ((2, 3, 4), (2, 4, 5), ((2,), (1,)), ((0,), (0,))),
    ((3, 4, 2), (5, 2, 4), ((1,), (2,)), ((2,), (1,))),
    ((2, 3, 4, 5), (3, 5, 2, 6), ((3,), (1,)), ((0, 1), (2, 0))),
    ((4, 5, 6), (6, 4, 7), ((0, 2), (1, 0)), ((), ())),
    ((4, 5), (3, 5, 20), ((1,), (1,)), ((), ())),
    ((4, 5, 3), (2, 9, 5, 4), ((1, 0), (2, 3)), ((), ())),
    ((7,), (7,), ((0,), (0,)), ((), ())),
    ((7,), (7,), ((), ()), ((), ())),
    ((7,), (7,), ((), ()), ((0,), (0,))),
    ((), (5,), ((), ()), ((), ())),
    ((6, 40, 3, 8), (6, 50, 3, 8), ((3,), (3,)), ((0, 2), (0, 2))),
    ((6, 3, 40, 50), (6, 50, 3, 8), ((3,), (1,)), ((0, 1), (0, 2))),
    ((70, 300, 2), (2, 300, 80), ((1,), (1,)), ((2,), (0,))),
]


@pytest.mark.parametrize(("a", "b", "contract", "batch"), DOTS)
@pytest.mark.parametrize("strided", [False, True])
def test_dimensions(a, b, contract, batch, strided):
    rng = np.random.default_rng(2)
    static = {"contract": contract, "batch": batch}
    check("dot", numbers(rng, a, strided=strided), numbers(rng, b, strided=strided), static)


@pytest.mark.parametrize(("m", "k", "n"), [(0, 3, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0), (100, 0, 100)])
def test_empty(m, k, n):
    matmul(np.zeros((m, k), np.float32), np.zeros((k, n), np.float32))
    matmul(np.zeros((k, m), np.float32).T, np.zeros((n, k), np.float32).T)


def test_a_broadcast_operand_has_stride_0():
    rng = np.random.default_rng(3)
    matmul(np.broadcast_to(numbers(rng, (1, 30)), (50, 30)), np.broadcast_to(numbers(rng, (30, 1)), (30, 20)))


def in_order(a, b, piece):
    """The sum in the order that is promised: one by one within a piece, then piece by piece."""
    total = np.zeros((a.shape[0], b.shape[1]), np.float64)
    for start in range(0, a.shape[1], piece):
        part = np.zeros_like(total)
        for k in range(start, min(start + piece, a.shape[1])):
            # float64 holds a product of two float32 exactly, so this rounds once but for rare double rounding.
            part = (a[:, k, None].astype(np.float64) * b[k] + part).astype(np.float32).astype(np.float64)
        total = (total + part).astype(np.float32).astype(np.float64)
    return total.astype(np.float32)


@pytest.mark.parametrize(("m", "k", "n"), [(9, 40, 20), (70, 1500, 33)])
def test_the_order_of_the_sum_is_the_one_that_is_promised(m, k, n):
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(m, k)).astype(np.float32), rng.normal(size=(k, n)).astype(np.float32)
    got = compute("dot", a, b, (m, n), {"contract": ((1,), (0,)), "batch": ((), ())})
    piece = -(-k // max(round(k / PIECE), 1))
    np.testing.assert_allclose(got, in_order(a, b, piece), rtol=0, atol=0)


def calls(a, b, contract, batch=((), ())):
    a, b = operand(a), operand(b)
    out = [x.shape[i] for x, c in ((a, contract[0]), (b, contract[1])) for i in range(len(x.shape)) if i not in c]
    return lower_contraction("dot", a, b, out, {"contract": contract, "batch": batch}, np.dtype("float32")).calls


@pytest.mark.parametrize(("m", "k", "n"), [(70, 2500, 8), (20, 40, 1), (1024, 40, 24), (1024, 1200, 40)])
def test_gradients_of_weights_are_turned(m, k, n):
    """Bits are those of the same product with the left operand in another order, which is not turned."""
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(k, m)).astype(np.float32), rng.normal(size=(k, n)).astype(np.float32)
    static = {"contract": ((0,), (0,)), "batch": ((), ())}
    turned, straight = (compute("dot", x, b, (m, n), static) for x in (a, np.asfortranarray(a)))
    np.testing.assert_array_equal(turned, straight)
    refs = [call.refs[:2] for call in calls(a, b, ((0,), (0,)))]
    product = next(refs for refs in refs if refs[0] == Ref("in", 1))
    assert product[1] == Ref("in", 0) if n < LANES else Ref("temp", 0)  # narrow ones are read where they lie
    batched = {"contract": ((1,), (1,)), "batch": ((0,), (0,))}
    check("dot", numbers(rng, (2, k, m)), numbers(rng, (2, k, n)), batched)


@pytest.mark.parametrize("tile", [Tile(1, 1), Tile(2, 2), Tile(6, 1)])
def test_bits_do_not_depend_on_the_tile(monkeypatch, tile):
    rng = np.random.default_rng(5)
    x, y = (rng.normal(size=s).astype(np.float32) for s in ((4, 30, 30, 9), (4, 28, 28, 20)))
    w = rng.normal(size=(20, 3, 3, 9)).astype(np.float32)
    how = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}

    def all_three():
        return [
            compute("conv", x, w, y.shape, how),
            compute("conv_input", y, w, x.shape, {**how, "shape": x.shape}),
            compute("conv_kernel", x, y, w.shape, {**how, "kernel": (3, 3)}, reverse=True),
        ]

    before = all_three()
    monkeypatch.setattr(tiling, "_registers", lambda: (16 * 2, 16))
    monkeypatch.setattr("chainrule.compiler.convolution.choose_tile", lambda *_: tile)
    for a, b in zip(before, all_three(), strict=True):
        np.testing.assert_array_equal(a.view(np.int32), b.view(np.int32))


# --- convolution ------------------------------------------------------------------------------------------


def conv_cases():
    """(image, outputs, kernel, stride, padding, dilation, groups)"""
    one, none = (1, 1), ((0, 0), (0, 0))
    same = ((1, 1), (1, 1))
    return {
        "plain": ((2, 6, 7, 3), 5, (3, 2), one, none, one, 1),
        "same": ((2, 8, 8, 16), 16, (3, 3), one, same, one, 1),
        "wide": ((2, 10, 9, 20), 50, (5, 5), one, none, one, 1),
        "strided": ((2, 9, 8, 6), 7, (3, 3), (2, 2), same, one, 1),
        "strides": ((1, 11, 13, 4), 18, (3, 4), (3, 2), ((2, 0), (1, 3)), one, 1),
        "shortcut": ((2, 8, 8, 5), 10, (1, 1), (2, 2), none, one, 1),
        "dilated": ((2, 9, 10, 3), 4, (3, 2), one, ((2, 1), (0, 1)), (2, 3), 1),
        "all": ((2, 14, 15, 6), 8, (3, 3), (2, 3), ((3, 2), (1, 4)), (3, 2), 2),
        "even": ((1, 12, 12, 3), 4, (4, 4), (4, 4), none, one, 1),
        "even dilation": ((1, 13, 12, 3), 4, (3, 2), (4, 2), none, (2, 4), 1),
        "grouped": ((2, 6, 6, 8), 12, (3, 3), one, same, one, 4),
        "depthwise": ((2, 6, 6, 5), 5, (3, 3), one, same, one, 5),
        "much padding": ((1, 3, 3, 2), 3, (2, 2), one, ((4, 3), (2, 5)), one, 1),
        "gaps": ((1, 7, 7, 2), 3, (1, 2), (3, 3), none, one, 1),
        "1d": ((3, 20, 4), 6, (5,), (2,), ((2, 1),), (1,), 1),
        "1d long": ((1, 3000, 2), 3, (9,), (1,), ((4, 4),), (1,), 1),
        "3d": ((2, 5, 6, 7, 3), 4, (2, 3, 2), (1, 2, 1), ((1, 0), (0, 1), (1, 1)), (1, 1, 2), 1),
        "3d grouped": ((1, 4, 4, 4, 4), 2, (2, 2, 2), (1, 1, 1), ((0, 0),) * 3, (1, 1, 1), 2),
        "many images": ((40, 12, 12, 8), 20, (3, 3), one, same, one, 1),
        "deep": ((2, 5, 5, 150), 40, (3, 3), one, same, one, 1),
        "a point": ((1, 1, 1, 1), 1, (1, 1), one, none, one, 1),
        "no images": ((0, 5, 5, 2), 3, (3, 3), one, same, one, 1),
        "no channels": ((2, 5, 5, 0), 3, (3, 3), one, same, one, 1),
        "no pixels": ((2, 0, 5, 2), 3, (3, 3), one, ((2, 2), (0, 0)), one, 1),
        "no outputs": ((2, 5, 5, 2), 0, (3, 3), one, same, one, 1),
    }


CONVS = conv_cases()


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("strided", [False, True])
def test_convolution_and_its_gradients(name, strided):
    shape, outputs, kernel, stride, padding, dilation, groups = CONVS[name]
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    rng = np.random.default_rng(6)
    dtype = "float64" if strided else "float32"
    x = numbers(rng, shape, dtype, strided)
    w = numbers(rng, (outputs, *kernel, shape[-1] // groups), dtype, strided)
    y = numbers(rng, check("conv", x, w, how).shape, dtype, strided)
    check("conv_input", y, w, {**how, "shape": x.shape})
    check("conv_kernel", x, y, {**how, "kernel": kernel}, reverse=True)


@pytest.mark.parametrize("name", [name for name, case in CONVS.items() if case[-1] == 1])
def test_folding(monkeypatch, name):
    monkeypatch.setattr("chainrule.compiler.folding.pays", lambda *_: True)
    shape, outputs, kernel, stride, padding, dilation, groups = CONVS[name]
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    rng = np.random.default_rng(9)
    x, w = numbers(rng, shape), numbers(rng, (outputs, *kernel, shape[-1]), strided=True)
    y = numbers(rng, contraction.conv.reference(x, w, **how).shape, strided=True)
    check("conv_input", y, w, {**how, "shape": x.shape}, reverse=True)


def test_padding_larger_than_the_kernel_crops_the_gradient():
    rng = np.random.default_rng(7)
    how = {"stride": (1,), "padding": ((5, 4),), "dilation": (1,), "groups": 1}
    y, w = numbers(rng, (2, 14, 3)), numbers(rng, (3, 2, 4))
    check("conv_input", y, w, {**how, "shape": (2, 6, 4)})


# --- finish -----------------------------------------------------------------------------------------------


def bias_and_scale(size):
    """value * 2 + bias[col] to the buffer "out", number of the row to "out" 1."""

    def emit(frame, pointers, words):
        bias, out, rows = pointers

        def store(e, values, row, col):
            (value,) = values
            total = e.b.fadd(e.b.fmul(value, e.const(ir.FloatType(), 2)), e.load(bias, col, np.dtype("float32")))
            where = e.b.add(e.b.mul(row, words[0]), col)
            e.store(total, out, where, np.dtype("float32"))
            e.store(e.splat(e.b.sitofp(row, ir.FloatType())), rows, where, np.dtype("float32"))

        return Store(store)

    return Finish("test bias", (Ref("in", 2), Ref("out", 0), Ref("out", 1)), (size,), emit)


FINISHED = {
    "small": ("dot", (9, 20), (20, 21), {"contract": ((1,), (0,)), "batch": ((), ())}),
    "batches": ("dot", (3, 9, 20), (3, 20, 40), {"contract": ((2,), (1,)), "batch": ((0,), (0,))}),
    "pieces": ("dot", (70, 1300), (1300, 100), {"contract": ((1,), (0,)), "batch": ((), ())}),
    "splits": ("dot", (20, 30000), (30000, 40), {"contract": ((1,), (0,)), "batch": ((), ())}),
    "conv": ("conv", (3, 8, 8, 5), (21, 3, 3, 5), dict(zip(("stride", "padding", "dilation", "groups"),
             ((1, 2), ((1, 1), (1, 0)), (1, 1), 1), strict=True))),
    "conv_input": ("conv_input", (3, 4, 4, 5), (5, 3, 3, 17), dict(zip(("stride", "padding", "dilation", "groups",
             "shape"), ((2, 2), ((1, 1), (1, 1)), (1, 1), 1, (3, 8, 8, 17)), strict=True))),
    "folding": ("conv_input", (3, 4, 4, 60), (60, 5, 5, 20), dict(zip(("stride", "padding", "dilation", "groups",
                "shape"), ((1, 1), ((0, 0), (0, 0)), (1, 1), 1, (3, 8, 8, 20)), strict=True))),
}  # fmt: skip


@pytest.mark.parametrize("name", FINISHED)
def test_finish(name):
    kind, a_shape, b_shape, static = FINISHED[name]
    assert can_finish(kind, static)
    rng = np.random.default_rng(8)
    a, b = numbers(rng, a_shape), numbers(rng, b_shape)
    want = getattr(contraction, kind).reference(a, b, **static)
    n = want.shape[-1]
    bias = numbers(rng, (n,))
    outs = [aligned(want.nbytes)[: want.nbytes].view(np.float32).reshape(want.shape) for _ in range(2)]
    lowered = lower_contraction(kind, operand(a), operand(b), want.shape, static, a.dtype, bias_and_scale(n))
    Runner(lowered, [a, b, bias], outs).run()
    np.testing.assert_array_equal(outs[0], want * 2 + bias)
    rows = np.arange(want.size // n, dtype=np.float32)
    np.testing.assert_array_equal(outs[1].reshape(-1, n), np.repeat(rows[:, None], n, 1))


def test_a_finish_stands_apart_from_the_loop_over_k():
    """Or else its constants are kept in registers during the loop, whose sums then are not."""
    text = str(ir_of(bias_and_scale(32)))
    product, finish = (text[text.index(f"define {what}") :].split("\n}\n")[0] for what in ("void", "internal fastcc"))
    assert "fma" in product
    assert "fma" not in finish
    assert "2.0" in finish.replace("0x4000000000000000", "2.0")
    assert "fmul" not in product


def ir_of(finish):
    a, b = np.zeros((16, 8), np.float32), np.zeros((8, 32), np.float32)
    static = {"contract": ((1,), (0,)), "batch": ((), ())}
    lowered = lower_contraction("dot", operand(a), operand(b), (16, 32), static, a.dtype, finish)
    module = ir.Module()
    lowered.calls[-1].code.build(module, "kernel")
    return module


def test_what_cannot_be_finished():
    assert not can_finish("conv_kernel", {"groups": 1})
    assert not can_finish("conv", {"groups": 2})


# --- the plan ---------------------------------------------------------------------------------------------


def test_collapse():
    assert collapse([Axis(3, 20), Axis(1, 7), Axis(4, 5), Axis(5, 1)]) == [Axis(60, 1)]
    assert collapse([Axis(3, 20, 1), Axis(4, 5, 3)]) == [Axis(3, 20, 1), Axis(4, 5, 3)]


def test_another_batch_size_needs_no_new_code():
    how = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}

    def keys(n):
        x, w = np.zeros((n, 16, 16, 32), np.float32), np.zeros((32, 3, 3, 32), np.float32)
        found = []
        for kind, a, b, shape, more in (("conv", x, w, x.shape, {}), ("conv_input", x, w, x.shape, {"shape": x.shape}),
                                        ("conv_kernel", x, x, w.shape, {"kernel": (3, 3)})):  # fmt: skip
            lowered = lower_contraction(kind, operand(a), operand(b), shape, {**how, **more}, x.dtype)
            found += [call.code.key for call in lowered.calls]
        return found

    assert keys(128) == keys(96)
    assert set(keys(20)) <= set(keys(128))


@pytest.mark.parametrize(("m", "n", "k"), [(512, 512, 512), (64, 512, 512), (144, 16, 131072), (131072, 16, 144)])
def test_large_products_have_chunks_for_threads(m, n, k):
    a, b = np.broadcast_to(np.float32(0), (m, k)), np.broadcast_to(np.float32(0), (k, n))
    lowered = lower_contraction("dot", operand(a), operand(b), (m, n), {"contract": ((1,), (0,)), "batch": ((), ())},
                                a.dtype)  # fmt: skip
    call = max(lowered.calls, key=lambda c: c.flops)
    assert math.ceil(call.items / call.grain) >= 8


def test_small_products_are_one_chunk():
    a = np.zeros((32, 32), np.float32)
    lowered = lower_contraction("dot", operand(a), operand(a), (32, 32), {"contract": ((1,), (0,)), "batch": ((), ())},
                                a.dtype)  # fmt: skip
    assert [math.ceil(c.items / c.grain) for c in lowered.calls] == [1]


def test_pieces_do_not_depend_on_the_tile():
    blocks = [choose_blocks(1, 144, 16, [Axis(128), Axis(1024)], Tile(*t), 4) for t in ((8, 1), (6, 1), (2, 3))]
    assert len({b[2:] for b in blocks}) == 1


def test_borders():
    assert Border(5, 1, 2, 1).words == (8, 0, 2, 5, 1, 1)
    assert Border(5, 1, -2, 1).words == (4, 2, 0, 3, 1, 1)
    assert Border(5, 1, 1, 0, 2).words == (10, 0, 1, 5, 2, 1)


def test_half_a_vector_without_columns_is_left_out():
    static = {"contract": ((1,), (0,)), "batch": ((), ())}

    def narrow(n):
        a, b = np.ones((64, 32), np.float32), np.ones((32, n), np.float32)
        lowered = lower_contraction("dot", operand(a), operand(b), (64, n), static, a.dtype)
        (key,) = {call.code.key for call in lowered.calls if call.code.key.startswith("contraction")}
        return [word for word in ("always", "last") if f"'{word}'" in key]

    assert [narrow(n) for n in (8, 16, 20, 24, 25, 50, 64)] == [
        ["always"], [], ["always"], ["always"], [], ["last"], [],
    ]  # fmt: skip
