"""`scan`, `cond` and `while_loop`: values, gradients, nesting, state, errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

import chainrule as cr
from chainrule import grad, tensor
from chainrule.errors import GradientError, IndexOutOfRangeError

F64 = "float64"
ONE = tensor(1.1, F64)
XS = tensor([1.0, 2.0, 3.0], F64)
ROWS = tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], F64)


def same_derivatives(f, g, x=ONE, orders=3):
    """Equal values, gradients to third order, and tangents."""
    for order in range(orders + 1):
        np.testing.assert_allclose(f(x).numpy(), g(x).numpy(), rtol=1e-11, err_msg=f"order {order}")
        t = (cr.ones_like(x),)
        np.testing.assert_allclose(cr.jvp(f, (x,), t)[1].numpy(), cr.jvp(g, (x,), t)[1].numpy(), rtol=1e-11)
        f, g = (lambda h: lambda v: grad(h)(v).sum())(f), (lambda h: lambda v: grad(h)(v).sum())(g)


# --- scan -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [0, 1, 5])
def test_scan_is_a_loop(length, reverse):
    xs = np.random.default_rng(0).standard_normal((length, 2))

    def step(carry, x):
        state, n = carry
        return ((state * 0.5 + x).tanh(), n + 1), {"out": state * x, "n": n}

    (state, n), ys = cr.scan(step, (cr.zeros((2,), F64), tensor(0)), cr.asarray(xs), reverse=reverse)
    expected, outs = np.zeros(2), np.zeros((length, 2))
    order = list(range(length))[:: -1 if reverse else 1]
    for t in order:
        outs[t] = expected * xs[t]
        expected = np.tanh(expected * 0.5 + xs[t])
    np.testing.assert_allclose(state.numpy(), expected, rtol=1e-14)
    np.testing.assert_allclose(ys["out"].numpy(), outs, rtol=1e-14)
    assert n.item() == length
    assert ys["n"].tolist() == sorted(range(length), reverse=reverse)
    assert ys["out"].shape == (length, 2)


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_of_scan(reverse):
    def looped(w):
        c, ys = cr.scan(lambda c, x: (c * cr.sin(x * w) + w, c * x), w, XS, reverse=reverse)
        return c * ys.sum()

    def unrolled(w):
        c, total = w, 0.0
        for x in XS.tolist()[:: -1 if reverse else 1]:
            c, total = c * cr.sin(x * w) + w, total + c * x
        return c * total

    same_derivatives(looped, unrolled)


def test_gradients_of_scan_by_everything():
    def f(init, xs, constant):
        c, ys = cr.scan(lambda c, x: (cr.tanh(c @ constant + x), c.sum()), init, xs)
        return [c, ys]

    rng = np.random.default_rng(3)
    args = [cr.asarray(rng.standard_normal(s)) for s in ((2,), (4, 2), (2, 2))]
    cr.check_grads(f, args, order=2)


def test_whole_numbers_in_the_carry():
    def f(x):
        (n, c), ns = cr.scan(lambda c, v: ((c[0] + 1, c[1] * v * c[0].astype(F64)), c[0]), (tensor(1), x), XS)
        assert ns.dtype == n.dtype == cr.int64
        return c

    assert f(ONE).item() == pytest.approx(1.1 * 36)
    assert grad(f)(ONE).item() == pytest.approx(36)


def test_scan_over_nothing():
    xs = cr.zeros((0, 2), F64)
    c, ys = cr.scan(lambda c, x: (c + x.sum(), x * c), ONE, xs)
    assert (c.item(), ys.shape) == (1.1, (0, 2))
    assert grad(lambda c: cr.scan(lambda c, x: (c + x.sum(), x * c), c, xs)[0])(ONE).item() == 1
    assert grad(lambda x: cr.scan(lambda c, v: (c + v.sum(), v * c), ONE, x)[0])(xs).shape == (0, 2)
    assert cr.scan(lambda c, _: (c + 1, ()), 0, length=0)[0].item() == 0


def test_scan_with_containers_lengths_and_python_numbers():
    c, ys = cr.scan(
        lambda c, x: ({"a": c["a"] + x[0]}, (x[1]["b"], None)), {"a": 0.0}, (XS.astype("float32"), {"b": ROWS})
    )
    assert c["a"].item() == 6
    np.testing.assert_array_equal(ys[0].numpy(), ROWS.numpy())
    assert ys[1] is None
    assert cr.scan(lambda c, _: (c + 1, c), 0, length=3)[1].tolist() == [0, 1, 2]


def test_scan_is_one_operation_whatever_its_length():
    counts = []
    for length in (2, 50):
        calls = []

        def body(c, x, calls=calls):
            calls.append(1)
            return c * x, c

        grad(lambda v, body=body, n=length: cr.scan(body, v, cr.ones((n,), F64))[0])(ONE)
        counts.append(len(calls))
    assert counts[0] == counts[1]


def test_reading_places_that_are_computed():
    def total(w):
        return cr.scan(lambda c, i: (c + w[i, 0] * i.astype(F64), ()), tensor(0.0, F64), cr.arange(3))[0]

    assert total(ROWS).item() == 13
    assert grad(total)(ROWS).tolist() == [[0, 0], [1, 0], [2, 0]]
    with pytest.raises(IndexOutOfRangeError, match="index 3 is outside of an axis of size 3"):
        cr.scan(lambda c, i: (c + ROWS[i, 0], ()), tensor(0.0, F64), cr.arange(4))


def test_16_bit_floats():
    x = tensor([2.0, 3.0, 4.0], "bfloat16")
    g = grad(lambda v: cr.scan(lambda c, a: (c * a, c), tensor(1.0, "bfloat16"), v)[0].astype("float32"))(x)
    assert (g.tolist(), g.dtype) == ([12, 8, 6], cr.bfloat16)


# --- nested -----------------------------------------------------------------------------------------------


def test_scan_in_scan():
    def looped(w):
        return cr.scan(lambda c, r: (cr.scan(lambda a, v: (a * cr.sin(v * w), a), c, r)[0], c), w, ROWS)[0]

    def unrolled(w):
        c = w
        for v in ROWS.reshape(-1).tolist():
            c = c * cr.sin(v * w)
        return c

    same_derivatives(looped, unrolled, orders=2)


def test_cond_in_scan():
    def looped(w):
        return cr.scan(lambda c, v: (cr.cond(v > 1.5, lambda: c * v * w, lambda: c + cr.exp(v * w)), c), w, XS)[0]

    def unrolled(w):
        c = w
        for v in XS.tolist():
            c = c * v * w if v > 1.5 else c + cr.exp(v * w)
        return c

    same_derivatives(looped, unrolled)


def test_while_in_cond_in_scan():
    def looped(w):
        def step(c, v):
            return cr.cond(v > 1.5, lambda a: cr.while_loop(lambda b: b < 20, lambda b: b * w * v, a, 9), cr.sin, c), ()

        return cr.scan(step, w, XS)[0]

    def unrolled(w):
        c = w
        for v in XS.tolist():
            if v > 1.5:
                while c < 20:
                    c = c * w * v
            else:
                c = cr.sin(c)
        return c

    same_derivatives(looped, unrolled, orders=2)


def test_transforms_in_scan():
    def looped(w):
        return cr.scan(lambda c, a: (grad(lambda q: q**3 * a * w)(c) * 0.1, ()), w, XS)[0]

    def unrolled(w):
        c = w
        for a in XS.tolist():
            c = 3 * c**2 * a * w * 0.1
        return c

    same_derivatives(looped, unrolled, orders=2)


def test_switches_of_recording_within_bodies():
    def stopped(c, a):
        return c * cr.stop_gradient(c) * a, ()

    def quiet(c, a):
        with cr.no_grad():
            d = c * 2
            with cr.enable_grad():
                e = c * a
        return e + d, ()

    def kept(c, a):
        return cr.checkpoint(lambda v: cr.sin(v * a))(c), ()

    for step in (stopped, quiet, kept):

        def unrolled(w, step=step):
            for a in XS.tolist():
                w = step(w, a)[0]
            return w

        looped = lambda w, step=step: cr.scan(step, w, XS)[0]  # noqa: E731
        assert grad(looped)(ONE).item() == pytest.approx(grad(unrolled)(ONE).item(), rel=1e-12)
        assert cr.jvp(looped, (ONE,), (ONE,))[1].item() == pytest.approx(cr.jvp(unrolled, (ONE,), (ONE,))[1].item())


# --- cond -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", [True, False])
def test_cond(taken):
    def f(x, y):
        return cr.cond(
            tensor(taken), lambda a: {"r": a * y, "n": cr.argmax(a)}, lambda a: {"r": a / y, "n": tensor(7)}, x
        )

    x = ROWS[0]
    out = f(x, XS[:2])
    assert out["r"].tolist() == ([1, 4] if taken else [1, 1])
    assert out["n"].item() == (1 if taken else 7)
    cr.check_grads(lambda x, y: f(x, y)["r"], (x, XS[:2]), order=2)


def test_cond_leaks_nothing_from_the_other_branch():
    f = lambda x: cr.cond(x > 0, lambda: x * x, lambda: cr.log(-x))  # noqa: E731
    assert grad(f)(3.0).item() == 6
    assert grad(grad(f))(3.0).item() == 2
    assert grad(f)(-2.0).item() == pytest.approx(-0.5)


def test_cond_of_a_python_bool_and_without_operands():
    assert cr.cond(True, lambda x: x, lambda x: -x, 2.0).item() == 2
    assert cr.cond(tensor(False), lambda: tensor(1.0), lambda: tensor(2.0)).item() == 2


# --- while ------------------------------------------------------------------------------------------------


@given(st.floats(1.5, 3), st.integers(1, 200))
def test_while_loop(factor, limit):
    steps = 0
    value = 1.0
    while value < limit:
        value, steps = value * factor, steps + 1
    x = tensor(factor, F64)
    count, found = cr.while_loop(lambda c: c[1] < limit, lambda c: (c[0] + 1, c[1] * x), (tensor(0), tensor(1.0, F64)))
    assert (count.item(), found.item()) == (steps, pytest.approx(value))

    def power(v, max_steps=None):
        return cr.while_loop(lambda c: c < limit, lambda c: c * v, cr.ones((), F64), max_steps)

    slope = pytest.approx(steps * factor ** max(steps - 1, 0))
    assert cr.jvp(power, (x,), (cr.ones((), F64),))[1].item() == slope
    assert grad(lambda v: power(v, 12 + steps))(x).item() == slope


def test_while_loop_that_never_runs_and_its_containers():
    assert cr.while_loop(lambda c: c < 0, lambda c: c * 2, ONE).item() == 1.1
    out = cr.while_loop(lambda c: c["i"] < 3, lambda c: {"i": c["i"] + 1, "x": [c["x"][0] * 2]}, {"i": 0, "x": [1.0]})
    assert (out["i"].item(), out["x"][0].item()) == (3, 8)


def test_while_loop_in_reverse_needs_max_steps():
    with pytest.raises(GradientError, match=r"\[while_loop\] .*Fix: pass max_steps=.*forward mode"):
        grad(lambda x: cr.while_loop(lambda c: c < 100, lambda c: c * x, x))(ONE)
    assert cr.hvp(
        lambda x: cr.while_loop(lambda c: c < 100, lambda c: c * x, x, 20), (tensor(2.0, F64),), (ONE,)
    ).item() == (pytest.approx(1.1 * 7 * 6 * 2**5))


def test_second_order_in_forward_mode_through_while():
    def power(x):
        return cr.while_loop(lambda c: c < 100, lambda c: c * x, x)

    def slope(x):
        return cr.jvp(power, (x,), (cr.ones_like(x),))[1]

    assert cr.jvp(slope, (tensor(2.0, F64),), (tensor(1.0, F64),))[1].item() == pytest.approx(7 * 6 * 2**5)


# --- cells and generators ---------------------------------------------------------------------------------


def test_cells_assigned_in_a_body_are_carried():
    cell = cr.Cell(tensor(0.0, F64))

    def step(c, x):
        cell.assign(cell + x * c)
        return c, cell * 1.0

    _, ys = cr.scan(step, ONE * 0 + 1, XS)
    assert ys.tolist() == [1, 3, 6]
    assert (cell.item(), cell.version) == (6, 1)
    _, ys = cr.scan(step, ONE * 0 + 1, XS[:0])
    assert cell.item() == 6
    cr.while_loop(lambda c: c < 3, lambda c: (cell.assign(cell * 2), c + 1)[1], tensor(0))
    assert cell.item() == 48
    for taken, after in ((False, 48), (True, 0)):
        cr.cond(tensor(taken), lambda: (cell.assign(cell * 0), tensor(1.0))[1], lambda: tensor(2.0))
        assert cell.item() == after


def test_cells_in_nested_bodies():
    cell = cr.Cell(tensor(0))

    def inner(c, x):
        cell.assign(cell + x)
        return c, ()

    cr.scan(
        lambda c, r: (cr.cond(r.sum() > 4, lambda: cr.scan(inner, c, r)[0], lambda: c), ()), 0.0, ROWS.astype("int64")
    )
    assert cell.item() == 18


def test_what_a_cell_is_assigned_is_cut_off_as_outside():
    def looped(w):
        cell = cr.Cell(tensor(1.0, F64))

        def step(c, x):
            cell.assign(cell * w)
            return c + cell * w * x, ()

        return cr.scan(step, w * 0, XS)[0]

    def unrolled(w):
        cell, c = cr.Cell(tensor(1.0, F64)), w * 0
        for x in XS.tolist():
            cell.assign(cell * w)
            c = c + cell * w * x
        return c

    same_derivatives(looped, unrolled, orders=1)


def test_parameters_in_bodies():
    p = cr.Parameter(tensor([2.0], F64))
    cr.scan(lambda c, x: (c * p * x, c), cr.ones((1,), F64), XS)[0].sum().backward()
    assert p.grad.tolist() == [72]  # d/dp 6 p^3
    p.grad = None
    cr.cond(tensor(True), lambda: (p * p).sum(), lambda: p.sum()).backward()
    assert p.grad.tolist() == [4]


def test_an_error_in_a_body_leaves_cells_as_they_were():
    cell = cr.Cell(tensor(0))

    def step(c, i):
        cell.assign(cell + 1)
        return c + ROWS[i, 0], ()

    with pytest.raises(IndexOutOfRangeError):
        cr.scan(step, tensor(0.0, F64), cr.arange(5))
    assert (cell.item(), cell.version) == (0, 0)
    assert (cell + 1).item() == 1  # and no trace is left behind


def test_generator_in_scan_draws_as_a_loop_does():
    g, h = cr.Generator(3), cr.Generator(3)
    _, ys = cr.scan(lambda c, _: (c, cr.uniform((2,), generator=g) + cr.uniform((2,), generator=g)), 0.0, length=4)
    loop = [(cr.uniform((2,), generator=h) + cr.uniform((2,), generator=h)).tolist() for _ in range(4)]
    assert ys.tolist() == loop
    assert g.numpy().tolist() == h.numpy().tolist() == [3, 8]


def test_generator_in_while_and_checkpoint_in_scan():
    g, h = cr.Generator(3), cr.Generator(3)
    _, total = cr.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] + cr.uniform((), generator=g)), (0, 0.0))
    assert total.item() == pytest.approx(sum(cr.uniform((), generator=h).item() for _ in range(3)), rel=1e-6)

    def f(w):
        noise = cr.checkpoint(lambda v: v * cr.uniform((), generator=g).astype(F64))
        return cr.scan(lambda c, _: (noise(c), ()), w, length=3)[0]

    g.manual_seed(5)
    value, slope = cr.value_and_grad(f)(ONE)
    assert value.item() == pytest.approx(slope.item() * 1.1)
    assert g.numpy().tolist() == [5, 3]


@pytest.mark.parametrize("taken", [True, False])
def test_generator_in_cond_advances_by_the_larger_branch(taken):
    g = cr.Generator(3)
    two = lambda: cr.uniform((), generator=g) + cr.uniform((), generator=g)  # noqa: E731
    cr.cond(tensor(taken), two, lambda: cr.uniform((), generator=g))
    assert g.numpy().tolist() == [3, 2]
    cr.scan(lambda c, x: (c, cr.cond(x > 1.5, two, lambda: tensor(0.0))), 0.0, XS)
    assert g.numpy().tolist() == [3, 8]


def test_going_backward_runs_the_taken_branch_alone():
    seen = []

    def noting(name):
        def function(a):
            seen.append(name)
            return a

        return lambda x: cr.callback(function, x.shape, x.dtype, x, vjp=lambda ct, a: (ct,))

    def f(x):
        return cr.cond(x > 0, noting("yes"), noting("no"), x)

    assert cr.grad(f)(1.0).item() == 1
    assert set(seen) == {"yes"}
