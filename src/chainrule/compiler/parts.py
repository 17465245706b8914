"""Products that are read by equal parts of their columns, as the gates of a recurrent step are.

    y = x + dot(h, w);  i, f = y[:, :W], y[:, W:]  ->  d, e = dot(h, w);  i, f = x[:, :W] + d, x[:, W:] + e

A product has one result for each part then, and maps that take several parts at the same place can be appended to it.
What others read whole, they get from a map that puts the parts beside one another.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..graph.ir import TensorType, Value
from .convolution import can_finish
from .fusion import columns_of
from .ops import Op, Ops, beside
from .vector import LANES
from .views import View, boundaries, collapsed, refined, row_major, whole

MOST_PARTS = 8
"""A finish holds vectors of all parts."""

Readers = dict[Value, list[tuple[Op, View]]]


def split(ops: Ops, results: Iterable[Value]) -> list[Op]:
    """The operations, with products in parts where maps read them so; ``results`` are read whole."""
    readers: Readers = {}
    for op in ops.list:
        for view in op.inputs:
            readers.setdefault(view.root, []).append((op, view))
    cuts: dict[Value, _Cut] = {}
    for op in reversed(ops.list):  # of two products that are added, the later one can take what follows
        if op.kind == "product" and _can_be_cut(op):
            cut = _Cut(op, readers, cuts)
            cuts.update(dict.fromkeys(cut.wide if cut.width else (), cut))
    done: list[Op] = []
    for op in ops.list:
        found = cuts.get(op.outputs[0]) if op.outputs else None
        if found is None:
            op.inputs = tuple(cuts[v.root].narrowed(op, v) if v.root in cuts else v for v in op.inputs)
            done.append(op)
            continue
        out = op.outputs[0]
        done += found.pieces(op)
        if out in results or not all(found.knows(reader, view) for reader, view in readers.get(out, ())):
            done.append(beside([whole(part) for part in found.parts[out]], out, found.rows, op.node))
    return done


def _can_be_cut(op: Op) -> bool:
    """Whether it is a product of matrices or a convolution with whole rows as results."""
    if op.name != "dot":
        return op.name == "conv" and can_finish(op.name, op.static)
    used = len(op.static["contract"][1]) + len(op.static["batch"][1])
    return len(op.inputs[1].shape) == used + 1


class _Cut:
    """How a product is cut.

    Attributes:
        rows, n: extents of its result.
        width: columns of a part; 0 if it is not to be cut.
        wide: its result, and all that maps make of it that has its shape.
        parts: what takes the place of a wide value.
    """

    def __init__(self, product: Op, readers: Readers, taken: dict[Value, _Cut]) -> None:
        self.product, self.readers, self.taken = product, readers, taken
        out = product.outputs[0]
        self.n = columns_of(product)
        self.rows = out.size // max(self.n, 1)
        self.width = 0
        self.parts: dict[Value, list[Value]] = {}
        self.wide = self._find_wide()
        reads = {
            (view.size // self.rows, view.offset)
            for value in self.wide for op, view in readers.get(value, ()) if self._reads_part(op, view)
        }  # fmt: skip
        widths = {width for width, _ in reads}
        if len(widths) == 1 and len(reads) > 1:
            self.width = widths.pop()
            self.wide = self._find_wide()

    def _find_wide(self) -> list[Value]:
        found = [self.product.outputs[0]]
        for value in found:
            for op, view in self.readers.get(value, ()):
                new = self._is_wide(op, view) and op.outputs[0] not in self.taken and op.outputs[0] not in found
                if new and (not self.width or all(self._part_of(v, 0) for v in op.inputs)):
                    found.append(op.outputs[0])
        return found

    def _follows(self, op: Op) -> bool:
        """Whether it is a map that may be appended."""
        same = None in (op.place, self.product.place) or op.place == self.product.place
        return same and op.kind == "map" and op.name not in ("random_bits", "concat") and op.target is None

    def _is_wide(self, op: Op, view: View) -> bool:
        return self._follows(op) and view.is_whole and math.prod(op.shape) == self.rows * self.n

    def _reads_part(self, op: Op, view: View) -> bool:
        """Whether a map reads some columns of all rows, of which equal parts can be made that fill vectors well."""
        width = view.size // self.rows if self.rows else 0
        if not self._follows(op) or width < LANES or self.n % width or not 1 < self.n // width <= MOST_PARTS:
            return False
        inside = view.dims == collapsed([(self.rows, self.n), (width, 1)]) and view.offset % width == 0
        return inside and (self.width or width) == width and 3 * (-(-width // LANES) * LANES) <= 4 * width

    def _part_of(self, view: View, number: int) -> View | None:
        """The columns of a part, of a view that has the shape of the product."""
        ordered = [cut for cut in (self.width, self.n, self.rows * self.n) if cut > 1]
        if not boundaries(view.dims) <= {1, *ordered}:
            return None
        row, part, column = (0, *refined(view.dims, ordered))[-3:]
        return View(view.root, view.offset + number * part, (self.rows, self.width), (row, column))

    def knows(self, op: Op, view: View) -> bool:
        """Whether an operation reads a wide value in a way that needs its parts alone."""
        return (op.outputs[:1] and op.outputs[0] in self.wide and view.is_whole) or self._reads_part(op, view)

    def narrowed(self, op: Op, view: View) -> View:
        """What a map is to read instead of some columns of a wide value."""
        if not self._reads_part(op, view):
            return view
        return View(self.parts[view.root][view.offset // self.width], 0, view.shape, row_major(view.shape))

    def pieces(self, op: Op) -> list[Op]:
        """What makes the parts of a wide value."""
        out, graph = op.outputs[0], op.outputs[0].graph
        lead = out.shape[:-1] if op is self.product else (self.rows,)
        made = [Value(graph, TensorType((*lead, self.width), out.dtype)) for _ in range(self.n // self.width)]
        self.parts[out] = made
        if op is self.product:
            op.outputs = tuple(made)
            return [op]
        return [
            Op("map", op.name, (self.rows, self.width), self._inputs(op, i), (part,), op.static, op.node)
            for i, part in enumerate(made)
        ]

    def _inputs(self, op: Op, number: int) -> tuple[View, ...]:
        found = []
        for view in op.inputs:
            known = view.is_whole and view.root in self.parts
            part = whole(self.parts[view.root][number]) if known else self._part_of(view, number)
            assert part is not None
            found.append(part)
        return tuple(found)
