"""What the machine can do at most, measured: multiply-adds without memory, and bytes without arithmetic to speak of."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import dtypes
from chainrule.compiler import engine
from chainrule.compiler.image import Image
from chainrule.compiler.kernel import Code, Frame
from chainrule.compiler.threads import aligned
from chainrule.compiler.vector import F32, I64

CHAINS = 12  # multiply-adds that do not wait for each other, and fit in 16 registers
REPEATS = 200_000
PIECE = 1 << 10  # numbers of an item of the triad


def fastest(call: Callable[[], Any], runs: int) -> float:
    """Seconds of the fastest of some runs."""

    def once() -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return min(once() for _ in range(runs))


def lanes() -> int:
    """Numbers of float32 in a vector of this processor."""
    return 16 if "+avx512f" in engine.engine().features else 8


# --- multiply-adds ----------------------------------------------------------------------------------------------------


def _multiply_adds(width: int) -> Code:
    """A kernel whose items are `REPEATS` multiply-adds in each of `CHAINS` vectors."""

    def build(module: Any, name: str) -> None:
        frame = Frame(module, name, 1, 1, width=width)
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
            e.store(total, frame.buffers[0], e.b.mul(item, I64(width)), dtypes.float32)
        frame.done()

    return Code(f"benchmark: {CHAINS} chains of multiply-adds, {width} lanes", build)


def peak_meter() -> Callable[[], float]:
    """A function that measures the multiply-adds of all threads, in GFLOP/s, in some hundredths of a second."""
    width, items = lanes(), 4 * cr.get_num_threads()
    out = np.zeros(items * width, np.float32)
    run = _program(_multiply_adds(width), [out], [REPEATS], items)

    def measure() -> float:
        seconds = fastest(run, 5)
        assert out.all()
        return 2 * width * CHAINS * REPEATS * items / seconds / 1e9

    return measure


# --- memory -----------------------------------------------------------------------------------------------------------


def _triad(width: int) -> Code:
    """``a = b + c / 2`` (McCalpin's STREAM), `PIECE` numbers an item."""

    def build(module: Any, name: str) -> None:
        frame = Frame(module, name, 3, 0, width=width)
        e = frame.e
        a, b, c = frame.buffers
        half = e.const(F32, 0.5)
        first, last = (e.b.mul(bound, I64(PIECE // width)) for bound in (frame.begin, frame.end))
        with e.loop(first, last) as i:
            place = e.b.mul(i, I64(width))
            value = e.fma(e.load(c, place, dtypes.float32), half, e.load(b, place, dtypes.float32))
            e.store(value, a, place, dtypes.float32)
        frame.done()

    return Code(f"benchmark: triad, {width} lanes, pieces of {PIECE}", build)


def bandwidth(size: int, runs: int = 20) -> float:
    """GB/s of all threads at a triad of three arrays that have so many bytes together."""
    items = max(1, size // (3 * 4 * PIECE))
    arrays = [aligned(items * PIECE // 2).view(np.float32) for _ in range(3)]
    for array in arrays:
        array[:] = 1
    repeats = max(1, (1 << 22) // size)
    run = _program(_triad(lanes()), arrays, [], items, repeats)
    seconds = fastest(run, runs) / repeats
    assert (arrays[0] == 1.5).all()
    return 3 * 4 * PIECE * items / seconds / 1e9


def _program(
    code: Code, arrays: list[np.ndarray], words: list[int], items: int, repeats: int = 1
) -> Callable[[], object]:
    """Runs a kernel on all threads, some pieces for each, so many times."""
    image = Image()
    (address,) = engine.addresses([code])
    block = image.block([image.status, *(a.ctypes.data for a in arrays), *words])
    grain = max(1, items // (4 * cr.get_num_threads()))
    for _ in range(repeats):
        image.steps.kernel(address, block, items, grain, parallel=True)
    runnable = image.finish()
    return lambda alive=arrays: runnable.run()
