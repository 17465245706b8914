"""`compile`: a Python function as programs, one for each kind of call."""

from __future__ import annotations

import functools
import gc
import inspect
import logging
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, overload

import numpy as np

from ..autodiff.trees import unflatten
from ..errors import ArgumentError, RetraceWarning
from ..tensor.state import NEVER, state
from ..tensor.tensor import Tensor
from ..tensor.weak import VARYING
from .capture import Captured, capture
from .guards import Guards, guards_of
from .interface import BackEnd, Program
from .keys import Call, describe_change
from .variant import Variant

_log = logging.getLogger("chainrule.compile")
_MANY = 8  # programs of one function, from which on there is a warning


def default_back_end() -> BackEnd:
    """The back end of `compile`, loaded at the first compilation."""
    from .program import Program as NativeProgram

    return NativeProgram


@overload
def compile(
    function: Callable[..., Any],
    /,
    *,
    keep_grads: bool = ...,
    memory_budget: int | None = ...,
    name: str | None = ...,
) -> Compiled: ...


@overload
def compile(
    *, keep_grads: bool = ..., memory_budget: int | None = ..., name: str | None = ...
) -> Callable[[Callable[..., Any]], Compiled]: ...


def compile(
    function: Callable[..., Any] | None = None,
    /,
    *,
    keep_grads: bool = False,
    memory_budget: int | None = None,
    name: str | None = None,
) -> Any:
    """Compile a function: the first call traces it to a graph, and makes one native program of all that it does.

    Parameters and other cells that the function reads or assigns are inputs and outputs of the program; so
    ``zero_grad``, ``backward``, ``step``, running statistics and random numbers stand in the function as they are, and
    removing the decorator changes no result but by rounding (sums have another order, and convolutions with 3x3 windows
    in float32 take fewer multiplications, by Winograd's tiles). There is one program for each combination of the
    arguments' structure, shapes and dtypes, of training mode and of what is trainable, and of the values of the
    variables and attributes that the function refers to. Python floats vary without a new program; ints too, as long as
    Python does not need their value, for a shape or an ``if``. A new program for new circumstances is logged to
    ``chainrule.compile``.

    Args:
        function: a function or method; NumPy arrays among its arguments become tensors.
        keep_grads: let ``.grad`` of the parameters be there after the call, for the price of writing it to memory.
        memory_budget: bytes that intermediate results may take; beyond that they are computed twice instead of kept.
        name: what it is called in messages; the name of the function if left out.

    Raises:
        TraceError: the function needs the value of a tensor while it is traced, as ``if x > 0`` does, or changes
            Python objects of its surroundings. The message names the line, and what to do.

    >>> w = Parameter(tensor([1.0, 2.0]))
    >>> opt = optim.SGD([w], lr=0.1)
    >>> @compile
    ... def step(x):
    ...     loss = (w * x).sum()
    ...     opt.zero_grad()
    ...     loss.backward()
    ...     opt.step()
    ...     return loss
    >>> step(tensor([1.0, 1.0])), step(tensor([1.0, 1.0]))
    (tensor(3.), tensor(2.8...))
    """
    if function is None:
        return functools.partial(compile, keep_grads=keep_grads, memory_budget=memory_budget, name=name)
    if isinstance(function, Compiled):
        function = function.function
    if not callable(function) or inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        raise ArgumentError(
            "compile",
            "takes a function that returns its result",
            received=type(function).__name__,
            fix="let a function return what a generator yields",
        )
    return Compiled(function, keep_grads=keep_grads, memory_budget=memory_budget, name=name)


