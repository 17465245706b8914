"""What a library starts from, in a file: weights, data, and what is to be made of them. Needs NumPy alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Job(NamedTuple):
    """A training step to be made.

    Attributes:
        how: ``model`` with ``sizes``, ``optimizer`` (name and settings), ``loss``, and whether there are ``images``;
            ``flattened`` as in `networks.Workload`.
        weights: all first parameters by name, in PyTorch's layout.
        data: the arguments of a step, the target last; images are channels-last.
    """

    how: dict[str, Any]
    weights: dict[str, np.ndarray]
    data: tuple[np.ndarray, ...]


def save(job: Job, path: Path) -> None:
    arrays = {f"weight {name}": value for name, value in job.weights.items()}
    arrays |= {f"data {i}": value for i, value in enumerate(job.data)}
    np.savez(path, how=np.array(json.dumps(job.how)), **arrays)


def load(path: Path) -> Job:
    with np.load(path) as file:
        found = {kind: {} for kind in ("weight", "data")}
        for key in file.files:
            kind, _, name = key.partition(" ")
            if kind in found:
                found[kind][name] = file[key]
        return Job(json.loads(str(file["how"])), found["weight"], tuple(found["data"].values()))
