"""Learning rates that go up and down, and momenta that go the other way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ArgumentError
from .optimizer import Optimizer
from .scheduler import LRScheduler, per_group
from .schedules import Schedule, one_cycle, triangle


def read_total_steps(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    """Return the length of the cycle."""
    if total_steps is None and epochs is not None and steps_per_epoch is not None:
        total_steps = epochs * steps_per_epoch
    if not isinstance(total_steps, int) or total_steps <= 0:
        raise ArgumentError(
            "OneCycleLR",
            "the length of the cycle is a positive whole number",
            received=f"total_steps={total_steps}, epochs={epochs}, steps_per_epoch={steps_per_epoch}",
            fix="give total_steps, or epochs and steps_per_epoch",
        )
    return total_steps


def _ends(total: int, pct_start: float, three_phase: bool) -> tuple[float, ...]:
    if three_phase:
        return pct_start * total - 1, 2 * pct_start * total - 2, total - 1
    return pct_start * total - 1, total - 1


def cycle_of_rate(
    total: int, pct_start: float, strategy: str, three_phase: bool, top: float, div: float, final_div: float
) -> Schedule:
    """The learning rate of a group, whatever its base."""
    first = top / div
    values = (first, top, first, first / final_div) if three_phase else (first, top, first / final_div)
    cycle = one_cycle(total, values, _ends(total, pct_start, three_phase), strategy)
    return lambda step, base=1.0: cycle(step)


def cycle_of_momentum(
    total: int, pct_start: float, strategy: str, three_phase: bool, low: float, high: float
) -> Callable[[float], float]:
    """The momentum of a group."""
    values = (high, low, high, high) if three_phase else (high, low, high)
    return one_cycle(total, values, _ends(total, pct_start, three_phase), strategy)


def set_momentum(operation: str, optimizer: Optimizer, momenta: Sequence[float]) -> None:
    """Set ``momentum``, or the first of ``betas``, of each group, in a cell."""
    key = next((key for key in ("betas", "momentum") if key in optimizer.defaults), None)
    if key is None:
        raise ArgumentError(
            operation,
            "this optimizer has no momentum to move",
            received=type(optimizer).__name__,
            fix="pass cycle_momentum=False",
        )
    for group, momentum in zip(optimizer.param_groups, momenta, strict=True):
        group[key] = (momentum, *group[key][1:]) if key == "betas" else momentum
        group.vary(key)


class _Cycle(LRScheduler):
    """Moves the momentum of each group along a function of the step, if there are such functions."""

    momenta: list[Callable[[float], float]]

    def step(self, epoch: float | None = None) -> None:
        """Go to the next step, or to the one of the given number; set learning rates and momenta."""
        super().step(epoch)
        if self.momenta:
            set_momentum(type(self).__name__, self.optimizer, [momentum(self.last_epoch) for momentum in self.momenta])


class OneCycleLR(_Cycle):
    """Up from ``max_lr / div_factor`` to ``max_lr``, then down to that first rate over ``final_div_factor``.

    Momentum (or the first of ``betas``) goes the other way, from ``max_momentum`` to ``base_momentum`` and back; it is
    kept in a cell of the group, so that a compiled step is not compiled anew.

    Args:
        optimizer: whose learning rates.
        max_lr: the highest; a number, or one for each group.
        total_steps: the length of the cycle; or give ``epochs`` and ``steps_per_epoch``.
        epochs: the number of epochs.
        steps_per_epoch: the number of steps in each.
        pct_start: the part of the cycle that goes up, in [0, 1].
        anneal_strategy: "cos" or "linear".
        cycle_momentum: whether the momentum moves.
        base_momentum: its lowest; a number, or one for each group.
        max_momentum: its highest.
        div_factor: how far below ``max_lr`` the cycle begins.
        final_div_factor: how far below its beginning it ends.
        three_phase: go down as far as the beginning first, symmetrically, then to the end.
        last_epoch: the number of the step before; -1 to begin.

    Raises:
        ArgumentError: there is no length, or the optimizer has no momentum to move.

    Source: Smith and Topin, "Super-convergence", arXiv 1708.07120.

    >>> opt = optim.SGD([Parameter(tensor([1.0]))], lr=1.0, momentum=0.9)
    >>> scheduler = optim.lr_scheduler.OneCycleLR(opt, max_lr=1.0, total_steps=11, pct_start=0.5)
    >>> float(opt.lr), float(opt.param_groups[0]["momentum"])
    (0.04..., 0.95)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError("OneCycleLR", "needs an optimizer first", received=type(optimizer).__name__)
        if not 0 <= pct_start <= 1:
            raise ArgumentError("OneCycleLR", "pct_start is in [0, 1]", received=str(pct_start))
        total = read_total_steps(total_steps, epochs, steps_per_epoch)
        n = len(optimizer.param_groups)
        shape = (total, pct_start, anneal_strategy, three_phase)
        rates = [
            cycle_of_rate(*shape, top, div_factor, final_div_factor)
            for top in per_group("OneCycleLR", "max_lr", max_lr, n)
        ]
        self.momenta = []
        if cycle_momentum:
            lows = per_group("OneCycleLR", "base_momentum", base_momentum, n)
            highs = per_group("OneCycleLR", "max_momentum", max_momentum, n)
            self.momenta = [cycle_of_momentum(*shape, low, high) for low, high in zip(lows, highs, strict=True)]
        super().__init__(optimizer, rates, last_epoch)


