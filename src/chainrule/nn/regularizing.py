"""What is random while a network trains: dropout of elements, channels and branches, as functions and layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import functions as F
from ..errors import ArgumentError, ShapeError
from ..tensor import Tensor, TensorLike
from .module import Module

__all__ = [
    "alpha_dropout", "drop_path", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout", "rrelu",
]  # fmt: skip


def _checked(operation: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise ArgumentError(operation, "p is a probability, 0 to 1", received=repr(p))


def dropout(
    input: TensorLike, p: float = 0.5, training: bool = True, *, generator: F.Generator | None = None
) -> Tensor:
    """Set elements to zero with probability ``p`` and divide the others by ``1 - p``, when training.

    Srivastava et al., JMLR 15 (2014). The mask depends on the generator's seed and draw number alone.

    >>> nn.functional.dropout(cr.ones((3,)), 0.5, training=False)
    tensor([1., 1., 1.])
    """
    x = F.asarray(input)
    return _dropped("dropout", x, x.shape, p, training, generator)


def _zeroed(kept: Tensor, x: Tensor, p: float) -> Tensor:
    return F.where(kept, x * (1 / (1 - p)), 0.0)


def _as_selu(kept: Tensor, x: Tensor, p: float) -> Tensor:
    low = -1.7580993408473766  # -scale * alpha of selu
    a = ((1 - p) * (1 + p * low**2)) ** -0.5
    return a * F.where(kept, x, low) - a * low * p


def _dropped(
    operation: str, x: Tensor, mask: tuple[int, ...], p: float, training: bool, generator: F.Generator | None,
    formula: Callable[[Tensor, Tensor, float], Tensor] = _zeroed,
) -> Tensor:  # fmt: skip
    _checked(operation, p)
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0
    return formula(F.dropout_mask(mask, p, generator=generator), x, p)


def _channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a mask with one element for each channel of each sample."""
    return (shape[0], *(1,) * (len(shape) - 2), shape[-1])


def _channel_dropout(d: int) -> Any:
    name = f"dropout{d}d"

    def dropout(
        input: TensorLike, p: float = 0.5, training: bool = True, *, generator: F.Generator | None = None
    ) -> Tensor:
        x = F.asarray(input)
        if x.ndim != d + 2:
            raise ShapeError(name, f"needs a batch of images with {d} spatial axes", received=f"shape {x.shape}")
        return _dropped(name, x, _channels(x.shape), p, training, generator)

    dropout.__name__ = dropout.__qualname__ = name
    dropout.__doc__ = f"Dropout of whole channels of images with {d} spatial axes (Tompson et al., arXiv 1411.4280)."
    return dropout


dropout1d, dropout2d, dropout3d = map(_channel_dropout, (1, 2, 3))


def alpha_dropout(
    input: TensorLike, p: float = 0.5, training: bool = False, *, generator: F.Generator | None = None
) -> Tensor:
    """Dropout that keeps mean and variance of what `selu` gives (Klambauer et al., arXiv 1706.02515).

    >>> nn.functional.alpha_dropout(cr.ones((3,)), 0.5, training=False)
    tensor([1., 1., 1.])
    """
    x = F.asarray(input)
    return _dropped("alpha_dropout", x, x.shape, p, training, generator, _as_selu)


def feature_alpha_dropout(
    input: TensorLike, p: float = 0.5, training: bool = False, *, generator: F.Generator | None = None
) -> Tensor:
    """`alpha_dropout` of whole channels of (N, ..., C).

    >>> nn.functional.feature_alpha_dropout(cr.ones((1, 3)), 0.5, training=False)
    tensor([[1., 1., 1.]])
    """
    x = F.asarray(input)
    if x.ndim < 2:
        raise ShapeError("feature_alpha_dropout", "needs a batch (N, ..., C)", received=f"shape {x.shape}")
    return _dropped("feature_alpha_dropout", x, _channels(x.shape), p, training, generator, _as_selu)


def drop_path(
    input: TensorLike, p: float = 0.5, training: bool = True, *, generator: F.Generator | None = None
) -> Tensor:
    """Set whole samples to zero with probability ``p`` and divide the others by ``1 - p``, when training.

    On the branch of a residual block this is stochastic depth (Huang et al., arXiv 1603.09382).

    >>> nn.functional.drop_path(cr.ones((3,)), 0.5, training=False)
    tensor([1., 1., 1.])
    """
    x = F.asarray(input)
    if not x.ndim:
        raise ShapeError("drop_path", "needs a batch (N, ...)", received="a scalar")
    return _dropped("drop_path", x, (x.shape[0], *(1,) * (x.ndim - 1)), p, training, generator)


