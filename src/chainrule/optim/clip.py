"""Limiting gradients between ``backward()`` and ``step()``."""

from __future__ import annotations

from typing import Any

from .. import dtypes
from ..autodiff import RowSparse, no_grad
from ..errors import ArgumentError, GradientError
from ..functions import asarray, astype, clip, minimum, norm, stack
from ..tensor import Cell, Tensor
from .params import Parameters, read_parameters


def _with_gradient(operation: str, parameters: Parameters) -> list[tuple[Cell, Tensor]]:
    given = [parameters] if isinstance(parameters, Tensor) else parameters
    return [(p, p.grad) for _, p in read_parameters(operation, given) if p.grad is not None]


def numbers_of(g: Tensor) -> Tensor:
    """Return what there is of a gradient: the rows of one that is row-sparse."""
    return g.rows if isinstance(g, RowSparse) else g


def with_numbers(g: Tensor, numbers: Tensor) -> Tensor:
    """Return a gradient of the form of ``g`` with other numbers."""
    return g.with_rows(numbers) if isinstance(g, RowSparse) else numbers


def _total_norm(gradients: list[Tensor], norm_type: float) -> Tensor:
    """The norm of all gradients as one vector; 16-bit ones are summed up in float32."""
    numbers = [numbers_of(g.coalesced() if isinstance(g, RowSparse) else g) for g in gradients]
    wide = [astype(g, dtypes.float32) if g.dtype in dtypes.HALF else g for g in numbers if g.size]
    if not wide:
        return asarray(0.0)
    norms = [norm(g, norm_type) for g in wide]
    common = max((n.dtype for n in norms), key=lambda dtype: dtype.itemsize)
    return norm(stack([astype(n, common) for n in norms]), norm_type)


def clip_grad_norm_(
    parameters: Parameters, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Scale all gradients by one factor, so that their norm as one vector is at most ``max_norm``.

    ``g <- g * min(1, max_norm / (norm + 1e-6))``. Parameters without a gradient are passed over.

    Args:
        parameters: parameters, ``(name, parameter)`` pairs, a module, or one parameter.
        max_norm: the largest norm that is left as it is.
        norm_type: the order of the norm; ``inf`` for the largest element.
        error_if_nonfinite: raise an error if the norm is NaN or infinite. This looks at the value, so a compiled step
            cannot.

    Returns:
        the norm before scaling, a scalar.

    Raises:
        ArgumentError: ``max_norm`` is negative.
        GradientError: the norm is not finite, with ``error_if_nonfinite``.

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013).

    >>> w = Parameter(tensor([3.0, 4.0]))
    >>> (0.5 * w * w).sum().backward()
    >>> optim.clip_grad_norm_([w], 1.0)
    tensor(5.)
    >>> print(f"{float(w.grad.norm()):.4f}")
    1.0000
    """
    _check("clip_grad_norm_", "max_norm", max_norm)
    with no_grad():
        held = _with_gradient("clip_grad_norm_", parameters)
        total = _total_norm([g for _, g in held], float(norm_type))
        if error_if_nonfinite and not bool(total.isfinite()):
            raise GradientError(
                "clip_grad_norm_",
                "the norm of the gradients is not finite",
                received=str(float(total)),
                fix="find out which gradient it is, or pass error_if_nonfinite=False",
            )
        factor = minimum(max_norm / (total + 1e-6), 1.0)
        for parameter, g in held:
            parameter.grad = scaled(g, factor)
    return total


def scaled(g: Tensor, factor: Tensor) -> Tensor:
    """Return a gradient times a scalar, in its own dtype."""
    wide = dtypes.float32 if g.dtype in dtypes.HALF else dtypes.real_of(g.dtype)
    return with_numbers(g, astype(numbers_of(g) * astype(factor, wide), g.dtype))


def clip_grad_value_(parameters: Parameters, clip_value: float) -> None:
    """Limit each element of the gradients to [-clip_value, clip_value].

    Args:
        parameters: parameters, ``(name, parameter)`` pairs, a module, or one parameter.
        clip_value: the limit.

    Raises:
        ArgumentError: ``clip_value`` is negative.

    >>> w = Parameter(tensor([3.0, -0.25]))
    >>> (0.5 * w * w).sum().backward()
    >>> optim.clip_grad_value_([w], 1.0)
    >>> w.grad
    tensor([ 1.  , -0.25])
    """
    _check("clip_grad_value_", "clip_value", clip_value)
    with no_grad():
        for parameter, g in _with_gradient("clip_grad_value_", parameters):
            g = g.coalesced() if isinstance(g, RowSparse) else g
            parameter.grad = with_numbers(g, clip(numbers_of(g), -clip_value, clip_value))


def _check(operation: str, name: str, limit: Any) -> None:
    if not isinstance(limit, Tensor) and not limit >= 0:
        raise ArgumentError(operation, f"{name} is at least 0", received=str(limit))
