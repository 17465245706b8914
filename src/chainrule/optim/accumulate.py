"""The gradient of a large batch, a small batch at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import dtypes, scan
from ..autodiff import no_grad, tree_map, value_and_grad
from ..errors import ArgumentError, ShapeError
from ..functions import asarray, astype, reshape, sum, zeros
from ..tensor import Tensor


def accumulate_gradients(loss_fn: Callable[..., Tensor], model: Any, *batch: Any, micro_batches: int) -> Tensor:
    """Add the gradient of a mean loss over a batch to ``.grad``, holding the activations of a part of it at a time.

    The batch of ``n`` samples is cut into parts of ``k = ceil(n / micro_batches)``, the last of which may be shorter.
    A `chainrule.scan` goes over the full parts, so a compiled step has one piece of code and one part's activations.
    Parts count by their samples: for a loss that is a mean over samples, the result is that of the whole batch. What
    looks at other samples, such as batch norm, sees those of its part, and its running statistics move once a part.

    Args:
        loss_fn: ``loss_fn(model, *batch)`` returns the mean loss of (a part of) the batch, a scalar.
        model: a module; its trainable parameters get the gradients.
        *batch: tensors or nested containers of them, whose first axes are the samples.
        micro_batches: the number of parts.

    Returns:
        the loss of the whole batch. It is not recorded; the gradients, which are dense, are in ``.grad``.

    Raises:
        ArgumentError: ``micro_batches`` is not in 1 to n.
        ShapeError: the first axes differ.

    >>> model = nn.Linear(3, 1)
    >>> x, y = cr.normal((10, 3)), cr.normal((10, 1))
    >>> loss_fn = lambda model, x, y: nn.functional.mse_loss(model(x), y)
    >>> loss = optim.accumulate_gradients(loss_fn, model, x, y, micro_batches=4)
    >>> whole = cr.grad(loss_fn)(model, x, y)
    >>> bool(abs(model.weight.grad - whole["weight"]).max() < 1e-6)
    True
    """
    parts = tree_map(asarray, batch)
    n = _samples(parts)
    if not isinstance(micro_batches, int) or not 1 <= micro_batches <= n:
        raise ArgumentError(
            "accumulate_gradients", f"micro_batches is in 1 to {n}, the samples", received=repr(micro_batches)
        )
    k = -(-n // micro_batches)
    full = n // k

    def add(total: Any, part: Any, size: int) -> tuple[Any, Tensor]:
        loss, found = value_and_grad(loss_fn)(model, *part)
        return tree_map(lambda t, g: t + astype(g, t.dtype) * (size / n), total, found), loss * (size / n)

    with no_grad():
        zero = tree_map(lambda p: zeros(p.shape, dtype=_wide(p.dtype)), model.parameter_tree())
        stacked = tree_map(lambda x: reshape(x[: full * k], (full, k, *x.shape[1:])), parts)
        total, losses = scan(lambda total, part: add(total, part, k), zero, stacked)
        loss = sum(losses)
        if n % k:
            total, last = add(total, tree_map(lambda x: x[full * k :], parts), n % k)
            loss = loss + last
        for name, parameter in model.named_parameters():
            if parameter.trainable:
                g = astype(total[name], parameter.dtype)
                parameter.grad = g if parameter.grad is None else parameter.grad + g
    return loss


def _samples(batch: Any) -> int:
    """The common length of the first axes."""
    shapes: list[tuple[int, ...]] = []
    tree_map(lambda x: shapes.append(x.shape), batch)
    if not shapes or not all(shapes) or len({shape[0] for shape in shapes}) > 1:
        raise ShapeError(
            "accumulate_gradients", "the first axes of a batch are its samples, of one number", received=str(shapes)
        )
    return shapes[0][0]


def _wide(dtype: Any) -> Any:
    return dtypes.float32 if dtype in dtypes.HALF else dtype
