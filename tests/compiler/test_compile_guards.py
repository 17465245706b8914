"""What a compiled function refers to may change: then there is another program, or an error, never an old result."""

from __future__ import annotations

import functools
import logging
import types
from enum import Enum

import numpy as np
import pytest
from reference_program import ReferenceProgram

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import TraceError
from chainrule.train import Trainer


@pytest.fixture(autouse=True)
def _reference(monkeypatch):
    """Run the graphs in NumPy: these tests are about the calls, and compare bits with eager mode."""
    monkeypatch.setattr("chainrule.compiler.compiled.default_back_end", lambda: ReferenceProgram)


X = cr.ones((2, 3))


def namespace(source, **names):
    """Functions as a notebook defines them, with globals of their own."""
    found = {"cr": cr, "nn": nn, "np": np, "__name__": "notebook", **names}
    exec(compile(source, "<cell>", "exec"), found)
    return found


def test_a_notebook_that_defines_things_again():
    cell = namespace(
        """
scale = 2.0
def helper(x):
    return x + offset
offset = 1.0
model = nn.Linear(3, 2)
@cr.compile
def f(x):
    return model(helper(x) * scale)
"""
    )
    f = cell["f"]

    def agrees():
        return f(X).tolist() == f.function(X).tolist()

    assert agrees()
    for source in (
        "scale = 3.0", "offset = 5.0", "def helper(x):\n    return x - offset", "model = nn.Linear(3, 1)",
        "scale = None\nscale = 3", "model.weight = nn.Linear(3, 1).weight",
    ):  # fmt: skip
        n = len(f.programs)
        exec(source, cell)
        assert agrees(), source
        assert len(f.programs) == n + 1, source
        assert agrees()
        assert len(f.programs) == n + 1
    exec("scale = float('3')\nscale = 3\nunrelated = 1", cell)
    assert agrees()
    assert len(f.programs) == n + 1


class Mode(Enum):
    A = 1
    B = 2


class Settings:
    def __init__(self):
        self.scale = 2.0
        self.inner = types.SimpleNamespace(bias=1.0)
        self.mode = Mode.A

    @property
    def doubled(self):
        return self.scale * 2

    def apply(self, x):
        return x * self.doubled + self.inner.bias + self.mode.value


class Slotted:
    __slots__ = ("scale",)

    def __init__(self):
        self.scale = 2.0


def test_attributes_of_objects():
    settings, slotted, weights, table = Settings(), Slotted(), [1.0, 2.0], {"a": 1.0}
    unused = [1.0]

    @cr.compile
    def f(x, settings=settings):
        return settings.apply(x) * slotted.scale * weights[1] * table["a"], len(unused)

    def check(programs):
        assert f(X)[0].tolist() == f.function(X)[0].tolist()
        assert len(f.programs) == programs

    check(1)
    changes = [
        lambda: setattr(settings, "scale", 3.0), lambda: setattr(settings.inner, "bias", 2.0),
        lambda: setattr(settings, "mode", Mode.B), lambda: setattr(slotted, "scale", 5.0),
        lambda: weights.__setitem__(1, 7.0), lambda: table.update(a=3.0),
    ]  # fmt: skip
    for n, change in enumerate(changes):
        check(n + 1)
        change()
        check(n + 2)
    settings.unrelated = 1
    weights[1] = float("7")
    check(len(changes) + 1)


class Net(nn.Module):
    factor = 1.0

    def __init__(self):
        self.fc = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.5)
        self.settings = Settings()
        self.act = cr.tanh

    def helper(self, x):
        return x * self.factor * self.settings.scale

    def forward(self, x):
        return self.act(self.helper(self.drop(self.fc(x))))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: setattr(m.drop, "p", 0.1), lambda m: m.eval(), lambda m: setattr(m, "factor", 2.0),
        lambda m: setattr(m, "act", cr.sin), lambda m: setattr(m.settings, "scale", 9.0), lambda m: m.freeze(),
        lambda m: m.register_forward_hook(lambda m, a, out: out * 2), lambda m: setattr(m, "fc", nn.Linear(3, 4)),
        lambda m: m.double(), lambda m: setattr(m.fc, "bias", None),
    ],
)  # fmt: skip
def test_changes_of_a_module(change, caplog):
    caplog.set_level(logging.INFO, "chainrule.compile")
    model = Net()
    f = cr.compile(lambda x: model(x))
    f(X)
    f(X)
    assert len(f.programs) == 1
    change(model)
    x = X.astype(model.fc.weight.dtype)
    f(x)
    assert len(f.programs) == 2
    cr.manual_seed(1)
    expected = model(x)
    cr.manual_seed(1)
    assert f(x).tolist() == expected.tolist()
    assert len(f.programs) == 2
    assert "since its surroundings changed" not in caplog.text


def test_a_module_reached_in_ways_that_cannot_be_followed():
    registry = types.MappingProxyType({"net": Net()})
    f = cr.compile(lambda x: registry["net"](x))
    f(X)
    registry["net"].drop.p = 0.25
    f(X)
    assert len(f.programs) == 2


def test_modes_are_kept_apart_without_retracing():
    model = Net()
    f = cr.compile(lambda x: model(x))
    for _ in range(3):
        f(X)
        model.eval()
        assert f(X).tolist() == model(X).tolist()
        model.train()
    assert len(f.programs) == 2


