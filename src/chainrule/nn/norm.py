"""Normalization layers; the mathematics is in `chainrule.nn.functional`."""

from __future__ import annotations

from typing import Any

from .. import functions as F
from ..errors import ArgumentError, ShapeError
from ..tensor import Cell, Tensor, TensorLike
from . import functional, init
from .module import Module
from .normalizing import trailing_shape
from .windows import same_dtype


class _BatchNorm(Module):
    axes: tuple[int, ...] = ()

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight = init.parameter((num_features,), init.constant(1.0), dtype) if affine else None
        self.bias = init.parameter((num_features,), init.constant(0.0), dtype) if affine and bias else None
        self.running_mean = Cell(F.zeros((num_features,), dtype)) if track_running_stats else None
        self.running_var = Cell(F.ones((num_features,), dtype)) if track_running_stats else None
        self.num_batches_tracked = Cell(F.asarray(0)) if track_running_stats else None

    def _checked(self, x: TensorLike) -> Tensor:
        kind = type(self).__name__
        x = same_dtype(kind, x, self.weight) if self.weight is not None else F.asarray(x)
        if x.ndim not in self.axes or x.shape[-1] != self.num_features:
            raise ShapeError(
                kind,
                f"needs {' or '.join(map(str, self.axes))} axes, the last of {self.num_features} channels",
                received=f"shape {x.shape}",
                fix="channels are last here",
            )
        return x

    def forward(self, x: TensorLike) -> Tensor:
        """(N, ..., C) -> (N, ..., C)."""
        x = self._checked(x)
        momentum: Any = self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.assign(self.num_batches_tracked + 1)
            if momentum is None:  # the plain average of all batches
                momentum = 1.0 / self.num_batches_tracked.astype(x.dtype)
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            self.training or self.running_mean is None, momentum if momentum is not None else 0.0, self.eps,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """Number of channels."""
        return f"{self.num_features}"


_BATCH_DOC = """Normalize each channel over the batch and {where} (Ioffe and Szegedy, arXiv 1502.03167).

    While training, by mean and variance of the batch, which also move the running statistics; in evaluation by those.

    Args:
        num_features: number of channels C, the last axis.
        eps: added to the variance.
        momentum: by how much the running statistics move; None for the plain average of all batches.
        affine: whether there are a weight and a bias per channel.
        track_running_stats: whether there are running statistics.
        dtype: of weights and statistics.
        bias: whether there is a bias beside the weight.

    >>> nn.BatchNorm{d}d(4)(cr.normal({shape})).shape
    {shape}
    """


class BatchNorm1d(_BatchNorm):  # noqa: D101
    __doc__ = _BATCH_DOC.format(d=1, where="all positions, (N, C) or (N, L, C)", shape=(8, 4))
    axes = (2, 3)


class BatchNorm2d(_BatchNorm):  # noqa: D101
    __doc__ = _BATCH_DOC.format(d=2, where="all positions, (N, H, W, C)", shape=(2, 3, 3, 4))
    axes = (4,)


class BatchNorm3d(_BatchNorm):  # noqa: D101
    __doc__ = _BATCH_DOC.format(d=3, where="all positions, (N, D, H, W, C)", shape=(2, 3, 3, 3, 4))
    axes = (5,)


class _InstanceNorm(_BatchNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, bias=bias)

    def forward(self, x: TensorLike) -> Tensor:
        """(N, spatial..., C) -> (N, spatial..., C)."""
        x = self._checked(x)
        own = self.training or self.running_mean is None
        running = (self.running_mean, self.running_var) if self.training or not own else (None, None)
        return functional.instance_norm(x, *running, self.weight, self.bias, own, self.momentum or 0.0, self.eps)


_INSTANCE_DOC = """Normalize each channel of each sample over its positions (Ulyanov et al., arXiv 1607.08022).

    Arguments as of `BatchNorm{d}d`, except that weights and running statistics are left out unless asked for.

    >>> nn.InstanceNorm{d}d(4)(cr.normal({shape})).shape
    {shape}
    """


