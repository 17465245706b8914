"""Lowering the learning rate when a metric stops improving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ArgumentError, StateError
from .optimizer import Optimizer
from .scheduler import per_group

_STATE = ("last_epoch", "best", "num_bad_epochs", "cooldown_counter")


class ReduceLROnPlateau:
    """Multiplies the learning rates by ``factor`` when a metric has not improved for more than ``patience`` steps.

    Args:
        optimizer: whose learning rates.
        mode: "min" if lower is better, "max" if higher is.
        factor: what to multiply with, below 1.
        patience: how many steps without improvement to wait for.
        threshold: how much better is an improvement.
        threshold_mode: "rel", relative to the best, or "abs".
        cooldown: for how many steps to wait after lowering.
        min_lr: the lowest rate; a number, or one for each group.
        eps: changes that are not larger than this are left out.

    Raises:
        ArgumentError: ``factor`` is not below 1, or a mode is unknown.

    >>> opt = optim.SGD([Parameter(tensor([1.0]))], lr=1.0)
    >>> scheduler = optim.lr_scheduler.ReduceLROnPlateau(opt, patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     scheduler.step(loss)
    >>> float(opt.lr)
    0.1
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        name = "ReduceLROnPlateau"
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(name, "needs an optimizer first", received=type(optimizer).__name__)
        if not factor < 1:
            raise ArgumentError(name, "factor is below 1", received=str(factor))
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            received = f"mode={mode!r}, threshold_mode={threshold_mode!r}"
            raise ArgumentError(name, "mode is 'min' or 'max', threshold_mode 'rel' or 'abs'", received=received)
        self.optimizer = optimizer
        self.mode, self.threshold, self.threshold_mode = mode, threshold, threshold_mode
        self.factor, self.patience, self.cooldown, self.eps = factor, patience, cooldown, eps
        self.min_lrs: list[float] = per_group(name, "min_lr", min_lr, len(optimizer.param_groups))
        self.last_epoch = 0
        self.best: float | None = None
        self.num_bad_epochs = 0
        self.cooldown_counter = 0

    def step(self, metrics: Any) -> None:
        """Take note of the metric, a number or a scalar tensor, and lower the learning rates if it is time."""
        current = float(metrics)
        self.last_epoch += 1
        if self._improves(current):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def _improves(self, current: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.best is None:
            return current > float("-inf") if self.mode == "max" else current < float("inf")
        relative = self.threshold_mode == "rel"
        bar = self.best * (1 + sign * self.threshold) if relative else self.best + sign * self.threshold
        return sign * current > sign * bar

    def _reduce(self) -> None:
        for group, lowest in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            old = float(group["lr"])
            new = max(old * self.factor, lowest)
            if old - new > self.eps:
                group["lr"] = new

    def get_last_lr(self) -> list[float]:
        """Return the learning rates, as numbers."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return what has been seen, as plain numbers; the learning rates are in the optimizer's state."""
        return {"scheduler": type(self).__name__} | {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            StateError: the state is that of another scheduler.
        """
        if state_dict.keys() != self.state_dict().keys() or state_dict["scheduler"] != type(self).__name__:
            shown = f"{state_dict.get('scheduler')} with {sorted(state_dict)}"
            raise StateError(
                "ReduceLROnPlateau.load_state_dict", "the state is that of another scheduler", received=shown
            )
        for name in _STATE:
            setattr(self, name, state_dict[name])
