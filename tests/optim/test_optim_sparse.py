"""Gradients of a few rows of a table: how they come about, what they are to others, and steps by them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import GradientError, IndexOutOfRangeError

both = pytest.mark.parametrize("wrap", [lambda f: f, cr.compile], ids=["eager", "compiled"])
TABLE = np.random.default_rng(0).normal(size=(9, 3))
ROW_WISE = [("SparseAdam", {"lr": 0.1}), ("SGD", {"lr": 0.1}), ("Adagrad", {"lr": 0.1, "lr_decay": 0.2})]
BATCHES = [[[1, 1], [4, 7]], [[0, 1], [1, 1]], [[8, 2], [2, 4]]]


def table(sparse=True, dtype="float64", **options):
    made = nn.Embedding(*TABLE.shape, sparse=sparse, dtype=dtype, **options)
    made.weight.assign(cr.asarray(TABLE).astype(dtype))
    return made


def loss_of(rows):
    return (cr.sin(rows) * cr.tensor([1.0, 2.0, 3.0], dtype=rows.dtype)).sum() + (rows**2).mean()


# --- the gradient -----------------------------------------------------------------------------------------


@st.composite
def sparse_tensors(draw):
    n, size = draw(st.integers(1, 6)), draw(st.integers(0, 8))
    rest = draw(st.sampled_from([(), (2,), (2, 1)]))
    indices = draw(st.lists(st.integers(-n, n - 1), min_size=size, max_size=size))
    kind = draw(st.sampled_from(["int64", "int32", "int8"]))
    rows = np.arange(size * int(np.prod(rest, dtype=int)), dtype=np.float64).reshape(size, *rest) + 1
    dense = np.zeros((n, *rest))
    np.add.at(dense, np.array(indices, int), rows)
    return cr.RowSparse((n, *rest), cr.tensor(np.array(indices, kind)), cr.tensor(rows)), dense


@given(sparse_tensors(), st.booleans())
def test_it_is_the_dense_tensor_in_short(pair, compiled):
    g, dense = pair
    assert (g.shape, g.ndim, g.size, g.dtype.name) == (dense.shape, dense.ndim, dense.size, "float64")

    def facts(indices, rows):
        g = cr.RowSparse(dense.shape, indices, rows)
        places, sums, first = g.totals()
        return g.to_dense(), g.coalesced().to_dense(), g.coalesced().rows, places, sums, first

    whole, again, rows, places, sums, first = (cr.compile(facts) if compiled else facts)(g.indices, g.rows)
    np.testing.assert_array_equal(whole.numpy(), dense)
    np.testing.assert_array_equal(again.numpy(), dense)
    assert sorted(np.abs(rows.numpy()[first.numpy()]).sum(tuple(range(1, dense.ndim)))) == sorted(
        np.abs(dense[np.unique(places.numpy())]).sum(tuple(range(1, dense.ndim)))
    )
    np.testing.assert_array_equal(places.numpy()[first.numpy()], np.unique(g.indices.numpy().astype(int) % len(dense)))
    np.testing.assert_array_equal(sums.numpy(), dense[places.numpy()])


def test_sums_and_products():
    g = cr.RowSparse((4, 1), cr.tensor([3, 0, 3]), cr.tensor([[1.0], [2.0], [5.0]]))
    dense = g.to_dense()
    other = cr.RowSparse((4, 1), cr.tensor([-1], dtype="int32"), cr.tensor([[10.0]]))
    for made, expected, sparse in [
        (g + other, dense + other.to_dense(), True), (other + g, dense + other.to_dense(), True),
        (g * 2.0, dense * 2.0, True), (cr.tensor(2.0) * g, dense * 2.0, True), (g.detach(), dense, True),
        (g + dense, dense * 2.0, False), (dense + g, dense * 2.0, False), (g + 1.0, dense + 1.0, False),
        (g * dense, dense * dense, False), (-g, -dense, False), (cr.exp(g), cr.exp(dense), False),
    ]:  # fmt: skip
        assert isinstance(made, cr.RowSparse) == sparse
        np.testing.assert_array_equal(made.numpy(), expected.numpy())


def test_backward_gives_the_rows_used_and_adds_up():
    layer, dense = table(), table(sparse=False)
    for indices in BATCHES:
        for each in (layer, dense):
            loss_of(each(cr.tensor(indices))).backward()
    g = layer.weight.grad
    assert isinstance(g, cr.RowSparse)
    assert g.rows.shape == (12, 3)  # as many as there were indices
    np.testing.assert_allclose(g.numpy(), dense.weight.grad.numpy(), rtol=1e-13)


def test_a_dense_use_makes_it_dense():
    """A table that is the output layer too has slopes everywhere."""
    layer, dense = table(), table(sparse=False)
    for each in (layer, dense):
        loss_of(cr.sin(each(cr.tensor([1, 5])) @ each.weight.T) @ each.weight).backward()
    assert type(layer.weight.grad) is cr.Tensor
    np.testing.assert_allclose(layer.weight.grad.numpy(), dense.weight.grad.numpy(), rtol=1e-13)


def test_transforms_give_dense_gradients():
    layer, x = table(), cr.tensor([1, 5, 1])
    layer(x).sum().backward()
    for found in (
        cr.grad(lambda m: m(x).sum())(layer)["weight"],
        cr.grad(lambda w: nn.functional.embedding(x, w, sparse=True).sum())(layer.weight),
        cr.jvp(lambda m: m(x).sum(), (layer,), (layer.parameter_tree(),))[1] * 0.0 + layer.weight.grad,
    ):
        assert type(found) is cr.Tensor
        np.testing.assert_array_equal(found.numpy(), layer.weight.grad.numpy())
    cr.check_grads(lambda w: loss_of(nn.functional.embedding(x, w, sparse=True)), (layer.weight.detach(),))


def test_through_a_checkpoint_and_a_loop():
    layer, dense = table(), table(sparse=False)
    for each in (layer, dense):
        cr.checkpoint(lambda x, each=each: loss_of(each(x)))(cr.tensor([2, 2, 3])).backward()
    assert isinstance(layer.weight.grad, cr.RowSparse)
    np.testing.assert_allclose(layer.weight.grad.numpy(), dense.weight.grad.numpy(), rtol=1e-13)
    layer.zero_grad()
    cr.scan(lambda c, x: (c + loss_of(layer(x)), ()), cr.tensor(0.0, dtype="float64"), cr.tensor([[2, 2, 3]]))[
        0
    ].backward()
    assert type(layer.weight.grad) is cr.Tensor
    np.testing.assert_allclose(layer.weight.grad.numpy(), dense.weight.grad.numpy(), rtol=1e-13)


def test_frozen_tables_and_wrong_indices():
    layer = table().freeze()
    assert not layer(cr.tensor([1])).requires_grad
    with pytest.raises(IndexOutOfRangeError, match="one of the 9 rows"):
        table()(cr.tensor([9]))


@pytest.mark.parametrize("before", ["none", "sparse", "dense"])
def test_a_gradient_that_crosses_a_compiled_call_is_dense(before):
    layer = table()

    @cr.compile
    def add(x):
        loss_of(layer(x)).backward()

    expected = np.zeros_like(TABLE)
    if before != "none":
        loss_of(layer(cr.tensor([1, 2, 2]))).backward()
        expected = layer.weight.grad.numpy()
        layer.weight.grad = layer.weight.grad.to_dense() if before == "dense" else layer.weight.grad
    add(cr.tensor([3, 3, 0]))
    alone = table()
    loss_of(alone(cr.tensor([3, 3, 0]))).backward()
    assert type(layer.weight.grad) is cr.Tensor
    np.testing.assert_allclose(layer.weight.grad.numpy(), expected + alone.weight.grad.numpy(), rtol=1e-12)


# --- steps ------------------------------------------------------------------------------------------------


def train(layer, opt, wrap, between=lambda: None):
    @wrap
    def step(x):
        opt.zero_grad()
        loss = loss_of(layer(x))
        loss.backward()
        between()
        opt.step()
        return loss

    for _ in range(3):
        for indices in BATCHES:
            step(cr.tensor(indices))
    if hasattr(step, "programs"):
        assert len(step.programs) == 1


@both
@pytest.mark.parametrize(("name", "options"), ROW_WISE)
def test_steps_move_the_rows_used_alone(name, options, wrap):
    layer = table(padding_idx=2)
    opt = getattr(optim, name)(layer.parameters(), **options)
    train(layer, opt, wrap)
    moved = (layer.weight.numpy() != TABLE).any(1)
    assert moved.tolist() == [i in (0, 1, 4, 7, 8) for i in range(9)]
    if name != "SparseAdam":  # which is an algorithm of its own: untouched moments do not decay
        dense = table(sparse=False, padding_idx=2)
        train(dense, getattr(optim, name)(dense.parameters(), **options), lambda f: f)
        np.testing.assert_allclose(layer.weight.numpy(), dense.weight.numpy(), rtol=1e-12)


def test_sparse_adam_is_adam_of_each_row_in_its_own_time():
    """Each row by itself, but for the step count, which is common."""
    layer = table()
    opt = optim.SparseAdam(layer.parameters(), lr=0.1, betas=(0.8, 0.9), eps=1e-3)
    train(layer, opt, lambda f: f)
    rows, moments = TABLE.copy(), np.zeros((2, *TABLE.shape))
    for t, indices in enumerate(BATCHES * 3, start=1):
        flat = np.ravel(indices)
        for i in np.unique(flat):
            x = rows[i]
            g = np.sum(flat == i) * (np.cos(x) * [1.0, 2.0, 3.0] + 2 * x / (3 * flat.size))
            moments[:, i] = [0.8 * moments[0, i] + 0.2 * g, 0.9 * moments[1, i] + 0.1 * g**2]
            rate = 0.1 * np.sqrt(1 - 0.9**t) / (1 - 0.8**t)
            rows[i] = x - rate * moments[0, i] / (np.sqrt(moments[1, i]) + 1e-3)
    np.testing.assert_allclose(layer.weight.numpy(), rows, rtol=1e-12)
    np.testing.assert_allclose(opt.state[layer.weight]["exp_avg_sq"].numpy(), moments[1], rtol=1e-12)


@both
def test_sixteen_bits_with_masters(wrap):
    layer, single = table(dtype="bfloat16"), table(dtype="float32")
    single.weight.assign(layer.weight.astype("float32"))
    opts = [optim.SparseAdam(layer.parameters(), lr=1e-3), optim.SparseAdam(single.parameters(), lr=1e-3)]
    optim.keep_master_weights(opts[0])

    @wrap
    def step(x):
        for each, opt in zip((layer, single), opts, strict=True):
            opt.zero_grad()
            (each(x).astype("float32") * cr.tensor([1.0, -2.0, 4.0])).sum().backward()
            opt.step()

    for indices in BATCHES:
        step(cr.tensor(indices))
    np.testing.assert_array_equal(opts[0].state[layer.weight]["master"].numpy(), single.weight.numpy())
    np.testing.assert_array_equal(layer.weight.numpy(), single.weight.detach().astype("bfloat16").numpy())


@both
def test_a_step_within_a_loop_and_with_dense_parameters_beside(wrap):
    """The body of a scan is traced, and cells that it assigns are carried."""
    found = []
    for sparse in (True, False):
        layer, scale = table(sparse), cr.Parameter(cr.ones((3,), dtype="float64"))
        opt = optim.SGD([layer.weight, scale], lr=0.1)

        def body(carry, x, layer=layer, scale=scale, opt=opt):
            opt.zero_grad()
            loss = loss_of(layer(x) * scale)
            loss.backward()
            opt.step()
            opt.zero_grad()
            return carry, loss

        _, losses = wrap(lambda xs, body=body: cr.scan(body, (), xs))(cr.tensor(BATCHES))
        found.append([losses.numpy(), layer.weight.numpy(), scale.numpy()])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


REFUSED = [
    ("Adam", {}), ("AdamW", {}), ("RMSprop", {}), ("SGD", {"momentum": 0.9}), ("SGD", {"weight_decay": 0.1}),
    ("Adagrad", {"weight_decay": 0.1}), ("Lion", {}), ("LAMB", {}),
]  # fmt: skip


@both
@pytest.mark.parametrize(("name", "options"), REFUSED)
def test_optimizers_that_move_every_row_refuse(name, options, wrap):
    layer = table()
    opt = getattr(optim, name)(layer.parameters(), **options)
    with pytest.raises(GradientError, match="row-sparse") as caught:
        train(layer, opt, wrap)
    assert "SparseAdam" in str(caught.value)
    assert int(opt.step_count) == 0
    np.testing.assert_array_equal(layer.weight.numpy(), TABLE)


@both
@pytest.mark.parametrize("norm_type", [2.0, 1.0, float("inf")])
def test_clipping_by_norm_counts_each_row_once(norm_type, wrap):
    found = []
    for sparse in (True, False):
        layer, other = table(sparse), cr.Parameter(cr.ones((2,), dtype="float64"))

        @wrap
        def clipped(x, layer=layer, other=other):
            for p in (layer.weight, other):
                p.grad = None
            (loss_of(layer(x)) + (other**2).sum()).backward()
            total = optim.clip_grad_norm_([layer.weight, other], 0.5, norm_type)
            return total, layer.weight.grad, other.grad

        found.append([t.numpy() for t in clipped(cr.tensor(BATCHES[0]))])
    for one, dense in zip(*found, strict=True):
        np.testing.assert_allclose(one, dense, rtol=1e-12)


@settings(max_examples=20)
@given(st.floats(0, 10))
def test_clipping_by_value_looks_at_sums(limit):
    gradients = []
    for sparse in (True, False):
        layer = table(sparse)
        loss_of(layer(cr.tensor([1, 1, 1, 2]))).backward()
        optim.clip_grad_value_(layer, limit)
        assert isinstance(layer.weight.grad, cr.RowSparse) == sparse
        gradients.append(layer.weight.grad.numpy())
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-12)


@both
def test_scaled_losses_leave_steps_out(wrap):
    layer, scaler = table(), optim.LossScaler(4.0)
    opt = optim.SparseAdam(layer.parameters(), lr=0.1)

    @wrap
    def step(x, factor):
        opt.zero_grad()
        scaler.scale(loss_of(layer(x)) * factor).backward()
        scaler.step(opt)
        scaler.update()

    step(cr.tensor([1, 1]), np.array(np.inf))
    np.testing.assert_array_equal(layer.weight.numpy(), TABLE)
    step(cr.tensor([1, 1]), np.array(1.0))
    assert (layer.weight.numpy() != TABLE).any(1).tolist() == [i == 1 for i in range(9)]
    assert (int(opt.step_count), scaler.get_scale()) == (1, 2.0)
