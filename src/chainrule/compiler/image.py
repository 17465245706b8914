"""The tables of a program in memory, built step by step, and the call that runs them.

    image = Image(n_bases=2)
    block = image.block([image.status, 0, 0, n])      # the parameters of a kernel
    image.relocate(block.slot(1), base=0)             # its first buffer is the first argument
    image.relocate(block.slot(2), base=1, offset=64)
    image.steps.kernel(address, block, items=n, grain=1024, parallel=True, number=0)
    runnable = image.finish(scratch=4096)
    runnable.bases[:] = x.ctypes.data, y.ctypes.data
    status = runnable.run()

Memory of blocks does not move, so the address of a slot is known at once. Bodies of loops and branches are `Steps` of
their own, given to the step that runs them:

    body = Steps()
    body.kernel(...)
    image.steps.scan(length, body, [Advance(block.slot(1), base=place.slot(0), stride=256)])
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from . import driver, threads

_CHUNK = 1 << 13  # words
_WORD = (1 << 64) - 1

HostFunction = Callable[[], object]


class Advance(NamedTuple):
    """What a scan does before iteration t: ``*slot = *base + t * stride``.

    Attributes:
        slot: the address of the word to set.
        base: the address of a word that holds an address.
        stride: in bytes.
    """

    slot: int
    base: int
    stride: int


class Block:
    """Some words in the memory of an image.

    Attributes:
        address: of the first.
        words: the words, int64.
    """

    def __init__(self, words: np.ndarray) -> None:
        self.words = words
        self.address: int = words.ctypes.data

    def slot(self, i: int) -> int:
        """The address of word number ``i``."""
        return self.address + 8 * i


class Steps:
    """Steps in order: those of a program, or of the body of a loop or branch.

    ``number`` is where a step's time is added in the profile, -1 for nowhere; the time of a loop contains its body's.
    """

    def __init__(self) -> None:
        self._rows: list[Callable[[Image], list[int]]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def _add(self, kind: int, number: int, words: Callable[[Image], list[int]]) -> None:
        def row(image: Image) -> list[int]:
            found = [kind, *words(image)]
            return [*found, *[0] * (driver.PROFILE_NUMBER - len(found)), number]

        self._rows.append(row)

    def kernel(
        self, function: int, params: Block, items: int = 1, grain: int = 1, parallel: bool = False, number: int = -1
    ) -> None:
        """Call a kernel for all its items, ``grain`` at a time, on all threads if ``parallel``."""

        def words(image: Image) -> list[int]:
            image.parallel |= parallel
            return [function, params.address, items, max(grain, 1), int(parallel)]

        self._add(driver.KERNEL, number, words)

    def host(self, function: HostFunction, number: int = -1) -> None:
        """Call a Python function. If it raises, the program ends, and `run` raises that."""
        self._add(driver.HOST, number, lambda image: [image.keep(function)])

    def scan(
        self, length: int, body: Steps, advances: Iterable[Advance], reverse: bool = False, number: int = -1
    ) -> None:
        """Run the body for t = 0, 1, ..., or from the last one down."""
        rows = [tuple(advance) for advance in advances]

        def words(image: Image) -> list[int]:
            table = image.block([x for row in rows for x in row])
            return [length, int(reverse), *image.layout(body), table.address, len(rows)]

        self._add(driver.SCAN, number, words)

    def cond(self, predicate: int, yes: Steps, no: Steps, number: int = -1) -> None:
        """Run one of two; ``predicate`` is the address of a word that holds the address of a byte."""
        self._add(driver.COND, number, lambda image: [predicate, *image.layout(yes), *image.layout(no)])

    def while_(self, test: Steps, predicate: int, body: Steps, number: int = -1) -> None:
        """Run the test, and as long as the predicate it leaves is true, the body and the test again."""
        self._add(driver.WHILE, number, lambda image: [*image.layout(test), predicate, *image.layout(body)])

    def copy(self, to: int, source: int, size: int, number: int = -1) -> None:
        """Copy bytes; ``to`` and ``source`` are addresses of words that hold the addresses."""
        self._add(driver.COPY, number, lambda image: [to, source, size])

    def gate(self, number: int = -1) -> None:
        """End the program here if its status is not 0."""
        self._add(driver.GATE, number, lambda image: [])


class Image:
    """A program being built; see the beginning of the file.

    Attributes:
        status: the address of the status word.
        steps: the steps of the program.
    """

    def __init__(self, n_bases: int = 0) -> None:
        self._memory: list[np.ndarray] = []
        self._used = _CHUNK
        self._functions: list[HostFunction] = []
        self._relocations: list[int] = []
        self.parallel = False
        self.steps = Steps()
        self._context = self.block([0] * driver.CONTEXT_WORDS)
        self._status = self.block([0, 0, 0, 0])  # and the words of an exception
        self._bases = self.block([0] * n_bases)
        self.status = self._status.address

    def block(self, words: Sequence[int]) -> Block:
        """Memory with these words in it; it begins at a cache line, and does not move."""
        size = -(-len(words) // 8) * 8
        if self._used + size > _CHUNK:
            self._memory.append(threads.aligned(max(size, _CHUNK)))
            self._used = 0
        place = self._memory[-1][self._used : self._used + len(words)]
        self._used += size
        place[:] = np.array([x & _WORD for x in words], np.uint64).view(np.int64)
        return Block(place)

    def relocate(self, slot: int, base: int, offset: int = 0) -> None:
        """At the start of each run: ``*slot = bases[base] + offset``, in bytes."""
        self._relocations += (slot, base, offset)

    def layout(self, steps: Steps) -> tuple[int, int]:
        """Lay out steps and their bodies: address and number."""
        rows = [row(self) for row in steps._rows]
        return self.block([x for row in rows for x in row]).address, len(rows)

    def keep(self, function: HostFunction) -> int:
        """The address of a Python function, which lives as long as the program."""
        self._functions.append(function)
        return id(function)

    def finish(self, scratch: int = 0) -> Runnable:
        """The program, ready to run, with this many bytes of scratch memory for each thread."""
        pool = threads.pool()
        pool.ensure_scratch(scratch)
        context = self._context.words
        context[[driver.STEPS, driver.N_STEPS]] = self.layout(self.steps)
        relocations = self.block(self._relocations)
        context[[driver.RELOCATIONS, driver.N_RELOCATIONS]] = relocations.address, len(self._relocations) // 3
        context[driver.BASES] = self._bases.address
        context[driver.STATUS] = self.status
        context[driver.EXCEPTION] = self._status.slot(1)
        context[driver.POOL] = pool.address
        context[driver.LOOK_EVERY] = int(driver.LOOK_SECONDS * pool.ticks_per_second())
        alive = self._memory, self._functions
        return Runnable(self._context, self._bases, self._status, pool, self.parallel, alive)


_RUN_TYPE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)


class Runnable:
    """A program in memory.

    Attributes:
        bases: the addresses that relocations refer to, int64; fill them before a run.
        profile: ticks and calls of each step by its number, int64; None if nothing is measured.
    """

    def __init__(
        self, context: Block, bases: Block, status: Block, pool: threads.Pool, parallel: bool, alive: object
    ) -> None:
        self.bases = bases.words
        self.profile: np.ndarray | None = None
        self._context = context
        self._status = status
        self._pool = pool
        self._parallel = parallel
        self._alive = alive
        self._native = _RUN_TYPE(driver.address())
        self._argument = ctypes.c_void_p(context.address)

    @property
    def status(self) -> int:
        """How the last run ended: 0 for well."""
        return int(self._status.words[0])

    def run(self) -> int:
        """Run the program; gives its status.

        Raises:
            BaseException: what a host function raised, or a signal handler during a loop (KeyboardInterrupt).
        """
        lock = self._pool.lock
        lock.acquire()
        try:
            if self._parallel and not self._pool.ready:
                self._pool.start()
            status: int = self._native(self._argument)
            if status == driver.RAISED:
                exception = [ctypes.c_void_p(int(x)) for x in self._status.words[1:4]]
                ctypes.pythonapi.PyErr_Restore(*exception)  # ctypes raises what it finds afterwards
            return status
        finally:
            lock.release()

    def measure(self, n_steps: int) -> None:
        """From now on, add the time of each step with a number below ``n_steps`` to `profile`; 0 to stop."""
        with self._pool.lock:
            self.profile = np.zeros((n_steps, 2), np.int64) if n_steps else None
            self._context.words[driver.PROFILE] = 0 if self.profile is None else self.profile.ctypes.data
            self._context.words[driver.N_PROFILE] = n_steps

    def times(self) -> tuple[np.ndarray, np.ndarray]:
        """Seconds and calls of each step since `measure`."""
        if self.profile is None:
            return np.zeros(0), np.zeros(0, np.int64)
        return self.profile[:, 0] / self._pool.ticks_per_second(), self.profile[:, 1].copy()
