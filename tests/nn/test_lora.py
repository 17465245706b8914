"""Adapters of low rank: the start, what trains, merging, saving, whole models."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import ArgumentError, StateError


class Net(nn.Module):
    def __init__(self):
        self.tokens = nn.Embedding(7, 4, padding_idx=1, dtype="float64")
        self.conv = nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=1, dtype="float64")
        self.blocks = [nn.Linear(6, 6, dtype="float64"), nn.ReLU(), nn.Linear(6, 6, bias=False, dtype="float64")]
        self.head = nn.ModuleDict({"out": nn.Linear(6, 3, dtype="float64")})

    def forward(self, x):
        y = self.conv(self.tokens(x))
        for block in self.blocks:
            y = block(y)
        return self.head["out"](y)


EVERY = ["tokens", "conv", "blocks.0", "blocks.2", "out"]
X = cr.tensor([[1, 2, 3, 4], [0, 6, 6, 1]])


def shaken(model):
    """An adapted model after some training, as it were."""
    rng = np.random.default_rng(0)
    for p in nn.lora.parameters(model):
        p.assign(cr.asarray(rng.normal(size=p.shape)).astype(p.dtype))
    for adapter in nn.lora.adapters(model).values():  # the row of the padding stays zero
        if isinstance(adapter, nn.lora.LoRAEmbedding):
            adapter.lora_B.assign(adapter.lora_B.at[1].set(0.0))
    return model


def test_the_result_is_the_same_at_first_and_initial_values_too():
    cr.manual_seed(0)
    expected = Net()(X).numpy()
    cr.manual_seed(0)
    adapted = Net()
    nn.lora.apply(adapted, rank=2, targets=EVERY)
    np.testing.assert_array_equal(adapted(X).numpy(), expected)
    a = [m.lora_A.numpy() for m in nn.lora.adapters(adapted).values()]
    assert all(np.ptp(x) > 0 for x in a)
    assert all(
        np.abs(m.lora_A.numpy()).max() <= 1 / np.sqrt(m.lora_A[0].size) for m in nn.lora.adapters(adapted).values()
    )


def test_only_adapters_train():
    model = nn.lora.apply(Net(), rank=2, targets=EVERY)
    trainable = [name for name, p in model.named_parameters() if p.trainable]
    assert trainable == list(nn.lora.state_dict(model))
    assert {p.shape for p in nn.lora.parameters(model)} == {(2, 4), (7, 2), (2, 3, 4), (6, 2), (2, 6), (3, 2)}
    assert [p for p in model.parameters() if p.trainable] == nn.lora.parameters(model)
    before = {name: value.numpy() for name, value in model.state_dict().items()}
    opt = optim.Adam(nn.lora.parameters(model), lr=0.1)

    @cr.compile
    def step(x):
        opt.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        opt.step()
        return loss

    losses = [float(step(X)) for _ in range(20)]
    assert losses[-1] < losses[0]
    assert len(step.programs) == 1
    for name, value in model.state_dict().items():
        assert np.array_equal(value.numpy(), before[name]) == (name not in trainable), name


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(5, 4, dtype="float64"), (2, 3, 5)),
        (nn.Conv1d(5, 4, 3, padding="same", dtype="float64"), (2, 6, 5)),
        (nn.Conv2d(3, 4, 1, stride=2, dtype="float64"), (2, 4, 4, 3)),
        (nn.Conv2d(3, 4, (2, 3), padding=((0, 1), (1, 1)), dilation=(1, 2), dtype="float64"), (2, 5, 7, 3)),
        (nn.Conv3d(2, 3, 2, bias=False, dtype="float64"), (1, 3, 3, 3, 2)),
    ],
)
def test_an_adapter_is_a_layer_with_another_weight(layer, shape):
    adapted = shaken(nn.lora.apply(copy.deepcopy(layer), 2, alpha=3.0, targets=lambda name, layer: True))
    x = cr.asarray(np.random.default_rng(1).normal(size=shape))
    a, b = (p.numpy() for p in (adapted.lora_A, adapted.lora_B))
    delta = 1.5 * (b @ a.reshape(2, -1)).reshape(layer.weight.shape)
    layer.weight.assign(adapted.base.weight + delta)
    np.testing.assert_allclose(adapted(x).numpy(), layer(x).numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(adapted.weight.numpy(), layer.weight.numpy(), rtol=1e-13)
    assert (adapted.bias is None) == (layer.bias is None)
    cr.check_grads(
        lambda a, b: cr.functional_call(adapted, {"lora_A": a, "lora_B": b}, x).sum(), (cr.asarray(a), cr.asarray(b))
    )


def test_merging_computes_the_same_and_unmerging_restores():
    model = shaken(nn.lora.apply(Net(), rank=2, targets=EVERY))
    evaluate = cr.compile(lambda x: model(x))
    before = {name: value.numpy() for name, value in model.state_dict().items()}
    expected = evaluate(X).numpy()
    for _ in range(2):  # twice is once
        nn.lora.merge(model)
    assert "merged" in repr(model)
    assert not np.array_equal(model.tokens.base.weight.numpy(), before["tokens.base.weight"])
    np.testing.assert_allclose(evaluate(X).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(model.blocks[0].weight.numpy(), model.blocks[0].base.weight.numpy())
    for _ in range(2):
        nn.lora.unmerge(model)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
    np.testing.assert_array_equal(evaluate(X).numpy(), expected)


def test_adapters_alone_are_saved_and_loaded(tmp_path):
    cr.manual_seed(0)
    base = Net()
    model, other = (nn.lora.apply(copy.deepcopy(base), rank=2, targets=["blocks.0", "out"]) for _ in range(2))
    shaken(model)
    saved = nn.lora.state_dict(model)
    assert list(saved) == [f"{n}.{p}" for n in ("blocks.0", "head.out") for p in ("lora_A", "lora_B")]
    nn.lora.load_state_dict(other, {name: value.numpy() for name, value in saved.items()})
    np.testing.assert_array_equal(other(X).numpy(), model(X).numpy())
    cr.save(model, tmp_path / "whole.safetensors")
    third = nn.lora.apply(Net(), rank=2, targets=["blocks.0", "out"])
    cr.load(third, tmp_path / "whole.safetensors")
    np.testing.assert_array_equal(third(X).numpy(), model(X).numpy())
    with pytest.raises(StateError, match=r"do not fit.*head\.out\.lora_B"):
        nn.lora.load_state_dict(other, {k: v for k, v in saved.items() if k != "head.out.lora_B"})
    with pytest.raises(StateError, match="shape"):
        nn.lora.load_state_dict(other, saved | {"head.out.lora_B": cr.zeros((3, 3))})
    nn.lora.merge(other)
    with pytest.raises(StateError, match="merged"):
        nn.lora.load_state_dict(other, saved)


def test_targets():
    found = lambda *args, **kwargs: list(nn.lora.adapters(nn.lora.apply(Net(), *args, **kwargs)))  # noqa: E731
    assert found() == ["blocks.0", "blocks.2", "head.out"]
    assert found(targets="head.out") == ["head.out"]
    assert found(targets=lambda name, layer: isinstance(layer, nn.Conv1d)) == ["conv"]
    model = nn.lora.apply(Net(), targets="conv")
    nn.lora.apply(model)  # the others, and the first stays one
    assert list(nn.lora.adapters(model)) == ["conv", "blocks.0", "blocks.2", "head.out"]
    assert isinstance(model.blocks, list)
    assert isinstance(model.head["out"], nn.lora.LoRALinear)
    with pytest.raises(ArgumentError, match=r"no such layer\. Received: nothing"):
        found(targets=["conv", "nothing"])
    with pytest.raises(ArgumentError, match=r"blocks\.1 \(ReLU\)"):
        found(targets="blocks.1")
    with pytest.raises(ArgumentError, match="no layer"):
        nn.lora.apply(nn.Sequential(nn.ReLU()))


def test_a_layer_used_twice_stays_one():
    layer = nn.Linear(3, 3)
    model = nn.lora.apply(nn.Sequential(layer, nn.Tanh(), layer), rank=1)
    assert model[0] is model[2]
    assert len(nn.lora.parameters(model)) == 2


def test_the_weight_can_be_used_as_that_of_a_layer():
    """As by an output layer that is tied to a table."""
    embedding = nn.lora.LoRAEmbedding(nn.Embedding(5, 3), rank=2)
    shaken(nn.Sequential(embedding))
    scores = embedding(cr.tensor([2])) @ embedding.weight.T
    scores.sum().backward()
    assert embedding.lora_B.grad.shape == (5, 2)


def test_merging_into_a_tied_weight_is_refused():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    model[1].weight = model[0].weight
    nn.lora.apply(model, targets="0")
    with pytest.raises(ArgumentError, match="tied"):
        nn.lora.merge(model)


def test_dropout_on_the_way_in():
    layer = shaken(nn.lora.apply(nn.Linear(50, 4), rank=2, dropout=0.5))
    x = cr.ones((3, 50))
    assert not np.allclose(layer(x)[0].numpy(), layer(x)[1].numpy())
    layer.eval()
    np.testing.assert_array_equal(layer(x)[0].numpy(), layer(x)[1].numpy())


def test_wrong_arguments():
    with pytest.raises(ArgumentError, match="rank is at least 1"):
        nn.lora.LoRALinear(nn.Linear(2, 2), rank=0)
    with pytest.raises(ArgumentError, match="probability"):
        nn.lora.LoRALinear(nn.Linear(2, 2), dropout=2.0)
    for layer in (nn.Conv2d(2, 4, 1, groups=2), nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect")):
        with pytest.raises(ArgumentError, match="one group"):
            nn.lora.LoRAConv(layer)


def test_adapters_keep_the_dtype():
    layer = nn.lora.LoRALinear(nn.Linear(2, 2, dtype="bfloat16"), rank=1)
    assert layer(cr.ones((1, 2), dtype="bfloat16")).dtype == cr.bfloat16
    assert nn.lora.apply(nn.Linear(2, 2), rank=1).double()(cr.ones((1, 2), dtype="float64")).dtype == cr.float64
