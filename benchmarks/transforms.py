"""What transforms cost, as ratios side by side in one run.

    python benchmarks/transforms.py [samples ensemble attention budget] [--seconds 2]

- samples: gradient norms and clipped sums over 256 samples of a network 784-512-10, against the mean gradient; and all
  per-sample gradients, against writing as much memory.
- ensemble: a training step of 32 small networks with seeds and learning rates of their own as one program, against one.
- attention: forward and backward over 16,384 places, in a process of its own: time and memory.
- budget: training steps of ResNet-56 and of a transformer of 12 layers in half of their memory.

Times are medians, measured in turn; all is compiled. Let nothing else run.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import chainrule as cr
from chainrule import nn, optim

rng = np.random.default_rng(0)
Row = tuple[str, str, str]
BLOCK = 0.03  # seconds


def normal(*shape: int) -> cr.Tensor:
    return cr.asarray(rng.standard_normal(shape).astype(np.float32))


def medians(calls: list[Callable[[], Any]], seconds: float) -> list[float]:
    """Median seconds of each call, measured in turn, some tens of milliseconds of each at a time."""
    found: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    begin = time.perf_counter()
    while len(found[0]) < 5 or time.perf_counter() - begin < seconds:
        for call, times in zip(calls, found, strict=True):
            block = time.perf_counter()
            while time.perf_counter() - block < BLOCK:
                start = time.perf_counter()
                call()
                times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in found]


def against(name: str, seconds: float, base: float, limit: float) -> Row:
    return name, f"{1e3 * seconds:.2f} ms, {seconds / base:.2f} of {1e3 * base:.2f} ms", f"{limit}"


# --- samples ----------------------------------------------------------------------------------------------------------


def samples(seconds: float) -> list[Row]:
    model = nn.models.mlp([784, 512, 10])
    x, y = normal(256, 784), cr.asarray(rng.integers(0, 10, 256))

    def loss(tree: Any, x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
        return nn.functional.cross_entropy(cr.functional_call(model, tree, x[None]), y[None])

    def mean_loss(tree: Any) -> cr.Tensor:
        return nn.functional.cross_entropy(cr.functional_call(model, tree, x), y)

    tree = model.parameter_tree()
    mean = cr.compile(lambda: cr.grad(mean_loss)(tree))
    norms = cr.compile(lambda: cr.per_sample_grad_norms(loss)(tree, x, y))
    clipped = cr.compile(lambda: cr.clipped_grad_sum(loss, 1.0)(tree, x, y))
    every = cr.compile(lambda: cr.per_sample_grads(loss)(tree, x, y))
    n = sum(p.size for p in model.parameters())
    write = cr.compile(lambda value: cr.broadcast_to(value, (256, n)) + 0.0)
    one = cr.asarray(np.float32(1.0))
    calls = [mean, norms, clipped, every, lambda: write(one)]
    base, t_norms, t_clipped, t_every, t_write = medians(calls, seconds)
    return [
        against("gradient norms of 256 samples, against the mean gradient", t_norms, base, 2.0),
        against("clipped sum of their gradients", t_clipped, base, 2.0),
        against(f"all their gradients ({256 * n * 4 / 2**20:.0f} MiB), against writing as much", t_every, t_write, 1.5),
    ]


# --- ensemble ---------------------------------------------------------------------------------------------------------


def ensemble(seconds: float) -> list[Row]:
    members, sizes, x, y = 32, [4, 32, 32, 3], normal(32, 4), normal(32, 3)
    model = nn.models.mlp(sizes)

    def step(tree: Any, rate: cr.Tensor) -> tuple[Any, cr.Tensor]:
        def loss(tree: Any) -> cr.Tensor:
            return nn.functional.mse_loss(cr.functional_call(model, tree, x), y)

        value, grads = cr.value_and_grad(loss)(tree)
        return cr.tree_map(lambda p, g: p - rate * g, tree, grads), value

    def drawn(seed: int) -> Any:
        cr.manual_seed(seed)
        return cr.tree_map(lambda p: p.detach(), nn.models.mlp(sizes).parameter_tree())

    trees = [drawn(seed) for seed in range(members)]
    stacked = cr.tree_map(lambda *leaves: cr.stack(leaves), *trees)
    rates = cr.asarray(np.logspace(-3, -1, members).astype(np.float32))
    together, alone = cr.compile(cr.vmap(step)), cr.compile(step)
    _, losses = together(stacked, rates)
    expected = [alone(tree, rate)[1].item() for tree, rate in zip(trees, rates, strict=True)]
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-4)
    base, found = medians([lambda: alone(trees[0], rates[0]), lambda: together(stacked, rates)], seconds)
    return [against(f"{members} networks in one program, against one", found, base, 6.0)]


# --- attention --------------------------------------------------------------------------------------------------------

ATTENTION = """
import time
import numpy as np
import chainrule as cr
from chainrule.nn.functional import scaled_dot_product_attention as attention

