"""Each algebraic rule: which nodes are left, and that no bit changes; and the rules that would change one."""

from __future__ import annotations

import numpy as np
import pytest
from graph_tools import Build, check_same, names

from chainrule import dtypes
from chainrule.graph.passes import PASSES, fold_constants, merge_common_subexpressions, remove_dead_code, simplify
from chainrule.graph.passes.arithmetic import exact
from chainrule.graph.spec import check

SHAPES = {"f": ((2, 3), "float32"), "g": ((3,), "float32"), "h": ((2, 3), "float16"), "i": ((2, 3), "int32"),
          "s": ((), "float32"), "one": ((1, 1), "float32"), "b": ((2, 3), "bool"), "z": ((2, 3), "complex64"),
          "t": ((2, 1, 3), "float32")}  # fmt: skip
SPECIAL = [0.0, -0.0, 1.5, -2.0, np.inf, np.nan]
INF, NAN = float("inf"), float("nan")
BIG = np.ones((50, 1000), np.float32)


def half(number):
    return np.array(number, np.float16)


def cast(b, x, *through):
    for name in through:
        x = b("cast", x, dtype=dtypes.as_dtype(name))
    return x


# What is built, from which inputs, and the primitives that are left.
RULES = {
    "x + -0.0": (lambda b, f: b("add", f, -0.0), "f", []),
    "-0.0 + x": (lambda b, f: b("add", -0.0, f), "f", []),
    "x + 0 of integers": (lambda b, i: b("add", i, np.int32(0)), "i", []),
    "x - 0.0": (lambda b, f: b("subtract", f, 0.0), "f", []),
    "x - 0.0 of half": (lambda b, h: b("subtract", h, half(0.0)), "h", []),
    "x + -y": (lambda b, f, g: b("add", f, b("negative", g)), "fg", ["subtract"]),
    "-x + y": (lambda b, f, g: b("add", b("negative", f), g), "fg", ["subtract"]),
    "x - -y": (lambda b, f, g: b("subtract", f, b("negative", g)), "fg", ["add"]),
    "x * 1": (lambda b, f: b("multiply", f, 1.0), "f", []),
    "1 * x of integers": (lambda b, i: b("multiply", np.int32(1), i), "i", []),
    "x * ones broadcast": (lambda b, g: b("multiply", g, np.ones((2, 3), np.float32)), "g", ["broadcast_to"]),
    "x / 1": (lambda b, f: b("divide", f, 1.0), "f", []),
    "x // 1 of integers": (lambda b, i: b("floor_divide", i, np.int32(1)), "i", []),
    "x ** 1": (lambda b, f: b("power", f, 1.0), "f", []),
    "--x": (lambda b, f: b("negative", b("negative", f)), "f", []),
    "!!x": (lambda b, b_: b("logical_not", b("logical_not", b_)), "b", []),
    "conj conj x": (lambda b, z: b("_conj", b("_conj", z)), "z", []),
    "~~x": (lambda b, i: b("bitwise_invert", b("bitwise_invert", i)), "i", []),
    "strong 1 * x": (lambda b, f: b("strong_multiply", 1.0, f), "f", []),
    "strong c * x": (lambda b, f: b("strong_multiply", np.array([2, NAN, -1], np.float32), f), "f", ["multiply"]),
    "strong x * c": (lambda b, f: b("strong_multiply", f, np.array([0.0, 2, -1], np.float32)), "f", ["multiply"]),
    "strong x * mask": (
        lambda b, f, m: b("strong_multiply", f, b("reshape", cast(b, m, "float32"), shape=(2, 1, 3))),
        "fb", ["cast", "reshape", "multiply"],
    ),
    "strong x * where(...)": (
        lambda b, f, m: b("strong_multiply", f, b("select", m, 1.0, b("negative", np.arange(3.0)))),
        "fb", ["select", "multiply"],
    ),
    "strong of integers": (lambda b, i: b("strong_multiply", i, i), "i", ["multiply"]),
    "where True": (lambda b, g, f: b("select", np.array(True), g, f), "gf", ["broadcast_to"]),
    "where False": (lambda b, g, f: b("select", np.zeros((2, 3), bool), g, f), "gf", []),
    "where of equals": (lambda b, m, f: b("select", m, f, f), "bf", []),
    "where not": (lambda b, m, f, g: b("select", b("logical_not", m), f, g), "bfg", ["select"]),
    "cast to the same": (lambda b, f: cast(b, f, "float32"), "f", []),
    "cast there and back": (lambda b, h: cast(b, h, "float32", "float16"), "h", []),
    "cast chain": (lambda b, m: cast(b, m, "int8", "float32", "float64"), "b", ["cast"]),
    "cast chain of integers": (lambda b, i: cast(b, i, "int64", "uint8"), "i", ["cast"]),
    "reshape to the same": (lambda b, f: b("reshape", f, shape=(2, 3)), "f", []),
    "two reshapes": (lambda b, f: b("reshape", b("reshape", f, shape=(6,)), shape=(3, 2)), "f", ["reshape"]),
    "reshape there and back": (lambda b, f: b("reshape", b("reshape", f, shape=(6,)), shape=(2, 3)), "f", []),
    "permute nothing": (lambda b, f: b("permute", f, axes=(0, 1)), "f", []),
    "permute twice": (lambda b, t: b("permute", b("permute", t, axes=(2, 0, 1)), axes=(2, 0, 1)), "t", ["permute"]),
    "permute there and back": (lambda b, f: b("permute", b("permute", f, axes=(1, 0)), axes=(1, 0)), "f", []),
    "permute ones": (lambda b, t: b("permute", t, axes=(1, 0, 2)), "t", ["reshape"]),
    "broadcast to the same": (lambda b, f: b("broadcast_to", f, shape=(2, 3)), "f", []),
    "broadcast twice": (
        lambda b, g: b("broadcast_to", b("broadcast_to", g, shape=(2, 3)), shape=(4, 2, 3)), "g", ["broadcast_to"],
    ),
    "broadcast after reshape": (
        lambda b, g: b("broadcast_to", b("reshape", g, shape=(1, 3)), shape=(2, 3)), "g", ["broadcast_to"],
    ),
    "broadcast of one element": (
        lambda b, o: b("broadcast_to", o, shape=(2, 3)), ["one"], ["reshape", "broadcast_to"],
    ),
    "broadcast to one element": (lambda b, o: b("broadcast_to", o, shape=(1, 1, 1)), ["one"], ["reshape"]),
    "slice everything": (lambda b, f: b("slice", f, slices=((0, 2, 1), (0, 3, 1))), "f", []),
    "two slices": (
        lambda b, g: b("slice", b("slice", g, slices=((0, 3, 2),)), slices=((1, 2, 1),)), "g", ["slice"],
    ),
    "flip ones": (lambda b, t: b("flip", t, axes=(1,)), "t", []),
    "flip twice": (lambda b, f: b("flip", b("flip", f, axes=(0, 1)), axes=(1, 0)), "f", []),
    "roll around": (lambda b, f: b("roll", f, shift=-3, axis=1), "f", []),
    "pad nothing": (lambda b, f, s: b("pad", f, s, widths=((0, 0, 0), (0, 0, 0))), "fs", []),
    "pad zeros with zero": (
        lambda b: b("pad", BIG, 1.0, widths=((1, 0, 1), (-1, 2, 0))), "", ["broadcast_to"],
    ),
    "pad zeros with -0.0": (
        lambda b: b("pad", 0 * BIG, -0.0, widths=((1, 0, 1), (-1, 2, 0))), "", ["broadcast_to", "pad"],
    ),
    "concat one": (lambda b, f: b("concat", f, axis=0), "f", []),
    "concat empty": (lambda b, f, g: b("concat", f, np.zeros((0, 3), np.float32), f, axis=0), "fg", ["concat"]),
    "concat of equals": (lambda b: b("concat", BIG, BIG, axis=1), "", ["broadcast_to"]),
    "moved repetition": (
        lambda b, s: b("slice", b("permute", b("reshape", b("broadcast_to", s, shape=(6,)), shape=(2, 3)), axes=(1, 0)),
                       slices=((0, 2, 1), (0, 1, 1))), "s", ["broadcast_to"],
    ),
    "flip repetition": (lambda b, s: b("flip", b("broadcast_to", s, shape=(3,)), axes=(0,)), "s", ["broadcast_to"]),
    "roll repetition": (
        lambda b, s: b("roll", b("broadcast_to", s, shape=(3,)), shift=1, axis=0), "s", ["broadcast_to"],
    ),
    "alias": (lambda b, f: b("alias", b("stop_gradient", f)), "f", []),
    "custom_vjp": (lambda b, f, g: b("custom_vjp", f, g, g, counts=(1, 1), rule=print)[0], "fg", []),
    "sum of single elements": (lambda b, t: b("reduce_sum", t, axes=(1,)), "t", ["reshape", "add"]),
    "sum over no axes": (lambda b, i: b("reduce_sum", i, axes=()), "i", []),
    "maximum of single elements": (lambda b, t: b("reduce_max", t, axes=(1,)), "t", ["reshape"]),
    "product of single elements": (lambda b, t: b("reduce_prod", t, axes=(1,)), "t", ["reshape"]),
    "minimum of single elements": (lambda b, t: b("reduce_min", t, axes=(1,)), "t", ["reshape"]),
    "all of single elements": (lambda b, m: b("reduce_all", m, axes=()), "b", []),
    "any of single elements": (lambda b, m: b("reduce_any", m, axes=()), "b", []),
    "operand broadcast by hand": (
        lambda b, f, g: b("maximum", f, b("broadcast_to", g, shape=(2, 3))), "fg", ["maximum"],
    ),
    "function of a repetition": (
        lambda b, g: b("square", b("broadcast_to", g, shape=(2, 3))), "g", ["square", "broadcast_to"],
    ),
    "function of constants": (lambda b, f: b("add", f, b("square", BIG[:2, :3] * 3)), "f", ["add"]),
}  # fmt: skip

