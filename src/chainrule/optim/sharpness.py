"""Steps by the gradient at the worst point nearby."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..autodiff import enable_grad, no_grad
from ..errors import ArgumentError, GradientError
from ..functions import abs, astype, norm, stack
from ..tensor import Cell, Tensor
from .group import ParamGroup
from .optimizer import Optimizer, from_working, to_working


class SAM:
    """Sharpness-aware minimization: a step of another optimizer, by the gradient at the worst point nearby.

    With the gradient ``g`` at the weights ``w``, the step is by the gradient at ``w + e``, ``e = rho g / ||g||`` (the
    norm is that of all gradients as one vector), and it goes from ``w``. Adaptive: distances are measured relative to
    the weights, ``e = rho w^2 g / || |w| g ||``. A step costs two forward and two backward phases, and buffers such as
    running statistics see both.

    Args:
        base_optimizer: an optimizer whose step needs no closure; its parameters, groups and state are shared.
        rho: how far the worst point is looked for, at least 0.
        adaptive: measure relative to the weights.

    Attributes:
        base_optimizer: the optimizer; schedulers take this one.

    Raises:
        ArgumentError: ``rho`` is negative, or there is no optimizer.

    Source: Foret et al., "Sharpness-aware minimization for efficiently improving generalization", arXiv 2010.01412,
    equation 2; adaptive: Kwon et al., arXiv 2102.11600, equation 7.

    >>> w = Parameter(tensor([1.0]))
    >>> sam = optim.SAM(optim.SGD([w], lr=0.1), rho=0.5)
    >>> def closure():
    ...     loss = (w * w).sum()
    ...     loss.backward()
    ...     return loss
    >>> sam.step(closure)
    tensor(1., requires_grad=True)
    >>> w
    Parameter(tensor([0.7]))
    """

    def __init__(self, base_optimizer: Optimizer, rho: float = 0.05, adaptive: bool = False) -> None:
        if not isinstance(base_optimizer, Optimizer):
            kind = type(base_optimizer).__name__
            raise ArgumentError("SAM", "needs an optimizer", received=kind, fix="optim.SAM(optim.SGD(params, lr=0.1))")
        if not rho >= 0:
            raise ArgumentError("SAM", "rho is at least 0", received=str(rho))
        self.base_optimizer, self.rho, self.adaptive = base_optimizer, rho, adaptive

    @property
    def param_groups(self) -> list[ParamGroup]:
        """The groups of the optimizer."""
        return self.base_optimizer.param_groups

    def zero_grad(self) -> None:
        """Set all gradients to None."""
        self.base_optimizer.zero_grad()

    def step(self, closure: Callable[[], Any]) -> Any:
        """Go to the worst point, take the gradient there, return, and let the optimizer go from here.

        Args:
            closure: computes the loss, goes backward and returns the loss. It is called twice, after `zero_grad`, so
                gradients from before do not count.

        Returns:
            what the closure returned the first time.

        Raises:
            GradientError: the closure left no gradient.
            UnusedParameterError: a trainable parameter has no gradient.
        """
        loss = self._gradients(closure)
        held = [p for p in self.base_optimizer.parameters() if p.trainable and p.grad is not None]
        if not held:
            raise GradientError("SAM.step", "no parameter has a gradient", fix="call loss.backward() in the closure")
        before = [p.detach() for p in held]
        with no_grad():
            ascent = self._ascent(held)
        try:
            for p, value in zip(held, ascent, strict=True):
                p.assign(value)
            self._gradients(closure)
        finally:
            for p, value in zip(held, before, strict=True):
                p.assign(value)
        self.base_optimizer.step()
        return loss

    def _gradients(self, closure: Callable[[], Any]) -> Any:
        self.zero_grad()
        with enable_grad():
            return closure()

    def _ascent(self, held: list[Cell]) -> list[Tensor]:
        """The worst point nearby, to first order."""
        weights = [to_working(p.detach()) for p in held]
        gradients = [to_working(astype(p.grad, p.dtype)) for p in held]
        metric = [abs(w) for w in weights] if self.adaptive else [1.0] * len(held)
        seen = [m * g for m, g in zip(metric, gradients, strict=True)]
        norms = [norm(g) for g in seen]
        common = max((n.dtype for n in norms), key=lambda dtype: dtype.itemsize)
        factor = self.rho / (norm(stack([astype(n, common) for n in norms])) + 1e-12)
        moved = [w + astype(factor, w.dtype) * (m * g) for w, m, g in zip(weights, metric, seen, strict=True)]
        return [from_working(x, p.dtype) for p, x in zip(held, moved, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the optimizer; this one has none."""
        return self.base_optimizer.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over the state of the optimizer."""
        self.base_optimizer.load_state_dict(state_dict)

    def __repr__(self) -> str:
        return f"SAM({self.base_optimizer!r}, rho={self.rho}, adaptive={self.adaptive})"
