"""PyTorch: its own modules, with attributes named as in `networks`, so that the weights fit by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional

TITLE = "PyTorch"
REQUIRES = ("torch==2.13.0", "numpy==2.4.6")
MODES = ("eager", "compiled")
IMAGE_MODES = ("eager channels-last", "compiled channels-last")
CACHES = ("TORCHINDUCTOR_CACHE_DIR",)

Tensor = torch.Tensor

# --- models -----------------------------------------------------------------------------------------------------------


def mlp(sizes: Sequence[int], activation: str) -> nn.Module:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), getattr(nn, activation)()]
    return nn.Sequential(*layers[:-1])


def lenet() -> nn.Module:
    first = nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))


def cats_and_dogs() -> nn.Module:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise((3, 32, 64, 128, 128, 256)):
        layers += [nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 2))


class Residual(nn.Module):
    """``relu(x + f(x))``, with a projection of x where its shape changes."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out)
        self.conv2, self.norm2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out)
        projection = nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
        self.shortcut = nn.Sequential(*projection) if n_in != n_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


def resnet(depth: int) -> nn.Module:
    layers = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    n_in = 16
    for n_out in (16, 32, 64):
        for _ in range((depth - 2) // 6):
            layers.append(Residual(n_in, n_out, 1 if n_in == n_out else 2))
            n_in = n_out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


class Series(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(8, 128, batch_first=True), nn.Linear(128, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, _) = self.rnn(x)
        return self.head(h[-1])


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, causal: bool) -> Tensor:
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)


class Block(nn.Module):
    """A layer of a transformer, normalizing first, which may look at a memory."""

    def __init__(
        self, width: int, inner: int, heads: int, causal: bool, activation: Callable[[Tensor], Tensor], looks: bool
    ) -> None:
        super().__init__()
        self.heads, self.causal, self.activation, self.looks = heads, causal, activation, looks
        self.norm1, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        if looks:
            self.norm_q, self.q = nn.LayerNorm(width), nn.Linear(width, width)
            self.kv, self.looked = nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        x = x + self.out(attention(*self.qkv(self.norm1(x)).chunk(3, -1), self.heads, self.causal))
        if self.looks:
            k, v = self.kv(memory).chunk(2, -1)
            x = x + self.looked(attention(self.q(self.norm_q(x)), k, v, self.heads, False))
        return x + self.down(self.activation(self.up(self.norm2(x))))


class LanguageModel(nn.Module):
    def __init__(self, length: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.characters, self.places = nn.Embedding(65, width), nn.Embedding(length, width)
        gelu = partial(functional.gelu, approximate="tanh")
        self.blocks = nn.ModuleList(Block(width, 4 * width, heads, True, gelu, False) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 65, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.characters(x) + self.places.weight
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


class Translator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width = 256
        self.words = nn.Embedding(8000, width)
        angles = torch.arange(32.0)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
        self.register_buffer("places", torch.stack([angles.sin(), angles.cos()], -1).flatten(1), persistent=False)
        sizes = width, 1024, 4
        self.encoder = nn.ModuleList(Block(*sizes, False, functional.relu, False) for _ in range(3))
        self.decoder = nn.ModuleList(Block(*sizes, True, functional.relu, True) for _ in range(3))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, sentence: Tensor, before: Tensor) -> Tensor:
        memory, h = (self.words(x) * math.sqrt(256) + self.places for x in (sentence, before))
        for block in self.encoder:
            memory = block(memory)
        memory = self.encoder_norm(memory)
        for block in self.decoder:
            h = block(h, memory)
        return functional.linear(self.decoder_norm(h), self.words.weight)


class Speech(nn.Module):
    """(N, T, 80) -> (T / 2, N, 29): times first, as PyTorch's CTC wants them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(80, 128, 5, 2, 2), nn.Conv1d(128, 128, 5, 1, 2)
        self.rnn, self.head = nn.GRU(128, 128, bidirectional=True), nn.Linear(256, 29)

    def forward(self, x: Tensor) -> Tensor:
        features = functional.relu(self.conv2(functional.relu(self.conv1(x.transpose(1, 2)))))
        states, _ = self.rnn(features.permute(2, 0, 1))
        return self.head(states)


MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp, "lenet": lenet, "resnet": resnet, "series": Series, "language_model": LanguageModel,
    "translator": Translator, "speech": Speech, "cats_and_dogs": cats_and_dogs,
}  # fmt: skip


# --- losses -----------------------------------------------------------------------------------------------------------


def cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(scores.flatten(0, -2), target.flatten())


def ctc(scores: Tensor, target: Tensor) -> Tensor:
    times, n, _ = scores.shape
    lengths = (torch.full((n,), size, dtype=torch.long) for size in (times, target.shape[1]))
    return functional.ctc_loss(functional.log_softmax(scores, -1), target, *lengths)


LOSSES = {"cross_entropy": cross_entropy, "mse": functional.mse_loss, "ctc": ctc}


# --- the step ---------------------------------------------------------------------------------------------------------


def build(job: Any, mode: str, threads: int) -> tuple[Callable[[], Any], Callable[[Any], float]]:
    torch.set_num_threads(threads)
    model = MODELS[job.how["model"]](**job.how["sizes"])
    weights = {name: torch.from_numpy(value.copy()) for name, value in job.weights.items()}
    assert not model.load_state_dict(weights, strict=False).unexpected_keys
    arguments = [torch.from_numpy(a).long() if a.dtype.kind == "i" else torch.from_numpy(a) for a in job.data]
    if job.how["images"]:
        last = mode.endswith("channels-last")
        layout = torch.channels_last if last else torch.contiguous_format
        arguments[0] = arguments[0].movedim(-1, 1).contiguous(memory_format=layout)
        model.to(memory_format=layout)
    kind, settings = job.how["optimizer"]
    optimizer = getattr(torch.optim, kind)(model.parameters(), **settings, fused=True)
    loss_of = LOSSES[job.how["loss"]]
    *inputs, target = arguments

    def forward(*inputs: Tensor) -> Tensor:
        return loss_of(model(*inputs), target)

    run = torch.compile(forward) if mode.startswith("compiled") else forward

    def step() -> Tensor:
        loss = run(*inputs)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    return step, Tensor.item
