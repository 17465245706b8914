"""The pages of the site that are made from the code: the reference and the errors.

MkDocs calls `on_files` (see mkdocs.yml). Names, signatures and texts come from the imported package, not from its
source: many functions are made by declarations, and some rooms are loaded at their first use, which a parser of
sources cannot see. A name that a package lists as public is on its page.
"""

from __future__ import annotations

import contextlib
import doctest
import html
import importlib
import inspect
import io
import re
import tempfile
import textwrap
from collections.abc import Iterator
from typing import Any

import chainrule as cr
from chainrule import errors

# The pages of the reference: the module, and what is said about it.
MODULES = {
    "chainrule": "Array functions, transforms, tensors and cells, compilation.",
    "chainrule.linalg": "Linear algebra.",
    "chainrule.fft": "Fourier transforms.",
    "chainrule.nn": "Layers, losses as layers, containers, models.",
    "chainrule.nn.functional": "Layers and losses as functions.",
    "chainrule.nn.init": "Initial values.",
    "chainrule.nn.lora": "Low-rank adapters.",
    "chainrule.nn.models": "Models.",
    "chainrule.nn.utils": "Tools for parameters.",
    "chainrule.optim": "Optimizers and clipping.",
    "chainrule.optim.lr_scheduler": "Schedulers.",
    "chainrule.optim.schedules": "Schedules: functions of the step.",
    "chainrule.data": "Images from files to batches.",
    "chainrule.train": "Trainer, loop, checkpoints, run folders.",
    "chainrule.extend": "Declaring primitives.",
    "chainrule.debug": "Looking into traced code.",
}
# The sections of `chainrule` itself, by the module that a name is from.
SECTIONS = {
    "Tensors and cells": ("tensor.", "nn.state"),
    "Making arrays": ("functions.creation",),
    "Elementwise functions": ("primitives.elementwise", "primitives.binary", "functions.arithmetic"),
    "Shapes": ("functions.shaping",),
    "Selection and indexing": ("functions.selection",),
    "Reductions and sorting": ("functions.reductions",),
    "Products, convolutions, windows": ("functions.products",),
    "Random numbers": ("functions.random",),
    "Transforms and gradients": ("autodiff.", "graph.batching"),
    "Control flow": ("graph.control",),
    "Compilation": ("compiler.", "inspect."),
    "Errors": ("errors",),
}
OTHER = "Data types, and other names"
_HEADING = re.compile(r"^(Args|Returns|Raises|Attributes|Yields|Shapes):\s*(.*)$")


# --- what is public -----------------------------------------------------------------------------------------


def load(module: str) -> Any:
    """Return a module by its public name, under which it can also be an attribute of the package."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        return getattr(cr, module.rpartition(".")[2])


def public(module: str) -> dict[str, Any]:
    """Return the public names of a module and what they mean, without its submodules."""
    found = load(module)
    shown = (n for n in dir(found) if not n.startswith("_") and (found is cr or _is_own(getattr(found, n), module)))
    names = {n: getattr(found, n) for n in sorted(getattr(found, "__all__", shown), key=str.lower)}
    return {n: value for n, value in names.items() if not inspect.ismodule(value)}


def _is_own(value: Any, module: str) -> bool:
    return getattr(value, "__module__", None) == module


def page_of(module: str) -> str:
    """Return the file of a module's page."""
    return f"reference/{module}.md"


def anchors() -> dict[str, str]:
    """Return page and anchor of every public name, by its dotted name."""
    return {f"{m}.{n}": f"{m}.md#{m}.{n}" for m in MODULES for n in public(m)}


# --- docstrings as Markdown ---------------------------------------------------------------------------------


def markdown(doc: str, links: dict[str, str], module: str = "chainrule") -> str:
    """Return a docstring as Markdown: lists of arguments, examples as blocks, names as links."""
    lines = textwrap.dedent(doc).strip().splitlines()
    first, rest = lines[:1], textwrap.dedent("\n".join(lines[1:])).splitlines()
    return "\n".join(_blocks([*first, *rest], links, module)) + "\n"


