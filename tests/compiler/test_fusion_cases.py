"""Programs in which operations that share a loop, or a kernel that is shared, meet something unusual."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler import engine
from chainrule.compiler.program import walk


def array(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def assert_agrees(function, *arguments):
    expected, found = function(*map(cr.tensor, arguments)), cr.compile(function)(*arguments)
    pairs = [(expected, found)] if isinstance(expected, cr.Tensor) else zip(expected, found, strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-5, atol=1e-5)


def test_what_a_cluster_reads_is_made_before_it():
    def f(x, y):
        made = cr.sin(cr.cumulative_sum(x, axis=1))
        part = made[0] * 3.0  # a younger loop of 8 elements, which `y * 2` fits, and the product with it does not
        return made * (y * 2.0), part

    assert_agrees(f, array(4, 8), array(8))


@pytest.mark.parametrize("ending", [lambda y: y.sum(), lambda y: cr.cumulative_sum(y, axis=0) * y, lambda y: y])
def test_a_long_chain_of_maps_of_arguments(ending):
    def f(x):
        for _ in range(1500):
            x = cr.sin(x) + 0.01
        return ending(x)

    assert_agrees(f, array(3))


def test_sums_over_one_axis_and_over_two_are_different_code():
    x, y = array(6, 5, 48), array(6, 1, 48)
    text: dict[str, str] = {}
    for axes in ((0, 1), 0):
        program = cr.compile(lambda x, y, axes=axes: (x * y).sum(axis=axes)).program_for(x, y)
        for step in walk(program.steps):
            if step.call is not None:
                code = step.call.code
                assert text.setdefault(code.key, engine.engine().assembly(code)) == engine.engine().assembly(code)


@pytest.mark.parametrize(
    "shape",
    [(1, 7, 4), (1, 7, 1), (2, 1, 1), (1, 1, 4), (1, 5, 1, 1), (2, 5, 1, 1), (1, 1, 5, 3), (2, 1, 1, 1), (1, 1, 1, 4)],
)
def test_a_bordered_image_with_axes_of_one(shape):
    conv = cr.nn.functional.conv1d if len(shape) == 3 else cr.nn.functional.conv2d
    kernel = array(2, *[3] * (len(shape) - 2), shape[-1])
    assert_agrees(lambda x, w: conv(cr.relu(x * 1.5 + 0.1), w, padding=1), array(*shape), kernel)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 5, 5, 1), (2, 5, 5, 3), (1, 1, 5, 3)])
def test_a_bordered_image_made_by_a_convolution_with_one_channel(shape):
    conv = cr.nn.functional.conv2d
    assert_agrees(
        lambda x, w, v: conv(cr.relu(conv(x, w, padding=1)), v, padding=1),
        array(*shape), array(1, 3, 3, shape[-1]), array(2, 3, 3, 1),
    )  # fmt: skip


def test_a_product_of_which_only_an_empty_part_is_used():
    assert_agrees(lambda x, w: (cr.relu(x @ w)[2:2] * 2.0, x + 1.0), array(5, 4), array(4, 3))


def _kernels(function, *arguments):
    """The names of the operations of each kernel."""
    program = cr.compile(function).program_for(*arguments)
    made = {id(step.ops): step.ops for step in walk(program.steps) if step.call is not None}
    return [[op.name for op in ops] for ops in made.values()]


def test_the_slope_of_an_activation_joins_the_product_that_it_multiplies():
    def f(x, w, v):
        return (cr.tanh(x @ w) @ v).sum()

    x, w, v = array(32, 20), array(20, 48), array(48, 16)
    gradient = cr.grad(f, argnums=(1, 2))
    kernels = _kernels(gradient, x, w, v)
    assert any(names[0] == "dot" and "square" in names for names in kernels)
    assert not any(names[0] == "square" for names in kernels)
    assert_agrees(gradient, x, w, v)


def test_what_is_cheap_is_made_again_by_what_reads_it():
    def f(x):
        half = x * 0.5  # read by the sums and, after them, by the last loop
        return (half - half.sum(axis=0)) / (half * half).sum(axis=0)

    x = array(200, 48)
    program = cr.compile(f).program_for(x)
    stored = {v for step in walk(program.steps) for b, _ in step.buffers if (v := b.value) is not None}
    assert not any(v.shape == x.shape and v.node.primitive.name == "multiply" for v in stored if v.node)
    assert_agrees(f, x)


def test_what_is_dear_or_wider_to_read_is_stored():
    def f(x):
        dear = cr.exp(x)
        return (dear - dear.sum(axis=0)) / (dear * dear).sum(axis=0)

    kernels = _kernels(f, array(200, 48))
    assert sum("exp" in names for names in kernels) == 1
    assert_agrees(f, array(200, 48))

    def g(x):
        mask = x > 0.5  # one byte, where x has eight
        return cr.where(mask, cr.cumulative_sum(mask.astype("float32"), axis=0), 0.0)

    assert_agrees(g, array(200, 48).astype(np.float64))


def test_a_value_for_each_channel_is_made_before_the_loops_that_repeat_it():
    norm = cr.nn.BatchNorm2d(16)
    x = array(8, 12, 12, 16)
    kernels = _kernels(cr.grad(lambda x: (norm(x) * x).sum()), x)
    large = [names for names in kernels if "reduce_sum" not in names and len(names) > 2 and "subtract" in names]
    assert len(large) == 1, kernels  # the whole gradient by the images is one loop after the sums


@pytest.mark.parametrize("shape", [(4096, 20), (8, 256, 50), (1024, 3), (300, 16), (2048, 1), (600, 130)])
def test_sums_of_few_columns(shape):
    """Several rows are added up as one where all that is read goes on so."""
    axes = tuple(range(len(shape) - 1))

    def f(x, y, z):
        chosen = cr.where(x > 0, y, 0.0)
        return chosen, chosen.sum(axis=axes), (x * y).sum(axis=axes), (y * z).sum(axis=axes), x.sum()

    x, y, z = (np.round(array(*of) * 3) for of in (shape, shape, shape[-1:]))  # whole numbers, whose sums are exact
    assert_agrees(f, x, y, z)
    assert_agrees(lambda x, y: f(x, y, 2.0), x, y)


def test_rows_of_few_columns_are_added_up_together():
    def rows(columns, scale=None):
        f = cr.compile(lambda x, y: (x * y).sum(axis=0))
        program = f.program_for(array(4096, columns), array(*(scale or (4096, columns))))
        calls = [step.call for step in walk(program.steps) if step.call is not None]
        return next(call.words[0] for call in calls if call.code.key.startswith("loop"))

    assert [rows(n) for n in (16, 20, 50, 64, 100, 128, 130)] == [128, 160, 400, 128, 400, 128, 130]
    assert rows(16, (16,)) == 128  # of y, which has one row, this is eight times the same
    assert rows(20, (20,)) == 20  # would not begin with a lane there
