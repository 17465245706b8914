"""The tensor, the cells that keep state, and how primitives are applied to them."""

from .. import dtypes
from ..registry import F
from . import bind as _bind_module, convert
from .at import At
from .bind import bind
from .cells import Cell, Parameter
from .convert import asarray, astype, is_operand, operand, operands, promote, tensor
from .operators import TensorLike
from .state import standing_in, structure_changed
from .tensor import Tensor

F.register(dtypes)
F.register(convert)
F.register(_bind_module)

__all__ = [
    "At", "Cell", "Parameter", "Tensor", "TensorLike", "asarray", "astype", "bind", "is_operand", "operand",
    "operands", "promote", "standing_in", "structure_changed", "tensor",
]  # fmt: skip
