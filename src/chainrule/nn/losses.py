"""Losses as functions. Shapes must agree exactly: a loss never broadcasts in silence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import custom_vjp, functions as F
from ..dtypes import FLOATING, INTEGER
from ..errors import ArgumentError, DTypeError, IndexOutOfRangeError, ShapeError
from ..tensor import Tensor, TensorLike, operand, promote
from .normalizing import narrowed, widened

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "gaussian_nll_loss", "huber_loss",
    "kl_div", "l1_loss", "mse_loss", "nll_loss", "poisson_nll_loss", "quantile_loss", "smooth_l1_loss",
]  # fmt: skip

REDUCTIONS = ("none", "mean", "sum")


def reduced(operation: str, loss: Tensor, reduction: str) -> Tensor:
    """Return the losses of all elements as they are, their mean or their sum."""
    if reduction not in REDUCTIONS:
        raise ArgumentError(operation, "reduction is 'none', 'mean' or 'sum'", received=repr(reduction))
    return loss if reduction == "none" else F.mean(loss) if reduction == "mean" else F.sum(loss)


def same_shapes(operation: str, *given: TensorLike) -> tuple[Tensor, ...]:
    """Return all as tensors of one floating dtype; they must have one shape."""
    xs = [F.asarray(x) for x in given]
    shapes = {x.shape for x in xs}
    if len(shapes) > 1:
        flat = len({x.size for x in xs}) == 1
        raise ShapeError(
            operation,
            "prediction and target must have one shape, since broadcasting would compare each with each",
            received=f"shapes {' and '.join(str(x.shape) for x in xs)}",
            fix="prediction.squeeze(-1) or target[:, None] bring (N, 1) and (N,) together" if flat else "",
        )
    same = promote(*xs)
    return same if same[0].dtype in FLOATING else tuple(x.astype("float32") for x in same)


def mse_loss(input: TensorLike, target: TensorLike, reduction: str = "mean") -> Tensor:
    """Squared error, ``(input - target)^2``.

    Raises:
        ShapeError: the shapes differ, (N,) against (N, 1) included.

    >>> nn.functional.mse_loss(cr.tensor([1.0, 2.0]), cr.tensor([1.0, 4.0]))
    tensor(2.)
    """
    x, y = same_shapes("mse_loss", input, target)
    return reduced("mse_loss", F.square(x - y), reduction)


def l1_loss(input: TensorLike, target: TensorLike, reduction: str = "mean") -> Tensor:
    """Absolute error, ``|input - target|``; its gradient is 0 where they agree.

    >>> nn.functional.l1_loss(cr.tensor([1.0, 2.0]), cr.tensor([1.0, 4.0]))
    tensor(1.)
    """
    x, y = same_shapes("l1_loss", input, target)
    return reduced("l1_loss", F.abs(x - y), reduction)


def huber_loss(input: TensorLike, target: TensorLike, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """``d^2 / 2`` for errors up to ``delta``, ``delta (d - delta / 2)`` beyond (Huber, 1964).

    >>> nn.functional.huber_loss(cr.tensor([0.0, 0.0]), cr.tensor([1.0, 3.0]), reduction="none")
    tensor([0.5, 2.5])
    """
    if delta <= 0:
        raise ArgumentError("huber_loss", "delta is positive", received=repr(delta))
    x, y = same_shapes("huber_loss", input, target)
    d = F.abs(x - y)
    return reduced("huber_loss", F.where(d <= delta, 0.5 * d * d, delta * (d - 0.5 * delta)), reduction)


def smooth_l1_loss(input: TensorLike, target: TensorLike, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """``d^2 / (2 beta)`` for errors below ``beta``, ``d - beta / 2`` beyond (Girshick, arXiv 1504.08083).

    >>> nn.functional.smooth_l1_loss(cr.tensor([0.0]), cr.tensor([3.0]))
    tensor(2.5)
    """
    if beta < 0:
        raise ArgumentError("smooth_l1_loss", "beta is not negative", received=repr(beta))
    if beta == 0:
        return l1_loss(input, target, reduction)
    return huber_loss(input, target, reduction, beta) / beta


def quantile_loss(
    input: TensorLike, target: TensorLike, quantile: float | Sequence[float] = 0.5, reduction: str = "mean"
) -> Tensor:
    """``max(q d, (q - 1) d)`` for errors ``d = target - input``, the pinball loss, least at the target's q-quantile.

    Koenker and Bassett, "Regression quantiles", Econometrica 46 (1978).

    Args:
        input: predictions of the target's shape; of several quantiles one more axis, the last: (..., Q).
        target: shape (...).
        quantile: q, above 0 and below 1, or Q of them.
        reduction: "none", "mean" or "sum".

    Raises:
        ArgumentError: a quantile is not between 0 and 1.

    >>> nn.functional.quantile_loss(cr.tensor([[0.0, 0.0]]), cr.tensor([1.0]), (0.1, 0.9), reduction="none")
    tensor([[0.1, 0.9]])
    """
    levels = np.asarray(quantile, "float64")
    if levels.ndim > 1 or not levels.size or not ((levels > 0) & (levels < 1)).all():
        raise ArgumentError("quantile_loss", "quantiles are between 0 and 1", received=repr(quantile))
    y = F.asarray(target)
    if levels.ndim:
        y = F.broadcast_to(F.expand_dims(y, -1), (*y.shape, levels.size))
    x, y = same_shapes("quantile_loss", input, y)
    d, q = y - x, F.asarray(levels, x.dtype)
    return reduced("quantile_loss", F.maximum(q * d, (q - 1) * d), reduction)


def binary_cross_entropy_with_logits(
    input: TensorLike,
    target: TensorLike,
    weight: TensorLike | None = None,
    reduction: str = "mean",
    pos_weight: TensorLike | None = None,
) -> Tensor:
    """``-(w+ y log s(x) + (1 - y) log(1 - s(x)))`` for logits x and the logistic function s, without overflow.

    Args:
        input: logits.
        target: probabilities of the same shape.
        weight: factor of each element.
        reduction: "none", "mean" or "sum".
        pos_weight: factor of the positive part, for classes that are rare.

    >>> nn.functional.binary_cross_entropy_with_logits(cr.tensor([0.0]), cr.tensor([1.0]))
    tensor(0.6931472)
    """
    x, y = same_shapes("binary_cross_entropy_with_logits", input, target)
    log_weight = 1.0 if pos_weight is None else 1.0 + (F.asarray(pos_weight) - 1.0) * y
    loss = (1 - y) * x - log_weight * F.log_sigmoid(x)
    loss = loss if weight is None else loss * weight
    return reduced("binary_cross_entropy_with_logits", loss, reduction)


def binary_cross_entropy(
    input: TensorLike, target: TensorLike, weight: TensorLike | None = None, reduction: str = "mean"
) -> Tensor:
    """``-(y log p + (1 - y) log(1 - p))`` for probabilities p, logarithms bounded by -100.

    >>> nn.functional.binary_cross_entropy(cr.tensor([0.5]), cr.tensor([1.0]))
    tensor(0.6931472)
    """
    p, y = same_shapes("binary_cross_entropy", input, target)
    loss = -(y * F.clip(F.log(p), -100.0, None) + (1 - y) * F.clip(F.log1p(-p), -100.0, None))
    loss = loss if weight is None else loss * weight
    return reduced("binary_cross_entropy", loss, reduction)


def kl_div(input: TensorLike, target: TensorLike, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """Kullback-Leibler divergence, ``q (log q - x)`` for log-probabilities x and target probabilities q.

    ``reduction="batchmean"`` divides the sum by the first axis: the divergence as it is defined.

    >>> nn.functional.kl_div(cr.log(cr.tensor([0.5])), cr.tensor([1.0]), reduction="sum")
    tensor(0.6931472)
    """
    x, q = same_shapes("kl_div", input, target)
    loss = F.exp(q) * (q - x) if log_target else F.xlogy(q, q) - q * x
    if reduction == "batchmean":
        return F.sum(loss) / max(x.shape[0] if x.ndim else 1, 1)
    return reduced("kl_div", loss, reduction)


def poisson_nll_loss(
    input: TensorLike,
    target: TensorLike,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """``exp(x) - y x`` for the logarithm x of a Poisson rate, ``x - y log(x + eps)`` for the rate itself.

    ``full`` adds Stirling's approximation of ``log(y!)``, ``y log y - y + log(2 pi y) / 2``, where y is above 1.

    >>> nn.functional.poisson_nll_loss(cr.tensor([0.0]), cr.tensor([2.0]))
    tensor(1.)
    """
    x, y = same_shapes("poisson_nll_loss", input, target)
    loss = F.exp(x) - y * x if log_input else x - y * F.log(x + eps)
    if full:
        large = y > 1
        safe = F.where(large, y, 1.0)
        stirling = safe * F.log(safe) - safe + 0.5 * F.log(2 * math.pi * safe)
        loss = loss + F.where(large, stirling, 0.0)
    return reduced("poisson_nll_loss", loss, reduction)


def gaussian_nll_loss(
    input: TensorLike,
    target: TensorLike,
    var: TensorLike,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """``(log v + (x - y)^2 / v) / 2`` for predicted means x and variances v, bounded below by ``eps``.

    Args:
        input, target: one shape.
        var: variances of that shape, or without its last axis, or of one that can be broadcast to it.
        full: add ``log(2 pi) / 2``.
        eps: the bound; the gradient by ``var`` passes through it.
        reduction: "none", "mean" or "sum".

    >>> nn.functional.gaussian_nll_loss(cr.tensor([1.0]), cr.tensor([3.0]), cr.tensor([1.0]))
    tensor(2.)
    """
    x, y = same_shapes("gaussian_nll_loss", input, target)
    v = F.asarray(var, x.dtype)
    if v.ndim and v.shape == x.shape[:-1]:
        v = F.expand_dims(v, -1)
    if v.ndim > x.ndim or any(n not in (1, m) for n, m in zip(v.shape[::-1], x.shape[::-1], strict=False)):
        raise ShapeError("gaussian_nll_loss", "the variances do not fit", received=f"shapes {x.shape} and {v.shape}")
    bounded = v + (F.clip(v, eps, None) - v).detach()
    loss = 0.5 * (F.log(bounded) + F.square(x - y) / bounded)
    return reduced("gaussian_nll_loss", loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


# --- classes ----------------------------------------------------------------------------------------------


def check_labels(operation: str, x: Tensor, target: Tensor) -> None:
    """Raise unless the target has a whole number for each place of the input."""
    if target.dtype not in INTEGER:
        raise DTypeError(
            operation,
            "labels are whole numbers; probabilities have the shape of the input",
            received=f"a target of {target.dtype.name}{target.shape} for an input of shape {x.shape}",
            fix="labels.astype('int64')",
        )
    if not x.ndim or target.shape != x.shape[:-1]:
        raise ShapeError(
            operation,
            f"labels must have shape {x.shape[:-1]}: the input's without its last axis, the classes",
            received=f"input of shape {x.shape}, target of shape {target.shape}",
            fix="classes are the last axis of the input here",
        )


def _picking(x: Tensor, label: Tensor) -> Tensor:
    return F.squeeze(F.take_along_axis(x, F.expand_dims(label, -1), axis=-1), -1)


def _picking_gradient(saved: tuple[Tensor, Tensor], ct: Tensor) -> tuple[Tensor, None]:
    x, label = saved
    at = F.arange(x.shape[-1]) == F.expand_dims(label, -1)
    return F.where(at, F.expand_dims(ct, -1), 0.0), None


#: One element of each row. Its gradient is a comparison, which joins the loops around it, where one by index would fill
#: a buffer with zeros and scatter into it.
_pick = custom_vjp(_picking, lambda x, label: (_picking(x, label), (x, label)), _picking_gradient)


def picked(operation: str, x: Tensor, target: Tensor) -> Tensor:
    """The element of the target class, out of the last axis."""
    classes = x.shape[-1]
    label = F.where(target < 0, -classes - 1, target.astype("int64"))  # -1 is not the last class
    try:
        return _pick(x, label)
    except IndexOutOfRangeError as error:
        raise IndexOutOfRangeError(
            operation,
            f"a label is not one of the {classes} classes: {error.message}",
            fix="labels count from 0; give the last layer as many outputs as there are classes",
        ) from None


def nll_loss(
    input: TensorLike,
    target: TensorLike,
    weight: TensorLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood, ``-w[y] x[y]`` for log-probabilities x; the mean is divided by the weights' sum.

    Args:
        input: log-probabilities, shape (..., C).
        target: labels, shape (...).
        weight: factor of each class, shape (C,).
        ignore_index: a label that counts for nothing.
        reduction: "none", "mean" or "sum".

    >>> nn.functional.nll_loss(cr.log(cr.tensor([[0.25, 0.75]])), cr.tensor([0]))
    tensor(1.3862944)
    """
    x, y = operand(input, True), F.asarray(target)
    check_labels("nll_loss", x, y)
    return narrowed(_nll("nll_loss", widened(x), y, weight, ignore_index, reduction), x)


