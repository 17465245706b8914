"""Optimizers, schedulers and clipping take the steps that PyTorch's take."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import chainrule as cr
from chainrule import optim
from chainrule.optim import lr_scheduler

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make test-parity")
pytestmark = pytest.mark.parity

SHAPES = [(3, 4), (5,), ()]

OPTIMIZERS = [
    ("SGD", {}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.5, 0.7), "eps": 1e-3}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.2}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.2, "decoupled_weight_decay": True}),
    ("Adam", {"lr": 0.1, "amsgrad": True, "betas": (0.9, 0.5)}),
    ("Adam", {"lr": 0.1, "amsgrad": True, "maximize": True, "weight_decay": 0.1}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.5, "amsgrad": True}),
    ("AdamW", {"lr": 0.1, "maximize": True}),
    ("Adamax", {}),
    ("Adamax", {"lr": 0.1, "betas": (0.7, 0.6), "eps": 1e-2, "weight_decay": 0.3}),
    ("Adamax", {"lr": 0.1, "maximize": True}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.1, "weight_decay": 0.2, "momentum_decay": 0.05}),
    ("NAdam", {"lr": 0.1, "weight_decay": 0.2, "decoupled_weight_decay": True, "betas": (0.8, 0.9)}),
    ("NAdam", {"lr": 0.1, "maximize": True, "eps": 1e-2}),
    ("RAdam", {}),
    ("RAdam", {"lr": 0.1, "weight_decay": 0.2, "betas": (0.8, 0.9)}),
    ("RAdam", {"lr": 0.1, "weight_decay": 0.2, "decoupled_weight_decay": True}),
    ("RAdam", {"lr": 0.1, "betas": (0.9, 0.5), "maximize": True}),  # never rectified
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.1, "alpha": 0.7, "eps": 1e-3, "weight_decay": 0.2}),
    ("RMSprop", {"lr": 0.1, "momentum": 0.8}),
    ("RMSprop", {"lr": 0.1, "alpha": 0.9, "centered": True, "eps": 1e-2}),
    ("RMSprop", {"lr": 0.1, "alpha": 0.9, "centered": True, "momentum": 0.5, "eps": 1e-2, "maximize": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.2, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.7, "eps": 1e-3, "maximize": True}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.6, "eps": 1e-2, "weight_decay": 0.2}),
    ("Adadelta", {"rho": 0.95, "maximize": True}),
    ("Rprop", {}),
    ("Rprop", {"lr": 0.1, "etas": (0.3, 1.9), "step_sizes": (1e-3, 0.4)}),
    ("Rprop", {"lr": 0.1, "maximize": True}),
    ("ASGD", {}),
    ("ASGD", {"lr": 0.1, "lambd": 0.3, "alpha": 0.6, "t0": 3, "weight_decay": 0.2}),
    ("ASGD", {"lr": 0.1, "lambd": 0.3, "t0": 0, "maximize": True}),
    ("Adafactor", {}),
    ("Adafactor", {"lr": 0.3, "beta2_decay": -0.5, "eps": (1e-2, 0.1), "d": 1.2, "weight_decay": 0.2}),
    ("Adafactor", {"lr": 0.3, "eps": (0.5, 2.0), "maximize": True}),
]


def label(value):
    return value if isinstance(value, str) else ",".join(f"{k}={v}" for k, v in value.items()) or "defaults"


@pytest.fixture(autouse=True)
def double():
    """Some of PyTorch's states have the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def pair(name, options, shapes=SHAPES, seed=0, dtype="float64"):
    """The same parameters and optimizer twice."""
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=s).astype(dtype) for s in shapes]
    ours = [cr.Parameter(cr.tensor(a)) for a in arrays]
    theirs = [torch.nn.Parameter(torch.tensor(a)) for a in arrays]
    return ours, getattr(optim, name)(ours, **options), theirs, getattr(torch.optim, name)(theirs, **options)


def step_both(ours, opt, theirs, ref, rng):
    for w, v in zip(ours, theirs, strict=True):
        g = rng.normal(size=w.shape).astype(w.dtype)
        w.grad, v.grad = cr.tensor(g), torch.tensor(g)
    opt.step()
    ref.step()


