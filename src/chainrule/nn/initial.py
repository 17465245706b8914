"""Parameters that get their first value when it is needed.

Each is made from a stream of random numbers of its own, which depends on the seed and on the parameter's path in the
model: adding a layer changes no other.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

from .. import functions as F
from ..dtypes import as_dtype
from ..functions.checks import as_shape
from ..functions.random import on_manual_seed
from ..tensor import Parameter, Tensor

Rule = Callable[[tuple[int, ...], Any, F.Generator], Tensor]


class _Stream:
    """Random numbers for the parameters made between two calls of `chainrule.manual_seed`."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.roots: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self.used = 0
        self.places: Counter[tuple[int, str]] = Counter()

    def number(self, root: Any) -> int:
        """Models are numbered in the order in which they are first needed."""
        if root not in self.roots:
            self.roots[root] = self.used
            self.used += 1
        return self.roots[root]


_stream = _Stream(int(F.default_generator.numpy()[0]))


def _reseed(seed: int) -> None:
    global _stream
    _stream = _Stream(seed)


on_manual_seed(_reseed)


class Place:
    """Where a cell is: the module that it was made a part of first, and its name there."""

    def __init__(self, module: Any, name: str) -> None:
        self._module = weakref.ref(module)
        self._name = name

    def resolve(self) -> tuple[Any, str]:
        """Return the outermost module, and the dotted path from there."""
        root, path, module = None, self._name, self._module()
        while module is not None:
            root = module
            path = f"{module._name}.{path}" if module._name else path
            module = module._owner()
        return root, path

    @property
    def path(self) -> str:
        """The dotted path."""
        return self.resolve()[1]


class Initial:
    """The value that a parameter will have when it is first needed."""

    def __init__(self, shape: tuple[int, ...], rule: Rule, dtype: Any) -> None:
        self.shape = shape
        self.rule = rule
        self.dtype = dtype
        self.stream = _stream
        self.place: Place | None = None

    def __call__(self) -> Any:
        """Make the value."""
        import hashlib  # not at the top: it would cost every user's start several milliseconds

        root, path = (None, "") if self.place is None else self.place.resolve()
        number = self.stream.number(self if root is None else root)
        before = self.stream.places[number, path]  # modules that had this path, and moved on when others were inserted
        self.stream.places[number, path] += 1
        key = f"{self.stream.seed}/{number}/{path}{f'/{before}' * bool(before)}".encode()
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")
        return self.rule(self.shape, self.dtype, F.Generator(seed)).numpy()


def parameter(shape: tuple[int, ...], rule: Rule, dtype: Any = None) -> Parameter:
    """Return a parameter whose first value ``rule`` makes when it is needed.

    Args:
        shape: its shape.
        rule: ``rule(shape, dtype, generator)``, such as `uniform` gives.
        dtype: float32 unless said otherwise.

    Raises:
        ArgumentError: a size is negative, or no whole number.

    >>> nn.init.parameter((2, 2), nn.init.eye())
    Parameter(tensor([[1., 0.],
            [0., 1.]]))
    """
    dtype = as_dtype("float32" if dtype is None else dtype)
    shape = as_shape("parameter", shape)
    return Parameter(Initial(shape, rule, dtype), shape=shape, dtype=dtype)
