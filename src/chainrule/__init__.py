"""chainrule: neural networks trained by backpropagation.

    import chainrule as cr
    from chainrule import nn, optim

Array functions follow the Python array API standard; `nn` and `optim` have PyTorch's names and argument order, with
images channels-last.
"""

import typing as _typing

from . import functions as functions  # fills the namespace of the gradient rules
from .autodiff import (
    ParameterTree as ParameterTree,
    RowSparse as RowSparse,
    callback as callback,
    check_grads as check_grads,
    custom_vjp as custom_vjp,
    enable_grad as enable_grad,
    grad as grad,
    hessian as hessian,
    hvp as hvp,
    jacfwd as jacfwd,
    jacobian as jacobian,
    jacrev as jacrev,
    jvp as jvp,
    no_grad as no_grad,
    requires_grad as requires_grad,
    stop_gradient as stop_gradient,
    tree_map as tree_map,
    value_and_grad as value_and_grad,
    vjp as vjp,
)
from .dtypes import (
    bfloat16 as bfloat16,
    bool_ as bool_,
    complex64 as complex64,
    complex128 as complex128,
    float16 as float16,
    float32 as float32,
    float64 as float64,
    int8 as int8,
    int16 as int16,
    int32 as int32,
    int64 as int64,
    promote_types as promote_types,
    uint8 as uint8,
    uint16 as uint16,
    uint32 as uint32,
    uint64 as uint64,
)
from .errors import ChainruleError as ChainruleError
from .functions.arithmetic import *  # noqa: F403
from .functions.creation import *  # noqa: F403
from .functions.products import *  # noqa: F403
from .functions.random import *  # noqa: F403
from .functions.reductions import *  # noqa: F403
from .functions.selection import *  # noqa: F403
from .functions.shaping import *  # noqa: F403
from .graph.batching import vmap as vmap
from .graph.checkpointing import checkpoint as checkpoint
from .graph.control import cond as cond, scan as scan, while_loop as while_loop
from .graph.curvature import empirical_fvp as empirical_fvp, fvp as fvp, gnvp as gnvp
from .graph.per_sample import (
    clipped_grad_sum as clipped_grad_sum,
    per_sample_grad_norms as per_sample_grad_norms,
    per_sample_grads as per_sample_grads,
)
from .primitives.binary import *  # noqa: F403
from .primitives.elementwise import *  # noqa: F403
from .tensor import (
    Cell as Cell,
    Parameter as Parameter,
    Tensor as Tensor,
    TensorLike as TensorLike,
    asarray as asarray,
    astype as astype,
    tensor as tensor,
)

if _typing.TYPE_CHECKING:
    from . import data as data, debug as debug, extend as extend, nn as nn, optim as optim
    from .compiler.compiled import compile as compile
    from .compiler.threads import get_num_threads as get_num_threads, set_num_threads as set_num_threads
    from .functions import fft as fft, linalg as linalg
    from .inspect.explain import explain as explain
    from .inspect.profile import profile as profile
    from .nn.state import functional_call as functional_call, load as load, save as save

__version__ = "0.1.0"

# Rooms that not every program enters are loaded at the first use of their name.
_LATER = {name: f"chainrule.{name}" for name in ("data", "debug", "extend", "nn", "optim")}
_LATER |= {name: f"chainrule.functions.{name}" for name in ("fft", "linalg")}
_LATER |= {"compile": "chainrule.compiler.compiled:compile", "explain": "chainrule.inspect.explain:explain"}
_LATER |= {"profile": "chainrule.inspect.profile:profile"}
_LATER |= {name: f"chainrule.compiler.threads:{name}" for name in ("get_num_threads", "set_num_threads")}
_LATER |= {name: f"chainrule.nn.state:{name}" for name in ("functional_call", "load", "save")}


if not _typing.TYPE_CHECKING:  # a checker sees the imports above

    def __getattr__(name: str) -> object:
        if name not in _LATER:
            raise AttributeError(f"module 'chainrule' has no attribute {name!r}")
        from importlib import import_module

        from .tensor.state import outside

        module, _, member = _LATER[name].partition(":")
        with outside():  # a room that is entered within a trace does not become a part of it
            room = import_module(module)
        found = getattr(room, member) if member else room
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
