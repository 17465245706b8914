"""From nodes to products: `dot`, and the three derivatives of the convolution form, as one kind of contraction.

A convolution (N, P..., O) has as rows the positions (n, p...), as k the window (k..., c), as columns the outputs o. The
gradient by the kernel has rows (k..., c) and a sum over (n, p...). In the gradient by the image, a pixel i of the
padded image gets contributions from the positions p and window places k with p * stride + k * dilation = i: pixels
whose numbers agree modulo the stride form a product of their own, with every (stride / gcd)-th place of the window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product as combinations
from typing import Any, NamedTuple

from .. import dtypes
from ..dtypes import DType
from . import folding, winograd
from .contraction import Finish
from .kernel import Lowered, Ref
from .packing import Border, pack, pad
from .products import Product, lower_product
from .tiling import Axis, Tile, choose_tile, collapse, size
from .vector import LANES
from .views import row_major
from .winograd_gradient import lower_gradient

__all__ = ["Finish", "Operand", "can_finish", "lower_contraction", "supports"]

# A contiguous right operand is packed too if that pays. It is read for so many rows at least, and either k becomes
# simpler, or it is at least so large, with rows so far apart that what is read together lies in many pages and in few
# sets of the caches.
_PACK_ROWS = 24
_PACK_BYTES = 64 << 10
_PACK_STRIDE = 2 << 10
_SAME_SET = 4 << 10
"""Bytes after which addresses come into the same set of the first-level cache."""


class Operand(NamedTuple):
    """How an input lies in its buffer: shape, and strides in elements."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]


def supports(dtype: DType) -> bool:
    """Whether contractions of this dtype are computed natively (16-bit floats: once they are cast to float32)."""
    return dtype not in dtypes.COMPLEX and dtype not in dtypes.HALF and dtype != dtypes.bool_


def can_finish(node_kind: str, static: Mapping[str, Any]) -> bool:
    """Whether a finish can be fused: results come out in whole rows."""
    return node_kind != "conv_kernel" and static.get("groups", 1) == 1


def lower_contraction(
    node_kind: str,
    a: Operand,
    b: Operand,
    out_shape: Sequence[int],
    static: Mapping[str, Any],
    dtype: DType,
    finish: Finish | None = None,
    parts: int = 1,
) -> Lowered:
    """The calls that compute a `dot`, `conv`, `conv_input` or `conv_kernel` node.

    Args:
        node_kind: the name of the primitive.
        a, b: its inputs.
        out_shape: shape of the result, which is dense.
        static: the static arguments of the primitive.
        dtype: of both inputs and the result.
        finish: what to do with the results instead of storing them; see `can_finish`.
        parts: into how many equal parts the columns of a `dot` or `conv` are cut, which `finish` gets together.
    """
    lowering = _Lowering(dtype, Lowered([]), finish, parts)
    if node_kind == "dot":
        lowering.dot(a, b, **static)
    else:
        stride, dilation, padding = (tuple(static[name]) for name in ("stride", "dilation", "padding"))
        how = _How(stride, dilation, padding, static["groups"])
        getattr(lowering, node_kind)(a, b, tuple(out_shape), how)
    return lowering.lowered


class _How(NamedTuple):
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    groups: int


class _View(NamedTuple):
    """An operand in a buffer; ``at`` is the offset of its first element."""

    ref: Ref
    strides: tuple[int, ...]
    at: int = 0


class _Right(NamedTuple):
    """The right side of a product, ready for the kernel: contiguous columns; strides of batch, k and parts."""

    ref: Ref
    panel: int | None
    batch: tuple[int, ...]
    k: tuple[int, ...]
    tile: Tile
    part: int = 0


def _needs_packing(k: list[Axis], columns: list[Axis], m: int, itemsize: int) -> bool:
    columns = collapse(columns)
    if len(columns) > 1 or (columns and columns[0].b != 1):
        return True
    if m < _PACK_ROWS or not k:
        return False
    in_order = row_major([x.extent for x in k])
    if len(collapse(Axis(x.extent, x.a, s) for x, s in zip(k, in_order, strict=True))) < len(collapse(k)):
        return True
    return k[-1].b * itemsize >= _PACK_STRIDE and size(k) * size(columns) * itemsize >= _PACK_BYTES


