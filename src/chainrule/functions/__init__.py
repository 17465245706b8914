"""The public array functions, by the names of the Python array API standard."""

from .. import autodiff as _autodiff, dtypes as _dtypes, tensor as _tensor
from ..graph import batch_control as _batch_control, batching as _batching, control as _control, tracing as _tracing
from ..primitives import binary as _binary, elementwise as _elementwise, layout as _layout
from ..primitives.binary import *  # noqa: F403
from ..primitives.elementwise import *  # noqa: F403
from ..registry import F as _F
from ..tensor import asarray as asarray, astype as astype, tensor as tensor
from . import (
    arithmetic as _arithmetic,
    creation as _creation,
    products as _products,
    random as _random,
    reductions as _reductions,
    selection as _selection,
    shaping as _shaping,
)
from .arithmetic import *  # noqa: F403
from .creation import *  # noqa: F403
from .products import *  # noqa: F403
from .random import *  # noqa: F403
from .reductions import *  # noqa: F403
from .selection import *  # noqa: F403
from .shaping import *  # noqa: F403

for _module in (
    _dtypes, _tensor, _elementwise, _binary, _creation, _shaping, _selection, _reductions, _products, _random,
    _arithmetic, _tracing, _control, _batching, _batch_control, _autodiff,
):  # fmt: skip
    _F.register(_module)
_F.alias = _layout.alias  # type: ignore[attr-defined]
