"""PyTorch's place for clipping gradients, and for weights that are computed from others."""

from ..optim.clip import clip_grad_norm_, clip_grad_value_
from .reparametrize import remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm

__all__ = [
    "clip_grad_norm_", "clip_grad_value_", "remove_spectral_norm", "remove_weight_norm", "spectral_norm", "weight_norm",
]  # fmt: skip
