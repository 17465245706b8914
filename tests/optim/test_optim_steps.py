"""What every optimizer does: it goes down, keeps dtypes, and takes the same step traced and saved."""

from __future__ import annotations

import numpy as np
import pytest
from optim_table import CASES, every_optimizer

import chainrule as cr
from chainrule import optim


def quadratic(w):
    scale, goal = (cr.tensor(v, dtype=w.dtype) for v in ([1.0, 10.0], [1.0, -1.0]))
    return (scale * (w - goal) ** 2).sum()


def rosenbrock(w):
    x, y = w[0, 0], w[0, 1]
    return (1 - x) ** 2 + 10 * (y - x**2) ** 2


def parameter(values, dtype="float64"):
    return cr.Parameter(cr.tensor(np.asarray(values), dtype=dtype))


def gradients(n, shape=(3, 2)):
    return np.random.default_rng(n).normal(size=(n, *shape))


def feed(opt, weights, arrays):
    """Steps with given gradients."""
    for array in arrays:
        for w in weights:
            w.grad = cr.tensor(array, dtype=w.dtype)
        opt.step()


def test_the_table_has_every_optimizer():
    exported = {n: getattr(optim, n) for n in optim.__all__ if isinstance(getattr(optim, n), type)}
    base = optim.Optimizer
    updating = {n for n, t in exported.items() if issubclass(t, base) and t.update is not base.update}
    assert {case.name for case in CASES} == updating


@pytest.mark.parametrize(("loss", "bound"), [(quadratic, 1e-4), (rosenbrock, 1e-2)])
@every_optimizer
def test_goes_down_to_the_minimum(case, loss, bound):
    w = parameter([[-1.0, 1.0]])
    opt = case.make([w])
    rate = optim.lr_scheduler.PolynomialLR(opt, 500 if case.falls else 1, power=float(case.falls))
    for _ in range(500):
        opt.zero_grad()
        loss(w).backward()
        opt.step()
        rate.step()
    assert float(loss(w)) < bound


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "complex64"])
@every_optimizer
def test_keeps_the_dtype(case, dtype):
    w = parameter(np.ones((3, 2)), dtype)
    if dtype == "complex64" and case.is_for_real_matrices:
        with pytest.raises(cr.errors.ArgumentError, match="complex"):
            case.make([w])
        return
    opt = case.make([w], lr=0.125)
    before = {name: cell.dtype for name, cell in opt.state[w].items()}
    feed(opt, [w], gradients(3))
    assert w.dtype.name == dtype
    wide = {"float64": "float64"}.get(dtype, "float32")
    for name, cell in opt.state[w].items():
        assert cell.dtype == before[name]
        assert cell.dtype.name == ("float64" if name == "mu_product" else wide)
    assert np.isfinite(w.numpy().astype("complex128")).all()
    assert (w.numpy() != 1).any()


@every_optimizer
def test_sixteen_bits_are_one_rounding_of_float32(case):
    half, single = parameter(np.ones((3, 2)), "bfloat16"), parameter(np.ones((3, 2)), "float32")
    array = gradients(1)[0].astype(np.float32)
    grad = cr.tensor(array, dtype="bfloat16")
    half.grad, single.grad = grad, grad.astype("float32")
    for w in (half, single):
        case.make([w], lr=0.125).step()
    np.testing.assert_array_equal(half.numpy(), single.detach().astype("bfloat16").numpy())


@pytest.mark.parametrize("case", [c for c in CASES if not c.is_for_real_matrices], ids=lambda case: case.label)
def test_a_complex_parameter_is_a_pair_of_real_ones(case):
    pairs = gradients(5, (4, 2))
    w, pair = parameter(np.ones(4) + 2j, "complex128"), parameter(np.tile([1.0, 2.0], (4, 1)))
    feed(case.make([w]), [w], pairs[..., 0] + 1j * pairs[..., 1])
    feed(case.make([pair]), [pair], pairs)
    np.testing.assert_array_equal(np.stack([w.numpy().real, w.numpy().imag], -1), pair.numpy())


