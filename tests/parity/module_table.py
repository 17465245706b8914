"""How modules of PyTorch become modules here: which arrays change layout, which arguments fall away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from compare import to_numpy, torch
from layouts import LAYOUTS

import chainrule as cr
from chainrule import nn

IMAGE, CLASSES, SEQUENCE = LAYOUTS["image"], LAYOUTS["scores of classes"], LAYOUTS["sequence of scores"]

IMAGES = {
    f"{name}{d}d"
    for name in (
        "AdaptiveAvgPool", "AdaptiveMaxPool", "AvgPool", "BatchNorm", "CircularPad", "ConstantPad", "Conv",
        "ConvTranspose", "InstanceNorm", "LPPool", "MaxPool", "ReflectionPad", "ReplicationPad", "ZeroPad",
    )
    for d in (1, 2, 3)
} | {
    "ChannelShuffle", "FeatureAlphaDropout", "GroupNorm", "LocalResponseNorm", "PReLU", "PixelShuffle",
    "PixelUnshuffle", "Softmax2d", "Upsample", "UpsamplingBilinear2d", "UpsamplingNearest2d",
}  # fmt: skip
SCORES = {"CrossEntropyLoss", "NLLLoss"}


def refusal(name: str, constructor: dict, inputs: list[Any]) -> str | None:
    """Why this library answers with an error, on purpose, what PyTorch takes."""
    if name in IMAGES and name[-1] == "d" and name != "BatchNorm1d" and inputs[0].ndim == int(name[-2]) + 1:
        return "an image without its batch axis"
    if name in ("Softmax", "LogSoftmax", "Softmin") and not inputs[0].ndim:
        return "a scalar has no axis"
    if constructor.get("return_indices"):
        return "the places of maxima are not returned"
    return None


def suited(name: str, inputs: list[Any]) -> list[Any]:
    """The inputs as tensors, without negative ones for norms: their power is NaN, in PyTorch also beyond a window."""
    tensors = [torch.as_tensor(x) for x in inputs]
    return [x.abs() for x in tensors] if name.startswith("LPPool") else tensors


# What PyTorch's database has and this library does not, and why.
ABSENT = {
    "FractionalMaxPool2d": "random windows are left out",
    "FractionalMaxPool3d": "random windows are left out",
    "LinearCrossEntropyLoss": "left out: a Linear and a CrossEntropyLoss, which the compiler fuses",
    **{f"Lazy{t}{d}d": "sizes are given here" for t in ("Conv", "ConvTranspose") for d in (1, 2, 3)},
}
# Sequences and attention are batch first here and have tests of their own.
ELSEWHERE = {
    "RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell", "MultiheadAttention", "Transformer", "TransformerEncoder",
    "TransformerEncoderLayer", "TransformerDecoderLayer",
}  # fmt: skip


@dataclass
class Pair:
    """One module in both libraries, with the same weights."""

    name: str
    torch: Any
    ours: nn.Module

    @classmethod
    def make(cls, name: str, args: tuple, kwargs: dict, training: bool) -> Pair:
        theirs = getattr(torch.nn, name)(*args, **kwargs).double()
        kwargs = {k: plain(v) for k, v in kwargs.items() if k not in ("size_average", "reduce")}
        ours = getattr(nn, name)(*map(plain, args), **kwargs).double()
        if name == "CTCLoss":  # whose gradient in PyTorch takes for granted that a log_softmax is before it
            theirs.register_forward_pre_hook(lambda _, args: (args[0].log_softmax(-1), *args[1:]))
        theirs.train(training)
        ours.train(training)
        ours.load_state_dict(theirs.state_dict(), layout="torch")
        return cls(name, theirs, ours)

    def call(self, module: nn.Module, *inputs: Any) -> cr.Tensor:
        """Call a module of ours with PyTorch's layout on both sides."""
        moved = list(inputs)
        if self.name in IMAGES:
            moved[0] = IMAGE.ours(moved[0])
        if self.name in SCORES:
            moved = [CLASSES.ours(x) if x.dtype == cr.float64 else x for x in moved]
        if self.name == "CTCLoss":
            moved[0] = cr.log_softmax(SEQUENCE.ours(moved[0]))
        out = module(*moved)
        return IMAGE.theirs(out) if self.name in IMAGES else out

    def theirs_parameter(self, name: str, x: cr.Tensor) -> Any:
        """The gradient of a parameter, in PyTorch's layout."""
        kind = "transposed convolution weight" if "Transpose" in self.name else "convolution weight"
        return (LAYOUTS[kind].theirs(x) if self.name.startswith("Conv") and name == "weight" else x).numpy()


