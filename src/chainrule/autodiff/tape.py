"""The tape: going backward along the edges from results to leaves.

This file knows no primitive by name: an edge's primitive brings its own rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .. import dtypes
from ..errors import GradientError, ShapeError, StaleValueError
from ..graph.ir import Value
from ..registry import F
from ..tensor.cells import Cell, Snapshot
from ..tensor.state import NEVER, recording, state
from ..tensor.tensor import Edge, Tensor

Target = Callable[[Tensor], bool]


def needed_edges(roots: Iterable[Tensor], is_target: Target) -> list[Edge]:
    """Return, in the order in which they were made, the edges between ``roots`` and the targets."""
    found: set[Edge] = set()
    pending = [root.edge for root in roots if root.edge is not None and not is_target(root)]
    while pending:
        edge = pending.pop()
        if edge in found:
            continue
        found.add(edge)
        for tensor in edge.inputs:
            if tensor.edge is not None and tensor.edge not in found and not is_target(tensor):
                pending.append(tensor.edge)
    needed: set[Edge] = set()
    order = []
    for edge in sorted(found, key=lambda e: e.number):
        if any(is_target(t) or t.edge in needed for t in edge.inputs):
            needed.add(edge)
            order.append(edge)
    return order


def results_of(edge: Edge) -> tuple[Tensor, ...]:
    """Return the tensors that the edge made, as recorded."""
    level = min(t.level for t in edge.inputs)
    return tuple(
        Tensor(v, edge, i, level) if v.dtype in dtypes.INEXACT else Tensor(v) for i, v in enumerate(edge.values)
    )


def pull(
    roots: Sequence[Tensor], cotangents: Sequence[Tensor], is_target: Target, order: Sequence[Edge] | None = None
) -> dict[int, tuple[Tensor, Tensor]]:
    """Go backward from ``roots``, given the cotangent of each.

    Args:
        roots: where to begin.
        cotangents: one for each root.
        is_target: where to end.
        order: what `needed_edges` gives for these roots, or for more, if it is known already.

    Returns:
        for the identity of each target that is reached, the target and its cotangent.
    """
    order = needed_edges(roots, is_target) if order is None else order
    before = state.phase
    if state.traces and not before:
        state.phase = 1 + _phase(order)
    try:
        return _pull(roots, cotangents, is_target, order)
    finally:
        state.phase = before


def _phase(order: Sequence[Edge]) -> int:
    """The highest phase of what the edges made; see `chainrule.graph.ir.Node`."""
    nodes = (v.node for edge in order for v in edge.values if isinstance(v, Value))
    return max((node.phase for node in nodes if node is not None), default=0)


def _pull(
    roots: Sequence[Tensor], cotangents: Sequence[Tensor], is_target: Target, order: Sequence[Edge]
) -> dict[int, tuple[Tensor, Tensor]]:
    reached: dict[int, tuple[Tensor, Tensor]] = {}
    waiting: dict[Edge, list[Tensor | None]] = {}

    def give(tensor: Tensor, ct: Tensor) -> None:
        if is_target(tensor):
            key = id(tensor)
            reached[key] = (tensor, reached[key][1] + ct if key in reached else ct)
        elif tensor.edge in needed:
            slots = waiting.setdefault(tensor.edge, [None] * len(tensor.edge.values))
            before = slots[tensor.index]
            slots[tensor.index] = ct if before is None else before + ct

    needed = set(order)
    for root, ct in zip(roots, cotangents, strict=True):
        give(root, ct)
    for edge in reversed(order):
        slots = waiting.pop(edge, None)
        if slots is None:
            continue
        out = results_of(edge)
        partial = edge.primitive.partial
        cts = tuple(ct if partial else or_zeros(ct, o) for o, ct in zip(out, slots, strict=True))
        wanted = tuple(is_target(t) or t.edge in needed for t in edge.inputs)
        grads = pull_edge(edge, cts, out, wanted)
        for tensor, want, grad in zip(edge.inputs, wanted, grads, strict=True):
            if want and grad is not None:
                give(tensor, as_cotangent(grad, tensor))
    return reached


def pull_edge(
    edge: Edge, cts: tuple[Tensor | None, ...], out: tuple[Tensor, ...], wanted: tuple[bool, ...]
) -> list[Tensor | None]:
    """Apply the rule of one edge."""
    ct, result = (cts, out) if edge.several else (cts[0], out[0])
    return edge.primitive.pullback(ct, result, edge.inputs, wanted, edge.static)


def zeros_of(like: Tensor | Value) -> Tensor:
    """Return zeros of the shape and dtype of ``like``."""
    return F.zeros(like.shape, dtype=like.dtype)


def or_zeros(tensor: Tensor | None, like: Tensor | Value) -> Tensor:
    """Return a cotangent or tangent of ``like``, of which None means zero."""
    return zeros_of(like) if tensor is None else tensor


def as_cotangent(grad: Tensor, of: Tensor) -> Tensor:
    """Return ``grad`` in the shape and dtype of ``of``: summed over axes along which ``of`` was broadcast."""
    if grad.shape != of.shape:
        grad = F.unbroadcast(grad, of.shape)
    return grad if grad.dtype == of.dtype else F.astype(grad, of.dtype)


def check_cotangent(operation: str, ct: Any, of: Tensor) -> Tensor:
    """Return a user's cotangent as a tensor; it must have the shape of what it belongs to."""
    ct = F.asarray(ct, of.dtype)
    if ct.shape != of.shape:
        raise ShapeError(
            operation, f"the cotangent must have shape {of.shape}, as the result has", received=f"shape {ct.shape}"
        )
    return ct


