"""Arithmetic and activations composed from primitives."""

from __future__ import annotations

import math

from .. import dtypes
from ..errors import ArgumentError
from ..primitives import binary, elementwise
from ..tensor import Tensor, TensorLike, asarray, operand, operands
from .checks import Axis, as_axes
from .reductions import all as all_, max, sum
from .selection import where

__all__ = [
    "allclose",
    "celu",
    "copysign",
    "digamma",
    "elu",
    "gelu",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hypot",
    "isclose",
    "leaky_relu",
    "log2",
    "log10",
    "log_sigmoid",
    "log_softmax",
    "logaddexp",
    "mish",
    "norm",
    "polygamma",
    "positive",
    "pow",
    "relu",
    "relu6",
    "selu",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "xlogy",
]  # fmt: skip


def positive(x: TensorLike) -> Tensor:
    """Return ``x``.

    >>> positive(tensor([-1.0]))
    tensor([-1.])
    """
    return asarray(x)


def pow(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Power, ``x1 ** x2``, with ``0 ** 0 = 1``, where both gradients are 0.

    The Python numbers 0, 1, 2, -1 and 0.5 as exponents are the exact ones, identity, square, reciprocal and root.

    Raises:
        ArgumentError: an integer to a negative integer power.

    >>> pow(tensor([2.0, 3.0]), 2)
    tensor([4., 9.])
    """
    varies = isinstance(x2, Tensor) and isinstance(x2, float)  # an argument of a compiled function
    if isinstance(x2, (int, float)) and not isinstance(x2, bool) and not varies:
        x = asarray(x1)
        floating = x.dtype in dtypes.FLOATING
        if x2 == 2 and isinstance(x2, int) | floating and x.dtype != dtypes.bool_:
            return elementwise.square(x)
        if x2 == 1 and isinstance(x2, int) | floating:
            return x
        if floating and x2 == -1:
            return elementwise.reciprocal(x)
        if floating and x2 == 0.5:
            return elementwise.sqrt(x)
    return binary.power(*operands(x1, x2))


def log2(x: TensorLike) -> Tensor:
    """Logarithm to base 2.

    >>> log2(tensor([8.0]))
    tensor([3.])
    """
    return elementwise.log(x) * (1 / math.log(2))


def log10(x: TensorLike) -> Tensor:
    """Logarithm to base 10.

    >>> log10(tensor([1000.0]))
    tensor([3.])
    """
    return elementwise.log(x) * (1 / math.log(10))


def logaddexp(x1: TensorLike, x2: TensorLike) -> Tensor:
    """``log(exp(x1) + exp(x2))`` without overflow.

    >>> logaddexp(tensor(1000.0), tensor(1000.0))
    tensor(1000.693...)
    """
    a, b = operands(x1, x2, True)
    peak = binary.maximum(a, b).detach()
    safe = where(peak.isfinite(), peak, 0.0)
    return ((a - safe).exp() + (b - safe).exp()).log() + safe


def hypot(x1: TensorLike, x2: TensorLike) -> Tensor:
    """``sqrt(x1^2 + x2^2)`` without overflow; its gradient at the origin is 0.

    >>> hypot(tensor(3.0), tensor(4.0))
    tensor(5.)
    """
    a, b = operands(x1, x2, True)
    scale = binary.maximum(elementwise.abs(a), elementwise.abs(b)).detach()
    safe = where((scale > 0) & scale.isfinite(), scale, 1.0)
    length = _root((a / safe).square() + (b / safe).square()) * safe
    return where(a.isinf() | b.isinf(), math.inf, length)


def _root(square: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0."""
    zero = square == 0
    return where(zero, 0.0, where(zero, 1.0, square).sqrt())


def copysign(x1: TensorLike, x2: TensorLike) -> Tensor:
    """The magnitude of ``x1`` with the sign of ``x2``.

    >>> copysign(tensor([1.0, -2.0]), tensor([-1.0, 1.0]))
    tensor([-1.,  2.])
    """
    a, b = operands(x1, x2, True)
    size = elementwise.abs(a)
    return where((b < 0) | (elementwise.reciprocal(b) < 0), -size, size)


def digamma(x: TensorLike) -> Tensor:
    """Derivative of `lgamma` (DLMF 5.2.2).

    >>> digamma(tensor([1.0]))
    tensor([-0.5772157])
    """
    return polygamma(0, x)


def polygamma(n: int, x: TensorLike) -> Tensor:
    """Derivative number ``n`` of `digamma` (DLMF 5.15.1).

    >>> polygamma(1, tensor([1.0]))
    tensor([1.644934])
    """
    return binary.polygamma(operand(x, True), order=n)


def isclose(x1: TensorLike, x2: TensorLike, rtol: float = 1e-5, atol: float = 1e-8) -> Tensor:
    """True where ``|x1 - x2| <= atol + rtol * |x2|``, or where both are the same infinity.

    >>> isclose(tensor([1.0, 2.0]), tensor([1.000001, 2.1]))
    tensor([ True, False])
    """
    a, b = operands(x1, x2, True)
    return (a == b) | ((elementwise.abs(a - b) <= atol + rtol * elementwise.abs(b)) & b.isfinite())


def allclose(x1: TensorLike, x2: TensorLike, rtol: float = 1e-5, atol: float = 1e-8) -> bool:
    """Whether `isclose` holds everywhere.

    >>> allclose(tensor([1.0]), tensor([1.000001]))
    True
    """
    return bool(all_(isclose(x1, x2, rtol, atol)))


def norm(x: TensorLike, ord: float = 2, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Vector norm over axes, ``(sum |x|^ord)^(1/ord)``; its gradient at zero is 0.

    Args:
        x: a tensor.
        ord: 2 (Euclidean), 1, any positive number, ``inf`` (largest), ``-inf`` (smallest) or 0 (number of nonzeros).
        axis: the axes, None for all.
        keepdims: keep the axes, with size 1.

    >>> norm(tensor([3.0, 4.0]))
    tensor(5.)
    """
    x = operand(x, True)
    size = elementwise.abs(x) if ord != 2 or x.dtype in dtypes.COMPLEX else x
    if ord == 2:
        return _root(sum(size.square(), axis, keepdims))
    if ord == 1:
        return sum(size, axis, keepdims)
    if ord == math.inf:
        return max(size, axis, keepdims)
    if ord == -math.inf:
        return -max(-size, axis, keepdims)
    if ord == 0:
        return sum((size != 0).astype(size.dtype), axis, keepdims)
    if 0 < ord < 1:  # the slope of the power is infinite at 0, that of the norm is taken as 0
        none = size == 0
        terms = where(none, 0.0, pow(where(none, 1.0, size), float(ord)))
    else:
        terms = pow(size, float(ord))
    total = sum(terms, axis, keepdims)
    zero = total == 0
    return where(zero, 0.0, pow(where(zero, 1.0, total), 1 / ord))


def xlogy(x1: TensorLike, x2: TensorLike) -> Tensor:
    """``x1 * log(x2)``, and 0 where ``x1`` is 0.

    >>> xlogy(tensor([0.0, 1.0]), tensor([0.0, 1.0]))
    tensor([0., 0.])
    """
    a, b = operands(x1, x2, True)
    return binary.strong_multiply(a, elementwise.log(b))


# --- activations ------------------------------------------------------------------------------------------


def relu(x: TensorLike) -> Tensor:
    """Rectifier, ``max(x, 0)``; its gradient at 0 is 0.

    >>> relu(tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    x = asarray(x)
    return where(x <= 0, 0, x)


def relu6(x: TensorLike) -> Tensor:
    """``min(max(x, 0), 6)`` (Howard et al., arXiv 1704.04861).

    >>> relu6(tensor([-1.0, 2.0, 8.0]))
    tensor([0., 2., 6.])
    """
    return hardtanh(x, 0.0, 6.0)


def hardtanh(x: TensorLike, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """``x`` limited to [min_val, max_val]; its gradient at and beyond the limits is 0.

    >>> hardtanh(tensor([-2.0, 0.5]))
    tensor([-1. ,  0.5])
    """
    x = operand(x, True)
    return where(x <= min_val, min_val, where(x >= max_val, max_val, x))


def leaky_relu(x: TensorLike, negative_slope: float = 0.01) -> Tensor:
    """``x`` above 0, ``negative_slope * x`` below (Maas et al., 2013).

    >>> leaky_relu(tensor([-1.0, 2.0]))
    tensor([-0.01,  2.  ])
    """
    x = operand(x, True)
    return where(x > 0, x, negative_slope * x)


def _expm1_below_zero(x: Tensor) -> Tensor:
    return elementwise.expm1(where(x > 0, 0.0, x))


def elu(x: TensorLike, alpha: float = 1.0) -> Tensor:
    """``x`` above 0, ``alpha (e^x - 1)`` below (Clevert et al., arXiv 1511.07289).

    >>> elu(tensor([-1.0, 2.0]))
    tensor([-0.63212055,  2.        ])
    """
    x = operand(x, True)
    return where(x > 0, x, alpha * _expm1_below_zero(x))


def celu(x: TensorLike, alpha: float = 1.0) -> Tensor:
    """``x`` above 0, ``alpha (e^(x / alpha) - 1)`` below (Barron, arXiv 1704.07483).

    >>> celu(tensor([-1.0, 2.0]), 2.0)
    tensor([-0.786...,  2.        ])
    """
    x = operand(x, True)
    return where(x > 0, x, alpha * _expm1_below_zero(x / alpha))


def selu(x: TensorLike) -> Tensor:
    """Scaled `elu` that keeps mean 0 and variance 1 (Klambauer et al., arXiv 1706.02515).

    >>> selu(tensor([1.0]))
    tensor([1.050701])
    """
    return 1.0507009873554804934193349852946 * elu(x, 1.6732632423543772848170429916717)


def silu(x: TensorLike) -> Tensor:
    """``x * sigmoid(x)``, also called swish (Elfwing et al., arXiv 1702.03118).

    >>> silu(tensor([1.0]))
    tensor([0.7310586])
    """
    x = operand(x, True)
    return x * elementwise.sigmoid(x)


def gelu(x: TensorLike, approximate: str = "none") -> Tensor:
    """``x * Phi(x)``, Phi the distribution function of the normal distribution (Hendrycks, Gimpel, arXiv 1606.08415).

    Args:
        x: a tensor.
        approximate: "none" for the exact form by `erf`, "tanh" for
            ``x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))``.

    >>> gelu(tensor([1.0]))
    tensor([0.8413447])
    """
    x = operand(x, True)
    if approximate == "none":
        return 0.5 * x * (1 + elementwise.erf(x * math.sqrt(0.5)))
    if approximate != "tanh":
        raise ArgumentError("gelu", "approximate is 'none' or 'tanh'", received=repr(approximate))
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    return 0.5 * x * (1 + elementwise.tanh(inner))


def softplus(x: TensorLike, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """``log(1 + e^(beta x)) / beta``, and ``x`` itself where ``beta x > threshold``.

    >>> softplus(tensor([0.0, 100.0]))
    tensor([  0.6931472, 100.       ])
    """
    x = operand(x, True)
    scaled = x * beta if beta != 1.0 else x
    large = scaled > threshold
    soft = elementwise.log1p(elementwise.exp(where(large, 0.0, scaled)))
    return where(large, x, soft / beta if beta != 1.0 else soft)


def log_sigmoid(x: TensorLike) -> Tensor:
    """``log(sigmoid(x))`` without overflow.

    >>> log_sigmoid(tensor([0.0, -1000.0]))
    tensor([-6.931472e-01, -1.000000e+03])
    """
    x = operand(x, True)
    small = where(x < 0, x, -x)  # -|x|, with a slope at 0, where both sides meet smoothly
    return where(x < 0, x, 0.0) - elementwise.log1p(elementwise.exp(small))


def mish(x: TensorLike) -> Tensor:
    """``x * tanh(softplus(x))`` (Misra, arXiv 1908.08681).

    >>> mish(tensor([1.0]))
    tensor([0.86509...])
    """
    x = operand(x, True)
    return x * elementwise.tanh(softplus(x))


def softsign(x: TensorLike) -> Tensor:
    """``x / (1 + |x|)``.

    >>> softsign(tensor([1.0]))
    tensor([0.5])
    """
    x = operand(x, True)
    return x / (1 + elementwise.abs(x))


def hardsigmoid(x: TensorLike) -> Tensor:
    """``min(max(x + 3, 0), 6) / 6`` (Howard et al., arXiv 1905.02244).

    >>> hardsigmoid(tensor([0.0]))
    tensor([0.5])
    """
    return hardtanh(operand(x, True) + 3, 0.0, 6.0) / 6


def hardswish(x: TensorLike) -> Tensor:
    """``x * min(max(x + 3, 0), 6) / 6`` (Howard et al., arXiv 1905.02244).

    >>> hardswish(tensor([1.0]))
    tensor([0.6666667])
    """
    x = operand(x, True)
    return x * hardsigmoid(x)


def log_softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """``x - logsumexp(x)`` along an axis: the logarithm of `softmax`, without overflow.

    >>> log_softmax(tensor([0.0, 0.0]))
    tensor([-0.6931472, -0.6931472])
    """
    x = operand(x, True)
    as_axes("log_softmax", axis, x.ndim)
    if x.size == 0:
        return x
    shifted = x - max(x.detach(), axis, keepdims=True)
    return shifted - elementwise.log(sum(elementwise.exp(shifted), axis, keepdims=True))


def softmax(x: TensorLike, axis: int = -1) -> Tensor:
    """``exp(x) / sum(exp(x))`` along an axis, without overflow.

    >>> softmax(tensor([0.0, 0.0]))
    tensor([0.5, 0.5])
    """
    x = operand(x, True)
    as_axes("softmax", axis, x.ndim)
    if x.size == 0:
        return x
    weights = elementwise.exp(x - max(x.detach(), axis, keepdims=True))
    return weights / sum(weights, axis, keepdims=True)
