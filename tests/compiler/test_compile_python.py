"""What Python does with compiled functions, and with numbers in them, is what it does without compiling."""

from __future__ import annotations

import copy
import pickle
import threading
from collections import namedtuple
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from reference_program import ReferenceProgram

import chainrule as cr
from chainrule import nn, optim
from chainrule.compiler.compiled import Compiled
from chainrule.errors import ArgumentError, TraceError


@pytest.fixture(autouse=True)
def _reference(monkeypatch):
    """Run the graphs in NumPy: these tests are about the calls, and compare bits with eager mode."""
    monkeypatch.setattr("chainrule.compiler.compiled.default_back_end", lambda: ReferenceProgram)


X = cr.tensor([1.0, 2.0, 3.0])


# --- numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda n: n in {3, 5}, lambda n: {3: 1}.get(n, 2), lambda n: {n, 3}, hash,
        str, repr, lambda n: f"{n}", lambda n: f"{n:03d}", lambda n: f"layer {n!r}",
        lambda n: [0] * n, lambda n: n * (1, 2), lambda n: n * "ab", lambda n: divmod(n, 3), lambda n: divmod(100, n),
        lambda n: n << 2, lambda n: 1 << n, lambda n: n & 6, lambda n: n | 8, lambda n: 7 ^ n, lambda n: n >> 1,
        lambda n: ~n, lambda n: -(n * 2**40) * 2**40,
    ],
)  # fmt: skip
def test_whole_numbers(use):
    f = cr.compile(use)
    for n in (3, 5):
        found, expected = f(n), use(n)
        assert found == expected
        assert type(found) is type(expected)


def test_a_product_that_would_not_fit_is_computed_by_python():
    f = cr.compile(lambda x, n: x + (n * n * n) % 7)
    for n in (3, 2**31 - 1, 2**40 + 1):
        assert f(X, n).tolist() == f.function(X, n).tolist()


def test_a_float_is_a_float():
    f = cr.compile(lambda x, s: x * s if isinstance(s, float) else -x)
    assert f(X, 2.0).tolist() == [2, 4, 6]
    assert cr.compile(lambda x, s: x**s)(X, 2.0).tolist() == [1, 4, 9]
    assert len(f.programs) == 1
    for use in (lambda s: s in {1.0}, lambda s: f"{s:.2f}", lambda s: {1.0: 2}.get(s)):
        with pytest.raises(TraceError, match=r"\[float\] the value of a Python float"):
            cr.compile(use)(1.0)


def test_a_float64_of_numpy_by_itself_keeps_its_bits():
    f = cr.compile(cr.asarray)
    assert f(np.float64(0.1)).dtype == cr.float64
    assert f(0.1).dtype == cr.float32


def test_tensors_of_traced_values():
    assert cr.compile(cr.tensor)(0.5).tolist() == 0.5
    assert cr.compile(lambda x: cr.tensor(x, "float64") / 3)(X).dtype == cr.float64
    with pytest.raises(TraceError, match=r"values in the list are not known.*cr\.stack"):
        cr.compile(lambda x: cr.tensor([x.sum(), x[0]]))(X)


def test_a_traced_tensor_cannot_be_printed():
    for use in (print, str, "{}".format):
        with pytest.raises(TraceError, match=rf"^\[print\].*cr\.debug\.print.*At: {__file__}"):
            cr.compile(lambda x, use=use: use(x))(X)


# --- what is returned -------------------------------------------------------------------------------------


@dataclass
class Result:
    loss: object


@dataclass
class Slotted:
    __slots__ = ("loss",)
    loss: object


Pair = namedtuple("Pair", "a b")


def test_results_in_objects_are_refused():
    for make in (Result, Slotted, lambda x: (x * i for i in range(3)), lambda x: map(abs, [x])):
        with pytest.raises(TraceError, match="returns tensors in tuples, lists and dicts, not in other objects"):
            cr.compile(lambda x, make=make: make(x.sum()))(X)
    result = Result(cr.tensor(1.0))
    assert cr.compile(lambda x: (x, result))(X)[1] is result
    assert cr.compile(lambda x: Pair(x, 2))(X).b == 2


def test_an_array_among_the_results_belongs_to_the_caller():
    f = cr.compile(lambda x: (x, np.zeros(2)))
    f(X)[1][:] = 1
    assert f(X)[1].tolist() == [0, 0]


# --- classes and methods ----------------------------------------------------------------------------------


def agrees(f, *args):
    return f(*args).tolist() == f.function(*args).tolist()


def test_attributes_of_classes():
    class Base:
        scale = 2.0

        def shift(self, x):
            return x + 1

    class Settings(Base):
        pass

    settings = Settings()
    f = cr.compile(lambda x: settings.shift(x) * settings.scale * Settings.scale)
    changes = [
        lambda: setattr(Base, "scale", 3.0), lambda: setattr(Settings, "scale", 4.0),
        lambda: setattr(settings, "scale", 5.0), lambda: setattr(Base, "shift", lambda self, x: x - 1),
        lambda: setattr(Settings, "shift", lambda self, x: x - 2), lambda: setattr(settings, "shift", lambda x: x - 3),
    ]  # fmt: skip
    assert agrees(f, X)
    for n, change in enumerate(changes):
        change()
        assert agrees(f, X)
        assert len(f.programs) == n + 2
    assert agrees(f, X)
    assert len(f.programs) == len(changes) + 1


