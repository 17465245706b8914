"""Every module that PyTorch has too, on PyTorch's own samples, in float64.

Weights are carried over by ``load_state_dict(layout="torch")``. Results, gradients of inputs and parameters,
and buffers after the call are compared in PyTorch's layout.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore:reduction. 'mean' divides"),  # of PyTorch's kl_div
]
torch = pytest.importorskip("torch", reason="PyTorch is in the parity extra: make test-parity")
pytest.importorskip("expecttest", reason="PyTorch's samples need expecttest, in the parity extra: make test-parity")

from compare import FORWARD, GRADIENT, Errors, relative_error, to_numpy  # noqa: E402
from module_table import ABSENT, ELSEWHERE, MORE, Pair, refusal, suited  # noqa: E402
from torch.testing._internal.common_modules import module_db  # noqa: E402

import chainrule as cr  # noqa: E402
from chainrule import nn  # noqa: E402

MODULES = [m for m in module_db if m.module_cls.__name__ not in ABSENT | dict.fromkeys(ELSEWHERE)]
NAMES = [m.module_cls.__name__ for m in MODULES]


def check(pair: Pair, inputs: list) -> Errors:
    """Compare one call: result, gradients of inputs and parameters, buffers after it."""
    inputs = [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]
    ours = [cr.asarray(to_numpy(x)) for x in inputs]
    smooth = [i for i, x in enumerate(inputs) if x.requires_grad]

    def call(module, *moving):
        given = dict(zip(smooth, moving, strict=True))
        return pair.call(module, *(given.get(i, x) for i, x in enumerate(ours)))

    expected = pair.torch(*inputs)
    out, pullback = cr.vjp(call, pair.ours, *(ours[i] for i in smooth))
    errors = Errors(forward=relative_error(out.numpy(), to_numpy(expected)))
    if expected.requires_grad:
        ct = np.random.default_rng(0).standard_normal(tuple(expected.shape))
        parameters = dict(pair.torch.named_parameters())
        leaves = [*parameters.values(), *(inputs[i] for i in smooth)]
        wanted = torch.autograd.grad(expected, leaves, torch.as_tensor(ct), allow_unused=True, materialize_grads=True)
        by_module, *by_input = pullback(cr.asarray(np.asarray(ct)))
        got = [pair.theirs_parameter(name, by_module[name]) for name in parameters] + [g.numpy() for g in by_input]
        errors.gradient = max(relative_error(g, to_numpy(w)) for g, w in zip(got, wanted, strict=True))
    state = pair.ours.state_dict()
    for name, buffer in pair.torch.named_buffers():
        if name in state:  # the weights of a loss are arguments here, not state
            errors.forward = max(errors.forward, relative_error(state[name].numpy(), to_numpy(buffer)))
    return errors


def run_ours(name: str, constructor, inputs: list) -> cr.Tensor:
    pair = Pair.make(name, constructor.args, constructor.kwargs, training=True)
    return pair.call(pair.ours, *(cr.asarray(to_numpy(x)) for x in inputs))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("info", MODULES, ids=NAMES)
def test_samples(info, training, record_property):
    name = info.module_cls.__name__
    torch.manual_seed(0)
    inputs = info.module_inputs_func(info, device="cpu", dtype=torch.float64, requires_grad=True, training=training)
    worst, compared, refused = Errors(), 0, Counter()
    for number, sample in enumerate(inputs):
        made = sample.constructor_input
        given = suited(name, [*sample.forward_input.args, *sample.forward_input.kwargs.values()])
        where = f"sample {number} {sample.desc}: {made.args} {made.kwargs} {[tuple(x.shape) for x in given]}"
        reason = refusal(name, made.kwargs, given)
        if reason:
            refused[reason] += 1
            with pytest.raises(cr.ChainruleError):
                run_ours(name, made, given)
            continue
        try:
            errors = check(Pair.make(name, made.args, made.kwargs, training), given)
        except Exception as error:
            raise AssertionError(where) from error
        assert errors.forward <= FORWARD, (errors, where)
        assert errors.gradient <= GRADIENT, (errors, where)
        worst.add(errors)
        compared += 1
    record_property("compared", compared)
    record_property("refused", dict(refused))
    record_property("errors", worst)
    assert compared


@pytest.mark.parametrize(("name", "args", "kwargs", "shapes"), MORE, ids=lambda v: v if isinstance(v, str) else "")
def test_further_modules(name, args, kwargs, shapes):
    torch.manual_seed(0)
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    errors = check(Pair.make(name, args, kwargs, training=False), inputs)
    assert errors.forward <= FORWARD
    assert errors.gradient <= GRADIENT


def test_every_module_of_pytorch_is_accounted_for():
    """A module in PyTorch's database is compared, tested elsewhere, or left out for a reason."""
    here = {name for name in vars(nn) if isinstance(getattr(nn, name), type)}
    assert set(NAMES) <= here
    assert not set(ABSENT) & here, "no longer absent"


def test_flattened_images_reach_the_same_linear():
    """``flattened=`` permutes the weights of a Linear that follows a Flatten."""
    torch.manual_seed(0)
    shapes = [("Conv2d", (3, 4, 3), {"groups": 1}), ("ReLU", (), {}), ("MaxPool2d", (2,), {}), ("Flatten", (), {}),
              ("Linear", (4 * 3 * 2, 5), {})]  # fmt: skip
    theirs = torch.nn.Sequential(*(getattr(torch.nn, n)(*a, **k) for n, a, k in shapes)).double()
    ours = nn.Sequential(*(getattr(nn, n)(*a, **k) for n, a, k in shapes)).double()
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    moved = cr.asarray(to_numpy(x.permute(0, 2, 3, 1)))
    ours.load_state_dict(theirs.state_dict(), layout="torch")
    assert relative_error(ours(moved).numpy(), to_numpy(theirs(x))) > 1e-3
    ours.load_state_dict(theirs.state_dict(), layout="torch", flattened={"4.weight": (4, 3, 2)})
    assert relative_error(ours(moved).numpy(), to_numpy(theirs(x))) <= FORWARD


def test_batch_norm_statistics_follow_over_several_batches():
    torch.manual_seed(0)
    for momentum in (0.1, None):
        pair = Pair.make("BatchNorm2d", (3,), {"momentum": momentum}, training=True)
        for _ in range(4):
            errors = check(pair, [torch.randn(5, 3, 4, 4, dtype=torch.float64, requires_grad=True) * 3 + 1])
            assert errors.forward <= FORWARD
            assert errors.gradient <= GRADIENT
        pair.torch.eval()
        pair.ours.eval()
        assert check(pair, [torch.randn(5, 3, 4, 4, dtype=torch.float64)]).forward <= FORWARD
