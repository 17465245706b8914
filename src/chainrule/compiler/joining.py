"""Gradients of queries, keys and values of one projection are written where they are joined, not copied there."""

from __future__ import annotations

from collections import Counter

from .. import dtypes
from ..graph.ir import Graph, Node, Value
from .views import View, reshaped, row_major


def find(graph: Graph) -> dict[Value, View]:
    """For results of attention's gradients that nothing reads but a concatenation of them: their parts of its buffer.

    %3, %4 = attention_gradients(...)
    %5 = concat(reshape(permute(%3)), reshape(permute(%4)))    ->    %3 and %4 are views of %5
    """
    uses = Counter(v for node in graph.nodes for v in node.inputs)
    uses.update(graph.outputs)
    found: dict[Value, View] = {}
    for node in graph.nodes:
        if node.primitive.name == "concat" and node.outputs[0].dtype not in dtypes.HALF:
            found |= _parts(node, uses)
    return found


def _parts(node: Node, uses: Counter[Value]) -> dict[Value, View]:
    out, axis = node.outputs[0], node.static["axis"]
    strides, start, makers = row_major(out.shape), 0, set()
    found: dict[Value, View] = {}
    for x in node.inputs:
        view: View | None = View(out, start * strides[axis], tuple(x.shape), strides)
        start += x.shape[axis]
        while uses[x] == 1 and x.node is not None and x.node.primitive.name in ("reshape", "permute"):
            view = _before(x.node, view) if view is not None else None
            x = x.node.inputs[0]
        if view is None or uses[x] != 1 or x.node is None or x.node.primitive.name != "attention_gradients":
            return {}
        if view.strides[-1] != 1:
            return {}
        makers.add(x.node)
        found[x] = view
    return found if len(makers) == 1 else {}


def _before(node: Node, view: View) -> View | None:
    """How the input of a node lies where its result lies as a view says; None if no strides do it."""
    if node.primitive.name == "reshape":
        return reshaped(view, tuple(node.inputs[0].shape))
    axes = node.static["axes"]
    return view.permute([axes.index(axis) for axis in range(len(axes))])
