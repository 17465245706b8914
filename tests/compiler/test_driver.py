from __future__ import annotations

import functools
import gc
import os
import signal
import threading
import time
import weakref

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir
from tiny_kernels import add_one, address, affine, fault_at, is_below, log_chunk, params, pause, place

from chainrule.compiler import driver, threads
from chainrule.compiler.image import Advance, Image, Steps


def count(image: Image, n: np.ndarray, into: Steps) -> None:
    """A step that adds 1 to ``n[0]``."""
    into.kernel(address(add_one()), params(image, n))


def test_nothing_to_do():
    assert Image().finish().run() == 0


def test_buffers_are_relocated_at_each_run():
    image = Image(n_bases=2)
    block = image.block([image.status, 0, 0])
    image.relocate(block.slot(1), base=0, offset=16)
    image.relocate(block.slot(2), base=1)
    image.steps.kernel(address(affine()), block, items=3, grain=8)
    program = image.finish()
    for _ in range(2):
        x, out = np.arange(5.0), np.zeros(3)
        program.bases[:] = x.ctypes.data, out.ctypes.data
        assert program.run() == 0
        np.testing.assert_array_equal(out, x[2:] * 2 + 1)


@pytest.mark.parametrize(("items", "grain"), [(0, 4), (1, 4), (4, 4), (5, 4), (12, 4), (13, 5), (3, 1)])
def test_chunks_come_in_order(items, grain):
    log = np.zeros(64, np.int64)
    image = Image()
    image.steps.kernel(address(log_chunk()), params(image, log), items=items, grain=grain)
    image.finish().run()
    expected = [(begin, min(begin + grain, items)) for begin in range(0, items, grain)]
    assert log[0] == len(expected)
    assert log[1 : 1 + 2 * len(expected)].reshape(-1, 2).tolist() == [list(pair) for pair in expected]


def test_host_functions_are_called_in_order_and_live_with_the_program():
    seen: list[str] = []
    image = Image()
    for text in "abc":
        image.steps.host(functools.partial(seen.append, text))
    program = image.finish()
    del image
    gc.collect()
    assert program.run() == program.status == 0
    assert seen == ["a", "b", "c"]


def test_ctrl_c_before_a_host_function_is_not_lost():
    """Python looks for signals when the function begins, before any line of it."""
    n = np.zeros(1, np.int64)
    image = Image()
    image.steps.kernel(address(pause()), image.block([image.status, int(0.1 * threads.pool().ticks_per_second())]))
    image.steps.host(lambda: None)
    count(image, n, image.steps)
    program = image.finish()
    threading.Timer(0.03, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        program.run()
    assert program.status == driver.RAISED
    assert n[0] == 0


def test_exceptions_of_host_functions_are_not_kept():
    class Special(Exception):
        pass

    def raising() -> None:
        raise Special("that")

    image = Image()
    image.steps.host(raising)
    program = image.finish()

    def kept() -> weakref.ref[BaseException]:
        with pytest.raises(Special, match="that") as caught:
            program.run()
        return weakref.ref(caught.value)

    reference = kept()
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt(), SystemExit(3)])
def test_what_a_host_function_raises_is_raised_by_run(error):
    n = np.zeros(1, np.int64)
    image = Image()

    def raising() -> None:
        raise error

    count(image, n, image.steps)
    image.steps.host(raising)
    count(image, n, image.steps)
    program = image.finish()
    for i in range(2):
        with pytest.raises(type(error)) as caught:
            program.run()
        assert caught.value is error
        assert n[0] == i + 1


def test_a_host_function_may_run_another_program():
    n = np.zeros(1, np.int64)
    inner = Image()
    count(inner, n, inner.steps)
    ready = inner.finish(scratch=1 << 16)
    image = Image()
    image.steps.host(ready.run)
    count(image, n, image.steps)
    assert image.finish().run() == 0
    assert n[0] == 2


