"""The kernels of attention: blocks and their ends, masks, places in memory, widths, parts for threads."""

from __future__ import annotations

from typing import Any

import both_modes
import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler import scores, tiling
from chainrule.nn.functional import scaled_dot_product_attention

RNG = np.random.default_rng(5)
Q, K = scores.QUERIES, scores.KEYS


def real(*shape: int, dtype: str = "float32") -> cr.Tensor:
    return cr.asarray(RNG.standard_normal(shape).astype(dtype))


def step(q: Any, k: Any, v: Any, ct: Any, mask: Any = None, causal: bool = False) -> Any:
    """Results and gradients."""

    def loss(q: Any, k: Any, v: Any) -> Any:
        out = scaled_dot_product_attention(q, k, v, mask, is_causal=causal, enable_gqa=q.ndim > 2)
        return (out * ct).sum(), out

    return cr.value_and_grad(loss, (0, 1, 2), has_aux=True)(q, k, v)


def agree(*args: Any, causal: bool = False) -> Any:
    def run(*args: Any) -> Any:
        return step(*args, causal=causal)

    compiled = cr.compile(run)
    found = compiled(*args)
    names = {row["name"] for row in cr.explain(compiled, *args).to_dict()["kernels"]}
    assert {"attention", "attention_gradients"} <= names
    both_modes.same(run(*args), found, factor=4)
    return found


# Places before and after the ends of tiles and blocks.
LENGTHS = [(4, 1), (15, 17), (Q - 1, K + 1), (Q, K), (Q + 1, K - 1), (2 * Q + 5, 2 * K + 3)]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lengths_and_features(dtype, causal):
    for (t, s), (d, e) in zip(LENGTHS, [(1, 1), (16, 33), (7, 16), (32, 32), (64, 5), (17, 48)], strict=True):
        shapes = (2, t, d), (2, s, d), (2, s, e), (2, t, e)
        agree(*(real(*shape, dtype=dtype) for shape in shapes), causal=causal)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "shape", [(K + 9,), (Q + 3, K + 9), (2, 1, 1, K + 9), (3, Q + 3, K + 9), (2, 3, Q + 3, 1), (1, 1)], ids=str
)
def test_masks(shape, causal):
    """By keys, queries, samples and heads; some queries see nothing."""
    q, k, v, ct = (real(2, 3, n, 8) for n in (Q + 3, K + 9, K + 9, Q + 3))
    mask = cr.asarray(RNG.random(shape) < 0.4)
    agree(q, k, v, ct, mask, causal=causal)


@pytest.mark.parametrize(("n", "t", "more"), [(2, 70, []), (1, 300, ["combine attention_gradients"])])
def test_heads_of_one_projection_are_neither_copied_nor_joined(n, t, more):
    """Queries, keys and values are parts of rows, results and gradients are written to parts of rows."""

    def f(x: Any, ct: Any) -> Any:
        def loss(x: Any) -> Any:
            heads = (cr.swapaxes(part.reshape(n, t, 3, 8), 1, 2) for part in cr.split(x, 24, axis=-1))
            out = scaled_dot_product_attention(*heads, is_causal=True)
            return (cr.swapaxes(out, 1, 2).reshape(n, t, 24) * ct).sum()

        return cr.grad(loss)(x)

    x, ct = real(n, t, 72), real(n, t, 24)
    compiled = cr.compile(f)
    both_modes.same(f(x, ct), compiled(x, ct), factor=4)
    names = [row["name"] for row in cr.explain(compiled, x, ct).to_dict()["kernels"]]
    assert names == ["attention", "multiply + sum", "attention_gradients", *more]


def test_other_places_in_memory():
    """Repeated, turned and transposed operands, groups of heads, and cotangents that are one number."""

    def f(q: Any, k: Any, v: Any, mask: Any) -> Any:
        return step(q.mT, cr.flip(k, -2), cr.broadcast_to(v, (2, 2, 40, 1)), 2.0, mask.mT)

    args = real(2, 4, 6, 9), real(2, 2, 40, 6), real(40, 1), cr.asarray(RNG.random((4, 40, 9)) < 0.4)
    both_modes.same(f(*args), cr.compile(f)(*args), factor=4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_floats(dtype):
    def f(x: Any) -> Any:
        q, k, v = cr.asarray(x).astype(dtype)
        return step(q, k, v, v, causal=True)

    x = real(3, 2, 2 * Q, 8)
    both_modes.same(f(x), cr.compile(f)(x), factor=4)


def test_numbers_that_are_not_finite_stay_so():
    q, k, v = (np.ones((3, 20, 4), np.float32) for _ in range(3))
    q[0, 3, 1] = k[1, 5, 2] = np.nan
    v[2, 7] = np.inf

    def f(*args: Any) -> Any:
        return scaled_dot_product_attention(*args)

    both_modes.same(f(q, k, v), cr.compile(f)(q, k, v))


def test_scores_may_be_large():
    """No exponential overflows, and what is too small to count is 0."""
    q, k, v, ct = (40 * real(2, n, 16) for n in (20, 300, 300, 20))
    both_modes.same(step(q, k, v, ct), cr.compile(step)(q, k, v, ct), factor=100)


@pytest.mark.parametrize("causal", [False, True])
def test_threads_and_parts(causal, request):
    """Few heads are cut into parts of keys by the shape alone: the bits are those of one thread."""
    args = [real(2, n, 32) for n in (700, 5 * K, 5 * K, 700)]
    before = cr.get_num_threads()
    request.addfinalizer(lambda: cr.set_num_threads(before))
    found = []
    for threads in (1, 2, 3):
        cr.set_num_threads(threads)
        found.append(both_modes.flat(agree(*args, causal=causal)))
    for other in found[1:]:
        for name, x in found[0].items():
            assert x.tobytes() == other[name].tobytes(), name


@pytest.mark.parametrize("registers", [(32, 16), (16, 16)], ids=["AVX", "SSE"])
def test_narrow_registers_give_the_same_bits(registers, monkeypatch):
    """Other tiles, of other rows and columns, add up in the same order."""
    args = [real(2, n, d) for n, d in ((100, 20), (150, 20), (150, 35), (100, 35))]
    found = []
    for _ in range(2):
        found.append(both_modes.flat(agree(*args, causal=True)))
        monkeypatch.setattr(tiling, "_registers", lambda: registers)
    for name, x in found[0].items():
        assert x.tobytes() == found[1][name].tobytes(), name
