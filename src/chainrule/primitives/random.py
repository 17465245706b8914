"""Counter-based random bits: Philox4x32-10.

Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Element ``i`` of a draw is a
function of (seed, draw number, i) alone, so masks can be computed again instead of kept, in any order and on any
number of threads. Block ``i // 4`` is the low half of the counter, the draw number the high half, the seed the key.
"""

from __future__ import annotations

import math

import numpy as np

from .. import dtypes
from ..errors import DTypeError
from ..graph.ir import TensorType
from .base import Array, primitive
from .batching import one_by_one

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)  # golden ratio, sqrt(3) - 1
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox(counter: tuple[Array, Array, Array, Array], key: tuple[int, int]) -> tuple[Array, ...]:
    """Ten rounds of Philox4x32 on four uint64 arrays that hold 32-bit words; return four likewise."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def _types(state: TensorType, *, shape: tuple[int, ...]) -> TensorType:
    if tuple(state.shape) != (2,) or state.dtype != dtypes.uint64:
        raise DTypeError(
            "random_bits",
            "needs the state of a generator, (seed, draw number) as uint64",
            received=f"{state.dtype.name}{tuple(state.shape)}",
            fix="pass cr.Generator(seed)",
        )
    return TensorType(shape, dtypes.uint32)


def _batching(apply, examples, batched, state, *, shape):
    if batched[0]:
        return one_by_one(apply, examples, batched, state, shape=shape)
    return apply(state, shape=(examples.size, *shape))


@primitive(_types, batching=_batching, lowering="random")
def random_bits(state: Array, *, shape: tuple[int, ...]) -> Array:
    """Uniform random 32-bit words, uint32 of ``shape``, for the state (seed, draw number)."""
    size = math.prod(shape)
    seed, draw = int(state[0]), int(state[1])
    block = np.arange((size + 3) // 4, dtype=np.uint64)
    one = np.ones_like(block)
    counter = (block & _LOW, block >> _SHIFT, one * np.uint64(draw & 0xFFFFFFFF), one * np.uint64(draw >> 32))
    words = philox(counter, (seed & 0xFFFFFFFF, seed >> 32))
    return np.stack(words, axis=-1).astype(np.uint32).reshape(-1)[:size].reshape(shape)
