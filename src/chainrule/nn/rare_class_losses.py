"""Losses for classes that are rare and regions that are small, which would drown in a mean."""

from __future__ import annotations

from typing import Any

from .. import functions as F
from ..dtypes import INTEGER
from ..errors import ArgumentError, ShapeError
from ..tensor import Tensor, TensorLike, operand
from .losses import check_labels, picked, reduced, same_shapes

__all__ = ["dice_loss", "focal_loss"]


def focal_loss(
    input: TensorLike,
    target: TensorLike,
    alpha: TensorLike | None = None,
    gamma: float = 2.0,
    reduction: str = "mean",
) -> Tensor:
    """Cross entropy whose easy cases count less, ``-alpha (1 - p)^gamma log p`` for the probability p of what is true.

    Lin et al., "Focal loss for dense object detection", arXiv 1708.02002. For a target of the input's shape each
    element is a question of its own, p the logistic function of the logit, and the loss

    ``-alpha y (1 - p)^gamma log p - (1 - alpha) (1 - y) p^gamma log(1 - p)``;

    for labels p is the softmax over classes.

    Args:
        input: logits, shape (...) or (..., C).
        target: 0 to 1 of the input's shape, or labels of shape (...).
        alpha: the weight of what is positive, 1 - alpha being the others'; for labels one of each class, shape (C,).
            None for no weights.
        gamma: by how much easy cases are passed over; 0 gives the cross entropy.
        reduction: "none", "mean" or "sum".

    Raises:
        ShapeError: the target's shape is neither.
        ArgumentError: gamma is negative.

    >>> nn.functional.focal_loss(cr.tensor([0.0]), cr.tensor([1.0]))  # 0.5^2 log 2
    tensor(0.173286...)
    >>> nn.functional.focal_loss(cr.tensor([[0.0, 0.0]]), cr.tensor([1]))
    tensor(0.173286...)
    """
    if gamma < 0:
        raise ArgumentError("focal_loss", "gamma must not be negative", received=repr(gamma))
    y = F.asarray(target)
    if y.dtype in INTEGER and y.shape != F.asarray(input).shape:
        return reduced("focal_loss", _focal_of_labels(operand(input, True), y, alpha, gamma), reduction)
    x, y = same_shapes("focal_loss", input, y)
    log_p, log_q = F.log_sigmoid(x), F.log_sigmoid(-x)
    yes, no = y * F.exp(gamma * log_q) * log_p, (1 - y) * F.exp(gamma * log_p) * log_q
    if alpha is not None:
        share = F.asarray(alpha, x.dtype)
        yes, no = share * yes, (1 - share) * no
    return reduced("focal_loss", -(yes + no), reduction)


def _focal_of_labels(x: Tensor, labels: Tensor, alpha: Any, gamma: float) -> Tensor:
    check_labels("focal_loss", x, labels)
    log_p = picked("focal_loss", F.log_softmax(x, axis=-1), labels)
    missing = -F.expm1(log_p)
    some = missing > 0
    loss = F.where(some, -(F.where(some, missing, 1.0) ** gamma) * log_p, 0.0)  # powers below 1 have no slope at 0
    if alpha is None:
        return loss
    return loss * F.take(F.broadcast_to(F.asarray(alpha, x.dtype), x.shape[-1:]), labels, axis=0)


def dice_loss(input: TensorLike, target: TensorLike, smooth: float = 1.0, reduction: str = "mean") -> Tensor:
    """``1 - (2 sum p g + s) / (sum p^2 + sum g^2 + s)`` of each class, sums over an image: what two regions share.

    Milletari, Navab and Ahmadi, "V-Net", arXiv 1606.04797; ``s`` gives a class that is nowhere, and found nowhere, no
    loss.

    Args:
        input: probabilities p, shape (N, ..., C): the softmax of logits, or their logistic function where classes
            overlap.
        target: g, 0 to 1, of the input's shape, or labels of shape (N, ...).
        smooth: s.
        reduction: "none" for shape (N, C), "mean" or "sum".

    Raises:
        ShapeError: the target's shape is neither.

    >>> nn.functional.dice_loss(cr.tensor([[[1.0, 0.0], [0.0, 1.0]]]), cr.tensor([[0, 0]]), reduction="none")
    tensor([[0.25, 0.5 ]])
    """
    p, g = operand(input, True), F.asarray(target)
    if p.ndim < 2:
        raise ShapeError("dice_loss", "needs a batch of images, (N, ..., C)", received=f"shape {p.shape}")
    if g.dtype in INTEGER and g.shape != p.shape:
        check_labels("dice_loss", p, g)
        g = F.one_hot(g, p.shape[-1], p.dtype)
    p, g = same_shapes("dice_loss", p, g)
    axes = tuple(range(1, p.ndim - 1))
    shared, sizes = F.sum(p * g, axis=axes), F.sum(p * p, axis=axes) + F.sum(g * g, axis=axes)
    return reduced("dice_loss", 1 - (2 * shared + smooth) / (sizes + smooth), reduction)