@pytest.mark.parametrize("case", [c for c in CASES if c.name != "Muon"], ids=lambda case: case.label)
def test_maximizing_is_minimizing_the_negative(case):
    up, down = parameter(np.ones((3, 2))), parameter(np.ones((3, 2)))
    feed(case.make([up], maximize=True), [up], gradients(4))
    feed(case.make([down]), [down], -gradients(4))
    np.testing.assert_array_equal(up.numpy(), down.numpy())


@every_optimizer
def test_a_traced_loop_takes_the_same_steps(case):
    """`scan` traces its body, so a step that needed the value of a tensor would fail here."""

    def run(loop):
        w = parameter([[-1.0, 1.0]], "float32")
        opt = case.make([w])

        def body(carry, x):
            opt.zero_grad()
            loss = rosenbrock(w) + x * w.sum()
            loss.backward()
            optim.clip_grad_norm_([w], 1.0)
            opt.step()
            opt.zero_grad()
            return carry, loss

        _, losses = loop(body, cr.tensor(0.0), cr.tensor([0.0, 0.5, -0.25, 1.0]))
        return [losses, w, opt.step_count, *opt.state[w].values()]

    def unrolled(body, carry, xs):
        return carry, cr.stack([body(carry, x)[1] for x in xs])

    for traced, eager in zip(run(cr.scan), run(unrolled), strict=True):
        np.testing.assert_array_equal(traced.detach().numpy(), eager.detach().numpy())


@every_optimizer
def test_the_pieces_are_pure_functions(case):
    """`init`, `coefficients` and `update` by themselves give what a step does, and change nothing."""
    w = parameter(np.ones((3, 2)))
    opt = case.make([w])
    group = opt.param_groups[0]
    p = w.detach()
    state = opt.init(p, group.options)
    for number, array in enumerate(gradients(3), start=1):
        lr, step = opt.lr.detach(), cr.tensor(float(number), dtype="float64")
        hyper = group.options | opt.coefficients(lr, step, group.options)
        p, state = opt.update(cr.tensor(array), p, state, hyper)
    assert (w.version, opt.lr.version, opt.step_count.version) == (0, 0, 0)
    feed(opt, [w], gradients(3))
    np.testing.assert_array_equal(p.numpy(), w.numpy())
    for name, cell in opt.state[w].items():
        np.testing.assert_array_equal(state[name].numpy(), cell.numpy())


@every_optimizer
def test_the_learning_rate_is_a_cell_read_by_each_step(case):
    w = parameter(np.ones((3, 2)))
    opt = case.make([w])
    cell = opt.lr
    opt.lr = 0.0
    assert opt.lr is cell
    assert (cell.dtype.name, cell.shape, f"{cell:.1f}") == ("float64", (), "0.0")
    if case.name != "Rprop":  # its step sizes have a lower limit of their own
        feed(opt, [w], gradients(2))
        np.testing.assert_array_equal(w.numpy(), 1.0)


def test_float32_parameters_are_updated_in_float32():
    """The float64 learning rate is rounded first: computing in float64 and rounding then gives other bits."""
    w, g = np.float32(0.05), np.linspace(0.1, 0.9, 99, dtype=np.float32)
    cell = parameter(np.full(99, w), "float32")
    cell.grad = cr.tensor(g)
    optim.SGD([cell], lr=0.1).step()
    np.testing.assert_array_equal(cell.numpy(), w - np.float32(0.1) * g)
    assert (cell.numpy() != (w - 0.1 * g.astype(np.float64)).astype(np.float32)).any()


def test_the_first_direction_is_not_damped():
    w = parameter(0.0)
    opt = optim.SGD([w], lr=1.0, momentum=0.5, dampening=0.75)
    feed(opt, [w], [1.0, 1.0])
    # b_1 = 1, b_2 = 0.5 * 1 + 0.25 * 1
    assert float(w) == -1.75


def test_a_step_of_adam_by_hand():
    w = parameter(1.0)
    opt = optim.Adam([w], lr=0.1, betas=(0.5, 0.75), eps=0.0)
    feed(opt, [w], [2.0, 4.0])
    # t=1: m = 1, v = 1, step 0.1 * (1 / 0.5) / sqrt(1 / 0.25) = 0.1
    # t=2: m = 2.5, v = 4.75, step 0.1 * (2.5 / 0.75) / sqrt(4.75 / 0.4375)
    assert float(w) == pytest.approx(0.9 - 0.1 * (2.5 / 0.75) / (4.75 / 0.4375) ** 0.5, rel=1e-14)


