"""Attention, forward and backward, a block of keys at a time, whose scores lie in scratch memory.

Scores are held with a row for each key and queries in the lanes: then a maximum and a sum over keys combine whole
vectors, and in all five products numbers of one operand meet vectors of another (see `contraction`), of which only
queries and cotangents have to be transposed. The maximum and the sum of exponentials run along over blocks of keys
(Dao et al., arXiv 2205.14135, algorithms 1 and 4); forward an item is a block of queries, backward all of a head or,
where there are few heads, a part of its keys (Dao, arXiv 2307.08691). What `causal` hides is left out tile by tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from .. import dtypes
from ..dtypes import DType
from ..graph.ir import Node
from .kernel import Call, Code, Frame, Lowered, Ref
from .math.exponential import exp_parts
from .math.lanes import Lanes, power_of_two, where
from .math.logarithm import log
from .tiling import CHUNK_FLOPS, Tile, choose_tile
from .vector import F64, I32, I64, LANES, scalar_type
from .views import View, row_major

KEYS = 128
"""Keys of a block: so many terms of a sum are added up one by one before the result joins the others."""
QUERIES = 64
"""Queries of a block."""
PARTS = 8
"""Heads, or parts of heads, that there should be for the threads backward."""

LIKE = {"attention": (0, None), "attention_gradients": (3, 4, 5)}
"""For each result, the input in whose order of axes it lies in memory."""


class _Shape(NamedTuple):
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
        return _up(n, self.tile(n).columns)


class _Matrix(NamedTuple):
    """Numbers at ``base``: element (i, j) is ``i * row + j * column`` further on."""

    base: Any
    row: Any
    column: Any = I64(1)


def _up(n: int, to: int) -> int:
    return -(-n // to) * to


class _Kernel:
    """What all kernels share: operands, scratch memory, products and scores."""

    def __init__(self, frame: Frame, s: _Shape, names: Sequence[str]) -> None:
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
    def areas(s: _Shape) -> dict[str, int]:
        """How many elements of scratch memory each part needs, multiples of the lanes."""
        return {}

    def emit(self) -> None:
        """All items."""
        raise NotImplementedError

    def enter(self, batch: Any) -> dict[str, _Matrix]:
        """The operands of one head."""
        b, offsets = self.b, dict.fromkeys(self.strides, I64(0))
        for i in reversed(range(self.s.batch)):
            index = batch if i == 0 else b.urem(batch, self.extents[i])
            batch = b.udiv(batch, self.extents[i])
            offsets = {n: b.add(at, b.mul(index, self.strides[n][i])) for n, at in offsets.items()}
        found = {}
        for name, at in offsets.items():
            dtype = dtypes.bool_ if name.startswith("mask") else self.dtype
            found[name] = _Matrix(self.e.address(self.pointers[name], at, dtype), self.strides[name][-1])
        return found

    def from_row(self, x: _Matrix, row: Any) -> _Matrix:
        """The matrix from a row on."""
        return x._replace(base=self.e.address(x.base, self.b.mul(row, x.row), self.dtype))

    def min(self, x: Any, y: Any) -> Any:
        return self.e.intrinsic("smin", x, y)

    def max(self, x: Any, y: Any) -> Any:
        return self.e.intrinsic("smax", x, y)

    def lanes(self, x: Any) -> Lanes:
        return Lanes(self.e, x)

    def load(self, base: Any, index: Any) -> Any:
        return self.e.load(base, index, self.dtype)

    def store(self, value: Any, base: Any, index: Any) -> None:
        self.e.store(value, base, index, self.dtype)

    def fill(self, base: Any, count: Any, value: float) -> None:
        """Set elements, a multiple of the lanes, to a number."""
        constant = self.e.const(scalar_type(self.dtype), value)
        self.e.blocks(count, lambda i: self.store(constant, base, i), even=True)

    def transposed(self, rows: list[Any]) -> list[Any]:
        """The columns of 16 vectors."""
        for bit in (1, 2, 4, 8):
            for i in (i for i in range(LANES) if not i & bit):
                a, c = rows[i], rows[i + bit]
                low = [lane if not lane & bit else LANES + lane - bit for lane in range(LANES)]
                high = [lane + bit if not lane & bit else LANES + lane for lane in range(LANES)]
                picked = [ir.Constant(ir.VectorType(ir.IntType(32), LANES), some) for some in (low, high)]
                rows[i], rows[i + bit] = (self.b.shuffle_vector(a, c, some) for some in picked)
        return rows

    def pack(self, source: _Matrix, count: Any, columns: int, target: Any, factor: Any = None) -> None:
        """Transpose ``count`` rows into rows of `QUERIES`; beyond the last row it is repeated."""
        e, b, last = self.e, self.b, self.b.sub(count, I64(1))
        with e.loop(I64(0), self.rounded(count, self.tile.columns), LANES) as q:
            places = [b.mul(self.min(b.add(q, I64(i)), last), source.row) for i in range(LANES)]
            with e.loop(I64(0), I64(columns), LANES) as c:
                with e.masked(e.tail_mask(b.sub(I64(columns), c)) if columns % LANES else None):
                    rows = [self.load(source.base, b.add(at, c)) for at in places]
                at = b.add(b.mul(c, I64(QUERIES)), q)
                for i, column in enumerate(self.transposed(rows)):
                    value = column if factor is None else b.fmul(column, factor)
                    self.store(value, target, b.add(at, I64(i * QUERIES)))

    def rounded(self, n: Any, to: int) -> Any:
        """The next multiple."""
        return self.b.mul(self.b.udiv(self.b.add(n, I64(to - 1)), I64(to)), I64(to))

    def product(
        self, tile: Tile, rows: Any, a: _Matrix, b: _Matrix, span: Callable[[Any], tuple[Any, Any]],
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
        self, of: dict[str, _Matrix], key: Any, keys: Any, query: Any, packed: Any, target: Any, pitch: int
    ) -> None:
        """The scores of a tile of queries, of which hidden ones are -inf."""
        k = self.from_row(of["k"], key)
        whole = (I64(0), I64(self.s.d))
        self.product(
            self.tile, keys, k, _Matrix(packed, I64(QUERIES)), lambda row: whole, self.into(self.tile, target, pitch)
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

    def _hide(self, mask: _Matrix, by_key: bool, key: Any, keys: Any, query: Any, target: Any, pitch: int) -> None:
        e, b, last = self.e, self.b, self.b.sub(self.t, I64(1))
        with e.loop(I64(0), keys, LANES) as row:
            for j in range(self.tile.vectors):
                queries = [self.min(b.add(query, I64(j * LANES + i)), last) for i in range(LANES)]
                first = b.add(key, row) if by_key else I64(0)
                places = [b.add(b.mul(q, mask.row), first) for q in queries]
                with e.masked(e.tail_mask(b.sub(keys, row))):
                    rows = [(e.load if by_key else e.load_one)(mask.base, at, dtypes.uint8) for at in places]
                for i, column in enumerate(self.transposed(rows)):
                    allowed = b.icmp_unsigned("!=", column, ir.Constant(column.type, None))
                    self._keep(allowed, target, b.mul(b.add(row, I64(i)), I64(pitch)), j)

    def exp(self, x: Lanes) -> Lanes:
        """``e^x`` for numbers that are at most a little above 0; 0 where it is no normal number."""
        p, n = exp_parts(x)
        low = -87.0 if self.dtype == dtypes.float32 else -708.0
        return where(x < low, 0.0, p * power_of_two(n))


class _Forward(_Kernel):
    """An item is a block of queries of a head."""

    @staticmethod
    def areas(s: _Shape) -> dict[str, int]:
        return {
            "packed": _up(s.d, LANES) * QUERIES, "results": (_up(s.e, LANES) + 8) * QUERIES,
            "weights": (KEYS + 8) * s.tile(2 * LANES).columns, "tops": QUERIES, "totals": QUERIES,
        }  # fmt: skip

    def emit(self) -> None:
        b, e, s, area = self.b, self.e, self.s, self.area
        columns = self.tile.columns
        with e.loop(self.frame.begin, self.frame.end) as item:
            of = self.enter(b.udiv(item, self.parts))
            query = b.mul(b.urem(item, self.parts), I64(QUERIES))
            count = self.min(I64(QUERIES), b.sub(self.t, query))
            end = self.min(self.keys, b.add(query, count)) if s.causal else self.keys
            self.pack(self.from_row(of["q"], query), count, s.d, area["packed"], self.scale)
            for base, n, value in ((self.area["results"], s.e * QUERIES, 0.0), (self.area["totals"], QUERIES, 0.0)):
                self.fill(base, I64(n), value)
            self.fill(self.area["tops"], I64(QUERIES), -math.inf)
            with e.loop(I64(0), end, KEYS) as key, e.loop(I64(0), count, columns) as column:
                first = b.add(query, column)
                keys = self.visible(self.min(I64(KEYS), b.sub(end, key)), key, first)
                with b.if_then(b.icmp_signed(">", keys, I64(0))):
                    self._tile(of, key, keys, first, column)
            self._finish(of, query, count)

    def _tile(self, of: dict[str, _Matrix], key: Any, keys: Any, query: Any, column: Any) -> None:
        columns = self.tile.columns
        packed, results = (self.e.address(x, column, self.dtype) for x in (self.area["packed"], self.area["results"]))
        self.scores(of, key, keys, query, packed, self.area["weights"], columns)
        corrections = [self._exponentials(keys, column, j).v for j in range(self.tile.vectors)]
        v = self.from_row(of["v"], key)
        self.product(
            self.tile, I64(self.s.e), _Matrix(v.base, I64(1), v.row), _Matrix(self.area["weights"], I64(columns)),
            lambda row: (I64(0), keys), self.into(self.tile, results, QUERIES, corrections),
        )  # fmt: skip

    def _exponentials(self, keys: Any, column: Any, j: int) -> Lanes:
        """Turn scores into weights, and give the factor that brings what was added up before to the new maximum."""
        b, e, of = self.b, self.e, self.e.of(self.dtype)
        here = b.add(column, I64(j * LANES))
        before = self.lanes(self.load(self.area["tops"], here))

        def place(row: Any) -> Any:
            return b.add(b.mul(row, I64(self.tile.columns)), I64(j * LANES))

        top, total = e.variable(of, before.v), e.variable(of, ir.Constant(of, None))
        with e.loop(I64(0), keys) as row:
            x, best = self.lanes(self.load(self.area["weights"], place(row))), self.lanes(b.load(top, typ=of))
            b.store(where(x > best, x, best).v, top)
        best = self.lanes(b.load(top, typ=of))
        shift = where(best.eq(-math.inf), 0.0, best)
        with e.loop(I64(0), keys) as row:
            weight = self.exp(self.lanes(self.load(self.area["weights"], place(row))) - shift)
            self.store(weight.v, self.area["weights"], place(row))
            b.store(b.fadd(b.load(total, typ=of), weight.v), total)
        correction = self.exp(before - shift)
        old = self.load(self.area["totals"], here)
        self.store(e.fma(old, correction.v, b.load(total, typ=of)), self.area["totals"], here)
        self.store(best.v, self.area["tops"], here)
        return correction

    def _finish(self, of: dict[str, _Matrix], query: Any, count: Any) -> None:
        b, e, s = self.b, self.e, self.s
        out, logs = self.from_row(of["out"], query), self.from_row(of["log"], query)
        with e.loop(I64(0), count, LANES) as q:
            total, top = self.lanes(self.load(self.area["totals"], q)), self.lanes(self.load(self.area["tops"], q))
            total, top = where(total.eq(0.0), 1.0, total), where(top.eq(-math.inf), 0.0, top)
            with e.masked(e.tail_mask(b.sub(count, q))):
                self.store((top + log(total)).v, logs.base, q)
            with e.loop(I64(0), I64(s.e), LANES) as column:
                at = b.add(b.mul(column, I64(QUERIES)), q)
                found = [self.load(self.area["results"], b.add(at, I64(i * QUERIES))) for i in range(LANES)]
                rows = self.transposed([b.fdiv(x, total.v) for x in found])
                with e.masked(e.tail_mask(b.sub(I64(s.e), column)) if s.e % LANES else None):
                    for i, value in enumerate(rows):
                        row = b.add(q, I64(i))
                        with b.if_then(b.icmp_signed("<", row, count)):
                            self.store(value, out.base, b.add(b.mul(row, out.row), column))


class _Backward(_Kernel):
    """An item is a head, or a part of its keys: then ``dq`` is what that part adds to it."""

    @staticmethod
    def areas(s: _Shape) -> dict[str, int]:
        rows = KEYS + 8
        return {
            "q": _up(s.d, LANES) * QUERIES, "ct": _up(s.e, LANES) * QUERIES, "weights": rows * QUERIES,
            "slopes": rows * QUERIES, "dk": rows * s.width(s.d), "dv": rows * s.width(s.e), "dq": 8 * s.width(s.d),
        }  # fmt: skip

    def emit(self) -> None:
        b, e, s = self.b, self.e, self.s
        part_stride, part_keys = self.frame.words[-2:]
        with e.loop(self.frame.begin, self.frame.end) as item:
            of, part = self.enter(b.udiv(item, self.parts)), b.urem(item, self.parts)
            of["dq"] = of["dq"]._replace(base=e.address(of["dq"].base, b.mul(part, part_stride), self.dtype))
            begin = b.mul(part, part_keys)
            end = self.min(self.keys, b.add(begin, part_keys))
            with e.loop(I64(0), self.t) as row:
                self.fill_row(self.from_row(of["dq"], row), s.d)
            with e.loop(begin, end, KEYS) as key:
                self._keys(of, key, self.min(I64(KEYS), b.sub(end, key)))

    def fill_row(self, x: _Matrix, columns: int) -> None:
        zero = ir.Constant(self.e.of(self.dtype), None)
        self.e.blocks(columns, lambda i: self.store(zero, x.base, i))

    def _keys(self, of: dict[str, _Matrix], key: Any, keys: Any) -> None:
        """A block of keys with all queries that look at one of them."""
        b, e, s = self.b, self.e, self.s
        for base, n in ((self.area["dk"], s.d), (self.area["dv"], s.e)):
            self.fill(base, b.mul(self.rounded(keys, self.tile.rows), I64(s.width(n))), 0.0)
        first = b.mul(b.udiv(key, I64(QUERIES)), I64(QUERIES)) if s.causal else I64(0)
        with e.loop(first, self.t, QUERIES) as query:
            count = self.min(I64(QUERIES), b.sub(self.t, query))
            q, ct = self.from_row(of["q"], query), self.from_row(of["ct"], query)
            self.pack(q, count, s.d, self.area["q"], self.scale)
            self.pack(ct, count, s.e, self.area["ct"])
            with e.loop(I64(0), count, self.tile.columns) as column:
                visible = self.visible(keys, key, b.add(query, column))
                with b.if_then(b.icmp_signed(">", visible, I64(0))):
                    self._tile(of, key, visible, query, column, count)
            start = b.sub(key, query)

            def span(row: Any, start: Any = start, count: Any = count) -> tuple[Any, Any]:
                if not s.causal:
                    return I64(0), count
                return self.max(I64(0), b.add(start, row)), count

            for given, operand, target, n in (
                (self.area["weights"], ct, self.area["dv"], s.e),
                (self.area["slopes"], q, self.area["dk"], s.d),
            ):
                self._columns(keys, _Matrix(given, I64(QUERIES)), operand, span, target, n)
        self._deliver(self.area["dk"], of["dk"], key, keys, s.d)
        self._deliver(self.area["dv"], of["dv"], key, keys, s.e)

    def _columns(self, rows: Any, a: _Matrix, b: _Matrix, span: Any, target: Any, n: int) -> None:
        """Add a product with ``n`` columns to what is in scratch memory."""
        e, tile = self.e, self.s.tile(n)
        one = [e.const(scalar_type(self.dtype), 1.0)] * tile.vectors
        with e.loop(I64(0), I64(n), tile.columns) as column:
            there = e.address(target, column, self.dtype)
            here = b._replace(base=e.address(b.base, column, self.dtype))
            deliver = self.into(tile, there, self.s.width(n), one)
            self.product(tile, rows, a, here, span, deliver, self._tails(n, column))

    def _tails(self, n: int, column: Any) -> list[Any] | None:
        """The masks of the vectors of a tile from a column on."""
        tile = self.s.tile(n)
        if n % tile.columns == 0:
            return None
        rest = self.b.sub(I64(n), column)
        return [self.e.tail_mask(self.b.sub(rest, I64(j * LANES))) for j in range(tile.vectors)]

    def _tile(self, of: dict[str, _Matrix], key: Any, keys: Any, query: Any, column: Any, count: Any) -> None:
        """Weights and slopes of a tile of queries, and what they add to ``dq``."""
        b, e, s = self.b, self.e, self.s
        first = b.add(query, column)
        packed_q, packed_ct, weights, slopes = (
            e.address(x, column, self.dtype)
            for x in (self.area["q"], self.area["ct"], self.area["weights"], self.area["slopes"])
        )
        self.scores(of, key, keys, first, packed_q, weights, QUERIES)
        v, into = self.from_row(of["v"], key), self.into(self.tile, slopes, QUERIES)
        self.product(self.tile, keys, v, _Matrix(packed_ct, I64(QUERIES)), lambda row: (I64(0), I64(s.e)), into)
        for j in range(self.tile.vectors):
            at_query = b.add(first, I64(j * LANES))
            with e.masked(e.tail_mask(b.sub(self.t, at_query))):
                logs, deltas = (
                    self.lanes(e.load_strided(x.base, b.mul(at_query, x.row), x.row, self.dtype))
                    for x in (of["log"], of["delta"])
                )
            with e.loop(I64(0), self.rounded(keys, self.tile.rows)) as row:
                at = b.add(b.mul(row, I64(QUERIES)), I64(j * LANES))
                weight = self.exp(self.lanes(self.load(weights, at)) - logs)
                slope = weight * self.lanes(self.scale) * (self.lanes(self.load(slopes, at)) - deltas)
                self.store(weight.v, weights, at)
                self.store(slope.v, slopes, at)
        rows = self.min(I64(self.tile.columns), b.sub(count, column))
        self._queries(of, key, keys, first, rows, slopes)

    def _queries(self, of: dict[str, _Matrix], key: Any, keys: Any, query: Any, rows: Any, slopes: Any) -> None:
        """Add to ``dq`` what a block of keys gives."""
        b, e, s, tile = self.b, self.e, self.s, self.s.tile(self.s.d)
        k, dq, ahead = self.from_row(of["k"], key), self.from_row(of["dq"], query), b.sub(query, key)

        def span(row: Any) -> tuple[Any, Any]:
            if not s.causal:
                return I64(0), keys
            return I64(0), self.min(keys, b.add(ahead, b.add(row, I64(tile.rows))))

        with e.loop(I64(0), I64(s.d), tile.columns) as column:
            masks = self._tails(s.d, column)

            def deliver(row: Any, sums: list[Any], column: Any = column) -> None:
                self.into(tile, self.area["dq"], tile.columns)(I64(0), sums)
                count = self.min(I64(tile.rows), b.sub(rows, row))
                with e.loop(I64(0), count) as i:
                    there = self.from_row(dq, b.add(row, i)).base
                    for j, mask in enumerate(masks or [None] * tile.vectors):
                        at = b.add(column, I64(j * LANES))
                        more = self.load(self.area["dq"], b.add(b.mul(i, I64(tile.columns)), I64(j * LANES)))
                        with e.masked(mask):
                            self.store(b.fadd(self.load(there, at), more), there, at)

            here = k._replace(base=e.address(k.base, column, self.dtype))
            self.product(tile, rows, _Matrix(slopes, I64(1), I64(QUERIES)), here, span, deliver, masks)

    def _deliver(self, source: Any, target: _Matrix, key: Any, keys: Any, n: int) -> None:
        with self.e.loop(I64(0), keys) as row:
            start, there = self.b.mul(row, I64(self.s.width(n))), self.from_row(target, self.b.add(key, row)).base
            self.e.blocks(n, lambda i: self.store(self.load(source, self.b.add(start, i)), there, i))


class _Sum(_Kernel):
    """Adds up the parts of ``dq`` in order; an item is a row."""

    def emit(self) -> None:
        b, e, of = self.b, self.e, self.e.of(self.dtype)
        (part_stride,) = self.frame.words[-1:]
        with e.loop(self.frame.begin, self.frame.end) as item:
            head, row = self.enter(b.udiv(item, self.t)), b.urem(item, self.t)
            source, target = self.from_row(head["parts"], row), self.from_row(head["dq"], row)

            def columns(i: Any, source: _Matrix = source, target: _Matrix = target) -> None:
                total = e.variable(of, ir.Constant(of, None))
                with e.loop(I64(0), self.parts) as part:
                    at = b.add(b.mul(part, part_stride), i)
                    b.store(b.fadd(b.load(total, typ=of), self.load(source.base, at)), total)
                self.store(b.load(total, typ=of), target.base, i)

            e.blocks(self.s.d, columns)


# --- lowering ---------------------------------------------------------------------------------------------

_Operands = Mapping[str, tuple[Ref, View]]
_OF_QUERIES = ("log", "delta")  # one number each


def _call(
    kind: type[_Kernel], s: _Shape, sizes: Sequence[int], operands: _Operands, items: int, flops: int, *more: int
) -> Call:
    """A call; the numbers T, S, of parts and the scale come first, then the extents in front."""
    words = [*sizes]
    for name, (_, view) in operands.items():
        words += view.strides if name in _OF_QUERIES else view.strides[:-1]
    words += more
    refs = [Ref(ref.kind, ref.number, view.offset * view.root.dtype.itemsize) for ref, view in operands.values()]

    def build(module: ir.Module, name: str) -> None:
        frame = Frame(module, name, len(refs), len(words))
        kind(frame, s, list(operands)).emit()
        frame.done()

    scratch = sum(kind.areas(s).values()) * getattr(dtypes, s.dtype).itemsize
    grain = max(1, min(items, CHUNK_FLOPS * items // max(flops, 1)))
    code = Code(f"{kind.__name__} of attention {tuple(s)} {s.tile(2 * LANES)}", build)
    return Call(code, tuple(refs), tuple(words), items, grain, flops, scratch, 0.015 * flops)


def lower(node: Node, reads: Sequence[View], writes: Sequence[View]) -> Lowered:
    """The calls for a node, given how what it reads and writes lies in memory; rows are consecutive elements."""
    forward = node.primitive.name == "attention"
    names = ["q", "k", "v"] if forward else ["ct", "delta", "log", "q", "k", "v"]
    names += [f"mask{i}" for i in range(len(reads) - len(names))]
    results = ("out", "log") if forward else ("dq", "dk", "dv")
    inputs = {name: (Ref("in", i), view) for i, (name, view) in enumerate(zip(names, reads, strict=True))}
    roots = list(dict.fromkeys(view.root for view in writes))
    outputs = {name: (Ref("out", roots.index(view.root)), view) for name, view in zip(results, writes, strict=True)}
    (*batch, t, d), (keys, e) = inputs["q"][1].shape, inputs["v"][1].shape[-2:]
    dtype, causal = writes[0].root.dtype, node.static["causal"]
    by_key = tuple(view.strides[-1] != 0 for view in reads[3 if forward else 6 :])
    s = _Shape(dtype.name, d, e, causal, by_key, len(batch))
    heads = math.prod(batch)
    # of a causal triangle, the rows up to the last key, and then all of the others
    pairs = heads * (min(t, keys) * (min(t, keys) + 1) // 2 + max(t - keys, 0) * keys if causal else t * keys)
    numbers = np.array(node.static["scale"], dtype).view(f"i{dtype.itemsize}").item(), *batch
    if forward:
        blocks = -(-t // QUERIES)
        return Lowered([
            _call(_Forward, s, (t, keys, blocks, *numbers), outputs | inputs, heads * blocks, 2 * pairs * (d + e))
        ])  # fmt: skip
    blocks = max(1, -(-keys // KEYS))
    in_part = -(-blocks // max(1, PARTS // max(1, heads)))
    parts, flops = -(-blocks // in_part), 2 * pairs * (3 * d + 2 * e)
    sizes = (t, keys, parts, *numbers)
    if parts == 1:
        return Lowered([_call(_Backward, s, sizes, outputs | inputs, heads, flops, 0, in_part * KEYS)])
    dq, size = outputs["dq"], heads * t * d
    part = Ref("temp", 0), dq[1]._replace(offset=0, strides=row_major(dq[1].shape))
    apart = {"dq": part} | {name: x for name, x in outputs.items() if name != "dq"} | inputs
    calls = [
        _call(_Backward, s, sizes, apart, heads * parts, flops, size, in_part * KEYS),
        _call(
            _Sum, s._replace(causal=False, masks=()), sizes, {"parts": part, "dq": dq}, heads * t, parts * size, size
        ),
    ]
    return Lowered(calls, [parts * size * dtype.itemsize])
