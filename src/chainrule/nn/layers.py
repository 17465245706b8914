"""Linear layers and convolutions, and layers that reshape."""

from __future__ import annotations

import math
from typing import Any

from .. import functions as F
from ..errors import ArgumentError
from ..functions.checks import as_axes
from ..functions.products import pad_pairs, spread
from ..tensor import Tensor, TensorLike
from . import functional, init
from .module import Module
from .pooling import Window
from .windows import batch_of_images, same_dtype


def _by_inputs(fan_in: int) -> init.Rule:
    """Uniform in ``+-1 / sqrt(fan_in)``."""
    return lambda *how: init.uniform(1 / math.sqrt(fan_in) if fan_in else 0.0)(*how)


class Identity(Module):
    """Return the input.

    >>> nn.Identity()(cr.ones((1,)))
    tensor([1.])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def forward(self, x: TensorLike) -> Tensor:
        """(...) -> (...)."""
        return F.asarray(x)


class Linear(Module):
    """Affine map of the last axis, ``x W^T + b``.

    Args:
        in_features, out_features: sizes of the last axis before and after.
        bias: whether there is a ``b``.
        dtype: of the weights.

    Shapes: weight (out, in), bias (out,); both start uniform in ``+-1 / sqrt(in)``.

    >>> nn.Linear(3, 2)(cr.zeros((5, 3))).shape
    (5, 2)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: Any = None) -> None:
        self.in_features = in_features
        self.out_features = out_features
        rule = _by_inputs(in_features)
        self.weight = init.parameter((out_features, in_features), rule, dtype)
        self.bias = init.parameter((out_features,), rule, dtype) if bias else None

    def forward(self, x: TensorLike) -> Tensor:
        """(..., in) -> (..., out)."""
        return functional.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.in_features}, {self.out_features}" + (", bias=False" if self.bias is None else "")


