"""Averages of weights: their values, their place in a compiled step, what is restored and what is saved."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import ArgumentError, StateError

VALUES = np.random.default_rng(0).normal(size=(6, 3, 2))


def weights_of(make):
    """For each update, how much each value so far counts in the average."""
    w = cr.Parameter(cr.zeros(6, dtype="float64"))
    average = make([w])
    found = []
    for t in range(6):
        w.assign(cr.asarray(np.eye(6)[t]))
        average.update()
        found.append(average.averages[0].numpy())
    return np.array(found)


def test_an_exponential_average_weighs_by_age():
    found = weights_of(lambda params: optim.EMA(params, decay=0.75))
    for t, row in enumerate(found):
        expected = [0.75**t] + [0.25 * 0.75 ** (t - i) for i in range(1, t + 1)]
        np.testing.assert_allclose(row[: t + 1], expected, rtol=1e-13)


def test_the_warmup_is_the_corrected_mean_of_adam():
    found = weights_of(lambda params: optim.EMA(params, decay=0.75, warmup=True))
    for t, row in enumerate(found):
        plain = np.array([0.25 * 0.75 ** (t - i) for i in range(t + 1)])
        np.testing.assert_allclose(row[: t + 1], plain / (1 - 0.75 ** (t + 1)), rtol=1e-13)
        assert row.sum() == pytest.approx(1, rel=1e-13)


def test_a_stochastic_average_weighs_alike():
    found = weights_of(optim.SWA)
    np.testing.assert_allclose(found, np.tril(np.ones((6, 6))) / np.arange(1, 7)[:, None], atol=1e-15)


def model_and_step(kind):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))
    opt, average = optim.SGD(model.parameters(), lr=0.1), kind(model)

    def step(x):
        opt.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        opt.step()
        average.update()
        return loss

    return model, average, step


@pytest.mark.parametrize("kind", [optim.EMA, optim.SWA, lambda m: optim.EMA(m, 0.5, warmup=True, use_buffers=True)])
def test_update_within_a_compiled_step(kind):
    x = cr.asarray(np.random.default_rng(1).normal(size=(5, 3)).astype("float32"))
    found = []
    for wrap in (lambda f: f, cr.compile):
        cr.manual_seed(0)
        _, average, step = model_and_step(kind)
        step = wrap(step)
        for _ in range(4):
            step(x)
        assert int(average.n_averaged) == 4
        found.append([kept.numpy() for kept in average.averages])
        if hasattr(step, "programs"):
            assert len(step.programs) == 1
    for eager, compiled in zip(*found, strict=True):
        np.testing.assert_allclose(compiled, eager, rtol=1e-5, atol=1e-6)


def test_applied_puts_the_averages_in_and_takes_them_out_again():
    model, average, step = model_and_step(lambda m: optim.EMA(m, decay=0.5))
    evaluate = cr.compile(lambda x: model(x).sum())
    x = cr.ones((5, 3))
    for _ in range(3):
        step(x)
    model.eval()
    before, outside = [p.numpy() for p in model.parameters()], evaluate(x)
    with average.applied():
        for p, kept in zip(model.parameters(), average.averages, strict=True):
            np.testing.assert_array_equal(p.numpy(), kept.numpy())
        assert float(evaluate(x)) != float(outside)
    with pytest.raises(RuntimeError, match="on purpose"), average.applied():
        raise RuntimeError("on purpose")
    for p, value in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.numpy(), value)
    assert float(evaluate(x)) == float(outside)
    assert len(evaluate.programs) == 1


def test_buffers_are_averaged_if_asked_for():
    model = nn.BatchNorm1d(2)
    with_buffers, without = optim.SWA(model, use_buffers=True), optim.SWA(model)
    assert with_buffers.names == ["weight", "bias", "running_mean", "running_var"]  # but not the count of batches
    assert without.names == ["weight", "bias"]
    for value in (1.0, 3.0):
        model.running_mean.assign(cr.full((2,), value))
        with_buffers.update()
    with with_buffers.applied():
        np.testing.assert_array_equal(model.running_mean.numpy(), 2.0)
    np.testing.assert_array_equal(model.running_mean.numpy(), 3.0)
    with pytest.raises(ArgumentError, match="use_buffers needs the model"):
        optim.SWA(list(model.parameters()), use_buffers=True)


def test_averages_of_16_bits_move_by_small_steps():
    w = cr.Parameter(cr.tensor([1.0], dtype="bfloat16"))
    ema = optim.EMA([w], decay=0.999)
    ema.update()
    w.assign(cr.tensor([2.0], dtype="bfloat16"))
    for _ in range(100):
        ema.update()
    # 0.001 of 1 is below the resolution of bfloat16
    assert float(ema.averages[0]) == pytest.approx(2 - 0.999**100, rel=1e-5)
    ema.copy_to()
    assert w.dtype == cr.bfloat16
    assert float(w) == pytest.approx(2 - 0.999**100, rel=2**-8)


def test_copy_to_another_model():
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    swa = optim.SWA(model)
    swa.update()
    swa.copy_to(other)
    np.testing.assert_array_equal(other.weight.numpy(), model.weight.numpy())
    with pytest.raises(ArgumentError, match="needs the 2 parameters"):
        swa.copy_to(nn.Linear(4, 2))


def test_the_state_is_saved_exactly():
    _, average, step = model_and_step(lambda m: optim.EMA(m, warmup=True))
    for _ in range(3):
        step(cr.ones((5, 3)))
    _, other, _ = model_and_step(lambda m: optim.EMA(m, warmup=True))
    saved = average.state_dict()
    assert next(iter(saved["averages"])) == "0.weight"
    other.load_state_dict(saved)
    assert int(other.n_averaged) == 3
    for a, b in zip(average.averages, other.averages, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    saved["averages"]["0.weight"] = np.zeros((2, 2), np.float32)
    with pytest.raises(StateError, match=r"0\.weight is float32\(4, 3\)"):
        other.load_state_dict(saved)
    with pytest.raises(StateError, match="names do not fit"):
        other.load_state_dict({"n_averaged": 1, "averages": {}})
    assert int(other.n_averaged) == 3


def test_wrong_arguments():
    with pytest.raises(ArgumentError, match=r"decay is in \[0, 1\)"):
        optim.EMA(nn.Linear(1, 1), decay=1.0)
    with pytest.raises(ArgumentError, match="there are no parameters"):
        optim.EMA([])


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(2), nn.InstanceNorm1d(2, track_running_stats=True)])
def test_update_bn_takes_the_plain_mean_over_batches(layer):
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=(n, 5, 2)).astype("float32") for n in (4, 6, 3)]
    layer.running_mean.assign(cr.full((2,), float("nan")))
    model = nn.Sequential(layer, nn.Identity())
    model.eval()
    optim.update_bn([cr.asarray(batches[0]), (cr.asarray(batches[1]), 7), [cr.asarray(batches[2])]], model)
    np.testing.assert_allclose(layer.running_mean.numpy(), np.mean([b.mean((0, 1)) for b in batches], 0), atol=1e-6)
    assert (layer.momentum, layer.training, model[1].training) == (0.1, False, False)


def test_update_bn_restores_after_an_exception():
    model = nn.BatchNorm1d(2).eval()
    with pytest.raises(cr.errors.ShapeError):
        optim.update_bn([cr.ones((3, 5))], model)
    assert (model.momentum, model.training) == (0.1, False)


def test_swalr_begins_where_another_scheduler_has_led():
    opt = optim.SGD([cr.Parameter(cr.ones(1))], lr=1.0)
    first = optim.lr_scheduler.ExponentialLR(opt, 0.5)
    last = optim.lr_scheduler.SWALR(opt, swa_lr=0.05, anneal_epochs=2, anneal_strategy="linear")
    for _ in range(2):
        first.step()
    rates = []
    for _ in range(3):
        last.step()
        rates.append(float(opt.lr))
    assert rates == pytest.approx([0.15, 0.05, 0.05], rel=1e-14)
    for options in ({"anneal_strategy": "sine"}, {"anneal_epochs": -1}, {"swa_lr": [0.1, 0.2]}):
        with pytest.raises(ArgumentError):
            optim.lr_scheduler.SWALR(opt, **({"swa_lr": 0.1} | options))
