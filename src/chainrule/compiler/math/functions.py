"""All functions of floating arguments by the names of their primitives, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..vector import F32, F64
from . import gamma, hyperbolic, special, trigonometric
from .exponential import exp, expm1, sigmoid
from .lanes import Lanes, outlined
from .logarithm import log, log1p
from .power import power


class Function(NamedTuple):
    """How a function is emitted.

    Attributes:
        emit: its code, for float64 and, unless `wide`, for float32.
        cost: floating-point operations of an element, about.
        inline: whether its code is short enough to stand where it is used.
        wide: float32 is computed in float64 and rounded once.
        narrow: other code for the float32 case if `wide`.
    """

    emit: Callable[..., Lanes]
    cost: int
    inline: bool = False
    wide: bool = False
    narrow: Callable[..., Lanes] | None = None


FUNCTIONS = {
    "sqrt": Function(lambda x: x.intrinsic("sqrt"), 4, inline=True),
    "rsqrt": Function(lambda x: 1.0 / x.intrinsic("sqrt"), 8, inline=True),
    "reciprocal": Function(lambda x: 1.0 / x, 4, inline=True),
    "exp": Function(exp, 15, inline=True),
    "expm1": Function(expm1, 17, inline=True),
    "log": Function(log, 22, inline=True),
    "log1p": Function(log1p, 25),
    "sigmoid": Function(sigmoid, 20, inline=True),
    "tanh": Function(hyperbolic.tanh, 24, inline=True),
    "erf": Function(special.erf, 30),
    "sin": Function(trigonometric.sin, 20),
    "cos": Function(trigonometric.cos, 20),
    "tan": Function(trigonometric.tan, 40, wide=True),
    "asin": Function(trigonometric.asin, 40, wide=True),
    "acos": Function(trigonometric.acos, 40, wide=True),
    "atan": Function(trigonometric.atan, 40, wide=True),
    "atan2": Function(trigonometric.atan2, 50, wide=True),
    "sinh": Function(hyperbolic.sinh, 50, wide=True),
    "cosh": Function(hyperbolic.cosh, 40, wide=True),
    "asinh": Function(hyperbolic.asinh, 60, wide=True),
    "acosh": Function(hyperbolic.acosh, 60, wide=True),
    "atanh": Function(hyperbolic.atanh, 50, wide=True),
    "erfc": Function(special.erfc, 100, wide=True),
    "erfinv": Function(special.erfinv, 150, wide=True, narrow=special.erfinv32),
    "lgamma": Function(gamma.lgamma, 200, wide=True),
    "polygamma": Function(gamma.digamma, 200, wide=True),
    "power": Function(power, 100),
}


def apply(name: str, *arguments: Lanes, static: Mapping[str, Any]) -> Lanes:
    """Emit the function called ``name``."""
    function = FUNCTIONS[name]
    if function.inline:
        return function.emit(*arguments)
    emit, symbol = function.emit, f"math.{name}"
    if name == "polygamma":
        emit, symbol = gamma.polygamma(static["order"]), f"{symbol}.{static['order']}"
    if not function.wide or arguments[0].scalar == F64:
        return outlined(symbol, emit, *arguments)
    if function.narrow is not None:
        emit, symbol = function.narrow, f"{symbol}.narrow"
    return outlined(symbol, emit, *(a.to(F64) for a in arguments)).to(F32)
