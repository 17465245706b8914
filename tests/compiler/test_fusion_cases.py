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
