"""Layers and losses by their definitions in NumPy, and what comparing with PyTorch brought to light."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.errors import ArgumentError, DTypeError, IndexOutOfRangeError, ShapeError

rng = np.random.default_rng(0)


def tensor(*shape):
    return cr.asarray(rng.standard_normal(shape))


# --- windows ----------------------------------------------------------------------------------------------


def windows_of(n, size, stride, padding, ceil_mode):
    """Begin and end of each window in the padded axis, by PyTorch's rule."""
    count = (n + 2 * padding - size + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= n + padding:
        count -= 1
    return [(i * stride, i * stride + size) for i in range(count)]


@given(
    n=st.integers(3, 9), size=st.integers(1, 4), stride=st.integers(1, 4), ceil_mode=st.booleans(),
    include=st.booleans(), data=st.data(),
)  # fmt: skip
def test_pools_of_one_axis(n, size, stride, ceil_mode, include, data):
    padding = data.draw(st.integers(0, size // 2))
    if n + 2 * padding < size:
        return
    x = rng.standard_normal(n)
    image = cr.asarray(x[None, :, None])
    largest, mean = [], []
    for start, stop in windows_of(n, size, stride, padding, ceil_mode):
        inside = x[max(start - padding, 0) : max(stop - padding, 0)]
        largest.append(inside.max())
        counted = min(stop, n + 2 * padding) - start if include else len(inside)
        mean.append(inside.sum() / counted)
    got = nn.functional.max_pool1d(image, size, stride, padding, ceil_mode=ceil_mode)
    np.testing.assert_allclose(got.numpy()[0, :, 0], largest)
    got = nn.functional.avg_pool1d(image, size, stride, padding, ceil_mode, include)
    np.testing.assert_allclose(got.numpy()[0, :, 0], mean, atol=1e-15)


def test_average_with_another_divisor():
    x = tensor(1, 4, 4, 2)
    got = nn.AvgPool2d(2, divisor_override=3)(x)
    np.testing.assert_allclose(got.numpy(), nn.AvgPool2d(2)(x).numpy() * 4 / 3)


def test_adaptive_pools_cover_the_image():
    x = tensor(2, 7, 5, 3)
    assert nn.AdaptiveMaxPool2d((None, 2))(x).shape == (2, 7, 2, 3)
    np.testing.assert_array_equal(nn.AdaptiveMaxPool2d(1)(x).numpy()[:, 0, 0], x.numpy().max((1, 2)))
    np.testing.assert_allclose(nn.AdaptiveAvgPool2d(1)(x).numpy()[:, 0, 0], x.numpy().mean((1, 2)))


def test_transposed_convolution_with_more_output_padding_than_stride():
    x, w = tensor(2, 4, 3, 2), tensor(2, 3, 3, 4)
    how = {"stride": (2, 1), "output_padding": (1, 2), "dilation": 3}
    assert nn.functional.conv_transpose2d(x, w, **how).shape == (2, 3 * 2 + 2 * 3 + 1 + 1, 2 + 2 * 3 + 1 + 2, 4)
    cr.check_grads(lambda x, w: nn.functional.conv_transpose2d(x, w, **how), (x, w))


@pytest.mark.parametrize("layer", [nn.ZeroPad2d(1), nn.ReflectionPad2d(1), nn.Softmax2d(), nn.MaxPool2d(2)])
def test_an_image_without_batch_axis_is_refused(layer):
    with pytest.raises(ShapeError, match="needs a batch of images"):
        layer(tensor(4, 4, 3))


def test_places_of_maxima_are_refused():
    with pytest.raises(ArgumentError, match="not returned"):
        nn.MaxPool2d(2, return_indices=True)


def test_norm_of_windows_has_slope_zero_where_it_is_zero():
    x = cr.tensor([[[0.0], [0.0], [3.0], [4.0]]])
    out, slope = cr.value_and_grad(lambda x: nn.functional.lp_pool1d(x, 2, 2).sum())(x)
    assert out.item() == 5.0
    np.testing.assert_allclose(slope.numpy()[0, :, 0], [0.0, 0.0, 0.6, 0.8], rtol=1e-6)
    with pytest.raises(ArgumentError, match="positive and finite"):
        nn.LPPool1d(0, 2)(x)


@given(kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)), stride=st.integers(1, 3), padding=st.integers(0, 2))
def test_unfolded_windows_times_kernels_are_a_convolution(kernel, stride, padding):
    x, w = tensor(2, 5, 4, 3), tensor(4, *kernel, 3)
    windows = nn.functional.unfold(x, kernel, padding=padding, stride=stride)
    flat = np.moveaxis(w.numpy(), -1, 1).reshape(4, -1)
    expected = nn.functional.conv2d(x, w, stride=stride, padding=padding).numpy()
    np.testing.assert_allclose((windows.numpy() @ flat.T).reshape(expected.shape), expected, atol=1e-12)
    back = nn.functional.fold(windows, (5, 4), kernel, padding=padding, stride=stride)
    covered = nn.functional.unfold(cr.ones((1, 5, 4, 1), dtype="float64"), kernel, padding=padding, stride=stride)
    count = nn.functional.fold(covered, (5, 4), kernel, padding=padding, stride=stride)
    np.testing.assert_allclose(back.numpy(), x.numpy() * count.numpy(), atol=1e-12)


def test_windows_of_another_image_are_not_folded():
    with pytest.raises(ShapeError, match="3 times 3 windows"):
        nn.functional.fold(tensor(1, 8, 4), (4, 4), 2)


# --- resampling -------------------------------------------------------------------------------------------


@given(n=st.integers(1, 7), m=st.integers(1, 15), align=st.booleans())
def test_linear_interpolation_of_one_axis(n, m, align):
    x = rng.standard_normal(n)
    where = np.arange(m) * ((n - 1) / max(m - 1, 1)) if align else (np.arange(m) + 0.5) * n / m - 0.5
    got = nn.functional.interpolate(cr.asarray(x[None, :, None]), m, mode="linear", align_corners=align)
    np.testing.assert_allclose(got.numpy()[0, :, 0], np.interp(where, np.arange(n), x), atol=1e-12)


@given(n=st.integers(1, 40), m=st.integers(1, 120))
def test_nearest_is_exact_in_whole_numbers(n, m):
    x = cr.arange(n).reshape((1, n, 1))
    nearest = nn.functional.interpolate(x, m).numpy()[0, :, 0]
    np.testing.assert_array_equal(nearest, [i * n // m for i in range(m)])
    middle = nn.functional.interpolate(x, m, mode="nearest-exact").numpy()[0, :, 0]
    np.testing.assert_array_equal(middle, [(2 * i + 1) * n // (2 * m) for i in range(m)])


def test_one_bad_pixel_stays_where_it_is():
    x = cr.zeros((1, 8, 8, 1)).at[0, 4, 4, 0].set(float("inf"))
    y = nn.functional.interpolate(x, scale_factor=2, mode="bilinear").numpy()[0, :, :, 0]
    assert np.isfinite(y[:7]).all()
    assert np.isinf(y[7:11, 7:11]).any()


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({}, ArgumentError, "a size or a scale factor"),
        ({"size": 3, "scale_factor": 2}, ArgumentError, "a size or a scale factor"),
        ({"size": (3, 4, 5)}, ArgumentError, "one for each of 2 axes"),
        ({"scale_factor": 0.1}, ArgumentError, "1 at least"),
        ({"scale_factor": -2}, ArgumentError, "positive number"),
        ({"size": 3, "mode": "cubic"}, ArgumentError, "one of nearest"),
        ({"size": 3, "align_corners": True}, ArgumentError, "no align_corners"),
        ({"size": 3, "mode": "linear"}, ShapeError, "1 spatial axes"),
    ],
)
def test_what_interpolate_refuses(how, error, message):
    with pytest.raises(error, match=message):
        nn.functional.interpolate(tensor(1, 4, 4, 2), **how)


def test_whole_numbers_are_not_interpolated():
    image = cr.ones((1, 2, 2, 1), "uint8")
    assert nn.functional.interpolate(image, 4).dtype == cr.uint8
    with pytest.raises(DTypeError, match='astype\\("float32"\\)'):
        nn.functional.interpolate(image, 4, mode="bilinear")


def test_shuffles_are_inverse_and_refuse_what_does_not_divide():
    x = tensor(2, 3, 4, 12)
    np.testing.assert_array_equal(nn.PixelUnshuffle(2)(nn.PixelShuffle(2)(x)).numpy(), x.numpy())
    np.testing.assert_array_equal(nn.ChannelShuffle(4)(nn.ChannelShuffle(3)(x)).numpy(), x.numpy())
    for layer in (nn.PixelShuffle(5), nn.PixelUnshuffle(2), nn.ChannelShuffle(5)):
        with pytest.raises(ShapeError, match=r"multiple|divide"):
            layer(x)


# --- padding ----------------------------------------------------------------------------------------------


@given(mode=st.sampled_from(["reflect", "replicate", "circular"]), before=st.integers(-2, 3), after=st.integers(-2, 3))
def test_pad_cuts_first_and_pads_then(mode, before, after):
    x = rng.standard_normal((2, 6))
    cut = x[:, max(-before, 0) : 6 - max(-after, 0)]
    widths = (max(before, 0), max(after, 0))
    numpy_mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode]
    if mode != "replicate" and max(widths) > cut.shape[1] - (mode == "reflect"):
        with pytest.raises(ShapeError):
            nn.functional.pad(cr.asarray(x), (before, after), mode)
        return
    got = nn.functional.pad(cr.asarray(x), (before, after), mode)
    np.testing.assert_array_equal(got.numpy(), np.pad(cut, ((0, 0), widths), mode=numpy_mode))


def test_functional_pad_counts_from_the_last_axis():
    assert nn.functional.pad(tensor(2, 3, 4), (1, 2, 0, 5)).shape == (2, 8, 7)
    with pytest.raises(ArgumentError, match="two whole numbers"):
        nn.functional.pad(tensor(2, 3), [(0, 1), (0, 1)])


# --- elements ---------------------------------------------------------------------------------------------


def test_nan_is_not_swallowed():
    nan = cr.tensor([float("nan")])
    for function in (
        lambda x: nn.functional.threshold(x, 0.0, 1.0),
        nn.functional.softshrink,
        nn.functional.hardshrink,
    ):
        assert np.isnan(function(nan).numpy()).all()
    left, right = cr.grad(lambda x, y: cr.maximum(x, y).sum(), (0, 1))(nan, cr.tensor([1.0]))
    assert left.tolist() == [1.0]
    assert right.tolist() == [1.0]


def test_gradient_of_the_remainder_uses_the_quotient_of_the_value():
    x, y = cr.tensor(1.0, dtype="float64"), cr.tensor(0.1, dtype="float64")  # 1 / 0.1 rounds up to 10
    assert cr.grad(lambda y: cr.remainder(x, y))(y).item() == -9.0


def test_gradient_of_expm1_far_below_zero():
    slope = cr.grad(cr.expm1)(cr.tensor(-40.0, dtype="float64"))
    np.testing.assert_allclose(slope.item(), np.exp(-40.0), rtol=1e-14)


def test_norm_of_order_below_one_at_zero():
    slope = cr.grad(lambda x: cr.norm(x, 0.5))(cr.tensor([4.0, 0.0]))
    assert slope.tolist() == [1.0, 0.0]


def test_prelu_refuses_weights_of_another_number_of_channels():
    with pytest.raises(ShapeError, match="one for each channel"):
        nn.functional.prelu(tensor(2, 1), tensor(3))
    assert nn.functional.prelu(cr.tensor(-1.0), cr.tensor([0.25])).shape == ()


def test_einsum_over_an_empty_batch():
    assert cr.einsum("...i,...i->...", tensor(0, 3), tensor(0, 3)).shape == (0,)
    assert cr.einsum("...i,...i->...", tensor(1, 3), tensor(0, 3)).shape == (0,)


def test_similarity_broadcasts():
    a, b = tensor(1, 2, 3), tensor(2, 1, 3)
    full = np.broadcast_arrays(a.numpy(), b.numpy())
    expected = (full[0] * full[1]).sum(1) / np.sqrt((full[0] ** 2).sum(1) * (full[1] ** 2).sum(1))
    np.testing.assert_allclose(nn.functional.cosine_similarity(a, b, dim=1).numpy(), expected)


# --- tables -----------------------------------------------------------------------------------------------


@given(
    mode=st.sampled_from(["sum", "mean", "max"]), lengths=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    padding=st.sampled_from([None, 2, -1]), data=st.data(),
)  # fmt: skip
def test_bags_by_their_definition(mode, lengths, padding, data):
    table = rng.standard_normal((5, 3))
    bags = [data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)) for n in lengths]
    offsets = np.cumsum([0, *lengths])
    reduce = {"sum": np.sum, "mean": np.mean, "max": np.max}[mode]
    kept = [[i for i in bag if padding is None or i != padding % 5] for bag in bags]
    expected = [reduce(table[bag], axis=0) if bag else np.zeros(3) for bag in kept]
    index = np.array([i for bag in bags for i in bag], np.int64)
    weight = cr.asarray(table)
    for ends in (False, True):
        starts = offsets if ends else offsets[:-1]
        how = {"mode": mode, "include_last_offset": ends, "padding_idx": padding}
        got = nn.functional.embedding_bag(index, weight, starts, **how)
        np.testing.assert_allclose(got.numpy(), expected, atol=1e-12)


