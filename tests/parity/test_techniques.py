"""Averages of weights, steps by a few rows of a table and scaled losses go as PyTorch's."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make test-parity")
pytestmark = pytest.mark.parity

both = pytest.mark.parametrize("wrap", [lambda f: f, cr.compile], ids=["eager", "compiled"])


def copied(model, other):
    """Give PyTorch's model the values of ours."""
    other.load_state_dict({name: torch.tensor(value.numpy()) for name, value in model.state_dict().items()})


def networks():
    ours = nn.Sequential(nn.Linear(3, 4, dtype="float64"), nn.BatchNorm1d(4, dtype="float64"))
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).double()
    copied(ours, theirs)
    return ours, theirs


def average_of_theirs(name, theirs, **options):
    swa = torch.optim.swa_utils
    if name == "SWA":
        return swa.AveragedModel(theirs, **options)
    return swa.AveragedModel(theirs, multi_avg_fn=swa.get_ema_multi_avg_fn(0.7), **options)


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("name", ["SWA", "EMA"])
def test_averages_of_twenty_steps(name, use_buffers):
    ours, theirs = networks()
    average = (optim.SWA if name == "SWA" else lambda m, **o: optim.EMA(m, 0.7, **o))(ours, use_buffers=use_buffers)
    reference = average_of_theirs(name, theirs, use_buffers=use_buffers)
    opt, ref = optim.SGD(ours.parameters(), lr=0.1), torch.optim.SGD(theirs.parameters(), lr=0.1)
    rng = np.random.default_rng(0)
    for _ in range(20):
        x = rng.normal(size=(6, 3))
        opt.zero_grad()
        (ours(cr.asarray(x)) ** 3).sum().backward()
        opt.step()
        average.update()
        ref.zero_grad()
        (theirs(torch.tensor(x)) ** 3).sum().backward()
        ref.step()
        reference.update_parameters(theirs)
    ours.eval()
    reference.eval()
    with average.applied():  # buffers that are not averaged are those of the model, as PyTorch copies them
        found = ours(cr.asarray(x)).numpy()
    np.testing.assert_allclose(found, reference(torch.tensor(x)).detach().numpy(), rtol=1e-9)
    assert int(average.n_averaged) == int(reference.n_averaged)


def test_statistics_computed_anew():
    ours, theirs = networks()
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=(n, 3)) for n in (5, 8, 2)]
    optim.update_bn([cr.asarray(b) for b in batches], ours)
    torch.optim.swa_utils.update_bn([torch.tensor(b) for b in batches], theirs)
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name].numpy(), value.numpy(), rtol=1e-12)


@pytest.mark.parametrize("options", [{}, {"anneal_epochs": 4, "anneal_strategy": "linear"}, {"anneal_epochs": 0}])
def test_the_learning_rate_of_averaging(options):
    ours = optim.SGD([cr.Parameter(cr.ones(1))], lr=0.5)
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    before = [optim.lr_scheduler.ExponentialLR(ours, 0.9), torch.optim.lr_scheduler.ExponentialLR(theirs, 0.9)]
    after = [
        optim.lr_scheduler.SWALR(ours, 0.05, **options), torch.optim.swa_utils.SWALR(theirs, 0.05, **options)
    ]  # fmt: skip
    lead = 3 if options.get("anneal_epochs", 10) else 0  # without annealing the rate is there from the beginning
    for epoch in range(16):
        theirs.step()
        for scheduler in before if epoch < lead else after:
            scheduler.step()
        assert float(ours.lr) == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)


@both
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SparseAdam", {}),
        ("SparseAdam", {"lr": 0.1, "betas": (0.6, 0.8), "eps": 1e-3, "maximize": True}),
        ("SGD", {"lr": 0.1, "maximize": True}),
        ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.2}),
    ],
)
def test_twenty_steps_by_rows(name, options, wrap):
    ours = nn.Embedding(12, 3, padding_idx=4, sparse=True, dtype="float64")
    theirs = torch.nn.Embedding(12, 3, padding_idx=4, sparse=True, dtype=torch.float64)
    copied(ours, theirs)
    opt, ref = (getattr(o, name)(m.parameters(), **options) for o, m in ((optim, ours), (torch.optim, theirs)))

    @wrap
    def step(x):
        opt.zero_grad()
        (cr.sin(ours(x)).sum() + (ours(x + 1) ** 2).sum()).backward()
        opt.step()

    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse invariant checks")
        for _ in range(20):
            x = rng.integers(0, 9, (2, 5))
            step(cr.asarray(x))
            ref.zero_grad()
            (torch.sin(theirs(torch.tensor(x))).sum() + (theirs(torch.tensor(x) + 1) ** 2).sum()).backward()
            ref.step()
    np.testing.assert_allclose(ours.weight.numpy(), theirs.weight.detach().numpy(), rtol=1e-9)
    for state, cell in opt.state[ours.weight].items():
        np.testing.assert_allclose(cell.numpy(), ref.state[theirs.weight][state].numpy(), rtol=1e-9, atol=1e-15)


@both
def test_scaled_losses(wrap):
    """A scale that grows and falls, and steps that are left out."""
    options = {"init_scale": 16.0, "growth_factor": 3.0, "backoff_factor": 0.25, "growth_interval": 2}
    ours, theirs = cr.Parameter(cr.ones(2, dtype="float64")), torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    opt, ref = optim.SGD([ours], lr=0.1, momentum=0.5), torch.optim.SGD([theirs], lr=0.1, momentum=0.5)
    scaler, reference = optim.LossScaler(**options), torch.amp.GradScaler("cpu", **options)

    @wrap
    def step(factor):
        opt.zero_grad()
        scaler.scale((ours**2).sum() * factor).backward()
        scaler.step(opt)
        scaler.update()

    for factor in np.array([1, 1, 2, np.inf, 1, np.nan, np.inf, 1, 1, 1, 1]):
        step(factor)
        ref.zero_grad()
        reference.scale((theirs**2).sum() * float(factor)).backward()
        reference.step(ref)
        reference.update()
        assert scaler.get_scale() == reference.get_scale()
        np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=1e-9)
    other = optim.LossScaler()
    other.load_state_dict(reference.state_dict())
    assert other.state_dict() == scaler.state_dict() == reference.state_dict()
