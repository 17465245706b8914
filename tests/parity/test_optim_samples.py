"""Optimizers on PyTorch's own table of options; L-BFGS, and Muon with PyTorch's bfloat16 taken out."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import chainrule as cr
from chainrule import optim

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make test-parity")
common = pytest.importorskip("torch.testing._internal.common_optimizers")
pytestmark = pytest.mark.parity

FLAGS = {"foreach", "fused", "capturable", "differentiable"}


def samples():
    """Name, description and options of PyTorch's samples; their learning rates that are tensors are float64 ones."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    found = [
        (info.optim_cls.__name__, sample.desc, sample.kwargs)
        for info in common.optim_db
        for sample in info.optim_inputs_func(device="cpu", dtype=torch.float64)
        if not FLAGS & sample.kwargs.keys()
    ]
    torch.set_default_dtype(before)
    return found


SAMPLES = samples()
every_sample = pytest.mark.parametrize(
    ("name", "options"),
    [(name, options) for name, _, options in SAMPLES if name not in ("LBFGS", "SparseAdam")],
    ids=[f"{name}: {desc}" for name, desc, _ in SAMPLES if name not in ("LBFGS", "SparseAdam")],
)


@pytest.fixture(autouse=True)
def double():
    """Some of PyTorch's states have the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def exact_muon(monkeypatch):
    """PyTorch iterates in bfloat16, which differs by 1e-2; the rest of its arithmetic can be compared in float64."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)


def of_ours(options):
    """Tensors among the options as ours."""
    return {k: cr.tensor(v.numpy()) if isinstance(v, torch.Tensor) else v for k, v in options.items()}


def pair(name, options, shapes, groups=1):
    """The same parameters and optimizer twice; a second group has a learning rate of its own."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s) for s in shapes]
    ours = [cr.Parameter(cr.tensor(a)) for a in arrays]
    theirs = [torch.nn.Parameter(torch.tensor(a)) for a in arrays]

    def grouped(params):
        return params if groups == 1 else [{"params": params[:1], "lr": 0.03}, {"params": params[1:]}]

    opt = getattr(optim, name)(grouped(ours), **of_ours(options))
    return ours, opt, theirs, getattr(torch.optim, name)(grouped(theirs), **options)


def agree(ours, theirs, rtol=1e-9, atol=0.0):
    for w, v in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(w.numpy(), v.detach().numpy(), rtol=rtol, atol=atol)


@pytest.mark.parametrize("groups", [1, 2])
@every_sample
def test_twenty_steps(name, options, groups, exact_muon):
    shapes = [(3, 4), (6, 2), (5, 5)] if name == "Muon" else [(3, 4), (5,), (), (2, 3, 4)]
    ours, opt, theirs, ref = pair(name, options, shapes, groups)
    rng = np.random.default_rng(1)
    for _ in range(20):
        for w, v in zip(ours, theirs, strict=True):
            g = rng.normal(size=w.shape)
            w.grad, v.grad = cr.tensor(g), torch.tensor(g)
        opt.step()
        ref.step()
        agree(ours, theirs)


def test_every_optimizer_of_pytorch_is_there():
    missing = {info.optim_cls.__name__ for info in common.optim_db} - set(optim.__all__)
    assert not missing


@pytest.mark.parametrize("adjust", [None, "original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon(adjust, nesterov, exact_muon):
    options = {"lr": 0.1, "nesterov": nesterov, "adjust_lr_fn": adjust, "momentum": 0.8, "eps": 1e-3}
    ours, opt, theirs, ref = pair("Muon", options, [(7, 3), (2, 9), (1, 4)])
    rng = np.random.default_rng(1)
    for _ in range(20):
        for w, v in zip(ours, theirs, strict=True):
            g = rng.normal(size=w.shape)
            w.grad, v.grad = cr.tensor(g), torch.tensor(g)
        opt.step()
        ref.step()
        agree(ours, theirs)
    for w, v in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(
            opt.state[w]["momentum_buffer"].numpy(), ref.state[v]["momentum_buffer"].numpy(), rtol=1e-9, atol=1e-14
        )


def test_muon_in_bfloat16_differs_by_its_roundings():
    """Each of PyTorch's steps of 0.1 is off by the 2^-8 of bfloat16, five times over."""
    ours, opt, theirs, ref = pair("Muon", {"lr": 0.1}, [(7, 3), (8, 8)])
    rng = np.random.default_rng(1)
    for w, v in zip(ours, theirs, strict=True):
        g = rng.normal(size=w.shape)
        w.grad, v.grad = cr.tensor(g), torch.tensor(g)
    opt.step()
    ref.step()
    agree(ours, theirs, rtol=0, atol=0.1 * 1.6 * 5 / 2**8)
    with pytest.raises(AssertionError):
        agree(ours, theirs, rtol=0, atol=1e-6)


