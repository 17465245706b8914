"""What a legal graph is, in words and as a check.

1. **Values.** Every value is defined exactly once in its graph: as an input, as a constant, or as a result of one node
   of ``graph.nodes``; and before it is used, in the order inputs, constants, nodes, outputs. Graphs that are the same
   operations with other inputs and outputs may share values and nodes, so a pass makes a new graph and changes neither.
2. **Types.** The results of a node have the types that ``primitive.types(*inputs, **static)`` gives. An output may be
   any value, an input or a constant too, and the same value several times.
3. **Constants** are NumPy arrays of the shape and dtype of their value, a dtype with which the library computes. They
   never change.
4. **Static arguments** are hashable. They may be graphs or tuples of graphs: bodies. A body is closed: it uses no
   value that it does not define, and is legal itself.
5. **Control flow.** ``scan`` has inputs (constants, carry, arrays of ``length`` slices), its body maps (constants,
   carry, slices) to (carry, results, carry at entry); the last part is there if ``keep``, which is 0 or the size of the
   carry. ``cond`` has inputs (predicate, operands) and two branches from the operands to equal types. ``while`` has
   inputs (constants of the test, constants of the body, carry), its test gives a bool scalar, its body the next carry.
6. **Meaning.** The nodes are applied in order; what ``tensor.bind.run`` gives for each is its value. A node that can
   fail, or does something to the world (``graph.passes.effects``), is kept though its result be unused, and the latter
   kind are neither merged nor put in another order. Nodes of different ``region`` are not merged.
7. **What passes keep.** Inputs and outputs keep number, order and types, and every value keeps its bits, but for the
   sign of a NaN and for contractions whose operands are exchanged (there the order of summation is the compiler's).
   ``source`` and ``recorded`` are those of the node, or of the first of those that were merged. An optimized graph is
   for running: gradient rules that no longer matter are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import ChainruleError
from .ir import Graph, Node, TensorType, Value, bodies


class IllegalGraphError(ChainruleError):
    """A graph breaks the specification: a mistake of a pass or of a primitive, not of the user."""


def check(graph: Graph, stage: str = "graph") -> None:
    """Raise `IllegalGraphError` unless the graph, with all of its bodies, is legal.

    Args:
        graph: the graph.
        stage: what made it, for the message.
    """
    known: set[Value] = set()

    def define(value: Value, what: str) -> None:
        if value in known:
            raise IllegalGraphError(stage, f"{what} is defined twice", received=repr(value))
        known.add(value)

    for i, value in enumerate(graph.inputs):
        define(value, f"input {i} of {graph.name}")
    for value, array in graph.constants.items():
        define(value, f"a constant of {graph.name}")
        _check_constant(stage, graph, value, array)
    for number, node in enumerate(graph.nodes):
        what = f"node {number} ({node.primitive.name}) of {graph.name}"
        for i, value in enumerate(node.inputs):
            if value not in known:
                raise IllegalGraphError(stage, f"input {i} of {what} is not defined before", received=repr(value))
        _check_node(stage, what, node)
        for value in node.outputs:
            define(value, f"a result of {what}")
    for i, value in enumerate(graph.outputs):
        if value not in known:
            raise IllegalGraphError(stage, f"output {i} of {graph.name} is not defined", received=repr(value))


def _check_constant(stage: str, graph: Graph, value: Value, array: Any) -> None:
    if not isinstance(array, np.ndarray) or TensorType(array.shape, array.dtype) != value.type:
        raise IllegalGraphError(
            stage, f"a constant of {graph.name} is not an array of its type {value.type}", received=type(array).__name__
        )
    if array.dtype not in dtypes.ALL:
        raise IllegalGraphError(stage, f"no constant of {graph.name} has this dtype", received=str(array.dtype))


def _check_node(stage: str, what: str, node: Node) -> None:
    try:
        hash(tuple(node.static.items()))
    except TypeError as error:
        raise IllegalGraphError(stage, f"{what} has a static argument that is not hashable: {error}") from error
    for name, body in bodies(node.static):
        check(body, f"{stage}, {name} of {what}")
    rule = _CONTROL.get(node.primitive.name)
    if rule is not None:
        problem = rule(node.inputs, **node.static)
        if problem:
            raise IllegalGraphError(stage, f"{what}: {problem}")
    try:
        types = node.primitive.types(*node.inputs, **node.static)
    except ChainruleError as error:
        raise IllegalGraphError(stage, f"{what} cannot be applied to its inputs: {error}") from error
    expected = [types] if isinstance(types, TensorType) else list(types)
    if [v.type for v in node.outputs] != expected:
        raise IllegalGraphError(
            stage,
            f"{what} gives ({', '.join(map(str, expected))})",
            received=f"({', '.join(str(v.type) for v in node.outputs)})",
        )
    if any(v.node is not node or v.index != i for i, v in enumerate(node.outputs)):
        raise IllegalGraphError(stage, f"{what} has a result that names another node as its origin")


# --- control flow: each rule returns what is wrong, or nothing ------------------------------------------------


def _types(values: Sequence[Value]) -> list[TensorType]:
    return [v.type for v in values]


def _scan(
    inputs: Sequence[Value], *, body: Graph, n_consts: int, n_carry: int, length: int, reverse: bool, keep: int
) -> str:
    n = n_consts + n_carry
    if not 0 <= n_consts <= n <= len(inputs) or len(body.inputs) != len(inputs):
        return f"{len(inputs)} inputs for {n_consts} constants, a carry of {n_carry} and {len(body.inputs)} of the body"
    slices = [TensorType((length, *v.shape), v.dtype) for v in body.inputs[n:]]
    if _types(inputs) != _types(body.inputs[:n]) + slices:
        return "the inputs have other types than the body's"
    if _types(body.outputs[:n_carry]) != _types(body.inputs[n_consts:n]):
        return "the carry changes its type"
    if keep and not n_carry <= keep <= len(body.outputs) - n_carry:
        return f"keep={keep} of {len(body.outputs)} results with a carry of {n_carry}"
    return ""


def _cond(inputs: Sequence[Value], *, branches: tuple[Graph, ...]) -> str:
    if len(branches) != 2 or not inputs or inputs[0].type != TensorType((), dtypes.bool_):
        return "needs a bool scalar and two branches"
    if any(_types(branch.inputs) != _types(inputs[1:]) for branch in branches):
        return "a branch takes other operands"
    if _types(branches[0].outputs) != _types(branches[1].outputs):
        return "the branches give other types"
    return ""


def _while(inputs: Sequence[Value], *, test: Graph, body: Graph, n_test: int, n_body: int) -> str:
    if not 0 <= n_test <= n_test + n_body <= len(inputs):
        return f"{len(inputs)} inputs for {n_test} constants of the test and {n_body} of the body"
    given, carry = _types(inputs), _types(inputs[n_test + n_body :])
    if _types(test.inputs) != given[:n_test] + carry or _types(body.inputs) != given[n_test:]:
        return "the inputs have other types than those of test and body"
    if _types(test.outputs) != [TensorType((), dtypes.bool_)]:
        return "the test does not give a bool scalar"
    if _types(body.outputs) != carry:
        return "the carry changes its type"
    return ""


_CONTROL: dict[str, Callable[..., str]] = {"scan": _scan, "cond": _cond, "while": _while}
