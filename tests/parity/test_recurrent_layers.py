"""Recurrent layers and cells against PyTorch: its own samples, packed sequences, names and order of arguments."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch", reason="PyTorch is in the parity extra: make test-parity")
pytest.importorskip("expecttest", reason="PyTorch's samples need expecttest, in the parity extra: make test-parity")

from compare import FORWARD, GRADIENT, compare, outputs, to_numpy  # noqa: E402
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence  # noqa: E402
from torch.testing._internal.common_modules import module_db  # noqa: E402

import chainrule as cr  # noqa: E402
from chainrule import nn  # noqa: E402

NAMES = ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"]
LAYERS = NAMES[:3]


def leaf(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def pair(name, *args, **kwargs):
    """A module in both libraries with the same weights; batch first, unless PyTorch's default is asked for."""
    theirs = getattr(torch.nn, name)(*args, **kwargs).double()
    ours = getattr(nn, name)(*args, **kwargs).double()
    ours.load_state_dict(theirs.state_dict(), layout="torch")
    return ours, theirs


def packed(theirs, x, hx, lengths):
    """PyTorch's module on a packed sequence, and its outputs padded again."""
    rows = pack_padded_sequence(x, lengths, batch_first=theirs.batch_first, enforce_sorted=False)
    out, last = theirs(rows, hx)
    length = x.shape[1 if theirs.batch_first else 0]
    return pad_packed_sequence(out, batch_first=theirs.batch_first, total_length=length)[0], last


def check(ours, theirs, x, hx=None, lengths=None):
    """Compare results, and gradients by parameters, input and first state."""
    names, weights = zip(*theirs.named_parameters(), strict=True)

    def call_ours(x, hx, weights):
        tree = dict(zip(names, weights, strict=True))
        given = {} if lengths is None else {"lengths": cr.asarray(np.array(lengths))}
        return cr.functional_call(ours, tree, x, hx, **given)

    def call_theirs(x, hx, weights):
        tree = dict(zip(names, weights, strict=True))
        call = theirs if lengths is None else lambda x, hx: packed(theirs, x, hx, torch.tensor(lengths))
        return torch.func.functional_call(Called(theirs, call), {f"module.{n}": w for n, w in tree.items()}, (x, hx))

    errors = compare(call_ours, call_theirs, (x, hx, list(weights)), {})
    assert errors.forward <= FORWARD, errors
    assert errors.gradient <= GRADIENT, errors


class Called(torch.nn.Module):
    """A module that calls another in some way."""

    def __init__(self, module, call):
        super().__init__()
        self.module, self.call = module, call

    def forward(self, *args):
        return self.call(*args)


@pytest.mark.parametrize("name", NAMES)
def test_samples(name):
    infos = [info for info in module_db if info.module_cls.__name__ == name]
    compared = 0
    for info in infos:
        torch.manual_seed(0)
        for sample in info.module_inputs_func(
            info, device="cpu", dtype=torch.float64, requires_grad=True, training=True
        ):
            made = sample.constructor_input
            x, *hx = sample.forward_input.args
            if isinstance(x, PackedSequence):
                continue  # sorted ones; see test_packed_sequences
            check(*pair(name, *made.args, **made.kwargs), x, *hx)
            compared += 1
    assert compared


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(
    ("name", "how"),
    [
        *((name, {"bias": bias}) for name in LAYERS for bias in (False, True)),
        ("RNN", {"nonlinearity": "relu"}),
        ("LSTM", {"proj_size": 2}),
    ],
    ids=str,
)
def test_packed_sequences(name, how, num_layers, bidirectional):
    torch.manual_seed(0)
    ours, theirs = pair(name, 3, 4, num_layers, bidirectional=bidirectional, batch_first=True, **how)
    lead = num_layers * (1 + bidirectional), 4
    states = leaf(*lead, how.get("proj_size", 4)), leaf(*lead, 4)
    hx = states if name == "LSTM" else states[0]
    x = leaf(4, 6, 3)
    check(ours, theirs, x)
    check(ours, theirs, x, hx)
    check(ours, theirs, x, hx, [3, 6, 1, 5])
    check(ours, theirs, x, None, [2, 2, 4, 1])  # shorter than the padding


@pytest.mark.parametrize("name", LAYERS)
def test_time_first(name):
    torch.manual_seed(0)
    ours, theirs = pair(name, 3, 4, 2, batch_first=False, bidirectional=True)
    check(ours, theirs, leaf(5, 2, 3))
    check(ours, theirs, leaf(5, 2, 3), None, [3, 5])


@pytest.mark.parametrize("name", LAYERS)
def test_training(name):
    """Ten steps of Adam in both libraries."""
    torch.manual_seed(0)
    ours, theirs = pair(name, 3, 4, 2, batch_first=True)
    x = leaf(4, 6, 3).detach()
    xs = cr.asarray(to_numpy(x))
    opt, their_opt = cr.optim.Adam(ours.parameters(), lr=0.01), torch.optim.Adam(theirs.parameters(), lr=0.01)
    for _ in range(10):
        loss, their_loss = (ours(xs)[0] ** 2).mean(), (theirs(x)[0] ** 2).mean()
        opt.zero_grad()
        their_opt.zero_grad()
        loss.backward()
        their_loss.backward()
        opt.step()
        their_opt.step()
        np.testing.assert_allclose(loss.item(), their_loss.item(), rtol=1e-9)
    for ours_last, theirs_last in zip(outputs(ours(xs)), outputs(theirs(x)), strict=True):
        np.testing.assert_allclose(ours_last.numpy(), to_numpy(theirs_last), atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_arguments_have_the_names_and_the_order_of_pytorch(name):
    ours = list(inspect.signature(getattr(nn, name)).parameters)
    own = {"RNN": ["nonlinearity"], "LSTM": ["proj_size"]}.get(name, [])
    if name in LAYERS:  # the layers of PyTorch hand all on to `RNNBase`
        theirs = [a for a in inspect.signature(torch.nn.RNNBase).parameters if a not in ("mode", "proj_size")]
        place = theirs.index("bias" if name == "RNN" else "device")
        theirs = [*theirs[:place], *own, *theirs[place:], "generator"]
    else:
        theirs = list(inspect.signature(getattr(torch.nn, name)).parameters)
    assert ours == [a for a in theirs if a != "device"]