def test_two_steps_of_nadam_by_hand():
    w = parameter(1.0)
    opt = optim.NAdam([w], lr=0.1, betas=(0.5, 0.75), eps=0.0, momentum_decay=1.0)
    feed(opt, [w], [2.0, 4.0])
    mu = [0.5 * (1 - 0.5 * 0.96**t) for t in (1, 2, 3)]
    # t=1: m = 1, v = 1; t=2: m = 2.5, v = 4.75
    first = (mu[1] * 1 / (1 - mu[0] * mu[1]) + (1 - mu[0]) * 2 / (1 - mu[0])) / (1 / 0.25) ** 0.5
    second = (mu[2] * 2.5 / (1 - mu[0] * mu[1] * mu[2]) + (1 - mu[1]) * 4 / (1 - mu[0] * mu[1])) / (
        4.75 / 0.4375
    ) ** 0.5
    assert float(w) == pytest.approx(1 - 0.1 * (first + second), rel=1e-14)


def test_radam_is_rectified_when_the_variance_is_known():
    w, beta2 = parameter(1.0), 0.99
    opt = optim.RAdam([w], lr=0.1, betas=(0.0, beta2), eps=0.0)
    sizes = []
    for _ in range(8):
        before = float(w)
        feed(opt, [w], [3.0])
        sizes.append(before - float(w))
    rho_inf = 2 / (1 - beta2) - 1
    for t, size in enumerate(sizes, start=1):
        rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
        rectified = ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)) ** 0.5 if rho > 5 else 3
        assert size == pytest.approx(0.1 * rectified, rel=1e-12)
    assert sizes[4] == pytest.approx(0.3) != pytest.approx(sizes[5])


def test_rprop_starts_with_the_learning_rate_and_waits_after_a_flip():
    w = parameter(0.0)
    opt = optim.Rprop([w], lr=1.0, etas=(0.5, 1.5), step_sizes=(0.1, 2.0))
    opt.lr = 0.5  # as a scheduler made after the optimizer does
    seen = []
    for g in (-1.0, -3.0, 2.0, 2.0, -1.0):
        feed(opt, [w], [g])
        seen.append(float(w))
    # sizes 0.5, 0.75, 0.375 (waits), 0.375 (no last gradient), 0.1875 (waits)
    assert seen == [0.5, 1.25, 1.25, 0.875, 0.875]


def test_adagrad_lets_the_rate_fall_after_the_first_step():
    w = parameter(0.0)
    opt = optim.Adagrad([w], lr=1.0, lr_decay=0.5, initial_accumulator_value=3.0, eps=0.0)
    feed(opt, [w], [1.0, 1.0])
    assert float(w) == pytest.approx(-(1 / 2) - (1 / 1.5) / 5**0.5, rel=1e-14)


def test_an_updated_parameter_is_not_recorded():
    w = parameter([1.0])
    quadratic_of = (w * w).sum()
    quadratic_of.backward()
    optim.SGD([w], lr=0.1).step()
    assert w.is_leaf
    assert w.trainable


def test_closure_computes_the_loss_anew():
    w = parameter([1.0])
    opt = optim.SGD([w], lr=0.1)

    def closure():
        opt.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with cr.no_grad():  # the closure records nevertheless
        losses = [float(opt.step(closure)) for _ in range(3)]
    assert losses == pytest.approx([1.0, 0.64, 0.4096], rel=1e-14)


class FailsLater(optim.Adam):
    """Adam whose update goes wrong at the second parameter."""

    how = "raise"

    @staticmethod
    def update(g, p, state, hyper):
        if p.shape != (2,):
            return optim.Adam.update(g, p, state, hyper)
        if FailsLater.how == "raise":
            raise RuntimeError("later")
        return p[:1], state


