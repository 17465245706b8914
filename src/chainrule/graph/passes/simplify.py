"""Algebraic rules that change no bit: the engine, and what holds for all elementwise primitives.

The rules for single primitives are in ``arithmetic`` and ``layout``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import ChainruleError
from ...primitives.base import REGISTRY, broadcast_shapes
from ..ir import Graph, Node, TensorType, Value
from .arithmetic import RULES as ARITHMETIC
from .fold import Folder
from .layout import RULES as LAYOUT
from .rewrite import made_by

_RULES: dict[str, Callable[..., Value | None]] = {**ARITHMETIC, **LAYOUT}


class Simplifier(Folder):
    """Rewrites with each application of a primitive made simpler."""

    def make(self, name: str, *inputs: Value, **static: Any) -> Value:
        """The one result of an application of the primitive of this name, in its simplest form."""
        primitive = REGISTRY[name]
        found = self.simpler(primitive, inputs, static)
        return self.emit(name, *inputs, **static) if found is None else found[0]

    def spread(self, x: Value, shape: tuple[int, ...]) -> Value:
        """``x`` in a shape to which it broadcasts."""
        return x if x.shape == shape else self.make("broadcast_to", x, shape=shape)

    def simpler(self, primitive: Any, inputs: tuple[Value, ...], static: Any) -> tuple[Value, ...] | None:
        """What is equal to an application of ``primitive`` and simpler, or None."""
        if primitive.name == "custom_vjp":  # the rule of a gradient that is known by now
            return inputs[: static["counts"][0]]
        rule = _RULES.get(primitive.name)
        if rule is not None:
            found = rule(self, inputs, static)
            if found is not None:
                return (found,)
        if primitive.elementwise:
            found = self._narrower(primitive, inputs, static)
            if found is not None:
                return (found,)
        return self.fold(primitive, inputs, static)

    def _narrower(self, primitive: Any, inputs: tuple[Value, ...], static: Any) -> Value | None:
        """Elementwise primitives broadcast by themselves, and compute no element twice if they come before."""
        nodes = [made_by(v, "broadcast_to") for v in inputs]
        if not any(nodes):
            return None
        given = tuple(v if n is None else n.inputs[0] for v, n in zip(inputs, nodes, strict=True))
        try:
            wide, narrow = primitive.types(*inputs, **static), primitive.types(*given, **static)
        except ChainruleError:  # a primitive of the user that takes equal shapes only
            return None
        if not isinstance(wide, TensorType) or 0 in wide.shape:  # nothing is computed, and so nothing can fail
            return None
        if narrow.shape != broadcast_shapes(primitive.name, *(v.shape for v in given)):
            return None
        found = self.simpler(primitive, given, static)
        result = self.put(primitive, given, static, (narrow,))[0] if found is None else found[0]
        return self.spread(result, wide.shape)


def simplify(graph: Graph) -> Graph:
    """Apply rules that make the graph simpler and change no bit of any value.

        %1 = multiply(%i0, 1.0)                   %2 = reshape(%i0, shape=(6,))
        %2 = reshape(%1, shape=(2,3))      ->
        %3 = reshape(%2, shape=(6,))

    Each rule is stated where it is defined. Never contracted to a fused product and sum is ``add(multiply(a, b), c)``,
    and no sum is put in another order.
    """
    made = Simplifier(graph)

    def rule(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        return made.simpler(node.primitive, inputs, node.static)

    return made.run(rule)
