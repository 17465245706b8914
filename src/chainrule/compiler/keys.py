"""What distinguishes the calls of a compiled function: the structure of the arguments and the kind of each leaf."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autodiff.trees import flatten, is_module
from ..errors import GradientError, TraceError
from ..graph.ir import TensorType, Value
from ..registry import F
from ..tensor.cells import Cell
from ..tensor.state import NEVER
from ..tensor.tensor import Tensor
from ..tensor.weak import VARYING
from .guards import shown

if TYPE_CHECKING:
    from .variant import Variant


class Same:
    """A part of a key that is equal to itself only: an object known by identity."""

    __slots__ = ("x",)

    def __init__(self, x: Any) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.x is self.x

    def __hash__(self) -> int:
        return id(self.x)


class Call:
    """The arguments of a call.

    Attributes:
        key: equal for calls between which the guards alone have to decide.
        leaves: of the arguments.
        runtime: for each leaf whether its value varies without a new program.
        structure: how the leaves nest.
    """

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any], threshold: int) -> None:
        self.leaves, self.structure = flatten((args, kwargs))
        self.runtime: list[bool] = []
        key: list[Any] = [self.structure, threshold]
        for leaf in self.leaves:
            part, varies = _part(leaf, threshold)
            key.append(part)
            self.runtime.append(varies)
        self.key = tuple(key)

    def traceable(self) -> list[Any]:
        """The leaves, with arrays as tensors."""
        return self.with_tensors(self.leaves)

    def with_tensors(self, leaves: Sequence[Any]) -> list[Any]:
        """Leaves of a call of the same key, with arrays as tensors."""
        return [
            F.asarray(leaf) if varies and not isinstance(leaf, (int, float, Tensor)) else leaf
            for leaf, varies in zip(leaves, self.runtime, strict=True)
        ]

    def described(self) -> list[str]:
        """Each leaf as it appears in messages."""
        texts = []
        for leaf, varies in zip(self.leaves, self.runtime, strict=True):
            if varies and hasattr(leaf, "dtype") and not isinstance(leaf, float):
                texts.append(str(TensorType(leaf.shape, leaf.dtype)))
            else:
                texts.append(type(leaf).__name__ if isinstance(leaf, float) else shown(leaf))
        return texts


def _part(leaf: Any, threshold: int) -> tuple[Any, bool]:
    """What a leaf contributes to the key, and whether its value varies."""
    if isinstance(leaf, Cell) or is_module(leaf):
        return Same(leaf), False
    if isinstance(leaf, Tensor):
        if isinstance(leaf.value, Value):
            raise TraceError(
                "compile",
                "an argument is a traced tensor that has left the function in whose trace it was made",
                received=repr(leaf),
                fix="return it from that function instead of storing it outside",
            )
        if leaf.level < NEVER and threshold > 0:
            raise GradientError(
                "compile",
                "an argument of a compiled function cannot be recorded: its gradient would end at the call",
                received=f"a tensor of shape {leaf.shape} that requires a gradient",
                fix="pass x.detach(), compute the gradient within the function by cr.grad and return it, or make the "
                "tensor a cr.Parameter",
            )
        return (leaf.shape, leaf.dtype), True
    if isinstance(leaf, float):
        return type(leaf), True
    if type(leaf) is int and leaf in VARYING:
        return int, True
    if isinstance(leaf, (np.ndarray, np.generic)):
        return (leaf.shape, leaf.dtype), True
    return ((type(leaf), leaf), False) if _has_value(leaf) else (Same(leaf), False)


def _has_value(x: Any) -> bool:
    """Whether a dictionary finds it by what it is, not by which object it is."""
    hashing: Any = type(x).__hash__
    if hashing is object.__hash__:
        return False
    try:
        hash(x)
    except TypeError:  # it may be a frozen dataclass with a list in it
        return False
    return True


def describe_change(function: Callable[..., Any], before: Call, now: Call, variant: Variant) -> str:
    """Say in words why a call needs another program than an earlier one.

    Args:
        function: the user's function.
        before: the earlier call.
        now: this call.
        variant: the program to compare with.
    """
    if before.structure != now.structure:
        return "the arguments nest in another way, or are others"
    changes = []
    numbers = {i for i, value in variant.fixed if now.leaves[i] != value}
    paths = now.structure.paths()
    for i, (old, new) in enumerate(zip(before.described(), now.described(), strict=True)):
        varies = type(now.leaves[i]) is int and now.runtime[i]
        if old != new and (not varies or i in numbers):
            changes.append(f"{_name(function, paths[i])}: {old} -> {new}")
    if before.key[1] != now.key[1]:
        changes.append("recording (cr.no_grad) was switched")
    if not changes:
        changes = [f"{what}: {shown(old)} -> {shown(new)}" for what, old, new in variant.guards.changes()]
    return "; ".join(changes[:5]) or "its surroundings changed"


def _name(function: Callable[..., Any], path: tuple[Any, ...]) -> str:
    """The argument in which a leaf is."""
    kind, first, *rest = path
    name = str(first)
    if kind == 0:
        name = f"number {first}"
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            parameters = []
        if first < len(parameters) and parameters[first].kind in (0, 1):  # positional, but not *args
            name = parameters[first].name
    return f"argument {name}" + "".join(f"[{key!r}]" for key in rest)
