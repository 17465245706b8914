"""Constants: computing with them in advance, and keeping one number for an array of equal ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...tensor.bind import run
from ..ir import Graph, Node, TensorType, Value
from .effects import EFFECTS
from .rewrite import SMALL, Rewriter, known_array

_MANY = 1 << 24
"""Elements up to which a constant is read in advance."""


def uniform(array: np.ndarray) -> np.ndarray | None:
    """The number, as an array without axes, if all elements are that number in every bit; else None.

    >>> uniform(np.ones((2, 3))), uniform(np.arange(3.0)), uniform(np.array([0.0, -0.0]))
    (array(1.), None, None)
    """
    if array.size == 0:
        return None
    first, last = (array[(part,) * array.ndim].reshape(1).copy() for part in (slice(0, 1), slice(-1, None)))
    if all(stride == 0 or n == 1 for stride, n in zip(array.strides, array.shape, strict=True)):
        return first.reshape(())
    word = np.dtype(f"u{min(array.itemsize, 8)}")
    bits = first.view(word)
    if (last.view(word) != bits).any():
        return None
    words = np.ascontiguousarray(array).reshape(-1).view(word).reshape(array.size, bits.size)
    return first.reshape(()) if bool((words == bits).all()) else None


class Folder(Rewriter):
    """Rewrites with constants folded."""

    def literal(self, array: np.ndarray, value: Value | None = None) -> Value:
        """A value that is equal to the array: a number, repeated, if there is only one in it."""
        number = uniform(array)
        if number is None or array.ndim == 0:
            return self.constant(array, value)
        scalar = self.constant(number)
        return self.emit("broadcast_to", scalar, shape=array.shape)

    def fold(self, primitive: Any, inputs: tuple[Value, ...], static: Any) -> tuple[Value, ...] | None:
        """The results of ``primitive`` if its inputs are constants and they are small; else None."""
        if primitive.name == "broadcast_to" or primitive.name in EFFECTS or primitive.lowering == "control":
            return None
        arrays = []
        for value in inputs:
            array = known_array(self.graph, value)
            if array is None:
                return None
            arrays.append(array)
        types = primitive.types(*inputs, **static)
        several = not isinstance(types, TensorType)
        size = sum(_bytes(t) for t in types) if several else _bytes(types)
        if size > SMALL or sum(a.size for a in arrays) > _MANY:
            return None
        try:
            found = run(primitive, arrays, static)
        except Exception:  # it fails for these inputs, and so must the program when it runs
            return None
        return tuple(self.literal(np.array(f, order="C")) for f in (found if several else (found,)))


def _bytes(type: TensorType) -> int:
    return int(np.prod(type.shape, dtype=np.int64)) * type.dtype.itemsize


def fold_constants(graph: Graph) -> Graph:
    """Compute what depends on constants alone, and keep one number for an array of equal ones.

    %c0: float32[] = 2.0          %c0: float32[] = 4.0
    %1 = square(%c0)      ->
    %2 = add(%i0, %1)             %2 = add(%i0, %c0)

    %c0: float32[1000] = 0, ...   %c0: float32[] = 0.0
    %1 = f(%i0, %c0)      ->      %1 = broadcast_to(%c0, shape=(1000,))
                                  %2 = f(%i0, %1)
    """
    made = Folder(graph)

    def rule(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        return made.fold(node.primitive, inputs, node.static)

    return made.run(rule)
