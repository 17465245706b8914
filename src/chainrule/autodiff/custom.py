"""Gradients that the user gives or delays: `custom_vjp`, `checkpoint` and `callback`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import ArgumentError, GradientError, ShapeError, StaleValueError
from ..graph.ir import TensorType, Value
from ..primitives.base import Array, primitive
from ..registry import F
from ..tensor.bind import next_number
from ..tensor.cells import Cell, Snapshot
from ..tensor.state import NEVER, deeper, fleeting, recording, standing_in, state
from ..tensor.tensor import Edge, Tensor
from .tape import check_cotangent, pull
from .trees import flatten, leaves_like, unflatten


class Call:
    """The rule of an edge that stands for a whole call of a function."""

    partial = False
    linear: tuple[int, ...] = ()
    multilinear: tuple[int, ...] = ()
    elementwise = False
    jvp = None

    def __init__(self, name: str, rule: Callable[[Sequence[Tensor]], Sequence[Tensor | None]]) -> None:
        self.name = name
        self.rule = rule

    def pullback(self, ct: Any, out: Any, inputs: Any, wanted: Any, static: Any) -> list[Tensor | None]:
        """Apply the rule."""
        return list(self.rule(ct))


def record(call: Call, inputs: tuple[Tensor, ...], outputs: list[Tensor], level: int) -> list[Tensor]:
    """Return the outputs as recorded: made by ``call`` from the inputs, at a level."""
    edge = Edge(call, inputs, {}, tuple(o.value for o in outputs), next_number(), several=True)
    return [
        Tensor(o.value, edge, i, level) if o.dtype in dtypes.INEXACT else Tensor(o.value) for i, o in enumerate(outputs)
    ]


class custom_vjp:
    """A function with a gradient rule of its own.

    Args:
        f: the function.
        forward: ``forward(*args)`` returns ``(f(*args), residuals)``.
        backward: ``backward(residuals, cotangent)`` returns a cotangent for each argument (None for zero).

    As a decorator it takes the rules later: ``f.defvjp(forward, backward)``.

    >>> clip_gradient = custom_vjp(
    ...     lambda x: x, lambda x: (x, None), lambda _, ct: (ct.clip(-1.0, 1.0),)
    ... )
    >>> grad(lambda x: 5 * clip_gradient(x))(3.0)
    tensor(1.)
    """

    def __init__(
        self,
        f: Callable[..., Any],
        forward: Callable[..., Any] | None = None,
        backward: Callable[..., Any] | None = None,
    ) -> None:
        functools.update_wrapper(self, f, updated=())
        self._f = f
        self._forward = forward
        self._backward = backward

    def defvjp(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        """Set the rules."""
        self._forward = forward
        self._backward = backward

    def __call__(self, *args: Any) -> Any:
        """Apply the function, with its rule if anything is recorded."""
        forward, backward = self._forward, self._backward
        if forward is None or backward is None:
            raise GradientError("custom_vjp", "the rules are missing", fix="call f.defvjp(forward, backward)")
        leaves, structure = flatten(args)
        inputs = tuple(F.asarray(leaf) for leaf in leaves)
        level = min((t.level for t in inputs), default=NEVER)
        traced = state.threshold > 0 and any(isinstance(t.value, Value) for t in inputs)
        if level >= state.threshold and not traced:
            return self._f(*unflatten(structure, inputs))
        out, residuals = forward(*unflatten(structure, inputs))
        out_leaves, out_structure = flatten(out)
        outputs = [F.asarray(leaf) for leaf in out_leaves]
        kept, kept_structure = flatten(residuals)
        places = [i for i, leaf in enumerate(kept) if isinstance(leaf, Tensor)]

        def rule(cts: Sequence[Tensor], saved: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor | None]:
            leaves = list(kept)
            for i, tensor in zip(places, saved, strict=True):
                leaves[i] = tensor
            found = backward(unflatten(kept_structure, leaves), unflatten(out_structure, cts))
            return self._cotangents(found, structure, inputs, len(args))

        saved = [F.asarray(kept[i]) for i in places]
        if traced:
            counts = (len(outputs), len(saved))
            return unflatten(out_structure, _ruled(*outputs, *saved, *inputs, counts=counts, rule=rule))
        call = Call(getattr(self._f, "__name__", "custom_vjp"), lambda cts: rule(cts, saved, inputs))
        return unflatten(out_structure, record(call, inputs, outputs, level))

    def _cotangents(self, found: Any, structure: Any, inputs: Sequence[Tensor], n: int) -> list[Tensor | None]:
        found = found if isinstance(found, tuple) else (found,)
        if len(found) != n:
            raise ArgumentError(
                "custom_vjp",
                f"the backward rule of {getattr(self._f, '__name__', 'f')} must return a cotangent for each argument",
                received=f"{len(found)} for {n} arguments",
            )
        grads: list[Tensor | None] = []
        for child, part in zip(structure.children(), found, strict=True):
            given = [None] * child.num_leaves if part is None else leaves_like("custom_vjp", child, part)
            grads.extend(given)
        return [None if g is None else check_cotangent("custom_vjp", g, x) for g, x in zip(grads, inputs, strict=True)]


def _ruled_vjp(ct: Any, out: Any, *inputs: Any, counts: tuple[int, int], rule: Any) -> Any:
    n, m = counts
    return (*(None,) * (n + m), *rule(ct, inputs[n : n + m], inputs[n + m :]))


def _ruled_batching(apply: Any, examples: Any, batched: Any, *inputs: Any, **static: Any) -> tuple[Tensor, ...]:
    return F.batched_custom(apply, examples, batched, inputs, **static)


@primitive(
    lambda *inputs, counts, rule: tuple(TensorType(x.shape, x.dtype) for x in inputs[: counts[0]]),
    name="custom_vjp",
    vjp=_ruled_vjp,
    batching=_ruled_batching,
    lowering="layout",
)
def _ruled(*inputs: Array, counts: tuple[int, int], rule: Any) -> tuple[Array, ...]:
    """The first inputs, results that a traced function has computed, under the gradient rule of the user.

    Inputs are the results, the residuals and the arguments; cotangents go to the arguments alone.
    """
    return inputs[: counts[0]]


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``f`` with nothing kept for the backward phase; see `chainrule.graph.checkpointing.checkpoint`."""

    @functools.wraps(f)
    def wrapped(*args: Any) -> Any:
        leaves, structure = flatten(args)
        inputs = [F.asarray(leaf) if F.is_operand(leaf) else leaf for leaf in leaves]
        with _Region() as region, recording(NEVER), fleeting():
            out = f(*unflatten(structure, inputs))
        out_leaves, out_structure = flatten(out)
        outputs = [F.asarray(leaf) for leaf in out_leaves]
        edge_inputs = region.sources(outputs)
        level = min((t.level for t in edge_inputs), default=NEVER)
        if level >= state.threshold:
            return unflatten(out_structure, [Tensor(o.value) for o in outputs])

        def rule(cts: Sequence[Tensor]) -> list[Tensor | None]:
            return _replay(f, structure, inputs, edge_inputs, region.overrides | region.entry, cts)

        name = f"checkpoint({getattr(f, '__name__', 'f')})"
        made = record(Call(name, rule), edge_inputs, outputs, level)
        return unflatten(out_structure, made)

    return wrapped


