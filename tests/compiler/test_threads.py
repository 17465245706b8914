from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from llvmlite import ir
from tiny_kernels import add_one, address, affine, log_chunk, no_cache, params, unique

from chainrule.compiler import system, threads
from chainrule.compiler.image import Image, Steps
from chainrule.compiler.kernel import Code, Frame
from chainrule.compiler.vector import I64
from chainrule.errors import ArgumentError

pytestmark = pytest.mark.skipif(not system.can_start_threads, reason="no POSIX threads here")


@pytest.fixture(params=[1, 2, 4])
def n_threads(request):
    before = threads.get_num_threads()
    threads.set_num_threads(request.param)
    yield request.param
    threads.set_num_threads(before)


@pytest.fixture
def four_threads():
    before = threads.get_num_threads()
    threads.set_num_threads(4)
    yield
    threads.set_num_threads(before)


@pytest.fixture(autouse=True)
def compiled_anew():
    with no_cache():
        yield


def native_threads() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/task")}


linux = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="no list of threads here")


@pytest.mark.parametrize("items", [0, 1, 2, 7, 64, 1000])
@pytest.mark.parametrize("grain", [1, 3, 64, 5000])
def test_every_item_is_done_once(n_threads, items, grain):
    n = np.zeros(1001, np.int64)
    image = Image()
    for _ in range(20):
        image.steps.kernel(address(add_one()), params(image, n), items, grain, parallel=True)
    program = image.finish()
    for _ in range(5):
        assert program.run() == 0
    assert (n[:items] == 100).all()
    assert (n[items:] == 0).all()


def test_many_small_jobs_one_after_the_other(n_threads):
    """Workers that come late meet the next job: none of its chunks may be lost or done twice."""
    sizes = np.random.default_rng(0).integers(1, 40, 300)
    n, expected = np.zeros(40, np.int64), np.zeros(40, np.int64)
    image = Image()
    body = Steps()
    for size in sizes:
        body.kernel(address(add_one()), params(image, n), int(size), 1 + int(size) % 3, parallel=True)
        expected[:size] += 50
    image.steps.scan(50, body, [])
    assert image.finish().run() == 0
    np.testing.assert_array_equal(n, expected)


def test_jobs_after_a_pause(n_threads):
    """Workers have gone to sleep meanwhile, some perhaps are just about to."""
    n = np.zeros(16, np.int64)
    image = Image()
    image.steps.kernel(address(add_one()), params(image, n), 16, 1, parallel=True)
    program = image.finish()
    for i in range(200):
        time.sleep(1e-6 * (i % 100))
        program.run()
    assert (n == 200).all()


@linux
def test_workers_start_with_the_first_parallel_step_and_block_all_signals():
    before = threads.get_num_threads()
    threads.set_num_threads(3)  # ends those that run
    try:
        running = native_threads()
        n = np.zeros(8, np.int64)
        serial, parallel = Image(), Image()
        serial.steps.kernel(address(add_one()), params(serial, n), 8, 1)
        parallel.steps.kernel(address(add_one()), params(parallel, n), 8, 1, parallel=True)
        serial.finish().run()
        assert native_threads() == running
        parallel.finish().run()
        new = native_threads() - running
        assert len(new) == 2
        for thread in new:
            status = Path(f"/proc/self/task/{thread}/status").read_text()
            blocked = int(next(line for line in status.splitlines() if line.startswith("SigBlk")).split()[1], 16)
            assert blocked & 1 << 1  # SIGINT
            assert blocked & 1 << 14  # SIGTERM
    finally:
        threads.set_num_threads(before)
    assert not new & native_threads()


def test_alone_for_a_while_a_caller_does_all_chunks_in_order(four_threads):
    pool = threads.pool()
    log = np.zeros(64, np.int64)
    image = Image()
    image.steps.kernel(address(log_chunk()), params(image, log), items=10, grain=3, parallel=True)
    program = image.finish()
    pool._words[threads.ALONE_UNTIL] = pool.counter() + int(60 * pool.ticks_per_second())
    try:
        program.run()
    finally:
        pool._words[threads.ALONE_UNTIL] = 0
    assert log[:9].tolist() == [4, 0, 3, 3, 6, 6, 9, 9, 10]


