"""Nine training steps, from a tiny MLP to an encoder and decoder, that are also measured in other libraries.

Sizes, data, first weights and optimizers are the same everywhere, so losses can be compared as well as times. All of it
is drawn from ``numpy.random.RandomState(0)``, in one order. Images and convolutions are drawn channels-first and then
brought to channels-last.

    step, arguments, model, optimizer = network("w3")
    loss = chainrule.compile(step)(*arguments)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from harness.jobs import Job

import chainrule as cr
from chainrule import nn, optim
from chainrule.nn import functional

# --- layers -----------------------------------------------------------------------------------------------------------


def attention(q: Any, k: Any, v: Any, heads: int, causal: bool) -> Any:
    """Attention of (N, T, C) to (N, S, C) in parts of C / heads channels, (N, T, C)."""

    def by_head(x: Any) -> Any:
        return cr.moveaxis(cr.reshape(x, (*x.shape[:2], heads, -1)), 1, 2)

    mixed = functional.scaled_dot_product_attention(by_head(q), by_head(k), by_head(v), is_causal=causal)
    return cr.reshape(cr.moveaxis(mixed, 1, 2), q.shape)


class Block(nn.Module):
    """A layer of a transformer that normalizes first: attention to itself, to a memory if it ``looks``, two layers."""

    def __init__(
        self, width: int, inner: int, heads: int, causal: bool, activation: Callable[[Any], Any], looks: bool = False
    ) -> None:
        self.heads, self.causal, self.activation, self.looks = heads, causal, activation, looks
        self.norm1, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        if looks:
            self.norm_q, self.q = nn.LayerNorm(width), nn.Linear(width, width)
            self.kv, self.looked = nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Any, memory: Any = None) -> Any:
        """(N, T, C), and (N, S, C) -> (N, T, C)."""
        width = x.shape[-1]
        q, k, v = cr.split(self.qkv(self.norm1(x)), width, axis=-1)
        x = x + self.out(attention(q, k, v, self.heads, self.causal))
        if self.looks:
            k, v = cr.split(self.kv(memory), width, axis=-1)
            x = x + self.looked(attention(self.q(self.norm_q(x)), k, v, self.heads, causal=False))
        return x + self.down(self.activation(self.up(self.norm2(x))))


# --- models -----------------------------------------------------------------------------------------------------------


def mlp(sizes: Sequence[int], activation: str) -> nn.Module:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), getattr(nn, activation)()]
    return nn.Sequential(*layers[:-1])


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(50 * 4 * 4, 500), nn.ReLU(), nn.Linear(500, 10),
    )  # fmt: skip


def cats_and_dogs() -> nn.Module:
    layers: list[nn.Module] = []
    channels = 3
    for width in (32, 64, 128, 128, 256):
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2))


class Series(nn.Module):
    """A number from a series, (N, T, 8) -> (N, 1)."""

    def __init__(self) -> None:
        self.rnn, self.head = nn.LSTM(8, 128), nn.Linear(128, 1)

    def forward(self, x: Any) -> Any:
        _, (h, _) = self.rnn(x)
        return self.head(h[0])


class LanguageModel(nn.Module):
    """Scores of the next character of 65 at each place, (N, length) -> (N, length, 65)."""

    def __init__(self, length: int, width: int, depth: int, heads: int) -> None:
        self.characters, self.places = nn.Embedding(65, width), nn.Embedding(length, width)
        gelu = partial(functional.gelu, approximate="tanh")
        self.blocks = nn.ModuleList(Block(width, 4 * width, heads, True, gelu) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 65, bias=False)

    def forward(self, x: Any) -> Any:
        h = self.characters(x) + self.places.weight
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


def sines(length: int, width: int) -> np.ndarray:
    """Positions as sines and cosines (Vaswani et al., arXiv 1706.03762, section 3.5), (length, width)."""
    angles = np.arange(length)[:, None] / 10000 ** (np.arange(0, width, 2) / width)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, width).astype(np.float32)


class Translator(nn.Module):
    """Scores of the next word, given a sentence and what was said before: (N, 32), (N, 32) -> (N, 32, 8000).

    The words of both sides and the scores share one table.
    """

    def __init__(self) -> None:
        self.width = 256
        self.words = nn.Embedding(8000, self.width)
        self.places = cr.Cell(cr.asarray(sines(32, self.width)))
        sizes = self.width, 1024, 4
        self.encoder = nn.ModuleList(Block(*sizes, False, cr.relu) for _ in range(3))
        self.encoder_norm = nn.LayerNorm(self.width)
        self.decoder = nn.ModuleList(Block(*sizes, True, cr.relu, looks=True) for _ in range(3))
        self.decoder_norm = nn.LayerNorm(self.width)

    def embedded(self, x: Any) -> Any:
        return self.words(x) * math.sqrt(self.width) + self.places

    def forward(self, sentence: Any, before: Any) -> Any:
        memory = self.embedded(sentence)
        for block in self.encoder:
            memory = block(memory)
        memory = self.encoder_norm(memory)
        h = self.embedded(before)
        for block in self.decoder:
            h = block(h, memory)
        return functional.linear(self.decoder_norm(h), self.words.weight)


class Speech(nn.Module):
    """Scores of a letter for every second frame, (N, 100, 80) -> (N, 50, 29)."""

    def __init__(self) -> None:
        width = 128
        self.conv1, self.conv2 = nn.Conv1d(80, width, 5, 2, 2), nn.Conv1d(width, width, 5, 1, 2)
        self.rnn, self.head = nn.GRU(width, width, bidirectional=True), nn.Linear(2 * width, 29)

    def forward(self, x: Any) -> Any:
        states, _ = self.rnn(cr.relu(self.conv2(cr.relu(self.conv1(x)))))
        return self.head(states)


# --- first weights and data -------------------------------------------------------------------------------------------


def first_weights(model: nn.Module, embedding: float) -> dict[str, np.ndarray]:
    """Weights by name, in PyTorch's layout; norms keep ones and zeros.

    Args:
        model: its layers are drawn in the order of its attributes.
        embedding: the standard deviation of embeddings.
    """
    draw = np.random.RandomState(0)
    values: dict[str, np.ndarray] = {}
    for path, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            n_out, n_in = layer.weight.shape
            values[f"{path}.weight"] = (draw.standard_normal((n_in, n_out)) / np.sqrt(n_in)).T
        elif isinstance(layer, (nn.Conv1d, nn.Conv2d)):
            n_out, *window, n_in = layer.weight.shape
            scale = np.sqrt(2 / (n_in * math.prod(window)))
            values[f"{path}.weight"] = draw.standard_normal((n_out, n_in, *window)) * scale
        elif isinstance(layer, nn.Embedding):
            values[f"{path}.weight"] = draw.standard_normal(layer.weight.shape) * embedding
        elif isinstance(layer, (nn.LSTM, nn.GRU)):
            bound = 1 / np.sqrt(layer.hidden_size)
            for name, p in layer.named_parameters():
                drawn = name.startswith("weight") or isinstance(layer, nn.GRU)
                values[f"{path}.{name}"] = draw.uniform(-bound, bound, p.shape[::-1]).T if drawn else np.zeros(p.shape)
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d)) and layer.bias is not None:
            values[f"{path}.bias"] = np.zeros(layer.bias.shape)
    return {name: value.astype(np.float32) for name, value in values.items()}


class Draw:
    """Data, drawn in the order of the calls."""

    def __init__(self) -> None:
        self._draw = np.random.RandomState(0)

    def normal(self, *shape: int) -> np.ndarray:
        return self._draw.standard_normal(shape).astype(np.float32)

    def images(self, n: int, channels: int, size: int) -> np.ndarray:
        return np.ascontiguousarray(np.moveaxis(self.normal(n, channels, size, size), 1, -1))

    def labels(self, below: int, *shape: int) -> np.ndarray:
        return self._draw.randint(0, below, shape).astype(np.int32)

    def text(self, below: int, n: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens, and those that follow them."""
        tokens = self.labels(below, n, length + 1)
        return np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:])


