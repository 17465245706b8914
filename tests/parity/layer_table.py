"""The functions of ``nn.functional`` for PyTorch's samples; see ``function_table.py``."""

from __future__ import annotations

from typing import Any

from compare import Outside
from function_table import TABLE, adapter, only, same, scalar_has_no_axis
from layouts import LAYOUTS, pad_widths

import chainrule as cr
from chainrule.nn import functional as nnf

__all__ = ["TABLE"]  # with what is added here
IMAGE, CLASSES = LAYOUTS["image"], LAYOUTS["scores of classes"]


@adapter("nn.functional.pad")
def pad(x, pad, mode="constant", value=None):
    pairs = pad_widths(pad, x.ndim)
    left = [n + min(a, 0) + min(b, 0) for n, (a, b) in zip(x.shape, pairs, strict=True)]
    if mode == "replicate" and any(n <= 0 < max(widths) for n, widths in zip(left, pairs, strict=True)):
        raise Outside("nothing is left to repeat after cutting")
    return nnf.pad(x, pad, mode, value)


@adapter("nn.functional.embedding")
def embedding(weight, index, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    only(max_norm=(max_norm, None), scale_grad_by_freq=(scale_grad_by_freq, False))
    return nnf.embedding(index, weight, padding_idx, sparse)


@adapter("nn.functional.one_hot")
def one_hot(x, num_classes=-1):
    classes = int(cr.max(x)) + 1 if num_classes == -1 else num_classes
    return cr.one_hot(x, classes, "int64")


@adapter("nn.functional.linear")
def linear(x, weight, bias=None):
    if weight.ndim == 1:
        raise Outside("the weight is a matrix here")
    return nnf.linear(x, weight, bias)


@adapter("nn.functional.bilinear")
def bilinear(x, y, weight, bias=None):
    return nnf.bilinear(x, y, weight, bias)


# --- images -----------------------------------------------------------------------------------------------


def batched(x: Any, d: int) -> None:
    if x.ndim != d + 2:
        raise Outside("an image without its batch axis is an error here")


def convolution(d: int) -> Any:
    def run(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        batched(x, d)
        weight = LAYOUTS["convolution weight"].ours(weight)
        out = getattr(nnf, f"conv{d}d")(IMAGE.ours(x), weight, bias, one(stride), one(padding), one(dilation), groups)
        return IMAGE.theirs(out)

    return run


def one(value: Any) -> Any:
    """PyTorch takes a sequence of one number for all axes; here that is a number."""
    return value[0] if isinstance(value, (tuple, list)) and len(value) == 1 else value


def transposed_convolution(d: int) -> Any:
    def run(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        batched(x, d)
        weight = LAYOUTS["transposed convolution weight"].ours(weight)
        out = getattr(nnf, f"conv_transpose{d}d")(
            IMAGE.ours(x), weight, bias, one(stride), one(padding), one(output_padding), groups, one(dilation)
        )
        return IMAGE.theirs(out)

    return run


def max_pool(d: int) -> Any:
    def run(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        batched(x, d)
        only(return_indices=(return_indices, False))
        how = one(kernel_size), one(stride) or None, one(padding), one(dilation)
        return IMAGE.theirs(getattr(nnf, f"max_pool{d}d")(IMAGE.ours(x), *how, ceil_mode))

    return run


def avg_pool(d: int) -> Any:
    def run(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
        batched(x, d)
        how = one(kernel_size), one(stride) or None, one(padding), ceil_mode, count_include_pad
        if d > 1:
            how = (*how, divisor_override)
        return IMAGE.theirs(getattr(nnf, f"avg_pool{d}d")(IMAGE.ours(x), *how))

    return run


def adaptive_pool(kind: str, d: int) -> Any:
    def run(x, output_size, return_indices=False):
        batched(x, d)
        only(return_indices=(return_indices, False))
        return IMAGE.theirs(getattr(nnf, f"adaptive_{kind}_pool{d}d")(IMAGE.ours(x), one(output_size)))

    return run


@adapter("nn.functional.interpolate")
def interpolate(
    x, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None, antialias=False
):  # fmt: skip
    only(antialias=(antialias, False))
    how = one(size), one(scale_factor), mode, align_corners, recompute_scale_factor
    return IMAGE.theirs(nnf.interpolate(IMAGE.ours(x), *how))


@adapter("nn.functional.unfold")
def unfold(x, kernel_size, dilation=1, padding=0, stride=1):
    batched(x, 2)
    how = one(kernel_size), one(dilation), one(padding), one(stride)
    return cr.swapaxes(nnf.unfold(IMAGE.ours(x), *how), 1, 2)


def shuffle(function: Any) -> Any:
    def run(x, *number, **by_name):
        batched(x, 2)
        return IMAGE.theirs(function(IMAGE.ours(x), *number, **by_name))

    return run


same("nn.functional.pixel_shuffle", of=shuffle(nnf.pixel_shuffle))
same("nn.functional.pixel_unshuffle", of=shuffle(nnf.pixel_unshuffle))
same("nn.functional.channel_shuffle", of=shuffle(nnf.channel_shuffle))


@adapter("nn.functional.embedding_bag")
def embedding_bag(
    weight, index, offsets=None, max_norm=None, scale_grad_by_freq=False, mode="mean", sparse=False,
    per_sample_weights=None, include_last_offset=False, padding_idx=None,
):  # fmt: skip
    only(max_norm=(max_norm, None), scale_grad_by_freq=(scale_grad_by_freq, False))
    factors = per_sample_weights
    return nnf.embedding_bag(index, weight, offsets, mode, sparse, factors, include_last_offset, padding_idx)


for d in (1, 2, 3):
    same(f"nn.functional.conv{d}d", of=convolution(d))
    same(f"nn.functional.conv_transpose{d}d", of=transposed_convolution(d))
    same(f"nn.functional.max_pool{d}d", of=max_pool(d))
    same(f"nn.functional.avg_pool{d}d", of=avg_pool(d))
    same(f"nn.functional.adaptive_avg_pool{d}d", of=adaptive_pool("avg", d))
    same(f"nn.functional.adaptive_max_pool{d}d", of=adaptive_pool("max", d))


# --- normalization ----------------------------------------------------------------------------------------


@adapter("nn.functional.layer_norm")
def layer_norm(x, shape, weight=None, bias=None, eps=1e-5):
    return nnf.layer_norm(x, shape, weight, bias, eps)


@adapter("nn.functional.rms_norm")
def rms_norm(x, shape, weight=None, eps=None):
    return nnf.rms_norm(x, shape, weight, eps)


@adapter("nn.functional.group_norm")
def group_norm(x, groups, weight=None, bias=None, eps=1e-5):
    x = IMAGE.ours(x)
    return IMAGE.theirs(nnf.group_norm(x, groups, weight, bias, eps))


@adapter("nn.functional.batch_norm")
def batch_norm(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    if x.ndim < 2:
        raise Outside("an input without channels")
    cells = [None if r is None else cr.Cell(r.detach()) for r in (running_mean, running_var)]
    return IMAGE.theirs(nnf.batch_norm(IMAGE.ours(x), *cells, weight, bias, training, momentum, eps))


@adapter("nn.functional.instance_norm")
def instance_norm(
    x, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5
):
    cells = [None if r is None else cr.Cell(r.detach()) for r in (running_mean, running_var)]
    return IMAGE.theirs(nnf.instance_norm(IMAGE.ours(x), *cells, weight, bias, use_input_stats, momentum, eps))


@adapter("nn.functional.local_response_norm")
def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0):
    return IMAGE.theirs(nnf.local_response_norm(IMAGE.ours(x), size, alpha, beta, k))


@adapter("nn.functional.normalize")
def normalize(x, p=2.0, dim=1, eps=1e-12):
    scalar_has_no_axis(x)
    return nnf.normalize(x, p, dim, eps)


# --- activations ------------------------------------------------------------------------------------------

for name in (
    "celu", "elu", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "logsigmoid", "mish",
    "relu", "relu6", "selu", "silu", "softplus", "softshrink", "softsign", "tanhshrink", "threshold",
):  # fmt: skip
    same(f"nn.functional.{name}", of=getattr(nnf, name))


@adapter("nn.functional.rrelu")
def rrelu(x, lower=1 / 8, upper=1 / 3, training=False):
    only(training=(training, False))
    return nnf.rrelu(x, lower, upper)


@adapter("nn.functional.feature_alpha_dropout")
def feature_alpha_dropout(x, p=0.5, training=False):
    only(training=(training, False))
    if x.ndim < 2:
        raise Outside("an input without channels")
    return nnf.feature_alpha_dropout(x, p)


@adapter("nn.functional.glu")
def glu(x, dim=-1):
    return nnf.glu(x, dim)


@adapter("nn.functional.prelu")
def prelu(x, weight):
    return IMAGE.theirs(nnf.prelu(IMAGE.ours(x), weight))


# --- losses -----------------------------------------------------------------------------------------------


def legacy(size_average: Any, reduce: Any) -> None:
    if size_average is not None or reduce is not None:
        raise Outside("size_average and reduce, which PyTorch replaced by reduction")


def pairwise(function: Any) -> Any:
    def run(x, target, size_average=None, reduce=None, reduction="mean", **kwargs):
        legacy(size_average, reduce)
        if x.shape != target.shape:
            raise Outside("a loss between different shapes is an error here")
        return function(x, target, reduction=reduction, **kwargs)

    return run


for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div", "soft_margin_loss"):
    same(f"nn.functional.{name}", of=pairwise(getattr(nnf, name)))


@adapter("nn.functional.binary_cross_entropy")
def binary_cross_entropy(x, target, weight=None, reduction="mean"):
    return nnf.binary_cross_entropy(x, target, weight, reduction)


@adapter("nn.functional.binary_cross_entropy_with_logits")
def bce_with_logits(x, target, weight=None, reduction="mean", pos_weight=None):
    return nnf.binary_cross_entropy_with_logits(x, target, weight, reduction, pos_weight)


def is_labels(target: Any) -> bool:
    return target.dtype.name.startswith("int")


@adapter("nn.functional.cross_entropy")
def cross_entropy(x, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    target = target if is_labels(target) else CLASSES.ours(target)
    return nnf.cross_entropy(CLASSES.ours(x), target, weight, ignore_index, reduction, label_smoothing)


@adapter("nn.functional.nll_loss")
def nll_loss(x, target, weight=None, ignore_index=-100, reduction="mean"):
    return nnf.nll_loss(CLASSES.ours(x), target, weight, ignore_index, reduction)


for name in (
    "cosine_embedding_loss", "hinge_embedding_loss", "margin_ranking_loss", "multilabel_soft_margin_loss",
    "pairwise_distance", "poisson_nll_loss", "triplet_margin_loss",
):  # fmt: skip
    same(f"nn.functional.{name}", of=getattr(nnf, name))


@adapter("nn.functional.cosine_similarity")
def cosine_similarity(x, y, dim=1, eps=1e-8):
    scalar_has_no_axis(x)
    return nnf.cosine_similarity(x, y, dim, eps)


@adapter("nn.functional.gaussian_nll_loss")
def gaussian_nll_loss(x, target, var, **kwargs):
    if x.shape != target.shape:
        raise Outside("a loss between different shapes is an error here")
    return nnf.gaussian_nll_loss(x, target, var, **kwargs)


@adapter("nn.functional.multi_margin_loss")
def multi_margin_loss(x, target, **kwargs):
    if target.shape != x.shape[:-1] or not x.ndim:
        raise Outside("a label for each sample, a score for each class")
    return nnf.multi_margin_loss(x, target, **kwargs)


@adapter("nn.functional.multilabel_margin_loss")
def multilabel_margin_loss(x, target, **kwargs):
    scalar_has_no_axis(x)
    return nnf.multilabel_margin_loss(x, target, **kwargs)