# --- L-BFGS -----------------------------------------------------------------------------------------------


def quadratic(library, ws):
    scale = library.asarray(np.logspace(0, 2, 12).reshape(4, 3))
    return (scale * (ws[0] - 1.0) ** 2).sum() + ((ws[1] - ws[0].sum(0)) ** 2).sum()


def rosenbrock(library, ws):
    x, y = ws[1][0], ws[1][1]
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2 + (ws[0] ** 2).sum() + (ws[1][2] - x) ** 4


def network(library, ws):
    """Three tanh units that learn the product of two signs."""
    x = library.asarray(np.array([[a, b, 1.0] for a in (-1, 1, 0.5) for b in (-1, 1)]))
    y = library.asarray(np.array([a * b for a in (-1, 1, 0.5) for b in (-1, 1)]))
    hidden = library.tanh(x @ ws[0][:3])
    return ((hidden @ ws[1] + ws[0][3].sum() - y) ** 2).mean()


def step_both(opt, ref, loss, ours, theirs):
    calls = [0, 0]

    def closure_of(o, library, ws, i):
        def closure():
            calls[i] += 1
            o.zero_grad()
            value = loss(library, ws)
            value.backward()
            return value

        return closure

    first = float(opt.step(closure_of(opt, cr, ours, 0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PyTorch converts a loss that requires a gradient
        second = float(ref.step(closure_of(ref, torch, theirs, 1)).detach())
    assert first == pytest.approx(second, rel=1e-9, abs=1e-15)
    assert calls[0] == calls[1]


MORE = [
    ("short memory", {"history_size": 2, "max_iter": 7}),
    ("short memory, search", {"history_size": 2, "max_iter": 7, "line_search_fn": "strong_wolfe"}),
    ("few evaluations", {"max_eval": 4, "line_search_fn": "strong_wolfe"}),
    ("long steps, search", {"lr": 30.0, "line_search_fn": "strong_wolfe"}),
    ("coarse", {"tolerance_change": 1e-3, "tolerance_grad": 1e-2, "line_search_fn": "strong_wolfe"}),
]
LBFGS = [(desc, options) for name, desc, options in SAMPLES if name == "LBFGS"] + MORE


@pytest.mark.parametrize("loss", [quadratic, rosenbrock, network])
@pytest.mark.parametrize("options", [options for _, options in LBFGS], ids=[desc for desc, _ in LBFGS])
def test_lbfgs(options, loss):
    ours, opt, theirs, ref = pair("LBFGS", options, [(4, 3), (3,)])
    for _ in range(2):  # up to forty iterations, each with the rounding errors of those before
        step_both(opt, ref, loss, ours, theirs)
        agree(ours, theirs, rtol=1e-9, atol=1e-9)
    state, expected = opt.state[ours[0]], ref.state[theirs[0]]
    assert int(state["n_iter"]) == expected["n_iter"]
    assert int(state["func_evals"]) == expected["func_evals"]
