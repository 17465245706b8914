"""Compiles emitted elementwise functions and runs them on arrays: a small stand-in for the engine."""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from chainrule.compiler.kernel import Frame
from chainrule.compiler.vector import I64, LANES

_number = itertools.count()
_SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


class Spec(NamedTuple):
    """``emit(e, inputs, words, index)`` gives the value of `width` elements from number ``index`` on."""

    emit: Callable[..., Any]
    types: Sequence[Any]
    out: Any
    words: int = 0
    width: int = LANES


@functools.cache
def _machine(cpu: str | None = None) -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = "" if cpu else llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=cpu or llvm.get_host_cpu_name(), features=features, opt=2, jit=True)


@functools.cache
def _jit() -> Any:
    return llvm.create_lljit_compiler(_machine())


class Compiled:
    """A function on one-dimensional arrays of equal length: gives the result and the status."""

    def __init__(self, spec: Spec, library: Any, name: str) -> None:
        self._spec = spec
        self._library = library  # keeps the code alive
        self._function = _SIGNATURE(library[name])

    def __call__(self, *arrays: Any, words: Sequence[int] = (), size: int = 0) -> tuple[np.ndarray, int]:
        spec = self._spec
        size = len(arrays[0]) if arrays else size
        padded = -(-size // LANES) * LANES
        given = [np.resize(np.asarray(a, t), padded) for a, t in zip(arrays, spec.types, strict=True)]
        result = np.empty(padded, spec.out)
        status = ctypes.c_int64(0)
        addresses = [ctypes.addressof(status), *(a.ctypes.data for a in given), result.ctypes.data]
        params = np.array([*addresses, padded, *words], np.uint64)
        self._function(params.ctypes.data, 0, 1, None)
        return result[:size], status.value


def _emit(module: ir.Module, name: str, spec: Spec) -> None:
    frame = Frame(module, name, len(spec.types) + 1, spec.words + 1, spec.width)
    e, out = frame.e, frame.buffers[-1]
    with e.loop(I64(0), frame.words[0], spec.width) as i:
        inputs = [e.load(p, i, np.dtype(t)) for p, t in zip(frame.buffers, spec.types, strict=False)]
        e.store(spec.emit(e, inputs, frame.words[1:], i), out, i, np.dtype(spec.out))
    frame.done()


def optimized(specs: Sequence[Spec], cpu: str | None = None) -> tuple[Any, list[str]]:
    """All functions as one module, optimized as the engine does it, and their names."""
    module = ir.Module()
    module.triple = llvm.get_default_triple()
    names = [f"kernel{next(_number)}" for _ in specs]
    for name, spec in zip(names, specs, strict=True):
        _emit(module, name, spec)
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = False
    builder = llvm.create_pass_builder(_machine(cpu), options)
    builder.getModulePassManager().run(parsed, builder)
    return parsed, names


def assembly(spec: Spec, cpu: str) -> str:
    """The machine code for another processor of the family, as text."""
    return _machine(cpu).emit_assembly(optimized([spec], cpu)[0])


def compile_all(specs: Sequence[Spec]) -> list[Compiled]:
    """Compile functions together, which is quicker than one by one.

    Linking fails if the code needs a function from outside, of a mathematical library for instance.
    """
    module, names = optimized(specs)
    builder = llvm.JITLibraryBuilder().add_object_img(_machine().emit_object(module))
    for name in names:
        builder.export_symbol(name)
    library = builder.link(_jit(), names[0])
    return [Compiled(spec, library, name) for spec, name in zip(specs, names, strict=True)]