def test_a_fault_ends_the_program():
    n = np.zeros(1, np.int64)
    image = Image()
    for _ in range(5):
        count(image, n, image.steps)
        image.steps.kernel(address(fault_at(3)), params(image, n))
    program = image.finish()
    assert program.run() == 7
    assert n[0] == 3
    n[0] = -10
    assert program.run() == 0
    assert n[0] == -5


def test_a_gate_lets_a_good_program_pass():
    n = np.zeros(1, np.int64)
    image = Image()
    image.steps.gate()
    count(image, n, image.steps)
    assert image.finish().run() == 0
    assert n[0] == 1


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [0, 1, 7])
def test_scan_moves_its_slots(length, reverse):
    """``out[t] = 2 x[t] + 1``, and a copy of it to a place that stays."""
    x, out, carry = np.arange(8.0), np.zeros(8), np.zeros(1)
    image = Image()
    block, xs, outs = params(image, x, out), place(image, x), place(image, out)
    body = Steps()
    body.kernel(address(affine()), block)
    body.copy(place(image, carry), block.slot(2), 8)
    image.steps.scan(length, body, [Advance(block.slot(1), xs, 8), Advance(block.slot(2), outs, 8)], reverse)
    assert image.finish().run() == 0
    np.testing.assert_array_equal(out[:length], x[:length] * 2 + 1)
    np.testing.assert_array_equal(out[length:], 0)
    assert carry[0] == (0 if not length else 1 if reverse else out[length - 1])


def test_scans_nest():
    n = np.zeros((3, 5), np.int64)
    image = Image()
    row, cell = image.block([n.ctypes.data]), image.block([image.status, 0])
    inner, outer = Steps(), Steps()
    inner.kernel(address(add_one()), cell)
    outer.scan(4, inner, [Advance(cell.slot(1), row.slot(0), 8)])
    image.steps.scan(3, outer, [Advance(row.slot(0), place(image, n), 40)])
    assert image.finish().run() == 0
    np.testing.assert_array_equal(n, [[1, 1, 1, 1, 0]] * 3)


def test_a_fault_ends_a_scan():
    n = np.zeros(1, np.int64)
    image = Image()
    body = Steps()
    count(image, n, body)
    body.kernel(address(fault_at(4)), params(image, n))
    image.steps.scan(1000, body, [])
    count(image, n, image.steps)
    assert image.finish().run() == 7
    assert n[0] == 4


@pytest.mark.parametrize("value", [False, True])
def test_cond_runs_one_branch(value):
    predicate = np.array([value])
    yes, no = np.zeros(1, np.int64), np.zeros(1, np.int64)
    image = Image()
    if_true, if_false = Steps(), Steps()
    count(image, yes, if_true)
    count(image, no, if_false)
    count(image, no, if_false)
    image.steps.cond(place(image, predicate), if_true, if_false)
    assert image.finish().run() == 0
    assert (yes[0], no[0]) == ((1, 0) if value else (0, 2))


@pytest.mark.parametrize("start", [0, 6, 7, 100])
def test_while_runs_until_the_test_fails(start):
    n, tests, more = np.array([start]), np.zeros(1, np.int64), np.zeros(1, np.bool_)
    image = Image()
    test, body = Steps(), Steps()
    test.kernel(address(is_below(7)), params(image, n, more))
    count(image, tests, test)
    count(image, n, body)
    image.steps.while_(test, place(image, more), body)
    assert image.finish().run() == 0
    assert n[0] == max(start, 7)
    assert tests[0] == max(7 - start, 0) + 1


def test_a_fault_in_the_test_ends_a_while():
    n, more = np.zeros(1, np.int64), np.ones(1, np.bool_)
    image = Image()
    test, body = Steps(), Steps()
    test.kernel(address(fault_at(5)), params(image, n))
    count(image, n, body)
    image.steps.while_(test, place(image, more), body)
    assert image.finish().run() == 7
    assert n[0] == 5


