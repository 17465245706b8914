"""A pool of threads that run chunks of a kernel, and never make a program slower than one thread would by much.

Workers are threads of the operating system in native code: they have no Python state, and signals are masked. They are
started when the first program with a parallel step runs, and anew in a forked child.

A job is published by one atomic store of a *ticket*: the number of the job (upper half) and how many of its chunks
nobody has taken yet (lower half). A thread takes a chunk by a compare-and-swap of the ticket to one less. What it read
of the job before that is valid if the swap succeeds: fields change only between jobs, when no chunk is left to take,
and numbers of jobs do not come back. The caller works too, and waits for the chunks, not for the workers: a worker
that sleeps, or that the system gave no processor, delays nobody.

Workers without work, and a caller without chunks, spin for a short while and then sleep. Whoever sleeps announces it
before looking once more; whoever has news tells them first and looks for sleepers afterwards; both in one total order.
So no wake-up is lost, and if nobody sleeps nobody is woken. Spinning threads offer their processor to others, since
the thread that they wait for may need it.

If other programs use the processors too, a worker may be stopped in the middle of a chunk, for milliseconds. A caller
that had to wait for so long works alone for a while, and for twice as long if it soon happens again.

Chunks are a matter of shapes, so results do not depend on the number of threads.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir

from ..errors import ArgumentError
from . import engine, system
from .kernel import KERNEL_TYPE, Code
from .vector import I64, PTR, VOID, smaller

#: Estimated nanoseconds of serial work from which a step is shared. Measured on two cores that others used too (best
#: of many): with a worker that still spins from the step before, 2,400 ns became 2,300, 5,900 became 3,800 and 12,800
#: became 7,500. Waking one costs the caller 2,000 to 10,000 ns: 28,000 lost and 55,000 gained. Most steps follow
#: another one, so the threshold lies between.
PARALLEL_THRESHOLD = 20_000

MAX_THREADS = 256
SPIN = 30e-6  # seconds that a thread without work looks for some before it sleeps
PATIENCE = 500e-6  # seconds, beside four chunks, that the last chunk may be late
ALONE, ALONE_MOST = 2e-3, 0.5  # seconds to work alone after that, the first time and at most

# The words of the pool. What different threads write lies in different cache lines.
PARALLEL, WORKERS, SCRATCH, STRIDE, SPIN_TICKS, PATIENCE_TICKS, ALONE_TICKS, ALONE_MOST_TICKS = range(8)
TICKET, DONE, SLEEPERS, CALLER_WAITS, QUIT = 8, 16, 24, 25, 26
FUNCTION, PARAMS, ITEMS, GRAIN, CHUNKS, ALONE_UNTIL, ALONE_FOR = range(32, 39)
MUTEX, WORK, FINISHED = 40, 56, 72  # a lock and two conditions, 16 words each
RECORDS = 88  # for each worker its argument: the pool, and its number
_SIZE = RECORDS + 2 * MAX_THREADS

# --- native code ------------------------------------------------------------------------------------------------------

WORKER_TYPE = ir.FunctionType(PTR, [PTR])
PARALLEL_TYPE = ir.FunctionType(VOID, [PTR, PTR, PTR, I64, I64])  # pool, function, params, items, grain
_I32 = ir.IntType(32)
_LEFT = I64(0xFFFFFFFF)


def word(b: ir.IRBuilder, base: Any, i: int) -> Any:
    """The address of word number ``i`` from ``base`` on."""
    return b.gep(base, [I64(i)], source_etype=I64)


def get(b: ir.IRBuilder, base: Any, i: int, type: Any = I64) -> Any:
    """Word number ``i`` from ``base`` on."""
    return b.load(word(b, base, i), align=8, typ=type)


def put(b: ir.IRBuilder, value: Any, base: Any, i: int) -> None:
    """Store word number ``i`` from ``base`` on."""
    b.store(value, word(b, base, i), align=8)


class _Callee:
    """A function at an address, with the type that llvmlite asks of what is called; a pointer does not say it."""

    def __init__(self, type: Any, address: Any) -> None:
        self.function_type = type
        self.type = address.type
        self.get_reference = address.get_reference


def call(b: ir.IRBuilder, type: Any, address: Any, *arguments: Any) -> Any:
    """Call the function at an address."""
    return b.call(_Callee(type, address), arguments)


@contextmanager
def repeat(b: ir.IRBuilder) -> Iterator[tuple[Any, Any]]:
    """A loop without end; gives the blocks to go to for the next round and for the end."""
    again, out = b.append_basic_block("again"), b.append_basic_block("out")
    b.branch(again)
    b.position_at_end(again)
    yield again, out
    if not b.block.is_terminated:
        b.branch(again)
    b.position_at_end(out)


def _look(b: ir.IRBuilder, pool: Any, i: int, order: str = "seq_cst") -> Any:
    return b.load_atomic(word(b, pool, i), order, 8, typ=I64)


def _tell(b: ir.IRBuilder, value: Any, pool: Any, i: int) -> None:
    b.atomic_rmw("xchg", word(b, pool, i), value, "seq_cst")  # what an ordered store is; llvmlite has none


def _system(b: ir.IRBuilder, name: str, pool: Any, *fields: int) -> None:
    function = system.declare(b, name, ir.FunctionType(_I32, [PTR] * len(fields)))
    b.call(function, [word(b, pool, i) for i in fields])


def _wake(b: ir.IRBuilder, pool: Any, condition: int) -> None:
    """Wake those who sleep on a condition. Taking the lock means: not between their last look and their sleep."""
    _system(b, "pthread_mutex_lock", pool, MUTEX)
    _system(b, "pthread_cond_broadcast", pool, condition)
    _system(b, "pthread_mutex_unlock", pool, MUTEX)


def _no_work(b: ir.IRBuilder, pool: Any) -> Any:
    nothing_left = b.icmp_unsigned("==", b.and_(_look(b, pool, TICKET), _LEFT), I64(0))
    return b.and_(nothing_left, b.icmp_unsigned("==", _look(b, pool, QUIT), I64(0)))


def _unfinished(b: ir.IRBuilder, pool: Any) -> Any:
    return b.icmp_unsigned("!=", _look(b, pool, DONE), get(b, pool, CHUNKS))


def _wait(b: ir.IRBuilder, pool: Any, waiting: Any, condition: int, announce: int) -> None:
    """Spin while ``waiting(b, pool)`` holds, for some time; then announce to be asleep, and sleep."""
    done = b.append_basic_block("ready")
    start = system.emit_counter(b)
    with repeat(b) as (again, late):
        idle = b.append_basic_block("idle")
        b.cbranch(waiting(b, pool), idle, done)
        b.position_at_end(idle)
        system.emit_pause(b)
        _system(b, "sched_yield", pool)
        spent = b.sub(system.emit_counter(b), start)
        b.cbranch(b.icmp_unsigned("<", spent, get(b, pool, SPIN_TICKS)), again, late)
    _system(b, "pthread_mutex_lock", pool, MUTEX)
    b.atomic_rmw("add", word(b, pool, announce), I64(1), "seq_cst")
    with repeat(b) as (again, awake):
        asleep = b.append_basic_block("asleep")
        b.cbranch(waiting(b, pool), asleep, awake)
        b.position_at_end(asleep)
        _system(b, "pthread_cond_wait", pool, condition, MUTEX)
    b.atomic_rmw("sub", word(b, pool, announce), I64(1), "seq_cst")
    _system(b, "pthread_mutex_unlock", pool, MUTEX)
    b.branch(done)
    b.position_at_end(done)


def run_chunks(b: ir.IRBuilder, pool: Any, function: Any, params: Any, items: Any, grain: Any) -> None:
    """Run all chunks of a kernel on this thread, the caller's, in order."""
    before = b.block
    scratch = get(b, pool, SCRATCH, PTR)
    with repeat(b) as (_, done):
        begin = b.phi(I64)
        begin.add_incoming(I64(0), before)
        chunk = b.append_basic_block("chunk")
        b.cbranch(b.icmp_signed("<", begin, items), chunk, done)
        b.position_at_end(chunk)
        end = smaller(b, b.add(begin, grain), items)
        call(b, KERNEL_TYPE, function, params, begin, end, scratch)
        begin.add_incoming(end, b.block)


