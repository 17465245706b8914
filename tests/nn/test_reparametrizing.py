"""Weight and spectral normalization: what they compute, train, save and leave behind."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import ArgumentError, ShapeError, StateError
from chainrule.nn.utils import remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm

LAYERS = {
    "Linear": (lambda: nn.Linear(4, 3), (2, 4)),
    "Conv2d": (lambda: nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"), (2, 4, 4, 2)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(2, 3, 2), (2, 4, 2)),
    "Embedding": (lambda: nn.Embedding(5, 3), None),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
both_norms = pytest.mark.parametrize(
    ("norm", "remove"), [(weight_norm, remove_weight_norm), (spectral_norm, remove_spectral_norm)]
)


def made(name):
    make, shape = LAYERS[name]
    cr.manual_seed(0)
    x = cr.tensor([[0, 3], [4, 3]]) if shape is None else cr.normal(shape, dtype="float64")
    return make().double(), x


@every_layer
def test_the_weight_starts_as_it_was_and_its_length_is_a_parameter(name):
    layer, x = made(name)
    weight, expected = layer.weight.numpy(), layer(x).numpy()
    weight_norm(layer)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-12)
    parts = layer.parametrizations["weight"]
    parts.original1.assign(parts.original1 * 7.0)
    np.testing.assert_allclose(layer.weight.detach().numpy(), weight, rtol=1e-12)
    parts.original0.assign(parts.original0 * 2.0)
    np.testing.assert_allclose(layer.weight.detach().numpy(), 2 * weight, rtol=1e-12)


@every_layer
def test_spectral_norm_converges_to_the_largest_singular_value(name):
    layer, x = made(name)
    weight = layer.weight.numpy()
    rows = np.moveaxis(weight, -1, 0) if name == "ConvTranspose1d" else weight
    largest = np.linalg.svd(rows.reshape(len(rows), -1), compute_uv=False)[0]
    spectral_norm(layer, n_power_iterations=30)
    layer(x)
    np.testing.assert_allclose(layer.eval().weight.detach().numpy(), weight / largest, rtol=1e-6)


@both_norms
@every_layer
def test_gradients(name, norm, remove):
    layer, x = made(name)
    norm(layer).eval()
    names = [key for key, _ in layer.named_parameters()]
    values = [p.detach() for p in layer.parameters()]
    cr.check_grads(lambda *ps: cr.functional_call(layer, dict(zip(names, ps, strict=True)), x), values, rtol=1e-5)


@both_norms
@every_layer
def test_training_is_the_same_compiled(name, norm, remove):
    def trained(wrap):
        layer, x = made(name)
        norm(layer)
        opt = optim.SGD(layer.parameters(), 0.01, momentum=0.9)

        def step(x):
            opt.zero_grad()
            loss = (layer(x) ** 2).sum()
            loss.backward()
            opt.step()
            return loss

        step = wrap(step)
        losses = [step(x).item() for _ in range(4)]
        assert losses[-1] < losses[0]
        return {key: value.numpy() for key, value in layer.state_dict().items()}

    eager, compiled = trained(lambda f: f), trained(cr.compile)
    for key, value in eager.items():
        np.testing.assert_allclose(compiled[key], value, rtol=1e-10, atol=1e-12, err_msg=key)


def test_power_iteration_goes_on_while_training_alone():
    layer, x = made("Linear")
    v = spectral_norm(layer, eps=1e-10).parametrizations["weight"].v
    before = v.numpy()
    layer.eval()(x)
    np.testing.assert_array_equal(v.numpy(), before)
    layer.train()(x)
    assert not np.array_equal(v.numpy(), before)


@both_norms
@every_layer
def test_saving_copying_and_removing(name, norm, remove, tmp_path):
    layer, x = made(name)
    plain = [key for key, _ in layer.named_parameters()]
    weight = layer.weight
    norm(layer)(x)
    layer.eval()
    cr.save(layer, tmp_path / "l.safetensors")
    other = norm(LAYERS[name][0]().double()).eval()
    cr.load(other, tmp_path / "l.safetensors")
    expected = layer(x).detach().numpy()
    for copied in (other, deepcopy(layer)):
        np.testing.assert_array_equal(copied(x).detach().numpy(), expected)
    assert remove(layer) is layer
    assert layer.weight is weight  # so that an optimizer still has it
    assert sorted(key for key, _ in layer.named_parameters()) == sorted(plain)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-12)
    with pytest.raises(StateError):
        cr.load(layer, tmp_path / "l.safetensors")
    with pytest.raises(ArgumentError, match="nothing to remove"):
        remove(layer)


def test_it_changes_no_first_value():
    def value(norm):
        cr.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 3), norm(nn.Linear(3, 3)), nn.Linear(3, 3))
        return [model[i].weight.detach().numpy() for i in (0, 2)]

    for norm in (weight_norm, spectral_norm):
        for a, b in zip(value(lambda layer: layer), value(norm), strict=True):
            np.testing.assert_array_equal(a, b)


def test_several_weights_of_one_layer():
    layer, _ = made("Linear")
    weight_norm(layer, "bias", dim=None)
    spectral_norm(layer)
    assert {key for key, _ in layer.named_parameters()} == {
        "parametrizations.bias.original0", "parametrizations.bias.original1", "parametrizations.weight.original",
    }  # fmt: skip
    remove_spectral_norm(layer)
    remove_weight_norm(layer, "bias")
    assert "parametrizations" not in repr(layer)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ArgumentError, match="no parameter of this name"):
        weight_norm(nn.Linear(2, 2), "wieght")
    with pytest.raises(ArgumentError, match="no parameter of this name"):
        spectral_norm(weight_norm(nn.Linear(2, 2)))
    with pytest.raises(ArgumentError, match="one of 2 axes"):
        weight_norm(nn.Linear(2, 2), dim=2)
    with pytest.raises(ShapeError, match="no singular values"):
        spectral_norm(nn.Linear(2, 2), "bias")
    with pytest.raises(ArgumentError, match="at least 1"):
        spectral_norm(nn.Linear(2, 2), n_power_iterations=0)
    with pytest.raises(ArgumentError, match="nothing to remove"):
        remove_weight_norm(spectral_norm(nn.Linear(2, 2)))
