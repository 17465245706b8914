"""What is true of every layer, checked for each row of ``table_of_layers.py``."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from table_of_layers import ROWS

import chainrule as cr
from chainrule import nn

# Without a forward pass of their own: tested in test_containers.py, test_module.py and test_attention.py.
CONTAINERS = {"KVCache", "Module", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList"}
every_layer = pytest.mark.parametrize("row", ROWS, ids=str)


def leaves(out: Any) -> list[cr.Tensor]:
    """The tensors in what a layer returns."""
    return [leaf for part in out for leaf in leaves(part)] if isinstance(out, (tuple, list)) else [out]


def call(layer: nn.Module, inputs: list[cr.Tensor]) -> list[cr.Tensor]:
    """Results of a layer, with the same random numbers each time."""
    cr.manual_seed(2)
    return leaves(layer(*inputs))


def arrays(layer: nn.Module, inputs: list[cr.Tensor]) -> list[np.ndarray]:
    return [np.array(out.detach().numpy()) for out in call(layer, inputs)]


def equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def state(layer: nn.Module) -> dict[str, np.ndarray]:
    return {name: np.array(value.numpy()) for name, value in layer.state_dict().items()}


def test_every_layer_is_in_the_table():
    classes = {name for name in nn.__all__ if isinstance(getattr(nn, name), type)}
    layers = {name for name in classes if issubclass(getattr(nn, name), nn.Module) and not name.endswith("Loss")}
    assert layers - CONTAINERS == {row.name for row in ROWS}, "each layer needs a row in table_of_layers.py"


@every_layer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shapes_dtypes_and_number_of_parameters(row, dtype):
    layer = row.layer(dtype)
    out = call(layer, row.tensors(dtype))
    assert [o.shape for o in out] == row.outputs
    assert {o.dtype.name for o in out} == {dtype}
    assert sum(p.size for p in layer.parameters()) == row.parameters
    assert all(np.isfinite(o.detach().numpy()).all() for o in out)


@every_layer
def test_gradients(row):
    """By inputs and parameters, in training mode with the same random numbers at each call, and in evaluation."""
    layer, inputs = row.layer(), row.tensors()
    names = [name for name, _ in layer.named_parameters()]
    values = [p.detach() for p in layer.parameters()]
    if not names and not any(x.dtype == cr.float64 for x in inputs):
        return

    def function(*args):
        cr.manual_seed(2)
        given = dict(zip(names, args[len(inputs) :], strict=True))
        return leaves(cr.functional_call(layer, given, *args[: len(inputs)]))

    cr.check_grads(function, (*inputs, *values), rtol=1e-5)
    if row.differs or row.random:
        layer.eval()
        cr.check_grads(function, (*inputs, *values), rtol=1e-5)


@every_layer
def test_training_and_evaluation(row):
    """Evaluation is deterministic, draws no random numbers and changes no state; only some layers train otherwise."""
    layer, inputs = row.layer(), row.tensors()
    trained = arrays(layer, inputs)
    layer.eval()
    before, first = state(layer), arrays(layer, inputs)
    assert equal(first, [o.detach().numpy() for o in leaves(layer(*inputs))])
    assert cr.functions.random.default_generator.numpy().tolist() == [2, 0], "a draw"
    assert all(np.array_equal(before[name], value) for name, value in state(layer).items())
    assert equal(trained, first) != (row.differs or row.random)


@every_layer
def test_saving_loading_and_copying(row, tmp_path):
    layer, inputs = row.layer(), row.tensors()
    call(layer, inputs)  # so that buffers are no longer what they are at the start
    twin = deepcopy(layer)
    other = row.layer()
    for cell in other.parameters():
        cell.assign(cell + 1.0)
    cr.save(layer, tmp_path / "layer.safetensors")
    cr.load(other, tmp_path / "layer.safetensors")
    expected = state(layer)
    assert expected.keys() == state(other).keys() == state(twin).keys()
    for copied in (other, twin):
        assert all(np.array_equal(expected[name], value) for name, value in state(copied).items())
        assert not {id(c) for _, c in layer.named_cells()} & {id(c) for _, c in copied.named_cells()}
        assert repr(copied) == repr(layer)
    outputs = [arrays(each.eval(), inputs) for each in (layer, other, twin)]
    assert equal(outputs[0], outputs[1])
    assert equal(outputs[0], outputs[2])


@every_layer
def test_repr_says_class_sizes_and_parameters(row):
    text = repr(row.layer())
    assert text.startswith(row.name + "(")
    for value in row.args:
        if isinstance(value, (int, float, tuple, str)):
            assert str(value) in text
    if row.parameters:
        assert f"{row.parameters} parameters" in text


def test_compiled_is_eager():
    """Forward, all rows in one program; ``test_agree_layers.py`` compares gradients and training."""
    layers = [row.layer("float32").eval() for row in ROWS]
    inputs = [row.tensors("float32") for row in ROWS]

    def forward(inputs):
        return [leaves(layer(*given)) for layer, given in zip(layers, inputs, strict=True)]

    for row, a, b in zip(ROWS, forward(inputs), cr.compile(forward)(inputs), strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(y.numpy(), x.detach().numpy(), rtol=1e-5, atol=1e-5, err_msg=str(row))
