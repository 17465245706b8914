"""A transformer of encoder and decoder: one sequence of tokens to another."""

from __future__ import annotations

import math
from typing import Any

from ... import functional_call, functions as F, no_grad, tree_map, while_loop
from ...errors import ArgumentError
from ...tensor import Tensor, TensorLike
from .. import functional, init
from ..embedding import Embedding
from ..module import Module
from ..multihead import KVCache
from ..positions import SinusoidalPositions
from ..regularizing import Dropout
from ..transformer import Transformer
from .language import in_evaluation, tokens_of


class Seq2SeqTransformer(Module):
    """Transformer for translation (Vaswani et al., arXiv 1706.03762).

    The encoder's layers see all of the source; those of the decoder see the target up to each token, and what the
    encoder made of the source. The decoder's table of tokens is also the last layer, and with one vocabulary the
    encoder's (section 3.4 of the paper); its rows are multiplied by ``sqrt(width)``, and waves added for positions.
    Unlike in the paper, norms are in front of each part (Xiong et al., arXiv 2002.04745), and behind the last.

    Args:
        vocabulary: number of tokens of the source.
        target_vocabulary: of the target, with a table of its own; one table serves both unless given.
        width: features of a token, even.
        depth: layers of the encoder, and of the decoder.
        heads: of each attention.
        hidden: features within the feed-forward networks, ``4 * width`` unless given.
        dropout: of the embeddings, and in each layer as in `Transformer`.
        pad: the token that fills up short sequences, behind their ends. None attends to it in the source.

    >>> model = nn.models.Seq2SeqTransformer(vocabulary=20, width=16, depth=1, heads=2)
    >>> source = cr.tensor([[5, 6, 7, 2], [8, 2, 0, 0]])
    >>> model(source, cr.tensor([[1, 9, 10], [1, 11, 2]])).shape
    (2, 3, 20)
    >>> _ = model.eval()
    >>> model.greedy(source, start=1, end=2, max_length=6).shape
    (2, 6)
    """

    def __init__(
        self,
        vocabulary: int,
        target_vocabulary: int | None = None,
        width: int = 512,
        depth: int = 6,
        heads: int = 8,
        hidden: int | None = None,
        dropout: float = 0.1,
        pad: int = 0,
    ) -> None:
        if depth < 1:
            raise ArgumentError("Seq2SeqTransformer", "depth is 1 or more", received=repr(depth))
        self.width, self.depth, self.pad = width, depth, pad
        self.source = _table(vocabulary, width)
        self.target = self.source if target_vocabulary is None else _table(target_vocabulary, width)
        self.positions, self.dropout = SinusoidalPositions(width), Dropout(dropout)
        self.transformer = Transformer(width, heads, depth, depth, hidden or 4 * width, dropout, norm_first=True)

    def forward(self, source: TensorLike, target: TensorLike) -> Tensor:
        """(N, S) and (N, T), which begins with the start -> scores of what follows each, (N, T, vocabulary)."""
        memory, padding = self._encoded(source)
        x = self._embedded(self.target, tokens_of("Seq2SeqTransformer", target))
        return self._scores(self.transformer.decoder(x, memory, memory_key_padding_mask=padding, tgt_is_causal=True))

    def _embedded(self, table: Embedding, tokens: Tensor, position: TensorLike = 0) -> Tensor:
        x: Tensor = self.dropout(self.positions(table(tokens) * math.sqrt(self.width), position))
        return x

    def _scores(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.target.weight)

    def _encoded(self, source: TensorLike) -> tuple[Tensor, Tensor]:
        """What the encoder makes of the source, (N, S, width), and where that is padding, (N, S)."""
        tokens = tokens_of("Seq2SeqTransformer", source)
        padding = tokens == self.pad
        return self.transformer.encoder(self._embedded(self.source, tokens), src_key_padding_mask=padding), padding

    # --- decoding -----------------------------------------------------------------------------------------

    def greedy(self, source: TensorLike, start: int, end: int, max_length: int) -> Tensor:
        """Translate by the most probable token each time, until all sequences have ended.

        Args:
            source: shape (N, S).
            start, end: the tokens with which targets begin and end.
            max_length: most tokens of a target, without the start.

        Returns:
            tokens without the start, filled up with ``pad``, shape (N, max_length).

        Raises:
            ArgumentError: an argument is out of its range, or dropout is at work.
        """

        def choose(kept: tuple[()], scores: Tensor) -> tuple[tuple[()], Tensor, None]:
            return kept, F.argmax(scores, axis=-1), None

        return self._decode(source, start, end, max_length, 1, (), choose)[0]

    def beam_search(
        self, source: TensorLike, start: int, end: int, max_length: int, width: int = 4, length_penalty: float = 0.6
    ) -> tuple[Tensor, Tensor]:
        """Translate by keeping the ``width`` most probable beginnings of each sequence.

        At last they are ordered by ``log p / ((5 + length) / 6) ** length_penalty`` (Wu et al., arXiv 1609.08144,
        equation 14).

        Args:
            source: shape (N, S).
            start, end, max_length: as in `greedy`.
            width: how many are kept.
            length_penalty: 0 orders by probability; the larger, the longer are those preferred.

        Returns:
            tokens without the start, filled up with ``pad``, shape (N, width, max_length), the best first; and by what
            they are ordered, shape (N, width).

        >>> model = nn.models.Seq2SeqTransformer(vocabulary=20, width=16, depth=1, heads=2, dropout=0.0)
        >>> tokens, scores = model.beam_search(cr.tensor([[5, 6, 2]]), start=1, end=2, max_length=4, width=3)
        >>> tokens.shape, scores.shape
        ((1, 3, 4), (1, 3))
        """
        n, classes = tokens_of("Seq2SeqTransformer", source).shape[0], self.target.num_embeddings
        if not 1 <= width < classes:
            raise ArgumentError("beam_search", f"width is 1 to {classes - 1}, the tokens", received=repr(width))
        first = F.arange(n)[:, None] * width

        def choose(total: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            log_p = F.reshape(F.log_softmax(scores, axis=-1), (n, width, classes))
            total, best = F.top_k(F.reshape(total[:, :, None] + log_p, (n, width * classes)), width)
            return total, F.reshape(best % classes, (-1,)), F.reshape(first + best // classes, (-1,))

        # At first all are the same: one of them counts.
        start_total = F.where(F.arange(width) > 0, -math.inf, F.zeros((n, width), self.target.weight.dtype))
        tokens, total = self._decode(source, start, end, max_length, width, start_total, choose)
        tokens = F.reshape(tokens, (n, width, max_length))
        length = F.sum(tokens != self.pad, axis=-1).astype(total.dtype)
        scores, order = F.top_k(total / ((5 + length) / 6) ** length_penalty, width)
        return F.take_along_axis(tokens, F.broadcast_to(order[:, :, None], tokens.shape), axis=1), scores

    def _decode(
        self, source: TensorLike, start: int, end: int, max_length: int, beams: int, kept: Any, choose: Any
    ) -> tuple[Tensor, Any]:
        """Add the tokens that ``choose(kept, scores)`` gives, to rows that it gives or to each, until all end."""
        classes = self.target.num_embeddings
        if max_length < 1 or self.pad in (start, end) or not (0 <= start < classes and 0 <= end < classes):
            raise ArgumentError(
                "Seq2SeqTransformer", f"max_length is 1 or more, start and end are tokens below {classes}, not padding",
                received=f"max_length={max_length}, start={start}, end={end}, pad={self.pad}",
            )  # fmt: skip
        in_evaluation("Seq2SeqTransformer", self)
        number = F.arange(classes)

        def goes_on(carry: Any) -> Tensor:
            t, _, _, done, _ = carry
            return (t < max_length) & ~F.all(done)

        def body(carry: Any) -> Any:
            t, tokens, last, done, kept = carry
            x = self._embedded(self.target, last[:, None], t)
            # Of weights and memory from outside alone, its keys and values are computed outside of the loop: once.
            x = functional_call(decoder, weights, x, memory, memory_key_padding_mask=padding, caches=caches)
            # A sequence that has ended goes on with padding, for nothing; no other may.
            scores = F.where(number == self.pad, -math.inf, self._scores(x[:, 0]))
            scores = F.where(done[:, None], F.where(number == self.pad, 0.0, -math.inf), scores)
            kept, token, rows = choose(kept, scores)
            if rows is not None:
                tokens, done = F.take(tokens, rows, axis=0), F.take(done, rows, axis=0)
                for cache in caches:
                    cache.keys.assign(F.take(cache.keys, rows, axis=0))
                    cache.values.assign(F.take(cache.values, rows, axis=0))
            return t + 1, tokens.at[:, t].set(token), token, done | (token == end), kept

        decoder = self.transformer.decoder
        with no_grad():
            weights = {name: p.read() for name, p in decoder.named_parameters()}
            memory, padding = tree_map(lambda a: F.repeat(a, beams, axis=0), self._encoded(source))
            n, heads = len(padding), self.transformer.nhead
            caches = [KVCache(n, heads, max_length, self.width // heads, memory.dtype) for _ in range(self.depth)]
            tokens, last = F.full((n, max_length), self.pad, "int64"), F.full((n,), start, "int64")
            carry = F.asarray(0), tokens, last, F.zeros((n,), "bool"), kept
            _, tokens, _, _, kept = while_loop(goes_on, body, carry)
        return tokens, kept


def _table(vocabulary: int, width: int) -> Embedding:
    table = Embedding(vocabulary, width)
    table.weight = init.parameter((vocabulary, width), init.normal(1 / math.sqrt(width)))
    return table