def agree(ours, theirs, rtol=1e-9):
    for w, v in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(w.numpy(), v.detach().numpy(), rtol=rtol, atol=0)


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=label)
def test_twenty_steps_are_the_same(name, options):
    ours, opt, theirs, ref = both = pair(name, options)
    rng = np.random.default_rng(1)
    for _ in range(20):
        step_both(*both, rng)
        agree(ours, theirs)
    for w, v in zip(ours, theirs, strict=True):
        for state, cell in opt.state[w].items():
            np.testing.assert_allclose(cell.numpy(), ref.state[v][state].numpy(), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=label)
def test_twenty_steps_in_float32_differ_by_rounding(name, options):
    ours, _, theirs, _ = both = pair(name, options, dtype="float32")
    rng = np.random.default_rng(1)
    for _ in range(20):
        step_both(*both, rng)
    for w, v in zip(ours, theirs, strict=True):
        assert w.dtype == np.float32
        # twenty roundings of parameters and steps of size about 1
        np.testing.assert_allclose(w.numpy(), v.detach().numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted({name for name, _ in OPTIMIZERS} | {"LBFGS", "Muon"}))
def test_defaults_and_their_order_are_the_same(name):
    import inspect

    ours = inspect.signature(getattr(optim, name)).parameters
    theirs = inspect.signature(getattr(torch.optim, name)).parameters
    known = [n for n in theirs if n in ours]
    assert [n for n in ours if n != "allow_unused"] == sorted(known, key=list(ours).index)
    for n in known:
        assert ours[n].default == theirs[n].default, n
    backend = {"foreach", "capturable", "differentiable", "fused"}
    assert set(theirs) - set(ours) <= backend
    positional = [n for n, p in ours.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    their_positional = [n for n, p in theirs.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == their_positional[: len(positional)]


@pytest.mark.parametrize("name", sorted({name for name, _ in OPTIMIZERS}))
def test_groups_and_a_changing_rate(name):
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(3,)), rng.normal(size=(2, 2))
    ours, theirs = [cr.Parameter(cr.tensor(x)) for x in (a, b)], [torch.nn.Parameter(torch.tensor(x)) for x in (a, b)]
    opt = getattr(optim, name)([{"params": ours[:1], "lr": 0.3}, {"params": ours[1:]}], lr=0.1)
    ref = getattr(torch.optim, name)([{"params": theirs[:1], "lr": 0.3}, {"params": theirs[1:]}], lr=0.1)
    for number in range(10):
        rate = 0.1 / (1 + number)
        opt.param_groups[1]["lr"] = rate
        ref.param_groups[1]["lr"] = rate
        step_both(ours, opt, theirs, ref, rng)
    agree(ours, theirs)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "dampening": 0.2}])
def test_complex_parameters(options):
    rng = np.random.default_rng(3)
    start = rng.normal(size=4) + 1j * rng.normal(size=4)
    for name in ("SGD", "Adam", "RMSprop"):
        more = options if name == "SGD" else {}
        w, v = cr.Parameter(cr.tensor(start)), torch.nn.Parameter(torch.tensor(start))
        opt, ref = getattr(optim, name)([w], lr=0.1, **more), getattr(torch.optim, name)([v], lr=0.1, **more)
        for _ in range(10):
            g = rng.normal(size=4) + 1j * rng.normal(size=4)
            w.grad, v.grad = cr.tensor(g), torch.tensor(g)
            opt.step()
            ref.step()
        agree([w], [v])


# --- schedules --------------------------------------------------------------------------------------------

