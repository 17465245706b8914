"""Arguments that cannot be meant, and 16-bit floats where their range ends: layers and functions of `nn`."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.nn import functional as nnf

LABELS, TOKENS, TABLE = cr.tensor([0, 1]), cr.tensor([0, -1]), cr.ones((5, 3))
IMAGE = cr.ones((1, 4, 4, 3))

REFUSED = {
    "negative size": (lambda: nn.Linear(3, -1), "whole numbers"),
    "negative inputs": (lambda: nn.Linear(-1, 3), "whole numbers"),
    "size with a point": (lambda: nn.Linear(3.0, 2), "whole numbers"),
    "rows": (lambda: nn.Embedding(-1, 3), "whole numbers"),
    "inputs of a loop": (lambda: nn.LSTM(-1, 3), "whole numbers"),
    "shape of layer norm": (lambda: nn.LayerNorm(4.0), "whole numbers"),
    "no axis": (lambda: nn.RMSNorm(()), "one axis at least"),
    "no axis, function": (lambda: nnf.layer_norm(TABLE, ()), "one axis at least"),
    "groups": (lambda: nn.GroupNorm(4, 6), "do not divide"),
    "no groups": (lambda: nn.GroupNorm(0, 6), "do not divide"),
    "no groups, function": (lambda: nnf.group_norm(TABLE, 0), "do not divide"),
    "no batch": (lambda: nnf.group_norm(cr.ones(6), 2), "needs a batch"),
    "channels": (lambda: nn.GroupNorm(2, 6, affine=False)(TABLE), "6 channels"),
    "one channel is not all": (lambda: nn.GroupNorm(1, 1)(TABLE), "1 channels"),
    "statistics": (lambda: nnf.batch_norm(TABLE, cr.zeros(3), cr.ones(3), training=True), r"cr\.Cell"),
    "stride": (lambda: nn.Conv2d(3, 4, 3, stride=0), "stride"),
    "strides": (lambda: nn.Conv2d(3, 4, 3, stride=(1, 2, 3)), "stride"),
    "dilation": (lambda: nn.Conv2d(3, 4, 3, dilation=-1), "dilation"),
    "padding": (lambda: nn.Conv2d(3, 4, 3, padding="some"), "padding"),
    "mirrored without a batch": (lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")(IMAGE[0]), "batch"),
    "transposed, padding": (lambda: nn.ConvTranspose2d(3, 4, 3, padding="same"), "padding"),
    "transposed, nothing left": (lambda: nn.ConvTranspose2d(3, 4, 3, padding=9)(IMAGE), "larger than the result"),
    "cut off": (lambda: nn.ZeroPad2d(-3)(IMAGE), "more is cut off"),
    "width": (lambda: nnf.pad(IMAGE, 1), "two whole numbers"),
    "adaptive": (lambda: nn.AdaptiveAvgPool2d(0)(IMAGE), "output_size"),
    "adaptive, negative": (lambda: nn.AdaptiveMaxPool2d(-1)(IMAGE), "output_size"),
    "adaptive, fraction": (lambda: nn.AdaptiveAvgPool2d(2.5)(IMAGE), "output_size"),
    "flattened backwards": (lambda: nn.Flatten(2, 1)(IMAGE), "before the last"),
    "unflattened": (lambda: nn.Unflatten(5, (3, 1))(TABLE), "axis"),
    "halves": (lambda: nnf.glu(TABLE, 2), "axis 2"),
    "halves of a scalar": (lambda: nnf.swiglu(cr.ones(())), "axis -1"),
    "not the last row": (lambda: nnf.embedding(TOKENS, TABLE), "not one of the 5 rows"),
    "not the last row, compiled": (lambda: cr.compile(nnf.embedding)(TOKENS, TABLE), "not one of the 5 rows|out of"),
    "not the last row of a bag": (lambda: nn.EmbeddingBag(5, 3)(TOKENS[None]), "not one of the 5 rows"),
    "padding of a table": (lambda: nnf.embedding(LABELS, TABLE, padding_idx=5), "padding_idx"),
    "no table": (lambda: nnf.embedding(LABELS, cr.ones(3)), "table"),
    "mode of a bag": (lambda: nn.EmbeddingBag(5, 3, mode="most"), "mode"),
    "dtypes of a product": (lambda: nn.Bilinear(2, 3, 4)(cr.ones((1, 2)), cr.ones((1, 3), "float64")), "float32"),
    "delta": (lambda: nnf.huber_loss(TABLE, TABLE, delta=0.0), "positive"),
    "beta": (lambda: nnf.smooth_l1_loss(TABLE, TABLE, beta=-1.0), "not negative"),
    "weights of classes": (lambda: nn.MultiMarginLoss(weight=[1.0])(TABLE[:2], LABELS), "each of 3 classes"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_reason(case):
    make, message = REFUSED[case]
    with pytest.raises(cr.ChainruleError, match=message):
        make()


def test_sizes_of_nothing_are_allowed():
    assert nn.Linear(0, 3)(cr.zeros((2, 0))).tolist() == [[0.0] * 3] * 2
    assert nn.Conv1d(0, 3, 1)(cr.zeros((1, 2, 0))).tolist() == [[[0.0] * 3] * 2]
    assert nnf.glu(cr.ones((0, 4)), 0).shape == (0, 4)


def test_the_mean_of_no_losses_is_nan():
    for target in (cr.zeros((0,), "int64"), cr.zeros((0, 3))):
        assert np.isnan(nnf.cross_entropy(cr.zeros((0, 3)), target).item())


HALVES = pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
MODES = pytest.mark.parametrize("how", [lambda f: f, cr.compile], ids=["eager", "compiled"])


@MODES
@HALVES
@pytest.mark.parametrize("norm", [
    lambda x: nnf.layer_norm(x, 4), lambda x: nnf.rms_norm(x, 4), lambda x: nnf.group_norm(x, 2),
    lambda x: nnf.batch_norm(x, None, None, training=True), lambda x: nnf.instance_norm(x[None]),
], ids=["layer", "rms", "group", "batch", "instance"])  # fmt: skip
def test_norms_of_16_bit_floats_are_those_of_float32(norm, dtype, how):
    """The square of 300 is beyond the range of float16."""
    x = cr.tensor([[1000.0, 2.0, 3000.0, -4.0], [0.5, 900.0, -80.0, 7.0]]).astype(dtype)
    got, wanted = how(norm)(x), norm(x.astype("float32"))
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got.numpy(), wanted.astype(dtype).numpy())


@MODES
@HALVES
def test_losses_and_means_over_many_16_bit_floats(dtype, how):
    logits = cr.tensor([20.0, 0.0]).astype(dtype) + cr.zeros((70000, 2), dtype)
    wrong = cr.ones((70000,), "int64")
    for loss in (nnf.cross_entropy, lambda x, y: nnf.nll_loss(-x - 20.0, y), lambda x, y: cr.mean(x[:, 0])):
        out = how(loss)(logits, wrong)
        assert (out.item(), out.dtype) == (20.0, logits.dtype)


@HALVES
def test_16_bit_weights_are_saved_and_read(dtype, tmp_path):
    model, other = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(2))
    (model.half() if dtype == "float16" else model.bfloat16())
    other.to(dtype)
    cr.save(model, tmp_path / "model.safetensors")
    cr.load(other, tmp_path / "model.safetensors")
    for name, value in model.state_dict().items():
        assert other.state_dict()[name].dtype == value.dtype
        np.testing.assert_array_equal(other.state_dict()[name].numpy(), value.numpy())


def test_weights_are_not_pickled():
    for owner in (cr.Cell(cr.ones(2)), nn.Sequential(nn.Dropout(), nn.Linear(2, 2))):
        with pytest.raises(cr.ChainruleError, match=r"cr\.save"):
            pickle.dumps(owner)
    without = nn.Sequential(nn.Dropout(0.25), nn.ReLU())
    assert repr(pickle.loads(pickle.dumps(without))) == repr(without)
    assert copy.copy(without[0])._owner() is None
