"""All functions of one floating argument by the name of their primitive, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .exponential import exp, expm1, sigmoid
from .hyperbolic import tanh
from .lanes import Lanes
from .logarithm import log, log1p
from .special import erf


class Function(NamedTuple):
    """A function, its cost in floating-point operations, and whether it becomes a function of the module."""

    emit: Callable[[Lanes], Lanes]
    cost: int
    outlined: bool = True


FUNCTIONS = {
    "exp": Function(exp, 15, False),
    "expm1": Function(expm1, 17, False),
    "log": Function(log, 22, False),
    "log1p": Function(log1p, 25),
    "sigmoid": Function(sigmoid, 18, False),
    "tanh": Function(tanh, 24, False),
    "erf": Function(erf, 30),
    "sqrt": Function(lambda x: x.intrinsic("sqrt"), 4, False),
    "rsqrt": Function(lambda x: 1.0 / x.intrinsic("sqrt"), 8, False),
    "reciprocal": Function(lambda x: 1.0 / x, 4, False),
}
