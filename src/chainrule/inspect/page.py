"""Pages: tables and the graph of a program in one file, which needs nothing from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .report import Row
from .tables import Table, bytes_text, count_text, line_text, times_text

_BOX, _HEIGHT, _GAP, _LEVEL = 178, 38, 14, 34
_MOST = 10  # boxes beside each other
_LABEL = 25  # characters

_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem; color: #1c2430; background: #fff; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: 2px 10px; text-align: left; white-space: pre; border-bottom: 1px solid #e3e7ec; }
th { position: sticky; top: 0; background: #f4f6f8; } .n { text-align: right; font-variant-numeric: tabular-nums; }
tr:target td { background: #fff3c4; } a { color: inherit; text-decoration: none; }
.graph { overflow: auto; max-height: 80vh; border: 1px solid #e3e7ec; }
svg text { font: 11px system-ui, sans-serif; fill: #1c2430; pointer-events: none; } svg .small { fill: #556; }
.box rect { stroke: #7a8594; } .box:hover rect { stroke: #000; stroke-width: 2; }
.edge { fill: none; stroke: #98a2b0; opacity: .7; } .edge.far { opacity: .2; }
.edge.on { stroke: #c2410c; stroke-width: 2; opacity: 1; }
"""

# The edges of the box under the pointer are drawn strongly.
_SCRIPT = """
for (const box of document.querySelectorAll('.box')) {
  const edges = document.querySelectorAll('.from' + box.dataset.number + ',.to' + box.dataset.number);
  box.addEventListener('mouseenter', () => edges.forEach(e => e.classList.add('on')));
  box.addEventListener('mouseleave', () => edges.forEach(e => e.classList.remove('on')));
}
"""


def page(title: str, summary: Sequence[str], tables: Sequence[Table], drawing: str) -> str:
    """A page with the lines of the summary, the drawing and the tables."""
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in summary),
        "<h2>Graph</h2><p>Each box is a kernel, the stronger its colour the longer it takes; point at it for details, "
        f'click it for its row.</p><div class="graph">{drawing}</div>',
        *(_table(table) for table in tables if table.rows),
        f"<script>{_SCRIPT}</script></body></html>\n",
    ]
    return "\n".join(parts)


def _table(table: Table) -> str:
    marks = [' class="n"' if head.startswith(">") else "" for head in table.columns]
    heads = "".join(
        f"<th{mark}>{escape(head.lstrip('>'))}</th>" for mark, head in zip(marks, table.columns, strict=True)
    )
    lines = [f"<h2>{escape(table.title)}</h2>", f"<table><thead><tr>{heads}</tr></thead><tbody>"]
    for i, row in enumerate(table.rows):
        key = f' id="{escape(table.keys[i])}"' if table.keys else ""
        cells = "".join(f"<td{mark}>{escape(text)}</td>" for mark, text in zip(marks, row, strict=True))
        lines.append(f"<tr{key}>{cells}</tr>")
    return "\n".join([*lines, "</tbody></table>"])


# --- the graph --------------------------------------------------------------------------------------------------------


@dataclass
class _Place:
    level: int
    x: float = 0.0
    y: float = 0.0


def draw(rows: Sequence[Row], shares: Sequence[float], times: Sequence[str]) -> str:
    """The graph of a program as SVG: a box for each step, below those that it depends on.

    Args:
        rows: the steps.
        shares: for each, its share of all the time, from 0 to 1.
        times: for each, its time in words.
    """
    places = _layout(rows)
    largest = max(shares, default=0.0) or 1.0
    width = max((p.x for p in places.values()), default=0) + _BOX + _GAP
    height = max((p.y for p in places.values()), default=0) + _HEIGHT + _GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}">'
    ]
    lines += [_edge(row.number, before, places) for row in rows for before in row.after if before in places]
    for row, share, time in zip(rows, shares, times, strict=True):
        lines.append(_box(row, places[row.number], share, share / largest, time))
    return "\n".join([*lines, "</svg>"])


def _layout(rows: Sequence[Row]) -> dict[int, _Place]:
    """Steps in levels by what they depend on, those of a level in the order of what is above them."""
    places: dict[int, _Place] = {}
    for row in rows:
        places[row.number] = _Place(1 + max((places[n].level for n in row.after if n in places), default=-1))
    first: dict[int, int] = {}  # the level of the first reader
    for row in reversed(rows):
        if not row.after and row.number in first:  # what depends on nothing goes near its reader
            places[row.number].level = max(first[row.number] - 1, 0)
        for n in row.after:
            first[n] = min(first.get(n, 1 << 30), places[row.number].level)
    levels: dict[int, list[Row]] = {}
    for row in rows:
        levels.setdefault(places[row.number].level, []).append(row)
    y = float(_GAP)
    for level in sorted(levels):
        ordered = sorted(levels[level], key=lambda row: (_above(row, places), row.number))
        for start in range(0, len(ordered), _MOST):
            line = ordered[start : start + _MOST]
            for i, row in enumerate(line):
                places[row.number].x, places[row.number].y = _GAP + i * (_BOX + _GAP), y
            y += _HEIGHT + (_LEVEL if start + _MOST >= len(ordered) else _GAP)
    return places


def _above(row: Row, places: dict[int, _Place]) -> float:
    """The middle of what a step depends on."""
    xs = [places[n].x for n in row.after if n in places]
    return sum(xs) / len(xs) if xs else 0.0


def _edge(number: int, before: int, places: dict[int, _Place]) -> str:
    a, b = places[before], places[number]
    x1, y1, x2, y2 = a.x + _BOX / 2, a.y + _HEIGHT, b.x + _BOX / 2, b.y
    bend = max((y2 - y1) / 2, 12)
    far = " far" if b.level - a.level > 3 else ""  # many of these cross the others
    return (
        f'<path class="edge{far} from{before} to{number}" '
        f'd="M{x1:.0f} {y1:.0f}C{x1:.0f} {y1 + bend:.0f} {x2:.0f} {y2 - bend:.0f} {x2:.0f} {y2:.0f}"/>'
    )


def _box(row: Row, place: _Place, share: float, strength: float, time: str) -> str:
    lightness = 97 - 37 * strength**0.5
    label = row.name if len(row.name) <= _LABEL else row.name[: _LABEL - 1] + "…"
    details = [
        f"{row.number}: {row.name}", row.shape, times_text(row.times),
        f"{count_text(row.flops)}FLOP, {bytes_text(row.bytes)}", f"{time}, {share:.1%}", line_text(row.source),
    ]  # fmt: skip
    tip = escape("\n".join(line for line in details if line))
    return (
        f'<a href="#k{row.number}"><g class="box" data-number="{row.number}"><title>{tip}</title>'
        f'<rect x="{place.x:.0f}" y="{place.y:.0f}" width="{_BOX}" height="{_HEIGHT}" rx="4" '
        f'fill="hsl(24 90% {lightness:.0f}%)"/>'
        f'<text x="{place.x + 7:.0f}" y="{place.y + 15:.0f}">{escape(label)}</text>'
        f'<text class="small" x="{place.x + 7:.0f}" y="{place.y + 30:.0f}">'
        f"{row.number}  {escape(row.shape[:16])}  {escape(time)}</text></g></a>"
    )