def _work(b: ir.IRBuilder, pool: Any, number: Any) -> Any:
    """Do chunks of the present job as long as there are some, then say how many; gives their number."""
    before = b.block
    with repeat(b) as (again, none_left):
        mine = b.phi(I64)
        mine.add_incoming(I64(0), before)
        ticket = _look(b, pool, TICKET, "acquire")
        left = b.and_(ticket, _LEFT)
        some = b.append_basic_block("some")
        b.cbranch(b.icmp_unsigned("==", left, I64(0)), none_left, some)
        b.position_at_end(some)
        function, params, items, grain, chunks = (
            b.load_atomic(word(b, pool, i), "monotonic", 8, typ=PTR if i in (FUNCTION, PARAMS) else I64)
            for i in (FUNCTION, PARAMS, ITEMS, GRAIN, CHUNKS)
        )
        swap = b.cmpxchg(word(b, pool, TICKET), ticket, b.sub(ticket, I64(1)), "acq_rel", "acquire")
        taken = b.append_basic_block("taken")
        mine.add_incoming(mine, b.block)
        b.cbranch(b.extract_value(swap, 1), taken, again)
        b.position_at_end(taken)
        begin = b.mul(b.sub(chunks, left), grain)
        end = smaller(b, b.add(begin, grain), items)
        offset = b.mul(number, get(b, pool, STRIDE))
        scratch = b.gep(get(b, pool, SCRATCH, PTR), [offset], source_etype=ir.IntType(8))
        call(b, KERNEL_TYPE, function, params, begin, end, scratch)
        mine.add_incoming(b.add(mine, I64(1)), b.block)
    # As long as our chunks are not reported the job is not over, so all of them were of one job.
    with b.if_then(b.icmp_unsigned("!=", mine, I64(0))):
        done = b.add(b.atomic_rmw("add", word(b, pool, DONE), mine, "seq_cst"), mine)
        last = b.icmp_unsigned("==", done, get(b, pool, CHUNKS))
        asleep = b.icmp_unsigned("!=", _look(b, pool, CALLER_WAITS), I64(0))
        with b.if_then(b.and_(last, asleep)):
            _wake(b, pool, FINISHED)
    return mine


