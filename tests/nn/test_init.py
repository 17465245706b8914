"""Initial values: their distributions, what they are for, and mistakes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import chainrule as cr
from chainrule import nn
from chainrule.errors import ArgumentError
from chainrule.nn import init

FAMILIES = ["xavier", "kaiming", "lecun"]
LARGE = (400, 500)


def weights(shape=LARGE, dtype="float64"):
    return nn.Parameter(cr.zeros(shape, dtype=dtype))


def drawn(rule, shape=LARGE, dtype="float64", seed=3):
    return rule(shape, cr.asarray(0, dtype).dtype, cr.Generator(seed)).numpy()


def assert_drawn_from(values, distribution):
    """Kolmogorov and Smirnov: numbers of another distribution, or of one 2 % wider, get a p below 1e-4."""
    assert stats.kstest(values.ravel(), distribution.cdf).pvalue > 1e-3


def expected_std(family, fan_in, fan_out):
    gain = math.sqrt(2 / (1 + 0.2**2))  # of kaiming with slope 0.2
    return {
        "xavier": 1.5 * math.sqrt(2 / (fan_in + fan_out)),
        "kaiming": gain / math.sqrt(fan_in),
        "lecun": 1 / math.sqrt(fan_in),
    }[family]


OPTIONS = {"xavier": {"gain": 1.5}, "kaiming": {"a": 0.2}, "lecun": {}}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("distribution", ["uniform", "normal", "truncated"])
def test_families_have_their_distribution(family, distribution):
    std = expected_std(family, 500, 400)
    wide = std / stats.truncnorm.std(-2, 2)
    exact = {
        "uniform": stats.uniform(-math.sqrt(3) * std, 2 * math.sqrt(3) * std),
        "normal": stats.norm(0, std),
        "truncated": stats.truncnorm(-2, 2, 0, wide),
    }[distribution]
    assert exact.std() == pytest.approx(std)
    values = drawn(getattr(init, family)(distribution, **OPTIONS[family]))
    assert_drawn_from(values, exact)
    low, high = exact.support()
    assert low <= values.min()
    assert values.max() <= high


def test_the_test_of_distributions_tells_one_percent_two_percent_wider():
    with pytest.raises(AssertionError):
        assert_drawn_from(drawn(init.normal(1.02)), stats.norm(0, 1))


@pytest.mark.parametrize(("rule", "exact"), [
    (init.uniform(0.3), stats.uniform(-0.3, 0.6)),
    (init.normal(0.5, 2.0), stats.norm(2.0, 0.5)),
    (init.truncated_normal(0.5, 1.0, 0.8, 3.0), stats.truncnorm(-0.4, 4.0, 1.0, 0.5)),
])  # fmt: skip
def test_plain_rules_have_their_distribution(rule, exact):
    assert_drawn_from(drawn(rule), exact)


# What one output sees, and what sees one input, from the layers themselves: ones through them, and how many arrive.
LAYERS = {
    "linear": (nn.Linear(6, 4), (1, 6), 6, 4),
    "convolution": (nn.Conv1d(6, 4, 3), (1, 9, 6), 18, 12),
    "grouped": (nn.Conv2d(6, 4, (3, 2), groups=2), (1, 7, 7, 6), 18, 24),
    "transposed": (nn.ConvTranspose1d(6, 4, 3), (1, 9, 6), 12, 18),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_fans(kind):
    layer, shape, fan_in, fan_out = LAYERS[kind]
    assert init.fans(layer.weight.shape) == (fan_in, fan_out)
    init.ones_(layer.weight)
    seen = float(layer(cr.ones(shape)).max() - layer.bias.max())
    assert seen == pytest.approx(fan_out if kind == "transposed" else fan_in, abs=0.5)


@pytest.mark.parametrize(("layer", "mode", "shape"), [
    (nn.Linear(200, 300), "fan_in", (64, 200)),
    (nn.Conv2d(32, 64, 3, padding=1), "fan_in", (8, 16, 16, 32)),
    (nn.Conv2d(32, 64, 3, padding=1, groups=4), "fan_in", (8, 16, 16, 32)),
    (nn.ConvTranspose2d(64, 32, 3, padding=1), "fan_out", (8, 16, 16, 64)),
], ids=["linear", "convolution", "grouped", "transposed"])  # fmt: skip
def test_lecun_keeps_the_variance_of_values(layer, mode, shape):
    g = cr.Generator(0)
    init.lecun_normal_(layer.weight, mode, generator=g)
    init.zeros_(layer.bias)
    y = layer(cr.normal(shape, generator=g)).numpy()
    inner = y[:, 1:-1, 1:-1] if y.ndim == 4 else y  # at the border there are zeros among the inputs
    assert inner.var() == pytest.approx(1.0, rel=0.05)


def test_fan_out_keeps_the_variance_of_gradients():
    layer = nn.Linear(500, 300)
    init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="linear", generator=cr.Generator(0))
    back = cr.grad(lambda x, ct: (layer(x) * ct).sum())(cr.zeros((64, 500)), cr.normal((64, 300)))
    assert float(back.var()) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("name", [
    *(f"{family}_{d}_" for family in FAMILIES for d in ("uniform", "normal", "truncated")),
    "uniform_", "normal_", "trunc_normal_", "orthogonal_",
])  # fmt: skip
def test_functions_assign_by_their_generator(name):
    fill = getattr(init, name)
    first, second = weights((5, 4), "float32"), weights((5, 4), "float32")
    assert fill(first, generator=cr.Generator(7)) is first
    fill(second, generator=cr.Generator(7))
    assert first.dtype == cr.float32
    assert len(np.unique(first.numpy())) > 10
    np.testing.assert_array_equal(first.numpy(), second.numpy())
    assert (fill(second, generator=cr.Generator(8)).numpy() != first.numpy()).any()
    cr.manual_seed(7)
    np.testing.assert_array_equal(fill(second).numpy(), first.numpy())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("distribution", ["uniform", "normal", "truncated"])
def test_functions_are_the_rules(family, distribution):
    p = getattr(init, f"{family}_{distribution}_")(weights((5, 4)), generator=cr.Generator(3), **OPTIONS[family])
    rule = getattr(init, family)(distribution, **OPTIONS[family])
    np.testing.assert_array_equal(p.numpy(), drawn(rule, (5, 4)))


def test_a_parameter_takes_a_rule():
    cr.manual_seed(1)
    a = init.parameter((30, 20), init.kaiming("truncated"), "float64")
    cr.manual_seed(1)
    b = init.parameter((30, 20), init.kaiming("truncated"), "float64")
    np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert a.dtype == cr.float64


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (4, 3, 3, 2), (40, 3, 2)])
def test_orthogonal(shape):
    w = drawn(init.orthogonal(2.0), shape).reshape(shape[0], -1)
    rows, cols = w.shape
    product = w @ w.T if rows <= cols else w.T @ w
    np.testing.assert_allclose(product, 4.0 * np.eye(min(rows, cols)), atol=1e-12)


def test_orthogonal_matrices_are_uniformly_distributed():
    """The trace of a uniformly distributed one has mean 0 and variance 1; a Q of LAPACK's signs has a negative mean."""
    traces = [np.trace(drawn(init.orthogonal(), (4, 4), seed=seed)) for seed in range(400)]
    assert abs(np.mean(traces)) < 0.15
    assert np.var(traces) == pytest.approx(1.0, abs=0.2)


