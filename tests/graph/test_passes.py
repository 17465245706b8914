"""The passes other than simplification: each on a graph that shows it, and all on traced functions."""

from __future__ import annotations

import numpy as np
import pytest
from graph_tools import Build, check_same, dense, names, random_graphs, traced
from hypothesis import given

import chainrule as cr
from chainrule import dtypes, nn
from chainrule.graph.ir import bodies
from chainrule.graph.passes import (
    PASSES,
    absorb_transposes,
    fold_constants,
    merge_common_subexpressions,
    optimize,
    remove_dead_code,
    uniform,
)
from chainrule.graph.spec import check
from chainrule.graph.tracing import evaluate

LARGE = np.zeros((300, 300), np.float32)


def index(*places):
    return np.array(places, np.int64)


# --- dead code --------------------------------------------------------------------------------------------


def test_dead_code_goes():
    b = Build()
    x = b.input((3,))
    y = b("exp", b("add", x, 2.0))
    b("log", b("multiply", y, 3.0))
    after = remove_dead_code(b.returns(y))
    assert names(after) == ["add", "exp"]
    assert [float(a) for a in after.constants.values()] == [2.0]


def applied(name, *args, **static):
    return lambda b: b(name, *(b.input(*a) if isinstance(a, tuple) else a for a in args), **static)


X, I, K = ((4, 3),), ((2,), "int64"), ((), "int64")
EYE = np.eye(2, dtype=np.float32)
MAY_FAIL = {
    "gather": applied("gather", X, I),
    "gather outside": applied("gather", X, index(0, 4)),
    "gather before": applied("gather", X, index(-5)),
    "scatter_add": applied("scatter_add", X, ((2, 3),), I),
    "scatter_set": applied("scatter_set", X, ((2, 3),), I),
    "dynamic_slice": applied("dynamic_slice", X, K, index(0).reshape(()), sizes=(2, 3)),
    "dynamic_slice beyond": applied("dynamic_slice", X, index(-1)[0], index(0)[0], sizes=(2, 3)),
    "dynamic_update_slice": applied("dynamic_update_slice", X, ((2, 3),), K, K),
    "floor_divide": applied("floor_divide", I, I),
    "remainder by zero": applied("remainder", I, index(1, 0)),
    "power": applied("power", I, I),
    "cholesky": applied("cholesky", ((2, 2),)),
    "cholesky of a constant": applied("cholesky", -EYE),
    "print": applied("print", X, text="{}"),
}
CANNOT_FAIL = {
    "gather of constants": applied("gather", X, index(0, -4, 3)),
    "scatter of constants": applied("scatter_add", X, ((2, 3),), index(0, 3)),
    "scatter of equal constants": applied("scatter_set", X, ((2, 3),), index(3, 3)),
    "dynamic_slice of constants": applied("dynamic_slice", X, index(-2)[0], index(0)[0], sizes=(2, 3)),
    "floor_divide by a constant": applied("floor_divide", I, index(3, -1)),
    "floor_divide of floats": applied("floor_divide", X, X),
    "power to a constant": applied("power", I, index(3, 0)),
    "power of floats": applied("power", X, X),
    "fft": applied("rfft", X, axis=0),
}


@pytest.mark.parametrize("name", MAY_FAIL | CANNOT_FAIL)
def test_what_can_fail_is_kept(name):
    make = (MAY_FAIL | CANNOT_FAIL)[name]
    b = Build()
    make(b)
    kept = name in MAY_FAIL
    graph = b.returns()
    for after in (remove_dead_code(graph), remove_dead_code(fold_constants(graph)), optimize(graph)):
        check(after)
        assert len(after.nodes) >= 1 if kept else after.nodes == []


