"""What fails in native code raises the exception of eager mode, with the user's line, and changes no cell."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import both_modes
import networks
import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import ArgumentError, ChainruleError, IndexOutOfRangeError, LinearAlgebraError
from chainrule.nn import functional


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """The result as arrays, or the exception's class and message."""
    try:
        return both_modes.flat(function(*args))
    except ChainruleError as error:
        return type(error), str(error)


def ints(*values: int, dtype: str = "int32") -> np.ndarray:
    return np.array(values, dtype)


REALS = np.array([1e30, -1e30, np.nan, np.inf, -np.inf, 3.7, -3.7, 300.0, -5.0, 2.0**31, 2.0**63])


def shifts(dtype: str) -> list[np.ndarray]:
    amounts = ints(0, 1, 7, 8, 31, 32, 63, 64, 65, 127, dtype=dtype)
    return [np.full_like(amounts, 77), amounts]


# Results that are defined: where processors differ or trap.
DEFINED: list[tuple[str, Callable[..., Any], list[np.ndarray]]] = [
    *((f"cast to {to} from {of}", lambda x, to=to: x.astype(to), [REALS.astype(of)])
      for of in ("float32", "float64")
      for to in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")),
    *((f"{low} divided by -1", lambda a, b: (a // b, a % b, abs(a), -a), [ints(low, 7, low), ints(-1, -1, 1)])
      for low in (-(2**31),)),
    ("the least int64 divided by -1", lambda a, b: (a // b, a % b), [ints(-(2**63), 7, dtype="int64"),
                                                                    ints(-1, -1, dtype="int64")]),
    ("the least int8 divided by -1", lambda a, b: (a // b, a % b), [ints(-128, 7, dtype="int8"),
                                                                   ints(-1, -1, dtype="int8")]),
    *((f"shifts of {t}", lambda a, n: (cr.bitwise_left_shift(a, n), cr.bitwise_right_shift(a, n)), shifts(t))
      for t in ("int8", "int32", "int64", "uint8", "uint32", "uint64")),
    ("shifts by less than nothing", lambda a, n: (cr.bitwise_left_shift(a, n), cr.bitwise_right_shift(a, n)),
     [ints(5, -5, 5), ints(-1, -64, -(2**31))]),
    ("powers that overflow", lambda a, n: a**n, [ints(2, 3, 0, -2), ints(31, 40, 0, 31)]),
    ("indices from the end", lambda x, i: (cr.take(x, i, axis=0), x.at[i].add(1)), [ints(4, 5, 6), ints(-3, -1)]),
    ("a label that no class has", lambda i: cr.one_hot(i, 3), [ints(3, 0, -1)]),
]  # fmt: skip

SINGULAR = np.array([[1.0, 2.0], [2.0, 4.0]], np.float32)
INDEFINITE = np.array([[1.0, 2.0], [2.0, 1.0]], np.float32)
many = np.arange(1, 5001, dtype=np.int32)
with_a_zero = np.where(many == 4321, 0, many).astype(np.int32)

FAULTS: list[tuple[str, Callable[..., Any], list[np.ndarray], list[np.ndarray], type[ChainruleError]]] = [
    ("division by zero", lambda a, b: a // b, [ints(1, 2), ints(0, 1)], [ints(1, 2), ints(2, 1)], ArgumentError),
    ("remainder by zero", lambda a, b: a % b, [ints(1, dtype="uint8"), ints(0, dtype="uint8")],
     [ints(1, dtype="uint8"), ints(2, dtype="uint8")], ArgumentError),
    ("one of many", lambda a, b: (cr.sin(a * 1.0) * (a // b)).sum(), [many, with_a_zero], [many, many], ArgumentError),
    ("a negative power", lambda a, b: a**b, [ints(2, 3), ints(1, -1)], [ints(2, 3), ints(1, 2)], ArgumentError),
    ("take", lambda x, i: cr.take(x, i, axis=0), [many, ints(5000)], [many, ints(-5000)], IndexOutOfRangeError),
    ("take from the end", lambda x, i: cr.take(x, i, axis=0), [many, ints(-5001)], [many, ints(4999)],
     IndexOutOfRangeError),
    ("take_along_axis", lambda x, i: cr.take_along_axis(x, i, axis=0), [many, ints(5000)], [many, ints(3)],
     IndexOutOfRangeError),
    ("at.set", lambda x, i: x.at[i].set(3), [many, ints(1, 5000)], [many, ints(1, 2)], IndexOutOfRangeError),
    ("at.add", lambda x, i: x.at[i].add(3), [many, ints(1, 5000)], [many, ints(1, 1)], IndexOutOfRangeError),
    ("embedding", lambda w, i: functional.embedding(i, w), [np.ones((7, 3), np.float32), ints(7, 1)],
     [np.ones((7, 3), np.float32), ints(6, 1)], IndexOutOfRangeError),
    ("cholesky", cr.linalg.cholesky, [INDEFINITE], [np.eye(2, dtype=np.float32)], LinearAlgebraError),
    ("inv", cr.linalg.inv, [SINGULAR], [INDEFINITE], LinearAlgebraError),
    ("solve", lambda a, b: cr.linalg.solve(a, b), [SINGULAR, SINGULAR], [INDEFINITE, SINGULAR], LinearAlgebraError),
    ("in a scan", lambda a, b: cr.scan(lambda c, x: (c + x[0] // x[1], c), cr.tensor(0, "int32"), (a, b)),
     [many, with_a_zero], [many, many], ArgumentError),
    ("in a branch", lambda a, b: cr.cond(a[0] > 0, lambda a, b: a // b, lambda a, b: a, a, b),
     [many, with_a_zero], [-many, with_a_zero], ArgumentError),
    ("in a while loop", lambda a: cr.while_loop(lambda i: i > -3, lambda i: i - 1 + 0 * (a[0] // i), a[1]),
     [ints(5, 3)], [ints(5, -2)], ArgumentError),
]  # fmt: skip


@pytest.fixture(scope="module")
def defined() -> Any:
    """All of them in one program."""
    return cr.compile(lambda given: [f(*map(cr.asarray, args)) for (_, f, _), args in zip(DEFINED, given, strict=True)])


def test_defined_results(defined):
    given = [args for _, _, args in DEFINED]
    both_modes.same(defined.function(given), defined(given))


@pytest.mark.parametrize(("function", "bad", "good", "kind"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_faults(function, bad, good, kind):
    compiled = cr.compile(lambda *args: function(*map(cr.asarray, args)))
    for _ in range(2):
        expected, found = outcome(compiled.function, *bad), outcome(compiled, *bad)
        assert expected[0] is kind
        assert found == expected
        assert __file__ in found[1]
        both_modes.same(compiled.function(*good), compiled(*good))
    assert len(compiled.programs) == 1


# --- faults in training steps -----------------------------------------------------------------------------


class Everything(nn.Module):
    """State of each kind: parameters, running statistics, the state of an optimizer, random numbers."""

    def __init__(self) -> None:
        self.tokens = nn.Embedding(7, 6)
        self.norm, self.dropout, self.scores = nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 10)

    def forward(self, tokens: Any) -> Any:
        return self.scores(self.dropout(self.norm(self.tokens(tokens))))


def everything() -> networks.Network:
    model = Everything()
    opt = optim.Adam(model.parameters(), lr=0.1)

    def batch(i: int, n: int) -> Any:
        rng = np.random.default_rng(i)
        return rng.integers(0, 7, n), rng.integers(0, 10, n)

    return networks.classifier(model, opt, batch)


BROKEN: list[tuple[str, Callable[[Any, Any], Any]]] = [
    ("label 10 of 10 classes", lambda x, y: (x, np.where(np.arange(len(y)) == 3, 10, y))),
    ("label -11", lambda x, y: (x, np.where(np.arange(len(y)) == 3, -11, y))),
    ("token past the vocabulary", lambda x, y: (np.where(np.arange(len(y)) == 5, 7, x), y)),
    ("token before the vocabulary", lambda x, y: (np.where(np.arange(len(y)) == 5, -8, x), y)),
]


@pytest.mark.parametrize("size", [8, 300])
def test_a_step_that_fails_changes_nothing(size):
    cr.manual_seed(1)
    eager = everything()
    cr.manual_seed(1)
    network = everything()
    step = cr.compile(network.step)

    def both_step(i: int) -> None:
        generator = cr.functions.random.default_generator
        before = generator.numpy()
        expected = eager.step(*eager.batch(i, size))
        generator.assign(cr.asarray(before))
        both_modes.same(expected, step(*network.batch(i, size)), factor=10)
        both_modes.same(both_modes.states(*eager.holders), both_modes.states(*network.holders), factor=10)

    both_step(0)
    for i, (_, spoil) in enumerate(BROKEN, start=1):
        bad = spoil(*network.batch(i, size))
        expected = outcome(eager.step, *bad)
        before = both_modes.states(*network.holders)
        found = outcome(step, *bad)
        after = both_modes.states(*network.holders)
        assert expected[0] is IndexOutOfRangeError
        assert found == expected
        assert [name for name in before if not np.array_equal(before[name], after[name])] == []
        eager.model.load_state_dict(network.model.state_dict())  # eager mode had assigned some before it failed
        eager.model.zero_grad()
        both_step(i)
    assert len(step.programs) == 1


def test_what_is_not_needed_may_not_fail():
    """The branch that is not taken, elements that are masked, lanes beyond the end."""
    guarded = cr.compile(lambda a, b: a // cr.where(b == 0, 1, b))
    assert guarded(ints(6, 7), ints(0, 2)).tolist() == [6, 3]
    branch = cr.compile(lambda a, b: cr.cond(b[0] == 0, lambda a, b: a, lambda a, b: a // b, a, b))
    assert branch(ints(6, 7), ints(0, 2)).tolist() == [6, 7]
    assert branch(ints(6, 7), ints(2, 2)).tolist() == [3, 3]
    for n in (1, 15, 16, 17, 33):
        assert guarded(np.ones(n, np.int32), np.ones(n, np.int32)).tolist() == [1] * n
        assert cr.compile(lambda a: a // a)(np.ones(n, np.int32)).tolist() == [1] * n


# --- interrupts -------------------------------------------------------------------------------------------


def interrupted(function: Callable[..., Any], *args: Any) -> float:
    """Run a function that is interrupted soon; the seconds from then to the exception."""
    sent: list[float] = []

    def interrupt() -> None:
        time.sleep(0.15)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            function(*args)
        return time.perf_counter() - sent[0]
    finally:
        thread.join()


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
@pytest.mark.parametrize("kind", ["scan", "while"])
def test_interrupts_end_long_loops(kind):
    count = cr.Cell(cr.tensor(0, "int32"))
    weights = cr.Parameter(cr.ones((64, 64)) / 64)

    def loop(x: Any, times: Any) -> Any:
        count.assign(count + 1)
        weights.assign(weights * 1.0 + 0.125)
        if kind == "scan":
            return cr.scan(lambda c, t: (cr.tanh(c @ weights) + t, None), x, times)[0]
        test, body = lambda s: s[1] < times.shape[0], lambda s: (cr.tanh(s[0] @ weights), s[1] + 1)
        return cr.while_loop(test, body, (x, cr.tensor(0)))[0]

    compiled = cr.compile(loop)
    x, few, many_times = cr.ones((64, 64)), cr.zeros((3,)), cr.zeros((5_000_000,))
    compiled(x, few)
    compiled.program_for(x, many_times)
    before = count.item(), weights.numpy()
    assert interrupted(compiled, x, many_times) < 5
    assert count.item() == before[0]
    assert np.array_equal(weights.numpy(), before[1])
    assert np.isfinite(compiled(x, few).numpy()).all()
    assert count.item() == before[0] + 1
