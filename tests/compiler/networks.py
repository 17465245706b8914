"""Small versions of the benchmark networks, each with its optimizer, its loss and batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn, optim
from chainrule.nn import functional


class Network:
    """A model in training.

    Attributes:
        step: takes a batch, updates the model, returns the loss.
        batch: ``batch(i, n)`` is batch number i, of n samples.
        holders: the model and its optimizer.
    """

    def __init__(self, model: Any, opt: Any, loss: Callable[..., Any], batch: Callable[[int, int], Any]) -> None:
        self.model, self.opt, self.batch, self.loss = model, opt, batch, loss

        def step(x: Any, y: Any) -> Any:
            value = loss(x, y)
            opt.zero_grad()
            value.backward()
            opt.step()
            return value

        self.step = step
        self.holders = (model, opt)


def samples(*shape: int, classes: int, dtype: str = "float32") -> Callable[[int, int], Any]:
    """Batches of random samples with labels."""

    def batch(i: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(i)
        return rng.standard_normal((n, *shape)).astype(dtype), rng.integers(0, classes, n)

    return batch


def classifier(model: Any, opt: Any, batch: Any) -> Network:
    def loss(x: Any, y: Any) -> Any:
        return functional.cross_entropy(model(cr.asarray(x)), cr.asarray(y))

    return Network(model, opt, loss, batch)


def mlp(dtype: str = "float32", width: int = 32) -> Network:
    layers = [nn.Linear(4, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 3)]
    model = nn.Sequential(*layers).to(dtype)
    return classifier(model, optim.Adam(model.parameters(), lr=1e-2), samples(4, classes=3, dtype=dtype))


def mlp_float64() -> Network:
    return mlp("float64")


def lenet() -> Network:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(6 * 3 * 3, 16), nn.ReLU(), nn.Linear(16, 10),
    )  # fmt: skip
    opt = optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    return classifier(model, opt, samples(20, 20, 1, classes=10))


def residual() -> Network:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.models.ResidualBlock(8, 8),
        nn.models.ResidualBlock(8, 12, stride=2), nn.Dropout(0.2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(12, 10),
    )  # fmt: skip
    opt = optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4, nesterov=True)
    return classifier(model, opt, samples(8, 8, 3, classes=10))


class LSTM(nn.Module):
    """An LSTM over (N, T, C), by `cr.scan`, and scores from its last state."""

    def __init__(self, n_in: int, width: int, classes: int) -> None:
        self.width = width
        self.gates = nn.Linear(n_in + width, 4 * width)
        self.scores = nn.Linear(width, classes)

    def forward(self, x: Any) -> Any:
        zero = cr.zeros((x.shape[0], self.width), dtype=x.dtype)
        (h, _), _ = cr.scan(self.cell, (zero, zero), cr.permute_dims(x, (1, 0, 2)))
        return self.scores(h)

    def cell(self, state: Any, x: Any) -> Any:
        h, c = state
        i, f, g, o = cr.split(self.gates(cr.concat([x, h], axis=1)), self.width, axis=1)
        c = cr.sigmoid(f) * c + cr.sigmoid(i) * cr.tanh(g)
        h = cr.sigmoid(o) * cr.tanh(c)
        return (h, c), h


def lstm() -> Network:
    model = LSTM(3, 8, 5)
    return classifier(model, optim.Adam(model.parameters(), lr=1e-2), samples(11, 3, classes=5))


class Attention(nn.Module):
    """Causal self-attention with several heads, then two layers, each on what a norm makes of the input."""

    def __init__(self, width: int, heads: int) -> None:
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        # Without a bias: the gradient by a bias of keys is zero but for rounding, which Adam would make steps of.
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Any) -> Any:
        n, t, c = x.shape
        q, k, v = cr.permute_dims(
            self.qkv(self.norm1(x)).reshape((n, t, 3, self.heads, c // self.heads)), (2, 0, 3, 1, 4)
        )
        scores = q @ k.mT / float(np.sqrt(c // self.heads))
        scores = cr.where(cr.asarray(np.tril(np.ones((t, t), bool))), scores, -1e9)
        mixed = cr.permute_dims(cr.softmax(scores, axis=-1) @ v, (0, 2, 1, 3)).reshape((n, t, c))
        x = x + self.dropout(self.out(mixed))
        return x + self.dropout(self.down(functional.gelu(self.up(self.norm2(x)))))


class Transformer(nn.Module):
    """A small language model over tokens (N, T)."""

    def __init__(self, vocabulary: int, length: int, width: int, heads: int, depth: int) -> None:
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Attention(width, heads) for _ in range(depth)))
        self.norm, self.scores = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def forward(self, x: Any) -> Any:
        x = self.tokens(x) + self.places(cr.arange(x.shape[1]))
        return self.scores(self.norm(self.blocks(x)))


def transformer() -> Network:
    model = Transformer(vocabulary=17, length=9, width=12, heads=3, depth=2)
    opt = optim.AdamW(model.parameters(), lr=1e-3)

    def batch(i: int, n: int) -> Any:
        text = np.random.default_rng(i).integers(0, 17, (n, 10))
        return text[:, :-1], text[:, 1:]

    return classifier(model, opt, batch)


class Recurrent(nn.Module):
    """A convolution over time, then a gated recurrence over its results."""

    def __init__(self, n_in: int, width: int, classes: int) -> None:
        self.conv = nn.Conv1d(n_in, width, 3, padding=1)
        self.gates, self.new = nn.Linear(2 * width, 2 * width), nn.Linear(2 * width, width)
        self.scores = nn.Linear(width, classes)

    def forward(self, x: Any) -> Any:
        x = cr.relu(self.conv(x))
        start = cr.zeros((x.shape[0], x.shape[2]), dtype=x.dtype)
        _, states = cr.scan(self.cell, start, cr.permute_dims(x, (1, 0, 2)))
        return self.scores(cr.max(states, axis=0))

    def cell(self, h: Any, x: Any) -> Any:
        r, z = cr.split(cr.sigmoid(self.gates(cr.concat([x, h], axis=1))), h.shape[1], axis=1)
        h = (1 - z) * cr.tanh(self.new(cr.concat([x, r * h], axis=1))) + z * h
        return h, h


def recurrent() -> Network:
    model = Recurrent(3, 16, 4)
    return classifier(model, optim.RMSprop(model.parameters(), lr=1e-3), samples(13, 3, classes=4))


NETWORKS: dict[str, Callable[[], Network]] = {
    "mlp": mlp, "mlp_float64": mlp_float64, "lenet": lenet, "residual": residual, "lstm": lstm,
    "transformer": transformer, "recurrent": recurrent,
}  # fmt: skip
