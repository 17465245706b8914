"""Image classification: training, evaluation and prediction, each as one function."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn
from chainrule.data import ImageData, batches, decode_image, prefetch
from chainrule.errors import ArgumentError, ChainruleError, DataError, RunError
from chainrule.train import Checkpoint, Evaluation, RunFolder, Watcher, evaluate, fit, until_interrupt
from chainrule.train.loop import restore
from chainrule.train.pictures import save_curves, save_mistakes
from chainrule.train.threads import one_blas_thread

from .image_input import Parts, augmentation, divide, fingerprint, fitted, load_square, normalization, normalizer
from .image_model import build_model, build_trainer, model_arguments
from .image_options import ImageOptions

TASK = "images"
SMALLEST_SIZE = 16
"""Smaller images are enlarged to this, if not said otherwise: so turning and moving them a little blurs them less."""

_NEEDED = ("classes", "image_size", "channels", "normalization", "model", "options", "source", "seed", "data")


@dataclass(frozen=True, eq=False)
class Result:
    """What came out of a training.

    Args:
        run: its folder.
        config: its configuration.
        epochs: the records of all epochs, as in the log.
        best: step, epoch and scores of the best epoch, None if nothing was held out for validation.
        report: what `evaluation.json` holds; None if nothing was held out.
    """

    run: Path
    config: dict[str, Any]
    epochs: list[dict[str, Any]]
    best: dict[str, Any] | None
    report: dict[str, Any] | None


@one_blas_thread()
def train_images(
    source: str,
    out: str | os.PathLike[str],
    options: ImageOptions | None = None,
    *,
    resume: bool = False,
    watcher: Watcher | None = None,
) -> Result:
    """Train a classifier of images, and keep all about it in a folder.

    Args:
        source: "digits", a folder with one folder per class, or a folder with MNIST's files.
        out: the run's folder: new or empty, unless the run in it is resumed.
        options: see `ImageOptions`.
        resume: go on from the last checkpoint, with the same bits as if there had been no break.
        watcher: is told how it goes.

    Raises:
        DataError: the source cannot be used.
        RunError: the folder cannot be used, or what is in it does not fit, or the loss diverged.
        ArgumentError: an option does not suit the images.
        Interrupted: Ctrl-C was pressed; there is a checkpoint to go on from.

    >>> result = train_images("digits", "run", ImageOptions(model="mlp", epochs=1, batch_size=256))
    >>> result.report["n"]
    360
    """
    options, watcher = options or ImageOptions(), watcher or Watcher()
    run = RunFolder(out)
    begun: dict[str, Any] | None = None
    if resume:
        begun = read_run(run)
        options.check_against(begun["options"])
    else:
        run.refuse_if_used()
    size = begun["image_size"] if begun else options.image_size
    data = load_square(source, size, watcher.loading)
    if size is None and data.shape[0] < SMALLEST_SIZE:
        data = load_square(source, SMALLEST_SIZE, watcher.loading)
    if begun:
        config = _resumed(begun, options, data, source)
        parts = divide(data, source, config["options"]["validation"], config["seed"])
    else:
        chosen = options.decide(data)
        parts = divide(data, source, chosen["validation"], chosen["seed"])
        config = _configure(source, data, parts, chosen)
    return _train(run, config, parts, data, begun is not None, watcher)


def _configure(source: str, data: ImageData, parts: Parts, options: dict[str, Any]) -> dict[str, Any]:
    size, _, channels = data.shape
    sizes = {name: len(part[1]) for name, part in (("train", parts.train), ("validation", parts.validation)) if part}
    sizes |= {"test": len(data.test[1])} if data.test else {}
    return {
        "chainrule_version": cr.__version__,
        "task": TASK,
        "seed": options["seed"],
        "source": source if source == "digits" else str(Path(source).expanduser().resolve()),
        "data": {"name": data.name, "sha256": fingerprint(data), **sizes},
        "classes": list(data.classes),
        "image_size": size,
        "channels": channels,
        "normalization": normalization(parts.train[0]),
        "model": {
            "name": options["model"],
            "arguments": model_arguments(options["model"], size, channels, len(data.classes)),
        },
        "options": options,
    }


def _resumed(begun: dict[str, Any], options: ImageOptions, data: ImageData, source: str) -> dict[str, Any]:
    """The configuration of a run that goes on; the data must be the same, more epochs may be asked for."""
    if fingerprint(data) != begun["data"]["sha256"]:
        raise RunError(
            "resume",
            f"'{source}' does not hold the images that the run was begun with, from '{begun['source']}'",
            fix="give the same source, unchanged, or begin another run",
        )
    epochs = options.epochs or begun["options"]["epochs"]
    return begun | {"options": begun["options"] | {"epochs": epochs}}


def _train(
    run: RunFolder, config: dict[str, Any], parts: Parts, data: ImageData, resume: bool, watcher: Watcher
) -> Result:
    options, seed = config["options"], config["seed"]
    x, y = parts.train
    prepare = normalizer(config["normalization"])
    augment = augmentation(options["augment"], x)
    steps = -(-len(x) // options["batch_size"])
    cr.manual_seed(seed)
    model = _working_model(config)
    trainer = build_trainer(model, options, steps)

    def feed(epoch: int, start: int) -> Any:
        chosen = batches(x, y, options["batch_size"], seed=seed, epoch=epoch, augment=augment, start=start)
        return prefetch((prepare(images), labels) for images, labels in chosen)

    with until_interrupt() as stop:
        saved = run.checkpoints.newest(watcher.note) if resume else None
        if saved is not None:
            _loading(lambda: restore(trainer, run, saved), run, saved)
        elif resume:
            run.log.truncate(0)
        if resume:
            run.write_json("config.json", config)
        else:
            run.begin(config)

        forward = _forward(model, options)

        def validate() -> Evaluation | None:
            return evaluate(model, *parts.validation, prepare, stop=stop, forward=forward) if parts.validation else None

        watcher.begin(config, trainer, steps)
        try:
            fit(trainer, feed, steps, options["epochs"], run, validate, watcher, stop)
        finally:
            watcher.end()
    return _report(run, config, parts, model, forward, trainer.place.best, watcher)


def _forward(model: nn.Module, options: Mapping[str, Any]) -> Callable[[Any], cr.Tensor]:
    """What gives the logits: the model, compiled unless the run is eager."""
    return model if options.get("eager", False) else cr.compile(model.__call__, name="forward")


def _working_model(config: dict[str, Any]) -> nn.Module:
    """Make the model and try it on one image, so that what cannot work fails before anything is written."""
    size, channels = config["image_size"], config["channels"]
    try:
        model = build_model(config["model"])
        with cr.no_grad():
            model.eval()(np.zeros((1, size, size, channels), np.float32))
    except ChainruleError as error:
        name = config["model"]["name"]
        raise ArgumentError(
            "train",
            f"the model {name} cannot take images of {size}x{size}: {error.message}",
            fix="choose another --model or a larger --image-size",
        ) from error
    return model


def _report(
    run: RunFolder,
    config: dict[str, Any],
    parts: Parts,
    model: nn.Module,
    forward: Callable[[Any], cr.Tensor],
    best: dict[str, Any] | None,
    watcher: Watcher,
) -> Result:
    """Evaluate the best weights on what was held out, and draw the pictures."""
    epochs = run.log.read("epoch")
    save_curves(run.path / "curves.png", epochs)
    report = None
    if parts.held_out is not None:
        saved = run.checkpoints.best(watcher.note)
        if saved is not None:
            model.load_state_dict(saved.weights)
        images, labels = parts.held_out
        found = evaluate(model, images, labels, normalizer(config["normalization"]), forward=forward)
        where = {"source": config["source"], "part": parts.held_out_name, "checkpoint": saved.step if saved else None}
        report = where | found.summary(config["classes"])
        run.write_json("evaluation.json", report)
        save_mistakes(run.path / "mistakes.png", images, found, config["classes"])
    return Result(run.path, config, epochs, best, report)


# --- a run that is there ----------------------------------------------------------------------------------


def read_run(run: RunFolder) -> dict[str, Any]:
    """Return the configuration of a run of this task.

    Raises:
        RunError: there is none, or it is damaged.
    """
    config = run.read_config(TASK)
    missing = [key for key in _NEEDED if key not in config]
    if missing:
        raise run.damaged(f"it lacks {', '.join(missing)}")
    return config


def _loading(action: Callable[[], object], run: RunFolder, saved: Checkpoint) -> None:
    try:
        action()
    except (ChainruleError, KeyError, TypeError) as error:
        what = error.message if isinstance(error, ChainruleError) else repr(error)
        raise RunError(
            "run",
            f"the checkpoint '{run.checkpoints.folder / str(saved.step)}' is that of another model: {what}",
            fix="restore the config.json that belongs to it, or train again in a new folder",
        ) from error


def load_run(path: str | os.PathLike[str], warn: Callable[[str], object]) -> tuple[dict[str, Any], nn.Module, int]:
    """Return configuration, model with the best weights, and their step.

    Raises:
        RunError: there is no run, it has no checkpoint yet, or it is damaged.
    """
    run = RunFolder(path)
    config = read_run(run)
    saved = run.checkpoints.best(warn)
    if saved is None:
        fix = "let it train for an epoch: 'chainrule train images ... --resume'"
        raise RunError("run", f"'{run.path}' has no checkpoint yet", fix=fix)
    try:
        model = build_model(config["model"])
    except (ChainruleError, KeyError, TypeError) as error:
        raise run.damaged(f"no model can be made of {config['model']!r}") from error
    _loading(lambda: model.load_state_dict(saved.weights), run, saved)
    model.eval()
    return config, model, saved.step


@one_blas_thread()
def evaluate_images(
    path: str | os.PathLike[str],
    source: str,
    *,
    warn: Callable[[str], object] = lambda text: None,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, Any]:
    """Measure a run's best weights on images: those of the test part where there is one, else on all.

    Images are brought to the run's size and to its number of channels.

    Args:
        path: the run's folder.
        source: as for `train_images`.
        warn: is told what a person should know.
        progress: called with (done, total) while image files are decoded.

    Returns:
        accuracy with its 95 % interval, loss, n, figures of every class, and the confusion matrix.

    Raises:
        RunError: the run cannot be used.
        DataError: the source cannot be used, or has classes that the run does not know.

    >>> _ = train_images("digits", "run", ImageOptions(model="mlp", epochs=1, batch_size=256))
    >>> evaluate_images("run", "digits")["part"]
    'test'
    """
    config, model, step = load_run(path, warn)
    data = load_square(source, config["image_size"], progress)
    names = ["test"] if data.test is not None else list(data.parts)
    parts = [fitted(data, name, config, source) for name in names]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    if "train" in names and fingerprint(data) == config["data"]["sha256"]:
        warn("these are the images that the run was trained on, so the figures are too good")
    forward = _forward(model, config["options"])
    found = evaluate(model, images, labels, normalizer(config["normalization"]), forward=forward)
    where = {"run": str(path), "source": source, "part": "test" if data.test is not None else "all", "checkpoint": step}
    return where | found.summary(config["classes"])


@one_blas_thread()
def predict_images(
    path: str | os.PathLike[str],
    files: Sequence[str | os.PathLike[str]],
    *,
    top: int = 3,
    warn: Callable[[str], object] = lambda text: None,
) -> list[dict[str, Any]]:
    """Classify image files by a run's best weights.

    Args:
        path: the run's folder.
        files: images, brought to the run's size and number of channels.
        top: how many of the most probable classes to return.
        warn: is told what a person should know.

    Returns:
        for each file its ``file``, ``class``, ``probability`` and ``top``.

    Raises:
        RunError: the run cannot be used.
        DataError: a file is missing, no image, or damaged.
        ArgumentError: top is not positive.
    """
    if top < 1:
        raise ArgumentError("predict", "--top must be at least 1", received=str(top))
    config, model, _ = load_run(path, warn)
    for file in files:
        if Path(file).is_dir():
            raise DataError("predict", f"'{file}' is a folder", fix=f"give image files, such as {file}/*.png")
    images = np.stack([decode_image(file, config["image_size"], config["channels"]) for file in files])
    found = evaluate(model, images, np.zeros(len(images), np.int64), normalizer(config["normalization"]))
    predictions = []
    for file, row in zip(files, found.probabilities, strict=True):
        order = np.argsort(-row, kind="stable")[:top].tolist()
        entries = [{"class": config["classes"][i], "probability": float(row[i])} for i in order]
        predictions.append({"file": str(file), **entries[0], "top": entries})
    return predictions
