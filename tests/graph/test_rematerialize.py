"""Values computed again under a memory budget."""

from __future__ import annotations

import numpy as np
import pytest
from graph_tools import Build, check_same, names, traced

import chainrule as cr
from chainrule import nn
from chainrule.graph.passes import merge_common_subexpressions, optimize, peak, rematerialize
from chainrule.graph.spec import check

N = 1000
BYTES = 4 * N


def wide(b, x):
    """A value like ``x``, on the way to which two are alive that are three times as large."""
    both = b("cumsum", b("concat", x, x, x, axis=0), axis=0, reverse=False)
    return b("reduce_sum", b("reshape", both, shape=(3, N)), axes=(0,))


def test_the_peak_counts_what_is_alive():
    b = Build()
    x = b.input((N,))
    y = b("exp", x)
    z = b("add", b("sin", x), y)
    assert peak(b.returns(z)) == 3 * BYTES  # while the sum is computed
    assert peak(b.returns(y, z)) == 3 * BYTES
    view = b("reshape", b("broadcast_to", z, shape=(5, N)), shape=(5 * N,))
    total = b("reduce_sum", view, axes=(0,))
    assert peak(b.returns(total)) == 3 * BYTES
    assert peak(Build().returns()) == 0


def test_a_body_counts_where_it_runs():
    def f(x):
        return cr.scan(lambda c, _: (cr.exp(c) * cr.sin(c), ()), x, length=3)[0]

    graph, _ = traced(f, np.ones(N, np.float32))
    assert peak(graph) == (1 + 3) * BYTES


def late_use():
    b = Build()
    x = b.input((N,))
    y = b("tanh", b("reshape", x, shape=(N, 1)))
    view = b("reshape", y, shape=(N,))
    b("print", view, text="{}")
    return b.returns(b("add", wide(b, x), view), b("reduce_sum", b("abs", y), axes=(0, 1)))


def test_a_cheap_value_is_computed_again_before_its_late_use():
    graph = late_use()
    after, report = rematerialize(graph, 6 * BYTES)
    check(after, "rematerialize")
    check_same(graph, after, [np.linspace(-2, 2, N, dtype=np.float32)])
    assert names(after) == [
        "reshape", "tanh", "reshape", "print", "concat", "cumsum", "reshape", "reduce_sum", "tanh", "reshape", "add",
        "abs", "reduce_sum",
    ]  # fmt: skip
    assert (report.before, report.after, peak(after)) == (7 * BYTES, 6 * BYTES, 6 * BYTES)
    assert [(str(type), source.split("/")[-1]) for type, source in report.again] == [("float32[1000,1]", "model.py:2")]
    assert str(report) == "peak 28,000 -> 24,000 bytes, 1 value computed again, for a budget of 24,000"
    assert len(merge_common_subexpressions(after).nodes) == len(after.nodes)


def test_a_budget_that_is_met_changes_nothing():
    graph = late_use()
    after, report = rematerialize(graph, 7 * BYTES)
    assert after is graph
    assert str(report) == "peak 28,000 -> 28,000 bytes, nothing computed again, for a budget of 28,000"


def test_what_is_dear_is_kept():
    b = Build()
    x = b.input((N,))
    y = b("cumsum", x, axis=0, reverse=False)
    i = b("gather", x, b.input((N,), "int64"))
    graph = b.returns(b("add", b("add", wide(b, x), y), i))
    after, report = rematerialize(graph, 0)
    assert names(after) == names(graph)
    assert report.again == []
    assert str(report).endswith("nothing computed again, for a budget of 0, which is not met")


def test_chains_are_computed_again_from_what_is_there():
    b = Build()
    x, s = b.input((N,)), b.input((N, N // 100))
    scale = b("reduce_sum", s, axes=(0, 1))  # small beside the others: kept for them
    y = b("multiply", b("tanh", b("exp", x)), scale)
    used = b("cumsum", y, axis=0, reverse=True)
    graph = b.returns(b("add", wide(b, used), b("sin", y)))
    after, report = rematerialize(graph, 6 * BYTES + 4)
    check(after)
    assert names(after).count("exp") == names(after).count("tanh") == 2
    assert names(after).count("reduce_sum") == names(graph).count("reduce_sum")
    assert (report.before, report.after) == (7 * BYTES, 6 * BYTES + 4)
    again = [node.source.split("/")[-1] for node in after.nodes if node.region]
    assert again == ["model.py:2", "model.py:3", "model.py:4"]
    arrays = [np.linspace(-1, 1, N, dtype=np.float32), np.ones((N, N // 100), np.float32)]
    check_same(graph, after, arrays)


@pytest.mark.parametrize("share", [0.9, 0.7, 0.0])
def test_a_deep_network_needs_less(share):
    layers = []
    for _ in range(6):
        layers += [nn.Linear(16, 16), nn.GELU()]
    model = nn.Sequential(*layers)

    def step(x):
        return cr.value_and_grad(lambda m: (m(x) ** 2).mean())(model)

    graph, arrays = traced(step, np.random.default_rng(0).standard_normal((256, 16)).astype(np.float32))
    graph = optimize(graph)
    budget = int(share * peak(graph))
    after, report = rematerialize(graph, budget)
    check(after)
    check_same(graph, after, arrays)
    assert report.after == peak(after) < 0.95 * report.before
    assert report.after <= max(budget, 0.7 * report.before)
    assert names(after).count("dot") == names(graph).count("dot")
    assert len(report.again) > 0
    assert str(optimize(graph, memory_budget=budget)).count("'") >= str(graph).count("'")
