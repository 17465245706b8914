"""For every primitive: inputs and static arguments at which it is smooth, and its gradients are tested.

Floating inputs are in float64. Elementwise primitives of one argument that declare a ``domain`` need no entry here.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import chainrule as cr
from chainrule.primitives.base import REGISTRY

Array = np.ndarray
SHAPES = ((), (1,), (0,), (3,), (2, 3), (2, 0, 3), (5, 13))  # the last is larger than what is checked entry by entry
PAIRS = (
    ((), ()), ((1,), (1,)), ((3,), (3,)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2,)), ((2, 1, 3), (4, 1)),
    ((0, 3), (1, 3)), ((1,), (0,)),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One call of a primitive, or, for those that take graphs and functions, of the function that applies it."""

    inputs: tuple[Array, ...]
    static: dict[str, Any] = field(default_factory=dict)
    function: Callable[..., Any] | None = None


TABLE: dict[str, list[Case]] = {}

WHOLE = "its result is whole numbers or truth values"
NO_GRADIENT = dict.fromkeys(
    [
        "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and", "logical_or",
        "logical_xor", "logical_not", "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift",
        "bitwise_right_shift", "bitwise_invert", "isfinite", "isnan", "isinf", "reduce_argmax", "reduce_argmin",
        "reduce_any", "reduce_all", "argsort",
    ],
    WHOLE,
) | {
    "random_bits": "its argument is the state of a generator, which is whole numbers",
    "stop_gradient": "having none is its purpose",
    "print": "it has no result",
}  # fmt: skip


class Draw:
    """Random inputs, the same in every run."""

    def __init__(self, name: str) -> None:
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))

    def within(self, low: float, high: float, shape: Any) -> Array:
        return np.asarray(self.rng.uniform(low, high, shape))

    def normal(self, *shape: int) -> Array:
        return np.asarray(self.rng.standard_normal(shape))

    def complex(self, *shape: int) -> Array:
        return np.asarray(self.rng.standard_normal(shape) + 1j * self.rng.standard_normal(shape))

    def distinct(self, *shape: int) -> Array:
        """Numbers that differ by 0.1 at least, so that no step changes their order."""
        n = int(np.prod(shape))
        return np.asarray((0.13 * self.rng.permutation(n) - 0.06 * n + 0.03).reshape(shape))

    def truth(self, *shape: int) -> Array:
        return np.asarray(self.rng.random(shape) < 0.5)


def entries(*names: str) -> Any:
    """Put what the decorated generator gives, called with a `Draw` (and the name, if several), into the table."""

    def add(make: Callable[..., Any]) -> None:
        for name in names:
            given = (Draw(name),) if len(names) == 1 else (Draw(name), name)
            TABLE[name] = list(make(*given))

    return add


def unary_cases(name: str) -> list[Case]:
    """Cases over the declared domain."""
    draw, domain = Draw(name), REGISTRY[name].domain
    assert domain is not None
    return [Case((draw.within(*domain, shape),)) for shape in SHAPES]


# --- elementwise ------------------------------------------------------------------------------------------

_RANGES = {
    "add": ((-3, 3), (-3, 3)), "subtract": ((-3, 3), (-3, 3)), "multiply": ((-3, 3), (-3, 3)),
    "strong_multiply": ((0.3, 3), (-3, 3)), "divide": ((-3, 3), (-2, -0.5)), "floor_divide": ((5.3, 5.5), (2.0, 2.1)),
    "remainder": ((5.3, 5.5), (2.0, 2.1)), "power": ((0.5, 2), (-2, 2)), "atan2": ((-2, 2), (-2, -0.4)),
    "complex": ((-3, 3), (-3, 3)), "maximum": ((-1, 1), (1.1, 1.2)), "minimum": ((-1, 1), (1.1, 1.2)),
}  # fmt: skip


@entries(*_RANGES)
def _(draw, name):
    for first, second in PAIRS:
        a, b = draw.within(*_RANGES[name][0], first), draw.within(*_RANGES[name][1], second)
        yield Case((a, b))
        if name in ("maximum", "minimum"):
            yield Case((b, a))
    if name in ("maximum", "minimum"):
        both = draw.distinct(2, 4, 3)
        yield Case((both[0], both[1]))
    if name in ("add", "subtract", "multiply", "divide"):
        yield Case((draw.complex(2, 3), draw.complex(3) + 3))
        yield Case((draw.complex(), draw.complex(2) - 3j))
    if name == "power":
        yield Case((draw.within(0.5, 2, (3,)), np.array([0.0, 1.0, 2.0])))


