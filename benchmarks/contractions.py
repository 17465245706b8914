"""Speed of contractions on one core: GFLOP/s of the compiled kernels, next to NumPy's BLAS and PyTorch if it is there.

    python benchmarks/contractions.py [part of a name ...]

The best of many runs counts. Times of convolutions include padding and packing. BLAS is given the product alone: for a
convolution, the matrix product with the same numbers of rows, columns and terms, without making its patches.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "compiler"))
from contraction_harness import Runner, aligned, operand

from chainrule.compiler.convolution import lower_contraction

try:
    import torch
except ImportError:
    torch = None

DOT = {"contract": ((1,), (0,)), "batch": ((), ())}
LINEAR = {"contract": ((1,), (1,)), "batch": ((), ())}
WEIGHTS = {"contract": ((0,), (0,)), "batch": ((), ())}

PRODUCTS = {
    "square 32": ((32, 32), (32, 32), DOT),
    "square 128": ((128, 128), (128, 128), DOT),
    "square 512": ((512, 512), (512, 512), DOT),
    "square 1024": ((1024, 1024), (1024, 1024), DOT),
    "linear 64x784x512": ((64, 784), (512, 784), LINEAR),
    "linear gradient 64x512x784": ((64, 512), (512, 784), DOT),
    "linear weights 512x64x784": ((64, 512), (64, 784), WEIGHTS),
    "linear 128x2880x10": ((128, 2880), (10, 2880), LINEAR),
    "vector 1x1024x1024": ((1, 1024), (1024, 1024), DOT),
    "heads 64 of 64x32x64": ((64, 64, 32), (64, 64, 32), {"contract": ((2,), (2,)), "batch": ((0,), (0,))}),
}

# image, outputs, window, stride, padding
CONVOLUTIONS = {
    "resnet 32x32x3-16": ((128, 32, 32, 3), 16, 3, 1, 1),
    "resnet 32x32x16": ((128, 32, 32, 16), 16, 3, 1, 1),
    "resnet 16x16x32": ((128, 16, 16, 32), 32, 3, 1, 1),
    "resnet 8x8x64": ((128, 8, 8, 64), 64, 3, 1, 1),
    "resnet 32x32x16-32 /2": ((128, 32, 32, 16), 32, 3, 2, 1),
    "lenet 28x28x1-20": ((64, 28, 28, 1), 20, 5, 1, 0),
    "lenet 12x12x20-50": ((64, 12, 12, 20), 50, 5, 1, 0),
}


def best(run: Callable[[], object], seconds: float = 0.4) -> float:
    """Seconds of the fastest run."""
    fastest, begin = math.inf, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        run()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


def ours(kind: str, a: np.ndarray, b: np.ndarray, shape: tuple[int, ...], static: dict) -> float:
    out = aligned(math.prod(shape) * 4)[: math.prod(shape) * 4].view(np.float32)
    return best(Runner(lower_contraction(kind, operand(a), operand(b), shape, static, a.dtype), [a, b], [out]).run)


def blas(m: int, k: int, n: int) -> float:
    a, b = (np.ones(s, np.float32) for s in ((m, k), (k, n)))
    out = np.empty((m, n), np.float32)
    return best(lambda: np.matmul(a, b, out=out))


def random(shape: tuple[int, ...]) -> np.ndarray:
    data = aligned(math.prod(shape) * 4)[: math.prod(shape) * 4].view(np.float32).reshape(shape)
    data[...] = np.random.default_rng(0).normal(size=shape)
    return data


def line(name: str, flops: float, native: float, other: float, torch_: float | None = None) -> None:
    rates = [f"{flops / t / 1e9:8.1f}" if t else "       -" for t in (native, other, torch_)]
    print(f"{name:36}{flops / 1e6:9.2f}{native * 1e6:10.1f}{''.join(rates)}", flush=True)


def products(wanted: Callable[[str], bool]) -> None:
    for name, (a_shape, b_shape, static) in PRODUCTS.items():
        if not wanted(name):
            continue
        a, b = random(a_shape), random(b_shape)
        free_b = [b_shape[i] for i in range(len(b_shape)) if i not in static["contract"][1] + static["batch"][1]]
        k = math.prod(a_shape[i] for i in static["contract"][0])
        rows, n = a.size // k, math.prod(free_b)
        batch = math.prod(a_shape[i] for i in static["batch"][0])
        shape = (batch, rows // batch, n) if batch > 1 else (rows, n)
        left = a if static["contract"][0] != (0,) else a.T
        right = b if static["contract"][1][0] != b.ndim - 1 else np.moveaxis(b, -1, -2)
        native, other = ours("dot", a, b, shape, static), best(lambda x=left, y=right: np.matmul(x, y))
        fast = None
        if torch:
            x, y = torch.from_numpy(left), torch.from_numpy(right)
            fast = best(lambda x=x, y=y: torch.matmul(x, y))
        line(name, 2 * rows * k * n, native, other, fast)


def convolutions(wanted: Callable[[str], bool]) -> None:
    for name, (shape, outputs, window, stride, padding) in CONVOLUTIONS.items():
        n, *image, c = shape
        places = [(size + 2 * padding - window) // stride + 1 for size in image]
        x, y, w = random(shape), random((n, *places, outputs)), random((outputs, window, window, c))
        how = {"stride": (stride,) * 2, "padding": ((padding,) * 2,) * 2, "dilation": (1, 1), "groups": 1}
        terms, positions = window * window * c, n * math.prod(places)
        flops = 2 * positions * terms * outputs
        for kind, a, b, out, more, sizes in (
            ("conv", x, w, y.shape, {}, (positions, terms, outputs)),
            ("conv_input", y, w, x.shape, {"shape": x.shape}, (x.size // c, outputs * window * window, c)),
            ("conv_kernel", x, y, w.shape, {"kernel": (window, window)}, (terms, positions, outputs)),
        ):
            full = f"{name} {kind}"
            if not wanted(full):
                continue
            native = ours(kind, a, b, out, {**how, **more})
            scale = flops / (2 * math.prod(sizes))
            line(full, flops, native, blas(*sizes) * scale, pytorch(kind, x, w, y, stride, padding))


def pytorch(kind: str, x: np.ndarray, w: np.ndarray, y: np.ndarray, stride: int, padding: int) -> float | None:
    if not torch:
        return None
    image, kernel, out = (torch.from_numpy(t).movedim(-1, 1) for t in (x, w, y))
    if kind == "conv":
        return best(lambda: torch.nn.functional.conv2d(image, kernel, None, stride, padding))
    mask = [kind == "conv_input", kind == "conv_kernel", False]
    last = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, mask)
    return best(lambda: torch.ops.aten.convolution_backward(out, image, kernel, None, *last))


def main() -> None:
    parts = sys.argv[1:]
    if torch:
        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
    print(f"{'':36}{'MFLOP':>9}{'us':>10}{'GFLOP/s':>8}{'BLAS':>8}{'torch':>8}")
    with threadpool_limits(1):
        for table in (products, convolutions):
            table(lambda name: not parts or any(part in name for part in parts))


if __name__ == "__main__":
    main()
