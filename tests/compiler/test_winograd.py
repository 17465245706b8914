"""Convolutions by Winograd's tiles. Transforms of small integers are exact, so results are compared bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from agree import agree, bounds_of
from contraction_harness import Runner, aligned, compute, operand

import chainrule as cr
from chainrule.compiler import tiling, winograd
from chainrule.compiler.contraction import Finish, Store
from chainrule.compiler.convolution import lower_contraction
from chainrule.compiler.kernel import Ref
from chainrule.primitives import contraction

ONE = (1, 1)


def how_of(padding=((1, 1), (1, 1)), stride=ONE, dilation=ONE, groups=1):
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def integers(rng, *shape):
    return rng.integers(-4, 5, shape).astype(np.float32)


def three(rng, n, height, width, channels, outputs, how):
    """Arguments of the three convolutions: kind, operands, and the static ones."""
    x, w = integers(rng, n, height, width, channels), integers(rng, outputs, 3, 3, channels)
    y = integers(rng, *contraction.conv.reference(x, w, **how).shape)
    return [
        ("conv", x, w, how), ("conv_input", y, w, {**how, "shape": x.shape}),
        ("conv_kernel", x, y, {**how, "kernel": (3, 3)}),
    ]  # fmt: skip


def keys(kind, a, b, static):
    shape = getattr(contraction, kind).reference(a, b, **static).shape
    return [call.code.key for call in lower_contraction(kind, operand(a), operand(b), shape, static, a.dtype).calls]


def used(kind, a, b, static):
    return any("winograd" in key for key in keys(kind, a, b, static))


def check(kind, a, b, static, reverse=False):
    want = getattr(contraction, kind).reference(a, b, **static)
    np.testing.assert_array_equal(compute(kind, a, b, want.shape, static, reverse=reverse), want)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("n", "height", "width", "channels", "outputs", "padding"),
    [
        (4, 8, 8, 32, 32, ((1, 1), (1, 1))),
        (3, 9, 11, 32, 48, ((1, 1), (1, 1))),
        (9, 7, 8, 48, 32, ((1, 1), (0, 2))),
        (2, 16, 15, 80, 64, ((0, 0), (0, 0))),
        (2, 13, 12, 64, 112, ((2, 1), (1, 2))),
        (40, 7, 7, 32, 32, ((1, 1), (1, 1))),
        (2, 12, 12, 32, 32, ((3, 0), (0, 4))),
        (1, 20, 20, 272, 32, ((1, 1), (1, 1))),
    ],
)
def test_agrees_with_the_reference(n, height, width, channels, outputs, padding, reverse):
    for case in three(np.random.default_rng(0), n, height, width, channels, outputs, how_of(padding)):
        assert used(*case)
        check(*case, reverse=reverse)


@pytest.mark.parametrize(("registers", "tile"), [((32, 16), (6, 1)), ((64, 32), (8, 2))])
def test_any_register_tile_gives_the_same_bits(monkeypatch, registers, tile):
    rng = np.random.default_rng(1)
    cases = three(rng, 5, 9, 10, 32, 64, how_of())
    cases = [(kind, a + rng.random(a.shape, np.float32), b, static) for kind, a, b, static in cases]

    def results():
        return [compute(k, a, b, getattr(contraction, k).reference(a, b, **s).shape, s) for k, a, b, s in cases]

    before = results()
    monkeypatch.setattr(tiling, "_registers", lambda: registers)
    assert tiling.choose_tile(np.dtype("float32"), 100, 64) == tile
    for a, b in zip(before, results(), strict=True):
        np.testing.assert_array_equal(a.view(np.int32), b.view(np.int32))


def test_strides():
    """Images and windows may be views; channels have to be contiguous, unless they are copied for the border."""
    rng = np.random.default_rng(2)
    (_, x, w, how), (_, y, _, back), (_, _, _, kernel) = three(rng, 2, 12, 12, 32, 32, how_of())
    strided_x, strided_y = (np.repeat(np.repeat(v, 2, 2), 3, 1)[:, ::3, ::2] for v in (x, y))
    strided_w = np.ascontiguousarray(w.transpose(3, 1, 0, 2)).transpose(2, 1, 3, 0)
    columns = np.ascontiguousarray(x.transpose(3, 1, 2, 0)).transpose(3, 1, 2, 0)
    for case in [
        ("conv", strided_x, strided_w, how), ("conv_input", strided_y, strided_w, back),
        ("conv_kernel", strided_x, strided_y, kernel), ("conv", columns, w, how),
    ]:  # fmt: skip
        assert used(*case)
        check(*case)
    bare = {**how, "padding": ((0, 0), (0, 0))}
    assert not used("conv", columns, w, bare)
    np.testing.assert_array_equal(
        compute("conv", columns, w, (2, 10, 10, 32), bare), contraction.conv.reference(columns, w, **bare)
    )


def test_where_it_is_used():
    rng = np.random.default_rng(3)
    for more in ({"stride": (1, 2)}, {"dilation": (2, 1)}, {"groups": 2}):
        static = how_of(**more)
        x, w = integers(rng, 2, 16, 16, 64), integers(rng, 64, 3, 3, 64 // static["groups"])
        assert not used("conv", x, w, static)
    for n, size, channels, wanted in [(8, 8, 32, True), (8, 8, 16, False), (8, 8, 40, False), (1, 8, 32, False)]:
        for case in three(rng, n, size, size, channels, channels, how_of()):
            assert used(*case) is wanted
    doubles = [a.astype(np.float64) for a in (np.zeros((2, 16, 16, 32)), np.zeros((32, 3, 3, 32)))]
    assert not used("conv", *doubles, how_of())


def test_another_batch_size_needs_no_new_code():
    rng = np.random.default_rng(4)
    few, many = (three(rng, n, 12, 12, 32, 32, how_of()) for n in (4, 32))
    for a, b in zip(few, many, strict=True):
        assert keys(*a) == keys(*b)


def test_finish():
    """Every element is finished once, with the number of its row."""
    rng = np.random.default_rng(5)
    float32 = np.dtype("float32")

    def emit(frame, pointers, words):
        bias, out = pointers

        def store(e, values, row, col):
            (value,) = values
            where = e.b.add(e.b.mul(row, words[0]), col)
            total = e.b.fadd(value, e.b.fadd(e.load(bias, col, float32), e.load(out, where, float32)))
            e.store(total, out, where, float32)

        return Store(store)

    for kind, a, b, static in three(rng, 3, 9, 11, 32, 48, how_of())[:2]:
        want = getattr(contraction, kind).reference(a, b, **static)
        bias, start = integers(rng, want.shape[-1]), integers(rng, *want.shape)
        out = aligned(want.nbytes)[: want.nbytes].view(np.float32).reshape(want.shape)
        out[...] = start
        finish = Finish("test of winograd", (Ref("in", 2), Ref("out", 0)), (want.shape[-1],), emit)
        Runner(lower_contraction(kind, operand(a), operand(b), want.shape, static, a.dtype, finish), [a, b, bias],
               [out]).run()  # fmt: skip
        np.testing.assert_array_equal(out, want + bias + start)


def test_what_is_not_finite_stays_in_its_windows():
    """A result is made from the pixels of its own window alone, though it may be NaN where it should be infinite."""
    rng = np.random.default_rng(6)
    x, w = integers(rng, 2, 11, 11, 32), integers(rng, 32, 3, 3, 32)
    x[0, 10, 10, 3] = x[1, 4, 5, 7] = np.inf
    with np.errstate(invalid="ignore"):
        want = contraction.conv.reference(x, w, **how_of())
    got = compute("conv", x, w, want.shape, how_of())
    near = np.zeros((2, 11, 11), bool)
    near[0, 9:, 9:] = near[1, 3:6, 4:7] = True
    np.testing.assert_array_equal(got[~near], want[~near])
    assert not np.isfinite(got[near]).all(axis=-1).any()


# --- rounding ---------------------------------------------------------------------------------------------


def test_rounding_errors_are_within_the_bound_and_no_larger_than_those_of_the_direct_way(monkeypatch):
    """Against float64; also where all that a pixel would be multiplied with is 0, so that its size is gone again."""
    rng = np.random.default_rng(7)
    for scale in (1.0, 1e6):
        for kind, a, b, static in three(rng, 4, 12, 12, 64, 32, how_of()):
            a, b = (v + rng.random(v.shape, np.float32) for v in (a, b))
            if scale > 1:
                a[:, 5, 5] *= np.float32(scale)
                b[:, 5 if kind == "conv_kernel" else 1, 5 if kind == "conv_kernel" else 1] = 0
            reference = getattr(contraction, kind).reference
            exact = reference(a.astype(np.float64), b.astype(np.float64), **static)
            off = np.abs(compute(kind, a, b, exact.shape, static) - exact)
            primitive = getattr(contraction, kind)
            (found,) = bounds_of(lambda p, q: primitive(p, q, **static), (a, b))  # noqa: B023
            assert (off <= found.error).all()
            with monkeypatch.context() as patch:
                patch.setattr(winograd, "LEAST_CHANNELS", 1 << 20)
                direct = np.abs(compute(kind, a, b, exact.shape, static) - exact)
            assert np.sqrt(np.mean(off**2)) < 2 * np.sqrt(np.mean(direct**2)) or scale > 1


def test_gradients_in_both_modes():
    rng = np.random.default_rng(8)
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((3, 9, 10, 32), (48, 3, 3, 32)))
    conv = cr.nn.functional.conv2d
    agree(lambda x, w: cr.relu(conv(x * 2, w, padding=1)), x, w, gradient=True)
    agree(lambda x, w: cr.tanh(conv(cr.relu(conv(x, w, padding=1)), w[:32, :, :, :] * 0.1)).sum(), x[..., :32], w[:32])
