"""Weights computed from other parameters at each use: weight normalization and spectral normalization.

The parameter under a name gives way to a module in ``layer.parametrizations``, which computes the weight whenever
``layer.weight`` is read. What it is computed from are ordinary parameters and buffers: trained, saved, converted.
"""

from __future__ import annotations

from typing import Any

from .. import functions as F
from ..errors import ArgumentError, ShapeError
from ..tensor import Cell, Parameter, Tensor
from .containers import ModuleDict
from .functional import normalize
from .initial import Initial
from .module import Module


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Split a weight into length and direction, ``w = g v / |v|`` (Salimans and Kingma, arXiv 1602.07868).

    ``module.parametrizations[name]`` has the parameters ``original0`` (g) and ``original1`` (v), PyTorch's names; v is
    the parameter that was there. A loss does not depend on the length of v, and the weight starts as it was.

    Args:
        module: a layer.
        name: of its weight.
        dim: the axis with a length for each place: 0 the outputs, also of convolutions here; None for one length.

    Returns:
        the module.

    Raises:
        ArgumentError: there is no such parameter.

    >>> layer = nn.utils.weight_norm(nn.Linear(3, 2))
    >>> [(name, p.shape) for name, p in layer.parametrizations["weight"].named_parameters()]
    [('original0', (2, 1)), ('original1', (2, 3))]
    """
    return _replace(module, name, _WeightNorm(module, name, dim))


def spectral_norm(
    module: Module,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> Module:
    """Divide a weight by its largest singular value, as estimated (Miyato et al., arXiv 1802.05957).

    ``w / sigma``, ``sigma = u^T W v``, W the weight as a matrix. In training mode each use first moves the buffers on
    by power iteration, ``u = W v / |W v|`` and ``v = W^T u / |W^T u|``, not differentiated; they start from 15 such
    steps. ``module.parametrizations[name]`` has the parameter ``original`` and the buffers ``u`` and ``v``.

    Args:
        module: a layer.
        name: of its weight.
        n_power_iterations: at each use.
        eps: bounds the lengths that are divided by.
        dim: the axis that becomes the rows of W; the outputs of the layer unless given.

    Returns:
        the module.

    Raises:
        ArgumentError: there is no such parameter.
        ShapeError: it is a vector.

    >>> layer = nn.utils.spectral_norm(nn.Linear(3, 3))
    >>> for _ in range(100):
    ...     _ = layer(cr.ones((1, 3)))
    >>> print(f"{float(cr.linalg.matrix_norm(layer.eval().weight, ord=2)):.3f}")
    1.000
    """
    if dim is None:
        dim = -1 if getattr(module, "transposed", False) else 0
    return _replace(module, name, _SpectralNorm(module, name, n_power_iterations, eps, dim))


def remove_weight_norm(module: Module, name: str = "weight") -> Module:
    """Make the weight that `weight_norm` computes a parameter again, and return the module.

    >>> layer = nn.utils.remove_weight_norm(nn.utils.weight_norm(nn.Linear(3, 2)))
    >>> [name for name, _ in layer.named_parameters()]
    ['bias', 'weight']
    """
    return _remove(module, name, _WeightNorm)


def remove_spectral_norm(module: Module, name: str = "weight") -> Module:
    """Make the weight that `spectral_norm` computes, by u and v as they are, a parameter again; return the module.

    >>> layer = nn.utils.remove_spectral_norm(nn.utils.spectral_norm(nn.Linear(3, 2)))
    >>> [name for name, _ in layer.named_parameters()]
    ['bias', 'weight']
    """
    return _remove(module, name, _SpectralNorm)


class _WeightNorm(Module):
    def __init__(self, module: Module, name: str, dim: int | None) -> None:
        v = _parameter("weight_norm", module, name)
        self.axes = _others("weight_norm", v, dim)
        shape = () if dim is None else tuple(1 if i in self.axes else n for i, n in enumerate(v.shape))
        # Only when it is needed: the first value of v depends on where it will be in the model.
        self.original0 = Parameter(lambda: self._length().numpy(), v.trainable, shape=shape, dtype=v.dtype)
        self.original1 = v
        self.channels_last_weight = getattr(module, "channels_last_weight", False)

    def _length(self) -> Tensor:
        return F.norm(self.original1, axis=self.axes, keepdims=len(self.axes) < self.original1.ndim)

    def forward(self) -> Tensor:
        """The weight."""
        return self.original1 * (self.original0 / self._length())

    def kept(self) -> tuple[Parameter, Tensor]:
        """The parameter that was there, and the weight that it shall be."""
        return self.original1, self.forward()


class _SpectralNorm(Module):
    def __init__(self, module: Module, name: str, n_power_iterations: int, eps: float, dim: int) -> None:
        if n_power_iterations < 1:
            raise ArgumentError("spectral_norm", "n_power_iterations is at least 1", received=repr(n_power_iterations))
        weight = _parameter("spectral_norm", module, name)
        if weight.ndim < 2:
            raise ShapeError("spectral_norm", "a vector has no singular values", received=f"shape {weight.shape}")
        _others("spectral_norm", weight, dim)
        self.n_power_iterations, self.eps, self.dim = n_power_iterations, eps, dim
        self.original = weight
        rows, dtype = weight.shape[dim], weight.dtype
        columns = weight.size // rows
        # Only when they are needed, as the weight.
        self.u = Cell(lambda: self._iterated(self.v, 1)[0].numpy(), shape=(rows,), dtype=dtype)
        self.v = Cell(Initial((columns,), self._first, dtype), shape=(columns,), dtype=dtype)

    def _first(self, shape: tuple[int, ...], dtype: Any, generator: F.Generator) -> Tensor:
        return self._iterated(F.normal(shape, dtype=dtype, generator=generator), 15)[1]

    def _matrix(self) -> Tensor:
        first = F.moveaxis(self.original, self.dim, 0)
        return F.reshape(first, (first.shape[0], -1))

    def _iterated(self, v: Tensor, times: int) -> tuple[Tensor, Tensor]:
        matrix, u, v = self._matrix().detach(), v, v.detach()
        for _ in range(times):
            u = normalize(matrix @ v, eps=self.eps)
            v = normalize(u @ matrix, eps=self.eps)
        return u, v

    def _divided(self, u: Tensor, v: Tensor) -> Tensor:
        return self.original / F.vecdot(u, self._matrix() @ v)

    def forward(self) -> Tensor:
        """The weight."""
        u, v = self.u.detach(), self.v.detach()
        if self.training:
            u, v = self._iterated(v, self.n_power_iterations)
            self.u.assign(u)
            self.v.assign(v)
        return self._divided(u, v)

    def kept(self) -> tuple[Parameter, Tensor]:
        """The parameter that was there, and the weight that it shall be."""
        return self.original, self._divided(self.u.detach(), self.v.detach())


def _parameter(operation: str, module: Module, name: str) -> Parameter:
    found = module.__dict__.get(name)
    if not isinstance(found, Parameter):
        names = [key for key, value in module.__dict__.items() if isinstance(value, Parameter)]
        raise ArgumentError(
            operation, f"the {type(module).__name__} has no parameter of this name", received=repr(name),
            fix="one of " + ", ".join(names) if names else "call it for the layers inside",
        )  # fmt: skip
    return found


def _others(operation: str, weight: Parameter, dim: int | None) -> tuple[int, ...]:
    """The axes beside one."""
    if dim is not None and not -weight.ndim <= dim < weight.ndim:
        raise ArgumentError(operation, f"dim is one of {weight.ndim} axes, or None", received=repr(dim))
    return tuple(i for i in range(weight.ndim) if dim is None or i != dim % weight.ndim)


def _replace(module: Module, name: str, computed: Module) -> Module:
    delattr(module, name)
    if "parametrizations" not in module.__dict__:
        module.register_module("parametrizations", ModuleDict())
    module.__dict__["parametrizations"][name] = computed.train(module.training)
    return module


def _remove(module: Module, name: str, kind: type[_WeightNorm | _SpectralNorm]) -> Module:
    made = module.__dict__.get("parametrizations", {})
    if name not in made or not isinstance(made[name], kind):
        operation = "remove_weight_norm" if kind is _WeightNorm else "remove_spectral_norm"
        raise ArgumentError(operation, "there is nothing to remove", received=repr(name))
    parameter, value = made.pop(name).kept()
    parameter.assign(value)
    if not len(made):
        delattr(module, "parametrizations")
    setattr(module, name, parameter)
    return module
