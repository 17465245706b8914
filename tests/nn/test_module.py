"""Modules: names, state, modes, initial values, copies, hooks, files, error messages."""

import copy
import json

import numpy as np
import pytest
from safetensors import safe_open

import chainrule as cr
from chainrule import nn
from chainrule.errors import ArgumentError, DTypeError, ShapeError, StateError


class Block(nn.Module):
    def __init__(self, width=3):
        self.inner = nn.Linear(width, width)
        self.branches = [nn.Linear(width, 2), nn.Linear(width, 2)]
        self.scale = cr.Parameter(cr.ones((2,)))
        self.count = cr.Cell(cr.tensor(0))

    def forward(self, x):
        self.count.assign(self.count + 1)
        h = cr.tanh(self.inner(x))
        return sum((branch(h) for branch in self.branches), start=cr.zeros((2,))) * self.scale


BLOCK_NAMES = [
    "scale", "inner.weight", "inner.bias", "branches.0.weight", "branches.0.bias", "branches.1.weight",
    "branches.1.bias",
]  # fmt: skip


def test_parameters_are_found_in_attributes_lists_and_submodules():
    block = Block()
    assert [name for name, _ in block.named_parameters()] == BLOCK_NAMES
    assert [name for name, _ in block.named_buffers()] == ["count"]
    assert sum(p.size for p in block.parameters()) == 2 + 12 + 8 + 8


def test_repr_shows_structure_and_counts():
    text = repr(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2).freeze()))
    assert text.splitlines()[0] == "Sequential(  # 26 parameters, 10 frozen"
    assert "(0): Linear(3, 4)  # 16 parameters" in text


def test_grad_of_a_module_mirrors_named_parameters():
    block = Block()
    grads = cr.grad(lambda m: m(cr.ones((4, 3))).sum())(block)
    assert list(grads.flat()) == BLOCK_NAMES
    assert grads["inner"]["weight"] is grads["inner.weight"]
    block(cr.ones((4, 3))).sum().backward()
    for name, parameter in block.named_parameters():
        np.testing.assert_array_equal(grads[name].numpy(), parameter.grad.numpy())


def test_transforms_never_write_grad_and_skip_frozen_parameters():
    block = Block()
    block.inner.freeze()
    grads = cr.grad(lambda m: m(cr.ones((4, 3))).sum())(block)
    assert "inner" not in grads
    assert all(p.grad is None for p in block.parameters())


def test_functional_call_is_the_inverse_of_the_parameter_tree():
    block = Block()
    x = cr.ones((4, 3))
    tree = cr.tree_map(lambda p: p.detach() * 2, block.parameter_tree())
    expected = block(x)
    changed = cr.functional_call(block, tree, x)
    assert not np.allclose(changed.numpy(), expected.numpy())
    np.testing.assert_array_equal(block(x).numpy(), expected.numpy())
    flat = {name: p.detach() for name, p in block.named_parameters()}
    np.testing.assert_array_equal(cr.functional_call(block, flat, x).numpy(), expected.numpy())
    with pytest.raises(StateError, match="nonsense"):
        cr.functional_call(block, {"nonsense": cr.ones((1,))}, x)


def test_hessian_of_a_module_through_grad_of_grad():
    layer = nn.Linear(2, 1, bias=False, dtype="float64")
    x = cr.tensor([[1.0, 2.0]], dtype="float64")

    def penalty(m):
        inner = cr.grad(lambda m: (m(x) ** 2).sum())(m)  # 2 (w.x) x
        return (inner["weight"] ** 2).sum()  # 4 (w.x)^2 |x|^2

    grad = cr.grad(penalty)(layer)["weight"].numpy()
    dot = (layer.weight.numpy() * x.numpy()).sum()
    np.testing.assert_allclose(grad, 8 * dot * 5 * x.numpy(), rtol=1e-12)


def test_adding_a_layer_changes_no_other_initial_value():
    def values(extra):
        cr.manual_seed(3)
        layers = {"a": nn.Linear(3, 4), "b": nn.Linear(4, 2)}
        if extra:
            layers = {"a": layers["a"], "new": nn.Linear(4, 4), "b": layers["b"]}
        return {k: v.numpy() for k, v in nn.Sequential(layers).state_dict().items()}

    few, many = values(False), values(True)
    assert all(np.array_equal(few[name], many[name]) for name in few)


def test_initial_values_follow_the_seed_and_differ_between_models_and_layers():
    def made(seed):
        cr.manual_seed(seed)
        return [nn.Linear(5, 5).weight.numpy() for _ in range(2)]

    first, second = made(0)
    assert not np.array_equal(first, second)
    again, other = made(0), made(1)
    np.testing.assert_array_equal(first, again[0])
    assert not np.array_equal(first, other[0])
    assert abs(first).max() <= 1 / np.sqrt(5)
    assert abs(first).max() > 0.7 / np.sqrt(5)


def test_tied_weights_are_one_parameter_saved_once(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False))
    model[2].weight = model[0].weight
    assert [n for n, _ in model.named_parameters()] == ["0.weight"]
    cr.save(model, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "numpy") as file:
        assert list(file.keys()) == ["0.weight"]
        assert json.loads(file.metadata()["aliases"]) == {"2.weight": "0.weight"}
    cr.load(model, tmp_path / "model.safetensors")
    model.load_state_dict({"0.weight": np.ones((4, 4)), "2.weight": np.ones((4, 4))})  # as PyTorch saves it
    assert model[2].weight is model[0].weight