def test_orthogonal_within_a_compiled_function():
    p, g = weights((4, 6)), cr.Generator(5)
    expected = drawn(init.orthogonal(), (4, 6), seed=5)

    @cr.compile
    def start():
        init.orthogonal_(p, generator=g)

    start()
    np.testing.assert_allclose(p.numpy(), expected, atol=1e-12)


def test_sparse():
    w = drawn(init.sparse(0.71, 0.5), (300, 200))
    assert ((w == 0).sum(axis=0) == 213).all()
    assert_drawn_from(w[w != 0], stats.norm(0, 0.5))
    zeros = (w == 0).mean(axis=1)  # rows are alike: each has about 71 % zeros
    assert abs(zeros - 0.71).max() < 5 * math.sqrt(0.71 * 0.29 / 200)
    assert not drawn(init.sparse(1.0), (3, 3)).any()


def test_eye():
    layer = nn.Linear(3, 5, bias=False)
    init.eye_(layer.weight)
    assert layer(cr.tensor([[1.0, 2.0, 3.0]])).tolist() == [[1.0, 2.0, 3.0, 0.0, 0.0]]


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_dirac_keeps_an_image(d, groups):
    layer = getattr(nn, f"Conv{d}d")(6, 6, 3, padding=1, groups=groups, bias=False)
    init.dirac_(layer.weight, groups)
    x = np.random.default_rng(0).normal(size=(2, *(5, 4, 3)[:d], 6)).astype(np.float32)
    np.testing.assert_array_equal(layer(x).numpy(), x)