SCHEDULERS = [
    ("StepLR", {"step_size": 7}),
    ("StepLR", {"step_size": 3, "gamma": 0.7}),
    ("MultiStepLR", {"milestones": [3, 11, 11, 25], "gamma": 0.3}),
    ("ExponentialLR", {"gamma": 0.93}),
    ("ConstantLR", {}),
    ("ConstantLR", {"factor": 0.1, "total_iters": 12}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.01, "end_factor": 0.7, "total_iters": 13}),
    ("PolynomialLR", {}),
    ("PolynomialLR", {"total_iters": 17, "power": 1.7}),
    ("CosineAnnealingLR", {"T_max": 60}),
    ("CosineAnnealingLR", {"T_max": 10, "eta_min": 0.01}),  # rises again, and falls
    ("CosineAnnealingWarmRestarts", {"T_0": 6}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2, "eta_min": 0.003}),
    ("OneCycleLR", {"max_lr": 0.8, "total_steps": 50}),
    ("OneCycleLR", {"max_lr": 0.8, "epochs": 5, "steps_per_epoch": 10, "anneal_strategy": "linear", "pct_start": 0.4}),
    ("OneCycleLR", {"max_lr": [0.8, 0.1], "total_steps": 50, "three_phase": True, "div_factor": 10.0}),
    ("OneCycleLR", {"max_lr": 0.8, "total_steps": 50, "cycle_momentum": False, "final_div_factor": 3.0}),
    ("MultiplicativeLR", {"lr_lambda": lambda step: 0.95 + 0.1 * (step % 2)}),
    ("MultiplicativeLR", {"lr_lambda": [lambda step: 1 - 1 / (1 + step), lambda step: 0.9]}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.3, "step_size_up": 7}),
    (
        "CyclicLR",
        {"base_lr": [0.01, 0.2], "max_lr": 0.3, "step_size_up": 4, "step_size_down": 9, "mode": "triangular2"},
    ),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.3, "step_size_up": 5, "mode": "exp_range", "gamma": 0.97}),
    ("CyclicLR", {"base_lr": 0.0, "max_lr": 0.3, "step_size_up": 5, "base_momentum": [0.5, 0.6], "max_momentum": 0.7}),
    (
        "CyclicLR",
        {"base_lr": 0.1, "max_lr": 0.3, "step_size_up": 5, "cycle_momentum": False, "scale_fn": lambda c: 1 / c},
    ),
    (
        "CyclicLR",
        {"base_lr": 0.1, "max_lr": 0.3, "step_size_up": 5, "scale_fn": lambda t: 0.9**t, "scale_mode": "iterations"},
    ),
    ("LambdaLR", {"lr_lambda": lambda step: 0.95**step}),
    ("LambdaLR", {"lr_lambda": [lambda step: 1 / (1 + step), lambda step: 0.5 if step < 9 else 0.1]}),
]


def two_optimizers(name="SGD", **options):
    made = []
    for library, parameter in ((optim, cr.Parameter), (torch.optim, torch.nn.Parameter)):
        tensor = cr.tensor if library is optim else torch.tensor
        groups = [{"params": [parameter(tensor([1.0]))], "lr": lr} for lr in (0.5, 0.07)]
        made.append(getattr(library, name)(groups, **options))
    return made


def rates(opt):
    return [float(group["lr"]) for group in opt.param_groups]


