"""Schedulers made of others: one after the other, or all at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from ..errors import ArgumentError
from . import schedules
from .optimizer import Optimizer
from .scheduler import LRScheduler


def _of_this_optimizer(name: str, optimizer: Optimizer, schedulers: Sequence[LRScheduler]) -> None:
    for scheduler in schedulers:
        if not isinstance(scheduler, LRScheduler) or scheduler.optimizer is not optimizer:
            raise ArgumentError(
                name,
                "joins schedulers of this optimizer that depend on the step alone",
                received=type(scheduler).__name__,
            )


class SequentialLR(LRScheduler):
    """One scheduler after the other; each counts from its milestone.

    Args:
        optimizer: whose learning rates.
        schedulers: made on this optimizer, one more than there are milestones.
        milestones: the steps at which the next takes over.
        last_epoch: the number of the step before; -1 to begin.

    Raises:
        ArgumentError: the numbers do not fit, or a scheduler is of another optimizer or needs a metric.

    >>> opt = optim.SGD([Parameter(tensor([1.0]))], lr=1.0)
    >>> warmup = optim.lr_scheduler.LinearLR(opt, 0.5, total_iters=2)
    >>> decay = optim.lr_scheduler.ExponentialLR(opt, 0.5)
    >>> optim.lr_scheduler.SequentialLR(opt, [warmup, decay], [2]).lr_at(3)
    [0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        _of_this_optimizer("SequentialLR", optimizer, schedulers)
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        by_group = zip(*(scheduler.schedules for scheduler in schedulers), strict=True)
        joined = [schedules.sequential(parts, self.milestones) for parts in by_group]
        super().__init__(optimizer, joined or schedules.sequential([], milestones), last_epoch)

    def step(self, epoch: float | None = None) -> None:
        """Go to the next step, or to the one of the given number, with the scheduler whose turn it is."""
        at = self.last_epoch + 1 if epoch is None else epoch
        super().step(at)
        turn = bisect_right(self.milestones, at)
        self.schedulers[turn].step(at - ([0, *self.milestones][turn]))


class ChainedScheduler(LRScheduler):
    """Several schedulers at once; their factors are multiplied.

    The base learning rate of each is what the one before gives, so one that ignores its base, such as `CyclicLR`,
    belongs to the front.

    Args:
        schedulers: made on the same optimizer.
        optimizer: whose learning rates; None for that of the first.

    Raises:
        ArgumentError: there are none, or one is of another optimizer or needs a metric.

    >>> opt = optim.SGD([Parameter(tensor([1.0]))], lr=1.0)
    >>> warmup = optim.lr_scheduler.ConstantLR(opt, 0.5, total_iters=2)
    >>> decay = optim.lr_scheduler.ExponentialLR(opt, 0.5)
    >>> scheduler = optim.lr_scheduler.ChainedScheduler([warmup, decay])
    >>> [scheduler.lr_at(step)[0] for step in range(4)]
    [0.5, 0.25, 0.25, 0.125]
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        if not schedulers:
            raise ArgumentError("ChainedScheduler", "joins at least one scheduler", received="none")
        whose: Any = getattr(schedulers[0], "optimizer", None) if optimizer is None else optimizer
        _of_this_optimizer("ChainedScheduler", whose, schedulers)
        self.schedulers = list(schedulers)
        by_group = zip(*(scheduler.schedules for scheduler in schedulers), strict=True)
        super().__init__(whose, [schedules.chained(parts) for parts in by_group])

    def step(self, epoch: float | None = None) -> None:
        """Go to the next step, or to the one of the given number, with all of them."""
        at = self.last_epoch + 1 if epoch is None else epoch
        for scheduler in self.schedulers:
            scheduler.step(at)
        super().step(at)
