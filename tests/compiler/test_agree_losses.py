"""Every loss gives the same numbers compiled, with its reductions and options: results and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import both_modes
import numpy as np
import pytest

import chainrule as cr
from chainrule import nn

REDUCTIONS = ("mean", "sum", "none")
RNG = np.random.default_rng(5)


class Case(NamedTuple):
    """A loss, its arguments, and which of them to differentiate by."""

    name: str
    options: dict[str, Any]
    inputs: list[np.ndarray]
    by: tuple[int, ...] = (0, 1)


def real(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def positive(*shape: int) -> np.ndarray:
    return RNG.uniform(0.05, 0.95, shape)


def probabilities(*shape: int) -> np.ndarray:
    weights = RNG.uniform(0.1, 1, shape)
    return weights / weights.sum(-1, keepdims=True)


def labels(classes: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, classes, shape)


def signs(*shape: int) -> np.ndarray:
    return RNG.choice([-1.0, 1.0], shape)


def some_ignored(labels: np.ndarray, number: int) -> np.ndarray:
    return np.where(np.arange(labels.size).reshape(labels.shape) % 3 == 1, number, labels)


def furthest(x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
    return cr.max(cr.abs(x - y), axis=-1)


def each_reduction(name: str, options: dict[str, Any], inputs: list[np.ndarray], by: Any = (0, 1)) -> list[Case]:
    return [Case(name, {**options, "reduction": r}, inputs, by) for r in REDUCTIONS]


# Scores and labels of four sequences, repeated ones among them.
SEQUENCES = [np.log(probabilities(4, 7, 5)), np.array([[1, 1, 2], [3, 2, 4], [1, 2, 3], [4, 4, 4]])]

CASES: dict[str, list[Case]] = {
    "pairs": [
        *each_reduction("MSELoss", {}, [real(4, 7), real(4, 7)]),
        *each_reduction("L1Loss", {}, [real(5), real(5)]),
        *each_reduction("HuberLoss", {"delta": 0.5}, [real(4, 7), real(4, 7)]),
        *each_reduction("SmoothL1Loss", {"beta": 0.5}, [real(3, 2, 5), real(3, 2, 5)]),
        Case("SmoothL1Loss", {"beta": 0.0}, [real(17), real(17)]),
        Case("MSELoss", {}, [real(1, 1), real(1, 1)]),
        Case("MSELoss", {"reduction": "sum"}, [real(0, 3), real(0, 3)]),
        *each_reduction("BCELoss", {}, [positive(4, 5), positive(4, 5)]),
        Case("BCELoss", {"weight": positive(5)}, [positive(4, 5), labels(2, 4, 5).astype(float)]),
        *each_reduction("BCEWithLogitsLoss", {}, [3 * real(4, 5), positive(4, 5)]),
        Case("BCEWithLogitsLoss", {"weight": positive(4, 1), "pos_weight": positive(5)}, [real(4, 5), positive(4, 5)]),
        *each_reduction("KLDivLoss", {}, [np.log(probabilities(4, 6)), probabilities(4, 6)]),
        Case("KLDivLoss", {"reduction": "batchmean", "log_target": True}, [np.log(probabilities(4, 6))] * 2),
        *each_reduction("PoissonNLLLoss", {}, [real(4, 5), labels(6, 4, 5).astype(float)], (0,)),
        Case("PoissonNLLLoss", {"full": True}, [real(4, 5), labels(6, 4, 5).astype(float)], (0,)),
        Case("PoissonNLLLoss", {"log_input": False}, [positive(4, 5), labels(6, 4, 5).astype(float)], (0,)),
        *each_reduction("GaussianNLLLoss", {}, [real(4, 5), real(4, 5), positive(4, 5)], (0, 1, 2)),
        Case("GaussianNLLLoss", {"full": True}, [real(4, 5), real(4, 5), positive(4, 1)], (0, 1, 2)),
        *each_reduction("QuantileLoss", {"quantile": 0.3}, [real(4, 5), real(4, 5)]),
        Case("QuantileLoss", {"quantile": (0.1, 0.5, 0.9)}, [real(4, 5, 3), real(4, 5)]),
        *each_reduction("FocalLoss", {}, [3 * real(4, 5), positive(4, 5)]),
        Case("FocalLoss", {"alpha": 0.25, "gamma": 0.5}, [3 * real(4, 5), labels(2, 4, 5).astype(float)]),
        *each_reduction("DiceLoss", {}, [positive(2, 3, 4, 5), positive(2, 3, 4, 5)]),
    ],
    "labels": [
        *each_reduction("CrossEntropyLoss", {}, [real(6, 10), labels(10, 6)], (0,)),
        *each_reduction("CrossEntropyLoss", {"label_smoothing": 0.1}, [real(6, 10), labels(10, 6)], (0,)),
        *each_reduction("CrossEntropyLoss", {"weight": positive(5)}, [real(3, 4, 5), labels(5, 3, 4)], (0,)),
        *each_reduction("CrossEntropyLoss", {"ignore_index": 2}, [real(7, 5), some_ignored(labels(5, 7), 2)], (0,)),
        Case("CrossEntropyLoss", {}, [real(6, 33), some_ignored(labels(33, 6), -100)], (0,)),
        Case(
            "CrossEntropyLoss",
            {"weight": positive(7), "label_smoothing": 0.2, "ignore_index": 3},
            [real(9, 7), some_ignored(labels(7, 9), 3)],
            (0,),
        ),
        *each_reduction("CrossEntropyLoss", {}, [real(4, 6), probabilities(4, 6)]),
        Case("CrossEntropyLoss", {"weight": positive(6), "label_smoothing": 0.1}, [real(4, 6), probabilities(4, 6)]),
        Case("CrossEntropyLoss", {}, [real(5), labels(5)], (0,)),
        Case("CrossEntropyLoss", {}, [real(1, 2), labels(2, 1)], (0,)),
        *each_reduction("NLLLoss", {}, [np.log(probabilities(5, 4)), labels(4, 5)], (0,)),
        Case("NLLLoss", {"weight": positive(4)}, [np.log(probabilities(5, 4)), labels(4, 5)], (0,)),
        *each_reduction("MultiMarginLoss", {}, [real(5, 4), labels(4, 5)], (0,)),
        Case("MultiMarginLoss", {"p": 2, "margin": 0.5, "weight": positive(4)}, [real(5, 4), labels(4, 5)], (0,)),
        *each_reduction(
            "MultiLabelMarginLoss", {}, [real(3, 5), np.array([[1, 3, -1, 0, 2], [0, 1, 2, 3, 4], [-1, 0, 1, 2, 3]])],
            (0,),
        ),
        *each_reduction("FocalLoss", {}, [real(5, 4), labels(4, 5)], (0,)),
        Case("FocalLoss", {"alpha": positive(4), "gamma": 0.5}, [real(5, 3, 4), labels(4, 5, 3)], (0,)),
        Case("DiceLoss", {"smooth": 0.1}, [probabilities(2, 7, 3), labels(3, 2, 7)], (0,)),
    ],
    "alignments": [
        *each_reduction("CTCLoss", {}, [*SEQUENCES, np.array([7, 5, 6, 1]), np.array([3, 2, 0, 1])], (0,)),
        Case("CTCLoss", {"zero_infinity": True}, [*SEQUENCES, np.array([7, 2, 6, 0]), np.array([3, 3, 1, 1])], (0,)),
        Case("CTCLoss", {"reduction": "none"}, [*SEQUENCES, np.array([7, 2, 6, 0]), np.array([3, 3, 1, 1])], (0,)),
        Case("CTCLoss", {"blank": 4}, [real(2, 6, 5), labels(4, 5), np.array([6, 5]), np.array([2, 3])], (0,)),
        Case("CTCLoss", {}, [real(6, 5), np.array([1, 1]), np.array(6), np.array(2)], (0,)),
    ],
    "margins": [
        *each_reduction("MarginRankingLoss", {"margin": 0.3}, [real(9), real(9), signs(9)]),
        *each_reduction("HingeEmbeddingLoss", {"margin": 0.7}, [real(4, 5), signs(4, 5)], (0,)),
        *each_reduction("SoftMarginLoss", {}, [real(4, 5), signs(4, 5)], (0,)),
        *each_reduction("CosineEmbeddingLoss", {"margin": 0.2}, [real(5, 7), real(5, 7), signs(5)]),
        *each_reduction("TripletMarginLoss", {}, [real(5, 7), real(5, 7), real(5, 7)], (0, 1, 2)),
        Case("TripletMarginLoss", {"swap": True, "margin": 2.0}, [real(5, 7), real(5, 7), real(5, 7)], (0, 1, 2)),
        Case("TripletMarginLoss", {"p": 1.0}, [real(5, 3), real(5, 3), real(5, 3)], (0, 1, 2)),
        *each_reduction(
            "TripletMarginWithDistanceLoss", {"distance_function": furthest, "swap": True},
            [real(5, 7), real(5, 7), real(5, 7)], (0, 1, 2),
        ),
        *each_reduction("HingeLoss", {"margin": 0.7}, [real(4, 5), signs(4, 5)], (0,)),
        *each_reduction("InfoNCELoss", {}, [real(5, 7), real(5, 7)]),
        Case("InfoNCELoss", {"temperature": 2.0, "symmetric": True, "normalized": False}, [real(5, 7), real(5, 7)]),
        *each_reduction("MultiLabelSoftMarginLoss", {}, [real(4, 5), labels(2, 4, 5).astype(float)], (0,)),
        Case("MultiLabelSoftMarginLoss", {"weight": positive(5)}, [real(4, 5), labels(2, 4, 5).astype(float)], (0,)),
    ],
}  # fmt: skip


def as_dtype(x: Any, dtype: str) -> Any:
    return x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


def step_of(cases: list[Case], dtype: str) -> tuple[Callable[..., Any], list[list[np.ndarray]]]:
    """A function that takes the arguments of losses to their results and gradients, and those arguments."""
    losses = [
        getattr(nn, c.name)(**{k: cr.asarray(as_dtype(v, dtype)) if isinstance(v, np.ndarray) else v
                               for k, v in c.options.items()})
        for c in cases
    ]  # fmt: skip

    def total(loss: Any) -> Callable[..., Any]:
        def value(*args: cr.Tensor) -> Any:
            out = loss(*args)
            factors = 0.3 + cr.arange(out.size, dtype=out.dtype).reshape(out.shape)
            return (out * factors).sum(), out

        return value

    def step(given: list[list[Any]]) -> dict[str, Any]:
        results = {}
        for i, (case, loss, args) in enumerate(zip(cases, losses, given, strict=True)):
            (_, out), gradients = cr.value_and_grad(total(loss), case.by, has_aux=True)(*map(cr.asarray, args))
            results[f"{case.name}{i}"] = {"out": out, "gradients": gradients}
        return results

    return step, [[as_dtype(x, dtype) for x in case.inputs] for case in cases]


def test_every_loss_is_in_the_table():
    assert {name for name in nn.__all__ if name.endswith("Loss")} == {c.name for cases in CASES.values() for c in cases}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("group", CASES)
def test_losses_agree(group, dtype):
    step, inputs = step_of(CASES[group], dtype)
    both_modes.same(*both_modes.both(lambda wrap: wrap(step)(inputs)))
