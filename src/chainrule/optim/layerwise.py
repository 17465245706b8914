"""Steps in proportion to the size of each parameter, for large batches: LARS and LAMB."""

from __future__ import annotations

from typing import Any, ClassVar

from ..functions import norm, sqrt, where, zeros
from ..tensor import Tensor
from .adam import LIMITS, moments
from .optimizer import NOT_NEGATIVE, Hyper, Limit, Optimizer, State, downhill
from .params import Parameters


def trust_ratio(above: Tensor, below: Tensor) -> Tensor:
    """Return the quotient of two norms; 1 where one is zero, so that a parameter can leave zero."""
    both = (above > 0) & (below > 0)
    return where(both, above / where(both, below, 1.0), 1.0)


class LARS(Optimizer):
    """Gradient descent with momentum whose rate, for each parameter, is in proportion to ``|p| / |g|``.

    ``r = trust_coefficient * |p| / (|g| + weight_decay |p|)``, ``b <- momentum b + lr * r * (g + weight_decay p)``
    and ``p <- p - b``. The norms are those of the whole parameter; if one of them is zero, their quotient is 1.
    Biases and norm layers are mostly trained without: give them a `SGD` of their own.

    Args:
        params: see `Optimizer`.
        lr: the learning rate.
        momentum: how much of the last step is kept.
        weight_decay: the factor of an L2 penalty.
        trust_coefficient: how far a step may go, relative to the parameter, for a learning rate of 1.
        maximize: go up.
        allow_unused: let parameters without a gradient be.

    Raises:
        ArgumentError: a hyperparameter is negative.

    Source: You, Gitman and Ginsburg, "Large batch training of convolutional networks", arXiv 1708.03888, algorithm 1.

    >>> w = Parameter(tensor([3.0, -4.0]))
    >>> opt = optim.LARS([w], lr=1.0, trust_coefficient=0.25)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w
    Parameter(tensor([ 2.25, -3.  ]))
    """

    limits: ClassVar[dict[str, Limit]] = dict.fromkeys(("momentum", "weight_decay", "trust_coefficient"), NOT_NEGATIVE)

    def __init__(
        self,
        params: Parameters,
        lr: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        *,
        maximize: bool = False,
        allow_unused: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust_coefficient": trust_coefficient,
            "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, allow_unused=allow_unused)

    @staticmethod
    def init(p: Tensor, hyper: Hyper) -> State:
        """Return the last step."""
        return {"momentum_buffer": zeros(p.shape, dtype=p.dtype)}

    @staticmethod
    def update(g: Tensor, p: Tensor, state: State, hyper: Hyper) -> tuple[Tensor, State]:
        """Return ``p - b``."""
        g, decay = downhill(g, hyper), hyper["weight_decay"]
        size = norm(p)
        rate = hyper["lr"] * hyper["trust_coefficient"] * trust_ratio(size, norm(g) + decay * size)
        step = hyper["momentum"] * state["momentum_buffer"] + rate * (g + decay * p)
        return p - step, {"momentum_buffer": step}


class LAMB(Optimizer):
    """The direction of `AdamW`, scaled for each parameter to the parameter's own size.

    With the direction ``u = m^ / (sqrt(v^) + eps) + weight_decay p``, from the means ``m^`` and ``v^`` of `Adam` with
    their corrections, ``p <- p - lr * |p| / |u| * u``. The norms are those of the whole parameter; if one of them is
    zero, their quotient is 1.

    Args:
        params: see `Optimizer`.
        lr: the length of a step, relative to the parameter.
        betas: ``(beta1, beta2)``, each in [0, 1).
        eps: added to the denominator.
        weight_decay: the decay, part of the direction.
        maximize: go up.
        allow_unused: let parameters without a gradient be.

    Raises:
        ArgumentError: a hyperparameter is out of its range.

    Source: You et al., "Large batch optimization for deep learning: training BERT in 76 minutes", arXiv 1904.00962,
    algorithm 2, with the identity as its function phi.

    >>> w = Parameter(tensor([2.0, -2.0]))
    >>> opt = optim.LAMB([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w
    Parameter(tensor([ 1.5, -1.5]))
    """

    limits: ClassVar[dict[str, Limit]] = LIMITS

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        allow_unused: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults, allow_unused=allow_unused)

    @staticmethod
    def init(p: Tensor, hyper: Hyper) -> State:
        """Return the two running means."""
        return {name: zeros(p.shape, dtype=p.dtype) for name in ("exp_avg", "exp_avg_sq")}

    @staticmethod
    def coefficients(lr: Tensor, step: Tensor, hyper: Hyper) -> dict[str, Any]:
        """Return the corrections for means that started at zero."""
        beta1, beta2 = hyper["betas"]
        return {"lr": lr, "correction1": 1 - beta1**step, "correction2": 1 - beta2**step}

    @staticmethod
    def update(g: Tensor, p: Tensor, state: State, hyper: Hyper) -> tuple[Tensor, State]:
        """Return ``p - lr * |p| / |u| * u``."""
        mean, square = moments(downhill(g, hyper), state, hyper)
        scale = sqrt(square / hyper["correction2"]) + hyper["eps"]
        u = mean / hyper["correction1"] / scale + hyper["weight_decay"] * p
        return p - hyper["lr"] * trust_ratio(norm(p), norm(u)) * u, {"exp_avg": mean, "exp_avg_sq": square}
