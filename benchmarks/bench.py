"""Training steps of the nine workloads, in this library and in its peers, in turn.

    python benchmarks/bench.py [w1 w4 ...] [--peers pytorch jax] [--seconds 5] [--threads 2] [--quick]

Every library trains the same network from the same weights on the same data with the same optimizer, in a process of
its own, and the loss is read after each step. The processes are started one after the other; then they take turns, A B
C C B A, while the others wait, and between the rounds the processor's multiply-adds are measured, which shows how
quiet the machine is and what a share of its peak is. See docs/benchmarks.md for the method.

The environments of the peers are made at the first run. Results are written to benchmarks/results unless --quick.
"""

from __future__ import annotations

import argparse
import compileall
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import peers, report, session
from harness.limits import peak_meter
from harness.processes import Contender, our_package
from harness.summary import Row, finished, geometric_mean, summary
from networks import WORKLOADS, Workload, job
from rich.console import Console

import chainrule as cr


def options() -> argparse.Namespace:
    names = [peer.name for peer in peers.peers() if not peer.ours]
    parser = argparse.ArgumentParser(description="Measure training steps beside those of other libraries.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(WORKLOADS)}; all if left out")
    parser.add_argument("--peers", nargs="*", choices=names, default=names, help="without a name: ours alone")
    parser.add_argument("--modes", nargs="*", help="only modes with such a word, of ours too; 'eager' adds ours")
    parser.add_argument("--seconds", type=float, default=5.0, help="of steps, for each library and mode")
    parser.add_argument("--threads", type=int, default=cr.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="two short rounds, and nothing is written")
    parser.add_argument("--out", type=Path, default=report.RESULTS, metavar="FOLDER")
    given = parser.parse_args()
    if unknown := set(given.names) - set(WORKLOADS):
        parser.error(f"no workloads of these names: {', '.join(sorted(unknown))}")
    return given


def contenders(given: argparse.Namespace, workload: Workload, available: Sequence[peers.Peer]) -> list[Contender]:
    """The libraries, each in the modes that suit the workload."""
    found = []
    for peer in available:
        modes = peer.modes + (peer.image_modes if workload.images else ())
        if given.modes:
            modes = tuple(m for m in modes + peer.extra_modes if any(word in m for word in given.modes))
        found += [Contender(peer, mode) for mode in modes]
    return found


def install(given: argparse.Namespace, console: Console) -> list[peers.Peer]:
    """The libraries that are there, ours first."""
    available = []
    for peer in peers.peers():
        if not peer.ours and peer.name not in given.peers:
            continue
        try:
            peers.install(peer, console.print)
            available.append(peer)
        except peers.PeerError as error:
            console.print(str(error), highlight=False)
    return available


def run(given: argparse.Namespace, console: Console) -> dict[str, Row]:
    """All workloads; those that are done when Ctrl-C ends it."""
    available = install(given, console)
    plan = session.Plan(given.threads, given.seconds, 2 if given.quick else 5, 1 if given.quick else 3)
    peak, rows, stamp = peak_meter(), {}, report.stamp()
    try:
        for name in given.names or WORKLOADS:
            workload = WORKLOADS[name]
            with console.status(name) as status:
                found = session.measure(
                    job(workload), contenders(given, workload, available), plan, peak,
                    lambda text, name=name: status.update(f"{name}, {text}"),
                )  # fmt: skip
            if any(c["ours"] for c in found["contenders"].values()):
                facts = stamp | {"threads": given.threads, "seconds": given.seconds}
                rows[name] = facts | finished(found, workload.gflop)
                console.print(report.contenders(f"{name}: {workload.title}", rows[name]))
                console.print(*report.remarks(rows[name]), sep="\n", highlight=False)
            else:
                console.print(f"{name}: nothing of ours was measured", *found["left_out"], sep="\n", highlight=False)
            if found.get("interrupted"):
                break
    except KeyboardInterrupt:
        console.print("interrupted; what was measured before is kept")
    except peers.PeerError as error:  # in the middle of the rounds
        console.print(f"{error}; what was measured before is kept", highlight=False)
    return rows


def main() -> None:
    given = options()
    if given.quick:
        given.seconds = min(given.seconds, 1.0)
    cr.set_num_threads(given.threads)
    available = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, available[: given.threads])  # of all processes: some libraries take all they see
    compileall.compile_dir(our_package(), quiet=1)  # as an installed package is
    console = Console(width=None if sys.stdout.isatty() else 160)
    rows = run(given, console)
    if not rows:
        return
    console.print(report.overview(rows))
    if ratios := summary(rows)["speedup_over_best_peer"]:
        console.print(f"geometric mean of the ratios: {geometric_mean(list(ratios.values())):.2f}", highlight=False)
    if not given.quick:
        report.write(rows, given.out)
        console.print(f"written: {given.out}", highlight=False)


if __name__ == "__main__":
    main()
