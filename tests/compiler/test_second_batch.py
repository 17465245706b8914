"""Another batch size is another table of the same kernels: nothing is compiled, and the numbers are right.

Kernels know how many dimensions there are, not how long they are. A batch of one sample has a dimension less, and few
rows have a register tile of their own; so these may need a few kernels, once.
"""

from __future__ import annotations

from typing import Any

import both_modes
import networks
import pytest

import chainrule as cr
from chainrule.compiler import engine

FIRST = 32
OTHERS = (17, 31, 9, 7)  # among them those of a last batch: odd, prime, short


def made() -> int:
    """How many kernels have come to this process, compiled or from the cache."""
    statistics = engine.statistics()
    return statistics.compiled + statistics.loaded


@pytest.fixture
def pair(request: Any) -> tuple[networks.Network, networks.Network]:
    """Two equal networks."""
    found = []
    for _ in range(2):
        cr.manual_seed(2)
        found.append(networks.NETWORKS[request.param]())
    return found[0], found[1]


def agree(pair: Any, step: Any, size: int) -> None:
    """A step on a batch of this size gives the same loss and state in both modes."""
    eager, compiled = pair
    generator = cr.functions.random.default_generator
    before = generator.numpy()
    expected = eager.step(*eager.batch(size, size))
    generator.assign(cr.asarray(before))
    both_modes.same(expected, step(*compiled.batch(size, size)), factor=10)
    both_modes.same(both_modes.states(*eager.holders), both_modes.states(*compiled.holders), factor=10)


each = pytest.mark.parametrize("pair", networks.NETWORKS, indirect=True)


@each
def test_another_batch_size_compiles_nothing(pair):
    step = cr.compile(pair[1].step)
    agree(pair, step, FIRST)
    before = made()
    for size in OTHERS:
        agree(pair, step, size)
        assert made() == before, f"{made() - before} kernels for a batch of {size}"
    agree(pair, step, FIRST)
    assert len(step.programs) == 1 + len(OTHERS)


@each
def test_batches_of_few_samples(pair):
    step = cr.compile(pair[1].step)
    for size in (2, 1, 4, 1):
        agree(pair, step, size)


@each
def test_evaluation_with_another_batch_size_compiles_nothing(pair):
    network = pair[0]
    network.model.eval()
    evaluate = cr.compile(network.loss)
    with cr.no_grad():
        evaluate(*network.batch(0, FIRST))
        before = made()
        for size in OTHERS:
            both_modes.same(network.loss(*network.batch(1, size)), evaluate(*network.batch(1, size)))
        assert made() == before
