"""Every optimizer gives the same parameters and state compiled; rates, groups and clipping included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import both_modes
import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "SGD": [
        {"lr": 0.1},
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "maximize": True},
    ],
    "Adam": [
        {"lr": 0.05},
        {"lr": 0.05, "amsgrad": True, "weight_decay": 0.02},
        {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-3, "maximize": True},
        {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ],
    "AdamW": [{"lr": 0.05}, {"lr": 0.05, "weight_decay": 0.2, "amsgrad": True}],
    "Adamax": [{"lr": 0.1}, {"lr": 0.1, "weight_decay": 0.05, "maximize": True}],
    "NAdam": [{"lr": 0.03}, {"lr": 0.03, "weight_decay": 0.1, "decoupled_weight_decay": True, "momentum_decay": 0.1}],
    "RAdam": [{"lr": 0.1}, {"lr": 0.1, "betas": (0.6, 0.7), "weight_decay": 0.1, "decoupled_weight_decay": True}],
    "RMSprop": [
        {"lr": 0.01},
        {"lr": 0.01, "centered": True},
        {"lr": 0.01, "momentum": 0.9, "centered": True, "weight_decay": 0.1},
    ],
    "Adagrad": [{"lr": 0.5}, {"lr": 0.5, "lr_decay": 0.1, "initial_accumulator_value": 0.1, "weight_decay": 0.1}],
    "Adadelta": [{"lr": 1.0}, {"lr": 0.3, "rho": 0.8, "eps": 0.01, "weight_decay": 0.1}],
    "Rprop": [{"lr": 0.01}, {"lr": 0.01, "etas": (0.4, 1.4), "step_sizes": (1e-3, 0.1), "maximize": True}],
    "ASGD": [{"lr": 0.1}, {"lr": 0.1, "lambd": 0.5, "t0": 1, "weight_decay": 0.1, "maximize": True}],
    "SparseAdam": [{"lr": 0.05}, {"lr": 0.05, "betas": (0.5, 0.9), "maximize": True}],
    "Lion": [{"lr": 0.01}, {"lr": 0.01, "betas": (0.5, 0.7), "weight_decay": 0.1, "maximize": True}],
    "LAMB": [{"lr": 0.05}, {"lr": 0.05, "betas": (0.5, 0.9), "weight_decay": 0.1, "maximize": True}],
    "LARS": [{"lr": 1.0, "trust_coefficient": 0.1}, {"lr": 1.0, "weight_decay": 0.1, "maximize": True}],
    "Adafactor": [{"lr": 0.05}, {"lr": 0.05, "beta2_decay": -0.5, "eps": (1e-3, 1e-2), "d": 1.5, "weight_decay": 0.1}],
    "Muon": [{"lr": 0.05}, {"lr": 0.05, "nesterov": False, "ns_steps": 3, "adjust_lr_fn": "match_rms_adamw"}],
}
CASES = [(name, options) for name, several in OPTIONS.items() for options in several]
SHAPES = [(4, 7), (7,), (), (1, 1), (3, 2, 5), (0, 2)]
MATRICES = [(4, 7), (7, 3), (1, 1), (3, 2, 5), (0, 2)]


def parameters(dtype: str = "float32", shapes: Any = SHAPES) -> list[cr.Parameter]:
    rng = np.random.default_rng(1)
    return [cr.Parameter(cr.asarray(rng.standard_normal(shape).astype("float32")).astype(dtype)) for shape in shapes]


def loss_of(params: list[cr.Parameter], x: Any) -> cr.Tensor:
    """A function of all parameters whose gradients differ from step to step."""
    wide = [p if p.dtype == cr.float64 else p.astype("float32") for p in params]
    return sum((cr.sin(x.astype(p.dtype) + p) * (i + 1)).sum() + (0.5 * p * p).sum() for i, p in enumerate(wide))


def step_of(params: list[cr.Parameter], opt: Any, between: Callable[[], Any] = lambda: None) -> Callable[..., Any]:
    def step(x: Any) -> Any:
        loss = loss_of(params, cr.asarray(x))
        opt.zero_grad()
        loss.backward()
        more = between()
        opt.step()
        return loss if more is None else (loss, more)

    return step


def five_steps(wrap: Any, params: list[cr.Parameter], opt: Any, step: Any, change: Any = lambda i: None) -> Any:
    """Results of each step, and parameters and state after it."""
    step = wrap(step)
    found = []
    for i in range(5):
        out = step(np.float32(0.3 * i))
        found.append({"out": out, "params": [p.numpy() for p in params], "state": both_modes.states(opt)})
        change(i)
    if hasattr(step, "programs"):
        assert len(step.programs) == 1
    return found


def test_every_optimizer_is_in_the_table():
    exported = {n: getattr(optim, n) for n in optim.__all__ if isinstance(getattr(optim, n), type)}
    base = optim.Optimizer
    assert {n for n, t in exported.items() if issubclass(t, base) and t.update is not base.update} == set(OPTIONS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n}{i}" for n, o in OPTIONS.items() for i in range(len(o))])
def test_optimizers_agree(name, options, dtype):
    def run(wrap):
        params = parameters(dtype, MATRICES if name == "Muon" else SHAPES)
        opt = getattr(optim, name)(params, **options)
        return five_steps(wrap, params, opt, step_of(params, opt))

    both_modes.same(*both_modes.both(run))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", OPTIONS)
def test_parameters_of_16_bits_agree(name, dtype):
    def run(wrap):
        params = parameters(dtype, [(5, 3), (1, 17) if name == "Muon" else (17,)])
        opt = getattr(optim, name)(params, **OPTIONS[name][0])
        return five_steps(wrap, params, opt, step_of(params, opt))

    both_modes.same(*both_modes.both(run))


def test_groups_have_options_of_their_own():
    def run(wrap):
        params = parameters()
        groups = [{"params": params[:2], "lr": 0.5}, {"params": params[2:4], "weight_decay": 0.3, "momentum": 0.5},
                  {"params": params[4:]}]  # fmt: skip
        opt = optim.SGD(groups, lr=0.1, momentum=0.9)
        return five_steps(wrap, params, opt, step_of(params, opt))

    both_modes.same(*both_modes.both(run))


def test_two_optimizers_in_one_step():
    def run(wrap):
        params = parameters()
        one, two = optim.Adam(params[:3], lr=0.1), optim.RMSprop(params[3:], lr=0.01)

        def step(x):
            loss = loss_of(params, cr.asarray(x))
            for opt in (one, two):
                opt.zero_grad()
            loss.backward()
            for opt in (one, two):
                opt.step()
            return loss

        return five_steps(wrap, params, one, step), both_modes.states(two)

    both_modes.same(*both_modes.both(run))


SCHEDULES: list[tuple[str, dict[str, Any]]] = [
    ("StepLR", {"step_size": 2, "gamma": 0.5}), ("CosineAnnealingLR", {"T_max": 4}), ("ExponentialLR", {"gamma": 0.7}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 6}), ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 3}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), SCHEDULES, ids=[name for name, _ in SCHEDULES])
def test_schedules_take_effect_in_one_program(name, options):
    def run(wrap):
        params = parameters()
        opt = optim.Adam(params, lr=0.1)
        scheduler = getattr(optim.lr_scheduler, name)(opt, **options)
        return five_steps(wrap, params, opt, step_of(params, opt), lambda _: scheduler.step())

    both_modes.same(*both_modes.both(run))


def test_other_rates_take_effect_in_one_program():
    def run(wrap):
        params = parameters()
        opt = optim.SGD(params, lr=0.1, momentum=0.9)

        def change(i):
            if i == 1:
                opt.lr = 0.5
            if i == 3:
                opt.param_groups[0]["lr"] = 0.0

        return five_steps(wrap, params, opt, step_of(params, opt), change)

    eager, compiled = both_modes.both(run)
    both_modes.same(eager, compiled)
    assert not np.array_equal(compiled[1]["params"][0], compiled[2]["params"][0])
    for before, after in zip(compiled[3]["params"], compiled[4]["params"], strict=True):
        assert np.array_equal(before, after)


@pytest.mark.parametrize("norm_type", [2.0, 1.0, float("inf"), 3.0])
@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_clipping_by_norm(norm_type, limit):
    def run(wrap):
        params = parameters()
        opt = optim.SGD(params, lr=0.1)
        step = step_of(params, opt, lambda: optim.clip_grad_norm_(params, limit, norm_type))
        return five_steps(wrap, params, opt, step)

    both_modes.same(*both_modes.both(run))


def test_clipping_by_value():
    def run(wrap):
        params = [*parameters(shapes=[(4, 7)]), *parameters("float16", [(9,)])]
        opt = optim.SGD(params, lr=0.1)
        step = step_of(params, opt, lambda: optim.clip_grad_value_(params, 0.4))
        return five_steps(wrap, params, opt, step)

    both_modes.same(*both_modes.both(run))


def test_gradients_that_add_up_over_calls():
    """Several backward calls for one step, in a program each."""

    def run(wrap):
        params = parameters()
        opt = optim.Adam(params, lr=0.1)
        found = []

        @wrap
        def accumulate(x):
            loss_of(params, cr.asarray(x)).backward()

        @wrap
        def update():
            opt.step()
            opt.zero_grad()

        for i in range(6):
            accumulate(np.float32(i))
            if i % 3 == 2:
                update()
            found.append([p.numpy() for p in params])
        return found

    both_modes.same(*both_modes.both(run))


def test_a_frozen_layer_stays_and_moves_again():
    def run(wrap):
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        opt = optim.Adam(model.parameters(), lr=0.1, allow_unused=True)

        @wrap
        def step(x):
            loss = (model(x) ** 2).mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
            return loss

        found = []
        for i in range(4):
            model[0].requires_grad_(i != 1)
            found.append((step(cr.asarray(np.eye(3, dtype=np.float32))), both_modes.states(model, opt)))
        return found

    both_modes.same(*both_modes.both(run))