def test_attributes_of_the_class_of_a_module():
    class Net(nn.Module):
        scale = 2.0

        def forward(self, x):
            return x * self.scale

    model = Net()
    f = cr.compile(lambda x: model(x))
    assert agrees(f, X)
    Net.scale = 3.0
    assert agrees(f, X)
    Net.forward = lambda self, x: x + self.scale
    assert agrees(f, X)
    assert len(f.programs) == 3


OFFSET = 1.0


def test_what_a_method_of_a_base_class_refers_to(monkeypatch):
    class Base(nn.Module):
        def forward(self, x):
            return x + OFFSET

    class Net(Base):
        def forward(self, x):
            return super().forward(x) * 2

    model = Net()
    f = cr.compile(lambda x: model(x))
    assert agrees(f, X)
    monkeypatch.setitem(globals(), "OFFSET", 2.0)
    assert agrees(f, X)


def test_a_function_whose_code_is_exchanged():
    def helper(x):
        return x * 2

    f = cr.compile(lambda x: helper(x))
    assert agrees(f, X)
    helper.__code__ = (lambda x: x * 3).__code__
    assert f(X).tolist() == [3, 6, 9]
    f.function.__code__ = (lambda x: helper(x) + 1).__code__
    assert f(X).tolist() == [4, 7, 10]


def test_attributes_of_functions():
    def scaled(x):
        return x * scaled.factor

    scaled.factor = 2.0
    f = cr.compile(scaled)
    assert agrees(f, X)
    scaled.factor = 3.0
    assert agrees(f, X)


def test_a_variable_that_is_deleted():
    scale = 2.0
    f = cr.compile(lambda x: x * scale)  # noqa: F821
    f(X)
    del scale
    with pytest.raises(NameError, match="scale"):
        f(X)


FACTOR = 1.0


class SignSGD(optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {"lr": 0.5, "weight_decay": 0.0})

    @staticmethod
    def update(g, p, state, hyper):
        return p - hyper["lr"] * FACTOR * (g.sign() + hyper["weight_decay"] * p), state


def test_an_optimizer_of_the_user(monkeypatch):
    w = cr.Parameter(cr.tensor([4.0]))
    opt = SignSGD([w])

    @cr.compile
    def step():
        opt.zero_grad()
        (w * w).sum().backward()
        opt.step()
        return w * 1

    assert step().tolist() == [3.5]
    opt.param_groups[0]["weight_decay"] = 1.0
    assert step().tolist() == [1.25]
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    assert step().tolist() == [-1.0]


class Parent:
    factor = 2.0

    def plain(self, x):
        return x * self.factor

    fast = cr.compile(plain)
    double = cr.compile(lambda self, x: x * 2)
    triple = cr.compile(lambda self, x: x * 3)

    @cr.compile
    def step(self, x):
        return x * self.factor

    @classmethod
    @cr.compile
    def of_the_class(cls, x):
        return x * cls.factor

    @staticmethod
    @cr.compile
    def of_nobody(x):
        return x * 7


class Child(Parent):
    @cr.compile
    def step(self, x):
        return super().step(x) + 1


class Small:
    __slots__ = ("factor",)

    @cr.compile
    def step(self, x):
        return x * self.factor


def test_methods_do_not_get_in_each_others_way():
    child = Child()
    for _ in range(2):
        assert child.step(X).tolist() == [3, 5, 7]
        assert child.double(X).tolist() == [2, 4, 6]
        assert child.triple(X).tolist() == [3, 6, 9]
        assert child.fast(X).tolist() == [2, 4, 6]
    assert len(child.fast.programs) == len(child.step.programs) == 1
    assert not isinstance(child.plain, Compiled)
    assert Child.of_the_class(X).tolist() == child.of_the_class(X).tolist() == [2, 4, 6]
    assert child.of_nobody(X).tolist() == [7, 14, 21]


def test_a_method_of_an_object_without_a_dictionary():
    small = Small()
    for factor in (2.0, 2.0, 3.0, 3.0):
        small.factor = factor
        assert small.step(X).tolist() == (X * factor).tolist()
    assert len(Small.step.programs) == 2


def test_copies_have_methods_of_their_own():
    first = Parent()
    first.step(X)
    for made in (copy.copy(first), copy.deepcopy(first)):
        made.factor = 5.0
        assert made.step(X).tolist() == [5, 10, 15]
        assert made.step is made.step
    assert first.step(X).tolist() == [2, 4, 6]
    step = cr.compile(partial(pow, exp=2))
    assert copy.copy(step) is step


def test_programs_are_not_pickled():
    with pytest.raises(ArgumentError, match=r"belongs to its process.*f\.function"):
        pickle.dumps(cr.compile(abs))


@dataclass(frozen=True)
class Sizes:
    scales: list


def test_a_frozen_object_that_cannot_be_hashed():
    f = cr.compile(lambda x, sizes: x * sizes.scales[0])
    assert f(X, Sizes([2.0])).tolist() == [2, 4, 6]
    assert f(X, Sizes([3.0])).tolist() == [3, 6, 9]


# --- threads ----------------------------------------------------------------------------------------------


def test_an_assignment_waits_for_the_program_that_runs():
    count = cr.Cell(cr.tensor(1))

    def assign():
        count.assign(10)
        count.storage()

    class WhileAnotherThreadAssigns(ReferenceProgram):
        def run(self, arrays):
            other.start()
            other.join(0.1)
            return super().run(arrays)

    other = threading.Thread(target=assign)
    step = Compiled(lambda: count.assign(count + 1), back_end=WhileAnotherThreadAssigns)
    step()
    other.join()
    assert (int(count), int(count.storage())) == (10, 10)
    assert count.version == 2