def test_the_row_of_the_padding_counts_for_nothing_and_stays():
    bag = nn.EmbeddingBag(4, 2, "sum", padding_idx=-1)
    assert bag.weight[3].tolist() == [0.0, 0.0]
    bag(cr.tensor([[0, 3], [3, 3]])).sum().backward()
    assert bag.weight.grad.tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]


def test_a_table_that_exists_is_frozen_unless_asked_otherwise():
    table = np.arange(6.0).reshape(3, 2)
    for layer in (nn.Embedding.from_pretrained(table), nn.EmbeddingBag.from_pretrained(table, mode="sum")):
        assert layer.weight.dtype == cr.float64
        assert not layer.weight.trainable
        np.testing.assert_array_equal(layer(cr.tensor([[2]])).numpy().reshape(-1), table[2])
    assert nn.Embedding.from_pretrained(table, freeze=False).weight.trainable
    with pytest.raises(ShapeError, match="a table"):
        nn.Embedding.from_pretrained([1.0, 2.0])


def test_a_decoder_tied_to_its_embedding_trains_one_table():
    class Language(nn.Module):
        def __init__(self):
            self.embedding = nn.Embedding(7, 4)
            self.decoder = nn.Linear(4, 7, bias=False)
            self.decoder.weight = self.embedding.weight

        def forward(self, tokens):
            return self.decoder(self.embedding(tokens))

    model, tokens = Language().double(), cr.tensor([[1, 2, 3]])
    assert [name for name, _ in model.named_parameters()] == ["embedding.weight"]
    assert model.decoder.weight is model.embedding.weight
    table = model.embedding.weight.detach()
    cr.check_grads(lambda w: cr.functional_call(model, {"embedding.weight": w}, tokens), (table,))
    opt = cr.optim.SGD(model.parameters(), 0.1)

    @cr.compile
    def step(tokens):
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:])
        loss.backward()
        opt.step()
        return loss

    losses = [step(tokens).item() for _ in range(30)]
    assert losses[-1] < losses[0] / 2
    assert model.decoder.weight is model.embedding.weight


