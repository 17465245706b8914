"""Checks that compiled functions agree with eager mode.

Results must have the same shapes and dtypes. Whole numbers, truth values, and numbers that are only moved must be
equal; others must be within the error bound of `rounding`, which is relative to the same expression on absolute values.
Many cases share one compiled function, since a program costs more than what it computes here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rounding
from fences import fences

import chainrule as cr
from chainrule import Tensor, dtypes
from chainrule.autodiff.trees import flatten, unflatten
from chainrule.compiler.capture import capture
from chainrule.compiler.interface import Argument
from chainrule.compiler.keys import Call

Function = Callable[..., Any]


@dataclass
class Case:
    """A function of arrays, and what it is called with.

    Attributes:
        name: for messages.
        function: called with tensors.
        args: arrays; a program takes them as they are, strided in any way.
        gradient: whether its gradient by all floating arguments is compared too.
    """

    name: str
    function: Function
    args: Sequence[Any] = field(default_factory=tuple)
    gradient: bool = False


def compiled(function: Function) -> Any:
    """The function, compiled."""
    return cr.compile(function)


def is_floating(x: Any) -> bool:
    return x.dtype in dtypes.FLOATING


def weights(shape: Sequence[int], dtype: Any) -> Tensor:
    """What a result is multiplied by before it is summed to a loss: no two elements matter the same."""
    size = int(np.prod(shape))
    return cr.tensor((np.cos(1.7 * np.arange(size)) + 1.25).reshape(shape)).astype(dtype)


def loss_of(function: Function) -> Function:
    """The weighted sum of all floating results."""

    def loss(*args: Any) -> Any:
        total = None
        for out in flatten(function(*args))[0]:
            if is_floating(out):
                part = (out * weights(out.shape, out.dtype)).sum()
                total = part if total is None else total + part.astype(total.dtype)
        return cr.tensor(0.0) if total is None else total

    return loss


def with_gradient(function: Function) -> Function:
    """The results of a function, and the gradient of their weighted sum by each floating argument."""

    def both(*args: Any) -> Any:
        places = tuple(i for i, x in enumerate(args) if is_floating(x))
        results = function(*args)
        if not places or not any(is_floating(x) for x in flatten(results)[0]):
            return results, ()
        return results, cr.grad(loss_of(function), argnums=places)(*args)

    return both


# --- comparing --------------------------------------------------------------------------------------------


def disagreement(eager: Any, native: Any, error: np.ndarray | None = None) -> str:
    """What is different between two results, in words; empty if nothing is."""
    a, b = (np.asarray(x.numpy() if isinstance(x, Tensor) else x) for x in (eager, native))
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return f"{a.dtype}{a.shape} is expected, {b.dtype}{b.shape} is given"
    if error is None or a.dtype not in dtypes.INEXACT:
        error = np.zeros(a.shape) if error is None else error
    x, y = (v.astype(np.complex128 if v.dtype.kind == "c" else np.float64) for v in (a, b))
    with np.errstate(all="ignore"):
        apart = np.abs(x - y)
        allowed = 2 * error  # each of the two may be off by so much
        fine = (x == y) | (np.isnan(x) & np.isnan(y)) | (apart <= allowed) | np.isinf(allowed)
    if fine.all():
        return ""
    i = int(np.argmax(np.where(fine, -1.0, np.where(np.isnan(apart), np.inf, apart))))
    return (
        f"{np.count_nonzero(~fine)} of {fine.size} elements differ, most at {np.unravel_index(i, a.shape)}: "
        f"{a.reshape(-1)[i]} is expected, {b.reshape(-1)[i]} is given, {allowed.reshape(-1)[i]:.2e} is allowed"
    )


def bounds_of(function: Function, args: Sequence[Any]) -> list[rounding.Approximate]:
    """Results of a function with their error bounds."""
    call = Call(tuple(args), {}, 0)
    made = capture(function, call.traceable(), call.runtime, call.structure, "bounds", False)
    arrays = [
        np.asarray(call.leaves[i].numpy() if isinstance(call.leaves[i], Tensor) else call.leaves[i])
        for i in made.leaves
    ]
    given = [arrays[s.number] if isinstance(s, Argument) else s.cell.storage().copy() for s in made.inputs]
    found = iter(rounding.bounds(made.graph, given))
    return [
        next(found) if kind != "constant" else rounding.Approximate(np.asarray(value), np.zeros(np.shape(value)))
        for kind, value in made.results
    ]


def together(cases: Sequence[Case]) -> tuple[Function, list[Any]]:
    """One function of all cases, and its arguments."""

    def whole(args: Any) -> list[Any]:
        results = []
        for case, given in zip(cases, args, strict=True):
            function = with_gradient(case.function) if case.gradient else case.function
            results.append(function(*given))
        return results

    return whole, [list(case.args) for case in cases]


def eagerly(cases: Sequence[Case]) -> list[Any]:
    """The results of cases in eager mode."""
    whole, args = together(cases)
    leaves, structure = flatten(args)
    return whole(unflatten(structure, [cr.asarray(x) if isinstance(x, np.ndarray) else x for x in leaves]))


def failures(cases: Sequence[Case], exact: bool = False) -> Iterator[str]:
    """What is different, case by case."""
    whole, args = together(cases)
    expected = eagerly(cases)
    with fences():
        given = compiled(whole)(args)
    bounds = None if exact else iter(bounds_of(whole, (args,)))
    for case, a, b in zip(cases, expected, given, strict=True):
        first, structure = flatten(a)
        second, other = flatten(b)
        if structure != other:
            yield f"{case.name}: the structure {structure} is expected, {other} is given"
            return
        for number, (x, y) in enumerate(zip(first, second, strict=True)):
            error = None if bounds is None else next(bounds).error
            found = disagreement(x, y, error)
            if found:
                shapes = ", ".join(f"{np.asarray(v).dtype}{np.shape(v)}" for v in case.args)
                yield f"{case.name}({shapes}), result {number}: {found}"


def check(cases: Sequence[Case], exact: bool = False) -> None:
    """Fail if a case is different when it is compiled.

    Args:
        cases: they become one program; together if that fails, to name those that do.
        exact: every bit has to be the same.
    """
    found = list(failures(cases, exact))
    assert not found, "\n".join(found)


def agree(function: Function, *args: Any, exact: bool = False, gradient: bool = False) -> None:
    """Fail if one function is different when it is compiled."""
    check([Case(getattr(function, "__name__", "function"), function, args, gradient)], exact)