def test_loops_are_kept_if_their_body_can_fail():
    def loop(body):
        def f(x):
            cr.scan(lambda c, v: (body(c, v), ()), x, cr.zeros((3, 2), "int64"))
            return x

        return traced(f, np.ones(2, np.int64))[0]

    assert names(remove_dead_code(loop(lambda c, v: c + v))) == []
    assert names(remove_dead_code(loop(lambda c, v: c // v))) == ["scan"]
    assert names(remove_dead_code(loop(lambda c, v: c // 2))) == ["scan"]  # a constant of the function, not of the body
    assert names(optimize(loop(lambda c, v: c // 2))) == []
    assert "scan" in names(optimize(loop(lambda c, v: (cr.debug.print("{}", c), c)[1])))


def test_what_is_computed_again_has_failed_before():
    b = Build()
    x, i = b.input((4, 3)), b.input((2,), "int64")
    y = b("gather", x, i)
    b.region = 1
    b("gather", x, i)
    assert len(remove_dead_code(b.returns(y)).nodes) == 1


# --- common subexpressions --------------------------------------------------------------------------------


def test_equal_nodes_are_merged():
    b = Build()
    x, y, i = b.input((2, 3)), b.input((2, 3)), b.input((2,), "int64")
    pairs = [
        (b("exp", x), b("exp", x)),
        (b("add", x, y), b("add", y, x)),
        (b("multiply", x, 2.0), b("multiply", 2.0, x)),
        (b("reduce_sum", x, axes=(0,)), b("reduce_sum", x, axes=(0,))),
        (b("gather", x, i), b("gather", x, i)),  # one fails if the other does
        b("top_k", x, k=2),
        b("top_k", x, k=2),
    ]
    after = merge_common_subexpressions(b.returns(*(v for pair in pairs for v in pair)))
    assert names(after) == ["exp", "add", "multiply", "reduce_sum", "gather", "top_k"]
    assert [node.source.split(":")[1] for node in after.nodes] == ["1", "3", "5", "7", "9", "11"]
    assert len(after.outputs) == 14
    assert len(set(after.outputs)) == 7


def test_different_nodes_are_not_merged():
    b = Build()
    x, y = b.input((3, 3)), b.input((3, 3))
    made = [
        b("exp", x), b("exp", y), b("expm1", x), b("subtract", x, y), b("subtract", y, x),
        b("maximum", x, y), b("maximum", y, x), b("add", x, 0.0), b("add", x, -0.0),
        b("reduce_sum", x, axes=(0,)), b("reduce_sum", x, axes=(1,)),
        b("add", x, np.float32(1)), b("cast", x, dtype=dtypes.float64), b("cast", x, dtype=dtypes.float16),
    ]  # fmt: skip
    for _ in range(2):
        b("print", x, text="{}")
        made.append(b("callback", x, function=np.sin, vjp=None, result=x.type))
    b.region = 1
    made.append(b("exp", x))
    graph = b.returns(*made)
    assert names(merge_common_subexpressions(graph)) == names(graph)
    kept = [n for n in names(optimize(graph)) if n in ("print", "callback")]
    assert kept == ["print", "callback", "print", "callback"]


def test_checkpointed_functions_are_computed_again():
    w = cr.nn.Parameter(np.ones((3, 3), np.float32))

    def layer(x):
        return cr.tanh(cr.tanh(x @ w))

    def loss(f):
        return lambda x: cr.grad(lambda v: f(f(v)).sum())(x)

    plain, arrays = traced(loss(layer), np.ones((2, 3), np.float32))
    again, _ = traced(loss(cr.checkpoint(layer)), np.ones((2, 3), np.float32))
    assert names(optimize(plain)).count("tanh") == 4
    after = optimize(again)
    assert names(after).count("tanh") == 6  # the result of the last layer is not returned
    assert len({node.region for node in after.nodes}) == 3
    assert str(after).count("tanh'") == 4
    check_same(again, after, arrays)
    for a, b in zip(dense(after, arrays), dense(plain, arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_checkpoint_in_a_checkpoint_is_kept_apart():
    inner = cr.checkpoint(lambda x: cr.sin(cr.sin(x)))

    def outer(x):
        return cr.grad(lambda v: inner(v).sum())(x) * cr.exp(x)

    graph, _ = traced(cr.grad(lambda x: cr.checkpoint(outer)(x).sum()), np.ones(3, np.float32))
    by_region = {}
    for node in graph.nodes:
        by_region.setdefault(node.region, []).append(node.primitive.name)
    assert sum(count > 0 for count in (names_.count("sin") for names_ in by_region.values())) >= 4


# --- constants --------------------------------------------------------------------------------------------


def test_constants_are_folded():
    b = Build()
    x = b.input((2,))
    a = b("add", x, b("exp", b("reshape", np.arange(2.0), shape=(1, 2))))
    values, places = b("top_k", np.array([1.0, 3.0, 2.0], np.float32), k=2)
    big = b("add", b("permute", np.arange(90000.0).reshape(300, 300), axes=(1, 0)), 1.0)
    graph = b.returns(a, values, places, b("reduce_sum", big, axes=(0, 1)))
    after = fold_constants(graph)
    assert names(after) == ["add", "permute", "add", "reduce_sum"]
    check_same(graph, after, [np.ones(2, np.float32)])


def test_inputs_and_effects_are_not_folded():
    b = Build()
    y = b("callback", 1.0, function=np.sin, vjp=None, result=b.constant(1.0).type)
    b("print", 1.0, text="{}")
    graph = b.returns(y, b("exp", b.input()))
    assert names(fold_constants(graph)) == ["callback", "print", "exp"]


def test_one_number_is_kept_for_many_that_are_equal():
    b = Build()
    x = b.input((300, 300))
    graph = b.returns(b("scatter_add", LARGE, x, np.arange(300)), b.constant(LARGE + 1))
    after = remove_dead_code(fold_constants(graph))
    assert names(after) == ["broadcast_to", "scatter_add", "broadcast_to"]
    assert sorted(a.size for a in after.constants.values()) == [1, 1, 300]
    check_same(graph, after, [np.ones((300, 300), np.float32)])


@pytest.mark.parametrize("dtype", sorted(dtypes.ALL, key=str))
def test_uniform(dtype):
    ones = np.ones((3, 2), dtype)
    found = uniform(ones)
    assert found is not None
    assert (found.shape, found.dtype, bool(found == 1)) == ((), dtype, True)
    assert uniform(np.broadcast_to(found, (1 << 20, 1 << 20))) == 1
    assert uniform(np.ones((4, 4), dtype).T[::2, 1:]) == 1
    for place in ((0, 0), (1, 1), (2, 1)):
        other = ones.copy()
        other[place] = 0
        assert uniform(other) is None
    assert uniform(ones[:0]) is None
    if dtype in dtypes.INEXACT:
        zeros = 0 * ones
        zeros[1] = -zeros[1]
        assert uniform(zeros) is None
        assert np.isnan(uniform(ones * np.array(np.nan, dtype)))


# --- contractions -----------------------------------------------------------------------------------------


def numbers(*shape):
    return np.random.default_rng(len(shape)).integers(-3, 4, shape).astype(np.float32)


def test_transposes_of_operands_are_absorbed():
    b = Build()
    x, y = b.input((2, 4, 3)), b.input((2, 5, 4))
    left, right = b("permute", x, axes=(2, 0, 1)), b("permute", y, axes=(0, 2, 1))
    graph = b.returns(b("dot", left, right, contract=((2,), (1,)), batch=((1,), (0,))))
    after = remove_dead_code(absorb_transposes(graph))
    assert names(after) == ["dot"]
    assert after.nodes[0].static == {"contract": ((1,), (2,)), "batch": ((0,), (0,))}
    check_same(graph, after, [numbers(2, 4, 3), numbers(2, 5, 4)])


def test_a_transpose_of_free_axes_is_kept():
    b = Build()
    x, y = b.input((2, 4, 3)), b.input((3, 5))
    graph = b.returns(b("dot", b("permute", x, axes=(1, 0, 2)), y, contract=((2,), (0,)), batch=((), ())))
    assert names(remove_dead_code(absorb_transposes(graph))) == ["permute", "dot"]


def test_a_transpose_of_the_product_exchanges_the_operands():
    b = Build()
    x, y = b.input((2, 4, 3)), b.input((2, 5, 3))
    product = b("dot", x, y, contract=((2,), (2,)), batch=((0,), (0,)))
    graph = b.returns(b("permute", product, axes=(0, 2, 1)))
    after = remove_dead_code(absorb_transposes(graph))
    assert names(after) == ["dot"]
    check_same(graph, after, [numbers(2, 4, 3), numbers(2, 5, 3)])
    also_used = b.returns(b("permute", product, axes=(0, 2, 1)), product)
    assert names(remove_dead_code(absorb_transposes(also_used))) == ["dot", "permute"]


# --- bodies -----------------------------------------------------------------------------------------------


def test_bodies_are_optimized_and_see_constants():
    def f(x, xs):
        def body(c, v):
            return c * 1.0 + cr.sin(v) * cr.sin(v), c.T.T

        c, ys = cr.scan(body, x, xs)
        d = cr.cond(c.sum() > 0, lambda v: v * 1.0, lambda v: cr.negative(-v), c)
        return cr.while_loop(lambda v: v.sum() < 2 * 50, lambda v: v * 2 / 1.0 + 1, d), ys

    arrays = [numbers(2, 2), numbers(3, 2, 2)]
    graph, given = traced(f, *arrays)
    after = optimize(graph)
    check(after)
    check_same(graph, after, given)
    scan, _, _, cond, loop = [n for n in after.nodes if n.primitive.name != "broadcast_to"]
    assert names(scan.static["body"]) == ["sin", "multiply", "add"]
    assert [names(branch) for branch in cond.static["branches"]] == [[], []]
    assert names(loop.static["body"]) == ["multiply", "add"]
    assert names(loop.static["test"]) == ["reduce_sum", "less"]
    assert 100.0 in [float(a) for a in loop.static["test"].constants.values()]


# --- everything together ----------------------------------------------------------------------------------


def training_step():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                          nn.Linear(36, 8), nn.GELU(), nn.Dropout(0.5), nn.LayerNorm(8), nn.Linear(8, 3))  # fmt: skip

    def step(x, y):
        return cr.value_and_grad(lambda m: nn.functional.cross_entropy(m(x), y))(model)

    return step, numbers(2, 8, 8, 1), index(0, 2)


def recurrent():
    model = nn.Linear(3, 3)

    def f(x):
        def loss(m):
            carry, ys = cr.scan(lambda c, v: (cr.tanh(m(c) + v), c.sum()), x[0] * 0.0, x)
            return cr.cond(ys.sum() > 0, lambda: carry.sum(), lambda: (carry**2).sum()) + ys.mean()

        return cr.value_and_grad(loss)(model)

    return f, numbers(4, 2, 3)


def second_order():
    def f(x):
        return cr.grad(lambda v: cr.grad(lambda u: (cr.sin(u) ** 3 * v.sum()).sum())(v).sum())(x)

    return f, numbers(3)


def half_precision():
    return lambda x: cr.grad(lambda v: cr.log(cr.exp(v.astype("float16")) + 1).astype("float32").mean())(x), numbers(4)


FUNCTIONS = [training_step, recurrent, second_order, half_precision]


def _size(graph):
    """How many nodes there are, those of bodies included."""
    return len(graph.nodes) + sum(_size(body) for node in graph.nodes for _, body in bodies(node.static))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_traced_functions_stay_legal_and_keep_their_bits(function):
    graph, arrays = traced(*function())
    check(graph)
    before = graph
    for apply in PASSES:
        after = apply(graph)
        check(after, apply.__name__)
        if apply is not absorb_transposes:  # it may exchange operands, and NumPy sums these in its own order
            check_same(graph, after, arrays)
        graph = after
    after = optimize(before)
    check(after)
    assert _size(after) < 0.9 * _size(before)
    for a, b in zip(evaluate(after, arrays), evaluate(before, arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


@given(random_graphs())
def test_random_graphs_keep_their_bits(case):
    graph, arrays = case
    check(graph)
    for apply in (*PASSES, optimize):
        after = apply(graph)
        check(after, apply.__name__)
        check_same(graph, after, arrays)
    again = optimize(after)
    assert sorted(names(again)) == sorted(names(after))
