"""`scan`, `cond` and `while_loop` in compiled functions: values, gradients, tangents, nesting, cells, long loops."""

from __future__ import annotations

from typing import Any

import both_modes
import numpy as np
import pytest
from agree import Case, agree, check, loss_of

import chainrule as cr
from chainrule.compiler import engine

_rng = np.random.default_rng(4)


def normal(*shape: int, dtype: str = "float64") -> np.ndarray:
    return np.asarray(_rng.standard_normal(shape)).astype(dtype)


def with_derivatives(function: Any) -> Any:
    """Results, their gradient, tangents, and the gradient of a gradient's norm."""

    def whole(*args: Any) -> Any:
        places = tuple(i for i, x in enumerate(args) if x.dtype == cr.float64)
        given = [args[i] for i in places]

        def of(*some: Any) -> Any:
            every = list(args)
            for i, x in zip(places, some, strict=True):
                every[i] = x
            return function(*every)

        loss = loss_of(of)
        grad = cr.grad(loss, argnums=tuple(range(len(places))))

        def norm(*some: Any) -> Any:
            return sum((g * g).sum() for g in grad(*some))

        tangents = [cr.cos(x) for x in given]
        return of(*given), grad(*given), cr.jvp(loss, tuple(given), tuple(tangents)), cr.grad(norm)(*given)

    return whole


# --- scan -------------------------------------------------------------------------------------------------


def plain(c, xs):
    return cr.scan(lambda c, x: (cr.tanh(c * 0.5 + x), c * x), c, xs)


def backwards(c, xs):
    return cr.scan(lambda c, x: (cr.sin(c + x), (c.sum(), x * 2)), c, xs, reverse=True)


def swapped(c, xs):
    """Carries change places, and one is handed on as it is."""

    def body(carry, x):
        a, b, same = carry
        return (b, a + x, same), (a, b, same)

    return cr.scan(body, (c, c * 2, c - 1), xs)


def rotated(c, xs):
    """Each next carry needs another one's old value."""

    def body(carry, x):
        a, b, d = carry
        return (b * x, d, a + b), a

    return cr.scan(body, (c, c + 1, c * c), xs)


def handed_through(c, xs):
    """Results that are a slice, a carry, a constant, and the same thing twice."""
    outside = c * 3
    return cr.scan(lambda c, x: (x, (x, c, outside, outside, cr.ones((2,)))), c, xs)


def from_outside(c, xs):
    """What the body takes from outside is made by the program, and used after the loop too."""
    weight = cr.exp(-(xs.sum() ** 2)) + c
    last, rows = cr.scan(lambda c, x: (c * weight + x, (c * weight).sum()), c, xs)
    return last * weight, rows, weight


def with_numbers(c, xs):
    def body(carry, x):
        n, c = carry
        return (n + 1, c * n.astype("float64") + x), (n, n % 2 == 0)

    return cr.scan(body, (cr.tensor(1), c), xs)


def several_inputs(c, xs):
    return cr.scan(lambda c, x: (c + x[0] * x[1]["a"], c.max()), c, (xs, {"a": cr.flip(xs, axis=0)}))


def counted(c, xs):
    return cr.scan(lambda c, _: (cr.cos(c), c.sum()), c, length=max(xs.shape[0], 1))


def nested(c, xs):
    def outer(c, row):
        def inner(d, x):
            return d * 0.5 + x * c.sum(), d * row.sum()

        last, ys = cr.scan(inner, c, cr.stack([row, row * 2, row + c]))
        return cr.tanh(last), ys.sum(axis=0)

    return cr.scan(outer, c, xs)


def matrices(c, xs):
    """A recurrent layer: products, bias, gates."""
    weight = xs[0][:, None] * c[None, :] if xs.shape[0] else cr.outer(c, c)

    def body(h, x):
        gate = cr.sigmoid(weight @ h + x)
        return gate * h + (1 - gate) * cr.tanh(x), gate

    return cr.scan(body, c, xs)


