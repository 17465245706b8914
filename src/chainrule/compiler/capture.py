"""Tracing a whole step: its arguments, cells and gradients become inputs and outputs of one graph."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..autodiff.trees import flatten, is_module, unflatten
from ..errors import TraceError, user_location
from ..graph.ir import Graph, TensorType, Value
from ..graph.tracing import Trace
from ..tensor.cells import Cell
from ..tensor.state import NEVER, state
from ..tensor.tensor import NOT_KEPT, Tensor
from ..tensor.weak import Weak
from .interface import Argument, CellSource, Source

# Where an input of the graph comes from, until the inputs that nothing uses are dropped: the number of a leaf of the
# arguments, the gradient of a cell, or a cell.
Origin = tuple[str, Any]


@dataclass
class Captured:
    """A traced step.

    Attributes:
        graph: its inputs are described by ``inputs``; its outputs are ``n_results`` results, then the new value of
            each cell of ``written``.
        inputs: the sources of the inputs of the graph.
        leaves: the leaf of the arguments of each array that a run is given; then come ``entry_grads``.
        entry_grads: cells whose gradient is an input.
        grad_kinds: for each cell whose gradient was read first, what there was ("absent", ...).
        results: how to make each leaf of the result: "tensor" or "number", which take the next output, or "constant"
            with the leaf itself, or "array" with one of NumPy to copy.
        structure: how the results nest.
        kept: cells whose gradient is one of the results, after the leaves.
        cleared: cells whose gradient was there before, and is None after.
        unkept: cells whose gradient is written and thrown away.
        cells: all cells that are read or written.
        grad_cells: all cells of which the gradient is read or written.
        arrays: the user's arrays that became constants.
        fixed: leaves of the arguments for whose value alone the program is good.
    """

    graph: Graph
    structure: Any
    results: list[tuple[str, Any]]
    inputs: list[Source] = field(default_factory=list)
    leaves: list[int] = field(default_factory=list)
    entry_grads: list[Cell] = field(default_factory=list)
    grad_kinds: list[tuple[Cell, str]] = field(default_factory=list)
    n_results: int = 0
    written: list[Cell] = field(default_factory=list)
    kept: list[Cell] = field(default_factory=list)
    cleared: list[Cell] = field(default_factory=list)
    unkept: list[Cell] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    grad_cells: list[Cell] = field(default_factory=list)
    arrays: list[TakenArray] = field(default_factory=list)
    fixed: dict[int, Any] = field(default_factory=dict)


class TakenArray:
    """An array of the user that became a constant of the graph."""

    __slots__ = ("array", "content", "location")

    def __init__(self, array: np.ndarray, location: str) -> None:
        self.array = array
        self.content = array.tobytes()
        self.location = location

    def check(self) -> None:
        """Raise `TraceError` if the user has changed it since."""
        if self.array.tobytes() != self.content:
            error = TraceError(
                "compile",
                "a NumPy array that the compiled function uses as a constant was changed in place",
                received=f"an array of shape {self.array.shape}",
                fix="pass it as an argument, or make it a cell: state = cr.Cell(array), state.assign(array)",
            )
            error.location = self.location
            raise error


class StepTrace(Trace):
    """A trace that is to become a whole program: the outermost one."""

    whole = True

    def __init__(self, name: str, keep_grads: bool = False) -> None:
        super().__init__(name)
        self.keep_grads = keep_grads
        self.origins: list[Origin] = []
        self.fixed: dict[int, Any] = {}
        self._grads: dict[Cell, Tensor | None] = {}
        self._grad_entry: dict[Cell, Tensor | None] = {}
        self._grads_written: set[Cell] = set()
        self._arrays: dict[int, tuple[TakenArray, np.ndarray]] = {}
        self._leaves_outside: list[tuple[Tensor, Any]] = []

    # --- what comes in ------------------------------------------------------------------------------------

    def _input(self, type: TensorType, *origin: Any) -> Value:
        self.origins.append(origin)
        return self.graph.add_input(type)

    def argument(self, number: int, leaf: Any) -> Any:
        """Return the placeholder of a leaf of the arguments."""
        if isinstance(leaf, (int, float)):
            dtype = np.dtype("float64" if isinstance(leaf, float) else "int64")
            value = self._input(TensorType((), dtype), "leaf", number)
            return Weak(value, leaf, lambda: self.fixed.__setitem__(number, leaf))
        return Tensor(self._input(TensorType(leaf.shape, leaf.dtype), "leaf", number))

    def lift(self, tensor: Tensor) -> Tensor:
        """Return the tensor as a value of this graph; one from outside becomes a constant."""
        value = tensor.value
        if value.__class__ is Value:
            if value.graph is self.graph:
                return tensor
            raise TraceError(
                "compile",
                "a tensor has left the loop or branch in which it was made",
                received=repr(tensor),
                fix="return it from the body instead of storing it outside",
            )
        found = self._lifted.get(id(tensor))
        if found is None:
            found = self._constant(tensor, value)
            self.captured.append(tensor)  # keeps it alive, so that its identity stays its own
            self._lifted[id(tensor)] = found
        return found

    def _constant(self, tensor: Tensor, value: np.ndarray) -> Tensor:
        inner = self.graph.add_constant(value)
        if tensor.level >= NEVER:
            return Tensor(inner)
        if tensor.edge is None:
            self._leaves_outside.append((tensor, tensor._grad))
        return self.link(inner, tensor)

    def taken(self, array: np.ndarray) -> np.ndarray:
        """Copy an array of the user, and remember it, since a later change of it would not show."""
        if id(array) not in self._arrays:
            self._arrays[id(array)] = TakenArray(array, user_location()), np.array(array)
        return self._arrays[id(array)][1]

    def read(self, cell: Cell) -> Tensor:
        """The value of a cell within this trace; the first value of one made here is a constant."""
        if cell not in self._cells:
            if cell in self.made:
                self._set(cell, self.graph.add_constant(cell._stored().value))
            else:
                cell._stored()
                self._set(cell, self._input(TensorType(cell.shape, cell.dtype), "cell", cell))
        return self._cells[cell]

    # --- gradients ----------------------------------------------------------------------------------------

    def read_grad(self, cell: Cell) -> Tensor | None:
        """The gradient of a cell within this trace."""
        if cell not in self._grads:
            entry = None
            if cell not in self.made and cell.grad_kind not in ("absent", "not kept"):
                entry = Tensor(self._input(TensorType(cell.shape, cell._gradient.dtype), "grad", cell))
            self._grads[cell] = self._grad_entry[cell] = entry
        return self._grads[cell]

    def write_grad(self, cell: Cell, grad: Tensor | None) -> None:
        """Set the gradient of a cell within this trace."""
        self._grads[cell] = grad
        self._grads_written.add(cell)

    def knows_grad(self, cell: Cell) -> bool:
        """Whether the gradient of the cell was written within this trace."""
        return cell in self._grads_written

    # --- what goes out ------------------------------------------------------------------------------------

    def finish(self, out: Any) -> Captured:
        """Make the graph that returns ``out`` and the state after the step."""
        leaves, structure = flatten(out)
        outputs: list[Value] = []
        results: list[tuple[str, Any]] = []
        for leaf in leaves:
            kind, value = self._result(leaf)
            results.append((kind, value))
            if isinstance(value, Value):
                outputs.append(value)
        made = Captured(self.graph, structure, results)
        outputs += self._final_grads(made)
        made.n_results = len(outputs)
        made.written = [cell for cell in self.written if cell not in self.made]
        made.cells = [cell for cell in self._cells if cell not in self.made]
        self.graph.outputs = outputs + [self.lift(self._cells[cell]).value for cell in made.written]
        self._resolve_inputs(made)
        made.fixed = self.fixed
        return made

    def _result(self, leaf: Any) -> tuple[str, Any]:
        if isinstance(leaf, Cell):
            return "constant", leaf
        if isinstance(leaf, Tensor):
            if not isinstance(leaf.value, Value):
                return "constant", leaf.detach()
            return ("number" if isinstance(leaf, Weak) else "tensor"), self.lift(leaf).value
        self._refuse_opaque(leaf)
        return ("array" if isinstance(leaf, np.ndarray) else "constant"), leaf

    def _refuse_opaque(self, leaf: Any) -> None:
        """Raise an error if a result is an object with traced tensors in it, which no run can replace."""
        inside = list(getattr(leaf, "__dict__", {}).values()) if not is_module(leaf) else []
        inside += [getattr(leaf, name, None) for name in getattr(type(leaf), "__slots__", ())]
        traced = (isinstance(x, Tensor) and not isinstance(x, Cell) and isinstance(x.value, Value) for x in inside)
        if isinstance(leaf, Iterator) or any(traced):
            raise TraceError(
                "compile",
                "a compiled function returns tensors in tuples, lists and dicts, not in other objects",
                received=f"a {type(leaf).__name__}",
                fix="return a tuple, a NamedTuple or a dict, and make the object of it outside",
            )

    def _final_grads(self, made: Captured) -> list[Value]:
        outputs = []
        for cell, final in self._grads.items():
            if cell in self.made:
                continue
            made.grad_cells.append(cell)
            read_first = cell in self._grad_entry
            entry = self._grad_entry.get(cell)
            if read_first:
                made.grad_kinds.append((cell, cell.grad_kind))
            if final is None:
                if entry is not None or not read_first:
                    made.cleared.append(cell)
            elif final is entry:
                continue
            elif read_first or self.keep_grads:
                made.kept.append(cell)
                outputs.append(self.lift(final).value)
            else:
                made.unkept.append(cell)
        return outputs

    def _resolve_inputs(self, made: Captured) -> None:
        """Drop the inputs that nothing uses, and say where the others come from."""
        graph = self.graph
        used = {v for node in graph.nodes for v in node.inputs} | set(graph.outputs)
        kept = [(v, *origin) for v, origin in zip(graph.inputs, self.origins, strict=True) if v in used]
        graph.inputs = [v for v, _, _ in kept]
        made.leaves = [what for _, kind, what in kept if kind == "leaf"]
        made.entry_grads = [what for _, kind, what in kept if kind == "grad"]
        numbers = {"leaf": iter(range(len(kept))), "grad": iter(range(len(made.leaves), len(kept)))}
        for _, kind, what in kept:
            made.inputs.append(CellSource(what) if kind == "cell" else Argument(next(numbers[kind])))

    def leave(self) -> None:
        """Undo what going backward left at tensors from outside: the value is known within the trace only."""
        for tensor, before in self._leaves_outside:
            if tensor._grad is not before:
                tensor._grad = NOT_KEPT

    def arrays(self) -> list[TakenArray]:
        """The arrays taken that somebody else can still change."""
        taken = [entry for entry, _ in self._arrays.values()]
        self._arrays.clear()
        found = []
        while taken:
            entry = taken.pop()
            if _is_shared(entry):
                found.append(entry)
        return found[::-1]


def _is_shared(entry: TakenArray) -> bool:
    """Whether somebody else holds the memory of the array."""
    owner = entry.array
    if isinstance(owner.base, np.ndarray):
        if sys.getrefcount(owner) > 3:  # the entry, the name here, the argument of the call
            return True
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
    if owner.base is not None:
        return True
    return sys.getrefcount(owner) > 3


def capture(
    function: Callable[..., Any],
    leaves: Sequence[Any],
    runtime: Sequence[bool],
    structure: Any,
    name: str,
    keep_grads: bool,
) -> Captured:
    """Run ``function`` on placeholders; nothing outside of the trace changes.

    Args:
        function: the user's function.
        leaves: of the pair of positional and named arguments.
        runtime: for each leaf whether its value varies from call to call.
        structure: how the leaves nest.
        name: of the graph.
        keep_grads: whether gradients are results.
    """
    trace = StepTrace(name, keep_grads)
    state.traces.append(trace)
    try:
        given = [
            trace.argument(i, leaf) if varies else leaf
            for i, (leaf, varies) in enumerate(zip(leaves, runtime, strict=True))
        ]
        args, kwargs = unflatten(structure, given)
        out = function(*args, **kwargs)
        made = trace.finish(out)
    finally:
        state.traces.remove(trace)
        trace.leave()
    del given, args, kwargs, out
    made.arrays = trace.arrays()
    return made
