"""Scores of attention in scratch memory: what the kernels forward and backward share.

Scores are held with a row for each key and queries in the lanes: then a maximum and a sum over keys combine whole
vectors, and in all products numbers of one operand meet vectors of another (see `contraction`), of which only queries
and cotangents have to be transposed. What `causal` hides is left out tile by tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llvmlite import ir

from .. import dtypes
from ..dtypes import DType
from .kernel import Frame
from .math.exponential import exp_parts
from .math.lanes import Lanes, power_of_two, where
from .packing import transposed
from .tiling import Tile, choose_tile
from .vector import F64, I32, I64, LANES, scalar_type

KEYS = 128
"""Keys of a block: so many terms of a sum are added up one by one before the result joins the others."""
QUERIES = 64
"""Queries of a block."""


class Shape(NamedTuple):
    """What the code depends on.

    Attributes:
        dtype: of all but masks.
        d, e: features of keys and of values.
        causal: whether a query looks at keys up to its own number only.
        masks: for each, whether it has a truth for each key.
        batch: how many axes there are in front.
    """

    dtype: str
    d: int
    e: int
    causal: bool
    masks: tuple[bool, ...]
    batch: int

    def tile(self, columns: int) -> Tile:
        """The register tile of a product."""
        return choose_tile(getattr(dtypes, self.dtype), 8, columns)

    def width(self, n: int) -> int:
        """The columns of all tiles over ``n`` columns."""
        return up(n, self.tile(n).columns)


class Matrix(NamedTuple):
    """Numbers at ``base``: element (i, j) is ``i * row + j * column`` further on."""

    base: Any
    row: Any
    column: Any = I64(1)


def up(n: int, to: int) -> int:
    """The next multiple."""
    return -(-n // to) * to


class ScoreKernel:
    """What all kernels share: operands, scratch memory, products and scores."""

    def __init__(self, frame: Frame, s: Shape, names: Sequence[str]) -> None:
        self.frame, self.e, self.b, self.s = frame, frame.e, frame.b, s
        self.dtype: DType = getattr(dtypes, s.dtype)
        self.tile = s.tile(2 * LANES)
        words = iter(frame.words)
        self.t, self.keys, self.parts, scale = (next(words) for _ in range(4))
        of = scalar_type(self.dtype)
        bits = scale if of == F64 else frame.b.trunc(scale, I32)
        self.scale = self.e.splat(frame.b.bitcast(bits, of))
        self.extents = [next(words) for _ in range(s.batch)]
        self.strides = {name: [next(words) for _ in range(s.batch + 1)] for name in names}
        self.pointers = dict(zip(names, frame.buffers, strict=True))
        self.area, at = {}, 0
        for name, size in self.areas(s).items():
            self.area[name] = self.e.address(frame.scratch, I64(at), self.dtype)
            at += size

    @staticmethod
    def areas(s: Shape) -> dict[str, int]:
        """How many elements of scratch memory each part needs, multiples of the lanes."""
        return {}

    def emit(self) -> None:
        """All items."""
        raise NotImplementedError

    def enter(self, batch: Any) -> dict[str, Matrix]:
        """The operands of one head."""
        b, offsets = self.b, dict.fromkeys(self.strides, I64(0))
        for i in reversed(range(self.s.batch)):
            index = batch if i == 0 else b.urem(batch, self.extents[i])
            batch = b.udiv(batch, self.extents[i])
            offsets = {n: b.add(at, b.mul(index, self.strides[n][i])) for n, at in offsets.items()}
        found = {}
        for name, at in offsets.items():
            dtype = dtypes.bool_ if name.startswith("mask") else self.dtype
            found[name] = Matrix(self.e.address(self.pointers[name], at, dtype), self.strides[name][-1])
        return found

    def from_row(self, x: Matrix, row: Any) -> Matrix:
        """The matrix from a row on."""
        return x._replace(base=self.e.address(x.base, self.b.mul(row, x.row), self.dtype))

    def min(self, x: Any, y: Any) -> Any:
        """The smaller one."""
        return self.e.intrinsic("smin", x, y)

    def max(self, x: Any, y: Any) -> Any:
        """The larger one."""
        return self.e.intrinsic("smax", x, y)

    def lanes(self, x: Any) -> Lanes:
        """A value to compute with."""
        return Lanes(self.e, x)

    def load(self, base: Any, index: Any) -> Any:
        """Elements from number ``index`` on."""
        return self.e.load(base, index, self.dtype)

    def store(self, value: Any, base: Any, index: Any) -> None:
        """Store elements from number ``index`` on."""
        self.e.store(value, base, index, self.dtype)

    def fill(self, base: Any, count: Any, value: float) -> None:
        """Set elements, a multiple of the lanes, to a number."""
        constant = self.e.const(scalar_type(self.dtype), value)
        self.e.blocks(count, lambda i: self.store(constant, base, i), even=True)

    def pack(self, source: Matrix, count: Any, columns: int, target: Any, factor: Any = None) -> None:
        """Transpose ``count`` rows into rows of `QUERIES`; beyond the last row it is repeated."""
        e, b, last = self.e, self.b, self.b.sub(count, I64(1))
        with e.loop(I64(0), self.rounded(count, self.tile.columns), LANES) as q:
            places = [b.mul(self.min(b.add(q, I64(i)), last), source.row) for i in range(LANES)]
            with e.loop(I64(0), I64(columns), LANES) as c:
                with e.masked(e.tail_mask(b.sub(I64(columns), c)) if columns % LANES else None):
                    rows = [self.load(source.base, b.add(at, c)) for at in places]
                at = b.add(b.mul(c, I64(QUERIES)), q)
                for i, column in enumerate(transposed(self.b, rows)):
                    value = column if factor is None else b.fmul(column, factor)
                    self.store(value, target, b.add(at, I64(i * QUERIES)))

    def rounded(self, n: Any, to: int) -> Any:
        """The next multiple."""
        return self.b.mul(self.b.udiv(self.b.add(n, I64(to - 1)), I64(to)), I64(to))

    def product(
        self, tile: Tile, rows: Any, a: Matrix, b: Matrix, span: Callable[[Any], tuple[Any, Any]],
        deliver: Callable[[Any, list[Any]], None], masks: Sequence[Any] | None = None,
    ) -> None:  # fmt: skip
        """Emit ``deliver(row, sums)`` for the tiles of ``a @ b``, the terms from and up to what ``span(row)`` says.

        The sums of rows beyond the last, in the last tile, are those of the last.
        """
        e, build = self.e, self.b
        last, zero = build.sub(rows, I64(1)), ir.Constant(e.of(self.dtype), None)
        with e.loop(I64(0), rows, tile.rows) as row:
            first, end = span(row)
            places = [build.mul(self.min(build.add(row, I64(i)), last), a.row) for i in range(tile.rows)]
            numbers = [e.address(a.base, at, self.dtype) for at in places]

            def step(state: list[Any], numbers: list[Any] = numbers) -> list[Any]:
                at_a, at_b, *sums = state
                vectors = []
                for j, mask in enumerate(masks or [None] * tile.vectors):
                    with e.masked(mask):
                        vectors.append(self.load(b.base, build.add(at_b, I64(j * LANES))))
                found = []
                for i, number in enumerate(numbers):
                    x = e.load_one(number, at_a, self.dtype)
                    found += [e.fma(x, v, sums[i * tile.vectors + j]) for j, v in enumerate(vectors)]
                return [build.add(at_a, a.column), build.add(at_b, b.row), *found]

            start = [build.mul(first, a.column), build.mul(first, b.row), *[zero] * (tile.rows * tile.vectors)]
            deliver(row, e.repeat(build.sub(end, first), start, step)[2:])

    def into(self, tile: Tile, target: Any, pitch: int, correction: Sequence[Any] | None = None) -> Any:
        """What stores the sums of tiles, or adds them to what is there times a vector."""

        def deliver(row: Any, sums: list[Any]) -> None:
            start = self.b.mul(row, I64(pitch))
            for i, value in enumerate(sums):
                at = self.b.add(start, I64(i // tile.vectors * pitch + i % tile.vectors * LANES))
                if correction is not None:
                    value = self.e.fma(self.load(target, at), correction[i % tile.vectors], value)
                self.store(value, target, at)

        return deliver

    # --- scores -------------------------------------------------------------------------------------------

    def visible(self, keys: Any, key: Any, query: Any) -> Any:
        """How many of ``keys`` keys from number ``key`` on one of a tile of queries from ``query`` on may look at."""
        if not self.s.causal:
            return keys
        return self.min(keys, self.b.sub(self.b.add(query, I64(self.tile.columns)), key))

    def scores(
        self, of: dict[str, Matrix], key: Any, keys: Any, query: Any, packed: Any, target: Any, pitch: int
    ) -> None:
        """The scores of a tile of queries, of which hidden ones are -inf."""
        k = self.from_row(of["k"], key)
        whole = (I64(0), I64(self.s.d))
        self.product(
            self.tile, keys, k, Matrix(packed, I64(QUERIES)), lambda row: whole, self.into(self.tile, target, pitch)
        )
        for i, by_key in enumerate(self.s.masks):
            self._hide(of[f"mask{i}"], by_key, key, keys, query, target, pitch)
        if self.s.causal:
            b, rows = self.b, self.rounded(keys, self.tile.rows)
            begin = self.max(I64(0), b.sub(b.add(query, I64(1)), key))
            with self.e.loop(begin, rows) as row:
                number = self.e.splat(b.add(key, row))
                for j in range(self.tile.vectors):
                    queries = b.add(self.e.splat(b.add(query, I64(j * LANES))), self.e.lanes())
                    self._keep(b.icmp_signed("<=", number, queries), target, b.mul(row, I64(pitch)), j)

    def _keep(self, allowed: Any, target: Any, start: Any, j: int) -> None:
        at = self.b.add(start, I64(j * LANES))
        hidden = self.e.const(scalar_type(self.dtype), -math.inf)
        self.store(self.b.select(allowed, self.load(target, at), hidden), target, at)

    def _hide(self, mask: Matrix, by_key: bool, key: Any, keys: Any, query: Any, target: Any, pitch: int) -> None:
        e, b, last = self.e, self.b, self.b.sub(self.t, I64(1))
        with e.loop(I64(0), keys, LANES) as row:
            for j in range(self.tile.vectors):
                queries = [self.min(b.add(query, I64(j * LANES + i)), last) for i in range(LANES)]
                first = b.add(key, row) if by_key else I64(0)
                places = [b.add(b.mul(q, mask.row), first) for q in queries]
                with e.masked(e.tail_mask(b.sub(keys, row))):
                    rows = [(e.load if by_key else e.load_one)(mask.base, at, dtypes.uint8) for at in places]
                for i, column in enumerate(transposed(self.b, rows)):
                    allowed = b.icmp_unsigned("!=", column, ir.Constant(column.type, None))
                    self._keep(allowed, target, b.mul(b.add(row, I64(i)), I64(pitch)), j)

    def exp(self, x: Lanes) -> Lanes:
        """``e^x`` for numbers that are at most a little above 0; 0 where it is no normal number."""
        p, n = exp_parts(x)
        low = -87.0 if self.dtype == dtypes.float32 else -708.0
        return where(x < low, 0.0, p * power_of_two(n))
