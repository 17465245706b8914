"""Modules and parameters in lists and dicts, and modules one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import ArgumentError
from ..tensor import Parameter, TensorLike
from .module import Module, checked_name


class _List(Module):
    """What is under the names "0", "1", ..."""

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self.extend(values)

    def _entries(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name.isdigit()}

    def _checked(self, value: Any) -> Any:
        return _module(type(self).__name__, value)

    def append(self, value: Any) -> Any:
        """Add one at the end, and return the whole."""
        setattr(self, str(len(self)), self._checked(value))
        return self

    def extend(self, values: Iterable[Any]) -> Any:
        """Add several at the end, and return the whole."""
        for value in list(values):
            self.append(value)
        return self

    __iadd__ = extend

    def __len__(self) -> int:
        return len(self._entries())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._entries().values())

    def __getitem__(self, index: int | slice) -> Any:
        return type(self)(list(self)[index]) if isinstance(index, slice) else list(self)[index]

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, list(self._entries())[index], self._checked(value))

    def __add__(self, others: Iterable[Any]) -> Any:
        return self[:].extend(others)


class ModuleList(_List):
    """Modules in a list, under the names "0", "1", ...

    >>> layers = nn.ModuleList([nn.Linear(2, 2), nn.ReLU()])
    >>> layers.insert(1, nn.Dropout(0.1))
    >>> [type(layer).__name__ for layer in layers]
    ['Linear', 'Dropout', 'ReLU']
    """

    def insert(self, index: int, value: Module) -> None:
        """Put a module in front of another; those behind get new names."""
        modules = list(self)
        modules.insert(index, self._checked(value))
        self._replace(modules)

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        del modules[index]
        self._replace(modules)

    def pop(self, index: int = -1) -> Module:
        """Take a module out; those behind get new names."""
        module: Module = self[index]
        del self[index]
        return module

    def _replace(self, modules: list[Module]) -> None:
        """Hold these modules instead, under the names "0", "1", ..."""
        names = list(self._entries())
        if any(not name.isdigit() for name in names):
            raise ArgumentError(
                type(self).__name__, "modules with names of their own cannot be numbered anew",
                received=", ".join(names), fix="make a new one of the modules",
            )  # fmt: skip
        for name in names:
            delattr(self, name)
        for i, module in enumerate(modules):
            setattr(self, str(i), module)


class Sequential(ModuleList):
    """Modules applied one after the other.

    Args:
        *modules: the modules, or one mapping from names to modules.

    >>> nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))(cr.zeros((5, 3))).shape
    (5, 2)
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                setattr(self, checked_name(self, name), self._checked(module))
        else:
            super().__init__(modules)

    def _entries(self) -> dict[str, Any]:
        return dict(self.named_children())

    def __getitem__(self, index: int | slice) -> Any:
        return Sequential(*list(self)[index]) if isinstance(index, slice) else super().__getitem__(index)

    def forward(self, x: Any) -> Any:
        """Apply the modules in order."""
        for module in self.children():
            x = module(x)
        return x


class ParameterList(_List):
    """Parameters in a list, under the names "0", "1", ...; what is no parameter becomes one.

    >>> scales = nn.ParameterList([cr.ones((3,)), cr.ones((2, 2))])
    >>> [name for name, _ in scales.named_parameters()]
    ['0', '1']
    """

    def _checked(self, value: TensorLike) -> Parameter:
        return _parameter(value)

    def extra_repr(self) -> str:
        """The shapes."""
        return ", ".join(str(p.shape) for p in self)


class _Dict(Module):
    """What is under names that are given."""

    def __init__(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        self.update(values)

    def _checked(self, value: Any) -> Any:
        return _module(type(self).__name__, value)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, checked_name(self, name), self._checked(value))

    def __getitem__(self, name: str) -> Any:
        return dict(self.items())[name]

    def __delitem__(self, name: str) -> None:
        self.pop(name)

    def __len__(self) -> int:
        return len(self.keys())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def update(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Put in, or replace, what is under these names."""
        for name, value in dict(values).items():
            self[name] = value

    def pop(self, name: str) -> Any:
        """Take out and return what is under a name."""
        value = self[name]
        delattr(self, name)
        return value

    def clear(self) -> None:
        """Take out everything."""
        for name in self.keys():
            del self[name]

    def keys(self) -> list[str]:
        """Names."""
        return [name for name, _ in self.items()]

    def values(self) -> list[Any]:
        """What is under them."""
        return [value for _, value in self.items()]

    def items(self) -> Iterator[tuple[str, Any]]:
        """Names, and what is under them."""
        return self._members()


class ModuleDict(_Dict):
    """Modules in a dict.

    >>> sorted(nn.ModuleDict({"a": nn.ReLU(), "b": nn.Tanh()}).keys())
    ['a', 'b']
    """


class ParameterDict(_Dict):
    """Parameters in a dict; what is no parameter becomes one.

    >>> nn.ParameterDict({"scale": cr.ones((3,)), "shift": cr.zeros((3,))})["shift"]
    Parameter(tensor([0., 0., 0.]))
    """

    def _checked(self, value: TensorLike) -> Parameter:
        return _parameter(value)

    def extra_repr(self) -> str:
        """The names and shapes."""
        return ", ".join(f"{name}: {p.shape}" for name, p in self.items())


def _parameter(value: TensorLike) -> Parameter:
    return value if isinstance(value, Parameter) else Parameter(value)


def _module(operation: str, module: Any) -> Module:
    if not isinstance(module, Module):
        raise ArgumentError(
            operation,
            "takes modules",
            received=f"{type(module).__name__} {module!r}"[:100],
            fix="use the layer (nn.ReLU()) instead of the function or the class" if callable(module) else "",
        )
    return module