def test_a_caller_that_had_to_wait_for_long_works_alone_then(four_threads):
    """The second item takes 20 ms: a worker that does it is as good as stopped."""

    def build(module: ir.Module, name: str) -> None:
        frame = Frame(module, name, 0, 1, width=1)
        b = frame.b
        end = b.add(system.emit_counter(b), b.mul(frame.begin, frame.words[0]))
        with threads.repeat(b) as (again, out):
            b.cbranch(b.icmp_signed("<", system.emit_counter(b), end), again, out)
        frame.done()

    pool = threads.pool()
    image = Image()
    block = image.block([image.status, int(0.02 * pool.ticks_per_second())])
    image.steps.kernel(address(Code(unique("slow item"), build)), block, items=2, parallel=True)
    program = image.finish()
    pool._words[threads.ALONE_UNTIL] = 0
    for _ in range(100):  # until a worker takes the second item
        program.run()
        if pool._words[threads.ALONE_UNTIL]:
            break
    else:
        pytest.skip("no processor for a second thread was free")
    pool._words[threads.ALONE_UNTIL] = 0


def test_idle_workers_use_no_processor(four_threads):
    n = np.zeros(8, np.int64)
    image = Image()
    image.steps.kernel(address(add_one()), params(image, n), 8, 1, parallel=True)
    image.finish().run()
    time.sleep(0.01)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.15  # three workers that spin would use 0.3 s of each processor


def test_results_do_not_depend_on_the_number_of_threads():
    before = threads.get_num_threads()
    x = np.random.default_rng(0).normal(size=10_000)
    results = []
    for count in (1, 2, 4):
        threads.set_num_threads(count)
        out = np.zeros(10_000)
        image = Image()
        image.steps.kernel(address(affine(1 / 3, 1 / 7)), params(image, x, out), 10_000, 64, parallel=True)
        image.finish().run()
        results.append(out.tobytes())
    threads.set_num_threads(before)
    assert len(set(results)) == 1


def scratch_kernel() -> Code:
    """Fill 8,000 bytes of scratch memory with the number of the item, then count the words that are something else."""

    def build(module: ir.Module, name: str) -> None:
        frame = Frame(module, name, 1, 0, width=1)
        e, b = frame.e, frame.b
        with e.loop(frame.begin, frame.end) as i:
            with e.loop(I64(0), I64(1000)) as j:
                b.store(i, b.gep(frame.scratch, [j], source_etype=I64))
            wrong = e.variable(I64, I64(0))
            with e.loop(I64(0), I64(1000)) as j:
                found = b.load(b.gep(frame.scratch, [j], source_etype=I64), typ=I64)
                different = b.zext(b.icmp_signed("!=", found, i), I64)
                b.store(b.add(b.load(wrong, typ=I64), different), wrong)
            b.store(b.load(wrong, typ=I64), b.gep(frame.buffers[0], [i], source_etype=I64))
        frame.done()

    return Code(unique("scratch"), build)


def test_each_thread_has_scratch_memory_of_its_own(n_threads):
    wrong = np.full(2000, -1)
    image = Image()
    image.steps.kernel(address(scratch_kernel()), params(image, wrong), 2000, 1, parallel=True)
    program = image.finish(scratch=8000)
    assert program.run() == 0
    assert (wrong == 0).all()
    Image().finish(scratch=100_000)  # grows it
    wrong[:] = -1
    threads.set_num_threads(3)
    assert program.run() == 0
    assert (wrong == 0).all()


def test_programs_of_several_python_threads_take_turns(four_threads):
    arrays = [np.zeros(64, np.int64) for _ in range(4)]

    def work(n: np.ndarray) -> None:
        image = Image()
        image.steps.kernel(address(add_one()), params(image, n), 64, 4, parallel=True)
        program = image.finish()
        for _ in range(200):
            program.run()

    workers = [threading.Thread(target=work, args=(n,)) for n in arrays]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert all((n == 200).all() for n in arrays)


def test_number_of_threads():
    before = threads.get_num_threads()
    threads.set_num_threads(3)
    assert threads.get_num_threads() == 3
    for wrong in (0, -1, 2.5, True, "4", None):
        with pytest.raises(ArgumentError, match=r"\[set_num_threads\].*at least 1"):
            threads.set_num_threads(wrong)
        assert threads.get_num_threads() == 3
    threads.set_num_threads(np.int64(2))
    assert threads.get_num_threads() == 2
    threads.set_num_threads(100_000)
    assert threads.get_num_threads() == threads.MAX_THREADS
    threads.set_num_threads(before)


