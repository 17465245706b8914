"""The state of a module by name: reading it out, putting it back, files, and calls with other values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import functions as F
from ..autodiff import ParameterTree
from ..dtypes import ALL
from ..errors import ArgumentError, StateError
from ..tensor import Cell, Tensor, standing_in

if TYPE_CHECKING:
    from .module import Module


def saved_cells(module: Module) -> dict[str, Cell]:
    """Return all parameters and buffers by name, but for buffers that are not persistent."""
    skip = {f"{path}.{name}" if path else name for path, m in module.named_modules() for name in m._unsaved}
    return {name: cell for name, cell in module.named_cells() if name not in skip}


def aliases(module: Module) -> dict[str, str]:
    """Return, for each further name of a tied cell, its first name."""
    first: dict[int, str] = {}
    cells = saved_cells(module).items()
    return {name: first[id(cell)] for name, cell in cells if first.setdefault(id(cell), name) != name}


def state_dict(module: Module) -> dict[str, Tensor]:
    """Return the values of all parameters and buffers by name; tied ones once, under the first name."""
    skip = aliases(module)
    return {name: cell.detach() for name, cell in saved_cells(module).items() if name not in skip}


def _as_array(value: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        return value.detach().numpy()
    return np.asarray(value.detach() if hasattr(value, "detach") else value)


def load_state_dict(
    module: Module,
    values: Mapping[str, Any],
    strict: bool = True,
    layout: str | None = None,
    flattened: Mapping[str, tuple[int, int, int]] | None = None,
) -> None:
    """Assign the values of all parameters and buffers by name; all of them, or none if anything does not fit.

    Raises:
        StateError: names are missing or unknown (if strict), or shapes or kinds of dtype differ.
    """
    operation = f"{type(module).__name__}.load_state_dict"
    if layout not in (None, "torch"):
        raise ArgumentError(operation, "layout is None or 'torch'", received=repr(layout))
    if not isinstance(values, Mapping):
        fix = "cr.load(model, path) reads a file"
        raise ArgumentError(operation, "takes arrays by name", received=type(values).__name__, fix=fix)
    tied = aliases(module)
    cells = saved_cells(module)
    given = {name: _as_array(value) for name, value in values.items()}
    missing = [name for name in cells if name not in given and tied.get(name, name) == name
               and not any(tied.get(g) == name for g in given)]  # fmt: skip
    unknown = [name for name in given if name not in cells]
    if strict and (missing or unknown):
        lists = {"missing": missing, "unknown": unknown}
        problems = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in lists.items() if names)
        raise StateError(operation, f"the names do not fit; {problems}", fix="pass strict=False to take what fits")
    new: dict[Cell, Tensor] = {}
    for name in given.keys() & cells.keys():
        array = given[name]
        if layout == "torch":
            array = _from_torch(module, name, array, flattened or {})
        new[cells[name]] = _fitting(operation, name, cells[name], array)
    for cell, value in new.items():
        cell.assign(value)


def _fitting(operation: str, name: str, cell: Cell, array: np.ndarray) -> Tensor:
    value = F.asarray(array, copy=True)  # whoever gave the array may write to it later
    if value.shape != cell.shape:
        raise StateError(
            operation,
            f"{name} has shape {cell.shape}",
            received=f"shape {value.shape}",
            fix="build the model with the same sizes; layout='torch' permutes weights that come from PyTorch",
        )
    if np.issubdtype(value.dtype, np.integer) != np.issubdtype(cell.dtype, np.integer):
        raise StateError(operation, f"{name} is of {cell.dtype.name}", received=value.dtype.name)
    return F.astype(value, cell.dtype)


def _from_torch(
    module: Module, name: str, array: np.ndarray, flattened: Mapping[str, tuple[int, int, int]]
) -> np.ndarray:
    """Bring channels from the second axis to the last, in convolutions and before a flattened `Linear`."""
    path, _, attribute = name.rpartition(".")
    layer = dict(module.named_modules())[path]
    if attribute in ("weight", "original0", "original1") and getattr(layer, "channels_last_weight", False):
        return np.moveaxis(array, 1, -1) if array.ndim else array
    shape = flattened.get(name) or flattened.get(path)
    if shape is not None and attribute == "weight":
        return np.moveaxis(array.reshape(len(array), *shape), 1, -1).reshape(array.shape)
    return array


def functional_call(module: Module, values: Any, *args: Any, **kwargs: Any) -> Any:
    """Call ``module`` with other tensors in place of its parameters.

    Args:
        module: the module.
        values: nested dict of tensors as `chainrule.grad` returns, or a flat one with dotted names.
        *args, **kwargs: what the module is called with.

    Raises:
        StateError: a name is unknown, or a shape differs.

    >>> layer = nn.Linear(2, 1)
    >>> zeros = cr.tree_map(cr.zeros_like, layer.parameter_tree())
    >>> cr.functional_call(layer, zeros, cr.ones((1, 2)))
    tensor([[0.]])
    """
    cells = dict(module.named_cells())
    overrides: dict[Cell, Tensor] = {}
    for name, value in _flat(values).items():
        tensor = F.asarray(value)
        if name not in cells or tensor.shape != cells[name].shape:
            expected = f"shape {cells[name].shape}" if name in cells else "one of " + ", ".join(cells)
            raise StateError("functional_call", f"{name} does not fit", received=str(tensor.shape), fix=expected)
        overrides[cells[name]] = tensor
    with standing_in(overrides):
        return module(*args, **kwargs)


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(values, ParameterTree):
        return values.flat()
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{prefix}{key}."))
        else:
            found[prefix + key] = value
    return found


# --- files ------------------------------------------------------------------------------------------------


def save(module: Module, path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
    """Write the state of a module to one safetensors file, in whole or not at all.

    Args:
        module: its parameters and buffers are written, tied ones once with their other names in the metadata.
        path: the file.
        metadata: strings to keep in it.

    >>> cr.save(nn.Linear(2, 3), "model.safetensors")
    """
    import json

    from safetensors.numpy import save as serialize

    arrays = {name: np.array(t.numpy(), order="C") for name, t in state_dict(module).items()}
    notes = {"format": "chainrule", "aliases": json.dumps(aliases(module)), **(metadata or {})}
    write_atomically(path, serialize(arrays, metadata=notes))


def load(module: Module, path: str | os.PathLike[str], strict: bool = True) -> None:
    """Read the state of a module from a safetensors file; see `Module.load_state_dict`.

    Raises:
        StateError: the file is damaged, or does not fit.

    >>> model, copy = nn.Linear(2, 3), nn.Linear(2, 3)
    >>> cr.save(model, "model.safetensors")
    >>> cr.load(copy, "model.safetensors")
    >>> bool((copy.weight == model.weight).all())
    True
    """
    module.load_state_dict(read_safetensors(path), strict=strict)


_LETTERS = {"b": "BOOL", "c": "C", "f": "F", "i": "I", "u": "U", "V": "BF"}
_CODES = {_LETTERS[d.kind] + (str(8 * d.itemsize) if d.kind != "b" else ""): d for d in ALL}  # bfloat16 is of kind V


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return the arrays in a safetensors file by name.

    Raises:
        StateError: there is no such file, or it is damaged.
    """
    from pathlib import Path

    from safetensors import SafetensorError, deserialize

    try:
        found = dict(deserialize(Path(path).read_bytes()))  # type: ignore[no-untyped-call]
        return {k: np.frombuffer(v["data"], _CODES[v["dtype"]]).reshape(v["shape"]) for k, v in found.items()}
    except OSError as error:
        raise StateError("load", f"cannot read {path}: {error.strerror}") from error
    except (SafetensorError, KeyError, ValueError) as error:
        raise StateError("load", f"{path} is no safetensors file, or damaged: {error}") from error


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that after a crash there is the old one or the new one, never a part."""
    from pathlib import Path

    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