def test_copies_may_overlap():
    x = np.arange(6.0)
    image = Image()
    image.steps.copy(place(image, x[1:]), place(image, x), 32)
    assert image.finish().run() == 0
    np.testing.assert_array_equal(x, [0, 0, 1, 2, 3, 5])


def test_profile_counts_calls_and_time():
    n = np.zeros(1, np.int64)
    image = Image()
    body = Steps()
    body.kernel(address(add_one()), params(image, n), number=1)
    body.kernel(address(add_one()), params(image, n))
    image.steps.scan(10, body, [], number=0)
    image.steps.host(lambda: time.sleep(0.01), number=2)
    program = image.finish()
    program.run()
    assert program.times()[1].tolist() == []
    program.measure(3)
    program.run()
    program.run()
    seconds, calls = program.times()
    assert calls.tolist() == [2, 20, 2]
    assert 0 < seconds[1] < seconds[0]
    assert 0.02 <= seconds[2] < 20
    program.measure(1)  # no room for the others
    program.run()
    assert program.times()[1].tolist() == [1]
    program.measure(0)
    assert program.run() == 0


@pytest.mark.parametrize(
    "triple", ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "arm64-apple-darwin", "x86_64-pc-windows-msvc"]
)
def test_objects_for_other_machines(triple):
    """They are not run here."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(triple).create_target_machine(reloc="pic", codemodel="small")
    for code in [driver.CODE, *threads.CODES]:
        module = ir.Module()
        module.triple, module.data_layout = triple, str(machine.target_data)
        code.build(module, "name")
        parsed = llvm.parse_assembly(str(module))
        parsed.verify()
        assert machine.emit_object(parsed)
        text = machine.emit_assembly(parsed)
        if code.key == "counter":
            assert ("rdtsc" if "x86" in triple else "cntvct_el0") in text.lower()


@pytest.mark.parametrize("kind", ["scan", "while"])
def test_ctrl_c_ends_a_long_loop(kind):
    n, yes = np.zeros(1, np.int64), np.ones(1, np.bool_)
    image = Image()
    body = Steps()
    count(image, n, body)
    if kind == "scan":
        image.steps.scan(1 << 62, body, [])
    else:
        image.steps.while_(Steps(), place(image, yes), body)
    count(image, n, image.steps)
    program = image.finish()
    for _ in range(2):
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            program.run()
        assert n[0] > 0
        assert program.status == driver.RAISED


def test_a_signal_handler_that_returns_does_not_end_a_loop():
    """What the handler raises later does."""
    n, calls = np.zeros(1, np.int64), []
    image = Image()
    body = Steps()
    count(image, n, body)
    image.steps.scan(1 << 62, body, [])

    def handler(number, frame):
        calls.append(number)
        if len(calls) == 2:
            raise LookupError("second")

    before = signal.signal(signal.SIGINT, handler)
    try:
        for delay in (0.1, 0.3):
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(LookupError, match="second"):
            image.finish().run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(calls) == 2


def test_other_threads_run_meanwhile():
    """The interpreter's lock is free during a run: this thread stops the loop of the other one."""
    n, more = np.zeros(1, np.int64), np.ones(1, np.bool_)
    image = Image()
    body = Steps()
    count(image, n, body)
    image.steps.while_(Steps(), place(image, more), body)
    program = image.finish()
    status: list[int] = []
    worker = threading.Thread(target=lambda: status.append(program.run()))
    worker.start()
    while not n[0]:
        time.sleep(0.001)
    more[0] = False
    worker.join(60)
    assert status == [0]


def test_large_words_and_tables():
    x, out = np.arange(4.0), np.zeros(4)
    image = Image()
    block = image.block([image.status, x.ctypes.data, out.ctypes.data, (1 << 64) - 1, -1, *range(20_000)])
    assert block.words[3] == block.words[4] == -1
    assert block.address % 64 == 0
    for _ in range(5000):
        image.steps.kernel(address(affine()), block, items=4, grain=4)
    assert image.finish().run() == 0
    np.testing.assert_array_equal(out, x * 2 + 1)
