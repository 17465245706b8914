"""Which operations share a kernel: properties, and the listings of a dozen programs.

After a change that is meant to alter them, ``CHAINRULE_UPDATE_GOLDEN=1 pytest tests/compiler/test_fusion.py`` writes
the listings anew; the difference belongs to the change.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.compiler.program import walk
from compiler.golden_programs import listing, programs

GOLDEN = Path(__file__).parent / "golden"
PROGRAMS = programs()


def steps(function, *arguments):
    return [step for step in walk(cr.compile(function).program_for(*arguments).steps) if step.ops]


def names(step):
    return [op.name for op in step.ops]


@pytest.mark.parametrize("name", PROGRAMS)
def test_listing(name):
    found, path = listing(*PROGRAMS[name]), GOLDEN / f"{name}.txt"
    if os.environ.get("CHAINRULE_UPDATE_GOLDEN"):
        path.write_text(found)
    assert found == path.read_text()


def array(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_a_softmax_is_one_kernel():
    assert len(steps(lambda x: cr.softmax(x, axis=-1), array(7, 33))) == 1


def test_a_layer_norm_and_what_follows_are_one_kernel():
    norm = nn.LayerNorm(33)
    assert len(steps(lambda x: cr.tanh(norm(x)) * 2.0 + x, array(7, 33))) == 1


def test_bias_activation_and_residual_are_computed_in_the_kernel_of_the_product():
    layer = nn.Linear(16, 16)
    kernels = [names(s) for s in steps(lambda x: cr.relu(layer(x)) + x, array(5, 16)) if s.call.code.key[0] == "c"]
    assert kernels == [["dot", "add", "less_equal", "select", "add"]]


def test_statistics_of_batch_norm_are_begun_in_the_kernel_of_the_convolution():
    model = nn.Sequential(nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16))
    found = [
        names(step) for step in steps(lambda x: model(x), array(2, 8, 8, 3)) if "contraction" in step.call.code.key
    ]
    assert found == [["conv", "reduce_sum"]]


def test_the_update_of_a_parameter_is_one_kernel_in_place():
    model = nn.Linear(40, 30)
    opt = optim.AdamW(model.parameters(), lr=0.1)

    def step(x):
        opt.zero_grad()
        model(x).sum().backward()
        opt.step()

    program = cr.compile(step).program_for(array(8, 40))
    updates = [s for s in program.steps if "sqrt" in names(s) and s.ops[0].outputs[0].shape == (30, 40)]
    assert len(updates) == 1
    assert not [s for s in program.steps if s.kind == "copy"]  # new values go straight to the cells
    homes = {id(cell.storage()) for cell in (model.weight, *opt.state[model.weight].values())}
    written = {id(buffer.owner) for buffer, _ in updates[0].buffers if buffer.kind == "fixed"}
    assert homes <= written


def test_going_backward_shares_no_kernel_with_going_forward():
    layer = nn.Linear(20, 20)

    def f(x):
        with cr.enable_grad():
            loss = cr.tanh(layer(x)).sum()
        loss.backward()
        return loss, layer.weight.grad

    for step in steps(f, array(9, 20)):
        assert len({op.place for op in step.ops if op.place}) == 1


def test_every_step_reads_what_an_earlier_one_made():
    step, arguments = PROGRAMS["conv_net"]
    made = set()
    for one in steps(step, *arguments):
        kinds = [ref.kind for ref in one.call.refs] if one.call else ["out"] + ["in"] * (len(one.buffers) - 1)
        for kind, (buffer, _) in zip(kinds, one.buffers, strict=True):
            if kind == "in" and buffer.kind == "arena":
                assert buffer in made
            elif kind != "in":
                made.add(buffer)


def test_reductions_that_meet_a_product_equal_those_of_eager_mode():
    x, w = array(640, 24), array(24, 40)

    def f(x, w):
        y = cr.relu(x @ w)
        return y, y.sum(axis=0), (y * 2.0).max(axis=0)

    expected, found = f(cr.tensor(x), cr.tensor(w)), cr.compile(f)(x, w)
    kernels = [s for s in steps(f, x, w) if "contraction" in s.call.code.key]
    assert names(kernels[0]) == ["dot", "less_equal", "select", "reduce_sum", "multiply", "reduce_max"]
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=2e-6, atol=2e-5)


def test_weights_of_a_loop_are_packed_before_it():
    w = cr.Parameter(array(16, 16))
    program = cr.compile(lambda x: cr.scan(lambda h, s: (h @ w.T + s, h), cr.zeros((4, 16)), x)[0]).program_for(
        array(5, 4, 16)
    )
    (loop,) = [step for step in program.steps if step.kind == "scan"]
    before = program.steps[: program.steps.index(loop)]
    assert [s for s in before if s.call and s.call.code.key.startswith("pack")]
    assert not [s for s in loop.bodies[0] if s.call and s.call.code.key.startswith("pack")]


def test_a_memory_budget_makes_the_arena_smaller_and_changes_no_bit():
    def trained(budget):
        cr.manual_seed(0)
        model = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(64, 64), nn.GELU())))
        opt = optim.SGD(model.parameters(), lr=0.1)

        def step(x):
            loss = (model(x) ** 2).mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
            return loss

        compiled = cr.compile(step, memory_budget=budget)
        losses = [float(compiled(array(512, 64))) for _ in range(3)]
        return compiled.programs[0].arena_size, losses

    size, losses = trained(None)
    smaller, again = trained(size // 2)
    assert smaller < 0.75 * size
    assert again == losses
