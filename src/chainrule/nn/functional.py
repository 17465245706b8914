"""Layers as functions, by PyTorch's names and arguments; images are channels-last (N, H, W, C)."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from .. import functions as F
from ..errors import ArgumentError, ShapeError
from ..functions import one_hot
from ..tensor import Tensor, TensorLike
from . import (
    attention as _attention,
    ctc,
    embedding as _embedding,
    losses,
    margin_losses,
    normalizing,
    positions,
    rare_class_losses,
    regularizing,
    resampling,
    windows,
)
from .attention import *  # noqa: F403
from .ctc import *  # noqa: F403
from .embedding import *  # noqa: F403
from .losses import *  # noqa: F403
from .margin_losses import *  # noqa: F403
from .normalizing import *  # noqa: F403
from .positions import *  # noqa: F403
from .rare_class_losses import *  # noqa: F403
from .regularizing import *  # noqa: F403
from .resampling import *  # noqa: F403
from .windows import *  # noqa: F403
from .windows import same_dtype

__all__ = [
    "bilinear", "celu", "elu", "gelu", "glu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu",
    "linear", "log_softmax", "logsigmoid", "mish", "one_hot", "pad", "prelu", "relu", "relu6", "selu", "sigmoid",
    "silu", "softmax", "softmin", "softplus", "softshrink", "softsign", "swiglu", "tanh", "tanhshrink", "threshold",
]  # fmt: skip
__all__ += ctc.__all__ + losses.__all__ + margin_losses.__all__ + rare_class_losses.__all__
__all__ += normalizing.__all__ + windows.__all__
__all__ += _embedding.__all__ + regularizing.__all__ + resampling.__all__ + _attention.__all__ + positions.__all__


def _activation(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An activation under PyTorch's argument names: ``input``, and ``inplace``, which immutable tensors ignore."""

    @functools.wraps(function)
    def activation(input: TensorLike, *args: Any, inplace: bool = False, **kwargs: Any) -> Tensor:
        return function(input, *args, **kwargs)

    first, *rest = inspect.signature(function).parameters.values()
    ignored = inspect.Parameter("inplace", inspect.Parameter.KEYWORD_ONLY, default=False)
    shown = inspect.Signature([first.replace(name="input"), *rest, ignored])
    activation.__signature__ = shown  # type: ignore[attr-defined]
    return activation


celu = _activation(F.celu)
elu = _activation(F.elu)
gelu = _activation(F.gelu)
hardsigmoid = _activation(F.hardsigmoid)
hardswish = _activation(F.hardswish)
hardtanh = _activation(F.hardtanh)
leaky_relu = _activation(F.leaky_relu)
mish = _activation(F.mish)
relu = _activation(F.relu)
relu6 = _activation(F.relu6)
selu = _activation(F.selu)
sigmoid = _activation(F.sigmoid)
silu = _activation(F.silu)
softplus = _activation(F.softplus)
softsign = _activation(F.softsign)
tanh = _activation(F.tanh)
logsigmoid = _activation(F.log_sigmoid)


def linear(input: TensorLike, weight: TensorLike, bias: TensorLike | None = None) -> Tensor:
    """Affine map of the last axis, ``x W^T + b``.

    Args:
        input: shape (..., in).
        weight: shape (out, in).
        bias: shape (out,).

    Returns:
        shape (..., out).

    Raises:
        ShapeError: the last axis of ``input`` does not have ``in`` elements.
        DTypeError: dtypes differ.

    >>> nn.functional.linear(cr.ones((1, 3)), cr.ones((2, 3)))
    tensor([[3., 3.]])
    """
    weight = F.asarray(weight)
    x = same_dtype("linear", input, weight)
    if not x.ndim or x.shape[-1] != weight.shape[-1]:
        raise ShapeError(
            "linear",
            f"the last axis must have {weight.shape[-1]} elements, the layer's number of inputs",
            received=f"input of shape {x.shape}, weight of shape {weight.shape}",
            fix=f"make the layer with in_features={x.shape[-1] if x.ndim else 1}, or flatten the input first",
        )
    y = F.matmul(x, weight.T)
    return y if bias is None else y + bias


def bilinear(input1: TensorLike, input2: TensorLike, weight: TensorLike, bias: TensorLike | None = None) -> Tensor:
    """``y_o = x1^T W_o x2 + b_o`` for weights (out, in1, in2).

    >>> nn.functional.bilinear(cr.ones((1, 2)), cr.ones((1, 3)), cr.ones((4, 2, 3))).shape
    (1, 4)
    """
    weight = F.asarray(weight)
    x1, x2 = (same_dtype("bilinear", x, weight) for x in (input1, input2))
    y = F.einsum("...i,oij,...j->...o", x1, weight, x2)
    return y if bias is None else y + bias


def softmax(input: TensorLike, dim: int = -1) -> Tensor:
    """``exp(x) / sum(exp(x))`` along an axis; see `chainrule.softmax`."""
    return F.softmax(input, axis=dim)


def log_softmax(input: TensorLike, dim: int = -1) -> Tensor:
    """Logarithm of `softmax` along an axis; see `chainrule.log_softmax`."""
    return F.log_softmax(input, axis=dim)


