"""How well a classifier does on labelled samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn

from .interrupt import Interrupted

Z_95 = 1.959963984540054
"""The standard normal distribution has 95 % of its mass between minus and plus this."""


def wilson_interval(correct: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Confidence interval of a share of which ``correct`` out of ``n`` were observed.

    With ``p = correct / n``: ``(p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)``.

    Args:
        correct: number of hits.
        n: number of trials.
        z: quantile of the standard normal distribution; 95 % if not given.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference" (1927).

    >>> low, high = wilson_interval(98, 100)
    >>> round(low, 4), round(high, 4)
    (0.93, 0.9945)
    """
    if n == 0:
        return 0.0, 1.0
    p, q = correct / n, z * z / n
    centre, half = p + q / 2, math.sqrt(q * (p * (1 - p) + q / 4))
    return max(0.0, (centre - half) / (1 + q)), min(1.0, (centre + half) / (1 + q))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The predictions of a classifier for labelled samples.

    Args:
        probabilities: float32 (N, classes).
        labels: the true classes, int64 (N,).
        loss: mean cross entropy.

    >>> found = Evaluation(np.array([[0.9, 0.1], [0.8, 0.2]], np.float32), np.array([0, 1]), 0.86)
    >>> found.accuracy, found.correct, found.n
    (0.5, 1, 2)
    """

    probabilities: np.ndarray
    labels: np.ndarray
    loss: float

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.labels)

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each sample, int64 (N,)."""
        return self.probabilities.argmax(axis=1)

    @property
    def correct(self) -> int:
        """How many predictions are right."""
        return int((self.predicted == self.labels).sum())

    @property
    def accuracy(self) -> float:
        """Share of right predictions."""
        return self.correct / max(self.n, 1)

    @property
    def confusion(self) -> np.ndarray:
        """Counts (true class, predicted class)."""
        classes = self.probabilities.shape[1]
        cells = self.labels * classes + self.predicted
        return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)

    def mistakes(self) -> np.ndarray:
        """Indices of the wrong predictions, the most confident first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        return wrong[np.argsort(-self.probabilities[wrong].max(axis=1), kind="stable")]

    def summary(self, names: Sequence[str]) -> dict[str, Any]:
        """Return all figures as what JSON can hold; a share of nothing is None.

        Args:
            names: of the classes.
        """
        counts = self.confusion
        classes = []
        for i, name in enumerate(names):
            right, of_class, said = int(counts[i, i]), int(counts[i].sum()), int(counts[:, i].sum())
            recall, precision = (right / total if total else None for total in (of_class, said))
            classes.append({"name": name, "n": of_class, "recall": recall, "precision": precision})
        return {
            "accuracy": self.accuracy,
            "interval": list(wilson_interval(self.correct, self.n)),
            "loss": self.loss,
            "n": self.n,
            "correct": self.correct,
            "classes": classes,
            "confusion": counts.tolist(),
        }


def evaluate(
    model: nn.Module,
    x: np.ndarray,
    y: np.ndarray,
    prepare: Callable[[np.ndarray], np.ndarray] = lambda batch: batch,
    batch_size: int = 256,
    stop: Callable[[], bool] = lambda: False,
    forward: Callable[[Any], cr.Tensor] | None = None,
) -> Evaluation:
    """Predict the class of every sample, in evaluation mode and without recording.

    Args:
        model: gives logits (N, classes).
        x: samples (N, ...).
        y: labels, int64 (N,).
        prepare: makes the model's input of a batch of ``x``.
        batch_size: how many samples at once.
        stop: asked between batches.
        forward: gives the logits in place of ``model``, whose mode is set all the same: ``cr.compile(model)``.

    Raises:
        Interrupted: ``stop`` said yes.

    >>> evaluate(nn.Flatten(), np.eye(2, dtype=np.float32), np.array([0, 1])).accuracy
    1.0
    """
    was_training = model.training
    model.eval()
    logs: list[np.ndarray] = []
    try:
        with cr.no_grad():
            for start in range(0, len(x), batch_size):
                if stop():
                    raise Interrupted
                logits = (forward or model)(prepare(x[start : start + batch_size]))
                logs.append(cr.log_softmax(logits, axis=-1).numpy())
    finally:
        model.train(was_training)
    log_p = np.concatenate(logs)
    loss = -np.mean(log_p[np.arange(len(y)), y], dtype=np.float64)
    return Evaluation(np.exp(log_p), y, float(loss))
