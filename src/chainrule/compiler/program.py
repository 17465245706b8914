"""A compiled program: a graph as native tables, and the call that runs them.

Graph --passes--> Graph --schedule--> Steps --plan--> addresses --image--> tables and code
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ChainruleError
from ..graph.ir import Graph
from ..graph.passes import optimize
from ..tensor.bind import run as run_reference
from ..tensor.cells import Cell
from ..tensor.state import state
from . import engine
from .image import Advance, Block, Image, Steps
from .interface import Argument, CellSource, ProgramFault, Source
from .memory import ALIGNMENT, Buffer, place
from .recompute import fit
from .schedule import Commit, Schedule, Step

SMALL = 4096
"""Arguments and results up to so many bytes are copied to and from a place of their own."""


class Program:
    """The native program of a graph.

    Args:
        graph: outputs are the results, then the new values of the ``written`` cells.
        inputs: where each input comes from.
        n_results: how many results there are.
        written: the cells that the program assigns.
        name: for tables.
        memory_budget: bytes of intermediate values above which they are computed again instead of kept.

    Attributes:
        graph: after all passes.
        written: the cells that a run assigns.
        steps: what is run, in order; for tables.
        arena_size: bytes of intermediate memory.
    """

    def __init__(
        self,
        graph: Graph,
        inputs: Sequence[Source],
        n_results: int,
        written: Sequence[Cell],
        name: str = "program",
        memory_budget: int | None = None,
    ) -> None:
        self.name = name
        self.n_results = n_results
        self.written = list(written)
        self.graph = optimize(graph)
        self._inputs = list(inputs)
        self._arguments: list[tuple[int, Any, Any]] = []  # number of the leaf, staging array or None, base
        self._n_bases = 0
        self._plan(written, memory_budget)
        self._lay_out()

    # --- planning -----------------------------------------------------------------------------------------

    def _plan(self, written: Sequence[Cell], memory_budget: int | None) -> None:
        schedule = Schedule()
        graph = self.graph
        homes = {cell: _fixed(cell.storage()) for cell in self._cells(written)}
        given = [
            homes[source.cell] if isinstance(source, CellSource) else self._argument(source, value.shape, value.dtype)
            for source, value in zip(self._inputs, graph.inputs, strict=True)
        ]
        self._results = [self._result(v.shape, v.dtype) for v in graph.outputs[: self.n_results]]
        targets = [buffer for buffer, _, _ in self._results] + [None] * len(written)
        self.steps: list[Step] = []
        commit = Commit(self.n_results, [homes[cell] for cell in written])
        schedule.graph(graph, given, targets, self.steps, commit)
        self.buffers = schedule.buffers
        if memory_budget is None:
            self.arena_size = place(self.buffers)
        else:
            self.steps, self.arena_size = fit(self.steps, self.buffers, memory_budget)

    def _cells(self, written: Sequence[Cell]) -> dict[Cell, None]:
        return dict.fromkeys([*(s.cell for s in self._inputs if isinstance(s, CellSource)), *written])

    def _argument(self, source: Argument, shape: Any, dtype: Any) -> Buffer:
        buffer, staging = self._passed(shape, dtype)
        self._arguments.append((source.number, staging, None if staging is not None else buffer.number))
        return buffer

    def _result(self, shape: Any, dtype: Any) -> tuple[Buffer, Any, Any]:
        """Buffer of a result, its staging array, or its base with shape and dtype."""
        buffer, staging = self._passed(shape, dtype)
        return buffer, staging, None if staging is not None else (buffer.number, tuple(shape), dtype)

    def _passed(self, shape: Any, dtype: Any) -> tuple[Buffer, np.ndarray | None]:
        """The buffer of an argument or result, and its staging array; none if its address comes with the call."""
        size = math.prod(shape) * dtype.itemsize
        if size <= SMALL:
            staging = np.zeros(shape, dtype)
            return _fixed(staging), staging
        self._n_bases += 1
        return Buffer(size, "base", number=self._n_bases - 1), None

    # --- tables -------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        calls = [step.call for step in walk(self.steps) if step.call is not None]
        codes = {call.code.key: call.code for call in calls}
        found = engine.addresses(list(codes.values()))
        self._functions = dict(zip(codes, found, strict=True))
        self._arena = _shared_arena()
        self._arena_address: int | None = None  # to which the tables point
        self._in_arena: list[tuple[int, int]] = []  # addresses of words, and the offsets of what they point to
        self._image = Image(self._n_bases)
        self.numbered: list[Step] = []
        self._fill(self.steps, self._image.steps, [])
        scratch = max((call.scratch for call in calls), default=0)
        self._runnable = self._image.finish(scratch)

    def _point(self, slot: int, words: np.ndarray, i: int, buffer: Buffer, offset: int, moves: Moves) -> None:
        """Let a word hold the address of a buffer."""
        if buffer.kind == "base":
            self._image.relocate(slot, buffer.number, offset)
        elif buffer.kind == "slice":
            start = self._image.block([0])
            assert buffer.parent is not None
            self._point(start.slot(0), start.words, 0, buffer.parent, offset, moves)
            moves_of = next(m for loop, m in moves if loop is buffer.loop)
            moves_of.append(Advance(slot, start.slot(0), buffer.stride))
        elif buffer.kind == "fixed":
            words[i] = buffer.owner.ctypes.data + offset
        else:
            self._in_arena.append((slot, buffer.offset + offset))

    def _pointers(self, step: Step, words: Sequence[int], moves: Moves) -> Block:
        block = self._image.block([self._image.status, *[0] * len(step.buffers), *words])
        for i, (buffer, offset) in enumerate(step.buffers, start=1):
            self._point(block.slot(i), block.words, i, buffer, offset, moves)
        return block

    def _fill(self, steps: list[Step], table: Steps, moves: Moves) -> None:
        for step in steps:
            number = len(self.numbered)
            self.numbered.append(step)
            if step.kind == "kernel":
                call = step.call
                assert call is not None
                block = self._pointers(step, call.words, moves)
                table.kernel(self._functions[call.code.key], block, call.items, call.grain, step.parallel, number)
            elif step.kind == "host":
                table.host(self._host(step, self._pointers(step, [], moves)), number=number)
            elif step.kind == "copy":
                block = self._pointers(step, [], moves)
                table.copy(block.slot(1), block.slot(2), step.size, number)
            elif step.kind == "gate":
                table.gate(number)
            else:
                self._loop(step, table, moves, number)

    def _loop(self, step: Step, table: Steps, moves: Moves, number: int) -> None:
        predicate = None
        if step.result is not None:
            predicate = self._image.block([0])
            self._point(predicate.slot(0), predicate.words, 0, step.result, 0, moves)
        bodies = [Steps() for _ in step.bodies]
        advances: list[Advance] = []
        inside = [*moves, (step, advances)] if step.kind == "scan" else moves
        for steps, body in zip(step.bodies, bodies, strict=True):
            self._fill(steps, body, inside)
        if step.kind == "scan":
            table.scan(step.length, bodies[0], advances, step.reverse, number)
        elif step.kind == "cond":
            assert predicate is not None
            table.cond(predicate.slot(0), bodies[0], bodies[1], number)
        else:
            assert predicate is not None
            table.while_(bodies[0], predicate.slot(0), bodies[1], number)

    def _host(self, step: Step, block: Block) -> Callable[[], None]:
        """A function that runs the NumPy reference on the buffers of a step.

        It gets copies: a user's function may keep or change an array, and what it looked at may be gone afterwards.
        """
        op = step.ops[0]
        assert op.node is not None
        inputs = [(tuple(v.shape), v.dtype) for v in op.node.inputs]  # a buffer may have another shape
        outputs = [(tuple(v.shape), v.dtype) for v in op.outputs]
        primitive, static = op.node.primitive, op.static

        def host() -> None:
            addresses = block.words[1 : 1 + len(inputs) + len(outputs)].tolist()
            given = [_array(a, *t).copy() for a, t in zip(addresses, inputs, strict=False)]
            found = run_reference(primitive, given, static)
            results = found if isinstance(found, tuple) else (found,)
            for address, of, result in zip(addresses[len(inputs) :], outputs, results, strict=True):
                _array(address, *of)[...] = result

        return host

    # --- running ------------------------------------------------------------------------------------------

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run on the arguments; return fresh results, and give the written cells their new values.

        Raises:
            ProgramFault: a step failed; every cell is as before.
        """
        bases = self._runnable.bases
        alive = []
        for number, staging, base in self._arguments:
            array = arrays[number]
            if base is None:
                staging[...] = array
            else:
                array = np.ascontiguousarray(array)
                alive.append(array)
                bases[base] = array.ctypes.data
        results: list[np.ndarray] = []
        for _, staging, how in self._results:
            if how is None:
                results.append(staging)
            else:
                made = np.empty(how[1], how[2])
                bases[how[0]] = made.ctypes.data
                results.append(made)
        if self._arena.address != self._arena_address:
            self._move()
        # What the host calls meanwhile, functions or handlers of signals, may not run a program in the same memory.
        before, state.interpreted = state.interpreted, True
        try:
            status = self._runnable.run()
        except ChainruleError as error:
            raise ProgramFault(str(error)) from error
        finally:
            state.interpreted = before
        if status:
            raise ProgramFault(f"status {status}")
        return [r.copy() if how is None else r for r, (_, _, how) in zip(results, self._results, strict=True)]

    def _move(self) -> None:
        """Let the tables point to where the arena is now."""
        self._arena.grow(self.arena_size)
        self._arena_address = self._arena.address
        for slot, offset in self._in_arena:
            ctypes.c_int64.from_address(slot).value = self._arena_address + offset


