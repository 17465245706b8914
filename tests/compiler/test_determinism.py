"""The same bits in every run, and for every number of threads."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import both_modes
import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.compiler import threads
from chainrule.compiler.program import walk
from chainrule.nn import functional

STEPS = 200


def network() -> tuple[Any, Any]:
    """A network with dropout and batch norm, of a size at which kernels run in parallel."""
    cr.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(16 * 16, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10),
    )  # fmt: skip
    return model, optim.Adam(model.parameters(), lr=1e-3)


def batch(i: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(i)
    return rng.standard_normal((64, 8, 8, 3)).astype(np.float32), rng.integers(0, 10, 64)


def train(steps: int = STEPS, wrap: Any = cr.compile) -> tuple[dict[str, np.ndarray], Any]:
    """The state after training, and the function that trains."""
    model, opt = network()

    @wrap
    def step(x: Any, y: Any) -> Any:
        loss = functional.cross_entropy(model(cr.asarray(x)), cr.asarray(y))
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    batches = [batch(i) for i in range(8)]
    for i in range(steps):
        step(*batches[i % 8])
    return both_modes.states(model, opt), step


def digest(state: dict[str, np.ndarray]) -> str:
    found = hashlib.sha256()
    for name in sorted(state):
        found.update(name.encode())
        found.update(state[name].tobytes())
    return found.hexdigest()


@pytest.fixture
def number_of_threads():
    before = threads.get_num_threads()
    yield threads.set_num_threads
    threads.set_num_threads(before)


def test_runs_and_numbers_of_threads_give_the_same_bits(number_of_threads):
    found = []
    for count in (1, 1, 2, 4):
        number_of_threads(count)
        state, step = train()
        found.append(state)
    calls = [s.call for s in walk(step.programs[0].steps) if s.call is not None]
    assert sum(call.ns > threads.PARALLEL_THRESHOLD and call.items > call.grain for call in calls) >= 5
    assert all(np.isfinite(array).all() for array in found[0].values())
    for other in found[1:]:
        assert [name for name in found[0] if not np.array_equal(found[0][name], other[name])] == []


def test_other_processes_give_the_same_bits(number_of_threads):
    """With the number of threads from the environment, and kernels from the cache or compiled anew."""
    number_of_threads(1)
    expected = digest(train(40)[0])
    code = "import test_determinism as t; print(t.digest(t.train(40)[0]))"
    for count in ("2", "3"):
        environment = {**os.environ, "CHAINRULE_NUM_THREADS": count}
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=Path(__file__).parent, env=environment, capture_output=True, text=True
        )
        assert run.stdout.split() == [expected], run.stderr


def test_parallel_kernels_agree_with_eager_mode(number_of_threads):
    number_of_threads(3)
    both_modes.same(train(3, lambda f: f)[0], train(3)[0], factor=20)
