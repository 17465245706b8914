"""The layers of the transformer of Vaswani et al. (arXiv 1706.03762), by PyTorch's names and arguments; batch first."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from .. import functions as F
from ..errors import ArgumentError, ShapeError
from ..tensor import Parameter, Tensor, TensorLike
from . import functional, init
from .containers import ModuleList
from .initial import Initial
from .layers import Linear
from .module import Module
from .multihead import KVCache, MultiheadAttention, sequences_are_batch_first
from .norm import LayerNorm
from .regularizing import Dropout

Activation = str | Callable[[Tensor], Tensor]
Mask = TensorLike | None


class SwiGLU(Module):
    """A feed-forward network with a gate, ``(silu(x W) * (x V)) W2`` (Shazeer, arXiv 2002.05202).

    Args:
        dim: features before and after.
        hidden: features in between; 2/3 of those of a network without a gate need as many weights.
        bias: whether the linear layers have biases.
        dtype: of the weights.

    Shapes: linear1.weight (2 hidden, dim), W above V; linear2.weight (dim, hidden).

    >>> nn.SwiGLU(8, 16)(cr.ones((2, 5, 8))).shape
    (2, 5, 8)
    """

    def __init__(self, dim: int, hidden: int, bias: bool = False, dtype: Any = None) -> None:
        self.linear1 = Linear(dim, 2 * hidden, bias, dtype)
        self.linear2 = Linear(hidden, dim, bias, dtype)

    def forward(self, x: TensorLike) -> Tensor:
        """(..., dim) -> (..., dim)."""
        return self.linear2(functional.swiglu(self.linear1(x)))


class _Layer(Module):
    """Attentions and a feed-forward network, each beside a path around it and with a normalization."""

    attentions: tuple[str, ...]
    self_attn: MultiheadAttention

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = functional.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = True,
        norm_first: bool = False,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        kind = type(self).__name__
        sequences_are_batch_first(kind, batch_first)
        if isinstance(activation, str):
            if activation not in ("relu", "gelu"):
                raise ArgumentError(kind, "activation is 'relu', 'gelu' or a function", received=repr(activation))
            activation = getattr(functional, activation)
        self.activation: Any = activation
        self.norm_first = norm_first
        for name in self.attentions:
            setattr(self, name, MultiheadAttention(d_model, nhead, dropout, bias, dtype=dtype))
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype)
        for i in range(1, len(self.attentions) + 2):
            setattr(self, f"norm{i}", LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype))
            setattr(self, f"dropout{i}", Dropout(dropout))

    def _beside(self, i: int, x: Tensor, block: Callable[[Tensor], Tensor]) -> Tensor:
        """``x + block(norm(x))``, or ``norm(x + block(x))``."""
        norm, dropout = getattr(self, f"norm{i}"), getattr(self, f"dropout{i}")
        return x + dropout(block(norm(x))) if self.norm_first else norm(x + dropout(block(x)))

    def _self_attention(self, x: TensorLike, mask: Mask, padding: Mask, causal: bool, cache: KVCache | None) -> Tensor:
        def attention(y: Tensor) -> Tensor:
            return self.self_attn(y, y, y, padding, False, mask, is_causal=causal, cache=cache)[0]

        return self._beside(1, F.asarray(x), attention)

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))

    def extra_repr(self) -> str:
        """The activation, and where the normalizations are."""
        parts = [getattr(self.activation, "__name__", ""), "norm_first=True" if self.norm_first else ""]
        return ", ".join(filter(None, parts))


_ARGUMENTS = """
    Args:
        d_model: features E.
        nhead: heads of attention, which divide E.
        dim_feedforward: features within the feed-forward network.
        dropout: probability of `dropout`, while training, of weights of attention, within the feed-forward network, and
            of the results of each part.
        activation: "relu", "gelu", or a function or module of the feed-forward network.
        layer_norm_eps: added to the variance in the normalizations.
        batch_first: always True; sequences are (N, T, E) here.
        norm_first: normalize what goes into each part (Xiong et al., arXiv 2002.04745), not the sum behind it.
        bias: whether linear layers and normalizations have biases.
        dtype: of the weights.