class CyclicLR(_Cycle):
    """Up from ``base_lr`` to ``max_lr`` and down again in straight lines, over and over.

    Momentum (or the first of ``betas``) goes the other way, from ``max_momentum`` to ``base_momentum`` and back, in a
    cell as with `OneCycleLR`.

    Args:
        optimizer: whose learning rates.
        base_lr: the lowest; a number, or one for each group.
        max_lr: the highest.
        step_size_up: the number of steps up.
        step_size_down: that down; None for as many.
        mode: "triangular", "triangular2" (half as high after each cycle) or "exp_range" (times ``gamma^step``).
        gamma: see ``mode``.
        scale_fn: the height of a cycle, in place of ``mode``.
        scale_mode: "cycle" if ``scale_fn`` is a function of the cycle, from 1, "iterations" if of the step.
        cycle_momentum: whether the momentum moves.
        base_momentum: its lowest; a number, or one for each group.
        max_momentum: its highest.
        last_epoch: the number of the step before; -1 to begin.

    Raises:
        ArgumentError: a length or mode is wrong, or the optimizer has no momentum to move.

    Source: Smith, "Cyclical learning rates for training neural networks", arXiv 1506.01186.

    >>> opt = optim.SGD([Parameter(tensor([1.0]))], lr=1.0, momentum=0.9)
    >>> scheduler = optim.lr_scheduler.CyclicLR(opt, base_lr=0.0, max_lr=1.0, step_size_up=4, mode="triangular2")
    >>> [scheduler.lr_at(step)[0] for step in (0, 2, 4, 6, 12)]
    [0.0, 0.5, 1.0, 0.5, 0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.8,
        max_momentum: float | Sequence[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError("CyclicLR", "needs an optimizer first", received=type(optimizer).__name__)
        height = triangle(step_size_up, step_size_down, mode, gamma, scale_fn, scale_mode)
        n = len(optimizer.param_groups)

        def ways(start: str, starts: Any, end: str, ends: Any) -> list[Schedule]:
            pairs = zip(per_group("CyclicLR", start, starts, n), per_group("CyclicLR", end, ends, n), strict=True)
            return [lambda step, base=1.0, a=a, b=b: a + (b - a) * height(step) for a, b in pairs]

        self.momenta = []
        if cycle_momentum:
            self.momenta = list(ways("max_momentum", max_momentum, "base_momentum", base_momentum))
        super().__init__(optimizer, ways("base_lr", base_lr, "max_lr", max_lr), last_epoch)
