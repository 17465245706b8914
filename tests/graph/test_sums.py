"""Sums over the iterations of a loop are taken after it."""

from __future__ import annotations

import numpy as np
import pytest
from graph_tools import names, traced

import chainrule as cr
from chainrule.graph.passes import absorb_transposes, optimize, optimize_bodies, remove_dead_code, sum_after_loops
from chainrule.graph.spec import check
from chainrule.graph.tracing import evaluate

rng = np.random.default_rng(0)
XS, W = rng.standard_normal((5, 3, 4)), rng.standard_normal((4, 4))


def recurrent(xs, w, b):
    """The gradient of a loop by its weights."""

    def loss(w, b):
        return cr.scan(lambda h, x: (cr.tanh(x + h @ w.T + b), h), cr.zeros((3, 4), dtype=xs.dtype), xs)[0].sum()

    return cr.grad(loss, (0, 1))(w, b)


def loops(graph):
    return [node for node in graph.nodes if node.primitive.name == "scan"]


def both(f, *arrays):
    """The graph before and after the pass, which give the same numbers; without transposes, as the other passes do."""
    before, given = traced(f, *arrays)
    before = absorb_transposes(before)
    before = remove_dead_code(optimize_bodies(before, lambda body: remove_dead_code(absorb_transposes(body))))
    after = sum_after_loops(before)
    check(after, "sum_after_loops")
    for a, b in zip(evaluate(before, given), evaluate(after, given), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    return before, after


def test_weight_gradients_are_one_product_after_the_loop():
    before, after = both(recurrent, XS, W, np.zeros(4))
    old, new = loops(before)[-1], loops(after)[-1]
    assert old.static["n_carry"] == 3  # the state, and the sums for weight and bias
    assert new.static["n_carry"] == 1
    assert names(new.static["body"]).count("dot") == names(old.static["body"]).count("dot") - 1
    assert "reduce_sum" not in names(new.static["body"])
    after = optimize(after)
    product = [node for node in after.nodes if node.primitive.name == "dot"][-1]
    assert product.inputs[0].shape[0] == product.inputs[1].shape[0] == 5
    assert product.outputs[0] in after.outputs  # there is no sum with the zeros that it starts from


@pytest.mark.parametrize("reverse", [False, True])
def test_sums_of_slices_need_no_new_stack(reverse):
    def f(xs, ys, start):
        return cr.scan(lambda c, s: (c + (s[0].T @ s[1]).T, None), start, (xs, ys), reverse=reverse)[0]

    _, after = both(f, XS, rng.standard_normal((5, 3, 2)), rng.standard_normal((2, 4)))
    (loop,) = loops(after)
    assert (loop.static["n_carry"], loop.static["body"].outputs) == (0, [])
    assert [name for name in names(after) if name in ("dot", "add")] == ["dot", "add"]


def test_what_would_take_much_memory_stays():
    keys = rng.standard_normal((64, 4))

    def attention(q, k):
        def loss(k):
            return cr.scan(cr.checkpoint(lambda c, x: (c, cr.softmax(x @ k.T, axis=-1) @ k)), (), q)[1].sum()

        return cr.grad(loss)(k)

    before, after = both(attention, rng.standard_normal((5, 2, 4)), keys)
    assert loops(after)[-1].static["n_carry"] == loops(before)[-1].static["n_carry"] == 2


@pytest.mark.parametrize(
    "f",
    [
        lambda xs: cr.scan(lambda c, x: (c + x.sum(), c), cr.asarray(0.0, dtype=xs.dtype), xs),  # the sum is used
        lambda xs: cr.scan(lambda c, x: (c + cr.tanh(x), None), cr.zeros((3, 4), dtype=xs.dtype), xs)[0],  # no product
        lambda xs: cr.scan(lambda c, x: (2 * c + x.sum(), None), cr.asarray(0.0, dtype=xs.dtype), xs)[0],
        lambda xs: cr.scan(lambda c, x: (c + W @ W, None), cr.zeros((4, 4), dtype=xs.dtype), xs)[0],  # always the same
        lambda xs: cr.scan(lambda c, x: (c + x.sum(), None), cr.asarray(0.0, dtype=xs.dtype), xs[:1])[0],
    ],
)
def test_other_carries_stay(f):
    before, after = both(f, XS)
    assert [n.static["n_carry"] for n in loops(after)] == [n.static["n_carry"] for n in loops(before)]
