"""Training with 16-bit weights: scaled losses, and weights kept in float32 beside them.

16-bit floats are storage types: every operation on them is computed in float32 and rounded once. What is served is
``model.to("bfloat16")`` or ``model.to("float16")``, with `keep_master_weights` so that small steps are not rounded
away, and for float16, whose gradients underflow below 6e-8, `LossScaler`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import dtypes
from ..autodiff import no_grad
from ..errors import ArgumentError, StateError
from ..functions import all, asarray, astype, isfinite, stack, where
from ..tensor import Cell, Tensor
from .clip import numbers_of, scaled
from .optimizer import MASTER, Optimizer


class LossScaler:
    """Dynamic scaling of a loss, so that its gradients stay within the range of 16-bit floats.

    The loss is multiplied by ``scale``, the gradients are divided by it before the step, and a step whose gradients are
    not finite is left out: parameters, state and step count stay. Then the scale falls by ``backoff_factor``; after
    ``growth_interval`` good steps in a row it grows by ``growth_factor``. All of it is data flow, so it works in a
    compiled step; what is kept or left out is chosen element by element, for a row-sparse gradient too.

    Args:
        init_scale: the first scale.
        growth_factor: above 1.
        backoff_factor: in (0, 1).
        growth_interval: the number of good steps before the scale grows.

    Attributes:
        scale_cell: the scale, a float32 cell.
        growth_tracker: the number of good steps in a row, an int64 cell.
        found_inf: whether a step since the last `update` was left out, a bool cell.

    Raises:
        ArgumentError: a factor is out of its range.

    Source: Micikevicius et al., "Mixed precision training", arXiv 1710.03740, section 3.2.

    >>> w = Parameter(tensor([1.0]))
    >>> opt, scaler = optim.SGD([w], lr=0.1), optim.LossScaler(init_scale=4.0)
    >>> for factor in (1.0, float("inf")):
    ...     opt.zero_grad()
    ...     scaler.scale((w * factor).sum()).backward()
    ...     scaler.step(opt)
    ...     scaler.update()
    >>> w, scaler.get_scale()
    (Parameter(tensor([0.9])), 2.0)
    """

    def __init__(
        self,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
    ) -> None:
        if not init_scale > 0 or not growth_factor > 1 or not 0 < backoff_factor < 1 or growth_interval < 1:
            raise ArgumentError(
                "LossScaler",
                "needs init_scale > 0, growth_factor > 1, 0 < backoff_factor < 1 and growth_interval >= 1",
                received=f"{init_scale}, {growth_factor}, {backoff_factor} and {growth_interval}",
            )
        self.growth_factor, self.backoff_factor = growth_factor, backoff_factor
        self.growth_interval = growth_interval
        self.scale_cell = Cell(asarray(init_scale, dtypes.float32))
        self.growth_tracker = Cell(asarray(0, dtypes.int64))
        self.found_inf = Cell(asarray(False))
        self._finite: dict[int, Tensor] = {}  # of the optimizers whose gradients are divided already

    def scale(self, loss: Tensor) -> Tensor:
        """Return ``loss * scale``, in at least float32."""
        wide = astype(loss, dtypes.float32) if loss.dtype in dtypes.HALF else loss
        return wide * astype(self.scale_cell.detach(), wide.dtype)

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the scale before they are looked at or clipped; `step` does it otherwise.

        It belongs into the same compiled function as `step`.

        Raises:
            ArgumentError: they have been divided since the last step.
        """
        if id(optimizer) in self._finite:
            raise ArgumentError("LossScaler.unscale_", "the gradients have been divided by the scale already")
        with no_grad():
            inverse = 1.0 / self.scale_cell.detach()
            finite = [asarray(True)]
            for p in optimizer.parameters():
                if p.grad is not None:
                    p.grad = scaled(p.grad, inverse)
                    finite.append(all(isfinite(numbers_of(p.grad))))
            self._finite[id(optimizer)] = all(stack(finite))

    def step(self, optimizer: Optimizer) -> None:
        """Let the optimizer step, unless a gradient is not finite.

        Raises:
            UnusedParameterError: a trainable parameter has no gradient.
        """
        if id(optimizer) not in self._finite:
            self.unscale_(optimizer)
        finite = self._finite.pop(id(optimizer))
        state = (cell for cells in optimizer.state.values() for cell in cells.values())
        before = [(cell, cell.detach()) for cell in (optimizer.step_count, *optimizer.parameters(), *state)]
        optimizer.step()
        with no_grad():
            for cell, value in before:
                cell.assign(where(finite, cell.detach(), value))
            self.found_inf.assign(self.found_inf | ~finite)

    def update(self) -> None:
        """Set the scale for the next step."""
        with no_grad():
            found, scale = self.found_inf.detach(), self.scale_cell.detach()
            good = where(found, 0, self.growth_tracker + 1)
            grows = good == self.growth_interval
            grown = scale * self.growth_factor
            grown = where(isfinite(grown), grown, scale)
            self.scale_cell.assign(where(found, scale * self.backoff_factor, where(grows, grown, scale)))
            self.growth_tracker.assign(where(grows, 0, good))
            self.found_inf.assign(asarray(False))
        self._finite.clear()

    def get_scale(self) -> float:
        """Return the scale as a number."""
        return float(self.scale_cell)

    def state_dict(self) -> dict[str, Any]:
        """Return scale, counter and settings, as plain numbers."""
        return {
            "scale": self.get_scale(),
            "growth_factor": self.growth_factor,
            "backoff_factor": self.backoff_factor,
            "growth_interval": self.growth_interval,
            "_growth_tracker": int(self.growth_tracker),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, here or in ``torch.amp.GradScaler``.

        Raises:
            StateError: something else is given.
        """
        if state_dict.keys() != self.state_dict().keys():
            raise StateError("LossScaler.load_state_dict", "the names do not fit", received=", ".join(state_dict))
        self.scale_cell.assign(asarray(float(state_dict["scale"]), dtypes.float32))
        self.growth_tracker.assign(asarray(int(state_dict["_growth_tracker"]), dtypes.int64))
        self.growth_factor, self.backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self.growth_interval = state_dict["growth_interval"]


def keep_master_weights(optimizer: Optimizer) -> Optimizer:
    """Keep 16-bit parameters in float32 beside, as a part of the optimizer's state, and let the steps go there.

    A bfloat16 number has 8 significant bits: ``1 + 0.001`` is 1, so small steps are lost unless they add up somewhere.
    After each step a parameter is its master rounded; where somebody else has assigned it, the master follows.

    Args:
        optimizer: any optimizer that adjusts parameters by `Optimizer.update`, before its first step.

    Returns:
        the optimizer.

    Source: Micikevicius et al., "Mixed precision training", arXiv 1710.03740, section 3.1.

    >>> w = Parameter(tensor([1.0], dtype="bfloat16"))
    >>> opt = optim.keep_master_weights(optim.SGD([w], lr=1.0))
    >>> for _ in range(10):
    ...     w.grad = tensor([0.001], dtype="bfloat16")
    ...     opt.step()
    >>> w, opt.state[w]["master"]
    (Parameter(tensor([0.98828125], dtype=bfloat16)), Cell(tensor([0.99...])))
    """
    for parameter, cells in optimizer.state.items():
        if parameter.dtype in dtypes.HALF:
            cells.setdefault(MASTER, Cell(astype(parameter.detach(), dtypes.float32)))
    return optimizer
