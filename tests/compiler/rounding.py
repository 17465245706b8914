"""How far two correct computations of a graph may be apart.

Each value of a graph is computed in NumPy together with an error bound. An operation adds the rounding of its own
result, ``ULPS`` units in the last place of it (of a sum: of the sum of absolute values), to what the errors of its
inputs become, to first order. So cancellation is no excuse and no trap: the bound is relative to the same expression on
absolute values. Where an error could change a whole number or a truth value, the bound is infinite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import chainrule as cr
from chainrule import dtypes
from chainrule.compiler import winograd
from chainrule.graph.ir import Graph, Node, Value
from chainrule.tensor.bind import run

Array = np.ndarray

ULPS = 4.0
"""Of an elementwise function in float32 and float64."""

OWN_ULPS = {"power": 32.0, "lgamma": 32.0, "polygamma": 64.0, "erfinv": 16.0, "erfc": 32.0}
"""Those with bounds of their own."""

EXACT = frozenset({
    "reshape", "permute", "broadcast_to", "slice", "pad", "concat", "flip", "roll", "alias", "stop_gradient", "gather",
    "scatter_set", "dynamic_slice", "dynamic_update_slice", "max_pool_gather", "negative", "abs", "real", "imag",
    "_conj", "complex", "max_pool",
})  # fmt: skip
"""These move elements, or change a sign."""

MOVED = {"gather": 1, "scatter_set": 2, "dynamic_slice": 1, "dynamic_update_slice": 2, "max_pool_gather": 1}
"""How many of the first inputs are moved; the others say where."""

SUMS = frozenset({
    "reduce_sum", "reduce_prod", "cumsum", "cumprod", "recurrence", "scatter_add", "dot", "conv", "conv_input",
    "conv_kernel", "max_pool_scatter", "sum_pool", "sum_pool_spread",
})  # fmt: skip
"""Sums of products, with no subtraction: they grow with each of their inputs."""

SCALE = 2.0**24
"""By which errors are scaled up to stand out in float64, and back."""


class Approximate(NamedTuple):
    """A value and a bound of its error, in float64."""

    value: Array
    error: Array


def epsilon(dtype: Any) -> float:
    """Distance of 1 from the next larger number."""
    if dtype in dtypes.HALF:
        return {"float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype.name]
    return float(np.finfo(dtype).eps) if dtype in dtypes.INEXACT else 0.0


def wide(x: Array) -> Array:
    """Absolute values in float64."""
    return np.abs(x.astype(np.complex128 if x.dtype.kind == "c" else np.float64))


def rounding(out: Array, ulps: float) -> Array:
    """The error of writing a result; the smallest normal number is lost when subnormal ones are taken for 0."""
    if out.dtype not in dtypes.INEXACT:
        return np.zeros(out.shape)
    size = wide(out)
    tiny = 1e-38 if out.dtype in (dtypes.float32, dtypes.bfloat16, dtypes.complex64) else 6e-8
    tiny = 0.0 if out.dtype in (dtypes.float64, dtypes.complex128) else tiny
    if out.dtype in dtypes.HALF:  # computed in float32, rounded once
        ulps = 0.5 + ulps * epsilon(dtypes.float32) / epsilon(out.dtype)
        ulps = max(ulps, 1.0)
    return ulps * epsilon(out.dtype) * np.where(np.isfinite(size), size, 0.0) + tiny


def bounds(graph: Graph, given: Sequence[Array]) -> list[Approximate]:
    """Evaluate a graph on arrays that are known exactly."""
    return evaluate(graph, [Approximate(x, np.zeros(x.shape)) for x in map(np.asarray, given)])


def evaluate(graph: Graph, given: Sequence[Approximate]) -> list[Approximate]:
    """Evaluate a graph on approximate arrays."""
    known = dict(zip(graph.inputs, given, strict=True))
    known |= {v: Approximate(x, np.zeros(x.shape)) for v, x in graph.constants.items()}
    for node in graph.nodes:
        found = apply(node, [known[v] for v in node.inputs])
        known.update(zip(node.outputs, found, strict=True))
    return [known[v] for v in graph.outputs]


def apply(node: Node, inputs: list[Approximate]) -> list[Approximate]:
    """Evaluate one operation."""
    name, static = node.primitive.name, node.static
    if name in CONTROL:
        return CONTROL[name](inputs, static)
    if name == "custom_vjp":
        return inputs[: static["counts"][0]]
    found = run(node.primitive, [x.value for x in inputs], static)
    outs = list(found) if isinstance(found, tuple) else [found]
    with np.errstate(all="ignore"):
        errors = _errors(node, inputs, outs)
    return [Approximate(out, np.where(np.isnan(e), np.inf, e)) for out, e in zip(outs, errors, strict=True)]


def _errors(node: Node, inputs: list[Approximate], outs: list[Array]) -> list[Array]:
    name, static = node.primitive.name, node.static
    clean = all(not x.error.any() for x in inputs)
    if name in RULES:
        return [RULES[name](inputs, outs[0], {**static, "name": name, "node": node})]
    if name in SUMS:
        return [_sum(node, inputs, outs[0])]
    if name in EXACT:
        return [np.zeros(outs[0].shape)] if clean else [_moved(node, inputs, outs[0])]
    if clean and (node.primitive.elementwise or outs[0].dtype not in dtypes.INEXACT):
        return [rounding(out, OWN_ULPS.get(name, ULPS)) for out in outs]
    if node.primitive.elementwise and not any(x.value.dtype in dtypes.COMPLEX for x in inputs):
        return [_by_derivative(node, inputs, outs[0])]
    return _by_trial(node, inputs, outs)


# --- kinds of operations ----------------------------------------------------------------------------------


def _moved(node: Node, inputs: list[Approximate], out: Array) -> Array:
    """The errors move as the elements do."""
    name = node.primitive.name
    if name in ("negative", "abs", "real", "imag", "_conj"):
        return inputs[0].error
    if name == "complex":
        return np.broadcast_to(inputs[0].error + inputs[1].error, out.shape)
    n = MOVED.get(name, len(inputs))
    if any(x.error.any() for x in inputs[n:]) and name != "max_pool_gather":
        return np.full(out.shape, np.inf)
    places = [x.value.astype(np.float64) if name == "max_pool_gather" else x.value for x in inputs[n:]]
    return run(node.primitive, [x.error for x in inputs[:n]] + places, node.static)


def _sum(node: Node, inputs: list[Approximate], out: Array) -> Array:
    n = max((x.value.size for x in inputs), default=1)
    own = (
        ULPS
        * (1 + 0.25 * np.sqrt(n))
        * epsilon(np.result_type(out.dtype, np.float32) if out.dtype in dtypes.HALF else out.dtype)
    )
    if out.dtype not in dtypes.INEXACT:
        return np.full(out.shape, np.inf if any(x.error.any() for x in inputs) else 0.0)
    small, large = [], []
    for i, x in enumerate(inputs):
        if x.value.dtype not in dtypes.INEXACT or (node.primitive.name == "max_pool_scatter" and i == 1):
            small.append(x.value)
            large.append(x.value)
            continue
        size = wide(x.value)
        small.append(size)
        large.append(size + (x.error + own * size) * SCALE)
    before, after = (np.asarray(run(node.primitive, given, node.static)) for given in (small, large))
    more = own * _winograd(node, small) if node.primitive.name.startswith("conv") else 0.0
    return (after - before) / SCALE + more + rounding(out, 1.0)


def _winograd(node: Node, sizes: list[Array]) -> Array:
    """What the terms of a convolution by Winograd's tiles may add up to; 0 for others.

    Beside its own nine terms a result gets, and loses again, products of pixels and weights at all places of a window.
    In one dimension |A^T| (|G| |g| * |B^T| |d|) has each of them at most twice, and likewise for the gradient of the
    window, |G^T| (|B^T| |d| * |A| |y|). So in two it is four times the convolution with the sum of each window.
    """
    name, shapes = node.primitive.name, [x.shape for x in sizes]
    result = shapes[1] if name == "conv_kernel" else node.outputs[0].shape
    window = node.outputs[0].shape[1:] if name == "conv_kernel" else shapes[1][1:]
    window = (*window[:-1], shapes[1][0]) if name == "conv_input" else window
    how = [node.static[k] for k in ("stride", "dilation", "groups")]
    if not winograd.fits(result, window, *how, node.outputs[0].dtype):
        return np.zeros(())

    def spread(w: Array) -> Array:
        return np.broadcast_to(w.sum((1, 2), keepdims=True), w.shape)

    if name == "conv_kernel":
        return 4 * spread(run(node.primitive, sizes, node.static))
    return 4 * run(node.primitive, [sizes[0], spread(sizes[1])], node.static)


def _by_derivative(node: Node, inputs: list[Approximate], out: Array) -> Array:
    """An elementwise function: errors times the absolute derivative."""
    total = rounding(out, OWN_ULPS.get(node.primitive.name, ULPS))
    if node.primitive.vjp is None:
        return np.where(_any_error(inputs, out.shape), np.inf, total)
    tensors = [cr.asarray(np.broadcast_to(_computed(x.value), out.shape)) for x in inputs]
    wanted = tuple(x.value.dtype in dtypes.FLOATING for x in inputs)
    result = cr.asarray(_computed(out))
    slopes = node.primitive.pullback(cr.ones_like(result), result, tuple(tensors), wanted, node.static)
    for number, (x, slope) in enumerate(zip(inputs, slopes, strict=True)):
        if slope is not None and x.error.any():
            first = np.broadcast_to(wide(slope.numpy()), out.shape) * x.error
            change = np.fmax(first, _secant(node, inputs, out, number))
            total = total + np.where(x.error == 0, 0.0, change)
    return np.where(np.isfinite(wide(out)), total, 0.0)


def _secant(node: Node, inputs: list[Approximate], out: Array, number: int) -> Array:
    """How much the result changes if one input is off by its error: where the derivative is 0 it is not all."""
    largest = np.zeros(out.shape)
    for sign in (1.0, -1.0):
        given = [x.value for x in inputs]
        moved = given[number].astype(np.float64) + sign * inputs[number].error
        given[number] = moved.astype(given[number].dtype)
        change = np.abs(run(node.primitive, given, node.static).astype(np.float64) - out.astype(np.float64))
        largest = np.fmax(largest, np.where(np.isfinite(change), change, 0.0))
    return largest


def _computed(x: Array) -> Array:
    return x.astype(np.float32) if x.dtype in dtypes.HALF else x


def _any_error(inputs: Sequence[Approximate], shape: tuple[int, ...]) -> Array:
    found = np.zeros(shape, bool)
    for x in inputs:
        found |= x.error > 0
    return found


def _by_trial(node: Node, inputs: list[Approximate], outs: list[Array]) -> list[Array]:
    """Anything else (linear algebra, sorting, ...): the largest change of the result as its inputs vary."""
    if any(x.error.any() for x in inputs if x.value.dtype not in dtypes.INEXACT):
        return [np.full(out.shape, np.inf) for out in outs]
    rng = np.random.default_rng(0)
    largest = [0.0] * len(outs)
    for _ in range(6):
        given = []
        for x in inputs:
            if x.value.dtype not in dtypes.INEXACT:
                given.append(x.value)
                continue
            size = max(float(np.max(wide(x.value), initial=0.0)), 1e-300)
            step = np.maximum(x.error, 8 * epsilon(x.value.dtype) * size) * rng.choice([-1.0, 1.0], x.value.shape)
            given.append((_computed(x.value) + step).astype(x.value.dtype))
        try:
            found = run(node.primitive, given, node.static)
        except Exception:
            return [np.full(out.shape, np.inf) for out in outs]
        found = found if isinstance(found, tuple) else (found,)
        for i, (a, b) in enumerate(zip(found, outs, strict=True)):
            if b.dtype not in dtypes.INEXACT:
                largest[i] = np.inf if (a != b).any() else largest[i]
            else:
                change = np.abs(a.astype(np.complex128) - b.astype(np.complex128))
                largest[i] = max(largest[i], float(np.max(change, initial=0.0)))
    return [np.full(out.shape, 8 * big) + rounding(out, ULPS) for out, big in zip(outs, largest, strict=True)]


# --- single operations ------------------------------------------------------------------------------------

Rule = Callable[[list[Approximate], Array, Mapping[str, Any]], Array]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    def add(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return add


def _all(inputs: Sequence[Approximate], shape: tuple[int, ...]) -> Array:
    return np.broadcast_to(sum((x.error for x in inputs), np.zeros(())), shape)


@rule("maximum", "minimum", "clip")
def _larger(inputs: list[Approximate], out: Array, static: Any) -> Array:
    largest = np.zeros(out.shape)
    for x in inputs:
        largest = np.maximum(largest, x.error)
    return largest


@rule("select")
def _select(inputs: list[Approximate], out: Array, static: Any) -> Array:
    condition, x, y = inputs
    chosen = np.where(condition.value, x.error, y.error)
    return np.broadcast_to(np.where((condition.error > 0) & (x.value != y.value), np.inf, chosen), out.shape)


@rule("reduce_max", "reduce_min", "reduce_any", "reduce_all")
def _extreme(inputs: list[Approximate], out: Array, static: Any) -> Array:
    return np.max(inputs[0].error, axis=tuple(static["axes"]), initial=0.0)


@rule("sort", "cummax")
def _along(inputs: list[Approximate], out: Array, static: Any) -> Array:
    largest = np.max(inputs[0].error, axis=static["axis"], keepdims=True, initial=0.0)
    return np.broadcast_to(largest, out.shape)


@rule("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
def _compare(inputs: list[Approximate], out: Array, static: Any) -> Array:
    """Numbers must be apart, unless one is the largest or smallest of the other, as in a maximum's gradient."""
    x, y = inputs
    apart = np.abs(x.value.astype(np.float64) - y.value.astype(np.float64))
    error = 4 * (x.error + y.error)
    unsure = (apart <= error) & (error > 0)
    a, b = (_source(v) for v in static["node"].inputs)
    if _is_extreme_of(a, b) or _is_extreme_of(b, a):
        unsure &= x.value != y.value
    return np.where(unsure, np.inf, 0.0)


