"""Attention: weighted means of values, with weights ``softmax(scale Q K^T)``, whose matrix is never there as a whole.

Beside the result there is the logarithm of the sum of each query's exponentials, from which the weights are computed
again backward (Dao et al., arXiv 2205.14135). Gradients are a primitive of their own; their derivatives are products
of whole matrices.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import ShapeError
from ..graph.ir import TensorType
from ..registry import F
from .base import BOOL, Array, check_dtype, primitive, same_type
from .batching import stacked

_SCORES = 2**21
"""The reference computes about so many scores at once."""


def _statistic(x: Any) -> TensorType:
    """The type of one number for each query ``x``."""
    return TensorType(tuple(x.shape[:-1]), dtypes.float32 if x.dtype in dtypes.HALF else x.dtype)


def _check(q: Any, k: Any, v: Any, masks: Any) -> None:
    shape = (*q.shape[:-1], k.shape[-2])
    fit = q.shape[:-2] == k.shape[:-2] == v.shape[:-2] and q.shape[-1] == k.shape[-1] and k.shape[-2] == v.shape[-2]
    if not fit or any(mask.shape != shape for mask in masks):
        raise ShapeError(
            "attention", "needs queries (..., T, D), keys (..., S, D), values (..., S, E) and masks (..., T, S)",
            received=f"shapes {', '.join(str(tuple(x.shape)) for x in (q, k, v, *masks))}",
        )  # fmt: skip
    check_dtype("attention", q.dtype, dtypes.FLOATING)
    for mask in masks:
        check_dtype("attention", mask.dtype, BOOL)


def _types(q: Any, k: Any, v: Any, *masks: Any, causal: bool, scale: float) -> tuple[TensorType, TensorType]:
    _check(q, k, v, masks)
    return TensorType((*q.shape[:-1], v.shape[-1]), q.dtype), _statistic(q)


def _blocks(q: Array, k: Array) -> Iterator[tuple[int, int]]:
    """Blocks of queries: the first of each, and the first of the next."""
    count = max(16, _SCORES // max(1, k.size // max(1, k.shape[-1])))
    for start in range(0, q.shape[-2], count):
        yield start, min(start + count, q.shape[-2])


def _scores(q: Array, k: Array, masks: Any, causal: bool, scale: float, start: int, stop: int) -> Array:
    """The scores of some queries for the keys that one of them may look at, -inf where another may not."""
    end = min(k.shape[-2], stop) if causal else k.shape[-2]
    scores = np.matmul(q[..., start:stop, :] * q.dtype.type(scale), np.swapaxes(k[..., :end, :], -1, -2))
    allowed = [mask[..., start:stop, :end] for mask in masks]
    if causal:
        allowed.append(np.arange(start, stop)[:, None] >= np.arange(end))
    for mask in allowed:
        scores = np.where(mask, scores, q.dtype.type(-np.inf))
    return scores


def _vjp(ct, out, q, k, v, *masks, causal, scale):
    (ct, ct_log), (out, log) = ct, out
    delta = F.sum(F.astype(ct, log.dtype) * F.astype(out, log.dtype), axis=-1) - ct_log
    found = attention_gradients(ct, delta, log, q, k, v, *masks, causal=causal, scale=scale)
    return (*found, *[None] * len(masks))


@primitive(_types, vjp=_vjp, lowering="contraction", batching=stacked)
def attention(q: Array, k: Array, v: Array, *masks: Array, causal: bool, scale: float) -> tuple[Array, Array]:
    """``softmax(scale q k^T) v`` and the logarithms of the sums of ``exp(scale q k^T)``.

    A query looks at the keys where all masks are true, with ``causal`` up to its own number. If there is none its
    result is 0, and so is its logarithm.
    """
    out, log = np.empty((*q.shape[:-1], v.shape[-1]), q.dtype), np.zeros(q.shape[:-1], q.dtype)
    for start, stop in _blocks(q, k):
        scores = _scores(q, k, masks, causal, scale, start, stop)
        top = np.max(scores, axis=-1, keepdims=True, initial=-np.inf)
        top = np.where(top == -np.inf, 0, top).astype(q.dtype)
        weights = np.exp(scores - top)
        total = np.sum(weights, axis=-1, keepdims=True)
        total = np.where(total == 0, 1, total).astype(q.dtype)
        out[..., start:stop, :] = np.matmul(weights, v[..., : scores.shape[-1], :]) / total
        log[..., start:stop] = (top + np.log(total))[..., 0]
    return out, log


def _gradient_types(ct: Any, delta: Any, log: Any, q: Any, k: Any, v: Any, *masks: Any, **how: Any) -> Any:
    _check(q, k, v, masks)
    return same_type(q), same_type(k), same_type(v)


def _gradients_vjp(cts, out, ct, delta, log, q, k, v, *masks, causal, scale):
    # With P = exp(scale q k^T - log) and Z = scale P (ct v^T - delta) the results are Z k, Z^T q and P^T ct.
    a, b, c = cts
    scores = scale * (q @ k.mT)  # (..., T, D) @ (..., S, D)^T -> (..., T, S)
    causes = [F.arange(q.shape[-2])[:, None] >= F.arange(k.shape[-2])] if causal else []
    p = F.exp(scores - log[..., None])
    for mask in (*masks, *causes):
        p = F.where(mask, p, 0.0)
    inner = ct @ v.mT - delta[..., None]
    z = scale * p * inner
    ct_z = a @ k.mT + q @ b.mT
    ct_inner = scale * p * ct_z
    ct_scores = p * (ct @ c.mT + scale * inner * ct_z)
    return (
        p @ c + ct_inner @ v,  # (..., T, S) @ (..., S, E) -> (..., T, E)
        -F.sum(ct_inner, axis=-1),
        -F.sum(ct_scores, axis=-1),
        z @ b + scale * (ct_scores @ k),
        z.mT @ a + scale * (ct_scores.mT @ q),
        ct_inner.mT @ ct,
        *[None] * len(masks),
    )


@primitive(_gradient_types, vjp=_gradients_vjp, linear=(0, 1), lowering="contraction", batching=stacked)
def attention_gradients(
    ct: Array, delta: Array, log: Array, q: Array, k: Array, v: Array, *masks: Array, causal: bool, scale: float
) -> tuple[Array, Array, Array]:
    """The cotangents of q, k and v of `attention`.

    Args:
        ct: cotangent of the result.
        delta: for each query, the sum of ``ct`` times the result, less the cotangent of the logarithm.
        log: the logarithm.
        q, k, v, masks: as `attention` has them.
        causal, scale: likewise.
    """
    dq, dk, dv = np.zeros(q.shape, q.dtype), np.zeros(k.shape, k.dtype), np.zeros(v.shape, v.dtype)
    for start, stop in _blocks(q, k):
        rows = np.s_[..., start:stop, :]
        weights = np.exp(_scores(q, k, masks, causal, scale, start, stop) - log[..., start:stop, None])
        keys = np.s_[..., : weights.shape[-1], :]
        dv[keys] += np.matmul(np.swapaxes(weights, -1, -2), ct[rows])
        slopes = np.matmul(ct[rows], np.swapaxes(v[keys], -1, -2)) - delta[..., start:stop, None]
        slopes *= weights * q.dtype.type(scale)
        dq[rows] = np.matmul(slopes, k[keys])
        dk[keys] += np.matmul(np.swapaxes(slopes, -1, -2), q[rows])
    return dq, dk, dv
