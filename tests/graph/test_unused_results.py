"""Results of loops and branches that nothing uses go, and what only they needed."""

from __future__ import annotations

import numpy as np
import pytest
from graph_tools import check_same, traced

import chainrule as cr
from chainrule.graph.passes import optimize, remove_unused_results
from chainrule.graph.spec import check


def node_of(graph, name):
    (found,) = [node for node in graph.nodes if node.primitive.name == name]
    return found


def after(f, *arrays):
    graph, given = traced(f, *arrays)
    made = remove_unused_results(graph)
    check(made)
    check_same(graph, made, given)
    return made


X = np.linspace(-1, 1, 4, dtype=np.float32)


def test_what_is_kept_for_a_backward_phase_goes_if_there_is_none():
    w = cr.Parameter(cr.tensor([0.5, 1.0, 2.0, 1.0]))

    def run(x):
        return cr.scan(lambda c, t: (cr.tanh(c * w) + t, None), x, cr.zeros((5,)))[0]

    graph, _ = traced(run, X)
    assert node_of(graph, "scan").static["keep"] == 1
    left = node_of(after(run, X), "scan")
    assert [v.shape for v in left.outputs] == [(4,)]
    made = after(lambda x: cr.grad(lambda x: run(x).sum())(x), X)
    assert [len(node.outputs) for node in made.nodes if node.primitive.name == "scan"] == [
        2,
        1,
    ]  # nor is the one by w asked for


def test_stacked_results_carries_and_inputs_go():
    def run(x):
        def step(carry, t):
            a, b, c = carry
            return (a + t[0], b * a, c * t[1] + b), (a, b, c)

        (a, _, _), (_, b, _) = cr.scan(step, (x, x, x), (x, x * 2.0))
        return a, b

    left = node_of(after(run, X), "scan")
    assert left.static["n_carry"] == 2  # the third is in no result
    assert (len(left.inputs), len(left.outputs)) == (3, 3)  # two carries and a slice; two carries, one of them unused


def test_a_carry_that_others_read_stays():
    def run(x):
        (_, last), _ = cr.scan(lambda c, _: ((c[0] * 2.0, c[1] + c[0]), None), (x, x), length=3)
        return last

    assert node_of(after(run, X), "scan").static["n_carry"] == 2


def test_results_of_branches_go_with_their_operands():
    def run(x, y):
        a, _ = cr.cond(x[0] > 0, lambda x, y: (x, y), lambda x, y: (x * 2.0, y + x), x, y)
        return a

    left = node_of(after(run, X, X + 1), "cond")
    assert (len(left.inputs), len(left.outputs)) == (3, 1)  # the predicate, x and 2.0


@pytest.mark.parametrize("length", [0, 3])
def test_a_body_that_can_fail_stays(length):
    def run(x, n):
        cr.scan(lambda c, _: (c + 1, n // c), cr.tensor(-1), length=length)
        return x

    left = node_of(after(run, X, np.array(3)) if length == 0 else optimize(traced(run, X, np.array(3))[0]), "scan")
    assert left.outputs == () or len(left.outputs) == 1
    assert "floor_divide" in str(left.static["body"])


def test_loops_within_loops():
    w = cr.Parameter(cr.ones((4,)))

    def run(x):
        def outer(c, _):
            inner, _ = cr.scan(lambda c, _: (cr.sin(c * w), None), c, length=3)
            return inner, inner

        return cr.scan(outer, x, length=5)[0]

    graph, given = traced(run, X)
    made = optimize(graph)
    check(made)
    check_same(graph, made, given)
    left = node_of(made, "scan")
    assert len(left.outputs) == 1
    assert len(node_of(left.static["body"], "scan").outputs) == 1
