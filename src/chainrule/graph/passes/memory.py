"""How much memory the values of a graph need, if each is kept from where it is made to where it is last used."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import accumulate

from ..ir import Graph, Value, bodies

# They give their input under another shape, and need no memory of their own.
VIEWS = frozenset({"reshape", "alias", "stop_gradient", "broadcast_to"})


def size_in_bytes(value: Value) -> int:
    """Memory that a value needs."""
    return math.prod(value.shape) * value.dtype.itemsize


@dataclass
class Lives:
    """When the results of nodes are alive, in the order of the nodes; inputs and constants of a graph always are.

    Attributes:
        graph: the graph.
        root: for each value that is only a view, the value whose memory it shows.
        born: for each result that has memory, the number of the node that makes it.
        uses: for each of them, ascending, the numbers of the nodes that use it or a view of it.
        ends: for each of them, the number of the node up to which it is alive; an output is to the end.
    """

    graph: Graph
    root: dict[Value, Value] = field(default_factory=dict)
    born: dict[Value, int] = field(default_factory=dict)
    uses: dict[Value, list[int]] = field(default_factory=dict)
    ends: dict[Value, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, node in enumerate(self.graph.nodes):
            for value in node.inputs:
                used = self.uses.get(self.root.get(value, value))
                if used is not None and (not used or used[-1] != number):
                    used.append(number)
            view = node.primitive.name in VIEWS
            for value in node.outputs:
                if view:
                    self.root[value] = self.root.get(node.inputs[0], node.inputs[0])
                else:
                    self.born[value], self.uses[value] = number, []
        self.ends = {value: used[-1] if used else self.born[value] for value, used in self.uses.items()}
        for value in self.graph.outputs:
            value = self.root.get(value, value)
            if value in self.ends:
                self.ends[value] = len(self.graph.nodes)

    def profile(self) -> list[int]:
        """Bytes that are alive while each node runs, those of its body included."""
        nodes = self.graph.nodes
        change = [0] * (len(nodes) + 2)
        for value, born in self.born.items():
            size = size_in_bytes(value)
            change[born] += size
            change[self.ends[value] + 1] -= size
        inner = [max((peak(body) for _, body in bodies(node.static)), default=0) for node in nodes]
        return [a + b for a, b in zip(accumulate(change), inner, strict=False)]


def peak(graph: Graph) -> int:
    """The most bytes that results of the graph's nodes need at one time.

    An upper bound: values within a fused kernel need none, and outputs may lie in the memory of the caller.
    """
    return max(Lives(graph).profile(), default=0)
