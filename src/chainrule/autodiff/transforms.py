"""Functions of functions: gradients, products with Jacobians, and switches of recording.

All take and return nested containers and modules, and can be applied to each other, to any order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from .. import dtypes
from ..errors import ArgumentError, GradientError
from ..registry import F
from ..tensor.state import deeper, recording, standing_in, state
from ..tensor.tensor import Edge, Tensor
from .forward import push
from .tape import check_cotangent, needed_edges, or_zeros, pull, zeros_of
from .trees import Argument, flatten, leaves_like, tree_map, unflatten

Argnums = int | Sequence[int]


def _normalize(operation: str, argnums: Argnums, args: tuple[Any, ...]) -> tuple[int, ...]:
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for n in numbers:
        if not -len(args) <= n < len(args):
            raise ArgumentError(
                operation, "there is no such positional argument", received=f"argnums={n} of {len(args)}"
            )
    normal = tuple(n % len(args) for n in numbers)
    if len(set(normal)) != len(normal):
        raise ArgumentError(operation, "an argument is named twice", received=f"argnums={argnums}")
    return normal


def _leave(tensor: Any, level: int) -> Any:
    """Detach what is recorded only for the transform at ``level``, which is ending."""
    if isinstance(tensor, Tensor) and tensor.level >= min(level, state.threshold):
        return Tensor(tensor.value)
    return tensor


def _outputs(operation: str, out: Any) -> tuple[list[Tensor], Any]:
    leaves, structure = flatten(out)
    return [F.asarray(leaf) for leaf in leaves], structure


class _Recorded:
    """A call of a function, recorded with respect to some of its arguments."""

    def __init__(
        self, operation: str, f: Callable[..., Any], argnums: Argnums, args: tuple, kwargs: dict, has_aux: bool
    ) -> None:
        self.operation = operation
        self.single = isinstance(argnums, int)
        numbers = _normalize(operation, argnums, args)
        with deeper() as level, ExitStack() as stack:
            self.level = level
            self.arguments = [Argument(operation, args[n], level) for n in numbers]
            overrides = {cell: t for a in self.arguments for cell, t in a.overrides.items()}
            if overrides:
                stack.enter_context(standing_in(overrides))
            called = list(args)
            for n, argument in zip(numbers, self.arguments, strict=True):
                called[n] = argument.value
            out = f(*called, **kwargs)
        self.aux = None
        if has_aux:
            if not isinstance(out, tuple) or len(out) != 2:
                raise ArgumentError(operation, "with has_aux=True the function returns a pair (result, aux)")
            out, aux = out
            self.aux = tree_map(lambda leaf: _leave(leaf, self.level), aux)
        self.leaves = [leaf for a in self.arguments for leaf in a.leaves]
        self._targets = {id(leaf) for leaf in self.leaves}
        self.outputs, self.structure = _outputs(operation, out)

    def is_target(self, tensor: Tensor) -> bool:
        return id(tensor) in self._targets

    @functools.cached_property
    def edges(self) -> list[Edge]:
        """The edges between leaves and results, oldest first: found once, however often they are gone along."""
        return needed_edges(self.outputs, self.is_target)

    @property
    def result(self) -> Any:
        return unflatten(self.structure, [_leave(t, self.level) for t in self.outputs])

    def pull(self, cotangents: Sequence[Tensor]) -> list[Tensor]:
        """Cotangents of all leaves; zero where the result does not depend on one."""
        smooth = [(o, ct) for o, ct in zip(self.outputs, cotangents, strict=True) if o.dtype in dtypes.INEXACT]
        # Within a later transform, which may have the same level, record all that depends on the cotangents.
        later = state.depth >= self.level
        with recording(state.threshold if later else min(self.level, state.threshold)):
            reached = pull([o for o, _ in smooth], [ct for _, ct in smooth], self.is_target, self.edges)
        zero = [reached[id(x)][1] if id(x) in reached else zeros_of(x) for x in self.leaves]
        return zero if later else [_leave(t, self.level) for t in zero]

    def rebuild(self, tensors: Sequence[Tensor]) -> Any:
        """Put one tensor per leaf into the structure of the arguments."""
        remaining = iter(tensors)
        parts = tuple(a.rebuild(remaining) for a in self.arguments)
        return parts[0] if self.single else parts


def value_and_grad(f: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """Return a function that gives ``f(*args)`` and its gradient.

    Args:
        f: a function whose result (or the first of a pair, if ``has_aux``) is a scalar.
        argnums: the positional arguments to differentiate by; a tuple gives a tuple of gradients.
        has_aux: ``f`` returns ``(loss, aux)``, and then so does the result: ``((loss, aux), gradient)``.

    Returns:
        a function of the same arguments. An argument may be nested containers of tensors, or a module: its gradient is
        a nested dict with one entry for each trainable parameter.

    Raises:
        GradientError: the result is not a scalar.
        DTypeError: an argument to differentiate by is of whole numbers.

    >>> value_and_grad(lambda x: (x**2).sum())(tensor([1.0, 2.0]))
    (tensor(5.), tensor([2., 4.]))
    """

    @functools.wraps(f)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        call = _Recorded("grad", f, argnums, args, kwargs, has_aux)
        if len(call.outputs) != 1 or call.outputs[0].shape != () or call.outputs[0].dtype not in dtypes.FLOATING:
            shapes = ", ".join(f"{o.dtype.name}{o.shape}" for o in call.outputs)
            raise GradientError(
                "grad",
                "the function must return one real scalar",
                received=shapes,
                fix="reduce it with .mean() or .sum(); cr.jacobian differentiates other results; "
                "has_aux=True lets it return more",
            )
        loss = call.outputs[0]
        grads = call.rebuild(call.pull([F.ones((), dtype=loss.dtype)]))
        value = call.result
        return ((value, call.aux), grads) if has_aux else (value, grads)

    return transformed


def grad(f: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """Return a function that gives the gradient of ``f``; see `value_and_grad`.

    >>> grad(lambda x: x**3)(2.0), grad(grad(lambda x: x**3))(2.0)
    (tensor(12.), tensor(12.))
    """
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        value, grads = both(*args, **kwargs)
        return (grads, value[1]) if has_aux else grads

    return transformed


def vjp(f: Callable[..., Any], *args: Any, has_aux: bool = False) -> Any:
    """Return ``f(*args)`` and the function that takes a cotangent of it to cotangents of ``args``.

    For ``y = f(x)`` with Jacobian ``J`` the function gives ``ct -> J^T ct``, a tuple with an entry for each argument.

    >>> y, pullback = vjp(sin, tensor([0.0, 1.0]))
    >>> pullback(tensor([1.0, 1.0]))
    (tensor([1.       , 0.5403023]),)
    """
    call = _Recorded("vjp", f, tuple(range(len(args))), args, {}, has_aux)

    def pullback(cotangent: Any) -> Any:
        given = leaves_like("vjp", call.structure, cotangent)
        cts = [check_cotangent("vjp", ct, o) for ct, o in zip(given, call.outputs, strict=True)]
        return call.rebuild(call.pull(cts))

    return (call.result, pullback, call.aux) if has_aux else (call.result, pullback)


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Return ``f(*primals)`` and its derivative in the direction ``tangents``, ``J t``.

    Args:
        f: the function.
        primals: its arguments.
        tangents: for each argument a direction of the same structure and shapes.

    >>> jvp(lambda x: x**2, (tensor([1.0, 3.0]),), (tensor([1.0, 0.5]),))
    (tensor([1., 9.]), tensor([2., 3.]))
    """
    primals, tangents = tuple(primals), tuple(tangents)
    if len(primals) != len(tangents):
        raise ArgumentError("jvp", f"needs as many tangents as primals, {len(primals)}", received=str(len(tangents)))
    call = _Recorded("jvp", f, tuple(range(len(primals))), primals, {}, False)
    directions = [t for a, t in zip(call.arguments, tangents, strict=True) for t in a.read("jvp", t)]
    checked = [check_cotangent("jvp", t, x) for t, x in zip(directions, call.leaves, strict=True)]
    with recording(min(call.level, state.threshold)):
        start = {id(x): t for x, t in zip(call.leaves, checked, strict=True)}
        found = push(call.edges, start, call.outputs)
    moved = [_leave(or_zeros(t, o), call.level) for t, o in zip(found, call.outputs, strict=True)]
    return call.result, unflatten(call.structure, moved)


def hvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """Return the product of the Hessian of a scalar function with a vector, at the cost of a few gradients.

    Forward mode over the backward phase: Pearlmutter, "Fast exact multiplication by the Hessian" (1994).

    Returns:
        as `grad` by the one argument, or a tuple for several.

    >>> hvp(lambda x: (x**3).sum(), (tensor([1.0, 2.0]),), (tensor([1.0, 0.0]),))
    tensor([6., 0.])
    """
    argnums = 0 if len(primals) == 1 else tuple(range(len(primals)))
    return jvp(grad(f, argnums), primals, tangents)[1]


def jacobian(f: Callable[..., Any], argnums: Argnums = 0, mode: str = "auto") -> Callable[..., Any]:
    """Return a function that gives the Jacobian of ``f``.

    Args:
        f: a function of tensors.
        argnums: the positional arguments to differentiate by.
        mode: "reverse" goes backward from all elements of the result, "forward" goes forward from all elements of the
            arguments, by `vmap`; "auto" takes the one with fewer of them.

    Returns:
        a function of the same arguments that gives, for each leaf of the result and each of the arguments, a tensor of
        shape ``result.shape + argument.shape``.

    >>> jacobian(lambda x: x**2)(tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if mode not in ("auto", "forward", "reverse"):
        raise ArgumentError("jacobian", "mode is 'auto', 'forward' or 'reverse'", received=repr(mode))

    @functools.wraps(f)
    def transformed(*args: Any, **kwargs: Any) -> Any:
        call = _Recorded("jacobian", f, argnums, args, kwargs, False)
        n_in, n_out = sum(x.size for x in call.leaves), sum(o.size for o in call.outputs)
        reverse = mode == "reverse" or (mode == "auto" and n_out <= n_in)
        blocks = _rows(call) if reverse else _columns(call)
        return unflatten(call.structure, [call.rebuild(row) for row in blocks])

    return transformed


def _units(x: Tensor) -> Tensor:
    """For each element of ``x`` a tensor of its shape that is 1 there and 0 elsewhere, along a new first axis."""
    every = F.arange(x.size)
    return F.reshape(F.astype(F.equal(F.expand_dims(every, 1), every), x.dtype), (x.size, *x.shape))


def _rows(call: _Recorded) -> list[list[Tensor]]:
    """A block for each output and each leaf, by going backward from all elements of each output at once."""
    blocks = []
    for number, out in enumerate(call.outputs):

        def back(unit: Tensor, number: int = number) -> list[Tensor]:
            return call.pull([unit if i == number else zeros_of(o) for i, o in enumerate(call.outputs)])

        with recording(min(call.level, state.threshold)):
            pulled = F.vmap(back)(_units(out))
        blocks.append(
            [_block(p, out, x, call.level) for p, x in zip(pulled, call.leaves, strict=True)],
        )
    return blocks


def _columns(call: _Recorded) -> list[list[Tensor]]:
    """A block for each output and each leaf, by going forward from all elements of each leaf at once."""
    columns = []
    for x in call.leaves:

        def along(unit: Tensor, x: Tensor = x) -> list[Tensor]:
            found = push(call.edges, {id(x): unit}, call.outputs)
            return [or_zeros(t, o) for t, o in zip(found, call.outputs, strict=True)]

        with recording(min(call.level, state.threshold)):
            columns.append(F.vmap(along, out_axes=-1)(_units(x)))
    return [
        [_block(columns[j][i], o, x, call.level) for j, x in enumerate(call.leaves)] for i, o in enumerate(call.outputs)
    ]


def _block(found: Tensor, out: Tensor, x: Tensor, level: int) -> Tensor:
    return _leave(F.reshape(found, (*out.shape, *x.shape)), level)


def jacrev(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """Jacobian in reverse mode; see `jacobian`.

    >>> jacrev(lambda x: x**2)(tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    return jacobian(f, argnums, mode="reverse")


def jacfwd(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """Jacobian in forward mode; see `jacobian`.

    >>> jacfwd(lambda t: t * tensor([1.0, 2.0]))(tensor(3.0))
    tensor([1., 2.])
    """
    return jacobian(f, argnums, mode="forward")


def hessian(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """Return a function that gives the matrix of second derivatives of a scalar function.

    >>> hessian(lambda x: x[0] ** 2 * x[1])(tensor([1.0, 2.0]))
    tensor([[4., 2.],
            [2., 0.]])
    """
    return jacobian(grad(f, argnums), argnums)


def stop_gradient(x: Any) -> Any:
    """Return the tensors of nested containers with the same values, cut off from what they depend on.

    >>> grad(lambda x: x * stop_gradient(x))(3.0)
    tensor(3.)
    """
    return tree_map(lambda leaf: F.asarray(leaf).detach(), x)


@contextmanager
def no_grad() -> Iterator[None]:
    """Within this context, or a function decorated with it, nothing is recorded.

    >>> x = tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     (x * 2).requires_grad
    False
    """
    with recording(0):
        yield


@contextmanager
def enable_grad() -> Iterator[None]:
    """Record again, within `no_grad`.

    >>> x = tensor([1.0], requires_grad=True)
    >>> with no_grad(), enable_grad():
    ...     (x * 2).requires_grad
    True
    """
    from ..tensor.state import NEVER

    with recording(NEVER):
        yield


def requires_grad(x: Any) -> Any:
    """Return the tensors of nested containers as leaves whose ``.grad`` `backward` fills.

    >>> requires_grad(tensor([1.0])).requires_grad
    True
    """
    return tree_map(lambda leaf: F.tensor(leaf, requires_grad=True), x)
