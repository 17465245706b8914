"""`profile` measures every kernel, runs as often as it says, and writes traces that Perfetto can open."""

from __future__ import annotations

import json

import numpy as np
import pytest
from explain_harness import checked, drawing, floats, mlp

import chainrule as cr
from chainrule.errors import ArgumentError
from chainrule.inspect.explain import explain
from chainrule.inspect.profile import Profile, Runs, counting_seconds, profile
from chainrule.inspect.report import rows_of

W8 = floats(8, 8)


def recurrent():
    w = floats(8, 8)

    @cr.compile
    def step(h, xs):
        return cr.scan(lambda h, x: (cr.tanh(h @ w + x), None), h, xs)[0]

    return step, floats(4, 8), floats(25, 4, 8)


def test_it_runs_the_step_as_often_as_it_says():
    count = cr.Cell(cr.tensor(0))

    @cr.compile
    def step(x):
        count.assign(count + 1)
        return x * 2

    measured = profile(step, floats(10), steps=5, warmup=2)
    assert measured.runs == 5
    assert int(count) == 7


def test_kernels_are_those_of_explain_each_with_a_time():
    step, x, y = mlp()
    measured, explained = profile(step, x, y, steps=9), explain(step, x, y)
    assert [m.row for m in measured.kernels] == explained.kernels
    assert {m.calls for m in measured.kernels} == {1}
    assert all(m.seconds > 0 for m in measured.kernels)
    parts = measured.kernel_seconds + measured.counting_seconds + measured.outside_seconds
    assert parts == pytest.approx(measured.seconds)
    assert sum(m.alone for m in measured.kernels) == pytest.approx(measured.kernel_seconds)
    assert measured.outside_seconds >= 0


def test_rates_are_work_by_time():
    step = cr.compile(lambda a, b: a @ b)
    measured = profile(step, floats(64, 64), floats(64, 64), steps=3)
    product = max(measured.kernels, key=lambda m: m.row.flops)
    assert product.flops_per_second == pytest.approx(2 * 64**3 / product.seconds)
    assert product.bytes_per_second == pytest.approx(product.row.bytes / product.seconds)


def test_a_loop_contains_its_body():
    step, *args = recurrent()
    measured = profile(step, *args, steps=5)
    (loop,) = [m for m in measured.kernels if m.row.kind == "scan"]
    assert loop.inside == [m for m in measured.kernels if m.row.depth == 1]
    assert {m.calls for m in loop.inside} == {25}
    assert loop.seconds >= sum(m.seconds for m in loop.inside) > 0
    assert loop.alone >= 0


def test_interruptions_of_what_is_inside_are_no_time_of_the_loop():
    """Each run is interrupted in another kernel: the middle of the loop's time is not that of its parts together."""

    def repeated(h, xs):
        return cr.scan(lambda h, x: (cr.tanh(cr.sin(h @ W8) @ W8) @ W8 + x, None), h, xs)[0]

    args = floats(4, 8), floats(25, 4, 8)
    program = cr.compile(repeated).program_for(*args)
    rows = rows_of(program)
    (loop,) = [row.number for row in rows if row.kind == "scan"]
    inside = [row.number for row in rows if row.depth == 1]
    n = 4 * len(inside)
    seconds = np.full((n, len(program.numbered)), 1e-3)
    seconds[np.arange(n), np.resize(inside, n)] += 1.0
    seconds[:, loop] = seconds[:, inside].sum(axis=1) + 1e-3
    measured = Profile(program, Runs(seconds.sum(axis=1), seconds, np.ones_like(seconds)))
    assert next(m for m in measured.kernels if m.row.number == loop).alone == pytest.approx(1e-3, rel=0.01)


def test_measuring_ends_with_the_call_and_costs_little():
    step, x, y = mlp()
    profile(step, x, y, steps=2)
    assert step.program_for(x, y)._runnable.profile is None
    assert 0 <= counting_seconds() < 1e-5

    failing = cr.compile(lambda t, i: cr.take(t, i, axis=0))
    profile(failing, floats(4, 3), cr.tensor([3]), steps=1)
    with pytest.raises(IndexError):
        profile(failing, floats(4, 3), cr.tensor([7]), steps=2, warmup=0)
    assert failing.program_for(floats(4, 3), cr.tensor([7]))._runnable.profile is None


def test_the_table_has_two_orders():
    step, *args = recurrent()
    measured = profile(step, *args, steps=3)
    by_time = [float(m.alone) for m in measured.kernels]
    rows = measured.table().rows
    assert [row[0] for row in rows] == [
        str(measured.kernels[i].row.number) for i in np.argsort(-np.array(by_time), kind="stable")
    ]
    rows = measured.table("program").rows
    assert [row[0] for row in rows] == [str(m.row.number) for m in measured.kernels]
    assert any(row[1].startswith("  ") for row in rows)
    for text in (str(measured), measured.text("program")):
        assert "GFLOP/s" in text
        assert "test_profile.py:" in text
        assert "only while profiling" in text
    with pytest.raises(ArgumentError, match=r"\[profile\].*'time' or 'program'"):
        measured.table("size")


def test_the_trace_has_what_perfetto_needs(tmp_path):
    step, *args = recurrent()
    path = tmp_path / "trace.json"
    measured = profile(step, *args, steps=3, trace=path)
    trace = json.loads(path.read_text(encoding="utf-8"))
    spans = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    names = {event["name"]: event["args"]["name"] for event in trace["traceEvents"] if event["ph"] == "M"}
    assert names == {"process_name": "chainrule", "thread_name": "step"}
    for event in spans:
        assert {"name", "cat", "ts", "dur", "pid", "tid", "args"} <= event.keys()
        assert event["ts"] >= 0
        assert event["dur"] >= 0
    call, *kernels = spans
    assert call["dur"] == pytest.approx(measured.seconds * 1e6)
    assert [event["args"]["step"] for event in kernels] == [m.row.number for m in measured.kernels]
    assert {"GB/s", "GFLOP/s", "line", "calls", "over"} <= kernels[0]["args"].keys()
    # spans of one thread nest: each lies within those that are open, or after them
    around: list[dict] = []
    for event in spans:
        while around and event["ts"] >= around[-1]["ts"] + around[-1]["dur"] - 1e-6:
            around.pop()
        for outer in around:
            assert event["ts"] + event["dur"] <= outer["ts"] + outer["dur"] + 1e-6
        around.append(event)


def test_page_and_data(tmp_path):
    step, x, y = mlp()
    measured = profile(step, x, y, steps=3)
    measured.to_html(tmp_path / "step.html")
    html = (tmp_path / "step.html").read_text(encoding="utf-8")
    assert {f"k{m.row.number}" for m in measured.kernels} <= checked(html).ids
    assert len(list(drawing(html).iter("{http://www.w3.org/2000/svg}rect"))) == len(measured.kernels)
    data = json.loads(json.dumps(measured.to_dict()))
    assert [k["seconds"] for k in data["kernels"]] == [m.seconds for m in measured.kernels]
    assert data["runs"] == 3


def test_what_cannot_be_measured_is_refused():
    def step(x):
        return x

    with pytest.raises(ArgumentError, match=r"\[profile\].*Received: step.*@cr\.compile"):
        profile(step, 1.0)
    with pytest.raises(ArgumentError, match=r"\[profile\].*steps=0"):
        profile(cr.compile(step), floats(3), steps=0)