for _name, _shift in {"negative": 0.0, "abs": 2.0, "square": 0.0}.items():
    _draw = Draw(_name)
    TABLE[_name] = [Case((_draw.complex(2, 3) + _shift,)), Case((_draw.complex(),)), Case((_draw.complex(0),))]


@entries("real", "imag", "_conj")
def _(draw, name):
    for shape in SHAPES:
        yield Case((draw.complex(*shape),))


@entries("polygamma")
def _(draw):
    for order, shape in itertools.product((0, 1, 2), ((), (0,), (3,))):
        yield Case((draw.within(0.6, 4, shape),), {"order": order})
    yield Case((draw.within(-1.8, -1.2, (3,)),), {"order": 0})


@entries("select")
def _(draw):
    for c, (a, b) in itertools.product(((), (3,), (2, 1)), (((3,), (3,)), ((2, 1), (1, 3)), ((), (1,)), ((0, 1), ()))):
        if not (a == (0, 1) and c == (2, 1)):
            yield Case((draw.truth(*c), draw.normal(*a), draw.normal(*b)))


@entries("clip")
def _(draw):
    for shape in ((), (1,), (0,), (3, 4), (3, 4, 6)):
        yield Case((np.asarray(draw.distinct(*shape) * 3), np.array(-0.7), np.array(0.9)))
    yield Case((draw.distinct(3, 4), draw.within(-0.37, -0.36, (4,)), draw.within(0.41, 0.42, (3, 1))))


@entries("cast")
def _(draw):
    for shape, dtype in itertools.product(((), (0,), (2, 3)), ("float64", "complex128")):
        yield Case((draw.normal(*shape),), {"dtype": np.dtype(dtype)})


# --- moving elements --------------------------------------------------------------------------------------


@entries("reshape")
def _(draw):
    for before, after in [((), ()), ((), (1, 1)), ((6,), (2, 3)), ((2, 3), ()), ((0, 3), (0,)), ((4, 18), (8, 9))]:
        if np.prod(before) == np.prod(after):
            yield Case((draw.normal(*before),), {"shape": after})
    yield Case((draw.complex(4),), {"shape": (2, 2)})


@entries("permute")
def _(draw):
    for shape, axes in [((), ()), ((3,), (0,)), ((2, 3), (1, 0)), ((2, 1, 3), (2, 0, 1)), ((0, 2, 3), (1, 2, 0))]:
        yield Case((draw.normal(*shape),), {"axes": axes})


@entries("broadcast_to")
def _(draw):
    for before, after in [
        ((), ()), ((), (2, 3)), ((1,), (3,)), ((3,), (2, 3)), ((2, 1), (2, 3)), ((1, 3), (0, 3)), ((1,), (0,)),
    ]:  # fmt: skip
        yield Case((draw.normal(*before),), {"shape": after})


@entries("slice")
def _(draw):
    for shape, slices in [
        ((), ()), ((5,), ((0, 5, 1),)), ((5,), ((1, 5, 2),)), ((5,), ((2, 2, 1),)), ((0,), ((0, 0, 1),)),
        ((5, 7), ((1, 4, 1), (0, 7, 3))), ((5, 7, 3), ((0, 5, 4), (6, 7, 1), (0, 3, 1))),
        ((5, 2), ((4, 5, 9), (1, 1, 1))),
    ]:  # fmt: skip
        yield Case((draw.normal(*shape),), {"slices": slices})


@entries("pad")
def _(draw):
    for shape, widths in [
        ((), ()), ((3,), ((1, 2, 0),)), ((3,), ((0, 0, 2),)), ((3,), ((-1, 1, 0),)), ((3,), ((2, -1, 1),)),
        ((3,), ((-1, -1, 2),)), ((0,), ((2, 1, 0),)), ((2, 3), ((1, 0, 1), (0, 2, 0))),
        ((1, 4), ((0, 0, 3), (-2, -2, 0))),
    ]:  # fmt: skip
        yield Case((draw.normal(*shape), draw.normal()), {"widths": widths})