"""


class TransformerEncoderLayer(_Layer):  # noqa: D101
    __doc__ = f"""Self-attention and a feed-forward network (Vaswani et al., arXiv 1706.03762).

    With a causal mask it is the layer of a language model; ``self_attn`` may be replaced by one with rotations or fewer
    heads of keys and values.
{_ARGUMENTS}
    >>> nn.TransformerEncoderLayer(8, 2, 16)(cr.ones((2, 5, 8))).shape
    (2, 5, 8)
    """
    attentions = ("self_attn",)

    def forward(
        self,
        src: TensorLike,
        src_mask: Mask = None,
        src_key_padding_mask: Mask = None,
        is_causal: bool = False,
        *,
        cache: KVCache | None = None,
    ) -> Tensor:
        """(N, T, E) -> (N, T, E); masks and cache as of `MultiheadAttention`."""
        x = self._self_attention(src, src_mask, src_key_padding_mask, is_causal, cache)
        return self._beside(2, x, self._feed_forward)


class TransformerDecoderLayer(_Layer):  # noqa: D101
    __doc__ = f"""Self-attention, attention to a memory, and a feed-forward network (Vaswani et al., arXiv 1706.03762).
{_ARGUMENTS}
    >>> nn.TransformerDecoderLayer(8, 2, 16)(cr.ones((2, 5, 8)), cr.ones((2, 3, 8))).shape
    (2, 5, 8)
    """
    attentions = ("self_attn", "multihead_attn")
    multihead_attn: MultiheadAttention

    def forward(
        self,
        tgt: TensorLike,
        memory: TensorLike,
        tgt_mask: Mask = None,
        memory_mask: Mask = None,
        tgt_key_padding_mask: Mask = None,
        memory_key_padding_mask: Mask = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
        *,
        cache: KVCache | None = None,
    ) -> Tensor:
        """(N, T, E), (N, S, E) -> (N, T, E); masks and cache, that of self-attention, as of `MultiheadAttention`."""

        def attention(y: Tensor) -> Tensor:
            how = (memory_key_padding_mask, False, memory_mask)
            return self.multihead_attn(y, memory, memory, *how, is_causal=memory_is_causal)[0]

        x = self._self_attention(tgt, tgt_mask, tgt_key_padding_mask, tgt_is_causal, cache)
        return self._beside(3, self._beside(2, x, attention), self._feed_forward)


def _copies(layer: Module, n: int) -> ModuleList:
    """Copies of a layer. Parameters that have no value yet get one of their own by the same rule."""
    copies = []
    for _ in range(n):
        memo: dict[int, Any] = {}
        for p in layer.parameters():
            if isinstance(p._initial, Initial):
                memo[id(p)] = init.parameter(p.shape, p._initial.rule, p.dtype)
                memo[id(p)].trainable = p.trainable
        copies.append(copy.deepcopy(layer, memo))
    return ModuleList(copies)


class _Stack(Module):
    def __init__(self, layer: Module, num_layers: int, norm: Module | None) -> None:
        if not isinstance(layer, Module) or not isinstance(num_layers, int) or num_layers < 0:
            raise ArgumentError(
                type(self).__name__, "takes a layer to copy and how many of it",
                received=f"{type(layer).__name__} and {num_layers!r}",
                fix="nn.TransformerEncoder(nn.TransformerEncoderLayer(d_model, nhead), num_layers)",
            )  # fmt: skip
        self.layers, self.num_layers, self.norm = _copies(layer, num_layers), num_layers, norm

    def _through(self, x: TensorLike, caches: Sequence[KVCache] | None, *how: Any) -> Tensor:
        if caches is not None and len(caches) != len(self.layers):
            raise ArgumentError(
                type(self).__name__, "needs one cache for each layer",
                received=f"{len(caches)} caches, {len(self.layers)} layers",
            )  # fmt: skip
        for i, layer in enumerate(self.layers):
            x = layer(x, *how) if caches is None else layer(x, *how, cache=caches[i])
        return F.asarray(x) if self.norm is None else self.norm(x)


class TransformerEncoder(_Stack):
    """Several encoder layers one after the other.

    Args:
        encoder_layer: it is copied; parameters that were not needed or assigned yet start with values of their own in
            each copy, others with its values.
        num_layers: how many.
        norm: a normalization of the result.
        enable_nested_tensor, mask_check: taken and ignored.

    >>> nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 3)(cr.ones((2, 5, 8)), is_causal=True).shape
    (2, 5, 8)
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__(encoder_layer, num_layers, norm)

    def forward(
        self,
        src: TensorLike,
        mask: Mask = None,
        src_key_padding_mask: Mask = None,
        is_causal: bool | None = None,
        *,
        caches: Sequence[KVCache] | None = None,
    ) -> Tensor:
        """(N, T, E) -> (N, T, E); masks as of `MultiheadAttention`, caches one for each layer."""
        return self._through(src, caches, mask, src_key_padding_mask, bool(is_causal))


