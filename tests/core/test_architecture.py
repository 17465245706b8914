"""The house of DESIGN.md: which room may import which, what an import of the package loads, and how long files are."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import chainrule

ROOT = Path(chainrule.__file__).parent
TESTS = Path(__file__).parents[1]

# What a room may import. The lower rooms, from the ground up:
GROUND = {"errors", "registry", "dtypes"}
ALLOWED = {
    "errors": set(),
    "registry": set(),
    "dtypes": {"errors"},
    "graph.ir": {"dtypes"},
    "graph": {"graph.ir"},
    "graph.spec": {"errors", "dtypes", "graph.ir"},
    "graph.passes": {"errors", "dtypes", "graph.ir", "primitives", "tensor"},
    "primitives": GROUND | {"graph.ir"},
    "tensor": GROUND | {"graph.ir", "primitives"},
    "autodiff": GROUND | {"graph.ir", "primitives", "tensor"},
    "graph.tracing": GROUND | {"graph.ir", "primitives", "tensor", "autodiff"},
    "graph.keeping": {"graph.ir", "graph.passes", "graph.tracing", "primitives"},
    "graph.checkpointing": GROUND | {"graph.ir", "primitives", "tensor", "autodiff", "graph.tracing"},
    "graph.batching": GROUND | {"graph.ir", "primitives", "tensor", "autodiff", "graph.tracing"},
}
ALLOWED["graph.control"] = ALLOWED["graph.tracing"] | {"graph.tracing", "graph.keeping", "graph.passes"}
ALLOWED["graph.batch_control"] = ALLOWED["graph.control"] | {"graph.control", "graph.batching"}
ALLOWED["graph.per_sample"] = ALLOWED["graph.curvature"] = ALLOWED["graph.batch_control"]
ALLOWED["functions"] = ALLOWED["graph.batch_control"] | {"graph.batch_control"}
ALLOWED["compiler"] = set(ALLOWED)
ALLOWED["inspect"] = set(ALLOWED)
# The public package itself, and the upper rooms, which see the core as a user does.
CORE = set(ALLOWED)
PUBLIC = {"chainrule", "errors", "dtypes", "functions", "tensor", "autodiff"}
ALLOWED |= {
    "chainrule": CORE,
    "extend": CORE,
    "debug": CORE,
    "optim": PUBLIC,
    "nn": PUBLIC | {"optim"},
    "data": PUBLIC,
    "train": PUBLIC | {"nn", "optim", "data"},
    "tasks": PUBLIC | {"nn", "optim", "data", "train"},
    "cli": PUBLIC | {"nn", "optim", "data", "train", "tasks"},
    "__main__": {"cli"},
}
UPPER = set(ALLOWED) - CORE - {"chainrule", "extend", "debug"}
LAZY = ["llvmlite", "rich", "typer", "PIL", "matplotlib", "safetensors", "scipy", "torch"]
UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}


def modules() -> dict[str, Path]:
    """Every module of the package by its name."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = ("chainrule", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements below ``node``, in functions too, but for what only a type checker reads."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for other in node.orelse:
            yield from statements(other)
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from statements(child)


def imported(source: str, package: str) -> Iterator[tuple[str, str]]:
    """The modules that ``source``, a module in ``package``, imports, each with the name that it takes ("" for none)."""
    for node in statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: -(node.level - 1) or None] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield (full, "") if full in MODULES else (base, alias.name)


def imports_of(name: str) -> list[tuple[str, str]]:
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return list(imported(path.read_text(), package))


def room(module: str) -> str:
    """The room of a module: its package, but for the graph, whose files are rooms of their own."""
    parts = module.split(".")[1:]
    return ".".join(parts[:2]) if parts[:1] == ["graph"] else parts[0] if parts else "chainrule"


def edges() -> dict[tuple[str, str], list[str]]:
    """For each pair of rooms, the imports of the second by the first."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in MODULES:
        for base, taken in imports_of(name):
            if base.split(".")[0] == "chainrule" and room(base) != room(name):
                found.setdefault((room(name), room(base)), []).append(f"{name} imports {base} {taken}".strip())
    return found


EDGES = edges()


def test_the_parser_of_imports_sees_all_kinds():
    source = """
import os.path, numpy as np
from typing import TYPE_CHECKING
from . import bind, thing
from ..errors import DTypeError
if TYPE_CHECKING:
    from ..nn import Module
def f():
    from ..functions import sum
    if True:
        import pickle
"""
    assert list(imported(source, "chainrule.tensor")) == [
        ("os.path", ""), ("numpy", ""), ("typing", "TYPE_CHECKING"), ("chainrule.tensor.bind", ""),
        ("chainrule.tensor", "thing"),
        ("chainrule.errors", "DTypeError"), ("chainrule.functions", "sum"), ("pickle", ""),
    ]  # fmt: skip
    assert room("chainrule.graph.ir") == "graph.ir"
    assert room("chainrule.graph") == "graph"
    assert room("chainrule.nn.layers") == "nn"
    assert room("chainrule") == "chainrule"
    assert ("functions", "primitives") in EDGES


@pytest.mark.parametrize("name", sorted({room(m) for m in MODULES}))
def test_rooms_import_only_what_is_below_them(name):
    assert name in ALLOWED, f"{name} is a new room: say here what it may import"
    wrong = [line for (a, b), lines in EDGES.items() if a == name and b not in ALLOWED[name] for line in lines]
    assert not wrong, "\n".join(wrong)


def test_rooms_have_no_circles():
    remaining = {pair for pair in EDGES if pair[0] != "chainrule" and pair[1] != "chainrule"}
    while remaining:
        sources, targets = {a for a, _ in remaining}, {b for _, b in remaining}
        ends = targets - sources
        assert ends, f"a circle among {sorted(sources & targets)}"
        remaining = {(a, b) for a, b in remaining if b not in ends}


def test_autodiff_knows_no_primitive_by_name():
    names = [base for (a, b), lines in EDGES.items() if (a, b) == ("autodiff", "primitives") for base in lines]
    assert all(" imports chainrule.primitives.base " in line for line in names), names


def test_upper_rooms_use_the_public_side_of_the_core():
    """The files of `tensor` and `autodiff` are their own business; their packages say what is public."""
    wrong = []
    for name in MODULES:
        if room(name) in UPPER:
            wrong += [
                f"{name} imports {base} {taken}"
                for base, taken in imports_of(name)
                if base.startswith(("chainrule.tensor.", "chainrule.autodiff.")) or taken.startswith("_")
                if base.split(".")[0] == "chainrule" and room(base) != room(name)
            ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("use", ["", "cr.ones(3).sum().item()", "cr.grad(lambda x: x * x)(1.0)", "cr.nn.Linear(2, 3)"])
def test_import_is_light(use):
    code = f"import sys, chainrule as cr\n{use}\nprint(*{set(LAZY)!r}.intersection(sys.modules))"
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_nothing_is_pickled():
    wrong = [
        f"{name} imports {base}" for name in MODULES for base, _ in imports_of(name) if base.split(".")[0] in UNSAFE
    ]
    assert not wrong
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), name
                assert node.value.value is False, name


@pytest.mark.parametrize("root", [ROOT, TESTS], ids=["package", "tests"])
def test_files_can_be_read_in_one_go(root):
    lengths = {str(p.relative_to(root)): len(p.read_text().splitlines()) for p in root.rglob("*.py")}
    assert lengths
    assert {name: n for name, n in lengths.items() if n > 500} == {}
