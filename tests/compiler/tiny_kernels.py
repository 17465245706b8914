"""Kernels of a few instructions, for the tests of the engine, the driver and the threads."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from chainrule import dtypes
from chainrule.compiler import engine, system, threads
from chainrule.compiler.image import Block, Image
from chainrule.compiler.kernel import Code, Frame
from chainrule.compiler.objects import ObjectCache
from chainrule.compiler.vector import I64

_counter = itertools.count()
# The cache knows the sources of the compiler, not this file.
_VERSION = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]


@contextmanager
def no_cache() -> Iterator[None]:
    """No kernels are kept on disk, so that those with a `unique` key are compiled in each run of the tests."""
    running, before = engine.engine(), engine.engine().cache
    running.cache = ObjectCache(None)
    try:
        yield
    finally:
        running.cache = before


def unique(name: str) -> str:
    """A key that no other kernel of this process has."""
    return f"test {_VERSION} {name} {next(_counter)}"


def affine(scale: float = 2.0, shift: float = 1.0, key: str | None = None) -> Code:
    """``out[i] = x[i] * scale + shift`` in float64, for the items i; buffers x, out."""

    def build(module: Any, name: str) -> None:
        frame = Frame(module, name, 2, 0, width=1)
        e = frame.e
        with e.loop(frame.begin, frame.end) as i:
            x = e.load(frame.buffers[0], i, dtypes.float64)
            y = e.fma(x, e.like(x, scale), e.like(x, shift))
            e.store(y, frame.buffers[1], i, dtypes.float64)
        frame.done()

    return Code(key or f"test {_VERSION} affine {scale} {shift}", build)


def add_one() -> Code:
    """``x[i] += 1`` in int64 for the items i; buffer x."""

    def build(module: Any, name: str) -> None:
        frame = Frame(module, name, 1, 0, width=1)
        e = frame.e
        with e.loop(frame.begin, frame.end) as i:
            x = e.load(frame.buffers[0], i, dtypes.int64)
            e.store(e.b.add(x, I64(1)), frame.buffers[0], i, dtypes.int64)
        frame.done()

    return Code(f"test {_VERSION} add one", build)


def log_chunk() -> Code:
    """Append (begin, end) to a list of int64 pairs; buffer: the list, whose first word is its length."""

    def build(module: Any, name: str) -> None:
        frame = Frame(module, name, 1, 0, width=1)
        e, b = frame.e, frame.b
        entries = frame.buffers[0]
        n = e.load(entries, I64(0), dtypes.int64)
        place = b.add(b.mul(n, I64(2)), I64(1))
        e.store(frame.begin, entries, place, dtypes.int64)
        e.store(frame.end, entries, b.add(place, I64(1)), dtypes.int64)
        e.store(b.add(n, I64(1)), entries, I64(0), dtypes.int64)
        frame.done()

    return Code(f"test {_VERSION} log chunk", build)


def is_below(limit: int) -> Code:
    """``out = x < limit``, a byte, of one int64; buffers x, out."""

    def build(module: Any, name: str) -> None:
        frame = Frame(module, name, 2, 0, width=1)
        e = frame.e
        x = e.load(frame.buffers[0], I64(0), dtypes.int64)
        e.store(e.b.icmp_signed("<", x, I64(limit)), frame.buffers[1], I64(0), dtypes.bool_)
        frame.done()

    return Code(f"test {_VERSION} below {limit}", build)


def fault_at(limit: int) -> Code:
    """A fault once the int64 in its buffer has reached ``limit``."""

    def build(module: Any, name: str) -> None:
        frame = Frame(module, name, 1, 0, width=1)
        x = frame.e.load(frame.buffers[0], I64(0), dtypes.int64)
        frame.e.fault(frame.b.icmp_signed(">=", x, I64(limit)), kind=7)
        frame.done()

    return Code(f"test {_VERSION} fault at {limit}", build)


def pause() -> Code:
    """Wait for as many ticks of the counter as its number says."""

    def build(module: Any, name: str) -> None:
        frame = Frame(module, name, 0, 1, width=1)
        b = frame.b
        end = b.add(system.emit_counter(b), frame.words[0])
        with threads.repeat(b) as (again, out):
            b.cbranch(b.icmp_signed("<", system.emit_counter(b), end), again, out)
        frame.done()

    return Code(f"test {_VERSION} pause", build)


def address(code: Code) -> int:
    """The address of a kernel."""
    return engine.addresses([code])[0]


def params(image: Image, *arrays: np.ndarray) -> Block:
    """The parameters of a kernel whose buffers are arrays, which the caller keeps."""
    return image.block([image.status, *(a.ctypes.data for a in arrays)])


def place(image: Image, array: np.ndarray) -> int:
    """The address of a word that holds the address of an array, which the caller keeps."""
    return image.block([array.ctypes.data]).slot(0)
