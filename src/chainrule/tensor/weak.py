"""Python numbers that vary from call to call of a compiled function.

In the function they behave as the Python numbers that they are in eager mode: weakly typed beside tensors, computed in
64 bits among themselves. Where Python needs the value of a whole number (a shape, a range, an ``if``), it gets it, and
the program is good for that value only.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import TraceError
from ..registry import F
from .state import NEVER
from .tensor import Tensor

_INT64 = range(-(2**63), 2**63)
VARYING = range(-(2**31), 2**31)
"""Whole numbers that may vary between calls. What is computed from them is followed by its bound, so that it never
leaves the 64 bits in which programs compute: where it could, Python computes it."""


class Weak(Tensor):
    """A number given as an argument, or computed from such numbers.

    Attributes:
        python: the number at the time of tracing; its type is that of the number in every call.
        bound: what no whole number in its place exceeds, in absolute value.
    """

    __slots__ = ("_fix", "bound", "python")

    def __init__(self, value: Any, python: int | float, fix: Callable[[], None], bound: int = 2**31) -> None:
        super().__init__(value, level=NEVER)
        self.python = python
        self.bound = bound
        self._fix = fix

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """What `isinstance` goes by, beside the type: it is a number, and known where it has to be."""
        return type(self.python)

    def known(self) -> int | float:
        """Return the number itself; from here on the program is good for this number only."""
        if isinstance(self.python, float):
            raise TraceError(
                "float",
                "the value of a Python float that is an argument varies between calls, and is not known while the "
                "function is traced",
                fix="compute with functions of cr instead of math, decide with cr.where, cr.cond or cr.while_loop, or "
                "use a variable of the surroundings instead of an argument: each value of it has its own program",
            )
        self._fix()
        return self.python

    def wide(self) -> Tensor:
        """Return it as a tensor of 64 bits."""
        return Tensor(self.value)

    def detach(self) -> Tensor:
        """Return it as it is: no operation on it is recorded."""
        return self

    def __float__(self) -> float:
        return float(self.known())

    def __int__(self) -> int:
        return int(self.known())

    def __bool__(self) -> bool:
        return bool(self.known())

    def __complex__(self) -> complex:
        return complex(self.known())

    def __index__(self) -> int:
        return operator.index(self.known())  # type: ignore[arg-type]

    def __neg__(self) -> Any:
        return _apply("negative", operator.neg, self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return _apply("abs", operator.abs, self)

    def __invert__(self) -> Any:
        return ~self.known()  # type: ignore[operator]

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __hash__(self) -> int:
        return hash(self.known())

    def __repr__(self) -> str:
        return repr(self.known()) if isinstance(self.python, int) else super().__repr__()

    def __str__(self) -> str:
        return str(self.known())

    def __format__(self, spec: str) -> str:
        return format(self.known(), spec)


def settled(x: Any) -> Any:
    """Return a static argument with the numbers in it fixed."""
    if isinstance(x, Weak):
        return x.known()
    return tuple(map(settled, x)) if type(x) is tuple else x


def _is_number(x: Any) -> bool:
    return isinstance(x, (int, float, Weak))


def _python(x: Any) -> Any:
    return x.python if isinstance(x, Weak) else x


def _bound(function: str, xs: Sequence[Any]) -> int:
    """What the result for whole numbers does not exceed, whatever they are, in absolute value."""
    bounds = [x.bound if isinstance(x, Weak) else abs(x) for x in xs]
    if function == "multiply":
        return math.prod(bounds)
    return sum(bounds) if function in ("add", "subtract") else max(bounds)


def _fixed(*xs: Any) -> list[Any]:
    return [x.known() if isinstance(x, Weak) else x for x in xs]


def _apply(function: str, python: Callable[..., Any], *xs: Any) -> Any:
    """Compute among numbers, as Python does: whole numbers stay whole, and the rest is float64."""
    value = python(*map(_python, xs))
    whole = all(isinstance(_python(x), int) for x in xs)
    bound = _bound(function, xs) if whole else 0
    if function.startswith("bitwise") or (whole and (function == "pow" or bound not in _INT64)):
        return python(*_fixed(*xs))  # the type of the result depends on the values
    if isinstance(value, complex):
        raise TraceError(
            function, "a power of a negative number is complex", received=repr(value), fix="pass a complex tensor"
        )
    dtype = dtypes.int64 if isinstance(value, int) else dtypes.float64
    wide = [
        F.astype(x.wide(), dtype) if isinstance(x, Weak) else Tensor(np.asarray(x, dtype=dtype)) for x in xs
    ]  # fmt: skip
    varying = [x for x in xs if isinstance(x, Weak)]

    def fix() -> None:
        for x in varying:
            x._fix()

    return Weak(getattr(F, function)(*wide).value, value, fix, bound)


def _operator(name: str, function: str, python: Callable[..., Any]) -> None:
    def apply(x1: Any, x2: Any, other: Any) -> Any:
        if name == "mul" and isinstance(other, (list, tuple, str, bytes)):  # repeated
            return python(*_fixed(x1, x2))
        return _apply(function, python, x1, x2) if _is_number(other) else getattr(F, function)(x1, x2)

    def forward(self: Weak, other: Any) -> Any:
        return apply(self, other, other)

    def backward(self: Weak, other: Any) -> Any:
        return apply(other, self, other)

    setattr(Weak, f"__{name}__", forward)
    setattr(Weak, f"__r{name}__", backward)


def _comparison(name: str, function: str) -> None:
    python = getattr(operator, name)

    def compare(self: Weak, other: Any) -> Any:
        if not _is_number(other):
            return getattr(F, function)(self, other) if F.is_operand(other) else NotImplemented
        if isinstance(self.python, int) and (isinstance(_python(other), int) or not isinstance(other, Weak)):
            return python(*_fixed(self, other))
        first, second = (
            F.astype(x.wide(), dtypes.float64) if isinstance(x, Weak) else Tensor(np.asarray(x, dtype=dtypes.float64))
            for x in (self, other)
        )
        return getattr(F, function)(first, second)

    setattr(Weak, f"__{name}__", compare)


for _name, _function, _python_operator in [
    ("add", "add", operator.add), ("sub", "subtract", operator.sub), ("mul", "multiply", operator.mul),
    ("truediv", "divide", operator.truediv), ("floordiv", "floor_divide", operator.floordiv),
    ("mod", "remainder", operator.mod), ("pow", "pow", operator.pow), ("and", "bitwise_and", operator.and_),
    ("or", "bitwise_or", operator.or_), ("xor", "bitwise_xor", operator.xor),
    ("lshift", "bitwise_left_shift", operator.lshift), ("rshift", "bitwise_right_shift", operator.rshift),
]:  # fmt: skip
    _operator(_name, _function, _python_operator)
for _name, _function in [
    ("lt", "less"), ("le", "less_equal"), ("gt", "greater"), ("ge", "greater_equal"), ("eq", "equal"),
    ("ne", "not_equal"),
]:  # fmt: skip
    _comparison(_name, _function)
