"""Tracing: running a function on placeholders, so that what it does becomes a graph.

Whatever the function touches from outside, tensors of its closure and cells, is captured as a further input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import dtypes
from ..autodiff.trees import flatten
from ..errors import user_location
from ..registry import F
from ..tensor.bind import next_number, run
from ..tensor.cells import Cell, Snapshot
from ..tensor.state import NEVER, fleeting, recording, state
from ..tensor.tensor import Edge, Tensor
from ..tensor.weak import settled
from .ir import Graph, Node, TensorType, Value


class _Lift:
    """The step of a tensor from outside into a trace; gradients pass."""

    name = "lift"
    partial = False
    linear: tuple[int, ...] | bool = True
    multilinear: tuple[int, ...] = ()
    elementwise = True
    jvp = None

    def pullback(self, ct: Any, out: Any, inputs: Any, wanted: Any, static: Any) -> list[Any]:
        """The cotangent itself."""
        return [ct]

    def __call__(self, x: Tensor) -> Tensor:
        return x


_LIFT = _Lift()


class Trace:
    """The graph that is being made, and what it has captured.

    Attributes:
        whole: whether the graph is to be a compiled program, which owns gradients and arrays too.
        made: the cells that the function makes itself.
        overrides: tensors that stand in for cells outside of the function. Within it, those that stand in for state are
            cells again, so that what is assigned to them is carried along and does not leave the trace.
    """

    whole = False

    def __init__(self, name: str) -> None:
        self.graph = Graph(name, depth=len(state.traces) + 1)
        self.captured: list[Tensor] = []
        self._lifted: dict[int, Tensor] = {}
        self._cells: dict[Cell, Tensor] = {}
        self._versions: dict[Cell, int] = {}
        self.entry: dict[Cell, Value] = {}
        self.written: list[Cell] = []
        self.made: set[Cell] = set()
        self.overrides = state.overrides

    def taken(self, array: Any) -> Any:
        """Take over an array of the user: from here on its elements are those of this moment."""
        return array

    def knows_grad(self, cell: Cell) -> bool:
        """Whether the gradient of the cell was written within this trace."""
        return False

    def add(self, primitive: Any, inputs: tuple[Tensor, ...], static: Mapping[str, Any]) -> Any:
        """Append an application of ``primitive``; return its result, or a tuple of its results."""
        values = tuple(t.value for t in inputs)
        static = {key: settled(value) for key, value in static.items()}
        types = primitive.types(*values, **static)
        several = not isinstance(types, TensorType)
        recorded = state.threshold > 0
        made = self.graph.add_node(
            primitive, values, static, types if several else (types,), user_location(), recorded, phase=state.phase
        )
        self.graph.nodes[-1].fleeting = state.fleeting
        return made if several else made[0]

    def lift(self, tensor: Tensor) -> Tensor:
        """Return the tensor as a value of this graph, captured if it is from outside."""
        value = tensor.value
        if value.__class__ is Value and value.graph is self.graph:
            return tensor
        if id(tensor) not in self._lifted:
            inner = self.graph.add_input(TensorType(tensor.shape, tensor.dtype))
            self.captured.append(tensor)  # keeps it alive, so that its identity stays its own
            self._lifted[id(tensor)] = Tensor(inner) if tensor.level >= NEVER else self.link(inner, tensor)
        return self._lifted[id(tensor)]

    @staticmethod
    def link(inner: Value, outside: Tensor) -> Tensor:
        """Return a value of this graph whose gradient goes on to a recorded tensor from outside."""
        return Tensor(inner, Edge(_LIFT, (outside,), {}, (inner,), next_number()), 0, outside.level)

    def read(self, cell: Cell) -> Tensor:
        """The value of a cell within this trace."""
        if cell not in self._cells:
            state.traces.pop()
            within, state.overrides = state.overrides, self.overrides
            try:
                outside = cell.read()
            finally:
                state.overrides = within
                state.traces.append(self)
            inner = self.graph.add_input(TensorType(cell.shape, cell.dtype))
            self.captured.append(outside)
            self.entry[cell] = inner
            self._set(cell, inner)
        return self._cells[cell]

    def write(self, cell: Cell, tensor: Tensor) -> None:
        """Assign a cell within this trace."""
        self.read(cell)
        if not self._versions[cell]:  # `in` would compare tensors
            self.written.append(cell)
        self._versions[cell] += 1
        self._set(cell, self.lift(tensor).value)

    def _set(self, cell: Cell, value: Value) -> None:
        version = self._versions.setdefault(cell, 0)
        self._cells[cell] = Snapshot(cell, value, version, 0 if cell.trainable else NEVER)

    def version(self, cell: Cell) -> int:
        """How often the cell was assigned within this trace."""
        return self._versions.get(cell, 0)


class Traced:
    """A traced function.

    Attributes:
        graph: inputs are the arguments, then what was captured; outputs the results, then the written cells.
        captured: for each further input the tensor from outside.
        entry: for each cell that was read, its input.
        written: the cells that were assigned, in order.
        made: the cells that the function made itself.
        structure: how the results nest.
    """

    def __init__(self, trace: Trace, structure: Any, n_arguments: int, n_results: int) -> None:
        self.graph = trace.graph
        # What belongs to a transform that began and ended within the function is recorded for nobody any more.
        self.captured = [t if t.level <= state.depth or t.level >= NEVER else Tensor(t.value) for t in trace.captured]
        self.structure = structure
        self.n_arguments = n_arguments
        self.n_results = n_results
        self.entry = trace.entry
        self.written = trace.written
        self.made = trace.made


def trace(f: Callable[..., Any], arguments: Sequence[TensorType], structure: Any, name: str) -> Traced:
    """Run ``f`` on placeholders and return the graph of what it does.

    Args:
        f: called with the unflattened arguments.
        arguments: type of each leaf.
        structure: structure of the tuple of arguments.
        name: for printing.
    """
    from ..autodiff.trees import unflatten

    made = Trace(name)
    state.traces.append(made)
    state.overrides = {cell: tensor for cell, tensor in made.overrides.items() if cell.trainable}
    try:
        placeholders = [Tensor(made.graph.add_input(t)) for t in arguments]
        with recording(NEVER):
            out = f(*unflatten(structure, placeholders))
            leaves, out_structure = flatten(out)
            results = [made.lift(F.asarray(leaf)).value for leaf in leaves]
            finals = [made.read(cell).value for cell in made.written]
    finally:
        state.overrides = made.overrides
        state.traces.remove(made)
    made.graph.outputs = results + finals
    return Traced(made, out_structure, len(arguments), len(results))


def evaluate(graph: Graph, arrays: Sequence[Any]) -> list[Any]:
    """Run a graph in NumPy, node by node."""
    known = dict(zip(graph.inputs, arrays, strict=True)) | graph.constants
    for node in graph.nodes:
        found = run(node.primitive, [known[v] for v in node.inputs], node.static)
        known.update(zip(node.outputs, found if type(found) is tuple else (found,), strict=True))
    return [known[v] for v in graph.outputs]


def replay(
    graph: Graph, tensors: Sequence[Tensor], outputs: Sequence[Value] | None = None, kept: Mapping[Value, Tensor] = {}
) -> list[Tensor]:
    """Apply the operations of a graph to tensors, so that they are recorded, or traced, again.

    Args:
        graph: the graph.
        tensors: one for each input.
        outputs: the values wanted, and no operation that they do not need; all outputs if left out.
        kept: results that are known. They are recorded as what the operation made, and it is not done again.
    """
    wanted = graph.outputs if outputs is None else outputs
    needed = set(wanted)
    nodes = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            nodes.append(node)
    known = dict(zip(graph.inputs, tensors, strict=True))
    known |= {value: Tensor(array) for value, array in graph.constants.items()}
    for node in reversed(nodes):
        inputs = tuple(known[v] for v in node.inputs)
        with recording(state.threshold if node.recorded else 0), fleeting(node.fleeting):
            found: Any
            if node.outputs and node.outputs[0] in kept:
                found = _as_made(node, inputs, [kept[v] for v in node.outputs])
            else:
                found = node.primitive(*inputs, **node.static)
        known.update(zip(node.outputs, found if type(found) is tuple else (found,), strict=True))
    return [known[v] for v in wanted]


def _as_made(node: Node, inputs: tuple[Tensor, ...], kept: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Known results, recorded as those of a node."""
    level = min((t.level for t in inputs), default=NEVER)
    if level >= state.threshold or node.primitive.vjp is None:
        return tuple(kept)
    values = tuple(t.value for t in kept)
    several = not isinstance(node.primitive.types(*node.inputs, **node.static), TensorType)
    edge = Edge(node.primitive, inputs, node.static, values, next_number(), several)
    return tuple(Tensor(v, edge, i, level) if v.dtype in dtypes.INEXACT else Tensor(v) for i, v in enumerate(values))


def rewired(graph: Graph, inputs: list[Value], outputs: list[Value]) -> Graph:
    """Return the same operations with other inputs and outputs: another order, more inputs, some results only."""
    made = Graph(graph.name, graph.depth)
    made.inputs, made.constants, made.nodes, made.outputs = inputs, graph.constants, graph.nodes, outputs
    return made
