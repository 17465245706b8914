"""Lion: the sign of a mean of gradients."""

from __future__ import annotations

from typing import ClassVar

from ..functions import sign, zeros
from ..tensor import Tensor
from .optimizer import BELOW_ONE, NOT_NEGATIVE, Hyper, Limit, Optimizer, State, downhill, shrunk
from .params import Parameters


class Lion(Optimizer):
    """Steps of exactly the learning rate in every coordinate, in the direction of a mean of gradients.

    With the gradient ``g`` and the running mean ``m``, ``p <- (1 - lr * weight_decay) p - lr * sign(beta1 m +
    (1 - beta1) g)``, and then ``m <- beta2 m + (1 - beta2) g``. Steps do not become shorter near a minimum, so let the
    learning rate fall; it is about a tenth of that of `AdamW`, and the weight decay ten times as large.

    Args:
        params: see `Optimizer`.
        lr: the length of a step in every coordinate.
        betas: ``(beta1, beta2)``, each in [0, 1): how much of the mean is in the direction, and is kept.
        weight_decay: the decay, apart from the gradient.
        maximize: go up.
        allow_unused: let parameters without a gradient be.

    Raises:
        ArgumentError: a hyperparameter is out of its range.

    Source: Chen et al., "Symbolic discovery of optimization algorithms", arXiv 2302.06675, algorithm 2.

    >>> w = Parameter(tensor([1.0, -2.0]))
    >>> opt = optim.Lion([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w
    Parameter(tensor([ 0.75, -1.75]))
    """

    limits: ClassVar[dict[str, Limit]] = {"betas": BELOW_ONE, "weight_decay": NOT_NEGATIVE}

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        allow_unused: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults, allow_unused=allow_unused)

    @staticmethod
    def init(p: Tensor, hyper: Hyper) -> State:
        """Return the running mean."""
        return {"exp_avg": zeros(p.shape, dtype=p.dtype)}

    @staticmethod
    def update(g: Tensor, p: Tensor, state: State, hyper: Hyper) -> tuple[Tensor, State]:
        """Return ``p - lr * sign(direction)``."""
        g, mean = downhill(g, hyper), state["exp_avg"]
        beta1, beta2 = hyper["betas"]
        direction = beta1 * mean + (1 - beta1) * g
        new = beta2 * mean + (1 - beta2) * g
        return shrunk(p, hyper) - hyper["lr"] * sign(direction), {"exp_avg": new}
