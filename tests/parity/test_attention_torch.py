"""Attention and transformers against PyTorch: its own samples, masks of all kinds, names and order of arguments."""

from __future__ import annotations

import inspect
import itertools
import math

import numpy as np
import pytest

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:enable_nested_tensor", "ignore:Support for mismatched"),  # of PyTorch
]
torch = pytest.importorskip("torch", reason="PyTorch is in the parity extra: make test-parity")
pytest.importorskip("expecttest", reason="PyTorch's samples need expecttest, in the parity extra: make test-parity")

from compare import FORWARD, GRADIENT, compare, outputs, to_numpy  # noqa: E402
from torch.testing._internal.common_modules import module_db  # noqa: E402

import chainrule as cr  # noqa: E402
from chainrule import nn  # noqa: E402

SDPA = torch.nn.functional.scaled_dot_product_attention
NAMES = [
    "MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer", "TransformerEncoder",
    "TransformerDecoder", "Transformer",
]  # fmt: skip


def leaf(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def agree(errors):
    assert errors.forward <= FORWARD, errors
    assert max(errors.gradient, errors.second) <= GRADIENT, errors


# --- the function -----------------------------------------------------------------------------------------

MASKS = {
    "none": lambda rows, keys: None,
    "bool": lambda rows, keys: torch.rand(rows, keys) < 0.7,
    "empty row": lambda rows, keys: torch.arange(rows)[:, None].expand(rows, keys) != 1,
    "padding": lambda rows, keys: torch.rand(2, 1, 1, keys) < 0.7,
    "added": lambda rows, keys: leaf(rows, keys),
    "added, per head": lambda rows, keys: leaf(2, 4, rows, keys),
    "added infinities": lambda rows, keys: torch.where(torch.rand(rows, keys) < 0.7, 0.3, -math.inf).double(),
}


@pytest.mark.parametrize("block", [None, 2])
@pytest.mark.parametrize("kind", MASKS)
def test_masks(kind, block):
    torch.manual_seed(0)
    for rows, keys in ((5, 5), (3, 6), (6, 3)):
        args = (leaf(2, 4, rows, 3), leaf(2, 4, keys, 3), leaf(2, 4, keys, 2), MASKS[kind](rows, keys))
        ours = lambda *a, **k: nn.functional.scaled_dot_product_attention(*a, **k, block=block)  # noqa: E731
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            agree(compare(ours, SDPA, args, {}, second=block is None))


@pytest.mark.parametrize("block", [None, 2])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_causal_groups_and_scales(heads, block):
    torch.manual_seed(0)
    ours = lambda *a, **k: nn.functional.scaled_dot_product_attention(*a, **k, block=block)  # noqa: E731
    for rows, keys in ((5, 5), (3, 6), (6, 3)):
        args = (leaf(2, 4, rows, 3), leaf(2, heads, keys, 3), leaf(2, heads, keys, 2))
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            agree(compare(ours, SDPA, args, {"is_causal": True, "scale": 0.7, "enable_gqa": True}))
    for shape in ((5, 3), (4, 5, 3), (2, 3, 4, 5, 3)):
        agree(compare(ours, SDPA, [leaf(*shape) for _ in range(3)], {"is_causal": True}))


# --- modules ----------------------------------------------------------------------------------------------


def same_function(value):
    """Our function of the same name, if it is one of PyTorch's."""
    return getattr(nn.functional, value.__name__) if hasattr(value, "__name__") else value


def pair(name, args, kwargs):
    """A module in both libraries with the same weights; ours is batch first."""
    theirs = getattr(torch.nn, name)(*args, **kwargs).double()
    kwargs = {k: same_function(v) for k, v in kwargs.items() if k != "batch_first"}
    args = [same_function(v) for v in args]
    if name == "TransformerEncoder":  # made of a layer
        layer = args[0]
        sizes = (layer.self_attn.embed_dim, layer.self_attn.num_heads, layer.linear1.out_features, 0.0)
        made = {"norm_first": layer.norm_first, "bias": layer.linear1.bias is not None}
        made["activation"] = same_function(layer.activation)
        args = (nn.TransformerEncoderLayer(*sizes, **made), *args[1:])
    ours = getattr(nn, name)(*args, **kwargs).double()
    ours.load_state_dict(theirs.state_dict(), layout="torch")
    return ours, theirs


def check(ours, theirs, args, kwargs, batch_first=True):
    """Compare results, and gradients by parameters and inputs."""
    names, weights = zip(*theirs.named_parameters(), strict=True)
    kwargs = {k: v for k, v in kwargs.items() if v is not None}

    def turned(x):
        return cr.swapaxes(x, 0, 1) if not batch_first and getattr(x, "ndim", 0) == 3 else x

    def some(out):
        return [x for x in outputs(out) if x is not None]

    def call_ours(args, kwargs, weights):
        out = cr.functional_call(ours, dict(zip(names, weights, strict=True)), *map(turned, args), **kwargs)
        first, *others = some(out)
        return [turned(first), *others]

    def call_theirs(args, kwargs, weights):
        return some(torch.func.functional_call(theirs, dict(zip(names, weights, strict=True)), tuple(args), kwargs))

    same = len({id(x) for x in args}) == 1  # the same tensor stays the same
    args = args[:1] if same else args
    count = 3 if isinstance(theirs, torch.nn.MultiheadAttention) else 1 if same else len(args)
    repeated = lambda f: lambda a, k, w: f([*a] * count if same else [*a], k, w)  # noqa: E731
    agree(compare(repeated(call_ours), repeated(call_theirs), (list(args), kwargs, list(weights)), {}))


@pytest.mark.parametrize("info", [i for i in module_db if i.module_cls.__name__ in NAMES], ids=lambda i: i.name)
def test_samples(info):
    """Without dropout: it is the same while training and in evaluation."""
    torch.manual_seed(0)
    name, compared = info.module_cls.__name__, 0
    for sample in info.module_inputs_func(info, device="cpu", dtype=torch.float64, requires_grad=True, training=True):
        made, given = sample.constructor_input, sample.forward_input
        ours, theirs = pair(name, made.args, made.kwargs)
        layer = theirs.layers[0].self_attn if name == "TransformerEncoder" else getattr(theirs, "self_attn", theirs)
        check(ours, theirs, given.args, given.kwargs, layer.batch_first)
        compared += 1
    assert compared > 30


@pytest.mark.parametrize("extra", list(itertools.product([False, True], [False, True])), ids=str)
@pytest.mark.parametrize("sizes", [{}, {"kdim": 5, "vdim": 6}, {"bias": False}], ids=str)
def test_attention_to_another_sequence(sizes, extra):
    """Masks of both kinds, with and without weights, of sequences of different lengths."""
    torch.manual_seed(0)
    how = {**sizes, "add_bias_kv": extra[0], "add_zero_attn": extra[1], "batch_first": True}
    ours, theirs = pair("MultiheadAttention", (8, 2), how)
    x, k, v = leaf(3, 4, 8), leaf(3, 5, sizes.get("kdim", 8)), leaf(3, 5, sizes.get("vdim", 8))
    padding = torch.arange(5) >= torch.tensor([[5], [3], [4]])
    for key_padding_mask in (None, padding, leaf(3, 5)):
        for attn_mask in (None, torch.rand(4, 5) < 0.2, torch.rand(6, 4, 5) < 0.2, leaf(4, 5), leaf(6, 4, 5)):
            for weights in ({"need_weights": False}, {"average_attn_weights": False}, {}):
                kwargs = {"key_padding_mask": key_padding_mask, "attn_mask": attn_mask, **weights}
                check(ours, theirs, (x, k, v), kwargs)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu", torch.tanh], ids=["relu", "gelu", "function"])
def test_layers(norm_first, activation):
    torch.manual_seed(0)
    how = {"norm_first": norm_first, "layer_norm_eps": 1e-3, "batch_first": True, "dropout": 0.3}
    x, memory = leaf(2, 4, 8), leaf(2, 3, 8)
    causal = torch.nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64)
    for name, args, kwargs in (
        ("TransformerEncoderLayer", (x,), {"src_mask": causal, "is_causal": True}),
        ("TransformerDecoderLayer", (x, memory), {"tgt_mask": causal, "tgt_is_causal": True}),
    ):
        ours, theirs = pair(name, (8, 2, 16), {**how, "activation": activation})
        check(ours.eval(), theirs.eval(), args, kwargs)


