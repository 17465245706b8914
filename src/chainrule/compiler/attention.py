"""Attention forward and backward, a block of keys at a time, so that all scores are never there at once.

The maximum and the sum of exponentials run along over blocks of keys (Dao et al., arXiv 2205.14135, algorithms 1 and
4). Forward an item is a block of queries, backward a head or, where there are few, a part of its keys (Dao, arXiv
2307.08691).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
from llvmlite import ir

from .. import dtypes
from ..graph.ir import Node
from .kernel import Call, Code, Frame, Lowered, Ref
from .math.lanes import Lanes, where
from .math.logarithm import log
from .packing import transposed
from .scores import KEYS, QUERIES, Matrix, ScoreKernel, Shape, up
from .tiling import CHUNK_FLOPS
from .vector import I64, LANES, scalar_type
from .views import View, row_major

PARTS = 8
"""Heads, or parts of heads, that there should be for the threads backward."""

LIKE = {"attention": (0, None), "attention_gradients": (3, 4, 5)}
"""For each result, the input in whose order of axes it lies in memory."""


class _Forward(ScoreKernel):
    """An item is a block of queries of a head."""

    @staticmethod
    def areas(s: Shape) -> dict[str, int]:
        return {
            "packed": up(s.d, LANES) * QUERIES, "results": (up(s.e, LANES) + 8) * QUERIES,
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
            self.fill(area["results"], I64(s.e * QUERIES), 0.0)
            self.fill(area["totals"], I64(QUERIES), 0.0)
            self.fill(area["tops"], I64(QUERIES), -math.inf)
            with e.loop(I64(0), end, KEYS) as key, e.loop(I64(0), count, columns) as column:
                first = b.add(query, column)
                keys = self.visible(self.min(I64(KEYS), b.sub(end, key)), key, first)
                with b.if_then(b.icmp_signed(">", keys, I64(0))):
                    self._tile(of, key, keys, first, column)
            self._finish(of, query, count)

    def _tile(self, of: dict[str, Matrix], key: Any, keys: Any, query: Any, column: Any) -> None:
        columns = self.tile.columns
        packed, results = (self.e.address(x, column, self.dtype) for x in (self.area["packed"], self.area["results"]))
        self.scores(of, key, keys, query, packed, self.area["weights"], columns)
        corrections = [self._exponentials(keys, column, j).v for j in range(self.tile.vectors)]
        v = self.from_row(of["v"], key)
        self.product(
            self.tile, I64(self.s.e), Matrix(v.base, I64(1), v.row), Matrix(self.area["weights"], I64(columns)),
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
        with e.loop(I64(0), self.rounded(keys, self.tile.rows), self.tile.rows) as row:
            found = [self.load(self.area["weights"], place(b.add(row, I64(i)))) for i in range(self.tile.rows)]
            best = reduce(_larger, map(self.lanes, found))  # what is beyond the last key is as its scores or hidden
            b.store(_larger(self.lanes(b.load(top, typ=of)), best).v, top)
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

    def _finish(self, of: dict[str, Matrix], query: Any, count: Any) -> None:
        b, e, s = self.b, self.e, self.s
        out, logs = self.from_row(of["out"], query), self.from_row(of["log"], query)
        with e.loop(I64(0), count, LANES) as q:
            total, top = self.lanes(self.load(self.area["totals"], q)), self.lanes(self.load(self.area["tops"], q))
            total, top = where(total.eq(0.0), 1.0, total), where(top.eq(-math.inf), 0.0, top)
            share = 1.0 / total
            with e.masked(e.tail_mask(b.sub(count, q))):
                self.store((top + log(total)).v, logs.base, q)
            with e.loop(I64(0), I64(s.e), LANES) as column:
                at = b.add(b.mul(column, I64(QUERIES)), q)
                found = [self.load(self.area["results"], b.add(at, I64(i * QUERIES))) for i in range(LANES)]
                rows = transposed(b, [b.fmul(x, share.v) for x in found])
                with e.masked(e.tail_mask(b.sub(I64(s.e), column)) if s.e % LANES else None):
                    for i, value in enumerate(rows):
                        row = b.add(q, I64(i))
                        with b.if_then(b.icmp_signed("<", row, count)):
                            self.store(value, out.base, b.add(b.mul(row, out.row), column))


def _larger(x: Lanes, y: Lanes) -> Lanes:
    return where(y > x, y, x)


class _Backward(ScoreKernel):
    """An item is a head, or a part of its keys: then ``dq`` is what that part adds to it."""

    @staticmethod
    def areas(s: Shape) -> dict[str, int]:
        rows = KEYS + 8
        return {
            "q": up(s.d, LANES) * QUERIES, "ct": up(s.e, LANES) * QUERIES, "weights": rows * QUERIES,
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

    def fill_row(self, x: Matrix, columns: int) -> None:
        zero = ir.Constant(self.e.of(self.dtype), None)
        self.e.blocks(columns, lambda i: self.store(zero, x.base, i))

    def _keys(self, of: dict[str, Matrix], key: Any, keys: Any) -> None:
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
                self._columns(keys, Matrix(given, I64(QUERIES)), operand, span, target, n)
        self._deliver(self.area["dk"], of["dk"], key, keys, s.d)
        self._deliver(self.area["dv"], of["dv"], key, keys, s.e)

    def _columns(self, rows: Any, a: Matrix, b: Matrix, span: Any, target: Any, n: int) -> None:
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

    def _tile(self, of: dict[str, Matrix], key: Any, keys: Any, query: Any, column: Any, count: Any) -> None:
        """Weights and slopes of a tile of queries, and what they add to ``dq``."""
        b, e, s = self.b, self.e, self.s
        first = b.add(query, column)
        packed_q, packed_ct, weights, slopes = (
            e.address(x, column, self.dtype)
            for x in (self.area["q"], self.area["ct"], self.area["weights"], self.area["slopes"])
        )
        self.scores(of, key, keys, first, packed_q, weights, QUERIES)
        v, into = self.from_row(of["v"], key), self.into(self.tile, slopes, QUERIES)
        self.product(self.tile, keys, v, Matrix(packed_ct, I64(QUERIES)), lambda row: (I64(0), I64(s.e)), into)
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

    def _queries(self, of: dict[str, Matrix], key: Any, keys: Any, query: Any, rows: Any, slopes: Any) -> None:
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
            self.product(tile, rows, Matrix(slopes, I64(1), I64(QUERIES)), here, span, deliver, masks)

    def _deliver(self, source: Any, target: Matrix, key: Any, keys: Any, n: int) -> None:
        with self.e.loop(I64(0), keys) as row:
            start, there = self.b.mul(row, I64(self.s.width(n))), self.from_row(target, self.b.add(key, row)).base
            self.e.blocks(n, lambda i: self.store(self.load(source, self.b.add(start, i)), there, i))


class _Sum(ScoreKernel):
    """Adds up the parts of ``dq`` in order; an item is a row."""

    def emit(self) -> None:
        b, e, of = self.b, self.e, self.e.of(self.dtype)
        (part_stride,) = self.frame.words[-1:]
        with e.loop(self.frame.begin, self.frame.end) as item:
            head, row = self.enter(b.udiv(item, self.t)), b.urem(item, self.t)
            source, target = self.from_row(head["parts"], row), self.from_row(head["dq"], row)

            def columns(i: Any, source: Matrix = source, target: Matrix = target) -> None:
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
    kind: type[ScoreKernel], s: Shape, sizes: Sequence[int], operands: _Operands, items: int, flops: int, *more: int
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
    s = Shape(dtype.name, d, e, causal, by_key, len(batch))
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
