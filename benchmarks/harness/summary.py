"""What is made of measured times: medians, ratios, exponents, and the summary of all rows. Pure functions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

CLOSE = 1e-3
"""How far losses of different libraries may be apart, relative to theirs."""
FIRST = 3
"""So many losses are compared where the later ones are chaotic."""

Row = dict[str, Any]


def spread(times: Sequence[float]) -> dict[str, float]:
    """Median, and what a tenth of the times is below and above."""
    ordered = sorted(times)
    n = len(ordered)
    return {"median": statistics.median(ordered), "p10": ordered[n // 10], "p90": ordered[(9 * n) // 10]}


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median over rounds of the ratio of two medians in one round: what drifts slowly is in both."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=False))


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(statistics.fmean(math.log(v) for v in values))


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope p of the line of least squares through ``log value = p log size + c``."""
    x, y = ([math.log(v) for v in numbers] for numbers in (sizes, values))
    return statistics.linear_regression(x, y).slope


def agreement(ours: Sequence[float], theirs: Mapping[str, Sequence[float]]) -> Row:
    """How far our last loss is from the nearest peer's, and if that is far, how far the first ones are at most.

    In some networks two float32 sums in another order grow apart within 20 steps, peers' among themselves too; then
    ``chaotic`` says so, and the first losses must agree.
    """

    def apart(peer: Sequence[float], steps: slice) -> float:
        return max(abs(a - b) / max(abs(b), 1e-30) for a, b in zip(ours[steps], peer[steps], strict=True))

    last, first = (min(apart(peer, s) for peer in theirs.values()) for s in (slice(-1, None), slice(FIRST)))
    return {"last": last, "first": first, "chaotic": last > CLOSE, "agrees": min(last, first) <= CLOSE}


def best_peer(row: Row) -> str | None:
    """The name of the fastest contender that is not ours."""
    theirs = {name: c["median"] for name, c in row["contenders"].items() if not c["ours"]}
    return min(theirs, key=lambda name: theirs[name]) if theirs else None


def ours(row: Row) -> Row:
    """Our fastest contender."""
    return min((c for c in row["contenders"].values() if c["ours"]), key=lambda c: c["median"])


def finished(row: Row, gflop: float) -> Row:
    """A row with what follows from its measurements: speeds, ratios to the best peer, agreement of the losses."""
    best = best_peer(row)
    peak = statistics.median(row["peak_gflops"])
    for contender in row["contenders"].values():
        contender["gflops"] = gflop / contender["median"]
        contender["share_of_peak"] = contender["gflops"] / peak
        if best is not None:
            contender["times_best_peer"] = ratio(row["contenders"][best]["rounds"], contender["rounds"])
    theirs = {name: c["losses"] for name, c in row["contenders"].items() if not c["ours"]}
    found = agreement(ours(row)["losses"], theirs) if theirs else None
    return row | {"best_peer": best, "agreement": found}


def summary(rows: Mapping[str, Row]) -> dict[str, Any]:
    """Our figures by workload."""
    found = {name: ours(row) for name, row in rows.items()}
    speedups = {name: c["times_best_peer"] for name, c in found.items() if "times_best_peer" in c}
    return {
        "speedup_over_best_peer": speedups,
        "geometric_mean": geometric_mean(list(speedups.values())) if speedups else None,
        "share_of_peak": {name: c["share_of_peak"] for name, c in found.items()},
        "first_loss_s": {name: c["first_loss_s"] for name, c in found.items()},
        "peak_rss_mb": {name: c["peak_rss_mb"] for name, c in found.items()},
        "median_ms": {name: 1e3 * c["median"] for name, c in found.items()},
    }
