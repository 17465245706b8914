"""Making a graph from another one, node by node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...primitives.base import REGISTRY
from ..ir import Graph, Node, TensorType, Value

SMALL = 64 * 1024
"""Bytes up to which a constant is worth comparing, and keeping instead of what it is computed from."""


Rule = Callable[[Node, tuple[Value, ...]], tuple[Value, ...] | None]


def _keep(node: Node, inputs: tuple[Value, ...]) -> None:
    return None


class Rewriter:
    """A new graph that takes the place of an old one, and shares with it the nodes and values that stay as they are.

    Attributes:
        old, graph: the two.
        known: what stands for each value of the old graph.
        like: the node of the old graph that is being rewritten: new nodes inherit its place in the user's code.
    """

    def __init__(self, old: Graph) -> None:
        self.old = old
        self.graph = Graph(old.name, old.depth)
        self.graph.inputs = list(old.inputs)
        self.known: dict[Value, Value] = {v: v for v in old.inputs}
        self.like: Node | None = None
        self._constants: dict[Any, Value] = {}

    def look(self, value: Value) -> Value:
        """What stands for a value of the old graph; a constant is added when it is first used."""
        found = self.known.get(value)
        if found is None:
            found = self.known[value] = self.literal(self.old.constants[value], value)
        return found

    def literal(self, array: np.ndarray, value: Value | None = None) -> Value:
        """A value that is equal to the array: ``value``, if it is the old graph's."""
        return self.constant(array, value)

    def constant(self, array: np.ndarray, value: Value | None = None) -> Value:
        """A constant, which may be a ``value`` of the old graph; equal small ones are one."""
        small = array.nbytes <= SMALL
        key = (array.dtype, array.shape, array.tobytes()) if small else id(array)
        found = self._constants.get(key)
        if found is None:
            found = self._constants[key] = self.graph.add_constant(array) if value is None else value
            self.graph.constants[found] = array
        return found

    def inputs(self, node: Node) -> tuple[Value, ...]:
        """What stands for the inputs of a node of the old graph."""
        known = self.known
        return tuple([known[v] if v in known else self.look(v) for v in node.inputs])

    def put(self, primitive: Any, inputs: tuple[Value, ...], static: Any, types: tuple[TensorType, ...]) -> Any:
        """Append a node that stands where ``like`` stood; return its results."""
        like = self.like
        if like is None:
            return self.graph.add_node(primitive, inputs, static, types)
        return self.graph.add_node(
            primitive, inputs, static, types, like.source, like.recorded, like.region, like.phase
        )

    def copy(self, node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...]:
        """Append a node of the old graph, itself if it has the same inputs, else the like of it with the new ones."""
        if inputs == node.inputs:
            self.graph.nodes.append(node)
            return node.outputs
        return self.put(node.primitive, inputs, node.static, tuple([v.type for v in node.outputs]))

    def emit(self, name: str, *inputs: Value, **static: Any) -> Value:
        """Append an application of the primitive of this name and return its one result."""
        primitive = REGISTRY[name]
        result: Value = self.put(primitive, inputs, static, (primitive.types(*inputs, **static),))[0]
        return result

    def run(self, rule: Rule = _keep, nodes: Sequence[Node] | None = None) -> Graph:
        """Go through the nodes: ``rule(node, new inputs)`` gives what stands for its results, or None to copy it."""
        for node in self.old.nodes if nodes is None else nodes:
            self.like = node
            inputs = self.inputs(node)
            found = rule(node, inputs)
            if found is None:
                found = self.copy(node, inputs)
            for value, new in zip(node.outputs, found, strict=True):
                self.known[value] = new
        return self.finish()

    def finish(self) -> Graph:
        """Set the outputs and return the new graph."""
        self.like = None
        self.graph.outputs = [self.look(v) for v in self.old.outputs]
        return self.graph

    def array(self, value: Value) -> np.ndarray | None:
        """The array of a value of the new graph that is a constant, or a constant repeated."""
        return known_array(self.graph, value)

    def scalar(self, value: Value) -> np.ndarray | None:
        """The one number of which all elements of a value are known to be equal, as an array without axes."""
        return known_scalar(self.graph, value)


def made_by(value: Value, name: str) -> Node | None:
    """The node that made the value, if it applies the primitive of this name."""
    node = value.node
    return node if node is not None and node.primitive.name == name else None


def known_array(graph: Graph, value: Value) -> np.ndarray | None:
    """The array of a value that is a constant of the graph, or a constant repeated; None for any other."""
    found = graph.constants.get(value)
    if found is None and (node := made_by(value, "broadcast_to")) is not None:
        inner = graph.constants.get(node.inputs[0])
        return None if inner is None else np.broadcast_to(inner, value.shape)
    return found


def known_scalar(graph: Graph, value: Value) -> np.ndarray | None:
    """The number of which all elements of a value are known to be equal; None if they are not."""
    node = made_by(value, "broadcast_to")
    found = graph.constants.get(value if node is None else node.inputs[0])
    return found.reshape(()) if found is not None and found.size == 1 else None