@pytest.mark.parametrize("how", ["raise", "shape"])
def test_an_exception_leaves_every_cell_as_before(how, monkeypatch):
    monkeypatch.setattr(FailsLater, "how", how)
    first, second = parameter(np.ones(3)), parameter(np.ones(2))
    opt = FailsLater([first, second])
    cells = [first, second, opt.lr, opt.step_count, *opt.state[first].values(), *opt.state[second].values()]
    versions, values = [c.version for c in cells], [c.numpy() for c in cells]
    for w in (first, second):
        w.grad = cr.ones(w.shape, dtype="float64")
    with pytest.raises((RuntimeError, cr.errors.ShapeError)):
        opt.step()
    assert [c.version for c in cells] == versions
    for cell, value in zip(cells, values, strict=True):
        np.testing.assert_array_equal(cell.numpy(), value)


def test_a_group_that_comes_later_counts_its_own_steps():
    """Its bias corrections start at its own first step."""
    early, late, alone = (parameter(1.0) for _ in range(3))
    opt = optim.Adam([early], lr=0.1)
    feed(opt, [early], [1.0] * 50)
    opt.add_param_group({"params": [late]})
    feed(opt, [early, late], [0.5, 2.0])
    feed(optim.Adam([alone], lr=0.1), [alone], [0.5, 2.0])
    assert float(late) == float(alone)


def test_asgd_averages_after_t0_and_its_rate_is_that_of_the_step_before():
    w = parameter(0.0)
    opt = optim.ASGD([w], lr=1.0, lambd=0.5, alpha=1.0, t0=1)
    values, rate = [0.0], 1.0
    for t in range(1, 6):
        values.append(values[-1] * (1 - 0.5 * rate) + rate)
        feed(opt, [w], [-1.0])
        assert float(w) == pytest.approx(values[-1], rel=1e-14)
        assert float(opt.state[w]["ax"]) == pytest.approx(np.mean(values[min(t, 3) : t + 1]), rel=1e-14)
        rate = 1 / (1 + 0.5 * t)


def test_two_steps_of_lion_by_hand():
    w = parameter([0.0, 0.0])
    opt = optim.Lion([w], lr=0.5, betas=(0.75, 0.5), weight_decay=0.25)
    feed(opt, [w], [[1.0, -2.0], [-2.0, 2.0]])
    # the means are 0.5 and -1, the directions 0.75 * 0.5 - 0.25 * 2 < 0 and -0.75 + 0.5 < 0
    np.testing.assert_allclose(w.numpy(), [-0.5 * 0.875 + 0.5, 0.5 * 0.875 + 0.5], rtol=1e-15)


