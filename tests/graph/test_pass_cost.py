"""The work of all passes grows with the number of nodes and no faster. Counted in calls, not in time."""

from __future__ import annotations

import sys

import numpy as np
from graph_tools import Build

from chainrule.graph.passes import optimize


def layers(n):
    """A graph like that of a training step: a chain of layers there, and back with all values of the way there."""
    b = Build()
    x, w = b.input((4, 4)), b.input((4, 4))
    kept = []
    for _ in range(n // 20):
        y = b("dot", x, b("permute", w, axes=(1, 0)), contract=((1,), (0,)), batch=((), ()))
        kept.append(x)
        x = b("select", b("greater", y, 0.0), y, b("multiply", np.ones((4, 4), np.float32), b("exp", y)))
    ct = b("broadcast_to", b("divide", 1.0, 16.0), shape=(4, 4))
    for y in reversed(kept):
        ct = b("strong_multiply", b("reshape", ct, shape=(4, 4)), b("square", y))
        ct = b("add", b("multiply", ct, b("negative", b("exp", y))), b("negative", b("exp", y)))
        ct = b("permute", b("permute", ct, axes=(1, 0)), axes=(1, 0))
        ct = b("add", ct, b("cast", b("cast", y, dtype=np.dtype("float64")), dtype=np.dtype("float32")))
        ct = b("subtract", b("alias", ct), b("multiply", 0.0, 3.0))
    return b.returns(x, ct)


def calls_per_node(n):
    graph = layers(n)
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        optimize(graph)
    finally:
        sys.setprofile(None)
    return calls / len(graph.nodes)


def test_work_per_node_does_not_grow_with_the_graph():
    small, large = calls_per_node(1000), calls_per_node(5000)
    assert large < 1.2 * small
