"""Nested containers of tensors: how transforms take arguments and return results."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, cast

from ..errors import ArgumentError, DTypeError
from ..registry import F
from ..tensor.cells import Cell, Snapshot
from ..tensor.tensor import Tensor

NAMESPACE = "chainrule"


class ParameterTree(dict):
    """Nested dict of one tensor per parameter, in the structure of a module.

    ``tree["0"]["weight"]`` and ``tree["0.weight"]`` are the same entry; `flat` lists all by their dotted names, which
    are those of ``named_parameters()``.

    >>> tree = ParameterTree.from_flat({"0.weight": 1.0, "0.bias": 2.0})
    >>> tree["0"]["bias"], tree["0.bias"], list(tree.flat())
    (2.0, 2.0, ['0.weight', '0.bias'])
    """

    def __getitem__(self, key: str) -> Any:
        if key in self or "." not in key:
            return super().__getitem__(key)
        first, _, rest = key.partition(".")
        return super().__getitem__(first)[rest]

    def flat(self, prefix: str = "") -> dict[str, Any]:
        """Return ``{"0.weight": ..., "0.bias": ...}``."""
        found: dict[str, Any] = {}
        for key, value in self.items():
            if isinstance(value, ParameterTree):
                found.update(value.flat(f"{prefix}{key}."))
            else:
                found[prefix + key] = value
        return found

    @classmethod
    def from_flat(cls, entries: dict[str, Any]) -> ParameterTree:
        """Build the tree from dotted names."""
        tree = cls()
        for name, value in entries.items():
            *path, last = name.split(".")
            node = tree
            for part in path:
                node = node.setdefault(part, cls())
            node[last] = value
        return tree


def _entries(tree: Any) -> tuple[tuple[Any, ...], tuple[str, ...], tuple[str, ...]]:
    """Children, keys, and how to name them."""
    return tuple(tree.values()), tuple(tree), tuple(tree)


@functools.cache
def _optree() -> Any:
    """The library for nested containers, loaded when the first one is met."""
    import optree

    optree.register_pytree_node(
        ParameterTree,
        _entries,
        lambda keys, values: ParameterTree(zip(cast("tuple[str, ...]", keys), values, strict=True)),
        namespace=NAMESPACE,
    )
    return optree


def is_module(x: Any) -> bool:
    """Say whether ``x`` holds parameters under names, as modules do."""
    return hasattr(x, "named_parameters") and hasattr(x, "parameter_tree")


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """Return the leaves of nested containers, and their structure."""
    leaves, structure = _optree().tree_flatten(tree, is_leaf=is_module, namespace=NAMESPACE)
    return leaves, structure


def unflatten(structure: Any, leaves: Any) -> Any:
    """Put leaves back into a structure."""
    return _optree().tree_unflatten(structure, leaves)


def tree_map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply ``function`` to the leaves of nested containers.

    >>> tree_map(lambda x, y: x + y, {"a": 1, "b": [2]}, {"a": 10, "b": [20]})
    {'a': 11, 'b': [22]}
    """
    return _optree().tree_map(function, tree, *others, is_leaf=is_module, namespace=NAMESPACE)


def leaves_like(operation: str, structure: Any, tree: Any) -> list[Any]:
    """Return the leaves of a user's tree, which must nest like ``structure``."""
    try:
        return structure.flatten_up_to(tree)
    except ValueError as error:
        raise ArgumentError(
            operation, "the containers must nest as in what they belong to", received=str(error).rstrip(".")
        ) from error


class Argument:
    """An argument by which a transform differentiates: its tensors under new names.

    A module stands for the tree of its trainable parameters: within the transform, tensors stand in for them.
    """

    def __init__(self, operation: str, argument: Any, level: int) -> None:
        self.leaves: list[Tensor] = []
        self.overrides: dict[Cell, Tensor] = {}
        self.given, self.structure = flatten(argument)
        passed: list[Any] = []
        results: list[Any] = []
        for leaf in self.given:
            if is_module(leaf):
                tree = leaf.parameter_tree()
                cells, shape = _optree().tree_flatten(tree, namespace=NAMESPACE)
                made = [self._take(operation, cell, level) for cell in cells]
                self.overrides.update(zip(cells, made, strict=True))
                passed.append(leaf)
                results.append((shape, len(made)))
            else:
                passed.append(self._take(operation, leaf, level))
                results.append(None)
        self._results = results
        self.value = unflatten(self.structure, passed)

    def _take(self, operation: str, leaf: Any, level: int) -> Tensor:
        x = F.asarray(leaf)
        if not F.is_differentiable(x.dtype):
            raise DTypeError(
                operation,
                "whole numbers and truth values have no gradient",
                received=f"an argument of dtype {x.dtype.name}",
                fix="pass floating values (1.0 instead of 1, x.astype('float32')), or choose other argnums",
            )
        # A cell is taken by value; another recorded tensor stays connected to what it was computed from.
        made = F.alias(x) if x.requires_grad and not isinstance(x, Snapshot) else Tensor(x.value)
        made.level = min(made.level, level)
        self.leaves.append(made)
        return made

    def rebuild(self, tensors: Iterator[Tensor]) -> Any:
        """Put one tensor per leaf into the structure of the argument (a `ParameterTree` for a module)."""
        leaves: list[Any] = []
        for result in self._results:
            if result is None:
                leaves.append(next(tensors))
            else:
                shape, n = result
                leaves.append(unflatten(shape, [next(tensors) for _ in range(n)]))
        return unflatten(self.structure, leaves)

    def read(self, operation: str, tree: Any) -> list[Tensor]:
        """Return the leaves of a user's tree of this structure (of tangents, say)."""
        leaves: list[Tensor] = []
        given = leaves_like(operation, self.structure, tree)
        for result, part in zip(self._results, given, strict=True):
            if result is None:
                leaves.append(part)
            else:
                leaves.extend(leaves_like(operation, result[0], part))
        return [F.asarray(t, x.dtype) for t, x in zip(leaves, self.leaves, strict=True)]
