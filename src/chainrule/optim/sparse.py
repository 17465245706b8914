"""Optimizers for tables of which a step uses a few rows."""

from __future__ import annotations

from typing import Any, ClassVar

from ..functions import sqrt, zeros
from ..tensor import Tensor
from .adam import moments
from .optimizer import BELOW_ONE, NOT_NEGATIVE, Hyper, Limit, Optimizer, State, downhill
from .params import Parameters


class SparseAdam(Optimizer):
    """Adam that passes over the rows without a gradient: their moments do not decay, and they stay.

    For the rows that a `chainrule.RowSparse` gradient touches, with ``m`` and ``v`` of `Adam` in step ``t``,
    ``p <- p - lr * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + eps)``. In a dense gradient every row counts as
    touched. The arithmetic is that of the touched rows; to put them back, the table is copied.

    Args:
        params: see `Optimizer`.
        lr: the learning rate.
        betas: ``(beta1, beta2)``, each in [0, 1).
        eps: added to the root of ``v``, which is not corrected here.
        maximize: go up.
        allow_unused: let parameters without a gradient be.

    Raises:
        ArgumentError: a hyperparameter is out of its range.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization" (2015), section 2, the form with one step size.

    >>> table = nn.Embedding(1000, 2, sparse=True)
    >>> before = table.weight.detach()
    >>> opt = optim.SparseAdam(table.parameters(), lr=0.5)
    >>> table(tensor([7, 7])).sum().backward()
    >>> opt.step()
    >>> change = table.weight.detach() - before
    >>> [round(float(x), 3) for x in change[7]], int((change != 0).sum())
    ([-0.5, -0.5], 2)
    """

    limits: ClassVar[dict[str, Limit]] = {"betas": BELOW_ONE, "eps": NOT_NEGATIVE}

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
        *,
        allow_unused: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize}
        super().__init__(params, defaults, allow_unused=allow_unused)

    def is_row_wise(self, hyper: Hyper) -> bool:
        """By definition."""
        return True

    @staticmethod
    def init(p: Tensor, hyper: Hyper) -> State:
        """Return the two running means."""
        return {name: zeros(p.shape, dtype=p.dtype) for name in ("exp_avg", "exp_avg_sq")}

    @staticmethod
    def coefficients(lr: Tensor, step: Tensor, hyper: Hyper) -> dict[str, Any]:
        """Return the step size, corrected for means that started at zero."""
        beta1, beta2 = hyper["betas"]
        return {"step_size": lr * sqrt(1 - beta2**step) / (1 - beta1**step)}

    @staticmethod
    def update(g: Tensor, p: Tensor, state: State, hyper: Hyper) -> tuple[Tensor, State]:
        """Return ``p - step_size * m / (sqrt(v) + eps)``."""
        mean, square = moments(downhill(g, hyper), state, hyper)
        new = {"exp_avg": mean, "exp_avg_sq": square}
        return p - hyper["step_size"] * (mean / (sqrt(square) + hyper["eps"])), new
