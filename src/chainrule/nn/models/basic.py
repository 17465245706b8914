"""Small models for images: a multilayer perceptron and LeNet."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ... import functions as F
from ...errors import ArgumentError
from ...tensor import Tensor
from .. import functional
from ..activations import ReLU
from ..containers import Sequential
from ..layers import Conv2d, Flatten, Linear
from ..module import Module
from ..norm import BatchNorm2d
from ..pooling import MaxPool2d
from ..regularizing import Dropout


def mlp(sizes: Sequence[int], dropout: float = 0.0) -> Sequential:
    """Multilayer perceptron: linear layers with ReLU between.

    Args:
        sizes: inputs, hidden layers, outputs.
        dropout: probability after each hidden layer.

    >>> nn.models.mlp([4, 8, 3])(cr.zeros((2, 4))).shape
    (2, 3)
    """
    layers: list[Module] = [Flatten()]
    for n_in, n_out in pairwise(sizes[:-1]):
        layers += [Linear(n_in, n_out), ReLU()] + ([Dropout(dropout)] if dropout else [])
    return Sequential(*layers, Linear(sizes[-2], sizes[-1]))


def lenet(image_size: int, channels: int, classes: int) -> Sequential:
    """Convolutional network after LeNet-5 (LeCun et al., Proc. IEEE 86, 1998), with batch norm and ReLU.

    Two blocks of a 5x5 convolution and pooling, 20 and 50 channels wide, then two linear layers. Images smaller than 16
    get padding around the convolutions.

    >>> nn.models.lenet(28, 1, 10)(cr.zeros((2, 28, 28, 1))).shape
    (2, 10)
    """
    if image_size < 4:
        raise ArgumentError("lenet", "needs images of at least 4x4", received=f"image_size={image_size}")
    padding = 2 if image_size < 16 else 0
    side = image_size
    for _ in range(2):
        side = (side + 2 * padding - 4) // 2
    return Sequential(
        Conv2d(channels, 20, 5, padding=padding), BatchNorm2d(20), ReLU(), MaxPool2d(2),
        Conv2d(20, 50, 5, padding=padding), BatchNorm2d(50), ReLU(), MaxPool2d(2),
        Flatten(), Linear(side * side * 50, 500), ReLU(), Dropout(0.5), Linear(500, classes),
    )  # fmt: skip


class LeNet5(Module):
    """The network for digits of LeCun, Bottou, Bengio and Haffner (Proc. IEEE 86, 1998, section II.B), as used today.

    5x5 convolutions to 6 and 16 channels, each with tanh and a mean over 2x2, then linear layers of 120, 84 and
    ``classes``. Unlike in the paper, each channel of the second convolution sees all 6, the mean has no weights of its
    own, and the last layer is linear. 61,706 parameters for 1 channel and 10 classes.

    Args:
        channels: of the images.
        classes: number of classes.
        image_size: 28, which is padded to 32 as in the paper, or 32.

    >>> nn.models.LeNet5()(cr.zeros((2, 28, 28, 1))).shape
    (2, 10)
    """

    def __init__(self, channels: int = 1, classes: int = 10, image_size: int = 28) -> None:
        if image_size not in (28, 32):
            raise ArgumentError("LeNet5", "images are of 28x28 or 32x32", received=repr(image_size), fix="lenet")
        self.conv1 = Conv2d(channels, 6, 5, padding=(32 - image_size) // 2)
        self.conv2 = Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = Linear(5 * 5 * 16, 120), Linear(120, 84), Linear(84, classes)

    def forward(self, x: Any) -> Tensor:
        """(N, size, size, C) -> scores (N, classes)."""
        for conv in (self.conv1, self.conv2):
            x = functional.avg_pool2d(F.tanh(conv(x)), 2)
        x = F.flatten(x, 1)
        return self.fc3(F.tanh(self.fc2(F.tanh(self.fc1(x)))))
