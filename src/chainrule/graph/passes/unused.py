"""Results of loops and branches that nothing uses, and what only they needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from ..ir import Graph, Node, Value
from .dead import remove_dead_code
from .effects import removable
from .rewrite import Rewriter, known_array


class _Shrunk(NamedTuple):
    """What is left of a node: numbers of its inputs and results, new static arguments, and which results are equal."""

    inputs: list[int]
    outputs: list[int]
    static: dict[str, Any]
    same: dict[int, int]


def remove_unused_results(graph: Graph) -> Graph:
    """Remove results of `scan` and `cond` that nothing uses, carries and inputs that are not needed for the others.

        %1, %2 = scan(%c, %0)                       %1 = scan(%c, %0)
          body(%i0, %i1) {                  ->        body(%i0, %i1) {
            return %3, %i0                              return %3
          }                                           }
        return %1                                   return %1

    So a loop keeps its carries for the backward phase only if there is one. Of stacked results that are equal, one is
    left.
    """
    needed = set(graph.outputs)
    known = partial(known_array, graph)
    shrunk: dict[Node, _Shrunk] = {}
    for node in reversed(graph.nodes):
        if needed.isdisjoint(node.outputs) and removable(node, known):
            continue
        rule = _RULES.get(node.primitive.name)
        found = rule(node, [i for i, v in enumerate(node.outputs) if v in needed]) if rule is not None else None
        if found is None or (len(found.inputs), len(found.outputs)) == (len(node.inputs), len(node.outputs)):
            needed.update(node.inputs)
            continue
        shrunk[node] = found
        needed.update(node.inputs[i] for i in found.inputs)
    if not shrunk:
        return graph
    made = Rewriter(graph)

    def rule_of(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        left = shrunk.get(node)
        if left is None:
            return None
        types = tuple(node.outputs[i].type for i in left.outputs)
        results = made.put(node.primitive, tuple(inputs[i] for i in left.inputs), left.static, types)
        new = dict(zip(left.outputs, results, strict=True))
        return tuple(new.get(left.same.get(i, i), v) for i, v in enumerate(node.outputs))  # others are not looked at

    return made.run(rule_of)


def _used(body: Graph, outputs: Iterable[int]) -> set[Value]:
    """The values that these outputs need, and what can fail or has an effect."""
    used = {body.outputs[i] for i in outputs}
    for node in reversed(body.nodes):
        if not used.isdisjoint(node.outputs) or not removable(node, body.constants.get):
            used.update(node.inputs)
    return used


def _part(body: Graph, inputs: Sequence[int], outputs: Sequence[int]) -> Graph:
    """The body with some of its inputs and outputs, and the nodes that these need."""
    made = Graph(body.name, body.depth)
    made.constants, made.nodes = body.constants, body.nodes
    made.inputs = [body.inputs[i] for i in inputs]
    made.outputs = [body.outputs[i] for i in outputs]
    return remove_dead_code(made)


def _scan(node: Node, results: list[int]) -> _Shrunk:
    body, n_consts, n_carry = (node.static[name] for name in ("body", "n_consts", "n_carry"))
    carries = [i for i in results if i < n_carry]
    first: dict[Value, int] = {}
    same = {i: first.setdefault(body.outputs[i], i) for i in results if i >= n_carry}
    stacked = list(first.values())
    while True:  # a carry is needed, too, if what is needed reads it
        used = _used(body, [*carries, *stacked])
        more = [i for i in range(n_carry) if i in carries or body.inputs[n_consts + i] in used]
        if more == carries:
            break
        carries = more
    consts = [i for i in range(n_consts) if body.inputs[i] in used]
    slices = [i for i in range(n_consts + n_carry, len(node.inputs)) if body.inputs[i] in used]
    inputs = [*consts, *(n_consts + i for i in carries), *slices]
    outputs = [*carries, *stacked]
    static = {
        **node.static, "body": _part(body, inputs, outputs), "n_consts": len(consts), "n_carry": len(carries),
        "keep": 0,
    }  # fmt: skip
    return _Shrunk(inputs, outputs, static, same)


def _cond(node: Node, results: list[int]) -> _Shrunk:
    branches = node.static["branches"]
    used = [_used(branch, results) for branch in branches]
    operands = [
        i for i in range(len(node.inputs) - 1) if any(b.inputs[i] in u for b, u in zip(branches, used, strict=True))
    ]
    static = {**node.static, "branches": tuple(_part(branch, operands, results) for branch in branches)}
    return _Shrunk([0, *(i + 1 for i in operands)], results, static, {})


_RULES = {"scan": _scan, "cond": _cond}
