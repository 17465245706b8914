"""What may be given where a tensor is expected, and in which dtype it meets the others."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..dtypes import DType, as_dtype, promote_scalar, promote_types
from ..errors import DTypeError, TraceError
from ..graph.ir import Value
from ..primitives.binary import cast
from .cells import Cell
from .operators import TensorLike
from .state import state
from .tensor import Tensor
from .weak import Weak

_SCALARS = (bool, int, float, complex)
_WEAK = (*_SCALARS, Weak)
_SMALL = 6e4  # within the range of every floating type


def is_operand(x: Any) -> bool:
    """Say whether ``x`` can stand beside a tensor in an operation."""
    return isinstance(x, (Tensor, np.ndarray, np.generic, list, *_SCALARS))


def _array(data: Any, dtype: DType | None) -> np.ndarray:
    """NumPy array of anything; Python floats and lists of them become float32."""
    if isinstance(data, (np.ndarray, np.generic)):
        array = np.asarray(data)
        if state.traces:
            array = state.traces[0].taken(array)
    elif hasattr(data, "__dlpack__"):
        array = np.from_dlpack(data)
        if state.traces:
            array = state.traces[0].taken(array)
    else:
        if isinstance(data, (list, tuple)):
            data = _plain(data)
        array = np.asarray(data)
        if dtype is None and array.dtype.kind in "fc" and not hasattr(data, "__array__"):
            dtype = dtypes.float32 if array.dtype.kind == "f" else dtypes.complex64
        elif dtype in dtypes.INTEGER and array.dtype.kind in "iu":
            _check_range(array, dtype)
    if array.dtype == object or array.dtype.kind not in "biufcV" or array.dtype.names:
        raise DTypeError(
            "tensor",
            "the data is not an array of numbers",
            received=f"{type(data).__name__} of {array.dtype}",
            fix="all rows must have the same length, and all elements be numbers",
        )
    array = array.astype(array.dtype.newbyteorder("=") if dtype is not None else as_dtype(array.dtype), copy=False)
    if dtype is None or dtype == array.dtype:
        return array
    with np.errstate(all="ignore"):
        return cast.reference(array, dtype=dtype)


def _check_range(array: np.ndarray, dtype: DType) -> None:
    """Whole numbers of Python must fit; arrays are converted like tensors, and wrap around."""
    limits = np.iinfo(dtype)
    wrong = array[(array < limits.min) | (array > limits.max)]
    if wrong.size:
        raise DTypeError(
            "tensor", "the number does not fit", received=f"{wrong.flat[0]} as {dtype.name}", fix="use a wider dtype"
        )


def _plain(data: Any) -> Any:
    """Nested lists with tensors in them, as nested lists of arrays."""
    if isinstance(data, (list, tuple)):
        try:
            return [_plain(item) for item in data]
        except RecursionError:
            raise DTypeError("tensor", "the lists contain themselves") from None
    if not isinstance(data, Tensor):
        return data
    if isinstance(data.value, Value):
        raise TraceError(
            "tensor",
            "the values in the list are not known while the function is traced",
            received=repr(data),
            fix="join the tensors by cr.stack or cr.concat",
        )
    return data.numpy()


def asarray(data: TensorLike, dtype: Any = None, *, copy: bool | None = None) -> Tensor:
    """Return ``data`` as a tensor, sharing its memory where possible.

    Args:
        data: a tensor, a NumPy array, anything with ``__dlpack__``, a number, or nested lists of numbers. Python floats
            become float32, ints int64; arrays keep their dtype.
        dtype: convert to it.
        copy: True to always copy, so that a later change of an array does not show.

    Raises:
        DTypeError: the data is not an array of numbers.

    >>> asarray([1, 2.5])
    tensor([1. , 2.5])
    """
    if isinstance(data, Tensor):
        if isinstance(data, Weak):
            return _strong(data, dtype)
        tensor = data.read() if isinstance(data, Cell) else data
        return tensor if dtype is None else astype(tensor, dtype)
    try:
        array = _array(data, None if dtype is None else as_dtype(dtype))
    except ValueError as error:
        raise DTypeError(
            "tensor",
            "the data is not an array of numbers",
            received=f"{type(data).__name__}",
            fix="all rows must have the same length, and all elements be numbers",
        ) from error
    return Tensor(array.copy() if copy else array)


def tensor(data: TensorLike, dtype: Any = None, *, requires_grad: bool = False) -> Tensor:
    """Make a tensor from a copy of ``data``.

    Args:
        data: what `asarray` takes.
        dtype: the data type; by default float32 for Python floats, int64 for ints, that of an array otherwise.
        requires_grad: record what is computed from it, so that `Tensor.backward` fills its ``.grad``.

    Raises:
        DTypeError: the data is not an array of numbers, or has no gradient but should.

    >>> tensor([[1, 2], [3, 4]], dtype="float64")
    tensor([[1., 2.],
            [3., 4.]], dtype=float64)
    """
    value = asarray(data, dtype).detach().value
    made = Tensor(value if isinstance(value, Value) else np.array(value))
    if requires_grad:
        if made.dtype not in dtypes.INEXACT:
            raise DTypeError(
                "tensor", "only floating values have gradients", received=made.dtype.name, fix="dtype='float32'"
            )
        made.level = 0
    return made


def astype(x: TensorLike, dtype: Any) -> Tensor:
    """Convert to another dtype.

    A floating value becomes an integer by dropping its fraction; beyond the integer's range it becomes the nearest
    limit, and NaN becomes 0. Gradients pass between floating types and end at integers.

    >>> astype(tensor([1.7, -1.7, 1e30]), "int8")
    tensor([  1,  -1, 127], dtype=int8)
    """
    x, dtype = asarray(x), as_dtype(dtype)
    return x if x.dtype == dtype else cast(x, dtype=dtype)


def operand(x: TensorLike, floating: bool = False) -> Tensor:
    """Return ``x`` as a tensor; integers as float32 if ``floating``."""
    if x.__class__ is not Tensor:
        x = asarray(x)
    if floating and x.dtype not in dtypes.INEXACT:
        return cast(x, dtype=dtypes.float32)
    return x


def operands(x1: TensorLike, x2: TensorLike, floating: bool = False) -> tuple[Tensor, Tensor]:
    """Return both as tensors of the dtype in which they meet; Python scalars are weak."""
    weak1, weak2 = isinstance(x1, _WEAK), isinstance(x2, _WEAK)
    if weak2 and not weak1:
        x1 = operand(x1, floating)
        return _with_scalar(x1, x2)
    if weak1 and not weak2:
        second, first = _with_scalar(operand(x2, floating), x1)
        return first, second
    x1, x2 = operand(x1, floating), operand(x2, floating)
    if x1.dtype == x2.dtype:
        return x1, x2
    dtype = promote_types(x1.dtype, x2.dtype)
    return astype(x1, dtype), astype(x2, dtype)


def _strong(scalar: Weak, dtype: Any) -> Tensor:
    """A number that varies, as a tensor by itself."""
    default = dtypes.float32 if isinstance(scalar.python, float) else dtypes.int64
    if isinstance(scalar.python, np.float64):  # weak beside tensors, since it is a Python float too
        default = dtypes.float64
    wanted = default if dtype is None else as_dtype(dtype)
    if isinstance(scalar.python, int) and wanted in dtypes.INTEGER and wanted != dtypes.int64:
        return asarray(scalar.known(), wanted)  # its range is checked
    return astype(scalar.wide(), wanted)


def _with_scalar(x: Tensor, scalar: Any) -> tuple[Tensor, Tensor]:
    if isinstance(scalar, Weak):
        dtype = promote_scalar(x.dtype, scalar.python)
        return astype(x, dtype), _strong(scalar, dtype)
    dtype = promote_scalar(x.dtype, scalar)
    try:
        if isinstance(scalar, float) and not -_SMALL < scalar < _SMALL:
            with np.errstate(over="ignore"):  # beyond the range of the type: infinite
                value = np.asarray(scalar, dtype=dtype)
        else:
            value = np.asarray(scalar, dtype=dtype)
    except OverflowError as error:
        raise DTypeError(
            "promotion", "the number does not fit", received=f"{scalar} beside {dtype.name}", fix="cast the tensor"
        ) from error
    return astype(x, dtype), Tensor(value)


def promote(*xs: TensorLike) -> tuple[Tensor, ...]:
    """Return all as tensors of one dtype; Python scalars are weak."""
    strong = [asarray(x) for x in xs if not isinstance(x, _WEAK)]
    if not strong:
        strong = [asarray(x) for x in xs]
    dtype = strong[0].dtype
    for x in strong[1:]:
        dtype = promote_types(dtype, x.dtype)
    for x in xs:
        if isinstance(x, _WEAK):
            dtype = promote_scalar(dtype, x.python if isinstance(x, Weak) else x)
    return tuple(asarray(x, dtype) for x in xs)
