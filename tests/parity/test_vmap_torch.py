"""`vmap`, Jacobians and gradients of samples against torch.func."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr

torch = pytest.importorskip("torch")
# PyTorch warns of itself where it first takes a gradient in vmap.
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")]

rng = np.random.default_rng(0)
W, X, IMAGES, KERNELS = (rng.standard_normal(s) for s in ((4, 3), (5, 3), (5, 1, 6, 6, 2), (5, 3, 2, 2, 2)))


def close(ours, theirs):
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=1e-9, atol=1e-11)


def test_gradients_of_samples_and_hessians():
    def ours(w, x):
        return cr.tanh(w @ x).sum() * x[0]

    def theirs(w, x):
        return torch.tanh(w @ x).sum() * x[0]

    w, x = torch.tensor(W), torch.tensor(X)
    expected = torch.func.vmap(torch.func.grad(theirs), in_dims=(None, 0))(w, x)
    close(cr.per_sample_grads(ours)(cr.tensor(W), cr.tensor(X)), expected)
    norms = cr.per_sample_grad_norms(ours)(cr.tensor(W), cr.tensor(X))
    close(norms, expected.flatten(1).norm(dim=1))
    close(
        cr.vmap(cr.hessian(ours, argnums=1), in_axes=(None, 0))(cr.tensor(W), cr.tensor(X)),
        torch.func.vmap(torch.func.hessian(theirs, argnums=1), in_dims=(None, 0))(w, x),
    )


def test_kernels_of_examples():
    found = cr.vmap(lambda x, k: cr.conv(x, k, padding=1))(cr.tensor(IMAGES), cr.tensor(KERNELS))
    images, kernels = torch.tensor(IMAGES).movedim(-1, 2), torch.tensor(KERNELS).movedim(-1, 2)
    expected = torch.func.vmap(lambda x, k: torch.nn.functional.conv2d(x, k, padding=1))(images, kernels)
    close(found, expected.movedim(2, -1))
