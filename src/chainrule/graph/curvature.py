"""Products of curvature matrices with vectors: Gauss-Newton and Fisher, which are never made themselves.

For a loss ``L(f(w))`` with Jacobian ``J`` of ``f`` the Hessian is ``J^T H_L J`` and a term with second derivatives of
``f``. Without that term it is the (generalized) Gauss-Newton matrix, positive semidefinite where ``L`` is convex
(Schraudolph, "Fast curvature matrix-vector products for second-order gradient descent", 2002). With the Hessian of the
negative log-likelihood, averaged over the model's own distribution, in the middle it is the Fisher information; the two
agree for exponential families with their natural parameters as outputs (Martens, arXiv 1412.1193).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..autodiff.transforms import hvp, jvp, vjp
from ..errors import ArgumentError, ShapeError
from ..registry import F
from ..tensor.tensor import Tensor


def gnvp(f: Callable[..., Any], loss: Callable[[Any], Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """Return the product of the Gauss-Newton matrix with a vector, ``J^T H_L J v``.

    Args:
        f: the model, a function of ``primals``: parameters, a module, nested containers.
        loss: a scalar function of what ``f`` returns.
        primals: where the Jacobian is taken.
        tangents: for each of them the vector's part, of the same structure and shapes.

    Returns:
        as `grad` by the one argument, or a tuple for several.

    It costs about four gradients: `jvp` of the model, `hvp` of the loss, `vjp` of the model.

    >>> gnvp(lambda w: w**2, lambda y: (y**2).sum(), (tensor([1.0, 3.0]),), (tensor([1.0, 1.0]),))
    tensor([ 8., 72.])
    """
    out, moved = jvp(f, primals, tangents)
    return _back(f, primals, hvp(loss, (out,), (moved,)))


def fvp(
    f: Callable[..., Any],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    distribution: str = "categorical",
    reduction: str = "mean",
) -> Any:
    """Return the product of the Fisher information with a vector, ``J^T F J v``.

    ``F`` is the Fisher information of the distribution by the outputs of the model, so no labels are needed: of a
    categorical one by its logits ``diag(p) - p p^T``, of independent Bernoulli variables by their logits
    ``p (1 - p)``, of a normal one of unit variance by its mean the identity.

    Args:
        f: the model, a function of ``primals``; its result has shape (..., outputs), a distribution for each row.
        primals, tangents: as in `gnvp`.
        distribution: "categorical", "bernoulli" or "normal".
        reduction: "mean" or "sum" over the rows, as in the loss.

    Raises:
        ArgumentError: there is no such distribution or reduction.

    >>> w, v = tensor([[1.0, 0.0], [0.0, 1.0]]), tensor([[1.0, 0.0], [0.0, 0.0]])
    >>> fvp(lambda w: tensor([[1.0, 2.0]]) @ w, (w,), (v,))
    tensor([[ 0.19661193, -0.19661193],
            [ 0.39322385, -0.39322385]])
    """
    if distribution not in _INFORMATION:
        raise ArgumentError("fvp", f"distribution is one of {', '.join(_INFORMATION)}", received=repr(distribution))
    if reduction not in ("mean", "sum"):
        raise ArgumentError("fvp", "reduction is 'mean' or 'sum'", received=repr(reduction))
    out, moved = jvp(f, primals, tangents)
    if not isinstance(out, Tensor) or out.ndim == 0:
        raise ShapeError("fvp", "the model returns one tensor (..., outputs)", received=f"{out!r}")
    ct = _INFORMATION[distribution](out, moved)
    rows = math.prod(out.shape[:-1])
    return _back(f, primals, ct / max(rows, 1) if reduction == "mean" else ct)


def empirical_fvp(
    losses: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], reduction: str = "mean"
) -> Any:
    """Return the product of the empirical Fisher matrix with a vector, ``sum over n of g_n (g_n . v)``.

    ``g_n`` is the gradient of the loss of sample ``n`` with its label from the data; no gradient of a sample is made.

    Args:
        losses: gives the losses of all samples, shape (N,), as a function of ``primals``.
        primals, tangents: as in `gnvp`.
        reduction: "mean" or "sum" over the samples.

    Raises:
        ShapeError: ``losses`` gives something else.

    >>> x, w, v = tensor([[1.0, 0.0], [1.0, 1.0]]), tensor([1.0, 2.0]), tensor([1.0, 0.0])
    >>> empirical_fvp(lambda w: x @ w, (w,), (v,))
    tensor([1. , 0.5])
    """
    if reduction not in ("mean", "sum"):
        raise ArgumentError("empirical_fvp", "reduction is 'mean' or 'sum'", received=repr(reduction))
    out, moved = jvp(losses, primals, tangents)
    if not isinstance(out, Tensor) or out.ndim != 1:
        received = f"shape {out.shape}" if isinstance(out, Tensor) else type(out).__name__
        raise ShapeError(
            "empirical_fvp",
            "needs the loss of each sample, shape (N,)",
            received=received,
            fix="compute the loss with reduction='none', or by cr.vmap",
        )
    return _back(losses, primals, moved / max(out.size, 1) if reduction == "mean" else moved)


def _back(f: Callable[..., Any], primals: Sequence[Any], ct: Any) -> Any:
    grads = vjp(f, *primals)[1](ct)
    return grads[0] if len(primals) == 1 else grads


def _categorical(z: Tensor, v: Tensor) -> Tensor:
    p = F.softmax(z, axis=-1)
    return p * (v - F.sum(p * v, axis=-1, keepdims=True))


def _bernoulli(z: Tensor, v: Tensor) -> Tensor:
    p = F.sigmoid(z)
    return p * (1 - p) * v


_INFORMATION: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "categorical": _categorical,
    "bernoulli": _bernoulli,
    "normal": lambda z, v: v,
}