def test_what_tables_refuse():
    for make in (nn.Embedding, nn.EmbeddingBag):
        with pytest.raises(ArgumentError, match="one of the 3 rows"):
            make(3, 2, padding_idx=3)
    bag = nn.EmbeddingBag(3, 2)
    with pytest.raises(ArgumentError, match="no offsets"):
        bag(cr.tensor([0, 1]))
    with pytest.raises(ArgumentError, match=r"indices \(B, n\)"):
        bag(cr.tensor([[0, 1]]), cr.tensor([0]))
    with pytest.raises(ArgumentError, match="factors of a sum"):
        bag(cr.tensor([[0, 1]]), per_sample_weights=cr.ones((1, 2)))
    with pytest.raises(ShapeError, match="one factor for each"):
        nn.EmbeddingBag(3, 2, "sum")(cr.tensor([[0, 1]]), per_sample_weights=cr.ones((2,)))
    with pytest.raises(ArgumentError, match="sum, mean or max"):
        nn.EmbeddingBag(3, 2, "median")(cr.tensor([[0, 1]]))
    with pytest.raises(IndexOutOfRangeError, match="one of the 3 rows"):
        bag(cr.tensor([[0, 3]]))


# --- what is random ---------------------------------------------------------------------------------------


def test_dropped_paths_are_whole_samples_and_the_mean_stays():
    y = nn.DropPath(0.25)(cr.ones((4000, 2, 2))).numpy()
    assert (y == y[:, :1, :1]).all()
    assert set(np.unique(y)) == {0.0, np.float32(4 / 3)}
    assert abs(y.mean() - 1) < 0.05


