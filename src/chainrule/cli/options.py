"""The arguments and options of the commands, with their help. Defaults that depend on the data are described in it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from chainrule.tasks.image_options import AUGMENTATIONS, MODELS, OPTIMIZERS, SCHEDULES


def _choice(names: tuple[str, ...], text: str) -> Any:
    return typer.Option(metavar="|".join(names), autocompletion=lambda: list(names), help=text, show_default=False)


def _option(metavar: str, text: str) -> Any:
    return typer.Option(metavar=metavar, help=text, show_default=False)


SOURCE_HELP = (
    '"digits" (handwritten digits that the package carries), a folder with one folder of images per class, or a folder '
    "with MNIST's files (train-images-idx3-ubyte and so on, gzipped or not)."
)
OUT_HELP = "Folder of the run: new or empty. Default: runs/SOURCE-DATE-TIME"
RESUME_HELP = (
    "Go on with the run in --out from its last checkpoint. Its options stay; --epochs alone may grow, which stretches "
    "the schedule from there on."
)
EAGER_HELP = "Take the steps in NumPy instead of as one compiled program: slower, and a second sooner at the first step"
SIZE_HELP = "Height and width. Default: those of the images, at least 16; 64 where they differ"
AUGMENT_HELP = "Random changes while training. Default: auto, which is digits for grey images, photos for colour"
VALIDATION_HELP = "Share of the training images to choose the best epoch by; 0 for none. Default: 0.1, at most 2,000"
SCHEDULE_HELP = "How the learning rate falls; step: to a tenth after 1/2, a hundredth after 3/4. Default: cosine"

Source = Annotated[str, typer.Argument(metavar="SOURCE", show_default=False, help=SOURCE_HELP)]
Run = Annotated[str, typer.Argument(metavar="RUN", show_default=False, help="A folder that 'chainrule train' made.")]
Files = Annotated[list[str], typer.Argument(metavar="FILE...", show_default=False, help="Image files.")]

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else, for programs.")]
Top = Annotated[int, typer.Option(metavar="K", help="How many classes to show for each file.")]
Out = Annotated[str | None, _option("RUN", OUT_HELP)]
Eager = Annotated[bool, typer.Option("--eager", help=EAGER_HELP)]
Resume = Annotated[bool, typer.Option("--resume", help=RESUME_HELP)]

Epochs = Annotated[int | None, _option("N", "Rounds through the images. Default: 4 to 30, by their number")]
BatchSize = Annotated[int | None, _option("N", "Images per step. Default: 64; 32 below 4,000 images")]
LearningRate = Annotated[float | None, _option("RATE", "Highest learning rate. Default: 0.003; for sgd 0.05")]
Optimizer = Annotated[str | None, _choice(OPTIMIZERS, "How to step; sgd is with Nesterov momentum 0.9. Default: adamw")]
WeightDecay = Annotated[
    float | None, _option("DECAY", "Pull of the weights to 0. Default: 0.01 for adamw, 0.0001 for sgd, 0 for adam")
]
Schedule = Annotated[str | None, _choice(SCHEDULES, SCHEDULE_HELP)]
LabelSmoothing = Annotated[float | None, _option("SHARE", "Share of the target spread over all classes. Default: 0")]
Model = Annotated[
    str | None, _choice(MODELS, "Which network. Default: lenet for grey images of up to 32 pixels, else resnet")
]
ImageSize = Annotated[int | None, _option("PIXELS", SIZE_HELP)]
Augment = Annotated[str | None, _choice(AUGMENTATIONS, AUGMENT_HELP)]
Validation = Annotated[float | None, _option("SHARE", VALIDATION_HELP)]
Seed = Annotated[int | None, _option("N", "Of weights, order, augmentation and split. Default: 0")]
