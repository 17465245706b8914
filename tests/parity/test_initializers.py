"""Initializers: signatures, exact values, bounds and moments as in PyTorch."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch", reason="PyTorch is in the parity extra: make test-parity")

import chainrule as cr  # noqa: E402
from chainrule import nn  # noqa: E402

SHARED = sorted(name for name in nn.init.__all__ if name.endswith("_") and hasattr(torch.nn.init, name))


def both(name, shape, *args, **kwargs):
    """Values by both libraries for weights of a channels-first shape, here and there, channels first."""
    last = (shape[0], *shape[2:], shape[1]) if len(shape) > 1 else shape
    ours = getattr(nn.init, name)(nn.Parameter(cr.zeros(last, dtype="float64")), *args, **kwargs).numpy()
    theirs = getattr(torch.nn.init, name)(torch.zeros(shape, dtype=torch.float64), *args, **kwargs).numpy()
    return np.moveaxis(ours, -1, 1) if len(shape) > 1 else ours, theirs


def test_what_is_shared():
    ours = {name for name in vars(torch.nn.init) if name.endswith("_") and not name.startswith("_")}
    assert ours - set(SHARED) == set()


@pytest.mark.parametrize("name", SHARED)
def test_arguments_and_defaults(name):
    ours = list(inspect.signature(getattr(nn.init, name)).parameters.values())[1:]
    theirs = list(inspect.signature(getattr(torch.nn.init, name)).parameters.values())[1:]
    assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in theirs]


@pytest.mark.parametrize("nonlinearity", ["linear", "conv2d", "conv_transpose2d", "sigmoid", "tanh", "relu", "selu"])
def test_gains(nonlinearity):
    assert nn.init.calculate_gain(nonlinearity) == torch.nn.init.calculate_gain(nonlinearity)


@pytest.mark.parametrize("slope", [None, 0.0, 0.3])
def test_gain_of_leaky_relu(slope):
    assert nn.init.calculate_gain("leaky_relu", slope) == torch.nn.init.calculate_gain("leaky_relu", slope)


@pytest.mark.parametrize(("name", "shape", "args"), [
    ("constant_", (3, 2), (0.5,)), ("ones_", (3,), ()), ("zeros_", (3,), ()), ("eye_", (3, 5), ()),
    ("eye_", (5, 3), ()), ("dirac_", (4, 3, 5), ()), ("dirac_", (6, 2, 3, 4), (3,)), ("dirac_", (4, 4, 2, 3, 1), (2,)),
])  # fmt: skip
def test_constants_are_equal(name, shape, args):
    np.testing.assert_array_equal(*both(name, shape, *args))


@pytest.mark.parametrize("shape", [(400, 300), (60, 40, 5), (60, 10, 5, 5)])
@pytest.mark.parametrize(("name", "options"), [
    ("xavier_uniform_", {}), ("xavier_normal_", {"gain": 1.5}), ("kaiming_uniform_", {"a": math.sqrt(5)}),
    ("kaiming_normal_", {"mode": "fan_out", "nonlinearity": "relu"}), ("uniform_", {"a": -1.0}),
    ("normal_", {"std": 2.0}), ("trunc_normal_", {"b": 0.5, "std": 0.7}), ("orthogonal_", {"gain": 2.0}),
])  # fmt: skip
def test_spread_is_equal(name, options, shape):
    torch.manual_seed(0)
    cr.manual_seed(0)
    ours, theirs = both(name, shape, **options)
    assert ours.shape == theirs.shape
    error = 6 * theirs.std() / math.sqrt(theirs.size)  # three standard errors of a mean, for each of the two
    assert ours.mean() == pytest.approx(theirs.mean(), abs=error)
    assert ours.std() == pytest.approx(theirs.std(), rel=0.03)
    if "uniform" in name or "trunc" in name:
        assert ours.max() == pytest.approx(theirs.max(), rel=0.01)
        assert ours.min() == pytest.approx(theirs.min(), rel=0.01)


def test_sparse_has_as_many_zeros():
    ours, theirs = both("sparse_", (37, 20), 0.3, std=0.5)
    np.testing.assert_array_equal((ours == 0).sum(0), (theirs == 0).sum(0))
