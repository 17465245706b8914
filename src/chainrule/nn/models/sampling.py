"""Choosing the next token of each sequence."""

from __future__ import annotations

from ... import functions as F
from ...errors import ArgumentError
from ...tensor import Tensor


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise unless these are what `sample` takes."""
    if not (temperature >= 0 and (top_k is None or top_k >= 1) and (top_p is None or 0 < top_p <= 1)):
        raise ArgumentError(
            "sample", "temperature is 0 or more, top_k 1 or more, top_p above 0 and at most 1",
            received=f"temperature={temperature}, top_k={top_k}, top_p={top_p}",
        )  # fmt: skip


def sample(
    scores: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    *,
    generator: F.Generator | None = None,
) -> Tensor:
    """Draw a class with probability ``softmax(scores / temperature)``, from the most probable alone if told so.

    Args:
        scores: shape (..., classes).
        temperature: 0 takes the class of the highest score.
        top_k: leave out all but so many.
        top_p: leave out all but the fewest whose probabilities sum up to this, or more (Holtzman et al., arXiv
            1904.09751).
        generator: random numbers; one of them for each result.

    Returns:
        integers of shape (...).

    Raises:
        ArgumentError: an argument is out of its range.

    >>> scores = cr.tensor([[0.0, 2.0, 1.0]])
    >>> nn.models.sample(scores, temperature=0.0)
    tensor([1])
    >>> {int(nn.models.sample(scores, top_k=2)[0]) for _ in range(20)} == {1, 2}
    True
    """
    check_sampling(temperature, top_k, top_p)
    scores = F.asarray(scores)
    if temperature == 0:
        return F.argmax(scores, axis=-1)
    order = F.argsort(scores, axis=-1, descending=True)
    scores = F.take_along_axis(scores, order, axis=-1).astype("float32")
    p = F.softmax((scores - scores[..., :1]) / temperature, axis=-1)
    number = F.arange(p.shape[-1])
    kept = number < (p.shape[-1] if top_k is None else top_k)
    if top_p is not None:
        kept = kept & (F.cumulative_sum(p, axis=-1) - p < top_p)
    upto = F.cumulative_sum(F.where(kept, p, 0.0), axis=-1)
    at = F.uniform((*p.shape[:-1], 1), generator=generator) * upto[..., -1:]
    last = F.sum(kept & (p > 0), axis=-1, keepdims=True) - 1  # where rounding would lead behind all that are kept
    choice = F.minimum(F.sum(upto <= at, axis=-1, keepdims=True), last)
    return F.take_along_axis(order, choice, axis=-1)[..., 0]
