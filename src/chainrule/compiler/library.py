"""Which kernels there are, by primitive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import dtypes
from ..graph.ir import Node
from . import indexing, moving, running, sorting, windows

_LOWER: dict[str, Callable[[Node], Any]] = {
    **windows.LOWER,
    **indexing.LOWER,
    **running.LOWER,
    **sorting.LOWER,
    **moving.LOWER,
}
_PRODUCTS = frozenset({"dot", "conv", "conv_input", "conv_kernel"})


def lowering_of(name: str) -> Callable[[Node], Any] | None:
    """What makes a node of this primitive into calls of kernels; None if the host has to compute it."""
    return _LOWER.get(name)


def can_contract(node: Node) -> bool:
    """Whether the contraction generator computes this node."""
    return node.primitive.name in _PRODUCTS and all(v.dtype not in dtypes.COMPLEX for v in node.inputs)
