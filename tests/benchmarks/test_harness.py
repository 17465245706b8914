"""Parts of the benchmarks that need no other library: figures, files, the report, a process of ours."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from harness import jobs, peers, processes, report, session, summary

LOSSES = [3.0, 2.0, 1.5, 1.0]


def contender(ours: bool, median: float, losses=LOSSES):
    return {
        "ours": ours, "median": median, "p10": median, "p90": median, "rounds": [median, 2 * median], "losses": losses,
        "first_loss_s": {"cold": 2.0, "warm": 0.5}, "peak_rss_mb": 100.0,
    }  # fmt: skip


def row(**more):
    contenders = {"ours": contender(True, 0.010), "slow": contender(False, 0.040), "fast": contender(False, 0.030)}
    measured = {"contenders": contenders, "peak_gflops": [90.0, 100.0, 120.0], "left_out": [], "restless": []}
    facts = {"commit": "abc", "date": "today", "threads": 2, "seconds": 1.0}
    return facts | summary.finished(measured | more, gflop=0.5)


# --- figures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [0.0, 1.0, 1.7])
def test_exponent_of_a_power(power):
    sizes = [2, 4, 8, 16]
    assert summary.exponent(sizes, [3 * n**power for n in sizes]) == pytest.approx(power)


def test_ratio_is_taken_within_rounds():
    """The machine is half as fast in the second round, and both are in it."""
    assert summary.ratio([3.0, 6.0, 3.0], [1.0, 2.0, 1.0]) == 3.0
    assert summary.ratio([3.0, 6.0], [1.0]) == 3.0  # the second round was interrupted


def test_spread():
    assert summary.spread([float(i) for i in range(100)][::-1]) == {"median": 49.5, "p10": 10.0, "p90": 90.0}


def test_geometric_mean():
    assert summary.geometric_mean([1.0, 4.0]) == pytest.approx(2.0)


def test_losses_that_agree_at_the_end_or_else_at_the_beginning():
    near = summary.agreement(LOSSES, {"a": [*LOSSES[:-1], 1.0005], "b": [9.0] * 4})
    assert near["agrees"]
    assert not near["chaotic"]
    chaotic = summary.agreement(LOSSES, {"a": [*LOSSES[:-1], 1.01]})
    assert chaotic["agrees"]
    assert chaotic["chaotic"]
    assert not summary.agreement(LOSSES, {"a": [3.0, 2.1, 1.5, 1.1]})["agrees"]


def test_row_is_compared_with_the_fastest_peer():
    made = row()
    assert made["best_peer"] == "fast"
    assert made["contenders"]["ours"]["times_best_peer"] == pytest.approx(3.0)
    assert made["contenders"]["slow"]["times_best_peer"] == pytest.approx(0.75)
    assert made["contenders"]["ours"]["share_of_peak"] == pytest.approx(0.5)


def test_row_without_peers():
    made = summary.finished({"contenders": {"ours": contender(True, 0.01)}, "peak_gflops": [100.0]}, gflop=0.5)
    assert made["best_peer"] is None
    assert summary.summary({"w1": made})["speedup_over_best_peer"] == {}


# --- files ------------------------------------------------------------------------------------------------------------


def test_results_keep_the_rows_of_other_runs(tmp_path):
    report.write({"w4": row()}, tmp_path)
    report.write({"w1": row(), "w2": row()}, tmp_path)
    latest = json.loads((tmp_path / "latest.json").read_text())
    assert list(latest["rows"]) == ["w1", "w2", "w4"]
    for key in ("speedup_over_best_peer", "share_of_peak", "first_loss_s", "peak_rss_mb"):
        assert list(latest[key]) == ["w1", "w2", "w4"], key
    assert latest["geometric_mean"] == pytest.approx(3.0)
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [list(line["median_ms"]) for line in lines] == [["w4"], ["w1", "w2"]]
    assert {"commit", "date", "peak_gflops"} <= set(lines[0])
    assert (tmp_path / "latest.svg").read_text().count("  3.00  ") == 3


def test_remarks_say_what_is_missing_and_how_far_losses_are():
    said = report.remarks(row(left_out=["JAX cannot be installed"]))
    assert said[0] == "JAX cannot be installed"
    assert "within 0e+00" in said[1]
    assert "90 to 120" in said[2]


def test_job_is_what_was_saved(tmp_path):
    weights = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
    given = jobs.Job({"model": "mlp", "sizes": {"n": [1, 2]}}, weights, (np.ones(3, np.float32), np.arange(2)))
    jobs.save(given, tmp_path / "job.npz")
    found = jobs.load(tmp_path / "job.npz")
    assert found.how == given.how
    np.testing.assert_equal(found.weights, weights)
    np.testing.assert_equal(found.data, given.data)


# --- peers ------------------------------------------------------------------------------------------------------------


def test_peers_are_read_without_their_libraries():
    every = {peer.name: peer for peer in peers.peers()}
    assert next(iter(every)) == "chainrule"
    assert every["chainrule"].ours
    for name in ("pytorch", "jax"):
        assert not every[name].ours
        assert all("==" in requirement for requirement in every[name].requires)
    assert not {"peers.pytorch", "peers.jax"} & set(sys.modules)


def test_a_peer_that_cannot_be_installed_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(peers.sys, "executable", "/bin/false")
    peer = peers.Peer("none", "Nothing", ("nothing==1",), ("eager",))
    with pytest.raises(peers.PeerError, match="Nothing is left out, it cannot be installed: no reason given"):
        peers.install(peer, lambda text: None)


def small_job():
    """A network of two layers, of the form that `networks.job` makes."""
    draw = np.random.RandomState(0)
    weights = {f"{i}.weight": draw.standard_normal(shape).astype(np.float32) for i, shape in ((0, (8, 4)), (2, (3, 8)))}
    weights |= {f"{i}.bias": np.zeros(n, np.float32) for i, n in ((0, 8), (2, 3))}
    how = {
        "model": "mlp", "sizes": {"sizes": [4, 8, 3], "activation": "Tanh"}, "optimizer": ["Adam", {"lr": 0.1}],
        "loss": "cross_entropy", "images": False, "flattened": {},
    }  # fmt: skip
    return jobs.Job(how, weights, (draw.standard_normal((16, 4)).astype(np.float32), draw.randint(0, 3, 16)))


def test_our_processes_are_measured_in_turn():
    ours = peers.peers()[0]
    plan = session.Plan(threads=1, seconds=0.02, rounds=2, starts=1)
    modes = [processes.Contender(ours, mode) for mode in ("compiled", "eager")]
    found = session.measure(small_job(), modes, plan, lambda: 100.0, lambda text: None)
    assert found["left_out"] == []
    assert found["peak_gflops"] == [100.0] * 3
    compiled, eager = (found["contenders"][mode.name] for mode in modes)
    assert compiled["losses"] == pytest.approx(eager["losses"], rel=1e-4)
    assert len(compiled["losses"]) == 20
    assert compiled["losses"][-1] < compiled["losses"][0]
    assert len(compiled["rounds"]) == 2
    assert compiled["details"]["kernels"] > 0
    assert compiled["first_loss_s"]["warm"] > 0
    assert compiled["peak_rss_mb"] > 10


def test_a_process_that_fails_says_why(tmp_path):
    ours = peers.peers()[0]
    given = small_job()
    jobs.save(given._replace(how=given.how | {"model": "nothing"}), tmp_path / "job.npz")
    with pytest.raises(peers.PeerError, match="chainrule, compiled: KeyError: 'nothing'"):
        processes.Process(processes.Contender(ours, "compiled"), tmp_path / "job.npz", 1, str(tmp_path))
