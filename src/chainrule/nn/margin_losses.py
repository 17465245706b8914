"""Losses of margins and distances, and the similarities that they are made of."""

from __future__ import annotations

from collections.abc import Callable

from .. import functions as F
from ..errors import ArgumentError, ShapeError
from ..tensor import Tensor, TensorLike, operands
from .losses import check_labels, class_weights, cross_entropy, picked, reduced, same_shapes
from .normalizing import normalize

__all__ = [
    "cosine_embedding_loss", "cosine_similarity", "hinge_embedding_loss", "hinge_loss", "info_nce",
    "margin_ranking_loss", "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss",
    "pairwise_distance", "soft_margin_loss", "triplet_margin_loss", "triplet_margin_with_distance_loss",
]  # fmt: skip


def cosine_similarity(x1: TensorLike, x2: TensorLike, dim: int = -1, eps: float = 1e-8) -> Tensor:
    """``x1 . x2 / (max(|x1|, eps) max(|x2|, eps))`` along an axis; the inputs broadcast.

    >>> nn.functional.cosine_similarity(cr.tensor([3.0, 4.0]), cr.tensor([6.0, 8.0]))
    tensor(1.)
    """
    a, b = F.broadcast_arrays(*operands(x1, x2, True))
    lengths = [F.clip(F.norm(x, axis=dim, keepdims=True), eps, None) for x in (a, b)]
    return F.sum((a / lengths[0]) * (b / lengths[1]), axis=dim)