Moves = list[tuple[Step, list[Advance]]]


class _Arena:
    """Memory for intermediate values of all programs: they run one at a time and leave nothing in it.

    Attributes:
        address: where it is; another one after it has grown.
    """

    def __init__(self) -> None:
        self._size = -1
        self.address = 0

    def grow(self, size: int) -> None:
        """Make it large enough; nothing may be running."""
        if size <= self._size:
            return
        self._size, self.address, self._memory = -1, 0, None  # first, so that the two are not there at once
        self._memory = np.empty(size + ALIGNMENT, np.uint8)
        self._size, self.address = size, -(-self._memory.ctypes.data // ALIGNMENT) * ALIGNMENT


_arena: weakref.ref[_Arena] | None = None


def _shared_arena() -> _Arena:
    """The arena of the programs that there are; it goes with the last of them."""
    global _arena
    found = None if _arena is None else _arena()
    if found is None:
        found = _Arena()
        _arena = weakref.ref(found)
    return found


def _fixed(array: np.ndarray) -> Buffer:
    return Buffer(array.nbytes, "fixed", owner=array)


def _array(address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array on memory of the program."""
    size = math.prod(shape) * dtype.itemsize
    if not size:
        return np.empty(shape, dtype)
    memory = (ctypes.c_byte * size).from_address(address)
    return np.frombuffer(memory, np.uint8).view(dtype).reshape(shape)


def walk(steps: Sequence[Step]) -> list[Step]:
    """All steps, those of bodies after the step that runs them."""
    found = []
    for step in steps:
        found.append(step)
        for body in step.bodies:
            found += walk(body)
    return found
