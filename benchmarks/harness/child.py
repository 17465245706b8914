"""A process that trains one job with one library, as its parent says in lines.

    python -m harness.child PEER MODE JOB THREADS

It makes the step, takes the first one, and writes a line of JSON with the loss. Then it answers requests, each a line
of JSON ``[name, argument]``, with a line of JSON, until its input ends. While it waits it uses no processor time, if
the library's threads do not either: that is in its answers.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .jobs import load


def peak_memory() -> float:
    """The most megabytes that this process had; `getrusage` would begin with those of the parent."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def timed(train: Callable[[], float], seconds: float) -> list[float]:
    """Seconds of each step for about so long, after one that brings the caches back."""
    train()
    found: list[float] = []
    begin = time.perf_counter()
    while not found or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        train()
        found.append(time.perf_counter() - start)
    return found


def main() -> None:
    peer, mode, path, threads = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer

    def tell(**answer: Any) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    job = load(Path(path))
    try:
        module = importlib.import_module(f"peers.{peer}")
        step, read = module.build(job, mode, int(threads))

        def train() -> float:
            return read(step())

        tell(loss=train())
    except Exception as error:
        tell(error=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"[:200])
        raise
    requests: dict[str, Callable[[float], Any]] = {
        "train": lambda n: [train() for _ in range(int(n))],
        "measure": lambda seconds: timed(train, seconds),
        "memory": lambda _: peak_memory(),
        "versions": lambda _: {n: importlib.metadata.version(n) for n in (r.split("==")[0] for r in module.REQUIRES)},
        "details": lambda _: getattr(module, "details", lambda _: {})(step),
    }
    waits = time.perf_counter(), time.process_time()
    for line in sys.stdin:
        waited = time.perf_counter() - waits[0]
        idle = (time.process_time() - waits[1]) / waited if waited > 0.1 else 0.0
        name, argument = json.loads(line)
        tell(answer=requests[name](argument), idle=idle)
        waits = time.perf_counter(), time.process_time()


if __name__ == "__main__":
    main()
