"""Attention with several heads, and the cache of keys and values from which it goes on token by token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import functions as F
from ..errors import ArgumentError, IndexOutOfRangeError, ShapeError
from ..tensor import Cell, Tensor, TensorLike
from . import functional, init
from .attention import attend, check_masks, check_shapes, per_head, unnormalized
from .layers import Linear
from .module import Module
from .windows import same_dtype


class KVCache(Module):
    """The keys and values of all tokens so far, so that each is computed once while a text is generated.

    Its arrays have a fixed size, so a compiled step that adds one token is compiled once.

    Args:
        batch_size: number of sequences N.
        num_heads: heads H of keys and values.
        max_len: for how many tokens S there is room.
        head_dim: features D of a head.
        dtype: of keys and values.

    >>> attention, cache = nn.MultiheadAttention(8, 2), nn.KVCache(1, 2, 16, 4)
    >>> for token in cr.ones((3, 1, 1, 8)):
    ...     y, _ = attention(token, token, token, need_weights=False, cache=cache)
    >>> int(cache.length)
    3
    """

    def __init__(self, batch_size: int, num_heads: int, max_len: int, head_dim: int, dtype: Any = None) -> None:
        shape = (batch_size, num_heads, max_len, head_dim)
        if min(shape) < 1:
            raise ArgumentError("KVCache", "sizes are positive", received=f"shape {shape}")
        self.keys = Cell(F.zeros(shape, dtype))
        self.values = Cell(F.zeros(shape, dtype))
        self.length = Cell(F.asarray(0))

    def update(self, k: TensorLike, v: TensorLike) -> tuple[Tensor, Tensor, Tensor]:
        """Append the keys and values of T tokens.

        Args:
            k, v: shape (N, H, T, D).

        Returns:
            all keys and values, shape (N, H, S, D), and for each of the T tokens at which of them it may look, bool of
            shape (T, S): those up to itself.

        Raises:
            ShapeError: the shapes do not fit.
            IndexOutOfRangeError: there is no room for T more.
        """
        n, heads, room, size = self.keys.shape
        k, v = same_dtype("KVCache", k, self.keys), same_dtype("KVCache", v, self.values)
        if k.shape != v.shape or (*k.shape[:-2], *k.shape[-1:]) != (n, heads, size):
            received = f"shapes {k.shape} and {v.shape}"
            raise ShapeError("KVCache", f"takes keys and values ({n}, {heads}, T, {size})", received=received)
        count, start = k.shape[-2], self.length.read()
        try:
            if count > room:
                raise IndexOutOfRangeError("KVCache", f"{count} tokens at once")
            keys, values = (
                F.dynamic_update_slice(cell, new, (0, 0, start, 0)) for cell, new in ((self.keys, k), (self.values, v))
            )
        except IndexOutOfRangeError as error:
            raise IndexOutOfRangeError(
                "KVCache", f"there is room for {room} tokens: {error.message}", fix="a larger max_len, or reset()"
            ) from None
        self.keys.assign(keys)
        self.values.assign(values)
        self.length.assign(start + count)
        return keys, values, F.arange(room) <= start + F.arange(count)[:, None]

    forward = update

    def reset(self) -> None:
        """Forget all tokens."""
        for cell in (self.keys, self.values, self.length):
            cell.assign(F.zeros_like(cell))

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.keys.shape}"


class MultiheadAttention(Module):
    """Attention of several heads, each in a space of its own (Vaswani et al., arXiv 1706.03762).

    Queries, keys and values are ``x W^T + b`` cut into heads; the heads' results are joined and pass a linear layer.

    Args:
        embed_dim: features E of queries and results.
        num_heads: number of heads H; each has E / H features.
        dropout: probability with which a weight is dropped while training.
        bias: whether the linear layers have biases.
        add_bias_kv: a learned key and value are appended to the others.
        add_zero_attn: a key and value of zeros are appended.
        kdim, vdim: features of keys and values, E unless given.
        batch_first: always True; sequences are (N, T, E) here.
        dtype: of the weights.
        num_kv_heads: heads of keys and values, of which each serves ``num_heads / num_kv_heads`` heads of queries that
            follow each other (Ainslie et al., arXiv 2305.13245); as many as ``num_heads`` unless given.
        rotary: a `RotaryEmbedding` of E / H features, for queries and keys.
        generator: random numbers of the dropout.

    Shapes: in_proj_weight (3 E, E), in_proj_bias (3 E,), fewer rows with fewer heads of keys and values; if ``kdim`` or
    ``vdim`` differ, q_proj_weight (E, E), k_proj_weight (E, kdim) and v_proj_weight (E, vdim) instead; bias_k and
    bias_v (1, 1, E); out_proj.weight (E, E). The first start uniform by `chainrule.nn.init.xavier`, biases at 0, bias_k
    and bias_v normal with standard deviation ``1 / sqrt(E)``.

    >>> x = cr.ones((2, 5, 8))
    >>> y, weights = nn.MultiheadAttention(8, 2)(x, x, x)
    >>> y.shape, weights.shape
    ((2, 5, 8), (2, 5, 5))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = True,
        dtype: Any = None,
        *,
        num_kv_heads: int | None = None,
        rotary: Module | None = None,
        generator: F.Generator | None = None,
    ) -> None:
        kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if min(embed_dim, num_heads, kv_heads) < 1 or embed_dim % num_heads or num_heads % kv_heads:
            raise ArgumentError(
                "MultiheadAttention", "num_heads must divide embed_dim, and num_kv_heads num_heads",
                received=f"embed_dim={embed_dim}, num_heads={num_heads}, num_kv_heads={kv_heads}",
            )  # fmt: skip
        if not 0 <= dropout <= 1:
            raise ArgumentError("MultiheadAttention", "dropout is a probability, 0 to 1", received=repr(dropout))
        sequences_are_batch_first("MultiheadAttention", batch_first)
        self.embed_dim, self.num_heads, self.num_kv_heads = embed_dim, num_heads, kv_heads
        self.head_dim = embed_dim // num_heads
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        self.dropout, self.add_zero_attn, self.rotary, self.generator = dropout, add_zero_attn, rotary, generator
        n = kv_heads * self.head_dim
        self._sizes = (embed_dim, n, n)
        rule, zeros = init.xavier(), init.constant(0.0)
        self.in_proj_weight = self.q_proj_weight = self.k_proj_weight = self.v_proj_weight = None
        if self.kdim == self.vdim == embed_dim:
            self.in_proj_weight = init.parameter((sum(self._sizes), embed_dim), rule, dtype)
        else:
            self.q_proj_weight = init.parameter((embed_dim, embed_dim), rule, dtype)
            self.k_proj_weight = init.parameter((n, self.kdim), rule, dtype)
            self.v_proj_weight = init.parameter((n, self.vdim), rule, dtype)
        self.in_proj_bias = init.parameter((sum(self._sizes),), zeros, dtype) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype)
        if bias:
            self.out_proj.bias = init.parameter((embed_dim,), zeros, dtype)
        appended = init.normal(1 / math.sqrt(n))
        self.bias_k = init.parameter((1, 1, n), appended, dtype) if add_bias_kv else None
        self.bias_v = init.parameter((1, 1, n), appended, dtype) if add_bias_kv else None

    def forward(
        self,
        query: TensorLike,
        key: TensorLike,
        value: TensorLike,
        key_padding_mask: TensorLike | None = None,
        need_weights: bool = True,
        attn_mask: TensorLike | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        *,
        cache: KVCache | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """(N, L, E), (N, S, kdim), (N, S, vdim) -> (N, L, E) and the weights.

        Args:
            query, key, value: the batch axis may be left out. The same tensor three times needs one product.
            key_padding_mask: shape (N, S), True for keys that are not looked at, or numbers added to the scores.
            need_weights: return the weights; without them memory grows with L + S, not with their product.
            attn_mask: shape (L, S) or (N * H, L, S), True where a query may not look at a key, or numbers added to the
                scores. It is the other way round in `chainrule.nn.functional.scaled_dot_product_attention`.
            average_attn_weights: the weights are the means over all heads, else there is an axis of heads.
            is_causal: query i looks at keys 0 to i alone; a mask may come on top.
            cache: the keys and values so far, to which these are appended. Each token looks at all up to itself; masks
                have as many keys as the cache.

        Returns:
            the results, and the weights (N, L, S) or (N, H, L, S), or None.
        """
        q, k, v = (self._heads(x) for x in self._projected(query, key, value))
        masks = self._masks(key_padding_mask, attn_mask, q.shape)
        if self.rotary is not None:
            offset = 0 if cache is None else cache.length.read()
            q, k = self.rotary(q, offset), self.rotary(k, offset)
        if cache is not None:
            k, v, allowed = cache.update(k, v)
            masks, is_causal = [*masks, allowed], False
        if self.bias_k is not None or self.add_zero_attn:
            k, v, masks = self._appended(k, v, masks, q.shape[-2] if is_causal else 0)
            is_causal = False
        check_shapes(q, k, v, True)
        p = self.dropout if self.training else 0.0
        if not need_weights:
            return self._joined(attend(q, k, v, masks, is_causal, p, generator=self.generator)), None
        check_masks(q, k, masks)
        weights, total = unnormalized(q, k, masks, is_causal, 1 / math.sqrt(self.head_dim))
        weights = functional.dropout(weights / total, p, generator=self.generator)
        out = self._joined(per_head("...ls,...sv->...lv", weights, v))
        return out, F.mean(weights, axis=-3) if average_attn_weights else weights

    def _projected(self, query: TensorLike, key: TensorLike, value: TensorLike) -> list[Tensor]:
        """Queries, keys and values, (..., T, heads * D); what has the same input is one product."""
        weight, bias, sizes = self.in_proj_weight, self.in_proj_bias, self._sizes
        if weight is None:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
            biases = (None,) * 3 if bias is None else F.split(bias, sizes)
            return [functional.linear(*xs) for xs in zip((query, key, value), weights, biases, strict=True)]
        same = 3 if query is key is value else 1
        inputs = [(query, same)] + ([] if same == 3 else [(key, 2)] if key is value else [(key, 1), (value, 1)])
        found: list[Tensor] = []
        for x, count in inputs:
            start, some = sum(sizes[: len(found)]), sizes[len(found) : len(found) + count]
            rows = slice(start, start + sum(some))
            y = functional.linear(x, weight[rows], None if bias is None else bias[rows])
            found += F.split(y, some, axis=-1)
        return found

    def _heads(self, x: Tensor) -> Tensor:
        """(..., T, heads * D) -> (..., heads, T, D)."""
        if x.ndim < 2:
            raise ShapeError("MultiheadAttention", "needs sequences (N, T, E)", received=f"{x.ndim} axes")
        return F.swapaxes(F.reshape(x, (*x.shape[:-1], -1, self.head_dim)), -2, -3)

    def _joined(self, x: Tensor) -> Tensor:
        """(..., heads, T, D) -> (..., T, E)."""
        x = F.swapaxes(x, -2, -3)
        return self.out_proj(F.reshape(x, (*x.shape[:-2], self.embed_dim)))

    def _masks(self, padding: TensorLike | None, mask: TensorLike | None, queries: tuple[int, ...]) -> list[Tensor]:
        """The masks for scores (..., H, L, S), True where a query may look at a key."""
        found = []
        if padding is not None:
            padding = F.asarray(padding)
            found.append(F.reshape(padding, (*padding.shape[:-1], 1, 1, *padding.shape[-1:])))
        if mask is not None:
            mask = F.asarray(mask)
            leading = queries[:-2]  # (..., H)
            if mask.ndim == 3 and len(leading) > 1:
                if mask.shape[0] != math.prod(leading):
                    raise ShapeError(
                        "MultiheadAttention", "attn_mask is (L, S) or (N * H, L, S)",
                        received=f"shape {mask.shape}, N * H = {math.prod(leading)}",
                    )  # fmt: skip
                mask = F.reshape(mask, (*leading, *mask.shape[1:]))
            found.append(mask)
        return [~mask if mask.dtype.name == "bool" else mask for mask in found]

    def _appended(
        self, k: Tensor, v: Tensor, masks: Sequence[Tensor], causal_rows: int
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Append the learned key and value and those of zeros, at which every query may look."""
        if causal_rows:
            masks = [*masks, F.arange(causal_rows)[:, None] >= F.arange(k.shape[-2])]
        found = []
        for x, learned in ((k, self.bias_k), (v, self.bias_v)):
            one = (*x.shape[:-2], 1, self.head_dim)
            more = [] if learned is None else [F.broadcast_to(F.reshape(learned, (-1, 1, self.head_dim)), one)]
            found.append(F.concat([x, *more, *([F.zeros(one, x.dtype)] if self.add_zero_attn else [])], axis=-2))
        count = found[0].shape[-2] - k.shape[-2]
        free = [
            (F.ones if mask.dtype.name == "bool" else F.zeros)((*mask.shape[:-1], count), mask.dtype) for mask in masks
        ]
        return found[0], found[1], [F.concat(pair, axis=-1) for pair in zip(masks, free, strict=True)]

    def extra_repr(self) -> str:
        """Sizes, and what is not usual."""
        usual = {"dropout": 0.0, "num_kv_heads": self.num_heads, "kdim": self.embed_dim, "vdim": self.embed_dim}
        extra = "".join(f", {k}={self.__dict__[k]}" for k, v in usual.items() if self.__dict__[k] != v)
        return f"{self.embed_dim}, {self.num_heads}{extra}"


def sequences_are_batch_first(operation: str, batch_first: bool) -> None:
    """Refuse PyTorch's other order of axes."""
    if not batch_first:
        raise ArgumentError(
            operation, "sequences are batch first, (N, T, E)", received="batch_first=False",
            fix="swap the first two axes of the inputs: cr.swapaxes(x, 0, 1)",
        )  # fmt: skip
