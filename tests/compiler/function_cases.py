"""Calls of all public array functions. Arrays of floats are in float64 here; other dtypes are made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from agree import Case

import chainrule as cr
from chainrule import fft, linalg

CASES: dict[str, list[Case]] = {}

VALUES = {
    "allclose": "gives a bool of Python",
    "nonzero": "the shape of its result depends on values",
    "manual_seed": "changes a generator",
    "Generator": "is a class",
    "on_manual_seed": "takes a hook",
    "dtypes": "is a module",
}
"""Public names without a case, and why."""

_rng = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return np.asarray(_rng.standard_normal(shape))


def between(low: float, high: float, *shape: int) -> np.ndarray:
    return np.asarray(_rng.uniform(low, high, shape))


def regular(n: int, *batch: int) -> np.ndarray:
    """Matrices far from singular."""
    return 0.3 * normal(*batch, n, n) + np.diag(3 + np.arange(float(n)))


def case(name: str, function: Callable[..., Any], *args: Any, gradient: bool = True) -> None:
    CASES.setdefault(name, []).append(Case(name, function, args, gradient))


def each(names: str, *args: Any, gradient: bool = True) -> None:
    """A case of each of several functions with these arguments."""
    for name in names.split():
        case(name, getattr(cr, name), *args, gradient=gradient)


# --- elementwise ------------------------------------------------------------------------------------------

X, Y, POSITIVE = normal(3, 7), normal(7) + 0.1, between(0.3, 3, 3, 7)
INTEGERS = _rng.integers(-9, 9, (3, 7))
BITS = _rng.integers(0, 30, (3, 7))

each(
    "positive relu relu6 leaky_relu elu celu selu silu gelu softplus log_sigmoid mish softsign hardsigmoid hardswish", X
)
each("hardtanh log_softmax softmax", X * 2)
each("sin cos tan sinh cosh tanh asinh atan sigmoid erf erfc exp expm1 square negative abs sign", X)
each("floor ceil round trunc", X * 3)
each("asin acos atanh erfinv", between(-0.8, 0.8, 3, 7))
each("log log2 log10 log1p sqrt rsqrt reciprocal lgamma digamma", POSITIVE)
each("acosh", POSITIVE + 1)
each("isfinite isnan isinf", np.array([1.0, np.nan, np.inf, -np.inf, 0.0]))
each("add subtract multiply maximum minimum hypot copysign logaddexp atan2", X, Y)
each("divide floor_divide remainder", X, np.abs(Y) + 0.4)
each("floor_divide remainder", INTEGERS, np.where(INTEGERS[0] == 0, 2, INTEGERS[0]))
each("equal not_equal less less_equal greater greater_equal", X, X[::-1].copy())
each("equal less isclose", INTEGERS, INTEGERS[::-1].copy())
each("logical_and logical_or logical_xor", X > 0, Y > 0)
each("bitwise_and bitwise_or bitwise_xor", BITS, BITS[::-1].copy())
each("bitwise_left_shift bitwise_right_shift", BITS, BITS[0] % 5)
each("logical_not", X > 0)
each("bitwise_invert", BITS)
each("pow", POSITIVE, Y)
case("pow", lambda x: (x**2, x**3, x**0.5, x**-1, 2.0**x, x**0), POSITIVE)
case("polygamma", lambda x: (cr.polygamma(0, x), cr.polygamma(1, x), cr.polygamma(2, x)), POSITIVE)
case("isclose", cr.isclose, X, X + 1e-7)
case("xlogy", cr.xlogy, np.where(X > 1, 0.0, X), POSITIVE)
case("gelu", lambda x: cr.gelu(x, approximate="tanh"), X)
case("softmax", lambda x: (cr.softmax(x, axis=0), cr.log_softmax(x, axis=0)), X)
for _order in (1, 2, 3, np.inf, -np.inf, 0):
    case("norm", lambda x, p=_order: (cr.norm(x, p, axis=1), cr.norm(x, p, axis=0, keepdims=True)), X)
case("norm", lambda x: cr.norm(x), X)
case("complex", lambda x, y: cr.abs(cr.complex(x, y)), X, Y + 2)
case("real", lambda x: (cr.real(x), cr.imag(x), cr.conj(x), cr.abs(x)), X + 1j * Y)
case("imag", lambda x: cr.imag(x * x), X + 1j * Y)
case("conj", lambda x: cr.real(cr.conj(x) * x), X + 1j * Y)

# --- reductions -------------------------------------------------------------------------------------------

CUBE = normal(4, 5, 6)
for _name in ("sum", "mean", "prod", "max", "min", "var", "std", "logsumexp"):
    _function = getattr(cr, _name)
    case(
        _name,
        lambda x, f=_function: [f(x), f(x, axis=0), f(x, axis=-1), f(x, axis=(0, 2)), f(x, axis=1, keepdims=True)],
        CUBE,
    )
for _name in ("any", "all", "count_nonzero"):
    _function = getattr(cr, _name)
    case(_name, lambda x, f=_function: [f(x > 1), f(x < 1.5, axis=0), f(x > 0, axis=(1, 2), keepdims=True)], CUBE)
for _name in ("argmax", "argmin"):
    _function = getattr(cr, _name)
    case(_name, lambda x, f=_function: [f(x), f(x, axis=0), f(x, axis=-1, keepdims=True)], CUBE)
case("var", lambda x: (cr.var(x, axis=1, correction=1), cr.std(x, axis=0, correction=1)), CUBE)
case("sum", lambda x: (cr.sum(x), cr.prod(x, axis=0), cr.max(x, axis=1), cr.mean(x)), INTEGERS)
case("median", lambda x: (cr.median(x), cr.median(x, axis=0), cr.median(x, axis=1, keepdims=True)), CUBE)
for _name in ("cumulative_sum", "cumulative_prod", "cumulative_max"):
    _function = getattr(cr, _name)
    case(_name, lambda x, f=_function: [f(x, axis=a) for a in (0, 1, 2)], CUBE)
case("cumulative_sum", lambda x: cr.cumulative_sum(x, axis=1, include_initial=True), CUBE)
case("diff", lambda x: (cr.diff(x), cr.diff(x, axis=0)), CUBE)
case("sort", lambda x: (cr.sort(x), cr.sort(x, axis=0, descending=True)), CUBE)
case("argsort", lambda x: (cr.argsort(x), cr.argsort(x, axis=1, descending=True)), CUBE)
case("top_k", lambda x: (cr.top_k(x, 3), cr.top_k(x, 2, axis=0)), CUBE)

# --- moving, choosing -------------------------------------------------------------------------------------

case("reshape", lambda x: (cr.reshape(x, (20, 6)), cr.reshape(x.mT, (-1,)) * 2), CUBE)
case("flatten", lambda x: (cr.flatten(x), cr.flatten(x, 1)), CUBE)
case("permute_dims", lambda x: [cr.permute_dims(x, p) for p in ((2, 0, 1), (1, 0, 2), (0, 2, 1))], CUBE)
case("swapaxes", lambda x: cr.swapaxes(x, 0, 2), CUBE)
case("matrix_transpose", cr.matrix_transpose, CUBE)
case("moveaxis", lambda x: cr.moveaxis(x, 0, -1), CUBE)
case("broadcast_to", lambda x: cr.broadcast_to(x, (2, 3, 7)), X)
case("broadcast_arrays", lambda x, y: cr.broadcast_arrays(x, y), X, Y)
case("expand_dims", lambda x: (cr.expand_dims(x), cr.expand_dims(x, (0, -1))), X)
case("squeeze", lambda x: cr.squeeze(x[:1], 0), X)
case(
    "concat", lambda x, y: (cr.concat([x, y]), cr.concat([x, x], axis=1), cr.concat([x, y], axis=None)), X, normal(2, 7)
)
case("stack", lambda x, y: (cr.stack([x, y]), cr.stack([x, y], axis=-1)), X, normal(3, 7))
case("unstack", lambda x: cr.unstack(x, axis=1), X)
case("split", lambda x: (cr.split(x, [2, 5], axis=1), cr.split(x, 3)), X)
case("flip", lambda x: (cr.flip(x), cr.flip(x, axis=1)), X)
case("roll", lambda x: (cr.roll(x, 2), cr.roll(x, (1, -3), (0, 1))), X)
for _mode in ("constant", "reflect", "replicate", "circular"):
    case("pad", lambda x, m=_mode: cr.pad(x, [(1, 2), (2, 0)], mode=m), X)
case("tile", lambda x: cr.tile(x, (2, 3)), X)
case("repeat", lambda x: (cr.repeat(x, 2), cr.repeat(x, 3, axis=1)), X)
case("where", lambda x, y: (cr.where(x > 0, x, y), cr.where(x > 0, 1.0, y), cr.where(x > 0, cr.log(x), 0.0)), X, Y)
case("clip", lambda x: (cr.clip(x, -0.5, 0.5), cr.clip(x, None, 0.1), cr.clip(x, 0.2)), X)
case(
    "take",
    lambda x, i: (cr.take(x, i, axis=0), cr.take(x, i, axis=1), cr.take(x, i)),
    CUBE,
    np.array([[0, 3], [-1, 1]]),
)
case("take_along_axis", lambda x, i: cr.take_along_axis(x, i, axis=1), X, INTEGERS[:, :4] % 7)
case("gather", lambda x, i, j: cr.gather(x, i, j), X, np.array([0, 2, -1]), np.array([6, 0, 3]))
case("scatter_add", lambda x, y, i: cr.scatter_add(x, y, i), X, normal(4, 7), np.array([0, 2, 2, -1]))
case("scatter_set", lambda x, y, i: cr.scatter_set(x, y, i), X, normal(2, 7), np.array([0, 2]))
case("dynamic_slice", lambda x, i: cr.dynamic_slice(x, (i, 1), (2, 4)), X, np.array(1))
case("dynamic_update_slice", lambda x, y, i: cr.dynamic_update_slice(x, y, (i, 2)), X, normal(2, 3), np.array(1))
case("getitem", lambda x: (x[1], x[..., 2], x[1:3, ::2], x[None, :, -1], x[::-1, 1:-1:3]), CUBE)
case("getitem", lambda x, i: (x[i], x[:, i], x[i, :, i], x[i, 1]), CUBE, np.array([0, 3, 1]))
case("at", lambda x: (x.at[1].set(2.0), x.at[:, 2].add(1.0), x.at[..., ::2].set(x[..., ::2] * 2)), CUBE)
case("at", lambda x, i: (x.at[i].add(x[:3] * 2), x.at[:, i].set(0.5)), CUBE, np.array([0, 3, 0]))

# --- products ---------------------------------------------------------------------------------------------

A, B = normal(5, 4), normal(4, 6)
case("matmul", lambda a, b: (a @ b, a.T @ a, b @ b.T, a @ b[:, 0], a[0] @ b, a[0] @ a[1]), A, B)
case("matmul", lambda a, b: a @ b, normal(3, 1, 5, 4), normal(2, 4, 6))
case("dot", lambda a: cr.dot(a[0], a[1]), A)
case("tensordot", lambda a, b: (cr.tensordot(a, b, 1), cr.tensordot(a, b.T, [[1], [1]])), A, B)
case("outer", lambda a, b: cr.outer(a[0], b[0]), A, B)
case("vecdot", lambda a: (cr.vecdot(a, a * 2), cr.vecdot(a, a, axis=0)), A)
for _formula, _shapes in {
    "ij,jk->ik": ((5, 4), (4, 6)), "ij->ji": ((5, 4),), "ii->i": ((4, 4),), "ij->": ((5, 4),),
    "bij,bjk->bik": ((3, 5, 4), (3, 4, 2)), "ij,kj,k->i": ((5, 4), (3, 4), (3,)), "...i,ji->...j": ((2, 3, 4), (5, 4)),
    "i,j->ij": ((3,), (4,)), "bhqd,bhkd->bhqk": ((2, 2, 3, 4),) * 2, "ijk,ijk->k": ((2, 3, 4),) * 2,
}.items():  # fmt: skip
    case("einsum", lambda *xs, f=_formula: cr.einsum(f, *xs), *(normal(*s) for s in _shapes))
IMAGE = normal(2, 6, 7, 4)
case("conv", lambda x, w, b: cr.conv(x, w, b, padding=1), IMAGE, normal(6, 3, 3, 4), normal(6))
case("conv", lambda x, w: cr.conv(x, w, stride=2, dilation=2, groups=2), IMAGE, normal(6, 2, 3, 2))
case("conv", lambda x, w: cr.conv(x, w, padding="same"), normal(2, 9, 3), normal(5, 4, 3))
case("conv_transpose", lambda x, w, b: cr.conv_transpose(x, w, b, stride=2), IMAGE, normal(4, 3, 3, 5), normal(5))
case(
    "conv_transpose",
    lambda x, w: cr.conv_transpose(x, w, stride=2, padding=1, output_padding=1),
    normal(1, 5, 4),
    normal(4, 3, 2),
)
case("max_pool", lambda x: (cr.max_pool(x, 2), cr.max_pool(x, 3, 2, padding=1, ceil_mode=True)), IMAGE)
case("max_pool", lambda x: cr.max_pool(x, 2, 1, dilation=2), IMAGE)
case("avg_pool", lambda x: (cr.avg_pool(x, 2), cr.avg_pool(x, 3, 2, padding=1, count_include_pad=False)), IMAGE)
case("avg_pool", lambda x: cr.avg_pool(x, (2, 3), (1, 2), ceil_mode=True), IMAGE)

# --- making arrays ----------------------------------------------------------------------------------------

case("full", lambda x: (cr.full((2, 3), 1.5) * x[0, 0], cr.full_like(x, 2.0), cr.zeros_like(x), cr.ones_like(x)), X)
case(
    "zeros",
    lambda: (cr.zeros((2,)), cr.ones((2, 0)), cr.eye(3, 4, 1), cr.linspace(0.0, 1.0, 5), cr.arange(2.0, 9.0, 3.0)),
)
for _name in ["full_like", "zeros_like", "ones_like", "ones", "eye", "arange", "linspace", "empty"]:
    CASES[_name] = CASES["full" if "like" in _name else "zeros"]
case("meshgrid", lambda x, y: cr.meshgrid(x[0], y), X, Y)
case("one_hot", lambda i: cr.one_hot(i, 10), BITS % 10)
case("tril", lambda x: (cr.tril(x), cr.tril(x, -1)), CUBE)
case("triu", lambda x: (cr.triu(x), cr.triu(x, 2)), CUBE)
case("astype", lambda x: (x.astype("float32"), x.astype("int32"), x.astype("bool"), x.astype("float16")), X * 4)

# --- linear algebra, Fourier transforms -------------------------------------------------------------------

M, RIGHT = regular(4, 2), normal(2, 4, 3)
SYMMETRIC = M @ np.swapaxes(M, -1, -2)
case("cholesky", lambda a: (linalg.cholesky(a), linalg.cholesky(a, upper=True)), SYMMETRIC)
for _name in ("cond", "det", "inv", "pinv", "svdvals", "slogdet", "matrix_norm", "diagonal", "trace"):
    case(_name, getattr(linalg, _name), M)
case("matrix_rank", linalg.matrix_rank, M, gradient=False)
case("cond", lambda a: [linalg.cond(a, p) for p in (1, np.inf, "fro")], M)
case("matrix_norm", lambda a: [linalg.matrix_norm(a, ord=o) for o in ("nuc", 1, 2, np.inf)], M)
case("vector_norm", lambda a: (linalg.vector_norm(a, axis=-1), linalg.vector_norm(a, ord=1)), M)
case("diagonal", lambda a: (linalg.diagonal(a, offset=1), linalg.trace(a, offset=-1)), M)
case("matrix_power", lambda a: [linalg.matrix_power(a / 4, n) for n in (0, 1, 3, -2)], M)
case("cross", linalg.cross, normal(4, 3), normal(4, 3))
case("multi_dot", lambda a, b: linalg.multi_dot([a, b, b.T]), A, B)
case("solve", lambda a, b: (linalg.solve(a, b), linalg.solve(a[0], b[0, :, 0])), M, RIGHT)
case("solve_triangular", lambda a, b: linalg.solve_triangular(a, b), M, RIGHT)
case("lstsq", lambda a, b: linalg.lstsq(a, b), normal(6, 3), normal(6, 2))
case("qr", lambda a: linalg.qr(a).R, M)
case("eigvalsh", lambda a: linalg.eigvalsh(a + a.mT), M)
case("eigh", lambda a: linalg.eigh(a + a.mT).eigenvalues, M)
case("svd", lambda a: linalg.svd(a).S, M)
for _name in ("matmul", "matrix_transpose", "outer", "tensordot", "vecdot"):
    CASES[f"linalg.{_name}"] = CASES[_name]


def parts(x: Any) -> list[Any]:
    return [cr.real(x), cr.imag(x)]


SIGNAL = normal(3, 8)
for _name in ("fft", "ifft", "rfft", "ihfft"):
    _function = getattr(fft, _name)
    case(f"fft.{_name}", lambda x, f=_function: parts(f(x)) + parts(f(x, n=5, axis=0, norm="ortho")), SIGNAL)
for _name in ("irfft", "hfft"):
    _function = getattr(fft, _name)
    case(
        f"fft.{_name}",
        lambda x, y, f=_function: (f(cr.complex(x, y)), f(cr.complex(x, y), n=7)),
        SIGNAL,
        normal(3, 8),
    )
for _name in ("fft2", "ifft2", "rfft2", "fftn", "ifftn", "rfftn"):
    _function = getattr(fft, _name)
    case(f"fft.{_name}", lambda x, f=_function: parts(f(x)), SIGNAL)
for _name in ("irfft2", "irfftn"):
    _function = getattr(fft, _name)
    case(f"fft.{_name}", lambda x, y, f=_function: f(cr.complex(x, y)), SIGNAL, normal(3, 8))
case(
    "fft.fftshift",
    lambda x: (fft.fftshift(x), fft.ifftshift(x), fft.fftfreq(8) * x, fft.rfftfreq(8) * x[:, :5]),
    SIGNAL,
)
for _name in ("ifftshift", "fftfreq", "rfftfreq"):
    CASES[f"fft.{_name}"] = CASES["fft.fftshift"]
