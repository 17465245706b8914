"""Training steps of the benchmark networks, eager and compiled.

    python benchmarks/compiled.py [w1 w2 ...] [--seconds 3] [--threads 2] [--no-eager] [--json]

Times are medians, with the loss read after each step; eager and compiled steps are measured in turn. The peak is what
the processor does in multiply-adds without memory, on as many threads, just before and just after each network: speeds
of two networks can be compared if their peaks are alike. Let nothing else run.

What is outside of kernels (Python, arguments, results) is measured by `profile`, in runs of its own; for steps of some
milliseconds and more it is lost in noise.
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

import chainrule as cr
from chainrule import dtypes
from chainrule.compiler import engine
from chainrule.compiler.image import Image
from chainrule.compiler.kernel import Code, Frame
from chainrule.compiler.profile import profile
from chainrule.compiler.program import walk
from chainrule.compiler.threads import get_num_threads, set_num_threads
from chainrule.compiler.vector import I64

ROUNDS = 3
WARM_UP = 5


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
        kernels: how many are run in a step; those of a loop's body count once.
        codes: how many different ones.
        arena_mb: memory for intermediate values.
        outside_us: microseconds of a step outside of kernels.
        first_loss, loss: of the first and of the twentieth step.
    """

    name: str
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

CHAINS = 12  # multiply-adds that do not wait for each other; they fit in 16 registers
ROUNDS_OF_PEAK = 200_000


def peak() -> Callable[[], float]:
    """A function that measures the multiply-adds of all threads, in GFLOP/s, in some 10 ms."""
    lanes = 16 if "+avx512f" in engine.engine().features else 8

    def build(module: Any, name: str) -> None:
        frame = Frame(module, name, 1, 1, width=lanes)
        e = frame.e
        factor = e.const(dtypes_float, 0.5)
        with e.loop(frame.begin, frame.end) as item:
            chains = [e.variable(e.type(dtypes_float), e.const(dtypes_float, float(i))) for i in range(CHAINS)]
            with e.loop(I64(0), frame.words[0]):
                for chain in chains:
                    e.b.store(e.fma(e.b.load(chain), factor, factor), chain)
            total = e.b.load(chains[0])
            for chain in chains[1:]:
                total = e.b.fadd(total, e.b.load(chain))
            e.store(total, frame.buffers[0], e.b.mul(item, I64(lanes)), dtypes.float32)
        frame.done()

    items = 4 * get_num_threads()
    image, out = Image(n_bases=0), np.zeros(items * lanes, np.float32)
    block = image.block([image.status, out.ctypes.data, ROUNDS_OF_PEAK])
    (address,) = engine.addresses([Code(f"benchmark peak {lanes} {CHAINS}", build)])
    image.steps.kernel(address, block, items, 1, parallel=True)
    runnable = image.finish()

    def measure() -> float:
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            runnable.run()
            seconds.append(time.perf_counter() - start)
        return 2 * lanes * CHAINS * ROUNDS_OF_PEAK * items / min(seconds) / 1e9 + 0 * out[0]

    return measure
