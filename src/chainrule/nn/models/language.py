"""A language model: a transformer that predicts the next token from those before."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ... import functions as F, no_grad, scan
from ...dtypes import INTEGER
from ...errors import ArgumentError, DTypeError, ShapeError
from ...tensor import Parameter, Tensor, TensorLike
from .. import functional, init
from ..activations import GELU
from ..embedding import Embedding
from ..module import Module
from ..multihead import KVCache, MultiheadAttention
from ..norm import LayerNorm
from ..positions import RotaryEmbedding
from ..regularizing import Dropout
from ..transformer import TransformerEncoder, TransformerEncoderLayer
from .sampling import check_sampling, sample


def tokens_of(model: str, tokens: TensorLike) -> Tensor:
    """Return a batch of sequences of whole numbers as a tensor."""
    x = F.asarray(tokens)
    if x.ndim != 2:
        raise ShapeError(
            model, "needs tokens (N, T)", received=f"shape {x.shape}", fix="x[None], if it is one sequence"
        )
    if x.dtype not in INTEGER:
        raise DTypeError(model, "tokens are whole numbers", received=x.dtype.name)
    return x


def in_evaluation(operation: str, model: Module) -> None:
    """Raise if dropout would disturb what a model writes."""
    if model.training and any(isinstance(m, Dropout) and m.p > 0 for m in model.modules()):
        raise ArgumentError(
            operation, "dropout would disturb what is written", fix="model.eval() before, model.train() after"
        )


class GPT(Module):
    """Generative transformer: blocks of causal attention that predict each next token.

    ``scores = norm(blocks(E[tokens] + P)) E^T``: the table E of tokens is also the last layer. As in GPT-2 (Radford et
    al., "Language models are unsupervised multitask learners", 2019), norms are in front of each part of a block, and
    weights start normal with standard deviation 0.02, those that add to the sum of all blocks with
    ``0.02 / sqrt(2 depth)``. 124,439,808 parameters with its sizes, ``GPT(50257, 1024, 768, 12, 12)``.

    Args:
        vocabulary: number of tokens; 256 for bytes.
        context: the longest sequence.
        width: features of a token.
        depth: blocks.
        heads: of the attention of each.
        dropout: of the embeddings, and in each block as in `TransformerEncoderLayer`.
        rotary: turn queries and keys by their positions (Su et al., arXiv 2104.09864) instead of adding a vector
            that is learned for each position.

    Raises:
        ShapeError: when called with sequences longer than the context.

    >>> model = nn.models.GPT(vocabulary=256, context=32, width=16, depth=2, heads=2)
    >>> model(cr.tensor([list(b"hello")])).shape
    (1, 5, 256)
    >>> model.generate(cr.tensor([list(b"hello")]), 3, temperature=0.8, top_k=40).shape
    (1, 8)
    """

    def __init__(
        self,
        vocabulary: int,
        context: int,
        width: int = 384,
        depth: int = 6,
        heads: int = 6,
        dropout: float = 0.0,
        *,
        rotary: bool = False,
    ) -> None:
        if depth < 1:
            raise ArgumentError("GPT", "depth is 1 or more", received=repr(depth))
        self.context = context
        self.tokens, self.places = Embedding(vocabulary, width), None if rotary else Embedding(context, width)
        self.dropout = Dropout(dropout)
        block = TransformerEncoderLayer(width, heads, 4 * width, dropout, GELU("tanh"), norm_first=True)
        if rotary:
            block.self_attn = MultiheadAttention(width, heads, dropout, rotary=RotaryEmbedding(width // heads))
        self.blocks = TransformerEncoder(block, depth, LayerNorm(width))
        for path, module in self.named_modules():
            last = path.endswith((".out_proj", ".linear2"))
            rule = init.normal(0.02 / math.sqrt(2 * depth) if last else 0.02)
            for name, p in list(vars(module).items()):
                if isinstance(p, Parameter) and not isinstance(module, LayerNorm):
                    setattr(module, name, init.parameter(p.shape, rule if p.ndim > 1 else init.constant(0.0)))

    def forward(self, tokens: TensorLike, caches: Sequence[KVCache] | None = None) -> Tensor:
        """Return scores of what follows each token.

        Args:
            tokens: shape (N, T).
            caches: of what was read before, to which these tokens are added. `chainrule.compile` of a call with one
                token is one program for all positions.

        Returns:
            shape (N, T, vocabulary).

        >>> model = nn.models.GPT(vocabulary=256, context=32, width=16, depth=2, heads=2)
        >>> caches = model.caches(1)
        >>> @cr.compile
        ... def step(token):
        ...     with cr.no_grad():
        ...         return model(token, caches)
        >>> for byte in b"hello":
        ...     scores = step(cr.tensor([[byte]]))
        >>> int(caches[0].length), scores.shape
        (5, (1, 1, 256))
        """
        return self._scores(self._features(tokens, caches))

    def _scores(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.tokens.weight)

    def _features(self, tokens: TensorLike, caches: Sequence[KVCache] | None) -> Tensor:
        given = tokens_of("GPT", tokens)
        self._check_length(given.shape[1])
        x = self.tokens(given)
        if self.places is not None:
            start = 0 if caches is None else caches[0].length.read()
            x = x + self.places(start + F.arange(given.shape[1]))
        features: Tensor = self.blocks(self.dropout(x), is_causal=True, caches=caches)
        return features

    def _check_length(self, length: int) -> None:
        if length > self.context:
            raise ShapeError(
                "GPT", f"the context is {self.context} tokens", received=f"{length} tokens",
                fix="give the last ones only, or make the model with a longer context",
            )  # fmt: skip

    def caches(self, n: int, length: int | None = None) -> list[KVCache]:
        """Return a cache for each block, for ``n`` sequences of up to ``length`` tokens; the context unless given."""
        width, dtype = self.tokens.embedding_dim, self.tokens.weight.dtype
        heads = self.blocks.layers[0].self_attn.num_heads
        sizes = n, heads, length or self.context, width // heads
        return [KVCache(*sizes, dtype=dtype) for _ in self.blocks.layers]

    def generate(
        self,
        prompt: TensorLike,
        n: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        *,
        generator: F.Generator | None = None,
    ) -> Tensor:
        """Continue sequences by ``n`` tokens, each drawn by `sample`.

        Keys and values of earlier tokens are kept, so that each step reads one token. ``cr.compile`` of a function that
        calls this makes one program of all steps.

        Args:
            prompt: shape (N, T), one token or more.
            n: how many tokens are added.
            temperature: 0 takes the most probable token each time.
            top_k, top_p: draw from the most probable tokens alone.
            generator: random numbers.

        Returns:
            the prompt and what follows, shape (N, T + n).

        Raises:
            ShapeError: prompt and continuation are longer than the context.
            ArgumentError: the prompt is empty, an argument is out of its range, or dropout is at work.
        """
        given = tokens_of("GPT.generate", prompt).astype("int64")
        rows, length = given.shape
        if n < 0 or not length:
            raise ArgumentError(
                "GPT.generate", "needs a prompt of a token or more, to which n >= 0 are added",
                received=f"prompt of shape {given.shape}, n={n}",
            )  # fmt: skip
        check_sampling(temperature, top_k, top_p)
        in_evaluation("GPT.generate", self)
        self._check_length(length + n)
        if n == 0:
            return given
        caches = self.caches(rows, length + n)

        def next_token(tokens: Tensor, _: None) -> tuple[Tensor, Tensor]:
            scores = self._scores(self._features(tokens, caches)[:, -1:])
            token = sample(scores, temperature, top_k, top_p, generator=generator)
            return token, token[:, 0]

        with no_grad():
            first, _ = next_token(given, None)
            _, more = scan(next_token, first, length=n - 1)
            return F.concat([given, first, F.swapaxes(more, 0, 1)], axis=1)
