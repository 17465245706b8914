"""Cells: the state that a training step reads and writes.

Parameters, buffers, the state of optimizers and random generators are cells. A cell is read as a snapshot, a tensor
with the value of that moment, and written by `Cell.assign` alone. While a function is traced, reads and writes go to
the trace, where they become inputs and outputs of the program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, cast

import numpy as np

from ..errors import ArgumentError, DTypeError, ImmutableError, ShapeError, TraceError
from ..registry import F
from .operators import TensorLike
from .state import NEVER, outside, shared, state, structure_changed
from .storage import Runs, aligned_copy
from .tensor import NOT_KEPT, Edge, Tensor, not_kept


class Snapshot(Tensor):
    """The value of a cell at one version: the leaf from which recorded operations start."""

    __slots__ = ("cell", "version")

    def __init__(self, cell: Cell, value: Any, version: int, level: int) -> None:
        super().__init__(value, level=level)
        self.cell = cell
        self.version = version

    @property
    def stale(self) -> bool:
        """Whether the cell was assigned since."""
        return self.cell.version != self.version


class Cell(Tensor):
    """A place that keeps a value: fixed shape and dtype, changed by `assign` only.

    Args:
        value: the first value, or a function without arguments that makes it when it is first needed.
        trainable: whether operations on it are recorded and `backward` adds up its gradient.
        shape, dtype: needed if ``value`` is a function.

    >>> count = Cell(tensor(0))
    >>> count.assign(count + 1)
    >>> count
    Cell(tensor(1))
    """

    __slots__ = (
        "_dirty", "_dtype", "_gradient", "_home", "_initial", "_runs", "_seen", "_shape", "_snapshot", "_trainable",
        "_version", "place",
    )  # fmt: skip

    place: Any
    """The module and the name under which the cell was made a part of it first, or None."""

    def __init__(
        self,
        value: TensorLike | Callable[[], Any],
        *,
        trainable: bool = False,
        shape: tuple[int, ...] | None = None,
        dtype: Any = None,
    ) -> None:
        self._gradient: Any = None
        self._version = 0
        self._home: np.ndarray | None = None  # the storage that compiled programs update
        self._dirty = False  # whether the snapshot is newer than the storage
        self._runs: list[Runs] | None = None  # of each program that writes the cell, how often it ran
        self._seen = 0  # the sum of those when the snapshot was made
        self.place = None
        self._trainable = trainable
        self._snapshot: Snapshot | None = None
        self._initial: Callable[[], Any] | None = None
        for trace in state.traces:
            trace.made.add(self)
        if callable(value):
            self._initial = value
            self._shape, self._dtype = tuple(shape or ()), F.as_dtype(dtype or "float32")
            return
        array = np.array(F.asarray(value, dtype=dtype).detach().numpy())
        self._shape, self._dtype = array.shape, array.dtype
        self._store(array)

    def _store(self, array: Any) -> None:
        level = 0 if self._trainable else NEVER
        self._snapshot = Snapshot(self, array, self._version, level)

    def _stored(self) -> Snapshot:
        """The snapshot outside of any trace, made by the initializer if there is none yet."""
        if self._snapshot is None:
            make = cast("Callable[[], Any]", self._initial)
            with outside():
                array = np.array(make(), dtype=self._dtype).reshape(self._shape)
            self._initial = None
            self._store(array)
        elif self._runs is not None and self._pending():
            with shared.lock:
                self._catch_up()
                self._store(np.array(self._home))
        return self._snapshot  # type: ignore[return-value]

    # --- storage that compiled programs update ------------------------------------------------------------

    def storage(self) -> np.ndarray:
        """Return the memory in which compiled programs read and update the value, made when it is first needed.

        Tensors that were read earlier keep their values: they never share it.
        """
        with shared.lock:
            if self._home is None:
                self._home = aligned_copy(self._stored().value)
            elif self._dirty:
                self._home[...] = self._stored().value
            self._dirty = False
        return self._home

    def written_by(self, runs: Runs) -> None:
        """Let each run of a program count as an assignment."""
        with shared.lock:
            self._stored()
            self._runs = [r for r in self._runs or () if r.alive()] + [runs]
            self._seen = sum(r.count for r in self._runs)

    def _pending(self) -> int:
        """How often programs have written the cell since the snapshot was made."""
        return 0 if self._runs is None else sum(r.count for r in self._runs) - self._seen

    def _catch_up(self) -> None:
        pending = self._pending()
        self._version += pending
        self._seen += pending

    def keep(self) -> tuple[Any, ...]:
        """Return value, version and gradient, for `put_back`."""
        return self._stored(), self._version, self._gradient

    def put_back(self, kept: tuple[Any, ...]) -> None:
        """Undo all assignments since `keep`."""
        self._snapshot, self._version, self._gradient = kept
        self._dirty = False
        shared.gradients = object()

    # --- reading and writing ------------------------------------------------------------------------------

    def read(self) -> Tensor:
        """Return the current value as a tensor, a leaf of the tape if the cell is trainable."""
        if state.overrides and self in state.overrides:
            return state.overrides[self]
        found = state.traces[-1].read(self) if state.traces else self._stored()
        if state.watching and not self._trainable:
            for entry in state.watching:
                entry.setdefault(self, found)
        return found

    def assign(self, value: TensorLike) -> None:
        """Replace the value; shape and dtype stay.

        Raises:
            ShapeError: ``value`` has another shape.
            DTypeError: ``value`` is a tensor of another dtype.
        """
        if isinstance(value, Tensor):
            new = F.asarray(value).detach()
        else:  # an array is copied, so that a later change of it does not show
            new = F.asarray(value, None if isinstance(value, np.ndarray) else self.dtype, copy=True)
        if new.shape != self._shape:
            raise ShapeError("assign", f"a cell keeps its shape {self._shape}", received=f"shape {new.shape}")
        if new.dtype != self._dtype:
            raise DTypeError(
                "assign",
                f"a cell keeps its dtype {self._dtype.name}",
                received=new.dtype.name,
                fix=f'cast with .astype("{self._dtype.name}")',
            )
        if self in state.overrides:
            state.overrides[self] = new
        elif state.traces:
            state.traces[-1].write(self, new)
        else:
            self._replace(new)

    def _replace(self, new: Tensor) -> None:
        self._initial = None
        if self._home is None:
            self._version += 1
            self._store(new.value)
            return
        with shared.lock:  # not while a program writes it
            self._catch_up()
            self._version += 1
            self._store(new.value)
            self._dirty = True
            shared.values = object()

    # --- its gradient -------------------------------------------------------------------------------------

    @property
    def _grad(self) -> Any:
        """The gradient; one that was not kept counts as none."""
        if state.traces and state.traces[0].whole:
            return state.traces[0].read_grad(self)
        return None if self._gradient is NOT_KEPT else self._gradient

    @_grad.setter
    def _grad(self, value: Any) -> None:
        if state.traces and state.traces[0].whole:
            state.traces[0].write_grad(self, value)
            return
        if value.__class__ is not self._gradient.__class__:
            shared.gradients = object()
        self._gradient = value

    @property
    def grad(self) -> Tensor | None:
        """Gradient that `backward` has added up here; None if there is none.

        Raises:
            GradientNotKept: a compiled step has computed it, and not kept it.
        """
        grad = self._grad
        if grad is None and self._gradient is NOT_KEPT and not (state.traces and state.traces[0].knows_grad(self)):
            raise not_kept(self.name or f"a {type(self).__name__} of shape {self._shape}")
        return grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        Tensor.grad.fset(self, value)  # type: ignore[attr-defined]

    @property
    def grad_kind(self) -> str:
        """What there is outside of any trace: "absent", "not kept" or the name of its dtype."""
        if self._gradient is None:
            return "absent"
        return "not kept" if self._gradient is NOT_KEPT else self._gradient.dtype.name

    # --- a cell is a tensor -------------------------------------------------------------------------------

    @property
    def value(self) -> Any:
        """The current value: an array, or a value of the graph being traced."""
        return self.read().value

    @property
    def edge(self) -> Edge | None:  # type: ignore[override]
        """How the value was made; None, unless a tensor stands in for the cell."""
        return self.read().edge

    @property
    def index(self) -> int:  # type: ignore[override]
        """Which result of its edge it is."""
        return self.read().index

    @property
    def level(self) -> int:  # type: ignore[override]
        """0 if trainable; see `chainrule.tensor.state`."""
        return self.read().level

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self._shape

    @property
    def dtype(self) -> Any:
        """Data type."""
        return self._dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self._shape, dtype=np.int64))

    @property
    def version(self) -> int:
        """How often it was assigned."""
        return state.traces[-1].version(self) if state.traces else self._version + self._pending()

    @property
    def name(self) -> str:
        """Dotted path in the model that the cell is a part of, or an empty string."""
        return "" if self.place is None else self.place.path

    @property
    def trainable(self) -> bool:
        """Whether operations on it are recorded and an optimizer updates it."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if state.traces and state.traces[0].whole and self not in state.traces[0].made:
            raise TraceError(
                "trainable",
                "a compiled function cannot freeze or unfreeze parameters: that decides what its gradients are",
                received=f"trainable = {value}",
                fix="do it before the call; each choice has a program of its own",
            )
        self._trainable = bool(value)
        structure_changed()
        if not value:
            self._grad = None
        if self._snapshot is not None:
            self._store(self._stored().value)

    @property
    def requires_grad(self) -> bool:
        """Same as `trainable`."""
        return self._trainable

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.trainable = value

    @property
    def data(self) -> Tensor:
        """The current value, not recorded."""
        return self.read().detach()

    def detach(self) -> Tensor:
        """Return the current value, not recorded."""
        return self.read().detach()

    def numpy(self) -> np.ndarray:
        """Return a copy of the value."""
        return np.array(self.read().numpy())

    def __iadd__(self, other: Any) -> Tensor:
        raise ImmutableError(
            type(self).__name__, "p += x would rebind the name, not change the cell", fix="p.assign(p + x)"
        )

    __isub__ = __imul__ = __itruediv__ = __ipow__ = __imatmul__ = __ifloordiv__ = __imod__ = __iadd__

    def __setitem__(self, key: Any, value: Any) -> None:
        raise ImmutableError(type(self).__name__, "p[i] = v changes nothing", fix="p.assign(p.at[i].set(v))")

    def __copy__(self) -> Tensor:
        return self.__deepcopy__({})

    def __deepcopy__(self, memo: Any) -> Tensor:
        made = type(self)(self.detach())
        made.trainable = self._trainable
        memo[id(self)] = made
        return made

    def __reduce__(self) -> NoReturn:
        raise ArgumentError(
            "pickle",
            "a cell belongs to its process",
            received=f"{type(self).__name__} of shape {self.shape}",
            fix="cr.save(model, path) keeps the values, and cr.load(model, path) brings them back",
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.read().detach()!r})"


class Parameter(Cell):
    """A trainable cell: a weight that an optimizer adjusts.

    Args:
        value: the first value; floating.
        requires_grad: False freezes it.

    >>> w = Parameter(tensor([1.0, 2.0]))
    >>> (w * w).sum().backward()
    >>> w.grad
    tensor([2., 4.])
    """

    __slots__ = ()

    def __init__(
        self,
        value: TensorLike | Callable[[], Any],
        requires_grad: bool = True,
        *,
        shape: tuple[int, ...] | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(value, trainable=requires_grad, shape=shape, dtype=dtype)
        if not F.is_differentiable(self._dtype):
            raise ArgumentError(
                "Parameter",
                "a weight is floating, whole numbers have no gradient",
                received=self._dtype.name,
                fix="use a buffer: self.name = cr.Cell(value)",
            )
