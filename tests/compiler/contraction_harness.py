"""Runs the calls that a node is lowered to, on NumPy arrays."""

from __future__ import annotations

import ctypes
import math

import numpy as np

from chainrule.compiler.convolution import Operand, lower_contraction
from chainrule.compiler.engine import addresses
from chainrule.compiler.kernel import Lowered

ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


def operand(x: np.ndarray) -> Operand:
    return Operand(x.shape, tuple(s // x.itemsize for s in x.strides))


def aligned(n_bytes: int) -> np.ndarray:
    raw = np.full(n_bytes + 128, 0xA5, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + n_bytes + 64]


class Runner:
    """A lowered node with its buffers; ``run()`` computes it."""

    def __init__(self, lowered: Lowered, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> None:
        temps = [aligned(size) for size in lowered.temps]
        buffers = {"in": inputs, "out": outputs, "temp": temps}
        self.status = np.zeros(1, np.int64)
        self.keep = [inputs, outputs, temps, aligned(max((c.scratch for c in lowered.calls), default=0))]
        self.scratch = self.keep[-1].ctypes.data
        self.calls = []
        for call, address in zip(lowered.calls, addresses([c.code for c in lowered.calls]), strict=True):
            refs = [buffers[r.kind][r.number].ctypes.data + r.offset for r in call.refs]
            words = np.array([self.status.ctypes.data, *refs, *call.words], np.int64)
            self.keep.append(words)
            chunks = [(i, min(i + call.grain, call.items)) for i in range(0, call.items, call.grain)]
            self.calls.append((ENTRY(address), words.ctypes.data, chunks))

    def run(self, reverse: bool = False) -> None:
        for entry, words, chunks in self.calls:
            for begin, end in chunks[::-1] if reverse else chunks:
                entry(words, begin, end, self.scratch)
        assert self.status[0] == 0


def compute(kind: str, a: np.ndarray, b: np.ndarray, shape, static, finish=None, reverse: bool = False):
    """The result of a node by native code; what is beside the result must stay as it was."""
    lowered = lower_contraction(kind, operand(a), operand(b), shape, static, a.dtype, finish)
    room = aligned((math.prod(shape) + 64) * a.itemsize)
    out = room[: (math.prod(shape) + 64) * a.itemsize].view(a.dtype)
    Runner(lowered, [a, b], [out[32:]]).run(reverse)
    for edge in (out[:32], out[len(out) - 32 :]):
        assert np.all(edge.view(np.uint8) == 0xA5), "written outside of the result"
    return out[32:-32].reshape(shape).copy()
