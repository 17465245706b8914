"""Connectionist temporal classification: the likelihood of a sequence of labels, over all ways to align it.

Graves, Fernandez, Gomez and Schmidhuber, "Connectionist temporal classification", ICML 2006.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import custom_vjp, functions as F, scan
from ..dtypes import INTEGER
from ..errors import ArgumentError, DTypeError, IndexOutOfRangeError, ShapeError
from ..tensor import Tensor, TensorLike, operand
from .losses import reduced

__all__ = ["ctc_loss"]

Lengths = TensorLike | Sequence[int]

FLOOR = -1e30  # stands for log(0): finite, so that no difference is NaN, and of no weight beside any other number


def ctc_loss(
    log_probs: TensorLike,
    targets: TensorLike,
    input_lengths: Lengths,
    target_lengths: Lengths,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """``-log`` of the probability that a sequence of labels is read, summed over all its alignments.

    At each time the network says a label or the blank. An alignment is read by merging repetitions and then leaving the
    blanks out, so equal labels in a row need a blank between them. The sum over alignments is the forward recursion of
    Graves et al. (2006, equations 6 to 8) in logarithms; its gradient is their backward recursion, of shares of the
    whole, so that long sequences lose no digits.

    Args:
        log_probs: logarithms of probabilities, shape (N, T, C) or, of a single sequence, (T, C).
        targets: labels, shape (N, S), padded with anything; or those of all sequences in a row, without padding, which
            costs room for all of them in each sequence if ``target_lengths`` is a tensor.
        input_lengths: how many of the T times count, N whole numbers.
        target_lengths: how many labels each sequence has, N whole numbers; 0 is allowed.
        blank: the class that is no label.
        reduction: "none", "mean" or "sum"; the mean is that of the losses, each divided by its number of labels.
        zero_infinity: 0 instead of infinity where no alignment is possible.

    Returns:
        a scalar; shape (N,) without reduction. Impossible alignments have gradient 0.

    Raises:
        IndexOutOfRangeError: a label is not a class, or a length is more than there is.

    >>> log_probs = cr.log(cr.tensor([[0.5, 0.5], [0.5, 0.5]]))
    >>> nn.functional.ctc_loss(log_probs, cr.tensor([1]), [2], [1]).exp()  # 1 of the 4 alignments is all blank
    tensor(1.333...)
    """
    x, labels = operand(log_probs, True), F.asarray(targets)
    if x.ndim not in (2, 3):
        raise ShapeError("ctc_loss", "log_probs has shape (N, T, C) or (T, C)", received=f"shape {x.shape}")
    batch = x if x.ndim == 3 else F.expand_dims(x, 0)
    n, times, classes = batch.shape
    if not 0 <= blank < classes:
        raise ArgumentError("ctc_loss", f"blank is one of {classes} classes", received=repr(blank))
    if labels.dtype not in INTEGER:
        raise DTypeError("ctc_loss", "labels are whole numbers", received=f"targets of {labels.dtype.name}")
    if labels.ndim != 1 and (labels.ndim != 2 or x.ndim == 2 or labels.shape[0] != n):
        raise ShapeError(
            "ctc_loss",
            "targets has shape (N, S), or one axis with the labels of all sequences in a row",
            received=f"log_probs of shape {x.shape}, targets of shape {labels.shape}",
        )
    inputs = _lengths("input_lengths", input_lengths, n, times)
    most = _most(target_lengths, labels)
    lengths = _lengths("target_lengths", target_lengths, n, most)
    padded = _padded(labels, lengths, most, classes, blank)
    loss = _losses(batch.astype("float32") if x.dtype.itemsize < 4 else batch, padded, inputs, lengths, blank)
    loss = (F.where(F.isinf(loss), 0.0, loss) if zero_infinity else loss).astype(x.dtype)
    loss = loss / F.clip(lengths, 1, None).astype(x.dtype) if reduction == "mean" else loss
    return reduced("ctc_loss", loss if x.ndim == 3 else loss[0], reduction)


# --- arguments --------------------------------------------------------------------------------------------


def _in_range(x: Tensor, n: int, what: str) -> Tensor:
    """Raise unless all are in 0..n-1, in compiled code too: looking each up is what checks it."""
    try:
        return F.take(F.arange(n), F.where(x < 0, n, x.astype("int64")), axis=0)
    except IndexOutOfRangeError as error:
        raise IndexOutOfRangeError("ctc_loss", f"{what}: {error.message}") from None


def _lengths(name: str, given: Lengths, n: int, most: int) -> Tensor:
    x = F.asarray(given)
    if x.size != n or (n and x.dtype not in INTEGER):
        raise ShapeError("ctc_loss", f"{name} are {n} whole numbers", received=f"{x.dtype.name} of shape {x.shape}")
    return _in_range(F.reshape(x, (n,)), most + 1, f"{name} are at most {most}")


def _most(target_lengths: Lengths, labels: Tensor) -> int:
    """For how many labels there must be room: of a row of all labels, no more are known if lengths are tensors."""
    if labels.ndim == 2 or isinstance(target_lengths, Tensor):
        return labels.shape[-1]
    return int(max(np.ravel(target_lengths), default=0))


def _padded(labels: Tensor, lengths: Tensor, most: int, classes: int, blank: int) -> Tensor:
    """Labels of shape (N, S), with blanks behind each sequence's end."""
    inside = F.arange(most) < F.expand_dims(lengths, -1)
    if labels.ndim == 1 and most:
        starts = F.expand_dims(F.cumulative_sum(lengths) - lengths, -1)
        places = F.where(inside, starts + F.arange(most), 0)
        labels = F.take(labels, _in_range(places, labels.shape[0], "target_lengths ask for more labels than there are"))
    labels = F.reshape(labels, inside.shape)
    return _in_range(F.where(inside, labels, blank), classes, f"a label is not one of the {classes} classes")


