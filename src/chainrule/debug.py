"""Looking into code that is traced."""

from __future__ import annotations

import builtins

from . import functions as F
from .primitives.base import Array, primitive
from .primitives.batching import one_by_one
from .tensor import TensorLike


@primitive(lambda *xs, text: (), name="print", batching=one_by_one, lowering="host")
def _print(*xs: Array, text: str) -> tuple[()]:
    """Print the arrays."""
    builtins.print(text.format(*xs))
    return ()


def print(text: str, *tensors: TensorLike) -> None:
    """Print tensors when the program runs, also inside of traced code such as the body of a `scan`.

    Args:
        text: a format with a ``{}`` for each tensor.
        *tensors: what to print.

    >>> cr.debug.print("x is {}", cr.tensor([1.0, 2.0]))
    x is [1. 2.]
    """
    _print(*(F.asarray(t).detach() for t in tensors), text=text)
