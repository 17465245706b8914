"""Calls of compiled functions: arguments, results, keys, retraces."""

from __future__ import annotations

import copy
import gc
import logging
import math
import threading
import weakref
from dataclasses import dataclass

import numpy as np
import pytest
from reference_program import ReferenceProgram

import chainrule as cr
from chainrule import nn
from chainrule.errors import ArgumentError, GradientError, RetraceWarning, TraceError


@pytest.fixture(autouse=True)
def _reference(monkeypatch):
    """Run the graphs in NumPy: these tests are about the calls, and compare bits with eager mode."""
    monkeypatch.setattr("chainrule.compiler.compiled.default_back_end", lambda: ReferenceProgram)


def ramp(*shape):
    return cr.asarray(np.arange(math.prod(shape), dtype=np.float32).reshape(shape))


def test_nested_containers_go_in_and_out():
    @cr.compile
    def f(batch, *, scale):
        return {"sum": batch["x"] + batch["pair"][0], "rest": (batch["pair"][1] * scale, None, "name", 3)}

    out = f({"x": ramp(3), "pair": [ramp(3), np.ones(2)]}, scale=2.0)
    assert out["sum"].tolist() == [0, 2, 4]
    assert out["rest"][0].tolist() == [2, 2]
    assert out["rest"][1:] == (None, "name", 3)
    assert len(f.programs) == 1


def test_results_of_each_kind():
    constant = cr.tensor([1.0])
    assert cr.compile(lambda x: ())(ramp(2)) == ()
    assert cr.compile(lambda x: None)(ramp(2)) is None
    assert cr.compile(lambda x: x)(ramp(2)).tolist() == [0, 1]
    assert cr.compile(lambda x: (x, x))(ramp(2))[1].tolist() == [0, 1]
    assert cr.compile(lambda x: constant)(ramp(2)) is constant
    assert cr.compile(lambda x: [constant * 2, x])(ramp(2))[0].tolist() == [2]
    w = cr.Parameter(cr.tensor([1.0]))
    assert cr.compile(lambda: w)() is w
    assert cr.compile(lambda s: s * 2 + 1)(0.25) == 1.5
    assert cr.compile(lambda n: n - 1)(3) == 2


@pytest.mark.parametrize("wrap", [
    lambda x: (x, {"a": x}), lambda x: (x, [x]), lambda x: (x, (x,)), lambda x: (x, ({}, x)), lambda x: ((), x),
    lambda x: (None, x, (x, x)), lambda x: ({}, (x, 3)),
])  # fmt: skip
def test_results_nest_as_they_were_returned(wrap):
    """Also where there are as many leaves as containers in the outermost one."""
    assert repr(cr.compile(wrap)(ramp(2))) == repr(wrap(ramp(2)))


def test_results_do_not_share_memory_with_arguments_or_each_other():
    array = np.zeros(3, np.float32)
    f = cr.compile(lambda x: (x, x))
    a, b = f(array)
    array[:] = 7
    assert a.tolist() == b.tolist() == [0, 0, 0]
    first = f(array)[0]
    f(np.ones(3, np.float32))
    assert first.tolist() == [7, 7, 7]


def test_results_are_not_recorded():
    w = cr.Parameter(cr.tensor([1.0]))
    assert not cr.compile(lambda x: x * w)(ramp(1)).requires_grad


def test_same_shapes_do_not_retrace_and_other_shapes_do():
    f = cr.compile(lambda x: x * 2)
    for n in (2, 3, 2, 3, 2):
        assert f(ramp(n)).tolist() == [2 * i for i in range(n)]
    f(cr.zeros((2,), dtype="float64"))
    f(np.zeros(2, np.float32))
    assert len(f.programs) == 3


