"""Adafactor: the second moment of a matrix from those of its rows and columns."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from .. import dtypes
from ..errors import ArgumentError
from ..functions import maximum, minimum, norm, sqrt, sum, zeros
from ..tensor import Cell, Tensor
from .optimizer import NOT_NEGATIVE, Hyper, Limit, Optimizer, State, downhill, shrunk
from .params import Parameters


def _mean(x: Tensor, axis: int) -> Tensor:
    """The mean along an axis, which stays; 0 of no elements."""
    return sum(x, axis, keepdims=True) / max(x.shape[axis], 1)


def _rms(x: Tensor) -> Tensor:
    """The root of the mean square of all elements; 0 of none."""
    return norm(x) / max(x.size, 1) ** 0.5


class Adafactor(Optimizer):
    """Adam's second moment in the memory of one row and one column, and steps relative to the parameter's size.

    For a gradient ``g`` of two axes or more, in step ``t``, with ``b = t^beta2_decay``, the means of ``g^2`` along
    the last axis enter ``R <- R + b (mean(g^2) - R)``, those along the one before ``C`` likewise, and
    ``V = R C / max(mean(R), eps1)``; for fewer axes ``V <- V + b (g^2 - V)``. Then ``u = g / max(sqrt(V), eps1)``,
    ``p <- (1 - lr * weight_decay) p - max(eps2, rms(p)) min(lr, 1 / sqrt(t)) u / max(1, rms(u) / d)``, with the
    root mean square ``rms`` over all elements, that of ``p`` before it decays.

    Args:
        params: see `Optimizer`; no complex ones.
        lr: the largest step, relative to the parameter.
        beta2_decay: the power of ``t``, at most 0.
        eps: ``(eps1, eps2)``, each at least 0; None for ``eps1`` is the distance of 1 to the next number of the dtype
            that the update is computed in.
        d: the root mean square to which ``u`` is limited, at least 1.
        weight_decay: the decay, apart from the gradient.
        maximize: go up.
        allow_unused: let parameters without a gradient be.

    Raises:
        ArgumentError: a hyperparameter is out of its range, or a parameter is complex.

    Source: Shazeer and Stern, "Adafactor: adaptive learning rates with sublinear memory cost", arXiv 1804.04235,
    algorithms 4 and 5, with a learning rate, and with ``eps1`` where PyTorch has it.

    >>> w = Parameter(tensor([[2.0, -2.0], [2.0, 2.0]]))
    >>> opt = optim.Adafactor([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w
    Parameter(tensor([[ 1.5, -1.5],
                      [ 1.5,  1.5]]))
    >>> {name: cell.shape for name, cell in opt.state[w].items()}
    {'row_var': (2, 1), 'col_var': (1, 2)}
    """

    limits: ClassVar[dict[str, Limit]] = {
        "beta2_decay": (lambda v: v <= 0, "at most 0"),
        "d": (lambda v: v >= 1, "at least 1"),
        "weight_decay": NOT_NEGATIVE,
    }

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        allow_unused: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay,
            "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, allow_unused=allow_unused)

    def check(self, hyper: Hyper) -> None:
        """Raise `ArgumentError` unless the hyperparameters have values that they can have."""
        super().check(hyper)
        eps = hyper["eps"]
        if not isinstance(eps, tuple) or len(eps) != 2 or eps[1] is None or not min(eps[0] or 0.0, eps[1]) >= 0:
            raise ArgumentError("Adafactor", "eps is a pair of numbers at least 0", received=f"eps={eps!r}")

    def check_parameter(self, shown: str, parameter: Cell) -> None:
        """Raise `ArgumentError` if the parameter is complex."""
        if parameter.dtype in dtypes.COMPLEX:
            raise ArgumentError("Adafactor", "has no rows and columns of complex numbers", received=shown)

    @staticmethod
    def init(p: Tensor, hyper: Hyper) -> State:
        """Return the means of rows and columns, or of each element if there are none."""
        if p.ndim < 2:
            return {"variance": zeros(p.shape, dtype=p.dtype)}
        *batch, rows, columns = p.shape
        return {
            "row_var": zeros((*batch, rows, 1), dtype=p.dtype),
            "col_var": zeros((*batch, 1, columns), dtype=p.dtype),
        }

    @staticmethod
    def coefficients(lr: Tensor, step: Tensor, hyper: Hyper) -> dict[str, Any]:
        """Return how much of the new square enters, and the largest relative step."""
        return {"lr": lr, "part": step ** hyper["beta2_decay"], "relative": minimum(lr, step**-0.5)}

    @staticmethod
    def update(g: Tensor, p: Tensor, state: State, hyper: Hyper) -> tuple[Tensor, State]:
        """Return ``p - alpha * u / max(1, rms(u) / d)``."""
        g = downhill(g, hyper)
        eps1, eps2 = hyper["eps"]
        eps1 = float(np.finfo(p.dtype.name).eps) if eps1 is None else eps1
        square = g * g
        axes = {"row_var": -1, "col_var": -2}
        means = {name: _mean(square, axes[name]) if name in axes else square for name in state}
        new = {name: old + hyper["part"] * (means[name] - old) for name, old in state.items()}
        if "variance" in new:
            variance = new["variance"]
        else:
            variance = new["row_var"] * new["col_var"] / maximum(_mean(new["row_var"], -2), eps1)
        u = g / sqrt(maximum(variance, eps1 * eps1))
        alpha = maximum(_rms(p), eps2) * hyper["relative"]
        return shrunk(p, hyper) - alpha / maximum(_rms(u) / hyper["d"], 1.0) * u, new
