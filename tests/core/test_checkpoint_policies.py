"""Checkpoints with a policy: the same gradients, and only what is kept is not computed again."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import ArgumentError, StaleValueError

POLICIES = ["products", "products and sums", "everything", lambda operation, shape, dtype: operation == "tanh"]
rng = np.random.default_rng(0)
W = cr.asarray(rng.standard_normal((4, 4)))
X = cr.asarray(rng.standard_normal((3, 4)))


def block(x, w=W):
    y = cr.tanh(x @ w)
    return cr.exp(y / (1 + cr.square(y).sum(axis=-1, keepdims=True))) @ w


every_policy = pytest.mark.parametrize("policy", POLICIES, ids=[*POLICIES[:3], "function"])
both_modes = pytest.mark.parametrize("wrap", [lambda f: f, cr.compile], ids=["eager", "compiled"])


@every_policy
@both_modes
def test_gradients_are_those_without_it(policy, wrap):
    def gradient(f):
        return wrap(lambda x, w: cr.value_and_grad(lambda x, w: f(f(x, w), w).sum(), (0, 1))(x, w))(X, W)

    (value, grads), (expected, right) = gradient(cr.checkpoint(block, policy)), gradient(block)
    np.testing.assert_allclose(value.numpy(), expected.numpy(), rtol=1e-14)
    for a, b in zip(grads, right, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)


@every_policy
def test_second_order_and_forward_mode(policy):
    f = cr.checkpoint(block, policy)
    cr.check_grads(f, (X, W), order=2)
    v = cr.asarray(rng.standard_normal(X.shape))
    right = cr.jvp(block, (X,), (v,))[1]
    np.testing.assert_allclose(cr.jvp(f, (X,), (v,))[1].numpy(), right.numpy(), rtol=1e-12)


def counted(policy):
    """How often sine and product of two matrices are computed for one gradient."""
    counts = {"sin": 0, "matmul": 0}

    def count(name, result):
        def function(x):
            counts[name] += 1
            return result(x)

        return function

    def sin(x):
        return cr.callback(count("sin", np.sin), x.shape, x.dtype, x, vjp=lambda ct, x: (ct * np.cos(x),))

    cr.grad(lambda x: cr.checkpoint(lambda x: sin(sin(x)), policy)(x).sum())(X)
    return counts["sin"]


def test_what_is_kept_is_not_computed_again():
    assert counted("products") == 2 + 2
    assert counted("everything") == 2
    assert counted(lambda operation, shape, dtype: operation == "callback") == 2


def test_a_compiled_step_repeats_what_the_policy_does_not_keep():
    def kernels(policy):
        layer = cr.checkpoint(lambda x: cr.tanh(x @ W) @ W, policy)
        graph = cr.compile(cr.grad(lambda x: layer(layer(x)).sum())).program_for(X).graph
        names = [node.primitive.name for node in graph.nodes]
        return names.count("dot"), names.count("tanh")

    nothing, products, everything = kernels(None), kernels("products"), kernels("everything")
    assert products[0] == everything[0] < nothing[0]
    assert products[1] == nothing[1] > everything[1]


@every_policy
@both_modes
def test_parameters_random_numbers_and_cells(policy, wrap):
    def run(policy):
        cr.manual_seed(3)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1)).double()

        def step(x):
            model.zero_grad()
            loss = (cr.checkpoint(model, policy)(x) if policy else model(x)).sum()
            loss.backward()
            return loss, [p.grad for p in model.parameters()]

        out = wrap(step)(X)
        return cr.tree_map(lambda t: t.numpy(), (out, [cell.detach() for _, cell in model.named_cells()]))

    expected, found = run(None), run(policy)
    cr.tree_map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13), expected, found)


def test_an_assigned_parameter_is_stale():
    p = cr.Parameter(W)
    y = cr.checkpoint(lambda x: x @ p, "products")(X).sum()
    p.assign(p * 2)
    with pytest.raises(StaleValueError):
        y.backward()


def test_an_unknown_policy_is_refused():
    with pytest.raises(ArgumentError, match="'products'"):
        cr.checkpoint(block, "dots")
