"""Activations as layers; the mathematics is in the functions of the same name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError
from ..tensor import Tensor, TensorLike
from . import functional
from .init import constant, parameter
from .module import Module
from .windows import batch_of_images


class Activation(Module):
    """An elementwise function as a layer.

    Args:
        *args, **kwargs: what the function takes beside the input, by PyTorch's names and in its order; ``inplace`` does
            nothing, since tensors are immutable.
    """

    function: Callable[..., Tensor]
    arguments: dict[str, Any] = {}  # noqa: RUF012 - never changed

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kind = type(self).__name__
        given = dict(zip(self.arguments, args, strict=False)) | kwargs
        unknown = given.keys() - self.arguments.keys()
        if unknown or len(args) > len(self.arguments):
            allowed = ", ".join(self.arguments) or "none"
            raise ArgumentError(kind, f"takes these arguments: {allowed}", received=f"{args}, {kwargs}")
        for name, value in (self.arguments | given).items():
            setattr(self, name, value)

    def forward(self, x: TensorLike) -> Tensor:
        """(...) -> (...)."""
        return type(self).function(x, *(getattr(self, name) for name in self.arguments if name != "inplace"))

    def extra_repr(self) -> str:
        """The arguments."""
        return ", ".join(f"{name}={getattr(self, name)}" for name in self.arguments if name != "inplace")


def _activation(name: str, function: Callable[..., Tensor], **arguments: Any) -> type[Activation]:
    summary = (function.__doc__ or "").strip().splitlines()[0]
    doc = f"{summary}\n\n    See `chainrule.nn.functional.{function.__name__}`.\n    "
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    shown = inspect.Signature([inspect.Parameter(k, kind, default=v) for k, v in arguments.items()])
    members = {"function": staticmethod(function), "arguments": arguments, "__doc__": doc, "__module__": __name__}
    members["__signature__"] = shown
    return type(name, (Activation,), members)


ReLU = _activation("ReLU", functional.relu, inplace=False)
ReLU6 = _activation("ReLU6", functional.relu6, inplace=False)
LeakyReLU = _activation("LeakyReLU", functional.leaky_relu, negative_slope=0.01, inplace=False)
ELU = _activation("ELU", functional.elu, alpha=1.0, inplace=False)
CELU = _activation("CELU", functional.celu, alpha=1.0, inplace=False)
SELU = _activation("SELU", functional.selu, inplace=False)
GELU = _activation("GELU", functional.gelu, approximate="none")
SiLU = _activation("SiLU", functional.silu, inplace=False)
Mish = _activation("Mish", functional.mish, inplace=False)
Sigmoid = _activation("Sigmoid", functional.sigmoid)
LogSigmoid = _activation("LogSigmoid", functional.logsigmoid)
Tanh = _activation("Tanh", functional.tanh)
Softplus = _activation("Softplus", functional.softplus, beta=1.0, threshold=20.0)
Softsign = _activation("Softsign", functional.softsign)
Hardswish = _activation("Hardswish", functional.hardswish, inplace=False)
Hardsigmoid = _activation("Hardsigmoid", functional.hardsigmoid, inplace=False)
Hardtanh = _activation("Hardtanh", functional.hardtanh, min_val=-1.0, max_val=1.0, inplace=False)
Threshold = _activation("Threshold", functional.threshold, threshold=0.0, value=0.0, inplace=False)
Softmax = _activation("Softmax", functional.softmax, dim=-1)
LogSoftmax = _activation("LogSoftmax", functional.log_softmax, dim=-1)
Softmin = _activation("Softmin", functional.softmin, dim=-1)
Hardshrink = _activation("Hardshrink", functional.hardshrink, lambd=0.5)
Softshrink = _activation("Softshrink", functional.softshrink, lambd=0.5)
Tanhshrink = _activation("Tanhshrink", functional.tanhshrink)
GLU = _activation("GLU", functional.glu, dim=-1)


class Softmax2d(Module):
    """`softmax` over the channels of images.

    >>> nn.Softmax2d()(cr.ones((1, 3, 3, 4)))[0, 0, 0, 0]
    tensor(0.25)
    """

    def forward(self, x: TensorLike) -> Tensor:
        """(N, H, W, C) -> (N, H, W, C)."""
        return functional.softmax(batch_of_images("Softmax2d", x, 2), -1)


class PReLU(Module):
    """``x`` above 0, ``weight * x`` below, with a learned weight (He et al., arXiv 1502.01852).

    Args:
        num_parameters: 1, or the number of channels, the last axis.
        init: where the weight starts.
        dtype: of the weight.

    >>> nn.PReLU()(cr.tensor([-4.0, 4.0]))
    tensor([-1.,  4.]...)
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, dtype: Any = None) -> None:
        self.num_parameters, self.init = num_parameters, init
        self.weight = parameter((num_parameters,), constant(init), dtype)

    def forward(self, x: TensorLike) -> Tensor:
        """(...) -> (...)."""
        return functional.prelu(x, self.weight)

    def extra_repr(self) -> str:
        """How many weights there are."""
        return f"num_parameters={self.num_parameters}"
