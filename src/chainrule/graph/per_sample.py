"""Gradients of the samples of a batch: all of them, their norms alone, or their sum after clipping.

Norms and clipped sums cost about one backward phase and never hold a gradient for each sample where that can be
avoided. The gradient of one sample is traced. In that of a linear layer's weight there is a product, ``sum over t of
a_t g_t^T``, of what came into the layer and what came back to its result, and its squared norm is

    sum over t, s of  (a_t . a_s) (g_t . g_s),

for a single ``t`` simply ``|a|^2 |g|^2`` (Goodfellow, arXiv 1510.01799; Li, Tramer, Liang, Hashimoto, arXiv
2110.05679). A sum over samples with weights is the same product with the samples as one more axis to sum over.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .. import dtypes
from ..autodiff.transforms import grad, value_and_grad
from ..autodiff.trees import flatten, unflatten
from ..errors import ArgumentError
from ..primitives.batching import Examples, fold, spread
from ..registry import F
from ..tensor.tensor import Tensor
from .batching import assign, examples_of, reached_values, replay_batched, vmap
from .control import scan
from .ir import Node, TensorType, Value
from .tracing import rewired, trace

_AT_ONCE = 1 << 22  # gradients of all samples of at most so many elements are made at once, others one by one
_MOVES = ("permute", "reshape")


class ClippedGradients(NamedTuple):
    """What `clipped_grad_sum` gives.

    Attributes:
        grads: the sum of the clipped gradients, nested as `grad` nests it.
        norms: the norm of the gradient of each sample before clipping.
        losses: the loss of each sample.
    """

    grads: Any
    norms: Tensor
    losses: Tensor


def per_sample_grads(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """Return a function that gives the gradient of each sample: ``vmap(grad(f))`` over all other arguments.

    Args:
        f: ``f(parameters, *sample)`` gives the loss of one sample; parameters are a module, or nested containers.
        argnums: the positional arguments to differentiate by, which are the same for all samples.

    Returns:
        a function ``(parameters, *batch)``, each tensor of the batch with the samples along its first axis; the
        gradients have them likewise, so they take the memory of the parameters once for each sample.

    >>> per_sample_grads(lambda w, x: (w @ x) ** 2)(tensor([1.0, 2.0]), tensor([[1.0, 0.0], [0.0, 1.0]]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    gradient = grad(f, argnums)

    @functools.wraps(f)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        return vmap(gradient, _in_axes(argnums, args))(*args, **kwargs)

    return mapped


def per_sample_grad_norms(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Tensor]:
    """Return a function that gives the Euclidean norm of the gradient of each sample, over all parameters together.

    Args:
        f, argnums: as in `per_sample_grads`.

    Returns:
        a function ``(parameters, *batch)`` whose result has shape (samples,).

    The gradients themselves are not made where their norm can be had without: in products and in gathered rows (an
    embedding). In convolutions they are made one after the other, if all together are large.

    >>> per_sample_grad_norms(lambda w, x: (w @ x) ** 2)(tensor([1.0, 2.0]), tensor([[3.0, 4.0], [0.0, 1.0]]))
    tensor([110.,   4.])
    """

    @functools.wraps(f)
    def measured(*args: Any, **kwargs: Any) -> Tensor:
        return _Backward("per_sample_grad_norms", f, argnums, args, kwargs).norms()

    return measured


def clipped_grad_sum(
    f: Callable[..., Any], max_norm: Any, argnums: int | Sequence[int] = 0, reduction: str = "sum"
) -> Callable[..., ClippedGradients]:
    """Return a function that gives the sum of the gradients of all samples, each clipped to ``max_norm``.

    A gradient ``g`` enters as ``g min(1, max_norm / |g|)``, so that no sample weighs more than that: robust training,
    and with noise added of a standard deviation in proportion to ``max_norm`` differentially private training (Abadi et
    al., "Deep learning with differential privacy", arXiv 1607.00133).

    Args:
        f, argnums: as in `per_sample_grads`.
        max_norm: a number or a scalar tensor.
        reduction: "sum" or "mean" of the clipped gradients.

    Returns:
        a function ``(parameters, *batch)`` that gives `ClippedGradients`: grads, norms, losses.

    >>> clipped = clipped_grad_sum(lambda w, x: (w @ x) ** 2, max_norm=1.0)
    >>> grads, norms, losses = clipped(tensor([1.0, 2.0]), tensor([[1.0, 0.0], [0.0, 0.1]]))
    >>> grads, norms
    (tensor([1.  , 0.04]), tensor([2.  , 0.04]))
    """
    if reduction not in ("sum", "mean"):
        raise ArgumentError("clipped_grad_sum", "reduction is 'sum' or 'mean'", received=repr(reduction))

    @functools.wraps(f)
    def clipped(*args: Any, **kwargs: Any) -> ClippedGradients:
        call = _Backward("clipped_grad_sum", f, argnums, args, kwargs)
        norms = call.norms()
        over = norms > max_norm
        weights = F.where(over, max_norm / F.where(over, norms, 1), F.ones_like(norms))
        if reduction == "mean":
            weights = weights / max(call.examples.size, 1)
        losses, grads = call.weighted_sum(weights)
        return ClippedGradients(grads, norms, losses)

    return clipped


def _in_axes(argnums: int | Sequence[int], args: tuple[Any, ...]) -> tuple[int | None, ...]:
    fixed = {n % len(args) for n in ((argnums,) if isinstance(argnums, int) else argnums)} if args else set()
    return tuple(None if i in fixed else 0 for i in range(len(args)))


@dataclass
class _Term:
    """One of the terms of which the gradient of a parameter is the sum.

    Attributes:
        kind: "dot", "scatter_add", "conv_kernel", or "value" for anything else.
        node: what makes it, unless it is of the last kind.
        sources: what it is made from, for one sample.
        moves: the permutations and reshapes that follow.
    """

    kind: str
    node: Node | None
    sources: tuple[Value, ...]
    moves: tuple[tuple[Any, Mapping[str, Any]], ...]


class _Backward:
    """The gradient of one sample as a graph, and what its terms are made from for all samples."""

    def __init__(
        self, operation: str, f: Callable[..., Any], argnums: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        size, tensors, one = examples_of(value_and_grad(f, argnums), _in_axes(argnums, args), args, kwargs)
        self.examples = Examples(size)
        types = [TensorType(x.shape[1:], x.dtype) for x in tensors]
        traced = trace(one, types, flatten(tuple(tensors))[1], one.__name__)
        self.structure, self.graph = traced.structure, traced.graph
        self.loss, *self.grads = traced.graph.outputs[: traced.n_results]
        self.flags = [True] * len(tensors) + [False] * len(traced.captured)
        self.batched = reached_values(self.graph, self.flags, self.examples)
        outside = dict(zip(traced.graph.inputs[len(tensors) :], traced.captured, strict=True))
        self.terms = {v: self._terms(v, outside) for v in self.grads}
        finals = traced.graph.outputs[traced.n_results :]
        sources = dict.fromkeys(s for terms in self.terms.values() for t in terms for s in t.sources)
        wanted = [self.loss, *sources, *finals]
        found, has = replay_batched(self.graph, [*tensors, *traced.captured], self.flags, self.examples, wanted)
        assign(operation, traced, found[len(found) - len(finals) :], has[len(has) - len(finals) :])
        self.known = dict(zip(wanted, found, strict=True))

    # --- what a gradient is made of -------------------------------------------------------------------------

    def _terms(self, value: Value, outside: Mapping[Value, Tensor], moves: tuple[Any, ...] = ()) -> list[_Term]:
        node = value.node
        name = "" if node is None else node.primitive.name
        if node is not None and name in _MOVES:
            return self._terms(node.inputs[0], outside, ((node.primitive, node.static), *moves))
        if node is not None and name == "add" and all(v.type == value.type for v in node.inputs):
            return [term for v in node.inputs for term in self._terms(v, outside, moves)]
        known = node is not None and (
            name in ("dot", "conv_kernel") or (name == "scatter_add" and _is_zero(outside.get(node.inputs[0])))
        )
        if node is not None and known and self.batched[value] and value.dtype in dtypes.FLOATING:
            return [_Term(name, node, node.inputs, moves)]
        return [_Term("value", None, (value,), moves)]

    def _source(self, value: Value) -> Tensor:
        """What a term is made from, for all samples."""
        return spread(self.examples, [self.batched[value]], [self.known[value]])[0]

    # --- norms ----------------------------------------------------------------------------------------------

    def norms(self) -> Tensor:
        """The norm of the gradient of each sample."""
        squares = [self._square(value, terms) for value, terms in self.terms.items()]
        total = functools.reduce(lambda a, b: a + b, squares)
        return F.sqrt(F.maximum(total, F.zeros_like(total)))

    def _square(self, value: Value, terms: list[_Term]) -> Tensor:
        if all(t.kind == "dot" for t in terms) and len({_form(t) for t in terms}) == 1:
            pairs = [_factors(t.node, *map(self._source, t.sources)) for t in terms if t.node is not None]
            a, b = (F.concat(list(side), axis=2) for side in zip(*pairs, strict=True))
            length, rows, columns = a.shape[2], a.shape[3], b.shape[3]
            if length * (rows + columns) <= rows * columns + rows + columns:
                return _gram(a, b)
        if len(terms) == 1 and terms[0].kind == "scatter_add":
            table, updates, *indices = terms[0].sources
            if math.prod(indices[0].shape) ** 2 <= math.prod(table.shape[: len(indices)]):
                return _gram_of_rows(table.shape, self._source(updates), [self._source(i) for i in indices])
        return self._square_of_made(value, terms)

    def _square_of_made(self, value: Value, terms: list[_Term]) -> Tensor:
        """The squared norms of gradients that are made: all together, or one after the other."""
        sources = list(dict.fromkeys(s for t in terms for s in t.sources))
        rest = rewired(self.graph, sources, [value])
        flags = [self.batched[s] for s in sources]
        tensors = [self.known[s] for s in sources]
        if self.examples.size * value.size <= _AT_ONCE or sources == [value]:
            (made,), has = replay_batched(rest, tensors, flags, self.examples, [value])
            return _sum_of_squares(*spread(self.examples, has, [made]))
        moving = [x for x, has in zip(tensors, flags, strict=True) if has]

        def one(carry: Any, slices: Any) -> Any:
            own = iter(slices)
            given = [next(own) if has else x for x, has in zip(tensors, flags, strict=True)]
            (made,), _ = replay_batched(rest, given, [False] * len(given), Examples(1), [value])
            return carry, _sum_of_squares(F.expand_dims(made, 0))[0]

        return scan(one, (), moving, length=self.examples.size)[1]

    # --- sums -----------------------------------------------------------------------------------------------

    def weighted_sum(self, weights: Tensor) -> Any:
        """The losses, and the sum of the gradients with a weight for each sample."""
        sums = []
        for value, terms in self.terms.items():
            parts = [self._weighted(t, F.astype(weights, value.dtype)) for t in terms]
            sums.append(functools.reduce(lambda a, b: a + b, parts))
        each = dict(zip(self.terms, sums, strict=True))
        return unflatten(self.structure, [self._source(self.loss), *(each[v] for v in self.grads)])

    def _weighted(self, term: _Term, weights: Tensor) -> Tensor:
        if term.node is None:
            made = F.tensordot(weights, self._source(term.sources[0]), axes=1)
        else:
            made = _merged(term.node, weights, [self._source(s) for s in term.sources])
        for primitive, static in term.moves:
            made = primitive(made, **static)
        return made


def _is_zero(tensor: Tensor | None) -> bool:
    """Whether a tensor from outside of the graph is known to hold zeros alone."""
    return tensor is not None and not isinstance(tensor.value, Value) and not tensor.value.any()


def _form(term: _Term) -> Any:
    """What two products must have in common to be one product of twice the length."""
    assert term.node is not None
    static = term.node.static
    free = [
        tuple(n for axis, n in enumerate(v.shape) if axis not in contracted)
        for v, contracted in zip(term.sources, static["contract"], strict=True)
    ]
    moves = tuple((p.name, tuple(how.items())) for p, how in term.moves)
    return (*free, tuple(n for axis in static["batch"][0] for n in [term.sources[0].shape[axis]]), moves)


def _factors(node: Any, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both sides of a product as (samples, batch, contracted, free)."""
    sides = []
    for x, contract, batch in zip((a, b), node.static["contract"], node.static["batch"], strict=True):
        contracted, together = [c + 1 for c in contract], [c + 1 for c in batch]
        free = [axis for axis in range(1, x.ndim) if axis not in contracted and axis not in together]
        sizes = [math.prod(x.shape[i] for i in axes) for axes in (together, contracted, free)]
        sides.append(F.reshape(F.permute_dims(x, [0, *together, *contracted, *free]), (x.shape[0], *sizes)))
    return sides[0], sides[1]


def _gram(a: Tensor, b: Tensor) -> Tensor:
    """Squared norms of ``sum over t of a_t b_t^T``, for a (samples, batch, T, m) and b (samples, batch, T, n)."""
    if a.shape[2] == 1:
        return F.sum(F.sum(a * a, axis=(2, 3)) * F.sum(b * b, axis=(2, 3)), axis=1)
    return F.sum(F.matmul(a, a.mT) * F.matmul(b, b.mT), axis=(1, 2, 3))  # (T, m) @ (T, m)^T -> (T, T)


def _gram_of_rows(shape: tuple[int, ...], updates: Tensor, indices: list[Tensor]) -> Tensor:
    """Squared norms of rows added at places of a table: rows at one place count together."""
    size = updates.shape[0]
    place: Tensor = F.zeros((size, math.prod(indices[0].shape[1:])), dtype="int64")
    for index, n in zip(indices, shape, strict=False):
        index = F.reshape(F.astype(index, "int64"), place.shape)
        place = place * n + F.where(index < 0, index + n, index)
    rows = F.reshape(updates, (*place.shape, math.prod(updates.shape[indices[0].ndim :])))
    together = F.expand_dims(place, 2) == F.expand_dims(place, 1)
    products = F.matmul(rows, rows.mT)  # (T, m) @ (T, m)^T -> (T, T)
    return F.sum(F.where(together, products, F.zeros_like(products)), axis=(1, 2))


def _sum_of_squares(x: Tensor) -> Tensor:
    flat = F.reshape(x, (x.shape[0], math.prod(x.shape[1:])))
    return F.sum(F.square(F.abs(flat) if x.dtype in dtypes.COMPLEX else flat), axis=1)


def _merged(node: Node, weights: Tensor, sources: list[Tensor]) -> Tensor:
    """The sum of one term over all samples, with weights, as one operation."""
    static = dict(node.static)
    lighter = min((0, 1), key=lambda i: sources[i].size) if node.primitive.name != "scatter_add" else 1
    x = sources[lighter]
    sources[lighter] = x * F.reshape(weights, (-1, *(1,) * (x.ndim - 1)))
    if node.primitive.name == "dot":
        static["contract"] = tuple((0, *(c + 1 for c in axes)) for axes in static["contract"])
        static["batch"] = tuple(tuple(c + 1 for c in axes) for axes in static["batch"])
        return node.primitive(*sources, **static)
    if node.primitive.name == "scatter_add":
        return node.primitive(F.zeros(node.outputs[0].shape, dtype=x.dtype), *sources[1:], **static)
    return node.primitive(*map(fold, sources), **static)
