"""From kernels to addresses: IR -> passes -> object -> linked code, with the objects kept on disk.

There is one path, whether an object was just compiled or comes from the cache: all that is linked are objects. Code is
never unloaded, since threads and programs may be running it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import llvmlite
import llvmlite.binding as llvm
from llvmlite import ir

from . import objects
from .kernel import Code

#: Held around all use of LLVM in this process.
llvm_lock = threading.RLock()


@dataclass
class Statistics:
    """What the engine has done in this process.

    Attributes:
        compiled, loaded: kernels compiled, and taken from the cache on disk.
        build, optimize, emit, link: seconds spent in making IR, in LLVM's passes, in code generation, in linking.
        cache: the folder of the cache; None if there is none, for the reason ``no_cache``.
    """

    compiled: int = 0
    loaded: int = 0
    build: float = 0.0
    optimize: float = 0.0
    emit: float = 0.0
    link: float = 0.0
    cache: str | None = None
    no_cache: str = ""


class Engine:
    """Compiles for the processor of this machine, and holds the code."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.cpu = llvm.get_host_cpu_name()
        self.features = llvm.get_host_cpu_features().flatten()
        self.machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=self.cpu, features=self.features, opt=2, reloc="pic", codemodel="small"
        )
        self.triple, self.layout = self.machine.triple, str(self.machine.target_data)
        # Only objects are linked, so the linker needs no target machine of ours (it might take it with it).
        self.linker = immortal(llvm.create_lljit_compiler())
        self.table: dict[str, int] = {}
        self.statistics = Statistics()
        self._links = 0
        self._open_cache()

    def _open_cache(self) -> None:
        version = ".".join(map(str, llvm.llvm_version_info))
        try:
            self._name = objects.namer(llvmlite.__version__, version, self.triple, self.cpu, self.features)
            self.cache = objects.open_cache()
        except OSError as error:
            self.cache = objects.ObjectCache(None, f"the compiler's sources cannot be read: {error}")
        self.statistics.cache = None if self.cache.folder is None else str(self.cache.folder)
        self.statistics.no_cache = self.cache.reason

    def addresses(self, codes: Sequence[Code], imports: Mapping[str, int]) -> list[int]:
        """See the function `addresses`."""
        missing = {code.key: code for code in codes if code.key not in self.table}
        if missing:
            self._link({key: self._object(code) for key, code in missing.items()}, imports)
        return [self.table[code.key] for code in codes]

    def _object(self, code: Code) -> bytes:
        name = "" if self.cache.folder is None else self._name(code.key)
        data = self.cache.load(name)
        if data is not None:
            self.statistics.loaded += 1
            return data
        # One kernel at a time, so that a fork, which waits for the lock, does not wait for long.
        with llvm_lock:
            data = self.compile(code)
        self.cache.store(name, data)
        return data

    def compile(self, code: Code) -> bytes:
        """The object of a kernel."""
        start = time.perf_counter()
        text = self.assembly(code)
        parsed = llvm.parse_assembly(text)
        built = time.perf_counter()
        parsed.verify()
        self._optimize(parsed)
        optimized = time.perf_counter()
        data: bytes = self.machine.emit_object(parsed)
        count = self.statistics
        count.compiled += 1
        count.build += built - start
        count.optimize += optimized - built
        count.emit += time.perf_counter() - optimized
        return data

    def assembly(self, code: Code) -> str:
        """The IR of a kernel, before all passes."""
        module = ir.Module(name="kernel")
        module.triple, module.data_layout = self.triple, self.layout
        code.build(module, _symbol(code.key))
        return str(module)

    def _optimize(self, parsed: Any) -> None:
        """Make registers of variables, and simplify.

        Kernels are written in the form that the machine should run, so these few passes give code as fast as all of
        LLVM's, which take ten times as long.
        """
        builder = llvm.create_pass_builder(self.machine, llvm.create_pipeline_tuning_options())
        passes = llvm.create_new_module_pass_manager()
        passes.add_sroa_pass()
        passes.add_always_inliner_pass()
        passes.add_instruction_combine_pass()
        passes.add_simplify_cfg_pass()
        passes.run(parsed, builder)

    def _link(self, found: Mapping[str, bytes], imports: Mapping[str, int]) -> None:
        with llvm_lock:
            start = time.perf_counter()
            library = llvm.JITLibraryBuilder().add_current_process()
            for key, data in found.items():
                library.add_object_img(data).export_symbol(_symbol(key))
            for name, address in imports.items():
                library.import_symbol(name, address)
            self._links += 1
            linked = immortal(library.link(self.linker, f"kernels{self._links}"))
            self.table |= {key: linked[_symbol(key)] for key in found}
            self.statistics.link += time.perf_counter() - start


def _symbol(key: str) -> str:
    return "kernel_" + hashlib.sha256(key.encode()).hexdigest()[:32]


def immortal(x: Any) -> Any:
    """Keep an object for the life of the process: even at its end, threads may still be in the code that it holds."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(x))
    return x


_engine: Engine | None = None


def engine() -> Engine:
    """The engine of this process."""
    global _engine
    with llvm_lock:
        if _engine is None:
            _engine = Engine()
        return _engine


def addresses(codes: Sequence[Code], imports: Mapping[str, int] | None = None) -> list[int]:
    """The address of the function of each kernel, compiled if need be.

    Args:
        codes: the kernels; those with equal keys are one.
        imports: addresses of functions that the kernels call by name, beside those of the C library.
    """
    return engine().addresses(codes, imports or {})


def target() -> Any:
    """LLVM's description of the machine that is compiled for; use it under `llvm_lock`."""
    return engine().machine


def statistics() -> Statistics:
    """What has been compiled and loaded until now."""
    return replace(engine().statistics)


# A child that was forked during a call of LLVM would inherit its locks, held by nobody: so forking waits for the call.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=llvm_lock.acquire, after_in_parent=llvm_lock.release, after_in_child=llvm_lock.release)
