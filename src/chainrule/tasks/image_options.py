"""What a person may choose when training on images, and what is chosen otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from chainrule.data import ImageData
from chainrule.errors import ArgumentError, RunError

OPTIMIZERS = ("adam", "adamw", "sgd")
MODELS = ("mlp", "lenet", "resnet")
AUGMENTATIONS = ("auto", "none", "digits", "photos")
SCHEDULES = ("cosine", "constant", "step")

_LARGEST_SIZE = 1024
_SMALL_IMAGE = 32
_WEIGHT_DECAY = {"adam": 0.0, "adamw": 0.01, "sgd": 1e-4}
_LEARNING_RATE = {"adam": 3e-3, "adamw": 3e-3, "sgd": 0.05}
_SAMPLES_TO_SEE = 200_000
_MOST_VALIDATION = 2000
_FEWEST_EPOCHS, _MOST_EPOCHS = 4, 30


@dataclass(frozen=True)
class ImageOptions:
    """The options of a training on images. None leaves the choice to `decide`, which looks at the data.

    Args:
        epochs: how often to go through the images; default 4 to 30, fewer the more there are.
        batch_size: images per step; default 64, or 32 if there are fewer than 4,000.
        lr: the highest learning rate; default 0.003, for sgd 0.05.
        optimizer: "adam", "adamw" (default) or "sgd" (with Nesterov momentum 0.9).
        weight_decay: default 0.01 for adamw, 0.0001 for sgd, 0 for adam.
        model: "mlp", "lenet" or "resnet"; default lenet for grey images of up to 32 pixels, else resnet.
        image_size: height and width; default that of the images but at least 16, or 64 where they differ.
        augment: "none", "digits" or "photos"; "auto" (default) is digits for grey images and photos for colour.
        seed: of the initial weights, the order, the augmentation and the split; default 0.
        validation: share of the training images to hold out; default 0.1 and at most 2,000, 0 for none. A part of the
            source for it is taken first.
        schedule: of the learning rate: "cosine" (default; a short warm-up, then down to 0), "constant", or
            "step" (a tenth after one half, a hundredth after three quarters of the training).
        label_smoothing: share of the target that is spread over all classes; default 0.
        eager: take the steps in NumPy instead of compiling them; default False.

    Raises:
        ArgumentError: an option has a value that it cannot have.

    >>> ImageOptions(lr=-1.0)
    Traceback (most recent call last):
    chainrule.errors.ArgumentError: [train] --lr must be a positive number...
    """

    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    optimizer: str | None = None
    weight_decay: float | None = None
    model: str | None = None
    image_size: int | None = None
    augment: str | None = None
    seed: int | None = None
    validation: float | None = None
    schedule: str | None = None
    label_smoothing: float | None = None
    eager: bool | None = None

    def __post_init__(self) -> None:
        for name, (fits, words) in _RULES.items():
            value = getattr(self, name)
            if value is not None and not fits(value):
                raise ArgumentError("train", f"{flag(name)} must be {words}", received=repr(value))

    def given(self) -> dict[str, Any]:
        """Return the options that were chosen."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def decide(self, data: ImageData) -> dict[str, Any]:
        """Return all options, those not chosen as they suit the data."""
        n = 0 if data.train is None else len(data.train[0])
        height, _, channels = data.shape
        optimizer = self.optimizer or "adamw"
        small = channels == 1 and height <= _SMALL_IMAGE
        chosen = {
            "epochs": max(_FEWEST_EPOCHS, min(_MOST_EPOCHS, _SAMPLES_TO_SEE // max(n, 1))),
            "batch_size": 32 if n < 4000 else 64,
            "lr": _LEARNING_RATE[optimizer],
            "optimizer": optimizer,
            "weight_decay": _WEIGHT_DECAY[optimizer],
            "model": "resnet" if not small else "lenet" if height >= 4 else "mlp",
            "image_size": height,
            "augment": "digits" if channels == 1 else "photos",
            "seed": 0,
            "validation": min(0.1, _MOST_VALIDATION / max(n, 1)),
            "schedule": "cosine",
            "label_smoothing": 0.0,
            "eager": False,
        }
        given = self.given()
        if given.get("augment") == "auto":
            del given["augment"]
        return chosen | given

    def check_against(self, begun: Mapping[str, Any]) -> None:
        """Refuse options that contradict those a run was begun with; ``epochs`` alone may grow.

        Raises:
            RunError: one does.
        """
        for name, value in self.given().items():
            before = begun.get(name)
            if value == before or (name, value) == ("augment", "auto"):
                continue
            if name == "epochs" and value > before:
                continue
            fix = "leave the option out, or begin another run"
            if name == "epochs":
                fix += "; --epochs may only grow"
            raise RunError(
                "resume", f"the run was begun with {flag(name)} {before}", received=f"{flag(name)} {value}", fix=fix
            )


def flag(name: str) -> str:
    """Return how an option is written on the command line.

    >>> flag("batch_size")
    '--batch-size'
    """
    return "--" + name.replace("_", "-")


def _among(names: tuple[str, ...]) -> tuple[Callable[[Any], bool], str]:
    return (lambda v: v in names), "one of " + ", ".join(names)


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "epochs": (lambda v: v >= 1, "at least 1"),
    "batch_size": (lambda v: v >= 1, "at least 1"),
    "lr": (lambda v: v > 0 and math.isfinite(v), "a positive number"),
    "optimizer": _among(OPTIMIZERS),
    "weight_decay": (lambda v: v >= 0 and math.isfinite(v), "a number of at least 0"),
    "model": _among(MODELS),
    "image_size": (lambda v: 2 <= v <= _LARGEST_SIZE, f"from 2 to {_LARGEST_SIZE}"),
    "augment": _among(AUGMENTATIONS),
    "seed": (lambda v: 0 <= v < 2**64, "from 0 to 2**64 - 1"),
    "validation": (lambda v: 0 <= v < 1, "a share of at least 0 and below 1"),
    "schedule": _among(SCHEDULES),
    "label_smoothing": (lambda v: 0 <= v < 1, "a share of at least 0 and below 1"),
}
