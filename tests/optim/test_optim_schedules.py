"""Schedules as functions, and the schedulers that move an optimizer along them."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, strategies as st

import chainrule as cr
from chainrule import optim
from chainrule.errors import ArgumentError, StateError
from chainrule.optim import lr_scheduler, schedules

# scheduler, arguments, the pure function of the same values
TABLE = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}, schedules.step_decay(3, 0.5)),
    ("MultiStepLR", {"milestones": [7, 2, 7]}, schedules.multistep_decay([2, 7, 7])),
    ("ExponentialLR", {"gamma": 0.9}, schedules.exponential_decay(0.9)),
    ("ConstantLR", {"factor": 0.25, "total_iters": 4}, schedules.constant(0.25, 4)),
    ("LinearLR", {"start_factor": 0.1, "total_iters": 6}, schedules.linear(0.1, 1.0, 6)),
    ("PolynomialLR", {"total_iters": 8, "power": 2.0}, schedules.polynomial_decay(8, 2.0)),
    ("CosineAnnealingLR", {"T_max": 5, "eta_min": 0.01}, schedules.cosine_annealing(5, 0.01)),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2}, schedules.cosine_restarts(3, 2)),
    ("WarmupCosine", {"warmup_steps": 3, "total_steps": 9}, schedules.warmup_cosine(3, 9)),
    ("LambdaLR", {"lr_lambda": lambda step: 1 / (1 + step)}, schedules.by_factor(lambda step: 1 / (1 + step))),
    (
        "MultiplicativeLR",
        {"lr_lambda": lambda step: 1 / step},
        schedules.by_factor(lambda step: 1 / math.factorial(step)),
    ),
    (
        "CyclicLR",
        {"base_lr": 0.0, "max_lr": 2.0, "step_size_up": 4},
        lambda step, base: 2 * schedules.triangle(4)(step),
    ),
]
every_scheduler = pytest.mark.parametrize(("name", "arguments", "pure"), TABLE, ids=[row[0] for row in TABLE])


def optimizer(*rates, momentum=0.9):
    groups = [{"params": [cr.Parameter(cr.tensor([1.0]))], "lr": rate} for rate in rates or (0.5,)]
    return optim.SGD(groups, momentum=momentum)


def one_cycle(opt):
    return lr_scheduler.OneCycleLR(opt, max_lr=2.0, total_steps=20)


@every_scheduler
def test_a_scheduler_goes_along_its_pure_function(name, arguments, pure):
    opt = optimizer(0.5, 0.125)
    cells = [group["lr"] for group in opt.param_groups]
    scheduler = getattr(lr_scheduler, name)(opt, **arguments)
    for step in range(12):
        rates = [float(cell) for cell in cells]
        assert rates == scheduler.get_last_lr() == scheduler.lr_at(step)
        assert rates == pytest.approx([pure(step, 0.5), pure(step, 0.125)], rel=1e-15)
        scheduler.step()
    assert all(group["lr"] is cell for group, cell in zip(opt.param_groups, cells, strict=True))


@every_scheduler
def test_going_on_from_a_saved_state(name, arguments, pure):
    first, second = optimizer(), optimizer(0.25)
    scheduler = getattr(lr_scheduler, name)(first, **arguments)
    for _ in range(4):
        scheduler.step()
    other = getattr(lr_scheduler, name)(second, **arguments)
    other.load_state_dict(json.loads(json.dumps(scheduler.state_dict())))
    for _ in range(4):
        assert float(first.lr) == float(second.lr)
        scheduler.step()
        other.step()


@given(st.integers(0, 60))
def test_factors_apply_to_any_base(step):
    for name, _, pure in TABLE:
        if name not in ("CosineAnnealingLR", "CyclicLR"):  # they have rates of their own
            assert pure(step, 0.3) == pytest.approx(0.3 * pure(step), rel=1e-12, abs=1e-15)


def test_values_by_hand():
    assert schedules.multistep_decay([2, 7, 7], 0.5)(7) == 0.125
    assert schedules.linear(0.0, 1.0, 4)(9) == 1.0
    assert schedules.polynomial_decay(4, 3.0)(4) == 0.0
    assert schedules.cosine_annealing(4, 0.5)(4, 1.5) == 0.5
    assert schedules.cosine_annealing(4)(8) == 1.0  # rises again
    # restarts at 0, 2, 6, 14
    restarts = schedules.cosine_restarts(2, 2)
    assert [restarts(step) for step in (0, 2, 6, 14)] == [1.0] * 4
    assert restarts(13.5) == pytest.approx((1 + math.cos(math.pi * 7.5 / 8)) / 2)
    warm = schedules.warmup_cosine(2, 6, 0.1)
    assert [warm(s) for s in (0, 1, 2, 6, 99)] == pytest.approx([0.5, 1.0, 1.0, 0.1, 0.1])


def test_a_product_asks_for_each_factor_once():
    asked = []
    schedule = schedules.by_product(lambda step: asked.append(step) or 0.5)
    assert [schedule(step, 8.0) for step in (3, 0, 2, 3, 4)] == [1.0, 8.0, 2.0, 1.0, 0.5]
    assert asked == [1, 2, 3, 4]


def test_triangles_by_hand():
    heights = schedules.triangle(2, 4, "triangular2")
    assert [heights(step) for step in (0, 1, 2, 4, 6, 8, 14)] == [0.0, 0.5, 1.0, 0.5, 0.0, 0.5, 0.25]
    assert schedules.triangle(3, 0)(3) == 0.0  # falls at once
    assert schedules.triangle(2, mode="exp_range", gamma=0.5)(2) == 0.25
    assert schedules.triangle(2, scale_fn=lambda cycle: 10.0 * cycle)(6) == 20.0
    assert schedules.triangle(2, scale_fn=lambda step: 10.0 * step, scale_mode="iterations")(6) == 60.0


def test_cyclic_momentum_goes_the_other_way():
    opt = optimizer(0.5, 0.125)
    scheduler = lr_scheduler.CyclicLR(opt, [0.0, 1.0], 2.0, 4, base_momentum=[0.5, 0.75], max_momentum=1.0)
    cells = [group["momentum"] for group in opt.param_groups]
    for _ in range(2):
        scheduler.step()
    assert [float(group["lr"]) for group in opt.param_groups] == [1.0, 1.5]
    assert [float(cell) for cell in cells] == [0.75, 0.875]
    assert all(group["momentum"] is cell for group, cell in zip(opt.param_groups, cells, strict=True))


def chain(opt):
    parts = [lr_scheduler.LinearLR(opt, 0.5, total_iters=4), lr_scheduler.StepLR(opt, 3, 0.5), one_cycle(opt)]
    return lr_scheduler.ChainedScheduler([parts[2], *parts[:2]])


def test_chained_schedulers_multiply_and_go_on_from_a_saved_state():
    opt, other, single = optimizer(), optimizer(), optimizer()
    scheduler, alone = chain(opt), one_cycle(single)
    for step in range(8):
        factor = min(1.0, 0.5 + step / 8) * 0.5 ** (step // 3)
        assert float(opt.lr) == pytest.approx(float(single.lr) * factor, rel=1e-14)
        assert float(opt.param_groups[0]["momentum"]) == float(single.param_groups[0]["momentum"])
        scheduler.step()
        alone.step()
    resumed = chain(other)
    resumed.load_state_dict(json.loads(json.dumps(scheduler.state_dict())))
    for _ in range(4):
        assert float(other.lr) == float(opt.lr)
        assert float(other.param_groups[0]["momentum"]) == float(opt.param_groups[0]["momentum"])
        scheduler.step()
        resumed.step()


def test_sequential_schedulers_count_from_their_milestones():
    opt = optimizer(1.0)
    parts = [lr_scheduler.LinearLR(opt, 0.5, total_iters=2), lr_scheduler.ExponentialLR(opt, 0.5)]
    scheduler = lr_scheduler.SequentialLR(opt, parts, [2])
    rates = [float(opt.lr)]
    for _ in range(4):
        scheduler.step()
        rates.append(float(opt.lr))
    assert rates == [0.5, 0.75, 1.0, 0.5, 0.25]
    other = optimizer(1.0)
    parts = [lr_scheduler.LinearLR(other, 0.5, total_iters=2), lr_scheduler.ExponentialLR(other, 0.5)]
    resumed = lr_scheduler.SequentialLR(other, parts, [2])
    resumed.load_state_dict(scheduler.state_dict())
    assert float(other.lr) == 0.25
    resumed.step()
    assert float(other.lr) == 0.125


def test_one_cycle_moves_rate_and_momentum_in_cells():
    opt = optimizer()
    scheduler = one_cycle(opt)
    group = opt.param_groups[0]
    cell = group["momentum"]
    assert isinstance(cell, cr.Cell)
    seen = []
    for _ in range(19):
        seen.append((float(opt.lr), float(group["momentum"])))
        scheduler.step()
    assert group["momentum"] is cell
    # the top is at step 0.3 * 20 - 1
    assert seen[0] == pytest.approx((2.0 / 25, 0.95))
    assert seen[5] == pytest.approx((2.0, 0.85))
    assert float(opt.lr) == pytest.approx(2.0 / 25 / 1e4)
    opt.param_groups[0]["params"][0].grad = cr.tensor([1.0])
    opt.step()
    saved = opt.state_dict()["param_groups"][0]
    assert saved["momentum"] == pytest.approx(0.95)
    scheduler.step()
    assert float(opt.lr) == pytest.approx(2.0 / 25 / 1e4)  # the step after the last stays at the end
    with pytest.raises(ArgumentError, match=r"the cycle has 20 steps\. Received: step 21"):
        scheduler.step()


def test_one_cycle_moves_the_first_beta():
    opt = optim.Adam([cr.Parameter(cr.tensor([1.0]))])
    scheduler = one_cycle(opt)
    for _ in range(5):
        scheduler.step()
    beta1, beta2 = opt.param_groups[0]["betas"]
    assert (float(beta1), beta2) == (pytest.approx(0.85), 0.999)
    with pytest.raises(ArgumentError, match="no momentum to move"):
        one_cycle(optim.Adagrad([cr.Parameter(cr.tensor([1.0]))]))


def test_a_fresh_optimizer_and_cycle_go_on_from_a_saved_state():
    def run(n, saved=None):
        w = cr.Parameter(cr.tensor([1.0, -2.0]))
        opt = optim.Adam([w], lr=0.1)
        scheduler = one_cycle(opt)
        if saved:
            w.assign(saved[0])
            opt.load_state_dict(saved[1])
            scheduler.load_state_dict(saved[2])
        for _ in range(n):
            opt.zero_grad()
            (w * w).sum().backward()
            opt.step()
            scheduler.step()
        return w.numpy(), opt.state_dict(), scheduler.state_dict()

    assert (run(4, run(6))[0] == run(10)[0]).all()


@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_waits_lowers_and_cools_down(mode):
    opt = optimizer(1.0)
    scheduler = lr_scheduler.ReduceLROnPlateau(
        opt, mode, factor=0.5, patience=1, threshold=0.1, threshold_mode="abs", cooldown=2, min_lr=0.3
    )
    sign = 1 if mode == "min" else -1
    rates = []
    for metric in (3.0, 2.0, 1.95, 2.0, 1.95, 1.95, 1.95, 1.95, 1.95, 1.95):
        scheduler.step(cr.tensor(sign * metric))
        rates.append(float(opt.lr))
    #                     two bad in a row, then two that do not count, then two bad
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3]
    assert scheduler.get_last_lr() == [0.3]
    other = lr_scheduler.ReduceLROnPlateau(opt)
    other.load_state_dict(scheduler.state_dict())
    assert other.state_dict() == scheduler.state_dict()


def test_what_does_not_fit_is_refused():
    opt = optimizer()
    exponential = lr_scheduler.ExponentialLR(opt, 0.5)
    plateau = lr_scheduler.ReduceLROnPlateau(opt)
    before = float(opt.lr)
    refused = [
        (lambda: lr_scheduler.StepLR(0.1, 3), "needs an optimizer first. Received: float"),
        (lambda: lr_scheduler.OneCycleLR(opt, 1.0), "the length of the cycle"),
        (lambda: lr_scheduler.OneCycleLR(opt, [1.0, 2.0], 10), "one for each of 1 groups"),
        (lambda: lr_scheduler.OneCycleLR(opt, 1.0, 10, anneal_strategy="exp"), "'cos' or 'linear'"),
        (lambda: lr_scheduler.LambdaLR(opt, [len, len]), "one for each of 1 groups"),
        (lambda: lr_scheduler.StepLR(opt, 0), "step_size is positive"),
        (lambda: lr_scheduler.StepLR(optimizer(), 3, last_epoch=4), "the learning rates at the beginning"),
        (lambda: lr_scheduler.CosineAnnealingWarmRestarts(opt, 0), "at least 1"),
        (lambda: lr_scheduler.WarmupCosine(opt, 5, 5), "0 <= warmup_steps < total_steps"),
        (lambda: lr_scheduler.SequentialLR(opt, [exponential], [3]), "a milestone between each two"),
        (lambda: lr_scheduler.SequentialLR(opt, [], []), "a milestone between each two"),
        (lambda: lr_scheduler.SequentialLR(opt, [exponential, plateau], [3]), "the step alone"),
        (lambda: lr_scheduler.SequentialLR(optimizer(), [exponential], []), "of this optimizer"),
        (lambda: lr_scheduler.ChainedScheduler([]), "joins at least one scheduler"),
        (lambda: lr_scheduler.ChainedScheduler([exponential, plateau]), "the step alone. Received: ReduceLROnPlateau"),
        (lambda: lr_scheduler.ChainedScheduler([exponential], optimizer()), "of this optimizer"),
        (lambda: schedules.chained([]), "at least one schedule"),
        (lambda: lr_scheduler.CyclicLR(0.1, 0.1, 1.0), "needs an optimizer first. Received: float"),
        (lambda: lr_scheduler.CyclicLR(opt, 0.1, 1.0, 0), "step_size_up is positive"),
        (lambda: lr_scheduler.CyclicLR(opt, 0.1, [1.0, 2.0]), "one for each of 1 groups"),
        (lambda: lr_scheduler.CyclicLR(opt, 0.1, 1.0, mode="sine"), "mode is one of triangular,"),
        (lambda: lr_scheduler.CyclicLR(opt, 0.1, 1.0, scale_mode="epochs"), "'cycle' or 'iterations'"),
        (lambda: lr_scheduler.ReduceLROnPlateau(opt, factor=1.0), "factor is below 1"),
        (lambda: lr_scheduler.ReduceLROnPlateau(opt, "low"), "mode is 'min' or 'max'"),
    ]
    for make, says in refused:
        with pytest.raises(ArgumentError) as caught:
            make()
        assert says in str(caught.value), says
    for scheduler, state in ((exponential, plateau.state_dict()), (plateau, exponential.state_dict())):
        with pytest.raises(StateError, match="another scheduler"):
            scheduler.load_state_dict(state)
    with pytest.raises(StateError, match=r"has 1 parameter groups\. Received: 2 groups"):
        exponential.load_state_dict(exponential.state_dict() | {"base_lrs": [1.0, 2.0]})
    opt.add_param_group({"params": [cr.Parameter(cr.tensor([1.0]))]})
    with pytest.raises(ArgumentError, match="made for 1 parameter groups"):
        exponential.step()
    assert float(opt.lr) == before
