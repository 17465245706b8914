"""Learning rates that adapt to the size of each coordinate's gradients: Adagrad, RMSprop, Adadelta."""

from __future__ import annotations

from typing import Any, ClassVar

from ..functions import full, maximum, sqrt, zeros
from ..tensor import Tensor
from .group import is_on
from .optimizer import NOT_NEGATIVE, UNIT, Hyper, Limit, Optimizer, State, descent
from .params import Parameters


class RMSprop(Optimizer):
    """Divides the gradient by a running root of its mean square.

    ``v <- alpha v + (1 - alpha) g^2`` and ``p <- p - lr * g / (sqrt(v) + eps)``. With ``centered``, ``v`` less the
    square of the running mean of ``g``; with momentum ``b <- momentum b + g / (...)`` and ``p <- p - lr b``.

    Args:
        params: see `Optimizer`.
        lr: the learning rate.
        alpha: how much of the running means is kept.
        eps: added to the denominator.
        weight_decay: the factor of an L2 penalty.
        momentum: how much of the last direction is kept.
        centered: divide by the deviation from the mean.
        maximize: go up.
        allow_unused: let parameters without a gradient be.

    Raises:
        ArgumentError: a hyperparameter is negative.

    Source: Tieleman and Hinton, "Lecture 6.5, rmsprop" (2012); centered: Graves, arXiv 1308.0850.

    >>> w = Parameter(tensor([1.0]))
    >>> opt = optim.RMSprop([w], lr=0.01)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> print(f"{float(w):.4f}")
    0.9000
    """

    limits: ClassVar[dict[str, Limit]] = dict.fromkeys(("alpha", "eps", "weight_decay", "momentum"), NOT_NEGATIVE)
    structural: ClassVar[tuple[str, ...]] = ("momentum", "centered")

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
        allow_unused: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum,
            "centered": centered, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, allow_unused=allow_unused)

    @staticmethod
    def init(p: Tensor, hyper: Hyper) -> State:
        """Return the running mean square, the running mean and the direction, as far as they are used."""
        names = ["square_avg"] + ["grad_avg"] * bool(hyper["centered"])
        names += ["momentum_buffer"] * is_on(hyper["momentum"])
        return {name: zeros(p.shape, dtype=p.dtype) for name in names}

    @staticmethod
    def update(g: Tensor, p: Tensor, state: State, hyper: Hyper) -> tuple[Tensor, State]:
        """Return ``p - lr * g / (sqrt(v) + eps)``."""
        g = descent(g, p, hyper)
        alpha = hyper["alpha"]
        square = alpha * state["square_avg"] + (1 - alpha) * (g * g)
        new = {"square_avg": square}
        if hyper["centered"]:
            mean = new["grad_avg"] = state["grad_avg"] + (1 - alpha) * (g - state["grad_avg"])
            square = maximum(square - mean * mean, 0.0)  # a variance; rounding can take it below zero
        direction = g / (sqrt(square) + hyper["eps"])
        if "momentum_buffer" in state:
            direction = new["momentum_buffer"] = hyper["momentum"] * state["momentum_buffer"] + direction
        return p - hyper["lr"] * direction, new


class Adagrad(Optimizer):
    """Divides the gradient by the root of the sum of all its squares so far.

    ``s <- s + g^2`` and ``p <- p - lr / (1 + (t - 1) lr_decay) * g / (sqrt(s) + eps)``.

    Args:
        params: see `Optimizer`.
        lr: the learning rate.
        lr_decay: how fast it falls.
        weight_decay: the factor of an L2 penalty.
        initial_accumulator_value: where the sum starts.
        eps: added to the denominator.
        maximize: go up.
        allow_unused: let parameters without a gradient be.

    Raises:
        ArgumentError: a hyperparameter is negative.

    Source: Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning" (2011).

    >>> w = Parameter(tensor([1.0]))
    >>> opt = optim.Adagrad([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w
    Parameter(tensor([0.9]))
    """

    limits: ClassVar[dict[str, Limit]] = dict.fromkeys(
        ("lr_decay", "weight_decay", "initial_accumulator_value", "eps"), NOT_NEGATIVE
    )

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
        allow_unused: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "eps": eps, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, allow_unused=allow_unused)

    def is_row_wise(self, hyper: Hyper) -> bool:
        """Without weight decay."""
        return not is_on(hyper["weight_decay"])

    @staticmethod
    def init(p: Tensor, hyper: Hyper) -> State:
        """Return the sum of squares."""
        return {"sum": full(p.shape, hyper["initial_accumulator_value"], dtype=p.dtype)}

    @staticmethod
    def coefficients(lr: Tensor, step: Tensor, hyper: Hyper) -> dict[str, Any]:
        """Return the learning rate of this step."""
        return {"lr": lr / (1 + (step - 1) * hyper["lr_decay"])}

    @staticmethod
    def update(g: Tensor, p: Tensor, state: State, hyper: Hyper) -> tuple[Tensor, State]:
        """Return ``p - lr * g / (sqrt(sum) + eps)``."""
        g = descent(g, p, hyper)
        total = state["sum"] + g * g
        return p - hyper["lr"] * (g / (sqrt(total) + hyper["eps"])), {"sum": total}


class Adadelta(Optimizer):
    """Scales the gradient so that steps have the unit of the parameter: by the ratio of two running mean squares.

    ``v <- rho v + (1 - rho) g^2``, ``d = sqrt((u + eps) / (v + eps)) g``, ``u <- rho u + (1 - rho) d^2`` and
    ``p <- p - lr d``.

    Args:
        params: see `Optimizer`.
        lr: a factor of the step.
        rho: how much of the running means is kept, in [0, 1].
        eps: added under both roots.
        weight_decay: the factor of an L2 penalty.
        maximize: go up.
        allow_unused: let parameters without a gradient be.

    Raises:
        ArgumentError: a hyperparameter is out of its range.

    Source: Zeiler, "ADADELTA: an adaptive learning rate method", arXiv 1212.5701.

    >>> w = Parameter(tensor([1.0]))
    >>> opt = optim.Adadelta([w])
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> print(f"{float(w):.5f}")
    0.99684
    """

    limits: ClassVar[dict[str, Limit]] = {"rho": UNIT, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE}

    def __init__(
        self,
        params: Parameters,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        allow_unused: bool = False,
    ) -> None:
        defaults = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults, allow_unused=allow_unused)

    @staticmethod
    def init(p: Tensor, hyper: Hyper) -> State:
        """Return the running mean squares of gradients and of steps."""
        return {name: zeros(p.shape, dtype=p.dtype) for name in ("square_avg", "acc_delta")}

    @staticmethod
    def update(g: Tensor, p: Tensor, state: State, hyper: Hyper) -> tuple[Tensor, State]:
        """Return ``p - lr * d``."""
        g = descent(g, p, hyper)
        rho, eps = hyper["rho"], hyper["eps"]
        square = rho * state["square_avg"] + (1 - rho) * (g * g)
        delta = sqrt(state["acc_delta"] + eps) / sqrt(square + eps) * g
        steps = rho * state["acc_delta"] + (1 - rho) * (delta * delta)
        return p - hyper["lr"] * delta, {"square_avg": square, "acc_delta": steps}
