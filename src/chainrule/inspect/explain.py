"""`explain`: what a compiled function will do, before it does it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..compiler.program import Program
from . import page, report, tables
from .report import Kept, Row, Use
from .tables import Table, bytes_text, count_text, extents, line_text, share_text, time_text, times_text


def explain(step: Any, /, *args: Any, **kwargs: Any) -> Explanation:
    """Say what the program of a compiled function does, without running it.

    Printed, the result is a table of the kernels in order (what each computes, over what, floating-point operations,
    bytes, predicted time), the state that the program reads and writes, every value that it keeps for the backward
    phase with the line that computes it, and the memory that it needs. What stands in a loop is counted as often as the
    loop runs. Times are rough estimates; `profile` measures them.

    Args:
        step: a function compiled by `compile`.
        *args, **kwargs: arguments as for a call; their shapes and dtypes decide on the program.

    Raises:
        ArgumentError: ``step`` is not compiled.

    >>> w, v = Parameter(ones((3, 2))), Parameter(ones((2, 5)))
    >>> @cr.compile
    ... def step(x):
    ...     hidden = x @ w
    ...     (hidden @ v).sum().backward()
    ...     return w.grad, v.grad
    >>> explained = explain(step, ones((4, 3)))
    >>> sum(row.flops for row in explained.kernels if row.shape == "m×n×k 4×2×3")
    48
    >>> [(kept.name, kept.type.shape, kept.bytes) for kept in explained.kept]
    [('matmul', (4, 2), 32)]
    >>> explained.peak >= explained.memory["arena"]
    True
    """
    return Explanation(report.program_of("explain", step, args, kwargs))


class Explanation:
    """What a program does; see `explain`.

    Attributes:
        name: of the function.
        kernels: the steps in order.
        kept: the values kept for the backward phase.
        cells: the state that is read and written.
        memory: bytes needed, by what for.
    """

    def __init__(self, program: Program) -> None:
        self.name = program.name
        self.kernels: list[Row] = report.rows_of(program)
        self.kept: list[Kept] = report.kept_of(program)
        self.cells: list[Use] = report.cells_of(program)
        self.memory: dict[str, int] = report.memory_of(program, self.cells)

    @property
    def peak(self) -> int:
        """The most memory in bytes that a run needs, but for the arguments."""
        return sum(self.memory.values())

    @property
    def flops(self) -> float:
        """Floating-point operations of a run."""
        return sum(row.flops * row.times for row in self.kernels)

    @property
    def bytes(self) -> float:
        """Bytes that a run reads and writes."""
        return sum(row.bytes * row.times for row in self.kernels)

    @property
    def seconds(self) -> float:
        """Predicted time of a run."""
        return sum(row.seconds * row.times for row in self.kernels)

    # --- tables -------------------------------------------------------------------------------------------------------

    def summary(self) -> list[str]:
        """The totals, in words."""
        parts = ", ".join(f"{name} {bytes_text(n)}" for name, n in self.memory.items() if n)
        counted = sum(not row.is_loop for row in self.kernels)
        kept = sum(value.bytes for value in self.kept)
        return [
            f"{counted} kernels, {count_text(self.flops)}FLOP, {bytes_text(self.bytes)} read and written, "
            f"{time_text(self.seconds)} predicted",
            f"peak memory {bytes_text(self.peak)}: {parts}",
            f"kept for the backward phase: {len(self.kept)} values, {bytes_text(kept)}",
        ]

    def tables(self) -> list[Table]:
        """Kernels, state, and what is kept for the backward phase."""
        return [self._kernels(), _state(self.cells), _kept(self.kept)]

    def _kernels(self) -> Table:
        table = Table(
            "Kernels, in order",
            (">#", "computes", "over", ">FLOP", ">bytes", ">predicted", ">share", ">threads", "line"),
        )
        total = self.seconds
        for row in self.kernels:
            table.keys.append(f"k{row.number}")
            name = "  " * row.depth + " ".join(filter(None, (times_text(row.times), row.name, "(again)" * row.again)))
            numbers = [""] * 5
            if not row.is_loop:
                numbers = [
                    count_text(row.flops * row.times), bytes_text(row.bytes * row.times),
                    time_text(row.seconds * row.times), share_text(row.seconds * row.times, total), str(row.threads),
                ]  # fmt: skip
            table.rows.append([str(row.number), name, row.shape, *numbers, line_text(row.source)])
        return table

    def text(self, width: int | None = None) -> str:
        """The tables as text, ``width`` characters wide."""
        return tables.text_of(f"{self.name}, as compiled", self.tables(), self.summary(), width)

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__

    # --- pages and data -----------------------------------------------------------------------------------------------

    def html(self) -> str:
        """A page with the tables and the graph, in one file that needs nothing from outside."""
        total = self.seconds or 1.0
        times = [row.seconds * row.times for row in self.kernels]
        drawing = page.draw(self.kernels, [t / total for t in times], [time_text(t) if t else "" for t in times])
        return page.page(f"{self.name}, as compiled", self.summary(), self.tables(), drawing)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the page."""
        Path(path).write_text(self.html(), encoding="utf-8")

    def to_dict(self) -> dict[str, Any]:
        """All numbers, as what JSON can hold."""
        return {
            "name": self.name,
            "kernels": [dataclasses.asdict(row) for row in self.kernels],
            "kept": [_plain(kept) for kept in self.kept],
            "cells": [_plain(use) for use in self.cells],
            "memory": self.memory | {"peak": self.peak},
            "flops": self.flops,
            "bytes": self.bytes,
            "seconds": self.seconds,
        }


def _plain(entry: Kept | Use) -> dict[str, Any]:
    made = dataclasses.asdict(entry)
    del made["type"]
    return made | {"shape": list(entry.type.shape), "dtype": entry.type.dtype.name}


def _state(cells: Sequence[Use]) -> Table:
    """Cells with a name one by one, the others, which optimizers keep, together."""
    table = Table("State", ("cell", "kind", "shape", "dtype", ">bytes", "program"))
    for use in cells:
        if use.name:
            row = [use.name, use.kind, extents(use.type.shape), use.type.dtype.name, bytes_text(use.bytes)]
            table.rows.append([*row, _access(use)])
    rest: dict[tuple[str, str, str], list[Use]] = {}
    for use in cells:
        if not use.name:
            rest.setdefault((use.kind, use.type.dtype.name, _access(use)), []).append(use)
    for (kind, dtype, access), group in rest.items():
        shape = extents(group[0].type.shape) if len(group) == 1 else ""
        total = bytes_text(sum(use.bytes for use in group))
        table.rows.append([f"({len(group)} without a name)", kind, shape, dtype, total, access])
    return table


def _access(use: Use) -> str:
    return " and ".join(word for word, true in (("reads", use.read), ("writes", use.written)) if true)


def _kept(values: Sequence[Kept]) -> Table:
    table = Table(
        "Kept for the backward phase", ("value", "shape", "dtype", ">bytes", ">made by", ">last read by", "line")
    )
    for kept in values:
        table.rows.append(
            [
                kept.name, extents(kept.type.shape), kept.type.dtype.name, bytes_text(kept.bytes), str(kept.made),
                str(kept.read), line_text(kept.source),
            ]
        )  # fmt: skip
    return table
