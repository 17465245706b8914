"""The libraries that are compared, each a file of `peers`, and the environments they run in.

A file says in constants what its library needs, and offers ``build(job, mode, threads) -> (step, read)``: ``step()``
is a whole training step, ``read`` makes a number of what it returns. It is imported in the library's own environment
only, so the constants are read from its text.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parents[1]
ENVIRONMENTS = FOLDER / ".peers"


class PeerError(Exception):
    """A library cannot be measured; says why."""


class Peer(NamedTuple):
    """A library.

    Attributes:
        name: of its file.
        title: for tables.
        requires: what is installed, in exact versions; nothing for our own, which runs in this environment.
        modes: how a step can be run.
        image_modes: further ones, for networks of images.
        extra_modes: those that are measured only if asked for.
        caches: environment variables that name the folder of what it compiles.
    """

    name: str
    title: str
    requires: tuple[str, ...]
    modes: tuple[str, ...]
    image_modes: tuple[str, ...] = ()
    extra_modes: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()

    @property
    def ours(self) -> bool:
        return not self.requires

    @property
    def python(self) -> str:
        return sys.executable if self.ours else str(ENVIRONMENTS / self.name / "bin" / "python")


def read(path: Path) -> Peer:
    """The peer of a file, by its constants in capitals."""
    constants: dict[str, Any] = {}
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id.lower()
            if name in Peer._fields:
                constants[name] = ast.literal_eval(statement.value)
    return Peer(path.stem, **constants)


def peers() -> list[Peer]:
    """All, ours first."""
    found = [read(path) for path in sorted((FOLDER / "peers").glob("*.py")) if path.stem != "__init__"]
    return sorted(found, key=lambda peer: not peer.ours)


def install(peer: Peer, say: Callable[[str], None]) -> None:
    """Make the environment of a peer, unless it is there.

    Raises:
        PeerError: it cannot be made.
    """
    folder = ENVIRONMENTS / peer.name
    done, wanted = folder / "installed.txt", "\n".join(peer.requires)
    if peer.ours or (done.exists() and done.read_text() == wanted):
        return
    say(f"installing {', '.join(peer.requires)} in {folder}")
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [peer.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.requires],
    ):
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            lines = made.stderr.strip().splitlines() or ["no reason given"]
            raise PeerError(f"{peer.title} is left out, it cannot be installed: {lines[-1]}")
    done.write_text(wanted)
