"""Pooling of channels-last images as layers; the arguments are those of the functions in `chainrule.nn.functional`."""

from __future__ import annotations

from typing import Any

from .. import functions as F
from ..tensor import Tensor, TensorLike
from . import functional
from .module import Module
from .windows import batch_of_images, no_indices


class Window(Module):
    """What convolutions, pools and pads have in common: the number of spatial axes."""

    d: int

    def extra_repr(self) -> str:
        """The arguments."""
        return ", ".join(f"{k}={v}" for k, v in self.__dict__.items() if not k.startswith("_") and k != "training")

    def _function(self, kind: str) -> Any:
        return getattr(functional, f"{kind}{self.d}d")


class _MaxPool(Window):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        no_indices(type(self).__name__, return_indices)
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.dilation, self.ceil_mode = dilation, ceil_mode

    def forward(self, x: TensorLike) -> Tensor:
        """(N, spatial..., C) -> (N, spatial..., C)."""
        how = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        return self._function("max_pool")(x, *how)


class _AvgPool(Window):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad
        self.divisor_override = divisor_override

    def forward(self, x: TensorLike) -> Tensor:
        """(N, spatial..., C) -> (N, spatial..., C)."""
        how = self.kernel_size, self.stride, self.padding, self.ceil_mode
        return self._function("avg_pool")(x, *how, self.count_include_pad, self.divisor_override)


class _LPPool(Window):
    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> None:
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    def forward(self, x: TensorLike) -> Tensor:
        """(N, spatial..., C) -> (N, spatial..., C)."""
        return self._function("lp_pool")(x, self.norm_type, self.kernel_size, self.stride, self.ceil_mode)


class _GlobalPool(Window):
    reduce: Any = None

    def __init__(self, keepdim: bool = False) -> None:
        self.keepdim = keepdim

    def forward(self, x: TensorLike) -> Tensor:
        """(N, spatial..., C) -> (N, C), or with axes of one place."""
        x = batch_of_images(type(self).__name__, x, self.d)
        return type(self).reduce(x, axis=tuple(range(1, self.d + 1)), keepdims=self.keepdim)


class _GlobalAvgPool(_GlobalPool):
    reduce = staticmethod(F.mean)


class _GlobalMaxPool(_GlobalPool):
    reduce = staticmethod(F.max)


class _AdaptiveAvgPool(Window):
    def __init__(self, output_size: Any) -> None:
        self.output_size = output_size

    def forward(self, x: TensorLike) -> Tensor:
        """(N, spatial..., C) -> (N, *output_size, C)."""
        return self._function("adaptive_avg_pool")(x, self.output_size)


class _AdaptiveMaxPool(Window):
    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        no_indices(type(self).__name__, return_indices)
        self.output_size = output_size

    def forward(self, x: TensorLike) -> Tensor:
        """(N, spatial..., C) -> (N, *output_size, C)."""
        return self._function("adaptive_max_pool")(x, self.output_size)


class MaxPool1d(_MaxPool):
    """Maximum of windows of (N, L, C); see `chainrule.max_pool`.

    >>> nn.MaxPool1d(2)(cr.ones((1, 4, 2))).shape
    (1, 2, 2)
    """

    d = 1


class MaxPool2d(_MaxPool):
    """Maximum of windows of (N, H, W, C); see `chainrule.max_pool`.

    >>> nn.MaxPool2d(2)(cr.ones((1, 4, 4, 2))).shape
    (1, 2, 2, 2)
    """

    d = 2


class MaxPool3d(_MaxPool):
    """Maximum of windows of (N, D, H, W, C); see `chainrule.max_pool`.

    >>> nn.MaxPool3d(2)(cr.ones((1, 4, 4, 4, 2))).shape
    (1, 2, 2, 2, 2)
    """

    d = 3


class AvgPool1d(_AvgPool):
    """Mean of windows of (N, L, C); see `chainrule.avg_pool`.

    >>> nn.AvgPool1d(2)(cr.ones((1, 4, 2))).shape
    (1, 2, 2)
    """

    d = 1


class AvgPool2d(_AvgPool):
    """Mean of windows of (N, H, W, C); see `chainrule.avg_pool`.

    >>> nn.AvgPool2d(2)(cr.ones((1, 4, 4, 2))).shape
    (1, 2, 2, 2)
    """

    d = 2


