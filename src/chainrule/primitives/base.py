"""What a primitive is, and how one is declared.

A primitive is one declaration: its name, the rule for shapes and dtypes, the NumPy reference that says what
it computes, the gradient rule, and places for its batching rule and its lowering. Adding one is adding one
declaration; for an elementwise function that looks like this, and is at once a public function, tested to second
order over its domain:

    @unary(vjp=lambda ct, out, x: ct * (1 - out * out), domain=(-3, 3))
    def tanh(x: Array) -> Array:
        \"\"\"Hyperbolic tangent.\"\"\"
        return np.tanh(x)

A gradient rule is ``vjp(ct, out, *inputs, **static)``, written in tensors and public functions: it takes the
cotangent ``ct`` of the result and returns the cotangent of an input. So it is differentiable itself, and what it
names is what is kept for the backward phase. A rule may ignore broadcasting: its caller sums over broadcast axes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .. import dtypes
from ..dtypes import DType
from ..errors import DTypeError, ShapeError
from ..graph.ir import TensorType
from ..registry import F

if TYPE_CHECKING:
    from ..tensor import Tensor

Rule = Callable[..., Any]
Array: TypeAlias = np.ndarray
UnaryFunction = Callable[[Any], "Tensor"]
BinaryFunction = Callable[[Any, Any], "Tensor"]


@dataclass(eq=False)
class Primitive:
    """One operation that the library differentiates, batches and compiles.

    Args:
        name: its name, unique in the registry.
        types: ``types(*inputs, **static)`` gives the `TensorType` of the result (a tuple for several results) or
            raises `ShapeError` or `DTypeError`; inputs have ``shape`` and ``dtype``.
        reference: ``reference(*arrays, **static)``, what it computes, in NumPy.
        vjp: a rule per input (None where no gradient flows), or one function that returns a tuple of cotangents;
            None if no gradient flows at all.
        partial: whether the rule takes None for the cotangent of a result on which nothing depends; else it is zeros.
        linear: positions of the inputs in which the primitive is linear, taken together; True for all of them.
        multilinear: positions of the inputs in which it is linear, each with the others held fixed.
        elementwise: whether element ``i`` of the result depends on element ``i`` of the inputs only.
        jvp: ``jvp(tangents, out, *inputs, **static)``, needed by loops only; all others derive it from ``vjp``.
        batching: ``batching(apply, examples, batched, *inputs, **static)``, how it is applied to many examples at once:
            see ``primitives.batching``. Without it an elementwise primitive broadcasts, and any other is put in a loop.
        lowering: the kind of kernel that the compiler makes of it.
        domain: for an elementwise function of one argument, the interval on which its gradient is tested.
    """

    name: str
    types: Callable[..., Any]
    reference: Callable[..., Any]
    vjp: tuple[Rule | None, ...] | Rule | None = None
    partial: bool = False
    linear: tuple[int, ...] | bool = ()
    multilinear: tuple[int, ...] = ()
    elementwise: bool = False
    jvp: Rule | None = None
    batching: Rule | None = None
    lowering: str = "host"
    domain: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.name in REGISTRY:
            raise ValueError(f"the primitive {self.name!r} is declared twice")
        REGISTRY[self.name] = self

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __call__(self, *inputs: Any, **static: Any) -> Any:
        """Apply the primitive to tensors."""
        return F.bind(self, inputs, static)

    def pullback(self, ct: Any, out: Any, inputs: tuple[Any, ...], wanted: tuple[bool, ...], static: Any) -> list:
        """Return the cotangents of the ``wanted`` inputs, None for the others."""
        rules = self.vjp
        if rules is None:
            return [None] * len(inputs)
        if isinstance(rules, tuple):
            if len(rules) == 1 and len(inputs) != 1:  # any number of inputs, one rule for each
                rules = rules * len(inputs)
            return [
                rule(ct, out, *inputs, **static) if want and rule is not None else None
                for rule, want in zip(rules, wanted, strict=True)
            ]
        found = rules(ct, out, *inputs, **static)
        return list(found) if isinstance(found, tuple) else [found]


REGISTRY: dict[str, Primitive] = {}


def primitive(
    types: Callable[..., Any], *, name: str | None = None, **declaration: Any
) -> Callable[[Callable[..., Any]], Primitive]:
    """Declare the decorated NumPy function to be the reference of a primitive of its name."""

    def declare(reference: Callable[..., Any]) -> Primitive:
        made = Primitive(name or reference.__name__.strip("_"), types, reference, **declaration)
        made.__doc__ = reference.__doc__
        return made

    return declare


# --- shape and dtype rules shared by the families -------------------------------------------------


def broadcast_shapes(operation: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape to which ``shapes`` broadcast; raise `ShapeError` if they do not."""
    first = shapes[0]
    if all(s == first for s in shapes):
        return first
    ndim = max(len(s) for s in shapes)
    result = []
    for axis in range(-ndim, 0):
        sizes = {s[axis] for s in shapes if len(s) >= -axis} - {1}
        if len(sizes) > 1:
            raise ShapeError(
                operation,
                f"the shapes do not broadcast: axis {axis} has sizes {' and '.join(map(str, sorted(sizes)))}",
                received="shapes " + " and ".join(map(str, shapes)),
                fix="make the axes equal, or 1, or insert an axis with x[:, None] or reshape",
            )
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)


