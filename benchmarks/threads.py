"""What a second thread is good for, over widths from 8 to 1024; and what four do on two processors.

    python benchmarks/threads.py [--widths 8 16 ...] [--rounds 9] [--seconds 0.03] [--json]

Three compiled functions for each width: the product of two square matrices; elementwise functions with a softmax of
each row, of a square matrix; and a training step of a network of three layers of that width, with a batch of 32. The
numbers of threads take turns, and medians over the rounds are compared. A number of threads loses where its median is
above that of one thread by more than the noise: twice the middle half's width of the differences between the two in
one round, and at least 3 percent. Two threads should lose nowhere. Let nothing else run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import chainrule as cr
from chainrule import nn, optim

WIDTHS = (8, 16, 32, 64, 128, 256, 512, 1024)
THREADS = (1, 2, 4)
BATCH = 32
SMALLEST_NOISE = 0.03

Call = Callable[[], Any]


# --- what is measured -------------------------------------------------------------------------------------------------


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def product(width: int) -> Call:
    x, y = _normal(width, width), _normal(width, width)
    multiply = cr.compile(lambda a, b: cr.asarray(a) @ b)
    return lambda: multiply(x, y)


def softmax(width: int) -> Call:
    x = _normal(width, width)

    @cr.compile
    def rows(a: Any) -> Any:
        return cr.softmax(cr.tanh(a) * cr.sigmoid(a) + a, axis=-1)

    return lambda: rows(x)


def training(width: int) -> Call:
    model = nn.models.mlp([width, width, width, 10])
    optimizer = optim.Adam(model.parameters())
    x, y = _normal(BATCH, width), np.arange(BATCH) % 10

    @cr.compile
    def step(a: Any, labels: Any) -> Any:
        loss = nn.functional.cross_entropy(model(a), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return lambda: step(x, y)


FAMILIES: dict[str, Callable[[int], Call]] = {
    "square product": product, "elementwise, row softmax": softmax, "MLP training step": training,
}  # fmt: skip


# --- how --------------------------------------------------------------------------------------------------------------


@dataclass
class Result:
    """A function of one width.

    Attributes:
        ms: the median for each number of threads.
        noise: for each number of threads, how far its ratio to one thread may be above 1 by chance.
    """

    family: str
    width: int
    ms: dict[int, float]
    noise: dict[int, float]

    def ratio(self, threads: int) -> float:
        """Time relative to one thread."""
        return self.ms[threads] / self.ms[1]

    def loses(self, threads: int) -> bool:
        """Whether these threads are slower than one, by more than chance."""
        return self.ratio(threads) > 1 + self.noise[threads]


def seconds_of(call: Call, n: int) -> float:
    """Mean seconds of ``n`` calls."""
    start = time.perf_counter()
    for _ in range(n):
        call()
    return (time.perf_counter() - start) / n


def measure(family: str, width: int, rounds: int, seconds: float) -> Result:
    call = FAMILIES[family](width)
    call()
    n = max(1, int(seconds / max(min(seconds_of(call, 1) for _ in range(5)), 1e-7)))
    times: dict[int, list[float]] = {threads: [] for threads in THREADS}
    for number in range(rounds):
        for threads in THREADS if number % 2 else reversed(THREADS):
            cr.set_num_threads(threads)
            seconds_of(call, max(1, n // 10))  # starts the threads
            times[threads].append(seconds_of(call, n))
    ms, noise = {}, {}
    for threads, found in times.items():
        ms[threads] = 1e3 * float(np.median(found))
        quarter, rest = np.percentile(np.array(found) / np.array(times[1]), [25, 75])
        noise[threads] = max(SMALLEST_NOISE, float(2 * (rest - quarter)))
    return Result(family, width, ms, noise)


# --- what is said about it --------------------------------------------------------------------------------------------


def table(results: list[Result]) -> Table:
    made = Table(title=f"milliseconds with {', '.join(map(str, THREADS))} threads, and times that of one thread")
    for title in ("", "width", *(f"{t} thr." for t in THREADS), *(f"{t} / 1" for t in THREADS[1:]), "noise"):
        made.add_column(title, justify="right" if title else "left", no_wrap=True)
    for result in results:
        ratios = [f"{result.ratio(t):.2f}{' !' if result.loses(t) else ''}" for t in THREADS[1:]]
        ms = [f"{result.ms[t]:.4f}" for t in THREADS]
        made.add_row(result.family, str(result.width), *ms, *ratios, f"{result.noise[2]:.2f}")
    return made


def verdict(results: list[Result], threads: int) -> str:
    """Where these threads lose, in a sentence."""
    losers = [r for r in results if r.loses(threads)]
    if not losers:
        most = max(r.noise[threads] for r in results)
        return f"{threads} threads are nowhere slower than one, beyond noise, which is up to {most:.2f}."
    where = "; ".join(
        f"{r.family} of {r.width}, {r.ratio(threads):.2f} times as long (noise {r.noise[threads]:.2f})" for r in losers
    )
    return f"{threads} threads lose in {len(losers)} of {len(results)}: {where}."


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare numbers of threads.")
    parser.add_argument("--widths", type=int, nargs="+", default=list(WIDTHS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.03, help="of calls, for each number of threads and round")
    parser.add_argument("--json", action="store_true", help="a line for each function and width, instead of a table")
    given = parser.parse_args()
    before, results = cr.get_num_threads(), []
    for family in FAMILIES:
        for width in given.widths:
            results.append(measure(family, width, given.rounds, given.seconds))
            if given.json:
                print(json.dumps(asdict(results[-1])), flush=True)
    cr.set_num_threads(before)
    if not given.json:
        console = Console(width=None if sys.stdout.isatty() else 100)
        console.print(table(results))
        for threads in THREADS[1:]:
            console.print(verdict(results, threads), highlight=False)


if __name__ == "__main__":
    main()
