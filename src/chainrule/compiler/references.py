"""What a Python function refers to: its globals, closure, and the attributes that it names, found in its bytecode."""

from __future__ import annotations

import dis
import functools
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..autodiff.trees import is_module
from ..tensor.cells import Cell
from ..tensor.tensor import Tensor

_FOREIGN = sys.stdlib_module_names | {"chainrule", "numpy", "optree", "ml_dtypes"}
_LIKE_A_USER = ("train", "tasks")  # rooms of this package whose objects are nothing special
_SCALARS = (bool, int, float, complex, str, bytes, type(None))
_MAX_ELEMENTS = 10_000


class Names(NamedTuple):
    """The names in the bytecode of a function and of those defined in it, each with its first line."""

    globals: dict[str, int]
    closure: dict[str, int]
    attributes: frozenset[str]


@functools.lru_cache(maxsize=1000)
def names_of(code: types.CodeType) -> Names:
    """Read the bytecode."""
    global_names: dict[str, int] = {}
    closure: dict[str, int] = {}
    attributes: set[str] = set()
    pending = [code]
    while pending:
        current = pending.pop()
        pending += [c for c in current.co_consts if isinstance(c, types.CodeType)]
        line = current.co_firstlineno
        for instruction in dis.get_instructions(current):
            if instruction.positions is not None and instruction.positions.lineno is not None:
                line = instruction.positions.lineno
            name = instruction.argval
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL"):
                global_names.setdefault(name, line)
            elif instruction.opname in ("LOAD_DEREF", "STORE_DEREF", "LOAD_CLASSDEREF"):
                closure.setdefault(name, line)
            elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "LOAD_SUPER_ATTR"):
                attributes.add(name)
    return Names(global_names, closure, frozenset(attributes))


def is_foreign(x: Any) -> bool:
    """Whether a function, class or module belongs to this package, to Python or to NumPy, not to the user."""
    file = x.__code__.co_filename if isinstance(x, types.FunctionType) else ""
    if file.startswith("<") and not file.startswith("<frozen"):
        return False  # typed in, by the user or by a documentation test
    name = x.__name__ if isinstance(x, types.ModuleType) else getattr(x, "__module__", None)
    room, _, inner = str(name).partition(".")
    return room in _FOREIGN and not (room == "chainrule" and inner.startswith(_LIKE_A_USER))