def _nll(
    operation: str, x: Tensor, target: Tensor, weight: TensorLike | None, ignore_index: int, reduction: str,
    smoothing: float = 0.0, peak: Tensor | float = 0.0, log_sum: Tensor | float = 0.0,
) -> Tensor:  # fmt: skip
    """The loss of the log-probabilities ``x - peak - log_sum``, of which only the labels' are computed."""
    counted = target != ignore_index
    label = F.where(counted, target, 0)
    factor = counted.astype(x.dtype)
    loss = log_sum - (picked(operation, x, label) - peak)
    weights = class_weights(operation, weight, x)
    if weights is not None:
        factor = factor * F.take(weights, label, axis=0)
    loss = loss * factor
    if smoothing:
        everywhere = F.ones(x.shape[-1:], dtype=x.dtype) if weights is None else weights
        spread = _spread(x, everywhere, peak, log_sum) * counted.astype(x.dtype)
        loss = (1 - smoothing) * loss + smoothing / x.shape[-1] * spread
    loss = F.where(counted, loss, 0.0)
    return F.sum(loss) / F.sum(factor) if reduction == "mean" else reduced(operation, loss, reduction)


def class_weights(operation: str, weight: TensorLike | None, x: Tensor) -> Tensor | None:
    if weight is None:
        return None
    weights = F.asarray(weight, x.dtype)
    if weights.shape != x.shape[-1:]:
        raise ShapeError(operation, f"needs a weight for each of {x.shape[-1]} classes", received=str(weights.shape))
    return weights


