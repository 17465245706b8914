"""What the current thread is doing: recording, tracing, standing in for cells."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tensor import Tensor

NEVER = 1 << 30
"""The level of a tensor that is not recorded."""


class State(threading.local):
    """State of one thread.

    Attributes:
        depth: how many transforms (`grad`, `vjp`, ...) are running, one inside the other.
        threshold: operations are recorded if they depend on a leaf of a level below this. Leaves of the user (cells,
            tensors with ``requires_grad``) have level 0, the arguments of the transform at depth k level k. So a
            backward phase at depth k runs at threshold k: what it computes is recorded for outer transforms only.
        traces: the traces that are running, outermost first.
        overrides: tensors that stand in for cells.
        watching: for each region that is to be run again, the values with which it first read the cells of its state.
        interpreted: whether compiled functions run as the plain Python functions that they are made from.
        phase: 0, or while a trace goes backward, one more than the phases of all that it goes back along.
        fleeting: whether what is traced is computed again for the backward phase, whatever it costs: in a checkpoint.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.threshold = NEVER
        self.traces: list[Any] = []
        self.overrides: dict[Any, Tensor] = {}
        self.watching: list[dict[Any, Tensor]] = []
        self.interpreted = False
        self.phase = 0
        self.fleeting = False


state = State()


class Shared:
    """What compiled programs of all threads share.

    What has been changed since a program last looked is known by tokens, one for each kind of change, replaced at
    every change. They are objects instead of numbers, so that changes by two threads cannot hide each other.

    Attributes:
        structure: changes of attributes of modules, of hyperparameters, of which cells are trainable.
        values: assignments to cells of which programs keep the storage.
        gradients: gradients came to be or went.
        lock: held while a program runs, since programs share the storage of cells, and each uses all threads.
    """

    __slots__ = ("gradients", "lock", "structure", "values")

    def __init__(self) -> None:
        self.structure = self.values = self.gradients = object()
        self.renew()

    def renew(self) -> None:
        """Make the lock anew: a child process has no thread that could release it."""
        self.lock = threading.RLock()


shared = Shared()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=shared.renew)


def structure_changed() -> None:
    """Let compiled programs look again at the attributes that they depend on."""
    shared.structure = object()


@contextmanager
def recording(threshold: int) -> Iterator[None]:
    """Record operations that depend on a leaf of a level below ``threshold``."""
    before, state.threshold = state.threshold, threshold
    try:
        yield
    finally:
        state.threshold = before


@contextmanager
def fleeting(also: bool = True) -> Iterator[None]:
    """Mark what is traced as computed again for the backward phase of the loop that it is in."""
    before, state.fleeting = state.fleeting, state.fleeting or also
    try:
        yield
    finally:
        state.fleeting = before


@contextmanager
def deeper() -> Iterator[int]:
    """Enter a transform: give its level, and record everything that depends on its arguments."""
    state.depth += 1
    try:
        with recording(NEVER):
            yield state.depth
    finally:
        state.depth -= 1


@contextmanager
def standing_in(overrides: dict[Any, Tensor]) -> Iterator[None]:
    """Let each tensor stand in for its cell wherever that cell is read."""
    before, state.overrides = state.overrides, state.overrides | overrides
    try:
        yield
    finally:
        # What was assigned within to a cell of an outer context stays assigned there.
        for cell in before.keys() - overrides.keys():
            before[cell] = state.overrides[cell]
        state.overrides = before


@contextmanager
def outside() -> Iterator[None]:
    """Compute something that does not belong to what is being traced or recorded: the first value of a cell."""
    before = state.__dict__.copy()
    state.__dict__.update(depth=0, threshold=0, traces=[], overrides={}, watching=[], interpreted=True, fleeting=False)
    try:
        yield
    finally:
        state.__dict__.update(before)
