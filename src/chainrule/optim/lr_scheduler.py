"""Schedulers: they move the learning rates of an optimizer along a schedule, a pure function of the step.

Each is a function of `chainrule.optim.schedules` under its usual name, with ``step()`` to go on, which belongs outside
of a compiled step. Since the learning rate is a function of the step, a second scheduler on the same optimizer does
not multiply with the first; `SequentialLR` joins several, one after the other, and `ChainedScheduler` multiplies them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import schedules
from .cycles import CyclicLR, OneCycleLR
from .joined import ChainedScheduler, SequentialLR
from .optimizer import Optimizer
from .plateau import ReduceLROnPlateau
from .scheduler import LRScheduler
from .swa_lr import SWALR

__all__ = [
    "SWALR", "ChainedScheduler", "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR",
    "ExponentialLR", "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR", "MultiplicativeLR", "OneCycleLR",
    "PolynomialLR", "ReduceLROnPlateau", "SequentialLR", "StepLR", "WarmupCosine",
]  # fmt: skip


class LambdaLR(LRScheduler):
    """``base * lr_lambda(step)``; one function, or one for each group.

    >>> opt = optim.SGD([Parameter(tensor([1.0]))], lr=1.0)
    >>> optim.lr_scheduler.LambdaLR(opt, lambda step: 0.5**step).lr_at(3)
    [0.125]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[float], float] | Sequence[Callable[[float], float]],
        last_epoch: int = -1,
    ) -> None:
        if isinstance(lr_lambda, Sequence):
            super().__init__(optimizer, [schedules.by_factor(f) for f in lr_lambda], last_epoch)
        else:
            super().__init__(optimizer, schedules.by_factor(lr_lambda), last_epoch)


class MultiplicativeLR(LRScheduler):
    """``base * lr_lambda(1) * ... * lr_lambda(step)``; one function, or one for each group.

    >>> opt = optim.SGD([Parameter(tensor([1.0]))], lr=1.0)
    >>> optim.lr_scheduler.MultiplicativeLR(opt, lambda step: 0.5).lr_at(3)
    [0.125]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        if isinstance(lr_lambda, Sequence):
            super().__init__(optimizer, [schedules.by_product(f) for f in lr_lambda], last_epoch)
        else:
            super().__init__(optimizer, schedules.by_product(lr_lambda), last_epoch)


class StepLR(LRScheduler):
    """See `chainrule.optim.schedules.step_decay`.

    >>> opt = optim.SGD([Parameter(tensor([1.0]))], lr=1.0)
    >>> optim.lr_scheduler.StepLR(opt, step_size=10, gamma=0.5).lr_at(25)
    [0.25]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        super().__init__(optimizer, schedules.step_decay(step_size, gamma), last_epoch)


class MultiStepLR(LRScheduler):
    """See `chainrule.optim.schedules.multistep_decay`.

    >>> opt = optim.SGD([Parameter(tensor([1.0]))], lr=1.0)
    >>> optim.lr_scheduler.MultiStepLR(opt, [10, 20], gamma=0.5).lr_at(25)
    [0.25]
    """

    def __init__(
        self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        super().__init__(optimizer, schedules.multistep_decay(milestones, gamma), last_epoch)


class ExponentialLR(LRScheduler):
    """See `chainrule.optim.schedules.exponential_decay`.

    >>> opt = optim.SGD([Parameter(tensor([1.0]))], lr=1.0)
    >>> optim.lr_scheduler.ExponentialLR(opt, gamma=0.5).lr_at(2)
    [0.25]
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        super().__init__(optimizer, schedules.exponential_decay(gamma), last_epoch)


class ConstantLR(LRScheduler):
    """See `chainrule.optim.schedules.constant`.

    >>> opt = optim.SGD([Parameter(tensor([1.0]))], lr=1.0)
    >>> optim.lr_scheduler.ConstantLR(opt, factor=0.5, total_iters=4).lr_at(3)
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1) -> None:
        super().__init__(optimizer, schedules.constant(factor, total_iters), last_epoch)


class LinearLR(LRScheduler):
    """See `chainrule.optim.schedules.linear`.

    >>> opt = optim.SGD([Parameter(tensor([1.0]))], lr=1.0)
    >>> optim.lr_scheduler.LinearLR(opt, start_factor=0.5, total_iters=4).lr_at(2)
    [0.75]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        super().__init__(optimizer, schedules.linear(start_factor, end_factor, total_iters), last_epoch)


class PolynomialLR(LRScheduler):
    """See `chainrule.optim.schedules.polynomial_decay`.

    >>> opt = optim.SGD([Parameter(tensor([1.0]))], lr=1.0)
    >>> optim.lr_scheduler.PolynomialLR(opt, total_iters=4, power=2.0).lr_at(2)
    [0.25]
    """

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        super().__init__(optimizer, schedules.polynomial_decay(total_iters, power), last_epoch)


class CosineAnnealingLR(LRScheduler):
    """See `chainrule.optim.schedules.cosine_annealing`.

    >>> opt = optim.SGD([Parameter(tensor([1.0]))], lr=1.0)
    >>> optim.lr_scheduler.CosineAnnealingLR(opt, T_max=10).lr_at(5)
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        super().__init__(optimizer, schedules.cosine_annealing(T_max, eta_min), last_epoch)


class CosineAnnealingWarmRestarts(LRScheduler):
    """See `chainrule.optim.schedules.cosine_restarts`; ``step`` also takes fractions of an epoch.

    >>> opt = optim.SGD([Parameter(tensor([1.0]))], lr=1.0)
    >>> optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=4, T_mult=2).lr_at(8)
    [0.5]
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        super().__init__(optimizer, schedules.cosine_restarts(T_0, T_mult, eta_min), last_epoch)


class WarmupCosine(LRScheduler):
    """See `chainrule.optim.schedules.warmup_cosine`.

    >>> opt = optim.SGD([Parameter(tensor([1.0]))], lr=1.0)
    >>> optim.lr_scheduler.WarmupCosine(opt, warmup_steps=4, total_steps=14).lr_at(1)
    [0.5]
    """

    def __init__(
        self, optimizer: Optimizer, warmup_steps: int, total_steps: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        super().__init__(optimizer, schedules.warmup_cosine(warmup_steps, total_steps, eta_min), last_epoch)