def rrelu(
    input: TensorLike,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
    *,
    generator: F.Generator | None = None,
) -> Tensor:
    """``x`` above 0, ``a x`` below, ``a`` uniform in [lower, upper) when training, its mean otherwise.

    Xu et al., arXiv 1505.00853. Each element has an ``a`` of its own.

    >>> nn.functional.rrelu(cr.tensor([-2.0, 2.0]), 0.0, 1.0)
    tensor([-1.,  2.])
    """
    x = F.asarray(input)
    if not lower <= upper:
        raise ArgumentError("rrelu", "lower must not be above upper", received=f"{lower} and {upper}")
    slope: Any = (lower + upper) / 2
    if training:
        slope = F.uniform(x.shape, lower, upper, x.dtype, generator=generator)
    return F.where(x > 0, x, x * slope)


# --- layers -----------------------------------------------------------------------------------------------


class Dropout(Module):
    """Set elements to zero with probability ``p`` while training; see `chainrule.nn.functional.dropout`.

    >>> nn.Dropout(0.5).eval()(cr.ones((3,)))
    tensor([1., 1., 1.])
    """

    def __init__(self, p: float = 0.5, inplace: bool = False, *, generator: F.Generator | None = None) -> None:
        _checked(type(self).__name__, p)
        self.p = p
        self.generator = generator

    def forward(self, x: TensorLike) -> Tensor:
        """(...) -> (...)."""
        return dropout(x, self.p, self.training, generator=self.generator)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


class Dropout1d(Dropout):
    """Dropout of whole channels of (N, L, C) while training.

    >>> nn.Dropout1d(0.5).eval()(cr.ones((1, 1, 2)))
    tensor([[[1., 1.]]])
    """

    def forward(self, x: TensorLike) -> Tensor:
        """(N, L, C) -> (N, L, C)."""
        return dropout1d(x, self.p, self.training, generator=self.generator)


class Dropout2d(Dropout):
    """Dropout of whole channels of (N, H, W, C) while training (Tompson et al., arXiv 1411.4280)."""

    def forward(self, x: TensorLike) -> Tensor:
        """(N, H, W, C) -> (N, H, W, C)."""
        return dropout2d(x, self.p, self.training, generator=self.generator)


class Dropout3d(Dropout):
    """Dropout of whole channels of (N, D, H, W, C) while training."""

    def forward(self, x: TensorLike) -> Tensor:
        """(N, D, H, W, C) -> (N, D, H, W, C)."""
        return dropout3d(x, self.p, self.training, generator=self.generator)


class AlphaDropout(Dropout):
    """Dropout for networks of `SELU`; see `chainrule.nn.functional.alpha_dropout`.

    >>> nn.AlphaDropout(0.5).eval()(cr.ones((3,)))
    tensor([1., 1., 1.])
    """

    def forward(self, x: TensorLike) -> Tensor:
        """(...) -> (...)."""
        return alpha_dropout(x, self.p, self.training, generator=self.generator)


class FeatureAlphaDropout(Dropout):
    """`AlphaDropout` of whole channels; see `chainrule.nn.functional.feature_alpha_dropout`.

    >>> nn.FeatureAlphaDropout(0.5).eval()(cr.ones((1, 3)))
    tensor([[1., 1., 1.]])
    """

    def forward(self, x: TensorLike) -> Tensor:
        """(N, ..., C) -> (N, ..., C)."""
        return feature_alpha_dropout(x, self.p, self.training, generator=self.generator)


class DropPath(Dropout):
    """Leave out the branch of a residual block for whole samples (Huang et al., arXiv 1603.09382) while training.

    >>> nn.Residual(nn.Sequential(nn.Linear(4, 4), nn.DropPath(0.1)))(cr.ones((2, 4))).shape
    (2, 4)
    """

    def forward(self, x: TensorLike) -> Tensor:
        """(N, ...) -> (N, ...)."""
        return drop_path(x, self.p, self.training, generator=self.generator)


class RReLU(Module):
    """`LeakyReLU` whose slope is random while training; see `chainrule.nn.functional.rrelu`.

    >>> nn.RReLU(0.0, 1.0).eval()(cr.tensor([-2.0, 2.0]))
    tensor([-1.,  2.])
    """

    def __init__(
        self,
        lower: float = 1 / 8,
        upper: float = 1 / 3,
        inplace: bool = False,
        *,
        generator: F.Generator | None = None,
    ) -> None:
        self.lower, self.upper = lower, upper
        self.generator = generator

    def forward(self, x: TensorLike) -> Tensor:
        """(...) -> (...)."""
        return rrelu(x, self.lower, self.upper, self.training, generator=self.generator)

    def extra_repr(self) -> str:
        """The bounds of the slope."""
        return f"lower={self.lower}, upper={self.upper}"
