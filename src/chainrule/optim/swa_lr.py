"""The learning rate of stochastic weight averaging."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import ArgumentError
from .optimizer import Optimizer
from .scheduler import LRScheduler, per_group
from .schedules import Schedule


def _annealing(swa_lr: float, anneal_epochs: int, strategy: str) -> Schedule:
    def schedule(step: float, base: float = 1.0) -> float:
        part = min(1.0, step / anneal_epochs) if anneal_epochs else 1.0
        part = (1 - math.cos(math.pi * part)) / 2 if strategy == "cos" else part
        return swa_lr * part + base * (1 - part)

    return schedule


class SWALR(LRScheduler):
    """Anneals the learning rates to a constant, at which weights are averaged (see `chainrule.optim.SWA`).

    It begins where they are at its first `step`, so another scheduler may lead up to there.

    Args:
        optimizer: whose learning rates.
        swa_lr: the constant, or one for each group.
        anneal_epochs: in so many steps it is reached.
        anneal_strategy: "cos" or "linear".
        last_epoch: the number of the step before; -1 to begin.

    Raises:
        ArgumentError: ``anneal_epochs`` is negative, or the strategy is none of the two.

    Source: Izmailov et al., arXiv 1803.05407, section 3.

    >>> opt = optim.SGD([Parameter(tensor([1.0]))], lr=1.0)
    >>> scheduler = optim.lr_scheduler.SWALR(opt, swa_lr=0.5, anneal_epochs=2, anneal_strategy="linear")
    >>> [scheduler.lr_at(step) for step in (0, 1, 2, 3)]
    [[1.0], [0.75], [0.5], [0.5]]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | Sequence[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError("SWALR", "anneal_strategy is 'cos' or 'linear'", received=repr(anneal_strategy))
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ArgumentError("SWALR", "anneal_epochs is a whole number, at least 0", received=str(anneal_epochs))
        n = len(optimizer.param_groups) if isinstance(optimizer, Optimizer) else 1
        rates = per_group("SWALR", "swa_lr", swa_lr, n)
        super().__init__(optimizer, [_annealing(rate, anneal_epochs, anneal_strategy) for rate in rates], last_epoch)

    def step(self, epoch: float | None = None) -> None:
        """Go to the next step, or to the one of the given number, and set the learning rates."""
        if epoch is None and self.last_epoch <= 0:
            self.base_lrs = [float(group["lr"]) for group in self.optimizer.param_groups]
        super().step(epoch)