@entries("concat")
def _(draw):
    for shapes, axis in [
        (((3,),), 0), (((3,), (2,)), 0), (((0,), (2,), (1,)), 0), (((2, 3), (2, 1), (2, 2)), 1), (((2, 0), (1, 0)), 0),
    ]:  # fmt: skip
        yield Case(tuple(draw.normal(*s) for s in shapes), {"axis": axis})


@entries("flip")
def _(draw):
    for shape, axes in [((), ()), ((3,), (0,)), ((0, 2), (0, 1)), ((2, 3, 2), (0, 2)), ((2, 3), ())]:
        yield Case((draw.normal(*shape),), {"axes": axes})


@entries("roll")
def _(draw):
    for shape, shift, axis in [((3,), 1, 0), ((3,), -4, 0), ((2, 3), 2, 1), ((0, 2), 1, 0), ((1,), 5, 0)]:
        yield Case((draw.normal(*shape),), {"shift": shift, "axis": axis})


@entries("alias")
def _(draw):
    for shape in SHAPES:
        yield Case((draw.normal(*shape),))


# --- reductions, along an axis, sorting -------------------------------------------------------------------

_REDUCED = [
    ((), ()), ((3,), ()), ((3,), (0,)), ((1,), (0,)), ((2, 3), (0,)), ((2, 3), (1,)), ((2, 3), (0, 1)),
    ((2, 3, 2), (0, 2)), ((5, 13), (1,)), ((0, 3), (1,)), ((2, 0, 3), (0,)),
]  # fmt: skip


@entries("reduce_sum", "reduce_prod", "reduce_max", "reduce_min")
def _(draw, name):
    for shape, axes in _REDUCED:
        yield Case(
            (draw.distinct(*shape) if "m" in name[7:] and name != "reduce_sum" else draw.normal(*shape),),
            {"axes": axes},
        )
    if name in ("reduce_sum", "reduce_prod"):
        yield Case((draw.normal(0, 3),), {"axes": (0,)})
        yield Case((draw.normal(0),), {"axes": (0,)})
    if name == "reduce_sum":
        yield Case((draw.complex(2, 3),), {"axes": (1,)})
    if name == "reduce_prod":  # a product stays smooth at zeros
        yield Case((np.array([2.0, 0.0, 3.0]),), {"axes": (0,)})
        yield Case((np.array([[0.0, 1.0, 0.0], [2.0, 0.0, 3.0]]),), {"axes": (0, 1)})


_ALONG = [((3,), 0), ((1,), 0), ((0,), 0), ((2, 3), 0), ((2, 3), 1), ((2, 3, 2), 1), ((2, 0, 3), 0), ((2, 0), 1)]


@entries("cumsum", "cumprod", "cummax")
def _(draw, name):
    for (shape, axis), reverse in itertools.product(_ALONG, (False, True)):
        x = draw.distinct(*shape) if name == "cummax" else draw.normal(*shape)
        yield Case((x,), {"axis": axis, "reverse": reverse})
    for reverse in (False, True):
        if name == "cumsum":
            yield Case((draw.complex(2, 3),), {"axis": 1, "reverse": reverse})
        if name == "cumprod":
            yield Case((np.array([2.0, 0.0, 3.0, 0.0, 1.5]),), {"axis": 0, "reverse": reverse})


@entries("recurrence")
def _(draw):
    for (shape, axis), reverse in itertools.product(_ALONG, (False, True)):
        yield Case((draw.normal(*shape), draw.normal(*shape)), {"axis": axis, "reverse": reverse})


@entries("sort")
def _(draw):
    for (shape, axis), descending in itertools.product(_ALONG, (False, True)):
        yield Case((draw.distinct(*shape),), {"axis": axis, "descending": descending})


@entries("top_k")
def _(draw):
    for shape, k in [((3,), 2), ((3,), 0), ((2, 5), 5), ((2, 5), 1), ((0, 3), 2), ((1,), 1)]:
        yield Case((draw.distinct(*shape),), {"k": k})


# --- places that are values -------------------------------------------------------------------------------

_PLACES = [
    ((5,), ([0, 3, 3, -1],)), ((5,), (2,)), ((4, 3), ([[0, 1], [3, 1]],)), ((4, 3), ([0, 3, 0], [2, -2, 2])),
    ((2, 3, 2), ([1], [2], [0])), ((4, 0), ([1, 2],)), ((3, 2), (np.zeros((0,), int),)),
    ((2, 3, 2), (np.zeros((2, 0), int), np.zeros((2, 0), int))),
]  # fmt: skip