def _source(value: Value) -> Value:
    """Where the elements of a value come from."""
    while value.node is not None and value.node.primitive.name in EXACT and len(value.node.inputs) == 1:
        value = value.node.inputs[0]
    return value


def _is_extreme_of(a: Value, b: Value) -> bool:
    return (
        a.node is not None and a.node.primitive.name in ("reduce_max", "reduce_min") and _source(a.node.inputs[0]) is b
    )


@rule("logical_and", "logical_or", "logical_xor", "logical_not", "isfinite", "isnan", "isinf")
def _logical(inputs: list[Approximate], out: Array, static: Any) -> Array:
    return np.where(np.isinf(_all(inputs, out.shape)), np.inf, 0.0)


def _steps(function: Callable[[Array], Array]) -> Rule:
    def steps(inputs: list[Approximate], out: Array, static: Any) -> Array:
        (x,) = inputs
        value = x.value.astype(np.float64)
        jumps = function(value - 4 * x.error) != function(value + 4 * x.error)
        return np.where(jumps & (x.error > 0), np.inf, 0.0)

    return steps


for _name in ("sign", "floor", "ceil", "round", "trunc"):
    RULES[_name] = _steps({"sign": np.sign, "round": np.rint}.get(_name) or getattr(np, _name))


@rule("floor_divide", "remainder")
def _quotient(inputs: list[Approximate], out: Array, static: Any) -> Array:
    x, y = (i.value.astype(np.float64) for i in inputs)
    dx, dy = (i.error for i in inputs)
    quotient = x / y
    off = 4 * (dx + np.abs(quotient) * dy) / np.abs(y)
    jumps = (np.floor(quotient - off) != np.floor(quotient + off)) & (off > 0)
    own = dx + np.abs(np.floor(quotient)) * dy
    return np.where(jumps, np.inf, np.broadcast_to(own, out.shape)) + rounding(out, ULPS)


