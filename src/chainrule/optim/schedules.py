"""Learning rates as pure functions of the step, in closed form.

A schedule is a function ``schedule(step, base=1.0)``: the learning rate at a step (from 0), for a base learning rate.
With the base left out it is the factor. `chainrule.optim.lr_scheduler` moves an optimizer along one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Protocol

from ..errors import ArgumentError


class Schedule(Protocol):
    """The learning rate as a function of the step and the base learning rate."""

    def __call__(self, step: float, base: float = 1.0) -> float:
        """Return the learning rate."""
        ...


def _positive(operation: str, **values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ArgumentError(operation, f"{name} is positive", received=f"{name}={value}")


def by_factor(factor: Callable[[float], float]) -> Schedule:
    """``base * factor(step)``.

    >>> by_factor(lambda step: 0.5**step)(3)
    0.125
    """
    return lambda step, base=1.0: base * factor(step)


def by_product(factor: Callable[[int], float]) -> Schedule:
    """``base * factor(1) * ... * factor(step)``; products that were computed once are kept.

    >>> by_product(lambda step: 1 / step)(3)
    0.16666666666666666
    """
    products = [1.0]

    def schedule(step: float, base: float = 1.0) -> float:
        while len(products) <= step:
            products.append(products[-1] * factor(len(products)))
        return base * products[int(step)]

    return schedule


def step_decay(step_size: int, gamma: float = 0.1) -> Schedule:
    """``base * gamma^floor(step / step_size)``.

    >>> step_decay(10, gamma=0.5)(25)
    0.25
    """
    _positive("step_decay", step_size=step_size)
    return by_factor(lambda step: gamma ** (step // step_size))


def multistep_decay(milestones: Sequence[int], gamma: float = 0.1) -> Schedule:
    """``base * gamma^k`` after ``k`` of the milestones; one that is listed twice counts twice.

    >>> multistep_decay([10, 20], gamma=0.5)(10)
    0.5
    """
    places = sorted(milestones)
    return by_factor(lambda step: gamma ** bisect_right(places, step))


def exponential_decay(gamma: float) -> Schedule:
    """``base * gamma^step``.

    >>> exponential_decay(0.5)(2)
    0.25
    """
    return by_factor(lambda step: gamma**step)


def constant(factor: float = 1 / 3, total_iters: int = 5) -> Schedule:
    """``base * factor`` for ``total_iters`` steps, then ``base``.

    >>> constant(0.5, total_iters=2)(1), constant(0.5, total_iters=2)(2)
    (0.5, 1.0)
    """
    return by_factor(lambda step: factor if step < total_iters else 1.0)


def linear(start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5) -> Schedule:
    """From ``base * start_factor`` to ``base * end_factor`` in ``total_iters`` equal steps.

    >>> linear(0.0, 1.0, total_iters=4)(3)
    0.75
    """
    _positive("linear", total_iters=total_iters)
    return by_factor(lambda step: start_factor + (end_factor - start_factor) * min(step, total_iters) / total_iters)


def polynomial_decay(total_iters: int = 5, power: float = 1.0) -> Schedule:
    """``base * (1 - step / total_iters)^power``, and 0 after.

    >>> polynomial_decay(4, power=2.0)(2)
    0.25
    """
    _positive("polynomial_decay", total_iters=total_iters)
    return by_factor(lambda step: (1 - min(step, total_iters) / total_iters) ** power)


def _cosine(start: float, end: float, part: float) -> float:
    """From ``start`` to ``end`` along half a cosine, as ``part`` goes from 0 to 1."""
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


def cosine_annealing(T_max: int, eta_min: float = 0.0) -> Schedule:
    """``eta_min + (base - eta_min) (1 + cos(pi step / T_max)) / 2``, which rises again after ``T_max``.

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts" (2017), without restarts.

    >>> cosine_annealing(10)(5)
    0.5
    """
    _positive("cosine_annealing", T_max=T_max)
    return lambda step, base=1.0: _cosine(base, eta_min, step / T_max)


def cosine_restarts(T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> Schedule:
    """Cosine annealing that starts anew after ``T_0`` steps, then after ``T_0 * T_mult`` more, and so on.

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts" (2017).

    >>> cosine_restarts(4, T_mult=2)(4), cosine_restarts(4, T_mult=2)(8)
    (1.0, 0.5)
    """
    if T_0 < 1 or T_mult < 1:
        raise ArgumentError("cosine_restarts", "T_0 and T_mult are at least 1", received=f"{T_0} and {T_mult}")

    def schedule(step: float, base: float = 1.0) -> float:
        length = T_0
        if T_mult == 1:
            step %= length
        while step >= length:
            step, length = step - length, length * T_mult
        return _cosine(base, eta_min, step / length)

    return schedule


def warmup_cosine(warmup_steps: int, total_steps: int, eta_min: float = 0.0) -> Schedule:
    """Linear warmup, ``base * (step + 1) / warmup_steps``, then a cosine to ``eta_min`` at ``total_steps``.

    Source: Goyal et al., "Accurate, large minibatch SGD", arXiv 1706.02677 (warmup).

    >>> schedule = warmup_cosine(4, total_steps=14)
    >>> schedule(0), schedule(3), schedule(9), schedule(14)
    (0.25, 1.0, 0.5, 0.0)
    """
    if not 0 <= warmup_steps < total_steps:
        raise ArgumentError(
            "warmup_cosine", "needs 0 <= warmup_steps < total_steps", received=f"{warmup_steps} and {total_steps}"
        )

    def schedule(step: float, base: float = 1.0) -> float:
        if step < warmup_steps:
            return base * (step + 1) / warmup_steps
        return _cosine(base, eta_min, min(1.0, (step - warmup_steps) / (total_steps - warmup_steps)))

    return schedule


def sequential(schedules: Sequence[Schedule], milestones: Sequence[int]) -> Schedule:
    """One schedule after the other; each counts its steps from its milestone.

    >>> sequential([constant(0.5, 100), exponential_decay(0.1)], [2])(2)
    1.0
    """
    if len(milestones) != len(schedules) - 1 or not schedules:
        raise ArgumentError(
            "sequential",
            "there is a milestone between each two schedules",
            received=f"{len(schedules)} schedules, {len(milestones)} milestones",
        )
    starts = [0, *milestones]

    def schedule(step: float, base: float = 1.0) -> float:
        i = bisect_right(milestones, step)
        return schedules[i](step - starts[i], base)

    return schedule


def chained(schedules: Sequence[Schedule]) -> Schedule:
    """Several schedules at once: the base of each is what the one before gives. Of factors, this is the product.

    >>> chained([constant(0.5, 2), exponential_decay(0.5)])(1)
    0.25
    """
    if not schedules:
        raise ArgumentError("chained", "there is at least one schedule", received="none")
    return lambda step, base=1.0: reduce(lambda rate, schedule: schedule(step, rate), schedules, base)


def triangle(
    step_size_up: float = 2000,
    step_size_down: float | None = None,
    mode: str = "triangular",
    gamma: float = 1.0,
    scale_fn: Callable[[float], float] | None = None,
    scale_mode: str = "cycle",
) -> Callable[[float], float]:
    """Up from 0 to 1 in ``step_size_up`` steps and down in ``step_size_down``, over and over, times a scale.

    Args:
        step_size_up: the length of the way up.
        step_size_down: that of the way down; None for the same.
        mode: the scale: 1 for "triangular", halved after each cycle for "triangular2", ``gamma^step`` for "exp_range".
        gamma: see ``mode``.
        scale_fn: a scale in place of ``mode``.
        scale_mode: what ``scale_fn`` is a function of: the number of the cycle, from 1, for "cycle", or the step for
            "iterations".

    Source: Smith, "Cyclical learning rates for training neural networks", arXiv 1506.01186.

    >>> [triangle(2, 4)(step) for step in range(8)]
    [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0, 0.5]
    """
    down = step_size_up if step_size_down is None else step_size_down
    _positive("triangle", step_size_up=step_size_up)
    if down < 0:
        raise ArgumentError("triangle", "step_size_down is at least 0", received=f"step_size_down={down}")
    scales: dict[str, Callable[[float], float]] = {
        "triangular": lambda step: 1.0,
        "triangular2": lambda cycle: 0.5 ** (cycle - 1),
        "exp_range": lambda step: gamma**step,
    }
    if scale_fn is None and mode not in scales:
        raise ArgumentError("triangle", f"mode is one of {', '.join(scales)}", received=repr(mode))
    if scale_mode not in ("cycle", "iterations"):
        raise ArgumentError("triangle", "scale_mode is 'cycle' or 'iterations'", received=repr(scale_mode))
    scale = scales[mode] if scale_fn is None else scale_fn
    by_cycle = mode != "exp_range" if scale_fn is None else scale_mode == "cycle"

    def schedule(step: float) -> float:
        cycle, part = divmod(step, step_size_up + down)
        height = part / step_size_up if part <= step_size_up else (step_size_up + down - part) / down
        return height * scale(cycle + 1 if by_cycle else step)

    return schedule


def one_cycle(
    total_steps: int, values: Sequence[float], ends: Sequence[float], anneal_strategy: str = "cos"
) -> Callable[[float], float]:
    """Piecewise annealing through ``values``: from ``values[i]`` to ``values[i + 1]`` by step ``ends[i]``.

    Args:
        total_steps: after so many the cycle is over.
        values: what is passed through.
        ends: the last step of each piece.
        anneal_strategy: "cos" or "linear".

    >>> one_cycle(11, (0.0, 1.0, 0.0), (4.0, 10.0), "linear")(7)
    0.5
    """
    if anneal_strategy not in ("cos", "linear"):
        raise ArgumentError("one_cycle", "anneal_strategy is 'cos' or 'linear'", received=repr(anneal_strategy))

    def schedule(step: float) -> float:
        if step > total_steps:
            raise ArgumentError("one_cycle", f"the cycle has {total_steps} steps", received=f"step {step}")
        piece = next((i for i, end in enumerate(ends) if step <= end), len(ends) - 1)
        begin = ends[piece - 1] if piece else 0.0
        # step() after the last optimizer step goes one beyond the end, and stays there
        part = min(1.0, (step - begin) / (ends[piece] - begin)) if ends[piece] != begin else 1.0
        start, end = values[piece], values[piece + 1]
        return _cosine(start, end, part) if anneal_strategy == "cos" else start + (end - start) * part

    return schedule
