"""`profile`: where the time of a compiled function goes."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..compiler.image import Image, Runnable
from ..compiler.program import Program
from ..errors import ArgumentError
from . import page, report, tables
from .report import Row
from .tables import Table, line_text, share_text, time_text, times_text


def profile(
    step: Any,
    /,
    *args: Any,
    steps: int = 20,
    warmup: int = 3,
    trace: str | os.PathLike[str] | None = None,
    **kwargs: Any,
) -> Profile:
    """Run a compiled function and measure each of its kernels.

    It really runs, ``warmup + steps`` times: a training step trains on the same batch that often. The time of a kernel
    is all its time in one run, by the processor's counter, as a mean over the middle half of the runs. Printed, the
    result is a table of the kernels, the slowest first, with bandwidth (all that a kernel reads and writes, from cache
    or memory) and floating-point operations per second, and where the rest of a call goes: reading the counter, which
    costs some nanoseconds for each kernel and is there only while profiling, and Python.

    Args:
        step: a function compiled by `compile`.
        *args, **kwargs: its arguments.
        steps: how many runs are measured.
        warmup: how many runs before that are not.
        trace: a file for `Profile.to_trace`.

    Raises:
        ArgumentError: ``step`` is not compiled, ``steps`` is below 1, or no two calls run the same program.

    >>> @cr.compile
    ... def step(x):
    ...     return tanh(x @ x).sum()
    >>> measured = profile(step, ones((64, 64)), steps=3)
    >>> measured.runs
    3
    >>> 0 < measured.kernel_seconds <= measured.seconds
    True
    """
    if steps < 1:
        raise ArgumentError("profile", "runs at least one step", received=f"steps={steps}")
    report.program_of("profile", step, args, kwargs)
    for _ in range(warmup):
        step(*args, **kwargs)
    program = report.program_of("profile", step, args, kwargs)  # the first calls may have changed what it has to do
    made = Profile(program, _measure(program, lambda: step(*args, **kwargs), steps))
    if trace is not None:
        made.to_trace(trace)
    return made


@dataclass
class Runs:
    """Measured runs.

    Attributes:
        wall: seconds of each call.
        seconds, calls: for each run and each step of the program.
    """

    wall: np.ndarray
    seconds: np.ndarray
    calls: np.ndarray


def _measure(program: Program, call: Callable[[], Any], steps: int) -> Runs:
    runnable = program._runnable
    wall, seconds, calls = [], [], []
    runnable.measure(len(program.numbered))
    try:
        for _ in range(steps):
            assert runnable.profile is not None
            runnable.profile[:] = 0
            start = time.perf_counter()
            call()
            end = time.perf_counter()
            times, ran = runnable.times()
            if ran.any():
                wall.append(end - start)
                seconds.append(times)
                calls.append(ran)
    finally:
        runnable.measure(0)
    if not wall:
        raise ArgumentError(
            "profile",
            "each call runs another program than the one before, so there is nothing to compare",
            fix="the log chainrule.compile says what changes from call to call",
        )
    return Runs(np.array(wall), np.array(seconds), np.array(calls))


@functools.cache
def counting_seconds() -> float:
    """What it costs to measure one step, beyond what the measurement sees: found with steps that do nothing."""
    n, image = 2000, Image()
    for _ in range(n):
        image.steps.gate(0)
    runnable = image.finish()
    plain = min(_seconds(runnable) for _ in range(7))
    found = []
    for _ in range(7):
        runnable.measure(1)
        found.append(_seconds(runnable) - float(runnable.times()[0][0]))
    return max(min(found) - plain, 0.0) / n


def _seconds(runnable: Runnable) -> float:
    start = time.perf_counter()
    runnable.run()
    return time.perf_counter() - start


@dataclass
class Measured:
    """A step of the program, measured.

    Attributes:
        row: the step.
        seconds: in one run, all its calls together; of a loop or branch, with what is in it.
        calls: in one run.
        inside: the steps of its body, if it is a loop or branch.
    """

    row: Row
    seconds: float
    calls: float
    inside: list[Measured] = field(default_factory=list)

    @property
    def alone(self) -> float:
        """Seconds without what is inside."""
        return self.seconds - sum(m.seconds for m in self.inside)

    @property
    def bytes_per_second(self) -> float:
        """Bytes read and written per second."""
        return self.row.bytes * self.calls / self.seconds if self.seconds else 0.0

    @property
    def flops_per_second(self) -> float:
        """Floating-point operations per second."""
        return self.row.flops * self.calls / self.seconds if self.seconds else 0.0


class Profile:
    """Where the time of a compiled function goes; see `profile`.

    Attributes:
        name: of the function.
        runs: how many were measured.
        kernels: the steps of the program, in order.
        seconds: of a call.
        kernel_seconds: of those, in kernels.
        counting_seconds: of those, between kernels to measure them: they are there only while profiling.
        outside_seconds: the rest: Python's part of a call, arguments and results.
    """

    def __init__(self, program: Program, runs: Runs) -> None:
        self.name = program.name
        self.runs = len(runs.wall)
        seconds, calls = _middle(runs.seconds), _middle(runs.calls)
        rows = report.rows_of(program)
        self.kernels = [Measured(row, float(seconds[row.number]), float(calls[row.number])) for row in rows]
        _nest(self.kernels, runs.seconds, counting_seconds())
        self.kernel_seconds = sum(m.seconds for m in self.kernels if m.row.depth == 0)
        self.seconds = max(float(_middle(runs.wall)), self.kernel_seconds)
        counting = float(calls.sum()) * counting_seconds()
        self.counting_seconds = min(counting, self.seconds - self.kernel_seconds)
        self.outside_seconds = self.seconds - self.kernel_seconds - self.counting_seconds

    # --- tables -------------------------------------------------------------------------------------------------------

    def summary(self) -> list[str]:
        """Where a call's time goes, in words."""
        return [
            f"a call takes {time_text(self.seconds)} (the middle half of {self.runs} runs)",
            f"kernels {time_text(self.kernel_seconds)}, {share_text(self.kernel_seconds, self.seconds)}",
            f"outside of kernels {time_text(self.outside_seconds)}: Python, arguments, results",
            f"measuring {time_text(self.counting_seconds)}, only while profiling",
        ]

    def table(self, order: str = "time") -> Table:
        """The kernels, by "time" the slowest first, or in the order of the "program" with its loops."""
        if order not in ("time", "program"):
            raise ArgumentError("profile", "order is 'time' or 'program'", received=repr(order))
        table = Table(
            "Kernels, the slowest first" if order == "time" else "Kernels, in order",
            (">#", "computes", "over", ">calls", ">time", ">share", ">GB/s", ">GFLOP/s", ">threads", "line"),
        )
        shown = self.kernels if order == "program" else sorted(self.kernels, key=lambda m: -m.alone)
        for m in shown:
            row = m.row
            name = ("  " * row.depth if order == "program" else "") + row.name + (", itself" if row.is_loop else "")
            rates = [f"{rate / 1e9:.2f}" if rate else "" for rate in (m.bytes_per_second, m.flops_per_second)]
            table.keys.append(f"k{row.number}")
            table.rows.append(
                [
                    str(row.number), name, row.shape, times_text(m.calls) or "1 ×", time_text(m.alone),
                    share_text(m.alone, self.kernel_seconds), *rates, "" if row.is_loop else str(row.threads),
                    line_text(row.source),
                ]
            )  # fmt: skip
        return table

    def text(self, order: str = "time", width: int | None = None) -> str:
        """The table as text.

        Args:
            order: "time" or "program".
            width: in characters; that of the terminal if left out.
        """
        return tables.text_of(f"{self.name}, measured", [self.table(order)], self.summary(), width)

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__

    # --- files --------------------------------------------------------------------------------------------------------

    def html(self) -> str:
        """A page with the table and the graph, in one file that needs nothing from outside."""
        total = self.kernel_seconds or 1.0
        rows, alone = [m.row for m in self.kernels], [m.alone for m in self.kernels]
        drawing = page.draw(rows, [a / total for a in alone], [time_text(a) for a in alone])
        return page.page(f"{self.name}, measured", self.summary(), [self.table()], drawing)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the page."""
        Path(path).write_text(self.html(), encoding="utf-8")

    def to_dict(self) -> dict[str, Any]:
        """All numbers, as what JSON can hold."""
        return {
            "name": self.name,
            "runs": self.runs,
            "seconds": self.seconds,
            "kernel_seconds": self.kernel_seconds,
            "counting_seconds": self.counting_seconds,
            "outside_seconds": self.outside_seconds,
            "kernels": [
                dataclasses.asdict(m.row) | {"predicted": m.row.seconds, "seconds": m.seconds, "calls": m.calls}
                for m in self.kernels
            ],
        }

    def to_trace(self, path: str | os.PathLike[str]) -> None:
        """Write one call as a trace of events, which Perfetto (ui.perfetto.dev) and Chrome's about:tracing open.

        Each kernel is as long as it took; one in a loop is drawn once, as long as all its calls.
        Format: "Trace Event Format", Google, 2016.
        """
        events = [
            {"name": what, "ph": "M", "pid": 1, "tid": 1, "args": {"name": name}}
            for what, name in (("process_name", "chainrule"), ("thread_name", self.name))
        ]
        found: list[dict[str, Any]] = []
        end = self.counting_seconds + self.outside_seconds
        for measured in self.kernels:
            if measured.row.depth == 0:
                end = _events(measured, end, found)
        events += [_event(f"call of {self.name}", "call", 0.0, end), *found]
        Path(path).write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}), encoding="utf-8")


def _middle(values: np.ndarray) -> np.ndarray:
    """The mean over the middle half of the runs: a median that is finer than the counter, with its steps of 10 ns."""
    n = len(values)
    return np.sort(values, axis=0)[n // 4 : n - n // 4].mean(axis=0)


def _nest(kernels: list[Measured], seconds: np.ndarray, counting: float) -> None:
    """Give each loop and branch what is inside, and the time of that and its own, without what measuring costs.

    Its own time is what each run leaves of it: where runs are interrupted now here, now there, the middle of the whole
    is far above the sum of the middles of its parts.
    """
    around: list[Measured] = []
    for measured in kernels:
        del around[measured.row.depth :]
        if around:
            around[-1].inside.append(measured)
        around.append(measured)
    for measured in reversed(kernels):
        if inside := measured.inside:
            own = seconds[:, measured.row.number] - seconds[:, [m.row.number for m in inside]].sum(axis=1)
            alone = float(_middle(own)) - counting * sum(m.calls for m in inside)
            measured.seconds = max(alone, 0.0) + sum(m.seconds for m in inside)


def _events(measured: Measured, start: float, into: list[dict[str, Any]]) -> float:
    """Add the events of a step that begins at ``start``; the end of it."""
    row, place = measured.row, len(into)
    at = start
    for inside in measured.inside:
        at = _events(inside, at, into)
    end = start + measured.seconds
    details = {
        "step": row.number, "over": row.shape, "calls": measured.calls, "bytes": row.bytes, "FLOP": row.flops,
        "GB/s": measured.bytes_per_second / 1e9, "GFLOP/s": measured.flops_per_second / 1e9, "threads": row.threads,
        "line": row.source,
    }  # fmt: skip
    into.insert(place, _event(row.name, row.kind, start, end, details))
    return end


def _event(name: str, category: str, start: float, end: float, details: dict[str, Any] | None = None) -> dict[str, Any]:
    """A complete event, in microseconds."""
    span = {"ts": start * 1e6, "dur": (end - start) * 1e6}
    return {"name": name, "cat": category, "ph": "X", "pid": 1, "tid": 1, **span, "args": details or {}}
