"""Runs what a node is lowered to on NumPy arrays, chunk by chunk, without a program around it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule import dtypes
from chainrule.compiler.engine import addresses
from chainrule.compiler.kernel import Call, Lowered
from chainrule.graph.ir import Graph, Node, TensorType
from chainrule.primitives.base import REGISTRY

_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
_GUARD = 256
_GARBAGE = 0xA5


def node_of(name: str, inputs: Sequence[Any], **static: Any) -> Node:
    """A node of a graph of its own, on inputs of the types of some arrays."""
    graph = Graph()
    primitive = REGISTRY[name]
    values = tuple(graph.add_input(TensorType(x.shape, x.dtype)) for x in inputs)
    types = primitive.types(*values, **static)
    types = (types,) if isinstance(types, TensorType) else types
    return graph.add_node(primitive, values, static, types)[0].node  # type: ignore[return-value]


class _Buffer:
    """Memory that is 64-byte aligned and followed by bytes that nobody may write."""

    def __init__(self, size: int, content: np.ndarray | None = None) -> None:
        self.size = size
        whole = np.full(size + 2 * _GUARD + 64, _GARBAGE, np.uint8)
        start = _GUARD + -(whole.ctypes.data + _GUARD) % 64
        self._whole, self._start = whole, start
        self.bytes = whole[start : start + size]
        if content is not None:
            self.bytes[:] = np.ascontiguousarray(content).reshape(-1).view(np.uint8)
        self.address = whole.ctypes.data + start

    def check(self) -> None:
        """The bytes around it are as they were."""
        end = self._start + self.size
        assert (self._whole[: self._start] == _GARBAGE).all(), "written before a buffer"
        assert (self._whole[end:] == _GARBAGE).all(), "written behind a buffer"


def run(
    lowered: Lowered, inputs: Sequence[np.ndarray], outputs: Sequence[TensorType], backwards: bool = False
) -> tuple[list[np.ndarray], int]:
    """Run calls; returns the results and the status.

    Args:
        lowered: the calls.
        inputs: arrays, which must not change.
        outputs: types of the results.
        backwards: do the chunks of each call in descending order, as threads might.
    """
    buffers = {("in", i): _Buffer(x.nbytes, x) for i, x in enumerate(inputs)}
    for i, type in enumerate(outputs):
        buffers["out", i] = _Buffer(int(np.prod(type.shape, dtype=int)) * type.dtype.itemsize)
    for i, size in enumerate(lowered.temps):
        buffers["temp", i] = _Buffer(size)
    status = ctypes.c_int64(0)
    for call in lowered.calls:
        _run_call(call, buffers, status, backwards)
    for buffer in buffers.values():
        buffer.check()
    for i, x in enumerate(inputs):
        assert buffers["in", i].bytes.tobytes() == np.ascontiguousarray(x).tobytes(), "an input has changed"
    results = [
        np.frombuffer(buffers["out", i].bytes.tobytes(), t.dtype).reshape(t.shape) for i, t in enumerate(outputs)
    ]
    return results, status.value


def _run_call(call: Call, buffers: dict, status: ctypes.c_int64, backwards: bool) -> None:
    function = _KERNEL(addresses([call.code])[0])
    words = [ctypes.addressof(status)]
    words += [buffers[ref.kind, ref.number].address + ref.offset for ref in call.refs]
    params = np.array([*words, *call.words], np.int64)
    scratch = _Buffer(call.scratch)
    assert call.grain >= 1
    starts = range(0, call.items, call.grain)
    for start in reversed(starts) if backwards else starts:
        end = min(start + call.grain, call.items)
        function(params.ctypes.data, start, end, scratch.address)
    scratch.check()


def apply(
    lower: Callable[[Node], Lowered | None], name: str, *inputs: np.ndarray, fault: bool = False, **static: Any
) -> list[np.ndarray]:
    """Lower a primitive, run it in both orders of chunks, and return its results, which must have the same bits."""
    node = node_of(name, inputs, **static)
    lowered = lower(node)
    assert lowered is not None, f"{name} is not lowered"
    types = [v.type for v in node.outputs]
    results, status = run(lowered, inputs, types)
    again, other = run(lowered, inputs, types, backwards=True)
    assert (status != 0, other != 0) == (fault, fault)
    if not fault:
        assert [r.tobytes() for r in results] == [a.tobytes() for a in again], "results depend on the order of chunks"
    return results


def sample(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype, special: bool = False) -> np.ndarray:
    """Numbers of a dtype, with many ties; ``special`` adds NaN, infinities and zeros of both signs."""
    small = rng.integers(-8, 9, shape) / 4
    if dtype.kind == "b":
        return np.asarray(small > 0)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        large = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
        return np.where(rng.random(shape) < 0.5, np.abs(small * 4).astype(dtype), large)
    if dtype.kind == "c":
        return np.asarray(small + 1j * rng.integers(-8, 9, shape) / 4).astype(dtype)
    if special:
        values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0])
        small = np.where(rng.random(shape) < 0.3, rng.choice(values, shape), small)
    return np.asarray(small).astype(dtype)


def same(a: np.ndarray, b: np.ndarray) -> None:
    """Two arrays have the same type and the same bits."""
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes(), f"{a}\n{b}"


def same_sums(result: np.ndarray, expected: np.ndarray) -> None:
    """Equal, or for floating and complex numbers within the rounding of some sums."""
    if expected.dtype not in dtypes.INEXACT:
        same(result, expected)
        return
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    tolerance = 1e-6 if dtypes.real_of(expected.dtype) == dtypes.float32 else 1e-13
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)
