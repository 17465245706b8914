"""The native driver: it runs a program, which is a table of steps, each of eight 64-bit words.

======  ==========================================================================================================
kind    words
======  ==========================================================================================================
KERNEL  1 function, 2 params, 3 items, 4 grain, 5 whether threads may share it
HOST    1 address of a Python function, which is called without arguments
SCAN    1 length, 2 whether in reverse, 3 steps of the body, 4 their number, 5 advances, 6 their number
COND    1 address of the word with the predicate's address (a byte), 2 steps if true, 3 number, 4 if false, 5 number
WHILE   1 steps of the test, 2 number, 3 predicate as in COND, 4 steps of the body, 5 number
COPY    1 address of the word with the destination's address, 2 the same for the source, 3 bytes
GATE    none: it ends the program if the status is not 0, as every step does
======  ==========================================================================================================

Word 7 of each is the step's number in the profile, or -1. An advance is ``{slot, base, stride}``: before iteration t
of a scan, ``*slot = *base + t * stride``.

The context of a run has these words: 0 steps, 1 their number, 2 relocations, 3 their number, 4 bases, 5 address of the
status, 6 address of the profile, 7 where the three words of an exception go, 8 the pool of threads, 9 the time of the
last look for signals, 10 the time between two looks, 11 for how many numbers the profile has room (0 for no profile). A
relocation is ``{slot, base number, byte offset}``: at the start of a run, ``*slot = bases[base number] + offset``. The
profile has two words for each number: ticks and calls.

Loops look for signals now and then: they take the interpreter's lock and let Python run its handlers. If one raised
(Ctrl-C), or a function of the host did, the program ends with the status RAISED, and the exception lies in the words
that the context names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from . import engine, system
from .kernel import Code
from .threads import PARALLEL, PARALLEL_TYPE, WORKERS, call, get, put, repeat, run_chunks, word
from .vector import I1, I8, I32, I64, PTR, VOID, Emitter

KERNEL, HOST, SCAN, COND, WHILE, COPY, GATE = range(7)
STEP_WORDS = 8
PROFILE_NUMBER = 7

# Words of the context.
STEPS, N_STEPS, RELOCATIONS, N_RELOCATIONS, BASES, STATUS, PROFILE, EXCEPTION = range(8)
POOL, LAST_LOOK, LOOK_EVERY, N_PROFILE = range(8, 12)
CONTEXT_WORDS = 16

#: The status of a program that an exception ended: of a function of the host, or of a signal handler.
RAISED = -1

LOOK_SECONDS = 0.02  # between two looks for signals

_STEPS_TYPE = ir.FunctionType(I64, [PTR, PTR, I64])
_CONTEXT_TYPE = ir.FunctionType(VOID, [PTR])


def _entry(b: ir.IRBuilder, table: Any, index: Any, words: int) -> Any:
    """The address of entry number ``index`` in a table of entries of so many words."""
    return b.gep(table, [b.mul(index, I64(words))], source_etype=I64)


def _add_bytes(b: ir.IRBuilder, address: Any, offset: Any) -> Any:
    return b.gep(address, [offset], source_etype=I8)


def _python(b: ir.IRBuilder, name: str, returns: Any, *arguments: Any) -> Any:
    """Call a function of the interpreter."""
    return b.call(system.declare(b, name, ir.FunctionType(returns, [a.type for a in arguments])), arguments)


@contextmanager
def _interpreter(b: ir.IRBuilder) -> Iterator[None]:
    """Hold the lock of the interpreter in what is emitted here."""
    state = _python(b, "PyGILState_Ensure", I32)
    yield
    _python(b, "PyGILState_Release", VOID, state)


def _keep_exception(b: ir.IRBuilder, context: Any) -> None:
    """Take the exception that Python just raised for the caller of the program, which ends."""
    exception = get(b, context, EXCEPTION, PTR)
    _python(b, "PyErr_Fetch", VOID, *(word(b, exception, i) for i in range(3)))
    put(b, I64(RAISED), get(b, context, STATUS, PTR), 0)


class _Steps:
    """Emits ``i64 steps(context, steps, n)``, which runs steps and gives the status."""

    def __init__(self, module: ir.Module) -> None:
        self.look = _build_look(module)
        self.function = ir.Function(module, _STEPS_TYPE, "steps")
        self.function.linkage = "internal"
        self.context, steps, n = self.function.args
        self.b = b = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.e = Emitter(b, width=1)
        self.status = get(b, self.context, STATUS, PTR)
        self.profile = get(b, self.context, PROFILE, PTR)
        self.n_profile = get(b, self.context, N_PROFILE)
        self.pool = get(b, self.context, POOL, PTR)
        with self.e.loop(I64(0), n) as i:
            self.step = _entry(b, steps, i, STEP_WORDS)
            with self._timed():
                self._dispatch()
            status = get(b, self.status, 0)
            with b.if_then(b.icmp_signed("!=", status, I64(0)), likely=False):
                b.ret(status)
        b.ret(I64(0))

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """If the profile has room for this step, add the time of what is emitted here to it."""
        b = self.b
        number = get(b, self.step, PROFILE_NUMBER)
        wanted = b.icmp_unsigned("<", number, self.n_profile)  # -1 is larger than all
        start = self.e.variable(I64)
        with b.if_then(wanted, likely=False):
            b.store(system.emit_counter(b), start)
        yield
        with b.if_then(wanted, likely=False):
            entry = _entry(b, self.profile, number, 2)
            ticks = b.sub(system.emit_counter(b), b.load(start, typ=I64))
            put(b, b.add(get(b, entry, 0), ticks), entry, 0)
            put(b, b.add(get(b, entry, 1), I64(1)), entry, 1)

    def _dispatch(self) -> None:
        b = self.b
        after = b.append_basic_block("after")
        switch = b.switch(get(b, self.step, 0), after)
        emitters = (self._kernel, self._host, self._scan, self._cond, self._while, self._copy)
        for kind, emit in zip((KERNEL, HOST, SCAN, COND, WHILE, COPY), emitters, strict=True):
            block = b.append_basic_block(emit.__name__)
            switch.add_case(I64(kind), block)
            b.position_at_end(block)
            emit()
            b.branch(after)
        b.position_at_end(after)

    def _run(self, steps: int, number: int) -> Any:
        """Run the steps that two words of this step describe; gives the status."""
        b = self.b
        return b.call(self.function, [self.context, get(b, self.step, steps, PTR), get(b, self.step, number)])

    def _kernel(self) -> None:
        b = self.b
        function, params = get(b, self.step, 1, PTR), get(b, self.step, 2, PTR)
        items, grain, shared = (get(b, self.step, i) for i in (3, 4, 5))
        threads = b.select(b.icmp_signed("!=", shared, I64(0)), get(b, self.pool, WORKERS), I64(0))
        several = b.and_(b.icmp_signed("!=", threads, I64(0)), b.icmp_signed(">", items, grain))
        with b.if_else(several) as (together, alone):
            with together:
                run = get(b, self.pool, PARALLEL, PTR)
                call(b, PARALLEL_TYPE, run, self.pool, function, params, items, grain)
            with alone:
                run_chunks(b, self.pool, function, params, items, grain)

    def _host(self) -> None:
        # Not through a callback of ctypes: an exception before its first line, as of Ctrl-C, would be lost in there.
        b = self.b
        with _interpreter(b):
            result = _python(b, "PyObject_CallNoArgs", PTR, get(b, self.step, 1, PTR))
            with b.if_else(b.icmp_unsigned("==", result, ir.Constant(PTR, None)), likely=False) as (failed, done):
                with failed:
                    _keep_exception(b, self.context)
                with done:
                    _python(b, "Py_DecRef", VOID, result)

    def _scan(self) -> None:
        b = self.b
        length, reverse, advances, n_advances = (
            get(b, self.step, i, t) for i, t in zip((1, 2, 5, 6), (I64, I64, PTR, I64), strict=True)
        )
        backwards = b.icmp_signed("!=", reverse, I64(0))
        done = b.append_basic_block("scanned")
        with self.e.loop(I64(0), length) as i:
            t = b.select(backwards, b.sub(b.sub(length, i), I64(1)), i)
            with self.e.loop(I64(0), n_advances) as j:
                advance = _entry(b, advances, j, 3)
                base = get(b, get(b, advance, 1, PTR), 0, PTR)
                put(b, _add_bytes(b, base, b.mul(t, get(b, advance, 2))), get(b, advance, 0, PTR), 0)
            self._go_on_unless_ended(self._run(3, 4), done)
            self._look_for_signals(done)
        b.branch(done)
        b.position_at_end(done)

    def _while(self) -> None:
        b = self.b
        done = b.append_basic_block("finished")
        with repeat(b) as (_, out):
            self._go_on_unless_ended(self._run(1, 2), done)
            body = b.append_basic_block("body")
            b.cbranch(self._predicate(3), body, out)
            b.position_at_end(body)
            self._go_on_unless_ended(self._run(4, 5), done)
            self._look_for_signals(done)
        b.branch(done)
        b.position_at_end(done)

    def _cond(self) -> None:
        with self.b.if_else(self._predicate(1)) as (yes, no):
            with yes:
                self._run(2, 3)
            with no:
                self._run(4, 5)

    def _predicate(self, field: int) -> Any:
        b = self.b
        byte = b.load(get(b, get(b, self.step, field, PTR), 0, PTR), typ=I8)
        return b.icmp_unsigned("!=", byte, I8(0))

    def _copy(self) -> None:
        b = self.b
        to, source = (get(b, get(b, self.step, i, PTR), 0, PTR) for i in (1, 2))
        self.e.call("llvm.memmove.p0.p0.i64", VOID, [to, source, get(b, self.step, 3), I1(0)])

    def _go_on_unless_ended(self, status: Any, done: Any) -> None:
        b = self.b
        go_on = b.append_basic_block("go_on")
        b.cbranch(b.icmp_signed("==", status, I64(0)), go_on, done)
        b.position_at_end(go_on)

    def _look_for_signals(self, done: Any) -> None:
        b = self.b
        now = system.emit_counter(b)
        waited = b.sub(now, get(b, self.context, LAST_LOOK))
        with b.if_then(b.icmp_unsigned(">", waited, get(b, self.context, LOOK_EVERY)), likely=False):
            b.call(self.look, [self.context])
        self._go_on_unless_ended(get(b, self.status, 0), done)


def _build_look(module: ir.Module) -> Any:
    """``void look(context)``: let Python handle signals; if a handler raises, keep the exception and set the status."""
    look = ir.Function(module, _CONTEXT_TYPE, "look")
    look.linkage = "internal"
    look.attributes.add("noinline")
    context = look.args[0]
    b = ir.IRBuilder(look.append_basic_block("entry"))
    with _interpreter(b):
        raised = _python(b, "PyErr_CheckSignals", I32)
        with b.if_then(b.icmp_signed("!=", raised, I32(0)), likely=False):
            _keep_exception(b, context)
    put(b, system.emit_counter(b), context, LAST_LOOK)
    b.ret_void()
    return look


def _build(module: ir.Module, name: str) -> None:
    """``i64 run(context)``."""
    steps = _Steps(module).function
    run = ir.Function(module, ir.FunctionType(I64, [PTR]), name)
    context = run.args[0]
    b = ir.IRBuilder(run.append_basic_block("entry"))
    relocations, bases = (get(b, context, i, PTR) for i in (RELOCATIONS, BASES))
    with Emitter(b, width=1).loop(I64(0), get(b, context, N_RELOCATIONS)) as i:
        entry = _entry(b, relocations, i, 3)
        base = get(b, _entry(b, bases, get(b, entry, 1), 1), 0, PTR)
        put(b, _add_bytes(b, base, get(b, entry, 2)), get(b, entry, 0, PTR), 0)
    put(b, I64(0), get(b, context, STATUS, PTR), 0)
    put(b, system.emit_counter(b), context, LAST_LOOK)
    b.ret(b.call(steps, [context, get(b, context, STEPS, PTR), get(b, context, N_STEPS)]))


CODE = Code("driver", _build)


def address() -> int:
    """The address of the native ``i64 run(context)``."""
    return engine.addresses([CODE], system.symbols())[0]
