"""Run the same code eagerly and compiled, and compare what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import chainrule as cr

# The error allowed, relative to the size of the numbers that are added up, which is 1 or the largest in an array.
TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}


def flat(tree: Any, path: str = "") -> dict[str, np.ndarray]:
    """The arrays of nested containers, by where they are."""
    if isinstance(tree, Mapping):
        return {k: v for key, part in tree.items() for k, v in flat(part, f"{path}.{key}").items()}
    if isinstance(tree, (list, tuple)):
        return {k: v for i, part in enumerate(tree) for k, v in flat(part, f"{path}.{i}").items()}
    return {} if tree is None else {path.lstrip("."): np.asarray(tree.numpy() if isinstance(tree, cr.Tensor) else tree)}


def differences(expected: Any, found: Any, factor: float = 1.0) -> list[str]:
    """What differs by more than ``factor`` times the tolerance of its dtype, in words."""
    a, b = flat(expected), flat(found)
    problems = [f"{name}: only in one" for name in a.keys() ^ b.keys()]
    for name in a.keys() & b.keys():
        problem = difference(a[name], b[name], factor)
        if problem:
            problems.append(f"{name}: {problem}")
    return sorted(problems)


def difference(expected: np.ndarray, found: np.ndarray, factor: float = 1.0) -> str | None:
    """How two arrays differ, or None."""
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return f"{expected.dtype}{expected.shape} became {found.dtype}{found.shape}"
    if expected.dtype.name not in TOLERANCE:
        return None if np.array_equal(expected, found) else f"{np.sum(expected != found)} elements differ"
    x, y = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(x)
    if not np.array_equal(x[~finite], y[~finite], equal_nan=True):
        return "infinities or NaNs differ"
    x, y = x[finite], y[finite]
    if not x.size:
        return None
    error = np.abs(x - y).max() / max(1.0, np.abs(x).max())
    return None if error <= factor * TOLERANCE[expected.dtype.name] else f"error {error:.2g}"


def same(expected: Any, found: Any, factor: float = 1.0) -> None:
    """Assert that two nested containers hold the same numbers."""
    problems = differences(expected, found, factor)
    assert not problems, "\n".join(problems)


def states(*holders: Any) -> dict[str, np.ndarray]:
    """Copies of all cells of modules and optimizers, and of the random generator."""
    found = {"generator": cr.functions.random.default_generator.numpy()}
    for i, holder in enumerate(holders):
        for name, cell in holder.state_dict().items() if isinstance(holder, cr.nn.Module) else _cells(holder):
            found[f"{i}.{name}"] = np.array(cell.numpy())
    return found


def _cells(opt: Any) -> list[tuple[str, Any]]:
    found = [(f"{n}.{name}", cell) for n, cells in enumerate(opt.state.values()) for name, cell in cells.items()]
    return [*found, *((f"group{i}.lr", group["lr"]) for i, group in enumerate(opt.param_groups))]


def both(run: Callable[[Callable[..., Any]], Any]) -> tuple[Any, Any]:
    """The results of ``run`` with functions as they are and with functions compiled, from the same random state."""
    results = []
    for wrap in (lambda f: f, cr.compile):
        cr.manual_seed(0)
        results.append(run(wrap))
    return results[0], results[1]