# What looks alike, and is not.
KEPT = {
    "x + 0.0": (lambda b, f: b("add", f, 0.0), "f"),
    "x - -0.0": (lambda b, f: b("subtract", f, -0.0), "f"),
    "0.0 - x": (lambda b, f: b("subtract", 0.0, f), "f"),
    "x * 0": (lambda b, f: b("multiply", f, 0.0), "f"),
    "x / 3": (lambda b, f: b("divide", f, 3.0), "f"),
    "x / 8": (lambda b, f: b("divide", f, 8.0), "f"),
    "x / inf": (lambda b, f: b("divide", f, INF), "f"),
    "x // 1": (lambda b, f: b("floor_divide", f, 1.0), "f"),
    "x ** 2": (lambda b, f: b("power", f, 2.0), "f"),
    "complex * 1": (lambda b, z: b("multiply", z, np.complex64(1)), "z"),
    "a * b + c": (lambda b, f, g, s: b("add", b("multiply", f, g), s), "fgs"),
    "strong 0 * x": (lambda b, f: b("strong_multiply", 0.0, f), "f"),
    "strong x * inf": (lambda b, f: b("strong_multiply", f, INF), "f"),
    "strong x * y": (lambda b, f, g: b("strong_multiply", f, g), "fg"),
    "strong x * cast that overflows": (lambda b, h, i: b("strong_multiply", h, cast(b, i, "float16")), "hi"),
    "cast chain that rounds": (lambda b, f: cast(b, f, "float16", "float32"), "f"),
    "cast chain that saturates": (lambda b, i: cast(b, cast(b, i, "int8"), "float32", "uint8"), "i"),
    "permute": (lambda b, f: b("permute", f, axes=(1, 0)), "f"),
    "flip other axes": (lambda b, f: b("flip", b("flip", f, axes=(0,)), axes=(1,)), "f"),
    "sum": (lambda b, f: b("reduce_sum", f, axes=(1,)), "f"),
}  # fmt: skip


