"""Images made larger or smaller: interpolation and shuffles between places and channels, as functions and layers."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import functions as F
from ..dtypes import FLOATING
from ..errors import ArgumentError, DTypeError, ShapeError
from ..functions.products import spread
from ..tensor import Tensor, TensorLike
from . import windows
from .module import Module
from .windows import batch_of_images

__all__ = ["channel_shuffle", "interpolate", "pixel_shuffle", "pixel_unshuffle"]

_AXES = {"linear": (1,), "bilinear": (2,), "trilinear": (3,), "bicubic": (2,)}  # the others take any number
_MODES = ("nearest", "nearest-exact", "area", *_AXES)
_CUBIC = -0.75  # the slope of the kernel at 1, as in PyTorch


def interpolate(
    input: TensorLike,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
) -> Tensor:
    """Images of another size, each place a weighted mean of places nearby.

    Place i of m takes from where ``(i + 1/2) n / m - 1/2`` of n is, or ``i (n - 1) / (m - 1)`` with ``align_corners``:
    from the two places around it by distance, from four by the cubic kernel of slope -3/4 at 1 (Keys, IEEE Trans. ASSP
    29, 1981), from the place ``floor(i n / m)`` ("nearest"), or from the mean of all that it covers ("area").

    Args:
        input: shape (N, spatial..., C).
        size: places afterwards, a number or one for each spatial axis; or
        scale_factor: by how much there are more, likewise; the result is rounded down.
        mode: "nearest", "nearest-exact" (which rounds to the middle), "linear", "bilinear", "trilinear", "bicubic", or
            "area".
        align_corners: whether the outermost places are at the same position before and after; not for nearest and area.
        recompute_scale_factor: compute positions from the sizes even if a factor was given.

    Raises:
        ArgumentError: not one of size and factor, or an unknown mode.
        ShapeError: the mode is for another number of spatial axes.
        DTypeError: an image of whole numbers, for another mode than nearest.

    >>> nn.functional.interpolate(cr.tensor([[[0.0], [4.0]]]), size=4, mode="linear")[0, :, 0]
    tensor([0., 1., 3., 4.])
    """
    x = F.asarray(input)
    d = x.ndim - 2
    if mode not in _MODES:
        raise ArgumentError("interpolate", "mode is one of " + ", ".join(_MODES), received=repr(mode))
    if d not in _AXES.get(mode, (1, 2, 3)):
        axes = _AXES.get(mode, (1, 2, 3))[0]
        raise ShapeError(
            "interpolate", f"mode {mode!r} needs a batch of images with {axes} spatial axes, channels last",
            received=f"shape {x.shape}",
        )  # fmt: skip
    if (size is None) == (scale_factor is None):
        raise ArgumentError("interpolate", "takes a size or a scale factor", received=f"{size} and {scale_factor}")
    if align_corners is not None and mode not in _AXES:
        raise ArgumentError("interpolate", f"mode {mode!r} has no align_corners", received=repr(align_corners))
    sizes, factors = _sizes(x.shape[1:-1], size, scale_factor)
    if mode == "area":
        return getattr(windows, f"adaptive_avg_pool{d}d")(x, sizes)
    if mode in _AXES and x.dtype not in FLOATING:
        raise DTypeError(
            "interpolate", f"mode {mode!r} is for floating numbers", received=x.dtype.name, fix='x.astype("float32")'
        )
    for axis, (m, factor) in enumerate(zip(sizes, factors, strict=True), start=1):
        step = 1 / factor if factor and not recompute_scale_factor else None
        x = _along(x, axis, m, step, mode, bool(align_corners))
    return x


def _sizes(shape: Sequence[int], size: Any, factor: Any) -> tuple[tuple[int, ...], tuple[float | None, ...]]:
    """The size of each axis afterwards, and the factor that was given for it."""
    d = len(shape)
    if size is not None:
        return spread("interpolate", size, d, "size", 1), (None,) * d
    factors = tuple(factor) if isinstance(factor, (tuple, list)) else (factor,) * d
    if len(factors) != d or not all(isinstance(f, (int, float)) and f > 0 for f in factors):
        raise ArgumentError(
            "interpolate", f"the factor is a positive number, or one for each of {d} axes", received=repr(factor)
        )
    return spread("interpolate", [int(n * f) for n, f in zip(shape, factors, strict=True)], d, "size", 1), factors


def _along(x: Tensor, axis: int, m: int, step: float | None, mode: str, align_corners: bool) -> Tensor:
    """Interpolate one axis: the sum over taps of gathered slices times their weights."""
    n = x.shape[axis]
    if mode.startswith("nearest"):
        half = 0.5 if mode == "nearest-exact" else 0.0
        # Whole numbers, so that nothing is rounded to the place before.
        places = (np.arange(m) * 2 + (half > 0)) * n // (2 * m) if step is None else (np.arange(m) + half) * step
        places = np.minimum(places.astype(np.int64), n - 1)
        if m % n == 0 and np.array_equal(places, np.arange(m) // (m // n)):
            return F.repeat(x, m // n, axis)
        return F.take(x, places, axis)
    if align_corners:
        where = np.arange(m) * ((n - 1) / (m - 1) if m > 1 else 0.0)
    else:
        where = (np.arange(m) + 0.5) * (n / m if step is None else step) - 0.5
    if mode != "bicubic":
        where = np.clip(where, 0, n - 1)
    if np.array_equal(where, np.arange(n)):
        return x
    first = np.floor(where)
    weights = _cubic_weights(where - first) if mode == "bicubic" else [1 - (where - first), where - first]
    first = first.astype(np.int64) - (mode == "bicubic")
    shape = [m if i == axis else 1 for i in range(x.ndim)]
    terms = [
        F.take(x, np.clip(first + tap, 0, n - 1), axis) * F.asarray(weight.reshape(shape), x.dtype)
        for tap, weight in enumerate(weights)
    ]
    return functools.reduce(operator.add, terms)


def _cubic_weights(t: np.ndarray) -> list[np.ndarray]:
    """Weights of the places at -1, 0, 1, 2 for positions ``t`` between 0 and 1."""

    def near(s: np.ndarray) -> np.ndarray:
        return ((_CUBIC + 2) * s - (_CUBIC + 3)) * s * s + 1

    def far(s: np.ndarray) -> np.ndarray:
        return ((_CUBIC * s - 5 * _CUBIC) * s + 8 * _CUBIC) * s - 4 * _CUBIC

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


# --- between places and channels --------------------------------------------------------------------------


def pixel_shuffle(input: TensorLike, upscale_factor: int) -> Tensor:
    """Channels become places: (N, H, W, C r r) -> (N, H r, W r, C) (Shi et al., arXiv 1609.05158).

    Channel ``(c r + i) r + j`` goes to channel c of place (i, j) of each block: the numbers of channels are PyTorch's.

    Args:
        input: a batch of images.
        upscale_factor: r.

    Raises:
        ShapeError: r r does not divide the number of channels.

    >>> nn.functional.pixel_shuffle(cr.arange(4.0).reshape((1, 1, 1, 4)), 2)[0, :, :, 0]
    tensor([[0., 1.],
            [2., 3.]])
    """
    x = batch_of_images("pixel_shuffle", input, 2)
    r = spread("pixel_shuffle", upscale_factor, 1, "upscale_factor", 1)[0]
    n, h, w, c = x.shape
    if c % (r * r):
        raise ShapeError("pixel_shuffle", f"the channels must be a multiple of {r * r}", received=f"shape {x.shape}")
    blocks = F.permute_dims(F.reshape(x, (n, h, w, c // (r * r), r, r)), (0, 1, 4, 2, 5, 3))
    return F.reshape(blocks, (n, h * r, w * r, c // (r * r)))


def pixel_unshuffle(input: TensorLike, downscale_factor: int) -> Tensor:
    """Places become channels, the inverse of `pixel_shuffle`: (N, H r, W r, C) -> (N, H, W, C r r).

    Args:
        input: a batch of images.
        downscale_factor: r.

    Raises:
        ShapeError: r does not divide height and width.

    >>> nn.functional.pixel_unshuffle(cr.arange(4.0).reshape((1, 2, 2, 1)), 2)
    tensor([[[[0., 1., 2., 3.]]]])
    """
    x = batch_of_images("pixel_unshuffle", input, 2)
    r = spread("pixel_unshuffle", downscale_factor, 1, "downscale_factor", 1)[0]
    n, h, w, c = x.shape
    if h % r or w % r:
        raise ShapeError("pixel_unshuffle", f"{r} must divide height and width", received=f"shape {x.shape}")
    blocks = F.permute_dims(F.reshape(x, (n, h // r, r, w // r, r, c)), (0, 1, 3, 5, 2, 4))
    return F.reshape(blocks, (n, h // r, w // r, c * r * r))


def channel_shuffle(input: TensorLike, groups: int) -> Tensor:
    """Channels dealt out over groups: channel ``g C / G + c`` becomes ``c G + g`` (Zhang et al., arXiv 1707.01083).

    Args:
        input: shape (N, ..., C).
        groups: G.

    Raises:
        ShapeError: G does not divide C.

    >>> nn.functional.channel_shuffle(cr.arange(6).reshape((1, 6)), 2)
    tensor([[0, 3, 1, 4, 2, 5]])
    """
    x = F.asarray(input)
    g = spread("channel_shuffle", groups, 1, "groups", 1)[0]
    if x.ndim < 2 or x.shape[-1] % g:
        raise ShapeError("channel_shuffle", f"needs (N, ..., C), C a multiple of {g}", received=f"shape {x.shape}")
    return F.reshape(F.swapaxes(F.reshape(x, (*x.shape[:-1], g, x.shape[-1] // g)), -1, -2), x.shape)


# --- layers -----------------------------------------------------------------------------------------------


class Upsample(Module):
    """Images of another size; see `chainrule.nn.functional.interpolate`, also for the arguments.

    >>> nn.Upsample(scale_factor=2)(cr.ones((1, 4, 4, 3))).shape
    (1, 8, 8, 3)
    """

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        self.size, self.scale_factor, self.mode = size, scale_factor, mode
        self.align_corners, self.recompute_scale_factor = align_corners, recompute_scale_factor

    def forward(self, x: TensorLike) -> Tensor:
        """(N, spatial..., C) -> (N, spatial..., C)."""
        how = self.mode, self.align_corners, self.recompute_scale_factor
        return interpolate(x, self.size, self.scale_factor, *how)

    def extra_repr(self) -> str:
        """Size or factor, and the mode."""
        size = f"scale_factor={self.scale_factor}" if self.size is None else f"size={self.size}"
        return f"{size}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Images of another size, each place that of the nearest before.

    >>> nn.UpsamplingNearest2d(scale_factor=2)(cr.ones((1, 4, 4, 3))).shape
    (1, 8, 8, 3)
    """

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "nearest")