def test_whole_transformers():
    torch.manual_seed(0)
    ours, theirs = pair("Transformer", (8, 2, 2, 2, 16, 0.0), {"batch_first": True})
    src, tgt = leaf(2, 4, 8), leaf(2, 3, 8)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(3, dtype=torch.float64)
    np.testing.assert_array_equal(nn.Transformer.generate_square_subsequent_mask(3).numpy(), to_numpy(mask))
    padding = torch.arange(4) >= torch.tensor([[4], [2]])
    more = {"src_key_padding_mask": padding, "memory_key_padding_mask": padding, "memory_mask": torch.rand(3, 4) < 0.1}
    check(ours, theirs, (src, tgt), {"tgt_mask": mask, **more})
    out = ours(*(cr.asarray(to_numpy(x)) for x in (src, tgt)), tgt_is_causal=True)
    np.testing.assert_allclose(out.numpy(), to_numpy(theirs(src, tgt, tgt_mask=mask)), rtol=0, atol=1e-12)


def test_decoders():
    torch.manual_seed(0)
    theirs = torch.nn.TransformerDecoder(
        torch.nn.TransformerDecoderLayer(8, 2, 16, 0.0, batch_first=True), 2, torch.nn.LayerNorm(8)
    ).double()
    ours = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, 0.0), 2, nn.LayerNorm(8)).double()
    ours.load_state_dict(theirs.state_dict())
    check(ours, theirs, (leaf(2, 4, 8), leaf(2, 3, 8)), {"tgt_mask": torch.rand(4, 4) < 0.2})


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_those_of_pytorch(name):
    """In this order; what comes on top has a name of its own."""
    for method in ("__init__", "forward"):
        ours, theirs = (inspect.signature(getattr(getattr(m, name), method)).parameters for m in (nn, torch.nn))
        wanted = [a for a in theirs if a != "device"]
        assert list(ours)[: len(wanted)] == wanted
        assert {p.kind for a, p in ours.items() if a not in wanted} <= {inspect.Parameter.KEYWORD_ONLY}
        for argument in wanted:
            if argument not in ("batch_first", "activation"):
                assert ours[argument].default == theirs[argument].default, argument
