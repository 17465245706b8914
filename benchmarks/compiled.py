"""Training steps of the benchmark networks, eager and compiled.

    python benchmarks/compiled.py [w1 w2 ...] [--seconds 3] [--threads 2] [--no-eager] [--json]

Times are medians, with the loss read after each step; eager and compiled steps are measured in turn. The peak is what
as many threads do in multiply-adds without memory, just before and just after each network: speeds can be compared if
the peaks are alike. Let nothing else run.

What is outside of kernels (Python, arguments, results) is measured by `chainrule.profile`, in runs of its own; in steps
of many milliseconds it is lost in noise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from networks import WORKLOADS, network
from rich.console import Console
from rich.table import Table

import chainrule as cr
from chainrule import dtypes
from chainrule.compiler import engine
from chainrule.compiler.image import Image
from chainrule.compiler.kernel import Code, Frame
from chainrule.compiler.program import walk
from chainrule.compiler.vector import F32, I64

ROUNDS = 3
COMPARED = 20  # the step whose loss is given


@dataclass
class Result:
    """A network, measured.

    Attributes:
        eager_ms, compiled_ms: medians of a step; eager is None if it was not run.
        fastest_ms: of a compiled step.
        steps: how many compiled steps were measured.
        first_s: the first compiled call: tracing, compiling or loading kernels, running.
        gflops: billions of floating-point operations per second, compiled.
        peak: the mean of the peak before and after, in the same unit.
        kernels: how many a step has; those in the body of a loop count once.
        codes: how many different ones.
        arena_mb: megabytes of intermediate values.
        outside_us: microseconds of a step outside of kernels.
        first_loss, loss: of the first and of the twentieth step.
    """

    name: str
    threads: int
    eager_ms: float | None
    compiled_ms: float
    fastest_ms: float
    steps: int
    first_s: float
    gflops: float
    peak: float
    kernels: int
    codes: int
    arena_mb: float
    outside_us: float
    first_loss: float
    loss: float


# --- the peak ---------------------------------------------------------------------------------------------------------

CHAINS = 12  # multiply-adds that do not wait for each other, and fit in 16 registers
REPEATS = 200_000


def _multiply_adds(lanes: int) -> Code:
    """A kernel whose items are `REPEATS` multiply-adds in each of `CHAINS` vectors."""

    def build(module: Any, name: str) -> None:
        frame = Frame(module, name, 1, 1, width=lanes)
        e = frame.e
        half = e.const(F32, 0.5)
        with e.loop(frame.begin, frame.end) as item:
            chains = [e.variable(e.type(F32), e.const(F32, float(i))) for i in range(CHAINS)]
            with e.loop(I64(0), frame.words[0]):
                for chain in chains:
                    e.b.store(e.fma(e.b.load(chain), half, half), chain)
            total = e.b.load(chains[0])
            for chain in chains[1:]:
                total = e.b.fadd(total, e.b.load(chain))
            e.store(total, frame.buffers[0], e.b.mul(item, I64(lanes)), dtypes.float32)
        frame.done()

    return Code(f"benchmark: {CHAINS} chains of multiply-adds, {lanes} lanes", build)


def peak_meter() -> Callable[[], float]:
    """A function that measures the multiply-adds of all threads, in GFLOP/s, in some hundredths of a second."""
    lanes = 16 if "+avx512f" in engine.engine().features else 8
    items = 4 * cr.get_num_threads()
    out = np.zeros(items * lanes, np.float32)
    image = Image(n_bases=0)
    (address,) = engine.addresses([_multiply_adds(lanes)])
    block = image.block([image.status, out.ctypes.data, REPEATS])
    image.steps.kernel(address, block, items, parallel=True)
    runnable = image.finish()

    def measure() -> float:
        fastest = min(_seconds(runnable.run) for _ in range(5))
        assert out.all()
        return 2 * lanes * CHAINS * REPEATS * items / fastest / 1e9

    return measure


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


# --- networks ---------------------------------------------------------------------------------------------------------


def repeat(call: Callable[[], Any], seconds: float) -> list[float]:
    """Seconds of each of some calls, for about so long."""
    found, begin = [], time.perf_counter()
    while not found or time.perf_counter() - begin < seconds:
        found.append(_seconds(call))
    return found


def measure(name: str, seconds: float, with_eager: bool, peak: Callable[[], float]) -> Result:
    made = network(name)
    step = cr.compile(made.step)

    def train() -> float:
        return step(*made.arguments).item()

    start = time.perf_counter()
    losses = [train()]
    first = time.perf_counter() - start
    losses += [train() for _ in range(COMPARED - 1)]

    plain = network(name)
    eager: list[float] = []
    compiled: list[float] = []
    peaks = [peak()]
    for _ in range(ROUNDS):
        compiled += repeat(train, seconds / ROUNDS)
        if with_eager:
            eager += repeat(lambda: plain.step(*plain.arguments).item(), seconds / ROUNDS)
    peaks.append(peak())

    program = step.programs[0]
    calls = [s.call for s in walk(program.steps) if s.call is not None]
    middle = statistics.median(compiled)
    return Result(
        name=name,
        threads=cr.get_num_threads(),
        eager_ms=1e3 * statistics.median(eager) if eager else None,
        compiled_ms=1e3 * middle,
        fastest_ms=1e3 * min(compiled),
        steps=len(compiled),
        first_s=first,
        gflops=WORKLOADS[name].gflop / middle,
        peak=statistics.mean(peaks),
        kernels=len(calls),
        codes=len({call.code.key for call in calls}),
        arena_mb=program.arena_size / 1e6,
        outside_us=1e6 * cr.profile(step, *made.arguments, steps=max(3, min(200, int(0.5 / middle)))).outside_seconds,
        first_loss=losses[0],
        loss=losses[-1],
    )


COLUMNS: dict[str, Callable[[Result], str]] = {
    "": lambda r: r.name,
    "eager ms": lambda r: "-" if r.eager_ms is None else f"{r.eager_ms:.2f}",
    "compiled ms": lambda r: f"{r.compiled_ms:.3f}",
    "fastest": lambda r: f"{r.fastest_ms:.3f}",
    "speed-up": lambda r: "-" if r.eager_ms is None else f"{r.eager_ms / r.compiled_ms:.1f}",
    "GFLOP/s": lambda r: f"{r.gflops:.1f}",
    "of peak": lambda r: f"{100 * r.gflops / r.peak:.0f} % of {r.peak:.0f}",
    "kernels": lambda r: f"{r.kernels} ({r.codes})",
    "arena MB": lambda r: f"{r.arena_mb:.2f}",
    "outside us": lambda r: f"{r.outside_us:.1f}",
    "first call s": lambda r: f"{r.first_s:.2f}",
    f"loss {COMPARED}": lambda r: f"{r.loss:.6g}",
}


def table(results: list[Result]) -> Table:
    made = Table(title=f"training steps, {results[0].threads} threads")
    for number, title in enumerate(COLUMNS):
        made.add_column(title, justify="right" if number else "left")
    for result in results:
        made.add_row(*(text(result) for text in COLUMNS.values()))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure training steps of the benchmark networks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(WORKLOADS)}; all if left out")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each of eager and compiled steps")
    parser.add_argument("--threads", type=int, default=cr.get_num_threads())
    parser.add_argument("--no-eager", action="store_true")
    parser.add_argument("--json", action="store_true", help="a line for each network, instead of a table")
    given = parser.parse_args()
    if unknown := set(given.names) - set(WORKLOADS):
        parser.error(f"no networks of these names: {', '.join(sorted(unknown))}")
    cr.set_num_threads(given.threads)
    peak, results = peak_meter(), []
    console = Console(width=None if sys.stdout.isatty() else 140)
    for name in given.names or WORKLOADS:
        if not given.json:
            console.print(f"{name}: {WORKLOADS[name].title}", highlight=False)
        results.append(measure(name, given.seconds, not given.no_eager, peak))
        if given.json:
            print(json.dumps(asdict(results[-1])), flush=True)
    if not given.json:
        console.print(table(results))


if __name__ == "__main__":
    main()
