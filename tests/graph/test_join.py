"""Sums of padded parts become one array after another."""

from __future__ import annotations

import numpy as np
import pytest
from graph_tools import Build, check_same, names, traced

import chainrule as cr
from chainrule.graph.passes import join_parts, optimize
from chainrule.graph.spec import check


def padded(b, x, low, high, fill=0.0):
    return b("pad", x, b.constant(np.float32(fill)), widths=((0, 0, 0), (low, high, 0)))


def test_the_gradient_of_a_split_is_a_concatenation():
    x = np.arange(1, 25, dtype=np.float32).reshape(2, 12)  # no zero, whose sign may change

    def f(x):
        i, f, g = cr.split(x, 4, axis=1)
        return (cr.sin(i) * cr.cos(f) * g).sum()

    graph, arrays = traced(cr.grad(f), x)
    after = optimize(graph)
    assert "pad" not in names(after)
    assert names(after).count("concat") == 1
    check_same(graph, after, arrays)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_parts_in_any_order(order):
    b = Build()
    parts = [padded(b, b.input((2, n)), low, 6 - low - n) for n, low in ((1, 0), (3, 1), (2, 4))]
    first, second, third = (parts[i] for i in order)
    graph = b.returns(b("add", b("add", first, second), third))
    after = join_parts(graph)
    check(after, "join_parts")
    assert names(after)[-1] == "concat"
    check_same(graph, after, [np.ones((2, n), np.float32) * n for n in (1, 3, 2)])


@pytest.mark.parametrize(("first", "second"), [((0, 2), (1, 0)), ((0, 3), (1, 1)), ((0, 3), (2, 0))])
def test_an_overlap_or_a_gap_stays(first, second):
    b = Build()
    parts = [padded(b, b.input((2, 4 - low - high)), low, high) for low, high in (first, second)]
    graph = b.returns(b("add", *parts))
    assert "concat" not in names(join_parts(graph))


def test_another_number_around_or_another_use_stays():
    b = Build()
    x, y = b.input((2, 1)), b.input((2, 3))
    one, other = padded(b, x, 0, 3, fill=1.0), padded(b, y, 1, 0)
    assert "concat" not in names(join_parts(b.returns(b("add", one, other))))
    b = Build()
    x, y, z = b.input((2, 1)), b.input((2, 2)), b.input((2, 1))
    inner = b("add", padded(b, x, 0, 3), padded(b, y, 1, 1))
    graph = b.returns(b("add", inner, padded(b, z, 3, 0)), inner)
    assert "concat" not in names(join_parts(graph))
