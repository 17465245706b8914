"""The storage of cells that compiled programs update in place, and what counts their runs."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

_ALIGNMENT = 64  # a cache line, and the widest vector


class Runs:
    """How often a program ran; every cell that it writes looks here for its version."""

    __slots__ = ("_program", "count")

    def __init__(self, program: Any) -> None:
        self.count = 0
        self._program = weakref.ref(program)

    def alive(self) -> bool:
        """Whether the program may run again."""
        return self._program() is not None


def aligned_copy(array: np.ndarray) -> np.ndarray:
    """Return a copy of an array in row-major order that begins at a cache line; none shares its last one with it."""
    raw = np.empty(array.nbytes + 2 * _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    made = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    made[...] = array
    return made
