"""L-BFGS: it finds minima, its line search keeps the Wolfe conditions, and it goes on from a saved state."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, strategies as st

import chainrule as cr
from chainrule import optim
from chainrule.errors import ArgumentError, StateError, UnusedParameterError
from chainrule.optim.line_search import C1, C2, Point, cubic_minimum, strong_wolfe

SEARCHES = pytest.mark.parametrize("search", [None, "strong_wolfe"])


def rosenbrock(w):
    return (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2


def parameter(values, dtype="float64"):
    return cr.Parameter(cr.tensor(np.asarray(values), dtype=dtype))


def closure_of(opt, loss, *args):
    def closure():
        opt.zero_grad()
        value = loss(*args)
        value.backward()
        return value

    return closure


def test_a_quadratic_of_n_variables_takes_about_n_iterations():
    """With exact line searches it would be n; these are close to it."""
    scale, goal = cr.tensor([1.0, 10.0, 100.0], dtype="float64"), cr.tensor([1.0, -2.0, 3.0], dtype="float64")
    w = parameter(np.zeros(3))
    opt = optim.LBFGS([w], line_search_fn="strong_wolfe")
    first = opt.step(closure_of(opt, lambda: (scale * (w - goal) ** 2).sum()))
    assert float(first) == 941.0  # the loss at the beginning
    np.testing.assert_allclose(w.numpy(), goal.numpy(), atol=1e-6)
    assert int(opt.state[w]["n_iter"]) < 16


@pytest.mark.parametrize(("search", "steps"), [(None, 5), ("strong_wolfe", 3)])
def test_the_valley_of_rosenbrock(search, steps):
    w = parameter([-1.2, 1.0])
    opt = optim.LBFGS([w], line_search_fn=search)
    for _ in range(steps):
        opt.step(closure_of(opt, rosenbrock, w))
    np.testing.assert_allclose(w.numpy(), 1.0, atol=1e-4)
    assert int(opt.step_count) == steps


def test_the_limits_hold():
    w = parameter([-1.2, 1.0])
    opt = optim.LBFGS([w], max_iter=4, history_size=2)
    calls = []
    closure = closure_of(opt, lambda: calls.append(1) or rosenbrock(w))
    opt.step(closure)
    state = opt.state[w]
    assert (len(calls), int(state["func_evals"]), int(state["n_iter"])) == (4, 4, 4)
    assert int(state["n_pairs"]) == 2
    assert state["old_dirs"].shape == (2, 2)
    del calls[:]
    opt = optim.LBFGS([w], max_eval=3, line_search_fn="strong_wolfe")
    opt.step(closure_of(opt, lambda: calls.append(1) or rosenbrock(w)))
    assert len(calls) <= 4
    # at a minimum, one evaluation says so
    w, calls = parameter([1.0, 1.0]), []
    opt = optim.LBFGS([w])
    opt.step(closure_of(opt, lambda: calls.append(1) or rosenbrock(w)))
    assert len(calls) == 1
    assert w.version == 0


@SEARCHES
def test_going_on_from_a_saved_state_gives_the_same_bits(search):
    def make(values):
        ws = [parameter(values[:1]), parameter(values[1:])]
        opt = optim.LBFGS(ws, lr=0.5, max_iter=5, history_size=3, line_search_fn=search)
        return ws, opt, closure_of(opt, lambda: rosenbrock(cr.concat(ws)))

    ws, opt, closure = make([-1.2, 1.0])
    for _ in range(2):
        opt.step(closure)
    saved = opt.state_dict()
    plain = json.loads(json.dumps({k: v for k, v in saved.items() if k != "state"}))
    values = np.concatenate([w.numpy() for w in ws])
    again, other, other_closure = make(values)
    other.load_state_dict(plain | {"state": saved["state"]})
    for _ in range(2):
        opt.step(closure)
        other.step(other_closure)
    for w, v in zip(ws, again, strict=True):
        assert w.numpy().tobytes() == v.numpy().tobytes()
    for name, cell in opt.state[ws[0]].items():
        assert cell.numpy().tobytes() == other.state[again[0]][name].numpy().tobytes(), name
    with pytest.raises(StateError, match="old_dirs"):
        optim.LBFGS(again, history_size=4).load_state_dict(saved)


@SEARCHES
def test_a_compiled_closure_gives_the_same_steps(search):
    def run(wrap):
        w = parameter([-1.2, 1.0])
        opt = optim.LBFGS([w], max_iter=8, line_search_fn=search)
        closure = wrap(closure_of(opt, rosenbrock, w))
        losses = [float(opt.step(closure)) for _ in range(3)]
        if wrap is not eager:
            assert len(closure.programs) == 1
        return [*losses, *w.numpy()]

    def eager(f):
        return f

    np.testing.assert_allclose(run(lambda f: cr.compile(f, keep_grads=True)), run(eager), rtol=1e-6)


def test_a_compiled_step_is_refused():
    w = parameter([-1.2, 1.0])
    opt = optim.LBFGS([w])
    closure = closure_of(opt, rosenbrock, w)
    with pytest.raises(cr.errors.ChainruleError, match="traced"):
        cr.compile(lambda: opt.step(closure))()
    assert w.version == 0


def test_parameters_of_several_dtypes_are_one_vector():
    half, single, pair = parameter([2.0], "bfloat16"), parameter([[3.0]], "float32"), parameter([1.0 + 2j], "complex64")
    opt = optim.LBFGS([half, single, pair], line_search_fn="strong_wolfe", history_size=5)
    assert opt.state[half]["old_dirs"].shape == (5, 4)
    assert opt.state[half]["old_dirs"].dtype == cr.float32

    def loss():
        distance = pair - (0.5 - 1j)
        return (
            (half.astype("float32") - 1).square().sum()
            + (single**2).sum()
            + cr.real(distance * cr.conj(distance)).sum()
        )

    for _ in range(3):
        opt.step(closure_of(opt, loss))
    assert (half.dtype.name, single.dtype.name, pair.dtype.name) == ("bfloat16", "float32", "complex64")
    np.testing.assert_allclose(np.float32(half.numpy()), 1.0, atol=1e-2)
    np.testing.assert_allclose(single.numpy(), 0.0, atol=1e-3)
    np.testing.assert_allclose(pair.numpy(), 0.5 - 1j, atol=1e-3)


def test_frozen_and_unused_parameters():
    w, frozen, spare = parameter([3.0]), parameter([5.0]), parameter([7.0])
    frozen.requires_grad = False
    opt = optim.LBFGS([w, frozen, spare], allow_unused=True)
    opt.step(closure_of(opt, lambda: ((w - frozen) ** 2).sum()))
    assert (float(w), float(frozen), float(spare)) == (pytest.approx(5.0), 5.0, 7.0)
    opt = optim.LBFGS([w, spare])
    with pytest.raises(UnusedParameterError, match="does not reach"):
        opt.step(closure_of(opt, lambda: (w**2).sum()))


def test_an_exception_leaves_every_cell_as_before():
    w = parameter([-1.2, 1.0])
    opt = optim.LBFGS([w])
    opt.step(closure_of(opt, rosenbrock, w))
    before = [w.numpy(), *(cell.numpy() for cell in opt.state[w].values())]
    calls = []

    def closure():
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("later")
        return closure_of(opt, rosenbrock, w)()

    with pytest.raises(RuntimeError, match="later"):
        opt.step(closure)
    assert int(opt.step_count) == 1
    for old, cell in zip(before, [w, *opt.state[w].values()], strict=True):
        np.testing.assert_array_equal(old, cell.numpy())


def test_what_does_not_fit_is_refused():
    w = parameter([1.0])
    opt = optim.LBFGS([w])
    refused = [
        (lambda: opt.step(), "computes the loss several times. Received: no closure"),
        (lambda: opt.add_param_group({"params": [parameter([1.0])]}), "has one group"),
        (lambda: optim.LBFGS([{"params": [w]}, {"params": [parameter([1.0])]}]), "has one group"),
        (lambda: optim.LBFGS([w], line_search_fn="armijo"), "line_search_fn is None or 'strong_wolfe'"),
        (lambda: optim.LBFGS([w], max_iter=0), "max_iter must be a number that is whole, from 1"),
        (lambda: optim.LBFGS([w], history_size=0), "history_size must be a number that is whole, from 1"),
        (lambda: optim.LBFGS([w], tolerance_change=-1.0), "tolerance_change must be a number at least 0"),
        (lambda: opt.param_groups[0].update(history_size=7), "history_size decides which state there is"),
    ]
    for make, says in refused:
        with pytest.raises(ArgumentError) as caught:
            make()
        assert says in str(caught.value), says


# --- the line search --------------------------------------------------------------------------------------


def along(f, slope):
    return lambda step: Point(step, f(step), cr.tensor(slope(step)), slope(step))


def test_the_minimum_of_a_cubic():
    f, slope = (lambda x: x**3 - 3 * x), (lambda x: 3 * x**2 - 3)
    at = along(f, slope)
    assert cubic_minimum(at(-0.5), at(3.0), -0.5, 3.0) == pytest.approx(1.0, rel=1e-14)
    assert cubic_minimum(at(3.0), at(-0.5), -0.5, 3.0) == pytest.approx(1.0, rel=1e-14)
    assert cubic_minimum(at(-0.5), at(3.0), 1.5, 3.0) == 1.5  # within the bounds
    line = along(lambda x: -x, lambda x: -1.0)
    assert cubic_minimum(line(0.0), line(1.0), 2.0, 4.0) == 3.0  # there is none: the middle


@given(st.floats(1e-3, 30.0), st.floats(0.05, 20.0), st.floats(0.0, 3.0), st.floats(-2.0, 2.0))
def test_the_step_found_keeps_the_wolfe_conditions(first, goal, wave, phase):
    """Of a parabola with waves on it, from first steps that are too short and too long."""

    def f(x):
        return (x - goal) ** 2 + wave * np.sin(x + phase)

    def slope(x):
        return 2 * (x - goal) + wave * np.cos(x + phase)

    at, start = along(f, slope), along(f, slope)(0.0)
    if start.slope >= -1e-3:
        return
    found, count = strong_wolfe(at, start, first, longest=1.0, tolerance=1e-12, most=60)
    assert count <= 61
    assert found.value <= start.value + C1 * found.step * start.slope
    assert abs(found.slope) <= -C2 * start.slope
