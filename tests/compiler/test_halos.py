"""Images with a border of zeros in their buffers: who gets one, and that nobody who reads them sees it."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler.program import walk

conv = {d: getattr(cr.nn.functional, f"conv{d}d") for d in (1, 2, 3)}


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def keys(function, *arguments):
    program = cr.compile(function).program_for(*arguments)
    return [step.call.code.key for step in walk(program.steps) if step.call]


def same(function, *arguments):
    expected = function(*(cr.tensor(a) for a in arguments))
    for a, b in zip(expected, cr.compile(function)(*arguments), strict=True):
        scale = np.abs(a.numpy()).max() + 1
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=1e-11 * scale)


def gradients(f):
    """The values of ``f`` and its gradients by the image and the kernels."""

    def with_gradients(x, *kernels):
        loss = lambda x, *kernels: sum((y * cr.sin(y)).sum() for y in f(x, *kernels))  # noqa: E731
        return (*f(x, *kernels), *cr.grad(loss, argnums=tuple(range(1 + len(kernels))))(x, *kernels))

    return with_gradients


def test_the_map_before_a_convolution_writes_inside_a_border():
    def f(x, w):
        return conv[2](cr.tanh(x), w, padding=1)

    found = keys(f, array(2, 6, 6, 16), array(8, 3, 3, 16, seed=1))
    assert not [key for key in found if key.startswith("pad")]
    assert [key for key in keys(lambda x, w: conv[2](x, w, padding=1), array(2, 6, 6, 16), array(8, 3, 3, 16))
            if key.startswith("pad")]  # fmt: skip


@pytest.mark.parametrize(
    ("spatial", "kernel", "how"),
    [
        ((7,), (3,), {"padding": 1}),
        ((6, 5), (3, 3), {"padding": 1}),
        ((6, 5), (3, 5), {"padding": (1, 2)}),
        ((6, 5), (2, 2), {"padding": "same"}),
        ((9, 8), (3, 3), {"padding": 2, "dilation": 2}),
        ((9, 8), (3, 3), {"padding": 1, "stride": 2}),
        ((6, 6), (3, 3), {"padding": 1, "groups": 2}),
        ((4, 5, 3), (3, 3, 3), {"padding": 1}),
        ((1, 1), (3, 3), {"padding": 1}),
    ],
)
def test_kinds_of_convolution(spatial, kernel, how):
    d = len(spatial)
    channels = 4 // how.get("groups", 1)

    @gradients
    def f(x, w):
        y = conv[d](cr.tanh(x), w, **how)
        return (cr.relu(y) * 2.0,)

    same(f, array(3, *spatial, 4), 0.3 * array(6, *kernel, channels, seed=1))


def test_several_readers_of_one_image():
    """Two convolutions with other borders, one without, a residual, and reductions over each set of axes."""

    @gradients
    def f(x, w, v, u):
        h = cr.tanh(x)
        a, b = conv[2](h, w, padding=1), conv[2](h, v, padding=2)
        c = conv[2](h, u, stride=2)
        return a + h, b * h.sum(axis=(0, 1, 2)), c, h.max(axis=-1), h.sum(axis=(1, 2)), h.sum()

    same(f, array(2, 6, 6, 4), array(4, 3, 3, 4, seed=1), array(4, 5, 5, 4, seed=2), array(3, 1, 1, 4, seed=3))


def test_a_chain_of_convolutions_with_batch_norm():
    @gradients
    def f(x, w, v):
        for kernel in (w, v, w):
            x = conv[2](x, kernel, padding=1)
            x = cr.relu((x - x.mean(axis=(0, 1, 2))) * cr.rsqrt(x.var(axis=(0, 1, 2)) + 1e-5))
        return (x,)

    same(f, array(4, 6, 6, 4), array(4, 3, 3, 4, seed=1), array(4, 3, 3, 4, seed=2))


def test_in_a_loop_and_behind_a_bias():
    def f(x, w, b):
        def body(h, _):
            return conv[2](cr.relu(h + b), w, padding=1), h.sum()

        return cr.scan(body, x, None, length=3)

    same(f, array(2, 5, 5, 4), 0.3 * array(4, 3, 3, 4, seed=1), array(4, seed=2))


def test_a_result_of_the_function_has_no_border():
    def f(x, w):
        h = cr.tanh(x)
        return conv[2](h, w, padding=1), h, cr.reshape(h, (-1,))

    same(f, array(2, 5, 5, 4), array(4, 3, 3, 4, seed=1))


def test_windows_that_are_added_up_need_no_zeros():
    """The gradient of a convolution without padding would read an image of zeros for the most part."""
    x, w = np.ones((4, 12, 12, 20), np.float32), np.ones((50, 5, 5, 20), np.float32)

    def f(x):
        return cr.relu(cr.nn.functional.conv2d(x, w)).sum()

    program = cr.compile(cr.grad(f)).program_for(x)
    keys = [step.call.code.key for step in walk(program.steps) if step.call is not None]
    assert any(key.startswith("fold") for key in keys)
    np.testing.assert_allclose(cr.compile(cr.grad(f))(x).numpy(), cr.grad(f)(x).numpy(), rtol=1e-5)