def test_arrays_of_other_layouts_and_byte_orders():
    f = cr.compile(lambda x: x + 1)
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert f(array.T).tolist() == (array.T + 1).tolist()
    assert f(array[::-2]).tolist() == (array[::-2] + 1).tolist()
    assert f(array.astype(">f4")).tolist() == (array + 1).tolist()
    assert f(np.float32(1.5)).tolist() == 2.5


# --- numbers ----------------------------------------------------------------------------------------------


def test_floats_vary_without_retracing_and_are_weak():
    @cr.compile
    def f(x, scale):
        return x * scale, scale / 2 + 1, (1 - 0.9**scale) * x

    for dtype in ("float32", "float16", "float64", "int32"):
        x = cr.asarray([1, 2], dtype)
        for scale in (0.1, 3.0, -2.5):
            (a, b, c), (ea, eb, ec) = f(x, scale), f.function(x, scale)
            assert a.dtype == ea.dtype
            assert a.tolist() == ea.tolist()
            assert b == eb
            assert c.tolist() == pytest.approx(ec.tolist(), rel=1e-6)
    assert len(f.programs) == 4


def test_a_float_by_itself_is_float32():
    f = cr.compile(lambda s: (cr.exp(s), cr.asarray(s, "float64"), cr.where(s > 1, 1.0, 2.0)))
    assert f(0.1)[0].dtype == cr.float32
    assert f(0.1)[1].item() == 0.1
    assert [f(s)[2].item() for s in (0.5, 1.5)] == [2.0, 1.0]
    assert len(f.programs) == 1


def test_numbers_of_numpy_are_as_in_eager_mode():
    f = cr.compile(lambda x, s: x * s)
    x = cr.ones((2,), dtype="float16")
    for s in (np.float64(0.5), np.float32(0.5), np.int32(2)):
        assert f(x, s).dtype == (x * s).dtype


def test_ints_vary_until_python_needs_them():
    @cr.compile
    def runtime(x, n):
        return x * n + (n + 1) * 2 - n // 2 % 3

    for n in (0, 1, 7, -9):
        assert runtime(ramp(2), n).tolist() == runtime.function(ramp(2), n).tolist()
    assert len(runtime.programs) == 1

    @cr.compile
    def needed(x, n):
        total = x
        for _ in range(n):
            total = total + x
        return total if n > 2 else -total

    for n in (1, 3, 1, 3):
        assert needed(ramp(2), n).tolist() == needed.function(ramp(2), n).tolist()
    assert len(needed.programs) == 2


@pytest.mark.parametrize(
    "use",
    [
        lambda x, n: x.reshape(n, 2), lambda x, n: x.sum(axis=n - 2), lambda x, n: x[:n], lambda x, n: [x, -x, x][n],
        lambda x, n: x * {2: 5, 3: 6}[n], lambda x, n: x if isinstance(n, int) and n == 2 else None,
        lambda x, n: cr.permutation(n, generator=cr.Generator(0)), lambda x, n: x * 2**n, lambda x, n: x * n**-1,
        lambda x, n: cr.ones(n), lambda x, n: x.astype("int8") * n, lambda x, n: x * (n != 3), lambda x, n: x[n - 1],
        lambda x, n: x * float(n), lambda x, n: x * round(n / 2 if n == 2 else 1.0),
    ],
)  # fmt: skip
def test_what_python_does_with_an_int(use):
    x = ramp(2, 2)
    assert cr.compile(use)(x, 2).tolist() == use(x, 2).tolist()


def test_an_int_beyond_64_bits():
    assert cr.compile(lambda n: n + 1)(2**70) == 2**70 + 1
    f = cr.compile(lambda n: n * n)
    assert f(2**40) == 2**80
    assert f(3) == 9


def test_bools_strings_and_none_are_static():
    f = cr.compile(lambda x, flip, how, extra=None: (-x if flip else x) * {"a": 1, "b": 2}[how] + (extra or 0))
    assert f(ramp(2), True, "a").tolist() == [0, -1]
    assert f(ramp(2), False, "b").tolist() == [0, 2]
    assert f(ramp(2), True, "a").tolist() == [0, -1]
    assert len(f.programs) == 2


