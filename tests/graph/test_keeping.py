"""What loops keep for their backward phase: no product of a body is computed twice, but under a checkpoint."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.graph.ir import bodies

rng = np.random.default_rng(0)
F64 = np.float64
W = rng.standard_normal((3, 3)) * 0.5
XS = rng.standard_normal((4, 2, 3))
H = np.zeros((2, 3))

both_modes = pytest.mark.parametrize("wrap", [lambda f: f, cr.compile], ids=["eager", "compiled"])


def product(h, x, w):
    h = cr.tanh(cr.sin(h @ w) + x)
    return h, h


def with_bias(h, x, w):
    h = cr.tanh(x + cr.sigmoid(h) @ w)
    return h, None


def solved(h, x, w):
    h = cr.tanh(cr.linalg.solve(w + 3 * cr.eye(3), h.mT).mT + x)
    return h, cr.sum(h)


def nested(h, x, w):
    h = cr.scan(lambda a, row: (cr.tanh(a @ w + cr.exp(row)), cr.sin(a @ w)), h, x)[0]
    return cr.sin(h @ w), h


def bounded(h, x, w):
    return cr.while_loop(lambda a: cr.sum(a) < 3, lambda a: cr.tanh(a @ w) + 0.5, h + x, max_steps=3), None


def total(step, mark=lambda f: f):
    def loss(w, xs, h):
        last, ys = cr.scan(mark(lambda c, x: step(c, x, w)), h, xs)
        return cr.sum(last**2) + (0 if ys is None else cr.sum(cr.cos(ys)))

    return loss


every_step = pytest.mark.parametrize("step", [product, with_bias, solved, nested, bounded])


def graph_of(f, *args):
    return cr.compile(f).program_for(*map(cr.asarray, args)).graph


def count(graph, name="dot"):
    """How often a primitive stands in a graph and in the bodies in it."""
    here = sum(node.primitive.name == name for node in graph.nodes)
    return here + sum(count(body, name) for node in graph.nodes for _, body in bodies(node.static))


def loops(graph):
    return [node for node in graph.nodes if node.primitive.name == "scan"]


# --- numbers ----------------------------------------------------------------------------------------------------


@every_step
def test_gradients_to_the_second_order(step):
    cr.check_grads(total(step), (W, XS, H), order=2)


@every_step
@both_modes
def test_what_is_kept_and_what_is_computed_again_have_the_same_bits(step, wrap):
    kept, again = (wrap(cr.grad(total(step, mark), (0, 1, 2)))(W, XS, H) for mark in (lambda f: f, cr.checkpoint))
    for a, b in zip(kept, again, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@both_modes
def test_products_of_examples(wrap):
    xs = rng.standard_normal((5, *XS.shape))
    found = wrap(cr.vmap(cr.grad(total(nested)), (None, 0, None)))(W, xs, H)
    each = np.stack([cr.grad(total(nested))(cr.asarray(W), cr.asarray(x), cr.asarray(H)).numpy() for x in xs])
    np.testing.assert_allclose(found.numpy(), each, rtol=1e-10)


@pytest.mark.parametrize("policy", ["products", "everything", lambda name, shape, dtype: name == "tanh"])
@both_modes
def test_a_policy_in_a_loop_or_under_vmap_has_gradients(policy, wrap):
    marked = cr.checkpoint(lambda x, w: cr.sum(cr.tanh(x @ w)), policy)
    right = cr.grad(total(product))(W, XS, H).numpy()
    found = wrap(cr.grad(total(product, lambda f: cr.checkpoint(f, policy))))(W, XS, H)
    np.testing.assert_allclose(found.numpy(), right, rtol=1e-12)
    by_rows = wrap(cr.grad(lambda w, x: cr.sum(cr.vmap(marked, (0, None))(x, w))))(W, XS[0])
    np.testing.assert_allclose(by_rows.numpy(), cr.grad(lambda w: marked(XS[0], w))(W).numpy(), rtol=1e-12)


# --- work and memory --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "forward"), [(product, 1), (with_bias, 1), (nested, 2)])
def test_no_product_is_computed_twice(step, forward):
    """Forward, and two for the gradients of each; a checkpoint adds those of the forward phase again."""
    assert count(graph_of(total(step), W, XS, H)) == forward
    kept = count(graph_of(cr.grad(total(step), (0, 1, 2)), W, XS, H))
    again = count(graph_of(cr.grad(total(step, cr.checkpoint), (0, 1, 2)), W, XS, H))
    assert kept == 3 * forward < again


def test_a_checkpoint_stays_one_under_vmap():
    def products(mark):
        one = cr.grad(lambda w, x: total(product, mark)(w, x, H))
        return count(graph_of(lambda w, xs: cr.vmap(one, (None, 0))(w, xs), W, XS[None]))

    assert products(cr.checkpoint) == products(lambda f: f) + 1


def test_nor_is_what_the_host_computes():
    both = cr.grad(total(solved), (0, 1, 2))
    assert count(graph_of(both, W, XS, H), "solve") == 2  # forward, and with the transposed matrix
    assert count(graph_of(cr.grad(total(solved, cr.checkpoint), (0, 1, 2)), W, XS, H), "solve") == 3


@pytest.mark.parametrize(("layer", "products"), [(nn.RNN(3, 4), 6), (nn.LSTM(3, 4), 6), (nn.GRU(3, 4), 6)])
def test_layers_of_recurrent_networks(layer, products):
    def loss(model, x):
        return cr.sum(model(x)[0] ** 2)

    graph = graph_of(lambda x: cr.grad(loss, (0, 1))(layer, x), XS.astype("float32"))
    assert count(graph) == products
    assert count(loops(graph)[1].static["body"]) == 1  # by the state alone: that by the weight is after the loop


def test_a_bias_is_kept_with_the_product():
    """One stack, and none of what the gradient does not need: the last state is that of the next iteration."""
    forward, _ = loops(graph_of(cr.grad(total(with_bias), (0, 1, 2)), W, XS, H))
    assert [v.shape for v in forward.outputs] == [(2, 3), (4, 2, 3), (4, 2, 3)]


@pytest.mark.parametrize(("layer", "kept", "tanh"), [(nn.LSTM(3, 4), 6, 1), (nn.GRU(3, 4), 4, 1), (nn.RNN(3, 4), 1, 0)])
def test_activations_are_kept_instead_of_the_product(layer, kept, tanh):
    """Of an LSTM four gates and both states; its cell goes through ``tanh`` again. What an RNN keeps is its result."""
    forward, back = loops(
        graph_of(lambda x: cr.grad(lambda m, x: cr.sum(m(x)[0] ** 2))(layer, x), XS.astype("float32"))
    )
    stacks = [v for v in forward.outputs if v.ndim == 3]
    assert len(stacks) == kept + 1  # the result of the layer, too
    assert (count(back.static["body"], "sigmoid"), count(back.static["body"], "tanh")) == (0, tanh)


def test_a_product_that_the_gradient_does_not_need_is_not_kept():
    forward, _ = loops(graph_of(cr.grad(total(lambda h, x, w: (h @ w + x, None)), (0, 1, 2)), W, XS, H))
    assert len(forward.outputs) == 2  # the last state, and the states, for the gradient of the weight


def test_nothing_is_kept_where_nothing_is_recorded():
    graph = graph_of(total(product), W, XS, H)
    assert [len(node.outputs) for node in loops(graph)] == [2]
    traced = []
    cr.scan(lambda h, x: traced.append(0) or product(h, x, cr.asarray(W)), H, XS)
    assert traced == [0]


def test_explain_states_what_is_kept():
    def shapes(mark):
        step = cr.compile(cr.grad(total(product, mark)))
        step(W, XS, H)
        return [k.type.shape for k in cr.explain(step, W, XS, H).kept]

    assert shapes(lambda f: f).count((4, 2, 3)) == shapes(cr.checkpoint).count((4, 2, 3)) + 1


def test_cotangents_that_are_the_same_everywhere_are_no_stacks():
    """Ones for each result of a loop, from a sum over them, are constants of the body that goes backward."""
    graph = graph_of(cr.grad(lambda w: cr.sum(cr.scan(lambda h, x: product(h, x, w), H, XS)[1])), W)
    assert all(v.node.primitive.name != "broadcast_to" for v in loops(graph)[1].inputs[2:] if v.node is not None)
