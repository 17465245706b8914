from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from tiny_kernels import address, affine, no_cache, unique

from chainrule.compiler import engine
from chainrule.compiler.kernel import KERNEL_TYPE, Code

NATIVE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


@pytest.fixture(autouse=True)
def compiled_anew():
    with no_cache():
        yield


def call(where: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    x, out, status = np.arange(n, dtype=np.float64), np.zeros(n), np.zeros(1, np.int64)
    words = np.array([status.ctypes.data, x.ctypes.data, out.ctypes.data], np.int64)
    NATIVE(where)(words.ctypes.data, 0, n, None)
    return x, out


def test_a_kernel_is_compiled_and_runs():
    x, out = call(address(affine()), 37)
    np.testing.assert_array_equal(out, x * 2 + 1)


def test_equal_keys_are_one_kernel():
    key = unique("equal")
    before = engine.statistics()
    first = engine.addresses([affine(key=key), affine(key=key)])
    again = engine.addresses([affine(key=key)])
    assert first == again * 2
    after = engine.statistics()
    assert after.compiled == before.compiled + 1


def test_addresses_come_in_order():
    codes = [affine(scale) for scale in (3.0, 5.0, 7.0)]
    assert engine.addresses(codes) == [address(code) for code in codes]
    for scale, where in zip((3.0, 5.0, 7.0), engine.addresses(codes), strict=True):
        x, out = call(where, 5)
        np.testing.assert_array_equal(out, x * scale + 1)


def test_no_kernels():
    assert engine.addresses([]) == []


def test_an_error_while_building_leaves_nothing_behind():
    key = unique("error")

    def build(module, name):
        raise RuntimeError("not today")

    with pytest.raises(RuntimeError, match="not today"):
        engine.addresses([Code(key, build)])
    _, out = call(address(affine(key=key)), 2)
    np.testing.assert_array_equal(out, [1, 3])


def test_illegal_code_is_found_before_it_runs():
    from llvmlite import ir

    def build(module, name):
        ir.IRBuilder(ir.Function(module, KERNEL_TYPE, name).append_basic_block())  # a block without an end

    with pytest.raises(RuntimeError, match="LLVM IR"):
        engine.addresses([Code(unique("illegal"), build)])


def test_statistics_count_time():
    before = engine.statistics()
    address(affine(key=unique("time")))
    after = engine.statistics()
    for phase in ("build", "optimize", "emit", "link"):
        assert getattr(after, phase) > getattr(before, phase)


def test_threads_may_compile_at_once():
    keys = [unique("threads") for _ in range(8)]
    found: list[list[int]] = [[] for _ in range(4)]

    def compile_all(into: list[int]) -> None:
        into += engine.addresses([affine(key=key) for key in keys])

    workers = [threading.Thread(target=compile_all, args=(into,)) for into in found]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for where in found[0]:
        np.testing.assert_array_equal(call(where, 2)[1], [1, 3])
    assert engine.addresses([affine(key=key) for key in keys]) in found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_while_another_thread_compiles_can_compile():
    code = """
import os, threading, warnings
warnings.simplefilter("ignore")
from tiny_kernels import address, affine
stop = False
def busy():
    i = 0
    while not stop:
        address(affine(key=f"busy {i}"))
        i += 1
worker = threading.Thread(target=busy)
worker.start()
for i in range(5):
    child = os.fork()
    if child == 0:
        address(affine(key=f"child {i}"))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop = True
worker.join()
"""
    env = os.environ | {"CHAINRULE_CACHE": "0", "PYTHONPATH": os.path.dirname(__file__)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=120)


def test_the_target_is_this_machine():
    assert engine.target().triple.split("-")[0] in ("x86_64", "aarch64", "arm64")
