"""Control flow: loops and branches whose bodies are graphs.

The public functions in ``graph.control`` trace the bodies; here is what the results mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import GradientError
from ..graph.ir import Graph, TensorType
from ..registry import F
from .base import Array, primitive

# --- scan -------------------------------------------------------------------------------------------------
# Inputs are constants, the carry, and arrays to take slices of; the body maps (constants, carry, slices) to
# (carry, results, carry at entry and what is dear to compute); the last `keep` are kept for the backward phase.


def _scan_types(*inputs: Any, body: Graph, n_consts: int, n_carry: int, length: int, **_: Any) -> Any:
    carry = tuple(v.type for v in body.outputs[:n_carry])
    stacked = tuple(TensorType((length, *v.shape), v.dtype) for v in body.outputs[n_carry:])
    return carry + stacked


def _scan_vjp(ct: Any, out: Any, *inputs: Any, **static: Any) -> Any:
    return F.scan_vjp(ct, out, inputs, **static)


def _scan_jvp(tangents: Any, out: Any, *inputs: Any, **static: Any) -> Any:
    return F.scan_jvp(tangents, inputs, **static)


def _scan_batching(apply: Any, examples: Any, batched: Any, *inputs: Any, **static: Any) -> Any:
    return F.batched_scan(examples, batched, inputs, **static)


@primitive(_scan_types, vjp=_scan_vjp, partial=True, jvp=_scan_jvp, batching=_scan_batching, lowering="control")
def scan(
    *inputs: Array, body: Graph, n_consts: int, n_carry: int, length: int, reverse: bool, keep: int
) -> tuple[Array, ...]:
    """Run ``body`` once for each slice, handing the carry on; results are stacked."""
    consts, carry = list(inputs[:n_consts]), list(inputs[n_consts : n_consts + n_carry])
    xs = inputs[n_consts + n_carry :]
    stacked = [np.empty((length, *v.shape), v.dtype) for v in body.outputs[n_carry:]]
    for t in range(length - 1, -1, -1) if reverse else range(length):
        results = F.evaluate(body, consts + carry + [x[t] for x in xs])
        carry = results[:n_carry]
        for into, result in zip(stacked, results[n_carry:], strict=True):
            into[t] = result
    return (*carry, *stacked)


# --- cond -------------------------------------------------------------------------------------------------


def _cond_vjp(ct: Any, out: Any, predicate: Any, *operands: Any, branches: Any) -> Any:
    return F.cond_vjp(ct, out, predicate, operands, branches=branches)


def _cond_jvp(tangents: Any, out: Any, predicate: Any, *operands: Any, branches: Any) -> Any:
    return F.cond_jvp(tangents[1:], out, predicate, operands, branches=branches)


def _cond_batching(apply: Any, examples: Any, batched: Any, *inputs: Any, branches: Any) -> Any:
    return F.batched_cond(examples, batched, inputs, branches=branches)


@primitive(
    lambda predicate, *operands, branches: tuple(v.type for v in branches[0].outputs),
    vjp=_cond_vjp,
    jvp=_cond_jvp,
    batching=_cond_batching,
    lowering="control",
)
def cond(predicate: Array, *operands: Array, branches: tuple[Graph, Graph]) -> tuple[Array, ...]:
    """Run the first branch if the predicate holds, else the second."""
    return tuple(F.evaluate(branches[0 if predicate else 1], operands))


# --- while ------------------------------------------------------------------------------------------------


def _while_vjp(ct: Any, out: Any, *inputs: Any, **static: Any) -> Any:
    raise GradientError(
        "while_loop",
        "reverse mode needs to keep every carry, and their number is not known",
        fix="pass max_steps=..., use cr.scan, or forward mode (cr.jvp)",
    )


def _while_jvp(tangents: Any, out: Any, *inputs: Any, **static: Any) -> Any:
    return F.while_jvp(tangents, inputs, **static)


def _while_batching(apply: Any, examples: Any, batched: Any, *inputs: Any, **static: Any) -> Any:
    return F.batched_while(examples, batched, inputs, **static)


@primitive(
    lambda *inputs, body, **_: tuple(v.type for v in body.outputs),
    name="while",
    vjp=_while_vjp,
    jvp=_while_jvp,
    batching=_while_batching,
    lowering="control",
)
def while_(*inputs: Array, test: Graph, body: Graph, n_test: int, n_body: int) -> tuple[Array, ...]:
    """Run ``body`` on the carry as long as ``test`` of it holds.

    Inputs are the constants of the test, the constants of the body, and the carry.
    """
    test_consts, body_consts = list(inputs[:n_test]), list(inputs[n_test : n_test + n_body])
    carry = list(inputs[n_test + n_body :])
    while F.evaluate(test, test_consts + carry)[0]:
        carry = F.evaluate(body, body_consts + carry)
    return tuple(carry)
