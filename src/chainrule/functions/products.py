"""Products that sum over axes, and convolutions and pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import ArgumentError, ShapeError
from ..primitives import attention as attending, contraction, window
from ..primitives.base import broadcast_shapes
from ..primitives.layout import check_axis
from ..tensor import Tensor, TensorLike, asarray, operands, promote
from .creation import arange, ones
from .shaping import broadcast_to, expand_dims, pad, permute_dims, reshape, squeeze

__all__ = [
    "avg_pool", "conv", "conv_transpose", "dot", "einsum", "matmul", "max_pool", "outer", "tensordot", "vecdot",
]  # fmt: skip


def matmul(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Matrix product over the last two axes; leading axes broadcast, a vector counts as a row or a column.

    Args:
        x1: shape (..., m, k) or (k,).
        x2: shape (..., k, n) or (k,).

    Raises:
        ShapeError: the inner sizes differ, or a side is a scalar.

    >>> matmul(tensor([[1.0, 2.0]]), tensor([[3.0], [4.0]]))
    tensor([[11.]])
    """
    a, b = operands(x1, x2)
    if not a.ndim or not b.ndim:
        raise ShapeError("matmul", "needs at least one axis on each side", received=f"shapes {a.shape} and {b.shape}",
                         fix="multiply with a scalar by *")  # fmt: skip
    if a.ndim == 1:
        return squeeze(matmul(expand_dims(a, 0), b), 0 if b.ndim == 1 else -2)
    if b.ndim == 1:
        return squeeze(matmul(a, expand_dims(b, 1)), -1)
    if b.ndim == 2:  # one matrix for all: a single large product
        return contraction.dot(a, b, contract=((a.ndim - 1,), (0,)), batch=((), ()))
    if a.ndim == 2 and b.ndim > 2:
        product = contraction.dot(a, b, contract=((1,), (b.ndim - 2,)), batch=((), ()))  # (m, batch..., n)
        return permute_dims(product, [*range(1, b.ndim - 1), 0, b.ndim - 1])
    batch = broadcast_shapes("matmul", a.shape[:-2], b.shape[:-2])
    a, b = broadcast_to(a, (*batch, *a.shape[-2:])), broadcast_to(b, (*batch, *b.shape[-2:]))
    axes = tuple(range(len(batch)))
    return contraction.dot(a, b, contract=((a.ndim - 1,), (b.ndim - 2,)), batch=(axes, axes))


dot = matmul


def tensordot(x1: TensorLike, x2: TensorLike, axes: int | Sequence[Sequence[int]] = 2) -> Tensor:
    """Sum over pairs of axes: the last ``axes`` of ``x1`` with the first of ``x2``, or the pairs named.

    >>> tensordot(ones((2, 3)), ones((3, 4)), axes=1).shape
    (2, 4)
    """
    a, b = operands(x1, x2)
    if isinstance(axes, int):
        pairs = (tuple(range(a.ndim - axes, a.ndim)), tuple(range(axes)))
    else:
        pairs = (
            tuple(check_axis("tensordot", i, a.ndim) for i in axes[0]),
            tuple(check_axis("tensordot", i, b.ndim) for i in axes[1]),
        )
    return contraction.dot(a, b, contract=pairs, batch=((), ()))


def outer(x1: TensorLike, x2: TensorLike) -> Tensor:
    """Product of every element of a vector with every element of another, shape (m, n).

    >>> outer(tensor([1.0, 2.0]), tensor([3.0, 4.0]))
    tensor([[3., 4.],
            [6., 8.]])
    """
    a, b = operands(x1, x2)
    return reshape(a, (-1, 1)) * reshape(b, (1, -1))


def vecdot(x1: TensorLike, x2: TensorLike, axis: int = -1) -> Tensor:
    """Sum of products along an axis, ``sum(conj(x1) * x2)``.

    >>> vecdot(tensor([1.0, 2.0]), tensor([3.0, 4.0]))
    tensor(11.)
    """
    a, b = operands(x1, x2)
    return (a.conj() * b).sum(axis=axis)


def einsum(subscripts: str, *tensors: TensorLike) -> Tensor:
    """Sum of products in Einstein's notation.

    Args:
        subscripts: a letter for each axis: "ij,jk->ik" is the matrix product. An ellipsis stands for leading axes that
            broadcast. Without "->" the result has the letters that occur once, in alphabetical order.
        *tensors: one for each group of letters.

    Raises:
        ArgumentError: the subscripts do not fit the tensors.
        ShapeError: a letter stands for two sizes.

    >>> einsum("ij,kj->ik", ones((2, 3)), ones((4, 3))).shape
    (2, 4)
    """
    inputs, output, xs = _parse(subscripts, promote(*tensors))
    terms = [_diagonals(x, letters) for x, letters in zip(xs, inputs, strict=True)]
    while len(terms) > 1:
        (a, la), (b, lb) = terms[0], terms[1]
        later = set(output).union(*(letters for _, letters in terms[2:]))
        terms[:2] = [_contract(a, la, b, lb, later)]
    x, letters = terms[0]
    summed = [i for i, letter in enumerate(letters) if letter not in output]
    x = x.sum(axis=tuple(summed)) if summed else x
    letters = [letter for letter in letters if letter in output]
    return permute_dims(x, [letters.index(letter) for letter in output])


