"""From the nodes of a graph to operations on buffers.

Nodes that only look at elements in another way become views. What is left are operations with a kind:

    map       each element of the result from one element of each input (repeated as needed)
    reduce    over some axes
    product   contractions and convolutions: a kernel that maps may be appended to
    kernel    a kernel of its own: windows, gathers, sorts, ...
    control   scan, cond, while
    host      the NumPy reference, called from native code
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import dtypes
from ..dtypes import DType
from ..graph.ir import Graph, Node, TensorType, Value
from . import attention, elementwise, halos, joining
from .library import can_contract, lowering_of
from .vector import LANES
from .views import LOOKS, View, through, whole

REDUCTIONS = frozenset({"reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_any", "reduce_all"})


MOST_BESIDE = 8
"""More parts than these are copied, each by itself."""


@dataclass(eq=False)
class Op:
    """An operation: what it reads, and the values that it makes, each in a buffer of its own order.

    Attributes:
        kind: see above.
        name: the primitive's name.
        shape: of a map, the shape over which it runs.
        inputs: views of what it reads; those of a map have its shape, those of kernels are whole buffers.
        outputs: what it makes.
        node: the node that it comes from, if any: its static arguments and source line.
        target: how the result lies in its buffer; None where it fills it. Of a "concat", how its first part does.
    """

    kind: str
    name: str
    shape: tuple[int, ...]
    inputs: tuple[View, ...]
    outputs: tuple[Value, ...]
    static: Mapping[str, Any]
    node: Node | None = None
    lowered: Any = None
    target: View | None = None

    @property
    def place(self) -> tuple[int, int] | None:
        """The phase and the second computation to which it belongs; None if it may stand anywhere."""
        return None if self.node is None else (self.node.phase, self.node.region)

    @property
    def source(self) -> str:
        """The user's line."""
        return self.node.source if self.node is not None else ""


