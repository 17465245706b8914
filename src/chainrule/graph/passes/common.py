"""Common subexpressions: what is computed twice from the same values."""

from __future__ import annotations

from typing import Any

from ..ir import Graph, Node, Value
from .effects import has_effect
from .rewrite import Rewriter

# Exchanging their inputs changes no bit.
_COMMUTATIVE = frozenset(
    {
        "add", "multiply", "equal", "not_equal", "logical_and", "logical_or", "logical_xor", "bitwise_and",
        "bitwise_or", "bitwise_xor",
    }
)  # fmt: skip


def merge_common_subexpressions(graph: Graph) -> Graph:
    """Compute equal applications of a primitive once.

        %1 = exp(%i0)                 %1 = exp(%i0)
        %2 = exp(%i0)         ->
        %3 = add(%1, %2)              %3 = add(%1, %1)

    Not merged are nodes with an effect, and nodes of different ``region``: what is computed again on purpose.
    """
    made = Rewriter(graph)
    first: dict[Any, tuple[Value, ...]] = {}
    order: dict[Value, int] = {}

    def rule(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        if has_effect(node):
            return None
        name = node.primitive.name
        if name in _COMMUTATIVE:
            numbers = [order.setdefault(v, len(order)) for v in inputs]
            key_inputs: Any = tuple(sorted(numbers))
        else:
            key_inputs = inputs
        key = (name, key_inputs, tuple(sorted(node.static.items())) if node.static else (), node.region)
        found = first.get(key)
        if found is None:
            found = first[key] = made.copy(node, inputs)
        return found

    return made.run(rule)