# --- the recursions ---------------------------------------------------------------------------------------
# State 2 s + 1 says label s, the even states say blank. A path stays where it is or goes one state on, and two where
# that leaves out a blank between different labels. Times are the first axis, of length T; there are L states.


def _losses(x: Tensor, labels: Tensor, inputs: Tensor, lengths: Tensor, blank: int) -> Tensor:
    n, times, _ = x.shape
    states = 2 * labels.shape[1] + 1
    place = F.arange(states)
    said = F.reshape(F.stack([F.full_like(labels, blank), labels], axis=-1), (n, states - 1))
    said = F.concat([said, F.full((n, 1), blank, dtype=labels.dtype)], axis=1)
    scores = F.gather(x, F.arange(n)[None, :, None], F.arange(times)[:, None, None], said[None])  # (T, N, L)
    skip = F.where((place < 2) | (said == F.roll(said, 2, -1)), FLOOR, 0.0).astype(x.dtype)
    counts = F.arange(times)[:, None, None] < inputs[:, None]
    ends = F.stack([2 * lengths, 2 * lengths - 1], axis=-1)
    scores = F.clip(scores, FLOOR, None)
    top = F.max(scores.detach(), axis=-1, keepdims=True)
    total = _total(scores - top, skip, counts, ends) + F.sum(F.where(counts, top, 0.0), axis=(0, 2))
    return F.where(total < FLOOR / 2, np.inf, -total)


def _ahead(x: Tensor, fill: float) -> Tensor:
    """Two more states before the first."""
    return F.pad(x, [(0, 0)] * (x.ndim - 1) + [(2, 0)], value=fill)


def _behind(x: Tensor, fill: float) -> Tensor:
    """Two more states behind the last."""
    return F.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 2)], value=fill)


def _walk(scores: Tensor, skip: Tensor, counts: Tensor) -> tuple[Tensor, Any]:
    """Equation 6: for each state the logarithm of the probability of all paths there, at the end and at each time.

    Returns:
        that at the end, with two states ahead; and for each time that before it, the best of the three that a state is
        reached from, and by how much all three are more.
    """
    n, states = skip.shape
    first = F.asarray(np.where(np.arange(states + 2) == 2, 0.0, FLOOR), scores.dtype)

    def step(paths: Tensor, given: Any) -> tuple[Tensor, Any]:
        score, counts = given
        stay, one, two = paths[:, 2:], paths[:, 1:-1], paths[:, :-2] + skip
        best = F.maximum(F.maximum(stay, one), two).detach()
        more = F.log(F.exp(stay - best) + F.exp(one - best) + F.exp(two - best))
        return _ahead(F.where(counts, best + more + score, stay), FLOOR), (stay, best, more)

    return scan(step, F.broadcast_to(first, (n, states + 2)), (scores, counts))


def _read(paths: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Equation 8: what ends in the last label or the blank behind it, and the total."""
    last = F.take_along_axis(paths, ends + 2, -1)
    return last, F.logsumexp(last, axis=-1)


@custom_vjp
def _total(scores: Tensor, skip: Tensor, counts: Tensor, ends: Tensor) -> Tensor:
    """Logarithm of the probability of all paths, shape (N,)."""
    return _read(_walk(scores, skip, counts)[0], ends)[1]


def _total_forward(scores: Tensor, skip: Tensor, counts: Tensor, ends: Tensor) -> tuple[Tensor, Any]:
    paths, steps = _walk(scores, skip, counts)
    last, total = _read(paths, ends)
    return total, (F.exp(last - F.expand_dims(total, -1)), steps, skip, counts, ends)


def _total_backward(residuals: Any, ct: Tensor) -> tuple[Tensor | None, ...]:
    """The share of all paths that goes through each state at each time (equation 15), from the end to the start.

    A state's share comes from the three before it in proportion to their paths. The differences are taken from the best
    of the three, which is exact: what is rounded away in sums of a thousand times must not add up.
    """
    share, (stay, best, more), skip, counts, ends = residuals
    states = skip.shape[1]
    at_end = F.arange(states) == F.expand_dims(ends, -1)  # (N, 2, L)
    start = F.sum(F.where(at_end, F.expand_dims(F.expand_dims(ct, -1) * share, -1), 0.0), axis=1)
    onward = _behind(skip, FLOOR)[:, 2:]

    def step(shares: Tensor, given: Any) -> tuple[Tensor, Tensor]:
        stay, best, more, counts = given
        here = shares[:, :-2]
        came = here * F.exp(stay - best[:, :-2] - more[:, :-2])
        came = came + shares[:, 1:-1] * F.exp(stay - best[:, 1:-1] - more[:, 1:-1])
        came = came + shares[:, 2:] * F.exp(stay + onward - best[:, 2:] - more[:, 2:])
        return _behind(F.where(counts, came, here), 0.0), F.where(counts, here, 0.0)

    given = (stay, _behind(best, -FLOOR), _behind(more, 0.0), counts)
    _, slopes = scan(step, _behind(start, 0.0), given, reverse=True)
    return slopes, None, None, None


_total.defvjp(_total_forward, _total_backward)
