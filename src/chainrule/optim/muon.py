"""Muon: momentum, orthogonalized."""

from __future__ import annotations

from typing import Any, ClassVar

from .. import dtypes
from ..errors import ArgumentError
from ..functions import matrix_transpose, maximum, norm, reshape, zeros
from ..tensor import Cell, Tensor
from .optimizer import NOT_NEGATIVE, Hyper, Limit, Optimizer, State, shrunk
from .params import Parameters

RATES = (None, "original", "match_rms_adamw")


def orthogonalized(x: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Bring the singular values of a matrix near 1, in products alone, and keep its singular vectors.

    ``X <- X / max(|X|, eps)``, then ``steps`` times ``X <- a X + (b A + c A^2) X`` with ``A = X X^T``, which takes
    each singular value ``s`` to ``a s + b s^3 + c s^5``.
    """
    a, b, c = coefficients
    tall = x.shape[0] > x.shape[1]
    x = matrix_transpose(x) if tall else x
    x = x / maximum(norm(x), eps)
    for _ in range(steps):
        gram = x @ matrix_transpose(x)  # (m, n) @ (n, m) -> (m, m), of the shorter side
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return matrix_transpose(x) if tall else x


class Muon(Optimizer):
    """Momentum whose matrix is replaced by the nearest one with orthonormal rows or columns, about.

    With the running mean ``m <- m + (1 - momentum) (g - m)``, and ``u = g + momentum (m - g)`` with ``nesterov`` or
    ``u = m`` without, ``p <- (1 - lr * weight_decay) p - lr * ratio * O(u)``. ``O`` is the Newton-Schulz iteration: it
    divides by the Frobenius norm, then ``X <- a X + (b A + c A^2) X`` with ``A = X X^T``, ``ns_steps`` times, which
    brings singular values to about 1 (0.7 to 1.2 with the coefficients that are the default).

    For the matrices inside a network; biases, norms, embeddings and the last layer want another optimizer, such as
    `AdamW`. A parameter of more axes, such as the kernel of a convolution (O, K..., I), is the matrix (O, K... * I).
    The iteration is computed in the dtype of the update, float32 or float64, where PyTorch has bfloat16.

    Args:
        params: see `Optimizer`; real, of two axes or more.
        lr: the learning rate.
        weight_decay: the decay, apart from the gradient.
        momentum: how much of the running mean is kept.
        nesterov: look ahead along the mean.
        ns_coefficients: ``(a, b, c)``.
        eps: the smallest norm that is divided by.
        ns_steps: how many iterations, below 100.
        adjust_lr_fn: the ``ratio`` for a matrix of ``A`` rows and ``B`` columns: ``sqrt(max(1, A / B))`` for
            "original" and None, ``0.2 sqrt(max(A, B))``, so that rates for `AdamW` fit, for "match_rms_adamw".
        allow_unused: let parameters without a gradient be.

    Raises:
        ArgumentError: a hyperparameter is out of its range, or a parameter is complex or has fewer than two axes.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); "match_rms_adamw": Liu et
    al., "Muon is scalable for LLM training", arXiv 2502.16982.

    >>> w = Parameter(tensor([[3.0, 0.0], [0.0, 0.1]]))
    >>> opt = optim.Muon([w], lr=1.0, weight_decay=0.0)
    >>> (0.5 * w * w).sum().backward()
    >>> opt.step()
    >>> print(w.numpy().round(2))  # steps of about 1 for both singular values
    [[ 2.3   0.  ]
     [ 0.   -1.03]]
    """

    limits: ClassVar[dict[str, Limit]] = dict.fromkeys(("weight_decay", "momentum", "eps"), NOT_NEGATIVE) | {
        "ns_steps": (lambda v: isinstance(v, int) and 0 <= v < 100, "that is whole, from 0 to 99"),
    }

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        allow_unused: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn,
        }  # fmt: skip
        super().__init__(params, defaults, allow_unused=allow_unused)

    def check(self, hyper: Hyper) -> None:
        """Raise `ArgumentError` unless the hyperparameters have values that they can have."""
        super().check(hyper)
        three, rate = hyper["ns_coefficients"], hyper["adjust_lr_fn"]
        if not isinstance(three, tuple) or len(three) != 3:
            raise ArgumentError("Muon", "ns_coefficients are three numbers", received=repr(three))
        if rate not in RATES:
            raise ArgumentError("Muon", "adjust_lr_fn is None, 'original' or 'match_rms_adamw'", received=repr(rate))

    def check_parameter(self, shown: str, parameter: Cell) -> None:
        """Raise `ArgumentError` unless the parameter is a matrix."""
        if parameter.ndim < 2 or parameter.dtype in dtypes.COMPLEX:
            fix = "give vectors, scalars and complex parameters to another optimizer, such as AdamW"
            raise ArgumentError("Muon", "adjusts real matrices", received=f"{parameter.dtype.name} {shown}", fix=fix)

    @staticmethod
    def init(p: Tensor, hyper: Hyper) -> State:
        """Return the running mean."""
        return {"momentum_buffer": zeros(p.shape, dtype=p.dtype)}

    @staticmethod
    def update(g: Tensor, p: Tensor, state: State, hyper: Hyper) -> tuple[Tensor, State]:
        """Return ``p - lr * ratio * O(u)``."""
        old, momentum = state["momentum_buffer"], hyper["momentum"]
        mean = old + (1 - momentum) * (g - old)
        direction = g + momentum * (mean - g) if hyper["nesterov"] else mean
        rows = p.shape[0]
        columns = p.size // max(rows, 1)
        matrix = reshape(direction, (rows, columns))
        matrix = orthogonalized(matrix, hyper["ns_coefficients"], hyper["ns_steps"], hyper["eps"])
        rate = hyper["lr"] * _ratio(rows, columns, hyper["adjust_lr_fn"])
        return shrunk(p, hyper) - rate * reshape(matrix, p.shape), {"momentum_buffer": mean}


def _ratio(rows: int, columns: int, adjust: Any) -> float:
    if adjust == "match_rms_adamw":
        return 0.2 * float(max(rows, columns)) ** 0.5
    return max(1.0, rows / max(columns, 1)) ** 0.5
