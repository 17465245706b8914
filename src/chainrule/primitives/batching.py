"""Batching rules that primitives share: how to apply a primitive to many examples at once.

A rule is ``batching(apply, examples, batched, *inputs, **static)``: ``apply`` is the primitive, ``batched`` says for
each input whether it has the axis of examples. That is then its first, and that of the results as well; an input
without it is the same for all examples. A rule is written in tensors and public functions, as a gradient rule is, so
what it does is recorded, traced and batched again like anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..registry import F


@dataclass(frozen=True, eq=False)
class Examples:
    """The axis of examples.

    Attributes:
        size: the number of examples.
        different: whether each of them draws random numbers of its own.
        mask: within a branch or a loop that some examples have not taken, a bool for each: what may fail for the others
            is kept from failing.
    """

    size: int
    different: bool = True
    mask: Any = None


def spread(examples: Examples, batched: Sequence[bool], inputs: Sequence[Any]) -> list[Any]:
    """Return the inputs with the axis of examples, repeated where they have none."""
    return [x if has else F.broadcast_to(x, (examples.size, *x.shape)) for x, has in zip(inputs, batched, strict=True)]


def elementwise(apply: Any, examples: Examples, batched: Sequence[bool], *inputs: Any, **static: Any) -> Any:
    """Rule of what works element by element: axes go in behind that of examples, so that the others stay aligned."""
    ndim = max(x.ndim - has for x, has in zip(inputs, batched, strict=True))

    def aligned(x: Any) -> Any:
        return F.reshape(x, (examples.size, *(1,) * (ndim + 1 - x.ndim), *x.shape[1:]))

    return apply(*(aligned(x) if has else x for x, has in zip(inputs, batched, strict=True)), **static)


def shifted(*names: str) -> Callable[..., Any]:
    """Rule of what leaves alone all axes but those that the static arguments ``names`` count from the front."""

    def rule(apply: Any, examples: Examples, batched: Sequence[bool], *inputs: Any, **static: Any) -> Any:
        for name in names:
            value = static[name]
            static[name] = tuple(a + 1 for a in value) if isinstance(value, tuple) else value + 1
        return apply(*spread(examples, batched, inputs), **static)

    return rule


stacked = shifted()
"""Rule of what takes any number of axes in front."""


def fold(x: Any) -> Any:
    """Join the axis of examples and the next."""
    return F.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))


def folded(apply: Any, examples: Examples, batched: Sequence[bool], *inputs: Any, **static: Any) -> Any:
    """Rule of what treats each slice along the first axes of its inputs alone: examples and slices become one axis."""
    if "shape" in static:
        n, *rest = static["shape"]
        static["shape"] = (examples.size * n, *rest)
    out = apply(*map(fold, spread(examples, batched, inputs)), **static)
    return F.reshape(out, (examples.size, out.shape[0] // examples.size, *out.shape[1:]))


def one_by_one(apply: Any, examples: Examples, batched: Sequence[bool], *inputs: Any, **static: Any) -> Any:
    """Rule that serves every primitive: a loop over the examples."""
    moving = [x for x, has in zip(inputs, batched, strict=True) if has]

    def step(carry: Any, slices: Any) -> Any:
        own = iter(slices)
        return carry, apply(*(next(own) if has else x for x, has in zip(inputs, batched, strict=True)), **static)

    return F.scan(step, (), moving, length=examples.size)[1]