def test_dirac_leaves_further_channels_zero():
    layer = nn.Conv1d(2, 6, 1, groups=2, bias=False)
    init.dirac_(layer.weight, 2)
    assert layer(cr.tensor([[[1.0, 2.0]]])).tolist() == [[[1.0, 0.0, 0.0, 2.0, 0.0, 0.0]]]


def test_constants():
    p = weights((2, 2))
    assert init.constant_(p, 0.5).tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert init.ones_(p).tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert init.zeros_(p).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert init.trunc_normal_(p, mean=5.0, std=0.0).tolist() == [[2.0, 2.0], [2.0, 2.0]]


def test_weights_without_elements():
    for family in FAMILIES:
        for distribution in ("uniform", "normal", "truncated"):
            assert drawn(getattr(init, family)(distribution), (0, 0)).shape == (0, 0)


def test_everything_public_is_here():
    assert set(init.__all__) == {n for n in init.__all__ if hasattr(init, n)}
    assert len(set(init.__all__)) == len(init.__all__)


MISTAKES = {
    "one axis": (lambda: init.xavier_uniform_(weights((3,))), "at least 2 axes"),
    "distribution": (lambda: init.kaiming("triangular"), "uniform, normal, truncated"),
    "mode": (lambda: init.kaiming_normal_(weights(), mode="fan_avg"), "'fan_in' or 'fan_out'"),
    "nonlinearity": (lambda: init.kaiming_normal_(weights(), nonlinearity="swish"), "leaky_relu"),
    "std": (lambda: init.normal_(weights(), std=-1.0), "not negative"),
    "bounds": (lambda: init.uniform_(weights(), 1.0, 0.0), "a=1.0, b=0.0"),
    "truncated bounds": (lambda: init.trunc_normal_(weights(), a=3.0), "a=3.0, b=2.0"),
    "truncated std": (lambda: init.trunc_normal_(weights(), std=-3.0), "not negative"),
    "sparse axes": (lambda: init.sparse_(weights((2, 2, 2)), 0.5), "have 2 axes"),
    "sparsity": (lambda: init.sparse_(weights(), 1.5), "a fraction, 0 to 1"),
    "sparse std": (lambda: init.sparse_(weights(), 0.5, -1.0), "not negative"),
    "eye": (lambda: init.eye_(weights((2, 2, 2))), "have 2 axes"),
    "dirac axes": (lambda: init.dirac_(weights((2, 2))), "3, 4 or 5 axes"),
    "dirac groups": (lambda: init.dirac_(weights((4, 3, 2)), 3), "4 channels, 3 groups"),
    "orthogonal": (lambda: init.orthogonal_(weights((4,))), "at least 2 axes"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused(mistake):
    call, message = MISTAKES[mistake]
    with pytest.raises(ArgumentError, match=message):
        call()
