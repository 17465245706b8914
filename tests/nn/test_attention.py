"""Attention: all forms give the same numbers, rotations, the cache, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.errors import ArgumentError, DTypeError, IndexOutOfRangeError, ShapeError
from chainrule.nn import attention
from chainrule.nn.functional import rotary, scaled_dot_product_attention

RNG = np.random.default_rng(11)


def real(*shape, dtype="float64"):
    return cr.asarray(RNG.standard_normal(shape).astype(dtype))


def reference(q, k, v, mask=None, causal=False, scale=None):
    """Attention by its definition, one query of one head after the other."""
    q, k, v = (np.asarray(x.detach().numpy()) for x in (q, k, v))
    group = q.shape[-3] // k.shape[-3]
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    mask = np.ones(1, bool) if mask is None else mask.numpy()
    mask = np.broadcast_to(mask, (*q.shape[:-1], k.shape[-2]))
    for *n, h, i in np.ndindex(*q.shape[:-1]):
        keys, values, here = k[(*n, h // group)], v[(*n, h // group)], mask[(*n, h, i)]
        scores = keys @ q[(*n, h, i)] * (q.shape[-1] ** -0.5 if scale is None else scale)
        seen = here if here.dtype == bool else np.ones(len(keys), bool)
        scores = scores if here.dtype == bool else scores + here
        seen = seen & (np.arange(len(keys)) <= i) if causal else seen
        if seen.any():
            weights = np.exp(scores[seen] - scores[seen].max())
            out[(*n, h, i)] = weights @ values[seen] / weights.sum()
    return out


MASKS = {
    "none": lambda rows, keys: None,
    "rows": lambda rows, keys: cr.asarray(RNG.random((rows, keys)) < 0.6),
    "keys": lambda rows, keys: cr.asarray(RNG.random(keys) < 0.6),
    "samples": lambda rows, keys: cr.asarray(RNG.random((2, 1, 1, keys)) < 0.6),
    "heads": lambda rows, keys: real(4, rows, keys),
    "all": lambda rows, keys: real(2, 4, rows, keys),
    "column": lambda rows, keys: real(rows, 1),
}


@given(
    rows=st.integers(1, 20), keys=st.integers(1, 20), block=st.integers(1, 21), heads=st.sampled_from([1, 2, 4]),
    kind=st.sampled_from(sorted(MASKS)), causal=st.booleans(), scale=st.sampled_from([None, 0.3]),
)  # fmt: skip
@settings(max_examples=40)
def test_all_forms_are_the_definition(rows, keys, block, heads, kind, causal, scale):
    """Results and gradients, with groups of heads, lengths that differ, and blocks that do not divide them."""
    q, k, v = real(2, 4, rows, 3), real(2, heads, keys, 3), real(2, heads, keys, 5)
    mask, ct = MASKS[kind](rows, keys), real(2, 4, rows, 5)
    results = []
    for size in (None, rows, block):

        def f(q, k, v, size=size):
            out = scaled_dot_product_attention(q, k, v, mask, 0.0, causal, scale, True, block=size)
            return (out * ct).sum(), out

        (_, out), gradients = cr.value_and_grad(f, (0, 1, 2), has_aux=True)(q, k, v)
        results.append([x.numpy() for x in (out, *gradients)])
    np.testing.assert_allclose(results[0][0], reference(q, k, v, mask, causal, scale), rtol=0, atol=1e-12)
    for a, *others in zip(*results, strict=True):
        for b in others:
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("block", [5, 2], ids=["plain", "blocks"])
@pytest.mark.parametrize("causal", [False, True])
def test_gradients_of_first_and_second_order(block, causal):
    """By queries, keys, values and a mask that is added, with rows without any key."""
    q, k, v, bias = real(2, 5, 2), real(1, 3, 2), real(1, 3, 1), real(5, 3)
    bias = bias.at[2].set(-math.inf)

    def f(q, k, v, added):
        return scaled_dot_product_attention(q, k, v, bias + added, is_causal=causal, enable_gqa=True, block=block)

    cr.check_grads(f, (q, k, v, cr.zeros((5, 3), "float64")), order=2)


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_of_the_primitive(causal):
    """With groups of heads, each head with a mask, one key that nobody sees and one query that sees nothing."""
    q, k, v = real(2, 4, 5, 2), real(2, 2, 3, 2), real(2, 1, 3, 1)
    masks = cr.asarray(RNG.random((4, 5, 3)) < 0.7), cr.ones((5, 3), "bool").at[2].set(False).at[:, 1].set(False)

    def f(q, k, v):
        return scaled_dot_product_attention(q, k, v, masks[0] & masks[1], is_causal=causal, enable_gqa=True)

    cr.check_grads(f, (q, k, v), order=2)


@pytest.mark.parametrize("block", [None, 4, 2])
def test_a_query_without_keys_gets_zeros_and_finite_gradients(block):
    q, k, v = real(4, 3), real(5, 3), real(5, 3)
    mask = cr.ones((4, 5), "bool").at[1].set(False)
    out = scaled_dot_product_attention(q, k, v, mask, block=block)
    assert out[1].tolist() == [0, 0, 0]
    gradients = cr.grad(lambda *a: (scaled_dot_product_attention(*a, mask, block=block) ** 2).sum(), (0, 1, 2))(q, k, v)
    assert all(np.isfinite(g.numpy()).all() for g in gradients)
    assert gradients[0][1].tolist() == [0, 0, 0]


def test_nothing_to_look_at_and_nothing_to_ask():
    assert scaled_dot_product_attention(cr.ones((2, 3)), cr.ones((0, 3)), cr.ones((0, 4))).tolist() == [[0] * 4] * 2
    assert scaled_dot_product_attention(cr.ones((0, 3)), cr.ones((2, 3)), cr.ones((2, 4))).shape == (0, 4)


def test_axes_of_batches_broadcast():
    q, k, v = real(3, 1, 2, 4, 5), real(2, 2, 6, 5), real(2, 2, 6, 5)
    out = scaled_dot_product_attention(q, k[None], v[None])
    for i, j in np.ndindex(3, 2):
        np.testing.assert_allclose(out[i, j].numpy(), reference(q[i, 0], k[j], v[j]), rtol=0, atol=1e-12)
    one = scaled_dot_product_attention(q[0, 0, :1], k[0], v[0], block=3)  # one head of queries, several of keys
    np.testing.assert_allclose(one[1].numpy(), reference(q[0, 0, :1], k[0, 1:], v[0, 1:])[0], rtol=0, atol=1e-12)


def blocks_of(monkeypatch, q, k, **how):
    """With dropout, the sizes of the blocks in which attention went over queries; None if it was not done in blocks."""
    found = []

    def noting(f, init, xs):
        found.append((xs[0].shape[-2], [mask.shape for mask in xs[1]]))
        return cr.scan(f, init, xs)

    monkeypatch.setattr(attention, "scan", noting)
    scaled_dot_product_attention(q, k, k, dropout_p=0.5, **how)
    return found[0] if found else None


def test_blocks_are_chosen_by_the_number_of_scores(monkeypatch):
    monkeypatch.setattr(attention, "WHOLE", 2**14)
    monkeypatch.setattr(attention, "BLOCK", 2**13)
    q = cr.ones((2, 2, 64, 1))
    assert blocks_of(monkeypatch, q, q) is None  # 2^14 scores
    longer = cr.ones((2, 2, 65, 1))
    assert blocks_of(monkeypatch, longer, q)[0] == 32  # 2^13 scores
    assert blocks_of(monkeypatch, longer, longer)[0] == 16  # not 32, which would be a few too many
    assert blocks_of(monkeypatch, cr.ones((8, 8, 65, 1)), cr.ones((8, 8, 9, 1)))[0] == 16  # no less
    assert blocks_of(monkeypatch, longer, q, block=65) is None
    assert blocks_of(monkeypatch, q, q, block=5)[0] == 5


def test_masks_are_cut_by_rows_and_never_widened(monkeypatch):
    q = cr.ones((2, 3, 8, 1))
    assert blocks_of(monkeypatch, q, q, block=4, attn_mask=cr.ones((8, 8), "bool")) == (4, [(2, 4, 8)])
    assert blocks_of(monkeypatch, q, q, block=4, attn_mask=cr.ones((2, 1, 1, 8), "bool")) == (4, [])
    assert blocks_of(monkeypatch, q, q, block=4, is_causal=True) == (4, [])


def test_dropout_drops_what_it_should():
    """The weights are dropped: with values that name the keys, the kept ones are seen."""
    q, k, v = cr.zeros((64, 1)), cr.zeros((100, 1)), cr.eye(100)
    for block in (64, 16):
        cr.manual_seed(3)
        weights = scaled_dot_product_attention(q, k, v, dropout_p=0.25, block=block).numpy()
        kept = weights > 0
        np.testing.assert_allclose(weights[kept], 1 / 75, rtol=1e-5)
        assert abs(kept.mean() - 0.75) < 0.02
        assert abs(kept[:16].mean() - kept[16:32].mean()) > 0  # blocks differ
        assert scaled_dot_product_attention(q, k, v, dropout_p=1.0, block=block).numpy().max() == 0


@pytest.mark.parametrize("block", [5, 2])
def test_dropout_is_the_same_backward(block):
    def f(q, k, v):
        how = {"dropout_p": 0.4, "block": block, "generator": cr.Generator(5)}
        return scaled_dot_product_attention(q, k, v, **how)

    cr.check_grads(f, (real(5, 2), real(3, 2), real(3, 2)), order=2)


def test_half_precision_does_not_overflow_in_sums():
    q, v = cr.zeros((4, 8), "float16"), cr.full((4096, 8), 40.0, "float16")
    for block in (None, 4, 2):
        out = scaled_dot_product_attention(q, cr.zeros((4096, 8), "float16"), v, block=block)
        np.testing.assert_allclose(out.numpy(), 40, rtol=2e-3)


X, Y = cr.ones((2, 3, 4)), cr.ones((2, 5, 4))
REFUSED = {
    "features": ((X, cr.ones((2, 5, 3)), Y), {}, ShapeError, "query"),
    "lengths": ((X, Y, cr.ones((2, 6, 4))), {}, ShapeError, "key"),
    "axes": ((X, Y[0], Y[0]), {}, ShapeError, "as many axes"),
    "heads": ((cr.ones((4, 3, 4)), Y, Y), {}, ShapeError, "enable_gqa=True"),
    "groups": ((cr.ones((3, 3, 4)), Y, Y), {"enable_gqa": True}, ShapeError, "divide"),
    "batch": ((X[None], cr.ones((3, 2, 5, 4)), cr.ones((2, 2, 5, 4))), {}, ShapeError, "leading axes"),
    "dtypes": ((X, Y, Y.astype("float64")), {}, DTypeError, "one floating dtype"),
    "whole numbers": ((cr.ones((3, 4), "int32"),) * 3, {}, DTypeError, "one floating dtype"),
    "mask of another length": ((X, Y, Y), {"attn_mask": cr.ones((3, 6), "bool")}, ShapeError, r"\(2, 3, 5\)"),
    "mask with more axes": ((X, Y, Y), {"attn_mask": cr.ones((1, 2, 3, 5), "bool")}, ShapeError, "broadcasts"),
    "mask of another dtype": ((X, Y, Y), {"attn_mask": cr.ones((3, 5), "float64")}, DTypeError, "bool or.*float32"),
    "probability": ((X, Y, Y), {"dropout_p": 1.5}, ArgumentError, "probability"),
    "block": ((X, Y, Y), {"block": 0}, ArgumentError, "block"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_arguments_are_refused(name):
    args, kwargs, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        scaled_dot_product_attention(*args, **kwargs)


# --- positions --------------------------------------------------------------------------------------------


def test_rotations_keep_lengths_and_depend_on_distances_alone():
    q, k = real(8), real(8)
    turned = [rotary(cr.broadcast_to(x, (50, 8))).numpy() for x in (q, k)]
    np.testing.assert_allclose(np.linalg.norm(turned[0], axis=1), np.linalg.norm(q.numpy()), rtol=1e-12)
    products = turned[0] @ turned[1].T
    for distance in (0, 3, -7):
        along = np.diagonal(products, distance)
        np.testing.assert_allclose(along, along[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rotations_are_exact_far_out_too(dtype):
    """As complex numbers times ``exp(i angle)``."""
    x, base, start = real(2, 3, 6, dtype=dtype), 500.0, 1_000_000
    pairs = x.numpy().astype(float)[..., 0::2] + 1j * x.numpy().astype(float)[..., 1::2]
    turned = pairs * np.exp(1j * np.outer(start + np.arange(3), base ** (-np.arange(0, 6, 2) / 6)))
    for offset in (start, cr.asarray(start)):
        out = rotary(x, offset, base).numpy()
        np.testing.assert_allclose(out[..., 0::2], turned.real, rtol=0, atol=1e-6 if dtype == "float32" else 1e-9)
        np.testing.assert_allclose(out[..., 1::2], turned.imag, rtol=0, atol=1e-6 if dtype == "float32" else 1e-9)
    cr.check_grads(rotary, (real(2, 3, 4),), order=2)


def test_an_offset_moves_positions():
    for layer in (nn.RotaryEmbedding(4), nn.SinusoidalPositions(4)):
        x = real(2, 7, 4)
        np.testing.assert_allclose(layer(x[:, 3:], 3).numpy(), layer(x)[:, 3:].numpy(), rtol=0, atol=1e-15)


def test_sinusoids_are_those_of_the_paper():
    waves = nn.SinusoidalPositions(6)(cr.zeros((9, 6), "float64")).numpy()
    for t, i in np.ndindex(9, 3):
        angle = t / 10000 ** (2 * i / 6)
        np.testing.assert_allclose(waves[t, 2 * i : 2 * i + 2], [math.sin(angle), math.cos(angle)], atol=1e-14)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: rotary(cr.ones((3, 5))), ShapeError, "even"),
        (lambda: rotary(cr.ones((4,))), ShapeError, "T"),
        (lambda: rotary(cr.ones((3, 4), "int32")), DTypeError, "floating"),
        (lambda: rotary(cr.ones((3, 4)), cr.asarray([1, 2])), ShapeError, "one number"),
        (lambda: nn.RotaryEmbedding(3), ArgumentError, "even"),
        (lambda: nn.RotaryEmbedding(4)(cr.ones((3, 6))), ShapeError, r"\(\.\.\., T, 4\)"),
        (lambda: nn.SinusoidalPositions(0), ArgumentError, "even"),
        (lambda: nn.SinusoidalPositions(4)(cr.ones((3, 6))), ShapeError, r"\(\.\.\., T, 4\)"),
    ],
)
def test_wrong_positions_are_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


# --- several heads ----------------------------------------------------------------------------------------


def layer_of(*args, **kwargs):
    cr.manual_seed(4)
    layer = nn.MultiheadAttention(*args, dtype="float64", **kwargs)
    for p in layer.parameters():
        p.assign(p + 0.1 * real(*p.shape))
    return layer


def test_with_and_without_weights_it_is_the_same():
    layer, x, y = layer_of(8, 4, add_bias_kv=True, add_zero_attn=True), real(2, 5, 8), real(2, 6, 8)
    padding, mask = cr.asarray(RNG.random((2, 6)) < 0.3), real(8, 5, 6)
    for how in ({}, {"key_padding_mask": padding}, {"attn_mask": mask}, {"is_causal": True},
                {"key_padding_mask": padding, "attn_mask": mask, "is_causal": True}):  # fmt: skip
        out, weights = layer(x, y, y, **how)
        other, none = layer(x, y, y, need_weights=False, **how)
        assert none is None
        assert weights.shape == (2, 5, 8)
        np.testing.assert_allclose(other.numpy(), out.numpy(), rtol=0, atol=1e-12)
        np.testing.assert_allclose(weights.numpy().sum(-1), 1, rtol=1e-12)
        single, one = layer(x[1], y[1], y[1], average_attn_weights=False, **{
            k: v if isinstance(v, bool) else v[1] if k == "key_padding_mask" else v[4:] for k, v in how.items()
        })  # fmt: skip
        np.testing.assert_allclose(single.numpy(), out[1].numpy(), rtol=0, atol=1e-12)
        np.testing.assert_allclose(one.numpy().mean(0), weights[1].numpy(), rtol=0, atol=1e-12)


def test_one_product_for_the_same_input_gives_what_three_give():
    layer, x = layer_of(8, 2), real(2, 5, 8)
    once, twice, thrice = (layer(x, *others)[0].numpy() for others in ((x, x), [x + 0] * 2, (x + 0, x + 0)))
    np.testing.assert_allclose(once, thrice, rtol=0, atol=1e-14)
    np.testing.assert_allclose(twice, thrice, rtol=0, atol=1e-14)


@pytest.mark.parametrize("how", [{}, {"kdim": 3}], ids=["together", "apart"])
def test_fewer_heads_of_keys_and_values_are_shared(how):
    few = layer_of(8, 4, num_kv_heads=2, add_bias_kv=True, **how)
    many = layer_of(8, 4, add_bias_kv=True, **how)
    rows = np.arange(8).reshape(4, 2)[[0, 0, 1, 1]].reshape(-1)  # rows of keys that a head of many has

    def widened(name, x):
        if name.startswith("in_proj"):
            return np.concatenate([x[:8], x[8:12][rows], x[12:][rows]])
        if name in ("k_proj_weight", "v_proj_weight"):
            return x[rows]
        return x[..., rows] if name in ("bias_k", "bias_v") else x

    many.load_state_dict({name: widened(name, x.numpy()) for name, x in few.state_dict().items()})
    x, y = real(2, 5, 8), real(2, 6, how.get("kdim", 8))
    for a, b in zip(few(x, y, real(2, 6, 8) * 0 + 1), many(x, y, real(2, 6, 8) * 0 + 1), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=1e-12)
    assert few.bias_k.shape == (1, 1, 4)


def test_initial_values_are_those_of_pytorch_s_rules():
    layer = nn.MultiheadAttention(64, 4, add_bias_kv=True)
    bound = math.sqrt(6 / (64 + 192))
    assert 0.98 * bound < np.abs(layer.in_proj_weight.numpy()).max() <= bound
    assert abs(layer.bias_k.numpy().std() * 8 - 1) < 0.3
    assert not layer.in_proj_bias.numpy().any()
    assert not layer.out_proj.bias.numpy().any()
    assert 0.97 / 8 < np.abs(layer.out_proj.weight.numpy()).max() <= 1 / 8


def test_dropout_of_weights_only_while_training():
    layer, x = layer_of(4, 2, dropout=0.5, generator=cr.Generator(1)), real(3, 9, 4)
    assert (layer(x, x, x, average_attn_weights=False)[1] == 0).numpy().mean() > 0.3
    assert abs(layer(x, x, x)[0] - layer(x, x, x)[0]).numpy().max() > 0
    layer.eval()
    assert not (layer(x, x, x, average_attn_weights=False)[1] == 0).numpy().any()
    assert abs(layer(x, x, x)[0] - layer(x, x, x)[0]).numpy().max() == 0


LAYER = nn.MultiheadAttention(4, 2)
WRONG = {
    "heads": (lambda: nn.MultiheadAttention(5, 2), ArgumentError, "divide"),
    "groups": (lambda: nn.MultiheadAttention(12, 6, num_kv_heads=4), ArgumentError, "num_kv_heads"),
    "no heads": (lambda: nn.MultiheadAttention(4, 0), ArgumentError, "divide"),
    "dropout": (lambda: nn.MultiheadAttention(4, 2, 1.5), ArgumentError, "probability"),
    "order of axes": (lambda: nn.MultiheadAttention(4, 2, batch_first=False), ArgumentError, "batch first.*swapaxes"),
    "features": (lambda: LAYER(*[cr.ones((2, 3, 5))] * 3), ShapeError, "4 elements"),
    "axes": (lambda: LAYER(*[cr.ones((4,))] * 3), ShapeError, "sequences"),
    "lengths": (lambda: LAYER(X, Y, cr.ones((2, 6, 4))), ShapeError, "key"),
    "batches": (lambda: LAYER(X, *[cr.ones((3, 5, 4))] * 2), ShapeError, "leading axes"),
    "dtype": (lambda: LAYER(*[X.astype("float64")] * 3), DTypeError, "float32"),
    "padding": (lambda: LAYER(X, Y, Y, cr.ones((2, 3), "bool")), ShapeError, "broadcasts"),
    "mask": (lambda: LAYER(X, Y, Y, attn_mask=cr.ones((2, 3, 5), "bool")), ShapeError, r"N \* H = 4"),
    "kind of mask": (lambda: LAYER(X, Y, Y, attn_mask=cr.ones((3, 5), "int32")), DTypeError, "bool or"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_of_the_layer_are_refused(name):
    call, kind, message = WRONG[name]
    with pytest.raises(kind, match=message):
        call()


# --- the cache --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [[1] * 7, [4, 1, 2], [7]], ids=str)
@pytest.mark.parametrize("how", [{}, {"num_kv_heads": 2, "rotary": nn.RotaryEmbedding(4), "add_bias_kv": True}])
def test_step_by_step_is_the_whole(parts, how):
    layer, x = layer_of(16, 4, **how).eval(), real(2, 7, 16)
    cache = nn.KVCache(2, layer.num_kv_heads, 10, 4, dtype="float64")
    for _ in range(2):
        cache.reset()
        found, at = [], 0
        for n in parts:
            part = x[:, at : at + n]
            found.append(layer(part, part, part, need_weights=n == 4, cache=cache)[0].numpy())
            at += n
            assert int(cache.length) == at
        whole = layer(x, x, x, is_causal=True)[0].numpy()
        np.testing.assert_allclose(np.concatenate(found, axis=1), whole, rtol=0, atol=1e-12)


def test_a_compiled_step_with_a_cache_is_compiled_once():
    layer, x = layer_of(8, 2).eval(), real(1, 6, 8)
    cache = nn.KVCache(1, 2, 6, 4, dtype="float64")

    @cr.compile
    def step(token):
        return layer(token, token, token, need_weights=False, cache=cache)[0]

    found = [step(x[:, i : i + 1]).numpy() for i in range(6)]
    np.testing.assert_allclose(np.concatenate(found, axis=1), layer(x, x, x, is_causal=True)[0].numpy(), atol=1e-12)
    assert len(step.programs) == 1
    with pytest.raises(IndexOutOfRangeError, match=r"room for 6 tokens.*reset\(\)"):
        step(x[:, :1])
    assert int(cache.length) == 6
    cache.reset()
    np.testing.assert_allclose(step(x[:, :1]).numpy(), found[0], atol=1e-14)
    assert len(step.programs) == 1


def test_a_full_cache_and_wrong_shapes_are_refused():
    cache = nn.KVCache(2, 3, 4, 5)
    new = cr.ones((2, 3, 3, 5))
    cache.update(new, new)
    for count in (2, 5):
        with pytest.raises(IndexOutOfRangeError, match="room for 4 tokens"):
            cache.update(*[cr.ones((2, 3, count, 5))] * 2)
    assert int(cache.length) == 3
    assert not cache.keys.numpy()[:, :, 3].any()
    for k, v in ((new[:1], new[:1]), (new, new[:, :, :2]), (new[..., :4], new[..., :4])):
        with pytest.raises(ShapeError, match=r"\(2, 3, T, 5\)"):
            cache.update(k, v)
    with pytest.raises(DTypeError, match="float32"):
        cache.update(new.astype("float64"), new)
    with pytest.raises(ArgumentError, match="positive"):
        nn.KVCache(2, 0, 4, 5)


def test_gradients_reach_what_a_cache_takes_in():
    layer, x = layer_of(8, 2), real(1, 4, 8)

    def f(x):
        cache = nn.KVCache(1, 2, 6, 4, dtype="float64")
        return layer(x, x, x, cache=cache)[0]

    cr.check_grads(f, (x,))
