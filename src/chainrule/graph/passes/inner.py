"""The bodies of control flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir import Graph, Node, Value
from .rewrite import SMALL, Rewriter, known_array

Positions = dict[int, int]
"""For the number of an input of a node that of the input of its body."""


def optimize_bodies(graph: Graph, optimize: Callable[[Graph], Graph]) -> Graph:
    """Optimize the body of each loop and branch, which sees the constants that it is given.

        %c0 = 1.0                                     %c0 = 1.0
        %1 = scan(%c0, ...)                           %1 = scan(%c0, ...)
          body(%i0, %i1) {                  ->          body(%i0, %i1) {
            %2 = multiply(%i1, %i0)
            return %2                                     return %i1
          }                                             }

    A body keeps its inputs and outputs, so the node stays as it is.
    """
    made = Rewriter(graph)
    done: dict[Any, Graph] = {}

    def better(node: Node, name: str, body: Graph, inputs: tuple[Value, ...]) -> Graph:
        positions = _positions(node, name)
        arrays = {outer: _same(node, outer, known_array(made.graph, inputs[outer])) for outer in positions}
        given = {positions[i]: array for i, array in arrays.items() if array is not None and _cheap(array)}
        key = (id(body), *((positions[i], inputs[i]) for i in positions if positions[i] in given))
        if key not in done:
            done[key] = optimize(with_constants(body, given) if given else body)
        return done[key]

    def rule(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        if node.primitive.lowering != "control":
            return None
        static = dict(node.static)
        for name, argument in static.items():
            if isinstance(argument, Graph):
                static[name] = better(node, name, argument, inputs)
            elif isinstance(argument, tuple) and argument and isinstance(argument[0], Graph):
                static[name] = tuple(better(node, name, part, inputs) for part in argument)
        return made.put(node.primitive, inputs, static, tuple(v.type for v in node.outputs))

    return made.run(rule)


def _positions(node: Node, name: str) -> Positions:
    """The inputs of the node that are the same whenever its body runs."""
    static = node.static
    if node.primitive.name == "scan":
        first = static["n_consts"] + static["n_carry"]
        return {i: i for i in [*range(static["n_consts"]), *range(first, len(node.inputs))]}
    if node.primitive.name == "cond":
        return {i + 1: i for i in range(len(node.inputs) - 1)}
    if node.primitive.name == "while":
        first, n = (0, static["n_test"]) if name == "test" else (static["n_test"], static["n_body"])
        return {first + i: i for i in range(n)}
    return {}


def _same(node: Node, number: int, array: np.ndarray | None) -> np.ndarray | None:
    """What a body sees of an input in every iteration, if it is known and always the same: often zeros."""
    if array is None or node.primitive.name != "scan" or number < node.static["n_consts"]:
        return array
    return np.asarray(array[0]) if len(array) and not array.strides[0] else None


def _cheap(array: np.ndarray) -> bool:
    """Whether the array is small, or one number repeated."""
    return array.nbytes <= SMALL or not any(array.strides)


def with_constants(body: Graph, given: dict[int, np.ndarray]) -> Graph:
    """The body with constants for some of its inputs, which it keeps but does not use."""
    made = Rewriter(body)
    for i, array in given.items():
        made.known[body.inputs[i]] = made.literal(array)
    return made.run()
