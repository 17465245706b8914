"""Convolution and pooling as functions, by PyTorch's names and arguments, of batches of channels-last images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import functions as F
from ..errors import ArgumentError, DTypeError, ShapeError
from ..functions.products import spread
from ..functions.shaping import take_slice
from ..tensor import Tensor, TensorLike

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "adaptive_max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "conv1d", "conv2d", "conv3d", "conv_transpose1d",
    "conv_transpose2d", "conv_transpose3d", "fold", "lp_pool1d", "lp_pool2d", "lp_pool3d", "max_pool1d", "max_pool2d",
    "max_pool3d", "unfold",
]  # fmt: skip


def same_dtype(operation: str, x: TensorLike, weight: Tensor) -> Tensor:
    """Return ``x`` as a tensor; it must have the dtype of the weights, since a silent cast hides mistakes."""
    x = F.asarray(x)
    if x.dtype != weight.dtype:
        scaled = " / 255 (for images of 0..255)" if x.dtype.name == "uint8" else ""
        raise DTypeError(
            operation,
            f"the weights are {weight.dtype.name}, and so must the input be",
            received=f"an input of {x.dtype.name}",
            fix=f'x.astype("{weight.dtype.name}"){scaled}, or model.to("{x.dtype.name}")',
        )
    return x


def batch_of_images(operation: str, x: TensorLike, d: int) -> Tensor:
    """Return ``x`` as a tensor; it must have a batch axis, ``d`` spatial axes and a channel axis."""
    x = F.asarray(x)
    if x.ndim != d + 2:
        axes = ("L", "H, W", "D, H, W")[d - 1]
        raise ShapeError(
            operation,
            f"needs a batch of images (N, {axes}, C)",
            received=f"shape {x.shape}",
            fix="add the batch axis with x[None], the channel axis with x[..., None]",
        )
    return x


def _named(name: str, doc: str, function: Callable[..., Tensor]) -> Any:
    """Give a function that was made for one number of axes its public name and docstring."""
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _conv(d: int) -> Any:
    name = f"conv{d}d"

    def conv(
        input: TensorLike,
        weight: TensorLike,
        bias: TensorLike | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        weight = F.asarray(weight)
        x = batch_of_images(name, same_dtype(name, input, weight), d)
        return F.conv(x, weight, bias, stride, padding, dilation, groups)

    return _named(name, f"Convolution over {d} spatial axes; see `chainrule.conv`.", conv)


def _conv_transpose(d: int) -> Any:
    name = f"conv_transpose{d}d"

    def conv_transpose(
        input: TensorLike,
        weight: TensorLike,
        bias: TensorLike | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Tensor:
        weight = F.asarray(weight)
        x = batch_of_images(name, same_dtype(name, input, weight), d)
        return F.conv_transpose(x, weight, bias, stride, padding, output_padding, groups, dilation)

    return _named(
        name, f"Transposed convolution over {d} spatial axes; see `chainrule.conv_transpose`.", conv_transpose
    )


def _max_pool(d: int) -> Any:
    name = f"max_pool{d}d"

    def max_pool(
        input: TensorLike,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Tensor:
        no_indices(name, return_indices)
        return F.max_pool(batch_of_images(name, input, d), kernel_size, stride, padding, dilation, ceil_mode)

    return _named(name, f"Maximum over windows of {d} spatial axes; see `chainrule.max_pool`.", max_pool)


def no_indices(operation: str, return_indices: bool) -> None:
    """Refuse what PyTorch's pools can return beside the maxima."""
    if return_indices:
        raise ArgumentError(operation, "the places of the maxima are not returned here", received="return_indices=True")


