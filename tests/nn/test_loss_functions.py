"""Losses by their definitions in NumPy, at the edge of the numbers, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import ArgumentError, DTypeError, IndexOutOfRangeError, ShapeError

nnf = nn.functional
rng = np.random.default_rng(0)
REDUCTIONS = ("none", "mean", "sum")


def real(*shape):
    return rng.standard_normal(shape)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    weights = np.exp(x)
    return weights / weights.sum(-1, keepdims=True)


def check(expected, name, *args, **options):
    """Compare all reductions with the expected losses, in float64."""
    for reduction in REDUCTIONS:
        found = getattr(nnf, name)(*args, reduction=reduction, **options)
        whole = expected if reduction == "none" else getattr(np, reduction)(expected)
        np.testing.assert_allclose(found.numpy(), whole, rtol=1e-12, atol=1e-14)


# --- by definition ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 3.5])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_focal_loss_of_questions(gamma, alpha):
    x, y = 2 * real(4, 5), rng.integers(0, 2, (4, 5))
    p = np.where(y == 1, sigmoid(x), 1 - sigmoid(x))  # equation 2 of the paper, then 5
    share = 1.0 if alpha is None else np.where(y == 1, alpha, 1 - alpha)
    for target in (y.astype(float), y):
        check(-share * (1 - p) ** gamma * np.log(p), "focal_loss", x, target, alpha=alpha, gamma=gamma)
    cr.check_grads(lambda x: nnf.focal_loss(x, y, alpha, gamma), (x,), order=2)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_focal_loss_of_labels(gamma, weighted):
    x, y = 2 * real(4, 3, 5), rng.integers(0, 5, (4, 3))
    alpha = rng.uniform(0.2, 2, 5) if weighted else None
    p = np.take_along_axis(softmax(x), y[..., None], -1)[..., 0]
    expected = -(alpha[y] if weighted else 1.0) * (1 - p) ** gamma * np.log(p)
    check(expected, "focal_loss", x, y, alpha=alpha, gamma=gamma)
    cr.check_grads(lambda x: nnf.focal_loss(x, y, alpha, gamma), (x,), order=2)


def test_focal_loss_without_focus_is_cross_entropy():
    x, y, q = real(6, 4), rng.integers(0, 4, 6), rng.uniform(size=(6, 4))
    np.testing.assert_allclose(nnf.focal_loss(x, y, gamma=0.0).numpy(), nnf.cross_entropy(x, y).numpy())
    expected = nnf.binary_cross_entropy_with_logits(x, q).numpy()
    np.testing.assert_allclose(nnf.focal_loss(x, q, gamma=0.0).numpy(), expected)


@pytest.mark.parametrize("smooth", [1.0, 0.1])
def test_dice_loss(smooth):
    p, y = softmax(real(2, 3, 4, 5)), rng.integers(0, 5, (2, 3, 4))
    g = np.eye(5)[y]
    shared, sizes = (p * g).sum((1, 2)), (p**2).sum((1, 2)) + (g**2).sum((1, 2))
    expected = 1 - (2 * shared + smooth) / (sizes + smooth)
    check(expected, "dice_loss", p, g, smooth=smooth)
    check(expected, "dice_loss", p, y, smooth=smooth)
    cr.check_grads(lambda x: nnf.dice_loss(cr.softmax(x), y, smooth), (real(2, 3, 4, 5),))


def test_dice_loss_of_what_agrees_and_of_what_is_nowhere():
    g = np.zeros((1, 4, 2))
    g[:, :2, 0] = 1.0
    assert nnf.dice_loss(g, g, reduction="none").tolist() == [[0.0, 0.0]]
    np.testing.assert_allclose(nnf.dice_loss(1 - g, g, smooth=1e-9, reduction="none").numpy(), 1.0, atol=1e-8)


def test_quantile_loss():
    x, y = real(4, 3), real(4, 3)
    d = y - x
    for q in (0.1, 0.5, 0.9):
        check(np.maximum(q * d, (q - 1) * d), "quantile_loss", x, y, quantile=q)
    several = real(4, 3, 2)
    d, q = y[..., None] - several, np.array([0.2, 0.7])
    for levels in (q, [0.2, 0.7], (0.2, 0.7)):
        check(np.maximum(q * d, (q - 1) * d), "quantile_loss", several, y, quantile=levels)
    cr.check_grads(lambda x, y: nnf.quantile_loss(x, y, (0.2, 0.7)), (several, y))


def test_quantile_loss_is_least_at_the_quantile():
    y = rng.exponential(size=1001)
    guesses = cr.asarray(np.sort(y))
    losses = cr.stack([nnf.quantile_loss(cr.full((1001,), g, dtype="float64"), y, 0.9) for g in guesses])
    assert guesses[cr.argmin(losses)].item() == np.sort(y)[900]


def test_hinge_loss():
    x, y = 2 * real(5, 4), rng.choice([-1.0, 1.0], (5, 4))
    check(np.maximum(0, 1 - y * x), "hinge_loss", x, y)
    check(np.maximum(0, 0.3 - y * x), "hinge_loss", x, y.astype(int), margin=0.3)
    cr.check_grads(lambda x: nnf.hinge_loss(x, y), (x,))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
def test_info_nce(symmetric, normalized):
    q, k = real(5, 3), real(5, 3)
    length = (lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)) if normalized else (lambda x: x)
    scores = length(q) @ length(k).T / 0.5
    rows, columns = (-np.log(np.diag(softmax(s))) for s in (scores, scores.T))
    options = {"temperature": 0.5, "symmetric": symmetric, "normalized": normalized}
    check((rows + columns) / 2 if symmetric else rows, "info_nce", q, k, **options)
    cr.check_grads(lambda q, k, t: nnf.info_nce(q, k, t, symmetric, normalized), (q, k, 0.5))


def test_the_temperature_of_info_nce_can_be_learned():
    loss = nn.InfoNCELoss(temperature=cr.Parameter(cr.tensor(0.5)))
    assert [name for name, _ in loss.named_parameters()] == ["temperature"]
    loss(cr.eye(3), cr.eye(3)).backward()
    assert loss.temperature.grad.item() > 0  # what fits well wants to be sharper


@pytest.mark.parametrize("swap", [False, True])
def test_triplets_with_another_distance(swap):
    a, b, c = real(4, 3), real(4, 3), real(4, 3)

    def distance(x, y):
        return abs(x - y).sum(axis=-1)

    far = np.minimum(distance(a, c), distance(b, c)) if swap else distance(a, c)
    options = {"distance_function": distance, "swap": swap, "margin": 0.5}
    check(np.maximum(0, distance(a, b) - far + 0.5), "triplet_margin_with_distance_loss", a, b, c, **options)
    expected = nnf.triplet_margin_loss(a, b, c, swap=swap).item()
    assert nn.TripletMarginWithDistanceLoss(swap=swap)(a, b, c).item() == expected


# --- large logits -----------------------------------------------------------------------------------------

LARGE = {
    "cross_entropy": lambda x: nnf.cross_entropy(x, np.array([0, 1, 2]), reduction="none"),
    "cross_entropy, smooth": lambda x: nnf.cross_entropy(x, np.array([0, 1, 2]), label_smoothing=0.1),
    "cross_entropy of probabilities": lambda x: nnf.cross_entropy(x, np.eye(3, dtype="float32")),
    "binary_cross_entropy_with_logits": lambda x: nnf.binary_cross_entropy_with_logits(x, cr.eye(3)),
    "soft_margin_loss": lambda x: nnf.soft_margin_loss(x, 2 * cr.eye(3) - 1),
    "focal_loss": lambda x: nnf.focal_loss(x, cr.eye(3)),
    "focal_loss, wide": lambda x: nnf.focal_loss(x, cr.eye(3), alpha=0.25, gamma=0.5),
    "focal_loss of labels": lambda x: nnf.focal_loss(x, np.array([0, 1, 2])),
    "focal_loss of labels, wide": lambda x: nnf.focal_loss(x, np.array([0, 1, 2]), gamma=0.5),
    "dice_loss": lambda x: nnf.dice_loss(cr.softmax(x)[None], np.array([[0, 1, 2]])),
    "info_nce": lambda x: nnf.info_nce(x, cr.eye(3), normalized=False),
    "hinge_loss": lambda x: nnf.hinge_loss(x, 2 * cr.eye(3) - 1),
    "ctc_loss": lambda x: nnf.ctc_loss(cr.log_softmax(x), np.array([1, 2]), 3, 2),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_logits_in_float32(name):
    x = np.array([[1e4, -1e4, 0.0], [1e4, -1e4, -1e4], [-1e4, 0.0, 1e4]], "float32")
    loss, pullback = cr.vjp(LARGE[name], cr.asarray(x))
    (slope,) = pullback(cr.ones_like(loss))
    exact, pullback = cr.vjp(LARGE[name], cr.asarray(x.astype("float64")))
    (exact_slope,) = pullback(cr.ones_like(exact))
    assert loss.dtype == cr.float32
    np.testing.assert_allclose(loss.numpy(), exact.numpy(), rtol=1e-5)
    np.testing.assert_allclose(slope.numpy(), exact_slope.numpy(), rtol=1e-5, atol=1e-6)
    assert np.isfinite(slope.numpy()).all()


def test_cross_entropy_keeps_small_differences_of_large_logits():
    """``log(sum) + peak - x`` would round to 1/1024 here."""
    x = cr.tensor([[1e4, 1e4]])
    np.testing.assert_allclose(nnf.cross_entropy(x, cr.tensor([0])).numpy(), np.log(2), rtol=1e-6)


def test_cross_entropy_writes_no_matrix_but_the_exponentials():
    """Forward one pass over the logits; backward one pass more."""
    step = cr.compile(lambda x, y: cr.value_and_grad(nnf.cross_entropy)(x, y))
    args = cr.zeros((64, 1000)), cr.zeros((64,), dtype="int64")
    step(*args)
    report = str(cr.explain(step, *args))
    large = [line for line in report.splitlines() if line[:3].strip().isdigit() and "64×1000" in line]
    assert len(large) == 3, "\n".join(large)  # rows, gather, and the gradient


# --- what is refused --------------------------------------------------------------------------------------

SAME = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "dice_loss", "focal_loss", "hinge_embedding_loss",
    "hinge_loss", "huber_loss", "info_nce", "kl_div", "l1_loss", "mse_loss", "multilabel_soft_margin_loss",
    "poisson_nll_loss", "quantile_loss", "smooth_l1_loss", "soft_margin_loss",
]  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_shapes_never_broadcast(name):
    with pytest.raises(ShapeError, match="one shape"):
        getattr(nnf, name)(real(4, 2), real(4, 1))


@pytest.mark.parametrize("name", ["margin_ranking_loss", "triplet_margin_loss", "triplet_margin_with_distance_loss"])
def test_shapes_of_three_never_broadcast(name):
    with pytest.raises(ShapeError, match="one shape"):
        getattr(nnf, name)(real(4, 2), real(4, 2), real(4, 1))


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss", "multi_margin_loss", "focal_loss"])
def test_labels_have_the_shape_of_the_places(name):
    loss = getattr(nnf, name)
    with pytest.raises(ShapeError, match="labels must have shape"):
        loss(real(4, 3), np.zeros((4, 1), int))
    with pytest.raises((DTypeError, ShapeError)):
        loss(real(4, 3), np.zeros(4))
    for label in (3, -1, -3):
        with pytest.raises(IndexOutOfRangeError, match="not one of the 3 classes"):
            loss(real(4, 3), np.array([0, 1, label, 2]))
    with pytest.raises(IndexOutOfRangeError):
        cr.compile(loss)(real(4, 3), np.array([0, 1, -1, 2]))


@pytest.mark.parametrize("name", sorted(nnf.losses.__all__ + nnf.margin_losses.__all__ + nnf.rare_class_losses.__all__))
def test_other_reductions_are_refused(name):
    if name in ("cosine_similarity", "pairwise_distance"):
        return
    x, y = real(3, 4), np.zeros(3, int)
    args = {"nll_loss": (x, y), "multi_margin_loss": (x, y), "cosine_embedding_loss": (x, x, np.ones(3))}
    args |= {"multilabel_margin_loss": (x, np.zeros((3, 4), int)), "cross_entropy": (x, y)}
    args |= dict.fromkeys(("margin_ranking_loss", "gaussian_nll_loss"), (x, x, np.ones((3, 4))))
    args |= dict.fromkeys(("triplet_margin_loss", "triplet_margin_with_distance_loss"), (x, x, x))
    with pytest.raises(ArgumentError, match="reduction"):
        getattr(nnf, name)(*args.get(name, (abs(x) % 1, abs(x) % 1)), reduction="average")


def test_other_mistakes():
    x = real(4, 3)
    for wrong in (0.0, 1.0, (0.1, 1.2), ()):
        with pytest.raises(ArgumentError, match="between 0 and 1"):
            nnf.quantile_loss(x, x, wrong)
    with pytest.raises(ShapeError, match="one shape"):
        nnf.quantile_loss(x, x, (0.1, 0.9))
    with pytest.raises(ArgumentError, match="gamma"):
        nnf.focal_loss(x, x, gamma=-1.0)
    with pytest.raises(ArgumentError, match="temperature"):
        nnf.info_nce(x, x, temperature=0.0)
    with pytest.raises(ShapeError, match=r"\(N, D\)"):
        nnf.info_nce(real(3), real(3))
    with pytest.raises(ShapeError, match="batch of images"):
        nnf.dice_loss(real(3), real(3))
    with pytest.raises(ShapeError, match="labels must have shape"):
        nnf.dice_loss(real(2, 4, 3), np.zeros((2, 5), int))
    with pytest.raises(ShapeError, match="a weight for each of 3 classes"):
        nnf.cross_entropy(x, np.zeros(4, int), weight=[1.0, 2.0])
    with pytest.raises(ArgumentError, match=r"takes \(reduction"):
        nn.MSELoss("mean", 3)
    with pytest.raises(ArgumentError, match="delt"):
        nn.HuberLoss(delt=3)


# --- modules ----------------------------------------------------------------------------------------------


def test_a_module_takes_the_options_of_its_function():
    loss = nn.HuberLoss("sum", delta=0.5)
    assert (loss.reduction, loss.delta) == ("sum", 0.5)
    x, y = real(4), real(4)
    assert loss(x, target=y).item() == nnf.huber_loss(x, y, "sum", 0.5).item()
    assert "huber_loss" in type(loss).__doc__


def test_weights_are_buffers_and_numbers_are_not():
    weighted = nn.FocalLoss(alpha=[0.2, 0.8])
    assert list(weighted.state_dict()) == ["alpha"]
    assert weighted.double().alpha.dtype == cr.float64
    assert not nn.FocalLoss(alpha=0.25).state_dict()
    assert not nn.QuantileLoss([0.1, 0.9]).state_dict()


@pytest.mark.parametrize("symmetric", [False, True])
def test_losses_of_a_stack(symmetric):
    """`vmap` gives one loss for each member."""
    q, k = cr.asarray(real(3, 4, 2)), cr.asarray(real(3, 4, 2))
    loss = nn.InfoNCELoss(symmetric=symmetric)
    np.testing.assert_allclose(cr.vmap(loss)(q, k).numpy(), [loss(a, b).item() for a, b in zip(q, k, strict=True)])
