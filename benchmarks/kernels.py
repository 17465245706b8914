"""Kernels alone: products and convolutions against the processor's multiply-adds, the rest against its memory.

    python benchmarks/kernels.py [part of a name ...] [--threads 2] [--seconds 0.2] [--json FILE]

Each function is compiled by itself, and the time is that of its kernels by `chainrule.profile`: packing and padding
are in it, Python and the allocation of results are not. Speeds are those of the function's own operations (a
convolution's 2 k operations for each result with k terms) and of the bytes it must read and write at least. They are
compared with what as many threads do in multiply-adds, and in a triad ``a = b + c / 2`` of arrays of the same size, in
cache or in memory. NumPy's BLAS stands beside the products of two matrices.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from harness import limits
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

import chainrule as cr
from chainrule.nn import functional

Shape = tuple[int, ...]
BATCHES = 5  # of runs; the fastest counts, as for the limits


class Case(NamedTuple):
    """A function to be measured.

    Attributes:
        name: the part before the first comma is its group.
        function: of arrays of the shapes.
        shapes: of its arguments.
        flops: how many it needs; 0 if it is measured by the memory it moves.
        reference: the same in NumPy.
    """

    name: str
    function: Callable[..., Any]
    shapes: tuple[Shape, ...]
    flops: float = 0.0
    reference: Callable[..., Any] | None = None


def with_gradients(
    name: str, function: Callable[..., Any], x: Shape, weight: Shape, result: Shape, flops: float
) -> Iterator[Case]:
    """A function of two arrays, and its gradients by each, which need as many operations."""

    def gradient(i: int, x: Any, y: Any, g: Any) -> Any:
        return cr.vjp(function, x, y)[1](g)[i]

    yield Case(name, function, (x, weight), flops)
    for i, which in enumerate(("input gradient", "weight gradient")):
        yield Case(f"{name}, {which}", partial(gradient, i), (x, weight, result), flops)


# --- contractions -----------------------------------------------------------------------------------------------------


def products() -> Iterator[Case]:
    """``a @ b`` with a (m, k) and b (k, n)."""
    square = [(n, n, n) for n in (128, 256, 512, 1024, 2048)]
    skinny = [(m, 1024, 1024) for m in (1, 8, 64)] + [(1024, 1024, n) for n in (1, 8, 64)]
    for group, sizes in (("square", square), ("skinny", skinny)):
        for m, k, n in sizes:
            yield Case(f"{group}, {m} x {k} x {n}", cr.matmul, ((m, k), (k, n)), 2 * m * k * n, np.matmul)
    for n in (256, 1024):
        for name, function in (
            ("a' b", lambda a, b: a.T @ b), ("a b'", lambda a, b: a @ b.T), ("a' b'", lambda a, b: a.T @ b.T),
        ):  # fmt: skip
            yield Case(f"transposed, {name}, {n}", function, ((n, n), (n, n)), 2 * n**3, function)
    for count, m, k, n in ((64, 128, 32, 128), (64, 128, 128, 32), (128, 32, 64, 32), (512, 16, 16, 16)):
        shapes = (count, m, k), (count, k, n)
        yield Case(f"batched, {count} of {m} x {k} x {n}", cr.matmul, shapes, 2 * count * m * k * n, np.matmul)


def layers() -> Iterator[Case]:
    """Linear layers of the networks w2, w6 and w7: rows, inputs, outputs."""
    for m, k, n in ((128, 784, 512), (2048, 128, 384), (2048, 512, 128), (1024, 256, 1024), (1024, 256, 8000)):
        yield from with_gradients(f"linear, {m} x {k} x {n}", functional.linear, (m, k), (n, k), (m, n), 2 * m * k * n)


def convolutions() -> Iterator[Case]:
    """Convolutions of w4, w3, w9 and w8: images, size, channels in and out, window, stride, padding."""
    for name, n, size, n_in, n_out, window, stride, padding in (
        ("resnet", 128, 32, 3, 16, 3, 1, 1), ("resnet", 128, 32, 16, 16, 3, 1, 1),
        ("resnet", 128, 16, 32, 32, 3, 1, 1), ("resnet", 128, 8, 64, 64, 3, 1, 1),
        ("resnet", 128, 32, 16, 32, 3, 2, 1), ("resnet", 128, 32, 16, 32, 1, 2, 0),
        ("lenet", 64, 28, 1, 20, 5, 1, 0), ("lenet", 64, 12, 20, 50, 5, 1, 0),
        ("cats and dogs", 32, 48, 32, 64, 3, 1, 1), ("cats and dogs", 32, 12, 128, 128, 3, 1, 1),
    ):  # fmt: skip
        function = partial(functional.conv2d, stride=stride, padding=padding)
        places = (size + 2 * padding - window) // stride + 1
        title = f"{name}, {n} x {size}² x {n_in}-{n_out}, {window}²{' /2' if stride == 2 else ''}"
        weight, flops = (n_out, window, window, n_in), 2 * n * places**2 * n_out * n_in * window**2
        yield from with_gradients(title, function, (n, size, size, n_in), weight, (n, places, places, n_out), flops)
    speech, shape = partial(functional.conv1d, padding=2), (16, 50, 128)
    flops = 2 * 16 * 50 * 128 * 128 * 5
    yield from with_gradients("speech, 16 x 50 x 128-128, 5", speech, shape, (128, 5, 128), shape, flops)


# --- memory -----------------------------------------------------------------------------------------------------------


def moved() -> Iterator[Case]:
    """Functions of a matrix, small enough for the cache of a core and larger than all caches."""
    functions: dict[str, Callable[..., Any]] = {
        "add": cr.add, "exp": cr.exp, "tanh": cr.tanh, "gelu": functional.gelu,
        "softmax": partial(cr.softmax, axis=-1), "layer norm": lambda x: functional.layer_norm(x, x.shape[-1:]),
        "sum": cr.sum, "sum of columns": partial(cr.sum, axis=0),
    }  # fmt: skip
    for where, shape in (("in cache", (128, 256)), ("in memory", (8192, 2048))):
        for name, function in functions.items():
            yield Case(f"{name}, {where}", function, (shape,) * (2 if name == "add" else 1))
    for where, image in (("in cache", (2, 32, 32, 16)), ("in memory", (128, 64, 64, 32))):
        yield Case(f"max pool, {where}", partial(functional.max_pool2d, kernel_size=2), (image,))


# --- measuring --------------------------------------------------------------------------------------------------------


def arrays(case: Case) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.standard_normal(shape, np.float32) for shape in case.shapes]


def kernel_seconds(case: Case, seconds: float) -> tuple[float, int]:
    """Seconds of a run, and how many bytes it must read and write.

    The result is kept in a cell, so that its memory is not new each time; copying it there is left out.
    """
    given = [cr.asarray(x) for x in arrays(case)]
    cell = cr.Cell(cr.compile(case.function)(*given))

    @cr.compile
    def keep(*given: Any) -> None:
        cell.assign(case.function(*given))

    def once(steps: int) -> float:
        found = cr.profile(keep, *given, steps=steps)
        return sum(m.seconds for m in found.kernels if m.row.depth == 0 and m.row.kind == "kernel")

    steps = max(3, min(500, int(seconds / BATCHES / once(3))))
    return min(once(steps) for _ in range(BATCHES)), sum(math.prod(x.shape) * 4 for x in (*given, cell))


def reference_seconds(case: Case, seconds: float) -> float:
    assert case.reference is not None
    given, reference = arrays(case), case.reference
    first = limits.fastest(lambda: reference(*given), 2)
    return limits.fastest(lambda: reference(*given), max(3, int(seconds / first)))


def measure(case: Case, seconds: float, peak: Callable[[], float], threads: int) -> dict[str, Any]:
    """Microseconds, and the speed beside the machine's, measured just after."""
    taken, size = kernel_seconds(case, seconds)
    if case.flops:
        unit, amount, limit = "GFLOP/s", case.flops, peak()
    else:
        unit, amount = "GB/s", size
        limit = limits.bandwidth(size if case.name.endswith("in cache") else 3 << 26)
    found = {"name": case.name, "us": 1e6 * taken, "unit": unit, "speed": amount / taken / 1e9, "limit": limit}
    if case.reference:
        with threadpool_limits(threads):
            found["numpy"] = amount / reference_seconds(case, seconds) / 1e9
    return found | {"share": found["speed"] / limit}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure kernels alone.")
    parser.add_argument("parts", nargs="*", metavar="PART", help="only those with such a part in their name")
    parser.add_argument("--threads", type=int, default=cr.get_num_threads())
    parser.add_argument("--seconds", type=float, default=0.2, help="of each function")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    cr.set_num_threads(given.threads)
    peak, results = limits.peak_meter(), []
    table = Table(title=f"kernels, {given.threads} threads", title_justify="left")
    for title in ("", "us", "speed", "unit", "limit", "share", "NumPy"):
        table.add_column(title, justify="right" if title not in ("", "unit") else "left", no_wrap=True)
    console = Console(width=None if sys.stdout.isatty() else 120)
    every = [case for group in (products, layers, convolutions, moved) for case in group()]
    try:
        with console.status("") as status:
            for case in every:
                if not given.parts or any(part in case.name for part in given.parts):
                    status.update(case.name)
                    results.append(measure(case, given.seconds, peak, given.threads))
    except KeyboardInterrupt:
        console.print("interrupted; this is what was measured before")
    for r in results:
        beside = f"{r['numpy']:.1f}" if "numpy" in r else ""
        speeds = f"{r['speed']:.1f}", r["unit"], f"{r['limit']:.0f}", f"{r['share']:.0%}"
        table.add_row(r["name"], f"{r['us']:.1f}", *speeds, beside)
    console.print(table)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
