"""Products with curvature matrices are those of the matrices."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import ArgumentError, ShapeError

rng = np.random.default_rng(0)
both = pytest.mark.parametrize("wrap", [lambda f: f, cr.compile], ids=["eager", "compiled"])


def draw(*shape):
    return cr.tensor(rng.standard_normal(shape))


X, W, V, LABELS = draw(5, 3), draw(3, 4), draw(3, 4), cr.tensor([0, 3, 1, 1, 2])
JACOBIAN = cr.jacobian(lambda w: cr.tanh(X @ w).reshape(-1))(W).numpy().reshape(20, 12)


def model(w):
    return cr.tanh(X @ w)


def close(a, b):
    np.testing.assert_allclose(a.numpy().reshape(-1), b, rtol=1e-9, atol=1e-12)


@both
def test_gauss_newton(wrap):
    loss = lambda z: (cr.exp(z) * z[0, 0]).sum()  # noqa: E731
    middle = cr.hessian(loss)(model(W)).numpy().reshape(20, 20)
    found = wrap(lambda w, v: cr.gnvp(model, loss, (w,), (v,)))(W, V)
    close(found, JACOBIAN.T @ middle @ JACOBIAN @ V.numpy().reshape(-1))


@both
def test_with_a_linear_model_it_is_the_hessian(wrap):
    layer = nn.Linear(3, 4, dtype="float64")
    v = cr.tree_map(lambda p: draw(*p.shape), layer.parameter_tree())
    loss = lambda z: nn.functional.cross_entropy(z, LABELS)  # noqa: E731
    expected = cr.hvp(lambda m: loss(m(X)), (layer,), (v,))
    found = wrap(lambda v: cr.gnvp(lambda m: m(X), loss, (layer,), (v,)))(v)
    fisher = wrap(lambda v: cr.fvp(lambda m: m(X), (layer,), (v,)))(v)
    for name, g in expected.flat().items():
        close(found[name], g.numpy().reshape(-1))
        close(fisher[name], g.numpy().reshape(-1))


@pytest.mark.parametrize("distribution", ["categorical", "bernoulli", "normal"])
def test_fisher_is_the_mean_square_of_scores_over_the_own_distribution(distribution):
    z = model(W).numpy()
    middle = np.zeros((5, 4, 5, 4))
    for n in range(5):
        if distribution == "categorical":
            p = np.exp(z[n]) / np.exp(z[n]).sum()
            scores = np.eye(4) - p
            middle[n, :, n] = sum(p[k] * np.outer(scores[k], scores[k]) for k in range(4))
        elif distribution == "bernoulli":
            p = 1 / (1 + np.exp(-z[n]))
            middle[n, :, n] = np.diag(p * (1 - p) ** 2 + (1 - p) * p**2)
        else:
            middle[n, :, n] = np.eye(4)
    total = JACOBIAN.T @ middle.reshape(20, 20) @ JACOBIAN @ V.numpy().reshape(-1)
    close(cr.fvp(model, (W,), (V,), distribution, reduction="sum"), total)
    close(cr.fvp(model, (W,), (V,), distribution), total / 5)


@both
def test_empirical_fisher(wrap):
    losses = lambda w: nn.functional.cross_entropy(model(w), LABELS, reduction="none")  # noqa: E731
    every = cr.jacobian(losses)(W).numpy().reshape(5, 12)
    total = every.T @ every @ V.numpy().reshape(-1)
    close(wrap(lambda w, v: cr.empirical_fvp(losses, (w,), (v,), reduction="sum"))(W, V), total)
    close(cr.empirical_fvp(losses, (W,), (V,)), total / 5)


def test_the_matrix_by_vmap_over_vectors():
    units = cr.tensor(np.eye(12).reshape(12, 3, 4))
    f = lambda v: cr.fvp(model, (W,), (v,), "normal", reduction="sum")  # noqa: E731
    close(cr.vmap(f)(units), (JACOBIAN.T @ JACOBIAN).reshape(-1))


def test_several_arguments():
    f = lambda a, b: a * b  # noqa: E731
    a, b = draw(3), draw(3)
    found = cr.gnvp(f, lambda y: (y**2).sum(), (a, b), (a, b))
    close(found[0], (4 * a * b * b).numpy())
    close(found[1], (4 * a * a * b).numpy())


def test_errors():
    with pytest.raises(ArgumentError, match="categorical, bernoulli, normal"):
        cr.fvp(model, (W,), (V,), "softmax")
    with pytest.raises(ArgumentError, match="reduction"):
        cr.fvp(model, (W,), (V,), reduction="none")
    with pytest.raises(ArgumentError, match="reduction"):
        cr.empirical_fvp(model, (W,), (V,), reduction="none")
    with pytest.raises(ShapeError, match="each sample"):
        cr.empirical_fvp(lambda w: model(w).sum(), (W,), (V,))
    with pytest.raises(ShapeError, match="outputs"):
        cr.fvp(lambda w: model(w).sum(), (W,), (V,))
