"""The code in the pages runs, and prints what the pages say."""

from __future__ import annotations

import math

import numpy as np
import pages
import pytest

import chainrule as cr
from chainrule import extend, functions, nn
from chainrule.primitives.base import REGISTRY, Array

PROGRAMS = pages.programs()
# What a page takes as given.
GIVEN = {
    "README.md": {"x": cr.ones((4, 28, 28, 1)), "y": cr.tensor([0, 1, 2, 3])},
    "docs/compile.md": {"cr": cr, "nn": nn},
    "docs/architecture.md": vars(extend) | {"F": functions, "math": math, "np": np, "Array": Array},
}  # fmt: skip


@pytest.fixture
def clean_registry():
    before = set(REGISTRY)
    yield
    for name in set(REGISTRY) - before:
        del REGISTRY[name]


@pytest.mark.usefixtures("clean_registry")
@pytest.mark.parametrize("name", PROGRAMS)
def test_page(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cr.manual_seed(0)
    report = pages.run(PROGRAMS[name], dict(GIVEN.get(name, {})))
    assert not report, report


def test_every_block_is_of_a_known_language():
    kinds = {kind for program in PROGRAMS.values() for page in program for kind, _, _ in pages.blocks(page)}
    assert kinds <= {"python", "pycon", "sh"}


def test_a_wrong_number_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n\ntext\n\n```pycon\n>>> x + 1\n3\n```\n")
    report = pages.run([page], {})
    assert "Expected:\n    3\nGot:\n    2" in report
    assert 'page.md", line 8' in report
