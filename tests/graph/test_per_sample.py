"""Norms and clipped sums of the gradients of samples are those of the gradients themselves, which are not made."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.autodiff.trees import flatten
from chainrule.errors import ArgumentError
from chainrule.graph import per_sample
from chainrule.graph.ir import TensorType
from chainrule.graph.tracing import trace

rng = np.random.default_rng(0)
f64 = "float64"


def draw(*shape):
    return cr.tensor(rng.standard_normal(shape))


class Tied(nn.Module):
    """An embedding whose table is also the last layer."""

    def __init__(self):
        super().__init__()
        self.table = cr.Parameter(draw(7, 4))

    def forward(self, words):
        return cr.tanh(cr.take(self.table, words, axis=0)) @ self.table.mT


def mlp():
    return nn.Sequential(nn.Linear(3, 4, dtype=f64), nn.Tanh(), nn.LayerNorm(4, dtype=f64), nn.Linear(4, 2, dtype=f64))


def square(m, *xs):
    return (m(*xs) ** 2).sum()


SEQUENCE = cr.tensor(rng.integers(0, 6, (5, 3)))
CASES = {
    "vectors": (mlp, square, (draw(5, 3),)),
    "sequences": (mlp, square, (draw(5, 2, 3),)),
    "long sequences": (mlp, square, (draw(5, 9, 3),)),
    "used three times": (mlp, lambda m, x: square(m, x) + (m(x + 1) ** 3).sum() + m(x[:2]).sum(), (draw(5, 4, 3),)),
    "labels": (mlp, lambda m, x, y: nn.functional.cross_entropy(m(x)[None], y[None]), (draw(5, 3), SEQUENCE[:, 0] % 2)),
    "image": (lambda: nn.Conv2d(2, 3, 2, dtype=f64), lambda m, x: square(m, x[None]), (draw(5, 4, 4, 2),)),
    "groups": (
        lambda: nn.Conv2d(4, 4, 2, groups=2, dtype=f64), lambda m, x: square(m, x[None]), (draw(5, 4, 4, 4),)
    ),
    "few words": (lambda: nn.Embedding(100, 4, dtype=f64), square, (SEQUENCE,)),
    "negative words": (
        lambda: nn.Embedding(100, 4, dtype=f64), lambda m, i: (m.weight[i] ** 2).sum(), (SEQUENCE - 3,)
    ),
    "many words": (lambda: nn.Embedding(6, 4, dtype=f64), square, (SEQUENCE,)),
    "tied": (Tied, square, (SEQUENCE,)),
    "batched weights": (
        lambda: {"w": draw(2, 3, 4)}, lambda p, x: ((x @ p["w"]) ** 3).sum(), (draw(5, 2, 6, 3),)
    ),
    "loop": (
        lambda: {"w": draw(3, 3), "unused": draw(2)},
        lambda p, x: cr.scan(lambda h, t: (cr.tanh(p["w"] @ h + t), h), cr.zeros(3, f64), x)[0].sum(),
        (draw(5, 4, 3),),
    ),
}  # fmt: skip
every_case = pytest.mark.parametrize("name", list(CASES))


def leaves(tree):
    return [x.numpy() for x in flatten(tree)[0]]


@every_case
@pytest.mark.parametrize("wrap", [lambda f: f, cr.compile], ids=["eager", "compiled"])
@pytest.mark.parametrize("at_once", [True, False])
def test_as_the_gradients_that_are_made(name, wrap, at_once, monkeypatch):
    if not at_once:
        monkeypatch.setattr(per_sample, "_AT_ONCE", 0)
    make, f, batch = CASES[name]
    model = make()
    every = leaves(cr.per_sample_grads(f)(model, *batch))
    for i in range(2):
        own = leaves(cr.grad(f)(model, *(x[i] for x in batch)))
        for a, b in zip(every, own, strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-9, atol=1e-12)
    norms = np.sqrt(sum((g.reshape(5, -1) ** 2).sum(axis=1) for g in every))
    found = wrap(cr.per_sample_grad_norms(f))(model, *batch)
    np.testing.assert_allclose(found.numpy(), norms, rtol=1e-9)

    limit = float(np.median(norms))
    weights = np.minimum(1, limit / norms)
    clipped = wrap(cr.clipped_grad_sum(f, limit))(model, *batch)
    np.testing.assert_allclose(clipped.norms.numpy(), norms, rtol=1e-9)
    losses = [f(model, *(x[i] for x in batch)).item() for i in range(5)]
    np.testing.assert_allclose(clipped.losses.numpy(), losses, rtol=1e-6)
    for a, b in zip(leaves(clipped.grads), every, strict=True):
        np.testing.assert_allclose(a, np.tensordot(weights, b, 1), rtol=1e-9, atol=1e-11)
    mean = cr.clipped_grad_sum(f, 1e9, reduction="mean")(model, *batch)
    for a, b in zip(leaves(mean.grads), every, strict=True):
        np.testing.assert_allclose(a, b.mean(axis=0), rtol=1e-9, atol=1e-11)


def traced(f, *xs):
    return trace(f, [TensorType(x.shape, x.dtype) for x in xs], flatten(tuple(xs))[1], "f").graph


def test_no_gradient_of_a_sample_is_made():
    w, table = draw(30, 40), draw(200, 40)
    words, y = cr.tensor(rng.integers(0, 200, (8, 3))), draw(8, 3, 30)

    def loss(p, words, y):
        return ((cr.take(p[1], words, axis=0) @ p[0].mT - y) ** 2).sum()

    graph = traced(lambda words, y: cr.clipped_grad_sum(loss, 1.0)((w, table), words, y), words, y)
    sizes = [v.size for node in graph.nodes for v in node.outputs]
    assert max(sizes) <= table.size
    plain = traced(lambda words, y: cr.vmap(cr.grad(loss), in_axes=(None, 0, 0))((w, table), words, y), words, y)
    assert max(v.size for node in plain.nodes for v in node.outputs) == 8 * table.size
    # Forward one product, backward two, and two for each of both norms.
    assert sum(node.primitive.name == "dot" for node in graph.nodes) <= 7
    assert not any(node.primitive.name == "scan" for node in graph.nodes)


def test_noise_is_drawn_once_for_each_sample():
    model = nn.Sequential(nn.Linear(3, 40), nn.Dropout(0.5))
    x = cr.ones((4, 3))
    cr.manual_seed(0)
    every = cr.per_sample_grads(square)(model, x)
    cr.manual_seed(0)
    clipped = cr.clipped_grad_sum(square, 1e9)(model, x)
    for a, b in zip(leaves(clipped.grads), leaves(every), strict=True):
        np.testing.assert_allclose(a, b.sum(axis=0), rtol=1e-5)
    assert cr.functions.random.default_generator.numpy()[1] == 1


def test_several_arguments_zero_gradients_and_outer_transforms():
    f = lambda a, x, b: (a * x).sum() * b * (x[0] > 0)  # noqa: E731
    a, x, b = draw(3), cr.concat([draw(4, 3), cr.zeros((1, 3), f64)]), cr.tensor(2.0, dtype=f64)
    every = cr.per_sample_grads(f, argnums=(0, 2))(a, x, b)
    assert [g.shape for g in every] == [(5, 3), (5,)]
    clipped = cr.clipped_grad_sum(f, 0.5, argnums=(0, 2))(a, x, b)
    assert clipped.norms.numpy()[-1] == 0
    assert all(np.isfinite(g).all() for g in leaves(clipped.grads))
    g = lambda a, x: cr.per_sample_grad_norms(lambda a, x: cr.sin(a @ x))(a, x).sum()  # noqa: E731
    cr.check_grads(g, (a, x[:4]))


def test_errors():
    with pytest.raises(ArgumentError, match="reduction"):
        cr.clipped_grad_sum(square, 1.0, reduction="none")
    with pytest.raises(ArgumentError, match="eval mode"):
        cr.per_sample_grad_norms(lambda m, x: square(m, x))(nn.BatchNorm1d(3), draw(4, 2, 3).astype("float32"))
