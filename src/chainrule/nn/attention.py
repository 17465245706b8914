"""Scaled dot-product attention, whose memory is linear in the length of the sequences.

Without dropout and with masks that only hide it is one primitive; else it is written out, in blocks where it is large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import checkpoint, functions as F, scan
from ..dtypes import FLOATING
from ..errors import ArgumentError, DTypeError, ShapeError
from ..functions.products import weighted_means
from ..tensor import Tensor, TensorLike
from .regularizing import dropout

__all__ = ["scaled_dot_product_attention"]

WHOLE = 2**23
"""Up to so many scores (32 MiB in float32) are computed at once."""
BLOCK = 2**21
"""So many scores a block of queries has otherwise."""
FEW = 4
"""So few queries (of a text that is generated, say) are rows of a product better than lanes of the primitive."""


def scaled_dot_product_attention(
    query: TensorLike,
    key: TensorLike,
    value: TensorLike,
    attn_mask: TensorLike | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    block: int | None = None,
    generator: F.Generator | None = None,
) -> Tensor:
    """``softmax(scale Q K^T + mask) V`` for each head (Vaswani et al., arXiv 1706.03762).

    A large matrix of scores is never there as a whole: it is made a block at a time, and once more backward (Rabe and
    Staats, arXiv 2112.05682; Dao et al., arXiv 2205.14135). So memory grows with L + S, not with their product, in both
    directions.

    Args:
        query: shape (..., heads, L, E); the leading axes may be left out.
        key: shape (..., heads, S, E).
        value: shape (..., heads, S, Ev).
        attn_mask: broadcasts to (..., heads, L, S); True where a query may look at a key, or numbers added to the
            scores.
        dropout_p: probability with which a weight is dropped; not only while training.
        is_causal: query i looks at keys 0 to i alone.
        scale: of the scores, ``1 / sqrt(E)`` unless given.
        enable_gqa: there may be fewer heads of keys and values, of which each serves a group of queries' heads that
            follow each other (Ainslie et al., arXiv 2305.13245).
        block: how many queries are done at once, L for all. Unless given, a kernel is used that needs none, or, where
            weights are dropped or numbers are added to the scores, it is chosen by the size of the scores.
        generator: random numbers of the dropout. Another block draws other ones.

    Returns:
        shape (..., heads, L, Ev); zeros for a query that may look at nothing.

    Raises:
        ShapeError: the shapes do not fit together.
        DTypeError: the dtypes differ, or the mask is of another kind.

    >>> q = cr.tensor([[0.0], [0.0]])
    >>> nn.functional.scaled_dot_product_attention(q, q, cr.tensor([[1.0], [3.0]]), is_causal=True)
    tensor([[1.],
            [2.]])
    """
    q, k, v = F.asarray(query), F.asarray(key), F.asarray(value)
    check_shapes(q, k, v, enable_gqa)
    if not 0 <= dropout_p <= 1:
        raise ArgumentError(_NAME, "dropout_p is a probability, 0 to 1", received=repr(dropout_p))
    if block is not None and block < 1:
        raise ArgumentError(_NAME, "block counts queries", received=repr(block))
    masks = [] if attn_mask is None else [F.asarray(attn_mask)]
    return attend(q, k, v, masks, is_causal, dropout_p, scale, block, generator)


_NAME = "scaled_dot_product_attention"


def check_shapes(q: Tensor, k: Tensor, v: Tensor, grouped: bool) -> None:
    received = f"query {q.shape}, key {k.shape}, value {v.shape}"
    if not q.dtype == k.dtype == v.dtype or q.dtype not in FLOATING:
        raise DTypeError(
            _NAME, "query, key and value are of one floating dtype", received=f"{q.dtype}, {k.dtype}, {v.dtype}"
        )
    if not q.ndim == k.ndim == v.ndim or q.ndim < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(
            _NAME, "needs a query (..., L, E), a key (..., S, E) and a value (..., S, Ev) of as many axes",
            received=received,
        )  # fmt: skip
    heads = [x.shape[-3] if x.ndim > 2 else 1 for x in (q, k, v)]
    if grouped and (0 in heads[1:] or heads[0] % heads[1] or heads[0] % heads[2]):
        raise ShapeError(_NAME, "the heads of keys and values must divide those of queries", received=received)
    try:
        np.broadcast_shapes(q.shape[:-3], k.shape[:-3], v.shape[:-3])
        if not grouped:
            np.broadcast_shapes(*((n,) for n in heads))
    except ValueError:
        fix = "" if grouped else "enable_gqa=True, if several heads of queries share one of keys"
        raise ShapeError(_NAME, "heads and leading axes must agree", received=received, fix=fix) from None


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    masks: Sequence[Tensor],
    causal: bool,
    dropout_p: float = 0.0,
    scale: float | None = None,
    block: int | None = None,
    generator: F.Generator | None = None,
) -> Tensor:
    """Attention with several masks, each cut into blocks by itself: their combination could be far larger than they."""
    *leading, rows, keys = check_masks(q, k, masks)
    per_row = math.prod(leading) * keys
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if block is None and not dropout_p and rows >= FEW and all(mask.dtype.name == "bool" for mask in masks):
        return _at_once(q, k, v, masks, causal, scale)
    if block is None:
        block = rows if per_row * rows <= WHOLE else 1 << max(16, BLOCK // per_row).bit_length() - 1
    full = rows // block if block < rows else 0
    how = (causal, dropout_p, scale, generator)
    if not full:
        values, total = _one_block(q, k, v, masks, 0, *how)
        return values / total
    by_row = [mask for mask in masks if mask.ndim > 1 and mask.shape[-2] > 1]
    fixed = [mask for mask in masks if mask.ndim < 2 or mask.shape[-2] == 1]

    def blocks(x: Tensor) -> Tensor:  # (..., L, n) -> (full, ..., block, n)
        return F.moveaxis(F.reshape(x[..., : full * block, :], (*x.shape[:-2], full, block, x.shape[-1])), -3, 0)

    def body(carry: tuple[()], here: tuple[Tensor, list[Tensor], Tensor]) -> tuple[tuple[()], tuple[Tensor, Tensor]]:
        queries, some, first = here
        return carry, _one_block(queries, k, v, [*some, *fixed], first, *how)

    _, stacked = scan(checkpoint(body), (), (blocks(q), [blocks(mask) for mask in by_row], F.arange(full) * block))
    parts = [[F.reshape(x := F.moveaxis(y, 0, -3), (*x.shape[:-3], full * block, x.shape[-1]))] for y in stacked]
    if full * block < rows:
        rest = [mask[..., full * block :, :] for mask in by_row]
        last = _one_block(q[..., full * block :, :], k, v, [*rest, *fixed], full * block, *how)
        parts = [[*part, x] for part, x in zip(parts, last, strict=True)]
    values, total = (F.concat(part, axis=-2) for part in parts)
    return values / total


def _at_once(q: Tensor, k: Tensor, v: Tensor, masks: Sequence[Tensor], causal: bool, scale: float) -> Tensor:
    """By the primitive; heads of queries that share one of keys are an axis of their own."""
    heads = math.lcm(k.shape[-3], v.shape[-3]) if q.ndim > 2 else 1
    if heads == 1 or q.shape[-3] <= heads:
        return weighted_means(q, k, v, masks, causal, scale)
    groups = q.shape[-3] // heads

    def grouped(x: Tensor) -> Tensor:  # (..., H, m, n) -> (..., heads, groups, m, n), or heads and groups of 1
        if x.ndim < 3:
            return x
        one = (1, 1) if x.shape[-3] == 1 else (heads, groups) if x.shape[-3] == q.shape[-3] else (heads, 1)
        return F.reshape(x, (*x.shape[:-3], *one, *x.shape[-2:]))

    k, v = (F.repeat(x, heads // x.shape[-3], axis=-3) for x in (k, v))
    out = weighted_means(grouped(q), grouped(k), grouped(v), list(map(grouped, masks)), causal, scale)
    return F.reshape(out, (*out.shape[:-4], *q.shape[-3:-1], v.shape[-1]))


def check_masks(q: Tensor, k: Tensor, masks: Sequence[Tensor]) -> tuple[int, ...]:
    """Return the shape of the scores, to which all masks must broadcast; they are bool or of the scores' dtype."""
    heads = map(max, q.shape[-3:-2], k.shape[-3:-2])
    scores = (*np.broadcast_shapes(q.shape[:-3], k.shape[:-3]), *heads, q.shape[-2], k.shape[-2])
    for mask in masks:
        received = f"a mask of {mask.dtype.name}{mask.shape}"
        if mask.dtype.name != "bool" and mask.dtype != q.dtype:
            raise DTypeError("attention", f"a mask is of bool or, as the query, {q.dtype.name}", received=received)
        if mask.ndim > len(scores) or any(
            n not in (1, m) for n, m in zip(mask.shape[::-1], scores[::-1], strict=False)
        ):
            raise ShapeError("attention", f"a mask broadcasts to the scores, {scores}", received=received)
    return scores


