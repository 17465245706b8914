"""Losses where it matters how they are defined: ignored labels, weights, smoothing, zeros, kinks, empty batches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides"),  # of PyTorch's kl_div
]
torch = pytest.importorskip("torch", reason="PyTorch is in the parity extra: make test-parity")

import torch.nn.functional as tf  # noqa: E402
from compare import FORWARD, GRADIENT, compare  # noqa: E402

import chainrule as cr  # noqa: E402
from chainrule.nn import functional as nnf  # noqa: E402

LABELS = {"some ignored": [1, -100, 2], "all ignored": [-100] * 3, "none ignored": [3, 0, 2]}
WEIGHTS = {"unweighted": None, "weighted": [0.5, 2.0, 0.25, 1.0]}
REDUCTIONS = ("none", "mean", "sum")


def tensor(values, grad=False):
    return torch.tensor(values, dtype=torch.float64, requires_grad=grad)


def check(name, *args, second=True, **kwargs):
    """Compare a loss of one name in both libraries."""
    errors = compare(getattr(nnf, name), getattr(tf, name), args, kwargs, second)
    assert errors.forward <= FORWARD
    assert max(errors.gradient, errors.second) <= GRADIENT


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("labels", "weight", "smoothing"), [*itertools.product(LABELS, WEIGHTS, (0.0, 0.1, 1.0))])
def test_cross_entropy_of_labels(labels, weight, smoothing, reduction):
    logits = tensor(np.random.default_rng(0).normal(size=(3, 4)), grad=True)
    weight = None if WEIGHTS[weight] is None else tensor(WEIGHTS[weight])
    options = {"weight": weight, "reduction": reduction, "label_smoothing": smoothing}
    check("cross_entropy", logits, torch.tensor(LABELS[labels]), **options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("weight", "smoothing"), [*itertools.product(WEIGHTS, (0.0, 0.1))])
def test_cross_entropy_of_probabilities(weight, smoothing, reduction):
    rng = np.random.default_rng(0)
    logits, target = tensor(rng.normal(size=(3, 4)), grad=True), tensor(rng.dirichlet(np.ones(4), 3), grad=True)
    weight = None if WEIGHTS[weight] is None else tensor(WEIGHTS[weight])
    check("cross_entropy", logits, target, weight=weight, reduction=reduction, label_smoothing=smoothing)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_cross_entropy_with_impossible_classes(reduction):
    logits = tensor([[0.0, -np.inf], [1.0, 0.0]], grad=True)
    check("cross_entropy", logits, torch.tensor([0, 1]), reduction=reduction)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "kl_div", "soft_margin_loss"])
def test_empty_batches(name, reduction):
    empty = torch.zeros((0, 3), dtype=torch.float64)
    check(name, empty.clone().requires_grad_(), empty, reduction=reduction)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_cross_entropy_of_an_empty_batch(reduction):
    logits = torch.zeros((0, 3), dtype=torch.float64, requires_grad=True)
    check("cross_entropy", logits, torch.zeros(0, dtype=torch.int64), reduction=reduction)


KINKED = {
    "smooth_l1_loss without a quadratic part": ("smooth_l1_loss", {"beta": 0.0}),
    "smooth_l1_loss": ("smooth_l1_loss", {"beta": 1.0}),
    "smooth_l1_loss, wide": ("smooth_l1_loss", {"beta": 2.0}),
    "huber_loss": ("huber_loss", {"delta": 1.0}),
    "huber_loss, narrow": ("huber_loss", {"delta": 0.5}),
    "l1_loss": ("l1_loss", {}),
    "mse_loss": ("mse_loss", {}),
}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("case", KINKED)
def test_at_the_kinks(case, reduction):
    name, options = KINKED[case]
    x, y = tensor([0.0, 1.0, 2.0, -0.5, -2.0], grad=True), tensor([0.0, 2.0, 0.0, 0.0, 0.0])
    check(name, x, y, second=False, reduction=reduction, **options)


@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.parametrize("log_target", [False, True])
def test_kl_div_with_zeros(log_target, reduction):
    x = tensor([[-1.0, -3.0], [-2.0, -0.5]], grad=True)
    target = tensor([[-40.0, 0.0], [-1.0, -2.0]] if log_target else [[0.0, 1.0], [0.3, 0.7]])
    check("kl_div", x, target, reduction=reduction, log_target=log_target)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_cross_entropy_of_large_logits(reduction):
    logits, target = tensor([1000.0, -1000.0, 0.0, 30.0], grad=True), tensor([1.0, 1.0, 0.5, 0.0])
    options = {"reduction": reduction, "weight": tensor([1.0, 2.0, 0.5, 1.0]), "pos_weight": tensor(3.0)}
    check("binary_cross_entropy_with_logits", logits, target, **options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_binary_cross_entropy_bounds_its_logarithms(reduction):
    p, target = tensor([0.0, 1.0, 0.0, 1.0]), tensor([0.0, 1.0, 1.0, 0.0])
    check("binary_cross_entropy", p, target, reduction=reduction)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_margins_at_the_kinks(reduction):
    check("hinge_embedding_loss", tensor([1.0, 1.0, 0.5], grad=True), tensor([1.0, -1.0, -1.0]), reduction=reduction)
    one, two = tensor([1.0, 1.0], grad=True), tensor([1.0, 2.0], grad=True)
    check("margin_ranking_loss", one, two, tensor([1.0, -1.0]), reduction=reduction)
    scores = tensor([[1.0, 0.0, 0.5]], grad=True)
    check("multi_margin_loss", scores, torch.tensor([0]), second=False, reduction=reduction)
    check("multilabel_margin_loss", scores, torch.tensor([[0, -1, 1]]), second=False, reduction=reduction)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gaussian_nll_of_a_variance_below_the_bound(reduction):
    x, y, v = tensor([0.0, 1.0], grad=True), tensor([0.5, 2.0]), tensor([0.0, 1.0], grad=True)
    check("gaussian_nll_loss", x, y, v, reduction=reduction)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_poisson_nll_with_stirlings_formula(reduction):
    check("poisson_nll_loss", tensor([0.0, 1.0, 2.0], grad=True), tensor([0.0, 1.0, 3.0]), full=True,
          reduction=reduction)  # fmt: skip


# --- CTC: PyTorch's gradient takes for granted that a log_softmax is before it ----------------------------------------


def ours_of_logits(logits, *args, **kwargs):
    return nnf.ctc_loss(cr.log_softmax(cr.swapaxes(logits, 0, -2)), *args, **kwargs)


def theirs_of_logits(logits, *args, **kwargs):
    return tf.ctc_loss(logits.log_softmax(-1), *args, **kwargs)


@pytest.mark.parametrize("seed", range(30))
def test_ctc_of_random_sizes(seed):
    rng = np.random.default_rng(seed)
    n, times, classes, most = rng.integers([1, 1, 2, 0], [6, 25, 9, 9])
    blank = int(rng.integers(classes))
    labels = rng.integers(classes - 1, size=(n, most))
    labels += labels >= blank
    counts = rng.integers(most + 1, size=n)
    repeats = (labels[:, 1:] == labels[:, :-1]) & (np.arange(1, most) < counts[:, None]) if most else labels
    needed = np.minimum(counts + repeats.sum(1), times)
    lengths = np.minimum(rng.integers(needed, times + 1), times)
    if seed % 3 == 0:  # all labels in a row
        labels = np.concatenate([row[:k] for row, k in zip(labels, counts, strict=True)])
    given = [torch.tensor(x) if seed % 2 else x.tolist() for x in (lengths, counts)]
    options = {"blank": blank, "reduction": REDUCTIONS[seed % 3], "zero_infinity": True}
    logits = tensor(3 * rng.standard_normal((times, n, classes)), grad=True)
    errors = compare(ours_of_logits, theirs_of_logits, (logits, torch.tensor(labels), *given), options)
    assert errors.forward <= FORWARD
    assert errors.gradient <= GRADIENT


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_ctc_that_is_infinite(reduction):
    logits = torch.zeros((3, 2, 4), dtype=torch.float64)
    args = torch.tensor([[1, 1], [1, 2]]), [2, 3], [2, 2]
    errors = compare(ours_of_logits, theirs_of_logits, (logits, *args), {"reduction": reduction})
    assert errors.forward <= FORWARD


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_ctc_of_one_sequence(reduction):
    logits = tensor(np.random.default_rng(0).normal(size=(6, 4)), grad=True)
    args = torch.tensor([1, 1, 3]), torch.tensor(6), torch.tensor(3)
    errors = compare(ours_of_logits, theirs_of_logits, (logits, *args), {"reduction": reduction})
    assert errors.forward <= FORWARD
    assert errors.gradient <= GRADIENT


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("swap", [False, True])
def test_triplets_with_another_distance(swap, reduction):
    rng = np.random.default_rng(0)
    triplet = [tensor(rng.normal(size=(5, 3)), grad=True) for _ in range(3)]

    def run(function, distance):
        return lambda *xs: function(*xs, distance_function=distance, margin=2.0, swap=swap, reduction=reduction)

    name = "triplet_margin_with_distance_loss"
    ours = run(getattr(nnf, name), lambda x, y: 1 - nnf.cosine_similarity(x, y))
    theirs = run(getattr(tf, name), lambda x, y: 1 - tf.cosine_similarity(x, y, dim=-1))
    errors = compare(ours, theirs, triplet, {})
    assert errors.forward <= FORWARD
    assert errors.gradient <= GRADIENT
