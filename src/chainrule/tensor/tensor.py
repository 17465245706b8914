"""The tensor: a value, and how it was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import dtypes
from ..dtypes import DType
from ..errors import ArgumentError, GradientError, GradientNotKept, ImmutableError, ShapeError, TraceError
from ..graph.ir import Value
from ..primitives.layout import stop_gradient
from ..registry import F
from .operators import Operators
from .state import NEVER

if TYPE_CHECKING:
    from .at import At


class Edge:
    """An entry of the tape: the application of a primitive that made a tensor.

    ``number`` grows with time, so that descending numbers are an order in which to go backward.
    """

    __slots__ = ("inputs", "number", "primitive", "several", "static", "values")

    def __init__(
        self,
        primitive: Any,
        inputs: tuple[Tensor, ...],
        static: Mapping[str, Any],
        values: tuple[Any, ...],
        number: int,
        several: bool = False,
    ) -> None:
        self.primitive = primitive
        self.inputs = inputs
        self.static = static
        self.values = values
        self.number = number
        self.several = several  # whether rules get and give tuples of results


class _NotKept:
    """In place of a gradient that a compiled step has computed and not kept. Adding to it begins anew."""

    __slots__ = ()

    def __add__(self, other: Tensor) -> Tensor:
        return other


NOT_KEPT = _NotKept()


def not_kept(what: str) -> GradientNotKept:
    """The exception for reading it."""
    return GradientNotKept(
        "grad",
        "the compiled step used this gradient up, and did not keep it",
        received=f"the gradient of {what}",
        fix="return it from the step, compile with @cr.compile(keep_grads=True), or clear it with zero_grad()",
    )


class Tensor(Operators):
    """An immutable array of numbers that remembers how it was computed.

    Make one with `chainrule.tensor` or `chainrule.asarray`. Operators and methods follow the Python array API
    standard and NumPy; every operation that depends on a trainable cell, on a tensor with ``requires_grad`` or on the
    argument of a transform is recorded, so that the chain rule can be applied to it.

    >>> x = tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.])
    """

    __slots__ = ("__weakref__", "_grad", "edge", "index", "level", "value")
    __array_ufunc__ = None  # NumPy's operators leave the work to this class

    value: Any
    edge: Edge | None
    index: int
    level: int

    def __init__(self, value: Any, edge: Edge | None = None, index: int = 0, level: int = NEVER) -> None:
        self.value = value
        self.edge = edge
        self.index = index
        self.level = level
        self._grad: Any = None

    # --- what it is ---------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self.value.shape

    @property
    def dtype(self) -> DType:
        """Data type."""
        return self.value.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.value.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.value.size

    @property
    def requires_grad(self) -> bool:
        """Whether operations on it are recorded."""
        return self.level < NEVER

    @property
    def is_leaf(self) -> bool:
        """Whether it was given, not computed from recorded tensors."""
        return self.edge is None

    @property
    def grad(self) -> Tensor | None:
        """Gradient that `backward` has added up here, for a leaf; None if there is none."""
        if self._grad is NOT_KEPT:
            raise not_kept(f"a tensor of shape {self.shape}")
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            value = F.asarray(value).detach()
            if value.shape != self.shape:
                raise ShapeError("grad", f"must have shape {self.shape}", received=f"shape {value.shape}")
        self._grad = value

    @property
    def T(self) -> Tensor:
        """The transpose of a matrix; see `mT` for stacks of matrices."""
        if self.ndim != 2:
            raise ShapeError("T", "is for two axes", received=f"shape {self.shape}", fix="use .mT or permute")
        return F.permute_dims(self, (1, 0))

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return F.matrix_transpose(self)

    @property
    def at(self) -> At:
        """Places to write to: ``x.at[i].set(v)``, ``.add(v)``, ``.multiply(v)``, ``.max(v)``, ``.min(v)``."""
        from .at import At

        return At(self)

    # --- the chain rule -----------------------------------------------------------------------------------

    def backward(self, gradient: Tensor | None = None) -> None:
        """Add the gradient of this tensor to ``.grad`` of every leaf that it depends on.

        Args:
            gradient: the cotangent; may be left out for a scalar, where it is 1.

        Raises:
            GradientError: the tensor is not recorded, or not a scalar and no cotangent is given.
            StaleValueError: a cell that it depends on was assigned since.
        """
        F.backward(self, gradient)

    def detach(self) -> Tensor:
        """Return the same value, cut off from what it was computed from."""
        if isinstance(self.value, Value):
            return stop_gradient(self)
        return Tensor(self.value) if self.level < NEVER else self

    # --- out of the library -------------------------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """Return the value as a read-only NumPy array that shares memory."""
        value = self._concrete("numpy")
        view = value.view()
        view.flags.writeable = False
        return view

    def item(self) -> Any:
        """Return the one element as a Python scalar."""
        if self.size != 1:
            raise ArgumentError("item", "only one element can become a scalar", received=f"shape {self.shape}")
        return self._concrete("item").item()

    def tolist(self) -> Any:
        """Return the elements as nested lists."""
        return self._concrete("tolist").tolist()

    def _concrete(self, operation: str) -> np.ndarray:
        value = self.value
        if isinstance(value, Value):
            raise TraceError(
                operation,
                "the value of a traced tensor is not known: the function is being traced, not run",
                received=f"{value.type}",
                fix="decide with cr.where, cr.cond or cr.while_loop, return the tensor, keep it in a cell, or "
                "show it by cr.debug.print",
            )
        return value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        self._concrete("numpy")
        if self.level < NEVER:
            raise GradientError(
                "asarray",
                "NumPy would cut this tensor off from its gradient in silence",
                fix="write x.numpy() or x.detach() if that is what you want",
            )
        value = self.numpy()
        return np.array(value, dtype=dtype, copy=True) if copy else np.asarray(value, dtype=dtype)

    def __dlpack__(self, **options: Any) -> Any:
        if self.level < NEVER:
            raise GradientError("__dlpack__", "the tensor is recorded", fix="use x.detach()")
        return self._concrete("__dlpack__").__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._concrete("__dlpack_device__").__dlpack_device__()

    def __float__(self) -> float:
        return float(self._scalar("float"))

    def __int__(self) -> int:
        return int(self._scalar("int"))

    def __bool__(self) -> bool:
        return bool(self._scalar("bool"))

    def __complex__(self) -> complex:
        return complex(self._scalar("complex"))

    def __index__(self) -> int:
        if self.dtype not in dtypes.INTEGER:
            raise ArgumentError("index", "only an integer can be an index", received=self.dtype.name)
        return int(self._scalar("index"))

    def _scalar(self, operation: str) -> Any:
        if self.size != 1:
            raise ArgumentError(
                operation,
                "only one element has a truth value or a number",
                received=f"shape {self.shape}",
                fix="use .any() or .all(), or index one element",
            )
        return self._concrete(operation).item()

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.size == 1 else format(str(self), spec)

    def __str__(self) -> str:
        self._concrete("print")
        return repr(self)

    def __repr__(self) -> str:
        value = self.value
        if isinstance(value, Value):
            return f"tensor({value.type}, traced)"
        shown = value.astype(np.float32) if value.dtype in dtypes.HALF else value
        text = np.array2string(shown, separator=", ", prefix="tensor(")
        usual = value.dtype in (dtypes.float32, dtypes.int64, dtypes.bool_)
        kind = "" if usual else f", dtype={value.dtype.name}"
        return f"tensor({text}{kind}{', requires_grad=True' if self.requires_grad else ''})"

    __hash__ = object.__hash__

    # --- containers ---------------------------------------------------------------------------------------

    def __len__(self) -> int:
        if not self.shape:
            raise ArgumentError("len", "a scalar has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> Tensor:
        return F.getitem(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise ImmutableError(
            "Tensor", "tensors are immutable, x[i] = v has nothing to change", fix="x = x.at[i].set(v)"
        )

    def __copy__(self) -> Tensor:
        return self

    def __deepcopy__(self, memo: Any) -> Tensor:
        return self
