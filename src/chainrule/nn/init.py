"""Initial values of parameters.

A rule ``rule(shape, dtype, generator)`` makes a tensor, for `parameter`; the functions with an underscore assign to a
parameter that exists, as in PyTorch. Parameters of layers are made when they are first needed, each from a stream of
random numbers of its own that depends on the seed and on the parameter's path in the model: adding a layer changes no
other.

Three families draw numbers of mean 0 whose standard deviation depends on the shape of the weights; see `fans`:

| family | standard deviation | for |
|---|---|---|
| `xavier` (Glorot) | ``gain sqrt(2 / (fan_in + fan_out))`` | tanh and other odd functions |
| `kaiming` (He) | ``gain / sqrt(fan_in)`` | ReLU and its relatives |
| `lecun` | ``1 / sqrt(fan_in)`` | SELU, and linear layers |

each of them uniform, normal, or normal without what lies beyond two standard deviations ("truncated").
"""

from __future__ import annotations

from .. import functions as F
from ..tensor import Parameter
from . import init_rules
from .init_rules import *  # noqa: F403
from .init_rules import constant, dirac, eye, kaiming, lecun, normal, orthogonal, sparse, truncated_normal, xavier
from .initial import Rule, parameter

__all__ = [
    "Rule", "constant_", "dirac_", "eye_", "kaiming_normal_", "kaiming_truncated_", "kaiming_uniform_", "lecun_normal_",
    "lecun_truncated_", "lecun_uniform_", "normal_", "ones_", "orthogonal_", "parameter", "sparse_", "trunc_normal_",
    "uniform_", "xavier_normal_", "xavier_truncated_", "xavier_uniform_", "zeros_",
]  # fmt: skip
__all__ += init_rules.__all__


def _assign(p: Parameter, rule: Rule, generator: F.Generator | None = None) -> Parameter:
    p.assign(rule(p.shape, p.dtype, F.default_generator if generator is None else generator))
    return p


def uniform_(p: Parameter, a: float = 0.0, b: float = 1.0, generator: F.Generator | None = None) -> Parameter:
    """Fill with random numbers uniform in [a, b).

    >>> w = nn.init.uniform_(nn.Linear(3, 2).weight, 1.0, 2.0)
    >>> bool(((w >= 1.0) & (w < 2.0)).all())
    True
    """
    init_rules.ordered("uniform_", a, b)
    return _assign(p, lambda shape, dtype, g: F.uniform(shape, a, b, dtype, generator=g), generator)


def normal_(p: Parameter, mean: float = 0.0, std: float = 1.0, generator: F.Generator | None = None) -> Parameter:
    """Fill with normal random numbers.

    >>> nn.init.normal_(nn.Linear(2, 1).weight, mean=3.0, std=0.0)
    Parameter(tensor([[3., 3.]]))
    """
    return _assign(p, normal(std, mean), generator)


def trunc_normal_(
    p: Parameter,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: F.Generator | None = None,
) -> Parameter:
    """Fill with normal random numbers that lie in [a, b]; ``std`` is that before others are left out.

    >>> bool((nn.init.trunc_normal_(nn.Linear(3, 2).weight, b=0.0) <= 0.0).all())
    True
    """
    return _assign(p, truncated_normal(std, mean, a, b), generator)


def constant_(p: Parameter, val: float) -> Parameter:
    """Fill with one value.

    >>> nn.init.constant_(nn.Linear(2, 1).bias, 0.5)
    Parameter(tensor([0.5]))
    """
    return _assign(p, constant(val))


def zeros_(p: Parameter) -> Parameter:
    """Fill with zeros.

    >>> nn.init.zeros_(nn.Linear(2, 1).bias)
    Parameter(tensor([0.]))
    """
    return constant_(p, 0.0)


def ones_(p: Parameter) -> Parameter:
    """Fill with ones.

    >>> nn.init.ones_(nn.Linear(2, 1).bias)
    Parameter(tensor([1.]))
    """
    return constant_(p, 1.0)


def eye_(p: Parameter) -> Parameter:
    """Fill a matrix as `eye` does.

    >>> nn.init.eye_(nn.Linear(2, 2).weight)
    Parameter(tensor([[1., 0.],
            [0., 1.]]))
    """
    return _assign(p, eye())


def dirac_(p: Parameter, groups: int = 1) -> Parameter:
    """Fill the kernels of a convolution as `dirac` does, so that it keeps its input.

    >>> conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)
    >>> _ = nn.init.dirac_(conv.weight)
    >>> conv(cr.tensor([[[1.0], [2.0]]])).tolist()
    [[[1.0], [2.0]]]
    """
    return _assign(p, dirac(groups))


