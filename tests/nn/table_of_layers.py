"""Every layer once or more: constructor, inputs, what comes out, how many parameters, what training changes.

``test_table_of_layers.py`` checks for each row what is true of all layers. A new layer is a new row, here or in a list
of its own that ``ROWS`` takes in; a test fails for a layer without one.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn

Shape = tuple[int, ...]


@dataclass
class Row:
    """A layer.

    Attributes:
        name: of the class in `nn`.
        args, kwargs: of its constructor; modules among them are copied.
        inputs: a shape for random numbers, or an array of whole numbers.
        output: the shape of what comes out; a list of them for several tensors.
        parameters: how many numbers it learns.
        random: whether it draws random numbers while training, and none in evaluation.
        differs: whether it does something else in training.
    """

    name: str
    args: tuple[Any, ...]
    inputs: list[Any]
    output: Shape | list[Shape]
    parameters: int = 0
    kwargs: dict[str, Any] = field(default_factory=dict)
    random: bool = False
    differs: bool = False

    def __str__(self) -> str:
        given = [repr(a) for a in self.args if not isinstance(a, nn.Module)]
        return f"{self.name}({', '.join(given + [f'{k}={v!r}' for k, v in self.kwargs.items()])})"

    def layer(self, dtype: str = "float64") -> nn.Module:
        """A new layer; its parameters are moved away from the zeros and ones that many start with."""
        cr.manual_seed(1)
        made: nn.Module = getattr(nn, self.name)(*deepcopy(self.args), **self.kwargs).to(dtype)
        for cell in made.parameters():
            cell.assign(cell + 0.1 * cr.cos(cr.arange(cell.size, dtype=dtype).reshape(cell.shape)))
        return made

    def tensors(self, dtype: str = "float64") -> list[cr.Tensor]:
        """The inputs."""
        rng = np.random.default_rng(5)
        arrays = [x if isinstance(x, np.ndarray) else rng.standard_normal(x).astype(dtype) for x in self.inputs]
        return [cr.asarray(x) for x in arrays]

    @property
    def outputs(self) -> list[Shape]:
        """The shapes of all that comes out."""
        return self.output if isinstance(self.output, list) else [self.output]


def dropout(name: str, shape: Shape) -> Row:
    return Row(name, (0.4,), [shape], shape, random=True)


TOKENS = np.array([[1, 3, 0], [5, 5, 3]])
IMAGES: dict[int, Shape] = {1: (2, 5, 4), 2: (2, 4, 5, 4), 3: (1, 4, 3, 4, 4)}  # by number of spatial axes
SMALL: dict[int, Shape] = {1: (2, 4, 2), 2: (1, 3, 4, 2), 3: (1, 2, 3, 2, 2)}


def of_axes(name: str, *args: Any, size: Any, parameters: int = 0, **kwargs: Any) -> list[Row]:
    """A layer for images with 1, 2 and 3 spatial axes; ``size(n)`` is what becomes of an axis."""
    channels = args[1] if "Conv" in name else 2
    return [
        Row(
            f"{name}{d}d", args, [SMALL[d]], (SMALL[d][0], *map(size, SMALL[d][1:-1]), channels),
            parameters(d) if callable(parameters) else parameters, kwargs,
        )
        for d in (1, 2, 3)
    ]  # fmt: skip


ACTIVATIONS = [
    *(Row(name, (), [(3, 4)], (3, 4)) for name in (
        "CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid",
        "LogSoftmax", "Mish", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softmax", "Softmin", "Softplus",
        "Softshrink", "Softsign", "Tanh", "Tanhshrink",
    )),
    Row("GELU", ("tanh",), [(3, 4)], (3, 4)),
    Row("GLU", (), [(3, 8)], (3, 4)),
    Row("PReLU", (), [(3, 4)], (3, 4), 1),
    Row("PReLU", (4,), [(3, 4)], (3, 4), 4),
    Row("RReLU", (0.1, 0.4), [(3, 4)], (3, 4), random=True),
    Row("Softmax2d", (), [(1, 2, 3, 4)], (1, 2, 3, 4)),
    Row("Threshold", (0.1, -2.0), [(3, 4)], (3, 4)),
]  # fmt: skip
SHAPES = [
    Row("Bilinear", (3, 4, 5), [(2, 3), (2, 4)], (2, 5), 5 * 3 * 4 + 5),
    Row("ChannelShuffle", (3,), [(2, 2, 6)], (2, 2, 6)),
    Row("CosineSimilarity", (), [(3, 4), (3, 4)], (3,)),
    Row("Flatten", (), [(2, 3, 4)], (2, 12)),
    Row("Identity", (), [(2, 3)], (2, 3)),
    Row("Linear", (3, 2), [(4, 3)], (4, 2), 8),
    Row("Linear", (3, 2), [(2, 2, 3)], (2, 2, 2), 6, {"bias": False}),
    Row("PairwiseDistance", (), [(3, 4), (3, 4)], (3,)),
    Row("PixelShuffle", (2,), [(1, 2, 3, 8)], (1, 4, 6, 2)),
    Row("PixelUnshuffle", (2,), [(1, 4, 2, 3)], (1, 2, 1, 12)),
    Row("Residual", (nn.Linear(3, 3),), [(2, 3)], (2, 3), 12),
    Row("Residual", (nn.Linear(3, 2), nn.Linear(3, 2, bias=False)), [(2, 3)], (2, 2), 8 + 6),
    Row("Sequential", (nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)), [(2, 3)], (2, 1), 8 + 3),
    Row("SqueezeExcite", (4, 2), [(2, 2, 3, 4)], (2, 2, 3, 4), (4 * 2 + 2) + (2 * 4 + 4)),
    Row("Unflatten", (1, (2, 3)), [(2, 6)], (2, 2, 3)),
]
EMBEDDINGS = [
    Row("Embedding", (6, 3), [TOKENS], (2, 3, 3), 18),
    Row("Embedding", (6, 3), [TOKENS], (2, 3, 3), 18, {"padding_idx": 4}),  # not among the tokens: its slope is cut off
    *(Row("EmbeddingBag", (6, 3, mode), [TOKENS], (2, 3), 18) for mode in ("sum", "mean", "max")),
    *(Row("EmbeddingBag", (6, 3, mode), [TOKENS.reshape(-1), np.array([0, 2, 2])], (3, 3), 18, {"padding_idx": 0})
      for mode in ("sum", "mean", "max")),
    Row("EmbeddingBag", (6, 3, "sum"), [TOKENS.reshape(-1), np.array([0, 2, 6]), (6,)], (2, 3), 18,
        {"include_last_offset": True}),
]  # fmt: skip
DROPOUTS = [
    dropout("AlphaDropout", (3, 4)), dropout("DropPath", (5, 2, 2)), dropout("Dropout", (3, 4)),
    *(dropout(f"Dropout{d}d", IMAGES[d]) for d in (1, 2, 3)), dropout("FeatureAlphaDropout", (2, 3, 5)),
]  # fmt: skip
NORMS = [
    Row("BatchNorm1d", (4,), [(3, 4)], (3, 4), 8, differs=True),
    *(Row(f"BatchNorm{d}d", (4,), [IMAGES[d]], IMAGES[d], 8, differs=True) for d in (1, 2, 3)),
    Row("BatchNorm2d", (4,), [IMAGES[2]], IMAGES[2], 0, {"affine": False, "track_running_stats": False}),
    Row("GroupNorm", (2, 4), [(2, 3, 4)], (2, 3, 4), 8),
    *(Row(f"InstanceNorm{d}d", (4,), [IMAGES[d]], IMAGES[d]) for d in (1, 2, 3)),
    Row("InstanceNorm2d", (4,), [IMAGES[2]], IMAGES[2], 8, {"affine": True, "track_running_stats": True}, differs=True),
    Row("LayerNorm", (4,), [(3, 4)], (3, 4), 8),
    Row("LayerNorm", ((3, 4),), [(2, 3, 4)], (2, 3, 4), 12, {"bias": False}),
    Row("LocalResponseNorm", (3,), [(2, 2, 5)], (2, 2, 5), 0, {"alpha": 0.5}),
    Row("RMSNorm", (4,), [(3, 4)], (3, 4), 4),
]
CONVOLUTIONS = [
    *of_axes("Conv", 2, 3, 2, size=lambda n: n - 1, parameters=lambda d: 3 * 2 * 2**d + 3),
    *of_axes("Conv", 2, 4, 2, size=lambda n: n, parameters=lambda d: 4 * 2**d, padding="same", groups=2, bias=False),
    *of_axes("Conv", 2, 3, 3, size=lambda n: n, parameters=lambda d: 6 * 3**d + 3, padding=1, padding_mode="replicate"),
    Row("Conv2d", (4, 4, 3), [(1, 3, 4, 4)], (1, 3, 4, 4), 4 * 9 + 4, {"groups": 4, "padding": 1}),  # depthwise
    *of_axes("ConvTranspose", 2, 3, 2, size=lambda n: 2 * n, parameters=lambda d: 6 * 2**d + 3, stride=2),
    *of_axes("ConvTranspose", 2, 4, 2, size=lambda n: n + 1, parameters=lambda d: 4 * 2**d + 4, groups=2),
]
POOLS = [
    *of_axes("AdaptiveAvgPool", 2, size=lambda n: 2),
    *of_axes("AdaptiveMaxPool", 2, size=lambda n: 2),
    *of_axes("AvgPool", 2, size=lambda n: n // 2),
    *of_axes("LPPool", 2, 2, size=lambda n: n // 2),
    *of_axes("MaxPool", 2, 1, size=lambda n: n - 1),
    *(Row(f"Global{kind}Pool{d}d", (), [IMAGES[d]], (IMAGES[d][0], 4)) for kind in ("Avg", "Max") for d in (1, 2, 3)),
    Row("GlobalAvgPool2d", (True,), [IMAGES[2]], (2, 1, 1, 4)),
]
PADS = [
    *of_axes("CircularPad", 1, size=lambda n: n + 2),
    *of_axes("ConstantPad", 1, 0.5, size=lambda n: n + 2),
    *of_axes("ReflectionPad", 1, size=lambda n: n + 2),
    *of_axes("ReplicationPad", 2, size=lambda n: n + 4),
    *of_axes("ZeroPad", 1, size=lambda n: n + 2),
]
RESAMPLING = [
    Row("Upsample", (), [SMALL[2]], (1, 6, 8, 2), 0, {"scale_factor": 2}),
    Row("Upsample", (5,), [SMALL[1]], (2, 5, 2), 0, {"mode": "linear"}),
    Row("Upsample", ((5, 3),), [SMALL[2]], (1, 5, 3, 2), 0, {"mode": "bicubic"}),
    Row("Upsample", ((3, 2, 4),), [SMALL[3]], (1, 3, 2, 4, 2), 0, {"mode": "trilinear", "align_corners": True}),
    Row("UpsamplingBilinear2d", ((5, 7),), [SMALL[2]], (1, 5, 7, 2)),
    Row("UpsamplingNearest2d", (), [SMALL[2]], (1, 9, 12, 2), 0, {"scale_factor": 3}),
]
RECURRENT = [
    Row("RNN", (2, 3), [(2, 3, 2)], [(2, 3, 3), (1, 2, 3)], 3 * 2 + 3 * 3 + 6),
    Row("RNN", (2, 3, 2), [(2, 2, 2)], [(2, 2, 3), (2, 2, 3)], 21 + 24, {"dropout": 0.4}, random=True),
    Row("LSTM", (2, 3), [(2, 3, 2)], [(2, 3, 3), (1, 2, 3), (1, 2, 3)], 4 * 21),
    Row("GRU", (2, 2), [(2, 3, 2)], [(2, 3, 4), (2, 2, 2)], 2 * 3 * 12, {"bidirectional": True}),
    Row("RNNCell", (2, 3), [(2, 2), (2, 3)], (2, 3), 21),
    Row("LSTMCell", (2, 3), [(2, 2)], [(2, 3), (2, 3)], 84),
    Row("GRUCell", (2, 3), [(2, 2), (2, 3)], (2, 3), 63),
]
SEQUENCES: list[Any] = [(2, 3, 4)]
SHORT: Shape = (1, 2, 2)
ATTENTION = [
    Row("MultiheadAttention", (4, 2), SEQUENCES * 3, [(2, 3, 4), (2, 3, 3)], 80),
    Row("MultiheadAttention", (2, 2, 0.4), [SHORT] * 3, [SHORT, (1, 2, 4)], 24 + 4, {
        "add_bias_kv": True, "add_zero_attn": True}, random=True),
    Row("MultiheadAttention", (4, 2), SEQUENCES * 3, [(2, 3, 4), (2, 3, 3)], 48, {
        "num_kv_heads": 1, "rotary": nn.RotaryEmbedding(2), "bias": False}),
    Row("RotaryEmbedding", (4,), SEQUENCES, (2, 3, 4)),
    Row("SinusoidalPositions", (4,), SEQUENCES, (2, 3, 4)),
    Row("SwiGLU", (4, 3), SEQUENCES, (2, 3, 4), 36),
    Row("TransformerEncoderLayer", (2, 1, 3), [SHORT], SHORT, 49, random=True),
    Row("TransformerDecoderLayer", (2, 1, 3, 0.0, "gelu"), [SHORT, SHORT], SHORT, 48 + 17 + 12, {"norm_first": True}),
    Row("TransformerEncoder", (nn.TransformerEncoderLayer(2, 1, 1), 2), [SHORT], SHORT, 2 * 39, random=True),
    Row("TransformerDecoder", (nn.TransformerDecoderLayer(2, 1, 1), 1), [SHORT, SHORT], SHORT, 67, random=True),
    Row("Transformer", (2, 1, 1, 1, 1, 0.0, "gelu"), [SHORT, SHORT], SHORT, 39 + 67 + 8),
]  # fmt: skip
ROWS = [
    *ACTIVATIONS, *SHAPES, *EMBEDDINGS, *DROPOUTS, *NORMS, *CONVOLUTIONS, *POOLS, *PADS, *RESAMPLING, *RECURRENT,
    *ATTENTION,
]  # fmt: skip