def test_hyperparameters():
    w = cr.Parameter(cr.ones(3))
    opt = optim.SGD([w], lr=0.1, momentum=0.9)

    @cr.compile
    def step():
        opt.zero_grad()
        (w * w).sum().backward()
        opt.step()

    step()
    opt.lr = 0.2
    opt.param_groups[0]["initial_lr"] = 0.2
    step()
    assert len(step.programs) == 1
    opt.param_groups[0]["weight_decay"] = 0.5
    before = w.numpy()
    velocity = opt.state[w]["momentum_buffer"].numpy()
    step()
    expected = before - np.float32(0.2) * (np.float32(0.9) * velocity + 2 * before + np.float32(0.5) * before)
    np.testing.assert_allclose(w.numpy(), expected, rtol=1e-6)
    assert len(step.programs) == 2
    opt.allow_unused = True
    step()
    opt.add_param_group({"params": [cr.Parameter(cr.ones(2))]})
    step()
    assert len(step.programs) == 4


def test_wrapped_and_partial_functions():
    factor = [2.0]

    def scaled(f):
        @functools.wraps(f)
        def g(*args):
            return f(*args) * factor[0]

        return g

    offset = 1.0

    @cr.compile
    @scaled
    def f(x):
        return x + offset

    assert f(X).tolist() == f.function(X).tolist()
    offset = 2.0
    assert f(X).tolist() == f.function(X).tolist()
    factor[0] = 3.0
    assert f(X).tolist() == f.function(X).tolist()
    g = cr.compile(functools.partial(lambda x, y: x * y * offset, 3.0))
    assert g(X).tolist() == g.function(X).tolist()
    offset = 4.0
    assert g(X).tolist() == g.function(X).tolist()
    h = cr.compile(cr.grad(lambda x: (x * x).sum() * offset))
    assert h(X).tolist() == h.function(X).tolist()
    offset = 5.0
    assert h(X).tolist() == h.function(X).tolist()
    clip = cr.custom_vjp(lambda x: x, lambda x: (x, None), lambda _, ct: (ct * offset,))
    k = cr.compile(cr.grad(lambda x: clip(x).sum()))
    assert k(X).tolist() == k.function(X).tolist()
    offset = 6.0
    assert k(X).tolist() == k.function(X).tolist()


def test_a_trainer_counts_without_retracing():
    model = nn.Linear(3, 2)
    opt = optim.SGD(model.named_parameters(), lr=0.1)
    trainer = Trainer(model, nn.functional.cross_entropy, opt, optim.lr_scheduler.StepLR(opt, 1))
    for _ in range(3):
        trainer.update(np.ones((2, 3), np.float32), np.array([0, 1]))
    assert trainer.place.step == 3
    assert trainer.lr < 0.02
    assert len(trainer._step.programs) == 1


# --- arrays -----------------------------------------------------------------------------------------------


def test_a_captured_array_that_changes_in_place_is_an_error():
    array = np.ones(3, np.float32)
    holder = types.SimpleNamespace(array=np.ones(3))

    @cr.compile
    def f(x):
        return x * array

    line = f.function.__code__.co_firstlineno + 2
    f(X)
    array[1] = 5
    with pytest.raises(TraceError, match=rf"changed in place.*shape \(3,\).*cr\.Cell\(array\).*At: {__file__}:{line}"):
        f(X)
    array[1] = 1
    assert f(X).tolist() == X.tolist()
    array = np.full(3, 2, np.float32)  # another array is another program
    assert f(X).tolist() == (X * 2).tolist()
    assert len(f.programs) == 2

    g = cr.compile(lambda x: x * (holder.array + 1))
    g(X)
    holder.array += 1
    with pytest.raises(TraceError, match="changed in place"):
        g(X)


def test_arrays_made_within_are_not_watched():
    f = cr.compile(lambda x: x * np.arange(3, dtype=np.float32)[::-1] + cr.asarray(np.ones(3, np.float32)))
    assert f(X).tolist() == f.function(X).tolist()
    (variants,) = f._variants.values()
    assert variants[0].guards._taken == []


# --- side effects -----------------------------------------------------------------------------------------

COUNT = 0
LOG: list[object] = []
CACHE: dict[int, cr.Tensor] = {}


def test_side_effects_are_errors():
    settings, model = Settings(), Net()
    opt = optim.SGD(model.parameters(), lr=0.1)
    schedule = optim.lr_scheduler.StepLR(opt, 2)

    def count(x):
        global COUNT
        COUNT += 1

    def attribute(x):
        settings.scale *= 2

    def of_module(x):
        model.factor = 3.0

    def log(x):
        LOG.append(1.0)

    def built_late(x):
        model.extra = cr.Parameter(cr.ones(3))
        return x * model.extra

    def leak(x):
        settings.last = x

    for f, what in [
        (count, "the global COUNT"), (attribute, "settings.scale"), (of_module, "model.factor"), (log, "LOG"),
        (lambda x: schedule.step(), "schedule.last_epoch"), (built_late, "model.extra"),
    ]:  # fmt: skip
        with pytest.raises(TraceError, match=rf"the function changes .*{what}.*->.*cr\.Cell"):
            cr.compile(f)(X)
    cr.compile(leak)(X)
    with pytest.raises(TraceError, match="has left"):
        settings.last + 1


def test_filling_a_cache_is_allowed():
    def f(x):
        if 3 not in CACHE:
            CACHE[3] = cr.asarray([1.0, 2.0, 3.0])
        return x * CACHE[3]

    compiled = cr.compile(f)
    assert compiled(X).tolist() == f(X).tolist()
    compiled(X)
    assert len(compiled.programs) == 1
