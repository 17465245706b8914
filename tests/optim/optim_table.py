"""The table of optimizers that all their tests go through."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from chainrule import optim


class Case(NamedTuple):
    """An optimizer with options under which it is quick on small problems."""

    name: str
    options: dict[str, Any]
    falls: bool = False
    """Whether the steps do not become shorter by themselves, so that the rate must fall."""

    def make(self, params: Any, **more: Any) -> optim.Optimizer:
        return getattr(optim, self.name)(params, **(self.options | more))

    @property
    def is_for_real_matrices(self) -> bool:
        return self.name in ("Adafactor", "Muon")

    @property
    def label(self) -> str:
        return "-".join([self.name, *(f"{k}={v}" for k, v in self.options.items() if k != "lr")]).replace(" ", "")


CASES = [
    Case("SGD", {"lr": 0.015}),
    Case("SGD", {"lr": 0.002, "momentum": 0.9}),
    Case("SGD", {"lr": 0.002, "momentum": 0.9, "nesterov": True}),
    Case("SGD", {"lr": 0.01, "momentum": 0.9, "dampening": 0.5}),
    Case("Adam", {"lr": 0.05}),
    Case("Adam", {"lr": 0.05, "amsgrad": True}),
    Case("AdamW", {"lr": 0.05, "weight_decay": 1e-5}),
    Case("Adamax", {"lr": 0.1}),
    Case("NAdam", {"lr": 0.03}),
    Case("RAdam", {"lr": 0.1}),
    Case("RMSprop", {"lr": 0.01}),
    Case("RMSprop", {"lr": 0.001, "momentum": 0.9, "centered": True}),
    Case("Adagrad", {"lr": 0.5}),
    Case("Adagrad", {"lr": 0.5, "lr_decay": 1e-3, "initial_accumulator_value": 0.1}),
    Case("Adadelta", {"lr": 0.03, "rho": 0.99, "eps": 0.01}),
    Case("Rprop", {"lr": 0.01}),
    Case("ASGD", {"lr": 0.015, "lambd": 1e-6, "t0": 10}),
    Case("SparseAdam", {"lr": 0.05}),
    Case("Lion", {"lr": 0.02}, falls=True),
    Case("Lion", {"lr": 0.02, "betas": (0.5, 0.9), "weight_decay": 1e-5}, falls=True),
    Case("LAMB", {"lr": 0.2}, falls=True),
    Case("LARS", {"lr": 0.02, "trust_coefficient": 0.5}, falls=True),
    Case("Adafactor", {"lr": 0.1}, falls=True),
    Case("Muon", {"lr": 0.05, "weight_decay": 0.0}, falls=True),
    Case("Muon", {"lr": 0.05, "weight_decay": 1e-5, "momentum": 0.5, "nesterov": False}, falls=True),
]

every_optimizer = pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