@rule("cast")
def _cast(inputs: list[Approximate], out: Array, static: Any) -> Array:
    (x,) = inputs
    if out.dtype in dtypes.INEXACT:
        wider = epsilon(out.dtype) <= epsilon(x.value.dtype)
        same = wider or not x.error.any()  # both modes round the same number
        return x.error + (0 if same else rounding(out, 1.0))
    if out.dtype == np.bool_:
        return np.where((wide(x.value) <= 4 * x.error) & (x.error > 0), np.inf, 0.0)
    return _steps(np.trunc)([x], out, static) if x.value.dtype in dtypes.FLOATING else x.error


@rule("multiply", "strong_multiply", "square", "divide", "add", "subtract")
def _arithmetic(inputs: list[Approximate], out: Array, static: Any) -> Array:
    x = inputs[0]
    a, da = wide(x.value), x.error
    name = static["name"]
    own = rounding(out, ULPS)
    if name == "square":
        return (2 * a + da) * da + own
    b, db = wide(inputs[1].value), inputs[1].error
    if name in ("add", "subtract"):
        return da + db + own
    if name == "divide":
        return da / b + wide(out) * np.where(db == 0, 0.0, db / b) + own
    return np.where(da == 0, 0.0, (b + db) * da) + np.where(db == 0, 0.0, a * db) + own