class Slots:
    """The attributes of an object without a dictionary."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    def get(self, name: str, default: Any) -> Any:
        """Return an attribute."""
        return getattr(self._owner, name, default)


class Visitor:
    """Goes through all that a function can see, and reports what its program depends on.

    A subclass gives the methods ``name``, ``closure``, ``code``, ``elements``, ``array``, ``module``, ``mapping``.
    """

    def __init__(self) -> None:
        self._seen: set[Any] = set()
        self._class_contents: dict[type, Mapping[str, Any]] = {}  # `vars` makes another object each time
        self._alive: list[Any] = []  # what `_seen` knows by identity

    def name(self, place: Any, key: str, path: str) -> None:
        """A dictionary (or what has ``get``) has a value under a name."""

    def closure(self, cell: Any, path: str) -> None:
        """A variable of a closure."""

    def code(self, function: types.FunctionType, path: str) -> None:
        """The code of a function, which tools that load modules again exchange in place."""

    def elements(self, container: Any, path: str) -> None:
        """A list, dict or set."""

    def array(self, array: np.ndarray, path: str, location: str) -> None:
        """A NumPy array."""

    def module(self, module: Any, path: str) -> None:
        """A module with parameters."""

    def mapping(self, mapping: Mapping[str, Any], path: str) -> None:
        """A group of parameters of an optimizer."""

    # --- the walk -----------------------------------------------------------------------------------------

    def _first(self, kind: str, x: Any, extra: Any = None) -> bool:
        key = (kind, id(x), extra)
        if key in self._seen:
            return False
        self._seen.add(key)
        self._alive.append(x)
        return True

    def function(self, f: Any, path: str, receiver: Any = None) -> None:
        """Visit what a function refers to, and what the functions that it can call refer to."""
        if isinstance(f, types.MethodType):
            self.function(f.__func__, path, f.__self__)
            return
        if isinstance(f, functools.partial):
            self.value((f.func, *f.args, *f.keywords.values()), frozenset(), path, "")
            return
        if not isinstance(f, types.FunctionType):
            if hasattr(f, "__wrapped__"):
                self.function(f.__wrapped__, path, receiver)
            return
        names = names_of(f.__code__)
        if receiver is not None:
            self.value(receiver, names.attributes, "self", f.__code__.co_filename)
        if not self._first("function", f):
            return
        file = f.__code__.co_filename
        if is_foreign(f):
            if hasattr(f, "__wrapped__"):  # a transform of a user's function
                self._closure(f, Names({}, {}, frozenset()), path, file)
            return
        self.code(f, path or f.__qualname__)
        for name, line in names.globals.items():
            if name in f.__globals__:
                self.name(f.__globals__, name, f"the global {name}")
                self.value(f.__globals__[name], names.attributes, name, f"{file}:{line}")
        self._closure(f, names, path, file)
        for value in (*(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values()):
            self.value(value, names.attributes, path, f"{file}:{f.__code__.co_firstlineno}")

    def _closure(self, f: types.FunctionType, names: Names, path: str, file: str) -> None:
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # not bound yet
                continue
            self.closure(cell, f"the variable {name}")
            line = names.closure.get(name, f.__code__.co_firstlineno)
            self.value(value, names.attributes, name, f"{file}:{line}")

    def value(self, value: Any, attributes: frozenset[str], path: str, location: str) -> None:
        """Visit a value on which a function names ``attributes``."""
        if isinstance(value, (*_SCALARS, Tensor)):
            return
        if isinstance(value, np.ndarray):
            if self._first("array", value):
                self.array(value, path, location)
        elif is_module(value) and not isinstance(value, type):
            self._module(value, path)
            if not is_foreign(type(value)) and self._first("methods", value, attributes):
                self._methods(value, type(value), attributes, path)
                for name in sorted(attributes & vars(value).keys()):
                    self.value(vars(value)[name], attributes, f"{path}.{name}", location)
        elif isinstance(value, (list, tuple, dict, set, frozenset)):
            if self._first("elements", value, attributes):
                self.elements(value, path)
                for key, item in _items(value):
                    self.value(item, attributes, f"{path}[{key!r}]", location)
        elif isinstance(value, (types.FunctionType, types.MethodType, functools.partial)):
            self.function(value, path)
            if vars(value) and self._first("attributes", value, attributes):
                self._attributes(vars(value), attributes, path, location)
        elif isinstance(value, types.ModuleType):
            if not is_foreign(value) and self._first("attributes", value, attributes):
                self._attributes(vars(value), attributes, path, location)
        elif isinstance(value, Mapping):
            if self._first("mapping", value):
                self.mapping(value, path)
        elif self._first("attributes", value, attributes):
            self._object(value, attributes, path, location)

    def _object(self, value: Any, attributes: frozenset[str], path: str, location: str) -> None:
        kind = value if isinstance(value, type) else type(value)
        if hasattr(value, "__wrapped__") and not isinstance(value, type):
            self.function(value.__wrapped__, path)
        own = getattr(value, "__dict__", None)
        if is_foreign(kind):
            if own is None or kind is value or hasattr(kind, "program_for"):  # the source of a compiled function is all
                return
            if _is_ours(kind):
                self._own_object(own, path, location)
            else:
                self._attributes(own, attributes, path, location)
            return
        self._attributes(Slots(value) if own is None else own, attributes, path, location)
        if kind is not value and own is not None and any(map(_is_ours, kind.__mro__)):  # an optimizer of the user's
            self._own_object(own, path, location)
            attributes = attributes.union(*(vars(base) for base in kind.__mro__ if not is_foreign(base)))
        self._methods(value, kind, attributes, path)

    def _own_object(self, own: dict[str, Any], path: str, location: str) -> None:
        """An optimizer, a schedule and the like: all that decides what it does."""
        for name, value in own.items():
            if not isinstance(value, dict):
                self.name(own, name, f"{path}.{name}")
                self.value(value, frozenset(), f"{path}.{name}", location)

    def _attributes(self, place: Any, attributes: frozenset[str], path: str, location: str) -> None:
        for name in sorted(attributes):
            value = place.get(name, self)
            if value is not self and not isinstance(value, (property, classmethod, staticmethod)):
                self.name(place, name, f"{path}.{name}")
                self.value(value, attributes, f"{path}.{name}", location)

    def _methods(self, value: Any, kind: type, attributes: frozenset[str], path: str) -> None:
        """Visit what an object has from its class: methods, properties, and constants."""
        for name in sorted(attributes | {"__call__", "forward"}):
            bases = [base for base in kind.__mro__ if not is_foreign(base)]
            above: list[Any] = [] if value is kind or is_module(value) else [getattr(value, "__dict__", {})]
            for base in bases:
                found = vars(base).get(name, self)
                above.append(self._class_contents.setdefault(base, vars(base)))
                if found is not self:
                    self._from_class(found, above, name, path, value)
                    if not _calls_super(found):
                        break

    def _from_class(self, found: Any, above: list[Any], name: str, path: str, value: Any) -> None:
        """Visit what was found under a name in the last of some dictionaries; the others can come to hide it."""
        function = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
        own = isinstance(function, types.FunctionType)
        if own and not is_foreign(function):
            self.function(function, f"{path}.{name}", value)
        if own or not hasattr(type(found), "__get__"):
            for place in above:
                self.name(place, name, f"{path}.{name}")
            if not own:
                self.value(found, frozenset(), f"{path}.{name}", "")

    def _module(self, module: Any, path: str) -> None:
        if not self._first("module", module):
            return
        self.module(module, path)
        for inner in module.modules():
            if not is_foreign(type(inner)):
                self._methods(inner, type(inner), frozenset({"forward"}), path)
            for value in vars(inner).values():
                for item in value if isinstance(value, list) else (value,):
                    if isinstance(item, types.FunctionType):
                        self.function(item, path)


def _is_ours(kind: type) -> bool:
    return is_foreign(kind) and kind.__module__.partition(".")[0] == "chainrule"


def _calls_super(f: Any) -> bool:
    return isinstance(f, types.FunctionType) and "super" in names_of(f.__code__).globals


def _items(container: Any) -> Iterator[tuple[Any, Any]]:
    if len(container) > _MAX_ELEMENTS:
        return iter(())
    return iter(container.items()) if isinstance(container, dict) else enumerate(container)


def cells_in(x: Any) -> list[Cell]:
    """The cells of a module, or among the values of a mapping."""
    if is_module(x):
        return [cell for _, cell in x.named_cells()]
    return [c for v in x.values() for c in (v if isinstance(v, (list, tuple)) else (v,)) if isinstance(c, Cell)]