def _one_block(
    q: Tensor, k: Tensor, v: Tensor, masks: Sequence[Tensor], first: Tensor | int, causal: bool, dropout_p: float,
    scale: float, generator: F.Generator | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The weighted sums of values, and what they are still to be divided by.

    To divide these instead of the weights spares all work on the large matrix that the division would be, in both
    directions; and to do it outside of the loop spares its backward phase this product.
    """
    weights, total = unnormalized(q, k, masks, causal, scale, first)
    if v.dtype.name == "float16":  # whose largest number a sum of many weighted values may pass
        weights, total = weights / total, F.ones_like(total)
    return per_head("...ls,...sv->...lv", dropout(weights, dropout_p, generator=generator), v), total


def unnormalized(
    q: Tensor, k: Tensor, masks: Sequence[Tensor], causal: bool, scale: float, first: Tensor | int = 0
) -> tuple[Tensor, Tensor]:
    """The weights of attention before they are divided by their sums, at most 1, and these sums.

    Row i of ``q`` is query ``first + i``. The sum of a row without any key counts as 1.
    """
    scores = per_head("...le,...se->...ls", q * scale, k)
    if causal:
        number = first + F.arange(q.shape[-2])[:, None]
        masks = [*masks, number >= F.arange(k.shape[-2])]
    for mask in masks:  # added, so that nothing is left to do for it backward
        scores = scores + (F.where(mask, 0.0, -math.inf).astype(q.dtype) if mask.dtype.name == "bool" else mask)
    if not scores.size:
        return scores, F.ones((*scores.shape[:-1], 1), scores.dtype)
    top = F.max(scores.detach(), axis=-1, keepdims=True)
    weights = F.exp(scores - F.where(top == -math.inf, 0.0, top))
    total = F.sum(weights, axis=-1, keepdims=True)
    return weights, F.where(total == 0, 1.0, total)


def per_head(product: str, a: Tensor, b: Tensor) -> Tensor:
    """A product of matrices; several heads of ``a`` that share one of ``b`` are rows of one product."""
    if a.ndim < 3 or a.shape[-3] <= b.shape[-3]:
        return F.einsum(product, a, b)
    rows = a.shape[-3] // b.shape[-3] * a.shape[-2]
    out = F.einsum(product, F.reshape(a, (*a.shape[:-3], b.shape[-3], rows, a.shape[-1])), b)
    return F.reshape(out, (*out.shape[:-3], *a.shape[-3:-1], out.shape[-1]))
