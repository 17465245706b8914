"""Ready models: each a class, or a function that builds one of known sizes.

| from | to | models |
|---|---|---|
| images | classes | `mlp`, `lenet`, `LeNet5`, `resnet`, `resnet18`, `resnet34`, `resnet50`, `MobileNetV2` |
| images | classes of all places | `UNet` |
| windows of time series (N, T, C) | the next values | `LSTMForecaster` |
| speech (N, T, F) | classes in time, for `CTCLoss` | `SpeechGRU` |
| tokens (N, T) | the next token | `GPT` |
| tokens of one language | those of another | `Seq2SeqTransformer` |

Images are (N, H, W, C), their values best around -1..1.
"""

from .basic import LeNet5, lenet, mlp
from .language import GPT
from .mobilenet import InvertedResidual, MobileNetV2
from .residual import BasicBlock, Bottleneck, ResidualBlock, ResNet, resnet, resnet18, resnet34, resnet50
from .sampling import sample
from .sequence import LSTMForecaster, SpeechGRU
from .translation import Seq2SeqTransformer
from .unet import UNet

__all__ = [
    "GPT", "BasicBlock", "Bottleneck", "InvertedResidual", "LSTMForecaster", "LeNet5", "MobileNetV2", "ResNet",
    "ResidualBlock", "Seq2SeqTransformer", "SpeechGRU", "UNet", "lenet", "mlp", "resnet", "resnet18", "resnet34",
    "resnet50", "sample",
]  # fmt: skip
