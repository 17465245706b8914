"""Averaged stochastic gradient descent."""

from __future__ import annotations

from typing import Any, ClassVar

from ..functions import maximum, where, zeros
from ..tensor import Tensor
from .optimizer import NOT_NEGATIVE, Hyper, Limit, Optimizer, State, descent
from .params import Parameters


class ASGD(Optimizer):
    """Stochastic gradient descent with a falling rate, and the mean of the parameters on the way.

    In step ``t``, ``p <- (1 - lambd * eta) p - eta * g``, with ``eta = lr`` in the first step and, after each step,
    ``eta <- lr / (1 + lambd * lr * t)^alpha``. The state has the mean of the values after step ``t0 + 1``, which until
    then is the last value: ``opt.state[p]["ax"]``.

    Args:
        params: see `Optimizer`.
        lr: the learning rate at the beginning.
        lambd: the decay, of the parameter and of the rate.
        alpha: the power by which the rate falls.
        t0: the mean begins after one step more than this.
        weight_decay: the factor of an L2 penalty.
        maximize: go up.
        allow_unused: let parameters without a gradient be.

    Raises:
        ArgumentError: a hyperparameter is negative.

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (1992); the rate: Bottou,
    "Stochastic gradient descent tricks" (2012).

    >>> w = Parameter(tensor([1.0]))
    >>> opt = optim.ASGD([w], lr=0.25, lambd=0.0, t0=0)
    >>> for _ in range(3):
    ...     opt.zero_grad()
    ...     (w * w).sum().backward()
    ...     opt.step()
    >>> w, opt.state[w]["ax"].numpy()
    (Parameter(tensor([0.125])), array([0.1875], dtype=float32))
    """

    limits: ClassVar[dict[str, Limit]] = dict.fromkeys(("lambd", "alpha", "weight_decay"), NOT_NEGATIVE)

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        allow_unused: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, allow_unused=allow_unused)

    @staticmethod
    def init(p: Tensor, hyper: Hyper) -> State:
        """Return the rate, which the first step sets to the learning rate, and the mean."""
        return {"eta": zeros((), dtype=p.dtype), "ax": zeros(p.shape, dtype=p.dtype)}

    @staticmethod
    def coefficients(lr: Tensor, step: Tensor, hyper: Hyper) -> dict[str, Any]:
        """Return the rate of the next step, and how much of the new value enters the mean."""
        next_eta = lr / (1 + hyper["lambd"] * lr * step) ** hyper["alpha"]
        part = 1 / maximum(step - 1 - hyper["t0"], 1.0)
        return {"lr": lr, "next_eta": next_eta, "part": part, "is_first": step == 1}

    @staticmethod
    def update(g: Tensor, p: Tensor, state: State, hyper: Hyper) -> tuple[Tensor, State]:
        """Return ``(1 - lambd * eta) p - eta * g``."""
        g = descent(g, p, hyper)
        eta = where(hyper["is_first"], hyper["lr"], state["eta"])
        new = (1 - hyper["lambd"] * eta) * p - eta * g
        mean = state["ax"] + hyper["part"] * (new - state["ax"])
        return new, {"eta": hyper["next_eta"], "ax": mean}
