"""Checkpoints with a policy: what of a function is kept for the backward phase, and what is computed again there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from .. import dtypes
from ..autodiff import custom
from ..autodiff.tape import pull
from ..autodiff.trees import flatten, unflatten
from ..errors import ArgumentError
from ..registry import F
from ..tensor.state import NEVER, deeper, state
from ..tensor.tensor import Tensor
from .ir import Graph, Node, TensorType, Value
from .tracing import replay, trace

Policy = Callable[[str, tuple[int, ...], Any], bool]

_POLICIES: dict[str, Callable[[Node], bool]] = {
    "everything": lambda node: True,
    "products": lambda node: node.primitive.lowering == "contraction",
    "products and sums": lambda node: node.primitive.lowering in ("contraction", "reduction"),
}


def checkpoint(f: Callable[..., Any], policy: str | Policy | None = None) -> Callable[..., Any]:
    """Return ``f`` with little or nothing kept for the backward phase: the rest is computed again there.

    Memory falls from all values inside of ``f`` to its arguments and what the policy keeps, for the time of a part of a
    second forward phase (Griewank and Walther, "Revolve", 2000; Chen et al., arXiv 1604.06174). Random numbers are the
    same the second time, and cells that ``f`` assigns are assigned once. Of a loop (`scan`) whose body is a checkpoint
    only the carry is kept, without one also products.

    Args:
        f: a function of tensors and nested containers; it may read parameters, and its tensor arguments and parameters
            are what gradients flow to.
        policy: None keeps nothing. "products" keeps the results of matrix products and convolutions, which are dear
            to compute and few; "products and sums" also those of reductions, such as the statistics of norms;
            "everything" all. Or a function ``policy(operation, shape, dtype)`` that says whether to keep such a result.
            With a policy ``f`` is traced, as the body of a `scan` is.

    Raises:
        ArgumentError: there is no such policy.

    >>> grad(lambda x: checkpoint(lambda x: sin(sin(x)))(x))(0.5)
    tensor(0.7786...)
    >>> w = tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> grad(lambda x: checkpoint(lambda x: tanh(x @ w).sum(), policy="products")(x))(tensor([0.1, 0.2]))
    tensor([1.4746883, 3.584116 ])
    """
    if policy is None:
        return custom.checkpoint(f)
    keeps = _keeper(policy)

    @functools.wraps(f)
    def wrapped(*args: Any) -> Any:
        leaves, structure = flatten(args)
        inputs = [F.asarray(leaf) for leaf in leaves]
        traced = trace(f, [TensorType(x.shape, x.dtype) for x in inputs], structure, getattr(f, "__name__", "f"))
        graph, given = traced.graph, (*inputs, *traced.captured)
        places = [v for node in graph.nodes if keeps(node) for v in node.outputs]
        for node in graph.nodes:  # for the gradient of a loop that this is a part of
            node.fleeting = node.fleeting or not keeps(node)
        found = replay(graph, given, [*graph.outputs, *places])
        outputs = found[: len(graph.outputs)]
        kept = {v: Tensor(t.value) for v, t in zip(places, found[len(outputs) :], strict=True)}
        level = min((t.level for t in given), default=NEVER)
        if level < state.threshold:
            call = custom.Call(f"checkpoint({graph.name})", lambda cts: _backward(graph, given, kept, cts))
            outputs = custom.record(call, given, outputs, level)
        for cell, final in zip(traced.written, outputs[traced.n_results :], strict=True):
            cell.assign(final)
        return unflatten(traced.structure, outputs[: traced.n_results])

    return wrapped


def _keeper(policy: str | Policy) -> Callable[[Node], bool]:
    if callable(policy):
        return lambda node: all(policy(node.primitive.name, v.shape, v.dtype) for v in node.outputs)
    if policy not in _POLICIES:
        known = ", ".join(map(repr, _POLICIES))
        raise ArgumentError(
            "checkpoint", f"the policy is None, {known} or a function", received=repr(policy),
            fix="None keeps nothing, and needs no tracing",
        )  # fmt: skip
    return _POLICIES[policy]


def _backward(
    graph: Graph, given: tuple[Tensor, ...], kept: dict[Value, Tensor], cts: Sequence[Tensor]
) -> list[Tensor | None]:
    """Go backward through the graph, whose values are those kept, or computed again."""
    custom.refuse_stale(given)
    with deeper(), custom.again():
        outputs = replay(graph, given, kept=kept)
    smooth = [(o, ct) for o, ct in zip(outputs, cts, strict=True) if o.dtype in dtypes.INEXACT]
    targets = {id(t) for t in given}
    reached = pull([o for o, _ in smooth], [ct for _, ct in smooth], lambda t: id(t) in targets)
    return [reached[id(t)][1] if id(t) in reached else None for t in given]
