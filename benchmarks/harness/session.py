"""All contenders at one workload: fresh processes one after the other, then steps in turn."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .jobs import Job, save
from .peers import PeerError
from .processes import Contender, Process
from .summary import Row, spread

COMPARED = 20
"""So many steps are taken by a fresh process before its memory and losses are read."""
RESTLESS = 0.05
"""Processor time of a waiting process, as a share, above which it disturbs the others."""

FACTS = ("versions", "details")  # asked of a process at its end

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Attributes:
        threads: for every library.
        seconds: of steps of each contender.
        rounds: in how many turns.
        starts: cold and warm processes of ours; each peer has one of both, since that can take a minute.
    """

    threads: int
    seconds: float
    rounds: int
    starts: int


@dataclass
class Contestant:
    """A contender at the workload, with what was measured."""

    contender: Contender
    process: Process
    first: dict[str, list[float]]
    losses: list[float]
    memory: dict[str, float]
    times: list[list[float]] = field(default_factory=list)

    def record(self) -> Row:
        """All that is known. Without rounds, if the run was ended before one, there is nothing to compare."""
        every = [t for found in self.times for t in found]
        return {
            "ours": self.contender.peer.ours, "steps": len(every), **spread(every),
            "rounds": [statistics.median(found) for found in self.times],
            "first_loss_s": {kind: statistics.median(seconds) for kind, seconds in self.first.items()},
            "peak_rss_mb": self.memory["warm"], "peak_rss_cold_mb": self.memory.get("cold"),
            "losses": self.losses, "idle": self.process.idle,
        }  # fmt: skip


@contextmanager
def stored(job: Job) -> Iterator[Path]:
    """The file of a job."""
    with tempfile.TemporaryDirectory() as folder:
        save(job, Path(folder) / "job.npz")
        yield Path(folder) / "job.npz"


def started(contender: Contender, job: Path, plan: Plan, stack: ExitStack) -> Contestant:
    """Start a contender in fresh processes: one that has nothing compiled, then one that has what that one left.

    The last of them is measured. Its memory is read after as many steps as its losses; of ours, also that of the last
    that had to compile.
    """
    kinds = ("cold", "warm") * (plan.starts if contender.peer.ours else 1)
    first: dict[str, list[float]] = {"cold": [], "warm": []}
    memory: dict[str, float] = {}
    for number, kind in enumerate(kinds, start=1):
        if kind == "cold":
            cache = stack.enter_context(tempfile.TemporaryDirectory())  # no spaces, in which PyTorch cannot compile
        process = stack.enter_context(Process(contender, job, plan.threads, cache))
        first[kind].append(process.first_seconds)
        if kind == "warm" or contender.peer.ours:
            losses = [process.loss, *process.ask("train", COMPARED - 1)]
            memory[kind] = process.ask("memory")
        if number < len(kinds):
            process.close()
    return Contestant(contender, process, first, losses, memory)


def measure(job: Job, contenders: Sequence[Contender], plan: Plan, peak: Callable[[], float], say: Say) -> Row:
    """Steps of all contenders in turn, in several rounds, the machine's peak between them.

    One process runs at a time; the others wait for their parent. Ctrl-C ends the rounds, and what was measured stays.
    """
    row: Row = {"contenders": {}, "left_out": [], "peak_gflops": [], "restless": []}
    there: list[Contestant] = []
    with ExitStack() as stack:
        path = stack.enter_context(stored(job))
        for contender in contenders:
            say(f"{contender.name}: fresh processes")
            try:
                there.append(started(contender, path, plan, stack))
            except PeerError as error:
                row["left_out"].append(str(error))
        row["peak_gflops"].append(peak())
        try:
            for number in range(plan.rounds):
                for one in there if number % 2 else there[::-1]:
                    say(f"round {number + 1} of {plan.rounds}: {one.contender.name}")
                    one.times.append(one.process.ask("measure", plan.seconds / plan.rounds))
                row["peak_gflops"].append(peak())
            facts = {one.contender.name: {what: one.process.ask(what) for what in FACTS} for one in there}
        except KeyboardInterrupt:
            row["interrupted"], facts = True, {}
        for one in there:
            name = one.contender.name
            if one.times:
                row["contenders"][name] = one.record() | facts.get(name, {})
            if one.process.idle > RESTLESS:
                row["restless"].append(f"{name} used {one.process.idle:.0%} of a processor while it waited")
    return row
