"""Tables of vectors that are looked up by index, one by one or in bags, as functions and layers."""

from __future__ import annotations

from typing import Any

from .. import functions as F
from ..autodiff import take_rows
from ..dtypes import SIGNED
from ..errors import ArgumentError, IndexOutOfRangeError, ShapeError
from ..functions.shaping import take_slice
from ..tensor import Parameter, Tensor, TensorLike
from . import init
from .module import Module

__all__ = ["embedding", "embedding_bag"]


def embedding(input: TensorLike, weight: TensorLike, padding_idx: int | None = None, sparse: bool = False) -> Tensor:
    """Return the rows of ``weight`` at the indices ``input``.

    Args:
        input: integers of any shape S.
        weight: shape (rows, d).
        padding_idx: a row that gets no gradient.
        sparse: give a parameter ``weight`` a `chainrule.RowSparse` gradient.

    Returns:
        shape (*S, d).

    Raises:
        IndexOutOfRangeError: an index is not one of the rows.

    >>> nn.functional.embedding(cr.tensor([1]), cr.tensor([[1.0], [2.0]]))
    tensor([[2.]])
    """
    index, weight = F.asarray(input), _matrix("embedding", weight)
    _check_padding("embedding", weight.shape[0], padding_idx)
    if index.dtype in SIGNED:  # -1 is not the last row
        index = F.where(index < 0, -weight.shape[0] - 1, index.astype("int64"))
    try:
        rows = take_rows(weight, index) if sparse else F.take(weight, index, axis=0)
    except IndexOutOfRangeError as error:
        raise IndexOutOfRangeError(
            "embedding",
            f"an index is not one of the {weight.shape[0]} rows: {error.message}",
            fix="make num_embeddings the size of the vocabulary, or map rare tokens to an unknown one",
        ) from None
    if padding_idx is None:
        return rows
    return F.where(_is_padding(index, weight, padding_idx), rows.detach(), rows)


def _is_padding(index: Tensor, weight: Tensor, padding_idx: int) -> Tensor:
    """Where the padding is, with an axis for the elements of the vectors."""
    return F.expand_dims(index == padding_idx % weight.shape[0], -1)