def pairwise_distance(
    x1: TensorLike, x2: TensorLike, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """Norm of ``x1 - x2 + eps`` along the last axis.

    >>> nn.functional.pairwise_distance(cr.tensor([[3.0, 4.0]]), cr.tensor([[0.0, 0.0]]), eps=0.0)
    tensor([5.])
    """
    a, b = operands(x1, x2, True)
    return F.norm(a - b + eps, p, axis=-1, keepdims=keepdim)


def margin_ranking_loss(
    input1: TensorLike, input2: TensorLike, target: TensorLike, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """``max(0, -y (x1 - x2) + margin)``: y is 1 where x1 should be the larger, -1 where x2 should.

    >>> nn.functional.margin_ranking_loss(cr.tensor([1.0]), cr.tensor([3.0]), cr.tensor([1.0]))
    tensor(2.)
    """
    x1, x2, y = same_shapes("margin_ranking_loss", input1, input2, target)
    return reduced("margin_ranking_loss", F.clip(margin - y * (x1 - x2), 0.0, None), reduction)


def hinge_embedding_loss(input: TensorLike, target: TensorLike, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """``x`` where the target is 1, ``max(0, margin - x)`` where it is -1, for distances x.

    >>> nn.functional.hinge_embedding_loss(cr.tensor([0.5, 0.5]), cr.tensor([1.0, -1.0]))
    tensor(0.5)
    """
    x, y = same_shapes("hinge_embedding_loss", input, target)
    loss = F.where(y != 1, F.clip(margin - x, 0.0, None), 0.0) + F.where(y != -1, x, 0.0)
    return reduced("hinge_embedding_loss", loss, reduction)


def hinge_loss(input: TensorLike, target: TensorLike, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """``max(0, margin - y x)`` for scores x and targets y of 1 and -1 (Cortes and Vapnik, 1995).

    >>> nn.functional.hinge_loss(cr.tensor([0.5, 3.0, 0.5]), cr.tensor([1.0, 1.0, -1.0]), reduction="none")
    tensor([0.5, 0. , 1.5])
    """
    x, y = same_shapes("hinge_loss", input, target)
    return reduced("hinge_loss", F.clip(margin - y * x, 0.0, None), reduction)


def soft_margin_loss(input: TensorLike, target: TensorLike, reduction: str = "mean") -> Tensor:
    """``log(1 + exp(-y x))`` for targets 1 and -1, without overflow.

    >>> nn.functional.soft_margin_loss(cr.tensor([0.0]), cr.tensor([1.0]))
    tensor(0.6931472)
    """
    x, y = same_shapes("soft_margin_loss", input, target)
    return reduced("soft_margin_loss", -F.log_sigmoid(y * x), reduction)


def cosine_embedding_loss(
    input1: TensorLike, input2: TensorLike, target: TensorLike, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """``1 - cos`` where the target is 1, ``max(0, cos - margin)`` where it is -1.

    Args:
        input1, input2: shape (N, D) or (D,).
        target: shape (N,) or ().
        margin: how similar unlike pairs may be.
        reduction: "none", "mean" or "sum".

    >>> nn.functional.cosine_embedding_loss(cr.ones((1, 2)), cr.ones((1, 2)), cr.tensor([-1.0]))
    tensor(1.)
    """
    a, b = same_shapes("cosine_embedding_loss", input1, input2)
    y = F.asarray(target)
    if y.shape != a.shape[:-1]:
        raise ShapeError(
            "cosine_embedding_loss", f"needs a target for each pair, shape {a.shape[:-1]}", received=f"{y.shape}"
        )
    squares = [F.sum(F.square(x), axis=-1) + 1e-12 for x in (a, b)]
    cos = F.sum(a * b, axis=-1) / F.sqrt(squares[0] * squares[1])
    loss = F.where(y == 1, 1 - cos, 0.0) + F.where(y == -1, F.clip(cos - margin, 0.0, None), 0.0)
    return reduced("cosine_embedding_loss", loss, reduction)


def triplet_margin_loss(
    anchor: TensorLike,
    positive: TensorLike,
    negative: TensorLike,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """``max(0, d(anchor, positive) - d(anchor, negative) + margin)`` (Balntas et al., BMVC 2016).

    ``swap`` takes d(positive, negative) instead of d(anchor, negative) where it is the smaller.

    >>> nn.functional.triplet_margin_loss(cr.zeros((1, 2)), cr.zeros((1, 2)), cr.zeros((1, 2)))
    tensor(1.)
    """

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return pairwise_distance(x, y, p, eps)

    return _triplet("triplet_margin_loss", anchor, positive, negative, distance, margin, swap, reduction)


def triplet_margin_with_distance_loss(
    anchor: TensorLike,
    positive: TensorLike,
    negative: TensorLike,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """`triplet_margin_loss` with a distance of one's own, of (..., D) and (..., D) to (...); Euclidean if None.

    >>> one = lambda x, y: cr.abs(x - y).sum(axis=-1)
    >>> triplet = cr.zeros((1, 2)), cr.ones((1, 2)), cr.zeros((1, 2))
    >>> nn.functional.triplet_margin_with_distance_loss(*triplet, distance_function=one)
    tensor(3.)
    """
    distance = distance_function or pairwise_distance
    name = "triplet_margin_with_distance_loss"
    return _triplet(name, anchor, positive, negative, distance, margin, swap, reduction)


def _triplet(
    operation: str, anchor: TensorLike, positive: TensorLike, negative: TensorLike,
    distance: Callable[[Tensor, Tensor], Tensor], margin: float, swap: bool, reduction: str,
) -> Tensor:  # fmt: skip
    a, b, c = same_shapes(operation, anchor, positive, negative)
    near, far = distance(a, b), distance(a, c)
    far = F.minimum(far, distance(b, c)) if swap else far
    return reduced(operation, F.clip(margin + near - far, 0.0, None), reduction)


def info_nce(
    query: TensorLike,
    key: TensorLike,
    temperature: TensorLike = 0.1,
    symmetric: bool = False,
    normalized: bool = True,
    reduction: str = "mean",
) -> Tensor:
    """``-log(exp(q_i . k_i / t) / sum over j of exp(q_i . k_j / t))``: to find a query's key among those of the batch.

    InfoNCE of van den Oord et al., "Contrastive predictive coding", arXiv 1807.03748; both ways as in CLIP (Radford et
    al., arXiv 2103.00020).

    Args:
        query: shape (N, D).
        key: shape (N, D); row i belongs to query i, and the others are its negatives.
        temperature: t, above 0; a number, or a parameter that is learned.
        symmetric: the mean of this and of finding each key's query.
        normalized: scale vectors to length 1, which makes the products cosines.
        reduction: "none" for shape (N,), "mean" or "sum".

    Raises:
        ShapeError: the shapes differ, or are not (N, D).

    >>> nn.functional.info_nce(cr.eye(2), cr.eye(2), temperature=1.0)  # log(1 + 1 / e)
    tensor(0.31326...)
    """
    q, k = same_shapes("info_nce", query, key)
    if q.ndim != 2:
        raise ShapeError("info_nce", "needs vectors in rows, (N, D)", received=f"shape {q.shape}")
    if isinstance(temperature, (int, float)) and temperature <= 0:
        raise ArgumentError("info_nce", "the temperature is above 0", received=repr(temperature))
    q, k = (normalize(q), normalize(k)) if normalized else (q, k)
    scores, own = q @ k.T / temperature, F.arange(q.shape[0])
    loss = cross_entropy(scores, own, reduction="none")
    loss = (loss + cross_entropy(scores.T, own, reduction="none")) / 2 if symmetric else loss
    return reduced("info_nce", loss, reduction)


# --- classes ----------------------------------------------------------------------------------------------


def multi_margin_loss(
    input: TensorLike,
    target: TensorLike,
    p: int = 1,
    margin: float = 1.0,
    weight: TensorLike | None = None,
    reduction: str = "mean",
) -> Tensor:
    """``w[y] / C * sum over c != y of max(0, margin - x[y] + x[c])^p``.

    Args:
        input: scores, shape (..., C).
        target: labels, shape (...).
        p: 1 or 2.
        margin: by how much the label's score should lead.
        weight: factor of each class, shape (C,).
        reduction: "none", "mean" or "sum".

    >>> nn.functional.multi_margin_loss(cr.tensor([[0.0, 0.0]]), cr.tensor([0]))
    tensor(0.5)
    """
    x, y = F.asarray(input), F.asarray(target)
    if p not in (1, 2):
        raise ArgumentError("multi_margin_loss", "p is 1 or 2", received=repr(p))
    check_labels("multi_margin_loss", x, y)
    lead = F.relu(margin - F.expand_dims(picked("multi_margin_loss", x, y), -1) + x)
    terms = lead if p == 1 else F.square(lead)
    other = F.expand_dims(y, -1) != F.arange(x.shape[-1])
    loss = F.sum(F.where(other, terms, 0.0), axis=-1) / x.shape[-1]
    weights = class_weights("multi_margin_loss", weight, x)
    loss = loss if weights is None else loss * F.take(weights, y, axis=0)
    return reduced("multi_margin_loss", loss, reduction)


def multilabel_margin_loss(input: TensorLike, target: TensorLike, reduction: str = "mean") -> Tensor:
    """``1 / C * sum over labels j and other classes i of max(0, 1 - x[j] + x[i])``.

    Args:
        input: scores, shape (..., C).
        target: labels of the same shape, those of a sample first, then -1.
        reduction: "none", "mean" or "sum".

    >>> nn.functional.multilabel_margin_loss(cr.tensor([0.0, 0.0]), cr.tensor([1, -1]))
    tensor(0.5)
    """
    x, y = F.asarray(input), F.asarray(target)
    if x.shape != y.shape or not x.ndim:
        raise ShapeError(
            "multilabel_margin_loss", "needs labels of the input's shape", received=f"{x.shape} and {y.shape}"
        )
    counts = F.cumulative_max((y < 0).astype("int64"), -1) == 0  # what stands before the first -1
    labels = F.where(counts, y, 0)
    scores = F.take_along_axis(x, labels, -1)
    is_label = F.any((F.expand_dims(labels, -1) == F.arange(x.shape[-1])) & F.expand_dims(counts, -1), axis=-2)
    pairs = F.relu(1 - F.expand_dims(scores, -1) + F.expand_dims(x, -2))  # (..., label, class)
    pairs = F.where(F.expand_dims(counts, -1) & ~F.expand_dims(is_label, -2), pairs, 0.0)
    return reduced("multilabel_margin_loss", F.sum(pairs, axis=(-2, -1)) / x.shape[-1], reduction)


def multilabel_soft_margin_loss(
    input: TensorLike, target: TensorLike, weight: TensorLike | None = None, reduction: str = "mean"
) -> Tensor:
    """Mean over classes of ``-(y log s(x) + (1 - y) log s(-x))`` for logits x and the logistic function s.

    >>> nn.functional.multilabel_soft_margin_loss(cr.tensor([[0.0, 0.0]]), cr.tensor([[1.0, 0.0]]))
    tensor(0.6931472)
    """
    x, y = same_shapes("multilabel_soft_margin_loss", input, target)
    loss = -(y * F.log_sigmoid(x) + (1 - y) * F.log_sigmoid(-x))
    loss = loss if weight is None else loss * weight
    return reduced("multilabel_soft_margin_loss", F.mean(loss, axis=-1), reduction)
