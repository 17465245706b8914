"""Normalization as functions, by PyTorch's names and arguments; channels are the last axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import custom_vjp, functions as F
from ..dtypes import HALF
from ..errors import ArgumentError, ShapeError
from ..functions.checks import as_shape
from ..tensor import Cell, Tensor, TensorLike

__all__ = [
    "batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "normalize", "rms_norm",
]  # fmt: skip


def widened(x: Tensor) -> Tensor:
    """16-bit floats as float32: squares of a few hundred, and sums of many, are beyond what float16 can hold."""
    return F.astype(x, "float32") if x.dtype in HALF else x


def narrowed(y: Tensor, like: Tensor) -> Tensor:
    """What was computed of ``widened(like)``, in the dtype of ``like``."""
    return F.astype(y, like.dtype) if like.dtype in HALF else y


def _affine(y: Tensor, weight: TensorLike | None, bias: TensorLike | None, like: Tensor) -> Tensor:
    y = y if weight is None else y * weight
    return narrowed(y if bias is None else y + bias, like)


def _standardized(x: Tensor, axes: Any, eps: float) -> Tensor:
    x = widened(x)
    centered = x - F.mean(x, axis=axes, keepdims=True)
    return centered * F.rsqrt(F.mean(centered * centered, axis=axes, keepdims=True) + eps)


def batch_norm(
    input: TensorLike,
    running_mean: Cell | None,
    running_var: Cell | None,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    training: bool = False,
    momentum: float | TensorLike = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` for each channel (Ioffe and Szegedy, arXiv 1502.03167).

    Args:
        input: shape (N, ..., C).
        running_mean, running_var: cells of shape (C,), moved towards the batch's statistics when training (the variance
            unbiased), used instead of them otherwise; None to always use the batch's.
        weight, bias: shape (C,).
        training: use the statistics of the batch.
        momentum: by how much the running statistics move.
        eps: added to the variance.

    Raises:
        ShapeError: training on a single value per channel.
    """
    x = F.asarray(input)
    if not training and running_mean is not None and running_var is not None:
        mean, var = (widened(F.asarray(cell)) for cell in (running_mean, running_var))
        return _affine((widened(x) - mean) * F.rsqrt(var + eps), weight, bias, x)
    axes = tuple(range(x.ndim - 1))
    n = math.prod(x.shape[:-1])
    if n == 1 and training:
        raise ShapeError(
            "batch_norm",
            "a single value per channel has no variance to train with",
            received=f"shape {x.shape}",
            fix="use a larger batch (drop_last=True for a last one of size 1), or model.eval()",
        )
    wide = widened(x)
    mean = F.mean(wide, axis=axes)
    var = _variance(wide, mean)
    if training and running_mean is not None and running_var is not None:
        _move(running_mean, mean, momentum)
        _move(running_var, var * (n / max(n - 1, 1)), momentum)
    return _affine((wide - mean) * F.rsqrt(var + eps), weight, bias, x)


def _about(x: Tensor, mean: Tensor) -> Tensor:
    centered = x - mean
    return F.mean(centered * centered, axis=tuple(range(x.ndim - 1)))


def _variance_gradient(saved: tuple[Tensor, Tensor], ct: Tensor) -> tuple[Tensor, None]:
    x, mean = saved
    return (x - mean) * (ct * (2 / max(math.prod(x.shape[:-1]), 1))), None


#: The variance of each channel of (N, ..., C) about its mean. Its gradient by the mean, -2 sum(x - mean) / n, is 0:
#: leaving it out saves a pass over the images.
_variance = custom_vjp(_about, lambda x, mean: (_about(x, mean), (x, mean)), _variance_gradient)