def embedding_bag(
    input: TensorLike,
    weight: TensorLike,
    offsets: TensorLike | None = None,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: TensorLike | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Sum, mean or maximum of the rows of ``weight`` at the indices in each bag; of an empty bag 0.

    Args:
        input: integers of shape (B, n), B bags of n indices each; or of shape (L,), with ``offsets``.
        weight: shape (rows, d).
        offsets: shape (B,): where in ``input`` each bag begins, from 0 on and never less than the one before.
        mode: "sum", "mean" or "max".
        sparse: give a parameter ``weight`` a `chainrule.RowSparse` gradient.
        per_sample_weights: factors for the sum, of the shape of ``input``.
        include_last_offset: whether ``offsets`` has one more element, where the last bag ends.
        padding_idx: a row that counts for nothing, and gets no gradient.

    Returns:
        shape (B, d).

    Raises:
        ArgumentError: arguments that do not go together.
        IndexOutOfRangeError: an index is not one of the rows.

    >>> table = cr.tensor([[1.0], [2.0], [4.0]])
    >>> nn.functional.embedding_bag(cr.tensor([0, 1, 2]), table, cr.tensor([0, 2]), mode="sum")
    tensor([[3.],
            [4.]])
    """
    index, weight = F.asarray(input), F.asarray(weight)
    _check_bags(index, offsets, mode, per_sample_weights)
    rows = embedding(index, weight, sparse=sparse)
    counted = F.ones((*index.shape, 1), dtype=weight.dtype)
    if padding_idx is not None:
        counted = F.where(_is_padding(index, weight, padding_idx), 0.0, counted)
    if mode == "max":
        rows = F.where(counted > 0, rows, float("-inf"))
    elif padding_idx is not None:
        rows = F.where(counted > 0, rows, 0.0)
    if per_sample_weights is not None:
        rows = rows * F.expand_dims(F.asarray(per_sample_weights), -1)
    if offsets is None:
        total, number = (F.max if mode == "max" else F.sum)(rows, axis=1), F.sum(counted, axis=1)
    else:
        total, number = _by_offsets(rows, counted, F.asarray(offsets), mode, include_last_offset)
    if mode == "sum":
        return total
    return F.where(number > 0, total, 0.0) if mode == "max" else total / F.maximum(number, 1.0)


def _check_bags(index: Tensor, offsets: TensorLike | None, mode: str, factors: TensorLike | None) -> None:
    _check_mode("embedding_bag", mode)
    if (index.ndim, offsets is None) not in ((2, True), (1, False)):
        raise ArgumentError(
            "embedding_bag", "needs indices (B, n), or indices (L,) and offsets (B,)",
            received=f"indices of shape {index.shape}, {'no offsets' if offsets is None else 'offsets'}",
        )  # fmt: skip
    if factors is not None and mode != "sum":
        raise ArgumentError("embedding_bag", "per_sample_weights are factors of a sum", received=f"mode={mode!r}")
    if factors is not None and F.asarray(factors).shape != index.shape:
        shapes = f"{F.asarray(factors).shape} and {index.shape}"
        raise ShapeError("embedding_bag", "one factor for each index", received=f"shapes {shapes}")


def _check_mode(operation: str, mode: str) -> None:
    if mode not in ("sum", "mean", "max"):
        raise ArgumentError(operation, "mode is sum, mean or max", received=repr(mode))


def _by_offsets(
    rows: Tensor, counted: Tensor, offsets: Tensor, mode: str, include_last_offset: bool
) -> tuple[Tensor, Tensor]:
    """Reduce the rows of each bag, and count them."""
    length, bags = rows.shape[0], offsets.shape[0]
    begun = F.scatter_add(F.zeros((length + 1,), dtype="int64"), F.ones((bags,), dtype="int64"), offsets)
    bag = take_slice(F.cumulative_sum(begun), 0, 0, length)  # from 1 on; in 0 is what stands before the first

    def add(values: Tensor) -> Tensor:
        total = F.scatter_add(F.zeros((bags + 1, values.shape[1]), dtype=values.dtype), values, bag)
        return take_slice(total, 0, 1, bags + 1 - include_last_offset)

    if mode != "max" or not length:
        return add(rows), add(counted)
    step = 1
    while step < length:  # after it, each row has the maximum of itself and up to 2 step - 1 before it in its bag
        joined = F.expand_dims(take_slice(bag, 0, step, length) == take_slice(bag, 0, 0, length - step), -1)
        before = F.where(joined, take_slice(rows, 0, 0, length - step), float("-inf"))
        rows = F.concat([take_slice(rows, 0, 0, step), F.maximum(take_slice(rows, 0, step, length), before)])
        step *= 2
    number = add(counted)
    ends = F.concat([take_slice(offsets, 0, 1, bags), F.asarray([length], offsets.dtype)])
    return F.take(rows, F.maximum(take_slice(ends, 0, 0, number.shape[0]) - 1, 0), axis=0), number


# --- layers -----------------------------------------------------------------------------------------------


class Embedding(Module):
    """A table of vectors, one for each index.

    Args:
        num_embeddings: rows of the table.
        embedding_dim: elements of a vector.
        padding_idx: a row that starts at zero and gets no gradient.
        sparse: whether `backward` gives the table a `chainrule.RowSparse` gradient of the rows used, instead of one of
            its own shape; for `chainrule.optim.SparseAdam`, or SGD and Adagrad in their plain form.
        dtype: of the table, which starts normal with standard deviation 1.

    >>> nn.Embedding(10, 3)(cr.tensor([[1, 2], [3, 4]])).shape
    (2, 2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        sparse: bool = False,
        dtype: Any = None,
    ) -> None:
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        self.sparse = sparse
        self.weight = _table(type(self).__name__, num_embeddings, embedding_dim, padding_idx, dtype)

    @classmethod
    def from_pretrained(
        cls, embeddings: TensorLike, freeze: bool = True, padding_idx: int | None = None, sparse: bool = False
    ) -> Embedding:
        """Return a layer with a table that exists.

        Args:
            embeddings: shape (rows, d).
            freeze: whether it stays as it is in training.
            padding_idx: a row that gets no gradient; its value stays.
            sparse: as of the class.

        >>> nn.Embedding.from_pretrained([[1.0, 2.0], [3.0, 4.0]])(cr.tensor([1]))
        tensor([[3., 4.]])
        """
        table = _matrix(cls.__name__, embeddings)
        layer = cls(table.shape[0], table.shape[1], padding_idx, sparse, table.dtype)
        layer.weight = Parameter(table, requires_grad=not freeze)
        return layer

    def forward(self, x: TensorLike) -> Tensor:
        """(...) -> (..., embedding_dim)."""
        return embedding(x, self.weight, self.padding_idx, self.sparse)

    def extra_repr(self) -> str:
        """Sizes."""
        return _sizes(self.num_embeddings, self.embedding_dim, self.padding_idx)


class EmbeddingBag(Module):
    """Sum, mean or maximum of the vectors of each bag of indices; see `chainrule.nn.functional.embedding_bag`.

    Args:
        num_embeddings: rows of the table.
        embedding_dim: elements of a vector.
        mode: "sum", "mean" or "max".
        sparse: as of `Embedding`.
        include_last_offset: whether offsets have one more element, where the last bag ends.
        padding_idx: a row that starts at zero, counts for nothing and gets no gradient.
        dtype: of the table, which starts normal with standard deviation 1.

    >>> nn.EmbeddingBag(10, 3)(cr.tensor([1, 2, 3, 4]), cr.tensor([0, 3])).shape
    (2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        dtype: Any = None,
    ) -> None:
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        _check_mode("EmbeddingBag", mode)
        self.mode, self.sparse, self.include_last_offset = mode, sparse, include_last_offset
        self.weight = _table(type(self).__name__, num_embeddings, embedding_dim, padding_idx, dtype)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: TensorLike,
        freeze: bool = True,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> EmbeddingBag:
        """Return a layer with a table that exists; see `Embedding.from_pretrained`.

        >>> nn.EmbeddingBag.from_pretrained([[1.0, 2.0], [3.0, 4.0]])(cr.tensor([[0, 1]]))
        tensor([[2., 3.]])
        """
        table = _matrix(cls.__name__, embeddings)
        layer = cls(table.shape[0], table.shape[1], mode, sparse, include_last_offset, padding_idx, table.dtype)
        layer.weight = Parameter(table, requires_grad=not freeze)
        return layer

    def forward(
        self, x: TensorLike, offsets: TensorLike | None = None, per_sample_weights: TensorLike | None = None
    ) -> Tensor:
        """(B, n), or (L,) and offsets (B,) -> (B, embedding_dim)."""
        more = per_sample_weights, self.include_last_offset, self.padding_idx
        return embedding_bag(x, self.weight, offsets, self.mode, self.sparse, *more)

    def extra_repr(self) -> str:
        """Sizes and mode."""
        return _sizes(self.num_embeddings, self.embedding_dim, self.padding_idx) + f", mode={self.mode!r}"


def _table(operation: str, rows: int, size: int, padding_idx: int | None, dtype: Any) -> Parameter:
    _check_padding(operation, rows, padding_idx)

    def rule(shape: tuple[int, ...], dtype: Any, generator: F.Generator) -> Tensor:
        table = F.normal(shape, dtype=dtype, generator=generator)
        return table if padding_idx is None else table.at[padding_idx].set(0.0)

    return init.parameter((rows, size), rule, dtype)


def _check_padding(operation: str, rows: int, padding_idx: int | None) -> None:
    if padding_idx is not None and not -rows <= padding_idx < rows:
        raise ArgumentError(operation, f"padding_idx is one of the {rows} rows", received=repr(padding_idx))


def _matrix(operation: str, embeddings: TensorLike) -> Tensor:
    table = F.asarray(embeddings)
    if table.ndim != 2:
        raise ShapeError(operation, "needs a table (rows, d)", received=f"shape {table.shape}")
    return table


def _sizes(rows: int, size: int, padding_idx: int | None) -> str:
    return f"{rows}, {size}" + ("" if padding_idx is None else f", padding_idx={padding_idx}")
