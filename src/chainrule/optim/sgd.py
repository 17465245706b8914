"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any, ClassVar

from ..errors import ArgumentError
from ..functions import where, zeros
from ..tensor import Tensor
from .group import is_on
from .optimizer import NOT_NEGATIVE, Hyper, Limit, Optimizer, State, descent
from .params import Parameters


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked for.

    ``b <- momentum * b + (1 - dampening) * g`` and ``p <- p - lr * b``, with the gradient ``g`` (the weight decay
    added), and ``b = g`` in the first step; with ``nesterov``, ``p <- p - lr * (g + momentum * b)``.

    Args:
        params: see `Optimizer`.
        lr: the learning rate.
        momentum: how much of the last direction is kept.
        dampening: what is taken off the gradient as it enters the direction.
        weight_decay: the factor of an L2 penalty.
        nesterov: look ahead along the direction.
        maximize: go up.
        allow_unused: let parameters without a gradient be.

    Raises:
        ArgumentError: a hyperparameter is negative, or ``nesterov`` without momentum or with dampening.

    Source: Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013).

    >>> w = Parameter(tensor([1.0, -2.0]))
    >>> opt = optim.SGD([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w
    Parameter(tensor([ 0.8, -1.6]))
    """

    limits: ClassVar[dict[str, Limit]] = {"momentum": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE}
    structural: ClassVar[tuple[str, ...]] = ("momentum",)

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        allow_unused: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
            "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, allow_unused=allow_unused)

    def check(self, hyper: Hyper) -> None:
        """Raise `ArgumentError` unless the hyperparameters fit together."""
        super().check(hyper)
        if hyper["nesterov"] and (not is_on(hyper["momentum"]) or hyper["dampening"] != 0):
            raise ArgumentError(
                "SGD",
                "nesterov needs a momentum, and no dampening",
                received=f"momentum={hyper['momentum']}, dampening={hyper['dampening']}",
            )

    def is_row_wise(self, hyper: Hyper) -> bool:
        """Without momentum and weight decay."""
        return not is_on(hyper["momentum"]) and not is_on(hyper["weight_decay"])

    @staticmethod
    def init(p: Tensor, hyper: Hyper) -> State:
        """Return the direction, if there is momentum."""
        return {"momentum_buffer": zeros(p.shape, dtype=p.dtype)} if is_on(hyper["momentum"]) else {}

    @staticmethod
    def coefficients(lr: Tensor, step: Tensor, hyper: Hyper) -> dict[str, Any]:
        """Return the learning rate, and whether this is the first step."""
        return {"lr": lr, "is_first": step == 1}

    @staticmethod
    def update(g: Tensor, p: Tensor, state: State, hyper: Hyper) -> tuple[Tensor, State]:
        """Return ``p - lr * direction``."""
        g = descent(g, p, hyper)
        if not state:
            return p - hyper["lr"] * g, state
        momentum, dampening = hyper["momentum"], hyper["dampening"]
        direction = momentum * state["momentum_buffer"] + (1 - dampening) * g
        if dampening:  # the first gradient enters undamped
            direction = where(hyper["is_first"], g, direction)
        along = g + momentum * direction if hyper["nesterov"] else direction
        return p - hyper["lr"] * along, {"momentum_buffer": direction}
