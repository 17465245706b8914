"""What all optimizers share: groups, the step counter, the state, and the step itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, ClassVar, TypeAlias

from .. import dtypes
from ..autodiff import RowSparse, enable_grad, no_grad
from ..errors import ArgumentError, GradientError, ShapeError, UnusedParameterError
from ..functions import asarray, astype, complex, imag, real, scatter_set, stack, take, where, zeros
from ..tensor import Cell, Tensor
from . import saving
from .group import ParamGroup, is_on
from .params import Parameters, describe, read_groups, read_parameters

Hyper: TypeAlias = Mapping[str, Any]
State: TypeAlias = dict[str, Tensor]
Limit: TypeAlias = tuple[Callable[[Any], bool], str]

NOT_NEGATIVE: Limit = (lambda v: v >= 0, "at least 0")
UNIT: Limit = (lambda v: 0 <= v <= 1, "in [0, 1]")
BELOW_ONE: Limit = (lambda v: 0 <= v < 1, "in [0, 1)")
MASTER = "master"
"""The state that keeps a 16-bit parameter in float32; see `chainrule.optim.keep_master_weights`."""
PAIRS = frozenset({"betas", "etas", "step_sizes"})


class Optimizer:
    """Adjusts parameters by their gradients, a step at a time.

    An optimizer is three pure functions in tensors. A subclass gives them, and calls this constructor with its
    hyperparameters; `step` reads the gradients, computes all updates, and only then assigns, so that an exception
    leaves every parameter and every state as it was.

    - ``init(p, hyper)``: the state that accompanies a parameter, zeros mostly.
    - ``coefficients(lr, step, hyper)``: what all parameters of a group share in one step, scalars in float64 such as
      a bias correction. ``step`` counts from 1.
    - ``update(g, p, state, hyper)``: the new parameter and the new state. ``hyper`` are the hyperparameters
      together with the coefficients, which have the dtype of ``p``.

    16-bit parameters are updated in float32 and rounded once, and their state is float32 (see also
    `keep_master_weights`); complex ones are pairs of real numbers. The state is kept in cells from the beginning:
    ``opt.state[p]["exp_avg"]``.

    Args:
        params: parameters, ``(name, parameter)`` pairs, a module, or groups: dicts with ``"params"`` and the
            hyperparameters in which they differ.
        defaults: the hyperparameters, with ``"lr"``, for groups that do not give their own.
        allow_unused: let parameters without a gradient be, instead of raising an error.

    Attributes:
        param_groups: a `ParamGroup` for each group.
        state: for each parameter the cells of its state.
        step_count: the number of steps done, an int64 cell.

    Raises:
        ArgumentError: there are no parameters, a parameter is in two groups, or a hyperparameter has no such value.

    >>> class SignSGD(optim.Optimizer):
    ...     def __init__(self, params, lr=0.01):
    ...         super().__init__(params, {"lr": lr})
    ...     @staticmethod
    ...     def update(g, p, state, hyper):
    ...         return p - hyper["lr"] * g.sign(), state
    >>> w = Parameter(tensor([1.0, -2.0]))
    >>> (w * w).sum().backward()
    >>> SignSGD([w], lr=0.5).step()
    >>> w
    Parameter(tensor([ 0.5, -1.5]))
    """

    limits: ClassVar[dict[str, Limit]] = {}
    """For each hyperparameter that has one, the test it must pass, and that in words."""
    structural: ClassVar[tuple[str, ...]] = ()
    """Hyperparameters that decide which state there is."""

    def __init__(self, params: Parameters, defaults: dict[str, Any], *, allow_unused: bool = False) -> None:
        self.defaults = defaults
        self.allow_unused = allow_unused
        self.param_groups: list[ParamGroup] = []
        self.state: dict[Cell, dict[str, Cell]] = {}
        self.step_count = Cell(asarray(0, dtypes.int64))
        for group in read_groups(type(self).__name__, params):
            self.add_param_group(group)

    # --- what an optimizer is made of ---------------------------------------------------------------------

    @staticmethod
    def init(p: Tensor, hyper: Hyper) -> State:
        """Return the first state of a parameter of the shape and dtype of ``p``."""
        return {}

    @staticmethod
    def coefficients(lr: Tensor, step: Tensor, hyper: Hyper) -> dict[str, Tensor]:
        """Return the scalars, in float64, that all parameters share in the step of this number (from 1)."""
        return {"lr": lr}

    @staticmethod
    def update(g: Tensor, p: Tensor, state: State, hyper: Hyper) -> tuple[Tensor, State]:
        """Return the new parameter and the new state."""
        raise ArgumentError("Optimizer", "the class does not define update", fix="def update(g, p, state, hyper): ...")

    def check(self, hyper: Hyper) -> None:
        """Raise `ArgumentError` unless the hyperparameters have values that they can have."""
        for name in PAIRS & hyper.keys():
            if not isinstance(hyper[name], tuple) or len(hyper[name]) != 2:
                raise ArgumentError(type(self).__name__, f"{name} is a pair", received=f"{name}={hyper[name]!r}")
        for name, (fits, words) in ({"lr": NOT_NEGATIVE} | self.limits).items():
            for value in hyper[name] if isinstance(hyper[name], tuple) else (hyper[name],):
                if isinstance(value, Tensor):
                    continue
                if not isinstance(value, Real) or not fits(value):
                    raise ArgumentError(
                        type(self).__name__, f"{name} must be a number {words}", received=f"{name}={hyper[name]!r}"
                    )

    def check_parameter(self, shown: str, parameter: Cell) -> None:
        """Raise `ArgumentError` unless this optimizer can adjust the parameter, which errors call ``shown``."""

    def is_row_wise(self, hyper: Hyper) -> bool:
        """Say whether `update` leaves elements and their state as they are where the gradient is zero.

        Then a step with a `chainrule.RowSparse` gradient computes the rows that it touches alone.
        """
        return False

    # --- groups -------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add parameters: a dict with ``"params"`` and the hyperparameters in which they differ from the defaults.

        Raises:
            ArgumentError: there are no parameters, one is in another group, or a hyperparameter is wrong.
        """
        operation = type(self).__name__
        given = dict(param_group)
        if "params" not in given:
            raise ArgumentError(operation, "a group has its parameters under 'params'", received=f"keys {list(given)}")
        named = read_parameters(operation, given.pop("params"))
        if not named:
            raise ArgumentError(operation, "there are no parameters", received="an empty group")
        unknown = given.keys() - self.defaults.keys()
        if unknown:
            raise ArgumentError(
                operation,
                "a group has a hyperparameter that this optimizer does not know",
                received=", ".join(sorted(unknown)),
                fix="the names are " + ", ".join(self.defaults),
            )
        for number, (name, parameter) in enumerate(named):
            if parameter in self.state:
                raise ArgumentError(
                    operation,
                    "a parameter is in two groups",
                    received=describe(number, name, parameter),
                    fix="put it into one of them",
                )
            self.check_parameter(describe(number, name, parameter), parameter)
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in (self.defaults | given).items()}
        lr = options.pop("lr")
        group = ParamGroup(
            operation, named, lr, options, structural=self.structural, check=self.check, start=int(self.step_count)
        )
        for parameter in group["params"]:
            first = self.init(to_working(zeros(parameter.shape, dtype=parameter.dtype)), group.options)
            self.state[parameter] = {name: Cell(value) for name, value in first.items()}
        self.param_groups.append(group)

    @property
    def lr(self) -> Cell:
        """The learning rate of the first group, a float64 cell. Assigning to it sets that of all groups."""
        return self.param_groups[0]["lr"]

    @lr.setter
    def lr(self, value: Any) -> None:
        for group in self.param_groups:
            group["lr"] = value

    def parameters(self) -> list[Cell]:
        """Return the parameters of all groups."""
        return list(self.state)

    # --- the step -----------------------------------------------------------------------------------------

    def zero_grad(self) -> None:
        """Set the gradients to None, which is how one that was not reached is known."""
        for parameter in self.state:
            parameter.grad = None

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every trainable parameter by its ``.grad``.

        Args:
            closure: clears the gradients, computes the loss anew, goes backward and returns the loss.

        Returns:
            what the closure returned, or None.

        Raises:
            UnusedParameterError: a trainable parameter has no gradient.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        self._refuse_unused()
        with no_grad():
            count = self.step_count + 1
            new: list[tuple[Cell, Tensor]] = [(self.step_count, count)]
            for group in self.param_groups:
                new += self._updates(group, count)
            for cell, value in new:
                if (value.shape, value.dtype) != (cell.shape, cell.dtype):
                    raise ShapeError(
                        f"{type(self).__name__}.update",
                        f"the update must keep {cell.dtype.name}{cell.shape}",
                        received=f"{value.dtype.name}{value.shape}",
                    )
            for cell, value in new:
                cell.assign(value)
        return loss

    def _updates(self, group: ParamGroup, count: Tensor) -> list[tuple[Cell, Tensor]]:
        """The new values of the cells of a group."""
        options = group.options
        step = astype(count - group.start, dtypes.float64)
        shared = options | self.coefficients(group["lr"].detach(), step, options)
        by_dtype: dict[Any, dict[str, Any]] = {}
        new: list[tuple[Cell, Tensor]] = []
        for parameter in group["params"]:
            if not parameter.trainable or parameter.grad is None:
                continue
            working = working_dtype(parameter.dtype)
            if working not in by_dtype:
                by_dtype[working] = {name: _as_dtype(value, working) for name, value in shared.items()}
            new += self._update_of(parameter, parameter.grad, by_dtype[working])
        return new

    def _update_of(self, parameter: Cell, gradient: Tensor, hyper: Hyper) -> list[tuple[Cell, Tensor]]:
        """The new values of a parameter and its state; of a row-sparse gradient, only the rows that it touches move."""
        cells = self.state[parameter]
        old = {cell: cell.detach() for cell in (parameter, *cells.values())}
        here, places = old, None
        if isinstance(gradient, RowSparse):
            self._refuse_rows(hyper)
            places, gradient, _ = gradient.totals()
            here = {cell: take(value, places, axis=0) for cell, value in old.items()}
        state = {name: here[cell] for name, cell in cells.items()}
        p, master = to_working(here[parameter]), state.pop(MASTER, None)
        if master is not None:  # unless somebody else has assigned the parameter since
            p = where(astype(master, parameter.dtype) == here[parameter], master, p)
        new_p, new_state = self.update(to_working(astype(gradient, parameter.dtype)), p, state, hyper)
        new = [(parameter, from_working(new_p, parameter.dtype))]
        new += [(cells[MASTER], new_p)] if master is not None else []
        new += [(cells[name], value) for name, value in new_state.items()]
        if places is None:
            return new
        # A place that occurs several times gets the same new row each time.
        return [(cell, scatter_set(old[cell], value, places)) for cell, value in new]

    def _refuse_rows(self, hyper: Hyper) -> None:
        if not self.is_row_wise(hyper):
            raise GradientError(
                f"{type(self).__name__}.step",
                "a gradient is row-sparse, but a step changes rows without a gradient too",
                received="the gradient of an Embedding with sparse=True",
                fix="use optim.SparseAdam, SGD or Adagrad without momentum and weight decay, or sparse=False",
            )

    def _refuse_unused(self) -> None:
        if self.allow_unused:
            return
        named = [(name, p) for g in self.param_groups for name, p in zip(g.names, g["params"], strict=True)]
        unused = [(i, name, p) for i, (name, p) in enumerate(named) if p.trainable and p.grad is None]
        if not unused:
            return
        shown = "; ".join(describe(*entry) for entry in unused[:5])
        shown += f"; and {len(unused) - 5} more" if len(unused) > 5 else ""
        if len(unused) == sum(p.trainable for _, p in named):
            message, fix = "no parameter has a gradient", "call loss.backward() between zero_grad() and step()"
        else:
            message = "the loss does not reach a trainable parameter: its gradient is None"
            fix = (
                "let the loss depend on it (a detach, a cast to integers or an argmax cuts the path), freeze it with "
                "p.requires_grad = False, or make the optimizer with allow_unused=True"
            )
        raise UnusedParameterError(f"{type(self).__name__}.step", message, received=shown, fix=fix)

    # --- saving -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the state as nested dicts of NumPy arrays and plain numbers.

        Parameters are called by their names if all have one, else by their numbers, as strings.

        >>> sorted(optim.SGD([Parameter(tensor([1.0]))], lr=0.1).state_dict())
        ['optimizer', 'param_groups', 'state', 'step_count']
        """
        return saving.save(self)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a state that `state_dict` gave, hyperparameters included.

        Raises:
            StateError: it does not fit; the message says where, and nothing has been loaded.
        """
        saving.load(self, state_dict)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.param_groups))})"


