"""Optimizers, gradient clipping and learning rate schedules, written in public functions alone.

Each optimizer is three pure functions, ``init``, ``coefficients`` and ``update``; see `Optimizer`. `LBFGS`, which looks
at values of the loss to go on, is a loop in Python instead.
"""

from . import lr_scheduler, schedules
from .accumulate import accumulate_gradients
from .adafactor import Adafactor
from .adam import Adam, Adamax, AdamW
from .adaptive import Adadelta, Adagrad, RMSprop
from .asgd import ASGD
from .averaging import EMA, SWA, update_bn
from .clip import clip_grad_norm_, clip_grad_value_
from .group import ParamGroup
from .layerwise import LAMB, LARS
from .lbfgs import LBFGS
from .lion import Lion
from .muon import Muon
from .nadam import NAdam, RAdam
from .optimizer import Optimizer
from .rprop import Rprop
from .scaling import LossScaler, keep_master_weights
from .sgd import SGD
from .sharpness import SAM
from .sparse import SparseAdam

__all__ = [
    "ASGD", "EMA", "LAMB", "LARS", "LBFGS", "SAM", "SGD", "SWA", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW",
    "Adamax", "Lion", "LossScaler", "Muon", "NAdam", "Optimizer", "ParamGroup", "RAdam", "RMSprop", "Rprop",
    "SparseAdam", "accumulate_gradients", "clip_grad_norm_", "clip_grad_value_", "keep_master_weights", "lr_scheduler",
    "schedules", "update_bn",
]  # fmt: skip
