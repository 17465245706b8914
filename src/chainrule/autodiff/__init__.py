"""Automatic differentiation: the tape, the transforms over it, and the check of gradients."""

from .check import check_grads
from .custom import callback, custom_vjp
from .rows import RowSparse, take_rows
from .tape import backward
from .transforms import (
    enable_grad,
    grad,
    hessian,
    hvp,
    jacfwd,
    jacobian,
    jacrev,
    jvp,
    no_grad,
    requires_grad,
    stop_gradient,
    value_and_grad,
    vjp,
)
from .trees import ParameterTree, tree_map

__all__ = [
    "ParameterTree", "RowSparse", "backward", "callback", "check_grads", "custom_vjp", "enable_grad",
    "grad", "hessian", "hvp", "jacfwd", "jacobian", "jacrev", "jvp", "no_grad", "requires_grad", "stop_gradient",
    "take_rows", "tree_map", "value_and_grad", "vjp",
]  # fmt: skip
