"""`vmap`: axes, errors, nesting, gradients inside and outside, cells, random numbers, ensembles, compiled code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.errors import ArgumentError, IndexOutOfRangeError, ShapeError
from chainrule.extend import primitive
from chainrule.graph.ir import TensorType

rng = np.random.default_rng(0)


def draw(*shape):
    return cr.tensor(rng.standard_normal(shape))


def loop(f, *xs):
    rows = [f(*(x[i] for x in xs)) for i in range(len(xs[0]))]
    return cr.tree_map(lambda *parts: cr.stack(parts), *rows)


def same(found, expected, rtol=1e-9):
    cr.tree_map(lambda a, b: np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=rtol, atol=1e-12), found, expected)


both = pytest.mark.parametrize("wrap", [lambda f: f, cr.compile], ids=["eager", "compiled"])


# --- axes ---------------------------------------------------------------------------------------------------


@given(st.data())
def test_axes_in_and_out(data):
    shapes = [(3,), (2, 3), ()]
    axes, xs = [], []
    for shape in shapes:
        axis = data.draw(st.sampled_from([None, *range(-len(shape) - 1, len(shape) + 1)]))
        x = draw(4, *shape)
        axes.append(axis)
        xs.append(x[0] if axis is None else cr.moveaxis(x, 0, axis))
    out = data.draw(st.integers(-3, 2))

    def f(a, b, c):
        return (b @ a)[:, None] * c + cr.ones((2, 2), dtype="float64")

    found = cr.vmap(f, in_axes=tuple(axes), out_axes=out, axis_size=4)(*xs)
    rows = [f(*(x if a is None else cr.moveaxis(x, a, 0)[i] for x, a in zip(xs, axes, strict=True))) for i in range(4)]
    same(found, cr.moveaxis(cr.stack(rows), 0, out))


def test_nested_axes_and_what_is_not_mapped():
    tree = {"a": draw(3, 2), "b": (draw(2), None, draw(4, 3))}
    f = lambda t, scale, how: {"y": t["a"] * t["b"][0] * scale if how == "mul" else None, "z": (t["b"][2], t["b"][0])}  # noqa: E731
    in_axes = ({"a": 0, "b": (None, None, 1)}, None, None)
    found = cr.vmap(f, in_axes=in_axes, out_axes={"y": 0, "z": (1, None)})(tree, 2.0, "mul")
    same(found["y"], tree["a"] * tree["b"][0] * 2.0)
    same(found["z"][0], tree["b"][2])
    assert found["z"][1].shape == (2,)
    assert cr.vmap(lambda x, *, scale: x * scale)(cr.arange(3.0), scale=2).shape == (3,)


def test_what_is_the_same_for_all_is_computed_once():
    calls = []

    def host(x):
        calls.append(x.shape)
        return x

    f = lambda x, w: x + cr.callback(host, (2,), "float64", w)  # noqa: E731
    cr.vmap(f, in_axes=(0, None))(draw(5, 2), draw(2))
    assert calls == [(2,)]


def test_a_product_with_one_matrix_stays_one_product():
    from chainrule.graph.batching import Examples, replay_batched
    from chainrule.graph.tracing import trace

    w, x = draw(3, 4), draw(5, 4)
    traced = trace(lambda x: w @ x, [TensorType((4,), np.dtype("float64"))], cr.autodiff.trees.flatten((0,))[1], "f")
    again = trace(
        lambda x: replay_batched(traced.graph, [x, *traced.captured], [True, False], Examples(5))[0],
        [TensorType((5, 4), np.dtype("float64"))], cr.autodiff.trees.flatten((0,))[1], "g",
    )  # fmt: skip
    dots = [n for n in again.graph.nodes if n.primitive.name == "dot"]
    assert len(dots) == 1
    assert dots[0].static["batch"] == ((), ())
    same(cr.vmap(lambda x: w @ x)(x), x @ w.mT)


def test_no_examples():
    f = lambda x: {"y": cr.sort(x) @ x, "z": cr.scan(lambda c, t: (c + t, c), x[0], x)}  # noqa: E731
    found = cr.vmap(f)(cr.zeros((0, 3)))
    assert found["y"].shape == (0,)
    assert found["z"][1].shape == (0, 3)


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ShapeError, "argument 0: 2, argument 1['k']: 3", lambda: cr.vmap(lambda x, y: x)(draw(2), {"k": draw(3)})),
        (ShapeError, "argument 0: 2, axis_size: 3", lambda: cr.vmap(lambda x: x, axis_size=3)(draw(2))),
        (ShapeError, "argument 1 is a scalar", lambda: cr.vmap(lambda x, y: x)(draw(2), 1.0)),
        (ShapeError, "argument 0 has no axis 2", lambda: cr.vmap(lambda x: x, in_axes=2)(draw(2, 3))),
        (ShapeError, "no axis 1", lambda: cr.vmap(lambda x: x, out_axes=1)(draw(2))),
        (ArgumentError, "no argument is mapped", lambda: cr.vmap(lambda x: x, in_axes=None)(draw(2))),
        (ArgumentError, "in_axes must be", lambda: cr.vmap(lambda x: x, in_axes=(0, 0))(draw(2))),
        (ArgumentError, "in_axes[0]['a'] = (0,)", lambda: cr.vmap(lambda x: x, in_axes=({"a": (0,)},))({"a": draw(2)})),
        (ArgumentError, "in_axes must be", lambda: cr.vmap(lambda x: x, in_axes="0")(draw(2))),
        (ArgumentError, "out_axes must be", lambda: cr.vmap(lambda x: x, out_axes=(0, 0))(draw(2))),
        (ArgumentError, "out_axes is None", lambda: cr.vmap(lambda x: x, out_axes=None)(draw(2))),
        (ArgumentError, "functional_call", lambda: cr.vmap(lambda m, x: m(x))(nn.Linear(2, 2), draw(2, 2))),
        (ArgumentError, "argument 1 has no axis", lambda: cr.vmap(lambda x, how: x)(draw(2), "sum")),
        (ArgumentError, "randomness", lambda: cr.vmap(lambda x: x, randomness="error")),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(error, message, call):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
    assert "Received" in str(caught.value) or "Fix" in str(caught.value)


def test_shapes_of_one_example_are_checked_before_anything_runs():
    with pytest.raises(ShapeError, match=r"shapes \(2,\) and \(3,\)"):
        cr.vmap(lambda x, y: x + y)(draw(4, 2), draw(4, 3))


# --- with the other transforms ------------------------------------------------------------------------------


def network(w, x):
    h = cr.tanh(w["a"] @ x)
    return cr.log_softmax(w["b"] @ h)


WEIGHTS = {"a": draw(4, 3), "b": draw(2, 4)}


@both
def test_gradients_of_examples(wrap):
    x = draw(5, 3)
    f = cr.grad(lambda w, x: network(w, x)[0])
    same(wrap(cr.vmap(f, in_axes=(None, 0)))(WEIGHTS, x), loop(lambda x: f(WEIGHTS, x), x))


@both
def test_gradients_through(wrap):
    x = draw(5, 3)
    f = lambda w, x: cr.vmap(network, in_axes=(None, 0))(w, x)[:, 1].sum()  # noqa: E731
    g = lambda w, x: cr.stack([network(w, x[i])[1] for i in range(5)]).sum()  # noqa: E731
    same(wrap(cr.grad(f, argnums=(0, 1)))(WEIGHTS, x), cr.grad(g, argnums=(0, 1))(WEIGHTS, x))


def test_second_order_in_every_order_of_transforms():
    x, w = draw(4, 3), draw(3)
    f = lambda w, x: cr.sin(w * x).sum() * (w @ x)  # noqa: E731
    cr.check_grads(cr.vmap(f, in_axes=(None, 0)), (w, x), order=2)
    cr.check_grads(cr.vmap(cr.grad(f), in_axes=(None, 0)), (w, x), order=1)
    direction = draw(4, 3)
    along = lambda x, t: cr.jvp(lambda x: cr.grad(f)(w, x), (x,), (t,))[1]  # noqa: E731
    same(cr.vmap(along)(x, direction), loop(along, x, direction))
    outer = cr.jvp(lambda x: cr.vmap(cr.grad(f), in_axes=(None, 0))(w, x), (x,), (direction,))[1]
    same(outer, cr.vmap(along)(x, direction))
    penalty = lambda w: (cr.vmap(cr.grad(f), in_axes=(None, 0))(w, x) ** 2).sum()  # noqa: E731
    cr.check_grads(penalty, (w,))


def test_results_belong_to_no_transform_that_has_ended():
    assert not cr.vmap(cr.grad(lambda w, x: cr.sin(w * x)), in_axes=(None, 0))(2.0, draw(3)).requires_grad
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    y = cr.vmap(cr.square)(x)
    y.sum().backward()
    same(x.grad, 2 * x.detach())


@both
def test_nested(wrap):
    a, b = draw(3, 2), draw(4, 2)
    f = lambda x, y: cr.vmap(lambda u, v: (u * v).sum() + x.sum(), in_axes=(None, 0))(x, y)  # noqa: E731
    table = cr.vmap(f, in_axes=(0, None))
    same(wrap(table)(a, b), a @ b.mT + a.sum(axis=1, keepdims=True))
    g = cr.vmap(cr.vmap(cr.grad(lambda x, y: cr.sin(x @ y)), (None, 0)), (0, None))
    same(wrap(g)(a, b), cr.cos(a @ b.mT)[:, :, None] * b)


@both
def test_loops_and_branches(wrap):
    def f(x, n):
        carry, ys = cr.scan(lambda c, t: ((c[0] * t.sin(), c[1] + 1), c[0] + c[1]), (x[0], cr.tensor(0.0)), x)
        y = cr.cond(x[0] > 0, lambda x: cr.log(x[0]) + n, lambda x: x.sum(), cr.astype(x, "float64"))
        m, z = cr.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] * 1.5 + x[0]), (cr.tensor(0), x[1]))
        return carry, ys, y, m, z, cr.grad(lambda x: cr.cond(x[0] > 0, lambda: cr.sqrt(x[0]), lambda: x[1]))(x)

    x, n = draw(5, 3), cr.tensor([0, 3, 1, 7, 2])
    found = wrap(cr.vmap(f))(x, n)
    same(found, loop(f, x, n))
    assert np.isfinite(found[-1].numpy()).all()
    grads = cr.grad(lambda x: sum(cr.vmap(f)(x, n)[i].sum() for i in (1, 2)))
    same(wrap(grads)(x), cr.grad(lambda x: sum(loop(f, x, n)[i].sum() for i in (1, 2)))(x))


def test_a_branch_that_is_not_taken_does_not_fail():
    table = cr.tensor([1.0, 2.0, 4.0])
    safe = lambda i: cr.cond(i < 3, lambda i: table[i], lambda i: cr.tensor(-1.0), i)  # noqa: E731
    same(cr.vmap(safe)(cr.tensor([0, 9, 2])), cr.tensor([1.0, -1.0, 4.0]))
    search = lambda y: cr.while_loop(lambda i: table[i] < y, lambda i: i + 1, cr.tensor(0))  # noqa: E731
    with pytest.raises(IndexOutOfRangeError):
        cr.vmap(search)(cr.tensor([0.5, 9.0]))
    walk = lambda n: cr.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] + table[c[0]]), (0, 0.0))[1]  # noqa: E731
    same(cr.vmap(walk)(cr.tensor([3, 0, 1])), cr.tensor([7.0, 0.0, 1.0]))
    inner = lambda n, m: cr.cond(n > 0, lambda n: walk(n) // m, lambda n: cr.tensor(0.0), n)  # noqa: E731
    same(cr.vmap(inner)(cr.tensor([3, 0]), cr.tensor([2, 1])), cr.tensor([3.0, 0.0]))
    whole = lambda n: cr.cond(n != 0, lambda n: 12 // n, lambda n: cr.tensor(0), n)  # noqa: E731
    same(cr.vmap(whole)(cr.tensor([3, 0])), cr.tensor([4, 0]))


def test_a_predicate_that_is_the_same_for_all_runs_one_branch():
    seen = []
    note = lambda name: lambda x: cr.callback(lambda a: (seen.append(name), a)[1], (), "float64", x)  # noqa: E731
    cr.vmap(lambda p, x: cr.cond(p, note("yes"), note("no"), x), in_axes=(None, 0))(cr.tensor(True), draw(2))
    assert seen == ["yes", "yes"]


@both
def test_checkpoint_custom_rules_and_the_host(wrap):
    x, w = draw(5, 3), draw(3)
    block = lambda x: cr.sin(cr.sin(x * w))  # noqa: E731
    inside = cr.vmap(cr.grad(lambda x: cr.checkpoint(block)(x).sum()))
    outside = cr.grad(lambda x: cr.checkpoint(cr.vmap(block))(x).sum())
    same(wrap(inside)(x), cr.grad(lambda x: block(x).sum())(x))
    same(wrap(outside)(x), cr.grad(lambda x: block(x).sum())(x))

    odd = cr.custom_vjp(
        lambda x, w: x * w, lambda x, w: (x * w, (x, w)), lambda r, ct: (3 * ct * r[1], ct * r[0].sum())
    )
    f = lambda x, w: odd(x, w).sum()  # noqa: E731
    each = [cr.grad(f, argnums=(0, 1))(x[i], w) for i in range(5)]
    total = wrap(cr.grad(lambda x, w: cr.vmap(f, in_axes=(0, None))(x, w).sum(), argnums=(0, 1)))(x, w)
    same(total, (cr.stack([g[0] for g in each]), sum(g[1] for g in each)))
    per_example = wrap(cr.vmap(cr.grad(f, argnums=(0, 1)), in_axes=(0, None)))(x, w)
    same(per_example, (cr.stack([g[0] for g in each]), cr.stack([g[1] for g in each])))

    def host(x, w):
        rule = lambda ct, a, b: (ct * b, ct * a)  # noqa: E731
        return cr.callback(lambda a, b: a * b, (3,), "float64", x, w, vjp=rule).sum()

    found = wrap(cr.grad(lambda x, w: cr.vmap(host, in_axes=(0, None))(x, w).sum(), argnums=(0, 1)))(x, w)
    same(found, (cr.stack([w] * 5), x.sum(axis=0)))


def test_a_primitive_without_a_rule_is_called_for_each_example():
    from chainrule.primitives.base import REGISTRY

    @primitive(lambda x: TensorType((), x.dtype), vjp=(lambda ct, out, x: ct * 2 * x,), name="vmap_test_norm")
    def norm(x):
        assert x.ndim == 1
        return (x * x).sum()

    try:
        x = draw(4, 3)
        same(cr.vmap(norm)(x), (x * x).sum(axis=1))
        same(cr.vmap(cr.grad(norm))(x), 2 * x)
    finally:
        del REGISTRY["vmap_test_norm"]


def test_printing(capsys):
    cr.vmap(lambda x: cr.debug.print("{}", x))(cr.tensor([1, 2]))
    assert capsys.readouterr().out == "1\n2\n"


@pytest.mark.parametrize("jac", [cr.jacrev, cr.jacfwd])
@both
def test_jacobians(wrap, jac):
    x = draw(3)
    f = lambda x: {"y": cr.cumulative_sum(cr.sin(x)) * x[0], "z": x.max()}  # noqa: E731
    g = wrap(jac(f))(x)
    one = np.eye(3)
    rows = [cr.jvp(f, (x,), (cr.tensor(e),))[1] for e in one]
    same(g, {"y": cr.stack([r["y"] for r in rows], axis=1), "z": cr.stack([r["z"] for r in rows])})
    batch = draw(4, 3)
    same(wrap(cr.vmap(jac(f)))(batch), loop(jac(f), batch))
    cr.check_grads(lambda x: jac(f)(x)["y"], (x,))
    same(
        wrap(cr.vmap(cr.hessian(lambda x: f(x)["y"].sum())))(batch), loop(cr.hessian(lambda x: f(x)["y"].sum()), batch)
    )


def test_the_work_of_a_jacobian_does_not_grow_with_its_rows():
    def nodes(n):
        from chainrule.autodiff.trees import flatten
        from chainrule.graph.tracing import trace

        traced = trace(
            cr.jacrev(lambda x: cr.sin(x) * x), [TensorType((n,), np.dtype("float64"))], flatten((0,))[1], "f"
        )
        return len(traced.graph.nodes)

    assert nodes(3) == nodes(30)


# --- random numbers and cells -------------------------------------------------------------------------------


@both
def test_random_numbers(wrap):
    def run(randomness):
        cr.manual_seed(3)
        f = lambda x: (cr.uniform((2,)) + x, cr.uniform())  # noqa: E731
        found = wrap(cr.vmap(f, randomness=randomness))(cr.zeros((3, 1)))
        return found, cr.functions.random.default_generator.numpy()

    (different, _), state = run("different")
    assert len(np.unique(different.numpy())) == 6
    (same_for_all, single), state_too = run("same")
    cr.manual_seed(3)
    np.testing.assert_array_equal(same_for_all.numpy(), np.stack([cr.uniform((2,)).numpy()] * 3))
    assert state.tolist() == state_too.tolist() == [3, 2]
    assert single.shape == (3,)


@both
def test_random_numbers_in_loops(wrap):
    def f(x):
        steps = cr.scan(lambda c, _: (c, cr.uniform()), (), length=2)[1]
        branch = cr.cond(x > 0, lambda: cr.uniform(), lambda: cr.uniform() + cr.uniform())
        n, total = cr.while_loop(lambda c: c[0] < x, lambda c: (c[0] + 1, c[1] + cr.uniform()), (cr.tensor(0), 0.0))
        return steps, branch, n, total

    cr.manual_seed(0)
    steps, _, n, total = wrap(cr.vmap(f))(cr.tensor([0, 1, 4]))
    assert len(np.unique(steps.numpy())) == 6
    assert n.tolist() == [0, 1, 4]
    assert total.numpy()[0] == 0 < total.numpy()[1]
    assert cr.functions.random.default_generator.numpy().tolist() == [0, 2 + 2 + 4]


def test_a_generator_for_each_example():
    def f(seed_and_draw):
        g = cr.Generator(0)
        g.assign(seed_and_draw)
        return cr.uniform((2,), generator=g), cr.uniform(generator=g)

    states = cr.tensor(np.array([[5, 0], [6, 2]], np.uint64))
    first, second = cr.vmap(f)(states)
    for i, (seed, skipped) in enumerate([(5, 0), (6, 2)]):
        g = cr.Generator(seed)
        for _ in range(skipped):
            cr.uniform(generator=g)
        np.testing.assert_array_equal(first[i].numpy(), cr.uniform((2,), generator=g).numpy())
        assert second[i].item() == cr.uniform(generator=g).item()


def test_cells():
    total, scale = cr.Cell(cr.tensor(0.0)), cr.Parameter(cr.tensor(2.0))

    def f(x):
        total.assign(total + scale)
        return x * scale

    y = cr.vmap(f)(cr.arange(3.0))
    assert total.item() == 2.0
    y.sum().backward()
    assert scale.grad.item() == 3.0

    def g(x):
        total.assign(x)

    with pytest.raises(ArgumentError, match="one for each example"):
        cr.vmap(g)(cr.arange(3.0))
    assert total.item() == 2.0


# --- ensembles ----------------------------------------------------------------------------------------------


@both
def test_an_ensemble_with_rates_of_its_own(wrap):
    model = nn.Sequential(nn.Linear(3, 4, dtype="float64"), nn.Tanh(), nn.Linear(4, 2, dtype="float64"))
    x, y = draw(6, 3), cr.tensor([0, 1, 1, 0, 1, 0])
    tree = model.parameter_tree()
    stacked = cr.tree_map(lambda p: draw(3, *p.shape), tree)
    rates = cr.tensor([0.1, 0.2, 0.3], dtype="float64")

    def loss(tree, x, y):
        return nn.functional.cross_entropy(cr.functional_call(model, tree, x), y)

    def step(tree, x, y, rate):
        value, g = cr.value_and_grad(loss)(tree, x, y)
        return cr.tree_map(lambda p, g: p - rate * g, tree, g), value

    trained, losses = wrap(cr.vmap(step, in_axes=(0, None, None, 0)))(stacked, x, y, rates)
    for i in range(3):
        one, value = step(cr.tree_map(lambda p, i=i: p[i], stacked), x, y, rates[i])
        same(cr.tree_map(lambda p, i=i: p[i], trained), one)
        same(losses[i], value)
    assert list(trained.flat()) == list(tree.flat())


def test_an_ensemble_with_dropout_and_batch_norm():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    x = cr.tensor(rng.standard_normal((6, 3)).astype("f"))
    state = {name: cr.stack([cell.detach()] * 2) for name, cell in model.named_cells()}
    y = cr.vmap(lambda s: cr.functional_call(model, s, x))(state)
    assert y.shape == (2, 6, 4)
    assert not np.array_equal(y[0].numpy() == 0, y[1].numpy() == 0)
    assert float(abs(dict(model.named_cells())["1.running_mean"].numpy()).sum()) == 0  # the state given was used
    with pytest.raises(ArgumentError, match="eval mode"):
        cr.vmap(lambda x: model(x))(cr.stack([x, x + 1]))


# --- state that something stands in for, in traced code -------------------------------------------------------


@pytest.mark.parametrize("many", [False, True])
def test_a_checkpoint_around_a_loop_draws_the_same_numbers_again(many):
    one = lambda x: cr.scan(lambda c, _: (c * cr.uniform(), ()), x, length=3)[0]  # noqa: E731
    f = (lambda x: cr.vmap(one)(x).sum()) if many else (lambda x: one(x[0]))
    found = []
    for g in (f, cr.checkpoint(f)):
        cr.manual_seed(0)
        found.append(cr.grad(g)(cr.tensor([0.5, 2.0])))
    same(found[0], found[1])


def test_state_given_to_a_call_is_carried_along_by_loops():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.n = cr.Cell(cr.tensor(0.0))

        def forward(self, x):
            def body(c, t):
                self.n.assign(self.n + 1.0)
                return c, self.n * t

            ys = cr.scan(body, (), x)[1]
            return ys, self.n + 0.0

    module = Counting()
    ys, n = cr.functional_call(module, {"n": cr.tensor(5.0)}, cr.ones(3))
    assert ys.tolist() == [6.0, 7.0, 8.0]
    assert (n.item(), module.n.item()) == (8.0, 0.0)
    ys, n = cr.vmap(lambda n: cr.functional_call(module, {"n": n}, cr.ones(2)))(cr.tensor([5.0, 0.0]))
    assert ys.tolist() == [[6.0, 7.0], [1.0, 2.0]]
    assert n.tolist() == [7.0, 2.0]