@dataclass(frozen=True)
class Config:
    scale: float


@dataclass
class Changing:
    scale: float


def test_objects_as_arguments():
    f = cr.compile(lambda x, config: x * config.scale)
    assert f(ramp(2), Config(2.0)).tolist() == [0, 2]
    assert f(ramp(2), Config(2.0)).tolist() == [0, 2]
    assert len(f.programs) == 1
    config = Changing(3.0)
    assert f(ramp(2), config).tolist() == [0, 3]
    config.scale = 4.0
    assert f(ramp(2), config).tolist() == [0, 4]
    assert len(f.programs) == 3


def test_a_module_as_an_argument():
    f = cr.compile(lambda model, x: model(x))
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    for model in (a, b, a, b):
        assert f(model, ramp(1, 2)).tolist() == model(ramp(1, 2)).tolist()
    assert len(f.programs) == 2
    assert cr.compile(a)(ramp(1, 2)).tolist() == a(ramp(1, 2)).tolist()


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "operation"),
    [
        (lambda x, s: x if x.sum() > 0 else -x, "bool"), (lambda x, s: float(x.sum()), "float"),
        (lambda x, s: int(x.sum()), "int"), (lambda x, s: x.sum().item(), "item"),
        (lambda x, s: np.asarray(x), "numpy"),
        (lambda x, s: np.sin(x.numpy()), "numpy"), (lambda x, s: x.tolist(), "tolist"),
        (lambda x, s: math.exp(s), "float"), (lambda x, s: x if s > 0.5 else -x, "bool"),
    ],
)  # fmt: skip
def test_python_cannot_have_a_traced_value(use, operation):
    with pytest.raises(TraceError, match=rf"^\[{operation}\].*cr\.while_loop.*At: {__file__}:"):
        cr.compile(use)(ramp(2), 0.75)


def test_a_recorded_argument_is_refused():
    x = cr.tensor([1.0], requires_grad=True)
    with pytest.raises(GradientError, match=r"\[compile\] an argument .* cannot be recorded.*detach"):
        cr.compile(lambda x: x * 2)(x)
    with cr.no_grad():
        assert cr.compile(lambda x: x * 2)(x).tolist() == [2]


def test_a_traced_tensor_that_has_left_is_refused():
    kept = {}
    with pytest.raises(TraceError, match=r"changes kept .*would happen while it is traced.*return the value"):
        cr.compile(lambda x: kept.__setitem__("x", x))(ramp(1))
    with pytest.raises(TraceError, match="has left the function in whose trace it was made"):
        kept["x"] + 1
    with pytest.raises(TraceError, match="has left the function in whose trace it was made"):
        cr.compile(lambda x: x * 2)(kept["x"])


def test_what_cannot_be_compiled():
    def generator(x):
        yield x

    for wrong in (generator, 3):
        with pytest.raises(ArgumentError, match=r"\[compile\] takes a function"):
            cr.compile(wrong)


# --- messages ---------------------------------------------------------------------------------------------


def test_a_retrace_is_logged_with_its_reason(caplog):
    caplog.set_level(logging.INFO, "chainrule.compile")

    @cr.compile
    def f(x, weights, mode="a", n=1):
        return x * weights["w"] * n

    def reason(*args, **kwargs):
        caplog.clear()
        f(*args, **kwargs)
        return caplog.messages[0].partition(" since ")[2] if caplog.messages else None

    w = {"w": ramp(3)}
    assert reason(ramp(2, 3), w) == ""
    assert reason(ramp(2, 3), w) is None
    assert reason(ramp(4, 3), w) == "argument x: float32[2,3] -> float32[4,3]"
    assert reason(ramp(4, 3), {"w": cr.ones(3, "float64")}) == "argument weights['w']: float32[3] -> float64[3]"
    assert reason(ramp(4, 3), w, mode="b").startswith("the arguments nest")
    assert reason(ramp(4, 3), w, mode="c") == "argument mode: 'b' -> 'c'"
    with cr.no_grad():
        assert reason(ramp(4, 3), w, mode="c") == "recording (cr.no_grad) was switched"
    assert "compiled again in 0." in caplog.messages[0]


