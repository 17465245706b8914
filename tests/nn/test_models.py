"""Ready models: sizes, gradients of all parameters, compiled steps, learning, files; and what each is alone in."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import optim
from chainrule.errors import ArgumentError, DTypeError, ShapeError
from chainrule.nn import functional as f, models

sys.path.append(str(Path(__file__).parents[1] / "compiler"))
import both_modes


def image_of(*shape):
    return lambda rng: rng.standard_normal(shape)


def classes(scores, rng):
    return f.cross_entropy(scores, cr.asarray(rng.integers(0, scores.shape[-1], scores.shape[:-1])))


def squares(y, rng):
    return f.mse_loss(y, cr.asarray(rng.standard_normal(y.shape).astype(y.dtype.name)))


def ctc(log_probs, rng):
    return f.ctc_loss(log_probs, cr.asarray(rng.integers(1, 4, (2, 2))), [5, 4], [2, 1])


# Of each a tiny one: how it is made, its inputs, the shape of its result, its loss.
CASES = {
    "mlp": (lambda: models.mlp([6, 5, 3]), [image_of(4, 6)], (4, 3), classes),
    "lenet": (lambda: models.lenet(8, 1, 3), [image_of(2, 8, 8, 1)], (2, 3), classes),
    "LeNet5": (lambda: models.LeNet5(1, 3), [image_of(2, 28, 28, 1)], (2, 3), classes),
    "resnet": (lambda: models.resnet(2, 3, depth=8, width=4), [image_of(2, 8, 8, 2)], (2, 3), classes),
    "ResNet basic": (
        lambda: models.ResNet(models.BasicBlock, [1, 2], 2, 3, width=4), [image_of(2, 16, 16, 2)], (2, 3), classes,
    ),
    "ResNet bottleneck": (
        lambda: models.ResNet(models.Bottleneck, [1, 1], 2, 3, width=4, small_images=True), [image_of(2, 6, 6, 2)],
        (2, 3), classes,
    ),
    "MobileNetV2": (
        lambda: models.MobileNetV2(2, 3, width=0.1, dropout=0.0, small_images=True), [image_of(2, 12, 12, 2)], (2, 3),
        classes,
    ),
    "UNet": (lambda: models.UNet(2, 3, width=4, depth=2), [image_of(2, 8, 4, 2)], (2, 8, 4, 3), classes),
    "UNet bilinear": (
        lambda: models.UNet(1, 2, width=3, depth=1, bilinear=True, norm=False), [image_of(2, 4, 6, 1)], (2, 4, 6, 2),
        classes,
    ),
    "LSTMForecaster": (
        lambda: models.LSTMForecaster(3, 4, 2, hidden=5, layers=2, normalize=True), [image_of(3, 7, 3)], (3, 4, 2),
        squares,
    ),
    "SpeechGRU": (
        lambda: models.SpeechGRU(6, 4, channels=2, hidden=3, layers=1, kernel_size=3),
        [image_of(2, 10, 6), lambda rng: np.array([10, 7])], (2, 5, 4), ctc,
    ),
}  # fmt: skip


def next_token(scores, rng):
    """Of a language model, whose inputs are 0 to 6 in turn: the next of them."""
    return f.cross_entropy(scores, cr.asarray(np.broadcast_to(np.arange(1, 8) % 7, scores.shape[:2])))


def tokens_in_turn(rng):
    return np.tile(np.arange(7), (2, 1))


CASES |= {
    "GPT": (lambda: models.GPT(7, 8, width=6, depth=2, heads=2), [tokens_in_turn], (2, 7, 7), next_token),
    "GPT rotary": (
        lambda: models.GPT(7, 7, width=8, depth=1, heads=2, rotary=True), [tokens_in_turn], (2, 7, 7), next_token,
    ),
    "Seq2SeqTransformer": (
        lambda: models.Seq2SeqTransformer(9, None, 6, 1, 2, dropout=0.0),
        [lambda rng: np.array([[5, 6, 7, 2], [8, 2, 0, 0]]), tokens_in_turn], (2, 7, 9), next_token,
    ),
    "Seq2SeqTransformer, two tables": (
        lambda: models.Seq2SeqTransformer(9, 8, 6, 2, 3, hidden=5, dropout=0.0),
        [lambda rng: np.array([[5, 6, 7, 2], [8, 2, 0, 0]]), tokens_in_turn], (2, 7, 8), next_token,
    ),
}  # fmt: skip


def made(name):
    """The model, its inputs and the loss of what it gives, in float64."""
    make, inputs, shape, loss = CASES[name]
    cr.manual_seed(0)
    rng = np.random.default_rng(0)
    model = make().double()
    return model, [cr.asarray(make_input(rng)) for make_input in inputs], shape, loss


def count(model):
    return sum(p.size for p in model.parameters())


# --- of all -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_shape_and_a_gradient_for_every_parameter(name):
    model, inputs, shape, loss = made(name)
    y = model.eval()(*inputs)  # while training, a bias in front of a norm has no influence
    assert y.shape == shape
    loss(y, np.random.default_rng(1)).backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        assert np.isfinite(parameter.grad.numpy()).all(), path
        assert np.any(abs(parameter.grad.numpy()) > 1e-14), path


@pytest.mark.parametrize("name", CASES)
def test_steps_are_the_same_compiled_and_reduce_the_loss(name):
    def run(wrap):
        model, inputs, _, loss = made(name)
        opt = optim.SGD(model.parameters(), lr=0.05, momentum=0.5)

        @wrap
        def step():
            value = loss(model(*inputs), np.random.default_rng(1))
            opt.zero_grad()
            value.backward()
            opt.step()
            return value

        losses = [float(step()) for _ in range(4)]
        return losses, both_modes.states(model)

    eager, compiled = both_modes.both(run)
    both_modes.same(eager, compiled, factor=10)  # four steps, the errors of each of which go into the next
    assert eager[0][-1] < eager[0][0]


@pytest.mark.parametrize("name", CASES)
def test_a_file_holds_the_whole_model(name, tmp_path):
    model, inputs, _, _ = made(name)
    model(*inputs)  # which moves running statistics
    cr.save(model, tmp_path / "model.safetensors")
    cr.manual_seed(7)
    other = CASES[name][0]().double()
    cr.load(other, tmp_path / "model.safetensors")
    np.testing.assert_array_equal(other.eval()(*inputs).numpy(), model.eval()(*inputs).numpy())


# --- images -----------------------------------------------------------------------------------------------


def test_numbers_of_parameters_are_the_published_ones():
    assert count(models.LeNet5()) == 61_706
    assert count(models.resnet(3, 10, depth=20)) == 272_474
    assert count(models.resnet(3, 10, depth=56)) == 855_770
    assert count(models.resnet18()) == 11_689_512
    assert count(models.resnet34()) == 21_797_672
    assert count(models.resnet50()) == 25_557_032
    assert count(models.MobileNetV2()) == 3_504_872
    assert count(models.MobileNetV2(width=1.4)) == 6_108_776
    assert count(models.UNet(1, 2, norm=False)) == 31_030_658
    assert count(models.UNet()) == 31_037_698


def test_blocks_that_start_as_their_shortcut():
    block = models.BasicBlock(4, 4, zero_init=True)
    x = cr.normal((2, 5, 5, 4))
    np.testing.assert_array_equal(block(x).numpy(), np.maximum(x.numpy(), 0))
    model = models.resnet50(zero_init=True)
    zero = {name for name, p in model.named_parameters() if name.endswith("bn3.weight") and not p.numpy().any()}
    assert len(zero) == 16


def test_strides_and_stems():
    small, large = models.resnet18(classes=2, small_images=True), models.resnet18(classes=2)
    assert (small.conv1.weight.shape, large.conv1.weight.shape) == ((64, 3, 3, 3), (64, 7, 7, 3))
    seen = []
    for net in (models.MobileNetV2(width=0.1), models.MobileNetV2(width=0.1, small_images=True)):
        net.features.register_forward_hook(lambda module, args, out: seen.append(out.shape[1:3]))
        net.eval()(cr.zeros((1, 64, 64, 3)))
    assert seen == [(2, 2), (8, 8)]


def test_width_of_mobilenet_rounds_to_eighths():
    widths = [models.MobileNetV2(width=w).features[0][0].out_channels for w in (0.25, 0.35, 0.5, 0.75, 1.4)]
    assert widths == [8, 16, 16, 24, 48]
    assert models.MobileNetV2(width=0.5).classifier[1].in_features == 1280
    assert models.MobileNetV2(width=1.4).classifier[1].in_features == 1792


def test_unet_with_bilinear_enlargement_convolves_first_without_a_difference():
    model = models.UNet(1, 2, width=2, depth=1, bilinear=True).double()
    convolution, enlarge = model.enlarge[0]
    x = cr.asarray(np.random.default_rng(0).standard_normal((1, 3, 4, 4)))
    np.testing.assert_allclose(enlarge(convolution(x)).numpy(), convolution(enlarge(x)).numpy(), atol=1e-14)


def test_what_images_cannot_be():
    with pytest.raises(ShapeError, match=r"multiples of 16.*\(1, 24, 32, 3\)"):
        models.UNet(width=2)(cr.zeros((1, 24, 32, 3)))
    with pytest.raises(ShapeError, match=r"\(N, H, W, 3\)"):
        models.UNet(width=2)(cr.zeros((1, 16, 32, 1)))
    with pytest.raises(ArgumentError, match="depth is 1 or more"):
        models.UNet(depth=0)
    with pytest.raises(ArgumentError, match="28x28 or 32x32"):
        models.LeNet5(image_size=30)
    with pytest.raises(ArgumentError, match="positive factor"):
        models.MobileNetV2(width=0)
    with pytest.raises(ArgumentError, match="6 n"):
        models.resnet(3, 10, depth=18)
    assert models.LeNet5(3, 10, image_size=32)(cr.zeros((1, 32, 32, 3))).shape == (1, 10)


# --- sequences --------------------------------------------------------------------------------------------


def test_normalized_forecasts_follow_level_and_size():
    model = models.LSTMForecaster(2, 3, 1, hidden=4, normalize=True, eps=0.0).double()
    x = np.random.default_rng(0).standard_normal((2, 9, 2))
    y = model(cr.asarray(x)).numpy()
    np.testing.assert_allclose(model(cr.asarray(x * [5.0, 3.0] + [100.0, -7.0])).numpy(), y * 5 + 100, rtol=1e-9)
    plain = models.LSTMForecaster(2, 3, hidden=4).double()
    assert plain(cr.asarray(x)).shape == (2, 3, 2)
    assert abs(plain(cr.asarray(x + 100.0)).numpy()).max() < 5


def test_what_is_behind_the_end_of_speech_has_no_influence():
    model = models.SpeechGRU(7, 4, channels=3, hidden=5, layers=2, strides=(2, 2), kernel_size=3).double()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 13, 7))
    lengths = cr.asarray(np.array([13, 6, 0]))
    out = model.output_lengths(lengths).numpy()
    np.testing.assert_array_equal(out, [4, 2, 0])
    y = model(cr.asarray(x), lengths).numpy()
    np.testing.assert_allclose(y[1, :2], model(cr.asarray(x[1:2, :6])).numpy()[0], atol=1e-13)
    np.testing.assert_allclose(y[0], model(cr.asarray(x[:1])).numpy()[0], atol=1e-13)
    np.testing.assert_allclose(np.exp(y).sum(-1), 1, atol=1e-13)


def test_what_sequences_cannot_be():
    model = models.SpeechGRU(7, 4, channels=2, hidden=2, layers=1)
    with pytest.raises(ShapeError, match=r"frames \(N, T, 7\)"):
        model(cr.zeros((2, 5, 6)))
    with pytest.raises(ShapeError, match="2 lengths"):
        model(cr.zeros((2, 5, 7)), cr.tensor([5]))
    with pytest.raises(DTypeError, match="integers"):
        model.output_lengths([1.5])
    with pytest.raises(ArgumentError, match="odd"):
        models.SpeechGRU(7, 4, kernel_size=4)
    with pytest.raises(ArgumentError, match="stride for each"):
        models.SpeechGRU(7, 4, strides=())
    with pytest.raises(ArgumentError, match="1 to 3 of the series"):
        models.LSTMForecaster(3, 2, targets=4)
    with pytest.raises(ShapeError, match=r"windows \(N, T, 3\)"):
        models.LSTMForecaster(3, 2)(cr.zeros((2, 0, 3)))
