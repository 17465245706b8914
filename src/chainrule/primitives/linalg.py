"""Linear algebra on stacks of matrices: the last two axes are the matrix, those in front are the batch.

A matrix that holds NaN or an infinity gives NaN, and only its own results do: so the first operation that made a
non-finite number stays the one to be found. A result that does not exist raises `LinearAlgebraError`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from .. import dtypes
from ..errors import DTypeError, GradientError, LinearAlgebraError, ShapeError
from ..graph.ir import TensorType
from ..registry import F
from .base import Array, check_dtype, primitive, same_type
from .batching import spread, stacked

_BLOCK = 64  # rows that `triangular_solve` hands to LAPACK at a time


# --- shapes and failures ----------------------------------------------------------------------------------


def check_matrix(operation: str, x: Any, square: bool = False) -> None:
    """Raise an error unless ``x`` is a stack of real floating matrices, square ones if ``square``."""
    check_dtype(operation, x.dtype, dtypes.FLOATING)
    if len(x.shape) < 2:
        raise ShapeError(operation, "needs matrices (..., m, n)", received=f"shape {tuple(x.shape)}")
    if square and x.shape[-1] != x.shape[-2]:
        raise ShapeError(operation, "needs square matrices (..., n, n)", received=f"shape {tuple(x.shape)}")


def _square(operation: str) -> Callable[..., TensorType]:
    def types(a: Any, **static: Any) -> TensorType:
        check_matrix(operation, a, square=True)
        return same_type(a)

    return types


def _system(operation: str) -> Callable[..., TensorType]:
    def types(a: Any, b: Any, **static: Any) -> TensorType:
        check_matrix(operation, a, square=True)
        if a.dtype != b.dtype:
            raise DTypeError(operation, "needs inputs of one dtype", received=f"{a.dtype.name} and {b.dtype.name}")
        if len(b.shape) < 2 or tuple(b.shape[:-1]) != tuple(a.shape[:-1]):
            raise ShapeError(
                operation,
                "a matrix (..., n, n) needs a right side (..., n, k)",
                received=f"shapes {tuple(a.shape)} and {tuple(b.shape)}",
            )
        return same_type(b)

    return types


def _attempt(failure: tuple[str, str, str], function: Callable[..., Any], a: Array, *others: Array) -> Any:
    """Apply a NumPy routine to a stack; ``failure`` is the operation, what is wrong with a matrix, and the fix."""
    finite = np.isfinite(a).all(axis=(-2, -1))
    sound = bool(finite.all())
    given = a if sound else np.where(finite[..., None, None], a, np.eye(*a.shape[-2:], dtype=a.dtype))
    try:
        found = function(given, *others)
    except np.linalg.LinAlgError:
        raise _located(failure, function, given, *others) from None
    if sound:
        return found
    several = isinstance(found, tuple)
    results = tuple(found) if several else (found,)
    marked = tuple(np.where(finite.reshape(finite.shape + (1,) * (r.ndim - finite.ndim)), r, np.nan) for r in results)
    return marked if several else marked[0]


def _located(failure: tuple[str, str, str], function: Callable[..., Any], a: Array, *others: Array) -> Exception:
    """The error, with the first matrix of the batch that fails."""
    operation, problem, fix = failure
    for index in np.ndindex(a.shape[:-2]):
        try:
            function(a[index], *(x[index] for x in others))
        except np.linalg.LinAlgError:
            which = f"matrix {index if len(index) > 1 else index[0]} of the batch" if index else "the matrix"
            return LinearAlgebraError(operation, f"{which} {problem}", received=f"shape {a.shape}", fix=fix)
    return LinearAlgebraError(operation, f"a matrix {problem}", received=f"shape {a.shape}", fix=fix)


def _singular(operation: str) -> tuple[str, str, str]:
    fix = "use cr.linalg.pinv or lstsq, or add a small multiple of the identity"
    return operation, "is singular, so it has no inverse", fix


def _not_converged(operation: str) -> tuple[str, str, str]:
    return operation, "is one on which the iteration did not converge", "scale it, or compute in float64"


_INDEFINITE = (
    "cholesky", "is not positive definite", "add a small multiple of the identity, or use cr.linalg.eigh"
)  # fmt: skip


# --- building blocks of the rules -------------------------------------------------------------------------


def _t(x):
    return F.matrix_transpose(x)


def _symmetric(x):
    return (x + _t(x)) / 2


def _column(x):
    return F.expand_dims(x, -1)


def _row(x):
    return F.expand_dims(x, -2)


def rank_tolerance(x: Any) -> float:
    """Singular values of ``x`` (..., m, n) below this times the largest are rounding: ``max(m, n) * epsilon``."""
    return max(x.shape[-2:]) * float(ml_dtypes.finfo(x.dtype).eps)


def _eye(n, x):
    return F.eye(n, dtype=x.dtype)


# --- solving ----------------------------------------------------------------------------------------------


def _substitute(a: Array, b: Array) -> Array:
    """Solve ``a x = b`` for an upper triangle, from the last block of rows to the first."""
    n = a.shape[-1]
    if n <= _BLOCK:
        return np.linalg.solve(a, b)  # no pivot moves in a triangle, so this is substitution
    half = n // 2
    below = _substitute(a[..., half:, half:], b[..., half:, :])
    above = _substitute(a[..., :half, :half], b[..., :half, :] - a[..., :half, half:] @ below)
    return np.concatenate([above, below], axis=-2)


def _system_batching(apply, examples, batched, a, b, **static):
    if batched[0]:
        return apply(a, *spread(examples, batched[1:], (b,)), **static)
    columns = F.moveaxis(b, 0, -1)  # one matrix: the right sides of all examples are columns of one
    found = apply(a, F.reshape(columns, (*b.shape[1:-1], b.shape[-1] * examples.size)), **static)
    return F.moveaxis(F.reshape(found, columns.shape), -1, 0)


def _triangular_vjp(ct, out, a, b, *, lower, transpose, unit_diagonal, operation):
    # Giles (2008), section 2.3.1, with the gradient of the triangle alone.
    how = {"lower": lower, "unit_diagonal": unit_diagonal, "operation": operation}
    b_bar = triangular_solve(a, ct, transpose=not transpose, **how)  # (n, n)^-T @ (n, k) -> (n, k)
    a_bar = -F.matmul(out, _t(b_bar)) if transpose else -F.matmul(b_bar, _t(out))  # (n, k) @ (n, k)^T -> (n, n)
    kept = int(unit_diagonal)
    return F.tril(a_bar, -kept) if lower else F.triu(a_bar, kept), b_bar


@primitive(_system("solve_triangular"), vjp=_triangular_vjp, linear=(1,), batching=_system_batching)
def triangular_solve(a: Array, b: Array, *, lower: bool, transpose: bool, unit_diagonal: bool, operation: str) -> Array:
    """``x`` of ``T x = b`` (``T^T x = b``, if ``transpose``) for the lower or upper triangle ``T`` of ``a``.

    The other triangle is not read, nor the diagonal if ``unit_diagonal``. ``operation`` is the name in errors.
    """
    t = np.tril(a, -int(unit_diagonal)) if lower else np.triu(a, int(unit_diagonal))
    if unit_diagonal:
        t = t + np.eye(t.shape[-1], dtype=t.dtype)
    if transpose:
        t = np.swapaxes(t, -1, -2)
    if lower == transpose:
        return _attempt(_singular(operation), _substitute, t, b)
    # In the reverse order of rows and columns a lower triangle is an upper one.
    return np.flip(_attempt(_singular(operation), _substitute, np.flip(t, (-1, -2)), np.flip(b, -2)), -2)


def _solve_vjp(ct, out, a, b):
    # Giles (2008), section 2.2.3.
    b_bar = solve(_t(a), ct)  # (n, n)^-T @ (n, k) -> (n, k)
    return -F.matmul(b_bar, _t(out)), b_bar  # (n, k) @ (n, k)^T -> (n, n)


@primitive(_system("solve"), vjp=_solve_vjp, linear=(1,), batching=_system_batching)
def solve(a: Array, b: Array) -> Array:
    """``x`` of ``a x = b``, by LU decomposition with partial pivoting."""
    return _attempt(_singular("solve"), np.linalg.solve, a, b)


def _inverse_vjp(ct, out, a, *, operation):
    # Giles (2008), section 2.2.3: (n, n)^T @ (n, n) @ (n, n)^T -> (n, n)
    return -F.matmul(F.matmul(_t(out), ct), _t(out))


@primitive(_square("inv"), vjp=(_inverse_vjp,), batching=stacked)
def inverse(a: Array, *, operation: str) -> Array:
    """The inverse. ``operation`` is the name in errors."""
    return _attempt(_singular(operation), np.linalg.inv, a)


def _pinv_vjp(ct, out, a, *, rtol):
    # Golub, Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems" (1973), eq. 4.12,
    # transposed. With X = A^+ of shape (n, m) it holds among matrices of the same rank.
    m, n = a.shape[-2:]
    gram_left, gram_right = F.matmul(out, _t(out)), F.matmul(_t(out), out)  # (n, n), (m, m)
    ct_t = _t(ct)  # (m, n)
    a_bar = -F.matmul(F.matmul(_t(out), ct), _t(out))  # (n, m)^T @ (n, m) @ (n, m)^T -> (m, n)
    off_range = _eye(m, a) - F.matmul(a, out)  # (m, m)
    a_bar = a_bar + F.matmul(F.matmul(off_range, ct_t), gram_left)  # (m, m) @ (m, n) @ (n, n) -> (m, n)
    off_rows = _eye(n, a) - F.matmul(out, a)  # (n, n)
    return a_bar + F.matmul(F.matmul(gram_right, ct_t), off_rows)  # (m, m) @ (m, n) @ (n, n) -> (m, n)


def _pinv_types(a: Any, *, rtol: float) -> TensorType:
    check_matrix("pinv", a)
    return TensorType((*a.shape[:-2], a.shape[-1], a.shape[-2]), a.dtype)


@primitive(_pinv_types, vjp=(_pinv_vjp,), batching=stacked)
def pinv(a: Array, *, rtol: float) -> Array:
    """Pseudoinverse; singular values up to ``rtol`` times the largest count as zero."""
    if a.size == 0:
        return np.swapaxes(a, -1, -2).copy()
    finite = np.isfinite(a).all(axis=(-2, -1))[..., None, None]
    found = _attempt(_not_converged("pinv"), lambda x: np.linalg.pinv(x, rcond=rtol), np.where(finite, a, 0))
    return np.where(finite, found, np.nan)


# --- determinants -----------------------------------------------------------------------------------------


def _det_types(operation: str, results: int) -> Callable[..., Any]:
    def types(a: Any) -> Any:
        check_matrix(operation, a, square=True)
        scalar = TensorType(tuple(a.shape[:-2]), a.dtype)
        return scalar if results == 1 else (scalar,) * results

    return types


@primitive(
    _det_types("det", 1),
    vjp=(lambda ct, out, a: _column(_column(ct)) * cofactor(a),),  # Jacobi's formula
    batching=stacked,
)
def det(a: Array) -> Array:
    """Determinant."""
    return np.linalg.det(a)


def _without_pairs(s):
    """Products of all elements but two, ``P[i, j] = prod of s[k] over k other than i and j``; the diagonal is 0.

    Built of running products, without a division, so that zeros do no harm.
    """
    n = s.shape[-1]
    one = F.ones_like(s[..., :1])
    before = F.concat([one, F.cumulative_prod(s[..., :-1], axis=-1)], axis=-1)
    after = F.flip(F.concat([one, F.cumulative_prod(F.flip(s[..., 1:], axis=-1), axis=-1)], axis=-1), axis=-1)
    later = F.triu(F.ones((n, n), dtype=dtypes.int64), 1) != 0
    running = F.cumulative_prod(F.where(later, _row(s), 1), axis=-1)  # over i < k <= j
    between = F.concat([F.ones_like(running[..., :1]), running[..., :-1]], axis=-1)
    upper = F.triu(_column(before) * between * _row(after), 1)
    return upper + _t(upper)


def _cofactor_vjp(ct, out, a):
    # With A = U S V^T and M = U^T ct V the derivative of det(A) A^-T, brought to a form without a quotient:
    # in that basis it is  sum over k of P[i, k] M[k, k]  on the diagonal and  -P[i, j] M[j, i]  elsewhere.
    if a.shape[-1] < 2:
        return F.zeros_like(a)
    u, s, vh = svd(a, full_matrices=False)
    m = F.matmul(F.matmul(_t(u), ct), _t(vh))  # (n, n)^T @ (n, n) @ (n, n)^T -> (n, n)
    eye, pairs = _eye(a.shape[-1], a), _without_pairs(s)
    diagonal = F.matmul(pairs, _column(F.sum(eye * m, axis=-1)))  # (n, n) @ (n, 1) -> (n, 1)
    sign = F.sign(det(u.detach()) * det(vh.detach()))
    inner = _column(_column(sign)) * (eye * diagonal - pairs * _t(m))
    return F.matmul(F.matmul(u, inner), vh)  # (n, n) @ (n, n) @ (n, n) -> (n, n)


def _cofactors(a: Array) -> Array:
    u, s, vh = np.linalg.svd(a)
    logs = np.log(s)  # sums of logarithms, so that no partial product overflows
    zero = np.zeros_like(logs[..., :1])
    before = np.concatenate([zero, np.cumsum(logs[..., :-1], axis=-1)], axis=-1)
    after = np.concatenate([zero, np.cumsum(logs[..., :0:-1], axis=-1)], axis=-1)[..., ::-1]
    sign = np.sign(np.linalg.det(u) * np.linalg.det(vh))
    return (u * (sign[..., None] * np.exp(before + after))[..., None, :]) @ vh


@primitive(_square("det"), vjp=(_cofactor_vjp,), batching=stacked)
def cofactor(a: Array) -> Array:
    """Matrix of cofactors, the gradient of the determinant; it exists at singular matrices too."""
    return a.copy() if a.shape[-1] == 0 else _attempt(_not_converged("gradient of det"), _cofactors, a)


def _slogdet_vjp(ct, out, a):
    # Giles (2008), section 2.2.4: the sign is piecewise constant, d log|det A| = tr(A^-1 dA)
    return _column(_column(ct[1])) * _t(inverse(a, operation="gradient of slogdet"))


@primitive(_det_types("slogdet", 2), vjp=(_slogdet_vjp,), batching=stacked)
def slogdet(a: Array) -> tuple[Array, Array]:
    """Sign of the determinant and logarithm of its absolute value; (0, -inf) for a singular matrix."""
    return tuple(np.linalg.slogdet(a))


# --- decompositions ---------------------------------------------------------------------------------------


def _cholesky_vjp(ct, out, a):
    # Murray, arXiv 1602.07527, eq. 9 and 10:  L^-T sym(Phi(L^T ct)) L^-1,  Phi: lower triangle, half the diagonal
    how = {"lower": True, "transpose": True, "unit_diagonal": False, "operation": "gradient of cholesky"}
    product = F.matmul(_t(out), ct)  # (n, n)^T @ (n, n) -> (n, n)
    phi = F.tril(product) - _eye(a.shape[-1], a) * product / 2
    left = triangular_solve(out, _symmetric(phi), **how)  # (n, n)^-T @ (n, n) -> (n, n)
    return _symmetric(triangular_solve(out, _t(left), **how))


@primitive(_square("cholesky"), vjp=(_cholesky_vjp,), batching=stacked)
def cholesky(a: Array) -> Array:
    """Lower triangle ``L`` with ``L L^T = a`` for symmetric ``a``; its gradient is symmetric."""
    return _attempt(_INDEFINITE, np.linalg.cholesky, a)


def _qr_types(a: Any, *, complete: bool) -> tuple[TensorType, TensorType]:
    check_matrix("qr", a)
    *batch, m, n = a.shape
    k = m if complete else min(m, n)
    return TensorType((*batch, m, k), a.dtype), TensorType((*batch, k, n), a.dtype)


def _qr_tall(q_bar, r_bar, q, r):
    # Seeger, Hetzel, Dai, Meissner, Lawrence, arXiv 1710.08717, table 1 (transposed), for m >= n
    m = F.matmul(r, _t(r_bar)) - F.matmul(_t(q_bar), q)  # (n, n) @ (n, n)^T - (m, n)^T @ (m, n) -> (n, n)
    copied = F.tril(m) + _t(F.tril(m, -1))
    total = q_bar + F.matmul(q, copied)  # (m, n) + (m, n) @ (n, n) -> (m, n)
    how = {"lower": False, "transpose": False, "unit_diagonal": False, "operation": "gradient of qr"}
    return _t(triangular_solve(r, _t(total), **how))  # ((n, n)^-1 @ (m, n)^T)^T -> (m, n)


def _qr_vjp(ct, out, a, *, complete):
    (q_bar, r_bar), (q, r) = ct, out
    m, n = a.shape[-2:]
    if complete and m > n:
        raise GradientError(
            "qr",
            "the columns that complete Q are not unique, so they have no gradient",
            received=f"mode='complete' for shape {tuple(a.shape)}",
            fix="use mode='reduced'",
        )
    if m >= n:
        return _qr_tall(q_bar, r_bar, q, r)
    # Roberts, Roberts, arXiv 2009.10071: A = [X, Y], R = [U, V] with X = Q U and V = Q^T Y
    v_bar = r_bar[..., m:]
    q_bar = q_bar + F.matmul(a[..., m:], _t(v_bar))  # (m, n - m) @ (m, n - m)^T -> (m, m)
    x_bar = _qr_tall(q_bar, r_bar[..., :m], q, r[..., :m])
    return F.concat([x_bar, F.matmul(q, v_bar)], axis=-1)  # (m, m) @ (m, n - m) -> (m, n - m)


@primitive(_qr_types, vjp=(_qr_vjp,), batching=stacked)
def qr(a: Array, *, complete: bool) -> tuple[Array, Array]:
    """``Q R = a``, Q of orthonormal columns, R upper triangular."""
    routine = functools.partial(np.linalg.qr, mode="complete" if complete else "reduced")
    return _attempt(_not_converged("qr"), lambda x: tuple(routine(x)), a)


def _inverse_gaps(values, tolerance):
    """``1 / (v[j] - v[i])``, infinite where two values agree to rounding, and 1 on the diagonal."""
    n = values.shape[-1]
    gap = _row(values) - _column(values)
    close = _column(F.max(F.abs(values.detach()), axis=-1, keepdims=True)) * tolerance
    gap = F.where(F.abs(gap.detach()) <= close, F.zeros_like(gap), gap)
    return 1 / (gap + _eye(n, values))


def _eigh_vjp(ct, out, a):
    # Giles (2008), section 3.1, the symmetric part. A zero above a tie stays zero: see `_inverse_gaps`.
    if a.size == 0:
        return F.zeros_like(a)
    (w_bar, v_bar), (w, v) = ct, out
    x = F.matmul(_t(v), v_bar)  # (n, n)^T @ (n, n) -> (n, n)
    inner = F.strong_multiply((x - _t(x)) / 2, _inverse_gaps(w, rank_tolerance(a)))
    inner = inner + _eye(a.shape[-1], a) * _column(w_bar)
    return F.matmul(F.matmul(v, inner), _t(v))  # (n, n) @ (n, n) @ (n, n)^T -> (n, n)


def _eigh_types(a: Any) -> tuple[TensorType, TensorType]:
    check_matrix("eigh", a, square=True)
    return TensorType(tuple(a.shape[:-1]), a.dtype), same_type(a)


@primitive(_eigh_types, vjp=(_eigh_vjp,), batching=stacked)
def eigh(a: Array) -> tuple[Array, Array]:
    """Eigenvalues in ascending order, and eigenvectors as columns, of symmetric ``a``; its gradient is symmetric."""
    return _attempt(_not_converged("eigh"), lambda x: tuple(np.linalg.eigh(x)), a)


def _svd_types(a: Any, *, full_matrices: bool) -> tuple[TensorType, TensorType, TensorType]:
    check_matrix("svd", a)
    *batch, m, n = a.shape
    k = min(m, n)
    rows, columns = (n, m) if full_matrices else (k, k)
    left, right = (*batch, m, columns), (*batch, rows, n)
    return TensorType(left, a.dtype), TensorType((*batch, k), a.dtype), TensorType(right, a.dtype)


def _svd_vjp(ct, out, a, *, full_matrices):
    # Townsend, "Differentiating the singular value decomposition" (2016), the rule of reverse mode.
    # A zero above a tie stays zero: see `_inverse_gaps`.
    (u_bar, s_bar, vh_bar), (u, s, vh) = ct, out
    m, n = a.shape[-2:]
    if full_matrices and m != n:
        raise GradientError(
            "svd",
            "the vectors that complete U or V are not unique, so they have no gradient",
            received=f"full_matrices=True for shape {tuple(a.shape)}",
            fix="use full_matrices=False",
        )
    if a.size == 0:
        return F.zeros_like(a)
    k = min(m, n)
    x, y = F.matmul(_t(u), u_bar), F.matmul(vh, _t(vh_bar))  # (m, k)^T @ (m, k), (k, n) @ (k, n)^T -> (k, k)
    turned = (x - _t(x)) * _row(s) + _column(s) * (y - _t(y))
    squares = _inverse_gaps(s, rank_tolerance(a)) / (_row(s) + _column(s) + _eye(k, a))  # 1 / (s_j^2 - s_i^2)
    inner = F.strong_multiply(turned, squares) + _eye(k, a) * _column(s_bar)
    left = F.matmul(u, inner)  # (m, k) @ (k, k) -> (m, k)
    if m > k:
        left = left + F.strong_multiply(u_bar - F.matmul(u, x), 1 / _row(s))  # the part of ct outside of U's range
    a_bar = F.matmul(left, vh)  # (m, k) @ (k, n) -> (m, n)
    if n > k:
        outside = F.strong_multiply(vh_bar - F.matmul(_t(y), vh), 1 / _column(s))  # (k, n)
        a_bar = a_bar + F.matmul(u, outside)  # (m, k) @ (k, n) -> (m, n)
    return a_bar


@primitive(_svd_types, vjp=(_svd_vjp,), batching=stacked)
def svd(a: Array, *, full_matrices: bool) -> tuple[Array, Array, Array]:
    """``U diag(S) Vh = a``, singular values in descending order."""
    routine = functools.partial(np.linalg.svd, full_matrices=full_matrices)
    return _attempt(_not_converged("svd"), lambda x: tuple(routine(x)), a)
