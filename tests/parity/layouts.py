"""The one table of what is laid out, named or meant differently than in PyTorch; the parity tests are written with it.

``docs/from-pytorch.md`` says the same in words; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import chainrule as cr


@dataclass(frozen=True)
class Layout:
    """An array whose axes have another order here."""

    torch: str
    here: str
    source: int = 1
    destination: int = -1

    def ours(self, x: cr.Tensor) -> cr.Tensor:
        """PyTorch's order of axes -> ours; an array without such an axis stays as it is."""
        return cr.moveaxis(x, self.source, self.destination) if x.ndim > 2 else x

    def theirs(self, x: cr.Tensor) -> cr.Tensor:
        """Our order of axes -> PyTorch's."""
        return cr.moveaxis(x, self.destination, self.source) if x.ndim > 2 else x


LAYOUTS = {
    "image": Layout("(N, C, spatial...)", "(N, spatial..., C)"),
    "convolution weight": Layout("(O, I / groups, K...)", "(O, K..., I / groups)"),
    "transposed convolution weight": Layout("(I, O / groups, K...)", "(I, K..., O / groups)"),
    "scores of classes": Layout("(N, classes, positions...)", "(N, positions..., classes)"),
    "sequence of scores": Layout("(T, N, classes)", "(N, T, classes)", 0, 1),
}

# PyTorch's name -> ours, where they differ; the array functions have the names of the array API standard.
NAMES = {
    "amax": "max", "amin": "min", "arccos": "acos", "arctan2": "atan2", "cat": "concat", "clamp": "clip",
    "cummax": "cumulative_max", "cumprod": "cumulative_prod", "cumsum": "cumulative_sum", "div": "divide",
    "eq": "equal", "ge": "greater_equal", "gt": "greater", "index_select": "take", "le": "less_equal",
    "linalg.vector_norm": "norm", "lt": "less", "movedim": "moveaxis", "mul": "multiply", "ne": "not_equal",
    "neg": "negative", "nn.functional.logsigmoid": "log_sigmoid", "permute": "permute_dims", "repeat": "tile",
    "repeat_interleave": "repeat", "sub": "subtract", "take_along_dim": "take_along_axis", "topk": "top_k",
    "transpose": "swapaxes", "unbind": "unstack", "unsqueeze": "expand_dims",
}  # fmt: skip


def pad_widths(flat: Any, ndim: int) -> list[tuple[int, int]]:
    """PyTorch's padding, a flat list from the last axis on -> pairs from the first axis on."""
    pairs = [(flat[i], flat[i + 1]) for i in range(0, len(flat), 2)]
    return [(0, 0)] * (ndim - len(pairs)) + pairs[::-1]
