"""All that depends on the operating system or the processor's family: threads, processors, folders, clocks.

Threads are POSIX threads. Where there are none (Windows), `can_start_threads` is False and programs run on one thread.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import stat
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llvmlite import ir

_I32, _I64 = ir.IntType(32), ir.IntType(64)

# Room for a mutex or a condition variable (40 and 48 bytes on Linux x86-64).
LOCK_BYTES = 128

_PYTHON = (
    "PyGILState_Ensure", "PyGILState_Release", "PyErr_CheckSignals", "PyErr_Fetch", "PyObject_CallNoArgs", "Py_DecRef",
)  # fmt: skip
_POSIX = ("sched_yield", "pthread_mutex_lock", "pthread_mutex_unlock", "pthread_cond_wait", "pthread_cond_broadcast")

can_start_threads = os.name == "posix"


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def symbols() -> dict[str, int]:
    """Addresses of the functions of the interpreter and of the system that native code calls, by name."""
    found = {name: _address(getattr(ctypes.pythonapi, name)) for name in _PYTHON}
    if can_start_threads:
        process = ctypes.CDLL(None)
        found |= {name: _address(getattr(process, name)) for name in _POSIX}
    return found


# --- processors -------------------------------------------------------------------------------------------------------


def available_processors() -> int:
    """How many processors this process may use: by its affinity and by the quota of its control group."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota() if sys.platform == "linux" else None
    return max(1, count if quota is None else min(count, math.ceil(quota)))


def cgroup_quota(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """The processors that the control groups of this process allow, of version 1 or 2; None for no limit."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "cpu" if controllers else root
        folder = top / path.strip("/")
        # A parent's limit holds too; in a container the path may lie outside of what is mounted.
        limits += [_quota_of(f) for f in (folder, *folder.parents) if f == top or top in f.parents]
    return min((x for x in limits if x is not None), default=None)


def _quota_of(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()[:2]
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # absent, or "max"
        return None


# --- threads ----------------------------------------------------------------------------------------------------------


def start_threads(function: int, arguments: Sequence[int], handles: list[int]) -> None:
    """Start a thread at a native ``void* f(void*)`` for each argument, signals masked, and append its handle.

    If the system has a limit they are fewer.
    """
    create = ctypes.CDLL(None).pthread_create
    create.argtypes = [ctypes.POINTER(ctypes.c_ulong), ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    before = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        for argument in arguments:
            handle = ctypes.c_ulong()
            if create(ctypes.byref(handle), None, function, argument):
                break
            handles.append(handle.value)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # handlers of signals that came meanwhile run here


def join_thread(handle: int) -> None:
    """Wait until a thread has ended."""
    join = ctypes.CDLL(None).pthread_join
    join.argtypes = [ctypes.c_ulong, ctypes.c_void_p]
    join(handle, None)


def init_lock(mutex: int, conditions: list[int]) -> None:
    """Make a mutex and condition variables at these addresses, whatever was there."""
    process = ctypes.CDLL(None)
    ctypes.memset(mutex, 0, LOCK_BYTES)
    process.pthread_mutex_init(ctypes.c_void_p(mutex), None)
    for condition in conditions:
        ctypes.memset(condition, 0, LOCK_BYTES)
        process.pthread_cond_init(ctypes.c_void_p(condition), None)


def wake_all(mutex: int, condition: int) -> None:
    """Wake all threads that wait for a condition."""
    process = ctypes.CDLL(None)
    process.pthread_mutex_lock(ctypes.c_void_p(mutex))
    process.pthread_cond_broadcast(ctypes.c_void_p(condition))
    process.pthread_mutex_unlock(ctypes.c_void_p(mutex))


class ForkSafeLock:
    """A reentrant lock that is free in a forked child, unless the thread that forked holds it."""

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def _renew(self) -> None:
        self._lock = threading.RLock()
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def _after_fork(self) -> None:
        if self._lock.acquire(blocking=False):  # ours, or nobody's
            self._lock.release()
        else:
            self._renew()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


# --- code -------------------------------------------------------------------------------------------------------------


def _is_x86(b: ir.IRBuilder) -> bool:
    return str(b.module.triple).startswith(("x86_64", "i686"))


def _is_arm(b: ir.IRBuilder) -> bool:
    return str(b.module.triple).startswith(("aarch64", "arm64"))


def emit_counter(b: ir.IRBuilder) -> Any:
    """The processor's time counter, an i64 that grows at a constant rate."""
    if not _is_arm(b):
        return b.call(declare(b, "llvm.readcyclecounter", ir.FunctionType(_I64, [])), [])
    # The cycle counter is closed to user programs there; that of the timer is not.
    register = b.module.add_metadata([ir.MetaDataString(b.module, "cntvct_el0")])
    read = declare(b, "llvm.read_volatile_register.i64", ir.FunctionType(_I64, [ir.MetaDataType()]))
    return b.call(read, [register])


def emit_pause(b: ir.IRBuilder) -> None:
    """Tell the processor that this is a loop that waits."""
    if _is_x86(b):
        b.call(declare(b, "llvm.x86.sse2.pause", ir.FunctionType(ir.VoidType(), [])), [])
    elif _is_arm(b):
        b.call(declare(b, "llvm.aarch64.hint", ir.FunctionType(ir.VoidType(), [_I32])), [_I32(1)])


def declare(b: ir.IRBuilder, name: str, type: Any) -> Any:
    """A function of another module by its name."""
    return b.module.globals.get(name) or ir.Function(b.module, type, name)


# --- files ------------------------------------------------------------------------------------------------------------


def cache_folder() -> Path | None:
    """Where the user's caches lie; None if there is no home."""
    if named := os.environ.get("CHAINRULE_CACHE_DIR"):
        return Path(named).absolute()  # the process may go to another folder
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # a relative one does not count, says the XDG Base Directory Specification
        return Path(base) / "chainrule"
    home = os.path.expanduser("~")
    return Path(home) / ".cache" / "chainrule" if os.path.isabs(home) else None


def unusable(path: Path) -> str:
    """Make a folder if it is missing; why it is not one that is the user's own and nobody else's to write, or ""."""
    if not hasattr(os, "getuid"):
        return "this system does not say whose a folder is"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = path.lstat()
    except OSError as error:
        return f"{path} cannot be made: {error.strerror}"
    own = stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid() and not info.st_mode & 0o022
    if not own:
        return f"{path} does not belong to this user alone"
    return "" if os.access(path, os.W_OK | os.X_OK) else f"{path} cannot be written"