def _blocks(lines: list[str], links: dict[str, str], module: str) -> Iterator[str]:
    at = 0
    while at < len(lines):
        line = lines[at]
        heading = _HEADING.match(line)
        if line.startswith(">>>"):
            end = next((i for i in range(at, len(lines)) if not lines[i].strip()), len(lines))
            yield from ["", "```pycon", *lines[at:end], "```", ""]
            at = end
        elif heading:
            end = next((i for i in range(at + 1, len(lines)) if lines[i][:1] not in ("", " ")), len(lines))
            yield from ["", f"**{heading[1]}**", ""]
            if heading[2]:
                end = at + 1
                yield prose(heading[2], links, module)
            yield from _entries(lines[at + 1 : end], links, module)
            yield ""
            at = end
        else:
            if line.startswith("- ") and at and lines[at - 1].strip() and not lines[at - 1].startswith(("- ", "  ")):
                yield ""
            yield prose(line, links, module)
            at += 1


def _entries(lines: list[str], links: dict[str, str], module: str) -> Iterator[str]:
    """The lines below a heading: ``name: text``, where deeper lines go on with the text."""
    for line in textwrap.dedent("\n".join(lines)).splitlines():
        if not line.strip():
            continue
        named = re.match(r"^([\w*.\[\]\"', ]+?):\s+(.*)$", line)
        if line.startswith(" "):
            yield "    " + prose(line.strip(), links, module)
        elif named:
            yield f"- `{named[1]}`: {prose(named[2], links, module)}"
        else:
            yield prose(line, links, module)


def prose(line: str, links: dict[str, str], module: str) -> str:
    """Return a line with code in single backticks, and names that have a place in the reference as links."""
    parts = re.split(r"(``.+?``|`[^`]+`)", line)
    for i in range(1, len(parts), 2):
        name = parts[i].strip("`")
        near = [module, "chainrule", "chainrule.nn", "chainrule.optim", "chainrule.nn.functional"]
        target = next((links[n] for n in (name, *(f"{m}.{name}" for m in near)) if n in links), None)
        is_name = target and not parts[i].startswith("``")
        parts[i] = f"[`{name}`]({target})" if is_name else f"`{name}`"
    parts[::2] = [html.escape(part, quote=False).replace("*", r"\*").replace("_", r"\_") for part in parts[::2]]
    return "".join(parts).replace("&gt;", ">")


class _Plain(str):
    """An annotation, printed without quotes."""

    def __repr__(self) -> str:
        return str(self)


