"""What the two halves of the compiler agree on: the sources of a program's inputs, and how a run can fail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from ..graph.ir import Graph, Node
from ..tensor.cells import Cell


class Argument(NamedTuple):
    """An input that each run is given: the number of its array."""

    number: int


class CellSource(NamedTuple):
    """An input that lies in the storage of a cell, ``cell.storage()``."""

    cell: Cell


Source: TypeAlias = Argument | CellSource


class ProgramFault(Exception):
    """A run met what is an exception in eager mode, such as an index out of range. No cell has changed.

    Args:
        kind: what it was, in words.
        node: the operation, if it is known.
    """

    def __init__(self, kind: str, node: Node | None = None) -> None:
        super().__init__(kind)
        self.kind = kind
        self.node = node


class Program(Protocol):
    """A graph that can be run."""

    graph: Graph

    def run(self, arrays: Sequence[Any]) -> list[np.ndarray]:
        """Return the results in new arrays, and update the storage of the written cells at the very end.

        Args:
            arrays: one for each `Argument`, of its shape and dtype, strided in any way; they are not changed.

        Raises:
            ProgramFault: see there.
        """
        ...


class BackEnd(Protocol):
    """Makes programs.

    The outputs of the graph are ``n_results`` results, then the last value of each written cell. An output may be an
    input or a constant, and two may be the same value.
    """

    def __call__(
        self,
        graph: Graph,
        inputs: list[Source],
        n_results: int,
        written: list[Cell],
        name: str,
        memory_budget: int | None,
    ) -> Program:
        """Compile a graph whose inputs come from ``inputs``."""
        ...