def values(shape, dtype):
    rng = np.random.default_rng(0)
    dtype = dtypes.as_dtype(dtype)
    if dtype == dtypes.bool_:
        return rng.random(shape) < 0.5
    if dtype in dtypes.INTEGER:
        return rng.integers(-300, 300, shape).astype(dtype)
    return np.resize(SPECIAL, shape).astype(dtype)


def built(make, inputs):
    b = Build()
    given = [b.input(*SHAPES[name]) for name in inputs]
    return b.returns(make(b, *given)), [values(*SHAPES[name]) for name in inputs]


def simplified(graph):
    after = simplify(graph)
    check(after, "simplify")
    return remove_dead_code(after)


@pytest.mark.parametrize("name", RULES)
def test_rules(name):
    make, inputs, expected = RULES[name]
    graph, arrays = built(make, inputs)
    after = simplified(graph)
    assert names(after) == expected
    check_same(graph, after, arrays)
    assert simplified(after) is not None
    assert names(simplified(after)) == expected


@pytest.mark.parametrize("name", KEPT)
def test_what_would_change_bits_is_left_alone(name):
    make, inputs = KEPT[name]
    graph, arrays = built(make, inputs)
    after = simplified(graph)
    assert names(after) == names(graph)
    check_same(graph, after, arrays)


def test_what_is_made_inherits_the_source():
    b = Build()
    b.region = 5
    x = b.input((2, 3))
    b("exp", x)
    graph = b.returns(b("permute", b("multiply", x, 1.0), axes=(1, 0)), b("divide", x, 4.0))
    graph.nodes[-1].recorded = False
    _, permute, product = simplify(graph).nodes
    assert (permute.source, permute.recorded, permute.region) == ("/home/user/model.py:3", True, 5)
    assert (product.source, product.recorded, product.region) == ("/home/user/model.py:4", False, 5)


def test_exact_casts_keep_every_number():
    floats = np.array([0.1, 1e30, 6e4, 1e-7, -3, 2e-40], np.float64)
    count = 0
    for a in dtypes.ALL - dtypes.COMPLEX:
        for b in dtypes.ALL - dtypes.COMPLEX:
            if not exact(a, b):
                continue
            count += 1
            if a in dtypes.INTEGER:
                numbers = np.array([np.iinfo(a).min, np.iinfo(a).max, np.iinfo(a).max - 1, 1, 0], a)
            else:
                with np.errstate(all="ignore"):
                    numbers = floats.astype(a)
            assert (numbers.astype(b).astype(a) == numbers).all(), (a, b)
    assert count > 50
    assert exact(dtypes.int32, dtypes.float64)
    assert not exact(dtypes.int32, dtypes.float32)
    assert exact(dtypes.complex64, dtypes.complex128)


def test_passes_leave_their_graph_alone():
    graph, _ = built(lambda b, f, g: b("add", b("multiply", f, 1.0), b("negative", g)), "fg")
    before = str(graph)
    for apply in (*PASSES, fold_constants, merge_common_subexpressions):
        apply(graph)
    assert str(graph) == before