def _is_leaf(tensor: Tensor) -> bool:
    return tensor.edge is None and tensor.level == 0


def backward(tensor: Tensor, gradient: Any = None) -> None:
    """Add the gradient of ``tensor`` to ``.grad`` of every leaf that it depends on.

    The tape is kept, so that it can be gone along again; it goes when the result does.

    Args:
        tensor: a scalar, or any tensor together with ``gradient``.
        gradient: the cotangent, of the same shape.

    Raises:
        GradientError: the tensor is not recorded, or is no scalar and has no cotangent.
        StaleValueError: a cell that it depends on was assigned since.

    >>> x = tensor([3.0], requires_grad=True)
    >>> (x**2).backward(tensor([1.0]))
    >>> x.grad
    tensor([6.])
    """
    root = tensor.read() if isinstance(tensor, Cell) else tensor
    if root.level >= NEVER:
        raise GradientError(
            "backward",
            "the tensor does not depend on anything that is recorded",
            received=f"a tensor of shape {root.shape}",
            fix="compute it from parameters or from tensors with requires_grad=True, outside of cr.no_grad()",
        )
    if gradient is None and root.size != 1:
        raise GradientError(
            "backward",
            "only a scalar has a gradient of its own",
            received=f"shape {root.shape}",
            fix="reduce it with .mean() or .sum(), or pass the cotangent: y.backward(gradient)",
        )
    ct = F.ones(root.shape, dtype=root.dtype) if gradient is None else check_cotangent("backward", gradient, root)
    with recording(0):
        reached = list(pull([root], [ct.detach()], _is_leaf).values())
        for leaf, _ in reached:  # before the first gradient is written
            if isinstance(leaf, Snapshot) and leaf.stale:
                name = f"{type(leaf.cell).__name__} of shape {leaf.shape}, now at version {leaf.cell.version}"
                raise StaleValueError(
                    "backward",
                    "a parameter was assigned after it was used in the forward phase",
                    received=f"a {name}",
                    fix="call backward() before optimizer.step() or assign(), or run the forward phase again",
                )
        for leaf, grad in reached:
            holder = leaf.cell if isinstance(leaf, Snapshot) else leaf
            holder._grad = grad if holder._grad is None else holder._grad + grad
