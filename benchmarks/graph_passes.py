"""What the passes over a graph cost: seconds, and microseconds for each node, the best of five.

python benchmarks/graph_passes.py
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "graph"))
from test_pass_cost import layers

from chainrule.graph.passes import optimize, peak, rematerialize


def best(f: Callable[..., Any], *args: Any) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        f(*args)
        times.append(time.perf_counter() - start)
    return min(times)


for n in (2_000, 10_000):
    graph = layers(n)
    made = optimize(graph)
    for function, args in ((optimize, (graph,)), (rematerialize, (made, peak(made) // 2))):
        seconds, size = best(function, *args), len(args[0].nodes)
        print(f"{function.__name__:14} {size:6} nodes  {seconds:.3f} s  {1e6 * seconds / size:.1f} us a node")
