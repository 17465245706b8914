"""A line search for the strong Wolfe conditions, as L-BFGS wants it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from ..tensor import Tensor

C1, C2 = 1e-4, 0.9
"""How much of the decrease that the slope promises is enough, and how much of the slope may remain."""


class Point(NamedTuple):
    """A function along a direction: how far along, its value, gradient and slope there."""

    step: float
    value: float
    gradient: Tensor
    slope: float


Evaluate = Callable[[float], Point]


def cubic_minimum(a: Point, b: Point, lowest: float, highest: float) -> float:
    """Return where the cubic through two points with their slopes has its minimum, within bounds; else their middle.

    Source: Nocedal and Wright, "Numerical optimization" (2006), equation 3.59.
    """
    a, b = sorted((a, b), key=lambda point: point.step)
    d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.step - b.step) if a.step != b.step else math.nan
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return (lowest + highest) / 2
    d2 = math.sqrt(square)
    below = b.slope - a.slope + 2 * d2
    if below == 0:
        return (lowest + highest) / 2
    return min(max(b.step - (b.step - a.step) * ((b.slope + d2 - d1) / below), lowest), highest)


def strong_wolfe(
    evaluate: Evaluate, start: Point, step: float, *, longest: float, tolerance: float, most: int
) -> tuple[Point, int]:
    """Look for a step with ``f(step) <= f(0) + C1 step f'(0)`` and ``|f'(step)| <= -C2 f'(0)``.

    Goes on in longer steps until they enclose a point with both conditions, then narrows that interval.

    Args:
        evaluate: the function along the direction.
        start: the point at step 0, where the slope is negative.
        step: the first to try.
        longest: the largest element of the direction.
        tolerance: an interval of so little change in any element is not narrowed.
        most: how many evaluations there may be after the first.

    Returns:
        the point found, the lowest that was seen if the conditions were not met, and the number of evaluations.

    Source: Nocedal and Wright, "Numerical optimization" (2006), algorithms 3.5 and 3.6.
    """
    before, new, count = start, evaluate(step), 1
    while count <= most:
        if _is_too_high(new, start) or (count > 2 and new.value >= before.value):
            break
        if _is_flat(new, start):
            return new, count
        if new.slope >= 0:
            break
        step = cubic_minimum(before, new, new.step + 0.01 * (new.step - before.step), 10 * new.step)
        before, new, count = new, evaluate(step), count + 1
    else:
        before = start
    left = most + 1 - count
    found, more = _zoom(evaluate, start, [before, new], longest=longest, tolerance=tolerance, most=left)
    return found, count + more


def _zoom(
    evaluate: Evaluate, start: Point, ends: list[Point], *, longest: float, tolerance: float, most: int
) -> tuple[Point, int]:
    """Narrow an interval that has a point with both conditions in it; its ends come in the order of evaluation."""
    low, count, was_near_an_end = _lower(ends), 0, False
    while count < most and abs(ends[1].step - ends[0].step) * longest >= tolerance:
        first, last = sorted(point.step for point in ends)
        step = cubic_minimum(ends[0], ends[1], first, last)
        margin = 0.1 * (last - first)
        is_near_an_end = min(last - step, step - first) < margin
        if is_near_an_end and (was_near_an_end or not first < step < last):
            # twice in a row, or at the very end: the interval would hardly become shorter
            step = last - margin if last - step < step - first else first + margin
            is_near_an_end = False
        was_near_an_end = is_near_an_end
        new, count = evaluate(step), count + 1
        if _is_too_high(new, start) or new.value >= ends[low].value:
            ends[1 - low] = new
            low = _lower(ends)
        elif _is_flat(new, start):
            return new, count
        else:
            if new.slope * (ends[1 - low].step - ends[low].step) >= 0:
                ends[1 - low] = ends[low]
            ends[low] = new
    return ends[low], count


def _lower(ends: list[Point]) -> int:
    return 0 if ends[0].value <= ends[1].value else 1


def _is_too_high(new: Point, start: Point) -> bool:
    return new.value > start.value + C1 * new.step * start.slope


def _is_flat(new: Point, start: Point) -> bool:
    return abs(new.slope) <= -C2 * start.slope
