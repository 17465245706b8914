"""Loops and branches as steps: their bodies are steps too, run by the same driver.

A carry lives in the buffer of the loop's result, from its first value to its last; a body writes the next one there, or
beside it and copies it over, if the old one is still read. Slices of what is scanned, and the places of stacked
results, are buffers whose address moves on with the iteration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..graph.ir import Graph, Value
from .memory import Buffer
from .ops import Op
from .schedule import Around, Step

if TYPE_CHECKING:
    from .schedule import GraphSchedule


def steps_of(outer: GraphSchedule, op: Op, into: list[Step]) -> None:
    """Append the steps of a `scan`, `cond` or `while`."""
    {"scan": _scan, "cond": _cond, "while": _while}[op.name](outer, op, into)


def _buffers(outer: GraphSchedule, op: Op) -> tuple[list[Buffer], list[Buffer]]:
    return [outer.buffer(v.root) for v in op.inputs], [outer.buffer(v) for v in op.outputs]


@contextmanager
def _around(
    outer: GraphSchedule, step: Step, buffers: Sequence[Buffer], varying: Sequence[Buffer], into: list[Step]
) -> Iterator[None]:
    """The time in which the bodies of a loop or branch are scheduled; then the step is appended.

    What a body uses from outside lives from before the loop to its end.
    """
    schedule = outer.schedule
    schedule.time += 2  # a prelude runs in between
    for buffer in buffers:
        buffer.use(schedule.time)
    prelude: list[Step] | None = None if step.kind == "cond" else []
    here = Around(schedule.time, set(), step, {b.root for b in varying}, prelude)
    schedule.around.append(here)
    yield
    schedule.around.pop()
    schedule.time += 1
    step.time = schedule.time
    for buffer in {*here.used, *buffers}:
        buffer.use(schedule.time)
        for loop in schedule.around:
            if buffer.root.start < loop.began:
                loop.used.add(buffer.root)
    into += [*(prelude or ()), step]


def _start(outer: GraphSchedule, carries: Sequence[Buffer], first: Sequence[Buffer], into: list[Step]) -> None:
    for carry, value in zip(carries, first, strict=True):
        outer.copy(carry, value, into)


def _next(
    outer: GraphSchedule, graph: Graph, given: list[Buffer], carries: list[Buffer],
    others: list[Buffer | None], body: list[Step],
) -> None:  # fmt: skip
    """The steps of a body: the next carries in place of the old ones, or beside them and then in place of them."""
    n = len(carries)
    made = outer.schedule.graph(graph, given, [None] * n + others, body, carries=carries)
    for carry, value in zip(carries, made[:n], strict=True):
        if value is not carry:
            outer.copy(carry, value, body)


def _unchanged(graph: Graph, inputs: Sequence[Value], n: int) -> list[bool]:
    return [graph.outputs[i] is inputs[i] for i in range(n)]


def _trimmed(graph: Graph, keep: list[bool]) -> Graph:
    """The graph without the carries that it does not change."""
    made = Graph(graph.name, graph.depth)
    made.inputs, made.constants, made.nodes = graph.inputs, graph.constants, graph.nodes
    made.outputs = [v for i, v in enumerate(graph.outputs) if i >= len(keep) or keep[i]]
    return made


def _scan(outer: GraphSchedule, op: Op, into: list[Step]) -> None:
    static: Any = op.static
    graph, n_consts, n_carry, length = static["body"], static["n_consts"], static["n_carry"], static["length"]
    inputs, outputs = _buffers(outer, op)
    consts, first, xs = inputs[:n_consts], inputs[n_consts : n_consts + n_carry], inputs[n_consts + n_carry :]
    carries, stacked = outputs[:n_carry], outputs[n_carry:]
    _start(outer, carries, first, into)
    step = Step("scan", ops=[op], length=length, reverse=static["reverse"], commits=outer.late)
    if length == 0:
        return
    changed = [not same for same in _unchanged(graph, graph.inputs[n_consts:], n_carry)]
    with _around(outer, step, [*consts, *carries, *xs, *stacked], [*carries, *stacked], into):
        slices = [_slice(b, length, step) for b in xs]
        places: list[Buffer | None] = [_slice(b, length, step) for b in stacked]
        body: list[Step] = []
        moving = [c for c, moves in zip(carries, changed, strict=True) if moves]
        _next(outer, _trimmed(graph, changed), [*consts, *carries, *slices], moving, places, body)
        step.bodies = [body]


def _slice(buffer: Buffer, length: int, loop: Step) -> Buffer:
    part = buffer.size // length
    return Buffer(part, "slice", buffer.value, parent=buffer, stride=part, loop=loop)


def _cond(outer: GraphSchedule, op: Op, into: list[Step]) -> None:
    inputs, outputs = _buffers(outer, op)
    predicate, operands = inputs[0], inputs[1:]
    step = Step("cond", ops=[op], result=predicate, commits=outer.late)
    with _around(outer, step, [predicate, *operands, *outputs], [], into):
        for graph in op.static["branches"]:
            body: list[Step] = []
            outer.schedule.graph(graph, operands, outputs, body)
            step.bodies.append(body)


def _while(outer: GraphSchedule, op: Op, into: list[Step]) -> None:
    static: Any = op.static
    n_test, n_body = static["n_test"], static["n_body"]
    inputs, carries = _buffers(outer, op)
    tested, consts, first = inputs[:n_test], inputs[n_test : n_test + n_body], inputs[n_test + n_body :]
    _start(outer, carries, first, into)
    step = Step("while", ops=[op], commits=outer.late)
    with _around(outer, step, [*tested, *consts, *carries], carries, into):
        test: list[Step] = []
        step.result = outer.schedule.graph(static["test"], [*tested, *carries], [None], test)[0]
        step.result.use(outer.schedule.time)
        body: list[Step] = []
        _next(outer, static["body"], [*consts, *carries], carries, [], body)
        step.bodies = [test, body]
