"""Averages of the weights along training, which often do better than the last ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import dtypes
from ..autodiff import no_grad
from ..errors import ArgumentError, StateError
from ..functions import asarray, astype, ones_like, where, zeros_like
from ..tensor import Cell, Tensor
from .params import Parameters, read_parameters


class Averages:
    """Cells beside parameters, into which `update` takes their values: what `EMA` and `SWA` share.

    The averages of 16-bit parameters are kept in float32, where small steps count. Buffers of a model, such as running
    statistics, are those of the model itself, unless ``use_buffers`` averages its floating ones as well.
    """

    def __init__(self, params: Parameters, use_buffers: bool = False) -> None:
        name = type(self).__name__
        named = read_parameters(name, params)
        if use_buffers:
            if not hasattr(params, "named_buffers"):
                raise ArgumentError(name, "use_buffers needs the model", received=type(params).__name__)
            named += [(key, cell) for key, cell in params.named_buffers() if cell.dtype in dtypes.FLOATING]
        if not named:
            raise ArgumentError(name, "there are no parameters", received="an empty collection")
        self.cells = [cell for _, cell in named]
        names = [key or cell.name for key, cell in named]
        self.names = names if all(names) and len(set(names)) == len(names) else [str(i) for i in range(len(names))]
        self.averages = [Cell(_wide(cell.detach())) for cell in self.cells]
        self.n_averaged = Cell(asarray(0, dtypes.int64))

    def weight(self, n: Tensor) -> Tensor:
        """Return how much the next values count, after ``n`` updates, in float64."""
        raise NotImplementedError

    def update(self) -> None:
        """Take the present values into the averages; the first time they become the averages.

        It belongs after ``optimizer.step()``, in the compiled step or outside of it.
        """
        with no_grad():
            n = self.n_averaged.detach()
            weight = self.weight(astype(n, dtypes.float64))
            for cell, kept in zip(self.cells, self.averages, strict=True):
                value, old = _wide(cell.detach()), kept.detach()
                moved = old + astype(weight, dtypes.real_of(old.dtype)) * (value - old)
                kept.assign(where(n == 0, value, moved))
            self.n_averaged.assign(n + 1)

    def copy_to(self, params: Parameters | None = None) -> None:
        """Assign the averages to the parameters, or to others of the same shapes in the same order.

        Raises:
            ArgumentError: their number or a shape differs.
        """
        targets = self.cells if params is None else [cell for _, cell in read_parameters("copy_to", params)]
        if [cell.shape for cell in targets] != [cell.shape for cell in self.cells]:
            raise ArgumentError(
                f"{type(self).__name__}.copy_to",
                f"needs the {len(self.cells)} parameters that are averaged, or such of the same shapes",
                received=f"{len(targets)} parameters",
            )
        for cell, kept in zip(targets, self.averages, strict=True):
            cell.assign(astype(kept.detach(), cell.dtype))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this context the parameters are the averages; afterwards they are what they were, whatever happens."""
        before = [cell.detach() for cell in self.cells]
        try:
            self.copy_to()
            yield
        finally:
            for cell, value in zip(self.cells, before, strict=True):
                cell.assign(value)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages by name, as NumPy arrays, and the number of updates."""
        averages = {name: kept.numpy() for name, kept in zip(self.names, self.averages, strict=True)}
        return {"n_averaged": int(self.n_averaged), "averages": averages}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            StateError: it does not fit; then nothing has been loaded.
        """
        operation = f"{type(self).__name__}.load_state_dict"
        given = state_dict.get("averages", {})
        if set(state_dict) != {"n_averaged", "averages"} or set(given) != set(self.names):
            raise StateError(operation, "the names do not fit", received=", ".join([*state_dict, *given]))
        arrays = [np.array(given[name]) for name in self.names]
        for name, kept, array in zip(self.names, self.averages, arrays, strict=True):
            if (array.shape, array.dtype) != (kept.shape, kept.dtype):
                found = f"{array.dtype.name}{array.shape}"
                raise StateError(operation, f"{name} is {kept.dtype.name}{kept.shape}", received=found)
        for kept, array in zip(self.averages, arrays, strict=True):
            kept.assign(asarray(array))
        self.n_averaged.assign(asarray(int(state_dict["n_averaged"]), dtypes.int64))


