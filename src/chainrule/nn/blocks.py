"""Small networks that others are made of."""

from __future__ import annotations

from typing import Any

from .. import functions as F
from ..errors import ArgumentError, ShapeError
from ..tensor import Tensor
from .layers import Linear
from .module import Module


class Residual(Module):
    """A module and a way around it: ``module(x) + x`` (He et al., arXiv 1512.03385).

    Args:
        module: what is learned beside the input.
        shortcut: a module in place of the plain ``x``, where ``module`` changes the shape.

    Raises:
        ShapeError: when called, if the two shapes differ.

    >>> block = nn.Residual(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)))
    >>> block(cr.ones((2, 4))).shape
    (2, 4)
    """

    def __init__(self, module: Module, shortcut: Module | None = None) -> None:
        self.module, self.shortcut = module, shortcut

    def forward(self, x: Any) -> Tensor:
        """(...) -> (...)."""
        y = self.module(x)
        around = F.asarray(x) if self.shortcut is None else self.shortcut(x)
        if y.shape != around.shape:
            raise ShapeError(
                "Residual",
                "what the module gives must have the shape of what goes around it",
                received=f"shapes {y.shape} and {around.shape}",
                fix="give a shortcut that changes the shape likewise, such as nn.Conv2d(C, O, 1, stride)",
            )
        return y + around


class SqueezeExcite(Module):
    """Each channel times a factor in 0..1 that depends on the means of all (Hu et al., arXiv 1709.01507).

    ``x * sigmoid(W2 relu(W1 mean(x) + b1) + b2)``, the mean over all places.

    Args:
        channels: number of channels C, the last axis.
        reduction: how many times fewer there are between W1 and W2.
        dtype: of the weights.

    >>> nn.SqueezeExcite(32)(cr.ones((2, 5, 5, 32))).shape
    (2, 5, 5, 32)
    """

    def __init__(self, channels: int, reduction: int = 16, dtype: Any = None) -> None:
        if not 1 <= reduction <= channels:
            raise ArgumentError("SqueezeExcite", "the reduction is from 1 to the channels", received=repr(reduction))
        self.fc1 = Linear(channels, channels // reduction, dtype=dtype)
        self.fc2 = Linear(channels // reduction, channels, dtype=dtype)

    def forward(self, x: Any) -> Tensor:
        """(N, spatial..., C) -> (N, spatial..., C)."""
        x = F.asarray(x)
        if x.ndim < 3:
            raise ShapeError("SqueezeExcite", "needs images (N, spatial..., C)", received=f"shape {x.shape}")
        mean = F.mean(x, axis=tuple(range(1, x.ndim - 1)), keepdims=True)
        return x * F.sigmoid(self.fc2(F.relu(self.fc1(mean))))
