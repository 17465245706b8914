"""Names and order of arguments: calls as written for PyTorch mean the same here."""

from __future__ import annotations

import inspect

import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch", reason="PyTorch is in the parity extra: make test-parity")

from module_table import ELSEWHERE  # noqa: E402

import chainrule as cr  # noqa: E402
from chainrule import nn  # noqa: E402

SHARED = sorted(
    name for name, value in vars(nn).items()
    if inspect.isclass(value) and issubclass(value, nn.Module) and hasattr(torch.nn, name) and name not in ELSEWHERE
    and name not in ("Module", "Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict")
)  # fmt: skip
FUNCTIONS = sorted(set(nn.functional.__all__) & set(dir(torch.nn.functional)))
OLD = {"size_average", "reduce"}  # PyTorch keeps them for old programs
NO_DEVICE = {"device"}
# Arguments of PyTorch that are not here, and why.
LEFT_OUT = {
    "Embedding": {"max_norm", "norm_type", "scale_grad_by_freq", "_weight", "_freeze"},
    "EmbeddingBag": {"max_norm", "norm_type", "scale_grad_by_freq", "_weight"},
    "Hardtanh": {"min_value", "max_value"},  # old names
    "embedding": {"max_norm", "norm_type", "scale_grad_by_freq"},
    "embedding_bag": {"max_norm", "norm_type", "scale_grad_by_freq"},
    "interpolate": {"antialias"},
    "l1_loss": {"weight"},
    "mse_loss": {"weight"},
    "huber_loss": {"weight"},
    "normalize": {"out"},
    "softmax": {"dtype", "_stacklevel"},
    "softmin": {"dtype", "_stacklevel"},
    "log_softmax": {"dtype", "_stacklevel"},
    **{f"ConvTranspose{d}d": {"padding_mode"} for d in (1, 2, 3)},  # it knows zeros alone there too
    **{f"dropout{d}d": {"inplace"} for d in (1, 2, 3)},
    "dropout": {"inplace"},
    "alpha_dropout": {"inplace"},
    "feature_alpha_dropout": {"inplace"},
}
EXTRA = {"AvgPool1d": {"divisor_override"}}  # beside ``generator=`` of what draws random numbers
# Where a default differs: channels and classes are the last axis; classes have no default axis in PyTorch.
DEFAULTS = {
    ("CosineSimilarity", "dim"), ("GLU", "dim"), ("LogSoftmax", "dim"), ("Softmax", "dim"), ("Softmin", "dim"),
    ("Threshold", "threshold"), ("Threshold", "value"), ("cosine_similarity", "dim"), ("log_softmax", "dim"),
    ("normalize", "dim"), ("softmax", "dim"), ("softmin", "dim"), ("one_hot", "num_classes"),
}  # fmt: skip
# PyTorch's functions without a signature in Python: their documented arguments.
DOCUMENTED = {
    "avg_pool1d": "input kernel_size stride padding ceil_mode count_include_pad",
    "avg_pool2d": "input kernel_size stride padding ceil_mode count_include_pad divisor_override",
    "avg_pool3d": "input kernel_size stride padding ceil_mode count_include_pad divisor_override",
    "channel_shuffle": "input groups",
    "pixel_shuffle": "input upscale_factor",
    "pixel_unshuffle": "input downscale_factor",
    "bilinear": "input1 input2 weight bias",
    "cosine_similarity": "x1 x2 dim eps",
    "gelu": "input approximate",
    "hardshrink": "input lambd",
    "linear": "input weight bias",
    "logsigmoid": "input",
    "max_pool1d": "input kernel_size stride padding dilation ceil_mode return_indices",
    "max_pool2d": "input kernel_size stride padding dilation ceil_mode return_indices",
    "max_pool3d": "input kernel_size stride padding dilation ceil_mode return_indices",
    "one_hot": "tensor num_classes",
    "pairwise_distance": "x1 x2 p eps keepdim",
    "prelu": "input weight",
    "scaled_dot_product_attention": "query key value attn_mask dropout_p is_causal scale enable_gqa",
    "softplus": "input beta threshold",
    "softshrink": "input lambd",
    **{f"conv{d}d": "input weight bias stride padding dilation groups" for d in (1, 2, 3)},
    **{f"conv_transpose{d}d": "input weight bias stride padding output_padding groups dilation" for d in (1, 2, 3)},
    **{f"adaptive_avg_pool{d}d": "input output_size" for d in (1, 2, 3)},
    **{f"adaptive_max_pool{d}d": "input output_size return_indices" for d in (1, 2, 3)},
}
RENAMED = {"one_hot": {"tensor": "x"}}


def arguments(function):
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {n: p for n, p in inspect.signature(function).parameters.items() if p.kind not in kinds}


def check_defaults(name, ours, theirs):
    for argument in ours.keys() & theirs.keys():
        a, b = ours[argument].default, theirs[argument].default
        if (name, argument) not in DEFAULTS:
            assert a == b or (a is None and b is None), f"{argument}={a}, PyTorch has {b}"


@pytest.mark.parametrize("name", SHARED)
def test_constructors_take_the_same_arguments_in_the_same_order(name):
    ours, theirs = arguments(getattr(nn, name)), arguments(getattr(torch.nn, name))
    wanted = [a for a in theirs if a not in OLD | NO_DEVICE | LEFT_OUT.get(name, set())]
    for extra in EXTRA.get(name, {"generator"}):
        ours.pop(extra, None)
    assert list(ours) == wanted
    check_defaults(name, ours, theirs)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_the_same_arguments_in_the_same_order(name):
    ours = arguments(getattr(nn.functional, name))
    if name in DOCUMENTED:
        renamed = RENAMED.get(name, {})
        wanted = [renamed.get(a, a) for a in DOCUMENTED[name].split()]
        assert list(ours)[: len(wanted)] == wanted
        return
    theirs = arguments(getattr(torch.nn.functional, name))
    wanted = [a for a in theirs if a not in OLD | LEFT_OUT.get(name, set())]
    ours.pop("generator", None)
    if "inplace" not in theirs:
        ours.pop("inplace", None)
    assert list(ours) == wanted
    check_defaults(name, ours, theirs)


def test_inplace_is_taken_and_ignored():
    x = cr.tensor([-1.0, 2.0])
    for layer in (nn.ReLU(True), nn.ReLU(inplace=True), nn.LeakyReLU(0.0, True)):
        assert layer(x).tolist() == [0.0, 2.0]
    assert nn.functional.relu(input=x, inplace=True).tolist() == [0.0, 2.0]
    assert x.tolist() == [-1.0, 2.0]
