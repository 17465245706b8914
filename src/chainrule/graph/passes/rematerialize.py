"""Computing values again instead of keeping them, under a memory budget.

Chen, Xu, Zhang, Guestrin, "Training deep nets with sublinear memory cost" (arXiv 1604.06174) keep some values of the
forward phase and compute the others again from them. Here only what is cheap is computed again, so that time grows
little: elementwise functions, moved elements and random bits, from values that are alive anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from ..ir import Graph, Node, TensorType, Value
from .effects import removable
from .memory import Lives, peak, size_in_bytes
from .rewrite import Rewriter

_CHAIN = 8
"""Nodes that may be computed again for one value."""
_NEGLIGIBLE = 16
"""A value so many times smaller than another is kept alive for it."""
_ROUNDS = 4
_CHEAP = frozenset({"elementwise", "layout", "random"})


@dataclass
class Report:
    """What `rematerialize` did.

    Attributes:
        budget: bytes that were asked for.
        before, after: the estimated peak in bytes.
        again: type and source line of each value that is computed again.
    """

    budget: int
    before: int
    after: int
    again: list[tuple[TensorType, str]] = field(default_factory=list)

    def __str__(self) -> str:
        n = len(self.again)
        what = f"{n} value{'s' if n > 1 else ''} computed again" if n else "nothing computed again"
        met = "" if self.after <= self.budget else ", which is not met"
        return f"peak {self.before:,} -> {self.after:,} bytes, {what}, for a budget of {self.budget:,}{met}"


@dataclass
class _Choice:
    """A value that is dropped, and computed again before node ``at``."""

    value: Value
    at: int
    region: int
    made: dict[Value, Value] = field(default_factory=dict)


def rematerialize(graph: Graph, budget: int) -> tuple[Graph, Report]:
    """Compute cheap values again before a late use until the estimated peak is at most ``budget`` bytes.

        %1 = tanh(%0)                       %1 = tanh(%0)
        %2 = f(%1)                          %2 = f(%1)
        ...  (the peak)            ->       ...
                                            %8 = tanh'1(%0)
        %9 = g(%0, %1)                      %9 = g(%0, %8)

    What is computed again has a ``region`` of its own, so that nothing merges it with the first. The peak never grows;
    if it cannot fall so far it falls as far as it can.

    Returns:
        the graph, and a report with the peak before and after.
    """
    report = Report(budget, peak(graph), 0)
    made, report.after, choices = _attempt(graph, budget)
    if report.after > budget:  # what does not bring the peak down further is not worth its time
        again, after, fewer = _attempt(graph, report.after)
        if after <= report.after:
            made, report.after, choices = again, after, fewer
    report.again = [(c.value.type, c.value.node.source) for c in choices if c.value.node is not None]
    return made, report


def _attempt(graph: Graph, budget: int) -> tuple[Graph, int, list[_Choice]]:
    """The graph with values computed again, its peak, and the values."""
    best, chosen = peak(graph), []
    for _ in range(_ROUNDS):
        if best <= budget:
            break
        lives = Lives(graph)
        choices = _choose(lives, budget)
        candidate = _apply(lives, choices)
        after = peak(candidate)
        if after >= best:
            break
        graph, best = candidate, after
        chosen += choices
    return graph, best, chosen


def _choose(lives: Lives, budget: int) -> list[_Choice]:
    """Values to drop where there is more than ``budget``: first the large ones that are not used for long."""
    profile = np.array(lives.profile(), np.int64)
    top = profile.max(initial=0)
    region = max((node.region for node in lives.graph.nodes), default=0)
    choices: list[_Choice] = []
    dropped: set[Value] = set()
    kept: set[Value] = set()
    for value, before, at in _gaps(lives):
        size = size_in_bytes(value)
        if value in dropped or value in kept or profile[before + 1 : at].max() <= budget:
            continue
        found = _sources(lives, value, at, dropped)
        if found is None or profile[at] + found[1] > top:
            continue
        region += 1
        choices.append(_Choice(value, at, region))
        dropped.add(value)
        kept |= found[0]
        profile[before + 1 : at] -= size
        profile[at] += found[1]
    return choices


def _gaps(lives: Lives) -> list[tuple[Value, int, int]]:
    """Cheap values with two places between which they are not used, in the order of what it saves to drop them."""
    gaps = []
    for value, born in lives.born.items():
        if _cheap(value.node) and lives.ends[value] < len(lives.graph.nodes):  # an output has its place anyway
            places = [born, *lives.uses[value]]
            gaps += [(value, a, b) for a, b in pairwise(places) if b - a > 1]
    gaps.sort(key=lambda gap: -size_in_bytes(gap[0]) * (gap[2] - gap[1]))
    return gaps


def _cheap(node: Node | None) -> bool:
    return node is not None and node.primitive.lowering in _CHEAP and len(node.outputs) == 1 and removable(node)


def _available(lives: Lives, root: Value, at: int, size: int) -> bool:
    """Whether a value is there at a node, or small enough to be kept for it beside one of ``size`` bytes."""
    return root not in lives.born or lives.ends[root] >= at or size_in_bytes(root) * _NEGLIGIBLE <= size


def _sources(lives: Lives, value: Value, at: int, dropped: set[Value]) -> tuple[set[Value], int] | None:
    """The values from which ``value`` can be computed before node ``at``, and the bytes of what lies between them.

    None if that takes too much.
    """
    size = size_in_bytes(value)
    found: set[Value] = set()
    pending, again = [value], {value}
    while pending:
        node = pending.pop().node
        if not _cheap(node) or len(again) > _CHAIN:
            return None
        assert node is not None
        for given in node.inputs:
            root = lives.root.get(given, given)
            if root in dropped:
                return None
            if _available(lives, root, at, size):
                found.add(root)
            elif given not in again:
                again.add(given)
                pending.append(given)
    return found, sum(map(size_in_bytes, again)) - size


def _apply(lives: Lives, choices: list[_Choice]) -> Graph:
    """The graph in which the chosen values are computed again."""
    made = Rewriter(lives.graph)
    by_value = {choice.value: choice for choice in choices}
    number = -1

    def rule(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...]:
        nonlocal number
        number += 1
        given = []
        for value, new in zip(node.inputs, inputs, strict=True):
            choice = by_value.get(lives.root.get(value, value))
            late = choice is not None and number >= choice.at
            given.append(_again(made, lives, choice, value) if late and choice is not None else new)
        return made.copy(node, tuple(given))

    return made.run(rule)


def _again(made: Rewriter, lives: Lives, choice: _Choice, value: Value) -> Value:
    """``value``, that of the choice, a view of it or what it is made of, computed again."""
    if value not in choice.made:
        node = value.node
        assert node is not None
        size = size_in_bytes(choice.value)
        given = []
        for v in node.inputs:
            root = lives.root.get(v, v)
            there = root is not choice.value and _available(lives, root, choice.at, size)
            given.append(made.look(v) if there else _again(made, lives, choice, v))
        types = [v.type for v in node.outputs]
        phase = lives.graph.nodes[choice.at].phase  # it belongs to what it is computed for
        choice.made[value] = made.graph.add_node(
            node.primitive, tuple(given), node.static, types, node.source, node.recorded, choice.region, phase
        )[value.index]
    return choice.made[value]