def check_dtype(operation: str, dtype: DType, takes: frozenset[DType]) -> None:
    """Raise `DTypeError` unless ``dtype`` is one of those that the operation takes."""
    if dtype in takes:
        return
    if dtype in dtypes.COMPLEX:
        raise DTypeError(
            operation,
            "complex numbers are taken only by Fourier transforms, sums, differences, products, abs, real, imag, "
            "conj and by functions that move elements",
            received=dtype.name,
            fix="work on cr.real(x) and cr.imag(x)",
        )
    names = ", ".join(sorted(d.name for d in takes))
    raise DTypeError(operation, f"takes {names}", received=dtype.name, fix="cast with .astype(...)")


def same_type(x: Any, *others: Any, **static: Any) -> TensorType:
    """Shape rule: the result is like the first input."""
    return TensorType(x.shape, x.dtype)


REAL = dtypes.FLOATING | dtypes.INTEGER
NUMERIC = REAL | dtypes.COMPLEX
BITS = dtypes.INTEGER | {dtypes.bool_}
BOOL = frozenset({dtypes.bool_})


def _declare_elementwise(
    reference: Callable[..., Array],
    vjp: Rule | tuple[Rule | None, ...] | None,
    takes: frozenset[DType],
    gives: DType | Callable[[DType], DType] | None,
    declaration: dict[str, Any],
) -> Primitive:
    operation = reference.__name__

    def types(*inputs: Any) -> TensorType:
        dtype = inputs[0].dtype
        check_dtype(operation, dtype, takes)
        shape = inputs[0].shape
        if len(inputs) > 1:
            if inputs[1].dtype != dtype:
                names = f"{dtype.name} and {inputs[1].dtype.name}"
                raise DTypeError(operation, "needs inputs of one dtype", received=names, fix="cast one of them")
            shape = broadcast_shapes(operation, shape, inputs[1].shape)
        if gives is not None:
            dtype = gives(dtype) if not isinstance(gives, np.dtype) else gives
        return TensorType(shape, dtype)

    rules = vjp if vjp is None or isinstance(vjp, tuple) else (vjp,)
    return Primitive(operation, types, reference, vjp=rules, elementwise=True, lowering="elementwise", **declaration)


def unary(
    *,
    vjp: Rule | None = None,
    takes: frozenset[DType] = dtypes.FLOATING,
    gives: DType | Callable[[DType], DType] | None = None,
    domain: tuple[float, float] | None = None,
    **declaration: Any,
) -> Callable[[Callable[[Array], Array]], UnaryFunction]:
    """Declare an elementwise primitive of one input; the decorated name becomes its public function.

    Args:
        vjp: the gradient rule ``vjp(ct, out, x)``.
        takes: the dtypes that it computes with; integers become float32 where only floating types are taken.
        gives: the dtype of the result, if it is not that of the input.
        domain: the interval on which its gradient is tested.
        **declaration: what else `Primitive` takes.
    """
    floating_only = takes <= dtypes.INEXACT

    def declare(reference: Callable[[Array], Array]) -> UnaryFunction:
        made = _declare_elementwise(reference, vjp, takes, gives, declaration | {"domain": domain})

        @functools.wraps(reference)
        def public(x: Any) -> Any:
            return F.bind(made, (F.operand(x, floating_only),), {})

        public.__annotations__ = {"x": "TensorLike", "return": "Tensor"}
        return public

    return declare


def binary(
    *,
    vjp: tuple[Rule | None, Rule | None] | None = None,
    takes: frozenset[DType] = dtypes.FLOATING,
    gives: DType | Callable[[DType], DType] | None = None,
    **declaration: Any,
) -> Callable[[Callable[[Array, Array], Array]], BinaryFunction]:
    """Declare an elementwise primitive of two inputs, which broadcast and are promoted to one dtype.

    Args:
        vjp: a gradient rule ``vjp(ct, out, x1, x2)`` for each input.
        takes: the dtypes that it computes with, as in `unary`.
        gives: the dtype of the result, if it is not that of the inputs.
        **declaration: what else `Primitive` takes.
    """
    floating_only = takes <= dtypes.INEXACT

    def declare(reference: Callable[[Array, Array], Array]) -> BinaryFunction:
        made = _declare_elementwise(reference, vjp, takes, gives, declaration)

        @functools.wraps(reference)
        def public(x1: Any, x2: Any) -> Any:
            return F.bind(made, F.operands(x1, x2, floating_only), {})

        public.__annotations__ = {"x1": "TensorLike", "x2": "TensorLike", "return": "Tensor"}
        return public

    return declare
