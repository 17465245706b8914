"""Sums over the iterations of a loop, which are taken after it: one large product in place of many small ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..ir import Graph, Node, Value
from .dead import remove_dead_code
from .rewrite import Rewriter

_LAYOUT = ("permute", "reshape")


def sum_after_loops(graph: Graph) -> Graph:
    """Take sums of products over the iterations of a `scan` out of it, as one product over all iterations.

        %1 = scan(%c, %xs, %ys)                     %1 = dot(%xs, %ys, contract=((0,0+1),(0,0+1)))
          body(%i0, %i1, %i2) {                     %2 = add(%c, %1)
            %3 = dot(%i1, %i2, contract=((0,),(0,)))     ->
            %4 = add(%i0, %3)
            return %4
          }

    These are the gradients of weights in recurrent layers. Sums over axes, those of biases, are treated alike. A sum
    that starts from zeros is that of the products; no number changes but the sign of zeros. What goes into the sum is
    stacked, if it is not yet; where that would take more memory than all that the loop reads and stacks anyway, as for
    the gradients of keys in blocked attention, the sum stays where it is.
    """
    made = Rewriter(graph)

    def rule(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        if node.primitive.name != "scan" or node.static["length"] < 2:
            return None
        loop = _Loop(node)
        return loop.rewritten(made, inputs) if loop.find() else None

    return made.run(rule)


@dataclass
class _Sum:
    """A carry that only adds up: its number, the node whose results it adds, and what moves their elements first."""

    carry: int
    node: Node
    moves: list[Node]


class _Loop:
    """A `scan`, and the sums in it."""

    def __init__(self, node: Node) -> None:
        static: Any = node.static
        self.node, self.static, self.body = node, static, static["body"]
        self.n_consts, self.n_carry = static["n_consts"], static["n_carry"]
        body = self.body
        self.uses: dict[Value, int] = {}
        for value in [*(v for n in body.nodes for v in n.inputs), *body.outputs]:
            self.uses[value] = self.uses.get(value, 0) + 1
        fixed = {*body.inputs[: self.n_consts], *body.constants}
        self.varying = {*body.inputs[self.n_consts :]}
        for inner in body.nodes:
            if inner.primitive.lowering == "random" or not fixed.issuperset(inner.inputs):
                self.varying.update(inner.outputs)
            else:
                fixed.update(inner.outputs)
        self.sums: list[_Sum] = []
        self.stacked: list[Value] = []

    def find(self) -> bool:
        """Find the sums that can be taken out; say whether there are any."""
        body, first = self.body, self.n_consts + self.n_carry
        slices = set(body.inputs[first:])
        there = {*slices, *body.outputs[self.n_carry :]}
        room = sum(map(_bytes, [*body.inputs[first:], *body.outputs[self.n_carry :]]))
        for i in range(self.n_carry):
            found = self._sum(i)
            if found is None:
                continue
            new = {v for v in self._operands(found) if v not in there}
            if sum(map(_bytes, new)) > room:
                continue
            room -= sum(map(_bytes, new))
            there |= new
            self.sums.append(found)
            self.stacked += new
        return bool(self.sums)

    def _operands(self, found: _Sum) -> tuple[Value, ...]:
        return found.node.inputs if found.node.primitive.name == "dot" else found.node.inputs[:1]

    def _sum(self, i: int) -> _Sum | None:
        """What carry number ``i`` adds up, if it does nothing else."""
        before, after = self.body.inputs[self.n_consts + i], self.body.outputs[i]
        node = after.node
        if node is None or node.primitive.name != "add" or self.uses[after] != 1 or self.uses.get(before) != 1:
            return None
        if before not in node.inputs or any(v.type != after.type for v in node.inputs):
            return None
        value = node.inputs[1 - node.inputs.index(before)]
        moves: list[Node] = []
        while value.node is not None and value.node.primitive.name in _LAYOUT:
            moves.append(value.node)
            value = value.node.inputs[0]
        made = value.node
        if made is None or made.primitive.name not in ("dot", "reduce_sum"):
            return None
        found = _Sum(i, made, moves[::-1])
        return found if self.varying.issuperset(self._operands(found)) else None

    def rewritten(self, made: Rewriter, inputs: tuple[Value, ...]) -> tuple[Value, ...]:
        """Put the smaller loop, and the sums after it; return what stands for the results of the loop."""
        out = {s.carry for s in self.sums}
        left = [i for i in range(self.n_carry) if i not in out]
        body = self._smaller(left)
        kept = [i for i in range(len(inputs)) if not self.n_consts <= i < self.n_consts + self.n_carry
                or i - self.n_consts in left]  # fmt: skip
        static = {**self.static, "body": body, "n_carry": len(left), "keep": 0}
        primitive = self.node.primitive
        given = tuple(inputs[i] for i in kept)
        results = made.put(primitive, given, static, primitive.types(*given, **static))
        n_old = len(self.body.outputs) - self.n_carry
        stacks = dict(zip(self.body.outputs[self.n_carry :], results[len(left) :], strict=False))
        stacks |= dict(zip(self.stacked, results[len(left) + n_old :], strict=True))
        first = self.n_consts + self.n_carry
        stacks |= dict(zip(self.body.inputs[first:], inputs[first:], strict=True))
        final = dict(zip(left, results, strict=False))
        for found in self.sums:
            final[found.carry] = self._after(made, found, stacks, inputs[self.n_consts + found.carry])
        return (*(final[i] for i in range(self.n_carry)), *results[len(left) : len(left) + n_old])

    def _smaller(self, left: list[int]) -> Graph:
        """The body without the sums, which gives what they add up."""
        old, first = self.body, self.n_consts
        body = Graph(old.name, old.depth)
        body.constants, body.nodes = old.constants, old.nodes
        body.inputs = [*old.inputs[:first], *(old.inputs[first + i] for i in left), *old.inputs[first + self.n_carry :]]
        body.outputs = [*(old.outputs[i] for i in left), *old.outputs[self.n_carry :], *self.stacked]
        return remove_dead_code(body)

    def _after(self, made: Rewriter, found: _Sum, stacks: dict[Value, Value], start: Value) -> Value:
        """The sum over all iterations."""
        static: Any = found.node.static
        if found.node.primitive.name == "dot":
            contract, batch = (tuple(_later(axes) for axes in static[name]) for name in ("contract", "batch"))
            contract = tuple((0, *axes) for axes in contract)
            a, b = (stacks[v] for v in found.node.inputs)
            total = made.emit("dot", a, b, contract=contract, batch=batch)
        else:
            axes = (0, *_later(static["axes"]))
            total = made.emit("reduce_sum", stacks[found.node.inputs[0]], axes=axes)
        for move in found.moves:
            total = made.emit(move.primitive.name, total, **move.static)
        begin = made.array(start)
        return total if begin is not None and not begin.any() else made.emit("add", start, total)


def _later(axes: tuple[int, ...]) -> tuple[int, ...]:
    """The axes behind one more in front."""
    return tuple(a + 1 for a in axes)


def _bytes(value: Value) -> int:
    return math.prod(value.shape) * value.dtype.itemsize
