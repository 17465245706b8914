"""Seconds from the start of a fresh process to the first loss of a compiled training step.

    python benchmarks/first_loss.py [w1 w3 w4 w6 ...] [--rounds 3] [--json]

Cold: no kernel has been compiled on this machine yet. Warm: an earlier process has left its kernels in the cache.
Medians of rounds of a cold and a warm process; the cache lies in a temporary folder. Included are the interpreter's
start, the imports, and making weights and data.
"""

from __future__ import annotations

import argparse
import compileall
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from networks import WORKLOADS
from rich.console import Console
from rich.table import Table

NAMES = ("w1", "w3", "w4", "w6")

# The clock of `perf_counter` is the system's, so the two processes can compare their times.
CHILD = """
import sys, time
begin = time.perf_counter()
import chainrule
from networks import network
made = network(sys.argv[1])
ready = time.perf_counter()
loss = chainrule.compile(made.step)(*made.arguments).item()
end = time.perf_counter()
from chainrule.compiler import engine
done = engine.statistics()
import json
print(json.dumps(dict(begin=begin, ready=ready, end=end, loss=loss, compiled=done.compiled, loaded=done.loaded)))
"""


def first_loss(name: str, cache: str) -> dict[str, Any]:
    """Times and counts of one process, in seconds from its start on."""
    here = Path(__file__).parent
    environment = {**os.environ, "CHAINRULE_CACHE_DIR": cache}
    start = time.perf_counter()
    out = subprocess.run(
        [sys.executable, "-c", CHILD, name], capture_output=True, text=True, check=True, cwd=here, env=environment
    )
    found: dict[str, Any] = json.loads(out.stdout)
    return found | {key: found[key] - start for key in ("begin", "ready", "end")}


def rounds(name: str, n: int) -> dict[str, list[dict[str, Any]]]:
    """Cold and warm processes, in turn."""
    found: dict[str, list[dict[str, Any]]] = {"cold": [], "warm": []}
    for _ in range(n):
        with tempfile.TemporaryDirectory() as cache:
            for kind, runs in found.items():
                runs.append(first_loss(name, cache))
                assert (runs[-1]["loaded"] > 0) == (kind == "warm"), "the cache was not used as expected"
    return found


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the time to the first loss in a fresh process.")
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(NAMES), help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="a line for each network and kind, instead of a table")
    given = parser.parse_args()
    if unknown := set(given.names) - set(WORKLOADS):
        parser.error(f"no networks of these names: {', '.join(sorted(unknown))}")
    package = importlib.util.find_spec("chainrule")
    assert package is not None
    compileall.compile_dir(next(iter(package.submodule_search_locations or [])), quiet=1)  # as an installed package is
    made = Table(title="seconds to the first loss in a fresh process")
    for title in ("", "cache", "first loss", "interpreter", "imports, model", "first step", "compiled", "loaded"):
        made.add_column(title, justify="right" if title not in ("", "cache") else "left")
    for name in given.names:
        for kind, runs in rounds(name, given.rounds).items():
            middle = medians(runs)
            if given.json:
                print(json.dumps({"name": name, "cache": kind, **middle}), flush=True)
            begin, ready, end = middle["begin"], middle["ready"], middle["end"]
            seconds = end, begin, ready - begin, end - ready
            made.add_row(
                name, kind, *(f"{s:.2f}" for s in seconds), f"{middle['compiled']:.0f}", f"{middle['loaded']:.0f}"
            )
    if not given.json:
        Console(width=None if sys.stdout.isatty() else 100).print(made)


if __name__ == "__main__":
    main()
