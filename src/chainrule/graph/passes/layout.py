"""Rules for what moves elements, and for reductions over nothing. Each gives a value equal in every bit, or None."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import dtypes
from ..ir import Value
from .fold import uniform
from .rewrite import made_by

if TYPE_CHECKING:
    from .simplify import Simplifier

Inputs = tuple[Value, ...]
Shape = tuple[int, ...]


def _repeated(value: Value) -> Value | None:
    """The scalar of which ``value`` is a repetition."""
    node = made_by(value, "broadcast_to")
    return node.inputs[0] if node is not None and node.inputs[0].ndim == 0 else None


def _of_repeated(to: Simplifier, x: Value, shape: Shape) -> Value | None:
    """A repeated number, moved around, is that number repeated."""
    scalar = _repeated(x)
    return None if scalar is None else to.make("broadcast_to", scalar, shape=shape)


def _identity(to: Simplifier, inputs: Inputs, static: Any) -> Value | None:
    """``alias(x) -> x``: what it marks concerns gradients."""
    return inputs[0]


def _reshape(to: Simplifier, inputs: Inputs, static: Any) -> Value | None:
    """One reshape for two, none to the same shape."""
    x, shape = inputs[0], static["shape"]
    if x.shape == shape:
        return x
    node = made_by(x, "reshape")
    return to.make("reshape", node.inputs[0], shape=shape) if node is not None else _of_repeated(to, x, shape)


def _permute(to: Simplifier, inputs: Inputs, static: Any) -> Value | None:
    """One permutation for two, none for the identity; a reshape if only axes of size 1 move."""
    x, axes = inputs[0], static["axes"]
    if axes == tuple(range(x.ndim)):
        return x
    node = made_by(x, "permute")
    if node is not None:
        return to.make("permute", node.inputs[0], axes=tuple(node.static["axes"][a] for a in axes))
    shape = tuple(x.shape[a] for a in axes)
    long = [a for a in axes if x.shape[a] != 1]
    return to.make("reshape", x, shape=shape) if long == sorted(long) else _of_repeated(to, x, shape)


def _broadcast(to: Simplifier, inputs: Inputs, static: Any) -> Value | None:
    """One broadcast for two, none to the same shape; of a single element always from a scalar."""
    x, shape = inputs[0], static["shape"]
    if x.shape == shape:
        return x
    node = made_by(x, "broadcast_to")
    if node is not None:
        return to.make("broadcast_to", node.inputs[0], shape=shape)
    node = made_by(x, "reshape")
    if node is not None and x.shape == (1,) * (x.ndim - node.inputs[0].ndim) + node.inputs[0].shape:
        return to.make("broadcast_to", node.inputs[0], shape=shape)
    if x.size != 1 or x.ndim == 0:
        return None
    if x.size == int(np.prod(shape)):
        return to.make("reshape", x, shape=shape)
    return to.make("broadcast_to", to.make("reshape", x, shape=()), shape=shape)


def _slice(to: Simplifier, inputs: Inputs, static: Any) -> Value | None:
    """One slice for two, none of everything."""
    x, slices = inputs[0], static["slices"]
    shape = tuple(len(range(*s)) for s in slices)
    if x.shape == shape:
        return x
    node = made_by(x, "slice")
    if node is None:
        return _of_repeated(to, x, shape)
    combined = []
    for (start, _, step), (before, _, stride), n in zip(slices, node.static["slices"], shape, strict=True):
        first = before + start * stride
        combined.append((first, first + (n - 1) * step * stride + 1 if n else first, step * stride))
    return to.make("slice", node.inputs[0], slices=tuple(combined))


def _flip(to: Simplifier, inputs: Inputs, static: Any) -> Value | None:
    """No flip of single elements; two flips of the same axes are none."""
    x, axes = inputs[0], static["axes"]
    if all(x.shape[a] == 1 for a in axes) or _repeated(x) is not None:
        return x
    node = made_by(x, "flip")
    return node.inputs[0] if node is not None and set(node.static["axes"]) == set(axes) else None


def _roll(to: Simplifier, inputs: Inputs, static: Any) -> Value | None:
    """No roll all around, or of equal elements."""
    x, n = inputs[0], inputs[0].shape[static["axis"]]
    return x if _repeated(x) is not None or (n and static["shift"] % n == 0) else None


def _same_number(to: Simplifier, values: Inputs) -> Value | None:
    """The scalar of which all values are repetitions."""
    scalars = [s for v in values if (s := to.scalar(v)) is not None]
    if len(scalars) < len(values) or uniform(np.stack(scalars)) is None:
        return None
    return values[0] if values[0].ndim == 0 else _repeated(values[0])


def _pad(to: Simplifier, inputs: Inputs, static: Any) -> Value | None:
    """No padding by nothing; a number padded by itself is that number repeated."""
    x = inputs[0]
    if not any(map(any, static["widths"])):
        return x
    number = _same_number(to, inputs)
    return None if number is None else to.make("broadcast_to", number, shape=_padded(x.shape, static["widths"]))


def _padded(shape: Shape, widths: tuple[tuple[int, int, int], ...]) -> Shape:
    return tuple(low + n + max(n - 1, 0) * i + high for n, (low, high, i) in zip(shape, widths, strict=True))


def _concat(to: Simplifier, inputs: Inputs, static: Any) -> Value | None:
    """Without empty parts; of one part the part; of equal numbers that number repeated."""
    axis = static["axis"]
    parts = tuple(x for x in inputs if x.shape[axis]) or inputs[:1]
    if len(parts) == 1:
        return parts[0]
    number = _same_number(to, parts)
    if number is not None:
        first = parts[0].shape
        shape = (*first[:axis], sum(x.shape[axis] for x in parts), *first[axis + 1 :])
        return to.make("broadcast_to", number, shape=shape)
    return None if len(parts) == len(inputs) else to.make("concat", *parts, axis=axis)


def _reduction(to: Simplifier, inputs: Inputs, static: Any) -> Value | None:
    """Of single elements the elements."""
    x, axes = inputs[0], static["axes"]
    if any(x.shape[a] != 1 for a in axes):
        return None
    return to.make("reshape", x, shape=tuple(n for a, n in enumerate(x.shape) if a not in axes))


def _sum(to: Simplifier, inputs: Inputs, static: Any) -> Value | None:
    """Of single elements the elements; a sum begins with 0.0, so the sum of -0.0 is 0.0."""
    found = _reduction(to, inputs, static)
    if found is None or found.dtype in dtypes.INTEGER:
        return found
    return to.make("add", found, to.constant(np.zeros((), found.dtype)))


RULES: dict[str, Callable[[Simplifier, Inputs, Any], Value | None]] = {
    "alias": _identity,
    "stop_gradient": _identity,
    "reshape": _reshape,
    "permute": _permute,
    "broadcast_to": _broadcast,
    "slice": _slice,
    "flip": _flip,
    "roll": _roll,
    "pad": _pad,
    "concat": _concat,
    "reduce_sum": _sum,
    "reduce_prod": _reduction,
    "reduce_max": _reduction,
    "reduce_min": _reduction,
    "reduce_any": _reduction,
    "reduce_all": _reduction,
}