def softmin(input: TensorLike, dim: int = -1) -> Tensor:
    """`softmax` of ``-x``."""
    return F.softmax(-F.asarray(input), axis=dim)


def prelu(input: TensorLike, weight: TensorLike) -> Tensor:
    """``x`` above 0, ``weight * x`` below, with one weight or one per channel (He et al., arXiv 1502.01852).

    >>> nn.functional.prelu(cr.tensor([-2.0, 2.0]), cr.tensor([0.25]))
    tensor([-0.5,  2. ])
    """
    x, slope = F.asarray(input), F.asarray(weight)
    if slope.size != 1 and slope.shape != x.shape[-1:]:
        raise ShapeError(
            "prelu",
            "needs one weight, or one for each channel, the last axis",
            received=f"input of shape {x.shape}, weight of shape {slope.shape}",
        )
    return F.where(x > 0, x, x * (F.reshape(slope, ()) if slope.size == 1 else slope))


def threshold(input: TensorLike, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """``x`` above the threshold, ``value`` elsewhere.

    >>> nn.functional.threshold(cr.tensor([0.5, 2.0]), 1.0, -1.0)
    tensor([-1.,  2.])
    """
    x = F.asarray(input)
    return F.where(x <= threshold, value, x)  # NaN stays


def glu(input: TensorLike, dim: int = -1) -> Tensor:
    """``a * sigmoid(b)`` for the halves a and b of an axis (Dauphin et al., arXiv 1612.08083).

    >>> nn.functional.glu(cr.tensor([2.0, 0.0]))
    tensor([1.])
    """
    a, b = _halves("glu", input, dim)
    return a * F.sigmoid(b)


def swiglu(input: TensorLike, dim: int = -1) -> Tensor:
    """``silu(a) * b`` for the halves a and b of an axis (Shazeer, arXiv 2002.05202).

    >>> nn.functional.swiglu(cr.tensor([1.0, 2.0]))
    tensor([1.4621172])
    """
    a, b = _halves("swiglu", input, dim)
    return F.silu(a) * b


def _halves(operation: str, x: TensorLike, dim: int) -> tuple[Tensor, ...]:
    x = F.asarray(x)
    if not -x.ndim <= dim < x.ndim or x.shape[dim] % 2:
        raise ShapeError(operation, f"needs an even number of elements in axis {dim}", received=f"shape {x.shape}")
    return F.split(x, [x.shape[dim] // 2] * 2, axis=dim)


def hardshrink(input: TensorLike, lambd: float = 0.5) -> Tensor:
    """``x`` where ``|x| > lambd``, 0 elsewhere.

    >>> nn.functional.hardshrink(cr.tensor([-1.0, 0.2]))
    tensor([-1.,  0.])
    """
    x = F.asarray(input)
    return F.where((x >= -lambd) & (x <= lambd), 0, x)


def softshrink(input: TensorLike, lambd: float = 0.5) -> Tensor:
    """``x`` moved towards 0 by ``lambd``, and 0 where ``|x| <= lambd``.

    >>> nn.functional.softshrink(cr.tensor([-1.0, 0.2]))
    tensor([-0.5,  0. ])
    """
    x = F.asarray(input)
    if lambd < 0:
        raise ArgumentError("softshrink", "lambd must not be negative", received=repr(lambd))
    return F.where(x > lambd, x - lambd, F.where(x < -lambd, x + lambd, x * 0))  # NaN stays


def tanhshrink(input: TensorLike) -> Tensor:
    """``x - tanh(x)``.

    >>> nn.functional.tanhshrink(cr.tensor([1.0]))
    tensor([0.238405...])
    """
    x = F.asarray(input)
    return x - F.tanh(x)


def pad(input: TensorLike, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Put elements around a tensor, widths as in PyTorch: a flat list that begins with the last axis.

    Of channels-last images the last axis are the channels: ``(0, 0, left, right, top, bottom)``.

    Args:
        input: a tensor.
        pad: before and after the last axis, before and after the one ahead of it, and so on. Negative widths cut off.
        mode: "constant", "reflect", "replicate" or "circular".
        value: of the new elements, if constant; 0 unless given.

    Raises:
        ArgumentError: the widths are not an even number of whole numbers; `chainrule.pad` takes pairs.

    >>> nn.functional.pad(cr.ones((2, 2)), (1, 0)).shape
    (2, 3)
    """
    x, widths = F.asarray(input), list(pad) if isinstance(pad, Sequence) else [pad]
    if len(widths) % 2 or len(widths) > 2 * x.ndim or any(not isinstance(w, int) for w in widths):
        raise ArgumentError(
            "pad",
            f"needs two whole numbers for each of at most {x.ndim} axes, from the last one on",
            received=repr(pad),
            fix="cr.pad(x, [(before, after), ...]) takes pairs, from the first axis on",
        )
    pairs = [(widths[i], widths[i + 1]) for i in range(0, len(widths), 2)][::-1]
    return F.pad(x, [(0, 0)] * (x.ndim - len(pairs)) + pairs, mode, value or 0.0)
