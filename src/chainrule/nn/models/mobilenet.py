"""MobileNetV2: narrow images between blocks, wide ones inside, where convolutions are depthwise (arXiv 1801.04381)."""

from __future__ import annotations

from typing import Any

from ... import functions as F
from ...errors import ArgumentError
from ...tensor import Tensor
from .. import init
from ..activations import ReLU6
from ..containers import Sequential
from ..layers import Linear
from ..module import Module
from ..norm import BatchNorm2d
from ..regularizing import Dropout
from .residual import he_conv

# Table 2 of the paper: how many times wider inside, channels, blocks, and the stride of the first of them.
_STAGES = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, and not less than nine tenths."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near if near >= 0.9 * channels else near + 8


def _conv(n_in: int, n_out: int, size: int, stride: int = 1, groups: int = 1) -> Sequential:
    return Sequential(he_conv(n_in, n_out, size, stride, groups), BatchNorm2d(n_out), ReLU6())


class InvertedResidual(Module):
    """Make channels more by 1x1, filter each by 3x3, make them few again by 1x1 without activation (figure 4 d).

    The input is added where it has the shape of the output.

    Args:
        n_in, n_out: channels of input and output.
        stride: of the 3x3 convolution.
        expansion: how many times ``n_in`` channels there are between.

    >>> nn.models.InvertedResidual(4, 6, stride=2, expansion=3)(cr.normal((2, 6, 6, 4))).shape
    (2, 3, 3, 6)
    """

    def __init__(self, n_in: int, n_out: int, stride: int, expansion: int) -> None:
        wide = n_in * expansion
        first = [_conv(n_in, wide, 1)] if expansion != 1 else []
        depthwise = _conv(wide, wide, 3, stride, groups=wide)
        self.conv = Sequential(*first, depthwise, he_conv(wide, n_out, 1), BatchNorm2d(n_out))
        self.adds = stride == 1 and n_in == n_out

    def forward(self, x: Any) -> Tensor:
        """(N, H, W, C) -> (N, H / stride, W / stride, O)."""
        y: Tensor = self.conv(x)
        return y + x if self.adds else y


class MobileNetV2(Module):
    """Inverted residuals with linear bottlenecks (Sandler et al., arXiv 1801.04381, table 2).

    3,504,872 parameters for 1000 classes. They have the names of torchvision, so that its files load: read one with
    PyTorch, and ``model.load_state_dict(state, layout="torch")``.

    Args:
        channels: of the images.
        classes: number of classes.
        width: all numbers of channels times this, rounded to multiples of 8; the last, 1280, only grows.
        dropout: before the linear layer.
        small_images: no stride in the first convolution and the first block that has one, for images such as 32x32.

    >>> nn.models.MobileNetV2(classes=5, width=0.25, small_images=True)(cr.normal((2, 16, 16, 3))).shape
    (2, 5)
    """

    def __init__(
        self,
        channels: int = 3,
        classes: int = 1000,
        width: float = 1.0,
        dropout: float = 0.2,
        *,
        small_images: bool = False,
    ) -> None:
        if not width > 0:
            raise ArgumentError("MobileNetV2", "width is a positive factor", received=repr(width))
        n_in, last = _rounded(32 * width), _rounded(1280 * max(1.0, width))
        features: list[Module] = [_conv(channels, n_in, 3, stride=1 if small_images else 2)]
        for expansion, n_out, count, stride in _STAGES:
            for i in range(count):
                step = 1 if i or (small_images and n_out == 24) else stride
                features.append(InvertedResidual(n_in, n_in := _rounded(n_out * width), step, expansion))
        self.features = Sequential(*features, _conv(n_in, last, 1))
        scores = Linear(last, classes)
        scores.weight = init.parameter(scores.weight.shape, init.normal(0.01))
        scores.bias = init.parameter((classes,), init.constant(0.0))
        self.classifier = Sequential(Dropout(dropout), scores)

    def forward(self, x: Any) -> Tensor:
        """(N, H, W, C) -> scores (N, classes)."""
        scores: Tensor = self.classifier(F.mean(self.features(x), axis=(1, 2)))
        return scores
