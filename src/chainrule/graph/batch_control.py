"""Batching rules of control flow, and of gradient rules of the user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..autodiff.trees import flatten, unflatten
from ..primitives.batching import Examples, spread
from ..registry import F
from ..tensor.tensor import Tensor
from .batching import apply_batched, carried, frozen, reached, replay_batched
from .control import cond, scan, while_loop
from .ir import Graph


def _swapped(xs: Sequence[Tensor], batched: Sequence[bool]) -> list[Tensor]:
    """Exchange the axes of examples and of slices."""
    return [F.swapaxes(x, 0, 1) if has else x for x, has in zip(xs, batched, strict=True)]


def _to(axis: Examples, wanted: Sequence[bool], found: tuple[list[Tensor], list[bool]]) -> list[Tensor]:
    """Results with the axis of examples where it is wanted."""
    each = zip(*found, wanted, strict=True)
    return [spread(axis, [has], [x])[0] if want else x for x, has, want in each]


def batched_scan(
    axis: Examples, batched: Sequence[bool], inputs: Sequence[Tensor], *, body: Graph, n_consts: int, n_carry: int,
    length: int, reverse: bool, keep: int,
) -> tuple[Tensor, ...]:  # fmt: skip
    """One loop for all examples. Parts of the carry that are the same for all stay so."""
    n = n_consts + n_carry
    own_consts, own_xs = list(batched[:n_consts]), list(batched[n:])
    own_carry = carried(body, own_consts, list(batched[n_consts:n]), own_xs, axis)
    flags = [*own_consts, *own_carry, *own_xs]
    own_results = [*own_carry, *reached(body, flags, axis)[n_carry:]]
    start = _to(axis, own_carry, (list(inputs[n_consts:n]), list(batched[n_consts:n])))

    def step(carry: Any, slices: Any) -> Any:
        results = _to(axis, own_results, replay_batched(body, [*inputs[:n_consts], *carry, *slices], flags, axis))
        return results[:n_carry], results[n_carry:]

    carry, ys = scan(step, start, _swapped(inputs[n:], own_xs), length=length, reverse=reverse)
    return (*carry, *_swapped(ys, own_results[n_carry:]))


def batched_cond(
    axis: Examples, batched: Sequence[bool], inputs: Sequence[Tensor], *, branches: tuple[Graph, Graph]
) -> tuple[Tensor, ...]:
    """A branch for all examples, or both of them, if the predicate differs between examples.

    In the latter case each branch is kept from failing for examples that have not taken it, and what it passes back for
    them is zero.
    """
    predicate, *operands = inputs
    flags = batched[1:]
    own = [a or b for a, b in zip(*(reached(branch, flags, axis) for branch in branches), strict=True)]
    if not batched[0]:

        def taken(branch: Graph) -> Callable[..., list[Tensor]]:
            return lambda *given: _to(axis, own, replay_batched(branch, given, flags, axis))

        return tuple(cond(predicate, taken(branches[0]), taken(branches[1]), *operands))
    everyone = [True] * len(own)
    results = []
    for branch, mask in zip(branches, (predicate, F.logical_not(predicate)), strict=True):
        inside = replace(axis, mask=mask if axis.mask is None else axis.mask & mask)
        results.append(_to(axis, everyone, replay_batched(branch, operands, flags, inside)))
    return tuple(_chosen(predicate, a, b) for a, b in zip(*results, strict=True))


def _chosen(mask: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return F.where(F.reshape(mask, (*mask.shape, *(1,) * (x.ndim - 1))), x, y)


def batched_while(
    axis: Examples, batched: Sequence[bool], inputs: Sequence[Tensor], *, test: Graph, body: Graph, n_test: int,
    n_body: int,
) -> tuple[Tensor, ...]:  # fmt: skip
    """One loop for all examples, which goes on until it has ended for each; what belongs to those that ended stays."""
    n = n_test + n_body
    static = {"test": test, "body": body, "n_test": n_test, "n_body": n_body}
    own, stops = frozen(static, batched, axis)
    start = _to(axis, own, (list(inputs[n:]), list(batched[n:])))
    tests, consts = list(inputs[:n_test]), list(inputs[n_test:n])
    test_flags, body_flags = [*batched[:n_test], *own], [*batched[n_test:n], *own]

    def holds(carry: Any) -> Tensor:
        return replay_batched(test, [*tests, *carry], test_flags, axis)[0][0]

    def step(carry: Any, among: Examples) -> list[Tensor]:
        return _to(among, own, replay_batched(body, [*consts, *carry], body_flags, among))

    if not reached(test, test_flags, axis)[0]:
        return tuple(while_loop(holds, lambda carry: step(carry, axis), start))

    def go_on(carried: Any) -> Any:
        going, carry = carried
        inside = replace(axis, mask=going if axis.mask is None else axis.mask & going)
        after = step(carry, inside)
        after = [_chosen(going, a, b) if stop else a for a, b, stop in zip(after, carry, stops, strict=True)]
        return holds(after) & going, after

    begins = holds(start)
    if axis.mask is not None:  # who has not come here does not go on
        begins = begins & axis.mask
    return tuple(while_loop(lambda carried: F.any(carried[0]), go_on, (begins, start))[1])


# --- of the user ------------------------------------------------------------------------------------------------------


def batched_custom(
    apply: Any, axis: Examples, batched: Sequence[bool], inputs: Sequence[Tensor], *, counts: tuple[int, int], rule: Any
) -> tuple[Tensor, ...]:
    """The results of a function, under its gradient rule for all examples."""
    n, m = counts
    results = spread(axis, batched[:n], inputs[:n])
    return apply(*results, *inputs[n:], counts=counts, rule=_rule_of_all(axis, batched, n, m, rule))


def _rule_of_all(axis: Examples, batched: Sequence[bool], n: int, m: int, rule: Any) -> Any:
    """A gradient rule for one example, ``rule(cotangents, residuals, inputs)``, as one for all examples.

    Args:
        axis: the examples.
        batched: which of ``n`` results, ``m`` residuals and the arguments have the axis of examples.
        n, m: how many results and residuals there are.
        rule: gives a cotangent, or None, for each argument.
    """

    def of_all(cts: Sequence[Tensor], saved: Sequence[Tensor], arguments: Sequence[Tensor]) -> list[Tensor | None]:
        given = [*cts, *saved, *arguments]
        flags = [True] * n + list(batched[n:])
        moving = [x for x, has in zip(given, flags, strict=True) if has]

        def one(*examples: Tensor) -> Any:
            own = iter(examples)
            full = [next(own) if has else x for x, has in zip(given, flags, strict=True)]
            return list(rule(full[:n], full[n : n + m], full[n + m :]))

        found = apply_batched("custom_vjp", one, moving, flatten(tuple(moving))[1], axis)
        grads = []
        for x, has, want in zip(*_each(found), batched[n + m :], strict=True):
            if x is not None and want:
                (x,) = spread(axis, [has], [x])
            elif x is not None:
                x = F.sum(x, axis=0) if has else x * axis.size
            grads.append(x)
        return grads

    return of_all


def _each(found: Any) -> tuple[list[Any], list[bool]]:
    """The cotangents of all arguments, None where there is none, and which have the axis of examples."""
    pairs = unflatten(found.structure, list(zip(found.leaves, found.batched, strict=True)))
    each = [(None, False) if pair is None else pair for pair in pairs]
    return [x for x, _ in each], [has for _, has in each]
