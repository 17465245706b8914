"""Programs that run their graph in NumPy, operation by operation: what every other back end must agree with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.compiler.interface import Argument, ProgramFault, Source
from chainrule.graph.ir import Graph
from chainrule.graph.tracing import evaluate
from chainrule.tensor.cells import Cell


class ReferenceProgram:
    """A graph, run by `chainrule.graph.tracing.evaluate`; see `chainrule.compiler.interface.Program`."""

    def __init__(
        self,
        graph: Graph,
        inputs: list[Source],
        n_results: int,
        written: list[Cell],
        name: str,
        memory_budget: int | None,
    ) -> None:
        self.graph = graph
        self.inputs = inputs
        self.n_results = n_results
        self.written = written

    def run(self, arrays: Sequence[Any]) -> list[np.ndarray]:
        """Compute the results and update the cells."""
        given = [np.asarray(arrays[s.number]) if isinstance(s, Argument) else s.cell.storage() for s in self.inputs]
        try:
            outputs = evaluate(self.graph, given)
        except Exception as error:
            raise ProgramFault(f"{type(error).__name__}: {error}") from error
        outputs = [np.array(array) for array in outputs]
        for cell, final in zip(self.written, outputs[self.n_results :], strict=True):
            cell.storage()[...] = final
        return outputs[: self.n_results]