def test_many_retraces_warn():
    @cr.compile
    def f(x):
        return x * 2

    for n in range(1, 8):
        f(ramp(n))
    with pytest.warns(RetraceWarning, match=r"f has been traced 8 times.*float32\[7\] -> float32\[8\].*Fix: pass"):
        f(ramp(8))
    f(ramp(9))


# --- where it is called -----------------------------------------------------------------------------------


def test_within_other_traces_and_transforms_it_is_the_python_function():
    w = cr.Parameter(cr.tensor(3.0))
    inner = cr.compile(lambda x: x * x * w)
    outer = cr.compile(lambda x: inner(x) + 1)
    assert outer(cr.tensor(2.0)).item() == 13
    assert cr.grad(inner)(2.0).item() == 12
    assert cr.scan(lambda c, x: (inner(c), x), cr.tensor(2.0), ramp(1))[0].item() == 12
    assert inner.programs == []


class Model(nn.Module):
    scale = 1.0

    def __init__(self):
        self.weight = nn.Linear(2, 2).weight

    @cr.compile
    def forward(self, x):
        """The product."""
        return x @ self.weight * self.scale


class Plain:
    def __init__(self, scale):
        self.scale = scale

    @cr.compile(name="plain")
    def __call__(self, x):
        return x * self.scale

    @cr.compile
    def twice(self, x):
        return x * 2 * self.scale


def test_methods():
    a, b = Model(), Model()
    x = ramp(1, 2)
    assert a(x).tolist() == (x @ a.weight).tolist()
    b.scale = 2.0
    assert b(x).tolist() == (x @ b.weight * 2).tolist()
    assert a(x).tolist() == (x @ a.weight).tolist()
    assert len(a.forward.programs) == len(b.forward.programs) == 1
    assert Model.forward.__doc__ == "The product."
    assert list(a.state_dict()) == ["weight"]
    made = copy.deepcopy(a)
    made.weight.assign(made.weight * 0)
    assert made(x).tolist() == [[0, 0]]
    assert a(x).tolist() == (x @ a.weight).tolist()


def test_methods_of_plain_objects_follow_their_attributes():
    a, b = Plain(2.0), Plain(3.0)
    assert [a.twice(ramp(2)).tolist(), b.twice(ramp(2)).tolist()] == [[0, 4], [0, 6]]
    a.scale = 5.0
    assert [a.twice(ramp(2)).tolist(), b.twice(ramp(2)).tolist()] == [[0, 10], [0, 6]]
    assert len(b.twice.programs) == 1
    assert a(ramp(2)).tolist() == [0, 5]


def test_an_object_goes_with_its_programs():
    a = Plain(2.0)
    a.twice(ramp(2))
    gone = weakref.ref(a)
    del a
    gc.collect()
    assert gone() is None


def test_several_threads():
    count = cr.Cell(cr.tensor(0))

    @cr.compile
    def step(x):
        count.assign(count + 1)
        return x.sum() + count * 0

    def work(n):
        for _ in range(20):
            assert step(cr.ones(n)).item() == n

    threads = [threading.Thread(target=work, args=(n,)) for n in (1, 2, 1, 2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert int(count) == 80
    assert count.version == 80


def test_a_graph_can_be_had_without_running():
    count = cr.Cell(cr.tensor(0))

    @cr.compile
    def step(x):
        count.assign(count + 1)
        return x * 2

    assert "multiply" in str(step.program_for(ramp(2)).graph)
    assert int(count) == 0
    step(ramp(2))
    assert len(step.programs) == 1
