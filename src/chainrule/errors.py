"""The exceptions of the library.

Every message names the operation in brackets, says what was received and offers the likely fix,
and ends with the line of the caller's own code that led to it.
"""

from __future__ import annotations

import os
import sys

_PACKAGE = os.path.dirname(os.path.abspath(__file__))


def user_location() -> str:
    """Return ``file:line`` of the innermost frame outside this package, or an empty string."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((_PACKAGE, "<frozen")):
            return f"{name}:{frame.f_lineno}"
        if frame.f_back is None:
            return ""
        frame = frame.f_back
    return ""


class ChainruleError(Exception):
    """Base class of every error that the library raises on purpose.

    Args:
        operation: what was being done; printed in brackets.
        message: what is wrong.
        received: what was given.
        fix: what to do about it.
    """

    def __init__(self, operation: str, message: str, *, received: str = "", fix: str = "") -> None:
        super().__init__(message)
        self.operation = operation
        self.message = message
        self.received = received
        self.fix = fix
        self.location = user_location()
        self.layers: list[str] = []

    def __str__(self) -> str:
        stop = "" if self.message.endswith((".", "!", "?")) else "."
        parts = [f"[{self.operation}] {self.message}{stop}"]
        if self.received:
            parts.append(f"Received: {self.received}.")
        if self.fix:
            parts.append(f"Fix: {self.fix}.")
        if self.layers:
            parts.append(f"In layer: {'.'.join(reversed(self.layers))}.")
        if self.location:
            parts.append(f"At: {self.location}")
        return " ".join(parts)


class ShapeError(ChainruleError, ValueError):
    """Shapes do not fit together.

    >>> import chainrule as cr
    >>> cr.zeros((2, 3)) @ cr.zeros((2, 3))
    Traceback (most recent call last):
    chainrule.errors.ShapeError: [matmul] ...
    """


class DTypeError(ChainruleError, TypeError):
    """An operation does not take values of this data type.

    >>> import chainrule as cr
    >>> cr.bitwise_and(cr.tensor([1.0]), cr.tensor([2.0]))
    Traceback (most recent call last):
    chainrule.errors.DTypeError: [bitwise_and] ...
    """


class ArgumentError(ChainruleError, ValueError):
    """An argument has a value that the operation cannot take.

    >>> import chainrule as cr
    >>> cr.sum(cr.zeros((2, 3)), axis=2)
    Traceback (most recent call last):
    chainrule.errors.ArgumentError: [sum] ...
    """


class IndexOutOfRangeError(ChainruleError, IndexError):
    """An index lies outside of its axis.

    >>> import chainrule as cr
    >>> cr.take(cr.zeros((3, 2)), cr.tensor([3]), axis=0)
    Traceback (most recent call last):
    chainrule.errors.IndexOutOfRangeError: [gather] ...
    """


class ImmutableError(ChainruleError, TypeError):
    """A tensor was to be changed in place.

    >>> import chainrule as cr
    >>> x = cr.zeros((3,))
    >>> x[0] = 1.0
    Traceback (most recent call last):
    chainrule.errors.ImmutableError: [Tensor] ...
    >>> x.at[0].set(1.0)
    tensor([1., 0., 0.])
    """


class LinearAlgebraError(ChainruleError, ArithmeticError):
    """A decomposition or a solution does not exist, such as the inverse of a singular matrix.

    >>> import chainrule as cr
    >>> cr.linalg.cholesky(cr.tensor([[0.0, 1.0], [1.0, 0.0]]))
    Traceback (most recent call last):
    chainrule.errors.LinearAlgebraError: [cholesky] ...
    """


class GradientError(ChainruleError, RuntimeError):
    """A gradient was asked for where there is none.

    >>> import chainrule as cr
    >>> cr.zeros((3,), requires_grad=True).backward()
    Traceback (most recent call last):
    chainrule.errors.GradientError: [backward] ...
    """


class StaleValueError(GradientError):
    """A cell was assigned between the forward and the backward phase that depends on its value.

    >>> import chainrule as cr
    >>> w = cr.Parameter(cr.tensor([2.0]))
    >>> y = (w * w).sum()
    >>> w.assign(cr.tensor([3.0]))
    >>> y.backward()
    Traceback (most recent call last):
    chainrule.errors.StaleValueError: [backward] ...
    """


class UnusedParameterError(GradientError):
    """An optimizer was to update a trainable parameter that the loss does not reach.

    >>> import chainrule as cr
    >>> w = cr.Parameter(cr.tensor([2.0]))
    >>> cr.optim.SGD([w], lr=0.1).step()
    Traceback (most recent call last):
    chainrule.errors.UnusedParameterError: [SGD.step] ...
    """


class GradientNotKept(GradientError):
    """The gradient was computed within a compiled step, used up by the optimizer, and not kept.

    >>> import chainrule as cr
    >>> w = cr.Parameter(cr.tensor([2.0]))
    >>> opt = cr.optim.SGD([w], lr=0.1)
    >>> @cr.compile
    ... def step(x):
    ...     opt.zero_grad()
    ...     (w * x).sum().backward()
    ...     opt.step()
    >>> step(cr.tensor([3.0]))
    >>> w.grad
    Traceback (most recent call last):
    chainrule.errors.GradientNotKept: [grad] ...
    """


class GradientCheckError(ChainruleError, AssertionError):
    """A gradient rule disagrees with finite differences; see `check_grads`.

    >>> import chainrule as cr
    >>> f = cr.custom_vjp(cr.sin, lambda x: (cr.sin(x), x), lambda x, ct: (ct * 0.999 * cr.cos(x),))
    >>> cr.check_grads(f, (cr.tensor([0.5]),))
    Traceback (most recent call last):
    chainrule.errors.GradientCheckError: [check_grads] ...
    """


class TraceError(ChainruleError, RuntimeError):
    """Python needed the value of a tensor that is only a placeholder while a function is traced.

    >>> import chainrule as cr
    >>> cr.scan(lambda c, x: (c + float(x), c), cr.tensor(0.0), cr.ones((3,)))
    Traceback (most recent call last):
    chainrule.errors.TraceError: [float] ...
    """


class CompilerError(ChainruleError, RuntimeError):
    """A compiled program reported a fault that the same function, run in Python, does not have: a mistake of ours.

    There is no example, since none is known. Please report it with the function; without `compile` it runs.
    """


class RetraceWarning(UserWarning):
    """A compiled function is traced again and again; the message says for what, and what to do about it.

    >>> import warnings
    >>> import chainrule as cr
    >>> @cr.compile
    ... def times(x, text):
    ...     return x * len(text)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error")
    ...     for n in range(9):
    ...         _ = times(1.0, "a" * n)
    Traceback (most recent call last):
    chainrule.errors.RetraceWarning: ...
    """


class StateError(ChainruleError, ValueError):
    """A saved state does not fit the object that it is loaded into.

    >>> import chainrule as cr
    >>> cr.nn.Linear(2, 3).load_state_dict({})
    Traceback (most recent call last):
    chainrule.errors.StateError: [Linear.load_state_dict] ...
    """


class DataError(ChainruleError, ValueError):
    """A file or folder given as data cannot be used; the message names it.

    >>> import chainrule as cr
    >>> cr.data.load_idx("no-such-file.gz")
    Traceback (most recent call last):
    chainrule.errors.DataError: [load_idx] ...
    """


class RunError(ChainruleError, ValueError):
    """A run folder is missing, damaged, or belongs to another model.

    >>> from chainrule.train import RunFolder
    >>> RunFolder("no-such-run").read_config("images")
    Traceback (most recent call last):
    chainrule.errors.RunError: [run] ...
    """
