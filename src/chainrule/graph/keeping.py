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
_SUMS = frozenset({"add", "subtract"})
_ACTIVATIONS = frozenset({"exp", "sigmoid", "tanh"})


def with_kept(body: Graph, carry: Sequence[Value]) -> tuple[Graph, int]:
    """The body of a `scan` with what is to be kept as its last results, and their number; the carry is first."""
    kept = [*carry, *_dear(body)]
    return rewired(body, body.inputs, body.outputs + kept), len(kept)


def _dear(body: Graph) -> list[Value]:
    """Results that are dear to compute, or what is as large, was made of them, and lets the gradient do with less."""
    readers: dict[Value, list[Node | None]] = {}
    for node in body.nodes:
        for value in node.inputs:
            readers.setdefault(value, []).append(node)
    for value in body.outputs:
        readers.setdefault(value, []).append(None)
    found: list[Value] = []
    for node in body.nodes:
        if _is_dear(node):
            found += _further(node.outputs[0], readers) if len(node.outputs) == 1 else node.outputs
    return list(dict.fromkeys(found))


def _is_dear(node: Node) -> bool:
    within = node.primitive is primitives.scan and node.static["keep"] > node.static["n_carry"]
    return not node.fleeting and (within or node.primitive.lowering in _DEAR)


def _further(value: Value, readers: dict[Value, list[Node | None]]) -> list[Value]:
    """What to keep instead of a value that is read for this alone.

    The sum with something else, such as a bias, since a sum hands its cotangent on; an activation, whose gradient needs
    its result alone; for gates that are cut out of one product, those of each.
    """
    nodes = readers.get(value, [None])
    if any(node is None or node.fleeting or not node.recorded for node in nodes):
        return [value]
    results = [node.outputs[0] for node in nodes if node is not None]
    names = {node.primitive.name for node in nodes if node is not None}
    if len(nodes) == 1 and results[0].type == value.type:
        if names <= _ACTIVATIONS:
            return results
        return _further(results[0], readers) if names <= _SUMS else [value]
    if names == {"slice"} and sum(v.size for v in results) <= value.size:
        parts = [part for v in results for part in _further(v, readers)]
        if any(part.node is not None and part.node.primitive.name in _ACTIVATIONS for part in parts):
            return parts
    return [value]


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
