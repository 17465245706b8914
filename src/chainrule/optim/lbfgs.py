"""L-BFGS: steps of a quasi-Newton method, from the last few steps and changes of the gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .. import dtypes
from ..autodiff import enable_grad, no_grad
from ..errors import ArgumentError
from ..functions import abs, asarray, astype, concat, max, reshape, stack, sum, zeros
from ..tensor import Cell, Tensor
from .line_search import Point, strong_wolfe
from .optimizer import NOT_NEGATIVE, Hyper, Limit, Optimizer, from_working, to_working
from .params import Parameters

COUNT: Limit = (lambda v: isinstance(v, int) and v >= 1, "that is whole, from 1")
LEAST_CURVATURE = 1e-10
"""A pair of step and change whose product is not above this is not remembered."""


def _dot(a: Tensor, b: Tensor) -> float:
    return float(sum(a * b))


def _largest(x: Tensor) -> float:
    return float(max(abs(x))) if x.size else 0.0


@dataclass
class Memory:
    """What a step leaves to the next: pairs of gradient change ``y`` and step ``s``, with ``1 / (y s)``."""

    pairs: list[tuple[Tensor, Tensor, float]] = field(default_factory=list)
    step: Tensor | None = None
    gradient: Tensor | None = None

    def remember(self, gradient: Tensor, most: int) -> None:
        """Add the last step and how the gradient changed in it, if the function is curved upwards along it."""
        if self.step is None or self.gradient is None:
            return
        y = gradient - self.gradient
        curvature = _dot(y, self.step)
        if curvature > LEAST_CURVATURE:
            self.pairs = [*self.pairs, (y, self.step, 1 / curvature)][-most:]

    def direction(self, gradient: Tensor) -> Tensor:
        """Return minus the approximate inverse Hessian times the gradient (algorithm 7.4, the two-loop recursion)."""
        q = -gradient
        alphas = []
        for y, s, rho in reversed(self.pairs):
            alphas.append(_dot(s, q) * rho)
            q = q - alphas[-1] * y
        if self.pairs:
            y, _, rho = self.pairs[-1]
            q = q * (1 / rho / _dot(y, y))
        for (y, s, rho), alpha in zip(self.pairs, reversed(alphas), strict=True):
            q = q + (alpha - _dot(y, q) * rho) * s
        return q


class LBFGS(Optimizer):
    """Newton's method, with the inverse Hessian approximated from the last steps.

    ``d = -H g``, where ``H`` comes from the last ``history_size`` pairs of steps ``s`` and changes of the gradient
    ``y``, starting from ``(y s) / (y y)`` times the identity, and ``p <- p + t d``. Without a line search ``t = lr``,
    and ``min(1, 1 / sum(|g|)) lr`` in the first iteration; with one, that is the first length tried.

    For smooth functions without noise, such as the loss of the whole data. ``step`` needs a closure, runs it up to
    ``max_eval`` times, and looks at the values that it returns, so it runs in Python and not in a compiled function;
    the closure may be compiled, with ``cr.compile(closure, keep_grads=True)``. All parameters are one vector, in the
    widest of their dtypes, and share one group; the state, ``2 * history_size + 2`` such vectors, is that of the
    first parameter.

    Args:
        params: see `Optimizer`.
        lr: the learning rate, 1 for Newton's own step.
        max_iter: the most iterations in a step.
        max_eval: the most evaluations in a step; None for 5/4 of ``max_iter``.
        tolerance_grad: stop when no element of the gradient is larger.
        tolerance_change: stop when no parameter, or the loss, changes by more.
        history_size: how many pairs are kept.
        line_search_fn: None, or "strong_wolfe".
        allow_unused: let parameters without a gradient be.

    Raises:
        ArgumentError: a hyperparameter has no such value, or there are groups.

    Source: Nocedal and Wright, "Numerical optimization" (2006), chapter 7; Liu and Nocedal, "On the limited memory
    BFGS method for large scale optimization" (1989).

    >>> w = Parameter(tensor([-1.0, 1.0], dtype="float64"))
    >>> opt = optim.LBFGS([w], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     opt.zero_grad()
    ...     loss = (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2
    ...     loss.backward()
    ...     return loss
    >>> for _ in range(3):
    ...     loss = opt.step(closure)
    >>> print(w.numpy().round(3))
    [1. 1.]
    """

    limits: ClassVar[dict[str, Limit]] = {
        "tolerance_grad": NOT_NEGATIVE, "tolerance_change": NOT_NEGATIVE,
        "max_iter": COUNT, "max_eval": COUNT, "history_size": COUNT,
    }  # fmt: skip

    def __init__(
        self,
        params: Parameters,
        lr: float = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
        *,
        allow_unused: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "max_iter": max_iter, "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change, "history_size": history_size,
            "line_search_fn": line_search_fn,
        }  # fmt: skip
        super().__init__(params, defaults, allow_unused=allow_unused)

    def check(self, hyper: Hyper) -> None:
        """Raise `ArgumentError` unless the hyperparameters have values that they can have."""
        super().check(hyper)
        if hyper["line_search_fn"] not in (None, "strong_wolfe"):
            received = repr(hyper["line_search_fn"])
            raise ArgumentError("LBFGS", "line_search_fn is None or 'strong_wolfe'", received=received)
        if self.param_groups and hyper["history_size"] != self.param_groups[0]["history_size"]:
            received = f"history_size={hyper['history_size']}"
            raise ArgumentError("LBFGS", "history_size decides which state there is, and stays", received=received)

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add the one group there is.

        Raises:
            ArgumentError: there is one already.
        """
        if self.param_groups:
            raise ArgumentError("LBFGS", "has one group of parameters", received="another", fix="put them into one")
        super().add_param_group(param_group)
        flat = concat([_flat(zeros(p.shape, dtype=p.dtype)) for p in self.parameters()])
        history = zeros((self.param_groups[0]["history_size"], flat.size), dtype=flat.dtype)
        counts = {name: Cell(asarray(0, dtypes.int64)) for name in ("n_iter", "func_evals", "n_pairs")}
        vectors = {"last_step": flat, "prev_flat_grad": flat, "old_dirs": history, "old_stps": history}
        self.state[self.parameters()[0]] = counts | {name: Cell(value) for name, value in vectors.items()}

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do up to ``max_iter`` iterations. An exception leaves parameters and state as they were.

        Args:
            closure: clears the gradients, computes the loss anew, goes backward and returns the loss.

        Returns:
            what the closure returned the first time.

        Raises:
            ArgumentError: there is no closure.
            UnusedParameterError: a trainable parameter has no gradient.
        """
        if closure is None:
            fix = "pass a function that calls zero_grad and backward, and returns the loss"
            raise ArgumentError("LBFGS.step", "computes the loss several times", received="no closure", fix=fix)
        cells = self.state[self.parameters()[0]]
        before = [p.detach() for p in self.parameters()]
        with no_grad():
            try:
                loss, memory, iterations, evaluations = self._iterate(closure, self._recall(cells))
            except BaseException:
                for p, value in zip(self.parameters(), before, strict=True):
                    p.assign(value)
                raise
            self._keep(cells, memory, iterations, evaluations)
        return loss

    # --- the iterations -----------------------------------------------------------------------------------

    def _iterate(self, closure: Callable[[], Any], memory: Memory) -> tuple[Any, Memory, int, int]:
        """Return the first loss, the memory, and how many iterations and evaluations there were."""
        hyper = self.param_groups[0]
        rate, most, change = float(hyper["lr"]), hyper["max_eval"], hyper["tolerance_change"]
        first = self._evaluate(closure)
        loss, gradient = float(first), self._gradient()
        evaluations = 1
        if _largest(gradient) <= hyper["tolerance_grad"]:
            return first, memory, 0, evaluations
        for iteration in range(1, hyper["max_iter"] + 1):
            memory.remember(gradient, hyper["history_size"])
            direction = memory.direction(gradient)
            slope = _dot(gradient, direction)
            length = rate if memory.step is not None else min(1.0, 1 / float(sum(abs(gradient)))) * rate
            start = Point(0.0, loss, gradient, slope)
            memory.gradient, memory.step = gradient, length * direction
            if slope > -change:
                break
            last = iteration == hyper["max_iter"]
            if hyper["line_search_fn"] or not last:  # the value after the last iteration is of no use
                found, more = self._search(closure, start, length, direction, most - evaluations)
                evaluations += more
            else:
                self._move(direction, length)
                break
            loss, gradient = found.value, found.gradient
            memory.step = found.step * direction
            small = _largest(gradient) <= hyper["tolerance_grad"] or _largest(memory.step) <= change
            if evaluations >= most or small or (-change < loss - start.value < change):
                break
        return first, memory, iteration, evaluations

    def _search(
        self, closure: Callable[[], Any], start: Point, length: float, direction: Tensor, most: int
    ) -> tuple[Point, int]:
        """Go along the direction, as far as the line search says if there is one; return where, and evaluations."""
        origin = [p.detach() for p in self.parameters()]
        hyper = self.param_groups[0]

        def at(step: float) -> Point:
            self._move(direction, step, origin)
            loss = float(self._evaluate(closure))
            gradient = self._gradient()
            return Point(step, loss, gradient, _dot(gradient, direction))

        if hyper["line_search_fn"] is None:
            return at(length), 1
        tolerance, longest = hyper["tolerance_change"], _largest(direction)
        found, count = strong_wolfe(at, start, length, longest=longest, tolerance=tolerance, most=most)
        self._move(direction, found.step, origin)
        return found, count

    def _evaluate(self, closure: Callable[[], Any]) -> Any:
        with enable_grad():
            loss = closure()
        self._refuse_unused()
        return loss

    def _gradient(self) -> Tensor:
        """The gradient of all parameters as one vector; zero for those that are frozen or were not reached."""
        parts = []
        for p in self.parameters():
            is_reached = p.trainable and p.grad is not None
            parts.append(_flat(astype(p.grad, p.dtype) if is_reached else zeros(p.shape, dtype=p.dtype)))
        return concat(parts)

    def _move(self, direction: Tensor, step: float, origin: list[Tensor] | None = None) -> None:
        """Set the trainable parameters to ``origin + step * direction``."""
        offset = 0
        for i, p in enumerate(self.parameters()):
            working = to_working(p.detach() if origin is None else origin[i])
            part = reshape(direction[offset : offset + working.size], working.shape)
            offset += working.size
            if p.trainable:
                p.assign(from_working(working + astype(step * part, working.dtype), p.dtype))

    # --- the state ----------------------------------------------------------------------------------------

    @staticmethod
    def _recall(cells: dict[str, Cell]) -> Memory:
        if not int(cells["n_iter"]):
            return Memory()
        memory = Memory(step=cells["last_step"].detach(), gradient=cells["prev_flat_grad"].detach())
        for i in range(int(cells["n_pairs"])):
            y, s = cells["old_dirs"][i].detach(), cells["old_stps"][i].detach()
            memory.pairs.append((y, s, 1 / _dot(y, s)))
        return memory

    def _keep(self, cells: dict[str, Cell], memory: Memory, iterations: int, evaluations: int) -> None:
        new: dict[Cell, Any] = {self.step_count: self.step_count + 1}
        new[cells["n_iter"]] = cells["n_iter"] + iterations
        new[cells["func_evals"]] = cells["func_evals"] + evaluations
        if memory.step is not None and memory.gradient is not None:
            rows = [zeros(memory.step.shape, dtype=memory.step.dtype)] * (len(cells["old_dirs"]) - len(memory.pairs))
            new[cells["n_pairs"]] = asarray(len(memory.pairs), dtypes.int64)
            new[cells["last_step"]], new[cells["prev_flat_grad"]] = memory.step, memory.gradient
            new[cells["old_dirs"]] = stack([*(y for y, _, _ in memory.pairs), *rows])
            new[cells["old_stps"]] = stack([*(s for _, s, _ in memory.pairs), *rows])
        for cell, value in new.items():
            cell.assign(value)


def _flat(x: Tensor) -> Tensor:
    return reshape(to_working(x), (-1,))
