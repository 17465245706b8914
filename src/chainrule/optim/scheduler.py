"""What all schedulers share: the step, and the learning rates that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ArgumentError, StateError
from .optimizer import Optimizer
from .schedules import Schedule


def per_group(operation: str, name: str, value: Any, n: int) -> list[Any]:
    """Return a value for each of ``n`` groups."""
    if not isinstance(value, (list, tuple)):
        return [value] * n
    if len(value) != n:
        raise ArgumentError(
            operation, f"{name} is one value, or one for each of {n} groups", received=f"{len(value)} values"
        )
    return list(value)


class LRScheduler:
    """Sets the learning rates of an optimizer to ``schedule(step, base)``, where ``base`` is what they are now.

    Args:
        optimizer: whose learning rates.
        schedule: a function of the step, or one for each group.
        last_epoch: the number of the step before; -1 to begin.

    Attributes:
        last_epoch: the number of the step, from 0.
        base_lrs: the learning rate of each group, to which the schedule applies.

    Raises:
        ArgumentError: the optimizer is none, or there are not as many schedules as groups.

    >>> opt = optim.SGD([Parameter(tensor([1.0]))], lr=0.1)
    >>> scheduler = optim.lr_scheduler.LRScheduler(opt, lambda step, base: base / (1 + step))
    >>> scheduler.step()
    >>> float(opt.lr)
    0.05
    """

    def __init__(self, optimizer: Optimizer, schedule: Schedule | Sequence[Schedule], last_epoch: int = -1) -> None:
        name = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(name, "needs an optimizer first", received=type(optimizer).__name__)
        self.optimizer = optimizer
        groups = optimizer.param_groups
        self.schedules: list[Schedule] = per_group(name, "schedule", schedule, len(groups))
        if last_epoch != -1 and any("initial_lr" not in group for group in groups):
            raise ArgumentError(
                name,
                "going on after a step needs the learning rates at the beginning",
                received=f"last_epoch={last_epoch}",
                fix="set group['initial_lr'], or make the scheduler anew and load its state_dict",
            )
        self.base_lrs = [float(group.setdefault("initial_lr", float(group["lr"]))) for group in groups]
        self.last_epoch: float = last_epoch
        self._last_lr: list[float] = []
        self.step()

    def lr_at(self, step: float) -> list[float]:
        """Return the learning rate of each group at a step; changes nothing."""
        return [schedule(step, base) for schedule, base in zip(self.schedules, self.base_lrs, strict=True)]

    def step(self, epoch: float | None = None) -> None:
        """Go to the next step, or to the one of the given number, and set the learning rates."""
        at = self.last_epoch + 1 if epoch is None else epoch
        groups = self.optimizer.param_groups
        if len(groups) != len(self.base_lrs):
            raise ArgumentError(
                type(self).__name__,
                f"the scheduler was made for {len(self.base_lrs)} parameter groups",
                received=f"an optimizer with {len(groups)}",
                fix="make the scheduler after add_param_group",
            )
        rates = self.lr_at(at)
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        self.last_epoch, self._last_lr = at, rates

    def get_last_lr(self) -> list[float]:
        """Return the learning rates that the last `step` set, as numbers."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """Return where the scheduler is, as plain numbers."""
        return {
            "scheduler": type(self).__name__,
            "last_epoch": self.last_epoch,
            "base_lrs": list(self.base_lrs),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go to where `state_dict` was, and set the learning rates.

        Raises:
            StateError: the state is that of another scheduler, or of another number of groups.
        """
        operation = f"{type(self).__name__}.load_state_dict"
        expected = self.state_dict()
        if state_dict.keys() != expected.keys() or state_dict["scheduler"] != expected["scheduler"]:
            shown = f"{state_dict.get('scheduler')} with {sorted(state_dict)}"
            raise StateError(operation, "the state is that of another scheduler", received=shown)
        if len(state_dict["base_lrs"]) != len(self.base_lrs):
            received = f"{len(state_dict['base_lrs'])} groups"
            raise StateError(operation, f"the optimizer has {len(self.base_lrs)} parameter groups", received=received)
        self.base_lrs = [float(base) for base in state_dict["base_lrs"]]
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["initial_lr"] = base
        self.step(state_dict["last_epoch"])