def test_alpha_dropout_of_channels_keeps_mean_and_variance():
    x = cr.normal((2000, 3, 8), dtype="float64")
    y = nn.FeatureAlphaDropout(0.2)(x).numpy()
    dropped = (np.diff(y, axis=1) == 0).all(1)
    assert abs(dropped.mean() - 0.2) < 0.02
    assert abs(y.mean()) < 0.02
    assert abs(y.var() - 1) < 0.03


def test_random_slopes_lie_between_their_bounds():
    x = -cr.ones((500,))
    slopes = -nn.RReLU(0.1, 0.3)(x).numpy()
    assert 0.1 <= slopes.min() < 0.11
    assert 0.29 < slopes.max() < 0.3
    np.testing.assert_allclose(nn.RReLU(0.1, 0.3).eval()(x).numpy(), -0.2, rtol=1e-6)


@pytest.mark.parametrize("layer", [nn.AlphaDropout, nn.DropPath, nn.FeatureAlphaDropout, nn.Dropout])
def test_everything_can_be_dropped(layer):
    assert not layer(1.0)(cr.ones((2, 3))).numpy().any()
    with pytest.raises(ArgumentError, match="probability"):
        layer(1.5)


# --- modules ----------------------------------------------------------------------------------------------


def test_loaded_values_are_copies():
    layer, weight = nn.Linear(2, 1, bias=False), np.ones((1, 2), np.float32)
    layer.load_state_dict({"weight": weight})
    weight[:] = 5.0
    assert layer.weight.tolist() == [[1.0, 1.0]]


