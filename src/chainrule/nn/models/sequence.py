"""Models of sequences in time: a forecaster, and a recognizer of speech."""

from __future__ import annotations

from collections.abc import Sequence

from ... import functions as F
from ...errors import ArgumentError, DTypeError, ShapeError
from ...tensor import Tensor, TensorLike
from ..containers import ModuleList
from ..layers import Conv2d, Linear
from ..module import Module
from ..norm import LayerNorm
from ..recurrent import GRU, LSTM
from ..regularizing import Dropout
from ..windows import same_dtype


class LSTMForecaster(Module):
    """The next values of time series from a window of past ones: an LSTM, and a linear map of its last state.

    All steps ahead come at once, from one map, so that errors of the first are not inputs of the others.

    Args:
        channels: series in a window, C.
        horizon: steps ahead, H.
        targets: how many of the series are forecast, the first ones of the window; all unless given.
        hidden: elements of the LSTM's state.
        layers: of the LSTM.
        dropout: between layers, and before the linear map.
        normalize: subtract from each series its mean in the window, divide by its standard deviation there, and undo
            both in the forecast, so that level and size of a series do not matter (Kim et al., ICLR 2022).
        eps: added to the variance.

    Raises:
        ShapeError: when called with windows of another number of series.

    >>> model = nn.models.LSTMForecaster(channels=3, horizon=4, targets=1, hidden=8)
    >>> model(cr.normal((2, 20, 3))).shape
    (2, 4, 1)
    """

    def __init__(
        self,
        channels: int,
        horizon: int,
        targets: int | None = None,
        hidden: int = 64,
        layers: int = 1,
        dropout: float = 0.0,
        *,
        normalize: bool = False,
        eps: float = 1e-5,
    ) -> None:
        self.channels, self.horizon, self.targets = channels, horizon, channels if targets is None else targets
        if not 1 <= self.targets <= channels:
            raise ArgumentError("LSTMForecaster", f"targets are 1 to {channels} of the series", received=repr(targets))
        self.normalize, self.eps = normalize, eps
        self.lstm = LSTM(channels, hidden, layers, dropout=dropout)
        self.dropout = Dropout(dropout)
        self.head = Linear(hidden, horizon * self.targets)

    def forward(self, x: TensorLike) -> Tensor:
        """(N, T, C) -> (N, horizon, targets)."""
        x = same_dtype("LSTMForecaster", x, self.head.weight)
        if x.ndim != 3 or x.shape[-1] != self.channels or not x.shape[1]:
            raise ShapeError(
                "LSTMForecaster", f"needs windows (N, T, {self.channels}) of at least one step",
                received=f"shape {x.shape}",
            )  # fmt: skip
        if not self.normalize:
            return self._forecast(x)
        mean, scale = F.mean(x, axis=1, keepdims=True), F.sqrt(F.var(x, axis=1, keepdims=True) + self.eps)
        return self._forecast((x - mean) / scale) * scale[..., : self.targets] + mean[..., : self.targets]

    def _forecast(self, x: Tensor) -> Tensor:
        _, (h, _) = self.lstm(x)
        return F.reshape(self.head(self.dropout(h[-1])), (x.shape[0], self.horizon, self.targets))


class SpeechGRU(Module):
    """Speech to log-probabilities of classes in time, for `CTCLoss` (after Amodei et al., arXiv 1512.02595).

    Convolutions over time and frequency, each with a norm over channels and ReLU; then GRUs in both directions over
    what they give at each time; then a linear layer and log-softmax. What is behind the end of a sequence has no
    influence on it: frames there are 0 before each convolution, and the recurrence leaves them out.

    Args:
        features: frequencies of a frame, F, of a logarithmic mel spectrogram.
        classes: of `CTCLoss`, the blank among them.
        channels: of the convolutions.
        hidden: elements of the state of a GRU, in each direction.
        layers: of GRUs.
        dropout: between these.
        strides: in time, one for each convolution; in frequency it is 2. Their product is how many frames become one:
            labels that follow each other faster cannot be told apart.
        kernel_size: of the convolutions, odd.

    Raises:
        ShapeError: when called with frames of another number of features.

    >>> model = nn.models.SpeechGRU(features=20, classes=5, channels=4, hidden=8, layers=1)
    >>> model(cr.normal((2, 50, 20)), cr.tensor([50, 31])).shape
    (2, 25, 5)
    >>> model.output_lengths(cr.tensor([50, 31]))
    tensor([25, 16])
    """

    def __init__(
        self,
        features: int,
        classes: int,
        channels: int = 32,
        hidden: int = 256,
        layers: int = 3,
        dropout: float = 0.0,
        *,
        strides: Sequence[int] = (2, 1),
        kernel_size: int = 5,
    ) -> None:
        self.features, self.strides = features, tuple(strides)
        if kernel_size % 2 == 0 or not self.strides:
            raise ArgumentError(
                "SpeechGRU", "kernel_size is odd, and there is a stride for each convolution",
                received=f"kernel_size={kernel_size}, strides={self.strides}",
            )  # fmt: skip
        convs = []
        for i, stride in enumerate(self.strides):
            convs.append(Conv2d(channels if i else 1, channels, kernel_size, (stride, 2), padding=kernel_size // 2))
            features = (features + 1) // 2
        self.convs = ModuleList(convs)
        self.norms = ModuleList(LayerNorm(channels) for _ in self.strides)
        self.gru = GRU(features * channels, hidden, layers, dropout=dropout, bidirectional=True)
        self.head = Linear(2 * hidden, classes)

    def output_lengths(self, lengths: TensorLike) -> Tensor:
        """How many times of the result count, for sequences of so many frames; of any shape."""
        lengths = F.asarray(lengths)
        if not lengths.dtype.name.startswith(("int", "uint")):
            raise DTypeError("SpeechGRU", "lengths are integers", received=lengths.dtype.name)
        for stride in self.strides:
            lengths = _behind(lengths, stride)
        return lengths

    def forward(self, x: TensorLike, lengths: TensorLike | None = None) -> Tensor:
        """(N, T, F), frames that count of each (N,) -> (N, T / strides, classes)."""
        x = same_dtype("SpeechGRU", x, self.head.weight)
        if x.ndim != 3 or x.shape[-1] != self.features:
            raise ShapeError("SpeechGRU", f"needs frames (N, T, {self.features})", received=f"shape {x.shape}")
        if lengths is not None and F.asarray(lengths).shape != x.shape[:1]:
            raise ShapeError("SpeechGRU", f"needs {len(x)} lengths", received=f"shape {F.asarray(lengths).shape}")
        x = F.expand_dims(x, -1)
        for conv, norm, stride in zip(self.convs, self.norms, self.strides, strict=True):
            if lengths is not None:
                counts = F.arange(x.shape[1]) < F.expand_dims(lengths, -1)
                x, lengths = F.where(counts[:, :, None, None], x, 0.0), _behind(lengths, stride)
            x = F.relu(norm(conv(x)))
        x = F.reshape(x, (*x.shape[:2], -1))
        return F.log_softmax(self.head(self.gru(x, lengths=lengths)[0]), axis=-1)


def _behind(lengths: TensorLike, stride: int) -> Tensor:
    """Places behind a convolution that is padded to keep its size, but for the stride."""
    return (F.asarray(lengths) + (stride - 1)) // stride