@rule("fft", "ifft", "rfft", "irfft")
def _fourier(inputs: list[Approximate], out: Array, static: Any) -> Array:
    (x,) = inputs
    each = x.error + 16 * epsilon(x.value.dtype) * wide(x.value)
    factor = 2.0 if static["name"] == "irfft" else 1.0
    return np.broadcast_to(factor * each.sum(axis=static["axis"], keepdims=True), out.shape)


# --- loops and branches -----------------------------------------------------------------------------------


def _scan(inputs: list[Approximate], static: Mapping[str, Any]) -> list[Approximate]:
    n_consts, n_carry, length = static["n_consts"], static["n_carry"], static["length"]
    body: Graph = static["body"]
    consts, carry, xs = inputs[:n_consts], inputs[n_consts : n_consts + n_carry], inputs[n_consts + n_carry :]
    rows = body.outputs[n_carry:]
    stacked = [Approximate(np.zeros((length, *v.shape), v.dtype), np.zeros((length, *v.shape))) for v in rows]
    for t in range(length - 1, -1, -1) if static["reverse"] else range(length):
        results = evaluate(body, [*consts, *carry, *(Approximate(x.value[t], x.error[t]) for x in xs)])
        carry = results[:n_carry]
        for into, result in zip(stacked, results[n_carry:], strict=True):
            into.value[t], into.error[t] = result
    return [*carry, *stacked]


def _cond(inputs: list[Approximate], static: Mapping[str, Any]) -> list[Approximate]:
    predicate, *operands = inputs
    found = evaluate(static["branches"][0 if predicate.value else 1], operands)
    if predicate.error.any():
        return [Approximate(x.value, np.full(x.value.shape, np.inf)) for x in found]
    return found


def _while(inputs: list[Approximate], static: Mapping[str, Any]) -> list[Approximate]:
    n_test, n_body = static["n_test"], static["n_body"]
    tested, consts, carry = inputs[:n_test], inputs[n_test : n_test + n_body], inputs[n_test + n_body :]
    unsure = False
    while True:
        (test,) = evaluate(static["test"], [*tested, *carry])
        unsure = unsure or bool(test.error.any())
        if not test.value:
            break
        carry = evaluate(static["body"], [*consts, *carry])
    if unsure:
        return [Approximate(x.value, np.full(x.value.shape, np.inf)) for x in carry]
    return list(carry)


CONTROL = {"scan": _scan, "cond": _cond, "while": _while}
