"""Kernels run again under a memory budget: less memory, the same bits."""

from __future__ import annotations

import both_modes
import numpy as np
import pytest
from agree import with_gradient
from hypothesis import given, settings
from random_programs import arguments, function_of, programs

import chainrule as cr
from chainrule import nn, optim
from chainrule.compiler.program import Program


def array(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


class Residual(nn.Module):
    def __init__(self, width):
        self.conv1, self.norm1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        y = cr.relu(self.norm1(self.conv1(x)))
        return cr.relu(self.drop(self.norm2(self.conv2(y))) + x)


def convolutional():
    blocks = [Residual(8) for _ in range(6)]
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *blocks, nn.Flatten(), nn.Linear(8 * 64, 5)), array(16, 8, 8, 3)


def looping():
    class Net(nn.Module):
        def __init__(self):
            self.up, self.w, self.down = nn.Linear(16, 64), nn.Linear(64, 64), nn.Linear(64, 5)
            self.between = nn.ModuleList([nn.Linear(64, 64) for _ in range(4)])

        def forward(self, x):
            for layer in self.between:
                x = layer(cr.gelu(self.up(x))) if x.shape[-1] == 16 else cr.gelu(layer(x))
            x, _ = cr.scan(lambda h, _: (cr.tanh(self.w(h)), None), x, length=3)
            return self.down(cr.cond(x.sum() > 0, lambda: x * 2, lambda: x))

    return Net(), array(256, 16)


def trained(make, budget):
    """The program of a step, and all that three steps give."""
    cr.manual_seed(0)
    model, x = make()
    opt = optim.Adam(model, lr=1e-2)

    @cr.compile(memory_budget=budget)
    def step(x):
        opt.zero_grad()
        loss = cr.square(model(x)).mean()
        loss.backward()
        opt.step()
        return loss

    losses = [step(x).numpy() for _ in range(3)]
    return step.programs[0], [*losses, *(cell.numpy() for _, cell in model.named_cells())]


def overlapping(program: Program):
    """Pairs of buffers of the arena that are alive at one time and share memory."""
    alive = sorted((b for b in program.buffers if b.end >= 0 and b.size), key=lambda b: b.offset)
    for i, a in enumerate(alive):
        for b in alive[i + 1 :]:
            if b.offset >= a.offset + a.size:
                break
            if a.start <= b.end and b.start <= a.end:
                yield a, b


@pytest.mark.parametrize("make", [convolutional, looping])
@pytest.mark.parametrize("share", [0.8, 0.5, 0.0])
def test_a_budget_is_met_or_neared_with_the_same_bits(make, share):
    free, expected = trained(make, None)
    budget = int(share * free.arena_size)
    bound, found = trained(make, budget)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(step.again for step in bound.steps)
    assert bound.arena_size < free.arena_size
    if share and make is convolutional:
        assert bound.arena_size <= budget
    assert not list(overlapping(bound))


def test_a_budget_that_is_met_runs_nothing_again():
    free, _ = trained(convolutional, None)
    bound, _ = trained(convolutional, free.arena_size)
    assert not any(step.again for step in bound.steps)
    assert bound.arena_size == free.arena_size


def test_time_grows_little_where_cheap_kernels_suffice():
    free, _ = trained(convolutional, None)
    bound, _ = trained(convolutional, free.arena_size // 2)

    def ns(steps):
        return sum(step.call.ns for step in steps if step.call)

    assert ns(step for step in bound.steps if step.again) < 0.25 * ns(free.steps)


@settings(max_examples=15)
@given(programs)
def test_random_programs_keep_their_bits(program):
    step = with_gradient(function_of(program))
    args = [cr.asarray(x) for x in arguments(program)]
    free, bound = cr.compile(step)(*args), cr.compile(step, memory_budget=0)(*args)
    for a, b in zip(both_modes.flat(free).values(), both_modes.flat(bound).values(), strict=True):
        np.testing.assert_array_equal(a, b)
