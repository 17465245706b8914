"""Recurrent layers with first states, lengths and masks give the same numbers compiled, and train alike."""

from __future__ import annotations

from typing import Any

import both_modes
import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim

KINDS = ["RNN", "LSTM", "GRU"]


def arrays(kind: str, batch: int, length: int) -> dict[str, Any]:
    """A batch of padded sequences, and first states for two layers in both directions."""
    rng = np.random.default_rng(batch)
    states = [rng.standard_normal((4, batch, 5)) for _ in range(2 if kind == "LSTM" else 1)]
    lengths = rng.integers(0, length + 1, batch).astype("int32")
    return {"x": rng.standard_normal((batch, length, 3)), "hx": tuple(states), "lengths": lengths}


def trained(kind: str, by: str, wrap: Any) -> dict[str, Any]:
    """Three steps of training with dropout on batches of two sizes, one in evaluation mode."""
    cr.manual_seed(2)
    layer = getattr(nn, kind)(3, 5, 2, bidirectional=True, dropout=0.2, dtype="float64")
    opt = optim.SGD(layer.parameters(), lr=0.1)

    def step(x: Any, hx: Any, lengths: Any) -> Any:
        counted = {"lengths": lengths} if by == "lengths" else {"mask": cr.arange(x.shape[1]) < lengths[:, None]}
        out, last = layer(x, hx if kind == "LSTM" else hx[0], **counted)
        loss = (out * out).sum() + sum((s * s).sum() for s in (last if kind == "LSTM" else (last,)))
        if layer.training:
            opt.zero_grad()
            loss.backward()
            opt.step()
        return loss, out, last

    compiled = wrap(step)
    small, large = arrays(kind, 2, 4), arrays(kind, 5, 6)
    found: dict[str, Any] = {}
    for number, given in enumerate((small, large, small)):
        found[f"step {number}"] = compiled(**cr.tree_map(cr.asarray, given))
    found["weights"] = both_modes.states(layer)
    layer.eval()
    found["eval"] = compiled(**cr.tree_map(cr.asarray, large))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", ["lengths", "mask"])
def test_padded_sequences_train_alike(kind, by):
    both_modes.same(*both_modes.both(lambda wrap: trained(kind, by, wrap)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_in_a_loop_of_the_user(kind):
    cr.manual_seed(4)
    cell = getattr(nn, f"{kind}Cell")(3, 4, dtype="float64")
    xs = cr.asarray(np.random.default_rng(0).standard_normal((6, 2, 3)))

    def loss(cell: Any, xs: Any) -> Any:
        def step(state: Any, x: Any) -> Any:
            state = cell(x, state)
            return state, state

        start = cr.zeros((2, 4), dtype="float64")
        last, every = cr.scan(step, (start, start) if kind == "LSTM" else start, xs)
        return (last[0] ** 2).sum() + ((every[0] if kind == "LSTM" else every) ** 3).sum()

    run = cr.value_and_grad(loss, argnums=(0, 1))
    both_modes.same(run(cell, xs), cr.compile(run)(cell, xs))


@pytest.mark.parametrize("length", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_short_sequences(kind, length):
    layer = getattr(nn, kind)(3, 5, 2, bidirectional=True, dtype="float64")
    given = cr.tree_map(cr.asarray, arrays(kind, 2, length))

    def loss(layer: Any, x: Any, hx: Any) -> Any:
        out, last = layer(x, hx if kind == "LSTM" else hx[0])
        return out.sum() + (last[0] if kind == "LSTM" else last).sum(), (out, last)

    run = cr.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
    both_modes.same(run(layer, given["x"], given["hx"]), cr.compile(run)(layer, given["x"], given["hx"]))