def _avg_pool(d: int) -> Any:
    name = f"avg_pool{d}d"

    def avg_pool(
        input: TensorLike,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Tensor:
        x = batch_of_images(name, input, d)
        return F.avg_pool(x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)

    return _named(name, f"Mean over windows of {d} spatial axes; see `chainrule.avg_pool`.", avg_pool)


_LP_DOC = """Norm of order p over windows: ``(sum x^p)^(1 / p)``, without absolute values, as in PyTorch.

    Args:
        input: shape (N, spatial..., C).
        norm_type: p; 1 gives the sum, and the larger p is the nearer to the maximum (of what is not negative).
        kernel_size, stride, ceil_mode: as in `max_pool{d}d`.

    Where a sum is 0 its gradient is 0.

    >>> nn.functional.lp_pool{d}d(cr.full({shape}, 2.0), 2, {k})
    tensor({result})
    """


def _lp_pool(d: int) -> Any:
    name = f"lp_pool{d}d"

    def lp_pool(
        input: TensorLike, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
    ) -> Tensor:
        if not 0 < norm_type < math.inf:
            raise ArgumentError(name, "the order of the norm is positive and finite", received=repr(norm_type))
        size = math.prod(spread(name, kernel_size, d, "kernel_size", 1))
        powers = F.pow(batch_of_images(name, input, d), norm_type)
        total = F.avg_pool(powers, kernel_size, stride, 0, ceil_mode) * size
        root = F.pow(F.where(total == 0, 1.0, total), 1 / norm_type)
        return F.where(total == 0, 0.0, root)

    shape, k, result = (1, *(4, 1, 1)[:d], 1), (4, *(1, 1)[: d - 1]), f"{'[' * (d + 2)}4.{']' * (d + 2)}"
    return _named(name, _LP_DOC.format(d=d, shape=shape, k=k if d > 1 else 4, result=result), lp_pool)


def unfold(input: TensorLike, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """The windows of an image, one after the other: the matrix whose product with the kernels is `conv2d`.

    Element ``c K + k`` is channel c at place k of the window, which has K places: the order is PyTorch's, whose result
    has the last two axes exchanged.

    Args:
        input: shape (N, H, W, C).
        kernel_size, dilation, padding, stride: as in `conv2d`.

    Returns:
        shape (N, windows, C K).

    >>> nn.functional.unfold(cr.arange(9.0).reshape((1, 3, 3, 1)), 2)[0, 0]
    tensor([0., 1., 3., 4.])
    """
    x = batch_of_images("unfold", input, 2)
    size = spread("unfold", kernel_size, 2, "kernel_size", 1)
    picked = F.conv(x, _pickers(x.shape[-1], size, x), None, stride, padding, dilation, x.shape[-1])
    return F.reshape(picked, (x.shape[0], picked.shape[1] * picked.shape[2], picked.shape[3]))


def _pickers(channels: int, size: tuple[int, ...], like: Tensor) -> Tensor:
    """Kernels of a depthwise convolution that each take one place of the window, (C K, *size, 1)."""
    places = math.prod(size)
    return F.asarray(np.tile(np.eye(places), (channels, 1)).reshape(channels * places, *size, 1), like.dtype)


def fold(
    input: TensorLike, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """Put windows into an image and add them up where they overlap: the transpose of `unfold`, and its gradient.

    Args:
        input: shape (N, windows, C K), in the order that `unfold` gives.
        output_size: (H, W).
        kernel_size, dilation, padding, stride: those of the `unfold`.

    Returns:
        shape (N, H, W, C).

    Raises:
        ShapeError: such an image has another number of windows.

    >>> nn.functional.fold(nn.functional.unfold(cr.ones((1, 1, 3, 1)), (1, 2)), (1, 3), (1, 2))[0, 0, :, 0]
    tensor([1., 2., 1.])
    """
    x = F.asarray(input)
    image, size, every, around, step = (
        spread("fold", value, 2, name, least)
        for value, name, least in (
            (output_size, "output_size", 1), (kernel_size, "kernel_size", 1), (dilation, "dilation", 1),
            (padding, "padding", 0), (stride, "stride", 1),
        )
    )  # fmt: skip
    room = [n + 2 * p - e * (k - 1) - 1 for n, p, e, k in zip(image, around, every, size, strict=True)]
    counts = [r // s + 1 for r, s in zip(room, step, strict=True)]
    places = math.prod(size)
    if x.ndim != 3 or min(room) < 0 or x.shape[1] != math.prod(counts) or x.shape[2] % places:
        raise ShapeError(
            "fold", f"needs (N, windows, C {places}), {' times '.join(map(str, counts))} windows for this image",
            received=f"shape {x.shape}",
        )  # fmt: skip
    channels = x.shape[2] // places
    beyond = tuple(r % s for r, s in zip(room, step, strict=True))  # which the last window does not reach
    x = F.reshape(x, (x.shape[0], *counts, x.shape[2]))
    return F.conv_transpose(x, _pickers(channels, size, x), None, step, around, beyond, channels, every)


def _adaptive(operation: str, x: Tensor, output_size: Any, reduce: Any) -> Tensor:
    """Reduce windows of each spatial axis in turn, from the last to the first."""
    d = x.ndim - 2
    sizes = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * d
    spread(operation, [1 if m is None else m for m in sizes], d, "output_size", 1)
    for axis in range(d, 0, -1):
        n, m = x.shape[axis], sizes[axis - 1]
        if m is not None and m != n:
            bounds = [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
            parts = [reduce(take_slice(x, axis, start, stop), axis) for start, stop in bounds]
            x = F.concat(parts, axis=axis)
    return x


def _mean(x: Tensor, axis: int) -> Tensor:
    return F.mean(x, axis=axis, keepdims=True)


def _first_max(x: Tensor, axis: int) -> Tensor:
    """Maximum along an axis, of which the first gets the gradient, as in the pools with fixed windows."""
    return F.max_pool(x, tuple(n if i == axis else 1 for i, n in enumerate(x.shape))[1:-1])


_ADAPTIVE_DOC = """{what} over as many windows as are asked for: window i of m on n places is [i n / m, (i + 1) n / m).

    Args:
        input: shape (N, spatial..., C).
        output_size: a number, or one for each of {d} spatial axes; None keeps an axis as it is.

    >>> nn.functional.{name}(cr.ones({shape}), 2).shape
    {result}
    """


def _adaptive_pool(kind: str, d: int) -> Any:
    name = f"adaptive_{kind}_pool{d}d"

    def adaptive_avg_pool(input: TensorLike, output_size: Any) -> Tensor:
        return _adaptive(name, batch_of_images(name, input, d), output_size, _mean)

    def adaptive_max_pool(input: TensorLike, output_size: Any, return_indices: bool = False) -> Tensor:
        no_indices(name, return_indices)
        return _adaptive(name, batch_of_images(name, input, d), output_size, _first_max)

    shape, result = (1, *(7, 5, 6)[:d], 3), (1, *(2,) * d, 3)
    what, pool = ("Mean", adaptive_avg_pool) if kind == "avg" else ("Maximum", adaptive_max_pool)
    return _named(name, _ADAPTIVE_DOC.format(what=what, d=d, name=name, shape=shape, result=result), pool)


conv1d, conv2d, conv3d = map(_conv, (1, 2, 3))
conv_transpose1d, conv_transpose2d, conv_transpose3d = map(_conv_transpose, (1, 2, 3))
max_pool1d, max_pool2d, max_pool3d = map(_max_pool, (1, 2, 3))
avg_pool1d, avg_pool2d, avg_pool3d = map(_avg_pool, (1, 2, 3))
lp_pool1d, lp_pool2d, lp_pool3d = map(_lp_pool, (1, 2, 3))
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = (_adaptive_pool("avg", d) for d in (1, 2, 3))
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = (_adaptive_pool("max", d) for d in (1, 2, 3))