def signature(name: str, value: Any) -> str:
    """Return ``name(arguments) -> result`` as it is written in a program."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return name

    def shown(annotation: Any, array: str) -> Any:
        if annotation is inspect.Parameter.empty:
            return annotation
        text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        return _Plain(re.sub(r"\bArray\b", array, text).replace("typing.", ""))

    parameters = [p.replace(annotation=shown(p.annotation, "TensorLike")) for p in found.parameters.values()]
    result = found.return_annotation if not inspect.isclass(value) else inspect.Signature.empty
    text = str(found.replace(parameters=parameters, return_annotation=shown(result, "Tensor")))
    if len(name + text) > 100:
        inner = [f"    {p}," for p in _marked(parameters)]
        text = "\n".join(["(", *inner, ")" + text[text.rindex(")") + 1 :]])
    return name + text


def _marked(parameters: list[inspect.Parameter]) -> list[str]:
    """The parameters with ``/`` and ``*`` between their kinds."""
    shown: list[str] = []
    for i, p in enumerate(parameters):
        before = parameters[i - 1].kind if i else None
        if before == p.POSITIONAL_ONLY != p.kind:
            shown.append("/")
        if p.kind == p.KEYWORD_ONLY and before not in (p.KEYWORD_ONLY, p.VAR_POSITIONAL):
            shown.append("*")
        shown.append(str(p))
    return shown + ["/"] * (parameters[-1].kind == inspect.Parameter.POSITIONAL_ONLY)


# --- pages --------------------------------------------------------------------------------------------------


def entry(module: str, name: str, value: Any, links: dict[str, str], level: int) -> str:
    """Return what the reference says about a name."""
    lines = [f"{'#' * level} `{name}` {{ #{module}.{name} }}", ""]
    if not (inspect.isroutine(value) or inspect.isclass(value)) or value is Any:
        return "\n".join([*lines, f"`{value!r}`", ""])
    doc = inspect.getdoc(value) or ""
    lines += ["```python", signature(name, value), "```", "", markdown(doc, links, module)]
    if inspect.isclass(value) and not issubclass(value, tuple):
        lines += _methods(name, value, links, module)
    return "\n".join(lines)


def _methods(name: str, kind: type, links: dict[str, str], module: str) -> list[str]:
    """Methods and properties that the class itself defines."""
    lines = []
    for key, raw in vars(kind).items():
        value = getattr(raw, "__func__", raw)
        doc = inspect.getdoc(raw.fget if isinstance(raw, property) else value)
        if key.startswith("_") or not doc or not (inspect.isfunction(value) or isinstance(raw, property)):
            continue
        shown = key if isinstance(raw, property) else signature(key, value)
        lines += ["", "```python", f"{name}.{shown}", "```", "", markdown(doc, links, module)]
    return lines


def reference(module: str) -> str:
    """Return the page of a module."""
    names, links = public(module), anchors()
    doc = inspect.getdoc(load(module)) or ""
    lines = [f"# `{module}`", "", markdown(doc, links, module), ""]
    if module != "chainrule":
        return "\n".join([*lines, *(entry(module, n, v, links, 2) for n, v in names.items())])
    for title in [*SECTIONS, OTHER]:
        lines += [f"## {title}", ""]
        lines += [entry(module, n, v, links, 3) for n, v in names.items() if section(v) == title]
    return "\n".join(lines)


def section(value: Any) -> str:
    """Return the section of the page of `chainrule` that a value belongs to."""
    home = (getattr(value, "__module__", None) or "").removeprefix("chainrule.")
    return next((title for title, homes in SECTIONS.items() if home.startswith(homes)), OTHER)


def index() -> str:
    """Return the page that lists the others."""
    rows = [f"| [`{m}`]({m}.md) | {text} | {len(public(m))} |" for m, text in MODULES.items()]
    return "\n".join(["# Reference", "", "| module | what is in it | names |", "|---|---|---|", *rows, ""])


def error_classes() -> list[type]:
    """Return the exceptions and warnings of `chainrule.errors`, in their order there."""
    found = (v for v in vars(errors).values() if inspect.isclass(v) and issubclass(v, Exception))
    return [v for v in found if _is_own(v, "chainrule.errors")]


def error_page() -> str:
    """Return the page of errors: docstrings, and the messages that their examples raise now."""
    lines = ["# Errors", "", inspect.getdoc(errors) or "", ""]
    for kind in error_classes():
        bases = ", ".join(f"`{b.__name__}`" for b in kind.__bases__)
        text = (inspect.getdoc(kind) or "").split(">>>")[0]
        lines += [f"## `{kind.__name__}` {{ #{kind.__name__} }}", "", markdown(text, {}), f"A kind of {bases}.", ""]
        examples = doctest.DocTestParser().get_examples(inspect.getdoc(kind) or "")
        if examples:
            lines += ["```pycon", *run(examples), "```", ""]
    return "\n".join(lines)


def run(examples: list[doctest.Example]) -> Iterator[str]:
    """Run examples in an empty folder; yield them with what they print or raise, messages in full."""
    names: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for example in examples:
            first, *rest = example.source.rstrip().splitlines()
            yield from [f">>> {first}", *(f"... {line}" for line in rest)]
            printed = io.StringIO()
            try:
                with contextlib.redirect_stdout(printed):
                    exec(compile(example.source, "<example>", "single"), names)
            except (errors.ChainruleError, errors.RetraceWarning) as error:
                yield from ["Traceback (most recent call last):", "  ..."]
                if isinstance(error, errors.ChainruleError):
                    error.location = ""  # it would be a line of this file
                yield from textwrap.wrap(f"{type(error).__name__}: {error}", 100)
            yield from printed.getvalue().splitlines()


def pages() -> dict[str, str]:
    """Return every generated page by its file."""
    made = {page_of(m): reference(m) for m in MODULES}
    return made | {"reference/index.md": index(), "errors.md": error_page()}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages to those of MkDocs."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files
