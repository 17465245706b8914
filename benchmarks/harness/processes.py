"""The parent's end of `child`: start a process that trains, ask it, end it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from .peers import FOLDER, Peer, PeerError


@dataclass(frozen=True)
class Contender:
    """A library in one of its modes."""

    peer: Peer
    mode: str

    @property
    def name(self) -> str:
        return f"{self.peer.title}, {self.mode}"


def our_package() -> Path:
    """The folder of this library, as this process would import it."""
    found = importlib.util.find_spec("chainrule")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).resolve().parent


class Process:
    """A contender at a job.

    Args:
        contender: whose environment and code are used.
        job: the file.
        threads: how many it may use.
        cache: the folder for what it compiles.

    Attributes:
        first_seconds: from the start of the process to its first loss.
        loss: the first.
        idle: the most processor time it used while it waited, as a share of that.
    """

    def __init__(self, contender: Contender, job: Path, threads: int, cache: str) -> None:
        self.name = contender.name
        peer = contender.peer
        environment = os.environ | dict.fromkeys(peer.caches, cache)
        environment["PYTHONPATH"] = str(our_package().parent) if peer.ours else ""
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        start = time.perf_counter()
        # A session of its own, so that Ctrl-C is for the parent alone.
        self._process = subprocess.Popen(
            [peer.python, "-m", "harness.child", peer.name, contender.mode, str(job), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, cwd=FOLDER,
            env=environment, start_new_session=True,
        )  # fmt: skip
        self.idle = 0.0
        try:
            answer = self._answer()
        except BaseException:
            self.close()
            raise
        self.first_seconds = time.perf_counter() - start
        self.loss: float = answer["loss"]

    def ask(self, name: str, argument: float = 0) -> Any:
        assert self._process.stdin is not None
        try:
            print(json.dumps([name, argument]), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise PeerError(f"{self.name}: {self._last_words()}") from None
        answer = self._answer()
        self.idle = max(self.idle, answer["idle"])
        return answer["answer"]

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found = json.loads(line) if line else {"error": self._last_words()}
        if "error" in found:
            raise PeerError(f"{self.name}: {found['error']}")
        return found

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return lines[-1] if lines else f"ended with {self._process.returncode}"

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
