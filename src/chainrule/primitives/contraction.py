"""Contractions: the general product, and convolutions with their two gradients.

Convolution is a form that is linear in its image ``x``, its kernel ``w`` and the cotangent ``y`` of its result,

    T(x, w, y) = sum over n, p, k, c, o of  y[n, p, o] x[n, p * stride + k * dilation - padding, c] w[o, k, c],

so the three primitives here are its derivatives by each argument, and every gradient of one is another of them.
Images are channels-last (N, spatial..., C), kernels (O, K..., C / groups).
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import DTypeError, ShapeError
from ..graph.ir import TensorType
from ..registry import F
from .base import NUMERIC, Array, check_dtype, primitive
from .batching import fold, folded

Axes = tuple[int, ...]


def _free(ndim: int, *used: Axes) -> Axes:
    taken = set().union(*used)
    return tuple(axis for axis in range(ndim) if axis not in taken)


def _dot_types(a: Any, b: Any, *, contract: tuple[Axes, Axes], batch: tuple[Axes, Axes]) -> TensorType:
    if a.dtype != b.dtype:
        raise DTypeError("matmul", "needs two inputs of one dtype", received=f"{a.dtype} and {b.dtype}")
    check_dtype("matmul", a.dtype, NUMERIC)
    for what, (axes_a, axes_b) in (("contracted", contract), ("batch", batch)):
        sizes_a, sizes_b = [a.shape[i] for i in axes_a], [b.shape[i] for i in axes_b]
        if sizes_a != sizes_b:
            raise ShapeError(
                "matmul",
                f"the {what} axes must agree: {sizes_a} against {sizes_b}",
                received=f"shapes {tuple(a.shape)} and {tuple(b.shape)}",
                fix="the last axis of the left side meets the last but one of the right: "
                "transpose one of them with .mT, or check the layer's number of inputs",
            )
    shape = [a.shape[i] for i in batch[0]]
    shape += [a.shape[i] for i in _free(a.ndim, contract[0], batch[0])]
    shape += [b.shape[i] for i in _free(b.ndim, contract[1], batch[1])]
    return TensorType(tuple(shape), a.dtype)


def _dot_vjp_a(ct, out, a, b, *, contract, batch):
    # (batch, a-free, b-free) . (batch, b-free, contracted) -> (batch, a-free, contracted), then a's order of axes
    nb, free_a, free_b = len(batch[0]), _free(a.ndim, contract[0], batch[0]), _free(b.ndim, contract[1], batch[1])
    ct_b_axes = tuple(range(nb + len(free_a), ct.ndim))
    grad = dot(ct, F.conj(b), contract=(ct_b_axes, free_b), batch=(tuple(range(nb)), batch[1]))
    # The remaining axes of b come in b's order: sort the contracted axes of a likewise.
    by_b = tuple(contract[0][i] for i in np.argsort(contract[1]))
    order = batch[0] + free_a + by_b
    return F.permute_dims(grad, tuple(np.argsort(order).tolist()))


def _dot_vjp_b(ct, out, a, b, *, contract, batch):
    # (batch, a-free, b-free) . (batch, a-free, contracted) -> (batch, b-free, contracted), then b's order of axes
    nb, free_a, free_b = len(batch[0]), _free(a.ndim, contract[0], batch[0]), _free(b.ndim, contract[1], batch[1])
    ct_a_axes = tuple(range(nb, nb + len(free_a)))
    grad = dot(ct, F.conj(a), contract=(ct_a_axes, free_a), batch=(tuple(range(nb)), batch[0]))
    by_a = tuple(contract[1][i] for i in np.argsort(contract[0]))
    order = batch[1] + free_b + by_a
    return F.permute_dims(grad, tuple(np.argsort(order).tolist()))


def _dot_batching(apply, examples, batched, a, b, *, contract, batch):
    def moved(axes: Axes, has: bool) -> Axes:
        return tuple(i + has for i in axes)

    contract = (moved(contract[0], batched[0]), moved(contract[1], batched[1]))
    batch = (moved(batch[0], batched[0]), moved(batch[1], batched[1]))
    if all(batched):
        return apply(a, b, contract=contract, batch=((0, *batch[0]), (0, *batch[1])))
    # One product, in which the examples are the first free axis of their side.
    place = len(batch[0]) + (0 if batched[0] else len(_free(a.ndim, contract[0], batch[0])))
    return F.moveaxis(apply(a, b, contract=contract, batch=batch), place, 0)


@primitive(_dot_types, vjp=(_dot_vjp_a, _dot_vjp_b), multilinear=(0, 1), batching=_dot_batching, lowering="contraction")
def dot(a: Array, b: Array, *, contract: tuple[Axes, Axes], batch: tuple[Axes, Axes]) -> Array:
    """Sum over pairs of contracted axes, for each index of the batch axes; result (batch, free of a, free of b)."""
    free_a, free_b = _free(a.ndim, contract[0], batch[0]), _free(b.ndim, contract[1], batch[1])
    shape_batch = [a.shape[i] for i in batch[0]]
    shape_a, shape_b = [a.shape[i] for i in free_a], [b.shape[i] for i in free_b]
    k = math.prod(a.shape[i] for i in contract[0])
    left = a.transpose(batch[0] + free_a + contract[0]).reshape(*shape_batch, math.prod(shape_a), k)
    right = b.transpose(batch[1] + contract[1] + free_b).reshape(*shape_batch, k, math.prod(shape_b))
    return np.matmul(left, right).reshape((*shape_batch, *shape_a, *shape_b))


# --- convolution ------------------------------------------------------------------------------------------


def conv_output_size(n: int, kernel: int, stride: int, pad: tuple[int, int], dilation: int) -> int:
    """Number of windows: ``floor((n + pad - dilation * (kernel - 1) - 1) / stride) + 1``, at least 0."""
    return max((n + sum(pad) - dilation * (kernel - 1) - 1) // stride + 1, 0)


def _conv_types(x: Any, w: Any, *, stride: Axes, padding: Any, dilation: Axes, groups: int) -> TensorType:
    if x.dtype != w.dtype:
        raise DTypeError("conv", "needs image and kernel of one dtype", received=f"{x.dtype} and {w.dtype}")
    check_dtype("conv", x.dtype, dtypes.FLOATING)
    if x.ndim != w.ndim or x.ndim < 3:
        raise ShapeError(
            "conv",
            "needs an image (N, spatial..., C) and a kernel (O, K..., C / groups) of as many axes",
            received=f"shapes {tuple(x.shape)} and {tuple(w.shape)}",
            fix="images are channels-last; add the batch axis with x[None], a channel axis with x[..., None]",
        )
    if x.shape[-1] != w.shape[-1] * groups or w.shape[0] % groups:
        raise ShapeError(
            "conv",
            f"the image has {x.shape[-1]} channels, the kernel takes {w.shape[-1]} in each of {groups} groups",
            received=f"shapes {tuple(x.shape)} and {tuple(w.shape)}",
            fix="images are channels-last (N, H, W, C): from (N, C, H, W) use x.permute(0, 2, 3, 1)",
        )
    spatial = [
        conv_output_size(n, k, s, p, d)
        for n, k, s, p, d in zip(x.shape[1:-1], w.shape[1:-1], stride, padding, dilation, strict=True)
    ]
    if 0 in spatial and 0 not in x.shape:
        raise ShapeError(
            "conv",
            "the kernel is larger than the padded image",
            received=f"image {tuple(x.shape[1:-1])}, kernel {tuple(w.shape[1:-1])}, padding {padding}",
            fix="use a smaller kernel or stride, or padding='same'",
        )
    return TensorType((x.shape[0], *spatial, w.shape[0]), x.dtype)


def _pad_spatial(x: Array, padding: Any) -> Array:
    if not any(map(any, padding)):
        return x
    return np.pad(x, ((0, 0), *padding, (0, 0)))


def _patches(x: Array, kernel: Axes, stride: Axes, padding: Any, dilation: Axes, groups: int) -> Array:
    """Windows of the image as a matrix per group: (G, N * positions, K... * C / G)."""
    x = _pad_spatial(x, padding)
    n, c = x.shape[0], x.shape[-1]
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    axes = tuple(range(1, x.ndim - 1))
    windows = np.lib.stride_tricks.sliding_window_view(x, spans, axis=axes)  # (N, P..., C, spans...)
    every = (slice(None), *(slice(None, None, s) for s in stride), slice(None))
    windows = windows[(*every, *(slice(None, None, d) for d in dilation))]
    positions = windows.shape[1 : x.ndim - 1]
    d = len(kernel)
    grouped = windows.reshape(n, *positions, groups, c // groups, *kernel)
    order = (d + 1, 0, *range(1, d + 1), *range(d + 3, 2 * d + 3), d + 2)  # G, N, P..., K..., C/G
    return grouped.transpose(order).reshape(groups, n * math.prod(positions), math.prod(kernel) * (c // groups))


def _kernel_matrix(w: Array, groups: int) -> Array:
    """The kernel as a matrix per group: (G, O / G, K... * C / G)."""
    return w.reshape(groups, w.shape[0] // groups, -1)


def _by_group(y: Array, groups: int) -> Array:
    """(N, P..., O) as (G, N * P, O / G)."""
    return np.moveaxis(y.reshape(-1, groups, y.shape[-1] // groups), 1, 0)


# Examples with one kernel are more images. Otherwise they are groups of channels: with ``g`` groups the channels of all
# examples have the order (g, examples, channels of a group) if the other operand is the same for all examples, and
# (examples, channels) if each group has an operand of its own.


def _as_channels(x, groups):
    """(examples, N, P..., C) as (N, P..., g * examples * C / g)."""
    size, *outer, c = x.shape
    split = F.moveaxis(F.reshape(x, (size, *outer, groups, c // groups)), 0, -2)
    return F.reshape(split, (*outer, size * c))


def _from_channels(y, size, groups):
    """(N, P..., g * examples * C / g) as (examples, N, P..., C)."""
    *outer, c = y.shape
    split = F.moveaxis(F.reshape(y, (*outer, groups, size, c // (groups * size))), -2, 0)
    return F.reshape(split, (size, *outer, c // size))


def _as_outputs(w, groups):
    """Kernels (examples, O, K..., C / g) as (g * examples * O / g, K..., C / g)."""
    size, o, *rest = w.shape
    return F.reshape(F.moveaxis(F.reshape(w, (size, groups, o // groups, *rest)), 0, 1), (size * o, *rest))


def _more_images(apply, examples, x, w, **how):
    return folded(lambda x, **how: apply(x, w, **how), examples, (True,), x, **how)


def _conv_batching(apply, examples, batched, x, w, *, groups, **how):
    if not batched[1]:
        return _more_images(apply, examples, x, w, groups=groups, **how)
    if batched[0]:
        y = apply(_as_channels(x, 1), fold(w), groups=examples.size * groups, **how)
        return _from_channels(y, examples.size, 1)
    return _from_channels(apply(x, _as_outputs(w, groups), groups=groups, **how), examples.size, groups)


def _conv_input_batching(apply, examples, batched, y, w, *, shape, groups, **how):
    if not batched[1]:
        return _more_images(apply, examples, y, w, shape=shape, groups=groups, **how)
    wide = (*shape[:-1], examples.size * shape[-1])
    if batched[0]:
        x = apply(_as_channels(y, 1), fold(w), shape=wide, groups=examples.size * groups, **how)
        return _from_channels(x, examples.size, 1)
    x = apply(y, _as_channels(w, 1), shape=wide, groups=groups, **how)
    return _from_channels(x, examples.size, groups)


def _conv_kernel_batching(apply, examples, batched, x, y, *, groups, **how):
    if all(batched):
        w = apply(_as_channels(x, 1), _as_channels(y, 1), groups=examples.size * groups, **how)
        return F.reshape(w, (examples.size, w.shape[0] // examples.size, *w.shape[1:]))
    if batched[0]:
        return _from_channels(apply(_as_channels(x, groups), y, groups=groups, **how), examples.size, 1)
    w = apply(x, _as_channels(y, groups), groups=groups, **how)
    o, *rest = w.shape
    split = F.moveaxis(F.reshape(w, (groups, examples.size, o // (groups * examples.size), *rest)), 1, 0)
    return F.reshape(split, (examples.size, o // examples.size, *rest))


@primitive(
    _conv_types,
    vjp=(
        lambda ct, out, x, w, **how: conv_input(ct, w, shape=x.shape, **how),
        lambda ct, out, x, w, **how: conv_kernel(x, ct, kernel=w.shape[1:-1], **how),
    ),
    multilinear=(0, 1),
    batching=_conv_batching,
    lowering="contraction",
)
def conv(x: Array, w: Array, *, stride: Axes, padding: Any, dilation: Axes, groups: int) -> Array:
    """Convolution dT/dy (as everywhere in this field, without turning the kernel): (N, spatial..., O)."""
    shape = _conv_types(x, w, stride=stride, padding=padding, dilation=dilation, groups=groups).shape
    if 0 in shape:
        return np.zeros(shape, x.dtype)
    patches = _patches(x, w.shape[1:-1], stride, padding, dilation, groups)
    # (G, N P, K C/G) @ (G, O/G, K C/G)^T -> (G, N P, O/G)
    result = np.matmul(patches, _kernel_matrix(w, groups).transpose(0, 2, 1))
    return np.moveaxis(result, 0, 1).reshape(shape)


@primitive(
    lambda y, w, *, shape, **how: TensorType(tuple(shape), y.dtype),
    vjp=(
        lambda ct, out, y, w, *, shape, **how: conv(ct, w, **how),
        lambda ct, out, y, w, *, shape, **how: conv_kernel(ct, y, kernel=w.shape[1:-1], **how),
    ),
    multilinear=(0, 1),
    batching=_conv_input_batching,
    lowering="contraction",
)
def conv_input(y: Array, w: Array, *, shape: Axes, stride: Axes, padding: Any, dilation: Axes, groups: int) -> Array:
    """Transposed convolution dT/dx, of the image's ``shape`` (N, spatial..., C)."""
    kernel, d = w.shape[1:-1], len(stride)
    padded = [n + sum(p) for n, p in zip(shape[1:-1], padding, strict=True)]
    image = np.zeros((shape[0], *padded, shape[-1]), y.dtype)
    if y.size and w.size:
        # (G, N P, O/G) @ (G, O/G, K C/G) -> (G, N P, K C/G)
        patches = np.matmul(_by_group(y, groups), _kernel_matrix(w, groups))
        patches = patches.reshape(groups, *y.shape[:-1], *kernel, shape[-1] // groups)
        patches = np.moveaxis(patches, 0, -2).reshape(*y.shape[:-1], *kernel, shape[-1])
        for offset in product(*map(range, kernel)):
            window = tuple(
                slice(o * dil, o * dil + (p - 1) * s + 1, s)
                for o, dil, p, s in zip(offset, dilation, y.shape[1:-1], stride, strict=True)
            )
            image[(slice(None), *window)] += patches[(slice(None),) * (d + 1) + offset]
    inside = tuple(slice(low, low + n) for n, (low, _) in zip(shape[1:-1], padding, strict=True))
    return image[(slice(None), *inside)]


@primitive(
    lambda x, y, *, kernel, groups, **how: TensorType((y.shape[-1], *kernel, x.shape[-1] // groups), x.dtype),
    vjp=(
        lambda ct, out, x, y, *, kernel, **how: conv_input(y, ct, shape=x.shape, **how),
        lambda ct, out, x, y, *, kernel, **how: conv(x, ct, **how),
    ),
    multilinear=(0, 1),
    batching=_conv_kernel_batching,
    lowering="contraction",
)
def conv_kernel(x: Array, y: Array, *, kernel: Axes, stride: Axes, padding: Any, dilation: Axes, groups: int) -> Array:
    """Gradient by the kernel dT/dw: (O, K..., C / groups)."""
    shape = (y.shape[-1], *kernel, x.shape[-1] // groups)
    if 0 in x.shape or 0 in y.shape:
        return np.zeros(shape, x.dtype)
    patches = _patches(x, kernel, stride, padding, dilation, groups)
    # (G, N P, O/G)^T @ (G, N P, K C/G) -> (G, O/G, K C/G)
    return np.matmul(_by_group(y, groups).transpose(0, 2, 1), patches).reshape(shape)