def reference_lamb(w, gradients, lr, betas, eps, decay):
    """The algorithm, one step after the other, in NumPy."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g**2
        u = m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps) + decay * w
        w = w - lr * np.linalg.norm(w) / np.linalg.norm(u) * u
    return w


def reference_lars(w, gradients, lr, momentum, decay, trust):
    step = np.zeros_like(w)
    for g in gradients:
        rate = lr * trust * np.linalg.norm(w) / (np.linalg.norm(g) + decay * np.linalg.norm(w))
        step = momentum * step + rate * (g + decay * w)
        w = w - step
    return w


def test_lamb_and_lars_as_in_their_papers():
    start, arrays = np.full((3, 2), 2.0), gradients(7)
    w = parameter(start)
    feed(optim.LAMB([w], lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.2), [w], arrays)
    np.testing.assert_allclose(w.numpy(), reference_lamb(start, arrays, 0.1, (0.8, 0.9), 1e-3, 0.2), rtol=1e-12)
    w = parameter(start)
    feed(optim.LARS([w], lr=2.0, momentum=0.8, weight_decay=0.2, trust_coefficient=0.05), [w], arrays)
    np.testing.assert_allclose(w.numpy(), reference_lars(start, arrays, 2.0, 0.8, 0.2, 0.05), rtol=1e-12)


@pytest.mark.parametrize("name", ["LAMB", "LARS"])
def test_a_parameter_leaves_zero_and_stays_without_a_gradient(name):
    zero, still = parameter(np.zeros(3)), parameter(np.ones(3))
    opt = getattr(optim, name)([zero, still])
    zero.grad, still.grad = cr.ones(3, dtype="float64"), cr.zeros(3, dtype="float64")
    opt.step()
    assert (zero.numpy() < 0).all()
    np.testing.assert_array_equal(still.numpy(), 1.0)


def test_adafactor_of_a_square_of_rank_one_is_exact():
    """Then the rows and columns tell the square exactly, so that a first step has the same size everywhere."""
    outer = np.outer([1.0, -2.0, 3.0], [0.5, 4.0])
    w = parameter(np.full((3, 2), 2.0))
    opt = optim.Adafactor([w], lr=0.1)
    feed(opt, [w], [outer])
    np.testing.assert_allclose(w.numpy(), 2 - 0.1 * 2 * np.sign(outer), rtol=1e-12)
    assert {n: c.shape for n, c in opt.state[w].items()} == {"row_var": (3, 1), "col_var": (1, 2)}
    # beyond two axes, the last two are rows and columns
    more = optim.Adafactor([parameter(np.ones((5, 3, 2)))]).state
    assert [{n: c.shape for n, c in cells.items()} for cells in more.values()] == [
        {"row_var": (5, 3, 1), "col_var": (5, 1, 2)}
    ]


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_muon_orthogonalizes(shape):
    """The converging coefficients of Newton and Schulz lead to U V^T of the singular value decomposition."""
    g = gradients(1, shape)[0]
    w = parameter(np.zeros(shape))
    opt = optim.Muon([w], lr=1.0, momentum=0.0, ns_coefficients=(15 / 8, -10 / 8, 3 / 8), ns_steps=60)
    feed(opt, [w], [g])
    u, _, vt = np.linalg.svd(g, full_matrices=False)
    ratio = max(1, shape[0] / shape[1]) ** 0.5
    np.testing.assert_allclose(w.numpy(), -ratio * u @ vt, atol=1e-10)


def test_muon_takes_a_kernel_as_a_matrix_and_refuses_vectors():
    kernel, matrix = parameter(np.ones((4, 3, 3, 2))), parameter(np.ones((4, 18)))
    for array in gradients(3, (4, 18)):
        kernel.grad, matrix.grad = cr.tensor(array.reshape(4, 3, 3, 2)), cr.tensor(array)
        for w in (kernel, matrix):
            optim.Muon([w], adjust_lr_fn="match_rms_adamw").step()
    np.testing.assert_array_equal(kernel.numpy().reshape(4, 18), matrix.numpy())
    opt = optim.Muon([matrix])
    with pytest.raises(cr.errors.ArgumentError, match="real matrices") as caught:
        opt.add_param_group({"params": [kernel, parameter(np.ones(3))]})
    assert "another optimizer" in str(caught.value)
    assert list(opt.state) == [matrix]  # nothing of the group was taken


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("Lion", {"betas": (0.9, 1.0)}, "betas must be a number in [0, 1)"),
        ("Lion", {"betas": 0.9}, "betas is a pair"),
        ("LAMB", {"eps": -1.0}, "eps must be a number at least 0"),
        ("LARS", {"trust_coefficient": -1.0}, "trust_coefficient must be a number at least 0"),
        ("ASGD", {"lambd": -1.0}, "lambd must be a number at least 0"),
        ("Adafactor", {"beta2_decay": 0.5}, "beta2_decay must be a number at most 0"),
        ("Adafactor", {"d": 0.5}, "d must be a number at least 1"),
        ("Adafactor", {"eps": (None, None)}, "eps is a pair of numbers at least 0"),
        ("Adafactor", {"eps": (-1.0, 1e-3)}, "eps is a pair of numbers at least 0"),
        ("Adafactor", {"eps": 1e-3}, "eps is a pair of numbers at least 0"),
        ("Muon", {"ns_steps": 100}, "ns_steps must be a number that is whole, from 0 to 99"),
        ("Muon", {"ns_coefficients": (1.0, 2.0)}, "ns_coefficients are three numbers"),
        ("Muon", {"adjust_lr_fn": "adamw"}, "adjust_lr_fn is None, 'original' or 'match_rms_adamw'"),
        ("Muon", {"momentum": -0.5}, "momentum must be a number at least 0"),
    ],
)
def test_hyperparameters_out_of_range(name, options, says):
    with pytest.raises(cr.errors.ArgumentError) as caught:
        getattr(optim, name)([parameter(np.ones((2, 2)))], **options)
    assert says in str(caught.value)
