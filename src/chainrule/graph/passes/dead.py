"""Dead code: what no output needs."""

from __future__ import annotations

from functools import partial

from ..ir import Graph
from .effects import removable
from .rewrite import Rewriter, known_array


def remove_dead_code(graph: Graph) -> Graph:
    """Remove nodes whose results nothing needs, and constants that nothing uses.

        %1 = exp(%i0)
        return %i0            ->      return %i0

    Nodes that can fail or have an effect are kept (``effects``).
    """
    needed = set(graph.outputs)
    known = partial(known_array, graph)
    kept = []
    for node in reversed(graph.nodes):
        if not needed.isdisjoint(node.outputs) or not removable(node, known):
            needed.update(node.inputs)
            kept.append(node)
    return Rewriter(graph).run(nodes=kept[::-1])