class EMA(Averages):
    """Exponential moving average of weights.

    ``a <- a + (1 - decay) (p - a)`` at each `update`; at the first one ``a = p``. With ``warmup`` the weight of update
    ``t`` (from 1) is ``(1 - decay) / (1 - decay^t)`` instead: the mean that began at zero, divided by the sum of its
    weights, so that the first values do not count more than they should.

    Args:
        params: a model, parameters, or ``(name, parameter)`` pairs.
        decay: how much is kept, in [0, 1).
        warmup: correct for the beginning.
        use_buffers: average the floating buffers of the model too.

    Attributes:
        averages: a cell for each parameter, in order.
        n_averaged: the number of updates, an int64 cell.

    Raises:
        ArgumentError: ``decay`` is out of its range, or there are no parameters.

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (1992); the correction: Kingma
    and Ba, "Adam" (2015), section 3.

    >>> w = Parameter(tensor([1.0]))
    >>> ema = optim.EMA([w], decay=0.75)
    >>> ema.update()
    >>> w.assign(tensor([3.0]))
    >>> ema.update()
    >>> with ema.applied():
    ...     print(w)
    Parameter(tensor([1.5]))
    >>> w
    Parameter(tensor([3.]))
    """

    def __init__(
        self, params: Parameters, decay: float = 0.999, warmup: bool = False, use_buffers: bool = False
    ) -> None:
        if not 0 <= decay < 1:
            raise ArgumentError("EMA", "decay is in [0, 1)", received=str(decay))
        self.decay, self.warmup = decay, warmup
        super().__init__(params, use_buffers)

    def weight(self, n: Tensor) -> Tensor:
        """Return ``1 - decay``, with the correction if there is one."""
        return (1 - self.decay) / (1 - self.decay ** (n + 1)) if self.warmup else asarray(1 - self.decay, n.dtype)


class SWA(Averages):
    """Stochastic weight averaging: the plain mean of the weights at all updates, ``a <- a + (p - a) / (n + 1)``.

    Call `update` once an epoch, late in training and with a learning rate that stays high (see
    `chainrule.optim.lr_scheduler.SWALR`); then `copy_to` or `applied`, and `update_bn` if the model has batch norms.

    Args:
        params: a model, parameters, or ``(name, parameter)`` pairs.
        use_buffers: average the floating buffers of the model too.

    Attributes:
        averages: a cell for each parameter, in order.
        n_averaged: the number of updates, an int64 cell.

    Source: Izmailov et al., "Averaging weights leads to wider optima and better generalization", arXiv 1803.05407.

    >>> w = Parameter(tensor([1.0]))
    >>> swa = optim.SWA([w])
    >>> for value in (1.0, 2.0, 6.0):
    ...     w.assign(tensor([value]))
    ...     swa.update()
    >>> swa.copy_to()
    >>> w
    Parameter(tensor([3.]))
    """

    def weight(self, n: Tensor) -> Tensor:
        """Return ``1 / (n + 1)``."""
        return 1.0 / (n + 1)


def update_bn(loader: Iterable[Any], model: Any) -> None:
    """Compute the running statistics of all batch norms anew, as plain means over the batches of ``loader``.

    The statistics that a model has gathered in training do not belong to averaged weights.

    Args:
        loader: batches: inputs of the model, or tuples and lists whose first entry is that.
        model: a model; it is called in training mode, without recording.

    Source: Izmailov et al., arXiv 1803.05407, section 3.2.

    >>> model = nn.BatchNorm1d(1)
    >>> optim.update_bn([tensor([[1.0], [3.0]]), tensor([[5.0], [7.0]])], model)
    >>> model.running_mean
    Cell(tensor([4.]))
    """
    norms = [m for m in model.modules() if getattr(m, "num_batches_tracked", None) is not None]
    momenta, modes = [m.momentum for m in norms], [(m, m.training) for m in model.modules()]
    for norm in norms:
        norm.running_mean.assign(zeros_like(norm.running_mean))
        norm.running_var.assign(ones_like(norm.running_var))
        norm.num_batches_tracked.assign(zeros_like(norm.num_batches_tracked))
    try:
        model.train()
        with no_grad():
            for number, batch in enumerate(loader, start=1):
                for norm in norms:
                    norm.momentum = 1 / number  # so the first batch replaces what there was
                model(batch[0] if isinstance(batch, (tuple, list)) else batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, training in modes:
            module.training = training


def _wide(x: Tensor) -> Tensor:
    return astype(x, dtypes.float32) if x.dtype in dtypes.HALF else x
