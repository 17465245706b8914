"""Lowering of elementwise primitives: from the values of the inputs to the value of the result.

Values are in computation (see `vector`). What a primitive computes in a 16-bit type is rounded to that type at once,
though it stays in float32: so it has the same bits whether or not it passes through memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .. import dtypes
from ..dtypes import DType
from . import halves
from .math import integers, remainders
from .math.casts import cast
from .math.functions import FUNCTIONS, apply
from .math.lanes import Lanes, outlined, where
from .math.philox import philox
from .vector import Emitter, is_float, is_signed

__all__ = ["cost", "lower", "philox", "supports"]


class _Node(NamedTuple):
    e: Emitter
    args: list[Lanes]
    dtype: DType  # of the last argument, as the first may be a condition
    out: DType
    static: Mapping[str, Any]


class _Rule(NamedTuple):
    emit: Callable[[_Node], Lanes]
    cost: int = 1
    exact: bool = False  # the result of numbers in a 16-bit type is in that type
    inexact_only: bool = False  # there is code for floating types only


def _strong_multiply(node: _Node) -> Lanes:
    x, y = node.args
    product = x * y
    if not product.is_float:
        return product
    if node.out in dtypes.HALF:
        product = Lanes(node.e, halves.nearest(node.e, product.v, node.out))
    return where(product.is_nan() & x.eq(0.0), 0.0, product)


def _abs(node: _Node) -> Lanes:
    (x,) = node.args
    if x.is_float:
        return x.intrinsic("fabs")
    if not is_signed(node.dtype):
        return x
    return where(x < 0, -x, x)


def _sign(node: _Node) -> Lanes:
    (x,) = node.args
    if not x.is_float and not is_signed(node.dtype):
        return where(x.eq(0), 0, x.const(1))
    one = where(x < 0, x.const(-1), 1)
    one = where(x.eq(0), 0, one)
    return where(x.is_nan(), x, one) if x.is_float else one


def _rounded(node: _Node, intrinsic: str) -> Lanes:
    (x,) = node.args
    return x.intrinsic(intrinsic) if x.is_float else x


def larger(x: Lanes, y: Lanes, dtype: DType) -> Lanes:
    """The larger; NaN if one is, and if both are equal the first."""
    if not x.is_float:
        return where(integers.compare(">=", x, y, dtype), x, y)
    return where(y.is_nan(), y + y, where(y > x, y, x))  # the sum, as LLVM makes two slow choices of y one slower


def smaller(x: Lanes, y: Lanes, dtype: DType) -> Lanes:
    """The smaller; NaN if one is, and if both are equal the first."""
    if not x.is_float:
        return where(integers.compare("<=", x, y, dtype), x, y)
    return where(y.is_nan(), y + y, where(y < x, y, x))


def _clip(node: _Node) -> Lanes:
    x, low, high = node.args
    return smaller(larger(x, low, node.dtype), high, node.dtype)


def _divided(node: _Node, floating: Callable[..., Lanes], whole: Callable[..., Lanes]) -> Lanes:
    x, y = node.args
    if x.is_float:
        return floating(x, y)
    node.e.fault(y.eq(0).v)
    return whole(x, y, node.dtype)


def _power(node: _Node) -> Lanes:
    x, y = node.args
    if x.is_float:
        return apply("power", x, y, static=node.static)
    if is_signed(node.dtype):
        node.e.fault((y < 0).v)
        y = where(y < 0, 0, y)
    return outlined("math.power", integers.power, x, y)


def _finite(node: _Node, bound: str) -> Lanes:
    size = node.args[0].intrinsic("fabs")
    return integers.compare(bound, size, size.const(float("inf")), node.dtype)


def _select(node: _Node) -> Lanes:
    condition, x, y = node.args
    return where(condition, x, y)


def _typed(emit: Callable[[Lanes, Lanes, DType], Lanes]) -> Callable[[_Node], Lanes]:
    """A rule of two inputs and their dtype."""
    return lambda node: emit(node.args[0], node.args[1], node.dtype)


def _compared(sign: str) -> _Rule:
    return _Rule(_typed(lambda x, y, dtype: integers.compare(sign, x, y, dtype)), exact=True)


def _same(node: _Node) -> Lanes:
    return node.args[0]


_RULES: dict[str, _Rule] = {
    "add": _Rule(lambda node: node.args[0] + node.args[1]),
    "subtract": _Rule(lambda node: node.args[0] - node.args[1]),
    "multiply": _Rule(lambda node: node.args[0] * node.args[1]),
    "divide": _Rule(lambda node: node.args[0] / node.args[1], 4, inexact_only=True),
    "strong_multiply": _Rule(_strong_multiply, 2, exact=True),
    "square": _Rule(lambda node: node.args[0] * node.args[0]),
    "negative": _Rule(lambda node: -node.args[0], exact=True),
    "abs": _Rule(_abs, exact=True),
    "sign": _Rule(_sign, exact=True),
    "floor": _Rule(lambda node: _rounded(node, "floor"), exact=True),
    "ceil": _Rule(lambda node: _rounded(node, "ceil"), exact=True),
    "round": _Rule(lambda node: _rounded(node, "rint"), exact=True),
    "trunc": _Rule(lambda node: _rounded(node, "trunc"), exact=True),
    "maximum": _Rule(_typed(larger), exact=True),
    "minimum": _Rule(_typed(smaller), exact=True),
    "clip": _Rule(_clip, 2, exact=True),
    "select": _Rule(_select, exact=True),
    "cast": _Rule(lambda node: cast(node.args[0], node.dtype, node.out), exact=True),
    "alias": _Rule(_same, 0, exact=True),
    "stop_gradient": _Rule(_same, 0, exact=True),
    "floor_divide": _Rule(lambda node: _divided(node, remainders.floor_divide, integers.floor_divide), 20),
    "remainder": _Rule(lambda node: _divided(node, remainders.remainder, integers.remainder), 20),
    "isfinite": _Rule(lambda node: _finite(node, "<"), exact=True, inexact_only=True),
    "isinf": _Rule(lambda node: _finite(node, "=="), exact=True, inexact_only=True),
    "isnan": _Rule(lambda node: node.args[0].is_nan(), exact=True, inexact_only=True),
    "equal": _compared("=="),
    "not_equal": _compared("!="),
    "less": _compared("<"),
    "less_equal": _compared("<="),
    "greater": _compared(">"),
    "greater_equal": _compared(">="),
    "logical_not": _Rule(lambda node: ~node.args[0]),
    "bitwise_invert": _Rule(lambda node: ~node.args[0]),
    "bitwise_left_shift": _Rule(_typed(integers.shift_left)),
    "bitwise_right_shift": _Rule(_typed(integers.shift_right)),
    "power": _Rule(_power, 60),
    "_conj": _Rule(_same, 0, exact=True),  # of real numbers
}
_RULES |= {f"{kind}_and": _Rule(lambda node: node.args[0] & node.args[1]) for kind in ("logical", "bitwise")}
_RULES |= {f"{kind}_or": _Rule(lambda node: node.args[0] | node.args[1]) for kind in ("logical", "bitwise")}
_RULES |= {f"{kind}_xor": _Rule(lambda node: node.args[0] ^ node.args[1]) for kind in ("logical", "bitwise")}


def _function(name: str) -> _Rule:
    def emit(node: _Node) -> Lanes:
        return apply(name, *node.args, static=node.static)

    return _Rule(emit, FUNCTIONS[name].cost, inexact_only=True)


_RULES = {name: _function(name) for name in FUNCTIONS} | _RULES


def supports(name: str, types: list[DType], out: DType, static: Mapping[str, Any]) -> bool:
    """Whether there is code for a primitive of inputs of these dtypes."""
    rule = _RULES.get(name)
    if rule is None or any(t in dtypes.COMPLEX for t in (*types, out)):
        return False
    if name == "polygamma" and not 0 <= static["order"] <= 30:
        return False
    return is_float(types[0]) or not rule.inexact_only


def cost(name: str, dtype: DType) -> int:
    """About how many floating-point operations an element takes; 1 for what is not known."""
    rule = _RULES.get(name)
    if rule is None:
        return 1
    return rule.cost + (8 if dtype in dtypes.HALF and not rule.exact else 0)


def lower(e: Emitter, name: str, args: list[Any], types: list[DType], out: DType, static: Mapping[str, Any]) -> Any:
    """Emit code for an elementwise primitive.

    Args:
        e: emits it.
        name: the primitive.
        args, types: values of the inputs in computation, and their dtypes.
        out: dtype of the result.
        static: what else the primitive takes.

    Returns:
        the value of the result in computation, on the grid of ``out`` if that has 16 bits.
    """
    rule = _RULES[name]
    value = rule.emit(_Node(e, [Lanes(e, a) for a in args], types[-1], out, static)).v
    return value if rule.exact or out not in dtypes.HALF else halves.nearest(e, value, out)
