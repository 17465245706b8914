"""Every layer gives the same numbers compiled: results, gradients by inputs and parameters, buffers after the step."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import both_modes
import numpy as np
import pytest

import chainrule as cr
from chainrule import nn

TOKENS = np.array([[1, 3, 0, 3], [10, 10, 3, 5]])
OFFSETS = np.array([0, 3, 3, 5])
ACTIVATIONS: list[tuple[str, tuple, dict, list[Any]]] = [
    *((name, (), {}, [(4, 7)]) for name in (
        "CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid", "Mish",
        "PReLU", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink",
    )),
    ("CELU", (0.5,), {}, [(33,)]),
    ("ELU", (0.5,), {}, [()]),
    ("GELU", ("tanh",), {}, [(3, 5)]),
    ("GLU", (), {}, [(3, 8)]),
    ("RReLU", (), {}, [(5, 17)]),
    ("GLU", (1,), {}, [(2, 6, 5)]),
    ("Hardtanh", (-0.5, 0.7), {}, [(17,)]),
    ("LeakyReLU", (0.2,), {}, [(0, 3)]),
    ("LogSoftmax", (-1,), {}, [(4, 17)]),
    ("LogSoftmax", (1,), {}, [(2, 5, 3)]),
    ("PReLU", (6,), {}, [(2, 3, 6)]),
    ("Softmax", (-1,), {}, [(4, 17)]),
    ("Softmax", (0,), {}, [(5, 3)]),
    ("Softmax2d", (), {}, [(2, 3, 4, 5)]),
    ("Softmin", (-1,), {}, [(3, 33)]),
    ("Softplus", (2.0, 3.0), {}, [(5, 5)]),
    ("Threshold", (0.1, -2.0), {}, [(6, 2)]),
]  # fmt: skip
SHAPES: list[tuple[str, tuple, dict, list[Any]]] = [
    ("Bilinear", (3, 4, 5), {}, [(6, 3), (6, 4)]),
    ("Bilinear", (3, 4, 1), {"bias": False}, [(2, 3, 3), (2, 3, 4)]),
    ("Flatten", (), {}, [(2, 3, 4)]),
    ("Flatten", (0, 1), {}, [(2, 3, 4)]),
    ("Identity", (), {}, [(2, 3)]),
    ("Linear", (5, 7), {}, [(3, 5)]),
    ("Linear", (5, 7), {"bias": False}, [(2, 3, 5)]),
    ("Linear", (1, 1), {}, [(1, 1)]),
    ("Linear", (33, 17), {}, [(33,)]),
    ("Linear", (4, 3), {}, [(0, 4)]),
    ("Unflatten", (1, (2, 3)), {}, [(2, 6)]),
    ("Embedding", (11, 5), {}, [TOKENS]),
    ("Embedding", (11, 8), {"padding_idx": 3}, [TOKENS]),
    ("Embedding", (11, 8), {"padding_idx": 3, "sparse": True}, [TOKENS]),
    ("EmbeddingBag", (11, 5), {"mode": "max"}, [TOKENS]),
    ("EmbeddingBag", (11, 5), {"mode": "sum", "padding_idx": 3}, [TOKENS.reshape(-1), OFFSETS, (8,)]),
    ("EmbeddingBag", (11, 5), {"padding_idx": 3, "include_last_offset": True}, [TOKENS.reshape(-1), OFFSETS]),
    ("EmbeddingBag", (11, 5), {"mode": "max", "padding_idx": 10}, [TOKENS.reshape(-1), OFFSETS]),
    ("Residual", (nn.Linear(5, 5),), {}, [(3, 5)]),
    ("Residual", (nn.Linear(5, 4), nn.Linear(5, 4)), {}, [(3, 5)]),
    ("SqueezeExcite", (6, 2), {}, [(2, 3, 4, 6)]),
    ("ChannelShuffle", (3,), {}, [(2, 3, 3, 6)]),
    ("PixelShuffle", (2,), {}, [(2, 3, 4, 8)]),
    ("PixelUnshuffle", (2,), {}, [(2, 4, 6, 3)]),
    ("DropPath", (0.4,), {}, [(9, 3, 2)]),
    ("FeatureAlphaDropout", (0.3,), {}, [(5, 3, 17)]),
    ("Dropout", (0.3,), {}, [(9, 33)]),
    ("Dropout", (0.0,), {}, [(3, 4)]),
    ("Dropout", (1.0,), {}, [(3, 4)]),
    ("AlphaDropout", (0.3,), {}, [(5, 17)]),
    ("Dropout1d", (0.4,), {}, [(4, 5, 6)]),
    ("Dropout2d", (0.4,), {}, [(4, 3, 3, 5)]),
    ("Dropout3d", (0.4,), {}, [(3, 2, 2, 3, 5)]),
]
NORMS: list[tuple[str, tuple, dict, list[Any]]] = [
    ("BatchNorm1d", (5,), {}, [(7, 5)]),
    ("BatchNorm1d", (3,), {"momentum": None}, [(4, 6, 3)]),
    ("BatchNorm1d", (5,), {"affine": False}, [(7, 5)]),
    ("BatchNorm2d", (6,), {}, [(3, 4, 5, 6)]),
    ("BatchNorm2d", (16,), {"track_running_stats": False}, [(2, 3, 3, 16)]),
    ("BatchNorm2d", (1,), {"bias": False}, [(2, 3, 3, 1)]),
    ("BatchNorm3d", (3,), {"eps": 1e-3}, [(2, 2, 3, 4, 3)]),
    ("GroupNorm", (2, 6), {}, [(3, 4, 4, 6)]),
    ("GroupNorm", (1, 5), {"affine": False}, [(2, 7, 5)]),
    ("GroupNorm", (4, 4), {}, [(2, 3, 3, 4)]),
    ("InstanceNorm1d", (4,), {}, [(2, 9, 4)]),
    ("InstanceNorm2d", (3,), {"affine": True, "track_running_stats": True}, [(2, 4, 5, 3)]),
    ("InstanceNorm3d", (2,), {"affine": True}, [(2, 2, 3, 4, 2)]),
    ("LayerNorm", (7,), {}, [(5, 7)]),
    ("LayerNorm", ((3, 4),), {}, [(2, 3, 4)]),
    ("LayerNorm", (33,), {"elementwise_affine": False}, [(2, 3, 33)]),
    ("LayerNorm", (16,), {"bias": False}, [(1, 16)]),
    ("LocalResponseNorm", (3,), {}, [(2, 3, 3, 7)]),
    ("LocalResponseNorm", (2, 1e-2, 0.5, 2.0), {}, [(2, 4, 5)]),
    ("RMSNorm", (8,), {}, [(3, 8)]),
    ("RMSNorm", ((3, 5),), {"eps": 1e-3}, [(2, 3, 5)]),
]
CONVOLUTIONS: list[tuple[str, tuple, dict, list[Any]]] = [
    ("Conv1d", (3, 5, 3), {}, [(2, 9, 3)]),
    ("Conv1d", (4, 6, 2), {"stride": 2, "padding": 1, "groups": 2, "bias": False}, [(2, 9, 4)]),
    ("Conv1d", (2, 3, 3), {"padding": "same", "dilation": 2}, [(1, 7, 2)]),
    ("Conv2d", (3, 8, 3), {"padding": 1}, [(2, 6, 7, 3)]),
    ("Conv2d", (1, 5, (3, 2)), {"stride": (2, 1), "padding": (0, 1)}, [(3, 7, 6, 1)]),
    ("Conv2d", (4, 4, 3), {"groups": 4, "padding": 1}, [(2, 5, 5, 4)]),
    ("Conv2d", (2, 17, 1), {}, [(2, 3, 3, 2)]),
    ("Conv2d", (3, 4, 3), {"dilation": 2, "padding": 2, "padding_mode": "reflect"}, [(2, 6, 6, 3)]),
    ("Conv2d", (3, 4, 3), {"padding": 1, "padding_mode": "circular"}, [(1, 4, 4, 3)]),
    ("Conv3d", (2, 3, 2), {}, [(2, 4, 3, 5, 2)]),
    ("Conv3d", (2, 4, 3), {"stride": 2, "padding": 1}, [(1, 5, 4, 5, 2)]),
    ("ConvTranspose1d", (3, 4, 3), {"stride": 2}, [(2, 5, 3)]),
    ("ConvTranspose1d", (4, 6, 3), {"groups": 2, "bias": False, "padding": 1}, [(2, 6, 4)]),
    ("ConvTranspose2d", (3, 5, 3), {"stride": 2, "padding": 1, "output_padding": 1}, [(2, 4, 3, 3)]),
    ("ConvTranspose2d", (2, 3, 2), {"dilation": 2}, [(1, 4, 4, 2)]),
    ("ConvTranspose3d", (2, 3, 2), {"stride": 2}, [(1, 2, 3, 2, 2)]),
]
WINDOWS: list[tuple[str, tuple, dict, list[Any]]] = [
    ("AdaptiveAvgPool1d", (3,), {}, [(2, 7, 3)]),
    ("AdaptiveAvgPool2d", ((2, 3),), {}, [(2, 5, 7, 3)]),
    ("AdaptiveAvgPool2d", (1,), {}, [(2, 4, 4, 5)]),
    ("AdaptiveAvgPool3d", (2,), {}, [(1, 3, 4, 5, 2)]),
    ("AdaptiveMaxPool1d", (3,), {}, [(2, 7, 3)]),
    ("AdaptiveMaxPool2d", ((2, 3),), {}, [(2, 5, 7, 3)]),
    ("AdaptiveMaxPool3d", (2,), {}, [(1, 3, 4, 5, 2)]),
    ("AvgPool1d", (2,), {}, [(2, 7, 3)]),
    ("AvgPool2d", (3,), {"stride": 2, "padding": 1}, [(2, 6, 7, 3)]),
    ("AvgPool2d", (2,), {"ceil_mode": True, "count_include_pad": False}, [(2, 5, 5, 4)]),
    ("AvgPool2d", ((2, 3),), {"divisor_override": 5}, [(1, 6, 6, 2)]),
    ("AvgPool3d", (2,), {}, [(1, 4, 5, 4, 3)]),
    *((f"Global{kind}Pool{d}d", (), {}, [(2, *(3, 4, 2)[:d], 5)]) for kind in ("Avg", "Max") for d in (1, 2, 3)),
    ("GlobalAvgPool2d", (True,), {}, [(2, 3, 4, 5)]),
    ("LPPool1d", (2, 3), {"stride": 2}, [(2, 7, 3)]),
    ("LPPool2d", (2, (2, 3)), {"ceil_mode": True}, [(2, 5, 7, 3)]),
    ("LPPool3d", (4, 2), {}, [(1, 3, 4, 5, 2)]),
    ("MaxPool1d", (2,), {"stride": 1}, [(2, 7, 3)]),
    ("MaxPool2d", (2,), {}, [(2, 6, 6, 3)]),
    ("MaxPool2d", (3,), {"stride": 2, "padding": 1, "ceil_mode": True}, [(2, 6, 7, 5)]),
    ("MaxPool2d", (2,), {"dilation": 2}, [(1, 6, 5, 17)]),
    ("MaxPool3d", (2,), {}, [(1, 4, 5, 4, 3)]),
    ("CircularPad1d", ((1, 2),), {}, [(2, 5, 3)]),
    ("CircularPad2d", (1,), {}, [(2, 4, 5, 3)]),
    ("CircularPad3d", (1,), {}, [(1, 3, 4, 3, 2)]),
    ("ConstantPad1d", (2, 0.7), {}, [(2, 5, 3)]),
    ("ConstantPad2d", ((1, 0, 2, 1), -1.5), {}, [(2, 4, 5, 3)]),
    ("ConstantPad3d", (1, 2.0), {}, [(1, 3, 4, 3, 2)]),
    ("ReflectionPad1d", (2,), {}, [(2, 5, 3)]),
    ("ReflectionPad2d", ((1, 2, 0, 3),), {}, [(2, 4, 5, 3)]),
    ("ReflectionPad3d", (1,), {}, [(1, 3, 4, 3, 2)]),
    ("ReplicationPad1d", (2,), {}, [(2, 5, 3)]),
    ("ReplicationPad2d", ((1, 2, 0, 3),), {}, [(2, 4, 5, 3)]),
    ("ReplicationPad3d", (1,), {}, [(1, 3, 4, 3, 2)]),
    ("Upsample", (), {"scale_factor": 2}, [(2, 3, 4, 5)]),
    ("Upsample", ((3, 7),), {}, [(2, 5, 4, 3)]),
    ("Upsample", (7,), {"mode": "linear"}, [(2, 5, 3)]),
    ("Upsample", (), {"scale_factor": 1.6, "mode": "bicubic"}, [(2, 5, 4, 3)]),
    ("Upsample", ((2, 5, 3),), {"mode": "trilinear", "align_corners": True}, [(1, 3, 4, 3, 2)]),
    ("UpsamplingBilinear2d", (), {"scale_factor": 2}, [(2, 3, 5, 4)]),
    ("UpsamplingNearest2d", (), {"scale_factor": 2}, [(2, 3, 5, 4)]),
    ("ZeroPad1d", (1,), {}, [(2, 5, 3)]),
    ("ZeroPad2d", ((1, 2, -1, 0),), {}, [(2, 4, 5, 3)]),
    ("ZeroPad3d", (1,), {}, [(1, 3, 4, 3, 2)]),
]
DISTANCES: list[tuple[str, tuple, dict, list[Any]]] = [
    ("CosineSimilarity", (), {"dim": 1}, [(3, 4), (3, 4)]),
    ("CosineSimilarity", (), {"dim": -1}, [(2, 3, 17), (2, 3, 17)]),
    ("PairwiseDistance", (), {}, [(3, 7), (3, 7)]),
    ("PairwiseDistance", (3.0,), {"keepdim": True}, [(3, 4), (3, 4)]),
    ("PairwiseDistance", (1.0,), {}, [(3, 4), (3, 4)]),
]
RECURRENT: list[tuple[str, tuple, dict, list[Any]]] = [
    ("RNN", (3, 5), {}, [(2, 4, 3)]),
    ("RNN", (3, 5, 2, "relu"), {"bidirectional": True, "dropout": 0.3}, [(2, 4, 3), (4, 2, 5)]),
    ("LSTM", (3, 16), {}, [(2, 7, 3)]),
    ("LSTM", (3, 5, 2), {"bidirectional": True, "proj_size": 2, "bias": False}, [(2, 4, 3)]),
    ("LSTM", (3, 4), {}, [(5, 3)]),
    ("GRU", (3, 5), {}, [(2, 4, 3), (1, 2, 5)]),
    ("GRU", (3, 17, 2), {"bidirectional": True, "dropout": 0.3}, [(3, 4, 3)]),
    ("GRU", (3, 4), {"batch_first": False, "bias": False}, [(4, 1, 3)]),
    ("RNNCell", (3, 5), {}, [(2, 3), (2, 5)]),
    ("LSTMCell", (3, 5), {}, [(2, 3)]),
    ("GRUCell", (3, 5), {}, [(3,), (5,)]),
]
ATTENTION: list[tuple[str, tuple, dict, list[Any]]] = [
    ("MultiheadAttention", (8, 2, 0.3), {}, [(2, 5, 8), (2, 7, 8), (2, 7, 8)]),
    ("MultiheadAttention", (8, 2), {"kdim": 3, "add_bias_kv": True, "add_zero_attn": True}, [(5, 8), (7, 3), (7, 8)]),
    ("MultiheadAttention", (16, 4), {"num_kv_heads": 2, "rotary": nn.RotaryEmbedding(4)}, [(2, 5, 16)] * 3),
    ("RotaryEmbedding", (8,), {}, [(2, 3, 5, 8)]),
    ("SinusoidalPositions", (8,), {}, [(2, 5, 8)]),
    ("SwiGLU", (5, 7), {}, [(2, 3, 5)]),
    ("TransformerEncoderLayer", (8, 2, 17), {}, [(2, 5, 8)]),
    ("TransformerDecoderLayer", (8, 2, 17), {"norm_first": True, "bias": False}, [(2, 5, 8), (2, 3, 8)]),
    ("TransformerEncoder", (nn.TransformerEncoderLayer(8, 4, 9), 2), {}, [(2, 5, 8)]),
    ("TransformerDecoder", (nn.TransformerDecoderLayer(8, 2, 9, 0.0, "gelu"), 2), {}, [(2, 5, 8), (2, 3, 8)]),
    ("Transformer", (8, 2, 1, 1, 9), {}, [(2, 5, 8), (2, 3, 8)]),
]
GROUPS = {
    "activations": ACTIVATIONS, "shapes": SHAPES, "norms": NORMS, "convolutions": CONVOLUTIONS, "windows": WINDOWS,
    "distances": DISTANCES, "recurrent": RECURRENT, "attention": ATTENTION,
}  # fmt: skip
CONTAINERS = {"KVCache", "Module", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"}


def inputs_of(shapes: list[Any], dtype: str) -> list[np.ndarray]:
    """Arguments of a layer: whole numbers that are given, or random numbers of a shape."""
    rng = np.random.default_rng(7)
    return [s if isinstance(s, np.ndarray) else rng.standard_normal(s).astype(dtype) for s in shapes]


def group_step(cases: list[tuple[str, tuple, dict, list[Any]]], dtype: str) -> tuple[dict[str, Any], Any, Any]:
    """The layers of a group, their arguments, and a function that takes these to results and gradients."""
    cr.manual_seed(3)
    layers, inputs = {}, {}
    for i, (name, args, kwargs, shapes) in enumerate(cases):
        label = f"{name}{i}"
        layers[label] = getattr(nn, name)(*deepcopy(args), **kwargs).to(dtype)
        for cell in layers[label].parameters():  # initial weights are often 0 and 1: let all of them matter
            cell.assign(cell + 0.1 * cr.cos(cr.arange(cell.size, dtype=dtype).reshape(cell.shape)))
        inputs[label] = inputs_of(shapes, dtype)

    def step(given: dict[str, list[Any]]) -> dict[str, Any]:
        return {label: results_of(layer, [cr.asarray(x) for x in given[label]]) for label, layer in layers.items()}

    return layers, inputs, step


def results_of(layer: Any, args: list[cr.Tensor]) -> dict[str, Any]:
    """The result of a layer, one tensor or nested tuples, and the gradients of a sum of it with fixed factors."""

    def weighted(out: Any) -> Any:
        if isinstance(out, tuple):
            return sum(weighted(part) for part in out)
        factors = cr.sin(1 + cr.arange(out.size, dtype=out.dtype)).reshape(out.shape)
        return (out * factors).sum()

    def loss(layer: Any, *args: cr.Tensor) -> Any:
        out = layer(*args)
        return weighted(out), out

    real = tuple(i for i, x in enumerate(args, start=1) if x.dtype.name.startswith("float"))
    (_, out), gradients = cr.value_and_grad(loss, argnums=(0, *real), has_aux=True)(layer, *args)
    return {"out": out, "gradients": gradients}


def run(cases: list[tuple[str, tuple, dict, list[Any]]], dtype: str, wrap: Any) -> dict[str, Any]:
    """Two steps in training mode, one in evaluation mode."""
    layers, inputs, step = group_step(cases, dtype)
    compiled = wrap(step)
    found: dict[str, Any] = {"first": compiled(inputs), "second": compiled(inputs)}
    found["state"] = {label: both_modes.states(layer) for label, layer in layers.items()}
    for layer in layers.values():
        layer.eval()
    found["eval"] = compiled(inputs)
    found["state after eval"] = {label: both_modes.states(layer) for label, layer in layers.items()}
    return found


def test_every_layer_is_in_the_table():
    layers = {name for name in nn.__all__ if isinstance(getattr(nn, name), type)} - CONTAINERS - {"Parameter"}
    losses = {name for name in layers if name.endswith("Loss")}
    assert layers - losses == {case[0] for cases in GROUPS.values() for case in cases}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("group", GROUPS)
def test_layers_agree(group, dtype):
    both_modes.same(*both_modes.both(lambda wrap: run(GROUPS[group], dtype, wrap)))