def sparse_(p: Parameter, sparsity: float, std: float = 0.01, generator: F.Generator | None = None) -> Parameter:
    """Fill a matrix as `sparse` does.

    >>> (nn.init.sparse_(nn.Linear(3, 4).weight, 0.5) == 0).sum(axis=0)
    tensor([2, 2, 2])
    """
    return _assign(p, sparse(sparsity, std), generator)


def orthogonal_(p: Parameter, gain: float = 1.0, generator: F.Generator | None = None) -> Parameter:
    """Fill as `orthogonal` does.

    >>> w = nn.init.orthogonal_(nn.Linear(2, 2).weight)
    >>> print(f"{abs(float(cr.linalg.det(w))):.3f}")
    1.000
    """
    return _assign(p, orthogonal(gain), generator)


def xavier_uniform_(p: Parameter, gain: float = 1.0, generator: F.Generator | None = None) -> Parameter:
    """Uniform in ``+-gain sqrt(6 / (fan_in + fan_out))``; see `xavier`.

    >>> print(f"{float(nn.init.xavier_uniform_(nn.Linear(500, 300).weight).std()):.3f}")
    0.050
    """
    return _assign(p, xavier("uniform", gain), generator)


def xavier_normal_(p: Parameter, gain: float = 1.0, generator: F.Generator | None = None) -> Parameter:
    """Normal with standard deviation ``gain sqrt(2 / (fan_in + fan_out))``; see `xavier`.

    >>> print(f"{float(nn.init.xavier_normal_(nn.Linear(500, 300).weight).std()):.3f}")
    0.050
    """
    return _assign(p, xavier("normal", gain), generator)


def xavier_truncated_(p: Parameter, gain: float = 1.0, generator: F.Generator | None = None) -> Parameter:
    """Truncated normal with standard deviation ``gain sqrt(2 / (fan_in + fan_out))``; see `xavier`.

    >>> print(f"{float(nn.init.xavier_truncated_(nn.Linear(500, 300).weight).std()):.3f}")
    0.050
    """
    return _assign(p, xavier("truncated", gain), generator)


def kaiming_uniform_(
    p: Parameter,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: F.Generator | None = None,
) -> Parameter:
    """Uniform in ``+-gain sqrt(3 / fan)``; see `kaiming`.

    >>> print(f"{float(nn.init.kaiming_uniform_(nn.Linear(500, 300).weight).std()):.3f}")
    0.063
    """
    return _assign(p, kaiming("uniform", a, mode, nonlinearity), generator)


def kaiming_normal_(
    p: Parameter,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: F.Generator | None = None,
) -> Parameter:
    """Normal with standard deviation ``gain / sqrt(fan)``; see `kaiming`.

    >>> print(f"{float(nn.init.kaiming_normal_(nn.Linear(500, 300).weight).std()):.3f}")
    0.063
    """
    return _assign(p, kaiming("normal", a, mode, nonlinearity), generator)


def kaiming_truncated_(
    p: Parameter,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: F.Generator | None = None,
) -> Parameter:
    """Truncated normal with standard deviation ``gain / sqrt(fan)``; see `kaiming`.

    >>> print(f"{float(nn.init.kaiming_truncated_(nn.Linear(500, 300).weight).std()):.3f}")
    0.063
    """
    return _assign(p, kaiming("truncated", a, mode, nonlinearity), generator)


def lecun_uniform_(p: Parameter, mode: str = "fan_in", generator: F.Generator | None = None) -> Parameter:
    """Uniform in ``+-sqrt(3 / fan)``; see `lecun`.

    >>> print(f"{float(nn.init.lecun_uniform_(nn.Linear(500, 300).weight).std()):.3f}")
    0.045
    """
    return _assign(p, lecun("uniform", mode), generator)


def lecun_normal_(p: Parameter, mode: str = "fan_in", generator: F.Generator | None = None) -> Parameter:
    """Normal with standard deviation ``1 / sqrt(fan)``; see `lecun`.

    >>> print(f"{float(nn.init.lecun_normal_(nn.Linear(500, 300).weight).std()):.3f}")
    0.045
    """
    return _assign(p, lecun("normal", mode), generator)


def lecun_truncated_(p: Parameter, mode: str = "fan_in", generator: F.Generator | None = None) -> Parameter:
    """Truncated normal with standard deviation ``1 / sqrt(fan)``; see `lecun`.

    >>> print(f"{float(nn.init.lecun_truncated_(nn.Linear(500, 300).weight).std()):.3f}")
    0.045
    """
    return _assign(p, lecun("truncated", mode), generator)
