"""From a product of any dimensions to the calls of its kernels, with a finish for the results."""

from __future__ import annotations

from dataclasses import dataclass, replace

from llvmlite import ir

from ..dtypes import DType
from .contraction import GROUPS, WORDS, Contraction, Finish, Kernel, Structure, Sum, word_names
from .kernel import Call, Code, Frame, Lowered, Ref
from .tiling import CHUNK_FLOPS, Axis, Blocks, Tile, choose_blocks, collapse, size
from .vector import LANES


@dataclass
class Product:
    """A contraction to be lowered.

    Attributes:
        batch, rows, k: dimensions. ``out`` is in elements for a batch dimension, in rows of the output for ``rows``.
        n: number of columns; column ``i`` of ``b`` lies ``i`` elements after column 0, within a panel.
        a, b, out: the buffers.
        row_step, column_step: strides of the output, in elements.
        panel: distance between panels (of a tile's width) of a packed ``b``; None if it is not packed.
        batch_rows: rows of the output in a batch, by which `Finish` counts.
        first_row: the row of the output that is row 0 here.
        parts: how many parts of ``n`` columns there are, the same ones of which are finished together.
        part_step: from one part to the next in ``b``.
        long: the sum is over a batch: the code is for several pieces, though there be one for a small batch.
    """

    dtype: DType
    tile: Tile
    batch: list[Axis]
    rows: list[Axis]
    k: list[Axis]
    n: int
    a: Ref
    b: Ref
    out: Ref
    row_step: int
    column_step: int = 1
    panel: int | None = None
    batch_rows: int = 0
    first_row: int = 0
    parts: int = 1
    part_step: int = 0
    long: bool = False


def lower_product(product: Product, lowered: Lowered, finish: Finish | None = None) -> None:
    """Append the calls that compute a product, and their temporary buffers.

    Args:
        product: what to compute.
        lowered: where to append.
        finish: what to do with the results; None to store them.
    """
    p = replace(product, batch=collapse(product.batch), rows=collapse(product.rows), k=collapse(product.k))
    batches, m, total = size(p.batch), size(p.rows), size(p.k)
    if 0 in (batches, m, p.n):
        return
    if total == 0:
        p.k = [Axis(0)]
    blocks = choose_blocks(batches, m, p.n, p.k, p.tile, p.dtype.itemsize, p.parts)
    if blocks.splits == 1:
        lowered.calls.append(_call(p, blocks, finish))
        return
    # Every split writes a dense product of its own; then these are added up in order.
    n = p.n * p.parts
    step = batches * m * n
    lowered.temps.append(blocks.splits * step * p.dtype.itemsize)
    partial = Ref("temp", len(lowered.temps) - 1)
    dense = replace(
        p, batch=_dense(p.batch, m * n), rows=_dense(p.rows, 1), out=partial, row_step=n, column_step=1, first_row=0
    )
    lowered.calls.append(_call(dense, blocks, None, step))
    lowered.calls.append(_sum_call(p, blocks, finish, partial, step))


def _dense(axes: list[Axis], step: int) -> list[Axis]:
    done: list[Axis] = []
    for axis in reversed(axes):
        done.insert(0, axis._replace(out=step))
        step *= axis.extent
    return done


def _in_pieces(p: Product, blocks: Blocks) -> bool:
    return blocks.pieces > 1 or (p.long and bool(p.k))


def _structure(p: Product, blocks: Blocks) -> Structure:
    masked = p.panel is None and p.n % p.tile.columns != 0
    narrow = ""
    if p.parts == 1 and LANES // 2 <= -p.n % p.tile.columns < LANES:
        narrow = "always" if p.n <= p.tile.columns else "last"
    return Structure(
        str(p.dtype), p.tile.rows, p.tile.vectors, len(p.batch), len(p.rows), len(p.k), blocks.axis,
        packed=p.panel is not None, unit_a=bool(p.k) and p.k[-1].a == 1, unit_out=p.column_step == 1,
        masked=masked, tail=p.n % LANES != 0, in_pieces=_in_pieces(p, blocks), parts=p.parts,
        narrow=narrow,
    )  # fmt: skip


