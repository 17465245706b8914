"""CTC by its definition: every path is written down; the gradient by the formula of the paper, in plain NumPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.errors import ArgumentError, DTypeError, IndexOutOfRangeError, ShapeError

rng = np.random.default_rng(0)
ctc_loss = nn.functional.ctc_loss


def normalized(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def collapsed(path, blank):
    return [c for i, c in enumerate(path) if c != blank and (not i or path[i - 1] != c)]


def by_enumeration(log_probs, label, blank=0):
    """``-log`` of the sum over all C^T paths that read as the label."""
    times, classes = log_probs.shape
    total = 0.0
    for path in itertools.product(range(classes), repeat=times):
        if collapsed(path, blank) == list(label):
            total += np.exp(sum(log_probs[t, c] for t, c in enumerate(path)))
    return -np.log(total) if total else np.inf


def by_the_paper(log_probs, label, blank=0):
    """The gradient by ``log_probs``: equations 6 and 10 for alpha and beta, and y times equation 15."""
    y, times = np.exp(log_probs), len(log_probs)
    states = [blank] + [c for k in label for c in (k, blank)]
    n = len(states)

    def sources(s):
        """The states before s, from which a path can come."""
        skip = s >= 2 and states[s] != blank and states[s] != states[s - 2]
        return [r for r in (s, s - 1, *([s - 2] if skip else [])) if r >= 0]

    alpha, beta = np.zeros((times, n)), np.zeros((times, n))
    alpha[0, :2] = [y[0, c] for c in states[:2]]
    beta[-1, -2:] = [y[-1, c] for c in states[-2:]]
    for t in range(1, times):
        for s in range(n):
            alpha[t, s] = y[t, states[s]] * sum(alpha[t - 1, r] for r in sources(s))
    for t in range(times - 2, -1, -1):
        for s in range(n):
            beta[t, s] = y[t, states[s]] * sum(beta[t + 1, r] for r in range(n) if s in sources(r))
    gradient = np.zeros_like(y)
    for t in range(times):
        p = sum(alpha[t, s] * beta[t, s] / y[t, states[s]] for s in range(n))
        for s in range(n):
            gradient[t, states[s]] -= alpha[t, s] * beta[t, s] / y[t, states[s]] / p
    return gradient


LABELS = [[], [1], [2], [1, 1], [1, 2], [2, 1, 2], [1, 1, 1], [2, 2, 1]]


@pytest.mark.parametrize("times", [1, 2, 3, 5])
def test_all_paths(times):
    log_probs = normalized(rng.standard_normal((len(LABELS), times, 3)))
    padded = np.array([label + [-7] * (3 - len(label)) for label in LABELS])  # what pads is never read
    lengths = [len(label) for label in LABELS]
    got = ctc_loss(log_probs, padded, [times] * len(LABELS), lengths, reduction="none").numpy()
    expected = [by_enumeration(x, label) for x, label in zip(log_probs, LABELS, strict=True)]
    np.testing.assert_allclose(got, expected, rtol=1e-13)
    assert np.isinf(expected).sum() == {1: 5, 2: 4, 3: 2, 5: 0}[times]


@given(times=st.integers(1, 4), label=st.lists(st.integers(0, 1), max_size=3), blank=st.integers(0, 2))
def test_loss_and_gradient_of_the_paper(times, label, blank):
    label = [c + (c >= blank) for c in label]
    log_probs = normalized(rng.standard_normal((times, 3)))
    loss, slope = cr.value_and_grad(lambda x: ctc_loss(x, np.array(label, int), times, len(label), blank, "sum"))(
        log_probs
    )
    expected = by_enumeration(log_probs, label, blank)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-13)
    possible = np.isfinite(expected)
    np.testing.assert_allclose(slope.numpy(), by_the_paper(log_probs, label, blank) if possible else 0.0, atol=1e-13)


def test_gradients_to_second_order():
    x = normalized(rng.standard_normal((4, 4, 3)))
    labels = np.array([[1, 1], [2, 1], [1, 0], [0, 0]])

    def loss(x):
        return ctc_loss(x, labels, [4, 3, 4, 2], [2, 2, 1, 0], reduction="none")

    cr.check_grads(loss, (x,), order=2)


def test_times_beyond_a_length_do_not_count():
    x = normalized(rng.standard_normal((2, 5, 4)))
    labels = [[1, 2], [3, 3]]
    loss, slope = cr.value_and_grad(lambda x: ctc_loss(x, labels, [3, 4], [2, 2], reduction="sum"))(x)
    alone = [ctc_loss(x[i, :n], labels[i], n, 2, reduction="sum").item() for i, n in enumerate([3, 4])]
    np.testing.assert_allclose(loss.item(), sum(alone))
    assert not slope.numpy()[0, 3:].any()
    assert not slope.numpy()[1, 4:].any()


def test_impossible_alignments_have_no_slope():
    """Two equal labels need three times; the others of the batch keep their gradients."""
    x, labels = normalized(rng.standard_normal((2, 2, 3))), np.array([[1, 1], [1, 2]])
    for zero, total in ((False, np.inf), (True, by_enumeration(x[1], [1, 2]))):
        loss, slope = cr.value_and_grad(lambda x, z=zero: ctc_loss(x, labels, [2, 2], [2, 2], 0, "sum", z))(x)
        np.testing.assert_allclose(loss.numpy(), total)
        np.testing.assert_allclose(slope.numpy(), [np.zeros((2, 3)), by_the_paper(x[1], [1, 2])], atol=1e-14)


def test_classes_without_probability():
    with np.errstate(divide="ignore"):
        x = np.log([[[0.5, 0.0, 0.5], [0.0, 0.25, 0.75], [1.0, 0.0, 0.0]]] * 2)
    labels = np.array([[2, 1], [1, 2]])
    loss, slope = cr.value_and_grad(lambda x: ctc_loss(x, labels, [3, 3], [2, 2], reduction="none")[0])(x)
    np.testing.assert_allclose(loss.item(), -np.log(0.5 * 0.25))
    np.testing.assert_allclose(slope.numpy()[0], [[0, 0, -1], [0, -1, 0], [-1, 0, 0]])
    assert np.isinf(ctc_loss(x, labels, [3, 3], [2, 2], reduction="none").numpy()[1])


def test_long_sequences_keep_their_digits_in_float32():
    x = normalized(3 * rng.standard_normal((1, 1500, 5))).astype("float32")
    labels = rng.integers(1, 5, (1, 100))

    def slope(x):
        return cr.grad(lambda x: ctc_loss(x, labels, [1500], [100], reduction="sum"))(x).numpy()

    np.testing.assert_allclose(slope(x).sum(-1), -1.0, atol=1e-4)  # at each time all paths go somewhere
    np.testing.assert_allclose(slope(x), slope(x.astype("float64")), atol=5e-4)


def test_ways_to_say_the_same():
    x = cr.asarray(normalized(rng.standard_normal((3, 6, 4))))
    rows, padded, n = [1, 2, 3, 3], np.array([[1, 2], [0, 0], [3, 3]]), [2, 0, 2]
    expected = ctc_loss(x, padded, [6, 6, 5], n).item()
    for lengths in (tuple, np.array, lambda v: cr.tensor(v, dtype="int32"), lambda v: cr.tensor(v)[:, None]):
        for targets in (rows, cr.tensor(rows, dtype="uint8"), padded.astype("int32"), [*rows, 1, 1]):
            np.testing.assert_allclose(ctc_loss(x, targets, lengths([6, 6, 5]), lengths(n)).item(), expected)
    single = ctc_loss(x[0], padded[0], 6, 2, reduction="none")
    assert single.shape == ()
    np.testing.assert_allclose(single.item(), by_enumeration(x.numpy()[0], [1, 2]))
    losses = ctc_loss(x, padded, [6, 6, 5], n, reduction="none").numpy()
    np.testing.assert_allclose(expected, (losses / [2, 1, 2]).mean())
    half = ctc_loss(x.astype("float16"), padded, [6, 6, 5], n)
    assert half.dtype == cr.float16
    np.testing.assert_allclose(half.item(), expected, rtol=1e-2)


def test_no_times_and_no_labels():
    empty = cr.zeros((2, 0, 3))
    assert ctc_loss(empty, np.zeros((2, 0), int), [0, 0], [0, 0], reduction="none").tolist() == [0.0, 0.0]
    assert ctc_loss(empty, np.ones((2, 1), int), [0, 0], [0, 1], reduction="none").tolist() == [0.0, np.inf]
    assert ctc_loss(cr.zeros((0, 4, 3)), np.zeros((0, 2), int), [], [], reduction="none").shape == (0,)


@pytest.mark.parametrize("wrap", [lambda f: f, cr.compile], ids=["eager", "compiled"])
@pytest.mark.parametrize(
    ("targets", "inputs", "labels"),
    [
        ([[1, 3]], [4], [2]),  # a label that is no class
        ([[1, -1]], [4], [2]),  # as of padding that was counted
        ([[1, 2]], [5], [2]),
        ([[1, 2]], [-1], [2]),
        ([[1, 2]], [4], [3]),
        ([1, 2], [4], [3]),
    ],
)
def test_what_is_out_of_range_is_an_error(wrap, targets, inputs, labels):
    x = cr.zeros((1, 4, 3))
    with pytest.raises(IndexOutOfRangeError):
        wrap(lambda *args: ctc_loss(x, *args))(*map(cr.tensor, (targets, inputs, labels)))


def test_other_mistakes():
    x, labels = cr.zeros((2, 4, 3)), np.ones((2, 2), int)
    with pytest.raises(ShapeError, match=r"\(N, T, C\)"):
        ctc_loss(cr.zeros((4,)), labels, [4, 4], [2, 2])
    with pytest.raises(ShapeError, match="in a row"):
        ctc_loss(x, labels[:1], [4, 4], [2, 2])
    with pytest.raises(ShapeError, match="target_lengths are 2 whole numbers"):
        ctc_loss(x, labels, [4, 4], [2])
    with pytest.raises(ShapeError, match="input_lengths are 2 whole numbers"):
        ctc_loss(x, labels, [4.0, 4.0], [2, 2])
    with pytest.raises(DTypeError, match="whole numbers"):
        ctc_loss(x, labels.astype(float), [4, 4], [2, 2])
    with pytest.raises(ArgumentError, match="one of 3 classes"):
        ctc_loss(x, labels, [4, 4], [2, 2], blank=3)
    with pytest.raises(ArgumentError, match="reduction"):
        ctc_loss(x, labels, [4, 4], [2, 2], reduction="average")


def test_losses_of_a_stack():
    x, labels = normalized(rng.standard_normal((3, 2, 5, 4))), rng.integers(1, 4, (3, 2, 2))
    lengths, counts = np.array([[5, 4], [5, 3], [4, 5]]), np.array([[2, 1], [0, 2], [1, 2]])
    args = [cr.asarray(a) for a in (x, labels, lengths, counts)]
    found = cr.vmap(cr.grad(ctc_loss))(*args).numpy()
    expected = [cr.grad(ctc_loss)(*one).numpy() for one in zip(*args, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-15)


def test_a_network_learns_to_align():
    """A few steps on one sequence bring its labels to the front, in the order given."""
    x, labels = cr.asarray(rng.standard_normal((1, 12, 8)), "float32"), cr.tensor([[1, 2, 2, 3]])
    model, loss = nn.Linear(8, 5), nn.CTCLoss()
    opt = cr.optim.Adam(model.parameters(), lr=0.1)

    @cr.compile
    def step():
        value = loss(cr.log_softmax(model(x)), labels, [12], [4])
        opt.zero_grad()
        value.backward()
        opt.step()
        return value

    values = [step().item() for _ in range(60)]
    assert values[-1] < 0.05 < values[0]
    assert collapsed(cr.argmax(model(x)[0], axis=-1).tolist(), 0) == [1, 2, 2, 3]
