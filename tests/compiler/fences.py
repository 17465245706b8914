"""Fences around the memory that programs write to: what is written beyond its end would corrupt other memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from chainrule.compiler import program

WIDTH, MARK = 1024, 0xA5


class _Fenced:
    """NumPy, as the program sees it, with a fence around every array that it makes."""

    def __init__(self) -> None:
        self.made: list[tuple[np.ndarray, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def empty(self, shape: Any, dtype: Any = float) -> np.ndarray:
        dtype = np.dtype(dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        memory = np.full(size + 2 * WIDTH, MARK, np.uint8)
        self.made.append((memory, f"{dtype.name}{shape}"))
        return memory[WIDTH : WIDTH + size].view(dtype).reshape(shape)

    def zeros(self, shape: Any, dtype: Any = float) -> np.ndarray:
        made = self.empty(shape, dtype)
        made[...] = 0
        return made


@contextmanager
def fences() -> Iterator[None]:
    """Programs made within have fences, which must be whole at the end."""
    fenced = _Fenced()
    program.np = fenced  # type: ignore[assignment]
    try:
        yield
    finally:
        program.np = np
    for memory, what in fenced.made:
        for side in (memory[:WIDTH], memory[-WIDTH:]):
            assert (side == MARK).all(), f"a program wrote beyond the memory of an array {what}"
