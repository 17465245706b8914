"""Compiles one emitted function of arrays and runs it: a small stand-in for the engine."""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from chainrule.compiler.kernel import Frame
from chainrule.compiler.vector import LANES, Emitter

_number = itertools.count()
_SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


@functools.cache
def _machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=2, jit=True
    )


@functools.cache
def _jit() -> Any:
    return llvm.create_lljit_compiler(_machine())


class Compiled:
    """``emit(e, inputs, words)`` gives the LLVM values of `width` elements from their inputs, as machine code.

    Linking fails if the code needs a function from outside, a mathematical library for instance.
    """

    def __init__(self, emit: Callable[..., Any], types: Sequence[Any], out: Any, words: int = 0, width: int = LANES):
        self.types, self.out = [np.dtype(t) for t in types], np.dtype(out)
        name = f"kernel{next(_number)}"
        module = ir.Module()
        module.triple = llvm.get_default_triple()
        frame = Frame(module, name, len(types) + 1, words + 1, width)
        e = frame.e

        def body(i: Any) -> None:
            inputs = [e.load(p, i, t) for p, t in zip(frame.buffers, self.types, strict=False)]
            e.store(emit(e, inputs, frame.words[1:], i), frame.buffers[-1], i, self.out)

        e.blocks(frame.words[0], body)
        frame.done()
        self.assembly = str(module)
        self._library = self._link(name)
        self._function = _SIGNATURE(self._library[name])

    def _link(self, name: str) -> Any:
        parsed = llvm.parse_assembly(self.assembly)
        parsed.verify()
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization = options.slp_vectorization = False
        builder = llvm.create_pass_builder(_machine(), options)
        builder.getModulePassManager().run(parsed, builder)
        image = _machine().emit_object(parsed)
        return llvm.JITLibraryBuilder().add_object_img(image).export_symbol(name).link(_jit(), name)

    def __call__(self, *arrays: Any, words: Sequence[int] = ()) -> tuple[np.ndarray, int]:
        """The result for one-dimensional arrays of equal length, and the status."""
        given = [np.ascontiguousarray(a, t) for a, t in zip(arrays, self.types, strict=True)]
        n = given[0].size if given else words[0]
        result = np.empty(n, self.out)
        status = ctypes.c_int64(0)
        addresses = [ctypes.addressof(status), *(a.ctypes.data for a in given), result.ctypes.data]
        params = np.array([*addresses, n, *words], np.uint64)
        self._function(params.ctypes.data, 0, 1, None)
        return result, status.value