def _spread(x: Tensor, q: Tensor, peak: Any, log_sum: Any) -> Tensor:
    """``-sum over c of q[c] log softmax(x)[c]``, without the matrix of logarithms."""
    return log_sum * F.sum(q, axis=-1) - F.sum(q * (x - F.expand_dims(peak, -1)), axis=-1)


def cross_entropy(
    input: TensorLike,
    target: TensorLike,
    weight: TensorLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross entropy of the softmax of logits, ``-sum over c of w[c] q[c] log softmax(x)[c]``.

    Args:
        input: logits, shape (..., C); classes are the last axis.
        target: labels (whole numbers of shape (...)), or probabilities q of the shape of the input.
        weight: factor of each class, shape (C,); the mean over labels is divided by the sum of theirs.
        ignore_index: a label that counts for nothing.
        reduction: "none", "mean" or "sum".
        label_smoothing: mix so much of the uniform distribution into the target (Szegedy et al., arXiv 1512.00567).

    Raises:
        ShapeError: the target's shape is neither.
        IndexOutOfRangeError: a label is not one of the classes.

    >>> nn.functional.cross_entropy(cr.tensor([[0.0, 0.0]]), cr.tensor([1]))
    tensor(0.6931472)
    """
    x, y = operand(input, True), F.asarray(target)
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError("cross_entropy", "label_smoothing is between 0 and 1", received=repr(label_smoothing))
    of_labels = y.dtype not in FLOATING or y.shape != x.shape
    if of_labels:
        check_labels("cross_entropy", x, y)
    given, x = x, widened(x)
    peak = F.max(x.detach(), axis=-1)
    log_sum = F.log(F.sum(F.exp(x - F.expand_dims(peak, -1)), axis=-1))
    if of_labels:
        loss = _nll("cross_entropy", x, y, weight, ignore_index, reduction, label_smoothing, peak, log_sum)
        return narrowed(loss, given)
    y = y.astype(x.dtype)
    if label_smoothing:
        y = y * (1 - label_smoothing) + label_smoothing / x.shape[-1]
    weights = class_weights("cross_entropy", weight, x)
    loss = _spread(x, y if weights is None else y * weights, peak, log_sum)
    return narrowed(reduced("cross_entropy", loss, reduction), given)
