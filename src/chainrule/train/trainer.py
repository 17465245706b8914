"""One step of training, and all that has to be kept to go on from there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import RunError

from .checkpoints import Checkpoint

Loss = Callable[[cr.Tensor, Any], cr.Tensor]


@dataclass
class Place:
    """Where a training is.

    Args:
        epoch: the epoch that is going on, from 0; equal to the number of epochs when all are done.
        batch: how many of its batches are done.
        step: how many batches are done in all.
        samples: how many samples the epoch has seen so far.
        loss: the sum of their losses.
        correct: how many of them were classified rightly, by the weights of that moment.
        best: step and scores of the best epoch so far.

    >>> Place(samples=4, loss=2.0, correct=3).scores()
    {'loss': 0.5, 'accuracy': 0.75}
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples: int = 0
    loss: float = 0.0
    correct: int = 0
    best: dict[str, Any] | None = None

    def count(self, loss: float, correct: int, samples: int) -> None:
        """Add one batch, with its mean loss."""
        self.batch += 1
        self.step += 1
        self.samples += samples
        self.loss += loss * samples
        self.correct += correct

    def next_epoch(self) -> None:
        """Begin the next epoch."""
        self.epoch, self.batch = self.epoch + 1, 0
        self.samples, self.loss, self.correct = 0, 0.0, 0

    def scores(self) -> dict[str, float]:
        """Mean loss and accuracy of the epoch so far."""
        n = max(self.samples, 1)
        return {"loss": self.loss / n, "accuracy": self.correct / n}


class Trainer:
    """A model, its loss, an optimizer and a schedule, and where they are in the training.

    Args:
        model: gives logits (N, classes).
        loss: ``loss(logits, labels)``, a scalar.
        optimizer: made with ``model.named_parameters()``.
        scheduler: takes a step after each of the optimizer's.
        generator: the random numbers of dropout; the default generator if not given.
        compiled: run each step as one native program; the first takes a moment longer. Eager steps give the same
            numbers up to rounding.

    >>> model = nn.Linear(2, 2)
    >>> trainer = Trainer(model, nn.functional.cross_entropy, optim.SGD(model.named_parameters(), lr=0.1))
    >>> trainer.update(np.eye(2, dtype=np.float32), np.array([0, 1]))
    >>> trainer.place.step
    1
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        optimizer: optim.Optimizer,
        scheduler: optim.lr_scheduler.LRScheduler | None = None,
        generator: cr.Generator | None = None,
        compiled: bool = True,
    ) -> None:
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.generator = cr.default_generator if generator is None else generator
        self.place = Place()
        self._step = cr.compile(self.step) if compiled else self.step

    def step(self, x: Any, y: Any) -> tuple[cr.Tensor, cr.Tensor]:
        """Adjust the weights by one batch; return the loss before, and how many samples were classified rightly.

        All that it reads and writes are its arguments and cells; `update` runs it as a native program.
        """
        logits = self.model(x)
        loss = self.loss(logits, y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach(), cr.sum(cr.argmax(logits.detach(), axis=-1) == y)

    def update(self, x: Any, y: Any) -> None:
        """Take one step, move the learning rate on, and count it.

        Raises:
            RunError: the loss is no longer a finite number.
        """
        loss, correct = self._step(x, y)
        value = float(loss)
        if not math.isfinite(value):
            raise RunError(
                "train",
                f"the loss became {value} in step {self.place.step + 1} (epoch {self.place.epoch + 1})",
                fix="use a smaller learning rate",
            )
        if self.scheduler is not None:
            self.scheduler.step()
        self.place.count(value, int(correct), len(y))

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimizer.lr)

    # --- state --------------------------------------------------------------------------------------------

    def checkpoint(self, notes: Mapping[str, Any] | None = None) -> Checkpoint:
        """Return all that has to be kept to go on from here; ``notes`` are kept beside it."""
        saved = self.optimizer.state_dict()
        arrays = {f"{kind}/{name}": a for name, kinds in saved.pop("state").items() for kind, a in kinds.items()}
        state = {
            "place": asdict(self.place),
            "optimizer": saved,
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "generator": [int(word) for word in self.generator.numpy()],
            **(notes or {}),
        }
        weights = {name: value.numpy() for name, value in self.model.state_dict().items()}
        return Checkpoint(self.place.step, weights, arrays, state)

    def restore(self, saved: Checkpoint) -> None:
        """Go back to where `checkpoint` was called.

        Raises:
            StateError: the checkpoint is that of another model or optimizer.
        """
        self.model.load_state_dict(saved.weights)
        arrays: dict[str, dict[str, np.ndarray]] = {name: {} for name, _ in self.model.named_parameters()}
        for key, array in saved.optimizer.items():
            kind, _, name = key.partition("/")
            arrays.setdefault(name, {})[kind] = array
        self.optimizer.load_state_dict(saved.state["optimizer"] | {"state": arrays})
        if self.scheduler is not None:
            self.scheduler.load_state_dict(saved.state["scheduler"])
        self.generator.assign(np.array(saved.state["generator"], np.uint64))
        self.place = Place(**saved.state["place"])