def layer_norm(
    input: TensorLike,
    normalized_shape: Any,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over the last axes (Ba, Kiros, Hinton, arXiv 1607.06450).

    Args:
        input: shape (..., *normalized_shape).
        normalized_shape: the sizes of the last axes.
        weight, bias: of that shape.
        eps: added to the variance.

    >>> nn.functional.layer_norm(cr.tensor([1.0, 3.0]), (2,), eps=0.0)
    tensor([-1.,  1.])
    """
    x, shape = _trailing("layer_norm", input, normalized_shape)
    return _affine(_standardized(x, tuple(range(x.ndim - len(shape), x.ndim)), eps), weight, bias, x)


def rms_norm(
    input: TensorLike, normalized_shape: Any, weight: TensorLike | None = None, eps: float | None = None
) -> Tensor:
    """``x / sqrt(mean(x^2) + eps) * weight`` over the last axes (Zhang and Sennrich, arXiv 1910.07467).

    ``eps`` is the machine epsilon of the dtype unless given (of float32 for 16-bit floats, which are computed in it).

    >>> nn.functional.rms_norm(cr.tensor([2.0, 2.0]), (2,))
    tensor([1., 1.])
    """
    x, shape = _trailing("rms_norm", input, normalized_shape)
    wide = widened(x)
    eps = float(np.finfo(wide.dtype).eps) if eps is None else eps
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    return _affine(wide * F.rsqrt(F.mean(wide * wide, axis=axes, keepdims=True) + eps), weight, None, x)


def trailing_shape(operation: str, normalized_shape: Any) -> tuple[int, ...]:
    """The sizes of the axes to normalize over, one at least."""
    shape = as_shape(operation, normalized_shape)
    if not shape:
        raise ArgumentError(operation, "normalizes over one axis at least", received=repr(normalized_shape))
    return shape


def _trailing(operation: str, x: TensorLike, normalized_shape: Any) -> tuple[Tensor, tuple[int, ...]]:
    x, shape = F.asarray(x), trailing_shape(operation, normalized_shape)
    if x.shape[x.ndim - len(shape) :] != shape:
        raise ShapeError(operation, f"the last axes must be {shape}", received=f"shape {x.shape}")
    return x, shape


def group_norm(
    input: TensorLike,
    num_groups: int,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each sample over its positions and each group of channels (Wu and He, arXiv 1803.08494).

    Args:
        input: shape (N, ..., C).
        num_groups: divides C.
        weight, bias: shape (C,).
        eps: added to the variance.

    >>> nn.functional.group_norm(cr.ones((1, 4, 6)), 3).shape
    (1, 4, 6)
    """
    x = F.asarray(input)
    if x.ndim < 2:
        raise ShapeError("group_norm", "needs a batch (N, ..., C)", received=f"shape {x.shape}")
    c = x.shape[-1]
    if num_groups < 1 or c % num_groups:
        raise ShapeError("group_norm", f"{num_groups} groups do not divide {c} channels")
    grouped = F.reshape(x, (*x.shape[:-1], num_groups, c // num_groups))
    axes = (*range(1, x.ndim - 1), x.ndim)
    return _affine(F.reshape(_standardized(grouped, axes, eps), x.shape), weight, bias, x)


def normalize(input: TensorLike, p: float = 2.0, dim: int = -1, eps: float = 1e-12) -> Tensor:
    """``x / max(norm(x), eps)`` along an axis.

    >>> nn.functional.normalize(cr.tensor([3.0, 4.0]))
    tensor([0.6, 0.8])
    """
    x = F.asarray(input)
    return x / F.clip(F.norm(x, p, axis=dim, keepdims=True), eps, None)


def instance_norm(
    input: TensorLike,
    running_mean: Cell | None = None,
    running_var: Cell | None = None,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each channel of each sample over its positions (Ulyanov et al., arXiv 1607.08022).

    Args:
        input: shape (N, spatial..., C).
        running_mean, running_var: cells of shape (C,), moved towards the mean of the samples' statistics.
        weight, bias: shape (C,).
        use_input_stats: normalize by the sample's statistics, otherwise by the running ones.
        momentum: by how much the running statistics move.
        eps: added to the variance.

    Raises:
        ShapeError: a sample has a single position, so no variance.

    >>> nn.functional.instance_norm(cr.tensor([[[1.0], [3.0]]]), eps=0.0)[0, :, 0]
    tensor([-1.,  1.])
    """
    x = F.asarray(input)
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    axes, n = tuple(range(1, x.ndim - 1)), math.prod(x.shape[1:-1])
    if n == 1:
        raise ShapeError("instance_norm", "a single position has no variance", received=f"shape {x.shape}")
    wide = widened(x)
    mean = F.mean(wide, axis=axes, keepdims=True)
    centered = wide - mean
    var = F.mean(centered * centered, axis=axes, keepdims=True)
    if running_mean is not None and running_var is not None:
        outer = tuple(range(x.ndim - 1))
        _move(running_mean, F.mean(mean, axis=outer), momentum)
        _move(running_var, F.mean(var, axis=outer) * (n / max(n - 1, 1)), momentum)
    return _affine(centered * F.rsqrt(var + eps), weight, bias, x)


def _move(cell: Cell, value: Tensor, momentum: float | TensorLike) -> None:
    """Move a running statistic towards ``value``."""
    if not isinstance(cell, Cell):
        raise ArgumentError(
            "batch_norm", "running statistics are cells, since tensors never change", received=type(cell).__name__,
            fix="running_mean=cr.Cell(running_mean), and running_var likewise",
        )  # fmt: skip
    cell.assign(F.astype((1 - momentum) * cell + momentum * value.detach(), cell.dtype))


def local_response_norm(
    input: TensorLike, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """``x / (k + alpha mean(x^2))^beta``, the mean over ``size`` neighbouring channels (Krizhevsky et al., 2012).

    Args:
        input: shape (N, spatial..., C).
        size: number of channels of the mean, which takes zeros beyond the first and the last.
        alpha, beta, k: as above.

    >>> nn.functional.local_response_norm(cr.ones((1, 2, 3)), 3, alpha=3.0, beta=1.0)[0, 0]
    tensor([0.33333334, 0.25      , 0.33333334])
    """
    x = F.asarray(input)
    if x.ndim < 3:
        raise ShapeError("local_response_norm", "needs (N, spatial..., C)", received=f"shape {x.shape}")
    if size < 1:
        raise ArgumentError("local_response_norm", "size counts channels", received=repr(size))
    channels = F.reshape(F.square(x), (math.prod(x.shape[:-1]), x.shape[-1], 1))
    mean = F.avg_pool(channels, size, 1, ((size // 2, (size - 1) // 2),))
    return x / F.pow(k + alpha * F.reshape(mean, x.shape), beta)