class UpsamplingBilinear2d(Upsample):
    """Images of another size by linear interpolation, the corners kept (``align_corners=True``).

    >>> nn.UpsamplingBilinear2d(size=(7, 5))(cr.ones((1, 4, 4, 3))).shape
    (1, 7, 5, 3)
    """

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "bilinear", True)


class PixelShuffle(Module):
    """Channels become places; see `chainrule.nn.functional.pixel_shuffle`.

    >>> nn.PixelShuffle(2)(cr.ones((1, 4, 4, 12))).shape
    (1, 8, 8, 3)
    """

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = upscale_factor

    def forward(self, x: TensorLike) -> Tensor:
        """(N, H, W, C r r) -> (N, H r, W r, C)."""
        return pixel_shuffle(x, self.upscale_factor)

    def extra_repr(self) -> str:
        """The factor."""
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """Places become channels; see `chainrule.nn.functional.pixel_unshuffle`.

    >>> nn.PixelUnshuffle(2)(cr.ones((1, 8, 8, 3))).shape
    (1, 4, 4, 12)
    """

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = downscale_factor

    def forward(self, x: TensorLike) -> Tensor:
        """(N, H r, W r, C) -> (N, H, W, C r r)."""
        return pixel_unshuffle(x, self.downscale_factor)

    def extra_repr(self) -> str:
        """The factor."""
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """Channels dealt out over groups; see `chainrule.nn.functional.channel_shuffle`.

    >>> nn.ChannelShuffle(2)(cr.arange(6).reshape((1, 6)))
    tensor([[0, 3, 1, 4, 2, 5]])
    """

    def __init__(self, groups: int) -> None:
        self.groups = groups

    def forward(self, x: TensorLike) -> Tensor:
        """(N, ..., C) -> (N, ..., C)."""
        return channel_shuffle(x, self.groups)

    def extra_repr(self) -> str:
        """The number of groups."""
        return f"groups={self.groups}"