# --- the workloads ----------------------------------------------------------------------------------------------------


def connectionist(scores: Any, target: Any) -> Any:
    """CTC of scores (N, T, C) and labels (N, S), all of which count."""
    n, times, _ = scores.shape
    return functional.ctc_loss(cr.log_softmax(scores, axis=-1), target, [times] * n, [target.shape[1]] * n)


MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp, "lenet": lenet, "resnet": partial(nn.models.resnet, 3, 10), "series": Series,
    "language_model": LanguageModel, "translator": Translator, "speech": Speech, "cats_and_dogs": cats_and_dogs,
}  # fmt: skip

LOSSES: dict[str, Callable[..., Any]] = {
    "cross_entropy": functional.cross_entropy, "mse": functional.mse_loss, "ctc": connectionist,
}  # fmt: skip


@dataclass(frozen=True)
class Workload:
    """What is trained, on what, and how.

    Attributes:
        title: a line about it.
        model: a key of `MODELS`.
        data: draws the arguments of a step: the model's inputs, then the target.
        optimizer: the name of a class, with its settings.
        gflop: billions of floating-point operations in a step.
        sizes: arguments of the model.
        loss: a key of `LOSSES`: of the model's result and the target.
        images: whether the first input is images.
        embedding: standard deviation of the first embeddings.
        flattened: where channels, height and width are flattened: by name of a weight, their sizes.
    """

    title: str
    model: str
    data: Callable[[Draw], tuple[np.ndarray, ...]]
    optimizer: tuple[str, dict[str, float]]
    gflop: float
    sizes: dict[str, Any] = field(default_factory=dict)
    loss: str = "cross_entropy"
    images: bool = False
    embedding: float = 0.02
    flattened: dict[str, tuple[int, int, int]] = field(default_factory=dict)