class Bilinear(Module):
    """``y_o = x1^T W_o x2 + b_o``, weights (out, in1, in2).

    >>> nn.Bilinear(2, 3, 4)(cr.ones((5, 2)), cr.ones((5, 3))).shape
    (5, 4)
    """

    def __init__(
        self, in1_features: int, in2_features: int, out_features: int, bias: bool = True, dtype: Any = None
    ) -> None:
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        rule = _by_inputs(in1_features)
        self.weight = init.parameter((out_features, in1_features, in2_features), rule, dtype)
        self.bias = init.parameter((out_features,), rule, dtype) if bias else None

    def forward(self, x1: TensorLike, x2: TensorLike) -> Tensor:
        """(..., in1), (..., in2) -> (..., out)."""
        return functional.bilinear(x1, x2, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes."""
        bias = ", bias=False" if self.bias is None else ""
        return f"{self.in1_features}, {self.in2_features}, {self.out_features}{bias}"


class _Conv(Window):
    transposed = False
    channels_last_weight = True

    def _setup(
        self, in_channels: int, out_channels: int, kernel_size: Any, groups: int, bias: bool, dtype: Any
    ) -> None:
        kind = type(self).__name__
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ArgumentError(
                kind, "the groups must divide both numbers of channels",
                received=f"{in_channels} and {out_channels} channels, {groups} groups",
            )  # fmt: skip
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = spread(kind, kernel_size, self.d, "kernel_size", 1)
        first, last = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        shape = (first, *self.kernel_size, last // groups)
        rule = _by_inputs(math.prod(shape[1:]))
        self.weight = init.parameter(shape, rule, dtype)
        self.bias = init.parameter((out_channels,), rule, dtype) if bias else None

    def extra_repr(self) -> str:
        """Sizes, and what is not usual."""
        usual = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1}
        given = {k: self.__dict__.get(k, v) for k, v in usual.items()}
        extra = "".join(f", {k}={v}" for k, v in given.items() if v not in (usual[k], (usual[k],) * self.d))
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}{extra}"


class _Convolution(_Conv):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: Any = None,
    ) -> None:
        self._setup(in_channels, out_channels, kernel_size, groups, bias, dtype)
        kind = type(self).__name__
        self.stride, self.dilation = (
            spread(kind, value, self.d, name, 1) for value, name in ((stride, "stride"), (dilation, "dilation"))
        )
        pad_pairs(kind, padding, self.kernel_size, self.stride, self.dilation, self.kernel_size)
        self.padding = padding
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise ArgumentError(kind, "padding_mode is zeros, reflect, replicate or circular", received=padding_mode)
        self.padding_mode = padding_mode

    def forward(self, x: TensorLike) -> Tensor:
        """(N, spatial..., C) -> (N, spatial..., O)."""
        weight, padding = self.weight, self.padding
        if self.padding_mode != "zeros":
            kind = type(self).__name__
            x = batch_of_images(kind, same_dtype(kind, x, weight), self.d)
            ones = (1,) * self.d
            pairs = pad_pairs(kind, padding, self.kernel_size, ones, self.dilation, x.shape[1:-1])
            x, padding = F.pad(x, ((0, 0), *pairs, (0, 0)), self.padding_mode), 0
        return self._function("conv")(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)


_CONV_DOC = """Convolution over {d} spatial axes of channels-last images; see `chainrule.conv`.

    Args:
        in_channels, out_channels: sizes of the last axis before and after.
        kernel_size, stride, dilation: a number, or one for each spatial axis.
        padding: a number, one for each axis, pairs (before, after), "same" or "valid".
        groups: split channels into so many independent convolutions; ``in_channels`` of them is depthwise.
        bias: whether something is added to each channel.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        dtype: of the weights.

    Shapes: weight (out, kernel..., in / groups), bias (out,); both start uniform in ``+-1 / sqrt(fan_in)``.

    >>> nn.Conv{d}d(1, 4, 3)(cr.zeros({shape})).shape
    {result}
    """


class Conv1d(_Convolution):  # noqa: D101
    __doc__ = _CONV_DOC.format(d=1, shape=(2, 8, 1), result=(2, 6, 4))
    d = 1


class Conv2d(_Convolution):  # noqa: D101
    __doc__ = _CONV_DOC.format(d=2, shape=(2, 8, 8, 1), result=(2, 6, 6, 4))
    d = 2


class Conv3d(_Convolution):  # noqa: D101
    __doc__ = _CONV_DOC.format(d=3, shape=(2, 8, 8, 8, 1), result=(2, 6, 6, 6, 4))
    d = 3


class _ConvolutionTranspose(_Conv):
    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        dtype: Any = None,
    ) -> None:
        self._setup(in_channels, out_channels, kernel_size, groups, bias, dtype)
        given = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation}
        self.stride, self.padding, self.output_padding, self.dilation = (
            spread(type(self).__name__, value, self.d, name, name in ("stride", "dilation"))
            for name, value in given.items()
        )

    def forward(self, x: TensorLike) -> Tensor:
        """(N, spatial..., C) -> (N, spatial..., O)."""
        how = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        return self._function("conv_transpose")(x, self.weight, self.bias, *how)


_TRANSPOSE_DOC = """Transposed convolution over {d} spatial axes; see `chainrule.conv_transpose`.

    Arguments as in PyTorch. Shapes: weight (in, kernel..., out / groups), bias (out,).

    >>> nn.ConvTranspose{d}d(1, 4, 3, stride=2)(cr.zeros({shape})).shape
    {result}
    """


class ConvTranspose1d(_ConvolutionTranspose):  # noqa: D101
    __doc__ = _TRANSPOSE_DOC.format(d=1, shape=(2, 4, 1), result=(2, 9, 4))
    d = 1


class ConvTranspose2d(_ConvolutionTranspose):  # noqa: D101
    __doc__ = _TRANSPOSE_DOC.format(d=2, shape=(2, 4, 4, 1), result=(2, 9, 9, 4))
    d = 2


class ConvTranspose3d(_ConvolutionTranspose):  # noqa: D101
    __doc__ = _TRANSPOSE_DOC.format(d=3, shape=(2, 4, 4, 4, 1), result=(2, 9, 9, 9, 4))
    d = 3


class Flatten(Module):
    """Join the axes from ``start_dim`` to ``end_dim`` into one.

    >>> nn.Flatten()(cr.zeros((2, 3, 4))).shape
    (2, 12)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: TensorLike) -> Tensor:
        """(N, ...) -> (N, elements)."""
        return F.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """The axes."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Split an axis into several.

    >>> nn.Unflatten(1, (3, 4))(cr.zeros((2, 12))).shape
    (2, 3, 4)
    """

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]) -> None:
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, x: TensorLike) -> Tensor:
        """(..., elements, ...) -> (..., *unflattened_size, ...)."""
        x = F.asarray(x)
        (axis,) = as_axes("Unflatten", self.dim, x.ndim)
        return F.reshape(x, (*x.shape[:axis], *self.unflattened_size, *x.shape[axis + 1 :]))

    def extra_repr(self) -> str:
        """The axis and its new sizes."""
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
