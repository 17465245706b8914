"""Programs drawn by hypothesis: instructions that make new values of old ones, of whatever shapes and dtypes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

import chainrule as cr
from chainrule import Tensor, dtypes

SIZES = (1, 2, 3, 5, 8, 17, 33)
FLOATS = ("float32", "float64", "float16", "bfloat16")
WHOLE = ("int32", "int64", "uint8", "bool")
MAX_SIZE = 4096

Make = Callable[["Run", "Step"], Any]
OPERATIONS: list[Make] = []


class Step(NamedTuple):
    """One instruction: which operation, which operands, and numbers for what else it takes."""

    operation: int
    first: int
    second: int
    number: int


class Input(NamedTuple):
    """An argument: the sizes of its axes by number, its dtype, the seed of its values."""

    axes: tuple[int, ...]
    dtype: str
    strided: bool


class Program(NamedTuple):
    """A function, as data."""

    sizes: tuple[int, ...]
    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    seed: int


def operation(*, times: int = 1) -> Callable[[Make], Make]:
    """Make the decorated function an operation, drawn ``times`` as often as others."""

    def add(make: Make) -> Make:
        OPERATIONS.extend([make] * times)
        return make

    return add


def drawn(seed: int, length: int) -> Program:
    """The random program of a seed; a shorter one of the same seed is its beginning."""
    rng = random.Random(seed)
    sizes = (rng.choice(SIZES), rng.choice(SIZES), rng.choice(SIZES))
    kinds = FLOATS[:1] * 6 + FLOATS[1:2] * 4 + FLOATS[2:] + WHOLE
    inputs = [
        Input(tuple(rng.randrange(3) for _ in range(rng.randrange(4))), rng.choice(kinds), rng.random() < 0.5)
        for _ in range(rng.randrange(1, 5))
    ]
    steps = [Step(*(rng.randrange(n) for n in (len(OPERATIONS), 64, 64, 64))) for _ in range(length)]
    return Program(sizes, tuple(inputs), tuple(steps), seed)


programs = st.builds(drawn, st.integers(0, 2**32 - 1), st.integers(5, 40))


def arguments(program: Program) -> list[np.ndarray]:
    """The arrays that a program is called with."""
    rng = np.random.default_rng(program.seed)
    made = []
    for given in program.inputs:
        shape = tuple(program.sizes[a] for a in given.axes)
        dtype = np.dtype(ml_dtypes.bfloat16 if given.dtype == "bfloat16" else given.dtype)
        scale = rng.uniform(-2, 2, shape) if given.dtype in FLOATS else rng.integers(-5, 6, shape)
        array = np.asarray(scale % 2 if given.dtype == "bool" else np.abs(scale) if given.dtype == "uint8" else scale)
        array = array.astype(dtype)
        if given.strided and array.ndim:  # every second element of the reversed array, transposed
            wide = np.repeat(array[::-1], 2, axis=0)
            array = np.asfortranarray(wide)[::2][::-1]
        made.append(array)
    return made


def function_of(program: Program) -> Callable[..., list[Tensor]]:
    """The function of tensors that a program is."""

    def function(*args: Tensor) -> list[Tensor]:
        run = Run(program, list(args))
        for step in program.steps:
            made = OPERATIONS[step.operation](run, step)
            if made is not None and made.size <= MAX_SIZE:
                run.values.append(made)
        return run.values[-3:]

    return function


class Run:
    """The values of a program as it runs."""

    def __init__(self, program: Program, values: list[Tensor]) -> None:
        self.program = program
        self.values = values

    def any(self, number: int) -> Tensor:
        """A value; newer ones more often than older ones."""
        return self.values[-1 - (number * number // 64) % len(self.values)]

    def floating(self, number: int) -> Tensor:
        x = self.any(number)
        return x if x.dtype in dtypes.FLOATING else x.astype("float32")

    def whole(self, number: int) -> Tensor:
        found = [x for x in self.values if x.dtype in dtypes.INTEGER]
        return found[number % len(found)] if found else (self.floating(number) * 3).astype("int32")

    def like(self, x: Tensor, number: int) -> Tensor:
        """A value that broadcasts with ``x``, in its dtype."""
        found = [y for y in self.values if broadcasts(x.shape, y.shape)]
        return (found or [x])[-1 - number % max(len(found), 1)].astype(x.dtype)

    def axis(self, x: Tensor, number: int) -> int:
        return number % max(x.ndim, 1)


def broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    try:
        return math.prod(np.broadcast_shapes(a, b)) <= MAX_SIZE
    except ValueError:
        return False


# --- elementwise ------------------------------------------------------------------------------------------

UNARY: list[Callable[[Tensor], Tensor]] = [
    cr.sin, cr.cos, cr.tanh, cr.sigmoid, cr.negative, cr.abs, cr.relu, cr.atan, cr.erf, cr.asinh,
    lambda x: cr.exp(cr.clip(x, -4.0, 2.0)), lambda x: cr.log(cr.abs(x) + 0.5), lambda x: cr.sqrt(x * x + 0.25),
    lambda x: cr.square(x) * 0.25, lambda x: cr.rsqrt(cr.abs(x) + 0.5), lambda x: cr.expm1(cr.minimum(x, 1.0)),
    lambda x: cr.log1p(cr.abs(x)), lambda x: cr.reciprocal(2.0 + cr.tanh(x)), lambda x: cr.pow(cr.abs(x) + 0.5, 1.5),
    lambda x: cr.floor(x * 2.5) * 0.5, lambda x: cr.sign(x) * x, lambda x: x**3 * 0.1, lambda x: 1.0 - x,
    lambda x: x / 3.0,
    lambda x: cr.stop_gradient(x) * 0.5 + x, lambda x: cr.lgamma(cr.abs(x) + 0.7),
    lambda x: cr.nn.functional.gelu(x),
    lambda x: cr.nn.functional.softplus(x), lambda x: x,
]  # fmt: skip
BINARY: list[Callable[[Tensor, Tensor], Tensor]] = [
    cr.add, cr.subtract, cr.maximum, cr.minimum, lambda x, y: cr.tanh(x) * y, lambda x, y: x / (y * y + 0.5),
    lambda x, y: cr.where(x > y, x, y * 0.5), lambda x, y: cr.hypot(x, y + 0.1),
    lambda x, y: cr.atan2(x, cr.abs(y) + 0.5),
    lambda x, y: x * 0.5 + y * 0.25, lambda x, y: cr.logaddexp(x, y),
    lambda x, y: x - cr.stop_gradient(y),
    lambda x, y: cr.where(cr.isfinite(x), y, x), lambda x, y: x * (y > 0).astype(x.dtype),
]  # fmt: skip
WHOLES: list[Callable[[Tensor, Tensor], Tensor]] = [
    cr.add, cr.subtract, cr.multiply, cr.maximum, cr.bitwise_and, cr.bitwise_or, cr.bitwise_xor,
    lambda x, y: x // (cr.abs(y) + (y == 0).astype(y.dtype)), lambda x, y: x % cr.where(y == 0, 3, y).astype(x.dtype),
    lambda x, y: cr.bitwise_left_shift(x, cr.abs(y) % 7), lambda x, y: cr.bitwise_right_shift(x, cr.abs(y) % 7),
    lambda x, y: cr.where(x < y, x, y),
]  # fmt: skip


@operation(times=8)
def unary(run: Run, step: Step) -> Any:
    return UNARY[step.number % len(UNARY)](run.floating(step.first))


@operation(times=8)
def binary(run: Run, step: Step) -> Any:
    x = run.floating(step.first)
    return BINARY[step.number % len(BINARY)](x, run.like(x, step.second))


@operation(times=2)
def whole(run: Run, step: Step) -> Any:
    x = run.whole(step.first)
    return WHOLES[step.number % len(WHOLES)](x, run.like(x, step.second))


@operation()
def cast(run: Run, step: Step) -> Any:
    x = run.any(step.first)
    if x.dtype in dtypes.FLOATING:
        return x.astype((*FLOATS, "float32", "float64")[step.number % 6])
    return x.astype(("int16", "int32", "int64", "float32", "uint8", "bool", "float64", "int8")[step.number % 8])


@operation()
def compare(run: Run, step: Step) -> Any:
    x = run.any(step.first)
    y = run.like(x, step.second)
    return (cr.less, cr.greater_equal, cr.not_equal, cr.equal)[step.number % 4](x, y)


@operation()
def scalar(run: Run, step: Step) -> Any:
    return run.floating(step.first) * (step.number / 16 - 1) + step.second / 32


# --- reductions -------------------------------------------------------------------------------------------

REDUCTIONS: list[Callable[..., Tensor]] = [cr.sum, cr.mean, cr.max, cr.min, cr.var, cr.logsumexp]


@operation(times=4)
def reduction(run: Run, step: Step) -> Any:
    x = run.floating(step.first)
    axes = [a for a in range(x.ndim) if step.second >> a & 1] or None
    if axes and len(axes) == 1:
        return REDUCTIONS[step.number % 6](x, axis=axes[0], keepdims=step.number > 31)
    return REDUCTIONS[step.number % 6](x, axis=tuple(axes) if axes else None, keepdims=step.number > 31)


@operation()
def whole_reduction(run: Run, step: Step) -> Any:
    x = run.whole(step.first)
    axis = run.axis(x, step.second) if x.ndim else None
    functions = (
        cr.sum,
        cr.max,
        cr.min,
        cr.prod,
        lambda v, axis: cr.any(v > 0, axis=axis),
        lambda v, axis: cr.all(v > 0, axis=axis),
    )
    return functions[step.number % 6](x, axis=axis)


@operation(times=3)
def row(run: Run, step: Step) -> Any:
    """Several passes over the rows of one axis."""
    x = run.floating(step.first)
    if not x.ndim:
        return None
    axis = run.axis(x, step.second)
    kind = step.number % 5
    if kind == 0:
        return cr.softmax(x, axis=axis)
    if kind == 1:
        return cr.log_softmax(x, axis=axis)
    if kind == 2:
        centred = x - cr.mean(x, axis=axis, keepdims=True)
        return centred * cr.rsqrt(cr.mean(centred * centred, axis=axis, keepdims=True) + 0.1)
    if kind == 3:
        return x / (cr.sum(cr.abs(x), axis=axis, keepdims=True) + 1.0)
    return x - cr.max(x, axis=axis, keepdims=True)


@operation()
def along(run: Run, step: Step) -> Any:
    x = run.floating(step.first)
    if not x.ndim:
        return None
    axis = run.axis(x, step.second)
    return (
        lambda: cr.cumulative_sum(x, axis=axis) * 0.25, lambda: cr.sort(x, axis=axis),
        lambda: cr.cumulative_max(x, axis=axis), lambda: cr.sort(x, axis=axis, descending=True),
        lambda: cr.cumulative_prod(cr.tanh(x), axis=axis),
    )[step.number % 5]()  # fmt: skip


# --- moving -----------------------------------------------------------------------------------------------


@operation(times=3)
def move(run: Run, step: Step) -> Any:
    x = run.any(step.first)
    if not x.ndim:
        return cr.reshape(x, (1,) * (step.number % 3))
    axis, n = run.axis(x, step.second), x.shape[run.axis(x, step.second)]
    kind = step.number % 9
    if kind == 0:
        return cr.permute_dims(x, tuple(np.roll(range(x.ndim), step.second % 3)))
    if kind == 1:
        return cr.reshape(x, (-1,))
    if kind == 2:
        return cr.flip(x, axis=axis)
    if kind == 3:
        return x[(slice(None),) * axis + (slice(step.second % n, None, 1 + step.number % 2),)]
    if kind == 4:
        return cr.roll(x, step.second - 31, axis=axis)
    if kind == 5:
        return cr.expand_dims(x, axis=axis)
    if kind == 6:
        return cr.matrix_transpose(x) if x.ndim > 1 else x[None]
    if kind == 7:
        return cr.reshape(x, (x.shape[0], -1)) if x.size else x
    return cr.broadcast_to(x, (2, *x.shape))


@operation()
def join(run: Run, step: Step) -> Any:
    x = run.floating(step.first)
    same = [y for y in run.values if y.shape == x.shape]
    y = same[step.second % len(same)].astype(x.dtype) if same else x * 2
    if step.number % 2 or not x.ndim:
        return cr.stack([x, y], axis=step.number % (x.ndim + 1))
    return cr.concat([x, y, x], axis=run.axis(x, step.number))


@operation()
def pad(run: Run, step: Step) -> Any:
    x = run.floating(step.first)
    return cr.pad(x, [(step.second % 3, step.number % 2)] * x.ndim) if x.ndim else None


@operation(times=2)
def pick(run: Run, step: Step) -> Any:
    """Elements at places that are values."""
    x = run.floating(step.first)
    if not x.ndim:
        return None
    axis = run.axis(x, step.number)
    n = x.shape[axis]
    places = cr.remainder(cr.reshape(run.whole(step.second), (-1,))[:16].astype("int64"), n)
    kind = step.number % 3
    if kind == 0:
        return cr.take(x, places, axis=axis)
    rows = cr.remainder(places, x.shape[0])
    updates = cr.broadcast_to(cr.mean(x, axis=0), (places.shape[0], *x.shape[1:]))
    return (
        x.at[rows].add(updates)
        if kind == 1
        else cr.take(x, cr.argmax(x, axis=axis, keepdims=False).reshape(-1)[:3] % n, axis=axis)
    )


# --- products and windows ---------------------------------------------------------------------------------


@operation(times=4)
def product(run: Run, step: Step) -> Any:
    x = run.floating(step.first)
    if not x.ndim:
        return None
    x = x if x.ndim > 1 else x[None]
    n = x.shape[-1]
    fits = [y for y in run.values if y.ndim and y.shape[-1] == n]
    y = cr.tanh(fits[step.second % len(fits)].astype(x.dtype)) if fits else cr.tanh(x)
    y = cr.reshape(y, (-1, n))[:24]
    kind = step.number % 6
    if kind == 0:
        return x @ y.T
    if kind == 1:
        return cr.relu(x @ y.T + cr.mean(y, axis=1))
    if kind == 2:
        return cr.nn.functional.linear(x, y) * 0.5
    if kind == 3:
        return cr.einsum("...i,ji->j...", x, y)
    if kind == 4:
        return cr.softmax(x @ x.mT, axis=-1) @ x
    return cr.tanh(x @ y.T) @ y


@operation()
def window(run: Run, step: Step) -> Any:
    x = run.floating(step.first)
    if x.ndim != 3 or not x.size:
        return None
    kind = step.number % 3
    if kind == 0 and x.shape[1] > 1:
        return cr.nn.functional.max_pool1d(x, 2)
    if kind == 1 and x.shape[1] > 1:
        return cr.nn.functional.avg_pool1d(x, 2, stride=1)
    c = x.shape[2]
    kernel = cr.broadcast_to(cr.mean(cr.tanh(x), axis=(0, 1)), (3, 3, c))
    return cr.nn.functional.conv1d(x, kernel, padding=1)


# --- control flow, random numbers -------------------------------------------------------------------------


@operation()
def loop(run: Run, step: Step) -> Any:
    x = run.floating(step.first)
    kind = step.number % 4
    if kind == 0 and x.ndim:
        carry, rows = cr.scan(
            lambda c, r: (cr.tanh(c * 0.5 + r), c * r), cr.mean(x, axis=0), x, reverse=step.second > 31
        )
        return rows if step.number > 31 else carry
    if kind == 1:
        return cr.cond(cr.mean(x) > 0, lambda v: cr.sin(v), lambda v: v * 0.5, x)
    if kind == 2:
        return cr.while_loop(
            lambda c: c[0] < step.second % 5, lambda c: (c[0] + 1, cr.cos(c[1])), (cr.tensor(0), x), max_steps=5
        )[1]
    return cr.checkpoint(lambda v: cr.tanh(cr.sin(v) * 2.0))(x)


@operation()
def draw(run: Run, step: Step) -> Any:
    x = run.floating(step.first)
    generator = cr.Generator(step.second)
    if step.number % 2:
        return cr.nn.functional.dropout(x, 0.25, generator=generator)
    return x + cr.uniform(x.shape, dtype="float32", generator=generator).astype(x.dtype)
