"""Recurrent layers by their equations in NumPy, one step and one sequence at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.errors import ArgumentError, DTypeError, ShapeError

rng = np.random.default_rng(0)
KINDS = ["RNN", "LSTM", "GRU"]


def tensor(*shape):
    return cr.asarray(rng.standard_normal(shape))


def layer_of(kind, *args, **kwargs):
    return getattr(nn, kind)(*args, dtype="float64", **kwargs)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rnn_step(a, b, h, c, width):
    return np.tanh(a + b), c


def lstm_step(a, b, h, c, width):
    i, f, g, o = np.split(a + b, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_step(a, b, h, c, width):
    (r, z, n), (r_h, z_h, n_h) = np.split(a, 3), np.split(b, 3)
    z = sigmoid(z + z_h)
    return (1 - z) * np.tanh(n + sigmoid(r + r_h) * n_h) + z * h, c


STEPS = {"RNN": rnn_step, "LSTM": lstm_step, "GRU": gru_step}


def by_hand(kind, weights, suffix, xs, h, c):
    """The states ``h`` at all times of one sequence (T, C), and the last ``h`` and ``c``."""
    w_ih, w_hh, b_ih, b_hh = (weights[f"{name}{suffix}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    states = []
    for x in xs:
        h, c = STEPS[kind](w_ih @ x + b_ih, w_hh @ h + b_hh, h, c, len(h))
        if f"weight_hr{suffix}" in weights:
            h = weights[f"weight_hr{suffix}"] @ h
        states.append(h)
    return np.array(states).reshape(len(xs), len(h)), h, c


def sizes_of(layer):
    return getattr(layer, "proj_size", 0) or layer.hidden_size, layer.hidden_size


def all_by_hand(layer, kind, xs, starts):
    """Output and last states (layers * directions, H) of one sequence; ``starts`` are pairs ``h, c`` for each."""
    weights = {name: p.numpy() for name, p in layer.named_parameters()}
    lasts = []
    for number in range(layer.num_layers):
        outs = []
        for suffix, order in (("", 1), ("_reverse", -1))[: 1 + layer.bidirectional]:
            out, *last = by_hand(kind, weights, f"_l{number}{suffix}", xs[::order], *starts[len(lasts)])
            outs.append(out[::order])
            lasts.append(last)
        xs = np.concatenate(outs, axis=-1)
    return xs, [np.array(parts) for parts in zip(*lasts, strict=True)]


def states_of(layer, n, zero=False):
    """A first state as arrays, and as an argument."""
    lead = layer.num_layers * (1 + layer.bidirectional), n
    h, c = (np.zeros((*lead, s)) if zero else rng.standard_normal((*lead, s)) for s in sizes_of(layer))
    given = (cr.asarray(h), cr.asarray(c)) if isinstance(layer, nn.LSTM) else cr.asarray(h)
    return h, c, given


def check(layer, kind, x, lengths, zero):
    h, c, hx = states_of(layer, len(x), zero)
    given = {} if lengths is None else {"lengths": cr.asarray(np.array(lengths))}
    out, last = layer(cr.asarray(x), None if zero else hx, **given)
    last = last if kind == "LSTM" else (last,)
    for n, length in enumerate(lengths or [x.shape[1]] * len(x)):
        starts = list(zip(h[:, n], c[:, n], strict=True))
        expected, wanted = all_by_hand(layer, kind, x[n, :length], starts)
        np.testing.assert_allclose(out.numpy()[n, :length], expected, atol=1e-12)
        assert not out.numpy()[n, length:].any()
        for ours, state in zip(last, wanted, strict=False):  # for all but LSTM, c means nothing
            np.testing.assert_allclose(ours.numpy()[:, n], state, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_equations(kind, num_layers, bidirectional):
    layer = layer_of(kind, 3, 4, num_layers, bidirectional=bidirectional)
    check(layer, kind, rng.standard_normal((2, 5, 3)), None, zero=False)
    check(layer, kind, rng.standard_normal((2, 1, 3)), None, zero=True)


def test_projection():
    layer = layer_of("LSTM", 3, 5, 2, bidirectional=True, proj_size=2)
    assert layer.weight_hr_l1_reverse.shape == (2, 5)
    check(layer, "LSTM", rng.standard_normal((2, 4, 3)), None, zero=False)
    check(layer, "LSTM", rng.standard_normal((2, 4, 3)), [2, 4], zero=False)


def test_relu():
    layer = nn.RNN(2, 3, nonlinearity="relu", bias=False, dtype="float64")
    x = rng.standard_normal((1, 4, 2))
    h = np.zeros(3)
    for row in x[0]:
        h = np.maximum(layer.weight_ih_l0.numpy() @ row + layer.weight_hh_l0.numpy() @ h, 0)
    np.testing.assert_allclose(layer(x)[1].numpy()[0, 0], h)


# --- lengths ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8)
@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=3), zero=st.booleans())
def test_a_padded_sequence_is_the_sequence_without_padding(kind, lengths, zero):
    layer = layer_of(kind, 2, 3, 2, bidirectional=True)
    check(layer, kind, rng.standard_normal((len(lengths), 5, 2)), lengths, zero)


@pytest.mark.parametrize("kind", KINDS)
def test_mask(kind):
    layer, x = layer_of(kind, 2, 3, bidirectional=True), tensor(3, 4, 2)
    lengths = cr.tensor([4, 1, 0])
    mask = cr.arange(4) < lengths[:, None]
    for a, b in zip(leaves(layer(x, lengths=lengths)), leaves(layer(x, mask=mask)), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(leaves(layer(x, lengths=[9, 1, 0])), leaves(layer(x, mask=mask)), strict=True):
        np.testing.assert_array_equal(a, b)
    holes = cr.tensor([[True, False, True, False]] * 3)  # a step that does not count is as if it were not there
    out, _ = layer(x, mask=holes)
    np.testing.assert_allclose(out.numpy()[:, ::2], layer(x[:, ::2])[0].numpy(), atol=1e-14)
    assert not out.numpy()[:, 1::2].any()


def leaves(result):
    out, last = result
    return [x.numpy() for x in (out, *((last,) if isinstance(last, cr.Tensor) else last))]


@pytest.mark.parametrize("kind", KINDS)
def test_padding_has_no_gradient(kind):
    layer, x = layer_of(kind, 2, 3, 2, bidirectional=True), tensor(2, 4, 2)
    gradient = cr.grad(lambda x: layer(x, lengths=[1, 3])[0].sum())(x).numpy()
    assert not gradient[0, 1:].any()
    assert not gradient[1, 3:].any()
    assert gradient[0, :1].all()
    assert gradient[1, :3].all()


# --- shapes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_one_sequence_without_batch_axis(kind):
    layer, x = layer_of(kind, 2, 3, 2, bidirectional=True), tensor(4, 2)
    for length, lengths in ((None, None), (3, [3])):
        alone, batch = leaves(layer(x, lengths=length)), leaves(layer(x[None], lengths=lengths))
        np.testing.assert_allclose(alone[0], batch[0][0], atol=1e-14)
        for a, b in zip(alone[1:], batch[1:], strict=True):
            np.testing.assert_allclose(a, b[:, 0], atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_time_first(kind):
    layer, x = layer_of(kind, 2, 3), tensor(3, 4, 2)
    other = layer_of(kind, 2, 3, batch_first=False)
    other.load_state_dict(layer.state_dict())
    ours, theirs = leaves(layer(x, lengths=[4, 2, 1])), leaves(other(cr.swapaxes(x, 0, 1), lengths=[4, 2, 1]))
    np.testing.assert_array_equal(ours[0], theirs[0].swapaxes(0, 1))
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_without_steps_the_last_state_is_the_first(kind):
    layer = layer_of(kind, 2, 3, 2, bidirectional=True)
    h, c, hx = states_of(layer, 5)
    out, *last = leaves(layer(tensor(5, 0, 2), hx))
    assert out.shape == (5, 0, 6)
    for a, b in zip(last, (h, c), strict=False):
        np.testing.assert_array_equal(a, b)
    assert layer(tensor(0, 4, 2))[0].shape == (0, 4, 6)


# --- cells ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [False, True])
def test_a_cell_in_a_loop_is_the_layer(kind, bias):
    layer = layer_of(kind, 2, 3, bias=bias)
    cell = getattr(nn, f"{kind}Cell")(2, 3, bias=bias, dtype="float64")
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    x = tensor(2, 4, 2)
    state = None
    for t in range(4):
        state = cell(x[:, t], state)
    _, *last = leaves(layer(x))
    for a, b in zip(state if kind == "LSTM" else (state,), last, strict=True):
        np.testing.assert_allclose(a.numpy(), b[0], atol=1e-14)
    alone = cell(x[0, 0])
    h = alone[0] if kind == "LSTM" else alone
    np.testing.assert_allclose(h.numpy(), layer(x[:1, :1])[0].numpy()[0, 0], atol=1e-14)


# --- gradients --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind):
    layer = layer_of(kind, 1, 2, bidirectional=True)
    _, _, hx = states_of(layer, 2)

    def run(tree, x, hx):
        return cr.functional_call(layer, tree, x, hx, lengths=[2, 3])

    cr.check_grads(run, (layer.parameter_tree(), tensor(2, 3, 1), hx))


def test_second_derivatives():
    layer = nn.LSTM(2, 3, proj_size=2, dtype="float64")
    cr.check_grads(lambda x: layer(x, lengths=[3, 1])[0], (tensor(2, 3, 2),), order=2)


# --- dropout ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_between_layers_while_training(kind):
    generator = cr.Generator(1)
    layer, x = layer_of(kind, 3, 8, 2, dropout=0.5, generator=generator), tensor(2, 5, 3)
    first, second = layer_of(kind, 3, 8), layer_of(kind, 8, 8)
    first.load_state_dict({n: v for n, v in layer.state_dict().items() if n.endswith("_l0")})
    second.load_state_dict({n[:-1] + "0": v for n, v in layer.state_dict().items() if n.endswith("_l1")})
    inner = first(x)[0]
    dropped = cr.swapaxes(nn.functional.dropout(cr.swapaxes(inner, 0, 1), 0.5, generator=cr.Generator(1)), 0, 1)
    np.testing.assert_allclose(layer(x)[0].numpy(), second(dropped)[0].numpy(), atol=1e-14)
    again = layer(x)[0].numpy()
    assert np.abs(again - second(dropped)[0].numpy()).max() > 1e-3  # another draw
    np.testing.assert_allclose(layer.eval()(x)[0].numpy(), second(inner)[0].numpy(), atol=1e-14)


def test_all_dropped():
    layer, x = layer_of("GRU", 3, 4, 2, dropout=1.0), tensor(2, 5, 3)
    out, last = layer(x)
    np.testing.assert_array_equal(out.numpy(), layer(tensor(2, 5, 3))[0].numpy())
    assert np.abs(last.numpy()[0]).max() > 0


# --- weights ----------------------------------------------------------------------------------------------


def test_names_shapes_and_first_values():
    layer = nn.LSTM(3, 16, 2, bidirectional=True, proj_size=5)
    shapes = {name: p.shape for name, p in layer.named_parameters()}
    each = {"bias_ih": (64,), "bias_hh": (64,), "weight_hh": (64, 5), "weight_hr": (5, 16)}
    expected = {}
    for number, n_in in enumerate((3, 10)):
        for direction in ("", "_reverse"):
            expected |= {f"{k}_l{number}{direction}": s for k, s in ({"weight_ih": (64, n_in)} | each).items()}
    assert shapes == expected
    values = np.concatenate([p.numpy().ravel() for p in layer.parameters()])
    assert np.abs(values).max() <= 1 / 4
    assert np.abs(values).max() > 0.24
    assert abs(values.mean()) < 0.01
    np.testing.assert_allclose(values.std(), 0.25 / np.sqrt(3), rtol=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_state_round_trip(kind, tmp_path):
    layer, other = (getattr(nn, kind)(2, 3, 2, bidirectional=True) for _ in range(2))
    cr.save(layer, tmp_path / "weights.safetensors")
    cr.load(other, tmp_path / "weights.safetensors")
    x = cr.ones((1, 2, 2))
    np.testing.assert_array_equal(layer(x)[0].numpy(), other(x)[0].numpy())


def test_repr():
    assert "LSTM(2, 3, num_layers=2, bidirectional=True, proj_size=1)" in repr(
        nn.LSTM(2, 3, 2, bidirectional=True, proj_size=1)
    )
    assert "RNN(2, 3, nonlinearity=relu)" in repr(nn.RNN(2, 3, nonlinearity="relu"))
    assert "GRUCell(2, 3, bias=False)" in repr(nn.GRUCell(2, 3, bias=False))


# --- errors -----------------------------------------------------------------------------------------------

X = cr.ones((2, 4, 3))
WRONG_CALLS = {
    "last axis": (nn.GRU(3, 4), (cr.ones((2, 4, 5)),), {}, ShapeError, r"\(N, T, C\).*C = 3.*input_size=5"),
    "axes": (nn.GRU(3, 4), (cr.ones((3,)),), {}, ShapeError, r"\(N, T, C\)"),
    "dtype": (nn.RNN(3, 4), (X.astype("float64"),), {}, DTypeError, "weights are float32"),
    "state": (nn.GRU(3, 4, 2), (X, cr.ones((1, 2, 4))), {}, ShapeError, r"shape \(2, 2, 4\)"),
    "dtype of state": (nn.GRU(3, 4), (X, cr.ones((1, 2, 4), dtype="float64")), {}, DTypeError, "weights are float32"),
    "no pair": (nn.LSTM(3, 4), (X, cr.ones((1, 2, 4))), {}, ArgumentError, "pair"),
    "one of a pair": (
        nn.LSTM(3, 4), (X, (cr.ones((1, 2, 4)), cr.ones((2, 4)))), {}, ShapeError, r"\(1, 2, 4\) and \(1, 2, 4\)",
    ),
    "lengths": (nn.RNN(3, 4), (X,), {"lengths": [1, 2, 3]}, ShapeError, r"shape \(2,\)"),
    "real lengths": (nn.RNN(3, 4), (X,), {"lengths": [1.0, 2.0]}, DTypeError, "integers"),
    "mask": (nn.RNN(3, 4), (X,), {"mask": cr.ones((4, 2), dtype="bool")}, ShapeError, r"shape \(2, 4\)"),
    "mask of numbers": (nn.RNN(3, 4), (X,), {"mask": cr.ones((2, 4))}, DTypeError, "bool"),
    "both": (nn.RNN(3, 4), (X,), {"mask": cr.ones((2, 4), dtype="bool"), "lengths": [1, 2]}, ArgumentError, "one of"),
    "input of a cell": (nn.GRUCell(3, 4), (X,), {}, ShapeError, r"\(N, C\)"),
    "state of a cell": (nn.RNNCell(3, 4), (X[0], cr.ones((1, 4))), {}, ShapeError, r"shape \(4, 4\)"),
    "pair of a cell": (nn.LSTMCell(3, 4), (X[0], cr.ones((4, 4))), {}, ArgumentError, "pair"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_wrong_calls(name):
    layer, args, kwargs, error, words = WRONG_CALLS[name]
    with pytest.raises(error, match=words):
        layer(*args, **kwargs)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.GRU(3, 0), "hidden_size"),
        (lambda: nn.GRUCell(3, 0), "hidden_size"),
        (lambda: nn.GRU(3, 4, 0), "num_layers"),
        (lambda: nn.GRU(3, 4, dropout=1.5), "probability"),
        (lambda: nn.RNN(3, 4, nonlinearity="gelu"), "'tanh' or 'relu'"),
        (lambda: nn.RNNCell(3, 4, nonlinearity="gelu"), "'tanh' or 'relu'"),
        (lambda: nn.LSTM(3, 4, proj_size=4), "less than hidden_size"),
        (lambda: nn.LSTM(3, 4, proj_size=-1), "less than hidden_size"),
    ],
)
def test_wrong_sizes(make, words):
    with pytest.raises(ArgumentError, match=words):
        make()
