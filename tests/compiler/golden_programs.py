"""A dozen programs whose listings are kept, so that a change of the compiler shows what it changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn, optim

F = nn.functional
X = np.ones((32, 20), np.float32)
LABELS = np.zeros(32, np.int64)
IMAGES = np.ones((8, 12, 12, 3), np.float32)
SEQUENCE = np.ones((4, 6, 8), np.float32)


def _training(model: nn.Module, optimizer: type, loss: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    opt = optimizer(model.parameters(), lr=0.1, **options)

    def step(x: Any, y: Any) -> Any:
        value = loss(model(x), y)
        opt.zero_grad()
        value.backward()
        opt.step()
        return value

    return step


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 10))


def _conv_net() -> nn.Module:
    block = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*block, nn.Flatten(), nn.Linear(16 * 36, 10))


def _attention(x: Any) -> Any:
    return cr.softmax(x @ x.mT / 3.0, axis=-1) @ x


def _recurrent(x: Any) -> Any:
    w = cr.Parameter(np.eye(8, dtype=np.float32))
    return cr.scan(lambda h, s: (cr.tanh(h @ w + s), h), cr.zeros((4, 8)), cr.moveaxis(x, 1, 0))[0]


def programs() -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Functions and arguments, by name."""
    norm = nn.LayerNorm(20)
    return {
        "softmax": (lambda x: cr.softmax(x, axis=-1), (X,)),
        "layer_norm": (norm, (X,)),
        "layer_norm_gradient": (cr.grad(lambda x: (norm(x) * x).sum()), (X,)),
        "cross_entropy_gradient": (cr.grad(F.cross_entropy), (X[:, :10], LABELS)),
        "mlp_adam": (_training(_mlp(), optim.Adam, F.cross_entropy), (X, LABELS)),
        "mlp_sgd_momentum": (_training(_mlp(), optim.SGD, F.cross_entropy, momentum=0.9), (X, LABELS)),
        "conv_net": (_training(_conv_net(), optim.AdamW, F.cross_entropy), (IMAGES, LABELS[:8])),
        "attention_gradient": (cr.grad(lambda x: _attention(x).sum()), (SEQUENCE,)),
        "dropout": (lambda x: F.dropout(x, 0.5) * 2.0, (X,)),
        "scan": (_recurrent, (SEQUENCE,)),
        "scan_gradient": (cr.grad(lambda x: _recurrent(x).sum()), (SEQUENCE,)),
        "cond": (lambda x: cr.cond(x.sum() > 0, cr.exp, cr.negative, x), (X,)),
        "embedding_gradient": (cr.grad(lambda w: F.embedding(LABELS, w).sum()), (X,)),
    }


def listing(function: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    """The steps of a program, one a line: kind, operations, what is made, bodies indented."""
    program = cr.compile(function).program_for(*arguments)
    lines: list[str] = []
    _list(program.steps, "", lines)
    return "\n".join([*lines, f"arena {program.arena_size} bytes", ""])


def _list(steps: Any, indent: str, lines: list[str]) -> None:
    for step in steps:
        kernel = "" if step.call is None else step.call.code.key.split("\n")[0].split(" ")[0].split("/")[0] + ": "
        made = dict.fromkeys(f"{v.dtype.name}{list(v.shape)}" for op in step.ops[-1:] for v in op.outputs)
        names = [op.name for op in step.ops]
        lines.append(f"{indent}{step.kind} {kernel}{' '.join(names)} -> {', '.join(made)}".rstrip(" ->"))
        for body in step.bodies:
            _list(body, indent + "    ", lines)
