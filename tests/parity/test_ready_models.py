"""Ready models against PyTorch modules with the names of torchvision: its files load, and mean the same."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch", reason="PyTorch is in the parity extra: make test-parity")

from compare import FORWARD, GRADIENT, relative_error, to_numpy  # noqa: E402

import chainrule as cr  # noqa: E402
from chainrule.nn import models  # noqa: E402


def conv(n_in, n_out, size, stride=1, groups=1):
    return torch.nn.Conv2d(n_in, n_out, size, stride, size // 2, groups=groups, bias=False)


def around(n_in, n_out, stride):
    if stride == 1 and n_in == n_out:
        return None
    return torch.nn.Sequential(conv(n_in, n_out, 1, stride), torch.nn.BatchNorm2d(n_out))


class Block(torch.nn.Module):
    """A residual block of several convolutions (channels in, channels out, size, stride)."""

    def __init__(self, *sizes):
        super().__init__()
        for i, size in enumerate(sizes, 1):
            setattr(self, f"conv{i}", conv(*size))
            setattr(self, f"bn{i}", torch.nn.BatchNorm2d(size[1]))
        self.count = len(sizes)
        self.downsample = around(sizes[0][0], sizes[-1][1], max(size[3] for size in sizes))

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = torch.relu(y) if i < self.count else y
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


def basic(n_in, width, stride):
    return Block((n_in, width, 3, stride), (width, width, 3, 1))


def bottleneck(n_in, width, stride):
    return Block((n_in, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1))


class ResNet(torch.nn.Module):
    def __init__(self, block, expansion, layers, width, classes):
        super().__init__()
        self.conv1, self.bn1 = conv(3, width, 7, 2), torch.nn.BatchNorm2d(width)
        n_in, self.stages = width, len(layers)
        for stage, count in enumerate(layers):
            blocks = []
            for i in range(count):
                blocks.append(block(n_in, width * 2**stage, 2 if stage and not i else 1))
                n_in = width * 2**stage * expansion
            setattr(self, f"layer{stage + 1}", torch.nn.Sequential(*blocks))
        self.fc = torch.nn.Linear(n_in, classes)

    def forward(self, x):
        x = torch.nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))


def unit(n_in, n_out, size, stride=1, groups=1):
    layers = conv(n_in, n_out, size, stride, groups), torch.nn.BatchNorm2d(n_out), torch.nn.ReLU6()
    return torch.nn.Sequential(*layers)


class Inverted(torch.nn.Module):
    def __init__(self, n_in, n_out, stride, expansion):
        super().__init__()
        wide = n_in * expansion
        layers = [unit(n_in, wide, 1)] if expansion > 1 else []
        layers += [unit(wide, wide, 3, stride, wide), conv(wide, n_out, 1), torch.nn.BatchNorm2d(n_out)]
        self.conv = torch.nn.Sequential(*layers)
        self.adds = stride == 1 and n_in == n_out

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNet(torch.nn.Module):
    """Of an eighth of the width: 8 channels nearly everywhere."""

    def __init__(self, classes):
        super().__init__()
        features = [unit(3, 8, 3, 2)]
        n_in = 8
        for t, n_out, count, stride in [(1, 8, 1, 1), (6, 8, 2, 2), (6, 8, 3, 2), (6, 8, 4, 2), (6, 16, 3, 1),
                                        (6, 24, 3, 2), (6, 40, 1, 1)]:  # fmt: skip
            for i in range(count):
                features.append(Inverted(n_in, n_out, 1 if i else stride, t))
                n_in = n_out
        self.features = torch.nn.Sequential(*features, unit(n_in, 1280, 1))
        self.classifier = torch.nn.Sequential(torch.nn.Dropout(0.0), torch.nn.Linear(1280, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class LeNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = torch.nn.Conv2d(1, 6, 5, padding=2), torch.nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = torch.nn.Linear(400, 120), torch.nn.Linear(120, 84), torch.nn.Linear(84, 10)

    def forward(self, x):
        for layer in (self.conv1, self.conv2):
            x = torch.nn.functional.avg_pool2d(torch.tanh(layer(x)), 2)
        return self.fc3(torch.tanh(self.fc2(torch.tanh(self.fc1(x.flatten(1))))))


PAIRS = {
    "basic": (
        lambda: ResNet(basic, 1, [2, 1, 1, 1], 4, 5), lambda: models.ResNet(models.BasicBlock, [2, 1, 1, 1], 3, 5, 4),
        (3, 32, 32, 3),
    ),
    "bottleneck": (
        lambda: ResNet(bottleneck, 4, [1, 2], 4, 5), lambda: models.ResNet(models.Bottleneck, [1, 2], 3, 5, 4),
        (3, 20, 16, 3),
    ),
    "MobileNetV2": (lambda: MobileNet(5), lambda: models.MobileNetV2(3, 5, 0.125, 0.0), (4, 32, 32, 3)),
    "LeNet5": (LeNet, models.LeNet5, (2, 28, 28, 1)),
}  # fmt: skip


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", PAIRS)
def test_weights_of_pytorch_load_and_give_the_same(name, training):
    make_theirs, make_ours, shape = PAIRS[name]
    torch.manual_seed(0)
    theirs, ours = make_theirs().double().train(training), make_ours().double().train(training)
    state = {key: _moved(key, value) for key, value in theirs.state_dict().items()}
    theirs.load_state_dict(state)
    flattened = {"fc1.weight": (16, 5, 5)} if name == "LeNet5" else None
    ours.load_state_dict(state, layout="torch", flattened=flattened)
    x = np.random.default_rng(0).standard_normal(shape)
    expected = theirs(torch.from_numpy(np.moveaxis(x, -1, 1).copy()))
    found = ours(cr.asarray(x))
    assert relative_error(found.numpy(), to_numpy(expected)) <= FORWARD
    (expected**2).sum().backward()
    (found**2).sum().backward()
    zero = 1e-11 * max(float(p.grad.abs().max()) for p in theirs.parameters())
    for key, parameter in theirs.named_parameters():
        wanted, grad = to_numpy(parameter.grad), ours.get_parameter(key).grad.numpy()
        if wanted.ndim == 4:
            wanted = np.moveaxis(wanted, 1, -1)
        if flattened and key in flattened:
            wanted = np.moveaxis(wanted.reshape(-1, *flattened[key]), 1, -1).reshape(grad.shape)
        if abs(wanted).max() < zero:  # a bias that the next norm takes away
            assert abs(grad).max() < zero, key
        else:
            assert relative_error(grad, wanted) <= GRADIENT, key
    for key, buffer in theirs.named_buffers():
        assert relative_error(ours.get_buffer(key).numpy(), to_numpy(buffer)) <= FORWARD, key


# --- transformers -----------------------------------------------------------------------------------------


class Language(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.places = torch.nn.Embedding(11, 12), torch.nn.Embedding(9, 12)
        gelu = torch.nn.GELU("tanh")
        layer = torch.nn.TransformerEncoderLayer(12, 3, 48, 0.0, gelu, norm_first=True, batch_first=True)
        norm = torch.nn.LayerNorm(12)
        self.blocks = torch.nn.TransformerEncoder(layer, 2, norm, enable_nested_tensor=False)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        mask = torch.nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], dtype=x.dtype)
        return self.blocks(x, mask) @ self.tokens.weight.T


class Translation(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.source, self.target = torch.nn.Embedding(11, 12), torch.nn.Embedding(9, 12)
        with warnings.catch_warnings():  # about nested tensors, which norm_first rules out
            warnings.simplefilter("ignore")
            self.transformer = torch.nn.Transformer(12, 3, 2, 2, 48, 0.0, norm_first=True, batch_first=True)

    def embedded(self, table, tokens):
        angles = torch.arange(tokens.shape[1])[:, None] / 10000 ** (torch.arange(0, 12, 2, dtype=torch.float64) / 12)
        return table(tokens) * 12**0.5 + torch.stack([angles.sin(), angles.cos()], -1).flatten(1)

    def forward(self, source, target):
        mask = torch.nn.Transformer.generate_square_subsequent_mask(target.shape[1], dtype=torch.float64)
        inputs = self.embedded(self.source, source), self.embedded(self.target, target)
        padding = torch.where(source == 0, -torch.inf, 0.0).double()
        y = self.transformer(*inputs, tgt_mask=mask, src_key_padding_mask=padding, memory_key_padding_mask=padding)
        return y @ self.target.weight.T


@pytest.mark.parametrize("kind", [Language, Translation])
def test_transformers_are_those_of_pytorch(kind):
    torch.manual_seed(0)
    theirs = kind().double()
    ours = models.GPT(11, 9, 12, 2, 3) if kind is Language else models.Seq2SeqTransformer(11, 9, 12, 2, 3, dropout=0.0)
    ours.double()
    ours.load_state_dict({key: _moved(key, value) for key, value in theirs.state_dict().items()}, layout="torch")
    theirs.load_state_dict({key: torch.from_numpy(value.numpy().copy()) for key, value in ours.state_dict().items()})
    rng = np.random.default_rng(0)
    inputs = (
        [rng.integers(1, 9, (2, 7))] if kind is Language else [rng.integers(0, 9, (2, 6)), rng.integers(0, 9, (2, 5))]
    )
    expected, found = theirs(*map(torch.from_numpy, inputs)), ours(*map(cr.asarray, inputs))
    assert relative_error(found.numpy(), to_numpy(expected)) <= FORWARD
    (expected**2).sum().backward()
    (found**2).sum().backward()
    for key, parameter in theirs.named_parameters():
        error = relative_error(ours.get_parameter(key).grad.numpy(), to_numpy(parameter.grad))
        assert error <= GRADIENT, key


def _moved(key, value):
    """Statistics and weights of norms that are not 0 and 1."""
    if "running_var" in key:
        return 0.5 + torch.rand_like(value)
    return value + 0.3 * torch.randn_like(value) if "running_mean" in key or value.ndim == 1 else value