SCANS = [
    plain,
    backwards,
    swapped,
    rotated,
    handed_through,
    from_outside,
    with_numbers,
    several_inputs,
    counted,
    nested,
    matrices,
]


@pytest.mark.parametrize("function", SCANS, ids=lambda f: f.__name__)
def test_scan_agrees(function):
    check([Case(f"length {n}", with_derivatives(function), [normal(2), normal(n, 2)]) for n in (0, 1, 4)])


def test_scan_over_large_slices_agrees():
    """Rows that are no multiple of a vector, longer than a block, and strided arguments."""

    def function(c, xs):
        return cr.scan(lambda c, x: (c * 0.9 + cr.softmax(x, axis=-1), (c * x).sum(axis=-1)), c, xs)

    cases = [
        Case(f"{shape}", function, [normal(*shape[1:]), normal(*shape)], gradient=True)
        for shape in ((3, 37), (2, 5, 1030), (4, 8, 64))
    ]
    wide = normal(37, 6)[:, ::2]
    check([*cases, Case("strided", function, [wide[:, 0], np.ascontiguousarray(wide).T], gradient=True)])


def test_scan_in_other_dtypes_agrees():
    def function(c, xs):
        return cr.scan(lambda c, x: (c * 2 - x, (c > x, c)), c, xs)

    for dtype in ("float32", "float16", "int32", "uint8"):
        agree(function, (normal(5) * 3).astype(dtype), (normal(3, 5) * 3).astype(dtype))
    agree(lambda c, xs: cr.scan(lambda c, x: (c ^ x, c | x), c, xs), normal(5) > 0, normal(4, 5) > 0)


def test_a_long_scan_compiles_as_fast_as_a_short_one():
    def function(c, xs):
        def run(c, xs):
            last, rows = cr.scan(lambda c, x: (0.9 * c + cr.sin(x), c), c, xs)
            return (last * last).sum() + rows.mean()

        return cr.value_and_grad(run, argnums=(0, 1))(c, xs)

    compiled = cr.compile(function)
    steps = []
    for length in (10, 10_000):
        before = engine.statistics().compiled
        args = normal(3, dtype="float32"), normal(length, 3, dtype="float32")
        value, grads = compiled(*args)
        expected, expected_grads = function(*map(cr.asarray, args))
        np.testing.assert_allclose(value.numpy(), expected.numpy(), rtol=1e-5)
        for g, e in zip(grads, expected_grads, strict=True):
            np.testing.assert_allclose(g.numpy(), e.numpy(), rtol=1e-4, atol=1e-6)
        steps.append((len(compiled.programs[-1].graph.nodes), engine.statistics().compiled - before))
    assert steps[0][0] == steps[1][0]
    assert steps[1][1] == 0, "another length needs no new code"


# --- cond -------------------------------------------------------------------------------------------------


def branches(x, y):
    scale = cr.exp(y)
    first = cr.cond(x.sum() > 0, lambda a: (a * scale, y), lambda a: (a / scale, a), x)
    second = cr.cond(x[0] > 100, lambda: x * 2, lambda: y * 3)
    return first, second


def branch_in_branch(x, y):
    def yes(a):
        return cr.cond(a[0] > y[0], lambda b: cr.sin(b) * y, lambda b: b - y, a)

    return cr.cond(x.sum() > 0, yes, lambda a: cr.cond(y.sum() > 0, lambda b: b, lambda b: -b, a), x)


def through(x, y):
    """A branch that hands on what it is given, and one that gives a constant."""
    return cr.cond(x[0] > 0, lambda a, b: (b, a, cr.zeros((2,), "float64")), lambda a, b: (a, a, b), x, y)


