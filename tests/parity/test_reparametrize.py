"""Weight and spectral normalization over several steps, and `fold`, which PyTorch's database of samples lacks."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch", reason="PyTorch is in the parity extra: make test-parity")

from compare import FORWARD, GRADIENT, relative_error, to_numpy  # noqa: E402
from layouts import LAYOUTS  # noqa: E402

import chainrule as cr  # noqa: E402
from chainrule import nn  # noqa: E402

IMAGE = LAYOUTS["image"]
LAYERS = [
    ("Linear", (4, 3), {}, (5, 4)),
    ("Conv2d", (2, 4, 3), {"groups": 2}, (2, 2, 5, 5)),
    ("Conv1d", (3, 4, 2), {"padding": 1, "padding_mode": "circular"}, (2, 3, 6)),
    ("ConvTranspose2d", (3, 4, 2), {"stride": 2}, (2, 3, 3, 3)),
]


def pair(name, args, kwargs):
    torch.manual_seed(0)
    return getattr(torch.nn, name)(*args, **kwargs).double(), getattr(nn, name)(*args, **kwargs).double()


def run(ours, theirs, x):
    """Outputs of both for one input in PyTorch's layout, and gradients of the sum of their squares."""
    is_image = x.ndim > 2
    out = ours(IMAGE.ours(cr.asarray(to_numpy(x))) if is_image else cr.asarray(to_numpy(x)))
    expected = theirs(x)
    (out * out).sum().backward()
    (expected * expected).sum().backward()
    assert relative_error((IMAGE.theirs(out) if is_image else out).detach().numpy(), to_numpy(expected)) <= FORWARD


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize(("name", "args", "kwargs", "shape"), LAYERS, ids=[row[0] for row in LAYERS])
def test_weight_norm(name, args, kwargs, shape, dim):
    theirs, ours = pair(name, args, kwargs)
    torch.nn.utils.parametrizations.weight_norm(theirs, dim=dim)
    with torch.no_grad():
        theirs.parametrizations.weight.original0.mul_(1.3)  # so that g is not the length of v
    axis = -1 if dim == 1 and name != "Linear" else dim  # the second axis is the last one here
    nn.utils.weight_norm(ours, dim=axis).load_state_dict(theirs.state_dict(), layout="torch")
    run(ours, theirs, torch.randn(shape, dtype=torch.float64))
    for key, parameter in theirs.named_parameters():
        grad = ours.get_parameter(key).grad
        grad = IMAGE.theirs(grad) if parameter.ndim > 2 else grad
        assert relative_error(grad.numpy(), to_numpy(parameter.grad)) <= GRADIENT


@pytest.mark.parametrize(("name", "args", "kwargs", "shape"), LAYERS, ids=[row[0] for row in LAYERS])
def test_spectral_norm_over_steps_and_in_evaluation(name, args, kwargs, shape):
    theirs, ours = pair(name, args, kwargs)
    kernel = LAYOUTS["transposed convolution weight" if "Transpose" in name else "convolution weight"]
    torch.nn.utils.parametrizations.spectral_norm(theirs, n_power_iterations=2)
    nn.utils.spectral_norm(ours, n_power_iterations=2)
    mine, other = ours.parametrizations["weight"], theirs.parametrizations.weight
    mine.original.assign(kernel.ours(cr.asarray(to_numpy(other.original))))
    mine.u.assign(to_numpy(other[0]._u))
    v = to_numpy(other[0]._v)  # places of the kernel in front of channels here, unless these are the rows
    if name.startswith("Conv") and "Transpose" not in name:
        v = np.moveaxis(v.reshape(other.original.shape[1:]), 0, -1).reshape(-1)
    mine.v.assign(v)
    ours.bias.assign(to_numpy(theirs.bias))
    x = torch.randn(shape, dtype=torch.float64)
    for _ in range(3):
        run(ours, theirs, x)
        assert relative_error(mine.u.numpy(), to_numpy(other[0]._u)) <= FORWARD
    grad = kernel.theirs(mine.original.grad)
    assert relative_error(grad.numpy(), to_numpy(other.original.grad)) <= GRADIENT
    ours.eval()
    theirs.eval()
    run(ours, theirs, x)
    assert relative_error(mine.u.numpy(), to_numpy(other[0]._u)) <= FORWARD


@pytest.mark.parametrize(
    ("image", "kernel", "how"),
    [
        ((4, 5), 2, {}),
        ((4, 5), (3, 2), {"padding": (1, 0), "stride": 2}),
        ((7, 6), 2, {"dilation": (3, 2), "stride": (2, 3), "padding": 1}),
    ],
)
def test_fold(image, kernel, how):
    x = torch.randn(2, 3, *image, dtype=torch.float64)
    windows = torch.nn.functional.unfold(x, kernel, **how).requires_grad_()
    expected = torch.nn.functional.fold(windows, image, kernel, **how)
    ours = cr.tensor(np.swapaxes(to_numpy(windows), 1, 2), requires_grad=True)
    out = IMAGE.theirs(nn.functional.fold(ours, image, kernel, **how))
    assert relative_error(out.detach().numpy(), to_numpy(expected)) <= FORWARD
    (out * out).sum().backward()
    (expected * expected).sum().backward()
    assert relative_error(np.swapaxes(ours.grad.numpy(), 1, 2), to_numpy(windows.grad)) <= GRADIENT
