"""Running kernels again instead of keeping what they made, under a memory budget.

Chen, Xu, Zhang, Guestrin, "Training deep nets with sublinear memory cost" (arXiv 1604.06174) keep some values of the
forward phase and compute the others again from them. Here that is decided when the kernels are known: a buffer that is
not used for long is given up, and just before its next use the kernels that filled it are run again. They are the same
kernels with the same numbers, so what they make has the same bits, with any budget.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from .memory import Buffer, place
from .schedule import Step

_NEGLIGIBLE = 16
"""A buffer so many times smaller than another is kept alive for it."""
_ROUNDS = 40
_FALL = 0.85
"""To what share of itself the peak is to fall in a round: so what is far below it is left alone."""
_LEAST = 0.99
"""A round after which more than this share of the peak is left is the last one."""
_MOST_STEPS = 24
"""Kernels that may be run again for one buffer."""


def fit(steps: list[Step], buffers: list[Buffer], budget: int) -> tuple[list[Step], int]:
    """Run kernels again until the arena needs at most ``budget`` bytes, or as few as can be.

        %1 = f(%0)                      %1 = f(%0)
        %2 = g(%1)                      %2 = g(%1)
        ...  (the peak)        ->       ...
                                        %8 = f(%0)
        %9 = h(%1)                      %9 = h(%8)

    Args:
        steps: of the program; each is given its new time and buffers.
        buffers: of the program, with their places; those that are new are appended.
        budget: bytes.

    Returns:
        the steps, and the size of the arena.
    """
    plan, size = _Plan(steps, buffers), place(buffers)
    for _ in range(_ROUNDS):
        if size <= budget or not plan.reduce(budget / size):  # the arena has gaps: it is larger than the peak
            break
        size = place(buffers)
    return plan.steps, size


@dataclass
class _Again:
    """What it takes to have a buffer again before a step.

    Attributes:
        at: number of the step.
        dropped: the buffer, and others that the same kernels make and that are used later; for each the number of the
            step that uses it last before.
        steps: the numbers of the steps to run.
        needed: what they make for each other.
        sources: what they read that is there.
        ns: their time.
        extra: bytes for what they make beside the buffer.
        made: the buffers that stand for those they write.
    """

    at: int
    dropped: dict[Buffer, int]
    steps: list[int] = field(default_factory=list)
    needed: set[Buffer] = field(default_factory=set)
    sources: set[Buffer] = field(default_factory=set)
    ns: float = 0.0
    extra: int = 0
    made: dict[Buffer, Buffer] = field(default_factory=dict)


class _Plan:
    """Which buffers of the steps are given up, and when they are made again."""

    def __init__(self, steps: list[Step], buffers: list[Buffer]) -> None:
        self.steps = steps
        self.buffers = buffers

    def reduce(self, share: float) -> bool:
        """Bring the peak to ``share`` of itself, or some of the way; say whether it fell."""
        self._look()
        top = self.profile.max(initial=0)
        chosen = self._choose(int(top * max(share, _FALL)))
        if not chosen or self.profile.max() > _LEAST * top:
            return False
        self._apply(chosen)
        return True

    # --- what there is ------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Find who writes and who uses each buffer, and how many bytes are alive at each time."""
        self.writers: dict[Buffer, list[int]] = {}
        self.uses: dict[Buffer, list[int]] = {}
        self.pinned: set[Buffer] = set()
        self.reads: list[list[Buffer]] = []
        self.writes: list[list[Buffer]] = []
        self.gate = next((i for i, step in enumerate(self.steps) if step.kind == "gate"), len(self.steps))
        for i, step in enumerate(self.steps):
            read, written = _touched(step)
            self.reads.append(read)
            self.writes.append(written)
            for buffer in written:
                self.writers.setdefault(buffer, []).append(i)
            for buffer in {*read, *written}:
                self.uses.setdefault(buffer, []).append(i)
            if step.kind != "kernel":
                self.pinned.update(read, written)
        last = max((b.end for b in self.buffers), default=0)
        change = np.zeros(last + 2, np.int64)
        for buffer in self.buffers:
            if buffer.end >= 0:
                change[buffer.start] += buffer.size
                change[buffer.end + 1] -= buffer.size
        self.profile = np.cumsum(change)

    def _choose(self, goal: int) -> list[_Again]:
        """The buffers to give up in this round: first those that give the most memory for the time."""
        over = np.maximum(self.profile - goal, 0)
        top = int(self.profile.max())
        found: list[tuple[float, int, _Again]] = []
        for buffer, before, at in self._gaps():
            if self._gain(buffer, before, at, over) and (again := self._again(buffer, before, at)):
                gain = sum(self._gain(b, last, at, over) for b, last in again.dropped.items())
                found.append((again.ns / gain, len(found), again))
        dropped: set[Buffer] = set()
        kept: set[Buffer] = set()
        chosen = []
        for _, _, again in sorted(found, key=lambda entry: entry[:2]):
            (buffer, before), *others = again.dropped.items()
            time = self.steps[again.at].time
            if buffer in kept or buffer in dropped or again.sources & dropped:
                continue
            for other, _ in others:
                if other in kept or other in dropped:
                    del again.dropped[other]
                    again.extra += other.size
            if not self._gain(buffer, before, again.at, over) or self.profile[time] + again.extra >= top:
                continue
            chosen.append(again)
            dropped.update(again.dropped)
            kept |= again.sources
            self.profile[time] += again.extra
            for given_up, last in again.dropped.items():
                gap = slice(self.steps[last].time + 1, time)
                self.profile[gap] -= given_up.size
                over[gap] = np.maximum(self.profile[gap] - goal, 0)
        return chosen

    def _gaps(self) -> Iterator[tuple[Buffer, int, int]]:
        """Buffers with two steps between which they are not used."""
        for buffer, writers in self.writers.items():
            if buffer not in self.pinned:
                for before, at in pairwise(self.uses[buffer]):
                    if before >= writers[-1] and at - before > 1 and at < self.gate:
                        yield buffer, before, at

    def _gain(self, buffer: Buffer, before: int, at: int, over: np.ndarray) -> int:
        """By how much it comes nearer to the goal, over time."""
        return int(np.minimum(over[self.steps[before].time + 1 : self.steps[at].time], buffer.size).sum())

    def _again(self, buffer: Buffer, before: int, at: int) -> _Again | None:
        """What makes a buffer again before a step; None if that takes too much."""
        time = self.steps[at].time
        made = _Again(at, {buffer: before}, needed={buffer})
        numbers: set[int] = set()
        pending = [buffer]
        while pending:
            for i in self.writers[pending.pop()]:
                if i in numbers or i >= at:
                    continue
                numbers.add(i)
                if len(numbers) > _MOST_STEPS or self.steps[i].kind != "kernel":
                    return None
                for source in self.reads[i]:
                    if source in made.needed:
                        continue
                    if source not in self.writers or source in self.pinned:
                        if source.end < time and source.size * _NEGLIGIBLE > buffer.size:
                            return None  # of a loop or the host: kept only if it is small
                        made.sources.add(source)
                    elif source.end >= time or (source.size * _NEGLIGIBLE <= buffer.size and not _is_temporary(source)):
                        made.sources.add(source)
                    else:
                        made.needed.add(source)
                        pending.append(source)
        made.steps = sorted(numbers)
        made.ns = sum(self._ns(i) for i in made.steps)
        written = dict.fromkeys(b for i in made.steps for b in self.writes[i])
        for other in written:
            if other in made.needed or other in made.sources or other in self.pinned:
                continue
            last = self._last_use(other, at)
            if last is not None and numbers.issuperset(self.writers[other]):
                made.dropped[other] = last
        made.extra = sum(b.size for b in {*written, *made.needed} if b not in made.dropped)
        return made

    def _last_use(self, buffer: Buffer, at: int) -> int | None:
        """The last step before ``at`` that uses a buffer which is complete by then, and used again later."""
        uses = self.uses[buffer]
        place = bisect.bisect_left(uses, at)
        if place in (0, len(uses)) or self.writers[buffer][-1] > uses[place - 1] or uses[-1] >= self.gate:
            return None
        return uses[place - 1]

    def _ns(self, i: int) -> float:
        call = self.steps[i].call
        return 1000.0 + (call.ns if call is not None else 0.0)

    # --- doing it -----------------------------------------------------------------------------------------

    def _apply(self, chosen: Sequence[_Again]) -> None:
        """Insert the steps that run again, and let what comes after them use what they make."""
        by_place: dict[int, list[_Again]] = {}
        for again in chosen:
            by_place.setdefault(again.at, []).append(again)
        self._shift(by_place)
        current: dict[Buffer, Buffer] = {}
        made: list[Step] = []
        for i, step in enumerate(self.steps):
            for again in by_place.get(i, ()):
                made += self._copies(again, current, made[-1].time if made else 0)
                current.update((buffer, again.made[buffer]) for buffer in again.dropped)
            if step.kind == "kernel" and any(b in current for b, _ in step.buffers):
                step.buffers = [(current.get(b, b), offset) for b, offset in step.buffers]
                for buffer, _ in step.buffers:
                    buffer.use(step.time)
            made.append(step)
        for again in chosen:
            for buffer, last in again.dropped.items():
                buffer.end = self.steps[last].time
        self.steps = made

    def _shift(self, by_place: dict[int, list[_Again]]) -> None:
        """Make room in time for the steps that are inserted."""
        places = sorted(by_place)
        times = np.array([self.steps[i].time for i in places])
        more = np.cumsum([0, *(sum(len(a.steps) for a in by_place[i]) for i in places)])

        def later(time: int) -> int:
            return int(time + more[np.searchsorted(times, time, side="right")])

        for buffer in self.buffers:
            if buffer.end >= 0:
                buffer.start, buffer.end = later(buffer.start), later(buffer.end)
        for step in self.steps:
            step.time = later(step.time)

    def _copies(self, again: _Again, current: dict[Buffer, Buffer], time: int) -> list[Step]:
        """The steps that run again, with buffers of their own."""
        made = []
        for number, i in enumerate(again.steps, start=1):
            step = self.steps[i]
            assert step.call is not None
            given = []
            for ref, (buffer, offset) in zip(step.call.refs, step.buffers, strict=True):
                own = buffer in again.needed or (ref.kind != "in" and buffer in self.writers)
                given.append((self._own(again, buffer) if own else current.get(buffer, buffer), offset))
            copied = replace(step, buffers=given, time=time + number, again=True)
            for buffer, _ in given:
                buffer.use(copied.time)
            made.append(copied)
        return made

    def _own(self, again: _Again, buffer: Buffer) -> Buffer:
        if buffer not in again.made:
            wanted = buffer in again.needed or buffer in again.dropped
            again.made[buffer] = Buffer(buffer.size, value=buffer.value if wanted else None)
            self.buffers.append(again.made[buffer])
        return again.made[buffer]


def _is_temporary(buffer: Buffer) -> bool:
    """Whether it belongs to one kernel alone, and may be written by each step that has it."""
    return buffer.value is None


def _touched(step: Step) -> tuple[list[Buffer], list[Buffer]]:
    """The buffers in the arena that a step, or what it contains, reads and writes; both, where that is not known."""
    if step.kind == "kernel" and step.call is not None:
        kinds = [ref.kind for ref in step.call.refs]
        roots = [buffer.root for buffer, _ in step.buffers]
        pairs = [(k, b) for k, b in zip(kinds, roots, strict=True) if b.kind == "arena"]
        return [b for k, b in pairs if k != "out"], [b for k, b in pairs if k != "in"]
    all_of_it: dict[Buffer, None] = {}
    pending = [step]
    while pending:
        here = pending.pop()
        roots = [buffer.root for buffer, _ in here.buffers] + ([here.result.root] if here.result else [])
        all_of_it.update(dict.fromkeys(b for b in roots if b.kind == "arena"))
        pending += [inner for body in here.bodies for inner in body]
    return list(all_of_it), list(all_of_it)