def _parse(subscripts: str, xs: tuple[Tensor, ...]) -> tuple[list[list[str]], list[str], list[Tensor]]:
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    groups = left.split(",")
    if len(groups) != len(xs):
        raise ArgumentError(
            "einsum", f"{len(groups)} groups of subscripts for {len(xs)} tensors", received=repr(subscripts)
        )
    dots = max((x.ndim - len(g.replace("...", "")) for g, x in zip(groups, xs, strict=True) if "..." in g), default=0)
    spare = [f"<{i}>" for i in range(dots)]

    def expand(group: str, n: int) -> list[str]:
        if "..." not in group:
            return list(group)
        before, _, after = group.partition("...")
        return [*before, *(spare[len(spare) - n :] if n else []), *after]

    inputs = []
    for group, x in zip(groups, xs, strict=True):
        letters = expand(group, x.ndim - len(group.replace("...", "")))
        if len(letters) != x.ndim or not all(c.isalpha() or c[0] == "<" for c in letters):
            raise ArgumentError(
                "einsum", f"the subscripts {group!r} do not fit a tensor of {x.ndim} axes", received=repr(subscripts)
            )
        inputs.append(letters)
    every = [c for letters in inputs for c in letters]
    once = sorted(c for c in set(every) if every.count(c) == 1 and c not in spare)
    output = expand(right, dots) if arrow else spare + once
    if any(c not in every for c in output) or len(set(output)) != len(output):
        raise ArgumentError("einsum", "the result names a letter twice, or one that no tensor has", received=subscripts)
    return inputs, output, _stretched(inputs, xs, spare)


def _stretched(inputs: list[list[str]], xs: tuple[Tensor, ...], spare: list[str]) -> list[Tensor]:
    """Check that each letter stands for one size; broadcast the axes of ellipses."""
    sizes: dict[str, int] = {}
    for letters, x in zip(inputs, xs, strict=True):
        for letter, n in zip(letters, x.shape, strict=True):
            known = sizes.get(letter, 1 if letter in spare else n)
            if letter in spare and 1 in (known, n):
                sizes[letter] = n if known == 1 else known
            elif known != n:
                raise ShapeError("einsum", f"the letter {letter!r} stands for sizes {known} and {n}")
            else:
                sizes[letter] = n
    return [broadcast_to(x, [sizes[c] for c in letters]) for letters, x in zip(inputs, xs, strict=True)]


def _diagonals(x: Tensor, letters: list[str]) -> tuple[Tensor, list[str]]:
    """Take the diagonal where a letter repeats within one tensor."""
    for letter in dict.fromkeys(letters):
        while letters.count(letter) > 1:
            i = letters.index(letter)
            j = letters.index(letter, i + 1)
            rest = [k for k in range(x.ndim) if k not in (i, j)]
            n = arange(x.shape[i])
            x = permute_dims(x, [i, j, *rest])[n, n]
            letters = [letter, *(letters[k] for k in rest)]
    return x, letters


def _contract(a: Tensor, la: list[str], b: Tensor, lb: list[str], later: set[str]) -> tuple[Tensor, list[str]]:
    both = [c for c in la if c in lb]
    batch = [c for c in both if c in later]
    gone = [c for c in both if c not in later]
    alone_a = [i for i, c in enumerate(la) if c not in lb and c not in later]
    alone_b = [i for i, c in enumerate(lb) if c not in la and c not in later]
    a, la = (a.sum(axis=tuple(alone_a)), [c for i, c in enumerate(la) if i not in alone_a]) if alone_a else (a, la)
    b, lb = (b.sum(axis=tuple(alone_b)), [c for i, c in enumerate(lb) if i not in alone_b]) if alone_b else (b, lb)
    product = contraction.dot(
        a,
        b,
        contract=(tuple(la.index(c) for c in gone), tuple(lb.index(c) for c in gone)),
        batch=(tuple(la.index(c) for c in batch), tuple(lb.index(c) for c in batch)),
    )
    free = [c for c in la if c not in both] + [c for c in lb if c not in both]
    return product, batch + free


# --- windows over images ----------------------------------------------------------------------------------