def plain(value: Any) -> Any:
    """An argument of a constructor: arrays for tensors, a number for a sequence of one."""
    if isinstance(value, torch.Tensor):
        return cr.asarray(to_numpy(value))
    return value[0] if isinstance(value, (tuple, list)) and len(value) == 1 else value


# Modules that PyTorch's database lacks: arguments of the constructor, shapes of the inputs.
MORE: list[tuple[str, tuple, dict, list[tuple[int, ...]]]] = [
    ("AlphaDropout", (0.3,), {}, [(3, 4)]),
    ("ChannelShuffle", (3,), {}, [(2, 6, 3, 4)]),
    *(
        (f"Conv{d}d", (4, 6, 3), {"padding": p, "padding_mode": mode, "groups": g}, [(2, 4, *(5, 4, 6)[:d])])
        for d in (1, 2, 3)
        for mode in ("reflect", "replicate", "circular")
        for p, g in (("same", 1), (2, 2))
    ),
    ("Conv2d", (4, 8, 3), {"groups": 4, "stride": 2, "padding": 1}, [(2, 4, 5, 6)]),
    *(
        (f"ConvTranspose{d}d", (4, 8, 3), {"groups": 4, "stride": 2, "padding": 1}, [(2, 4, *(3, 2, 4)[:d])])
        for d in (1, 2, 3)
    ),
    ("CosineSimilarity", (), {"dim": 1}, [(3, 4), (3, 4)]),
    ("Dropout", (0.3,), {}, [(3, 4)]),
    ("Dropout1d", (0.3,), {}, [(2, 3, 4)]),
    ("Dropout2d", (0.3,), {}, [(2, 3, 4, 4)]),
    ("Dropout3d", (0.3,), {}, [(2, 3, 2, 4, 4)]),
    ("FeatureAlphaDropout", (0.3,), {}, [(2, 3, 4, 4)]),
    ("Flatten", (), {}, [(2, 3, 4)]),
    ("Flatten", (0, 1), {}, [(2, 3, 4)]),
    ("Hardsigmoid", (), {}, [(5, 7)]),
    ("Identity", (3, "anything"), {"further": 1}, [(2, 3)]),
    ("PairwiseDistance", (3.0,), {"keepdim": True}, [(3, 4), (3, 4)]),
    ("PixelShuffle", (3,), {}, [(2, 18, 4, 5)]),
    ("PixelUnshuffle", (2,), {}, [(2, 3, 4, 6)]),
    ("RReLU", (0.1, 0.4), {}, [(5, 7)]),
    ("TripletMarginLoss", (), {"swap": True}, [(3, 4), (3, 4), (3, 4)]),
    ("TripletMarginLoss", (0.5, 1.0), {"reduction": "none"}, [(3, 4), (3, 4), (3, 4)]),
    ("TripletMarginWithDistanceLoss", (), {"swap": True, "margin": 2.0}, [(3, 4), (3, 4), (3, 4)]),
    ("Unflatten", (1, (2, 3)), {}, [(2, 6)]),
    ("Upsample", (), {"scale_factor": 2.0}, [(2, 3, 4, 5)]),
    ("Upsample", ((7, 3),), {"mode": "bicubic"}, [(2, 3, 4, 5)]),
    ("Upsample", (), {"scale_factor": 1.7, "mode": "trilinear", "recompute_scale_factor": True}, [(1, 2, 3, 2, 4)]),
    ("UpsamplingBilinear2d", (), {"scale_factor": 3}, [(2, 3, 4, 5)]),
    ("UpsamplingNearest2d", ((9, 4),), {}, [(2, 3, 4, 5)]),
]