_ADAM = ("Adam", {"lr": 1e-3})

WORKLOADS: dict[str, Workload] = {
    "w1": Workload(
        "MLP 4-32-32-3, tanh, batch 32, Adam", "mlp", lambda draw: (draw.normal(32, 4), draw.labels(3, 32)),
        _ADAM, 0.0003, {"sizes": (4, 32, 32, 3), "activation": "Tanh"},
    ),
    "w2": Workload(
        "MLP 784-512-512-10, batch 128, Adam", "mlp", lambda draw: (draw.normal(128, 784), draw.labels(10, 128)),
        _ADAM, 0.51, {"sizes": (784, 512, 512, 10), "activation": "ReLU"},
    ),
    "w3": Workload(
        "LeNet 28x28, batch 64, SGD with momentum", "lenet",
        lambda draw: (draw.images(64, 1, 28), draw.labels(10, 64)),
        ("SGD", {"lr": 0.01, "momentum": 0.9}), 0.9, images=True, flattened={"7.weight": (50, 4, 4)},
    ),
    "w4": Workload(
        "ResNet-20 32x32, batch 128, SGD with decay", "resnet",
        lambda draw: (draw.images(128, 3, 32), draw.labels(10, 128)),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}), 31, {"depth": 20}, images=True,
    ),
    "w5": Workload(
        "LSTM 8-128, 100 times, batch 32, Adam", "series",
        lambda draw: (draw.normal(32, 100, 8), draw.normal(32, 1)), _ADAM, 1.3, loss="mse",
    ),
    "w6": Workload(
        "language model, 4 layers of 128, 128 places, batch 16, AdamW", "language_model",
        lambda draw: draw.text(65, 16, 128), ("AdamW", {"lr": 1e-3, "weight_decay": 0.01}), 11,
        {"length": 128, "width": 128, "depth": 4, "heads": 4},
    ),
    "w7": Workload(
        "translator, 3 + 3 layers of 256, 8000 words, batch 32, Adam", "translator",
        lambda draw: (draw.labels(8000, 32, 32), *draw.text(8000, 32, 32)), ("Adam", {"lr": 1e-4}), 47,
        embedding=256**-0.5,
    ),
    "w8": Workload(
        "speech, 2 convolutions, GRU 128 both ways, CTC, batch 16, Adam", "speech",
        lambda draw: (draw.normal(16, 100, 80), 1 + draw.labels(28, 16, 20)), _ADAM, 1.6, loss="ctc",
    ),
    "w9": Workload(
        "cats and dogs 96x96, 5 convolutions with batch norm, batch 32, Adam", "cats_and_dogs",
        lambda draw: (draw.images(32, 3, 96), draw.labels(2, 32)), _ADAM, 24, images=True,
    ),
}  # fmt: skip


class Network(NamedTuple):
    """A model to be trained: ``loss = step(*arguments)`` updates it."""

    step: Callable[..., Any]
    arguments: tuple[np.ndarray, ...]
    model: nn.Module
    optimizer: optim.Optimizer


def job(workload: Workload) -> Job:
    """A workload at its beginning, as data that any library can start from."""
    model = MODELS[workload.model](**workload.sizes)
    norms = {
        f"{path}.{name}": p.numpy()
        for path, layer in model.named_modules()
        if isinstance(layer, (nn.LayerNorm, nn.BatchNorm2d))
        for name, p in layer.named_parameters()
    }
    how = {key: getattr(workload, key) for key in ("model", "sizes", "optimizer", "loss", "images", "flattened")}
    return Job(how, norms | first_weights(model, workload.embedding), workload.data(Draw()))


def trainable(given: Job, dtype: str = "float32") -> Network:
    """Our model, optimizer and step of a job."""
    model = MODELS[given.how["model"]](**given.how["sizes"])
    model.load_state_dict(given.weights, strict=False, layout="torch", flattened=given.how["flattened"])
    model.to(dtype)
    kind, settings = given.how["optimizer"]
    optimizer = getattr(optim, kind)(model.parameters(), **settings)
    loss_of = LOSSES[given.how["loss"]]

    def step(*arguments: Any) -> Any:
        *inputs, target = arguments
        loss = loss_of(model(*inputs), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    arguments = tuple(a.astype(dtype, copy=False) if a.dtype == np.float32 else a for a in given.data)
    return Network(step, arguments, model, optimizer)


def network(name: str, batch: int | None = None, dtype: str = "float32") -> Network:
    """A workload at its beginning.

    Args:
        name: a key of `WORKLOADS`.
        batch: use the first so many samples alone.
        dtype: of weights and data; the numbers are those of float32.
    """
    made = job(WORKLOADS[name])
    return trainable(made._replace(data=tuple(array[:batch] for array in made.data)), dtype)
