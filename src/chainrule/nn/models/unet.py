"""U-Net: an image to a map of the same size, from coarse and fine features together (arXiv 1505.04597)."""

from __future__ import annotations

from ... import functions as F
from ...errors import ArgumentError, ShapeError
from ...tensor import Tensor, TensorLike
from .. import functional
from ..activations import ReLU
from ..containers import ModuleList, Sequential
from ..layers import Conv2d, ConvTranspose2d
from ..module import Module
from ..norm import BatchNorm2d
from ..resampling import Upsample


class UNet(Module):
    """Network for segmentation (Ronneberger, Fischer and Brox, arXiv 1505.04597, figure 1).

    Down: two 3x3 convolutions with ReLU at each size, then the maximum over 2x2; ``depth`` times, channels doubled each
    time. Up: each place becomes 2x2 by a transposed convolution with half of the channels; next to these are put those
    of the same size on the way down, and two convolutions follow. At last a 1x1 convolution to the classes.
    31,031,810 parameters for 3 channels and 2 classes, without norms.

    Args:
        channels: of the images.
        classes: of each place.
        width: channels of the first convolutions.
        depth: how many times images are halved.
        bilinear: enlarge by interpolation, after a 1x1 convolution, in place of the transposed convolution.
        norm: batch norm behind each 3x3 convolution, which then has no bias. False is the network of the paper.

    Convolutions are padded, so that the map has the size of the image, which must be a multiple of ``2 ** depth``.

    Raises:
        ShapeError: when called with images of another size.

    >>> nn.models.UNet(1, 2, width=4, depth=2)(cr.normal((1, 8, 12, 1))).shape
    (1, 8, 12, 2)
    """

    def __init__(
        self,
        channels: int = 3,
        classes: int = 2,
        width: int = 64,
        depth: int = 4,
        *,
        bilinear: bool = False,
        norm: bool = True,
    ) -> None:
        if depth < 1:
            raise ArgumentError("UNet", "depth is 1 or more", received=repr(depth))
        widths = [width << level for level in range(depth + 1)]
        steps = list(zip([channels, *widths], widths, strict=False))
        self.down = ModuleList(_convolutions(n_in, n_out, norm) for n_in, n_out in steps)
        self.enlarge = ModuleList(_enlarge(n, bilinear) for n in reversed(widths[:-1]))
        self.up = ModuleList(_convolutions(2 * n, n, norm) for n in reversed(widths[:-1]))
        self.head = Conv2d(width, classes, 1)
        self.channels, self.multiple = channels, 1 << depth

    def forward(self, x: TensorLike) -> Tensor:
        """(N, H, W, C) -> scores of the classes of each place, (N, H, W, classes)."""
        x = F.asarray(x)
        if x.ndim != 4 or x.shape[-1] != self.channels or x.shape[1] % self.multiple or x.shape[2] % self.multiple:
            raise ShapeError(
                "UNet",
                f"needs images (N, H, W, {self.channels}), height and width multiples of {self.multiple}",
                received=f"shape {x.shape}",
                fix="pad the images, or make the depth less",
            )
        first, *down = self.down
        fine = [first(x)]
        for convolutions in down:
            fine.append(convolutions(functional.max_pool2d(fine[-1], 2)))
        y: Tensor = fine.pop()
        for enlarge, convolutions in zip(self.enlarge, self.up, strict=True):
            y = convolutions(F.concat([fine.pop(), enlarge(y)], axis=-1))
        return self.head(y)


def _convolutions(n_in: int, n_out: int, norm: bool) -> Sequential:
    layers: list[Module] = []
    for n in (n_in, n_out):
        layers += [Conv2d(n, n_out, 3, padding=1, bias=not norm), *([BatchNorm2d(n_out)] if norm else []), ReLU()]
    return Sequential(*layers)


def _enlarge(n: int, bilinear: bool) -> Module:
    """Twice the places, from ``2 n`` to ``n`` channels; a 1x1 convolution comes first, for a quarter of the work."""
    if bilinear:
        return Sequential(Conv2d(2 * n, n, 1), Upsample(scale_factor=2, mode="bilinear"))
    return ConvTranspose2d(2 * n, n, 2, stride=2)
