"""The code in the pages of docs/ and in the README, as programs that can be run."""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def programs() -> dict[str, list[Path]]:
    """Pages by the program that they are: the chapters of the course are one, every other page is its own."""
    chapters = sorted((DOCS / "backpropagation").glob("*.md"))
    alone = [p for p in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))] if p not in chapters]
    return {"backpropagation": chapters} | {str(p.relative_to(ROOT)): [p] for p in alone}


def blocks(page: Path) -> Iterator[tuple[str, str, int]]:
    """Language, text and first line of every block of a page."""
    text = page.read_text()
    for found in BLOCK.finditer(text):
        yield found[1], found[2], text.count("\n", 0, found.start(2))


def run(pages: list[Path], names: dict[str, Any]) -> str:
    """Run all blocks of Python in order, with shared names; return what sessions printed otherwise than shown."""
    report: list[str] = []
    for page in pages:
        for language, text, line in blocks(page):
            if language == "python":
                exec(compile("\n" * line + text, str(page), "exec"), names)
            elif language == "pycon":
                test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), line)
                test.globs = names
                doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append, clear_globs=False)
    return "".join(report)
