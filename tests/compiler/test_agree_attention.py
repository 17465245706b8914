"""Attention and transformers give the same numbers compiled, in all forms, and need little memory."""

from __future__ import annotations

from typing import Any

import both_modes
import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.nn import attention
from chainrule.nn.functional import scaled_dot_product_attention

RNG = np.random.default_rng(3)


def real(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


# Shapes of queries, keys and values, a mask, further arguments.
CASES: dict[str, tuple[list[tuple[int, ...]], Any, dict[str, Any]]] = {
    "plain": ([(2, 4, 9, 5), (2, 4, 9, 5), (2, 4, 9, 5)], None, {}),
    "causal": ([(2, 4, 9, 5), (2, 4, 7, 5), (2, 4, 7, 3)], None, {"is_causal": True}),
    "groups": ([(2, 4, 9, 5), (2, 2, 9, 5), (2, 2, 9, 5)], None, {"enable_gqa": True}),
    "one head of keys": ([(4, 9, 5), (1, 9, 5), (1, 9, 5)], None, {"enable_gqa": True, "is_causal": True}),
    "two axes": ([(9, 5), (33, 5), (33, 17)], None, {"scale": 0.3}),
    "bool": ([(2, 9, 5), (2, 7, 5), (2, 7, 5)], RNG.random((9, 7)) < 0.6, {}),
    "an empty row": ([(2, 9, 5), (2, 7, 5), (2, 7, 5)], np.arange(9)[:, None] != np.full(7, 4), {"is_causal": True}),
    "padding": ([(2, 3, 9, 5), (2, 3, 7, 5), (2, 3, 7, 5)], RNG.random((2, 1, 1, 7)) < 0.6, {}),
    "added": ([(2, 3, 9, 5), (2, 3, 7, 5), (2, 3, 7, 5)], real(3, 9, 7), {}),
    "dropout": ([(2, 3, 9, 5), (2, 3, 7, 5), (2, 3, 7, 5)], None, {"dropout_p": 0.3}),
}


def attention_step(dtype: str, block: int | None) -> tuple[Any, list[Any]]:
    """A function of the inputs of all cases, with results and gradients."""
    inputs = []
    for shapes, mask, _ in CASES.values():
        arrays = [real(*shape).astype(dtype) for shape in shapes]
        inputs.append([*arrays, mask.astype(dtype) if mask is not None and mask.dtype == float else mask])

    def step(given: list[Any]) -> dict[str, Any]:
        found = {}
        for (name, (_, _, how)), args in zip(CASES.items(), given, strict=True):
            args = [None if x is None else cr.asarray(x) for x in args]
            by = (0, 1, 2) if args[3] is None or args[3].dtype == cr.bool_ else (0, 1, 2, 3)

            def loss(*args: Any, how: Any = how) -> Any:
                out = scaled_dot_product_attention(*args, **how, block=block)
                return (out * cr.sin(1 + cr.arange(out.size, dtype=out.dtype)).reshape(out.shape)).sum(), out

            found[name] = cr.value_and_grad(loss, by, has_aux=True)(*args)
        return found

    return step, inputs


@pytest.mark.parametrize(("dtype", "block"), [("float32", None), ("float64", None), ("float64", 4), ("float32", 1)])
def test_attention(dtype, block):
    step, inputs = attention_step(dtype, block)
    both_modes.same(*both_modes.both(lambda wrap: wrap(step)(inputs)))


@pytest.mark.parametrize("block", [None, 5, 2])
def test_derivatives_of_second_order(block):
    q, k, v, t = (cr.asarray(real(2, 5, 3)) for _ in range(4))

    def f(q):
        return (scaled_dot_product_attention(q, k, q * v, is_causal=True, block=block) ** 2).sum()

    def both(q, t):
        return cr.hvp(f, (q,), (t,)), cr.grad(lambda q: (cr.grad(f)(q) * t).sum())(q)

    expected, found = both(q, t), cr.compile(both)(q, t)
    both_modes.same(expected, found, factor=10)


@pytest.mark.parametrize("dtype", ["bool", "float32"])
@pytest.mark.parametrize("causal", [False, True])
def test_memory_is_linear_in_length(monkeypatch, causal, dtype):
    """Forward and backward, with a mask of padding and one of heads' own on top: by kernels, or in blocks."""
    monkeypatch.setattr(attention, "WHOLE", 2**12)
    monkeypatch.setattr(attention, "BLOCK", 2**12)

    def needed(length: int) -> int:
        q = cr.zeros((2, 2, length, 8))
        masks = [cr.ones((2, 1, 1, length), "bool"), cr.zeros((2, 1, length), dtype)]

        def loss(q: Any) -> Any:
            return attention.attend(q, q, q, masks, causal).sum()

        return cr.explain(cr.compile(cr.grad(loss)), q).memory["arena"]

    a, b = needed(1024), needed(2048)
    assert b < 2.2 * a
    assert b < 2048 * 2048 * 4  # less than the scores of one head of one sample


# --- training and generating ------------------------------------------------------------------------------


def trained(wrap: Any) -> dict[str, Any]:
    """Steps of training with dropout on batches of two sizes, one in evaluation mode."""
    cr.manual_seed(2)
    model = nn.Transformer(8, 2, 1, 1, 12, 0.2, "gelu", norm_first=True, dtype="float64")
    opt = optim.Adam(model.parameters(), lr=1e-3)
    rng = np.random.default_rng(1)

    def step(src: Any, tgt: Any, padding: Any) -> Any:
        out = model(src, tgt, src_key_padding_mask=padding, memory_key_padding_mask=padding, tgt_is_causal=True)
        loss = (out * out).mean()
        if model.training:
            opt.zero_grad()
            loss.backward()
            opt.step()
        return loss, out

    run = wrap(step)
    found = {}
    for number, batch in enumerate((3, 3, 2)):
        padding = np.arange(5) >= rng.integers(1, 6, (batch, 1))
        given = rng.standard_normal((batch, 5, 8)), rng.standard_normal((batch, 4, 8)), padding
        found[f"step {number}"] = run(*given)
    model.eval()
    found["eval"] = run(*given)
    return found | {"state": both_modes.states(model, opt)}


def test_a_transformer_trains_alike():
    both_modes.same(*both_modes.both(trained), factor=10)


def generated(wrap: Any) -> dict[str, Any]:
    """Rotated queries and keys, fewer heads of keys, and a cache that is filled and emptied."""
    cr.manual_seed(1)
    layer = nn.MultiheadAttention(16, 4, num_kv_heads=2, rotary=nn.RotaryEmbedding(4), dtype="float64")
    cache = nn.KVCache(2, 2, 6, 4, dtype="float64")
    rng = np.random.default_rng(1)

    @wrap
    def step(x: Any) -> Any:
        return layer(x, x, x, cache=cache)

    found: dict[str, Any] = {}
    for number, count in enumerate((3, 1, 1, 1)):
        found[f"step {number}"] = step(cr.asarray(rng.standard_normal((2, count, 16))))
    found["state"] = both_modes.states(cache)
    cache.reset()
    return found | {"again": step(cr.asarray(rng.standard_normal((2, 1, 16)))), "later": both_modes.states(cache)}


def test_generation_goes_alike():
    both_modes.same(*both_modes.both(generated))


@pytest.mark.parametrize("block", [None, 6, 4], ids=["kernel", "plain", "blocks"])
def test_under_vmap_it_is_one_call_after_the_other(block):
    q, k, v = (cr.asarray(real(3, 2, 6, 4)) for _ in range(3))

    def f(q, k, v):
        return scaled_dot_product_attention(q, k, v, is_causal=True, block=block)

    expected = cr.stack([f(*args) for args in zip(q, k, v, strict=True)])
    both_modes.same(expected, cr.vmap(f)(q, k, v))
    both_modes.same(expected, cr.compile(cr.vmap(f))(q, k, v))
