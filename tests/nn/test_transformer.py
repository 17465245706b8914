"""Transformers: starting values, copies of layers, masks, caches, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import ArgumentError, ShapeError

RNG = np.random.default_rng(5)


def real(*shape):
    return cr.asarray(RNG.standard_normal(shape))


def layer_of(kind=nn.TransformerEncoderLayer, **how):
    return kind(8, 2, 12, dtype="float64", **how)


def weights(module, end):
    return [p.numpy() for name, p in module.named_parameters() if name.endswith(end)]


def test_layers_of_a_stack_start_with_values_of_their_own():
    """Each by its place, whatever the layer that is copied; deeper stacks keep them."""
    cr.manual_seed(1)
    first, second = weights(nn.TransformerEncoder(layer_of(), 2), "in_proj_weight")
    assert not np.array_equal(first, second)
    cr.manual_seed(1)
    longer = weights(nn.TransformerEncoder(layer_of(), 3), "in_proj_weight")
    assert np.array_equal(longer[0], first)
    assert np.array_equal(longer[1], second)


def test_what_a_layer_has_learned_is_copied():
    layer = layer_of(nn.TransformerDecoderLayer)
    layer.linear1.weight.assign(real(12, 8))
    layer.linear2.freeze()
    stack = nn.TransformerDecoder(layer, 2)
    for copied in stack.layers:
        assert copied.linear1.weight is not layer.linear1.weight
        assert np.array_equal(copied.linear1.weight.numpy(), layer.linear1.weight.numpy())
        assert not copied.linear2.weight.trainable
    assert not np.array_equal(*(part.multihead_attn.in_proj_weight.numpy() for part in stack.layers))
    assert {id(p) for p in stack.parameters()}.isdisjoint(id(p) for p in layer.parameters())


def test_a_transformer_starts_by_the_rule_of_xavier():
    cr.manual_seed(2)
    model = nn.Transformer(16, 2, 1, 2, 48)
    for name, p in model.named_parameters():
        if p.ndim > 1:
            bound = math.sqrt(6 / sum(p.shape))
            assert 0.9 * bound < np.abs(p.numpy()).max() <= bound, name
    first, second = weights(model.decoder, "linear1.weight")
    assert not np.array_equal(first, second)
    own = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 48), 1)
    before = {name: p.numpy() for name, p in own.named_parameters()}
    model = nn.Transformer(16, 2, 1, 1, 48, custom_encoder=own)
    assert model.encoder is own
    assert all(np.array_equal(before[name], p.numpy()) for name, p in own.named_parameters())


@pytest.mark.parametrize("norm_first", [False, True])
def test_causal_layers_do_not_look_ahead(norm_first):
    """By flag and by mask they are the same, and what comes later changes nothing earlier."""
    stack = nn.TransformerEncoder(layer_of(norm_first=norm_first), 2).eval()
    x = real(2, 5, 8)
    mask = nn.Transformer.generate_square_subsequent_mask(5, "float64")
    out = stack(x, is_causal=True).numpy()
    for how in ({"mask": mask}, {"mask": mask < 0}, {"mask": mask, "is_causal": True}):
        np.testing.assert_allclose(stack(x, **how).numpy(), out, rtol=0, atol=1e-13)
    np.testing.assert_allclose(stack(x[:, :3], is_causal=True).numpy(), out[:, :3], rtol=0, atol=1e-13)
    assert np.abs(stack(x).numpy() - out).max() > 1e-3


def test_padding_is_not_looked_at():
    model = nn.Transformer(8, 2, 1, 1, 12, dtype="float64").eval()
    src, tgt = real(2, 5, 8), real(2, 4, 8)
    padding = cr.asarray(np.arange(5) >= [[5], [3]])
    out = model(src, tgt, src_key_padding_mask=padding, memory_key_padding_mask=padding, tgt_is_causal=True).numpy()
    alone = model(src[1:, :3], tgt[1:], tgt_is_causal=True).numpy()
    np.testing.assert_allclose(out[1:], alone, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_stack_generates_step_by_step(kind):
    """With a cache for each layer, compiled once, it gives what it gives for the whole sequence."""
    if kind == "encoder":
        stack, more = nn.TransformerEncoder(layer_of(norm_first=True), 2, nn.LayerNorm(8, dtype="float64")), ()
    else:
        stack, more = nn.TransformerDecoder(layer_of(nn.TransformerDecoderLayer), 2), (real(1, 3, 8),)
    stack.eval()
    x = real(1, 5, 8)
    caches = [nn.KVCache(1, 2, 5, 4, dtype="float64") for _ in stack.layers]
    step = cr.compile(lambda token: stack(token, *more, caches=caches))
    found = np.concatenate([step(x[:, i : i + 1]).numpy() for i in range(5)], axis=1)
    causal = {"is_causal": True} if kind == "encoder" else {"tgt_is_causal": True}
    np.testing.assert_allclose(found, stack(x, *more, **causal).numpy(), rtol=0, atol=1e-12)
    assert len(step.programs) == 1
    with pytest.raises(ArgumentError, match="2 layers"):
        stack(x, *more, caches=caches[:1])


def test_another_attention_takes_the_place_of_the_usual_one():
    layer = layer_of()
    layer.self_attn = nn.MultiheadAttention(
        8, 4, num_kv_heads=1, rotary=nn.RotaryEmbedding(2), dtype="float64", dropout=0.1
    )
    stack = nn.TransformerEncoder(layer, 2).eval()
    x = real(1, 4, 8)
    assert np.abs(stack(x)[:, ::-1].numpy() - stack(x[:, ::-1]).numpy()).max() > 1e-3  # positions matter
    assert stack.layers[1].self_attn.in_proj_weight.shape == (12, 8)


def test_a_small_transformer_learns_to_reverse():
    cr.manual_seed(0)
    embed, model, out = nn.Embedding(6, 16), nn.Transformer(16, 2, 1, 1, 32, 0.0), nn.Linear(16, 5)
    places = nn.SinusoidalPositions(16)
    net = nn.ModuleList([embed, model, out])
    opt = optim.Adam(net.parameters(), lr=5e-3)
    tokens = RNG.integers(0, 5, (64, 4))
    given = np.concatenate([np.full((64, 1), 5), tokens[:, :0:-1]], axis=1)

    @cr.compile
    def step(src, before, after):
        opt.zero_grad()
        y = out(model(places(embed(src)), places(embed(before)), tgt_is_causal=True))
        loss = nn.functional.cross_entropy(y, after)
        loss.backward()
        opt.step()
        return loss

    losses = [float(step(tokens, given, tokens[:, ::-1])) for _ in range(150)]
    assert losses[0] > 1.2
    assert losses[-1] < 0.2


def test_swiglu_is_its_formula():
    layer, x = nn.SwiGLU(4, 6, dtype="float64"), real(3, 4)
    both = x.numpy() @ layer.linear1.weight.numpy().T
    a, b = both[:, :6], both[:, 6:]
    expected = (a / (1 + np.exp(-a)) * b) @ layer.linear2.weight.numpy().T
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=0, atol=1e-13)
    assert layer.linear1.bias is None
    cr.check_grads(nn.functional.swiglu, (real(3, 4),), order=2)
    assert nn.functional.swiglu(real(4, 3), dim=0).shape == (2, 3)
    with pytest.raises(ShapeError, match="even"):
        nn.functional.swiglu(real(3, 3))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: nn.TransformerEncoderLayer(8, 2, activation="tanh"), ArgumentError, "relu"),
        (lambda: nn.TransformerEncoderLayer(8, 2, batch_first=False), ArgumentError, "batch first"),
        (lambda: nn.TransformerDecoderLayer(8, 3), ArgumentError, "divide"),
        (lambda: nn.Transformer(8, 2, batch_first=False), ArgumentError, "batch first"),
        (lambda: nn.TransformerEncoder(8, 2), ArgumentError, "a layer to copy"),
        (lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2), "2"), ArgumentError, "how many"),
        (lambda: nn.Transformer(8, 2, 1, 1)(cr.ones((2, 3, 8)), cr.ones((3, 3, 8))), ShapeError, r"\(N, S, 8\)"),
        (lambda: nn.Transformer(8, 2, 1, 1)(cr.ones((2, 3, 6)), cr.ones((2, 3, 6))), ShapeError, r"\(N, S, 8\)"),
    ],
)
def test_wrong_arguments_are_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
