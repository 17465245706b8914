"""Sums of padded parts that do not overlap, which are one array after another."""

from __future__ import annotations

from collections import Counter

from ..ir import Graph, Node, Value
from .rewrite import Rewriter, made_by


def join_parts(graph: Graph) -> Graph:
    """Put parts beside each other instead of padding each with zeros and adding them up.

        %1 = pad(%i0, 0.0, widths=((0,2,0),))
        %2 = pad(%i1, 0.0, widths=((2,0,0),))      ->    %3 = concat(%i0, %i1, axis=0)
        %3 = add(%1, %2)

    Such sums are the gradient of what is cut into parts, as the gates of a recurrent layer. No number changes but the
    sign of zeros.
    """
    made = Rewriter(graph)
    uses = Counter(v for node in graph.nodes for v in node.inputs)
    uses.update(graph.outputs)

    def rule(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        if node.primitive.name != "add":
            return None
        pads = _pads(node, uses)
        joined = None if pads is None else _in_order(graph, pads)
        if joined is None:
            return None
        parts, axis = joined
        return (made.emit("concat", *(made.look(part) for part in parts), axis=axis),)

    return made.run(rule)


def _pads(node: Node, uses: Counter[Value]) -> list[Node] | None:
    """The paddings that a sum and the sums in it add up; None if it adds something else, too."""
    found: list[Node] = []
    pending = list(node.inputs)
    while pending:
        value = pending.pop()
        if value.type != node.outputs[0].type:
            return None
        if (pad := made_by(value, "pad")) is not None:
            found.append(pad)
        elif uses[value] == 1 and (inner := made_by(value, "add")) is not None:
            pending += inner.inputs
        else:
            return None
    return found


def _in_order(graph: Graph, pads: list[Node]) -> tuple[list[Value], int] | None:
    """The parts in order and their axis, if they fill it without a gap or an overlap, and zeros are all around."""
    axes = {a for pad in pads for a, width in enumerate(pad.static["widths"]) if any(width)}
    if len(axes) != 1:
        return None
    axis = axes.pop()
    pads = sorted(pads, key=lambda pad: pad.static["widths"][axis][0])
    end = 0
    for pad in pads:
        low, _, between = pad.static["widths"][axis]
        fill = graph.constants.get(pad.inputs[1])
        if low != end or between or fill is None or fill.any():
            return None
        end += pad.inputs[0].shape[axis]
    return ([pad.inputs[0] for pad in pads], axis) if end == pads[0].outputs[0].shape[axis] else None
