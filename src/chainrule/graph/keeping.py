"""What a loop keeps for its backward phase: the carry of each iteration, and what is dear to compute a second time.

Elementwise work is done again; results of products, convolutions and of the host are kept. What comes out of
`checkpoint` is not: there memory is dearer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..primitives import control as primitives
from .ir import Graph, Node, Value
from .passes.rewrite import Rewriter
from .tracing import rewired

_DEAR = ("contraction", "host")
_SUMS = ("add", "subtract")


def with_kept(body: Graph, carry: Sequence[Value]) -> tuple[Graph, int]:
    """The body of a `scan` with what is to be kept as its last results, and their number; the carry is first."""
    kept = [*carry, *_dear(body)]
    return rewired(body, body.inputs, body.outputs + kept), len(kept)


def _dear(body: Graph) -> list[Value]:
    """Results that are dear to compute; instead of a product that goes into one sum, such as a bias, that sum.

    The sum is as large, and going backward through it needs no product.
    """
    readers: dict[Value, list[Node | None]] = {}
    for node in body.nodes:
        for value in node.inputs:
            readers.setdefault(value, []).append(node)
    for value in body.outputs:
        readers.setdefault(value, []).append(None)
    found: list[Value] = []
    for node in body.nodes:
        if _is_dear(node):
            values = list(node.outputs)
            while len(values) == 1 and (total := _only_sum(values[0], readers)) is not None:
                values = [total]
            found += values
    return list(dict.fromkeys(found))


def _is_dear(node: Node) -> bool:
    within = node.primitive is primitives.scan and node.static["keep"] > node.static["n_carry"]
    return not node.fleeting and (within or node.primitive.lowering in _DEAR)


def _only_sum(value: Value, readers: dict[Value, list[Node | None]]) -> Value | None:
    """The sum of the same type that alone reads the value."""
    node, *others = readers.get(value, [None])
    if others or node is None or node.fleeting or node.primitive.name not in _SUMS:
        return None
    return node.outputs[0] if node.outputs[0].type == value.type else None


def keeping(graph: Graph) -> Graph:
    """The graph with loops that keep what going backward through them needs; within a loop this is not known before."""
    if not any(_may_keep(node) for node in graph.nodes):
        return graph
    made = Rewriter(graph)

    def rule(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        if not _may_keep(node):
            return None
        static: Any = node.static
        first, n_carry = static["n_consts"], static["n_carry"]
        inner = keeping(static["body"])
        body, keep = with_kept(inner, inner.inputs[first : first + n_carry])
        static = {**static, "body": body, "keep": keep}
        results: tuple[Value, ...] = made.put(node.primitive, inputs, static, node.primitive.types(*inputs, **static))
        return results[: len(node.outputs)]

    return made.run(rule)


def _may_keep(node: Node) -> bool:
    return node.primitive is primitives.scan and not node.static["keep"] and node.recorded and not node.fleeting