def _words(p: Product, blocks: Blocks, split_step: int) -> dict[str, int]:
    """The numbers by their names, in order."""
    m, columns = size(p.rows), p.tile.columns
    panels, block_panels = -(-p.n // columns), blocks.columns // columns
    table = -(-blocks.rows * 16 // 64) * 64
    values = [
        m, p.n, blocks.rows, block_panels, panels, -(-m // blocks.rows), -(-panels // block_panels), size(p.batch),
        columns if p.panel is None else p.panel, blocks.piece, blocks.pieces, -(-blocks.pieces // blocks.splits),
        blocks.splits, split_step, p.row_step, p.column_step, p.batch_rows, p.first_row,
        table, p.part_step,
    ]  # fmt: skip
    named = dict(zip(WORDS, values, strict=True))
    for group in GROUPS:
        for i, axis in enumerate(getattr(p, group)):
            named |= {f"{group}{i}.{field}": value for field, value in axis._asdict().items()}
    return named


def _finished(
    kind: type[Kernel], s: Structure, buffers: tuple[Ref, ...], words: dict[str, int], finish: Finish | None
) -> tuple[Code, tuple[Ref, ...], tuple[int, ...]]:
    """The code of a kernel with its finish, and all its buffers and numbers."""
    key = f"{kind.__name__.lower()} {tuple(s)} finish {finish.key if finish else None}"
    n_refs, n_words = (len(finish.refs), len(finish.words)) if finish else (0, 0)

    def build(module: ir.Module, name: str) -> None:
        names = word_names(s)
        frame = Frame(module, name, len(buffers) + n_refs, len(names) + n_words)
        store = None
        if finish:
            store = finish.emit(frame, frame.buffers[len(buffers) :], frame.words[len(names) :])
        kind(frame, s, dict(zip(names, frame.words, strict=False)), store).emit()
        frame.done()

    more = (finish.refs, finish.words) if finish else ((), ())
    return Code(key, build), (*buffers, *more[0]), (*words.values(), *more[1])


def _call(p: Product, blocks: Blocks, finish: Finish | None, split_step: int = 0) -> Call:
    words = _words(p, blocks, split_step)
    code, refs, numbers = _finished(Contraction, _structure(p, blocks), (p.a, p.b, p.out), words, finish)
    items = words["row_blocks"] * words["column_blocks"] * words["batches"] * blocks.splits
    flops = 2 * words["batches"] * words["m"] * p.n * p.parts * size(p.k)
    tile_bytes = p.tile.rows * p.tile.columns * p.parts * p.dtype.itemsize
    tiles = -(-blocks.rows // p.tile.rows) * words["block_panels"] if _in_pieces(p, blocks) else 1
    grain = max(1, CHUNK_FLOPS * items // max(flops, 1))
    return Call(code, refs, numbers, items, min(grain, items), flops, words["sums"] + tiles * tile_bytes)


def _sum_call(p: Product, blocks: Blocks, finish: Finish | None, partial: Ref, step: int) -> Call:
    """The call that adds up the partial results of the splits, ``step`` elements from one to the next."""
    rows = max(1, min(size(p.rows), (16 << 10) // (p.n * p.parts)))
    words = _words(p, blocks._replace(rows=rows), step)
    # The structure without what only the contraction depends on.
    s = (
        _structure(p, blocks)
        ._replace(tile_rows=0, vectors=0, axis=0, packed=False, unit_a=False, masked=False)
        ._replace(narrow="")
    )
    s = s._replace(in_pieces=False, narrow="")
    code, refs, numbers = _finished(Sum, s, (partial, p.out), words, finish)
    items = words["row_blocks"] * words["batches"]
    return Call(code, refs, numbers, items, 1, blocks.splits * step, words["sums"])