def _build_worker(module: ir.Module, name: str) -> None:
    function = ir.Function(module, WORKER_TYPE, name)
    b = ir.IRBuilder(function.append_basic_block("entry"))
    pool, number = get(b, function.args[0], 0, PTR), get(b, function.args[0], 1)
    with repeat(b) as (again, quitting):
        _work(b, pool, number)
        _wait(b, pool, _no_work, WORK, SLEEPERS)
        b.cbranch(b.icmp_unsigned("==", _look(b, pool, QUIT), I64(0)), again, quitting)
    b.ret(ir.Constant(PTR, None))


def _build_parallel(module: ir.Module, name: str) -> None:
    function = ir.Function(module, PARALLEL_TYPE, name)
    pool, kernel, params, items, grain = function.args
    b = ir.IRBuilder(function.append_basic_block("entry"))
    start = system.emit_counter(b)
    with b.if_then(b.icmp_signed("<", start, get(b, pool, ALONE_UNTIL)), likely=False):
        run_chunks(b, pool, kernel, params, items, grain)
        b.ret_void()
    chunks = b.sdiv(b.add(items, b.sub(grain, I64(1))), grain)
    for field, value in ((FUNCTION, kernel), (PARAMS, params), (ITEMS, items), (GRAIN, grain), (CHUNKS, chunks)):
        put(b, value, pool, field)
    put(b, I64(0), pool, DONE)
    next_job = b.add(b.or_(_look(b, pool, TICKET, "monotonic"), _LEFT), I64(1))
    _tell(b, b.or_(next_job, chunks), pool, TICKET)
    with b.if_then(b.icmp_unsigned("!=", _look(b, pool, SLEEPERS), I64(0))):
        _wake(b, pool, WORK)
    mine = _work(b, pool, I64(0))
    worked = b.sub(system.emit_counter(b), start)
    _wait(b, pool, _unfinished, FINISHED, CALLER_WAITS)
    _judge(b, pool, mine, worked, b.sub(b.sub(system.emit_counter(b), start), worked))
    b.ret_void()


def _judge(b: ir.IRBuilder, pool: Any, mine: Any, worked: Any, waited: Any) -> None:
    """Decide whether to work alone for a while, after a job in which the caller did ``mine`` chunks, then waited."""
    chunk = b.udiv(worked, b.add(mine, I64(1)))  # rather too short; and no division by zero
    allowed = b.add(get(b, pool, PATIENCE_TICKS), b.mul(chunk, I64(4)))
    with b.if_then(b.icmp_signed(">", waited, allowed), likely=False):
        now, before = system.emit_counter(b), get(b, pool, ALONE_FOR)
        soon = b.icmp_signed("<", b.sub(now, get(b, pool, ALONE_UNTIL)), b.mul(before, I64(4)))
        longer = smaller(b, b.mul(before, I64(2)), get(b, pool, ALONE_MOST_TICKS))
        alone = b.select(soon, longer, get(b, pool, ALONE_TICKS))
        put(b, alone, pool, ALONE_FOR)
        put(b, b.add(now, alone), pool, ALONE_UNTIL)


def _build_counter(module: ir.Module, name: str) -> None:
    function = ir.Function(module, ir.FunctionType(I64, []), name)
    b = ir.IRBuilder(function.append_basic_block("entry"))
    b.ret(system.emit_counter(b))


CODES = [Code("pool worker", _build_worker), Code("pool parallel", _build_parallel), Code("counter", _build_counter)]

# --- the pool ---------------------------------------------------------------------------------------------------------


def _default_threads() -> int:
    named = os.environ.get("CHAINRULE_NUM_THREADS", "").strip()
    count = min(int(named), MAX_THREADS) if named.isascii() and named.isdigit() else 0
    return (count or min(system.available_processors(), MAX_THREADS)) if system.can_start_threads else 1


