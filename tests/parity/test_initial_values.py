"""Layers begin as PyTorch's do: names and shapes of the state, range and moments of the first values."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:enable_nested_tensor")]
torch = pytest.importorskip("torch", reason="PyTorch is in the parity extra: make test-parity")

from module_table import plain  # noqa: E402

import chainrule as cr  # noqa: E402
from chainrule import nn  # noqa: E402

RECURRENT = {"num_layers": 2, "bidirectional": True}
ARGUMENTS: dict[str, list[tuple[tuple, dict]]] = {
    "Linear": [((24, 20), {}), ((24, 20), {"bias": False})],
    "Bilinear": [((12, 10, 9), {})],
    "Embedding": [((20, 12), {}), ((20, 12), {"padding_idx": -2})],
    "EmbeddingBag": [((20, 12), {}), ((20, 12), {"padding_idx": 3})],
    "PReLU": [((), {}), ((5, 0.5), {})],
    "LayerNorm": [(((3, 4),), {}), ((5,), {"bias": False}), ((5,), {"elementwise_affine": False})],
    "RMSNorm": [((5,), {}), ((5,), {"elementwise_affine": False})],
    "GroupNorm": [((2, 6), {}), ((2, 6), {"affine": False}), ((2, 6), {"bias": False})],
    "RNN": [((9, 12), RECURRENT), ((9, 12), {"bias": False})],
    "GRU": [((9, 12), RECURRENT), ((9, 12), {"bias": False})],
    "LSTM": [((9, 12), RECURRENT), ((9, 12), RECURRENT | {"proj_size": 5})],
    "RNNCell": [((9, 12), {})],
    "GRUCell": [((9, 12), {})],
    "LSTMCell": [((9, 12), {"bias": False})],
    "MultiheadAttention": [((16, 4), {}), ((16, 4), {"kdim": 8, "vdim": 10}), ((16, 4), {"add_bias_kv": True})],
    "TransformerEncoderLayer": [((16, 4, 24), {})],
    "TransformerDecoderLayer": [((16, 4, 24), {})],
    "Transformer": [((16, 4, 1, 1, 24), {})],
}
for d in (1, 2, 3):
    ARGUMENTS[f"Conv{d}d"] = [((8, 12, 3), {}), ((8, 12, 3), {"groups": 4}), ((8, 12, 3), {"bias": False})]
    ARGUMENTS[f"ConvTranspose{d}d"] = [((8, 12, 3), {}), ((8, 12, 3), {"groups": 4})]
    ARGUMENTS[f"BatchNorm{d}d"] = [
        ((5,), {}), ((5,), {"affine": False}), ((5,), {"track_running_stats": False}), ((5,), {"bias": False}),
    ]  # fmt: skip
    ARGUMENTS[f"InstanceNorm{d}d"] = [((5,), {}), ((5,), {"affine": True, "track_running_stats": True})]

CASES = [(name, *how) for name, all_of_it in ARGUMENTS.items() for how in all_of_it]
ELEMENTS = 20_000  # of each array, from as many layers as it takes


def drawn(library, name, args, kwargs):
    """The elements of each array of the state, of many layers."""
    made = getattr(library, name)
    states = [made(*args, **kwargs).state_dict()]
    least = min((int(np.prod(v.shape)) for v in states[0].values()), default=ELEMENTS)
    states += [made(*args, **kwargs).state_dict() for _ in range(min(ELEMENTS // max(least, 1), 250))]
    return {key: np.stack([state[key].numpy() for state in states]) for key in states[0]}


@pytest.mark.parametrize(("name", "args", "kwargs"), CASES, ids=lambda v: v if isinstance(v, str) else None)
def test_first_values(name, args, kwargs):
    torch.manual_seed(0)
    cr.manual_seed(0)
    ours, theirs = drawn(nn, name, args, kwargs), drawn(torch.nn, name, args, kwargs)
    assert list(ours) == list(theirs)
    for key, wanted in theirs.items():
        values = ours[key]
        assert sorted(values.shape) == sorted(wanted.shape), key  # kernels have their channels last
        assert values.dtype == wanted.dtype, key
        spread = wanted.std()
        if not spread:
            np.testing.assert_array_equal(np.unique(values), np.unique(wanted), err_msg=key)
            continue
        error = 6 * spread / np.sqrt(min(wanted.size, values.size))
        assert values.mean() == pytest.approx(wanted.mean(), abs=error), key
        assert values.std() == pytest.approx(spread, rel=0.05), key
        far = max(abs(wanted.min()), abs(wanted.max())) / spread
        assert max(abs(values.min()), abs(values.max())) / spread == pytest.approx(far, rel=0.03 if far < 2 else 0.4), (
            key
        )


def test_every_layer_with_parameters_is_here():
    names = {
        n for n, v in vars(nn).items() if isinstance(v, type) and issubclass(v, nn.Module) and hasattr(torch.nn, n)
    }
    made_of_others = {"Module", "ParameterList", "ParameterDict", "TransformerEncoder", "TransformerDecoder"}
    unknown = names - ARGUMENTS.keys() - made_of_others
    assert not [n for n in unknown if "Parameter(" in inspect.getsource(getattr(torch.nn, n))]


ATTRIBUTES = {
    "BatchNorm2d": (3,), "InstanceNorm1d": (3,), "LayerNorm": (3,), "RMSNorm": (3,), "GroupNorm": (1, 3), "PReLU": (2,),
    "Conv2d": (2, 3, 3), "ConvTranspose2d": (2, 3, 3), "Linear": (2, 3),
}  # fmt: skip
ELSEWHERE = {"training", "padding_mode", "output_padding", "padding", "bias"}  # zeros alone, or kept as they were given


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_what_layers_were_made_with_can_be_read(name):
    ours, theirs = getattr(nn, name)(*ATTRIBUTES[name]), getattr(torch.nn, name)(*ATTRIBUTES[name])
    shown = {k: v for k, v in vars(theirs).items() if not k.startswith("_") and k not in ELSEWHERE}
    assert {k: plain(getattr(ours, k)) for k in shown} == {k: plain(v) for k, v in shown.items()}
