"""The module: parameters, buffers and submodules under names."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .. import functions as F
from ..autodiff import ParameterTree
from ..dtypes import FLOATING, as_dtype
from ..errors import ArgumentError, ChainruleError, ImmutableError
from ..tensor import Cell, Parameter, Tensor, TensorLike, structure_changed
from . import state
from .initial import Initial, Place


class Module:
    """Base class of all layers and models.

    Attributes that are parameters, other cells (buffers) or modules are found by name, also inside of lists, tuples and
    dicts. A subclass defines `forward`; calling the module calls it.

    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         self.fc = nn.Linear(3, 2)
    ...
    ...     def forward(self, x):
    ...         return cr.relu(self.fc(x))
    >>> Net()(cr.zeros((5, 3))).shape
    (5, 2)
    """

    training: bool = True
    _name: str = ""
    _parent: Callable[[], Module | None] | None = None
    _unsaved: tuple[str, ...] = ()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the result; to be defined by the subclass."""
        raise ArgumentError(type(self).__name__, "the class does not define forward", fix="def forward(self, x): ...")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call `forward`, with the hooks around it; an error names the layer's path in the model."""
        try:
            for hook in self.__dict__.get("_pre_hooks", ()):
                changed = hook(self, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
            out = self.forward(*args, **kwargs)
            for hook in self.__dict__.get("_hooks", ()):
                changed = hook(self, args, out)
                out = out if changed is None else changed
            return out
        except ChainruleError as error:
            kind = type(self).__name__
            where = self._name or kind
            error.layers.append(where if error.layers or not self._name else f"{where} ({kind})")
            raise

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Tensor) and not isinstance(value, Cell) and isinstance(self.__dict__.get(name), Cell):
            raise ImmutableError(
                type(self).__name__,
                f"{name} is a cell, which a tensor would replace: nothing would keep its value",
                received=f"self.{name} = a tensor of shape {value.shape}",
                fix=f"self.{name}.assign(value), or del self.{name} first",
            )
        object.__setattr__(self, name, value)
        structure_changed()
        if not name.startswith("_"):
            self._adopt(name, value)

    def __delattr__(self, name: str) -> None:
        value = self.__dict__.get(name)
        object.__delattr__(self, name)
        structure_changed()
        if isinstance(value, Module) and value._owner() is self:
            object.__setattr__(value, "_parent", None)
            object.__setattr__(value, "_name", "")

    if not TYPE_CHECKING:  # a checker shall not believe that a module has every attribute

        def __getattr__(self, name: str) -> Any:
            """Compute what `chainrule.nn.utils.weight_norm` and its like have put in place of a parameter."""
            computed = self.__dict__.get("parametrizations", {})
            if name in computed:
                return computed[name]()
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def _adopt(self, name: str, value: Any) -> None:
        if isinstance(value, Module):
            if value._owner() is None and value is not self:
                object.__setattr__(value, "_parent", weakref.ref(self))
                object.__setattr__(value, "_name", name)
        elif isinstance(value, Cell) and value.place is None:
            value.place = Place(self, name)
            if isinstance(value._initial, Initial):
                value._initial.place = value.place
        elif isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                self._adopt(f"{name}.{i}", item)
        elif isinstance(value, Mapping):
            for key, item in value.items():
                self._adopt(f"{name}.{key}", item)

    def _owner(self) -> Module | None:
        """The module of which this one was made a part first."""
        return None if self._parent is None else self._parent()

    # --- what is in it ------------------------------------------------------------------------------------

    def _members(self) -> Iterator[tuple[str, Any]]:
        """Cells and modules directly in this module, by name."""

        def walk(name: str, value: Any) -> Iterator[tuple[str, Any]]:
            if isinstance(value, (Cell, Module)):
                yield name, value
            elif isinstance(value, (list, tuple)):
                for i, item in enumerate(value):
                    yield from walk(f"{name}.{i}", item)
            elif isinstance(value, Mapping):
                for key, item in value.items():
                    yield from walk(f"{name}.{key}", item)

        for name, value in self.__dict__.items():
            if not name.startswith("_"):
                yield from walk(name, value)

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Yield this module, under ``prefix``, and all in it, each once, with dotted names."""
        seen: set[int] = set()

        def walk(module: Module, path: str) -> Iterator[tuple[str, Module]]:
            if id(module) in seen:
                return
            seen.add(id(module))
            yield path, module
            for name, member in module._members():
                if isinstance(member, Module):
                    yield from walk(member, f"{path}.{name}" if path else name)

        return walk(self, prefix)

    def modules(self) -> Iterator[Module]:
        """Yield this module and all in it."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield the modules directly in this one."""
        return ((name, m) for name, m in self._members() if isinstance(m, Module))

    def children(self) -> Iterator[Module]:
        """Yield the modules directly in this one."""
        return (module for _, module in self.named_children())

    def named_cells(self) -> Iterator[tuple[str, Cell]]:
        """Yield all parameters and buffers with dotted names; a tied one under each of its names."""
        for path, module in self.named_modules():
            for name, member in module._members():
                if isinstance(member, Cell):
                    yield f"{path}.{name}" if path else name, member

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield all parameters with dotted names; a tied one once, under its first name."""
        seen: set[int] = set()
        for name, cell in self.named_cells():
            if isinstance(cell, Parameter) and id(cell) not in seen:
                seen.add(id(cell))
                yield name, cell

    def parameters(self) -> Iterator[Parameter]:
        """Yield all parameters, a tied one once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Cell]]:
        """Yield all cells that are no parameters: running statistics, counters, random generators."""
        return ((name, cell) for name, cell in self.named_cells() if not isinstance(cell, Parameter))

    def buffers(self) -> Iterator[Cell]:
        """Yield all cells that are no parameters."""
        return (cell for _, cell in self.named_buffers())

    def get_submodule(self, target: str) -> Module:
        """Return the module in this one under a dotted name; "" is this one."""
        return self._named("module", target, self.named_modules())

    def get_parameter(self, target: str) -> Parameter:
        """Return the parameter under a dotted name."""
        found = ((name, p) for name, p in self.named_cells() if isinstance(p, Parameter))
        return self._named("parameter", target, found)

    def get_buffer(self, target: str) -> Cell:
        """Return the buffer under a dotted name."""
        return self._named("buffer", target, self.named_buffers())

    def _named(self, kind: str, target: str, found: Iterator[tuple[str, Any]]) -> Any:
        by_name = dict(found)
        if target not in by_name:
            known = ", ".join(repr(name) for name in by_name if name) or "there is none"
            raise ArgumentError(type(self).__name__, f"no {kind} has this name", received=repr(target), fix=known)
        return by_name[target]

    def parameter_tree(self) -> ParameterTree:
        """Return the trainable parameters as nested dict: what transforms differentiate by."""
        return ParameterTree.from_flat({name: p for name, p in self.named_parameters() if p.trainable})

    # --- adding by name -----------------------------------------------------------------------------------

    def register_buffer(self, name: str, value: TensorLike | None, persistent: bool = True) -> None:
        """Make a cell of ``value`` an attribute: state that is no parameter, converted by `to`, saved with the rest.

        It is read as ``self.name``, written by ``self.name.assign(value)``. ``self.name = cr.Cell(value)`` is the same.

        Args:
            name: the attribute.
            value: its first value; None for an attribute that is None.
            persistent: False leaves it out of `state_dict` and files.

        >>> class Counter(nn.Module):
        ...     def __init__(self):
        ...         self.register_buffer("calls", 0)
        ...
        ...     def forward(self, x):
        ...         self.calls.assign(self.calls + 1)
        ...         return x
        >>> model = Counter()
        >>> _ = model(cr.ones(1))
        >>> model.calls
        Cell(tensor(1))
        """
        setattr(self, checked_name(self, name), value if value is None or isinstance(value, Cell) else Cell(value))
        if not persistent:
            object.__setattr__(self, "_unsaved", (*self._unsaved, name))

    def register_parameter(self, name: str, value: Parameter | None) -> None:
        """Make a parameter, or None, an attribute."""
        if value is not None and not isinstance(value, Parameter):
            kind = type(value).__name__
            raise ArgumentError("register_parameter", "takes a parameter", received=kind, fix="nn.Parameter(value)")
        setattr(self, checked_name(self, name), value)

    def register_module(self, name: str, value: Module | None) -> None:
        """Make a module, or None, an attribute."""
        if value is not None and not isinstance(value, Module):
            raise ArgumentError("register_module", "takes a module", received=type(value).__name__)
        setattr(self, checked_name(self, name), value)

    add_module = register_module

    # --- modes --------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Module:
        """Set training mode, in which dropout drops and batch norm uses the batch, for this module and all in it."""
        for module in self.modules():
            object.__setattr__(module, "training", bool(mode))
        structure_changed()
        return self

    def eval(self) -> Module:
        """Set evaluation mode."""
        return self.train(False)

    def freeze(self) -> Module:
        """Make all parameters constants: not recorded, no gradient, not updated."""
        return self.requires_grad_(False)

    def unfreeze(self) -> Module:
        """Make all parameters trainable."""
        return self.requires_grad_(True)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Make all parameters trainable, or not."""
        for parameter in self.parameters():
            parameter.trainable = requires_grad
        return self

    def zero_grad(self) -> None:
        """Set ``.grad`` of all parameters to None."""
        for parameter in self.parameters():
            parameter.grad = None

    def to(self, dtype: Any) -> Module:
        """Convert floating parameters and buffers to another dtype, in new cells; make optimizers after it."""
        wanted = as_dtype(dtype)
        if wanted not in FLOATING:
            raise ArgumentError("to", "the dtype of weights is floating", received=wanted.name)
        made: dict[int, Cell] = {}

        def convert(value: Any) -> Any:
            if isinstance(value, Cell) and value.dtype in FLOATING and value.dtype != wanted:
                if id(value) not in made:
                    cell = type(value)(F.astype(value.detach(), wanted))
                    cell.trainable = value.trainable
                    made[id(value)] = cell
                return made[id(value)]
            if isinstance(value, (list, tuple)):
                return type(value)(convert(item) for item in value)
            if isinstance(value, dict):
                return type(value)((k, convert(v)) for k, v in value.items())
            return value

        for module in list(self.modules()):
            for name, value in list(module.__dict__.items()):
                if not name.startswith("_"):
                    object.__setattr__(module, name, convert(value))
        structure_changed()
        return self

    def bfloat16(self) -> Module:
        """Convert to bfloat16."""
        return self.to("bfloat16")

    def half(self) -> Module:
        """Convert to float16."""
        return self.to("float16")

    def float(self) -> Module:
        """Convert to float32."""
        return self.to("float32")

    def double(self) -> Module:
        """Convert to float64."""
        return self.to("float64")

    def apply(self, function: Callable[[Module], Any]) -> Module:
        """Call ``function`` with every module, innermost first."""
        for module in reversed(list(self.modules())):
            function(module)
        return self

    # --- state --------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """Return the values of all parameters and buffers by name; tied ones once, under the first name."""
        return state.state_dict(self)

    def load_state_dict(
        self,
        values: Mapping[str, Any],
        strict: bool = True,
        layout: str | None = None,
        flattened: Mapping[str, tuple[int, int, int]] | None = None,
    ) -> None:
        """Assign values by name; see `chainrule.nn.state.load_state_dict`.

        Args:
            values: arrays or tensors by name.
            strict: whether names must agree exactly.
            layout: "torch" if the values come from PyTorch, where channels are first.
            flattened: for such, the shape (C, H, W) that was flattened before a `Linear`, by the name of its weight.

        Raises:
            StateError: names, shapes or dtypes do not fit; then nothing is assigned.
        """
        state.load_state_dict(self, values, strict, layout, flattened)

    # --- hooks, copies, printing --------------------------------------------------------------------------

    def register_forward_hook(self, hook: Callable[[Module, tuple, Any], Any]) -> Callable[[], None]:
        """Call ``hook(module, args, out)`` after `forward`; what it returns, if not None, replaces the result.

        Returns:
            a function that takes the hook away again.
        """
        return self._add_hook("_hooks", hook)

    def register_forward_pre_hook(self, hook: Callable[[Module, tuple], Any]) -> Callable[[], None]:
        """Call ``hook(module, args)`` before `forward`; what it returns, if not None, replaces the arguments.

        Returns:
            a function that takes the hook away again.
        """
        return self._add_hook("_pre_hooks", hook)

    def _add_hook(self, kind: str, hook: Any) -> Callable[[], None]:
        object.__setattr__(self, kind, [*self.__dict__.get(kind, ()), hook])
        structure_changed()

        def remove() -> None:
            object.__setattr__(self, kind, [h for h in self.__dict__[kind] if h is not hook])
            structure_changed()

        return remove

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_parent"}  # a copy is no part of it

    def __deepcopy__(self, memo: dict[int, Any]) -> Module:
        from copy import deepcopy

        made = type(self).__new__(type(self))
        memo[id(self)] = made
        for name, value in self.__dict__.items():
            if name not in ("_parent", "_name"):
                made.__setattr__(name, deepcopy(value, memo))
        return made

    def extra_repr(self) -> str:
        """What `repr` says about this layer beside its class."""
        return ""

    def __repr__(self) -> str:
        count = sum(p.size for p in self.parameters())
        frozen = sum(p.size for p in self.parameters() if not p.trainable)
        tail = f"  # {count:,} parameters" + (f", {frozen:,} frozen" if frozen else "") if count else ""
        children = [f"  ({name}): " + repr(m).replace("\n", "\n  ") for name, m in self.named_children()]
        head = f"{type(self).__name__}({self.extra_repr()}"
        return head + ")" + tail if not children else head + tail + "\n" + "\n".join(children) + "\n)"


def checked_name(module: Module, name: str) -> str:
    """Return a name under which something can be kept in a module."""
    if not isinstance(name, str) or not name or "." in name or name.startswith("_") or hasattr(type(module), name):
        raise ArgumentError(
            type(module).__name__,
            "a name has no dot, no underscore in front, and is not that of a method",
            received=repr(name),
        )
    return name