def _as_dtype(value: Any, dtype: Any) -> Any:
    """Cast floating scalars, so that they do not promote a parameter."""
    if isinstance(value, tuple):
        return tuple(_as_dtype(part, dtype) for part in value)
    if isinstance(value, Tensor) and value.dtype in dtypes.FLOATING:
        return astype(value, dtype)
    return value


def working_dtype(dtype: Any) -> Any:
    """The dtype that updates of a parameter compute with."""
    return dtypes.float32 if dtype in dtypes.HALF else dtypes.real_of(dtype)


def to_working(x: Tensor) -> Tensor:
    """What updates compute with: at least float32, and complex numbers as pairs along a last axis."""
    if x.dtype in dtypes.COMPLEX:
        return stack([real(x), imag(x)], -1)
    return astype(x, dtypes.float32) if x.dtype in dtypes.HALF else x


def from_working(x: Tensor, dtype: Any) -> Tensor:
    """Return what was computed in the working dtype as the parameter has it."""
    return complex(x[..., 0], x[..., 1]) if dtype in dtypes.COMPLEX else astype(x, dtype)


def downhill(g: Tensor, hyper: Hyper) -> Tensor:
    """Return the gradient to go against: negated to maximize."""
    return -g if hyper["maximize"] else g


def descent(g: Tensor, p: Tensor, hyper: Hyper) -> Tensor:
    """Return the gradient to go against, with the weight decay ``weight_decay * p`` added."""
    g = downhill(g, hyper)
    if is_coupled(hyper):
        g = g + hyper["weight_decay"] * p
    return g


def is_coupled(hyper: Hyper) -> bool:
    """Say whether the weight decay goes into the gradient, as the gradient of an L2 penalty."""
    return bool(hyper.get("weight_decay")) and not hyper.get("decoupled_weight_decay")


def shrunk(p: Tensor, hyper: Hyper) -> Tensor:
    """Return the parameter after a weight decay apart from the gradient, ``(1 - lr * weight_decay) * p``."""
    return (1 - hyper["lr"] * hyper["weight_decay"]) * p if is_on(hyper["weight_decay"]) else p


def decayed(p: Tensor, hyper: Hyper) -> Tensor:
    """Return the parameter after a decoupled weight decay, if it is decoupled."""
    return shrunk(p, hyper) if hyper["decoupled_weight_decay"] else p
