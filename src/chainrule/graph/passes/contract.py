"""Transposes into and out of contractions, whose axes are free."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..ir import Graph, Node, Value
from .rewrite import Rewriter, made_by

Axes = tuple[int, ...]


def absorb_transposes(graph: Graph) -> Graph:
    """Let contractions read their operands, and write their results, in the order of axes that is there.

        %1 = permute(%i0, axes=(1,0))
        %2 = dot(%1, %i1, contract=((1,),(0,)))        ->    %2 = dot(%i0, %i1, contract=((0,),(0,)))

        %1 = dot(%i0, %i1, contract=((1,),(0,)))
        %2 = permute(%1, axes=(1,0))                   ->    %2 = dot(%i1, %i0, contract=((0,),(1,)))

    The second needs that nothing else uses the product, and exchanges the operands. The pairs of axes that are
    contracted keep their order.
    """
    made = Rewriter(graph)
    uses = Counter(v for node in graph.nodes for v in node.inputs)
    uses.update(graph.outputs)

    def rule(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        if node.primitive.name == "dot":
            operands, static = _operands(*inputs, **node.static)
            return (made.emit("dot", *operands, **static),)
        product = made_by(inputs[0], "dot") if node.primitive.name == "permute" else None
        if product is None or uses[node.inputs[0]] != 1 or node.static["axes"] != _exchanged(product):
            return None
        a, b = product.inputs
        static = {name: pair[::-1] for name, pair in product.static.items()}
        return (made.emit("dot", b, a, **static),)

    return made.run(rule)


def _operands(a: Value, b: Value, *, contract: tuple[Axes, Axes], batch: tuple[Axes, Axes]) -> Any:
    """The operands without their transposes, and the axes of these."""
    a, contract_a, batch_a = _without_transpose(a, contract[0], batch[0])
    b, contract_b, batch_b = _without_transpose(b, contract[1], batch[1])
    return (a, b), {"contract": (contract_a, contract_b), "batch": (batch_a, batch_b)}


def _without_transpose(x: Value, contract: Axes, batch: Axes) -> tuple[Value, Axes, Axes]:
    node = made_by(x, "permute")
    if node is None:
        return x, contract, batch
    axes = node.static["axes"]
    free = [axes[a] for a in range(x.ndim) if a not in contract and a not in batch]
    if free != sorted(free):  # the result has them in the order of the operand
        return x, contract, batch
    return node.inputs[0], tuple(axes[a] for a in contract), tuple(axes[a] for a in batch)


def _exchanged(product: Node) -> Axes:
    """The permutation of a product that exchanges the free axes of its operands."""
    n_batch = len(product.static["batch"][0])
    n_free = product.inputs[0].ndim - n_batch - len(product.static["contract"][0])
    n = product.outputs[0].ndim
    return (*range(n_batch), *range(n_batch + n_free, n), *range(n_batch, n_batch + n_free))