def test_weights_of_a_loss_are_saved_and_converted():
    loss = nn.CrossEntropyLoss(weight=[1.0, 2.0]).double()
    assert loss.state_dict()["weight"].dtype == cr.float64
    assert not list(loss.parameters())


def test_instance_norm_standardizes_each_sample():
    y = nn.InstanceNorm2d(3).double()(tensor(2, 4, 5, 3) * 3 + 1).numpy()
    np.testing.assert_allclose(y.mean((1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var((1, 2)), 1, rtol=1e-4)


def test_a_residual_block_whose_shapes_differ_is_refused():
    with pytest.raises(ShapeError, match="shortcut"):
        nn.Residual(nn.Linear(3, 1))(cr.ones((2, 3)))
    with pytest.raises(ArgumentError, match="from 1 to the channels"):
        nn.SqueezeExcite(8)


def test_channel_dropout_drops_whole_channels():
    y = nn.Dropout2d(0.5)(cr.ones((4, 3, 3, 8))).numpy()
    assert set(np.unique(y)) == {0.0, 2.0}
    assert (y == y[:, :1, :1]).all()


PAIRS = {
    "cosine_embedding_loss": ((3, 4), (3, 4), np.array([1.0, -1.0, 1.0])),
    "hinge_embedding_loss": ((4,), np.array([1.0, -1.0, 1.0, -1.0])),
    "margin_ranking_loss": ((4,), (4,), np.array([1.0, -1.0, 1.0, -1.0])),
    "multi_margin_loss": ((3, 4), np.array([0, 3, 1])),
    "multilabel_margin_loss": ((2, 4), np.array([[3, 0, -1, 1], [-1, 0, 0, 0]])),
    "multilabel_soft_margin_loss": ((2, 3), np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])),
    "poisson_nll_loss": ((3,), np.array([0.0, 1.0, 4.0])),
    "soft_margin_loss": ((3,), np.array([1.0, -1.0, 1.0])),
    "triplet_margin_loss": ((3, 4), (3, 4), (3, 4)),
}


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("name", PAIRS)
def test_gradients_of_losses(name, reduction):
    own = np.random.default_rng(0)  # far from the kinks, whichever tests run before
    moving = [cr.asarray(own.standard_normal(a)) for a in PAIRS[name] if isinstance(a, tuple)]
    fixed = [cr.asarray(a) for a in PAIRS[name] if not isinstance(a, tuple)]
    loss = getattr(nn.functional, name)
    cr.check_grads(lambda *xs: loss(*xs, *fixed, reduction=reduction), tuple(moving))


@pytest.mark.parametrize("name", ["hinge_embedding_loss", "soft_margin_loss", "poisson_nll_loss"])
def test_losses_never_broadcast(name):
    with pytest.raises(ShapeError, match="one shape"):
        getattr(nn.functional, name)(tensor(4), tensor(4, 1))