class Compiled:
    """A function that runs as native programs; see `compile`.

    Within a transform (`grad`, ...), another compiled function or the body of a loop it runs as the Python function
    that it is made from, and becomes a part of what is made there.

    Attributes:
        function: the Python function.
        programs: the programs made until now, in order.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        keep_grads: bool = False,
        memory_budget: int | None = None,
        name: str | None = None,
        back_end: BackEnd | None = None,
    ) -> None:
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self.name: str = name or str(getattr(function, "__name__", type(function).__name__))
        self.programs: list[Program] = []
        self._options: dict[str, Any] = {
            "keep_grads": keep_grads, "memory_budget": memory_budget, "name": name, "back_end": back_end,
        }  # fmt: skip
        self._variants: dict[Any, list[Variant]] = {}
        self._latest: tuple[Call, Variant] | None = None
        self._made = threading.RLock()
        self._unbound: Compiled | None = None  # for a bound method, what it was bound from

    # --- calling ------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program for these arguments, made now if there is none yet."""
        here = state.__dict__
        if here["traces"] or here["depth"] or here["overrides"] or here["watching"] or here["interpreted"]:
            return self.function(*args, **kwargs)
        key = _flat_key(args, here["threshold"]) if not kwargs else None
        if key is None:
            call = Call(args, kwargs, here["threshold"])
            key, leaves = call.key, tuple(call.leaves)
        else:
            leaves = args
        variants = self._variants.get(key)
        if not variants or not variants[0].accepts(leaves):
            variant = self._other_variant(key, args, kwargs, leaves)
        else:
            variant = variants[0]
        return variant.run(leaves)

    def program_for(self, *args: Any, **kwargs: Any) -> Program:
        """Return the program for these arguments, made if there is none yet, without running it."""
        call = Call(args, kwargs, state.threshold)
        key = _flat_key(args, state.threshold) if not kwargs else None
        return self._other_variant(call.key if key is None else key, args, kwargs, call.leaves).program

    def _other_variant(self, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any], leaves: Sequence[Any]) -> Variant:
        """The variant for a call that the latest one of its key does not accept; it becomes the first of them."""
        with self._made:
            variants = self._variants.setdefault(key, [])
            for variant in variants:
                if variant.accepts(leaves):
                    break
            else:
                with _no_collection():
                    variant = self._make(Call(args, kwargs, state.threshold), variants)
            self._variants[key] = [variant, *(v for v in variants if v is not variant)]
            return variant

    # --- making programs ----------------------------------------------------------------------------------

    def _make(self, call: Call, others: Sequence[Variant]) -> Variant:
        start = time.perf_counter()
        reason = None
        if self._latest is not None:
            reason = describe_change(self.function, self._latest[0], call, others[0] if others else self._latest[1])
        fixed = [leaf for leaf, varies in zip(call.leaves, call.runtime, strict=True) if not varies]
        guards = guards_of(self.function, fixed)
        captured = self._capture(call)
        if guards.refuse_side_effects(self.name):
            guards = guards_of(self.function, fixed)
        guards.complete(captured)
        variant = self._variant(call, captured, guards)
        self.programs.append(variant.program)
        self._latest = call, variant
        self._report(reason, time.perf_counter() - start)
        return variant

    def _capture(self, call: Call) -> Captured:
        def attempt(runtime: Sequence[bool]) -> Captured:
            keep_grads = self._options["keep_grads"]
            return capture(self.function, call.traceable(), runtime, call.structure, self.name, keep_grads)

        try:
            return attempt(call.runtime)
        except Exception:
            # A placeholder of an int cannot stand in everywhere (``isinstance(n, int)``): try with the ints themselves.
            whole = [i for i, leaf in enumerate(call.leaves) if call.runtime[i] and type(leaf) is int]
            if not whole:
                raise
        captured = attempt([varies and i not in whole for i, varies in enumerate(call.runtime)])
        captured.fixed = {i: call.leaves[i] for i in whole}
        return captured

    def _variant(self, call: Call, captured: Captured, guards: Guards) -> Variant:
        back_end = self._options["back_end"] or default_back_end()
        program = back_end(
            captured.graph, captured.inputs, captured.n_results, captured.written, self.name,
            self._options["memory_budget"],
        )  # fmt: skip

        def again(leaves: Sequence[Any]) -> Any:
            args, kwargs = unflatten(call.structure, call.with_tensors(leaves))
            return self.function(*args, **kwargs)

        return Variant(self.name, captured, guards, program, again)

    def _report(self, reason: str | None, seconds: float) -> None:
        if reason is None:
            _log.info("%s: traced and compiled in %.3f s", self.name, seconds)
            return
        _log.info("%s: traced and compiled again in %.3f s, since %s", self.name, seconds, reason)
        if len(self.programs) == _MANY:
            warnings.warn(
                f"{self.name} has been traced {_MANY} times, the last time for {seconds:.2f} s, since {reason}. Fix: "
                "pass what varies as a tensor or a float, keep it in a cell (cr.Cell, assign), and give all batches "
                "one shape, by padding or by dropping the last one",
                RetraceWarning,
                stacklevel=5,
            )

    # --- methods ------------------------------------------------------------------------------------------

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Bind a compiled method: each object has programs of its own, which go when it goes.

        An object without a dictionary of its own, or a class, is an argument like others.
        """
        if instance is None:
            return self
        attributes = getattr(instance, "__dict__", None)
        if not isinstance(attributes, dict):
            return types.MethodType(self, instance)
        key = f"<compiled {id(self):#x}>"
        bound = attributes.get(key)
        if bound is None or bound.function.__self__ is not instance:  # none yet, or that of which it is a copy
            bound = type(self)(types.MethodType(self.function, instance), **self._options)
            bound._unbound = self  # keeps it alive, so that its identity stays its own
            attributes[key] = bound
        return bound

    def __copy__(self) -> Compiled:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Compiled:
        """A copy has no programs; a bound method is bound to the copy of its object."""
        function = self.function
        if isinstance(function, types.MethodType) and id(function.__self__) in memo:
            function = types.MethodType(function.__func__, memo[id(function.__self__)])
        made = type(self)(function, **self._options)
        made._unbound = self._unbound
        return made

    def __reduce__(self) -> NoReturn:
        raise ArgumentError(
            "pickle",
            "a compiled function belongs to its process",
            received=repr(self),
            fix="send the Python function, f.function, and compile it there; weights are saved by cr.save",
        )

    def __repr__(self) -> str:
        return f"<compiled {self.name}, {len(self.programs)} programs>"


@contextmanager
def _no_collection() -> Iterator[None]:
    """A graph is a great many objects that all live: to look for garbage among them doubles the time of making one."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _flat_key(args: tuple[Any, ...], threshold: int) -> tuple[Any, ...] | None:
    """The key of a call whose arguments are arrays and numbers, without unpacking containers; None for others."""
    key: list[Any] = [threshold]
    for argument in args:
        kind = argument.__class__
        if kind is Tensor:
            value = argument.value
            if argument.level < NEVER or value.__class__ is not np.ndarray:
                return None
            key += (value.shape, value.dtype)
        elif kind is np.ndarray:
            key += (argument.shape, argument.dtype)
        elif kind is float or (kind is int and argument in VARYING):
            key.append(kind)
        else:
            return None
    return tuple(key)
