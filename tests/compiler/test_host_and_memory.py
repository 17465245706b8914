"""What runs beside a program: functions of the host, other programs; and the memory that programs share."""

from __future__ import annotations

import gc
import os
import signal
import threading
import tracemalloc
import weakref
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler import engine, program


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


# --- functions of the host --------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [5, 5000])
def test_functions_of_the_host_get_arrays_of_their_own(n):
    """They may keep and change them: neither the program's memory nor an argument or a cell is seen through them."""
    kept: list[np.ndarray] = []
    cell = cr.Cell(cr.ones((n,)))

    def spoil(*arrays: np.ndarray) -> np.ndarray:
        kept.extend(arrays)
        for array in arrays:
            array += 1
        return arrays[0] + 0

    @cr.compile
    def step(x: Any) -> Any:
        doubled = cr.cumulative_sum(x)
        return cr.callback(spoil, (n,), "float32", doubled, x, cell), cr.cumulative_sum(doubled), x * cell

    x = floats(n)
    before = x.copy()
    for _ in range(2):
        first, second, third = step(x)
        sums = np.cumsum(before)
        np.testing.assert_allclose(first, sums + 1, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(second, np.cumsum(sums), rtol=1e-4, atol=1e-3)
        np.testing.assert_array_equal(third, before)
        np.testing.assert_array_equal(x, before)
        np.testing.assert_array_equal(cell, np.ones(n))
    np.testing.assert_allclose(kept[0], sums + 1, rtol=1e-4, atol=1e-4)


def test_a_compiled_function_called_from_the_host_leaves_the_caller_s_memory_alone():
    inner = cr.compile(lambda a: cr.cumulative_sum(cr.cumulative_sum(a) * 0 - 7.0))

    def host(a: np.ndarray) -> np.ndarray:
        return inner(a + 1).numpy()

    def function(x: Any) -> Any:
        kept = cr.cumulative_sum(x)
        found = cr.callback(host, x.shape, "float32", x)
        return cr.cumulative_max(kept), found

    x = floats(5000)
    inner(x)  # its program is there
    for expected, found in zip(function(x), cr.compile(function)(x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_a_step_called_from_its_own_callback():
    def host(a: np.ndarray) -> np.ndarray:
        return a if a <= 0 else step(cr.tensor(a - 1)).numpy() + 1

    step = cr.compile(lambda x: cr.callback(host, (), "float32", x) + x)
    for _ in range(2):
        assert step(cr.tensor(2.0)).item() == step.function(cr.tensor(2.0)).item() == 5
    assert len(step.programs) == 1


def test_a_handler_of_a_signal_may_call_a_compiled_function():
    found: list[float] = []
    inner = cr.compile(lambda a: cr.cumulative_sum(cr.cumulative_sum(a) * 0 - 7.0).sum())
    inner(np.ones(5000, np.float32))

    def handler(number: int, frame: Any) -> None:
        found.append(inner(np.full(5000, 3, np.float32)).item())
        more[0] = False

    more = np.array([True])

    @cr.compile
    def step(x: Any) -> Any:
        kept = cr.cumulative_sum(x)
        times = cr.while_loop(lambda i: cr.callback(lambda i: more[0], (), "bool", i), lambda i: i + 1, x[0])
        return cr.cumulative_max(kept + 0.0 * times)

    step.program_for(np.ones(5000, np.float32))
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        sums = step(np.ones(5000, np.float32))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    np.testing.assert_array_equal(sums, np.arange(1.0, 5001.0))
    assert len(found) == 1


def test_an_interrupt_in_a_callback_leaves_the_cells():
    count = cr.Cell(cr.tensor(0))
    interrupting = [True]

    def host(a: np.ndarray) -> np.ndarray:
        if interrupting[0]:
            os.kill(os.getpid(), signal.SIGINT)
        return a

    @cr.compile
    def step(x: Any) -> Any:
        count.assign(count + 1)
        return cr.callback(host, (), "float32", x)

    with pytest.raises(KeyboardInterrupt):
        step(np.float32(1))
    assert count.item() == 0
    interrupting[0] = False
    assert step(np.float32(1)).item() == 1
    assert count.item() == 1


def test_several_threads_and_callbacks():
    step = cr.compile(
        lambda x: cr.cumulative_sum(cr.callback(lambda a: a * 2, x.shape, "float32", cr.cumulative_sum(x)))
    )
    wrong: list[int] = []

    def work(k: int) -> None:
        x = np.full(2000, k, np.float32)
        expected = step.function(x)
        wrong.extend(k for _ in range(20) if not np.allclose(step(x), expected, rtol=1e-5))

    workers = [threading.Thread(target=work, args=(k,)) for k in range(1, 5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not wrong


# --- memory -----------------------------------------------------------------------------------------------


def needs(n: int) -> Any:
    """A compiled function whose intermediate memory is at least ``n`` floats."""
    step = cr.compile(lambda x: cr.cumulative_sum(cr.cumulative_sum(x)))
    step(floats(n))
    return step


def test_programs_share_one_arena_that_goes_with_the_last_of_them():
    gc.collect()
    small = needs(3000)
    arena = small.programs[0]._arena
    first = weakref.ref(arena._memory)
    large = needs(arena._size // 4 + 100_000)
    assert large.programs[0]._arena is arena
    assert first() is None  # that of the small one is not kept beside it
    x = floats(3000)
    np.testing.assert_allclose(small(x), np.cumsum(np.cumsum(x)), rtol=1e-3, atol=1e-2)
    assert small.programs[0]._arena_address == arena.address

    own = program._Arena()
    alone = weakref.ref(own)
    small.programs[0]._arena = own
    small(x)
    assert own.address == small.programs[0]._arena_address
    del small, own
    gc.collect()
    assert alone() is None


def test_an_arena_that_is_too_large_for_the_machine_is_an_error_and_no_more():
    step = needs(3000)
    arena = step.programs[0]._arena
    with pytest.raises(MemoryError):
        arena.grow(1 << 60)
    x = floats(3000)
    np.testing.assert_allclose(step(x), np.cumsum(np.cumsum(x)), rtol=1e-3, atol=1e-2)


def test_calls_leave_nothing_behind():
    w = cr.Parameter(cr.ones((40, 40)))
    opt = cr.optim.SGD([w], lr=1e-3)

    @cr.compile
    def step(x: Any) -> Any:
        y = cr.callback(np.tanh, (40, 40), "float32", cr.stop_gradient(x))
        loss = ((x @ w + y) ** 2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss, y

    x = floats(40, 40)
    for _ in range(20):
        step(x)
    linked = len(engine.engine().table)
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(20):
            step(x)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1000):
            step(x)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
    finally:
        tracemalloc.stop()
    assert len(engine.engine().table) == linked


def test_a_program_goes_with_its_function():
    w = cr.Parameter(cr.ones((3,)))

    def made() -> weakref.ref[Any]:
        step = cr.compile(lambda x: w.assign(w + cr.callback(np.tanh, (3,), "float32", x)))
        step(floats(3))
        return weakref.ref(step.programs[0])

    references = [made() for _ in range(3)]
    gc.collect()
    assert [r() for r in references] == [None] * 3
    cr.compile(lambda: w.assign(w * 1))()
    assert len(w._runs) == 1


def test_a_cell_that_a_callback_reads_has_its_new_value_afterwards():
    cell = cr.Cell(cr.tensor(0.0))
    seen = []

    def look(x):
        seen.append(float(cell.numpy()))
        return x

    @cr.compile
    def step(x):
        cell.assign(cell + 1.0)
        return cr.callback(look, (), "float32", x)

    for _ in range(3):
        step(cr.tensor(1.0))
    assert float(cell) == 3.0
    assert seen == [0.0, 1.0, 2.0]