class _Region:
    """A stretch of recording whose tape is thrown away, after the tensors that it started from are found.

    ``entry`` collects the value with which each cell that is not trainable was first read, so that the second run
    draws the same random numbers.
    """

    def __init__(self) -> None:
        self.entry: dict[Cell, Tensor] = {}
        self.overrides = dict(state.overrides)

    def __enter__(self) -> _Region:
        self.first = next_number()
        state.watching.append(self.entry)
        return self

    def __exit__(self, *exc: Any) -> None:
        state.watching.pop()

    def sources(self, outputs: list[Tensor]) -> tuple[Tensor, ...]:
        """The recorded tensors from outside on which the outputs depend, in the order in which they were met."""
        sources: dict[int, Tensor] = {}
        seen: set[Edge] = set()
        pending = list(outputs)
        while pending:
            tensor = pending.pop()
            if tensor.level >= NEVER:
                continue
            if tensor.edge is None or tensor.edge.number < self.first:
                sources.setdefault(id(tensor), tensor)
            elif tensor.edge not in seen:
                seen.add(tensor.edge)
                pending.extend(tensor.edge.inputs)
        return tuple(sources.values())


@contextmanager
def again() -> Iterator[None]:
    """Mark what is traced within as a second computation, which the compiler must not merge with the first."""
    begun = [(trace.graph, len(trace.graph.nodes)) for trace in state.traces]
    yield
    region = next_number()  # not 0: the first computation took numbers before
    for graph, n in begun:
        for node in graph.nodes[n:]:
            node.region = node.region or region


def refuse_stale(sources: Sequence[Tensor]) -> None:
    """Raise `StaleValueError` if a parameter that a checkpointed function read was assigned since."""
    if any(isinstance(t, Snapshot) and t.stale and t.level < NEVER for t in sources):
        raise StaleValueError(
            "backward",
            "a parameter was assigned since the checkpointed function ran",
            fix="call backward() before optimizer.step() or assign()",
        )


