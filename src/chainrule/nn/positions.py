"""Where in a sequence an element is: sinusoids that are added, and rotations of queries and keys.

Learned positions are an `Embedding` of ``arange(T)``.
"""

from __future__ import annotations

from .. import functions as F
from ..dtypes import FLOATING
from ..errors import ArgumentError, DTypeError, ShapeError
from ..tensor import Tensor, TensorLike
from .module import Module

__all__ = ["rotary"]


def _angles(length: int, offset: TensorLike, size: int, base: float) -> Tensor:
    """``(offset + t) base^(-2 i / size)`` for positions t and i below size / 2, in float64: they become large."""
    position = F.astype(F.asarray(offset) + F.arange(length), "float64")
    return position[:, None] * F.exp(F.arange(0, size, 2, "float64") * (-F.log(F.asarray(base, "float64")) / size))


def _check(operation: str, x: TensorLike, size: int | None, offset: TensorLike) -> Tensor:
    x = F.asarray(x)
    if x.dtype not in FLOATING:
        raise DTypeError(operation, "needs floating numbers", received=x.dtype.name)
    if x.ndim < 2 or x.shape[-1] % 2 or x.shape[-1] != (size or x.shape[-1]):
        raise ShapeError(operation, f"needs shape (..., T, {size or 'an even number'})", received=f"shape {x.shape}")
    if F.asarray(offset).ndim:
        raise ShapeError(operation, "the offset is one number", received=f"shape {F.asarray(offset).shape}")
    return x


def rotary(input: TensorLike, offset: TensorLike = 0, base: float = 10000.0) -> Tensor:
    """Turn each pair of neighbouring features by an angle that grows with the position (Su et al., arXiv 2104.09864).

    At position t the pair ``(x_2i, x_2i+1)`` is turned by ``t base^(-2 i / D)``. So the product of a query and a key
    depends on the distance between them, not on where they are.

    Args:
        input: queries or keys, shape (..., T, D), D even.
        offset: the position of the first one; a tensor too, such as the length of a `KVCache`.
        base: the larger, the slower the last pairs turn.

    Raises:
        ShapeError: the number of features is odd.

    >>> nn.functional.rotary(cr.tensor([[1.0, 0.0], [1.0, 0.0]]))
    tensor([[1.        , 0.        ],
            [0.5403023 , 0.84147096]])
    """
    x = _check("rotary", input, None, offset)
    angles = _angles(x.shape[-2], offset, x.shape[-1], base)
    cos, sin = F.astype(F.cos(angles), x.dtype), F.astype(F.sin(angles), x.dtype)
    pairs = F.reshape(x, (*x.shape[:-1], x.shape[-1] // 2, 2))
    a, b = pairs[..., 0], pairs[..., 1]
    return F.reshape(F.stack([a * cos - b * sin, a * sin + b * cos], axis=-1), x.shape)


class RotaryEmbedding(Module):
    """Positions by rotation of queries and keys; see `chainrule.nn.functional.rotary`.

    Args:
        dim: features of a head, D.
        base: the larger, the slower the last pairs turn.

    >>> nn.RotaryEmbedding(4)(cr.ones((2, 8, 5, 4))).shape
    (2, 8, 5, 4)
    """

    def __init__(self, dim: int, base: float = 10000.0) -> None:
        if dim < 2 or dim % 2:
            raise ArgumentError("RotaryEmbedding", "dim is even: features are turned in pairs", received=repr(dim))
        self.dim, self.base = dim, base

    def forward(self, x: TensorLike, offset: TensorLike = 0) -> Tensor:
        """(..., T, dim), position of the first -> (..., T, dim)."""
        return rotary(_check("RotaryEmbedding", x, self.dim, offset), offset, self.base)

    def extra_repr(self) -> str:
        """Features."""
        return f"{self.dim}"


class SinusoidalPositions(Module):
    """Add waves of different lengths to the features (Vaswani et al., arXiv 1706.03762, section 3.5).

    ``x_(t, 2i) + sin(t base^(-2 i / D))`` and ``x_(t, 2i+1) + cos(t base^(-2 i / D))``.

    Args:
        dim: features D, an even number.
        base: of the wavelengths, which go from 2 pi to ``2 pi base``.

    >>> nn.SinusoidalPositions(4)(cr.zeros((1, 2, 4)))
    tensor([[[0.        , 1.        , 0.        , 1.        ],
             [0.84147096, 0.5403023 , 0.00999983, 0.99995   ]]])
    """

    def __init__(self, dim: int, base: float = 10000.0) -> None:
        if dim < 2 or dim % 2:
            raise ArgumentError("SinusoidalPositions", "dim is even: each wave has two phases", received=repr(dim))
        self.dim, self.base = dim, base

    def forward(self, x: TensorLike, offset: TensorLike = 0) -> Tensor:
        """(..., T, dim), position of the first -> (..., T, dim)."""
        x = _check("SinusoidalPositions", x, self.dim, offset)
        angles = _angles(x.shape[-2], offset, self.dim, self.base)
        waves = F.reshape(F.stack([F.sin(angles), F.cos(angles)], axis=-1), x.shape[-2:])
        return x + F.astype(waves, x.dtype)

    def extra_repr(self) -> str:
        """Features."""
        return f"{self.dim}"
