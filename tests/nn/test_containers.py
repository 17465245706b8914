"""Modules and parameters in lists and dicts, and what modules hold under names."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import ArgumentError, ImmutableError, StateError


def kinds(container):
    return [type(m).__name__ for m in container]


@pytest.mark.parametrize("make", [lambda *ms: nn.ModuleList(ms), nn.Sequential], ids=["ModuleList", "Sequential"])
def test_lists_of_modules_change_like_lists(make):
    layers = make(nn.Linear(2, 2), nn.ReLU())
    assert layers.append(nn.Tanh()) is layers
    layers.insert(1, nn.Dropout(0.1))
    layers += [nn.ELU()]
    assert kinds(layers) == ["Linear", "Dropout", "ReLU", "Tanh", "ELU"]
    assert [name for name, _ in layers.named_children()] == ["0", "1", "2", "3", "4"]
    layers[-1] = nn.GELU()
    del layers[1]
    assert type(layers.pop(0)).__name__ == "Linear"
    assert kinds(layers) == ["ReLU", "Tanh", "GELU"]
    del layers[:2]
    assert [name for name, _ in layers.named_children()] == ["0"]
    more = layers + nn.ModuleList([nn.ReLU()])
    assert (kinds(more), kinds(layers), type(more)) == (["GELU", "ReLU"], ["GELU"], type(layers))
    assert kinds(more[1:]) == ["ReLU"]
    with pytest.raises(ArgumentError, match=r"nn\.ReLU\(\)"):
        layers.insert(0, nn.ReLU)
    with pytest.raises(IndexError):
        del layers[5]


def test_a_moved_module_has_its_new_name_and_no_other_modules_first_values():
    cr.manual_seed(0)
    layers = nn.ModuleList([nn.Linear(3, 3)])
    layers.insert(0, nn.Linear(3, 3))
    assert layers[1].weight.name == "1.weight"
    assert not np.array_equal(layers[0].weight.numpy(), layers[1].weight.numpy())
    removed = layers.pop()
    assert removed.weight.name == "weight"


def test_named_modules_of_a_sequential_keep_their_names():
    model = nn.Sequential({"first": nn.Linear(2, 3), "second": nn.ReLU()})
    model[1] = nn.Tanh()
    model.append(nn.Linear(3, 1))
    assert [name for name, _ in model.named_children()] == ["first", "second", "2"]
    with pytest.raises(ArgumentError, match="numbered anew"):
        model.insert(0, nn.ReLU())


def test_dict_of_modules():
    modules = nn.ModuleDict([("a", nn.ReLU())])
    modules.update({"b": nn.Linear(2, 2), "c": nn.Tanh()})
    assert list(modules) == modules.keys() == ["a", "b", "c"]
    assert "b" in modules
    del modules["c"]
    assert kinds(modules.values()) == ["ReLU", "Linear"]
    assert type(modules.pop("a")).__name__ == "ReLU"
    modules.clear()
    assert len(modules) == 0
    for name in ("items", "a.b", "_hidden", "", "training"):
        with pytest.raises(ArgumentError, match="not that of a method"):
            modules[name] = nn.ReLU()
    with pytest.raises(KeyError):
        modules["missing"]


def test_parameters_in_lists_and_dicts_are_trained_and_saved():
    class Scales(nn.Module):
        def __init__(self):
            self.each = nn.ParameterList([cr.ones((2,)), nn.Parameter(cr.ones((2,)))])
            self.named = nn.ParameterDict({"shift": [0.0, 0.0]})

        def forward(self, x):
            for scale in self.each:
                x = x * scale
            return x + self.named["shift"]

    model = Scales()
    assert list(model.state_dict()) == ["each.0", "each.1", "named.shift"]
    model(cr.ones((3, 2))).sum().backward()
    assert [p.grad.tolist() for p in model.parameters()] == [[3.0, 3.0]] * 3
    model.each.append(cr.zeros((2,))).extend([cr.ones((2,))])
    model.each[-1] = cr.full((2,), 2.0)
    assert [p.tolist() for p in model.each[1:]] == [[1.0, 1.0], [0.0, 0.0], [2.0, 2.0]]
    assert "(2,), (2,)" in repr(model.each)
    assert "shift: (2,)" in repr(model.named)


# --- what is registered by name ---------------------------------------------------------------------------


class Mask(nn.Module):
    def __init__(self):
        self.register_buffer("mask", np.tril(np.ones((2, 2), np.float32)), persistent=False)
        self.register_buffer("calls", 0)
        self.register_buffer("nothing", None)
        self.register_parameter("weight", nn.Parameter(cr.ones((2, 2))))
        self.register_parameter("bias", None)
        self.add_module("inner", nn.Linear(2, 2))

    def forward(self, x):
        self.calls.assign(self.calls + 1)
        return self.inner(x) @ (self.weight * self.mask)


def test_buffers_are_cells_saved_unless_they_are_not_persistent(tmp_path):
    model = Mask()
    assert [name for name, _ in model.named_buffers()] == ["mask", "calls"]
    assert list(model.state_dict()) == ["calls", "weight", "inner.weight", "inner.bias"]
    assert model.double().mask.dtype == cr.float64
    model.float()
    cr.compile(model)(cr.ones((1, 2)))
    cr.save(model, tmp_path / "m.safetensors")
    other = Mask()
    cr.load(other, tmp_path / "m.safetensors")
    assert int(other.calls) == 1
    with pytest.raises(StateError, match="unknown: mask"):
        other.load_state_dict({**model.state_dict(), "mask": np.ones((2, 2), np.float32)})
    nested = nn.Sequential(model)
    assert "0.mask" not in nested.state_dict()


def test_members_by_dotted_name():
    model = nn.Sequential(Mask())
    assert model.get_submodule("") is model
    assert model.get_submodule("0.inner") is model[0].inner
    assert model.get_parameter("0.inner.weight") is model[0].inner.weight
    assert model.get_buffer("0.calls") is model[0].calls
    for lookup in (model.get_submodule, model.get_parameter, model.get_buffer):
        with pytest.raises(ArgumentError, match=r"'0\.other'"):
            lookup("0.other")
    with pytest.raises(ArgumentError, match=r"nn\.Parameter"):
        model.register_parameter("p", cr.ones((2,)))
    with pytest.raises(ArgumentError, match="takes a module"):
        model.register_module("m", nn.ReLU)
    with pytest.raises(AttributeError, match="'Sequential' object has no attribute 'nothing_like_it'"):
        model.nothing_like_it  # noqa: B018


def test_a_tensor_does_not_silently_replace_a_cell():
    model = Mask()
    with pytest.raises(ImmutableError, match=r"self\.calls\.assign"):
        model.calls = model.calls + 1
    model.weight = nn.Parameter(cr.zeros((2, 2)))
    model.bias = cr.Cell(cr.zeros((2,)))
    model.calls = None
