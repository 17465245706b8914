"""How time and memory of a training step grow, here and in PyTorch, and how long the first step of deep networks takes.

    python benchmarks/scaling.py [batch width depth length threads layers] [--seconds 1] [--threads 2] [--out FOLDER]

- batch, width, depth, length: a language model with one of its sizes changed; threads: the largest of them.
- layers: a fresh process of ours that has compiled nothing yet, to the first loss of networks of 20 to 200 layers.

Both libraries train the same model, in processes that take turns. Memory is the peak of the process; first losses are
medians. An exponent is the slope of a line through the larger sizes in logarithms; that of memory is of what is above
the memory of a process that trains a tiny network, that of first losses of what layers add to the smallest network:
what the library itself needs is no growth. Results are written as scaling.json and scaling.svg to benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import peers, report, session
from harness.processes import Contender, Process
from harness.summary import exponent
from networks import Draw, Workload, job
from rich.console import Console
from rich.table import Table

import chainrule as cr

BASE = {"batch": 8, "width": 64, "depth": 2, "length": 64}
SIZES = {
    "batch": (2, 4, 8, 16, 32, 64), "width": (32, 64, 128, 256, 512), "depth": (1, 2, 4, 8, 16),
    "length": (32, 64, 128, 256, 512),
}  # fmt: skip
TINY = {"batch": 1, "width": 16, "depth": 1, "length": 8}
LARGE = {"batch": 16, "width": 256, "depth": 2, "length": 128}  # for threads
LAYERS = {"mlp": (2, 20, 50, 100, 200), "resnet": (8, 20, 56, 110, 200)}
FITTED = 4  # so many of the largest sizes, where constant costs matter least
ROUNDS = 3
ADAM = ("Adam", {"lr": 1e-3})

Point = dict[str, Any]


def language_model(batch: int, width: int, depth: int, length: int) -> Workload:
    sizes = {"length": length, "width": width, "depth": depth, "heads": 4}
    return Workload("", "language_model", lambda draw: draw.text(65, batch, length), ADAM, 0.0, sizes)


def deep(kind: str, layers: int) -> Workload:
    """A network of so many layers."""
    if kind == "resnet":

        def data(draw: Draw) -> Any:
            return draw.images(4, 3, 32), draw.labels(10, 4)

        return Workload("", kind, data, ADAM, 0.0, {"depth": layers}, images=True)
    sizes = {"sizes": (*[64] * layers, 10), "activation": "Tanh"}
    return Workload("", "mlp", lambda draw: (draw.normal(32, 64), draw.labels(10, 32)), ADAM, 0.0, sizes)


# --- measuring --------------------------------------------------------------------------------------------------------


def step(workload: Workload, contenders: list[Contender], threads: int, seconds: float) -> dict[str, Point]:
    """Seconds and megabytes of a step, for each library by its name."""
    with ExitStack() as stack:
        path = stack.enter_context(session.stored(job(workload)))
        cache = stack.enter_context(tempfile.TemporaryDirectory())
        found: dict[str, Point] = {}
        times: dict[Process, list[float]] = {}
        for contender in contenders:
            process = stack.enter_context(Process(contender, path, threads, cache))
            process.ask("train", session.COMPARED - 1)
            found[process.name] = {"mb": process.ask("memory")}
            times[process] = []
        for _ in range(ROUNDS):
            for process, every in times.items():
                every += process.ask("measure", seconds / ROUNDS)
        for process, every in times.items():
            found[process.name]["s"] = statistics.median(every)
    return found


def first_loss(workload: Workload, contender: Contender, threads: int) -> dict[str, Point]:
    """Seconds from the start of a process that has compiled nothing yet."""
    seconds = []
    for _ in range(ROUNDS):
        with (
            session.stored(job(workload)) as path,
            tempfile.TemporaryDirectory() as cache,
            Process(contender, path, threads, cache) as process,
        ):
            seconds.append(process.first_seconds)
    return {contender.name: {"first": statistics.median(seconds)}}


def plans(threads: int) -> dict[str, list[tuple[float, Workload, int]]]:
    """What is measured, by its name: sizes, workloads and numbers of threads."""
    made = {name: [(n, language_model(**(BASE | {name: n})), threads) for n in sizes] for name, sizes in SIZES.items()}
    made["threads"] = [(n, language_model(**LARGE), n) for n in range(1, len(os.sched_getaffinity(0)) + 1)]
    return made | {f"layers, {kind}": [(n, deep(kind, n), threads) for n in sizes] for kind, sizes in LAYERS.items()}


def curves(points: list[tuple[float, dict[str, Point]]], tiny: dict[str, Point]) -> dict[str, Any]:
    """Of each library: sizes, what was measured, the constant part of it, and the exponent of the rest."""
    made: dict[str, Any] = {}
    for who, first in points[0][1].items():
        made[who] = {"sizes": [size for size, _ in points]}
        for what in first:
            origin, floor = {"s": (0, 0.0), "mb": (0, tiny[who].get("mb")), "first": (points[0][0], first[what])}[what]
            grown = [(size - origin, found[who][what] - floor) for size, found in points if size > origin][-FITTED:]
            made[who] |= {what: [found[who][what] for _, found in points], f"floor of {what}": floor}
            if len(grown) > 1 and min(value for _, value in grown) > 0:
                made[who][f"exponent of {what}"] = exponent(*zip(*grown, strict=True))
    return made


# --- showing ----------------------------------------------------------------------------------------------------------


SHOWN = {"s": ("step", "ms", 1e3), "mb": ("memory", "MB", 1.0), "first": ("first loss", "s", 1.0)}


def table(results: dict[str, Any]) -> Table:
    made = Table(title="growth of a training step", title_justify="left")
    for title in ("", "", "", "measured at the sizes", "~ size^", "constant"):
        made.add_column(title, justify="right" if title in ("~ size^", "constant") else "left")
    for name, found in results.items():
        for who, c in found.items():
            for what, (label, unit, scale) in SHOWN.items():
                if what in c:
                    values = ", ".join(f"{n}: {scale * v:.3g}" for n, v in zip(c["sizes"], c[what], strict=True))
                    power = f"{c[f'exponent of {what}']:.2f}" if f"exponent of {what}" in c else "-"
                    floor = f"{scale * c[f'floor of {what}']:.3g}"
                    made.add_row(name, who, f"{label}, {unit}", values, power, floor)
    return made


def picture(results: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * len(results), 5.6), layout="constrained")
    rows = figure.subplots(2, len(results), squeeze=False)
    for column, (name, found) in enumerate(results.items()):
        rows[0, column].set_title(name, size=10)
        shown = [what for what in SHOWN if any(what in c for c in found.values())]
        for axes, what in zip(rows[:, column], shown, strict=False):
            for (who, c), color in zip(found.items(), (report.OURS, report.PEER), strict=False):
                power = f"exponent of {what}"
                title = who.split(",")[0] + (f", exponent {c[power]:.2f}" if power in c else "")
                above = [(n, v - c[f"floor of {what}"]) for n, v in zip(c["sizes"], c[what], strict=True)]
                axes.plot(
                    *zip(*((n, v) for n, v in above if v > 0), strict=True), color=color, marker="o", markersize=3,
                    label=title,
                )  # fmt: skip
                ticks = c["sizes"]
            label, unit, _ = SHOWN[what]
            unit = unit.replace("ms", "s") + (" above the smallest" if what != "s" else "")
            axes.set(xscale="log", yscale="log", ylabel=f"{label}, {unit}")
            axes.set_xticks(ticks, map(str, ticks), size=7)
            axes.minorticks_off()
            axes.legend(fontsize=7)
            axes.grid(True, alpha=0.3)
        for axes in rows[len(shown) :, column]:
            axes.set_axis_off()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how a training step grows.")
    parser.add_argument("parts", nargs="*", metavar="PART", help="of batch, width, depth, length, threads, layers")
    parser.add_argument("--threads", type=int, default=cr.get_num_threads())
    parser.add_argument("--seconds", type=float, default=1.0, help="of steps, for each point and library")
    parser.add_argument("--out", type=Path, default=report.RESULTS, metavar="FOLDER")
    given = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    contenders = available(console.print)
    results: dict[str, Any] = {}
    try:
        with console.status("a tiny network") as status:
            tiny = step(language_model(**TINY), contenders, given.threads, 0.0)
            for name, plan in plans(given.threads).items():
                if given.parts and name.split(",")[0] not in given.parts:
                    continue
                points = []
                for size, workload, threads in plan:
                    status.update(f"{name} {size}")
                    if name.startswith("layers"):
                        points.append((size, first_loss(workload, contenders[0], threads)))
                    else:
                        points.append((size, step(workload, contenders, threads, given.seconds)))
                results[name] = curves(points, tiny)
    except KeyboardInterrupt:
        console.print("interrupted; this is what was measured before")
    console.print(table(results))
    if results:
        given.out.mkdir(parents=True, exist_ok=True)
        content = report.stamp() | {"machine": report.machine(), "results": results}
        (given.out / "scaling.json").write_text(json.dumps(content, indent=1) + "\n")
        picture(results, given.out / "scaling.svg")


def available(say: Callable[[str], None]) -> list[Contender]:
    """Our compiled steps, and PyTorch's eager ones if it can be installed."""
    found = [Contender(peer, peer.modes[0]) for peer in peers.peers() if peer.ours or peer.name == "pytorch"]
    try:
        peers.install(found[-1].peer, say)
    except peers.PeerError as error:
        say(str(error))
        return found[:1]
    return found


if __name__ == "__main__":
    main()
