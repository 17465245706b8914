"""Rules of initial values; public as `chainrule.nn.init`, which describes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import functions as F
from ..errors import ArgumentError
from ..tensor import Tensor
from .initial import Rule

__all__ = [
    "calculate_gain", "constant", "dirac", "eye", "fans", "kaiming", "lecun", "normal", "orthogonal", "sparse",
    "truncated_normal", "uniform", "xavier",
]  # fmt: skip

# The standard deviation of a standard normal number, given that it lies in [-2, 2]:
# the root of 1 - 4 phi(2) / (2 Phi(2) - 1).
_TRUNCATED_STD = 0.8796256610342398


def constant(value: float) -> Rule:
    """All elements ``value``.

    >>> nn.init.parameter((2,), nn.init.constant(0.5))
    Parameter(tensor([0.5, 0.5]))
    """
    return lambda shape, dtype, generator: F.full(shape, value, dtype)


def uniform(bound: float) -> Rule:
    """Uniform in [-bound, bound).

    >>> bool((abs(nn.init.parameter((100,), nn.init.uniform(0.1))) <= 0.1).all())
    True
    """
    return lambda shape, dtype, generator: F.uniform(shape, -bound, bound, dtype, generator=generator)


def normal(std: float = 1.0, mean: float = 0.0) -> Rule:
    """Normal with the given standard deviation.

    >>> nn.init.parameter((2,), nn.init.normal(std=0.0, mean=3.0))
    Parameter(tensor([3., 3.]))
    """
    _positive("normal", std)
    return lambda shape, dtype, generator: F.normal(shape, mean, std, dtype, generator=generator)


def truncated_normal(std: float = 1.0, mean: float = 0.0, a: float = -2.0, b: float = 2.0) -> Rule:
    """Normal numbers, given that they lie in [a, b]; ``std`` is that before numbers are left out.

    >>> bool((abs(nn.init.parameter((100,), nn.init.truncated_normal())) <= 2.0).all())
    True
    """
    _positive("truncated_normal", std)
    ordered("truncated_normal", a, b)
    if std == 0:
        return constant(min(max(mean, a), b))
    return lambda shape, dtype, generator: F.truncated_normal(shape, mean, std, a, b, dtype, generator=generator)


def xavier(distribution: str = "uniform", gain: float = 1.0) -> Rule:
    """Mean 0 and variance ``gain^2 * 2 / (fan_in + fan_out)``: Glorot and Bengio (AISTATS 2010, equation 16).

    It is between what keeps the variance of the values forward, and of the gradients backward.

    Args:
        distribution: "uniform", "normal", or "truncated": normal numbers within two standard deviations of the normal
            distribution they are from, which is wider by 1 / 0.8796, so that the variance is the same.
        gain: a factor, see `calculate_gain`.

    Raises:
        ArgumentError: there is no such distribution; later, the weights have fewer than two axes.

    >>> w = nn.init.parameter((300, 500), nn.init.xavier("normal"))
    >>> print(f"{float(w.std()):.3f}")  # sqrt(2 / 800)
    0.050
    """
    return _scaled(distribution, lambda fan_in, fan_out: gain * math.sqrt(2 / max(fan_in + fan_out, 1)))


def kaiming(
    distribution: str = "uniform", a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Rule:
    """Mean 0 and variance ``gain^2 / fan``: He, Zhang, Ren, Sun (arXiv 1502.01852, equations 10 and 14).

    Args:
        distribution: "uniform", "normal" or "truncated", as in `xavier`.
        a: the slope of a leaky ReLU for negative numbers.
        mode: "fan_in" keeps the variance of values, "fan_out" that of gradients.
        nonlinearity: what follows the layer, as in `calculate_gain`.

    Raises:
        ArgumentError: a name is none of these; later, the weights have fewer than two axes.

    >>> w = nn.init.parameter((300, 800), nn.init.kaiming("normal", nonlinearity="relu"))
    >>> print(f"{float(w.std()):.3f}")  # sqrt(2 / 800)
    0.050
    """
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError("kaiming", "mode is 'fan_in' or 'fan_out'", received=repr(mode))
    gain, out = calculate_gain(nonlinearity, a), mode == "fan_out"
    return _scaled(distribution, lambda *both: gain / math.sqrt(max(both[out], 1)))


def lecun(distribution: str = "uniform", mode: str = "fan_in") -> Rule:
    """Mean 0 and variance ``1 / fan``: LeCun, Bottou, Orr, Müller (Efficient BackProp, 1998, equation 16).

    Args:
        distribution: "uniform", "normal" or "truncated", as in `xavier`.
        mode: "fan_in" or "fan_out".

    >>> w = nn.init.parameter((300, 400), nn.init.lecun("truncated"))
    >>> print(f"{float(w.std()):.3f}, at most {2 * 0.05 / 0.8796:.3f}: {bool((abs(w) < 0.114).all())}")
    0.050, at most 0.114: True
    """
    return kaiming(distribution, mode=mode, nonlinearity="linear")


def orthogonal(gain: float = 1.0) -> Rule:
    """Rows, or columns if there are fewer, orthonormal times ``gain``: Saxe, McClelland, Ganguli (arXiv 1312.6120).

    Weights of more than two axes count as a matrix with a row for each output. The matrix is the Q of a normal one,
    with the signs that make its distribution uniform (Mezzadri, arXiv math-ph/0609050).

    >>> w = nn.init.parameter((2, 3), nn.init.orthogonal())
    >>> bool(cr.allclose(w @ w.T, cr.eye(2), atol=1e-6))
    True
    """

    def rule(shape: tuple[int, ...], dtype: Any, generator: F.Generator) -> Tensor:
        from ..functions.linalg import diagonal, qr  # not at the top: few need it

        _axes("orthogonal", shape, "at least 2", len(shape) >= 2)
        rows, cols = shape[0], math.prod(shape[1:])
        noise = F.normal((max(rows, cols), min(rows, cols)), dtype="float64", generator=generator)
        q, r = qr(noise)
        q = q * F.where(diagonal(r) < 0, -1.0, 1.0)
        return F.reshape(gain * (q if rows >= cols else q.T), shape).astype(dtype)

    return rule


def sparse(sparsity: float, std: float = 0.01) -> Rule:
    """Normal, with a fraction ``sparsity`` of each column of a matrix 0: Martens (ICML 2010).

    Args:
        sparsity: a fraction, 0 to 1; the number of zeros is rounded up.
        std: of the others.

    >>> w = nn.init.parameter((10, 3), nn.init.sparse(0.75))
    >>> (w == 0).sum(axis=0)
    tensor([8, 8, 8])
    """
    if not 0 <= sparsity <= 1:
        raise ArgumentError("sparse", "sparsity is a fraction, 0 to 1", received=repr(sparsity))
    _positive("sparse", std)

    def rule(shape: tuple[int, ...], dtype: Any, generator: F.Generator) -> Tensor:
        _axes("sparse", shape, "2", len(shape) == 2)
        values = F.normal(shape, 0.0, std, dtype, generator=generator)
        order = F.argsort(F.uniform(shape, generator=generator), axis=0)  # each column a permutation of the rows
        return F.where(order < math.ceil(sparsity * shape[0]), 0.0, values)

    return rule


def eye() -> Rule:
    """1 on the diagonal of a matrix, 0 beside it, so that a linear layer returns what it is given.

    >>> nn.init.parameter((2, 3), nn.init.eye())
    Parameter(tensor([[1., 0., 0.],
            [0., 1., 0.]]))
    """

    def rule(shape: tuple[int, ...], dtype: Any, generator: F.Generator) -> Tensor:
        _axes("eye", shape, "2", len(shape) == 2)
        return F.eye(shape[0], shape[1], dtype=dtype)

    return rule


def dirac(groups: int = 1) -> Rule:
    """Kernels (out, kernel..., in / groups) with a 1 in the middle, so that a convolution keeps channel i as channel i.

    Channels beyond the number of inputs of a group are 0.

    Args:
        groups: those of the convolution; each keeps its channels.

    >>> nn.init.parameter((2, 3, 2), nn.init.dirac()).detach()[0]
    tensor([[0., 0.],
            [1., 0.],
            [0., 0.]])
    """

    def rule(shape: tuple[int, ...], dtype: Any, generator: F.Generator) -> Tensor:
        _axes("dirac", shape, "3, 4 or 5", len(shape) in (3, 4, 5))
        if groups < 1 or shape[0] % groups:
            received = f"{shape[0]} channels, {groups} groups"
            raise ArgumentError("dirac", "the groups must divide the number of output channels", received=received)
        middle = tuple(size // 2 for size in shape[1:-1])
        channels = F.tile(F.eye(shape[0] // groups, shape[-1], dtype=dtype), (groups, 1))
        return F.zeros(shape, dtype).at[(slice(None), *middle)].set(channels)

    return rule


def _scaled(distribution: str, std: Callable[[int, int], float]) -> Rule:
    """Mean 0, and the standard deviation that ``std`` gives for fan-in and fan-out."""
    made: dict[str, Callable[[float], Rule]] = {
        "uniform": lambda s: uniform(math.sqrt(3) * s),
        "normal": normal,
        "truncated": lambda s: truncated_normal(*(s / _TRUNCATED_STD * k for k in (1, 0, -2, 2))),
    }
    if distribution not in made:
        raise ArgumentError("init", "the distribution is one of " + ", ".join(made), received=repr(distribution))
    return lambda shape, dtype, generator: made[distribution](std(*fans(shape)))(shape, dtype, generator)


def _positive(operation: str, std: float) -> None:
    if std < 0:
        raise ArgumentError(operation, "a standard deviation is not negative", received=repr(std))


def ordered(operation: str, a: float, b: float) -> None:
    if not a <= b:
        raise ArgumentError(operation, "the lower bound is above the upper one", received=f"a={a}, b={b}")


def _axes(operation: str, shape: tuple[int, ...], wanted: str, fits: bool) -> None:
    if not fits:
        raise ArgumentError(operation, f"the weights have {wanted} axes", received=f"shape {shape}")


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor by which an activation asks for larger weights.

    1 for linear layers, convolutions and the sigmoid, 5/3 for tanh, sqrt(2) for ReLU, ``sqrt(2 / (1 + slope^2))`` for
    leaky ReLU, 3/4 for SELU.

    Args:
        nonlinearity: "linear", "conv1d" and the like, "sigmoid", "tanh", "relu", "leaky_relu" or "selu".
        param: the slope of leaky ReLU, 0.01 if not given.

    >>> nn.init.calculate_gain("tanh")
    1.6666666666666667
    """
    slope = 0.01 if param is None else param
    gains = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}
    gains |= {f"conv{kind}{d}d": 1.0 for kind in ("", "_transpose") for d in (1, 2, 3)}
    gains["leaky_relu"] = math.sqrt(2 / (1 + slope**2))
    if nonlinearity not in gains:
        raise ArgumentError("calculate_gain", "is one of " + ", ".join(gains), received=repr(nonlinearity))
    return gains[nonlinearity]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (fan_in, fan_out): inputs of one output, and outputs of one input, for weights (out, kernel..., in).

    As in PyTorch, the shape alone decides. So with ``groups`` the second counts the outputs of all groups, and
    for a transposed convolution, whose weights are (in, kernel..., out), the two change places: ``mode="fan_out"``
    is there what ``mode="fan_in"`` is elsewhere.

    >>> nn.init.fans(nn.Linear(3, 5).weight.shape), nn.init.fans(nn.Conv2d(3, 5, 2).weight.shape)
    ((3, 5), (12, 20))
    >>> nn.init.fans(nn.Conv2d(4, 8, 3, groups=2).weight.shape)
    (18, 72)
    >>> nn.init.fans(nn.ConvTranspose2d(3, 5, 2).weight.shape)
    (20, 12)
    """
    _axes("init", shape, "at least 2", len(shape) >= 2)
    receptive = math.prod(shape[1:-1])
    return shape[-1] * receptive, shape[0] * receptive
