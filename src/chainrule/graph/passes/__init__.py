"""Passes: each takes a legal graph (``graph.spec``) and gives another that computes the same."""

from __future__ import annotations

from ..ir import Graph
from .common import merge_common_subexpressions
from .contract import absorb_transposes
from .dead import remove_dead_code
from .fold import fold_constants, uniform
from .inner import optimize_bodies
from .join import join_parts
from .simplify import simplify
from .sums import sum_after_loops
from .unused import remove_unused_results

__all__ = [
    "PASSES", "absorb_transposes", "fold_constants", "join_parts", "merge_common_subexpressions", "optimize",
    "optimize_bodies", "remove_dead_code", "remove_unused_results", "simplify", "sum_after_loops", "uniform",
]  # fmt: skip

# Merging makes the two sides of a `where` one, and transposes leave reshapes behind: so the middle is done twice.
PASSES = (
    remove_unused_results,
    remove_dead_code,
    fold_constants,
    simplify,
    merge_common_subexpressions,
    absorb_transposes,
    join_parts,
    simplify,
    merge_common_subexpressions,
    remove_dead_code,
)


def optimize(graph: Graph) -> Graph:
    """Return a graph that computes the same in fewer steps; the bodies of its control flow are optimized too.

    Args:
        graph: a legal graph. It is left as it is.
    """
    for apply in PASSES:
        graph = apply(graph)
    graph = optimize_bodies(graph, optimize)
    graph = remove_unused_results(graph)  # a body that sees its constants needs fewer inputs,
    return sum_after_loops(remove_dead_code(graph))  # and may not fail any more
