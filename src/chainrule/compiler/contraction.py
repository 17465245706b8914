"""The kernel of all contractions: out[batch, m, n] = sum over k of a[batch, m, k] * b[batch, k, n].

Each of batch, m and k is a list of dimensions with any strides, so that a convolution is a product too. Numbers of
``a`` are read one by one and multiplied with 16 columns of ``b``, which must be contiguous: see `packing`.
A tile of some rows by some vectors stays in registers while k runs (the micro-kernel of Goto and van de Geijn,
Anatomy of high-performance matrix multiplication, ACM TOMS 34(3), 2008; with an address for each row, as in
Georganas et al., arXiv 1906.06440). The sum over k is added up in pieces: see `tiling`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir

from .. import dtypes
from ..dtypes import DType
from .kernel import Frame, Ref, apart
from .tiling import Axis
from .vector import I32, I64, LANES, Emitter, is_float, scalar_type

#: Terms of a sum for which what its finish reads comes into the cache meanwhile.
FETCH_TERMS = 64


class Store(NamedTuple):
    """What a `Finish` does in a kernel.

    Attributes:
        write: ``write(e, values, row, column)`` emits the code that stores 16 columns from ``column`` on, of each part.
        fetch: ``fetch(e, row, column)`` emits the code that brings what ``write`` will read into the cache.
    """

    write: Callable[[Emitter, list[Any], Any, Any], None]
    fetch: Callable[[Emitter, Any, Any], None] | None = None


class Finish(NamedTuple):
    """What is done with a finished product on its way to memory.

    Attributes:
        key: says all that the code depends on.
        refs: the buffers it uses.
        words: the numbers it uses.
        emit: ``emit(frame, pointers, words)``, called at the entry of the kernel, gives a `Store`, whose rows are
            counted over all batches.
    """

    key: str
    refs: tuple[Ref, ...]
    words: tuple[int, ...]
    emit: Callable[[Frame, list[Any], list[Any]], Store]


class Structure(NamedTuple):
    """What the code of a kernel depends on; all else is numbers at run time.

    ``narrow``: whether no more than half of a tile's last vector is columns of the result: "always", or in the "last"
    panel, or never, "".
    """

    dtype: str
    tile_rows: int
    vectors: int
    batch: int
    rows: int
    k: int
    axis: int
    packed: bool
    unit_a: bool
    unit_out: bool
    masked: bool
    tail: bool
    in_pieces: bool
    parts: int = 1
    narrow: str = ""


#: The numbers that kernels get, before those of the dimensions.
WORDS = (
    "m", "n", "block_rows", "block_panels", "panels", "row_blocks", "column_blocks", "batches", "panel",
    "piece", "pieces", "split_pieces", "splits", "split_step", "row_step", "column_step", "batch_rows", "first_row",
    "sums", "part_step",
)  # fmt: skip
GROUPS = ("batch", "rows", "k")


def word_names(s: Structure) -> list[str]:
    """Names of the numbers that a kernel gets, in order."""
    axes = ((group, i, field) for group in GROUPS for i in range(getattr(s, group)) for field in Axis._fields)
    return [*WORDS, *(f"{group}{i}.{field}" for group, i, field in axes)]


class Kernel:
    """What the two kernels share: batches, rows, and where results go."""

    def __init__(self, frame: Frame, s: Structure, words: dict[str, Any], store: Store | None) -> None:
        self.frame, self.e, self.b, self.s, self.w = frame, frame.e, frame.b, s, words
        self.dtype = _dtype(s.dtype)
        self.store = store
        self.out = frame.buffers[0]
        self.batch: dict[str, Any] = {}

    def emit(self) -> None:
        """All items."""
        with self.e.loop(self.frame.begin, self.frame.end) as item:
            self.item(item)

    def item(self, item: Any) -> None:
        """One item."""
        raise NotImplementedError

    def divmod(self, x: Any, by: Any) -> tuple[Any, Any]:
        """Quotient and remainder of numbers that are not negative."""
        return self.b.udiv(x, by), self.b.urem(x, by)

    def min(self, x: Any, y: Any) -> Any:
        """The smaller one."""
        return self.e.intrinsic("smin", x, y)

    def of_axes(self, group: str, index: Any) -> tuple[list[Any], dict[str, Any]]:
        """The index along each dimension of a group, and the sums of index times stride."""
        b, sums = self.b, dict.fromkeys(("a", "b", "out"), I64(0))
        indices: list[Any] = []
        for i in reversed(range(getattr(self.s, group))):
            if i:
                index, one = self.divmod(index, self.w[f"{group}{i}.extent"])
            else:
                one = index
            indices.insert(0, one)
            sums = {f: b.add(sums[f], b.mul(one, self.w[f"{group}{i}.{f}"])) for f in sums}
        return indices, sums

    def enter_batch(self, number: Any) -> None:
        """Note the offsets of a batch."""
        self.batch = self.of_axes("batch", number)[1]
        self.batch["row"] = self.b.mul(number, self.w["batch_rows"])

    def fill_rows(self, first: Any, count: Any) -> None:
        """Write to scratch, for ``count`` rows, the offset in ``a`` and the number of the row in the output."""
        b, e, n = self.b, self.e, self.s.rows
        indices, sums = self.of_axes("rows", first)
        sums["out"] = b.add(sums["out"], self.w["first_row"])
        places = [e.variable(I64, i) for i in indices]
        at = {f: e.variable(I64, sums[f]) for f in ("a", "out")}
        with e.loop(I64(0), count) as row:
            for j, f in enumerate(at):
                b.store(b.load(at[f], typ=I64), self.row_entry(row, j))
            if n:
                self._next_row(n - 1, places, at)

    def _next_row(self, i: int, places: list[Any], at: dict[str, Any]) -> None:
        b = self.b
        for f, place in at.items():
            b.store(b.add(b.load(place, typ=I64), self.w[f"rows{i}.{f}"]), place)
        index = b.add(b.load(places[i], typ=I64), I64(1))
        b.store(index, places[i])
        if i == 0:
            return
        extent = self.w[f"rows{i}.extent"]
        with b.if_then(b.icmp_signed("==", index, extent)):
            b.store(I64(0), places[i])
            for f, place in at.items():
                back = b.mul(extent, self.w[f"rows{i}.{f}"])
                b.store(b.sub(b.load(place, typ=I64), back), place)
            self._next_row(i - 1, places, at)

    def row_entry(self, row: Any, field: int) -> Any:
        """Address of what `fill_rows` wrote."""
        index = self.b.add(self.b.mul(row, I64(2)), I64(field))
        return self.b.gep(self.frame.scratch, [index], source_etype=I64)

    def finish(self, values: list[Any], row: Any, column: Any) -> None:
        """Store 16 columns of a row (by its entry), of each part."""
        if not self.s.tail:
            self._finish(values, row, column)
            return
        rest = self.b.sub(self.w["n"], column)
        with self.b.if_else(self.b.icmp_signed(">=", rest, I64(LANES))) as (whole, part):
            with whole:
                self._finish(values, row, column)
            with part, self.e.masked(self.e.tail_mask(rest)):
                self._finish(values, row, column)

    def _finish(self, values: list[Any], row: Any, column: Any) -> None:
        b, e, w = self.b, self.e, self.w
        out_row = b.load(self.row_entry(row, 1), typ=I64)
        if self.store:
            self.store.write(e, values, b.add(self.batch["row"], out_row), column)
            return
        start = b.add(self.batch["out"], b.mul(out_row, w["row_step"]))
        for i, value in enumerate(values):
            at = b.add(column, b.mul(w["n"], I64(i))) if i else column
            self._store(value, start, at)

    def _store(self, value: Any, start: Any, column: Any) -> None:
        b, e, w = self.b, self.e, self.w
        if self.s.unit_out:
            e.store(value, self.out, b.add(start, column), self.dtype)
            return
        columns = b.add(e.splat(column), e.lanes())
        where = b.add(e.splat(start), b.mul(columns, e.splat(w["column_step"])))
        e.scatter(value, self.out, where, self.dtype)


_LANES = ir.Constant(ir.VectorType(I32, LANES), [I32(i) for i in range(LANES)])


class Contraction(Kernel):
    """The kernel itself; an item is a block of rows and columns of a batch, for one split of k."""

    def item(self, item: Any) -> None:
        """One item."""
        b, e, s, w = self.b, self.e, self.s, self.w
        self.a, self.bb, self.out = self.frame.buffers[:3]
        self.sums = b.gep(self.frame.scratch, [w["sums"]], source_etype=ir.IntType(8))
        item, row_block = self.divmod(item, w["row_blocks"])
        item, column_block = self.divmod(item, w["column_blocks"])
        split, batch = self.divmod(item, w["batches"])
        self.enter_batch(batch)
        self.batch["out"] = b.add(self.batch["out"], b.mul(split, w["split_step"]))
        first = b.mul(row_block, w["block_rows"])
        self.count = self.min(w["block_rows"], b.sub(w["m"], first))
        self.first_panel = b.mul(column_block, w["block_panels"])
        self.n_panels = self.min(w["block_panels"], b.sub(w["panels"], self.first_panel))
        self.fill_rows(first, self.count)
        if not s.in_pieces:
            self.tiles(None, None, None)
            return
        begin = b.mul(split, w["split_pieces"])
        end = self.min(b.add(begin, w["split_pieces"]), w["pieces"])
        last = b.sub(end, I64(1))
        with e.loop(begin, end) as piece:
            self.tiles(piece, b.icmp_signed("==", piece, begin), b.icmp_signed("==", piece, last))

    def tiles(self, piece: Any, first: Any, last: Any) -> None:
        """All tiles of a block, for one piece of k."""
        b, e, s, w = self.b, self.e, self.s, self.w
        start_a, start_b, self.cut = I64(0), self.batch["b"], None
        if piece is not None:
            begin = b.mul(piece, w["piece"])
            self.cut = self.min(w["piece"], b.sub(w[f"k{s.axis}.extent"], begin))
            start_a = b.mul(begin, w[f"k{s.axis}.a"])
            start_b = b.add(start_b, b.mul(begin, w[f"k{s.axis}.b"]))
        with e.loop(I64(0), self.count, s.tile_rows) as row:
            pointers = self._row_pointers(row)
            with e.loop(I64(0), self.n_panels) as panel:
                number = b.add(self.first_panel, panel)
                column = b.mul(number, I64(s.vectors * LANES))
                at_b = b.add(start_b, b.mul(number, w["panel"]))
                place = self._place(row, panel)
                self._multiply_parts(pointers, row, column, start_a, at_b, place, first, last)
                if last is None:
                    apart(b, lambda: self._finish_tile(row, column, place))
                else:
                    with b.if_then(last):
                        apart(b, lambda: self._finish_tile(row, column, place))

    def _row_pointers(self, row: Any) -> list[Any]:
        """The address of each row of a tile; beyond the last row, that of the last."""
        b = self.b
        last, found = b.sub(self.count, I64(1)), []
        for r in range(self.s.tile_rows):
            entry = self.row_entry(self.min(b.add(row, I64(r)), last), 0)
            offset = b.add(self.batch["a"], b.load(entry, typ=I64))
            found.append(self.e.address(self.a, offset, self.dtype))
        return found

    def _place(self, row: Any, panel: Any) -> Any:
        """Where the sums of a tile are kept."""
        if not self.s.in_pieces:
            return self.sums
        b, s = self.b, self.s
        tile = b.add(b.mul(b.udiv(row, I64(s.tile_rows)), self.w["block_panels"]), panel)
        return self.e.address(self.sums, b.mul(tile, I64(s.parts * s.tile_rows * s.vectors * LANES)), self.dtype)

    def _fetch(self, row: Any, column: Any, part: Any, last: Any) -> None:
        """Bring what the finish of a tile reads into the cache while its sums are computed, if that takes longer.

        Some rows with each part: a processor waits for few lines at a time.
        """
        b, e, s = self.b, self.e, self.s
        if self.store is None or self.store.fetch is None:
            return
        terms = I64(1)
        for i in range(s.k):
            terms = b.mul(terms, self.w[f"k{i}.extent"])
        pays = b.icmp_signed(">=", terms, I64(FETCH_TERMS))
        final = b.sub(self.count, I64(1))
        each = -(-s.tile_rows // s.parts)
        begin = b.mul(part, I64(each))
        end = self.min(b.add(begin, I64(each)), I64(s.tile_rows))
        with b.if_then(pays if last is None else b.and_(pays, last)), e.loop(begin, end) as r:
            out_row = b.load(self.row_entry(self.min(b.add(row, r), final), 1), typ=I64)
            for j in range(s.vectors):
                self.store.fetch(e, b.add(self.batch["row"], out_row), b.add(column, I64(j * LANES)))

    def _multiply_parts(
        self, pointers: list[Any], row: Any, column: Any, start_a: Any, start_b: Any, place: Any, first: Any, last: Any
    ) -> None:
        """The sums of the same tile of each part, kept one behind the other."""
        b, s = self.b, self.s
        if s.parts == 1:
            self._fetch(row, column, I64(0), last)
            self._tile(pointers, column, start_a, start_b, place, first)
            return
        with self.e.loop(I64(0), I64(s.parts)) as part:
            self._fetch(row, column, part, last)
            sums = self._multiply(pointers, column, start_a, b.add(start_b, b.mul(part, self.w["part_step"])))
            at = b.mul(part, I64(s.tile_rows * s.vectors * LANES))
            self._keep(sums, self.e.address(place, at, self.dtype), first)

    def _tile(self, pointers: list[Any], column: Any, start_a: Any, start_b: Any, place: Any, first: Any) -> None:
        """The sums of a tile, kept; for the last one with half a vector less, if that is all that there is."""
        b, s = self.b, self.s

        def sums(narrow: bool) -> None:
            self._keep(self._multiply(pointers, column, start_a, start_b, narrow), place, first)

        if s.narrow != "last":
            sums(s.narrow == "always")
            return
        end = b.add(column, I64(s.vectors * LANES))
        with b.if_else(b.icmp_signed(">", end, self.w["n"])) as (short, whole):
            with short:
                sums(True)
            with whole:
                sums(False)

    def _multiply(
        self, pointers: list[Any], column: Any, start_a: Any, start_b: Any, narrow: bool = False
    ) -> list[Any]:
        """The sums of a tile over a piece of k, row by row."""
        s, b = self.s, self.b
        widths = [LANES] * (s.vectors - 1) + [LANES // 2 if narrow else LANES]
        self.columns = [self.e if width == LANES else Emitter(b, width, self.e.status) for width in widths]
        masks = [None] * s.vectors
        if s.masked:
            rest = b.sub(self.w["n"], column)
            masks = [e.tail_mask(b.sub(rest, I64(LANES * j))) for j, e in enumerate(self.columns)]
        sums = [ir.Constant(e.of(self.dtype), None) for e in self.columns] * s.tile_rows
        return self._over_k(0, pointers, masks, start_a, start_b, sums)

    def _over_k(
        self, level: int, pointers: list[Any], masks: list[Any], at_a: Any, at_b: Any, sums: list[Any]
    ) -> list[Any]:
        """Loops over the dimensions of k from ``level`` on. Sums are values, so that they stay in registers."""
        b, s, w = self.b, self.s, self.w
        if level == s.k:
            return self._step(pointers, masks, at_a, at_b, sums)
        inner = level == s.k - 1
        step_a = I64(1) if inner and s.unit_a else w[f"k{level}.a"]
        step_b = I64(s.vectors * LANES) if inner and s.packed else w[f"k{level}.b"]
        count = self.cut if self.cut is not None and level == s.axis else w[f"k{level}.extent"]

        def step(state: list[Any]) -> list[Any]:
            a, bb, *inside = state
            return [b.add(a, step_a), b.add(bb, step_b), *self._over_k(level + 1, pointers, masks, a, bb, inside)]

        return self.e.repeat(count, [at_a, at_b, *sums], step)[2:]

    def _step(self, pointers: list[Any], masks: list[Any], at_a: Any, at_b: Any, sums: list[Any]) -> list[Any]:
        """One k: an outer product of a column of numbers and a row of vectors."""
        b, s = self.b, self.s
        vectors = []
        for j, (e, mask) in enumerate(zip(self.columns, masks, strict=True)):
            with e.masked(mask):
                vectors.append(e.load(self.bb, b.add(at_b, I64(j * LANES)), self.dtype))
        result = []
        for r, pointer in enumerate(pointers):
            number = b.load(
                self.e.address(pointer, at_a, self.dtype), align=self.dtype.itemsize, typ=scalar_type(self.dtype)
            )
            for j, (e, vector) in enumerate(zip(self.columns, vectors, strict=True)):
                old = sums[r * s.vectors + j]
                if is_float(self.dtype):
                    result.append(e.fma(e.splat(number), vector, old))
                else:
                    result.append(b.add(old, b.mul(e.splat(number), vector)))
        return result

    def _keep(self, sums: list[Any], place: Any, first: Any) -> None:
        """Store the sums of a tile, or add them to those of the pieces before."""
        b, e = self.b, self.e
        zero = ir.Constant(e.of(self.dtype), None)
        for i, value in enumerate(sums):
            at = I64(i * LANES)
            if value.type != zero.type:
                value = b.shuffle_vector(value, ir.Constant(value.type, None), _LANES)
            if first is not None:
                before = b.select(first, zero, e.load(place, at, self.dtype))
                value = b.fadd(before, value) if is_float(self.dtype) else b.add(before, value)
            e.store(value, place, at, self.dtype)

    def _finish_tile(self, row: Any, column: Any, place: Any) -> None:
        b, e, s = self.b, self.e, self.s
        rows = self.min(I64(s.tile_rows), b.sub(self.count, row))
        needed = b.ashr(b.add(b.sub(self.w["n"], column), I64(LANES - 1)), I64(4))
        vectors = I64(1) if s.vectors == 1 else self.min(I64(s.vectors), needed)
        with e.loop(I64(0), rows) as r, e.loop(I64(0), vectors) as j:
            at = b.add(b.mul(r, I64(s.vectors)), j)
            tile = s.tile_rows * s.vectors
            values = [e.load(place, b.mul(b.add(at, I64(i * tile)), I64(LANES)), self.dtype) for i in range(s.parts)]
            self.finish(values, b.add(row, r), b.add(column, b.mul(j, I64(LANES))))


class Sum(Kernel):
    """Adds up the partial results of splits, in order; an item is a block of rows of a batch."""

    def item(self, item: Any) -> None:
        """One item."""
        b, e, w = self.b, self.e, self.w
        partial, self.out = self.frame.buffers[:2]
        batch, row_block = self.divmod(item, w["row_blocks"])
        self.enter_batch(batch)
        first = b.mul(row_block, w["block_rows"])
        count = self.min(w["block_rows"], b.sub(w["m"], first))
        self.fill_rows(first, count)
        before = b.add(b.mul(batch, w["m"]), first)
        with e.loop(I64(0), count) as row:
            here = b.mul(b.add(before, row), b.mul(w["n"], I64(self.s.parts)))

            def columns(column: Any, row: Any = row, here: Any = here) -> None:
                starts = [b.add(here, b.mul(w["n"], I64(i))) for i in range(self.s.parts)]
                self._finish([self._total(partial, b.add(start, column)) for start in starts], row, column)

            self._columns(columns)

    def _total(self, partial: Any, at: Any) -> Any:
        """The sum over all splits of 16 columns."""
        b, e, w = self.b, self.e, self.w
        total = e.variable(e.of(self.dtype), ir.Constant(e.of(self.dtype), None))
        with e.loop(I64(0), w["splits"]) as split:
            value = e.load(partial, b.add(at, b.mul(split, w["split_step"])), self.dtype)
            old = b.load(total, typ=e.of(self.dtype))
            b.store(b.fadd(old, value) if is_float(self.dtype) else b.add(old, value), total)
        return b.load(total, typ=e.of(self.dtype))

    def _columns(self, body: Callable[[Any], None]) -> None:
        b, e, n = self.b, self.e, self.w["n"]
        whole = b.and_(n, I64(-LANES)) if self.s.tail else n
        with e.loop(I64(0), whole, LANES) as column:
            body(column)
        if self.s.tail:
            with e.masked(e.tail_mask(b.sub(n, whole))):
                body(whole)


def _dtype(name: str) -> DType:
    return getattr(dtypes, name)
