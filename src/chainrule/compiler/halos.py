"""Halos: room for the zeros around an image, so that a convolution reads across its edge without a test or a copy.

An image that a map makes and convolutions read gets a buffer with a border as wide as the widest of them needs; the
map writes to the inside, the border is set to zero, and every other reader looks at the inside, which is a view.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from .. import dtypes
from ..graph.ir import Graph, Node, Value
from . import folding
from .views import View, collapsed, row_major

Borders = tuple[tuple[int, int], ...]
"""Before and after each spatial axis."""

_READERS = frozenset({"conv", "conv_input", "conv_kernel"})


def needed(node: Node) -> Borders | None:
    """The border that a convolution wants around its image, or around the cotangent that it goes back from."""
    static = node.static
    if node.primitive.name in ("conv", "conv_kernel"):
        return tuple(static["padding"])
    if node.primitive.name != "conv_input" or any(s != 1 for s in static["stride"]) or _folds(node):
        return None
    spans = [d * (k - 1) for d, k in zip(static["dilation"], node.inputs[1].shape[1:-1], strict=True)]
    borders = tuple((span - low, span - high) for span, (low, high) in zip(spans, static["padding"], strict=True))
    return None if any(b < 0 for both in borders for b in both) else borders


def _folds(node: Node) -> bool:
    """Whether windows are to be added up, which reads no zeros."""
    (n, *positions, outputs), (_, *window, channels) = (v.shape for v in node.inputs)
    image, itemsize = node.outputs[0].shape, node.outputs[0].dtype.itemsize
    direct = math.prod(image[:-1]) * math.prod(window) * outputs * folding.padded(channels)
    sizes = n * math.prod(positions), outputs, math.prod(window), channels
    return bool(node.static["groups"] == 1) and folding.pays(direct, *sizes, itemsize)


def find(graph: Graph) -> dict[Value, Borders]:
    """The values that are to have a border: made by a map, read by convolutions, maps and reductions only."""
    found: dict[Value, Borders] = {}
    refused = set(graph.outputs)
    for node in graph.nodes:
        for i, value in enumerate(node.inputs):
            if node.primitive.name in _READERS and i == 0:
                borders = needed(node)
                if borders is not None:
                    before = found.get(value, borders)
                    pairs = zip(before, borders, strict=True)
                    found[value] = tuple((max(a[0], b[0]), max(a[1], b[1])) for a, b in pairs)
            elif not _looks_inside(node, i):
                refused.add(value)
    return {v: b for v, b in found.items() if v not in refused and any(map(any, b)) and _is_map(v) and _in_rows(v, b)}


def _in_rows(value: Value, borders: Borders) -> bool:
    """Whether the inside of the buffer is several rows of consecutive elements."""
    spatial = [n + low + high for n, (low, high) in zip(value.shape[1:-1], borders, strict=True)]
    dims = collapsed(zip(value.shape, row_major((value.shape[0], *spatial, value.shape[-1])), strict=True))
    return value.shape[-1] > 1 and len(dims) > 1 and dims[-1][1] == 1


def _looks_inside(node: Node, i: int) -> bool:
    """Whether a node reads its input with any strides."""
    name = node.primitive.name
    return node.primitive.elementwise or name.startswith("reduce_") or (name == "conv_kernel" and i == 1)


def _is_map(value: Value) -> bool:
    node = value.node
    return (
        node is not None
        and node.primitive.elementwise
        and node.primitive.name not in ("alias", "stop_gradient")
        and value.dtype in (dtypes.float32, dtypes.float64)
        and value.size > 0
    )


def inside(root: Value, shape: tuple[int, ...], borders: Borders) -> View:
    """The view of a bordered buffer that is the image itself."""
    strides = row_major(root.shape)
    offset = sum(low * s for (low, _), s in zip(borders, strides[1:-1], strict=True))
    return View(root, offset, shape, strides)


def widened(view: View, borders: Borders) -> View:
    """A view of an image with some of its border."""
    offset = view.offset - sum(low * s for (low, _), s in zip(borders, view.strides[1:-1], strict=True))
    spatial = [n + low + high for n, (low, high) in zip(view.shape[1:-1], borders, strict=True)]
    return view._replace(offset=offset, shape=(view.shape[0], *spatial, view.shape[-1]))


def read_across(node: Node, view: View, borders: Borders) -> tuple[View, Mapping[str, Any]] | None:
    """How a convolution reads an image that has such borders: the view, and its arguments then; None if it cannot."""
    wants = needed(node)
    if wants is None or any(w > b for want, have in zip(wants, borders, strict=True)
                            for w, b in zip(want, have, strict=True)):  # fmt: skip
        return None
    if node.primitive.name == "conv_input":
        padding = tuple((p + w, q + x) for (p, q), (w, x) in zip(node.static["padding"], wants, strict=True))
    else:
        padding = tuple((0, 0) for _ in wants)
    return widened(view, wants), node.static | {"padding": padding}


def edges(view: View) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The border around the inside of a buffer, as boxes: offset and shape of each."""
    full = view.root.shape
    strides = row_major(full)
    rest = view.offset
    lows = [0]
    for stride in strides[1:-1]:
        lows.append(rest // stride)
        rest -= lows[-1] * stride
    for axis in range(1, len(full) - 1):
        low, n = lows[axis], view.shape[axis]
        before = sum(lows[i] * strides[i] for i in range(axis))
        for start, extent in ((0, low), (low + n, full[axis] - low - n)):
            if extent:
                yield before + start * strides[axis], (*view.shape[:axis], extent, *full[axis + 1 :])
