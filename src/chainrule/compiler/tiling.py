"""How a product is cut: register tiles by the hardware, blocks by the caches, pieces of the sum by the shape alone.

Every element of a product is a sum over k, added up one by one within a piece of k, and piece by piece. The pieces
depend on the shape alone and nothing else changes the order, so all machines and thread counts get the same bits.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import llvmlite.binding as llvm

from ..dtypes import DType
from .vector import LANES

#: Terms of a sum that are added up one by one before the result joins the others.
PIECE = 512
#: How many chunks a large product should have, so that threads that start late or run slowly delay nobody.
CHUNKS = 16
#: Floating-point operations below which a chunk is not worth a thread: some 4 microseconds.
CHUNK_FLOPS = 400_000


class Axis(NamedTuple):
    """One dimension of a loop nest: its extent, and the strides in elements of the two inputs and of the output."""

    extent: int
    a: int = 0
    b: int = 0
    out: int = 0


class Tile(NamedTuple):
    """The part of the output that is in registers: ``rows`` by ``vectors`` of 16 columns."""

    rows: int
    vectors: int

    @property
    def columns(self) -> int:
        """Number of columns."""
        return self.vectors * LANES


class Blocks(NamedTuple):
    """What a chunk does: ``rows`` by ``columns`` of the output, for the pieces of one of ``splits`` parts of k.

    Attributes:
        axis: the dimension of k that is cut.
        piece: its extent in a piece.
        pieces: how many pieces there are.
        splits: into how many parts the pieces are divided; each is its own partial result.
    """

    rows: int
    columns: int
    axis: int
    piece: int
    pieces: int
    splits: int


def collapse(axes: Iterable[Axis]) -> list[Axis]:
    """The same loops with as few dimensions as possible."""
    done: list[Axis] = []
    for axis in axes:
        if axis.extent == 1:
            continue
        if done and done[-1][1:] == tuple(stride * axis.extent for stride in axis[1:]):
            axis = axis._replace(extent=done.pop().extent * axis.extent)
        done.append(axis)
    return done


def size(axes: Iterable[Axis]) -> int:
    """Number of points of a loop nest."""
    return math.prod(axis.extent for axis in axes)


@cache
def _registers() -> tuple[int, int]:
    """Bytes of a vector register, and how many there are."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 64, 32
    if features.get("avx"):
        return 32, 16
    return 16, 32 if platform.machine().lower() in ("aarch64", "arm64") else 16


def choose_tile(dtype: DType, m: int, n: int) -> Tile:
    """The register tile for an (m, n) output.

    At most 8 rows, since the address of each is in a general register of 16.
    """
    bytes_, count = _registers()
    each = max(LANES * dtype.itemsize // bytes_, 1)

    def fits(rows: int, vectors: int) -> bool:
        return (rows + 1) * vectors * each + 1 <= count

    most = 1 if m == 1 else 4 if m <= 4 else 8
    rows = max([r for r in (1, 2, 3, 4, 6, 8) if r <= most and fits(r, 1)], default=1)
    needed = max(math.ceil(n / LANES), 1)
    widths = [v for v in range(1, 5 if rows == 1 else 4) if v == 1 or (v <= needed and fits(rows, v))]
    return Tile(rows, min(widths, key=lambda v: (-(-needed // v) * v, -v)))


def choose_blocks(batch: int, m: int, n: int, k: list[Axis], tile: Tile, itemsize: int, parts: int = 1) -> Blocks:
    """How an (m, n) output with a sum over ``k`` is cut into chunks; the cuts of k are the same on all machines.

    The columns may be ``n`` of each of several parts: the sums are cut as if they were one behind the other.
    """
    total = size(k)
    wanted = max(round(total / PIECE), 1)
    axis = 0
    if k and k[0].extent < wanted:
        axis = max(range(len(k)), key=lambda i: (k[i].extent, -i))
    extent = k[axis].extent if k else 1
    piece = max(-(-extent // wanted), 1)
    pieces = max(-(-extent // piece), 1)
    flops = 2 * batch * m * n * parts * total
    # A weight gradient has a small output and a long sum: then the sum is divided among chunks.
    outputs = batch * -(-m // 128) * -(-n * parts // 128)
    splits = 1
    if outputs < CHUNKS // 2:
        splits = min(CHUNKS // outputs, pieces, max(flops // (10 * CHUNK_FLOPS), 1))
    splits = -(-pieces // -(-pieces // splits))
    depth = piece * (total // max(extent, 1)) * itemsize * parts
    rows, columns = _output_block(batch * splits, m, n, flops, depth, tile)
    return Blocks(rows, columns, axis, piece, pieces, splits)


def _output_block(parts: int, m: int, n: int, flops: int, depth: int, tile: Tile) -> tuple[int, int]:
    """Rows and columns of a chunk: its part of b stays in the second-level cache, and there are enough chunks."""
    row_tiles, column_tiles = -(-m // tile.rows), -(-n // tile.columns)
    rows = min(row_tiles, -(-128 // tile.rows))
    columns = min(column_tiles, max((256 << 10) // max(depth * tile.columns, 1), 1))

    def chunks() -> int:
        return parts * -(-row_tiles // rows) * -(-column_tiles // columns)

    while chunks() < CHUNKS and flops / chunks() > 2 * CHUNK_FLOPS and (rows > 2 or columns > 1):
        if rows * tile.rows > columns * tile.columns or columns == 1:
            rows = -(-rows // 2)
        else:
            columns = -(-columns // 2)
    return rows * tile.rows, columns * tile.columns
