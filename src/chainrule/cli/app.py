"""The commands, their options and their help."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

import chainrule as cr
from chainrule.tasks import ImageOptions, evaluate_images, predict_images, train_images
from chainrule.train import Interrupted

from . import INTERRUPTED, options as o
from .display import Display, accuracy_text, note, show_loading

app = typer.Typer(
    name="chainrule",
    help="Train neural networks by backpropagation, measure them, and use them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog="Begin with: [bold]chainrule train images digits --out run[/bold]",
)
train_app = typer.Typer(
    help="Train a network. The task says on what: images.",
    no_args_is_help=True,
    epilog="Begin with: [bold]chainrule train images digits --out run[/bold]. "
    "All options: [bold]chainrule train images --help[/bold]",
)
app.add_typer(train_app, name="train")

_EXAMPLES = """[bold]Examples[/bold]

The digits that the package carries, some seconds: [bold]chainrule train images digits --out run[/bold]

Your own pictures, one folder per class: [bold]chainrule train images pictures --out run --image-size 48[/bold]

MNIST's files, three rounds: [bold]chainrule train images mnist --model lenet --epochs 3 --out run[/bold]

After Ctrl-C or a crash, the same bits as without: [bold]chainrule train images pictures --out run --resume[/bold]

Then: [bold]chainrule evaluate run OTHER_PICTURES[/bold] and [bold]chainrule predict run photo.jpg[/bold]"""


def _version(wanted: bool) -> None:
    if wanted:
        print(f"chainrule {cr.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@train_app.command("images", epilog=_EXAMPLES)
def _train_images(
    source: o.Source,
    out: o.Out = None,
    resume: o.Resume = False,
    epochs: o.Epochs = None,
    batch_size: o.BatchSize = None,
    lr: o.LearningRate = None,
    optimizer: o.Optimizer = None,
    weight_decay: o.WeightDecay = None,
    schedule: o.Schedule = None,
    label_smoothing: o.LabelSmoothing = None,
    model: o.Model = None,
    image_size: o.ImageSize = None,
    augment: o.Augment = None,
    validation: o.Validation = None,
    seed: o.Seed = None,
    eager: o.Eager = False,
) -> None:
    """Train a classifier of images.

    Options that you leave out are chosen to suit the images; all are noted in RUN/config.json.
    Ctrl-C stops after the current step, with a checkpoint to go on from.
    """
    options = ImageOptions(
        epochs=epochs, batch_size=batch_size, lr=lr, optimizer=optimizer, weight_decay=weight_decay, model=model,
        image_size=image_size, augment=augment, seed=seed, validation=validation, schedule=schedule,
        label_smoothing=label_smoothing, eager=eager or None,
    )  # fmt: skip
    if resume and out is None:
        raise typer.BadParameter("needs the run to go on with: --out RUN", param_hint="--resume")
    run = out or str(_default_folder(source))
    display = Display(run)
    try:
        result = train_images(source, run, options, resume=resume, watcher=display)
    except (Interrupted, KeyboardInterrupt) as reason:
        _say_how_to_go_on(source, run, isinstance(reason, Interrupted))
        raise typer.Exit(INTERRUPTED) from None
    display.result(result)


def _default_folder(source: str) -> Path:
    name = re.sub(r"[^\w.-]+", "-", Path(source).expanduser().resolve().name) or "run"
    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def _say_how_to_go_on(source: str, run: str, cleanly: bool) -> None:
    if not (Path(run) / "config.json").exists():
        print("interrupted; nothing was written", file=sys.stderr)
        return
    command = shlex.join(["chainrule", "train", "images", source, "--out", run, "--resume"])
    where = "after a checkpoint" if cleanly else "at once; the last checkpoint is kept"
    print(f"interrupted {where}. To go on: {command}", file=sys.stderr)


@app.command(
    epilog="[bold]Examples[/bold]\n\n[bold]chainrule evaluate run digits[/bold]\n\n"
    "[bold]chainrule evaluate run OTHER_PICTURES --json | jq .accuracy[/bold]"
)
def evaluate(run: o.Run, source: o.Source, as_json: o.Json = False) -> None:
    """Measure a run on images: those of the source's test part where there is one, else all that is there."""
    from rich.console import Console

    console = Console(highlight=False)
    progress = None if as_json else (lambda done, total: show_loading(console, done, total))
    with _interruptible():
        report = evaluate_images(run, source, warn=note, progress=progress)
    if as_json:
        print(json.dumps(report))
        return
    part = "test part" if report["part"] == "test" else "all images"
    console.print(f"{source}, {part}: {report['n']:,} images", markup=False, soft_wrap=True)
    console.print(f"accuracy {accuracy_text(report)}")
    console.print(f"loss     {report['loss']:.4f}")
    console.print(_class_table(report))


def _class_table(report: dict[str, Any]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table("class", *(("images", "found", "precision", "most often taken for")))
    for name, i in ((c["name"], i) for i, c in enumerate(report["classes"])):
        figures, counts = report["classes"][i], list(report["confusion"][i])
        counts[i] = 0
        other = max(range(len(counts)), key=counts.__getitem__)
        wrong = f"{report['classes'][other]['name']} ({counts[other]:,})" if counts[other] else ""
        shares = (f"{figures[key]:.1%}" if figures[key] is not None else "-" for key in ("recall", "precision"))
        table.add_row(Text(name), f"{figures['n']:,}", *shares, Text(wrong))
    return table


@app.command(
    epilog="[bold]Examples[/bold]\n\n[bold]chainrule predict run photo.jpg[/bold]\n\n"
    "[bold]chainrule predict run scans/*.png --top 1 --json[/bold]"
)
def predict(
    run: o.Run,
    files: o.Files,
    as_json: o.Json = False,
    top: o.Top = 3,
) -> None:
    """Classify image files; one line for each: file, class, probability, and the next classes."""
    with _interruptible():
        predictions = predict_images(run, files, top=top, warn=note)
    if as_json:
        print(json.dumps(predictions))
        return
    for found in predictions:
        classes = ", ".join(f"{entry['class']} {entry['probability']:.1%}" for entry in found["top"])
        print(f"{found['file']}: {classes}")


class _interruptible:
    """Ctrl-C ends the command with its exit status and no traceback."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