class TransformerDecoder(_Stack):
    """Several decoder layers one after the other.

    Args:
        decoder_layer: it is copied, as in `TransformerEncoder`.
        num_layers: how many.
        norm: a normalization of the result.

    >>> nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 3)(cr.ones((2, 5, 8)), cr.ones((2, 3, 8))).shape
    (2, 5, 8)
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(decoder_layer, num_layers, norm)

    def forward(
        self,
        tgt: TensorLike,
        memory: TensorLike,
        tgt_mask: Mask = None,
        memory_mask: Mask = None,
        tgt_key_padding_mask: Mask = None,
        memory_key_padding_mask: Mask = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
        *,
        caches: Sequence[KVCache] | None = None,
    ) -> Tensor:
        """(N, T, E), (N, S, E) -> (N, T, E); masks as of `MultiheadAttention`, caches one for each layer."""
        return self._through(
            tgt, caches, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
            bool(tgt_is_causal), memory_is_causal,
        )  # fmt: skip


class Transformer(Module):
    """An encoder, and a decoder that looks at what the encoder made of its input (Vaswani et al., arXiv 1706.03762).

    Args:
        d_model: features E.
        nhead: heads of attention, which divide E.
        num_encoder_layers, num_decoder_layers: how many.
        dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias, dtype: as of
            `TransformerEncoderLayer`.
        custom_encoder, custom_decoder: modules instead of these; they keep their values.

    Weights with two axes start uniform by `chainrule.nn.init.xavier`.

    >>> model = nn.Transformer(8, 2, 1, 1, 16)
    >>> model(cr.ones((2, 3, 8)), cr.ones((2, 5, 8)), tgt_is_causal=True).shape
    (2, 5, 8)
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = functional.relu,
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = True,
        norm_first: bool = False,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        how = (
            d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias, dtype,
        )  # fmt: skip

        def own(stack: Any, layer: Any, n: int) -> Module:
            norm = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
            return _with_xavier(stack(layer(*how), n, norm))

        self.encoder = custom_encoder or own(TransformerEncoder, TransformerEncoderLayer, num_encoder_layers)
        self.decoder = custom_decoder or own(TransformerDecoder, TransformerDecoderLayer, num_decoder_layers)
        self.d_model, self.nhead = d_model, nhead

    def forward(
        self,
        src: TensorLike,
        tgt: TensorLike,
        src_mask: Mask = None,
        tgt_mask: Mask = None,
        memory_mask: Mask = None,
        src_key_padding_mask: Mask = None,
        tgt_key_padding_mask: Mask = None,
        memory_key_padding_mask: Mask = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """(N, S, E), (N, T, E) -> (N, T, E); masks as of `MultiheadAttention`."""
        src, tgt = F.asarray(src), F.asarray(tgt)
        if src.shape[:-2] != tgt.shape[:-2] or not src.shape[-1:] == tgt.shape[-1:] == (self.d_model,):
            raise ShapeError(
                "Transformer", f"needs (N, S, {self.d_model}) and (N, T, {self.d_model})",
                received=f"shapes {src.shape} and {tgt.shape}",
            )  # fmt: skip
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        return self.decoder(
            tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask, tgt_is_causal,
            memory_is_causal,
        )  # fmt: skip

    @staticmethod
    def generate_square_subsequent_mask(sz: int, dtype: Any = None) -> Tensor:
        """Return the causal mask as numbers to add: 0 up to the diagonal, minus infinity above it.

        ``is_causal=True`` says the same without an array.

        >>> nn.Transformer.generate_square_subsequent_mask(2)
        tensor([[  0., -inf],
                [  0.,   0.]])
        """
        return F.triu(F.full((sz, sz), float("-inf"), dtype or "float32"), 1)


def _with_xavier(module: Module) -> Module:
    """The module, its weights of two axes anew by another rule."""
    for part in module.modules():
        for name, p in list(vars(part).items()):
            if isinstance(p, Parameter) and p.ndim > 1:
                setattr(part, name, init.parameter(p.shape, init.xavier(), p.dtype))
    return module
