"""The intermediate representation: values, nodes, graphs.

    Graph  ::=  inputs: Value*   constants: (Value, array)*   nodes: Node*   outputs: Value*
    Node   ::=  outputs: Value*  =  primitive(inputs: Value*, static)
    Value  ::=  a TensorType, and the node that makes it (none for an input or a constant)

Every value is defined before it is used, by exactly one place of its graph. A static argument that is a `Graph`, or a
tuple of them, is the body of a control-flow primitive; it refers to nothing outside of itself. ``graph.spec`` says in
full what is legal, and checks it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..dtypes import DType


class TensorType(NamedTuple):
    """Shape and dtype of a value."""

    shape: tuple[int, ...]
    dtype: DType

    def __str__(self) -> str:
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}]"


class Value:
    """A value of a graph, known by type only."""

    __slots__ = ("dtype", "graph", "index", "node", "shape")

    def __init__(self, graph: Graph, type: TensorType, node: Node | None = None, index: int = 0) -> None:
        self.graph = graph
        self.shape = type.shape
        self.dtype = type.dtype
        self.node = node
        self.index = index

    @property
    def type(self) -> TensorType:
        """Shape and dtype."""
        return TensorType(self.shape, self.dtype)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        size = 1
        for n in self.shape:
            size *= n
        return size

    def __repr__(self) -> str:
        return f"Value({self.type})"


class Node:
    """One application of a primitive.

    Attributes:
        primitive: what is applied.
        inputs, outputs: values of the graph.
        static: arguments that are known.
        source: ``file:line`` of the user's code.
        recorded: False within `no_grad`: no gradient when the graph is run again.
        region: 0, or the number of the second computation to which the node belongs. It is done again so that its
            result need not be kept, so nodes of different regions are never merged.
        phase: 0, or 1 for what going backward computed, 2 for what going backward along that computed, ...: for tables.
        fleeting: True within `checkpoint`: in a loop, its results are not kept for the backward phase.
    """

    __slots__ = ("fleeting", "inputs", "outputs", "phase", "primitive", "recorded", "region", "source", "static")

    def __init__(
        self,
        primitive: Any,
        inputs: tuple[Value, ...],
        static: Mapping[str, Any],
        source: str = "",
        recorded: bool = True,
        region: int = 0,
        phase: int = 0,
    ) -> None:
        self.primitive = primitive
        self.inputs = inputs
        self.static = dict(static)
        self.source = source
        self.recorded = recorded
        self.region = region
        self.phase = phase
        self.fleeting = False
        self.outputs: tuple[Value, ...] = ()


class Graph:
    """A straight-line program over tensors."""

    def __init__(self, name: str = "graph", depth: int = 1) -> None:
        self.name = name
        self.depth = depth  # how many traces were running when it was made, itself included
        self.inputs: list[Value] = []
        self.constants: dict[Value, np.ndarray] = {}
        self.nodes: list[Node] = []
        self.outputs: list[Value] = []

    def add_input(self, type: TensorType) -> Value:
        """Add an input and return its value."""
        value = Value(self, type)
        self.inputs.append(value)
        return value

    def add_constant(self, array: np.ndarray) -> Value:
        """Add a constant and return its value; the array must not change afterwards."""
        value = Value(self, TensorType(array.shape, array.dtype))
        self.constants[value] = array
        return value

    def add_node(
        self,
        primitive: Any,
        inputs: tuple[Value, ...],
        static: Mapping[str, Any],
        types: Sequence[TensorType],
        source: str = "",
        recorded: bool = True,
        region: int = 0,
        phase: int = 0,
    ) -> tuple[Value, ...]:
        """Append an application of ``primitive`` and return its results."""
        node = Node(primitive, inputs, static, source, recorded, region, phase)
        node.outputs = tuple(Value(self, t, node, i) for i, t in enumerate(types))
        self.nodes.append(node)
        return node.outputs

    def __str__(self) -> str:
        return "\n".join(_Printer(self).lines())


def bodies(static: Mapping[str, Any]) -> Iterator[tuple[str, Graph]]:
    """The graphs among static arguments, each with its name there."""
    for name, argument in static.items():
        if isinstance(argument, Graph):
            yield name, argument
        elif isinstance(argument, tuple):
            yield from ((f"{name}[{i}]", part) for i, part in enumerate(argument) if isinstance(part, Graph))


def _static(argument: Any) -> str:
    """A static argument in few characters, the same in every run of the program."""
    if isinstance(argument, tuple):
        if all(isinstance(part, (int, tuple)) for part in argument):
            return str(argument).replace(" ", "")
        return f"({','.join(map(_static, argument))})"
    if isinstance(argument, np.dtype):
        return argument.name
    if callable(argument):
        return getattr(argument, "__name__", type(argument).__name__)
    return repr(argument)


class _Printer:
    """Writes a graph: ``%i`` are inputs, ``%c`` constants, and ``'1`` marks what is computed for a second time."""

    def __init__(self, graph: Graph, indent: str = "") -> None:
        self.graph = graph
        self.indent = indent
        self.names: dict[Value, str] = {}
        self.regions: dict[int, int] = {0: 0}

    def _define(self, value: Value, prefix: str = "") -> str:
        self.names[value] = f"%{prefix}{len(self.names)}"
        return f"{self.names[value]}: {value.type}"

    def _name(self, value: Value) -> str:
        return self.names.get(value, "%undefined")

    def lines(self) -> Iterator[str]:
        """The lines of the text."""
        graph, indent = self.graph, self.indent
        yield f"{indent}{graph.name}({', '.join(self._define(v, 'i') for v in graph.inputs)}) {{"
        for value, array in graph.constants.items():
            shown = "..." if array.size > 4 else str(array.tolist())
            yield f"{indent}  {self._define(value, 'c')} = {shown}"
        for node in graph.nodes:
            yield f"{indent}  {self._node(node)}"
            for name, body in bodies(node.static):
                yield f"{indent}    {name}:"
                yield from _Printer(body, indent + "      ").lines()
        yield f"{indent}  return {', '.join(map(self._name, graph.outputs))}"
        yield f"{indent}}}"

    def _node(self, node: Node) -> str:
        within = {name.partition("[")[0] for name, _ in bodies(node.static)}
        arguments = [self._name(v) for v in node.inputs]
        arguments += [f"{k}={_static(v)}" for k, v in node.static.items() if k not in within]
        results = ", ".join(self._define(v) for v in node.outputs)
        region = self.regions.setdefault(node.region, len(self.regions))
        mark = f"'{region}" if region else ""
        where = f"  # {os.path.basename(node.source)}" if node.source else ""
        return f"{results}{' = ' if results else ''}{node.primitive.name}{mark}({', '.join(arguments)}){where}"
