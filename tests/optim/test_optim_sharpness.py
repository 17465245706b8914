"""Sharpness-aware steps, against their definition in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import ArgumentError, GradientError

RNG = np.random.default_rng(0)
START = [RNG.normal(size=(3, 2)), RNG.normal(size=(4,))]


def slopes(arrays):
    """The gradient of sum(sin(a)) + sum(b^4) * mean(a)."""
    a, b = arrays
    return [np.cos(a) + np.sum(b**4) / a.size, 4 * b**3 * a.mean()]


def loss_of(a, b):
    return cr.sin(a).sum() + (b**4).sum() * a.mean()


def reference(steps, rho, adaptive, lr, momentum):
    arrays, memory = [a.copy() for a in START], [np.zeros_like(a) for a in START]
    for _ in range(steps):
        scales = [np.abs(a) if adaptive else np.ones_like(a) for a in arrays]
        g = slopes(arrays)
        size = np.sqrt(sum(np.sum((t * x) ** 2) for t, x in zip(scales, g, strict=True))) + 1e-12
        worst = slopes([a + rho * t**2 * x / size for a, t, x in zip(arrays, scales, g, strict=True)])
        memory = [momentum * m + x for m, x in zip(memory, worst, strict=True)]
        arrays = [a - lr * m for a, m in zip(arrays, memory, strict=True)]
    return arrays


@pytest.mark.parametrize("wrap", [lambda f: f, cr.compile], ids=["eager", "compiled"])
@pytest.mark.parametrize("adaptive", [False, True])
def test_steps_are_those_of_the_definition(adaptive, wrap):
    a, b = (cr.Parameter(cr.asarray(x)) for x in START)
    sam = optim.SAM(optim.SGD([a, b], lr=0.05, momentum=0.9), rho=0.3, adaptive=adaptive)

    def closure():
        loss = loss_of(a, b)
        loss.backward()
        return loss

    @wrap
    def step():
        return sam.step(closure)

    first = float(step())
    assert first == pytest.approx(float(loss_of(*map(cr.asarray, START))), rel=1e-12)
    for _ in range(4):
        step()
    for cell, expected in zip((a, b), reference(5, 0.3, adaptive, 0.05, 0.9), strict=True):
        np.testing.assert_allclose(cell.numpy(), expected, rtol=1e-12)
    assert int(sam.base_optimizer.step_count) == 5


def test_without_radius_it_is_the_optimizer_itself():
    models, losses = [], []
    for rho in (None, 0.0):
        cr.manual_seed(3)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        opt = optim.Adam(model.parameters(), lr=0.1)
        stepper = opt if rho is None else optim.SAM(opt, rho)

        def closure(model=model, opt=opt):
            opt.zero_grad()
            loss = (model(cr.ones((2, 3))) ** 2).mean()
            loss.backward()
            return loss

        losses.append([float(stepper.step(closure)) for _ in range(3)])
        models.append([p.numpy() for p in model.parameters()])
    assert losses[0] == losses[1]
    for one, other in zip(*models, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_are_restored_if_the_second_closure_fails():
    w = cr.Parameter(cr.tensor([1.0, 2.0]))
    sam, calls = optim.SAM(optim.SGD([w], lr=0.1), rho=0.5), []

    def closure():
        calls.append(w.numpy())
        if len(calls) == 2:
            raise RuntimeError("on purpose")
        loss = (w * w).sum()
        loss.backward()
        return loss

    with pytest.raises(RuntimeError, match="on purpose"):
        sam.step(closure)
    assert not np.array_equal(calls[1], calls[0])
    np.testing.assert_array_equal(w.numpy(), [1.0, 2.0])


def test_sixteen_bits_frozen_and_row_sparse_parameters():
    half = cr.Parameter(cr.tensor([1.0, -2.0], dtype="bfloat16"))
    frozen, table = cr.Parameter(cr.tensor([1.0]), requires_grad=False), nn.Embedding(5, 2, sparse=True)
    sam = optim.SAM(optim.SGD([half, frozen, table.weight], lr=0.125), rho=0.5)
    before = table.weight.numpy()

    def closure():
        loss = (half.astype("float32") ** 2).sum() + (table(cr.tensor([3, 3])) * frozen).sum()
        loss.backward()
        return loss

    sam.step(closure)
    # the gradient is (2, -4, then 2, 2 for row 3) of norm 28^0.5
    g = np.array([2.0, -4.0])
    worst = 2 * (np.array([1.0, -2.0]) + 0.5 * g / 28**0.5)
    np.testing.assert_allclose(half.numpy().astype("float64"), [1, -2] - 0.125 * worst, rtol=2**-7)
    np.testing.assert_allclose(table.weight.numpy() - before, np.eye(5)[3][:, None] * [-0.25, -0.25], atol=1e-6)
    assert float(frozen) == 1.0


def test_its_state_is_that_of_the_optimizer():
    w = cr.Parameter(cr.tensor([1.0]))
    opt = optim.Adam([w], lr=0.1)
    sam = optim.SAM(opt)
    assert sam.param_groups is opt.param_groups
    sam.load_state_dict(sam.state_dict())
    assert "rho=0.05" in repr(sam)


def test_wrong_arguments():
    w = cr.Parameter(cr.tensor([1.0]))
    with pytest.raises(ArgumentError, match="rho is at least 0"):
        optim.SAM(optim.SGD([w]), rho=-1.0)
    with pytest.raises(ArgumentError, match="needs an optimizer"):
        optim.SAM([w])
    with pytest.raises(GradientError, match="no parameter has a gradient"):
        optim.SAM(optim.SGD([w])).step(lambda: None)
