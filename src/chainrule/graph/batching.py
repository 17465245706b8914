"""`vmap`: a function of one example applied to many at once.

The function is traced once, on placeholders of one example, and its graph is applied node by node to tensors with the
axis of examples in front, by the batching rule of each primitive. What does not depend on an example stays without that
axis and is computed once. Since rules apply primitives, the result is recorded, traced and batched like anything else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from ..autodiff.trees import NAMESPACE, flatten, is_module, unflatten
from ..errors import ArgumentError, ShapeError
from ..primitives.batching import Examples, elementwise, one_by_one, spread
from ..registry import F
from ..tensor.state import fleeting, recording, state
from ..tensor.tensor import Tensor
from .ir import Graph, Node, TensorType, Value, bodies
from .tracing import Traced, trace

# --- which values have the axis of examples ---------------------------------------------------------------------


def reached(graph: Graph, batched: Sequence[bool], axis: Examples) -> list[bool]:
    """Say for each output of a graph whether it has the axis of examples, if these inputs have it."""
    known = reached_values(graph, batched, axis)
    return [known[v] for v in graph.outputs]


def reached_values(graph: Graph, batched: Sequence[bool], axis: Examples) -> dict[Value, bool]:
    """Say for every value of a graph whether it has the axis of examples, if these inputs have it."""
    known = dict.fromkeys(graph.constants, False) | dict(zip(graph.inputs, batched, strict=True))
    for node in graph.nodes:
        known.update(zip(node.outputs, _results(node, [known[v] for v in node.inputs], axis), strict=True))
    return known


def _results(node: Node, batched: Sequence[bool], axis: Examples) -> Sequence[bool]:
    name, static = node.primitive.name, node.static
    if name == "random_bits":
        return (batched[0] or axis.different,)
    if name == "scan":
        consts, carry, xs = _parts(batched, static["n_consts"], static["n_carry"])
        carry = carried(static["body"], consts, carry, xs, axis)
        return reached(static["body"], [*consts, *carry, *xs], axis)
    if name == "cond":
        found = [reached(branch, batched[1:], axis) for branch in static["branches"]]
        return [batched[0] or a or b for a, b in zip(*found, strict=True)]
    if name == "while":
        return frozen(node.static, batched, axis)[0]
    return (any(batched),) * len(node.outputs)


def _parts(xs: Sequence[Any], first: int, second: int) -> tuple[list[Any], list[Any], list[Any]]:
    return list(xs[:first]), list(xs[first : first + second]), list(xs[first + second :])


def carried(body: Graph, consts: list[bool], carry: list[bool], xs: list[bool], axis: Examples) -> list[bool]:
    """Which parts of the carry of a loop have the axis of examples: those given, and all that they come to reach."""
    while True:
        after = reached(body, [*consts, *carry, *xs], axis)[: len(carry)]
        more = [a or b for a, b in zip(carry, after, strict=True)]
        if more == carry:
            return carry
        carry = more


def frozen(static: Mapping[str, Any], batched: Sequence[bool], axis: Examples) -> tuple[list[bool], list[bool]]:
    """For a ``while``: which parts of the carry have the axis of examples, and which of them stop with their example.

    If examples end at different steps, all that the body changes is their own, but for the state of a generator, which
    goes on as long as any of them.
    """
    body, n_test, n_body = static["body"], static["n_test"], static["n_body"]
    tests, consts, carry = _parts(batched, n_test, n_body)
    inputs = body.inputs[n_body:]
    while True:
        carry = carried(body, consts, carry, [], axis)
        if not reached(static["test"], [*tests, *carry], axis)[0]:
            return carry, [False] * len(carry)
        changed = [a is not b for a, b in zip(inputs, body.outputs, strict=True)]
        stops = [c and (has or not _draws(body, v)) for c, has, v in zip(changed, carry, inputs, strict=True)]
        more = [a or b for a, b in zip(carry, stops, strict=True)]
        if more == carry:
            return carry, stops
        carry = more


def _draws(body: Graph, state_of: Value) -> bool:
    """Say whether random numbers are drawn from a value, or from what is counted on from it."""
    following = {state_of}
    for node in body.nodes:
        if following.intersection(node.inputs):
            if node.primitive.name == "random_bits":
                return True
            if node.primitive.name == "add":
                following.update(node.outputs)
            for _, inner in bodies(node.static):
                given = zip(node.inputs[-len(inner.inputs) :], inner.inputs, strict=True)
                if any(x in following and _draws(inner, v) for x, v in given):
                    return True
    return False


# --- applying a graph to all examples -------------------------------------------------------------------------------


def replay_batched(
    graph: Graph,
    tensors: Sequence[Tensor],
    batched: Sequence[bool],
    axis: Examples,
    outputs: Sequence[Value] | None = None,
) -> tuple[list[Tensor], list[bool]]:
    """Apply the operations of a graph to all examples.

    Args:
        graph: the graph of one example.
        tensors: one for each input.
        batched: which of them have the axis of examples, as their first.
        axis: the examples.
        outputs: the values wanted, and no operation that they do not need; all outputs, and effects, if left out. An
            input may be a value that a node of the graph makes, which is then not needed.

    Returns:
        the outputs, and which of them have the axis of examples.
    """
    wanted = graph.outputs if outputs is None else outputs
    known = dict(zip(graph.inputs, zip(tensors, batched, strict=True), strict=True))
    known |= {value: (Tensor(array), False) for value, array in graph.constants.items()}
    for node in graph.nodes if outputs is None else _needed(graph, outputs):
        inputs, flags = zip(*(known[v] for v in node.inputs), strict=True) if node.inputs else ((), ())
        with _as_in(node):
            found, has = _apply(node, inputs, flags, axis)
        known.update(zip(node.outputs, zip(found, has, strict=True), strict=True))
    return [known[v][0] for v in wanted], [known[v][1] for v in wanted]


def _needed(graph: Graph, outputs: Sequence[Value]) -> list[Node]:
    given = set(graph.inputs)
    needed = set(outputs) - given
    nodes = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            needed.update(v for v in node.inputs if v not in given)
            nodes.append(node)
    return nodes[::-1]


@contextmanager
def _as_in(node: Node) -> Iterator[None]:
    """Record, and mark in the traces that are running, what is done in place of a node as the node is."""
    begun = [(trace.graph, len(trace.graph.nodes)) for trace in state.traces]
    before = state.phase
    state.phase = before + node.phase
    try:
        with recording(state.threshold if node.recorded else 0), fleeting(node.fleeting):
            yield
    finally:
        state.phase = before
    for graph, n in begun:
        for made in graph.nodes[n:]:
            made.source = node.source or made.source
            made.region = made.region or node.region


def _apply(
    node: Node, inputs: tuple[Tensor, ...], batched: tuple[bool, ...], axis: Examples
) -> tuple[Sequence[Tensor], Sequence[bool]]:
    primitive, control = node.primitive, node.primitive.lowering == "control"
    has = _results(node, batched, axis)
    if axis.mask is not None:
        inputs = _guarded(primitive.name, inputs, batched, axis)
    if not axis.size and not control and any(has):
        return [F.zeros((0, *v.shape), dtype=v.dtype) for v in node.outputs], has
    if any(batched) or any(has) or (control and axis.mask is not None):
        rule = primitive.batching or (elementwise if primitive.elementwise else one_by_one)
        found = rule(primitive, axis, batched, *inputs, **node.static)
    else:
        found = primitive(*inputs, **node.static)
    return found if isinstance(found, tuple) else (found,), has


# What can fail: which inputs decide, and a value with which it does not.
_FAILING = {
    "gather": (1, 0), "scatter_add": (2, 0), "scatter_set": (2, 0), "dynamic_slice": (1, 0),
    "dynamic_update_slice": (2, 0), "floor_divide": (1, 1), "remainder": (1, 1), "power": (1, 1),
}  # fmt: skip


def _guarded(name: str, inputs: tuple[Tensor, ...], batched: tuple[bool, ...], axis: Examples) -> tuple[Tensor, ...]:
    """Keep from failing what examples outside of the mask have no part in."""
    if name not in _FAILING:
        return inputs
    first, safe = _FAILING[name]
    guarded = list(inputs)
    for i in range(first, len(inputs)):
        x = inputs[i]
        if x.dtype.kind in "iu":
            here = F.reshape(axis.mask, (axis.size, *(1,) * (x.ndim - 1))) if batched[i] else F.any(axis.mask)
            guarded[i] = F.where(here, x, F.full_like(x, safe))
    return tuple(guarded)


# --- the public function ---------------------------------------------------------------------------------------------


class Batched(NamedTuple):
    """What a function gives for many examples: leaves, which of them have the axis of examples, how they nest."""

    leaves: list[Tensor]
    batched: list[bool]
    structure: Any


def apply_batched(
    operation: str, f: Callable[..., Any], tensors: Sequence[Tensor], structure: Any, axis: Examples
) -> Batched:
    """Apply ``f`` to examples.

    Args:
        operation: for errors.
        f: a function of one example.
        tensors: the leaves of its arguments, all with the axis of examples in front.
        structure: how they nest.
        axis: the examples.
    """
    types = [TensorType(x.shape[1:], x.dtype) for x in tensors]
    traced = trace(f, types, structure, getattr(f, "__name__", "f"))
    flags = [True] * len(tensors) + [False] * len(traced.captured)
    found, batched = replay_batched(traced.graph, [*tensors, *traced.captured], flags, axis)
    n = traced.n_results
    assign(operation, traced, found[n:], batched[n:])
    return Batched(found[:n], batched[:n], traced.structure)


def assign(operation: str, traced: Traced, finals: Sequence[Tensor], batched: Sequence[bool]) -> None:
    """Give the cells that a function has assigned their values; each must be the same for all examples."""
    for cell, final, own in zip(traced.written, finals, batched, strict=True):
        if cell in traced.made:
            continue
        if own:
            raise ArgumentError(
                operation,
                "a cell has one value, and the function assigns it one for each example",
                received=f"{cell.name or type(cell).__name__} of shape {cell.shape}",
                fix="return the value, put the module into eval mode, or pass its state for each example through "
                "cr.functional_call",
            )
        cell.assign(final)


def vmap(
    f: Callable[..., Any],
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_size: int | None = None,
    randomness: str = "different",
) -> Callable[..., Any]:
    """Return ``f``, a function of one example, as a function of many.

    ``vmap(f)(xs)[i] = f(xs[i])``, computed at once: the product of a matrix with a vector becomes one of two matrices,
    and so on. It can be combined with `grad`, `jvp`, `scan`, `compile` and itself in any order: ``vmap(grad(loss))``
    gives the gradient of each example, and ``vmap`` over the parameters given to `functional_call` trains an ensemble.

    Args:
        f: a function of tensors, nested containers, modules.
        in_axes: the axis of examples in each argument; None for an argument that is the same for all. One number
            stands for all positional arguments, a tuple has an entry for each, and an entry may nest as the argument
            does, or as its outer containers. Keyword arguments are the same for all examples.
        out_axes: where the axis of examples goes in the results, in the same way; None for a result that is the same
            for all.
        axis_size: the number of examples; needed if no argument is mapped.
        randomness: "different" draws random numbers for each example, "same" shares them.

    Returns:
        a function of the same arguments.

    Raises:
        ShapeError: the sizes of the axes of examples differ.
        ArgumentError: ``in_axes`` or ``out_axes`` do not fit, nothing is mapped, or ``f`` assigns a cell a value for
            each example.

    >>> vmap(lambda x, y: (x * y).sum())(tensor([[1.0, 2.0], [3.0, 4.0]]), tensor([[1.0, 1.0], [0.0, 1.0]]))
    tensor([3., 4.])
    >>> vmap(grad(lambda w, x: sin(w * x)), in_axes=(None, 0))(2.0, tensor([0.0, 1.0]))
    tensor([ 0.       , -0.416146...])

    A primitive that is registered without a batching rule, and a host function, are called once for each example. Both
    branches of a `cond` whose predicate differs between examples are computed, and a `while_loop` goes on until it has
    ended for all of them. In such code `checkpoint` belongs outside: ``checkpoint(vmap(f))``.
    """
    if randomness not in ("different", "same"):
        raise ArgumentError("vmap", "randomness is 'different' or 'same'", received=repr(randomness))

    @functools.wraps(f)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        size, tensors, one = examples_of(f, in_axes, args, kwargs, axis_size)
        axis = Examples(size, randomness == "different")
        found = apply_batched("vmap", one, tensors, flatten(tuple(tensors))[1], axis)
        return _placed(found, out_axes, axis)

    return mapped


def examples_of(
    f: Callable[..., Any], in_axes: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], axis_size: int | None = None
) -> tuple[int, list[Tensor], Callable[..., Any]]:
    """Return how many examples there are, the mapped leaves of the arguments, and ``f`` as a function of one example's.

    The leaves have the axis of examples in front.
    """
    leaves, structure = _leaves(args)
    paths = [f"argument {p[0]}" + "".join(f"[{key!r}]" for key in p[1:]) for p in structure.paths()]
    given = list(in_axes) if isinstance(in_axes, (tuple, list)) else in_axes
    axes = _matched("in_axes", given, list(args))
    places = [i for i, axis in enumerate(axes) if axis is not None]
    tensors = [_in_front(leaves[i], axes[i], paths[i]) for i in places]
    size = _size([(paths[i], x.shape[0]) for i, x in zip(places, tensors, strict=True)], axis_size)

    def one(*examples: Tensor) -> Any:
        own = list(leaves)
        for i, x in zip(places, examples, strict=True):
            own[i] = x
        return f(*unflatten(structure, own), **kwargs)

    one.__name__ = getattr(f, "__name__", "f")
    return size, tensors, one


def _leaves(tree: Any) -> tuple[list[Any], Any]:
    import optree

    return optree.tree_flatten(tree, is_leaf=is_module, none_is_leaf=True, namespace=NAMESPACE)


def _matched(name: str, axes: Any, tree: Any, path: str = "") -> list[Any]:
    """An axis for each leaf of ``tree``, from axes that nest like it or like its outer containers."""
    import optree

    if axes is None or (isinstance(axes, int) and not isinstance(axes, bool)):
        return [axes] * len(_leaves(tree)[0])
    try:
        children, _, keys, _ = optree.tree_flatten_one_level(
            tree, is_leaf=is_module, none_is_leaf=True, namespace=NAMESPACE
        )
        if isinstance(axes, Mapping) != isinstance(tree, Mapping) or len(axes) != len(children):
            raise ValueError
        inner = [axes[key] for key in (keys if isinstance(tree, Mapping) else range(len(children)))]
    except (ValueError, TypeError, KeyError):
        what = "result" if name == "out_axes" else "arguments"
        raise ArgumentError(
            "vmap",
            f"{name} must be a number, None, or nest like the {what}",
            received=f"{name}{path} = {axes!r} for {_described(tree)}",
            fix="give a tuple with an entry for each argument, as in in_axes=(None, 0)"
            if name == "in_axes"
            else "give a number, or one for each result",
        ) from None
    parts = zip(keys, inner, children, strict=True)
    return [axis for key, a, child in parts for axis in _matched(name, a, child, f"{path}[{key!r}]")]


def _described(tree: Any) -> str:
    if isinstance(tree, Mapping):
        return f"a {type(tree).__name__} with the keys {list(tree)}"
    return f"{len(tree)} of them" if isinstance(tree, (tuple, list)) else f"one {type(tree).__name__}"


def _in_front(leaf: Any, axis: int, path: str) -> Tensor:
    if is_module(leaf) or not F.is_operand(leaf):
        raise ArgumentError(
            "vmap",
            f"{path} has no axis of examples",
            received=f"a {type(leaf).__name__}",
            fix="give None for it, as in in_axes=(None, 0); for a module for each example pass stacked parameters "
            "through cr.functional_call",
        )
    x = F.asarray(leaf)
    if not -x.ndim <= axis < x.ndim:
        raise ShapeError(
            "vmap",
            f"{path} has no axis {axis}" if x.ndim else f"{path} is a scalar, which has no axis of examples",
            received=f"shape {x.shape}, in_axes {axis}",
            fix="give None in in_axes for what is the same for all examples, as in in_axes=(None, 0)",
        )
    return F.moveaxis(x, axis, 0)


def _size(sizes: list[tuple[str, int]], axis_size: int | None) -> int:
    """The number of examples on which all agree."""
    named = sizes + ([("axis_size", axis_size)] if axis_size is not None else [])
    if not named:
        raise ArgumentError(
            "vmap",
            "no argument is mapped, so the number of examples is not known",
            fix="give an axis in in_axes, or axis_size",
        )
    if len({n for _, n in named}) > 1:
        raise ShapeError(
            "vmap",
            "the axes of examples must have one size",
            received=", ".join(f"{path}: {n}" for path, n in named),
            fix="choose in_axes so that they agree; None is for an argument that is the same for all examples",
        )
    return named[0][1]


def _placed(found: Batched, out_axes: Any, axis: Examples) -> Any:
    """Put the axis of examples of each result to its place."""
    result = unflatten(found.structure, found.leaves)
    given = list(out_axes) if isinstance(out_axes, list) else out_axes
    axes = _matched("out_axes", given, result)
    placed = []
    # What is None in the result is a leaf for `_matched`, and none for the structure.
    numbers = [a for a, leaf in zip(axes, _leaves(result)[0], strict=True) if leaf is not None]
    for number, x, has in zip(numbers, found.leaves, found.batched, strict=True):
        if number is None:
            if has:
                raise ArgumentError(
                    "vmap",
                    "out_axes is None for a result that differs between examples",
                    received=f"a result of shape {x.shape[1:]} for each example",
                    fix="give the axis where the examples go",
                )
            placed.append(x)
            continue
        if not -x.ndim - (not has) <= number < x.ndim + (not has):
            raise ShapeError("vmap", f"the result has no axis {number}", received=f"out_axes={out_axes!r}")
        placed.append(F.moveaxis(*spread(axis, [has], [x]), 0, number))
    return unflatten(found.structure, placed)