class AvgPool3d(_AvgPool):
    """Mean of windows of (N, D, H, W, C); see `chainrule.avg_pool`.

    >>> nn.AvgPool3d(2)(cr.ones((1, 4, 4, 4, 2))).shape
    (1, 2, 2, 2, 2)
    """

    d = 3


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Mean of as many windows of (N, L, C) as are asked for.

    >>> nn.AdaptiveAvgPool1d(1)(cr.ones((1, 4, 2))).shape
    (1, 1, 2)
    """

    d = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Mean of as many windows of (N, H, W, C) as are asked for.

    >>> nn.AdaptiveAvgPool2d(1)(cr.ones((1, 4, 4, 2))).shape
    (1, 1, 1, 2)
    """

    d = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Mean of as many windows of (N, D, H, W, C) as are asked for.

    >>> nn.AdaptiveAvgPool3d(1)(cr.ones((1, 4, 4, 4, 2))).shape
    (1, 1, 1, 1, 2)
    """

    d = 3


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Maximum of as many windows of (N, L, C) as are asked for.

    >>> nn.AdaptiveMaxPool1d(1)(cr.ones((1, 4, 2))).shape
    (1, 1, 2)
    """

    d = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Maximum of as many windows of (N, H, W, C) as are asked for.

    >>> nn.AdaptiveMaxPool2d(1)(cr.ones((1, 4, 4, 2))).shape
    (1, 1, 1, 2)
    """

    d = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Maximum of as many windows of (N, D, H, W, C) as are asked for.

    >>> nn.AdaptiveMaxPool3d(1)(cr.ones((1, 4, 4, 4, 2))).shape
    (1, 1, 1, 1, 2)
    """

    d = 3


class LPPool1d(_LPPool):
    """Norm of windows of (N, L, C); see `chainrule.nn.functional.lp_pool1d`.

    >>> nn.LPPool1d(2, 2)(cr.ones((1, 4, 2))).shape
    (1, 2, 2)
    """

    d = 1


class LPPool2d(_LPPool):
    """Norm of windows of (N, H, W, C); see `chainrule.nn.functional.lp_pool2d`.

    >>> nn.LPPool2d(2, 2)(cr.ones((1, 4, 4, 2))).shape
    (1, 2, 2, 2)
    """

    d = 2


class LPPool3d(_LPPool):
    """Norm of windows of (N, D, H, W, C); see `chainrule.nn.functional.lp_pool3d`.

    >>> nn.LPPool3d(2, 2)(cr.ones((1, 4, 4, 4, 2))).shape
    (1, 2, 2, 2, 2)
    """

    d = 3


class GlobalAvgPool1d(_GlobalAvgPool):
    """Mean of all places of (N, L, C), for each channel; ``keepdim`` leaves axes of one place.

    >>> nn.GlobalAvgPool1d()(cr.ones((1, 4, 2))).shape
    (1, 2)
    """

    d = 1


class GlobalAvgPool2d(_GlobalAvgPool):
    """Mean of all places of (N, H, W, C), for each channel; ``keepdim`` leaves axes of one place.

    >>> nn.GlobalAvgPool2d()(cr.ones((1, 4, 4, 2))).shape
    (1, 2)
    """

    d = 2


class GlobalAvgPool3d(_GlobalAvgPool):
    """Mean of all places of (N, D, H, W, C), for each channel; ``keepdim`` leaves axes of one place.

    >>> nn.GlobalAvgPool3d()(cr.ones((1, 4, 4, 4, 2))).shape
    (1, 2)
    """

    d = 3


class GlobalMaxPool1d(_GlobalMaxPool):
    """Maximum of all places of (N, L, C), for each channel; ``keepdim`` leaves axes of one place.

    >>> nn.GlobalMaxPool1d()(cr.ones((1, 4, 2))).shape
    (1, 2)
    """

    d = 1


class GlobalMaxPool2d(_GlobalMaxPool):
    """Maximum of all places of (N, H, W, C), for each channel; ``keepdim`` leaves axes of one place.

    >>> nn.GlobalMaxPool2d()(cr.ones((1, 4, 4, 2))).shape
    (1, 2)
    """

    d = 2


class GlobalMaxPool3d(_GlobalMaxPool):
    """Maximum of all places of (N, D, H, W, C), for each channel; ``keepdim`` leaves axes of one place.

    >>> nn.GlobalMaxPool3d()(cr.ones((1, 4, 4, 4, 2))).shape
    (1, 2)
    """

    d = 3