def spread(operation: str, value: Any, d: int, name: str = "padding", least: int = 0) -> tuple[int, ...]:
    """One whole number for each of ``d`` spatial axes."""
    numbers = tuple(value) if isinstance(value, (tuple, list)) else (value,) * d
    if len(numbers) != d or any(not isinstance(n, (int, np.integer)) or n < least for n in numbers):
        whole = f"a whole number, {least} at least, or one for each of {d} axes"
        raise ArgumentError(operation, f"{name} is {whole}", received=repr(value))
    return tuple(map(int, numbers))


def pad_pairs(
    operation: str, padding: Any, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], size: Any
) -> tuple[tuple[int, int], ...]:
    """Padding before and after each spatial axis, from a number, numbers, pairs, "valid" or "same"."""
    d = len(kernel)
    if padding == "valid":
        return ((0, 0),) * d
    if padding == "same":  # ceil(n / stride) windows; the odd one behind, as in TensorFlow and PyTorch
        totals = [
            max((math.ceil(n / s) - 1) * s + dil * (k - 1) + 1 - n, 0)
            for n, k, s, dil in zip(size, kernel, stride, dilation, strict=True)
        ]
        return tuple((t // 2, t - t // 2) for t in totals)
    if isinstance(padding, str):
        raise ArgumentError(operation, "padding is a number, numbers, pairs, 'same' or 'valid'", received=padding)
    if not isinstance(padding, int) and padding and not isinstance(padding[0], int):
        before, after = zip(*padding, strict=True)
        return tuple(zip(spread(operation, before, d), spread(operation, after, d), strict=True))
    return tuple((p, p) for p in spread(operation, padding, d))


def conv(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution (cross-correlation) of channels-last images in 1, 2 or 3 spatial dimensions.

    ``y[n, p, o] = b[o] + sum over k, c of  x[n, p * stride + k * dilation - padding, c] w[o, k, c]``

    Args:
        x: shape (N, spatial..., C).
        weight: shape (O, kernel..., C / groups).
        bias: shape (O,).
        stride, dilation: a number, or one for each spatial axis.
        padding: zeros around: a number, one for each axis, pairs (before, after), "same" or "valid".
        groups: split channels into so many independent convolutions.

    Returns:
        shape (N, spatial..., O).

    Raises:
        ShapeError: channels do not fit, or the kernel is larger than the padded image.

    >>> conv(ones((1, 4, 4, 1)), ones((2, 3, 3, 1))).shape
    (1, 2, 2, 2)
    """
    x, weight = operands(x, weight)
    d = x.ndim - 2
    kernel, size = weight.shape[1:-1], x.shape[1:-1]
    stride, dilation = spread("conv", stride, d, "stride", 1), spread("conv", dilation, d, "dilation", 1)
    spread("conv", groups, 1, "groups", 1)
    pairs = pad_pairs("conv", padding, kernel, stride, dilation, size) if len(kernel) == d else ((0, 0),) * d
    out = contraction.conv(x, weight, stride=stride, padding=pairs, dilation=dilation, groups=groups)
    return out if bias is None else out + bias


def conv_transpose(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Transposed convolution of channels-last images: the gradient of `conv` by its image, as an operation of its own.

    Args:
        x: shape (N, spatial..., C).
        weight: shape (C, kernel..., O / groups): that of the convolution from O to C channels which it transposes.
        bias: shape (O,).
        stride, padding, dilation: those of the convolution that is transposed.
        output_padding: added to one side of the result's size, which the stride leaves open.
        groups: independent groups of channels.

    Returns:
        shape (N, spatial..., O), spatial size ``(n - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 +
        output_padding``.

    >>> conv_transpose(ones((1, 2, 2, 1)), ones((1, 3, 3, 4)), stride=2).shape
    (1, 5, 5, 4)
    """
    x, weight = operands(x, weight)
    d = x.ndim - 2
    stride = spread("conv_transpose", stride, d, "stride", 1)
    dilation = spread("conv_transpose", dilation, d, "dilation", 1)
    extra = spread("conv_transpose", output_padding, d, "output_padding")
    kernel = weight.shape[1:-1]
    pairs = pad_pairs("conv_transpose", padding, kernel, stride, dilation, x.shape[1:-1])
    if x.shape[-1] != weight.shape[0] or len(kernel) != d:
        raise ShapeError(
            "conv_transpose", f"the image has {x.shape[-1]} channels, the kernel takes {weight.shape[0]}",
            received=f"shapes {x.shape} and {weight.shape}",
        )  # fmt: skip
    sizes = [
        (n - 1) * s - sum(p) + dil * (k - 1) + 1 + e
        for n, s, p, dil, k, e in zip(x.shape[1:-1], stride, pairs, dilation, kernel, extra, strict=True)
    ]
    if min(sizes, default=0) < 0:
        raise ShapeError(
            "conv_transpose", "the padding is larger than the result",
            received=f"image {x.shape[1:-1]}, kernel {kernel}, padding {padding}",
        )  # fmt: skip
    spare = [e // s for e, s in zip(extra, stride, strict=True)]
    if any(spare):  # whole strides of zeros, so that the convolution back has as many windows as x has places
        x = pad(x, [(0, 0), *((0, n) for n in spare), (0, 0)])
    shape = (x.shape[0], *sizes, weight.shape[-1] * groups)
    how = {"stride": stride, "padding": pairs, "dilation": dilation, "groups": groups}
    out = contraction.conv_input(x, weight, shape=shape, **how)
    return out if bias is None else out + bias


def max_pool(
    x: TensorLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Tensor:
    """Maximum over windows of channels-last images; at a tie the first element gets the gradient.

    Args:
        x: shape (N, spatial..., C).
        kernel_size: size of the window, a number or one for each spatial axis.
        stride: distance of the windows; the size of the window if left out.
        padding: places around that no maximum takes.
        dilation: distance of the elements in a window.
        ceil_mode: also take a last window that begins inside the image (or the padding before it) and ends outside.

    >>> max_pool(reshape(arange(4.0), (1, 2, 2, 1)), 2)[0, 0, 0]
    tensor([3.])
    """
    x = asarray(x)
    return window.max_pool(x, **_window("max_pool", x, kernel_size, stride, padding, dilation, ceil_mode))


def avg_pool(
    x: TensorLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Mean over windows of channels-last images.

    Args:
        x: shape (N, spatial..., C).
        kernel_size, stride, padding, ceil_mode: as in `max_pool`; padding is of zeros.
        count_include_pad: whether padding counts as elements of the mean; what `ceil_mode` adds never does.
        divisor_override: divide each sum by this instead.

    >>> avg_pool(reshape(arange(4.0), (1, 2, 2, 1)), 2)[0, 0, 0]
    tensor([1.5])
    """
    x = asarray(x)
    x = x if x.dtype in dtypes.INEXACT else x.astype(dtypes.float32)
    how = _window("avg_pool", x, kernel_size, stride, padding, 1, ceil_mode)
    total = window.sum_pool(x, **how)
    if divisor_override is not None:
        if not divisor_override:
            raise ArgumentError("avg_pool", "the divisor must not be zero")
        return total / divisor_override
    plain = _window("avg_pool", x, kernel_size, stride, padding, 1)["padding"]
    if count_include_pad and plain == how["padding"]:
        return total / math.prod(how["window"])
    counted = [n + sum(p) for n, p in zip(x.shape[1:-1], plain, strict=True)] if count_include_pad else x.shape[1:-1]
    if count_include_pad:
        beyond = tuple((0, b - a) for (_, a), (_, b) in zip(plain, how["padding"], strict=True))
        how = how | {"padding": beyond}
    return total / window.sum_pool(ones((1, *counted, 1), x.dtype), **how)


def weighted_means(q: Tensor, k: Tensor, v: Tensor, masks: Sequence[Tensor], causal: bool, scale: float) -> Tensor:
    """Attention for `nn`, in one primitive; all axes but the last two broadcast, bool masks to the scores."""
    leading = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    whole = [broadcast_to(x, (*leading, *x.shape[-2:])) for x in (q, k, v)]
    seen = [broadcast_to(mask, (*leading, q.shape[-2], k.shape[-2])) for mask in masks]
    out: Tensor = attending.attention(*whole, *seen, causal=causal, scale=scale)[0]
    return out


def _window(
    operation: str, x: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool = False
) -> dict[str, Any]:
    d = x.ndim - 2
    if d < 1:
        raise ShapeError(
            operation, "needs an image (N, spatial..., C)", received=f"shape {x.shape}", fix="add axes with x[None]"
        )
    size = spread(operation, kernel_size, d, "kernel_size", 1)
    steps = size if stride is None else spread(operation, stride, d, "stride", 1)
    every = spread(operation, dilation, d, "dilation", 1)
    pairs = pad_pairs(operation, padding, size, steps, every, x.shape[1:-1])
    if any(max(pair) > dil * (k - 1) for pair, k, dil in zip(pairs, size, every, strict=True)):
        raise ArgumentError(
            operation,
            "padding is smaller than the window, so that none lies wholly in it",
            received=f"padding {pairs}, window {size}",
        )
    if ceil_mode:
        pairs = tuple(map(_room_for_last, x.shape[1:-1], size, steps, every, pairs))
    return {"window": size, "stride": steps, "padding": pairs, "dilation": every}


def _room_for_last(n: int, size: int, step: int, every: int, pair: tuple[int, int]) -> tuple[int, int]:
    """Padding under which a last window fits that is not wholly inside, if it begins before the end of the image."""
    before, after = pair
    span = every * (size - 1) + 1
    last = -(-(n + before + after - span) // step) * step  # where it begins, in the padded image
    if last >= n + before:
        last -= step
    return before, max(after, last + span - n - before)