def _better_turned(a: Operand, b: Operand, contract: Any, batch: Any, itemsize: int) -> bool:
    """Whether the left operand, whose rows lie beside each other, is better on the right, as in gradients of weights.

    There it is read by vectors, which the columns of the other one may not fill; and it may be packed, where steps
    along k would all come into one set of the first-level cache.
    """
    rows, columns = (
        collapse(Axis(x.shape[i], x.strides[i]) for i in range(len(x.shape)) if i not in (*c, *g))
        for x, c, g in zip((a, b), contract, batch, strict=True)
    )
    if len(rows) != 1 or rows[0].a != 1 or rows[0].extent < LANES:
        return False
    in_a, in_b = (
        any(x.shape[i] > 1 and x.strides[i] * itemsize % _SAME_SET == 0 for i in c)
        for x, c in zip((a, b), contract, strict=True)
    )
    return 2 * size(columns) <= LANES or (in_a and not in_b)


@dataclass
class _Lowering:
    dtype: DType
    lowered: Lowered
    finish: Finish | None
    parts: int = 1

    def ref(self, view: _View) -> Ref:
        """The buffer of a view, at its first element."""
        return view.ref._replace(offset=view.ref.offset + view.at * self.dtype.itemsize)

    def right(self, source: Ref, batch: list[Axis], k: list[Axis], columns: list[Axis], m: int) -> _Right:
        """The right operand, packed if need be; parts of the columns are packed like batches."""
        if self.parts > 1:
            (every,) = columns
            width = every.extent // self.parts
            batch, columns = [*batch, Axis(self.parts, b=width * every.b)], [Axis(width, b=every.b)]
            found = self._right(source, batch, k, columns, m)
            return found._replace(batch=found.batch[:-1], part=found.batch[-1])
        return self._right(source, batch, k, columns, m)

    def _right(self, source: Ref, batch: list[Axis], k: list[Axis], columns: list[Axis], m: int) -> _Right:
        n = size(columns)
        tile = choose_tile(self.dtype, m, n)
        if 0 in (n, size(k), m, size(batch)) or not _needs_packing(k, columns, m, self.dtype.itemsize):
            return _Right(source, None, tuple(x.b for x in batch), tuple(x.b for x in k), tile)
        packed = pack(source, self.dtype, tile, batch, k, columns, self.lowered)
        of_batch, of_k = (row_major([x.extent for x in axes]) for axes in (batch, k))
        return _Right(
            packed.ref,
            packed.panel,
            tuple(s * packed.batch_step for s in of_batch),
            tuple(s * packed.k_step for s in of_k),
            tile,
        )

    def multiply(
        self, a: Ref, b: _Right, batch: list[Axis], rows: list[Axis], k: list[Axis], n: int, row_step: int, **more: Any
    ) -> None:
        """Append the product; the strides of ``b`` for the dimensions are those of the right operand."""
        whole = Product(
            self.dtype,
            b.tile,
            [x._replace(b=s) for x, s in zip(batch, b.batch, strict=True)],
            rows,
            [x._replace(b=s) for x, s in zip(k, b.k, strict=True)],
            n // self.parts,
            a,
            b.ref,
            Ref("out", 0),
            row_step,
            panel=b.panel,
            parts=self.parts,
            part_step=b.part,
            **more,
        )
        lower_product(whole, self.lowered, self.finish)

    # --- dot ----------------------------------------------------------------------------------------------

    def dot(self, a: Operand, b: Operand, *, contract: Any, batch: Any) -> None:
        """(batch, a-free, contracted) @ (batch, contracted, b-free) -> (batch, a-free, b-free)."""
        turned = self.finish is None and _better_turned(a, b, contract, batch, self.dtype.itemsize)
        if turned:  # the columns of the result are computed as its rows
            a, b, contract, batch = b, a, contract[::-1], batch[::-1]
        free_a = [i for i in range(len(a.shape)) if i not in (*contract[0], *batch[0])]
        free_b = [i for i in range(len(b.shape)) if i not in (*contract[1], *batch[1])]
        columns = [Axis(b.shape[i], b=b.strides[i]) for i in free_b]
        m, n = math.prod(a.shape[i] for i in free_a), size(columns)
        of_batch = row_major([a.shape[i] for i in batch[0]])
        batches = [
            Axis(a.shape[i], a.strides[i], b.strides[j], s * m * n) for i, j, s in zip(*batch, of_batch, strict=True)
        ]
        of_rows = row_major([a.shape[i] for i in free_a])
        rows = [Axis(a.shape[i], a.strides[i], out=s) for i, s in zip(free_a, of_rows, strict=True)]
        k = [Axis(a.shape[i], a.strides[i], b.strides[j]) for i, j in zip(*contract, strict=True)]
        right = self.right(Ref("in", 1 - turned), batches, k, columns, m)
        steps = (1, m) if turned else (n, 1)
        self.multiply(Ref("in", int(turned)), right, batches, rows, k, n, steps[0], column_step=steps[1], batch_rows=m)

    # --- convolution --------------------------------------------------------------------------------------

    def image(self, index: int, operand: Operand, borders: list[Border]) -> _View:
        """An image as it is, or a copy of it with zeros around."""
        source = Ref("in", index)
        if all(x.before == x.after == 0 and x.step == 1 for x in borders):
            return _View(source, operand.strides)
        first = Border(operand.shape[0], operand.strides[0], 0, 0)
        shape = (operand.shape[0], *(x.size for x in borders), operand.shape[-1])
        padded = pad(source, self.dtype, [first, *borders], operand.shape[-1], operand.strides[-1], self.lowered)
        return _View(padded, row_major(shape))

    def padded(self, index: int, x: Operand, how: _How) -> _View:
        """An image with the zeros of a convolution around it."""
        sizes = zip(x.shape[1:-1], x.strides[1:-1], how.padding, strict=True)
        return self.image(index, x, [Border(n, stride, *both) for n, stride, both in sizes])

    def conv(self, x: Operand, w: Operand, shape: tuple[int, ...], how: _How) -> None:
        """(N, P..., K... C/G) @ (K... C/G, O/G) -> (N, P..., O/G), for each group."""
        if 0 in shape:
            return
        image = self.padded(0, x, how)
        outputs, channels = shape[-1] // how.groups, w.shape[-1]
        batch = [Axis(how.groups, channels * image.strides[-1], outputs * w.strides[0], outputs)]
        out = row_major(shape[:-1])
        steps = (1, *how.stride)
        rows = [Axis(n, image.strides[i] * steps[i], out=out[i]) for i, n in enumerate(shape[:-1])]
        spread = (*how.dilation, 1)
        k = [Axis(n, image.strides[i + 1] * spread[i], w.strides[i + 1]) for i, n in enumerate(w.shape[1:])]
        right = self.right(Ref("in", 1), batch, k, [Axis(outputs, b=w.strides[0])], size(rows))
        if self.fits(shape, w.shape[1:], how, image):
            self.winograd(image, right, channels, shape)
            return
        self.multiply(self.ref(image), right, batch, rows, k, outputs, shape[-1])

    def fits(self, shape: tuple[int, ...], window: tuple[int, ...], how: _How, *images: _View | Operand) -> bool:
        """Whether Winograd's tiles are used."""
        contiguous = all(x.strides[-1] == 1 for x in images)
        return contiguous and winograd.fits(shape, window, how.stride, how.dilation, how.groups, self.dtype)

    def winograd(self, image: _View, right: _Right, channels: int, shape: tuple[int, ...]) -> None:
        """A convolution by Winograd's tiles."""
        windows = winograd.Windows(right.ref, right.panel or right.tile.columns, *right.k)
        image_ = self.ref(image)
        winograd.lower(image_, image.strides, windows, channels, shape, right.tile, self.lowered, self.finish)

    def conv_kernel(self, x: Operand, y: Operand, shape: tuple[int, ...], how: _How) -> None:
        """(K... C/G, N P...) @ (N P..., O/G) -> (K... C/G, O/G), for each group, stored as (O/G, K..., C/G)."""
        if 0 in shape:
            return
        image = self.padded(0, x, how)
        if self.fits(y.shape, shape[1:], how, image, y):
            positions, steps = y.shape[:-1], y.strides
            lower_gradient(self.ref(image), image.strides, Ref("in", 1), steps, positions, shape, self.lowered)
            return
        outputs, inner = shape[0] // how.groups, math.prod(shape[1:])
        batch = [Axis(how.groups, shape[-1] * image.strides[-1], outputs * y.strides[-1], outputs * inner)]
        out, spread = row_major(shape[1:]), (*how.dilation, 1)
        rows = [Axis(n, image.strides[i + 1] * spread[i], out=out[i]) for i, n in enumerate(shape[1:])]
        steps = (1, *how.stride)
        k = [Axis(n, image.strides[i] * steps[i], y.strides[i]) for i, n in enumerate(y.shape[:-1])]
        right = self.right(Ref("in", 1), batch, k, [Axis(outputs, b=y.strides[-1])], size(rows))
        self.multiply(self.ref(image), right, batch, rows, k, outputs, 1, column_step=inner, long=True)

    def conv_input(self, y: Operand, w: Operand, shape: tuple[int, ...], how: _How) -> None:
        """(N, H..., K... O/G) @ (K... O/G, C/G) -> (N, H..., C/G), for each group and each set of pixels."""
        if 0 in shape:
            return
        spatial = range(len(how.stride))
        phases = [
            [_phase(i, shape[d + 1], w.shape[d + 1], how.stride[d], how.dilation[d], how.padding[d][0])
             for i in range(min(how.stride[d], shape[d + 1]))]
            for d in spatial
        ]  # fmt: skip
        direct = math.prod(shape[:1]) * math.prod(sum(p.pixels * p.places for p in of) for of in phases)
        direct *= w.shape[0] * folding.padded(w.shape[-1])
        sizes = math.prod(y.shape[:-1]), w.shape[0], math.prod(w.shape[1:-1]), w.shape[-1]
        fits = self.fits(shape, (*w.shape[1:-1], w.shape[0]), how)
        if not fits and how.groups == 1 and folding.pays(direct, *sizes, self.dtype.itemsize):
            self.fold(y, w, shape, how)
            return
        borders = []
        for d in spatial:
            reached = [p for p in phases[d] if p.places]
            low = max((-p.lowest for p in reached), default=0)
            high = max((p.highest - (y.shape[d + 1] - 1) for p in reached), default=0)
            borders.append(Border(y.shape[d + 1], y.strides[d + 1], max(low, 0), max(high, 0)))
        image = self.image(0, y, borders)
        outputs, channels = w.shape[0] // how.groups, w.shape[-1]
        batch = [Axis(how.groups, outputs * image.strides[-1], outputs * w.strides[0], channels)]
        # The window backwards, so that k runs forward through the image.
        k = [Axis(w.shape[d + 1], image.strides[d + 1] * how.dilation[d], -w.strides[d + 1]) for d in spatial]
        k.append(Axis(outputs, image.strides[-1], w.strides[0]))
        last = sum((w.shape[d + 1] - 1) * w.strides[d + 1] for d in spatial)
        source = self.ref(_View(Ref("in", 1), (), last if 0 not in w.shape else 0))
        right = self.right(source, batch, k, [Axis(channels, b=w.strides[-1])], math.prod(shape[:-1]))
        if fits and image.strides[-1] == 1:
            at = sum((borders[d].before + phases[d][0].lowest) * image.strides[d + 1] for d in spatial)
            self.winograd(image._replace(at=at), right, outputs, shape)
            return
        for choice in combinations(*phases):
            self.add_pixels(choice, image, borders, right, batch, outputs, shape, w.shape[1:-1])

    def fold(self, y: Operand, w: Operand, shape: tuple[int, ...], how: _How) -> None:
        """(N P..., O) @ (O, K... C) -> (N P..., K... C), and the windows added up where they overlap."""
        out = row_major(y.shape[:-1])
        rows = [Axis(n, y.strides[i], out=out[i]) for i, n in enumerate(y.shape[:-1])]
        k = [Axis(w.shape[0], y.strides[-1], w.strides[0])]
        columns = [Axis(n, b=w.strides[i + 1]) for i, n in enumerate(w.shape[1:])]
        right = self.right(Ref("in", 1), [], k, columns, size(rows))
        n = size(columns)
        self.lowered.temps.append(size(rows) * n * self.dtype.itemsize)
        windows = Ref("temp", len(self.lowered.temps) - 1)
        product = Product(self.dtype, right.tile, [], rows, [k[0]._replace(b=right.k[0])], n, Ref("in", 0), right.ref,
                          windows, n, panel=right.panel)  # fmt: skip
        lower_product(product, self.lowered)
        before = [low for low, _ in how.padding]
        folding.fold(windows, self.dtype, shape, y.shape[1:-1], w.shape[1:-1], (how.stride, how.dilation, before),
                     self.finish, self.lowered)  # fmt: skip

    def add_pixels(
        self, phases: Sequence[_Phase], image: _View, borders: list[Border], right: _Right, batch: list[Axis],
        outputs: int, shape: tuple[int, ...], window: tuple[int, ...],
    ) -> None:  # fmt: skip
        """The product for the pixels of one set in each dimension."""
        out = row_major(shape[:-1])
        rows = [Axis(shape[0], image.strides[0], out=out[0])]
        k, k_steps, first, at_a, at_b = [], [], 0, 0, 0
        for d, p in enumerate(phases):
            rows.append(Axis(p.pixels, image.strides[d + 1], out=out[d + 1] * p.stride))
            k.append(Axis(p.places, image.strides[d + 1] * p.spread))
            k_steps.append(right.k[d] * p.every)
            first += p.first * out[d + 1]
            at_a += (borders[d].before + p.lowest) * image.strides[d + 1]
            at_b += (window[d] - 1 - p.place - (p.places - 1) * p.every) * right.k[d]
        k.append(Axis(outputs, image.strides[-1]))
        if size(k) == 0:
            at_a = at_b = 0
        ref = self.ref(_View(right.ref, (), at_b))
        part = right._replace(ref=ref, k=(*k_steps, right.k[-1]))
        self.multiply(
            self.ref(image._replace(at=at_a)), part, batch, rows, k, shape[-1] // max(batch[0].extent, 1), shape[-1],
            first_row=first,
        )  # fmt: skip


class _Phase(NamedTuple):
    """Pixels ``first``, ``first + stride``, ... of a dimension, ``pixels`` of them.

    The places ``place``, ``place + every``, ... of the window, ``places`` of them, reach these pixels; for the last of
    them, the first pixel belongs to position ``lowest``, and from place to place positions change by ``spread``.
    """

    first: int
    stride: int
    pixels: int
    place: int
    every: int
    places: int
    spread: int
    lowest: int

    @property
    def highest(self) -> int:
        """The position that the first place has for the last pixel."""
        return self.lowest + (self.places - 1) * self.spread + self.pixels - 1


def _phase(first: int, n: int, window: int, stride: int, dilation: int, before: int) -> _Phase:
    common = math.gcd(dilation, stride)
    every, spread = stride // common, dilation // common
    fitting = [k for k in range(min(every, window)) if (first + before - dilation * k) % stride == 0]
    place = fitting[0] if fitting else 0
    places = -(-(window - place) // every) if fitting else 0
    lowest = (first + before - dilation * place) // stride - (places - 1) * spread
    return _Phase(first, stride, -(-(n - first) // stride), place, every, places, spread, lowest)