class InstanceNorm1d(_InstanceNorm):  # noqa: D101
    __doc__ = _INSTANCE_DOC.format(d=1, shape=(2, 3, 4))
    axes = (3,)


class InstanceNorm2d(_InstanceNorm):  # noqa: D101
    __doc__ = _INSTANCE_DOC.format(d=2, shape=(2, 3, 3, 4))
    axes = (4,)


class InstanceNorm3d(_InstanceNorm):  # noqa: D101
    __doc__ = _INSTANCE_DOC.format(d=3, shape=(2, 3, 3, 3, 4))
    axes = (5,)


class LayerNorm(Module):
    """Normalize over the last axes; see `chainrule.nn.functional.layer_norm`.

    Args:
        normalized_shape: sizes of the last axes.
        eps: added to the variance.
        elementwise_affine: whether there is a weight for each element.
        bias: and a bias.
        dtype: of both.

    >>> nn.LayerNorm(4)(cr.normal((2, 4))).shape
    (2, 4)
    """

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = None,
    ) -> None:
        self.normalized_shape = shape = trailing_shape("LayerNorm", normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight = init.parameter(shape, init.constant(1.0), dtype) if elementwise_affine else None
        self.bias = init.parameter(shape, init.constant(0.0), dtype) if elementwise_affine and bias else None

    def forward(self, x: TensorLike) -> Tensor:
        """(..., *normalized_shape) -> the same."""
        if self.weight is not None:
            x = same_dtype("LayerNorm", x, self.weight)
        return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.normalized_shape}"


class RMSNorm(Module):
    """Divide by the root mean square over the last axes; see `chainrule.nn.functional.rms_norm`.

    >>> nn.RMSNorm(4)(cr.normal((2, 4))).shape
    (2, 4)
    """

    def __init__(
        self, normalized_shape: Any, eps: float | None = None, elementwise_affine: bool = True, dtype: Any = None
    ) -> None:
        self.normalized_shape = shape = trailing_shape("RMSNorm", normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight = init.parameter(shape, init.constant(1.0), dtype) if elementwise_affine else None

    def forward(self, x: TensorLike) -> Tensor:
        """(..., *normalized_shape) -> the same."""
        if self.weight is not None:
            x = same_dtype("RMSNorm", x, self.weight)
        return functional.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.normalized_shape}"


class GroupNorm(Module):
    """Normalize each sample over positions and groups of channels; see `chainrule.nn.functional.group_norm`.

    >>> nn.GroupNorm(2, 4)(cr.normal((2, 3, 3, 4))).shape
    (2, 3, 3, 4)
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        if num_groups < 1 or num_channels % num_groups:
            raise ArgumentError("GroupNorm", f"{num_groups} groups do not divide {num_channels} channels")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.weight = init.parameter((num_channels,), init.constant(1.0), dtype) if affine else None
        self.bias = init.parameter((num_channels,), init.constant(0.0), dtype) if affine and bias else None

    def forward(self, x: TensorLike) -> Tensor:
        """(N, ..., C) -> (N, ..., C)."""
        if self.weight is not None:
            x = same_dtype("GroupNorm", x, self.weight)
        x = F.asarray(x)
        if x.shape[-1:] != (self.num_channels,):
            raise ShapeError(
                "GroupNorm", f"needs {self.num_channels} channels in the last axis", received=f"shape {x.shape}",
                fix="channels are last here",
            )  # fmt: skip
        return functional.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Numbers of groups and channels."""
        return f"{self.num_groups}, {self.num_channels}"


class LocalResponseNorm(Module):
    """Divide by a power of the mean square of neighbouring channels; see `chainrule.nn.functional.local_response_norm`.

    >>> nn.LocalResponseNorm(3)(cr.ones((1, 2, 2, 4))).shape
    (1, 2, 2, 4)
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: TensorLike) -> Tensor:
        """(N, spatial..., C) -> (N, spatial..., C)."""
        return functional.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
