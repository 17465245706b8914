"""Results as tables, as JSON, as a history and as a picture."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from .peers import FOLDER
from .summary import CLOSE, FIRST, Row, ours, summary

RESULTS = FOLDER / "results"
OURS, PEER, REST = "#1f77b4", "#d95f02", "#bbbbbb"


def _table(title: str, *columns: str) -> Table:
    made = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left", no_wrap=True)
    return made


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.4g}"


def _ratio(contender: Row) -> str:
    return f"{contender['times_best_peer']:.2f}" if "times_best_peer" in contender else "-"


def _share(contender: Row) -> str:
    return f"{contender['share_of_peak']:.0%}"


def contenders(title: str, row: Row) -> Table:
    """One workload."""
    made = _table(
        title, "", "ms", "p10 - p90", "x best peer", "GFLOP/s", "of peak", "first loss s, cold", "warm", "peak MB",
        "loss 20",
    )  # fmt: skip
    for name, c in row["contenders"].items():
        made.add_row(
            name, milliseconds(c["median"]), f"{milliseconds(c['p10'])} - {milliseconds(c['p90'])}", _ratio(c),
            f"{c['gflops']:.1f}", _share(c), f"{c['first_loss_s']['cold']:.2f}", f"{c['first_loss_s']['warm']:.2f}",
            f"{c['peak_rss_mb']:.0f}", f"{c['losses'][-1]:.6g}",
        )  # fmt: skip
    return made


def remarks(row: Row) -> list[str]:
    """What else is to be known about a row, in sentences."""
    found = row["agreement"]
    said = [*row["left_out"], *row["restless"]]
    if found is not None and not found["chaotic"]:
        said.append(f"Loss 20 is within {found['last']:.0e} of the nearest peer's.")
    elif found is not None:
        word = "agree" if found["agrees"] else "do NOT agree"
        said.append(
            f"Loss 20 is {found['last']:.0e} from the nearest peer's (more than {CLOSE:g}); the first {FIRST} losses "
            f"{word}, within {found['first']:.0e}."
        )
    peaks = row["peak_gflops"]
    return [*said, f"FMA peak between rounds: {min(peaks):.0f} to {max(peaks):.0f} GFLOP/s."]


def overview(rows: Mapping[str, Row]) -> Table:
    """All workloads, a line each."""
    made = _table(
        "all workloads, ours against the best peer", "", "ms", "best peer", "ms", "times faster", "GFLOP/s", "of peak",
        "first loss s, cold", "warm", "peak MB", "losses",
    )  # fmt: skip
    for name, row in rows.items():
        c, best, found = ours(row), row["best_peer"], row["agreement"]
        losses = "-" if found is None else ("agree" if found["agrees"] else "differ") + ", chaotic" * found["chaotic"]
        made.add_row(
            name, milliseconds(c["median"]), best or "-",
            milliseconds(row["contenders"][best]["median"]) if best else "-", _ratio(c), f"{c['gflops']:.1f}",
            _share(c), f"{c['first_loss_s']['cold']:.2f}", f"{c['first_loss_s']['warm']:.2f}",
            f"{c['peak_rss_mb']:.0f}", losses,
        )  # fmt: skip
    return made


# --- files ------------------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model n" in line]
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": names[0] if names else platform.processor(), "cores": os.cpu_count(),
        "memory_gb": round(pages / 2**30, 1), "system": platform.platform(), "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in ("chainrule", "numpy", "llvmlite")},
    }  # fmt: skip


def commit() -> str:
    """The commit of this checkout, with a plus if files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=FOLDER, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)benchmarks/results")
    return git("rev-parse", "--short", "HEAD") + "+" * bool(changed)


def stamp() -> dict[str, str]:
    return {"commit": commit(), "date": time.strftime("%Y-%m-%dT%H:%M:%S%z")}


def write(rows: Mapping[str, Row], folder: Path = RESULTS) -> None:
    """Put rows into the latest results, beside those of other workloads, and add a line to the history."""
    folder.mkdir(parents=True, exist_ok=True)
    latest = folder / "latest.json"
    before = json.loads(latest.read_text())["rows"] if latest.exists() else {}
    every = dict(sorted((before | dict(rows)).items()))
    content = summary(every) | {"machine": machine(), "rows": every}
    latest.write_text(json.dumps(content, indent=1) + "\n")
    first = next(iter(rows.values()))
    line = {key: first[key] for key in ("commit", "date", "threads")} | summary(rows)
    line["peak_gflops"] = {name: max(row["peak_gflops"]) for name, row in rows.items()}
    with (folder / "history.jsonl").open("a") as history:
        history.write(json.dumps(line) + "\n")
    picture(every, folder / "latest.svg")


def picture(rows: Mapping[str, Row], path: Path) -> None:
    """Bars: how many times as fast as the best peer each contender is, and its share of the machine's peak."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter, StrMethodFormatter

    lines = [(name, who, c) for name, row in rows.items() for who, c in row["contenders"].items()]
    figure = Figure(figsize=(11, 1.2 + 0.2 * len(lines)), layout="constrained")
    speed, share = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    places = [i + 0.8 * list(rows).index(name) for i, (name, _, _) in enumerate(lines)]
    colors = [OURS if c["ours"] else PEER if who == rows[name]["best_peer"] else REST for name, who, c in lines]
    ratios = [c.get("times_best_peer", 1.0) for _, _, c in lines]
    speed.barh(places, [r - 1 for r in ratios], left=1, color=colors)
    for place, value in zip(places, ratios, strict=True):
        speed.annotate(f" {value:.2f} ", (value, place), va="center", ha="left" if value >= 1 else "right", size=7)
    share.barh(places, [c["share_of_peak"] for _, _, c in lines], color=colors)
    speed.set_yticks(places, [f"{name}  {who}" for name, who, _ in lines], size=7)
    speed.invert_yaxis()
    speed.set(xscale="log", title="speed, best peer = 1")
    speed.xaxis.set_major_locator(FixedLocator([2.0**k for k in range(-8, 9)]))
    speed.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    speed.xaxis.set_minor_locator(NullLocator())
    speed.set_xlim(min(ratios) / 1.6, max(ratios) * 1.6)
    speed.axvline(1, color="black", linewidth=0.8)
    share.set(title="share of the measured FMA peak", xlim=(0, 1))
    share.xaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (speed, share):
        axes.grid(True, axis="x", alpha=0.3)
    figure.savefig(path, metadata={"Date": None})
