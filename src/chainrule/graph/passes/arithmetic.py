"""Rules for arithmetic. Each gives a value equal in every bit (but for the sign of a NaN), or None.

Zeros have signs: ``x + 0.0`` is not ``x`` where ``x`` is -0.0, but ``x - 0.0`` and ``x + -0.0`` are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import dtypes
from ...dtypes import DType
from ...primitives.base import broadcast_shapes
from ..ir import Value
from .rewrite import made_by

if TYPE_CHECKING:
    from .simplify import Simplifier

Inputs = tuple[Value, ...]


def _is(to: Simplifier, value: Value, number: float) -> bool:
    """Whether all elements of a real value are this number, a zero with its sign."""
    if value.dtype in dtypes.COMPLEX:
        return False
    found = to.scalar(value)
    if found is None or found != number:
        return False
    return found.dtype.kind in "biu" or bool(np.signbit(found) == np.signbit(number))


def _spread(to: Simplifier, x: Value, inputs: Inputs) -> Value:
    """``x``, an input, in the shape to which the inputs broadcast."""
    return to.spread(x, broadcast_shapes("broadcast", *(v.shape for v in inputs)))


def _inner(value: Value, name: str) -> Value | None:
    node = made_by(value, name)
    return None if node is None else node.inputs[0]


def _add(to: Simplifier, inputs: Inputs, static: Any) -> Value | None:
    """``x + -0.0 -> x``, and ``x + -y -> x - y``."""
    for x, y in (inputs, inputs[::-1]):
        if _is(to, y, -0.0 if y.dtype in dtypes.FLOATING else 0):
            return _spread(to, x, inputs)
        if (z := _inner(y, "negative")) is not None:
            return to.make("subtract", x, z)
    return None


def _subtract(to: Simplifier, inputs: Inputs, static: Any) -> Value | None:
    """``x - 0.0 -> x``, and ``x - -y -> x + y``."""
    x, y = inputs
    if _is(to, y, 0.0):
        return _spread(to, x, inputs)
    z = _inner(y, "negative")
    return None if z is None else to.make("add", x, z)


def _multiply(to: Simplifier, inputs: Inputs, static: Any) -> Value | None:
    """``x * 1 -> x``."""
    for x, y in (inputs, inputs[::-1]):
        if _is(to, y, 1):
            return _spread(to, x, inputs)
    return None


def _divide(to: Simplifier, inputs: Inputs, static: Any) -> Value | None:
    """``x / 1 -> x``.

    Dividing by a power of two is left alone: where it is the size of a batch, the next batch would be other code.
    """
    return _spread(to, inputs[0], inputs) if inputs[1].dtype in dtypes.FLOATING and _is(to, inputs[1], 1) else None


def _floor_divide(to: Simplifier, inputs: Inputs, static: Any) -> Value | None:
    """``x // 1 -> x`` for integers."""
    return _spread(to, inputs[0], inputs) if inputs[1].dtype in dtypes.INTEGER and _is(to, inputs[1], 1) else None


def _power(to: Simplifier, inputs: Inputs, static: Any) -> Value | None:
    """``x ** 1 -> x``."""
    return _spread(to, inputs[0], inputs) if _is(to, inputs[1], 1) else None


def _involution(name: str) -> Callable[[Simplifier, Inputs, Any], Value | None]:
    """``f(f(x)) -> x``."""
    return lambda to, inputs, static: _inner(inputs[0], name)


def _finite(to: Simplifier, value: Value, depth: int = 4) -> bool:
    """Whether no element can be infinite or NaN, as far as can be seen from its origin."""
    array = to.array(value)
    if array is not None:
        return array.size > 0 and bool(np.isfinite(array).all())
    node = value.node
    if value.dtype in dtypes.INTEGER or value.dtype == dtypes.bool_:
        return True
    if node is None or depth == 0:
        return False
    name = node.primitive.name
    if name == "cast":
        given = node.inputs[0].dtype
        return given == dtypes.bool_ or (given in dtypes.INTEGER and value.dtype != dtypes.float16)
    parts = node.inputs[1:] if name == "select" else node.inputs if name in _MOVES else ()
    return bool(parts) and all(_finite(to, v, depth - 1) for v in parts)


_MOVES = frozenset(
    {"negative", "abs", "reshape", "permute", "broadcast_to", "slice", "flip", "roll", "pad", "concat"}
)  # fmt: skip


def _strong_multiply(to: Simplifier, inputs: Inputs, static: Any) -> Value | None:
    """A plain product, if ``x1`` is never zero or ``x2`` never infinite or NaN."""
    x1, x2 = inputs
    number = to.array(x1)
    never_zero = number is not None and number.size > 0 and bool((number != 0).all())
    return to.make("multiply", x1, x2) if never_zero or _finite(to, x2) else None


def _select(to: Simplifier, inputs: Inputs, static: Any) -> Value | None:
    """``where(True, x, y) -> x``, ``where(c, x, x) -> x``, ``where(!c, x, y) -> where(c, y, x)``."""
    condition, x, y = inputs
    known = to.scalar(condition)
    if known is not None or x is y:
        return _spread(to, x if known is None or known else y, inputs)
    opposite = _inner(condition, "logical_not")
    return None if opposite is None else to.make("select", opposite, y, x)


_DIGITS = {dtypes.bfloat16: 8, dtypes.float16: 11, dtypes.float32: 24, dtypes.float64: 53}
_EXPONENT = {dtypes.bfloat16: 8, dtypes.float16: 5, dtypes.float32: 8, dtypes.float64: 11}


def exact(a: DType, b: DType) -> bool:
    """Whether every number of type ``a`` is one of type ``b``.

    >>> exact(dtypes.float16, dtypes.float32), exact(dtypes.int32, dtypes.float32)
    (True, False)
    """
    if a == b or a == dtypes.bool_:
        return True
    if a in dtypes.INTEGER:
        limits = np.iinfo(a)
        if b in dtypes.INTEGER:
            return np.iinfo(b).min <= limits.min and limits.max <= np.iinfo(b).max
        return b in dtypes.FLOATING and limits.bits - (a in dtypes.SIGNED) <= _DIGITS[b]
    if a in dtypes.FLOATING and b in dtypes.FLOATING:
        return _DIGITS[a] <= _DIGITS[b] and _EXPONENT[a] <= _EXPONENT[b]
    return (a, b) == (dtypes.complex64, dtypes.complex128)


def _cast(to: Simplifier, inputs: Inputs, static: Any) -> Value | None:
    """No cast to the same type; of two casts one, if the first loses nothing and the second means the same."""
    x, dtype = inputs[0], static["dtype"]
    if x.dtype == dtype:
        return x
    inner = _inner(x, "cast")
    if inner is None or not exact(inner.dtype, x.dtype):
        return None
    # To an integer type, floating numbers saturate but integers wrap around: both casts must be of one kind.
    if (
        dtype in dtypes.INTEGER
        and inner.dtype != dtypes.bool_
        and (inner.dtype in dtypes.INTEGER) != (x.dtype in dtypes.INTEGER)
    ):
        return None
    return to.make("cast", inner, dtype=dtype)


RULES: dict[str, Callable[[Simplifier, Inputs, Any], Value | None]] = {
    "add": _add,
    "subtract": _subtract,
    "multiply": _multiply,
    "divide": _divide,
    "floor_divide": _floor_divide,
    "power": _power,
    "negative": _involution("negative"),
    "logical_not": _involution("logical_not"),
    "bitwise_invert": _involution("bitwise_invert"),
    "_conj": _involution("_conj"),
    "strong_multiply": _strong_multiply,
    "select": _select,
    "cast": _cast,
}
