"""State of compiled functions: cells, gradients, random numbers, failures."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from reference_program import ReferenceProgram

import chainrule as cr
from chainrule import nn, optim
from chainrule.compiler.compiled import Compiled
from chainrule.compiler.interface import ProgramFault
from chainrule.errors import (
    CompilerError,
    GradientNotKept,
    IndexOutOfRangeError,
    ShapeError,
    StaleValueError,
    TraceError,
    UnusedParameterError,
)


@pytest.fixture(autouse=True)
def _reference(monkeypatch):
    """Run the graphs in NumPy: these tests are about the calls, and compare bits with eager mode."""
    monkeypatch.setattr("chainrule.compiler.compiled.default_back_end", lambda: ReferenceProgram)


def network():
    cr.manual_seed(0)
    layers = [nn.Linear(4, 8), nn.Tanh(), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3)]
    return nn.Sequential(*layers)


def batch(n=16):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 4)).astype(np.float32), rng.integers(0, 3, n)


def step_of(model, opt):
    def step(x, y):
        loss = nn.functional.cross_entropy(model(cr.asarray(x)), cr.asarray(y))
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    return step


def state_of(model, opt):
    return [cell.numpy() for cell in [*model.parameters(), *model.buffers(), cr.functions.random.default_generator]] + [
        cell.numpy() for cells in opt.state.values() for cell in cells.values()
    ]


def same_state(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def optimizers():
    return [
        ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}), ("Adam", {}), ("AdamW", {}),
        ("RMSprop", {}), ("Adagrad", {}), ("NAdam", {}), ("Rprop", {}),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), optimizers(), ids=lambda v: v if isinstance(v, str) else "")
def test_a_whole_step_is_that_of_eager_mode(name, options):
    runs = []
    for wrap in (lambda f: f, cr.compile):
        model = network()
        opt = getattr(optim, name)(model.parameters(), lr=0.01, **options)
        step = wrap(step_of(model, opt))
        losses = []
        for epoch in range(4):
            model.train(epoch != 2)
            opt.lr = 0.01 / (epoch + 1)
            losses += [float(step(*batch())), float(step(*batch(5)))]
        runs.append((losses, state_of(model, opt), int(opt.step_count)))
    assert runs[0][0] == runs[1][0]
    assert same_state(runs[0][1], runs[1][1])
    assert runs[0][2] == runs[1][2] == 8
    assert len(step.programs) == 4  # two batch sizes, training and not


# --- cells ------------------------------------------------------------------------------------------------


def test_cells_are_read_and_assigned_from_both_sides():
    count = cr.Cell(cr.tensor([0.0, 1.0]))

    @cr.compile
    def step(x):
        count.assign(count * 2 + x)
        return count + 0

    assert step(1.0).tolist() == [1, 3]
    before = count.read()
    array = before.numpy()
    assert step(1.0).tolist() == [3, 7]
    assert before.tolist() == array.tolist() == [1, 3]
    assert count.tolist() == [3, 7]
    count.assign(cr.tensor([10.0, 20.0]))
    assert step(0.0).tolist() == [20, 40]
    assert step(0.0).tolist() == [40, 80]
    count.assign(count * 0)
    count.assign(count + 1)
    assert step(0.0).tolist() == [2, 2]
    assert len(step.programs) == 1


def test_versions_count_compiled_assignments():
    w = cr.Parameter(cr.tensor([1.0]))
    step = cr.compile(lambda: w.assign(w + 1))
    loss = (w * w).sum()
    step()
    assert w.version == 1
    with pytest.raises(StaleValueError):
        loss.backward()
    step()
    assert w.version == 2
    w.assign(w * 0)
    step()
    assert (w.version, w.tolist()) == (4, [1])


def test_two_programs_share_their_cells():
    count = cr.Cell(cr.tensor(1))
    double, increase = cr.compile(lambda: count.assign(count * 2)), cr.compile(lambda n: count.assign(count + n))
    double()
    increase(3)
    double()
    assert (int(count), count.version) == (10, 3)
    del double
    again = cr.compile(lambda: count.assign(count * 3))
    again()
    increase(1)
    assert (int(count), count.version) == (31, 5)
    other = copy.deepcopy(count)
    again()
    assert (int(count), int(other)) == (93, 31)


def test_values_that_change_places():
    a, b = cr.Cell(cr.tensor([1.0])), cr.Cell(cr.tensor([2.0]))

    @cr.compile
    def exchange():
        kept = a + 0
        a.assign(b)
        b.assign(kept)
        return a, b.detach(), a.detach()

    for expected in (2, 1, 2):
        _, second, first = exchange()
        assert [first.item(), second.item(), a.item(), b.item()] == [expected, 3 - expected, expected, 3 - expected]


def test_cells_made_within_are_made_in_every_call():
    @cr.compile
    def f(x):
        count = cr.Cell(cr.tensor([5.0]))
        count.assign(count + x)
        return count.detach(), cr.uniform((2,), generator=cr.Generator(3))

    first, second = f(1.0), f(1.0)
    assert first[0].tolist() == second[0].tolist() == [6]
    assert first[1].tolist() == second[1].tolist() == f.function(1.0)[1].tolist()


def test_random_numbers_go_on_as_in_eager_mode():
    def f():
        return cr.uniform((3,)), cr.normal((2,))

    cr.manual_seed(5)
    eager = [f() for _ in range(3)]
    cr.manual_seed(5)
    compiled = cr.compile(f)
    mixed = [compiled(), f(), compiled()]
    for a, b in zip(eager, mixed, strict=True):
        assert [t.tolist() for t in a] == [t.tolist() for t in b]


def test_cells_in_loops_and_branches():
    count = cr.Cell(cr.tensor(0.0))

    def f(x, n):
        def body(c, x):
            count.assign(count + x)
            return c * x, cr.uniform()

        carry, noise = cr.scan(body, cr.tensor(1.0), x)
        cr.cond(carry > n, lambda: count.assign(count * 2) or carry, lambda: carry)
        return carry, noise

    results = []
    for g in (f, cr.compile(f)):
        count.assign(cr.tensor(0.0))
        cr.manual_seed(1)
        found = [g(cr.tensor([1.0, 2.0, 3.0]), n) for n in (5.0, 7.0)]
        results.append(([(c.tolist(), noise.tolist()) for c, noise in found], count.item()))
    assert results[0] == results[1]


# --- gradients --------------------------------------------------------------------------------------------


@pytest.fixture
def small():
    w = cr.Parameter(cr.tensor([1.0, 2.0]))
    return w, optim.SGD([w], lr=0.5)


def test_a_gradient_that_stays_within_is_not_kept(small):
    w, opt = small

    @cr.compile
    def step(x):
        opt.zero_grad()
        (w * x).sum().backward()
        assert w.grad.shape == (2,)
        opt.step()

    step(cr.ones(2))
    for _ in range(2):
        with pytest.raises(GradientNotKept, match=r"gradient of a Parameter of shape \(2,\).*keep_grads=True"):
            _ = w.grad
        step(cr.ones(2))
    opt.zero_grad()
    assert w.grad is None
    step(cr.ones(2))
    with pytest.raises(GradientNotKept):
        _ = w.grad
    (w * 3).sum().backward()
    assert w.grad.tolist() == [3, 3]
    step(cr.ones(2))
    with pytest.raises(GradientNotKept):
        _ = w.grad
    assert len(step.programs) == 1


def test_gradients_are_kept_on_request(small):
    w, opt = small

    @cr.compile(keep_grads=True)
    def step(x):
        opt.zero_grad()
        (w * x).sum().backward()
        opt.step()

    for x in (1.0, 2.0, 3.0):
        step(x)
        assert w.grad.tolist() == [x, x]
    assert len(step.programs) == 1


def test_accumulation_across_calls(small):
    w, opt = small

    @cr.compile
    def accumulate(x):
        (w * x).sum().backward()

    @cr.compile
    def apply():
        opt.step()
        opt.zero_grad()

    for _ in range(3):
        accumulate(1.0)
        assert w.grad.tolist() == [1, 1]
        accumulate(2.0)
        accumulate(3.0)
        assert w.grad.tolist() == [6, 6]
        apply()
        assert w.grad is None
    assert w.tolist() == [-8, -7]
    assert [len(f.programs) for f in (accumulate, apply)] == [2, 1]
    with pytest.raises(UnusedParameterError):
        apply()


def test_zero_grad_outside_and_at_the_end(small):
    w, opt = small

    @cr.compile
    def without(x):
        (w * x).sum().backward()
        opt.step()

    for x in (1.0, 2.0):
        opt.zero_grad()
        without(x)
        assert w.grad.tolist() == [x, x]
    assert len(without.programs) == 1

    @cr.compile
    def ends(x):
        (w * x).sum().backward()
        opt.step()
        opt.zero_grad()

    opt.zero_grad()
    for _ in range(3):
        ends(1.0)
        assert w.grad is None
    assert len(ends.programs) == 1


def test_gradients_by_transforms_and_of_recorded_tensors():
    w = cr.Parameter(cr.tensor(3.0))
    x = cr.tensor(2.0, requires_grad=True)

    @cr.compile
    def f(a):
        inner = cr.tensor(1.0, requires_grad=True)
        (inner * a * x).backward()
        return cr.grad(lambda a: a * a * w)(a), cr.hessian(lambda a: a**3 * w)(a), inner.grad

    assert [t.item() for t in f(cr.tensor(2.0))] == [12, 36, 4]
    with pytest.raises(GradientNotKept, match="of a tensor of shape"):
        _ = x.grad
    (x * x).backward()
    assert x.grad.item() == 4
    assert w.grad is None


def test_freezing_is_part_of_the_key(small):
    w, opt = small
    other = cr.Parameter(cr.tensor([1.0, 1.0]))
    opt.add_param_group({"params": [other]})

    @cr.compile
    def step(x):
        opt.zero_grad()
        (w * other * x).sum().backward()
        opt.step()

    step(1.0)
    other.requires_grad = False
    before = other.tolist()
    step(1.0)
    assert other.tolist() == before
    other.requires_grad = True
    step(1.0)
    assert other.tolist() != before
    assert len(step.programs) == 2
    with pytest.raises(TraceError, match=r"\[trainable\] .* cannot freeze"):
        cr.compile(lambda: setattr(w, "trainable", False))()
    assert w.trainable


# --- failures ---------------------------------------------------------------------------------------------


def test_an_exception_while_tracing_changes_nothing():
    model = network()
    opt = optim.Adam(model.parameters(), lr=0.01)
    eager = step_of(model, opt)
    eager(*batch())
    before = state_of(model, opt), [p.grad.tolist() for p in model.parameters()]

    @cr.compile
    def step(x, y):
        eager(x, y)
        return cr.ones(3) + cr.ones(4)

    with pytest.raises(ShapeError, match=rf"At: {__file__}"):
        step(*batch())
    assert same_state(before[0], state_of(model, opt))
    assert before[1] == [p.grad.tolist() for p in model.parameters()]
    assert int(opt.step_count) == 1


def test_a_fault_raises_the_exception_of_eager_mode_and_changes_nothing():
    model = network()
    opt = optim.Adam(model.parameters(), lr=0.01)
    table = cr.tensor([1.0, 2.0])

    @cr.compile(keep_grads=True)
    def step(x, y, i):
        loss = nn.functional.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return cr.take(table, i, axis=0)  # the line at fault

    step(*batch(), cr.tensor([1]))
    before = state_of(model, opt), [p.grad.tolist() for p in model.parameters()]
    versions = [p.version for p in model.parameters()]
    line = step.function.__code__.co_firstlineno + 6
    for _ in range(2):
        with pytest.raises(IndexOutOfRangeError, match=rf"At: {__file__}:{line}"):
            step(*batch(), cr.tensor([2]))
    assert same_state(before[0], state_of(model, opt))
    assert before[1] == [p.grad.tolist() for p in model.parameters()]
    assert versions == [p.version for p in model.parameters()]
    step(*batch(), cr.tensor([1]))
    assert not same_state(before[0], state_of(model, opt))


class Failing(ReferenceProgram):
    """Raises what the test wants."""

    error: BaseException | None = None

    def run(self, arrays):
        if self.error is not None:
            raise self.error
        return super().run(arrays)


def test_a_fault_that_eager_mode_does_not_have():
    count = cr.Cell(cr.tensor(0))
    step = Compiled(lambda: count.assign(count + 1), back_end=Failing, name="step")
    step()
    program = step.programs[0]
    program.error = ProgramFault("status 5", program.graph.nodes[0])
    with pytest.raises(CompilerError, match=rf"\[step\] .*status 5.*the operation add.*At: {__file__}"):
        step()
    assert (int(count), count.version) == (1, 1)
    program.error = None
    step()
    assert (int(count), count.version) == (2, 2)


def test_an_interrupt_changes_no_value():
    count = cr.Cell(cr.tensor(0))
    step = Compiled(lambda: count.assign(count + 1), back_end=Failing)
    step()
    step.programs[0].error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        step()
    assert int(count) == 1
    step.programs[0].error = None
    step()
    assert int(count) == 2