class Pool:
    """The threads of this process, and the scratch memory of each.

    Attributes:
        lock: held while a program runs, so that one at a time uses the threads.
        address: of the words that native code works with.
        ready: whether the workers are running.
    """

    def __init__(self) -> None:
        self.lock = system.ForkSafeLock()
        self._words = aligned(_SIZE)
        self.address: int = self._words.ctypes.data
        self.ready = False
        self._threads = _default_threads()
        self._handles: list[int] = []
        self._scratch = aligned(0)
        self._worker, parallel, counter = engine.addresses(CODES, system.symbols())
        self._words[PARALLEL] = parallel
        self.counter = ctypes.CFUNCTYPE(ctypes.c_int64)(counter)
        self._origin = self._now()
        seconds = np.array([SPIN, PATIENCE, ALONE, ALONE_MOST])
        self._words[SPIN_TICKS : SPIN_TICKS + 4] = (seconds * self.ticks_per_second()).astype(np.int64)
        self._clear()
        engine.immortal(self)  # workers have no part in the end of the interpreter: they may still look at the words
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._clear)

    def _clear(self) -> None:
        """As before the first thread; in a forked child there are none, whatever the parent's were doing."""
        words = self._words
        words[[TICKET, DONE, SLEEPERS, CALLER_WAITS, QUIT, WORKERS]] = 0
        if system.can_start_threads:
            system.init_lock(self.address + 8 * MUTEX, [self.address + 8 * i for i in (WORK, FINISHED)])
        self._handles.clear()
        self.ready = False

    def start(self) -> None:
        """Start the workers, if they are not running. Call it with the lock held."""
        if self.ready:
            return
        records = [RECORDS + 2 * number for number in range(1, self._threads)]
        for number, record in enumerate(records, start=1):
            self._words[record : record + 2] = self.address, number
        try:
            system.start_threads(self._worker, [self.address + 8 * record for record in records], self._handles)
        finally:  # even if a signal's handler raised: they run
            self._words[WORKERS] = len(self._handles)
            self.ready = True

    def stop(self) -> None:
        """End the workers. Call it with the lock held."""
        if self._handles:
            self._words[QUIT] = 1
            system.wake_all(self.address + 8 * MUTEX, self.address + 8 * WORK)
            while self._handles:
                system.join_thread(self._handles.pop())
        self._clear()

    @property
    def threads(self) -> int:
        """How many threads work, the caller among them."""
        return self._threads

    @threads.setter
    def threads(self, count: int) -> None:
        with self.lock:
            self.stop()
            self._threads = count if system.can_start_threads else 1
            self.ensure_scratch(int(self._words[STRIDE]))

    def ensure_scratch(self, size: int) -> None:
        """Give each thread at least ``size`` bytes of scratch memory."""
        with self.lock:
            stride = -(-max(size, int(self._words[STRIDE])) // 64) * 64
            if stride * self._threads > self._scratch.nbytes:
                self._scratch = aligned(stride * self._threads // 8)
            self._words[SCRATCH] = self._scratch.ctypes.data
            self._words[STRIDE] = stride

    def _now(self) -> tuple[int, int]:
        return self.counter(), time.perf_counter_ns()

    def ticks_per_second(self) -> float:
        """The rate of the processor's counter."""
        while True:
            ticks, now = self._now()
            if now - self._origin[1] > 300_000:
                return (ticks - self._origin[0]) * 1e9 / (now - self._origin[1])


def aligned(words: int) -> np.ndarray:
    """Zeros, int64, at the beginning of a cache line."""
    memory = np.zeros(words + 8, np.int64)
    start = -memory.ctypes.data % 64 // 8
    return memory[start : start + words]


_pool: Pool | None = None


def pool() -> Pool:
    """The pool of this process."""
    global _pool
    with engine.llvm_lock:
        if _pool is None:
            _pool = Pool()
        return _pool


def set_num_threads(count: int) -> None:
    """Let compiled programs use ``count`` threads. It changes speed, and not one bit of any result.

    The default is the number of processors that this process may use (by affinity and control group), or the
    environment variable ``CHAINRULE_NUM_THREADS`` if that is a number.

    Args:
        count: from 1 on; above 256 it is 256.

    Raises:
        ArgumentError: ``count`` is something else.
    """
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
        raise ArgumentError(
            "set_num_threads",
            "takes a number of threads, at least 1",
            received=repr(count),
            fix="pass 1 to run programs on the calling thread alone",
        )
    pool().threads = min(int(count), MAX_THREADS)


def get_num_threads() -> int:
    """How many threads compiled programs may use."""
    return pool().threads
