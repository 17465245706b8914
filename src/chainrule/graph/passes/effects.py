"""Which nodes do more than give a result.

A node that **can fail** raises in eager mode for some values of its inputs. It is kept even if nothing uses its result,
so that compiled code raises too. Two of them that are equal fail alike, so they may be merged, and one that is computed
for a second time has failed the first time already. A node with an **effect** does something to the world: it is kept,
never merged, never folded, and stays in order with the others.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..ir import Graph, Node, Value, bodies

# They call functions of the host: printing, and whatever a user's function does.
EFFECTS = frozenset({"print", "callback"})

# What runs on the host can fail (a singular matrix, an iteration that does not converge, a user's primitive), but for
# these, which have a value for every input.
_TOTAL = frozenset({"fft", "ifft", "rfft", "irfft", "det", "slogdet"})

Known = Callable[[Value], np.ndarray | None]
"""Gives the array of a value that is a constant."""


def _unknown(value: Value) -> np.ndarray | None:
    return None


def has_effect(node: Node) -> bool:
    """Say whether the node does something besides giving its results."""
    if node.primitive.name in EFFECTS:
        return True
    return any(has_effect(inner) for _, body in bodies(node.static) for inner in body.nodes)


def can_fail(node: Node, known: Known = _unknown) -> bool:
    """Say whether there are values of the inputs for which the node raises, other than constants that are known."""
    rule = _CAN_FAIL.get(node.primitive.name)
    if rule is not None:
        return rule(node, known)
    if node.primitive.lowering == "control":
        return any(can_fail(inner, _constants(body)) for _, body in bodies(node.static) for inner in body.nodes)
    return node.primitive.lowering == "host" and node.primitive.name not in _TOTAL


def removable(node: Node, known: Known = _unknown) -> bool:
    """Say whether nothing is lost with the node if its results are not used."""
    if has_effect(node):
        return False
    return node.region != 0 or not can_fail(node, known)


def _constants(graph: Graph) -> Known:
    return graph.constants.get


def _outside(x: Value, indices: tuple[Value, ...], known: Known) -> bool:
    """Whether an index may lie outside of its axis."""
    for axis, value in enumerate(indices):
        index, n = known(value), x.shape[axis]
        if index is None or (index.size and not -n <= int(index.min()) <= int(index.max()) < n):
            return True
    return False


def _leaves(x: Value, sizes: tuple[int, ...], starts: tuple[Value, ...], known: Known) -> bool:
    """Whether a window may leave the array."""
    for n, size, value in zip(x.shape, sizes, starts, strict=True):
        start = known(value)
        if start is None or not 0 <= int(start) + (n if start < 0 else 0) <= n - size:
            return True
    return False


def _divides(node: Node, known: Known) -> bool:
    """An integer zero as divisor."""
    divisor = known(node.inputs[1])
    return node.inputs[1].dtype.kind in "iu" and (divisor is None or not divisor.all())


def _raises(node: Node, known: Known) -> bool:
    """A negative integer as exponent."""
    exponent = known(node.inputs[1])
    return node.inputs[1].dtype.kind == "i" and (exponent is None or bool((exponent < 0).any()))


_CAN_FAIL: dict[str, Callable[[Node, Known], bool]] = {
    "gather": lambda node, known: _outside(node.inputs[0], node.inputs[1:], known),
    "scatter_add": lambda node, known: _outside(node.inputs[0], node.inputs[2:], known),
    "scatter_set": lambda node, known: _outside(node.inputs[0], node.inputs[2:], known),
    "dynamic_slice": lambda node, known: _leaves(node.inputs[0], node.static["sizes"], node.inputs[1:], known),
    "dynamic_update_slice": lambda node, known: _leaves(node.inputs[0], node.inputs[1].shape, node.inputs[2:], known),
    "floor_divide": _divides,
    "remainder": _divides,
    "power": _raises,
}
