"""Graphs for the tests: built by hand, traced from functions, random; and how they are run and compared."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from chainrule import debug, dtypes
from chainrule.autodiff.trees import flatten
from chainrule.graph.ir import Graph, TensorType, Value
from chainrule.graph.passes.effects import EFFECTS
from chainrule.graph.tracing import trace
from chainrule.primitives import fourier, linalg
from chainrule.primitives.base import REGISTRY
from chainrule.tensor.bind import run

DECLARED = (debug, fourier, linalg)  # their primitives, when they are imported


class Build:
    """Builds a graph by hand: ``b("add", x, y)`` appends a node, numbers and arrays become constants."""

    def __init__(self) -> None:
        self.graph = Graph("built")
        self.region = 0

    def input(self, shape: tuple[int, ...] = (), dtype: Any = "float32") -> Value:
        return self.graph.add_input(TensorType(shape, np.dtype(dtypes.as_dtype(dtype))))

    def constant(self, data: Any, dtype: Any = None) -> Value:
        array = np.asarray(data, dtype)
        return self.graph.add_constant(array.astype(np.float32) if dtype is None and array.dtype == float else array)

    def __call__(self, name: str, *inputs: Any, **static: Any) -> Any:
        values = tuple(v if isinstance(v, Value) else self.constant(v) for v in inputs)
        primitive = REGISTRY[name]
        types = primitive.types(*values, **static)
        several = not isinstance(types, TensorType)
        source = f"/home/user/model.py:{len(self.graph.nodes) + 1}"
        made = self.graph.add_node(
            primitive, values, static, types if several else (types,), source, region=self.region
        )  # fmt: skip
        return made if several else made[0]

    def returns(self, *values: Value) -> Graph:
        self.graph.outputs = list(values)
        return self.graph


def names(graph: Graph) -> list[str]:
    return [node.primitive.name for node in graph.nodes]


def traced(f: Any, *arrays: Any) -> tuple[Graph, list[np.ndarray]]:
    """The graph of ``f`` as it comes to the passes, and its inputs. Captured tensors are constants, cells inputs."""
    leaves, structure = flatten(arrays)
    made = trace(f, [TensorType(np.shape(a), np.asarray(a).dtype) for a in leaves], structure, "f")
    entries = set(made.entry.values())
    captured = list(zip(made.graph.inputs[made.n_arguments :], [t.value for t in made.captured], strict=True))
    graph = Graph("f")
    graph.inputs = made.graph.inputs[: made.n_arguments] + [v for v, _ in captured if v in entries]
    graph.constants = made.graph.constants | {v: array for v, array in captured if v not in entries}
    graph.nodes, graph.outputs = made.graph.nodes, made.graph.outputs
    return graph, [np.asarray(a) for a in leaves] + [array for v, array in captured if v in entries]


def dense(graph: Graph, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Run a graph as compiled code does, with every value row-major: NumPy sums in another order if it is not."""
    known = dict(zip(graph.inputs, arrays, strict=True)) | graph.constants
    for node in graph.nodes:
        if node.primitive.name in EFFECTS:
            continue
        found = run(node.primitive, [known[v] for v in node.inputs], node.static)
        found = found if type(found) is tuple else (found,)
        known.update(zip(node.outputs, (np.array(f, order="C") for f in found), strict=True))
    return [known[v] for v in graph.outputs]


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal in type and in every bit, but for those of NaN."""
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return False
    if a.dtype not in dtypes.INEXACT:
        return bool((a == b).all())
    nan = np.isnan(a) & np.isnan(b)
    parts = [(a.real, b.real), (a.imag, b.imag)] if a.dtype in dtypes.COMPLEX else [(a, b)]
    return all(bool((((x == y) & (np.signbit(x) == np.signbit(y))) | nan).all()) for x, y in parts)


def check_same(before: Graph, after: Graph, arrays: list[np.ndarray]) -> None:
    """Inputs, outputs and all bits are the same."""
    assert [v.type for v in before.inputs] == [v.type for v in after.inputs]
    assert [v.type for v in before.outputs] == [v.type for v in after.outputs]
    for i, (a, b) in enumerate(zip(dense(before, arrays), dense(after, arrays), strict=True)):
        assert same_bits(a, b), f"output {i}\n{before}\n{after}\n{a}\n{b}"


# --- random graphs ----------------------------------------------------------------------------------------

_SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 2.0, 0.5, np.inf, -np.inf, np.nan, 3.25, 1e-3, -7.0], np.float32)
_SHAPES = [(), (1,), (3,), (2, 3), (2, 1), (1, 3), (2, 3, 1)]
_UNARY = ["negative", "abs", "square", "sqrt", "sign", "alias", "stop_gradient", "floor"]
_BINARY = ["add", "subtract", "multiply", "divide", "strong_multiply", "maximum", "minimum"]


def random_array(draw: Any, shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape))
    number = st.sampled_from(_SPECIAL.tolist())
    if draw(st.booleans()):
        return np.full(shape, draw(number), np.float32)
    return np.array(draw(st.lists(number, min_size=size, max_size=size)), np.float32).reshape(shape)


def _moved(draw: Any, b: Build, x: Value) -> Value:
    """``x`` with its elements moved."""
    kind = draw(st.sampled_from(["reshape", "permute", "broadcast_to", "slice", "flip", "pad", "concat", "cast"]))
    if kind == "reshape":
        long = tuple(n for n in x.shape if n != 1)
        return b("reshape", x, shape=draw(st.sampled_from([x.shape, long, (*long, 1), (1, *long), (x.size,)])))
    if kind == "permute":
        return b("permute", x, axes=tuple(draw(st.permutations(range(x.ndim)))))
    if kind == "broadcast_to":
        shape = tuple(2 if n == 1 and draw(st.booleans()) else n for n in x.shape)
        return b("broadcast_to", x, shape=(2, *shape) if x.ndim < 3 and draw(st.booleans()) else shape)
    if kind == "slice":
        return b("slice", x, slices=tuple((draw(st.integers(0, n - 1)), n, draw(st.integers(1, 2))) for n in x.shape))
    if kind == "flip":
        return b("flip", x, axes=tuple(a for a in range(x.ndim) if draw(st.booleans())))
    if kind == "pad":
        widths = tuple((draw(st.integers(0, 1)), draw(st.integers(0, 1)), 0) for _ in x.shape)
        return b("pad", x, draw(st.sampled_from([0.0, 1.0])), widths=widths)
    if kind == "concat" and x.ndim:
        return b("concat", x, x, axis=draw(st.integers(0, x.ndim - 1)))
    return b("cast", b("cast", x, dtype=dtypes.float64), dtype=dtypes.float32)


def _matching(draw: Any, values: list[Value], x: Value) -> Value:
    """One of the values that broadcasts against ``x``."""

    def fits(y: Value) -> bool:
        pairs = zip(x.shape[::-1], y.shape[::-1], strict=False)
        return all(m == n or 1 in (m, n) for m, n in pairs)

    return draw(st.sampled_from([y for y in values if fits(y)]))


@st.composite
def random_graphs(draw: Any) -> tuple[Graph, list[np.ndarray]]:
    """A graph of exact float32 functions on special numbers, and its inputs."""
    b = Build()
    arrays = [random_array(draw, draw(st.sampled_from(_SHAPES))) for _ in range(2)]
    values = [b.input(a.shape) for a in arrays]
    for _ in range(draw(st.integers(1, 3))):
        values.append(b.constant(random_array(draw, draw(st.sampled_from(_SHAPES))), np.float32))
    for _ in range(draw(st.integers(1, 12))):
        x = draw(st.sampled_from(values))
        kind = draw(st.sampled_from(["unary", "binary", "binary", "move", "move", "select", "sum"]))
        if kind == "unary":
            made = b(draw(st.sampled_from(_UNARY)), x)
        elif kind == "binary":
            made = b(draw(st.sampled_from(_BINARY)), *draw(st.permutations([x, _matching(draw, values, x)])))
        elif kind == "select":
            y = _matching(draw, values, x)
            condition = b("less", x, y)
            made = b("select", b("logical_not", condition) if draw(st.booleans()) else condition, x, y)
        elif kind == "sum":
            made = b("reduce_sum", x, axes=tuple(a for a in range(x.ndim) if draw(st.booleans())))
        else:
            made = _moved(draw, b, x)
        if 0 < made.size <= 200 and made.ndim <= 4:
            values.append(made)
    return b.returns(*draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))), arrays
