"""Gradients of tables of which a step uses a few rows."""

from __future__ import annotations

from typing import Any

from ..registry import F
from ..tensor.cells import Snapshot
from ..tensor.state import NEVER, state
from ..tensor.tensor import Tensor
from .custom import Call, record


class RowSparse(Tensor):
    """A tensor that is zero but for some of its rows: the gradient of an `Embedding` with ``sparse=True``.

    It stands for ``zeros(shape)`` with ``rows[i]`` added at row ``indices[i]``; indices may repeat. Sums with others of
    its kind, products with a scalar and `detach` keep the form, at the cost of the rows. Everything else sees the dense
    tensor, which is then made.

    Args:
        shape: of the whole table, (n, ...).
        indices: integers of any shape S, -n..n-1.
        rows: shape (*S, ...).

    >>> g = RowSparse((4, 2), tensor([3, 0, 3]), tensor([[1.0, 1.0], [2.0, 2.0], [5.0, 5.0]]))
    >>> g + 0.0
    tensor([[2., 2.],
            [0., 0.],
            [0., 0.],
            [6., 6.]])
    >>> (2.0 * g).rows[0]
    tensor([2., 2.])
    """

    __slots__ = ("_dense", "_shape", "indices", "rows")

    indices: Tensor
    rows: Tensor

    def __init__(self, shape: tuple[int, ...], indices: Tensor, rows: Tensor) -> None:
        self.edge, self.index, self.level, self._grad = None, 0, NEVER, None
        self._shape = tuple(shape)
        self.indices = F.reshape(indices, (-1,))
        self.rows = F.reshape(rows, (self.indices.size, *self._shape[1:]))
        self._dense: Tensor | None = None

    # --- a tensor -----------------------------------------------------------------------------------------

    def to_dense(self) -> Tensor:
        """Return the dense tensor."""
        if self._dense is None:
            self._dense = F.scatter_add(F.zeros(self._shape, dtype=self.dtype), self.rows, self.indices)
        return self._dense

    @property
    def value(self) -> Any:
        """The value of the dense tensor."""
        return self.to_dense().value

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self._shape

    @property
    def dtype(self) -> Any:
        """Data type."""
        return self.rows.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._shape)

    @property
    def size(self) -> int:
        """Number of elements of the dense tensor."""
        return int(F.size_of(self._shape))

    def detach(self) -> RowSparse:
        """Return the same, cut off from what it was computed from."""
        return self.with_rows(self.rows.detach())

    def __repr__(self) -> str:
        return f"RowSparse(shape={self._shape}, indices={self.indices!r}, rows={self.rows!r})"

    # --- what keeps the form ------------------------------------------------------------------------------

    def with_rows(self, rows: Tensor) -> RowSparse:
        """Return other rows at the same places."""
        return RowSparse(self._shape, self.indices, rows)

    def __add__(self, other: Any) -> Tensor:
        if isinstance(other, RowSparse) and other.shape == self._shape:
            indices = [F.astype(x.indices, "int64") for x in (self, other)]
            return RowSparse(self._shape, F.concat(indices), F.concat([self.rows, other.rows]))
        if isinstance(other, Tensor) and (other.shape, other.dtype) == (self._shape, self.dtype):
            return F.scatter_add(other, self.rows, self.indices)
        return F.add(self.to_dense(), other)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Tensor:
        if getattr(other, "shape", ()) != ():
            return F.multiply(self.to_dense(), other)
        return self.with_rows(self.rows * other)

    __rmul__ = __mul__

    def totals(self) -> tuple[Tensor, Tensor, Tensor]:
        """Add up the rows of one place, in shapes that do not depend on values.

        Returns:
            the places, ascending, each as often as it occurs; for each the sum of all its rows; and whether it is the
            first of its kind.
        """
        n = self._shape[0]
        places = F.astype(self.indices, "int64")
        places = F.where(places < 0, places + n, places)
        order = F.argsort(places)
        places = F.take(places, order, axis=0)
        first = F.concat([F.full((min(1, places.size),), True), places[1:] != places[:-1]])
        number = F.cumulative_sum(F.astype(first, "int64")) - 1
        sums = F.scatter_add(F.zeros_like(self.rows), F.take(self.rows, order, axis=0), number)
        return places, F.take(sums, number, axis=0), first

    def coalesced(self) -> RowSparse:
        """Return the same with the sum of all rows of a place in the first of them, and zeros in the others.

        So the elements of ``rows`` are those of the dense tensor, and more zeros.

        >>> RowSparse((4, 1), tensor([3, 0, 3]), tensor([[1.0], [2.0], [5.0]])).coalesced().rows
        tensor([[2.],
                [6.],
                [0.]])
        """
        places, sums, first = self.totals()
        first = F.reshape(first, (-1, *(1,) * (self.ndim - 1)))
        return RowSparse(self._shape, places, F.where(first, sums, F.zeros_like(sums)))


def take_rows(x: Any, indices: Any) -> Tensor:
    """Return ``take(x, indices, axis=0)``; the gradient that `backward` adds to a cell ``x`` is `RowSparse`.

    Where ``x`` is something else, a cell in the body of a loop or the argument of a transform, its gradient is dense.

    >>> w = Parameter(zeros((1000, 2)))
    >>> take_rows(w, tensor([7])).sum().backward()
    >>> w.grad
    RowSparse(shape=(1000, 2), indices=tensor([7]), rows=tensor([[1., 1.]]))
    """
    x, indices = F.asarray(x), F.asarray(indices)
    rows: Tensor = F.take(x, indices, axis=0)
    if not isinstance(x, Snapshot) or x.level >= state.threshold:
        return rows
    call = Call("take_rows", lambda cts: [RowSparse(x.shape, indices, cts[0])])
    return record(call, (x,), [rows], x.level)[0]
