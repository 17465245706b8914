"""Model, optimizer and schedule from the configuration of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chainrule import nn, optim
from chainrule.optim import schedules
from chainrule.train import Trainer

_HIDDEN = 256
_RESNET_DEPTH = 8
_WARMUP = 20


def model_arguments(name: str, size: int, channels: int, classes: int) -> dict[str, Any]:
    """Return the arguments with which a model is made for images of that kind.

    >>> model_arguments("mlp", 8, 1, 10)
    {'sizes': [64, 256, 256, 10], 'dropout': 0.2}
    """
    if name == "mlp":
        return {"sizes": [size * size * channels, _HIDDEN, _HIDDEN, classes], "dropout": 0.2}
    if name == "lenet":
        return {"image_size": size, "channels": channels, "classes": classes}
    return {"channels": channels, "classes": classes, "depth": _RESNET_DEPTH, "width": 16}


def build_model(spec: Mapping[str, Any]) -> nn.Module:
    """Make the model of a configuration: ``{"name": ..., "arguments": {...}}``.

    >>> build_model({"name": "mlp", "arguments": {"sizes": [4, 2]}})(np.zeros((1, 4), np.float32)).shape
    (1, 2)
    """
    builders: dict[str, Callable[..., nn.Module]] = {
        "mlp": nn.models.mlp,
        "lenet": nn.models.lenet,
        "resnet": nn.models.resnet,
    }
    return builders[spec["name"]](**spec["arguments"])


def build_trainer(model: nn.Module, options: Mapping[str, Any], steps_per_epoch: int) -> Trainer:
    """Put model, loss, optimizer and schedule together as the options say."""
    parameters = list(model.named_parameters())
    lr, decay = options["lr"], options["weight_decay"]
    optimizer: optim.Optimizer
    if options["optimizer"] == "sgd":
        optimizer = optim.SGD(parameters, lr, momentum=0.9, weight_decay=decay, nesterov=True)
    elif options["optimizer"] == "adam":
        optimizer = optim.Adam(parameters, lr, weight_decay=decay)
    else:
        optimizer = optim.AdamW(parameters, lr, weight_decay=decay)
    schedule = _schedule(options["schedule"], options["epochs"] * steps_per_epoch)
    smoothing = options["label_smoothing"]

    def loss(logits: Any, labels: Any) -> Any:
        return nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)

    scheduler = optim.lr_scheduler.LRScheduler(optimizer, schedule)
    return Trainer(model, loss, optimizer, scheduler, compiled=not options.get("eager", False))


def _schedule(name: str, steps: int) -> schedules.Schedule:
    """The learning rate over the training: one twentieth of it is warm-up, if it is a cosine."""
    if name == "cosine":
        return schedules.warmup_cosine(min(max(1, steps // _WARMUP), steps - 1), steps)
    if name == "step":
        return schedules.multistep_decay([max(1, steps // 2), max(1, steps * 3 // 4)], gamma=0.1)
    return schedules.by_factor(lambda step: 1.0)