def go_along(opt, ours, ref, theirs, n=50):
    """Every learning rate on the way, relative to the largest; in steps before optimizer steps, which is no matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PyTorch wants optimizer steps in between
        for _ in range(n):
            np.testing.assert_allclose(rates(opt), rates(ref), rtol=1e-12, atol=1e-13)
            assert ours.get_last_lr() == rates(opt)
            yield
            ours.step()
            theirs.step()


@pytest.mark.parametrize(("name", "arguments"), SCHEDULERS, ids=label)
def test_schedules_are_the_same(name, arguments):
    opt, ref = two_optimizers(momentum=0.9)
    ours = getattr(lr_scheduler, name)(opt, **arguments)
    theirs = getattr(torch.optim.lr_scheduler, name)(ref, **arguments)
    for _ in go_along(opt, ours, ref, theirs):
        momenta = [[float(g["momentum"]) for g in o.param_groups] for o in (opt, ref)]
        np.testing.assert_allclose(*momenta, rtol=1e-12)


def test_one_cycle_moves_the_first_beta_and_the_steps_are_the_same():
    opt, ref = two_optimizers("Adam", betas=(0.9, 0.99))
    ours = lr_scheduler.OneCycleLR(opt, 0.5, 50)
    theirs = torch.optim.lr_scheduler.OneCycleLR(ref, 0.5, 50)
    weights = opt.parameters(), [p for g in ref.param_groups for p in g["params"]]
    rng = np.random.default_rng(0)
    for w, v in zip(*weights, strict=True):
        v.data = torch.tensor(w.numpy())
    for _ in go_along(opt, ours, ref, theirs):
        for mine, other in zip(opt.param_groups, ref.param_groups, strict=True):
            assert float(mine["betas"][0]) == pytest.approx(other["betas"][0], rel=1e-12)
        step_both(weights[0], opt, weights[1], ref, rng)
    agree(*weights, rtol=1e-4)  # the parameters are float32


@pytest.mark.parametrize("epochs", [[0.0, 0.5, 2.9, 3.0, 8.99, 9.0, 20.25, 21.0, 40.0, 4.5]])
def test_warm_restarts_at_fractions_of_epochs(epochs):
    opt, ref = two_optimizers()
    ours = lr_scheduler.CosineAnnealingWarmRestarts(opt, 3, 2)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(ref, 3, 2)
    for epoch in epochs:
        ours.step(epoch)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            theirs.step(epoch)
        np.testing.assert_allclose(rates(opt), rates(ref), rtol=1e-12)


@pytest.mark.parametrize("milestones", [[5, 20], [1, 2], [8, 30]])
def test_sequential_schedules(milestones):
    opt, ref = two_optimizers()

    def make(library, o):
        parts = [
            library.LinearLR(o, start_factor=0.1, total_iters=5),
            library.CosineAnnealingLR(o, T_max=15),
            library.StepLR(o, 4, 0.5),
        ]
        return library.SequentialLR(o, parts, milestones)

    ours, theirs = make(lr_scheduler, opt), make(torch.optim.lr_scheduler, ref)
    for _ in go_along(opt, ours, ref, theirs):
        pass


CHAINS = [
    lambda library, o: [library.ConstantLR(o, 0.1, 20), library.ExponentialLR(o, 0.9)],
    lambda library, o: [
        library.LinearLR(o, 0.2, total_iters=7),
        library.StepLR(o, 6, 0.5),
        library.ExponentialLR(o, 0.99),
    ],
    lambda library, o: [library.LinearLR(o, 0.1, total_iters=9), library.CosineAnnealingLR(o, 60)],
    lambda library, o: [library.PolynomialLR(o, 60, 2.0), library.MultiStepLR(o, [5, 9, 9], 0.3)],
    lambda library, o: [library.MultiplicativeLR(o, lambda step: 0.97), library.ConstantLR(o, 0.5, 3)],
]


@pytest.mark.parametrize("make", CHAINS)
def test_chained_schedules_multiply(make):
    opt, ref = two_optimizers()
    ours = lr_scheduler.ChainedScheduler(make(lr_scheduler, opt), opt)
    theirs = torch.optim.lr_scheduler.ChainedScheduler(make(torch.optim.lr_scheduler, ref), ref)
    for _ in go_along(opt, ours, ref, theirs):
        pass


PLATEAUS = [
    {"patience": 2},
    {"mode": "max", "patience": 1, "factor": 0.5, "threshold": 0.05},
    {"threshold_mode": "abs", "threshold": 0.2, "patience": 0, "cooldown": 3, "min_lr": [0.01, 0.02]},
    {"mode": "max", "threshold_mode": "abs", "threshold": 0.1, "patience": 3, "eps": 0.05},
]


@pytest.mark.parametrize("arguments", PLATEAUS, ids=label)
def test_plateaus(arguments):
    opt, ref = two_optimizers()
    ours = lr_scheduler.ReduceLROnPlateau(opt, **arguments)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(ref, **arguments)
    rng = np.random.default_rng(0)
    lowered = 0
    for number in range(60):
        metric = float(rng.normal()) / (1 + number) if number % 17 else float("nan")
        before = rates(opt)
        ours.step(metric)
        theirs.step(metric)
        np.testing.assert_allclose(rates(opt), rates(ref), rtol=1e-12)
        lowered += rates(opt) != before
    assert lowered


# --- clipping ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1.0, 2.0, 2.5, float("inf"), "inf"])
@pytest.mark.parametrize("limit", [0.1, 5.0, 1e3])
def test_clipping_by_norm(order, limit):
    ours, _, theirs, _ = pair("SGD", {})
    rng = np.random.default_rng(0)
    for w, v in zip(ours, theirs, strict=True):
        g = rng.normal(size=w.shape)
        w.grad, v.grad = cr.tensor(g), torch.tensor(g)
    total = optim.clip_grad_norm_(ours, limit, order)
    expected = torch.nn.utils.clip_grad_norm_(theirs, limit, order)
    assert float(total) == pytest.approx(float(expected), rel=1e-12)
    for w, v in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(w.grad.numpy(), v.grad.numpy(), rtol=1e-12)


def test_clipping_by_value():
    ours, _, theirs, _ = pair("SGD", {})
    rng = np.random.default_rng(0)
    for w, v in zip(ours, theirs, strict=True):
        g = rng.normal(size=w.shape)
        w.grad, v.grad = cr.tensor(g), torch.tensor(g)
    optim.clip_grad_value_(ours, 0.5)
    torch.nn.utils.clip_grad_value_(theirs, 0.5)
    for w, v in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(w.grad.numpy(), v.grad.numpy())