def run(code: str, **more: str) -> str:
    env = os.environ | {"PYTHONPATH": os.path.dirname(__file__)} | more
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, check=True, timeout=120, text=True, stdout=subprocess.PIPE
    )
    return done.stdout.strip()


def test_the_environment_sets_the_default():
    code = "from chainrule.compiler import threads; print(threads.get_num_threads())"
    assert run(code, CHAINRULE_NUM_THREADS="5") == "5"
    assert run(code, CHAINRULE_NUM_THREADS=" 5 ") == "5"
    for nonsense in ("0", "-1", "2.5", "many", "\N{SUPERSCRIPT TWO}"):
        assert run(code, CHAINRULE_NUM_THREADS=nonsense) == str(system.available_processors())


JOB = """
import os, threading, warnings
import numpy as np
from tiny_kernels import add_one, address, params
from chainrule.compiler import threads
from chainrule.compiler.image import Image
warnings.simplefilter("ignore")
threads.set_num_threads(4)
n = np.zeros(64, np.int64)
image = Image()
image.steps.kernel(address(add_one()), params(image, n), 64, 1, parallel=True)
program = image.finish()
program.run()
"""


def test_the_process_ends_while_workers_spin():
    assert run(JOB + "print(n.sum())") == "64"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_makes_its_own_threads():
    code = """
for i in range(10):
    program.run()
    child = os.fork()
    if child == 0:
        n[:] = 0
        for _ in range(20):
            program.run()
        workers = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 4
        os._exit(0 if (n == 20).all() and workers == 4 else 1)
    assert os.waitpid(child, 0)[1] == 0
print(n[0])
"""
    assert run(JOB + code) == "11"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_another_thread_runs_a_program():
    code = """
stop = False
def busy():
    while not stop:
        program.run()
worker = threading.Thread(target=busy)
worker.start()
for i in range(20):
    child = os.fork()
    if child == 0:
        m = np.zeros(8, np.int64)
        image = Image()
        image.steps.kernel(address(add_one()), params(image, m), 8, 1, parallel=True)
        image.finish().run()
        os._exit(0 if (m == 1).all() else 1)
    assert os.waitpid(child, 0)[1] == 0
stop = True
worker.join()
print((n == n[0]).all())
"""
    assert run(JOB + code) == "True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_in_a_host_function():
    code = """
children = []
def host():
    children.append(os.fork())
image = Image()
image.steps.host(host)
image.steps.kernel(address(add_one()), params(image, n), 64, 1, parallel=True)
image.finish().run()
program.run()
if children[0] == 0:
    os._exit(0 if (n == 3).all() else 1)
assert os.waitpid(children[0], 0)[1] == 0
print(n[0])
"""
    assert run(JOB + code) == "3"


def groups(tmp_path: Path, text: str, **files: str) -> float | None:
    (tmp_path / "cgroup").write_text(text)
    for name, content in files.items():
        path = tmp_path / "fs" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return system.cgroup_quota(tmp_path / "cgroup", tmp_path / "fs")


def test_quota_of_version_2(tmp_path):
    assert groups(tmp_path, "0::/a/b\n", a__b__cpu_dot_max="150000 100000\n") == 1.5


def test_quota_of_a_parent(tmp_path):
    assert groups(tmp_path, "0::/a/b\n", a__b__cpu_dot_max="max 100000\n", a__cpu_dot_max="50000 100000\n") == 0.5


def test_quota_of_a_container(tmp_path):
    """The path is the host's, and does not exist inside."""
    assert groups(tmp_path, "0::/outside/of/here\n", cpu_dot_max="200000 100000\n") == 2


def test_quota_of_version_1(tmp_path):
    text = "4:memory:/x\n3:cpu,cpuacct:/a\n"
    quota = {"cpu__a__cpu_dot_cfs_quota_us": "300000\n", "cpu__a__cpu_dot_cfs_period_us": "100000\n"}
    assert groups(tmp_path, text, **quota) == 3
    quota["cpu__a__cpu_dot_cfs_quota_us"] = "-1\n"
    assert groups(tmp_path, text, **quota) is None


def test_no_quota(tmp_path):
    assert groups(tmp_path, "0::/\n") is None
    assert system.cgroup_quota(tmp_path / "absent", tmp_path) is None
    assert system.available_processors() >= 1
