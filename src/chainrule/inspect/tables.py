"""Tables for people: numbers in few characters, and text for a terminal."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

_WIDTH = 400  # where there is no terminal: a table takes what it needs
_LONGEST_NAME = 44


@dataclass
class Table:
    """A table, shown in a terminal or on a page.

    Attributes:
        title: what stands above it.
        columns: the heads; one that begins with ``>`` is of numbers, aligned at the right.
        rows: a text for each column.
        keys: for each row, what stands for it in links; none if left out.
    """

    title: str
    columns: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


def text_of(title: str, tables: Sequence[Table], summary: Sequence[str], width: int | None = None) -> str:
    """Tables and lines as plain text.

    Args:
        title: the first line.
        tables: what follows; empty ones are left out.
        summary: the last lines.
        width: in characters; that of the terminal if left out.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable

    if width is None:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH
    out = io.StringIO()
    console = Console(file=out, width=width, markup=False, emoji=False, highlight=False, color_system=None)
    console.print(title)
    for table in tables:
        if not table.rows:
            continue
        shown = RichTable(
            title=table.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, show_edge=False, title_style=""
        )
        for head in table.columns:
            shown.add_column(head.lstrip(">"), justify="right" if head.startswith(">") else "left")
        for row in table.rows:
            shown.add_row(*row)
        console.print()
        console.print(shown)
    console.print()
    for line in summary:
        console.print(line, soft_wrap=True)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def bytes_text(n: float) -> str:
    """A number of bytes: ``8.0 KiB``."""
    if abs(n) < 1024:
        return f"{n:.0f} B"
    for unit in ("KiB", "MiB"):
        n /= 1024
        if abs(n) < 1024:
            return f"{n:.1f} {unit}"
    return f"{n / 1024:.2f} GiB"


def count_text(n: float) -> str:
    """A number in three or four digits: ``81.9 k``."""
    if abs(n) < 1000:
        return f"{n:.0f}"
    for unit in ("k", "M", "G"):
        n /= 1000
        if abs(n) < 1000:
            return f"{n:.1f} {unit}"
    return f"{n / 1000:.1f} T"


def time_text(seconds: float) -> str:
    """A time: ``1.3 ms``."""
    for factor, unit in ((1e9, "ns"), (1e6, "µs"), (1e3, "ms")):
        if seconds * factor < 1000:
            return f"{seconds * factor:.{0 if unit == 'ns' else 1}f} {unit}"
    return f"{seconds:.2f} s"


def share_text(part: float, whole: float) -> str:
    """A share of the whole: ``12.3 %``."""
    return f"{100 * part / whole:.1f} %" if whole else ""


def times_text(times: float) -> str:
    """How often: nothing for once."""
    return "" if times == 1 else f"{times:,.0f} ×" if times == int(times) else f"{times:,.1f} ×"


def extents(shape: Sequence[int]) -> str:
    """The extents of a shape: ``64×32``."""
    return "×".join(map(str, shape)) or "1"


def shortened(names: Sequence[str]) -> str:
    """The names joined; where that is too long, how many more there are."""
    text = " + ".join(names)
    if len(text) <= _LONGEST_NAME:
        return text
    shown = list(names)
    while len(shown) > 1 and len(" + ".join(shown)) > _LONGEST_NAME - 5:
        shown.pop()
    more = len(names) - len(shown)
    return " + ".join(shown) + (f" + {more} more" if more else "")


def line_text(source: str) -> str:
    """A line of code as ``file:line``, with folders only below the working directory."""
    path, _, line = source.rpartition(":")
    if not path:
        return source
    here = os.getcwd() + os.sep
    return f"{path[len(here) :] if path.startswith(here) else os.path.basename(path)}:{line}"
