"""The networks of the benchmarks give the same losses compiled, step after step."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

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
    sys.path.append(str(PATH.parent))  # of its harness
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


benchmark_networks = _load()

# Samples, so few that twenty eager steps take less than a minute (None for all), and dtype. In batch norm NumPy adds up
# float32 numbers one after the other; the error of that, not the compiler's, would be what is seen, and grow.
COMPARED = {
    "w1": (None, "float32"), "w2": (None, "float32"), "w3": (None, "float32"), "w4": (8, "float64"),
    "w5": (None, "float32"), "w6": (8, "float32"), "w7": (4, "float32"), "w8": (None, "float32"),
    "w9": (4, "float64"),
}  # fmt: skip


def losses(name: str, batch: int | None, dtype: str, steps: int, wrap: Any = cr.compile) -> list[float]:
    network = benchmark_networks.network(name, batch, dtype)
    step = wrap(network.step)
    return [step(*network.arguments).item() for _ in range(steps)]


def eager(function: Any) -> Any:
    return function


def agree(name: str, batch: int | None, dtype: str, steps: int) -> None:
    expected = losses(name, batch, dtype, steps, eager)
    found = losses(name, batch, dtype, steps)
    assert len(set(expected)) == steps  # it trains
    if dtype == "float32":
        # Beside one part in ten thousand, some roundings of the numbers around 1 whose differences are the losses.
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        np.testing.assert_allclose(losses(name, batch, "float32", 3), expected[:3], rtol=1e-4)


def test_all_networks_are_compared():
    assert list(COMPARED) == list(benchmark_networks.WORKLOADS)


@pytest.mark.parametrize(("name", "batch"), [("w1", None), ("w3", 4), ("w5", 2), ("w6", 1)])
def test_three_steps_agree(name, batch):
    agree(name, batch, "float32", 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPARED)
def test_twenty_steps_agree(name):
    agree(name, *COMPARED[name], 20)
