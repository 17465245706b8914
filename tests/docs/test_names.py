"""Names on the pages exist, and public names are on the pages."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import re
import subprocess
import sys

import pages
import pytest

import chainrule as cr
from chainrule import data, errors, nn, optim, train

_spec = importlib.util.spec_from_file_location("generate", pages.DOCS / "generate.py")
assert _spec is not None
assert _spec.loader is not None
generate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)

ROOMS = {"cr": cr, "nn": nn, "optim": optim, "train": train, "data": data}
NAV = (pages.ROOT / "mkdocs.yml").read_text()


def cells(page: str, title: str) -> list[str]:
    """Code in the columns of this title in the tables of a page."""
    found, column = [], None
    for line in (pages.DOCS / page).read_text().splitlines():
        row = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        column = (row.index(title) if title in row else column) if row else None
        if row and column is not None:
            found += re.findall(r"`([^`]+)`", row[column])
    return found


@pytest.mark.parametrize(
    ("page", "title", "at_least"),
    [("from-keras.md", "here", 80), ("from-jax.md", "here", 80), ("from-pytorch.md", "in chainrule", 20)],
)
def test_names_of_other_libraries_lead_to_names_here(page, title, at_least):
    names = cells(page, title)
    assert len(names) >= at_least
    for name in names:
        room, *path = name.partition("(")[0].split(".")
        functools.reduce(getattr, path, ROOMS[room])


def test_no_public_module_is_missing():
    subs = {f"chainrule.{room}.{n}" for room, module in (("nn", nn), ("optim", optim)) for n in module.__all__
            if inspect.ismodule(getattr(module, n))}  # fmt: skip
    top = {f"chainrule.{n}" for n in (*cr._LATER, "train") if inspect.ismodule(getattr(cr, n, train))}
    assert set(generate.MODULES) == {"chainrule"} | top | subs


@pytest.mark.parametrize("module", generate.MODULES)
def test_no_public_name_is_missing(module):
    page = generate.reference(module)
    found = generate.load(module)
    names = getattr(found, "__all__", [n for n in dir(found) if not n.startswith("_")] if module == "chainrule" else [])
    for name in names:
        if not inspect.ismodule(getattr(found, name)):
            assert f"`{name}` {{ #{module}.{name} }}" in page
    assert page.count("{ #") == len(generate.public(module)) > 0


def test_every_page_is_in_the_navigation():
    written = {str(p.relative_to(pages.DOCS)) for p in pages.DOCS.rglob("*.md")}
    assert set(re.findall(r"[\w./-]+\.md", NAV)) == written | set(generate.pages())


def test_links_between_pages_lead_somewhere():
    made = generate.pages()
    for page in pages.DOCS.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+\.md)", page.read_text()):
            path = (page.parent / target).resolve()
            assert path.exists() or str(path.relative_to(pages.DOCS)) in made, f"{page.name}: {target}"


def test_every_exception_has_an_example_that_shows_its_message():
    page = generate.error_page()
    for kind in generate.error_classes():
        part = page.split(f"## `{kind.__name__}` ")[1].split("\n## ")[0]
        if kind not in (cr.ChainruleError, errors.CompilerError):  # a base, and what only a mistake of ours raises
            assert f"\n{kind.__name__}: " in part, kind.__name__
    assert str(pages.ROOT) not in page


def test_docstrings_become_markdown():
    links = {"chainrule.tanh": "chainrule.md#chainrule.tanh"}
    doc = """Do `tanh` to ``x_1``, a < b.

        Args:
            x, y: first
                and more.
            *rest: others.

        Shapes: (N,).

        >>> 1 + 1
        2
        """
    made = generate.markdown(doc, links)
    assert [line for line in made.splitlines() if line] == [
        "Do [`tanh`](chainrule.md#chainrule.tanh) to `x_1`, a &lt; b.",
        "**Args**", "- `x, y`: first", "    and more.", "- `*rest`: others.", "**Shapes**", "(N,).",
        "```pycon", ">>> 1 + 1", "2", "```",
    ]  # fmt: skip


def test_signatures_are_as_they_are_written():
    def f(a: int, /, b: list[str], *, c: float = 1.0) -> None: ...

    def g(alpha: str, /, beta: int = 1000000000000, *, gamma_with_a_name: str = "a long default value") -> int: ...

    g.__annotations__["alpha"] = "Array"
    assert generate.signature("f", f) == "f(a: int, /, b: list[str], *, c: float = 1.0) -> None"
    assert generate.signature("g", g).splitlines() == [
        "g(", "    alpha: TensorLike,", "    /,", "    beta: int = 1000000000000,", "    *,",
        "    gamma_with_a_name: str = 'a long default value',", ") -> int",
    ]  # fmt: skip


@pytest.mark.slow
def test_the_site_builds(tmp_path):
    pytest.importorskip("mkdocs", reason="MkDocs is in the docs extra: make docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    subprocess.run(command, cwd=pages.ROOT, check=True)
    assert (tmp_path / "reference" / "chainrule.nn.html").exists()
