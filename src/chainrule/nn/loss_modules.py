"""Losses as modules, with PyTorch's names; the mathematics is in `chainrule.nn.functional`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import functions as F
from ..errors import ArgumentError
from ..tensor import Cell, Tensor
from . import ctc, losses, margin_losses, rare_class_losses
from .module import Module


class Loss(Module):
    """A loss as a module: what it compares is given in the call, its options at construction.

    Args:
        *args, **kwargs: the options of the function, in its order. Weights of classes or elements are saved and
            converted with the module, but not trained.
    """

    function: Callable[..., Tensor]
    options: inspect.Signature

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            given = self.options.bind(*args, **kwargs)
        except TypeError as error:
            kind = type(self).__name__
            raise ArgumentError(kind, f"takes {self.options}: {error}", received=f"{args}, {kwargs}") from None
        given.apply_defaults()
        for name, value in given.arguments.items():
            array = self.options.parameters[name].default is None and isinstance(value, (list, np.ndarray, Tensor))
            setattr(self, name, Cell(F.asarray(value)) if array and not isinstance(value, Cell) else value)

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """The function's tensors -> scalar, or a loss for each without reduction."""
        return type(self).function(*inputs, **named, **{name: getattr(self, name) for name in self.options.parameters})


def _loss(name: str, function: Callable[..., Tensor]) -> type[Loss]:
    """The parameters of a function that have defaults are the options of its module."""
    summary, _, rest = (function.__doc__ or "").strip().partition("\n")
    how = f"`{function.__name__}` as a module: arguments that have a default are given at construction."
    options = [p for p in inspect.signature(function).parameters.values() if p.default is not p.empty]
    shown = inspect.Signature(options)
    members = {
        "function": staticmethod(function), "options": shown, "__signature__": shown, "__module__": __name__,
        "__doc__": f"{summary}\n\n    {how}\n{rest}",
    }  # fmt: skip
    return type(name, (Loss,), members)


BCELoss = _loss("BCELoss", losses.binary_cross_entropy)
BCEWithLogitsLoss = _loss("BCEWithLogitsLoss", losses.binary_cross_entropy_with_logits)
CTCLoss = _loss("CTCLoss", ctc.ctc_loss)
CosineEmbeddingLoss = _loss("CosineEmbeddingLoss", margin_losses.cosine_embedding_loss)
CosineSimilarity = _loss("CosineSimilarity", margin_losses.cosine_similarity)
CrossEntropyLoss = _loss("CrossEntropyLoss", losses.cross_entropy)
DiceLoss = _loss("DiceLoss", rare_class_losses.dice_loss)
FocalLoss = _loss("FocalLoss", rare_class_losses.focal_loss)
GaussianNLLLoss = _loss("GaussianNLLLoss", losses.gaussian_nll_loss)
HingeEmbeddingLoss = _loss("HingeEmbeddingLoss", margin_losses.hinge_embedding_loss)
HingeLoss = _loss("HingeLoss", margin_losses.hinge_loss)
HuberLoss = _loss("HuberLoss", losses.huber_loss)
InfoNCELoss = _loss("InfoNCELoss", margin_losses.info_nce)
KLDivLoss = _loss("KLDivLoss", losses.kl_div)
L1Loss = _loss("L1Loss", losses.l1_loss)
MSELoss = _loss("MSELoss", losses.mse_loss)
MarginRankingLoss = _loss("MarginRankingLoss", margin_losses.margin_ranking_loss)
MultiLabelMarginLoss = _loss("MultiLabelMarginLoss", margin_losses.multilabel_margin_loss)
MultiLabelSoftMarginLoss = _loss("MultiLabelSoftMarginLoss", margin_losses.multilabel_soft_margin_loss)
MultiMarginLoss = _loss("MultiMarginLoss", margin_losses.multi_margin_loss)
NLLLoss = _loss("NLLLoss", losses.nll_loss)
PairwiseDistance = _loss("PairwiseDistance", margin_losses.pairwise_distance)
PoissonNLLLoss = _loss("PoissonNLLLoss", losses.poisson_nll_loss)
QuantileLoss = _loss("QuantileLoss", losses.quantile_loss)
SmoothL1Loss = _loss("SmoothL1Loss", losses.smooth_l1_loss)
SoftMarginLoss = _loss("SoftMarginLoss", margin_losses.soft_margin_loss)
TripletMarginLoss = _loss("TripletMarginLoss", margin_losses.triplet_margin_loss)
TripletMarginWithDistanceLoss = _loss(
    "TripletMarginWithDistanceLoss", margin_losses.triplet_margin_with_distance_loss
)  # fmt: skip
