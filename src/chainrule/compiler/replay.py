"""After a fault in native code: the same call in Python, which raises the exception of eager mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ..errors import CompilerError
from ..tensor.cells import Cell
from ..tensor.state import state
from .interface import ProgramFault


def replay(call: Callable[[], Any], cells: Sequence[Cell], name: str, fault: ProgramFault) -> NoReturn:
    """Run ``call`` from the state that the program started from, and raise what it raises; no cell changes.

    Args:
        call: the user's function with its arguments.
        cells: what it may read or write.
        name: of the compiled function.
        fault: what the program reported.

    Raises:
        CompilerError: ``call`` raises nothing.
    """
    kept = [(cell, cell.keep()) for cell in cells]
    before, state.interpreted = state.interpreted, True
    try:
        call()
    finally:
        state.interpreted = before
        for cell, values in kept:
            cell.put_back(values)
    error = CompilerError(
        name,
        f"the compiled program reported a fault ({fault.kind}) that the function does not have in Python",
        received="an unknown operation" if fault.node is None else f"the operation {fault.node.primitive.name}",
        fix="run the function without cr.compile, and please report this",
    )
    if fault.node is not None and fault.node.source:
        error.location = fault.node.source
    raise error