def test_save_and_load_round_trip_every_bit(tmp_path):
    model, other = Block(), Block()
    model(cr.ones((1, 3)))
    cr.save(model, tmp_path / "m.safetensors")
    cr.load(other, tmp_path / "m.safetensors")
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), other.state_dict()[name].numpy())
    assert int(other.count) == 1


def test_load_refuses_what_does_not_fit_and_changes_nothing(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    before = {k: v.numpy() for k, v in model.state_dict().items()}
    good = {k: np.zeros(v.shape, np.float32) for k, v in before.items()}
    with pytest.raises(StateError, match=r"missing: 1\.bias"):
        model.load_state_dict({k: v for k, v in good.items() if k != "1.bias"})
    with pytest.raises(StateError, match=r"unknown: 2\.bias"):
        model.load_state_dict(good | {"2.bias": np.zeros(2)})
    with pytest.raises(StateError, match=r"1\.weight has shape \(2, 4\)"):
        model.load_state_dict(good | {"1.weight": np.zeros((2, 5))})
    (tmp_path / "bad.safetensors").write_bytes(b"no such thing")
    with pytest.raises(StateError, match="damaged"):
        cr.load(model, tmp_path / "bad.safetensors")
    for name, value in before.items():
        np.testing.assert_array_equal(model.state_dict()[name].numpy(), value)


def test_torch_layout_permutes_convolutions_and_the_linear_after_flatten():
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(3 * 2 * 4, 5))
    theirs = {
        "0.weight": rng.standard_normal((3, 2, 2, 2)).astype(np.float32),
        "0.bias": np.zeros(3, np.float32),
        "2.weight": rng.standard_normal((5, 24)).astype(np.float32),
        "2.bias": np.zeros(5, np.float32),
    }
    model.load_state_dict(theirs, layout="torch", flattened={"2": (3, 2, 4)})
    image = rng.standard_normal((1, 2, 3, 5)).astype(np.float32)  # channels first
    hidden = np.zeros((1, 3, 2, 4), np.float32)
    for i in range(2):
        for j in range(4):
            window = image[0, None, :, i : i + 2, j : j + 2]
            hidden[0, :, i, j] = (theirs["0.weight"] * window).sum((1, 2, 3))
    expected = hidden.reshape(1, -1) @ theirs["2.weight"].T
    np.testing.assert_allclose(model(np.moveaxis(image, 1, -1)).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_deepcopy_is_independent_and_keeps_ties():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    twin = copy.deepcopy(model)
    np.testing.assert_array_equal(twin[0].weight.numpy(), model[0].weight.numpy())
    assert twin[0].weight is twin[1].weight
    assert twin[0].weight is not model[0].weight
    twin[0].weight.assign(twin[0].weight * 0)
    assert np.any(model[0].weight.numpy())


def test_to_converts_parameters_and_statistics_but_no_counters():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    dtypes = {name: cell.dtype.name for name, cell in model.named_cells()}
    assert dtypes.pop("1.num_batches_tracked") == "int64"
    assert set(dtypes.values()) == {"float64"}
    assert model(cr.normal((5, 3), dtype="float64")).dtype == cr.float64
    with pytest.raises(ArgumentError, match="floating"):
        model.to("int32")


def test_train_and_eval_reach_every_module():
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5))).eval()
    x = cr.ones((200,))
    np.testing.assert_array_equal(model(x).numpy(), x.numpy())
    model.train()
    assert set(np.unique(model(x).numpy())) == {0.0, 4.0}


def test_hooks_see_and_may_replace_and_can_be_removed():
    layer, seen = nn.Identity(), []
    remove = layer.register_forward_hook(lambda module, args, out: seen.append(float(out)))
    remove_pre = layer.register_forward_pre_hook(lambda module, args: args[0] + 1)
    assert float(layer(cr.tensor(1.0))) == 2.0
    remove()
    remove_pre()
    assert float(layer(cr.tensor(1.0))) == 1.0
    assert seen == [2.0]


def test_an_error_names_the_layers_path_shapes_fix_and_line():
    model = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(3, 2)))
    with pytest.raises(ShapeError) as caught:
        model(cr.zeros((2, 4)))
    text = str(caught.value)
    assert "[linear]" in text
    assert "(2, 4)" in text
    assert "in_features=4" in text
    assert "Sequential.1.0 (Linear)" in text
    assert "test_module.py" in text


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(3, 2), (4, 3)),
        (nn.Conv2d(1, 2, 3), (1, 5, 5, 1)),
        (nn.LayerNorm(3), (2, 3)),
        (nn.BatchNorm1d(3), (2, 3)),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "uint8"])
def test_layers_refuse_another_dtype_and_name_the_fix(layer, shape, dtype):
    with pytest.raises(DTypeError, match=r"astype\(\"float32\"\)"):
        layer(cr.ones(shape, dtype))


def test_sequential_refuses_functions_and_classes():
    with pytest.raises(ArgumentError, match=r"nn\.ReLU\(\)"):
        nn.Sequential(nn.Linear(2, 2), nn.ReLU)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_module_without_forward_says_so(dim):
    class Empty(nn.Module):
        pass

    with pytest.raises(ArgumentError, match="does not define forward"):
        Empty()(dim)


def test_a_module_inserted_where_another_was_starts_from_other_numbers():
    cr.manual_seed(0)
    layers = nn.ModuleList([nn.Linear(3, 3)])
    first = layers[0].weight.numpy()
    layers.insert(0, nn.Linear(3, 3))
    assert (layers[1].weight.numpy() == first).all()
    assert (layers[0].weight.numpy() != first).any()


def test_a_state_is_arrays_by_name():
    with pytest.raises(ArgumentError, match="arrays by name"):
        nn.Linear(2, 2).load_state_dict(3)
