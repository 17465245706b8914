"""A group of parameters that share their hyperparameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from numbers import Real
from typing import Any

from .. import dtypes
from ..errors import ArgumentError
from ..functions import asarray
from ..tensor import Cell, Tensor, structure_changed
from .params import Named


def is_on(option: Any) -> bool:
    """Say whether an option such as a momentum is in use: it is a tensor, or a number that is not zero."""
    return isinstance(option, Tensor) or bool(option)


def plain(option: Any) -> Any:
    """Return an option as Python numbers, its cells read."""
    if isinstance(option, tuple):
        return tuple(plain(part) for part in option)
    return float(option) if isinstance(option, (Tensor, Real)) and not isinstance(option, int) else option


def _assigned(current: Any, value: Any) -> Any:
    """Return what takes the place of ``current``; cells stay and are assigned."""
    if isinstance(current, Cell):
        current.assign(asarray(value, dtypes.float64))
        return current
    if isinstance(current, tuple):
        return tuple(_assigned(c, v) for c, v in zip(current, value, strict=True))
    return value


class ParamGroup(MutableMapping[str, Any]):
    """Parameters under ``"params"``, the learning rate under ``"lr"``, and the other hyperparameters by name.

    ``group["lr"]`` is a float64 cell, and ``group["lr"] = 0.1`` assigns it, so that a compiled step takes the new value
    without being compiled anew. The other hyperparameters are plain numbers.

    >>> group = optim.SGD([Parameter(tensor([1.0]))], lr=0.1, momentum=0.9).param_groups[0]
    >>> group["lr"] = 0.05
    >>> float(group["lr"]), group["momentum"]
    (0.05, 0.9)
    """

    def __init__(
        self,
        operation: str,
        named: list[Named],
        lr: Any,
        options: dict[str, Any],
        *,
        structural: tuple[str, ...],
        check: Callable[[dict[str, Any]], None],
        start: int,
    ) -> None:
        self._operation = operation
        self._structural = structural
        self._check = check
        self.names = [name for name, _ in named]
        self.start = start  # how many steps the optimizer had done when the group came
        check({"lr": lr} | options)
        self._values: dict[str, Any] = {
            "params": [parameter for _, parameter in named],
            "lr": Cell(asarray(lr, dtypes.float64)),
            **options,
        }

    @property
    def options(self) -> dict[str, Any]:
        """The hyperparameters but for the learning rate."""
        return {k: v for k, v in self._values.items() if k not in ("params", "lr", "initial_lr")}

    def vary(self, key: str) -> None:
        """Keep a number, or the first of a tuple, in a cell, so that it can change like the learning rate."""
        value = self._values[key]
        first, rest = (value[0], value[1:]) if isinstance(value, tuple) else (value, None)
        if not isinstance(first, Cell):
            first = Cell(asarray(first, dtypes.float64))
        self._values[key] = first if rest is None else (first, *rest)
        structure_changed()

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "params":
            raise ArgumentError(self._operation, "a group keeps its parameters", fix="use add_param_group")
        if key == "initial_lr":
            self._values[key] = float(value)
            return
        if key not in self._values:
            known = ", ".join(["lr", *self.options])
            raise ArgumentError(
                self._operation, "there is no such hyperparameter", received=repr(key), fix=f"the names are {known}"
            )
        current = self._values[key]
        if key in self._structural and is_on(current) != is_on(value):
            raise ArgumentError(
                self._operation,
                f"{key} decides which state there is, and cannot be switched on or off later",
                received=f"{plain(current)} -> {plain(value)}",
                fix=f"give {key} when making the optimizer",
            )
        value = tuple(value) if isinstance(value, list) else value
        self._check({k: v for k, v in self._values.items() if k not in ("params", "initial_lr")} | {key: value})
        self._values[key] = _assigned(current, value)
        if not isinstance(current, Cell):
            structure_changed()

    def __delitem__(self, key: str) -> None:
        raise ArgumentError(self._operation, "a group keeps its hyperparameters", received=f"del group[{key!r}]")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        shown = {"lr": plain(self["lr"])} | {k: plain(v) for k, v in self.options.items()}
        return f"ParamGroup({len(self['params'])} parameters, " + ", ".join(f"{k}={v}" for k, v in shown.items()) + ")"
