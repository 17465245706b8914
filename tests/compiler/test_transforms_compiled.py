"""Transforms inside of compiled functions: derivatives of any order and mode, checkpoints, own rules, modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from agree import Case, agree, check

import chainrule as cr
from chainrule import nn

_rng = np.random.default_rng(9)


def normal(*shape: int) -> np.ndarray:
    return np.asarray(_rng.standard_normal(shape))


def smooth(x: Any) -> Any:
    """A scalar whose derivatives of every order are full."""
    return (cr.tanh(x) * cr.roll(cr.exp(x * 0.3), 1)).sum() + cr.softmax(x)[0] * cr.log(1 + (x * x).sum())


W, X, T = normal(4, 5), normal(5), normal(5)


# --- derivatives ------------------------------------------------------------------------------------------


def derivatives(x: Any, t: Any) -> list[Any]:
    grad = cr.grad(smooth)
    found = [
        cr.value_and_grad(smooth)(x),
        cr.jvp(smooth, (x,), (t,)),
        cr.hvp(smooth, (x,), (t,)),
        cr.hessian(smooth)(x),
    ]
    found += [cr.grad(lambda v: (grad(v) * t).sum())(x), cr.jvp(grad, (x,), (t,)), cr.vjp(grad, x)[1](t)]
    return [*found, cr.grad(lambda v: cr.jvp(smooth, (v,), (t,))[1])(x)]


def jacobians(w: Any, x: Any) -> list[Any]:
    def layer(x: Any) -> Any:
        return cr.sin(w @ x) * x[:4]

    return [
        cr.jacobian(layer)(x),
        cr.jacfwd(layer)(x),
        cr.jacrev(layer)(x),
        cr.jacobian(lambda v: layer(x) * v.sum())(w),
    ]


def third_order(x: Any) -> Any:
    def derivative(f: Any) -> Any:
        return lambda v: cr.grad(f)(v).sum()

    return derivative(derivative(derivative(smooth)))(x)


def several_arguments(w: Any, x: Any) -> Any:
    def loss(parameters: Any, x: Any) -> Any:
        return cr.tanh(parameters["w"] @ x + parameters["b"]).sum()

    return cr.value_and_grad(loss, argnums=(0, 1))({"w": w, "b": w[:, 0]}, x)


def gradient_penalty(w: Any, x: Any) -> Any:
    def penalty(w: Any) -> Any:
        slope = cr.grad(lambda v: cr.tanh(w @ v).sum())(x)
        return (cr.sqrt((slope * slope).sum()) - 1) ** 2

    return cr.value_and_grad(penalty)(w)


def stopped(x: Any) -> Any:
    def loss(x: Any) -> Any:
        with cr.no_grad():
            scale = cr.exp(x).sum()
        return (x * scale * cr.stop_gradient(x)).sum()

    return cr.value_and_grad(loss)(x)


CASES = [
    Case("derivatives", derivatives, [X, T]), Case("jacobians", jacobians, [W, X]),
    Case("third_order", third_order, [X]), Case("several_arguments", several_arguments, [W, X]),
    Case("gradient_penalty", gradient_penalty, [W, X]),
    Case("stopped", stopped, [X]),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_derivatives_agree(case):
    check([case])


def test_a_compiled_function_in_a_transform():
    """Within a transform it is its Python function; a compiled function of such a transform is one program."""
    inner = cr.compile(smooth)
    outer = cr.compile(lambda x: cr.grad(inner)(x))
    expected = cr.grad(smooth)(cr.asarray(X)).numpy()
    np.testing.assert_allclose(cr.grad(inner)(cr.asarray(X)).numpy(), expected, rtol=1e-14)
    np.testing.assert_allclose(outer(X).numpy(), expected, rtol=1e-13)
    assert len(inner.programs) == 0


# --- checkpoint, rules of the user ------------------------------------------------------------------------


def test_checkpoint_agrees():
    def block(x: Any, w: Any) -> Any:
        return cr.tanh(x @ w) + x

    def loss(x: Any, w: Any) -> Any:
        for _ in range(3):
            x = cr.checkpoint(block)(x, w)
        return cr.checkpoint(lambda v: (v * v).sum())(x)

    agree(lambda x, w: cr.value_and_grad(loss, argnums=(0, 1))(x, w), normal(6, 5), normal(5, 5) * 0.5)
    agree(lambda x, w: cr.grad(lambda v: (cr.grad(loss)(v, w) ** 2).sum())(x), normal(6, 5), normal(5, 5) * 0.5)


def test_checkpoint_draws_the_same_mask_twice():
    def dropped(x: Any, generator: Any) -> Any:
        return cr.nn.functional.dropout(cr.sin(x), 0.5, generator=generator)

    results = []
    for compile in (lambda f: f, cr.compile):
        generator = cr.Generator(3)
        step = compile(
            lambda x, g=generator: cr.value_and_grad(lambda v: cr.checkpoint(lambda u: dropped(u, g))(v).sum())(x)
        )
        results.append([out.numpy() for _ in range(2) for out in step(np.ones(40))])
    for eager, native in zip(*results, strict=True):
        np.testing.assert_allclose(native, eager, rtol=1e-14)
    assert (results[1][1] == 0).any()
    assert not np.array_equal(results[1][1], results[1][3])


def test_custom_vjp_agrees():
    clipped = cr.custom_vjp(
        lambda x: cr.sin(x), lambda x: (cr.sin(x), x), lambda x, ct: (cr.clip(ct * cr.cos(x), -0.1, 0.1),)
    )
    pair = cr.custom_vjp(
        lambda a, b: (a * b, a + b),
        lambda a, b: ((a * b, a + b), (a, b)),
        lambda kept, cts: (cts[0] * kept[1] * 2, cts[1]),
    )

    def function(x: Any, y: Any) -> list[Any]:
        found = [
            cr.value_and_grad(lambda v: (clipped(v) * y).sum())(x),
            cr.hessian(lambda v: (clipped(v) * v).sum())(x),
        ]
        found.append(cr.value_and_grad(lambda a, b: (pair(a, b)[0] * pair(b, a)[1]).sum(), argnums=(0, 1))(x, y))
        return [*found, cr.grad(lambda v: cr.scan(lambda c, u: (clipped(c) + u, c), v.sum(), y)[1].sum())(x)]

    agree(function, normal(4), normal(4))


def test_callback_agrees():
    def cube(x: Any) -> Any:
        return cr.callback(lambda a: a**3, x.shape, "float64", x, vjp=lambda ct, a: (3 * ct * a**2,))

    agree(lambda x: cr.value_and_grad(lambda v: (cube(cr.sin(v)) * v).sum())(x), normal(7))


# --- modules ----------------------------------------------------------------------------------------------


def model() -> Any:
    cr.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.LayerNorm(7), nn.Linear(7, 3))


def test_gradients_of_a_module_agree():
    net = model()

    def function(x: Any) -> Any:
        return cr.value_and_grad(lambda m, v: (m(v) ** 2).sum(), argnums=(0, 1))(net, x)

    value, (tree, gx) = cr.compile(function)(normal(4, 5).astype(np.float32) * 0 + 0.5)
    expected, (wanted, ex) = function(cr.full((4, 5), 0.5))
    np.testing.assert_allclose(value.numpy(), expected.numpy(), rtol=1e-5)
    np.testing.assert_allclose(gx.numpy(), ex.numpy(), rtol=1e-4, atol=1e-5)
    for name, g in wanted.flat().items():
        np.testing.assert_allclose(tree[name].numpy(), g.numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


def test_functional_call_agrees():
    net = model()
    tree = {name: p.numpy() * 1.25 for name, p in net.named_parameters()}

    def function(tree: Any, x: Any) -> Any:
        def loss(tree: Any) -> Any:
            return (cr.functional_call(net, tree, x) ** 2).mean()

        return cr.value_and_grad(loss)(tree), cr.jvp(loss, (tree,), (tree,))

    given = cr.compile(function)(tree, normal(4, 5).astype(np.float32) * 0 + 0.25)
    expected = function({k: cr.asarray(v) for k, v in tree.items()}, cr.full((4, 5), 0.25))
    (value, grads), (_, tangent) = given
    (wanted, wanted_grads), (_, wanted_tangent) = expected
    np.testing.assert_allclose(value.numpy(), wanted.numpy(), rtol=1e-5)
    np.testing.assert_allclose(tangent.numpy(), wanted_tangent.numpy(), rtol=1e-4)
    for name in tree:
        np.testing.assert_allclose(grads[name].numpy(), wanted_grads[name].numpy(), rtol=1e-4, atol=1e-6, err_msg=name)


def test_backward_in_a_compiled_function_agrees():
    results = []
    for compile in (lambda f: f, cr.compile):
        w = cr.Parameter(cr.asarray(W))

        @compile
        def step(x, w=w):
            loss = cr.tanh(w @ x).sum()
            w.grad = None
            loss.backward()
            slope = w.grad
            w.assign(w - 0.1 * slope)
            return loss, slope

        results.append([out.numpy() for _ in range(3) for out in step(X)] + [w.numpy()])
    for eager, native in zip(*results, strict=True):
        np.testing.assert_allclose(native, eager, rtol=1e-12, atol=1e-14)
