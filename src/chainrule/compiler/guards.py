"""Guards: what a program was made for, beside its arguments, checked before each run.

What Python code refers to by name is compared by identity (and by value if it is a number, a string or a container)
at every call. Attributes of modules, hyperparameters and what is trainable can only change through code of this
package, which then replaces a token: they are looked at again when the token is another one.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import is_
from typing import Any

import numpy as np

from ..errors import TraceError
from ..graph.ir import Value
from ..tensor.cells import Cell
from ..tensor.state import shared
from ..tensor.tensor import Tensor
from .capture import Captured, TakenArray
from .references import Visitor, cells_in, names_of

_BY_VALUE = (bool, int, complex, str, bytes, type(None), np.dtype, np.generic)


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING = _Missing()


def same(a: Any, b: Any) -> bool:
    """Whether ``b`` means the same as ``a`` to a program: the same object, or an equal number, string or container."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return repr(a) == repr(b)  # tells -0.0 from 0.0, and makes NaN equal to itself
    if isinstance(a, _BY_VALUE):
        return bool(a == b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(map(same, a, b)) and all(map(same, a.values(), b.values()))
    if isinstance(a, (set, frozenset)):
        return a == b
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return hasattr(a, "__self__") and a == b  # methods are made anew at every look


def frozen(x: Any) -> Any:
    """What to compare with later: a copy of a container, all else as it is."""
    if isinstance(x, (list, dict, set, np.ndarray)):
        return x.copy()
    return x


def shown(x: Any) -> str:
    """A value in a few characters."""
    if isinstance(x, (float, *_BY_VALUE)) or x is MISSING:
        text = repr(x)
    elif isinstance(x, (list, tuple, dict, set)):
        text = f"a {type(x).__name__} of {len(x)}"
    else:
        name = getattr(x, "__qualname__", "")
        text = f"{type(x).__name__} {name}".rstrip() + f" at {id(x):#x}"
    return text if len(text) <= 60 else text[:57] + "..."


class Guards(Visitor):
    """What one program depends on."""

    def __init__(self) -> None:
        super().__init__()
        self._names: list[tuple[Any, str, Any]] = []
        self._name_paths: list[str] = []
        self._closures: list[tuple[Any, Any, str]] = []
        self._codes: list[tuple[types.FunctionType, types.CodeType, str]] = []
        self._containers: list[tuple[Any, Sequence[Any], str]] = []
        self._arrays: list[tuple[np.ndarray, TakenArray]] = []
        self._modules: list[tuple[Any, dict[str, Any], str]] = []
        self._mappings: list[tuple[Mapping[str, Any], dict[str, Any], str]] = []
        self._trainable: dict[Cell, bool] = {}
        self._grads: list[tuple[Cell, str]] = []
        self._taken: list[TakenArray] = []
        self._structure: Any = None
        self._gradients: Any = None

    # --- collecting ---------------------------------------------------------------------------------------

    def name(self, place: Any, key: str, path: str) -> None:
        """See `Visitor`."""
        if self._first("name", place, key):
            self._names.append((place, key, place.get(key, MISSING)))
            self._name_paths.append(path)

    def closure(self, cell: Any, path: str) -> None:
        """See `Visitor`."""
        if self._first("closure", cell):
            self._closures.append((cell, cell.cell_contents, path))

    def code(self, function: types.FunctionType, path: str) -> None:
        """See `Visitor`."""
        self._codes.append((function, function.__code__, path))

    def elements(self, container: Any, path: str) -> None:
        """See `Visitor`."""
        if isinstance(container, (list, dict, set)) and self._first("contents", container):
            self._containers.append((container, _contents(container), path))

    def array(self, array: np.ndarray, path: str, location: str) -> None:
        """See `Visitor`."""
        self._arrays.append((array, TakenArray(array, location)))

    def module(self, module: Any, path: str) -> None:
        """See `Visitor`."""
        for name, inner in module.named_modules(path):
            self._modules.append((inner, {k: frozen(v) for k, v in _attributes(inner)}, name))
        self._trainable.update((cell, cell.trainable) for cell in cells_in(module))

    def mapping(self, mapping: Mapping[str, Any], path: str) -> None:
        """See `Visitor`."""
        self._mappings.append((mapping, {k: frozen(v) for k, v in _entries(mapping).items()}, path))
        self._trainable.update((cell, cell.trainable) for cell in cells_in(mapping))

    def complete(self, captured: Captured) -> None:
        """Add what only tracing shows: cells, gradients, arrays."""
        for cell in captured.cells:
            self._trainable[cell] = cell.trainable
            if cell.place is not None:
                root = cell.place.resolve()[0]
                if root is not None:
                    self._module(root, type(root).__name__)
        self._grads = captured.grad_kinds
        self._taken = captured.arrays
        known = {id(taken.array) for taken in self._taken}
        self._arrays = [entry for entry in self._arrays if id(entry[0]) not in known]

    # --- checking -----------------------------------------------------------------------------------------

    def hold(self) -> bool:
        """Whether everything is as it was when the program was made.

        Raises:
            TraceError: an array that became a constant was changed in place.
        """
        if shared.structure is not self._structure and not self._check_structure():
            return False
        if shared.gradients is not self._gradients and any(cell.grad_kind != kind for cell, kind in self._grads):
            return False
        for i, (place, key, value) in enumerate(self._names):
            found = place.get(key, MISSING)
            if found is not value:
                if not same(value, found):
                    return False
                self._names[i] = (place, key, found)
        try:
            for cell, value, _ in self._closures:
                if cell.cell_contents is not value and not same(value, cell.cell_contents):
                    return False
        except ValueError:  # the variable was deleted
            return False
        for function, code, _ in self._codes:
            if function.__code__ is not code:
                return False
        for container, contents, _ in self._containers:
            now = container if container.__class__ is list else _contents(container)
            if len(now) != len(contents) or not (all(map(is_, now, contents)) or all(map(same, contents, now))):
                return False
        for taken in self._taken:
            taken.check()
        for _, taken in self._arrays:
            taken.check()
        return True

    def _check_structure(self) -> bool:
        token = shared.structure
        for module, saved, _ in self._modules:
            if not _equal(saved, dict(_attributes(module))):
                return False
        for mapping, saved, _ in self._mappings:
            if not _equal(saved, _entries(mapping)):
                return False
        if any(cell.trainable != before for cell, before in self._trainable.items()):
            return False
        self._structure = token
        return True

    @property
    def gradients_settled(self) -> bool:
        """Whether no gradient came to be or went since the end of the last run."""
        return shared.gradients is self._gradients

    def settle_gradients(self) -> None:
        """Call at the end of a run: if the next one starts from gradients of the same kinds, don't look again."""
        same_kinds = all(cell.grad_kind == kind for cell, kind in self._grads)
        self._gradients = shared.gradients if same_kinds else None

    def changes(self) -> Iterator[tuple[str, Any, Any]]:
        """What is different now: what, before, after."""
        for (place, key, value), path in zip(self._names, self._name_paths, strict=True):
            yield from _change(path, value, place.get(key, MISSING))
        for cell, value, path in self._closures:
            yield from _change(path, value, _content(cell))
        for function, code, path in self._codes:
            yield from _change(f"the code of {path}", code, function.__code__)
        for container, contents, path in self._containers:
            if isinstance(container, dict):
                n = len(contents) // 2
                yield from _changed_entries(path + " ", dict(zip(contents[:n], contents[n:], strict=True)), container)
            else:
                yield from _changed_contents(path, contents, _contents(container))
        for module, saved, path in self._modules:
            yield from _changed_entries(path + ".", saved, dict(_attributes(module)))
        for mapping, saved, path in self._mappings:
            yield from _changed_entries(path + ".", saved, _entries(mapping))
        for cell, before in self._trainable.items():
            yield from _change(f"trainable of {cell.name or 'a cell'}", before, cell.trainable)
        for cell, kind in self._grads:
            yield from _change(f"the gradient of {cell.name or 'a cell'} before the call", kind, cell.grad_kind)

    def refuse_side_effects(self, operation: str) -> bool:
        """Raise an error if tracing has changed what the function refers to; return whether to collect anew.

        A cache that was filled with a constant is no such change.
        """
        filled = False
        for what, before, after in self.changes():
            if not ((before is None or before is MISSING) and _is_constant(after)):
                raise TraceError(
                    operation,
                    f"the function changes {what}, which would happen while it is traced and never again",
                    received=f"{shown(before)} -> {shown(after)}",
                    fix="return the value, make it a cell (cr.Cell, written with assign), or do it outside of the "
                    "compiled function",
                )
            filled = True
        return filled


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the variable was deleted
        return MISSING


def _contents(container: Any) -> Sequence[Any]:
    if isinstance(container, dict):
        return [*container, *container.values()]
    return list(container)


def _attributes(module: Any) -> Iterator[tuple[str, Any]]:
    yield "training", module.training
    for name, value in vars(module).items():
        if name not in ("_parent", "_name", "training") and not hasattr(value, "program_for"):
            yield name, value


def _equal(saved: dict[str, Any], now: dict[str, Any]) -> bool:
    if len(saved) != len(now):
        return False
    for key, value in saved.items():
        found = now.get(key, MISSING)
        if found is not value and not same(value, found):
            return False
    return True


def _change(what: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    if not same(before, after):
        yield what, before, after


def _changed_entries(path: str, saved: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in saved | now:
        yield from _change(f"{path}{key}", saved.get(key, MISSING), now.get(key, MISSING))


def _changed_contents(path: str, before: Sequence[Any], after: Sequence[Any]) -> Iterator[tuple[str, Any, Any]]:
    if len(before) != len(after) or not all(map(same, before, after)):
        yield f"the elements of {path}", list(before), list(after)


def _is_constant(x: Any) -> bool:
    if isinstance(x, (list, tuple)):
        return all(map(_is_constant, x))
    if isinstance(x, Tensor):
        return not isinstance(x, Cell) and not isinstance(x.value, Value)
    return isinstance(x, np.ndarray)


def _entries(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters of a group, but for what schedules note there for themselves."""
    return {key: value for key, value in mapping.items() if key != "initial_lr"}


def guards_of(function: Callable[..., Any], values: Sequence[Any]) -> Guards:
    """Collect what a call of ``function`` depends on, beside the arguments that vary.

    Args:
        function: the user's function.
        values: arguments that do not vary.
    """
    made = Guards()
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    names = frozenset() if code is None else names_of(code).attributes
    for value in (function, *values):
        made.value(value, names, "an argument", "")
    return made
