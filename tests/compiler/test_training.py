"""Whole training steps give the same losses and weights compiled, step after step."""

from __future__ import annotations

from typing import Any

import both_modes
import networks
import numpy as np
import pytest

import chainrule as cr

STEPS = 20


def train(name: str, wrap: Any) -> tuple[list[float], list[dict[str, np.ndarray]]]:
    """Losses and states of some steps, half of them in evaluation mode in between."""
    network = networks.NETWORKS[name]()
    step = wrap(network.step)
    losses, states = [], []
    for i in range(STEPS):
        losses.append(step(*network.batch(i % 3, 8)).item())
        states.append(both_modes.states(*network.holders))
    return losses, states


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_twenty_steps_agree(name):
    (losses, states), (found, found_states) = both_modes.both(lambda wrap: train(name, wrap))
    np.testing.assert_allclose(found, losses, rtol=0, atol=1e-10 if name.endswith("64") else 1e-4)
    for i, (expected, state) in enumerate(zip(states, found_states, strict=True)):
        for key, value in expected.items():
            error = np.abs(value.astype(np.float64) - state[key]).max(initial=0) / max(1, np.abs(value).max(initial=0))
            assert error <= 1e-4, (i, key, error)
    assert losses[-1] != losses[0]


@pytest.mark.parametrize("name", ["residual", "transformer"])
def test_evaluation_between_training_steps(name):
    """Two programs on the same cells."""

    def run(wrap: Any) -> Any:
        network = networks.NETWORKS[name]()
        step, evaluate = wrap(network.step), wrap(network.loss)
        found = []
        for i in range(4):
            found.append(step(*network.batch(i, 6)))
            network.model.eval()
            with cr.no_grad():
                found.append(evaluate(*network.batch(9, 5)))
            network.model.train()
        return found

    both_modes.same(*both_modes.both(run), factor=10)
