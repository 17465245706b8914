"""The networks of the benchmarks give the same losses compiled, step after step."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import chainrule as cr

PATH = Path(__file__).parents[2] / "benchmarks" / "networks.py"


def _load() -> ModuleType:
    """The module; under a name of its own, since the tests have a `networks` too."""
    spec = importlib.util.spec_from_file_location("benchmark_networks", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


benchmark_networks = _load()

# Samples for which twenty eager steps take less than a minute; None for all.
BATCH = {"w1": None, "w2": None, "w3": None, "w4": 16, "w5": None, "w6": 8, "w7": 4, "w8ce": None, "w9": 8}


def losses(name: str, batch: int | None, steps: int, compiled: bool) -> list[float]:
    network = benchmark_networks.network(name, batch)
    step = cr.compile(network.step) if compiled else network.step
    return [step(*network.arguments).item() for _ in range(steps)]


def agree(name: str, batch: int | None, steps: int) -> None:
    expected = losses(name, batch, steps, compiled=False)
    found = losses(name, batch, steps, compiled=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert len(set(expected)) == steps  # it trains


def test_all_networks_are_compared():
    assert list(BATCH) == list(benchmark_networks.WORKLOADS)


@pytest.mark.parametrize(("name", "batch"), [("w1", None), ("w3", 4), ("w5", 2), ("w6", 1)])
def test_three_steps_agree(name, batch):
    agree(name, batch, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", BATCH)
def test_twenty_steps_agree(name):
    agree(name, BATCH[name], 20)