@pytest.mark.parametrize("function", [branches, branch_in_branch, through], ids=lambda f: f.__name__)
def test_cond_agrees(function):
    signs = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
    base = np.array([0.7, 1.3])
    check([Case(f"{s}", with_derivatives(function), [s[0] * base, s[1] * base[::-1]]) for s in signs])


def test_one_program_takes_both_branches():
    compiled = cr.compile(lambda x: cr.cond(x.sum() > 0, lambda a: a * 2, lambda a: a - 1, x))
    for x in (np.array([1.0, 2.0]), np.array([-1.0, -2.0]), np.array([1.0, 2.0])):
        np.testing.assert_array_equal(compiled(x).numpy(), x * 2 if x.sum() > 0 else x - 1)
    assert len(compiled.programs) == 1


# --- while ------------------------------------------------------------------------------------------------


def doubling(x, y):
    return cr.while_loop(
        lambda c: c[0].sum() < 20, lambda c: (c[0] * 2 + y * y, c[1] + 1), (cr.abs(x), cr.tensor(0)), max_steps=12
    )


def never(x, y):
    return cr.while_loop(lambda c: c.sum() > 1e9, lambda c: c * y, x, max_steps=3)


def exchanged(x, y):
    def body(c):
        n, a, b = c
        return n + 1, b + 0.1, a * b

    return cr.while_loop(lambda c: c[0] < 5, body, (cr.tensor(0), x, y), max_steps=5)


def loop_in_loop(x, y):
    def body(c):
        n, a = c
        _, inner = cr.while_loop(
            lambda d: d[0] < n, lambda d: (d[0] + 1, cr.sin(d[1]) + y), (cr.tensor(0), a), max_steps=3
        )
        return n + 1, inner

    return cr.while_loop(lambda c: c[0] < 3, body, (cr.tensor(0), x), max_steps=3)


@pytest.mark.parametrize("function", [doubling, never, exchanged, loop_in_loop], ids=lambda f: f.__name__)
def test_while_loop_agrees(function):
    check([Case("while", with_derivatives(function), [normal(2), normal(2)])])


def test_while_loop_without_a_bound_agrees():
    def newton(a):
        def run(a):
            return cr.while_loop(lambda x: cr.max(cr.abs(x * x - a)) > 1e-9, lambda x: (x + a / x) / 2, a + 1)

        return run(a), cr.jvp(run, (a,), (cr.ones_like(a),))

    agree(newton, np.array([2.0, 3.0, 0.1]))


# --- everything in everything -----------------------------------------------------------------------------


def everything(x, y):
    """A scan whose body has a branch, in which there is a loop, in which there is a scan."""

    def body(c, row):
        def small(a):
            def step(d):
                n, b = d
                return n + 1, cr.scan(lambda e, v: (e * 0.5 + v, e.sum()), b, cr.stack([row, b]))[0]

            return cr.while_loop(lambda d: d[0] < 2, step, (cr.tensor(0), a), max_steps=2)[1]

        return cr.cond(row.sum() > 0, small, lambda a: a * row + y, c), c * row

    return cr.scan(body, y, x)


def test_everything_in_everything_agrees():
    check([Case("nested", with_derivatives(everything), [normal(4, 2), normal(2)])])


def test_transforms_in_bodies_agree():
    def function(x, ys):
        def body(c, y):
            slope = cr.grad(lambda v: (cr.sin(v) * y).sum())(c)
            return c - 0.1 * slope, cr.jvp(lambda v: v * v, (c,), (y,))[1]

        return cr.scan(body, x, ys)

    check([Case("transforms", with_derivatives(function), [normal(3), normal(4, 3)])])


# --- cells ------------------------------------------------------------------------------------------------


class Counter:
    """Cells that a function reads and assigns."""

    def __init__(self) -> None:
        self.total = cr.Cell(cr.tensor([0.5, 1.5], "float64"))
        self.count = cr.Cell(cr.tensor(0))
        self.weight = cr.Parameter(cr.tensor([1.0, -2.0], "float64"))

    def state(self) -> list[np.ndarray]:
        return [cell.numpy() for cell in (self.total, self.count, self.weight)]


