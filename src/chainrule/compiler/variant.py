"""One program of a compiled function, with the circumstances that it is good for and what surrounds a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autodiff.trees import unflatten
from ..registry import F
from ..tensor.state import shared
from ..tensor.storage import Runs
from ..tensor.tensor import NOT_KEPT, Tensor
from .capture import Captured
from .guards import Guards
from .interface import Program, ProgramFault
from .replay import replay


class Variant:
    """A program and its guards.

    Attributes:
        guards: what must be as it was.
        fixed: numbers of leaves that must have a value.
        program: the program.
    """

    def __init__(
        self,
        name: str,
        captured: Captured,
        guards: Guards,
        program: Program,
        again: Callable[[Sequence[Any]], Any],
    ) -> None:
        self.guards = guards
        self.fixed = sorted(captured.fixed.items())
        self.program = program
        self._name = name
        self._again = again
        self._leaves = captured.leaves
        self._entry_grads = captured.entry_grads
        self._kept = captured.kept
        self._cleared = captured.cleared
        self._unkept = captured.unkept
        self._cells = captured.cells
        self._all_cells = list(dict.fromkeys([*captured.cells, *captured.grad_cells]))
        self._result = _maker(captured)
        self._values: Any = None  # the token when the storage of the cells was last brought up to date
        self._runs = Runs(self)
        for cell in captured.cells:
            cell.storage()
        for cell in captured.written:
            cell.written_by(self._runs)

    def accepts(self, leaves: Sequence[Any]) -> bool:
        """Whether the program is good for these arguments, which have the kinds that it was made for, and now."""
        for i, value in self.fixed:
            if leaves[i] != value:
                return False
        return self.guards.hold()

    def run(self, leaves: Sequence[Any]) -> Any:
        """Run the program with the leaves of the arguments, and return its result."""
        arrays = []
        for i in self._leaves:
            leaf = leaves[i]
            if leaf.__class__ is Tensor:
                arrays.append(leaf.value)
            elif leaf.__class__ is np.ndarray and leaf.dtype.isnative:
                arrays.append(leaf)
            else:
                arrays.append(_array(leaf))
        for cell in self._entry_grads:
            arrays.append(cell._gradient.value)
        fault = None
        with shared.lock:
            if shared.values is not self._values:
                self._refresh()
            try:
                results = self.program.run(arrays)
                self._runs.count += 1  # not before: what the host reads of a cell meanwhile is its old value
            except ProgramFault as error:
                fault = error
            except BaseException:
                self._runs.count += 1  # an interrupt may have come after the commit phase
                raise
            if fault is not None:
                replay(lambda: self._again(leaves), self._all_cells, self._name, fault)
            if self._kept or not self.guards.gradients_settled:
                self._write_gradients(results)
        return self._result(results)

    def _refresh(self) -> None:
        """Take over what was assigned to the cells outside of programs."""
        token = shared.values
        for cell in self._cells:
            if cell._dirty:
                cell.storage()
        self._values = token

    def _write_gradients(self, results: list[np.ndarray]) -> None:
        n = len(results) - len(self._kept)
        for cell, array in zip(self._kept, results[n:], strict=True):
            cell._grad = Tensor(array)
        if self.guards.gradients_settled:
            return
        for cells, value in ((self._unkept, NOT_KEPT), (self._cleared, None)):
            for cell in cells:
                cell._grad = value
        self.guards.settle_gradients()


def _array(leaf: Any) -> np.ndarray:
    """An argument that is no plain tensor or array, as its placeholder promises it."""
    if isinstance(leaf, (int, float)):
        return np.array(leaf, np.float64 if isinstance(leaf, float) else np.int64)
    return F.asarray(leaf).value


def _maker(captured: Captured) -> Callable[[list[np.ndarray]], Any]:
    """The function that makes the result of a call from the arrays that a program returns."""
    kinds, structure = captured.results, captured.structure
    if structure.is_leaf() and kinds[0][0] == "tensor":
        return lambda arrays: Tensor(arrays[0])

    def make(arrays: list[np.ndarray]) -> list[Any]:
        rest = iter(arrays)
        take: dict[str, Callable[[Any], Any]] = {
            "tensor": lambda _: Tensor(next(rest)), "number": lambda _: next(rest).item(),
            "array": np.copy, "constant": lambda value: value,
        }  # fmt: skip
        return [take[kind](value) for kind, value in kinds]

    if structure.is_leaf():
        return lambda arrays: make(arrays)[0]
    if structure.type is tuple and all(child.is_leaf() for child in structure.children()):
        return lambda arrays: tuple(make(arrays))
    return lambda arrays: unflatten(structure, make(arrays))