@entries("gather", "scatter_add", "scatter_set")
def _(draw, name):
    for shape, places in _PLACES:
        indices = tuple(np.asarray(p) for p in places)
        result = (*indices[0].shape, *shape[len(indices) :])
        updates = () if name == "gather" else (draw.normal(*result),)
        yield Case((draw.normal(*shape), *updates, *indices))


_WINDOWS = [
    ((), (), ()),
    ((5,), (2,), (3,)),
    ((4, 3), (1, 0), (2, 3)),
    ((4, 3), (-2, 0), (1, 1)),
    ((3, 0), (3, 0), (0, 0)),
]


@entries("dynamic_slice", "dynamic_update_slice")
def _(draw, name):
    for shape, starts, sizes in _WINDOWS:
        where = tuple(np.asarray(s) for s in starts)
        if name == "dynamic_slice":
            yield Case((draw.normal(*shape), *where), {"sizes": sizes})
        else:
            yield Case((draw.normal(*shape), draw.normal(*sizes), *where))


# --- contractions and windows -----------------------------------------------------------------------------

_ATTENTION = [
    # axes in front, queries, keys, features of keys, of values, masks
    ((), 3, 4, 2, 1, 0), ((2, 1), 4, 3, 1, 3, 1), ((2,), 1, 1, 1, 2, 2), ((2,), 0, 3, 2, 2, 0), ((2,), 3, 0, 2, 2, 1),
    ((0,), 3, 2, 2, 2, 0),
]  # fmt: skip


@entries("attention", "attention_gradients")
def _(draw, name):
    for (front, t, s, d, e, n), causal in itertools.product(_ATTENTION, (False, True)):
        given = [draw.normal(*front, *shape) for shape in ((t, d), (s, d), (s, e))]
        if name == "attention_gradients":
            given = [draw.normal(*front, t, e), draw.normal(*front, t), draw.normal(*front, t), *given]
        yield Case((*given, *(draw.truth(*front, t, s) for _ in range(n))), {"causal": causal, "scale": 0.7})


@entries("dot")
def _(draw):
    for a, b, contract, batch in [
        ((), (), ((), ()), ((), ())), ((3,), (3,), ((0,), (0,)), ((), ())), ((2, 3), (3, 4), ((1,), (0,)), ((), ())),
        ((2, 3), (4, 3), ((1,), (1,)), ((), ())), ((2, 2, 3), (2, 3, 4), ((2,), (1,)), ((0,), (0,))),
        ((3, 2, 4), (4, 5, 3), ((0, 2), (2, 0)), ((), ())), ((3, 2, 4, 2), (2, 4, 3), ((2, 0), (1, 2)), ((1,), (0,))),
        ((2, 0), (0, 3), ((1,), (0,)), ((), ())), ((0, 3), (3, 2), ((1,), (0,)), ((), ())),
        ((2, 3), (4,), ((), ()), ((), ())), ((2, 3, 4), (3, 2, 4), ((2,), (2,)), ((0, 1), (1, 0))),
        ((9, 8), (8, 9), ((1,), (0,)), ((), ())),
    ]:  # fmt: skip
        yield Case((draw.normal(*a), draw.normal(*b)), {"contract": contract, "batch": batch})
    yield Case((draw.complex(2, 3), draw.complex(3, 2)), {"contract": ((1,), (0,)), "batch": ((), ())})


_CONVOLUTIONS = [
    # image, kernel, stride, padding, dilation, groups
    ((2, 5, 2), (3, 2, 2), (1,), ((0, 0),), (1,), 1),
    ((1, 7, 4), (4, 3, 2), (2,), ((1, 2),), (2,), 2),
    ((2, 4, 5, 2), (3, 3, 2, 2), (1, 1), ((1, 1), (0, 1)), (1, 1), 1),
    ((1, 6, 5, 2), (2, 2, 3, 1), (2, 3), ((0, 1), (2, 0)), (2, 1), 2),
    ((1, 3, 4, 3, 1), (2, 2, 2, 1, 1), (1, 2, 1), ((0, 0), (1, 1), (0, 0)), (1, 1, 2), 1),
    ((1, 1, 1), (1, 1, 1), (1,), ((0, 0),), (1,), 1),
    ((0, 4, 2), (3, 2, 2), (1,), ((0, 0),), (1,), 1),
    ((2, 4, 0), (3, 2, 0), (1,), ((0, 0),), (1,), 1),
    ((2, 4, 2), (0, 2, 2), (1,), ((0, 0),), (1,), 1),
    ((1, 8, 2), (2, 3, 2), (4,), ((0, 0),), (1,), 1),  # the stride leaves the last elements out
]