def scan_assigns(cells, xs):
    def body(c, x):
        cells.total.assign(cells.total * 0.5 + x * c)
        cells.count.assign(cells.count + 1)
        return cr.tanh(c + cells.total), cells.total.sum()

    return cr.scan(body, xs[0] * 0, xs)


def cond_assigns(cells, xs):
    def body(c, x):
        def yes():
            cells.count.assign(cells.count + 10)
            return x * cells.weight

        def no():
            cells.total.assign(cells.total + x)
            return c

        return cr.cond(x[0] > 0, yes, no), cells.count * 1

    return cr.scan(body, xs[0], xs)


def while_assigns(cells, xs):
    def body(c):
        cells.count.assign(cells.count + 1)
        cells.total.assign(cells.total * cells.weight)
        return c + cr.abs(cells.total) + 0.1

    return cr.while_loop(lambda c: c.sum() < 4, body, xs[0] * 0)


def gradient_assigns(cells, xs):
    def loss(x):
        cells.count.assign(cells.count + 1)
        return cr.scan(lambda c, v: (c * cells.weight + v, ()), cells.total, x)[0].sum()

    g = cr.grad(loss)(xs)
    cells.weight.assign(cells.weight - 0.1 * g[0])
    return g


@pytest.mark.parametrize(
    "function", [scan_assigns, cond_assigns, while_assigns, gradient_assigns], ids=lambda f: f.__name__
)
def test_cells_in_loops_agree(function):
    eager, native = Counter(), Counter()
    compiled = cr.compile(lambda xs: function(native, xs))
    for _ in range(3):
        xs = normal(4, 2)
        expected, given = function(eager, cr.asarray(xs)), compiled(xs)
        for e, g in zip(_leaves(expected), _leaves(given), strict=True):
            np.testing.assert_allclose(g.numpy(), e.numpy(), rtol=1e-13)
        for e, g in zip(eager.state(), native.state(), strict=True):
            np.testing.assert_allclose(g, e, rtol=1e-13)
    assert len(compiled.programs) == 1


def _leaves(x: Any) -> list[Any]:
    return [leaf for part in x for leaf in _leaves(part)] if isinstance(x, (tuple, list)) else [x]


def test_new_carries_are_written_over_old_ones_where_nothing_reads_these_any_more():
    def copies(body, start):
        step = cr.compile(lambda xs, c: cr.scan(body, c, xs))
        xs = cr.asarray(np.random.default_rng(0).standard_normal((6, 3, 4)))
        both_modes.same(cr.scan(body, start, xs), step(xs, start))
        (loop,) = [s for s in step.programs[0].steps if s.kind == "scan"]
        return sum(s.kind == "copy" for s in loop.bodies[0])

    a, b = (cr.asarray(np.random.default_rng(i).standard_normal((3, 4))) for i in (1, 2))
    w = cr.asarray(np.random.default_rng(3).standard_normal((4, 4)))
    assert copies(lambda c, x: (cr.tanh(c) + x, c), a) == 0  # elementwise, and the old one is kept first
    assert copies(lambda c, x: (c + x @ w, None), a) == 0  # added where the product is finished
    assert copies(lambda c, x: (c @ w + x, None), a) == 1  # a product reads all of the old one while it writes
    assert copies(lambda c, x: ((cr.sin(c[0] @ w) + c[1], c[1] * x), c[0]), (a, b)) <= 1
    copies(lambda c, x: ((c[1], c[0]), c[0] + x), (a, b))  # exchanged
    copies(lambda c, x: ((c[0] + c[1], c[0] - c[1]), x), (a, b))  # each reads the other
    copies(lambda c, x: (cr.flip(c, axis=0) + x, c), a)  # read in another order
    copies(lambda c, x: (c + cr.sum(c) + x, c), a)