def _replay(
    f: Callable[..., Any],
    structure: Any,
    inputs: list[Any],
    sources: tuple[Tensor, ...],
    entry: dict[Cell, Tensor],
    cts: Sequence[Tensor],
) -> list[Tensor | None]:
    """Run ``f`` again from the values at its entry, recorded, and go backward through it to ``sources``."""
    targets = {id(t) for t in sources}
    refuse_stale(sources)
    with deeper(), standing_in(entry), again():
        outputs = [F.asarray(leaf) for leaf in flatten(f(*unflatten(structure, inputs)))[0]]
    smooth = [(o, ct) for o, ct in zip(outputs, cts, strict=True) if o.dtype in dtypes.INEXACT]
    reached = pull([o for o, _ in smooth], [ct for _, ct in smooth], lambda t: id(t) in targets)
    return [reached[id(t)][1] if id(t) in reached else None for t in sources]


# --- functions of the host -----------------------------------------------------------------------------------


def _callback_types(*inputs: Any, function: Any, vjp: Any, result: Any) -> Any:
    return result


def _callback_vjp(ct: Any, out: Any, *inputs: Any, function: Any, vjp: Any, result: Any) -> Any:
    if vjp is None:
        raise GradientError(
            "callback", "the function has no gradient", fix="pass vjp=..., or cut it off with cr.stop_gradient"
        )
    types = tuple(TensorType(x.shape, x.dtype) for x in inputs)
    return _callback(ct, *inputs, function=vjp, vjp=None, result=types)


def _callback_reference(*inputs: Array, function: Any, vjp: Any, result: Any) -> Any:
    found = function(*inputs)
    several = isinstance(result, tuple) and not isinstance(result, TensorType)
    found = found if isinstance(found, tuple) else (found,)
    types = result if several else (result,)
    arrays = [np.asarray(f) for f in found]
    for array, t in zip(arrays, types, strict=True):
        if array.shape != t.shape:
            raise ShapeError("callback", f"promised shape {t.shape}", received=f"an array of shape {array.shape}")
    return tuple(arrays) if several else arrays[0]


def _callback_batching(
    apply: Any, examples: Any, batched: Any, *inputs: Any, function: Any, vjp: Any, result: Any
) -> Any:
    types = [result] if isinstance(result, TensorType) else list(result)
    stacked = [TensorType((examples.size, *t.shape), t.dtype) for t in types]

    def back(ct: Array, *arrays: Array) -> tuple[Array, ...]:
        grads = _for_each(vjp, (True, *batched), ct, *arrays)
        return tuple(g if has else g.sum(axis=0) for g, has in zip(grads, batched, strict=True))

    return apply(
        *inputs,
        function=functools.partial(_for_each, function, tuple(batched)),
        vjp=None if vjp is None else back,
        result=stacked[0] if isinstance(result, TensorType) else tuple(stacked),
    )


def _for_each(function: Any, batched: Sequence[bool], *arrays: Array) -> tuple[Array, ...]:
    """Call a function of one example for each, and stack its results."""
    size = next(len(x) for x, has in zip(arrays, batched, strict=True) if has)
    rows = [function(*(x[i] if has else x for x, has in zip(arrays, batched, strict=True))) for i in range(size)]
    each = [row if isinstance(row, tuple) else (row,) for row in rows]
    return tuple(np.stack([np.asarray(x) for x in column]) for column in zip(*each, strict=True))


_callback = primitive(
    _callback_types, name="callback", vjp=_callback_vjp, batching=_callback_batching, lowering="host"
)(_callback_reference)


def callback(
    function: Callable[..., Any],
    shape: tuple[int, ...],
    dtype: Any,
    *args: Any,
    vjp: Callable[..., Any] | None = None,
) -> Tensor:
    """Call a NumPy function of the host, in eager and in traced code alike.

    Args:
        function: takes NumPy arrays, returns one of ``shape`` and ``dtype``; it must be pure.
        shape: shape of the result.
        dtype: dtype of the result.
        *args: tensors to call it with.
        vjp: ``vjp(ct, *arrays)`` in NumPy, returns an array for each argument: the gradient.

    Raises:
        GradientError: a gradient through it is asked for and there is no ``vjp``.
        ShapeError: the function returned something else than promised.

    >>> import numpy as np
    >>> f = lambda x: callback(np.cbrt, (), "float32", x, vjp=lambda ct, x: (ct / (3 * np.cbrt(x) ** 2),))
    >>> f(tensor(8.0)), grad(f)(8.0)
    (tensor(2.), tensor(0.0833...))
    """
    result = TensorType(tuple(shape), F.as_dtype(dtype))
    return _callback(*(F.asarray(a) for a in args), function=function, vjp=vjp, result=result)
