"""Discrete Fourier transforms along one axis.

With ``w = e^(-2 pi i / n)`` the transform is the matrix ``W[k, j] = w^(k j)``, which is symmetric. For the gradient
``dL/da + i dL/db`` of a real loss by ``a + ib`` the transpose of a complex linear map is its conjugate transpose, so
each transform here goes backward by the inverse one, scaled. The transforms of real signals keep half of a spectrum
that is symmetric, ``y[n - k] = conj(y[k])``: there every frequency but 0 and n/2 stands for two.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..errors import ArgumentError, ShapeError
from ..graph.ir import TensorType
from ..registry import F
from .base import Array, check_dtype, primitive
from .batching import shifted


def check_length(operation: str, n: int) -> None:
    """Raise `ArgumentError` unless a transform of ``n`` points exists."""
    if n < 1:
        raise ArgumentError(operation, "needs at least one point along the axis", received=f"n={n}")


def _resized(x: Any, axis: int, n: int) -> tuple[int, ...]:
    return (*x.shape[:axis], n, *x.shape[axis + 1 :])


def _complex_types(x: Any, *, axis: int) -> TensorType:
    check_dtype("fft", x.dtype, dtypes.COMPLEX)
    check_length("fft", x.shape[axis])
    return TensorType(tuple(x.shape), x.dtype)


def _rfft_types(x: Any, *, axis: int) -> TensorType:
    check_dtype("rfft", x.dtype, dtypes.FLOATING)
    check_length("rfft", x.shape[axis])
    return TensorType(_resized(x, axis, x.shape[axis] // 2 + 1), dtypes.complex_of(x.dtype))


def _irfft_types(x: Any, *, axis: int, n: int) -> TensorType:
    check_dtype("irfft", x.dtype, dtypes.COMPLEX)
    check_length("irfft", n)
    if x.shape[axis] != n // 2 + 1:
        received = f"{x.shape[axis]} along axis {axis}"
        raise ShapeError("irfft", f"{n} points have a spectrum of {n // 2 + 1}", received=received)
    return TensorType(_resized(x, axis, n), dtypes.real_of(x.dtype))


def _multiplicity(n, axis, like):
    """How many frequencies of the full spectrum each one of the half stands for, along ``axis``."""
    count = np.full(n // 2 + 1, 2.0)
    count[0] = 1
    if n % 2 == 0:
        count[-1] = 1
    shape = tuple(count.size if a == axis else 1 for a in range(like.ndim))
    return F.asarray(count.reshape(shape), dtype=dtypes.real_of(like.dtype))


@primitive(
    _complex_types,
    vjp=(lambda ct, out, x, *, axis: ifft(ct, axis=axis) * x.shape[axis],),  # W^H = n W^-1
    linear=(0,),
    batching=shifted("axis"),
)
def fft(x: Array, *, axis: int) -> Array:
    """``y[k] = sum over j of x[j] e^(-2 pi i k j / n)``."""
    return np.fft.fft(x, axis=axis)


@primitive(
    _complex_types,
    vjp=(lambda ct, out, x, *, axis: fft(ct, axis=axis) / x.shape[axis],),  # W^-H = W / n
    linear=(0,),
    batching=shifted("axis"),
)
def ifft(x: Array, *, axis: int) -> Array:
    """``x[j] = sum over k of y[k] e^(2 pi i k j / n) / n``."""
    return np.fft.ifft(x, axis=axis)


def _rfft_vjp(ct, out, x, *, axis):
    # Re(W^H ct) over the half; irfft counts the frequencies between 0 and n/2 twice.
    n = x.shape[axis]
    return irfft(ct / _multiplicity(n, axis, ct), axis=axis, n=n) * n


@primitive(_rfft_types, vjp=(_rfft_vjp,), linear=(0,), batching=shifted("axis"))
def rfft(x: Array, *, axis: int) -> Array:
    """The first ``n // 2 + 1`` elements of the transform of a real signal."""
    return np.fft.rfft(x, axis=axis)


def _irfft_vjp(ct, out, x, *, axis, n):
    # The signal is real, so the result at 0 and n/2 is: the imaginary parts there, which irfft ignores, get 0.
    return rfft(ct, axis=axis) * _multiplicity(n, axis, x) / n


@primitive(_irfft_types, vjp=(_irfft_vjp,), linear=(0,), batching=shifted("axis"))
def irfft(x: Array, *, axis: int, n: int) -> Array:
    """The real signal of ``n`` points whose transform begins with ``x``; imaginary parts at 0 and n/2 are ignored."""
    return np.fft.irfft(x, n, axis=axis)
