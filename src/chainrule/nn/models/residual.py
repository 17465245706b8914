"""Residual networks, for small images and for those of ImageNet (He, Zhang, Ren and Sun, arXiv 1512.03385)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import functions as F
from ...errors import ArgumentError
from ...tensor import Tensor
from .. import functional, init
from ..activations import ReLU
from ..containers import Sequential
from ..layers import Conv2d, Flatten, Identity, Linear
from ..module import Module
from ..norm import BatchNorm2d
from ..pooling import AdaptiveAvgPool2d


def _block(n_in: int, n_out: int) -> tuple[Module, ...]:
    return Conv2d(n_in, n_out, 3, padding=1, bias=False), BatchNorm2d(n_out), ReLU()


class ResidualBlock(Module):
    """Two 3x3 convolutions with batch norm, added to the input (He et al., arXiv 1512.03385).

    >>> nn.models.ResidualBlock(4, 8, stride=2)(cr.normal((2, 6, 6, 4))).shape
    (2, 3, 3, 8)
    """

    def __init__(self, n_in: int, n_out: int, stride: int = 1) -> None:
        self.conv1 = Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.norm1 = BatchNorm2d(n_out)
        self.conv2 = Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.norm2 = BatchNorm2d(n_out)
        self.shortcut: Module = Identity()
        if stride != 1 or n_in != n_out:
            self.shortcut = Sequential(Conv2d(n_in, n_out, 1, stride, bias=False), BatchNorm2d(n_out))

    def forward(self, x: Any) -> Tensor:
        """(N, H, W, C) -> (N, H / stride, W / stride, O)."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def resnet(channels: int, classes: int, depth: int = 20, width: int = 16) -> Sequential:
    """Residual network for small images (He et al., arXiv 1512.03385, section 4.2): depth 20, 32, 44 or 56.

    >>> nn.models.resnet(3, 10, depth=8, width=4)(cr.normal((2, 16, 16, 3))).shape
    (2, 10)
    """
    if (depth - 2) % 6:
        raise ArgumentError("resnet", "the depth is 6 n + 2", received=f"depth={depth}", fix="use 20, 32, 44 or 56")
    layers: list[Module] = [*_block(channels, width)]
    n_in = width
    for stage, n_out in enumerate((width, 2 * width, 4 * width)):
        for i in range((depth - 2) // 6):
            layers.append(ResidualBlock(n_in, n_out, stride=2 if stage and not i else 1))
            n_in = n_out
    return Sequential(*layers, AdaptiveAvgPool2d(1), Flatten(), Linear(n_in, classes))


# --- for ImageNet -----------------------------------------------------------------------------------------


def he_conv(n_in: int, n_out: int, size: int, stride: int = 1, groups: int = 1) -> Conv2d:
    """A convolution that keeps the size, but for the stride, without bias, from He's normal numbers by outputs."""
    conv = Conv2d(n_in, n_out, size, stride, padding=size // 2, groups=groups, bias=False)
    conv.weight = init.parameter(conv.weight.shape, init.kaiming("normal", mode="fan_out", nonlinearity="relu"))
    return conv


def _last_norm(n: int, zero_init: bool) -> BatchNorm2d:
    norm = BatchNorm2d(n)
    if zero_init:
        norm.weight = init.parameter((n,), init.constant(0.0))
    return norm


def _around(n_in: int, n_out: int, stride: int) -> Sequential | None:
    """What brings the input of a block to the shape of its output, if that is another."""
    return Sequential(he_conv(n_in, n_out, 1, stride), BatchNorm2d(n_out)) if stride != 1 or n_in != n_out else None


class BasicBlock(Module):
    """Two 3x3 convolutions with batch norm, added to the input: figure 5, left, of He et al. (arXiv 1512.03385).

    Args:
        n_in: channels of the input.
        width: channels of the output.
        stride: of the first convolution.
        zero_init: the weight of the last norm starts at 0, so that the block starts as its shortcut.

    >>> nn.models.BasicBlock(4, 8, stride=2)(cr.normal((2, 6, 6, 4))).shape
    (2, 3, 3, 8)
    """

    expansion = 1

    def __init__(self, n_in: int, width: int, stride: int = 1, zero_init: bool = False) -> None:
        self.conv1, self.bn1 = he_conv(n_in, width, 3, stride), BatchNorm2d(width)
        self.conv2, self.bn2 = he_conv(width, width, 3), _last_norm(width, zero_init)
        self.downsample = _around(n_in, width, stride)

    def forward(self, x: Any) -> Tensor:
        """(N, H, W, C) -> (N, H / stride, W / stride, width)."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(Module):
    """Convolutions of 1x1, 3x3 and 1x1 with batch norm, added to the input: figure 5, right, of He et al.

    The stride is that of the 3x3 convolution, as in torchvision; in the paper it is that of the first.

    Args:
        n_in: channels of the input.
        width: channels between; the output has ``4 * width``.
        stride: of the 3x3 convolution.
        zero_init: as in `BasicBlock`.

    >>> nn.models.Bottleneck(8, 4, stride=2)(cr.normal((2, 6, 6, 8))).shape
    (2, 3, 3, 16)
    """

    expansion = 4

    def __init__(self, n_in: int, width: int, stride: int = 1, zero_init: bool = False) -> None:
        n_out = self.expansion * width
        self.conv1, self.bn1 = he_conv(n_in, width, 1), BatchNorm2d(width)
        self.conv2, self.bn2 = he_conv(width, width, 3, stride), BatchNorm2d(width)
        self.conv3, self.bn3 = he_conv(width, n_out, 1), _last_norm(n_out, zero_init)
        self.downsample = _around(n_in, n_out, stride)

    def forward(self, x: Any) -> Tensor:
        """(N, H, W, C) -> (N, H / stride, W / stride, 4 width)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(Module):
    """Residual network with four stages (He et al., arXiv 1512.03385, table 1).

    A 7x7 convolution and a maximum over 3x3, both with stride 2, then the stages, each of them twice as wide as the one
    before on half of the height and width, then the mean over all places and a linear layer.

    Parameters have the names of torchvision, so that its files load: read one with PyTorch, and
    ``model.load_state_dict(state, layout="torch")``.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        layers: how many blocks each stage has.
        channels: of the images.
        classes: number of classes.
        width: of the first stage.
        small_images: begin with a 3x3 convolution without stride and no maximum, for images such as 32x32.
        zero_init: the weight of the last norm of each block starts at 0 (Goyal et al., arXiv 1706.02677, section 5.1).

    >>> tiny = nn.models.ResNet(nn.models.BasicBlock, [1, 1], classes=5, width=4)
    >>> tiny(cr.normal((2, 32, 32, 3))).shape
    (2, 5)
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: Sequence[int],
        channels: int = 3,
        classes: int = 1000,
        width: int = 64,
        *,
        small_images: bool = False,
        zero_init: bool = False,
    ) -> None:
        self.conv1 = he_conv(channels, width, 3) if small_images else he_conv(channels, width, 7, stride=2)
        self.bn1 = BatchNorm2d(width)
        self.small_images, self.stages = small_images, len(layers)
        n_in = width
        for stage, count in enumerate(layers):
            blocks = []
            for i in range(count):
                blocks.append(block(n_in, width << stage, 2 if stage and not i else 1, zero_init))
                n_in = (width << stage) * block.expansion
            setattr(self, f"layer{stage + 1}", Sequential(*blocks))
        self.fc = Linear(n_in, classes)

    def forward(self, x: Any) -> Tensor:
        """(N, H, W, C) -> scores (N, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        if not self.small_images:
            x = functional.max_pool2d(x, 3, 2, padding=1)
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(F.mean(x, axis=(1, 2)))


def resnet18(channels: int = 3, classes: int = 1000, *, small_images: bool = False, zero_init: bool = False) -> ResNet:
    """Return `ResNet` of 18 layers: 2 basic blocks in each stage, 11,689,512 parameters for 1000 classes.

    >>> sum(p.size for p in nn.models.resnet18().parameters())
    11689512
    """
    return ResNet(BasicBlock, [2, 2, 2, 2], channels, classes, small_images=small_images, zero_init=zero_init)


def resnet34(channels: int = 3, classes: int = 1000, *, small_images: bool = False, zero_init: bool = False) -> ResNet:
    """Return `ResNet` of 34 layers: 3, 4, 6 and 3 basic blocks, 21,797,672 parameters for 1000 classes.

    >>> sum(p.size for p in nn.models.resnet34().parameters())
    21797672
    """
    return ResNet(BasicBlock, [3, 4, 6, 3], channels, classes, small_images=small_images, zero_init=zero_init)


def resnet50(channels: int = 3, classes: int = 1000, *, small_images: bool = False, zero_init: bool = False) -> ResNet:
    """Return `ResNet` of 50 layers: 3, 4, 6 and 3 bottlenecks, 25,557,032 parameters for 1000 classes.

    >>> sum(p.size for p in nn.models.resnet50().parameters())
    25557032
    """
    return ResNet(Bottleneck, [3, 4, 6, 3], channels, classes, small_images=small_images, zero_init=zero_init)
