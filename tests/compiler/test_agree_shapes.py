"""Elementwise functions, reductions, products, convolutions and windows over a table of shapes, layouts and dtypes."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from agree import Case, agree, check

import chainrule as cr
from chainrule.nn import functional as nnf

SIZES = (0, 1, 2, 3, 7, 8, 13, 16, 17, 31, 32, 33, 64, 97, 1023, 1025)
SHAPES = [
    (),
    *((n,) for n in SIZES),
    *itertools.product((0, 1, 3, 17), (0, 1, 2, 16, 33)),
    (2, 3, 5),
    (4, 1, 17),
    (3, 0, 2),
]
SHAPES += [(1, 1, 1), (5, 7, 11), (2, 3, 4, 5), (70, 130), (1, 2000), (2000, 1), (3, 1, 1, 19)]
FLOATS = ("float32", "float64", "float16", "bfloat16")
WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DTYPES = (*FLOATS, *WHOLE, "bool")
_rng = np.random.default_rng(3)


def as_dtype(name: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def array(shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    values = _rng.standard_normal(shape) * (1 if dtype in FLOATS else 20)
    if dtype.startswith("u"):
        values = np.abs(values)
    return np.asarray(values > 0 if dtype == "bool" else values).astype(as_dtype(dtype))


def layouts(x: np.ndarray) -> list[np.ndarray]:
    """The same elements, strided in other ways."""
    found = [x]
    if x.ndim:
        found.append(np.repeat(x, 2, axis=-1)[..., ::2])
        found.append(x[::-1].copy()[::-1])
    if x.ndim > 1:
        found.append(np.asfortranarray(x))
        found.append(np.broadcast_to(x[:1], x.shape))
    return found


def names(shapes: Any) -> list[str]:
    return ["x".join(map(str, s)) or "scalar" for s in shapes]


# --- elementwise, moving ----------------------------------------------------------------------------------


def elementwise(x: Any) -> Any:
    return cr.tanh(x) * 0.5 + x, cr.exp(-cr.abs(x)), cr.where(x > 0, x, x * 0.1)


def moved(x: Any) -> list[Any]:
    found = [cr.flip(x), cr.reshape(x, (-1,)), cr.broadcast_to(x, (2, *x.shape))]
    if x.ndim:
        found += [
            cr.permute_dims(x, range(x.ndim)[::-1]),
            cr.roll(x, 1, axis=-1),
            x[..., ::-2],
            cr.concat([x, x], axis=0),
        ]
        found += [cr.reshape(cr.permute_dims(x, range(x.ndim)[::-1]), (-1,)) + 1, cr.pad(x, [(1, 2)] * x.ndim)]
    return found


def reductions(x: Any) -> list[Any]:
    """Over everything, and over each axis alone and with its neighbour."""
    found = [cr.sum(x), cr.mean(x * x)]
    for axis in range(x.ndim):
        found.append(cr.sum(x, axis=axis))
        found.append(cr.sum(x, axis=axis, keepdims=True) + x)
        if x.shape[axis]:
            found += [cr.max(x, axis=axis), cr.argmin(x, axis=axis)]
        if axis:
            found.append(cr.sum(x, axis=(axis - 1, axis)))
    return found


def rows(x: Any) -> list[Any]:
    if not x.ndim or 0 in x.shape:
        return []
    return [cr.softmax(x, axis=-1), cr.log_softmax(x, axis=0), cr.cumulative_sum(x, axis=-1), cr.sort(x, axis=0)]


@pytest.mark.parametrize("function", [elementwise, moved, reductions, rows])
def test_shapes_agree(function):
    check([Case(f"{function.__name__}{s}", function, [array(s)], gradient=True) for s in SHAPES])


@pytest.mark.parametrize("function", [elementwise, moved, reductions, rows])
def test_layouts_agree(function):
    shapes = [(17,), (5, 33), (3, 4, 17)]
    check([Case(f"{function.__name__}{s}", function, [x], gradient=True) for s in shapes for x in layouts(array(s))])


PAIRS = [
    ((), (3,)), ((1,), (0,)), ((5, 1), (1, 7)), ((3, 1, 17), (4, 1)), ((2, 3, 4), (3, 1)), ((33,), (3, 33)),
    ((8, 1), (8, 65)),
    ((1, 1), (70, 70)), ((4, 1, 5, 1), (1, 6, 1, 7)), ((0, 3), (1, 3)), ((129,), (1,)),
    ((2, 1, 2, 1, 2), (1, 3, 1, 3, 1)),
]  # fmt: skip


def test_broadcasting_agrees():
    def function(x: Any, y: Any) -> Any:
        z = x * y + x
        return z, cr.maximum(x, y), cr.sum(z, axis=0), cr.sum(z, axis=-1), cr.where(x > y, x, y)

    check([Case(f"{a} and {b}", function, [array(a), array(b)], gradient=True) for a, b in PAIRS])


def test_maps_of_row_sums_agree():
    """What is read once a row, with strides of its own along the rows."""

    def function(x: Any, y: Any, z: Any) -> Any:
        low = cr.min(x, axis=-1)
        scaled = cr.where(y > low, y, low * 0.5) + z
        return scaled, cr.exp(low - z), x * scaled[..., None]

    shapes = [
        ((33, 2, 33), (2,), (33, 1)),
        ((4, 5, 6, 7), (5, 1), (4, 1, 1)),
        ((3, 1, 17), (1,), (3, 1)),
        ((2, 3, 1030), (3,), ()),
    ]
    check([Case(f"{s}", function, [array(n, "float64") for n in s], gradient=True) for s in shapes])


# --- products ---------------------------------------------------------------------------------------------

PRODUCTS = list(itertools.product((0, 1, 3, 17), (0, 1, 5, 32), (0, 1, 7, 16, 33)))
PRODUCTS += [(64, 64, 64), (70, 129, 50), (1, 300, 1), (257, 3, 2)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_agree(dtype):
    def function(a: Any, b: Any, c: Any) -> Any:
        return cr.relu(a @ b + c), (a @ b) * 2

    cases = [
        Case("product", function, [array((m, k), dtype), array((k, n), dtype), array((n,), dtype)], gradient=i % 3 == 0)
        for i, (m, k, n) in enumerate(PRODUCTS)
    ]
    check(cases)


def test_products_of_other_layouts_agree():
    def function(a: Any, b: Any) -> Any:
        return a @ b.T, a.T @ a, cr.einsum("ij,kj->ki", a, b), a[::2] @ b[:, ::-1].T, cr.permute_dims(b, (1, 0)).T @ a.T

    check([
        Case("layouts", function, [x, y], gradient=True)
        for x, y in zip(layouts(array((13, 17))), layouts(array((5, 17))), strict=True)
    ])  # fmt: skip


def test_batched_products_agree():
    shapes = [
        ((2, 3, 4), (2, 4, 5)),
        ((3, 1, 4), (2, 1, 4, 6)),
        ((0, 2, 3), (3, 4)),
        ((7, 1, 33), (7, 33, 1)),
        ((2, 2, 9, 17), (17, 3)),
    ]
    check([Case("batched", lambda a, b: a @ b, [array(a), array(b)], gradient=True) for a, b in shapes])


# --- convolutions and windows -----------------------------------------------------------------------------

CONVOLUTIONS = [
    # image, kernel, and how
    ((2, 9, 3), (5, 3, 3), {}), ((1, 1, 1), (1, 1, 1), {}), ((0, 5, 2), (3, 2, 2), {}),
    ((2, 17, 1), (33, 5, 1), {"padding": 2}),
    ((2, 8, 9, 3), (4, 3, 3, 3), {"padding": 1}),
    ((1, 7, 5, 16), (16, 3, 3, 16), {"padding": 1}),
    ((2, 9, 8, 5), (6, 3, 2, 5), {"stride": 2}), ((1, 11, 11, 4), (6, 3, 3, 2), {"groups": 2, "dilation": 2}),
    ((2, 6, 6, 8), (8, 3, 3, 1), {"groups": 8, "padding": 1}), ((3, 5, 5, 17), (31, 1, 1, 17), {}),
    ((1, 12, 7, 3), (2, 5, 4, 3), {"stride": (3, 2), "padding": (2, 1)}),
    ((1, 4, 5, 4, 2), (3, 2, 2, 2, 2), {"padding": 1}), ((2, 5, 5, 0), (3, 2, 2, 0), {}),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_convolutions_agree(dtype):
    def case(image: Any, kernel: Any, how: Any) -> Case:
        args = [array(image, dtype), array(kernel, dtype), array(kernel[:1], dtype)]
        return Case(f"conv {how}", lambda x, w, b: cr.relu(cr.conv(x, w, b, **how)), args, gradient=True)

    check([case(*how) for how in CONVOLUTIONS])


WINDOWS = [
    ((2, 9, 3), 2, {}), ((1, 4, 1), 3, {"padding": 1, "stride": 1}), ((2, 8, 8, 16), 2, {}),
    ((2, 9, 7, 5), 3, {"stride": 2, "padding": 1}), ((1, 7, 6, 33), (3, 2), {"stride": (2, 1)}),
    ((1, 4, 6, 5, 2), 2, {}), ((0, 6, 6, 3), 2, {}), ((1, 3, 3, 1), 3, {}),
    ((2, 7, 7, 4), 3, {"stride": 2, "ceil_mode": True}),
]  # fmt: skip


def test_windows_agree():
    def case(image: Any, window: Any, how: Any) -> Case:
        return Case(
            f"pool {how}",
            lambda x: (cr.max_pool(x, window, **how), cr.avg_pool(x, window, **how)),
            [array(image)],
            True,
        )

    check([case(*how) for how in WINDOWS])


# --- dtypes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1,), (5, 17), (3, 33, 2)], ids=names([(1,), (5, 17), (3, 33, 2)]))
def test_floating_dtypes_agree(shape):
    def function(x: Any, y: Any) -> list[Any]:
        found = [*elementwise(x), *reductions(x), *rows(x)[:2], x + y, x * y - x, cr.exp(x) / (y * y + 1)]
        return [*found, x.astype("float32") * 2, (x * 1.5).astype("int32"), x > y, cr.maximum(x, y)]

    check([Case(d, function, [array(shape, d), array(shape, d)], gradient=True) for d in FLOATS])


def test_products_and_windows_of_16_bit_floats_agree():
    def function(x: Any, w: Any, image: Any, kernel: Any) -> Any:
        product = cr.relu(x @ w.T + w[:, 0])
        return product, x[:, :17] * 2, cr.softmax(product), nnf.conv2d(image, kernel, padding=1), cr.max_pool(image, 2)

    shapes = ((7, 33), (17, 33), (1, 6, 5, 3), (4, 3, 3, 3))
    check([Case(d, function, [array(s, d) for s in shapes], gradient=True) for d in ("float16", "bfloat16")])


@pytest.mark.parametrize("dtype", WHOLE)
def test_whole_numbers_agree(dtype):
    def function(x: Any, y: Any, n: Any) -> list[Any]:
        found = [
            x + y,
            x * y,
            x - y,
            -x,
            x // n,
            x % n,
            x & y,
            x | y,
            x ^ y,
            ~x,
            cr.maximum(x, y),
            cr.abs(x),
            cr.sign(x),
        ]
        found += [x << (n & 3), x >> (n & 3), x == y, x < y, x >= n, cr.where(x > n, x, y), cr.clip(x, 1, 9), x**2]
        found += [cr.sum(x), cr.sum(x, axis=0), cr.max(x, axis=1), cr.min(x), cr.prod(x[:, :3], axis=1), cr.any(x > 3)]
        found += [
            cr.cumulative_sum(x, axis=1),
            cr.sort(x, axis=1),
            cr.argsort(x, axis=1),
            cr.argmax(x, axis=1),
            x[::-1].T,
        ]
        found += [x.astype(d) for d in DTYPES] + [cr.mean(x), x / n, x * 0.5, cr.take(x, n[0] % 5, axis=0), x @ y.T]
        return found

    extreme = array((5, 17), dtype)
    extreme[0, :2] = np.iinfo(dtype).min, np.iinfo(dtype).max
    divisors = np.where(array((5, 17), dtype) == 0, 3, array((5, 17), dtype)).astype(dtype)
    divisors = np.where(divisors == 0, 5, divisors).astype(dtype)
    agree(function, extreme, array((5, 17), dtype), divisors)


def test_truth_values_agree():
    def function(x: Any, y: Any) -> list[Any]:
        found = [
            x & y,
            x | y,
            x ^ y,
            ~x,
            x == y,
            cr.where(x, 1.0, 0.5),
            x.astype("float32") + 1,
            cr.any(x),
            cr.all(x, axis=0),
        ]
        return [
            *found,
            cr.sum(x),
            cr.count_nonzero(x, axis=1),
            x[:, ::-1],
            cr.concat([x, y]),
            cr.argmax(x.astype("int8"), axis=1),
        ]

    agree(function, array((5, 33), "bool"), array((5, 33), "bool"))


SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, np.inf, -np.inf, np.nan, 1e-30, -1e30, 2.5, 3.5, -2.5, 100.0, -1e-3, 65504.0, 1e5]


@pytest.mark.parametrize("dtype", FLOATS)
def test_special_numbers_agree(dtype):
    """Infinities, NaN, signed zeros and ties, alone and in reductions, sorting and casts."""
    with np.errstate(over="ignore"):
        values = np.array(SPECIAL).astype(as_dtype(dtype))
    pairs = np.array(list(itertools.product(values, values)), as_dtype(dtype)).T

    def function(x: Any, y: Any) -> list[Any]:
        found = [x + y, x * y, x / y, cr.maximum(x, y), cr.minimum(x, y), cr.remainder(x, y), x // y, cr.copysign(x, y)]
        found += [
            x < y,
            x == y,
            cr.isnan(x),
            cr.sign(x),
            cr.floor(x),
            cr.round(x),
            cr.trunc(x),
            cr.abs(x),
            -x,
            cr.sqrt(x),
        ]
        found += [cr.clip(x, y, 2.0), cr.where(x > y, x, y), cr.exp(x), cr.tanh(x), cr.sigmoid(x), cr.log(cr.abs(x))]
        found += [x.astype(d) for d in DTYPES] + [
            cr.max(x),
            cr.min(x),
            cr.argmax(x),
            cr.sort(x),
            cr.argsort(y),
            cr.sum(x[:1]),
        ]
        found += [cr.relu(x), cr.softplus(x), cr.cumulative_max(x, axis=0), cr.atan2(x, y)]
        return [*found, 1 / cr.copysign(1.0, x)]  # shows the sign of a zero

    agree(function, pairs[0].copy(), pairs[1].copy())


def test_an_unused_result_that_fails_in_python_fails():
    """Alone, and where it has become a part of a contraction."""

    def alone(x: Any, y: Any) -> Any:
        _ = (x * 2) // y
        return x + 1

    def appended(x: Any, y: Any) -> Any:
        _ = (x.astype("float32") @ x.astype("float32")).astype("int64") // y
        return x + 1

    for function in (alone, appended):
        compiled = cr.compile(function)
        x = np.arange(16).reshape(4, 4)
        assert compiled(x, np.ones(4, int)).shape == (4, 4)
        with pytest.raises(cr.errors.ArgumentError, match="integer division by zero"):
            compiled(x, np.array([1, 2, 0, 3]))