class Ops:
    """The operations of a graph in order, and how each of its values looks at a buffer."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.list: list[Op] = []
        self._views: dict[Value, View] = {}
        self._copies: dict[Value, Value] = {}
        self._mapped: set[Value] = set()
        self._halos = halos.find(graph)
        self._joined = joining.find(graph)
        self._joins = {view.root for view in self._joined.values()}
        self._bordered: dict[View, halos.Borders] = {}
        for node in graph.nodes:
            self._add(node)

    def view(self, value: Value) -> View:
        """How a value looks at a buffer."""
        found = self._views.get(value)
        if found is None:
            found = self._views[value] = whole(value)
        return found

    def buffer(self, value: Value) -> Value:
        """A buffer that holds the value in its own order, copied if need be."""
        view = self.view(value)
        if view.is_whole:
            return view.root
        if value not in self._copies:
            self._copies[value] = self._copied(view, value).root
        return self._copies[value]

    def fresh(self, value: Value, taken: set[Value]) -> Value:
        """A buffer as `buffer` gives it, but none of those ``taken``."""
        root = self.buffer(value)
        return self._copied(whole(root), value).root if root in taken else root

    def _copied(self, view: View, value: Value) -> View:
        made = Value(self.graph, TensorType(tuple(value.shape), value.dtype))
        self._map("alias", view.shape, (view,), made, {}, value.node)
        return whole(made)

    def _map(
        self, name: str, shape: Sequence[int], inputs: tuple[View, ...], out: Value, static: Any, node: Node | None
    ) -> None:
        target = None
        if out in self._halos:
            borders = self._halos[out]
            spatial = [n + low + high for n, (low, high) in zip(out.shape[1:-1], borders, strict=True)]
            root = Value(self.graph, TensorType((out.shape[0], *spatial, out.shape[-1]), out.dtype))
            target = self._views[out] = halos.inside(root, tuple(out.shape), borders)
            self._bordered[target] = borders
            out = root
        self._mapped.add(out)
        self.list.append(Op("map", name, tuple(shape), inputs, (out,), static, node, target=target))

    # --- nodes --------------------------------------------------------------------------------------------

    def _add(self, node: Node) -> None:
        name = node.primitive.name
        if name in LOOKS:
            self._look(node)
        elif node.primitive.lowering == "control":
            inputs = tuple(whole(self.buffer(v)) for v in node.inputs)
            self.list.append(Op("control", name, (), inputs, node.outputs, node.static, node))
        elif name in REDUCTIONS and not _complex(node):
            self._reduce(node)
        elif name == "random_bits":
            out = node.outputs[0]
            self._map(name, out.shape, (whole(self.buffer(node.inputs[0])),), out, node.static, node)
        elif node.primitive.elementwise and elementwise.supports(
            name, [v.dtype for v in node.inputs], node.outputs[0].dtype, node.static
        ):
            out = node.outputs[0]
            inputs = tuple(self.view(v).broadcast(out.shape) for v in node.inputs)
            self._map(name, out.shape, inputs, out, node.static, node)
        elif can_contract(node):
            self._product(node)
        elif name in attention.LIKE:
            self._attention(node)
        elif node.outputs and self._joins.issuperset(node.outputs):
            pass  # its parts are made in their places
        elif name == "concat" and self._are_maps(node):
            axis, out = node.static["axis"], node.outputs[0]
            self.list.append(beside([self.view(v) for v in node.inputs], out, math.prod(out.shape[:axis]), node))
        else:
            self._kernel(node)

    def _look(self, node: Node) -> None:
        source, out = node.inputs[0], node.outputs[0]
        view = through(node, self.view(source))
        if view is None:  # a reshape of elements that are not in order
            copied = self._copied(self.view(source), source)
            view = through(node, copied)
        assert view is not None
        self._views[out] = view

    def _reduce(self, node: Node) -> None:
        source, out = node.inputs[0], node.outputs[0]
        axes = node.static["axes"]
        if math.prod(source.shape[a] for a in axes) == 1:  # nothing to combine
            view = self.view(source)
            kept = [a for a in range(source.ndim) if a not in axes]
            self._views[out] = View(view.root, view.offset, tuple(out.shape), tuple(view.strides[a] for a in kept))
            return
        self.list.append(Op("reduce", node.primitive.name, (), (self.view(source),), (out,), node.static, node))

    def _product(self, node: Node) -> None:
        out = node.outputs[0]
        views, static = self._operands(node)
        if out.dtype not in dtypes.HALF:
            self.list.append(Op("product", node.primitive.name, (), views, (out,), static, node))
            return
        wide = Value(self.graph, TensorType(tuple(out.shape), dtypes.float32))
        self.list.append(Op("product", node.primitive.name, (), views, (wide,), static, node))
        self._map("cast", out.shape, (whole(wide),), out, {"dtype": out.dtype}, node)

    def _operands(self, node: Node) -> tuple[tuple[View, ...], Mapping[str, Any]]:
        """What a product reads, and its arguments: a convolution reads across the edge of a bordered image."""
        image, other = (self._widened(v) for v in node.inputs)
        if node.primitive.name == "dot":
            return (image, other), node.static
        static: Mapping[str, Any] = node.static
        if image in self._bordered:
            found = halos.read_across(node, image, self._bordered[image])
            image, static = found or (image, static)
        elif not image.is_whole:
            image = self._copy_view(image)
        return (image, other if other.is_whole or other in self._bordered else self._copy_view(other)), static

    def _widened(self, value: Value) -> View:
        """A 16-bit float is computed with in float32."""
        view = self.view(value)
        if value.dtype not in dtypes.HALF:
            return view
        made = Value(self.graph, TensorType(tuple(value.shape), dtypes.float32))
        self._map("cast", value.shape, (view,), made, {"dtype": dtypes.float32}, value.node)
        return whole(made)

    def _attention(self, node: Node) -> None:
        """Heads are axes of what it reads and makes, wherever they lie: to join and to cut them costs nothing."""
        name = node.primitive.name
        views = (self._widened(v) for v in node.inputs)
        reads = tuple(map(self._with_rows, views))
        writes = []
        for out, like in zip(node.outputs, attention.LIKE[name], strict=True):
            if out in self._joined:
                writes.append(self._joined[out])
                continue
            order = list(range(out.ndim))
            if like is not None:
                order[:-1] = sorted(order[:-1], key=lambda axis: -abs(reads[like].strides[axis]))
            wide = dtypes.float32 if out.dtype in dtypes.HALF else out.dtype
            root = Value(self.graph, TensorType(tuple(out.shape[axis] for axis in order), wide))
            writes.append(whole(root).permute([order.index(axis) for axis in range(out.ndim)]))
        roots = tuple(dict.fromkeys(view.root for view in writes))
        lowered = attention.lower(node, reads, writes)
        self.list.append(Op("kernel", name, (), reads, roots, node.static, node, lowered))
        for out, view in zip(node.outputs, writes, strict=True):
            if out.dtype == view.root.dtype:
                self._views[out] = view
            else:
                self._map("cast", out.shape, (view,), out, {"dtype": out.dtype}, node)

    def _with_rows(self, view: View) -> View:
        """The view copied, if its rows are not consecutive elements (those of a truth may be one element)."""
        if view.strides[-1] == 1 or view.shape[-1] == 1 or (not view.strides[-1] and view.root.dtype == dtypes.bool_):
            return view
        once = (n if step else 1 for n, step in zip(view.shape[:-1], view.strides, strict=False))
        return self._copy_view(view._replace(shape=(*once, view.shape[-1]))).broadcast(view.shape)

    def _copy_view(self, view: View) -> View:
        made = Value(self.graph, TensorType(view.shape, view.root.dtype))
        self._map("alias", view.shape, (view,), made, {}, view.root.node)
        return whole(made)

    def _are_maps(self, node: Node) -> bool:
        """Whether it puts results of maps beside one another, all of one size, that maps may write there at once."""
        views = [self.view(v) for v in node.inputs]
        one = {view.shape for view in views}
        run = math.prod(node.inputs[0].shape[node.static["axis"] :])
        made = all(view.is_whole and view.root in self._mapped for view in views)
        return made and len(one) == 1 and run >= LANES and len(views) <= MOST_BESIDE

    def _kernel(self, node: Node) -> None:
        lower = lowering_of(node.primitive.name)
        lowered = lower(node) if lower is not None else None
        read = set(range(len(node.inputs)))
        if lowered is not None:  # a kernel that knows an input to be zero does not read it
            read = {ref.number for call in lowered.calls for ref in call.refs if ref.kind == "in"}
        inputs = tuple(whole(self.buffer(v)) if i in read else self.view(v) for i, v in enumerate(node.inputs))
        kind = "host" if lowered is None else "kernel"
        self.list.append(Op(kind, node.primitive.name, (), inputs, node.outputs, node.static, node, lowered))


def beside(parts: Sequence[View], out: Value, outer: int, node: Node | None) -> Op:
    """A map that writes parts, each of ``outer`` rows, beside one another."""
    inner = out.size // (outer * len(parts))
    target = View(out, 0, (outer, inner), (inner * len(parts), 1))
    return Op("map", "concat", (outer, inner), tuple(parts), (out,), {}, node, target=target)


def _complex(node: Node) -> bool:
    return any(v.dtype in dtypes.COMPLEX for v in node.inputs)


def accumulator(dtype: DType) -> DType:
    """What a reduction of ``dtype`` adds up in."""
    return dtypes.float32 if dtype in dtypes.HALF else dtype
