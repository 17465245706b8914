"""Scaled losses, weights kept in float32, and gradients of batches in parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import ArgumentError, ShapeError, StateError

both = pytest.mark.parametrize("wrap", [lambda f: f, cr.compile], ids=["eager", "compiled"])


def scaled_steps(wrap, factors, **options):
    """Steps of two optimizers by gradients that ``factors`` may make infinite: what there is after each."""
    a, b = (cr.Parameter(cr.tensor([1.0, -1.0])) for _ in range(2))
    opts = [optim.Adam([a], lr=0.1), optim.SGD([b], lr=0.1, momentum=0.9)]
    scaler = optim.LossScaler(**options)

    @wrap
    def step(x):
        for opt in opts:
            opt.zero_grad()
        scaler.scale((a * a * x[0]).sum() + (b * b * x[1]).sum()).backward()
        scaler.unscale_(opts[0])
        norm = optim.clip_grad_norm_([a], 0.5)
        for opt in opts:
            scaler.step(opt)
        scaler.update()
        return norm

    found = []
    for pair in factors:
        norm = step(np.array(pair, np.float32))
        counts = [int(opt.step_count) for opt in opts]
        found.append((a.numpy(), b.numpy(), counts, scaler.get_scale(), int(scaler.growth_tracker), float(norm)))
    return found, opts


@both
def test_a_step_with_gradients_that_are_not_finite_is_left_out(wrap):
    inf = float("inf")
    found, opts = scaled_steps(
        wrap, [(1, 1), (inf, 1), (1, 1), (1, inf), (1, 1), (1, 1)], init_scale=8.0, growth_interval=2
    )
    assert [f[2] for f in found] == [[1, 1], [1, 2], [2, 3], [3, 3], [4, 4], [5, 5]]
    assert [f[3] for f in found] == [8.0, 4.0, 4.0, 2.0, 2.0, 4.0]
    assert [f[4] for f in found] == [1, 0, 1, 0, 1, 0]
    np.testing.assert_array_equal(found[1][0], found[0][0])
    assert not np.array_equal(found[1][1], found[0][1])
    for opt in opts:
        assert all(np.isfinite(c.numpy()).all() for cells in opt.state.values() for c in cells.values())


def test_steps_do_not_depend_on_the_scale():
    """Powers of two are exact, so the clipped steps are those of an unscaled loss to the bit."""
    (plain, _), (large, _) = (scaled_steps(lambda f: f, [(1, 1)] * 3, init_scale=s) for s in (1.0, 2.0**16))
    for one, other in zip(plain, large, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
        assert one[5] == other[5]


def test_gradients_of_float16_do_not_vanish():
    def gradient(scale):
        w = cr.Parameter(cr.ones(1, dtype="float16"))
        scaler = optim.LossScaler(scale)
        loss = (w * cr.tensor([2.0**-14], dtype="float16")).astype("float32").sum() * 2.0**-12
        scaler.scale(loss).backward()
        return float(w.grad) / scale

    assert gradient(1.0) == 0.0  # 2^-26 is below the smallest float16
    assert gradient(2.0**12) == 2.0**-26


def test_unscaling_twice_is_an_error():
    w = cr.Parameter(cr.ones(1))
    opt, scaler = optim.SGD([w]), optim.LossScaler()
    scaler.scale(w.sum()).backward()
    scaler.unscale_(opt)
    with pytest.raises(ArgumentError, match="divided by the scale already"):
        scaler.unscale_(opt)
    scaler.step(opt)
    scaler.unscale_(opt)


def test_scaler_state_and_arguments():
    scaler, other = optim.LossScaler(4.0, growth_interval=3), optim.LossScaler()
    scaler.update()
    other.load_state_dict(scaler.state_dict())
    assert other.state_dict() == scaler.state_dict()
    assert other.state_dict()["_growth_tracker"] == 1
    with pytest.raises(StateError, match="names do not fit"):
        other.load_state_dict({"scale": 1.0})
    for wrong in ({"init_scale": 0.0}, {"growth_factor": 1.0}, {"backoff_factor": 1.0}, {"growth_interval": 0}):
        with pytest.raises(ArgumentError, match="growth_factor > 1"):
            optim.LossScaler(**wrong)


def test_the_scale_stays_finite():
    scaler = optim.LossScaler(2.0**127, growth_interval=1)
    scaler.update()
    assert scaler.get_scale() == 2.0**127


# --- float32 beside 16 bits -------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_master_weights_add_up_small_steps(dtype, wrap):
    """They are what a float32 parameter is after the same gradients; the 16-bit one is that, rounded."""
    half, single = (cr.Parameter(cr.ones((3,), dtype=d)) for d in (dtype, "float32"))
    opts = [optim.keep_master_weights(optim.Adam([half], lr=1e-4)), optim.Adam([single], lr=1e-4)]

    @wrap
    def step(g):
        for w, opt in zip((half, single), opts, strict=True):
            w.grad = g.astype(dtype).astype(w.dtype)
            opt.step()
            opt.zero_grad()

    for g in np.random.default_rng(0).normal(size=(30, 3)).astype("float32"):
        step(cr.asarray(g))
    np.testing.assert_array_equal(opts[0].state[half]["master"].numpy(), single.numpy())
    np.testing.assert_array_equal(half.numpy(), single.detach().astype(dtype).numpy())
    lost = cr.Parameter(cr.ones((3,), dtype=dtype))
    opt = optim.Adam([lost], lr=1e-4)
    for _ in range(30):
        lost.grad = cr.ones((3,), dtype=dtype)
        opt.step()
    np.testing.assert_array_equal(lost.numpy(), 1.0)


def test_master_weights_follow_an_assignment_and_are_saved():
    w = cr.Parameter(cr.tensor([1.0, 2.0], dtype="bfloat16"))
    opt = optim.keep_master_weights(optim.SGD([w], lr=2.0**-10))
    w.grad = cr.ones((2,), dtype="bfloat16")
    opt.step()
    w.assign(cr.tensor([1.0, 5.0], dtype="bfloat16"))
    opt.step()
    master = opt.state[w]["master"].numpy()
    # the first element is still the rounded master, so its small steps go on; the second was assigned
    np.testing.assert_array_equal(master, [1 - 2 * 2.0**-10, 5 - 2.0**-10])
    other = optim.keep_master_weights(optim.SGD([cr.Parameter(w.detach())], lr=1.0))
    other.load_state_dict(opt.state_dict())
    np.testing.assert_array_equal(next(iter(other.state.values()))["master"].numpy(), master)


# --- parts of a batch -------------------------------------------------------------------------------------


def network():
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4, dtype="float64"), nn.Tanh(), nn.Linear(4, 2, dtype="float64"))
    model[0].bias.requires_grad = False
    return model


def mean_loss(model, batch, labels):
    return nn.functional.cross_entropy(model(batch["x"]), labels)


@settings(max_examples=12)
@given(n=st.integers(1, 9), parts=st.integers(1, 9), compiled=st.booleans())
def test_parts_add_up_to_the_whole(n, parts, compiled):
    rng = np.random.default_rng(n)
    x, y = cr.asarray(rng.normal(size=(n, 3))), cr.asarray(rng.integers(0, 2, n))
    model = network()
    if parts > n:
        with pytest.raises(ArgumentError, match=f"in 1 to {n}"):
            optim.accumulate_gradients(mean_loss, model, {"x": x}, y, micro_batches=parts)
        return

    def step(x, y):
        model.zero_grad()
        return optim.accumulate_gradients(mean_loss, model, {"x": x}, y, micro_batches=parts)

    loss = (cr.compile(keep_grads=True)(step) if compiled else step)(x, y)
    expected, grads = cr.value_and_grad(mean_loss)(model, {"x": x}, y)
    assert float(loss) == pytest.approx(float(expected), rel=1e-12)
    assert model[0].bias.grad is None
    for name, g in grads.flat().items():
        p = dict(model.named_parameters())[name]
        np.testing.assert_allclose(p.grad.numpy(), g.numpy(), rtol=1e-11, atol=1e-14)


def test_gradients_add_to_those_there_are_and_buffers_move():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    x = cr.normal((6, 3))
    loss = lambda model, x: (model(x) ** 3).mean()  # noqa: E731
    optim.accumulate_gradients(loss, model, x, micro_batches=3)
    first = model[0].weight.grad
    optim.accumulate_gradients(loss, model, x, micro_batches=3)
    np.testing.assert_allclose(model[0].weight.grad.numpy(), 2 * first.numpy(), rtol=1e-5, atol=1e-7)
    assert int(model[1].num_batches_tracked) == 6


def test_sixteen_bit_gradients_are_added_in_float32():
    w = cr.Parameter(cr.ones((1,), dtype="bfloat16"))

    class Weight(nn.Module):
        def __init__(self):
            self.w = w

        def forward(self, x):
            return (self.w * x).mean()

    ones = cr.ones((300, 1), dtype="bfloat16")
    optim.accumulate_gradients(lambda model, x: model(x), Weight(), ones, micro_batches=300)
    assert float(w.grad) == 1.0


def test_a_compiled_step_holds_one_part_of_the_activations():
    model = nn.Sequential(nn.Linear(8, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 1))
    x = cr.ones((512, 8))

    def bytes_of(parts):
        @cr.compile
        def step(x):
            model.zero_grad()
            return optim.accumulate_gradients(lambda m, x: (m(x) ** 2).mean(), model, x, micro_batches=parts)

        return cr.explain(step, x).memory["arena"]

    assert bytes_of(16) < bytes_of(1) / 2


def test_first_axes_are_of_one_number():
    model = nn.Linear(3, 1)
    with pytest.raises(ShapeError, match="first axes"):
        optim.accumulate_gradients(lambda m, x, y: m(x).sum(), model, cr.ones((4, 3)), cr.ones((3,)), micro_batches=1)
    with pytest.raises(ShapeError, match="first axes"):
        optim.accumulate_gradients(lambda m, x: m(x).sum(), model, cr.tensor(1.0), micro_batches=1)