@entries("conv", "conv_input", "conv_kernel")
def _(draw, name):
    for image, kernel, stride, padding, dilation, groups in _CONVOLUTIONS:
        how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        x, w = draw.normal(*image), draw.normal(*kernel)
        y = draw.normal(*REGISTRY["conv"].types(x, w, **how).shape)
        if name == "conv":
            yield Case((x, w), how)
        elif name == "conv_input":
            yield Case((y, w), {"shape": image, **how})
        else:
            yield Case((x, y), {"kernel": kernel[1:-1], **how})


_POOLS = [
    # image, window, stride, padding, dilation
    ((2, 5, 2), (2,), (2,), ((0, 0),), (1,)), ((1, 5, 1), (3,), (1,), ((1, 1),), (1,)),
    ((1, 4, 5, 2), (2, 3), (1, 2), ((0, 1), (1, 0)), (1, 1)), ((1, 6, 6, 1), (2, 2), (2, 1), ((0, 0), (0, 0)), (2, 3)),
    ((1, 2, 3, 3, 1), (2, 1, 2), (1, 1, 1), ((0, 0), (0, 0), (1, 0)), (1, 1, 1)),
    ((0, 4, 2), (2,), (2,), ((0, 0),), (1,)),
    ((1, 1, 1), (1,), (1,), ((0, 0),), (1,)), ((1, 7, 1), (2,), (4,), ((0, 0),), (1,)),
]  # fmt: skip


@entries("max_pool", "max_pool_scatter", "max_pool_gather", "sum_pool", "sum_pool_spread")
def _(draw, name):
    for image, window, stride, padding, dilation in _POOLS:
        how = {"window": window, "stride": stride, "padding": padding, "dilation": dilation}
        x = draw.distinct(*image)
        y = draw.normal(*REGISTRY["max_pool"].types(x, **how).shape)
        if name in ("max_pool", "sum_pool"):
            yield Case((x,), how)
        elif name == "max_pool_scatter":
            yield Case((y, x), how)
        elif name == "max_pool_gather":
            yield Case((draw.normal(*image), x), how)
        else:
            yield Case((y,), {"shape": image, **how})


# --- those that take functions ----------------------------------------------------------------------------


@entries("scan")
def _(draw):
    def body(carry, x):
        return carry * x.sin() + x, carry.exp() * x

    def run(reverse, carry, xs, constant):
        return cr.scan(lambda c, x: body(c, x * constant), carry, xs, reverse=reverse)

    for length, reverse in itertools.product((0, 1, 4), (False, True)):
        inputs = (draw.normal(2), draw.normal(length, 2), draw.normal())
        yield Case(inputs, function=lambda *xs, reverse=reverse: run(reverse, *xs))


@entries("cond")
def _(draw):
    for taken in (True, False):
        yield Case(
            (draw.normal(3), draw.within(0.5, 2, (3,))),
            function=lambda x, y, taken=taken: cr.cond(cr.tensor(taken), lambda a: (a * y).sin(), lambda a: a / y, x),
        )


@entries("while")
def _(draw):
    def run(x, y):
        return cr.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1].sin() * y), (cr.tensor(0), x), max_steps=5)[
            1
        ]

    yield Case((draw.normal(2), draw.normal(2)), function=run)


@entries("custom_vjp")
def _(draw):
    square = cr.custom_vjp(cr.square, lambda x: (x * x, x), lambda x, ct: (2 * ct * x,))
    for length in (1, 2):
        yield Case(
            (draw.normal(2),), function=lambda x, n=length: cr.scan(lambda c, _: (square(c), ()), x, length=n)[0]
        )


@entries("callback")
def _(draw):
    # The gradient of a callback is a callback without one, so the second order is not there to be tested.
    def cube(x):
        return cr.callback(lambda a: a**3, x.shape, "float64", x, vjp=lambda ct, a: (3 * ct * a**2,))

    yield Case((draw.normal(3),), function=cube)