def step(q, k, v):
    return cr.grad(lambda *a: attention(*a, is_causal={causal}).sum(), (0, 1, 2))(q, k, v)

def memory():  # the peak of this process; that of getrusage begins with the parent's
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

def inputs(n):
    rng = np.random.default_rng(0)
    return [cr.asarray(rng.standard_normal((1, 4, n, 32)).astype(np.float32)) for _ in range(3)]

compiled, large = cr.compile(step), inputs(16384)
compiled(*inputs(512))
before = memory()
compiled.program_for(*large)
start = time.perf_counter()
compiled(*large)
print(time.perf_counter() - start, memory() - before)
"""


def attention(seconds: float) -> list[Row]:
    rows = []
    for causal in (False, True):
        code = ATTENTION.replace("{causal}", str(causal))
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        took, extra = map(float, done.stdout.split())
        kind = "causal attention" if causal else "attention"
        rows.append((f"{kind}, 16,384 places, 4 heads of 32", f"{took:.1f} s, {extra:.0f} MiB more", "10 s, 100 MiB"))
    return rows


# --- budget -----------------------------------------------------------------------------------------------------------


class Transformer(nn.Module):
    """Twelve layers, 128 wide."""

    def __init__(self) -> None:
        layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, activation="gelu", norm_first=True)
        self.embedding, self.layers = nn.Embedding(1000, 128), nn.TransformerEncoder(layer, 12)
        self.head = nn.Linear(128, 1000)

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        return cr.reshape(self.head(self.layers(self.embedding(x))), (-1, 1000))


def budget(seconds: float) -> list[Row]:
    rows = []
    tokens = cr.asarray(rng.integers(0, 1000, (8, 128)))
    labels = cr.asarray(rng.integers(0, 1000, (8 * 128,)))
    images, classes = normal(32, 32, 32, 3), cr.asarray(rng.integers(0, 10, 32))
    for name, make, x, y in (
        ("ResNet-56, 32 images", lambda: nn.models.resnet(3, 10, depth=56), images, classes),
        ("transformer of 12 layers", Transformer, tokens, labels),
    ):
        free = trainer(make, None, x, y)
        first = [free().item() for _ in range(5)]
        size = free.step.programs[0].arena_size
        bound = trainer(make, size // 2, x, y)
        assert first == [bound().item() for _ in range(5)], "the losses differ"
        share = bound.step.programs[0].arena_size / size
        base, found = medians([free, bound], seconds)
        what = f"{name}, same losses in {share:.2f} of {size / 2**20:.0f} MiB"
        rows.append(against(what, found, base, 1.4))
    return rows


def trainer(make: Callable[[], nn.Module], memory_budget: int | None, x: Any, y: Any) -> Any:
    cr.manual_seed(0)
    model = make()
    opt = optim.Adam(model, lr=1e-3)

    @cr.compile(memory_budget=memory_budget)
    def step(x: Any, y: Any) -> cr.Tensor:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        return loss

    def run() -> cr.Tensor:
        return step(x, y)

    run.step = step  # type: ignore[attr-defined]
    return run


PARTS = {"samples": samples, "ensemble": ensemble, "attention": attention, "budget": budget}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], default=[], help="all, unless some are named")
    parser.add_argument("--seconds", type=float, default=2.0, help="about how long each comparison takes")
    args = parser.parse_args()
    table = Table("what", "measured", "at most")
    for name in args.parts or PARTS:
        for row in PARTS[name](args.seconds):
            table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
