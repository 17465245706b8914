"""Object code on disk, in a folder of the user's own, so that a second process compiles nothing.

Who may write the folder decides what is run, so it is used only if it belongs to the user and nobody else can write to
it; the checksum is no protection, it finds files that are cut off, damaged or under a name that is not theirs. A name
says all that the code depends on: the kernel, the compiler's sources, LLVM, the processor. So entries never go stale,
and only the size of the folder has to be bounded.

Environment: ``CHAINRULE_CACHE=0`` turns it off, ``CHAINRULE_CACHE_DIR`` says where it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import system

MAGIC = b"chainrule object 2\n"
LIMIT = 256 << 20  # bytes on disk
CHECK_EVERY = 64  # files that a process stores between two looks at the size of the folder
TOUCH_AFTER = 24 * 3600.0  # seconds; that an entry was read is noted if the last note is older
ABANDONED = 3600.0  # seconds after which a temporary file is no longer being written
_SUFFIX = ".o"


class ObjectCache:
    """A folder of objects by name; a folder of None holds nothing.

    Attributes:
        folder: where; None if there is no cache.
        reason: why there is none.
    """

    def __init__(self, folder: Path | None, reason: str = "", limit: int = LIMIT) -> None:
        if folder is not None:
            reason = system.unusable(folder)
        if reason:
            folder = None
        self.folder = folder
        self.reason = reason
        self._limit = limit
        self._stored = 0

    def load(self, name: str) -> bytes | None:
        """The object of this name; None if it is absent or damaged."""
        if self.folder is None:
            return None
        path = self.folder / (name + _SUFFIX)
        try:
            with open(path, "rb") as file:
                content = file.read()
                read = os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        found = _unwrap(name, content)
        if found is not None and time.time() - read > TOUCH_AFTER:
            with contextlib.suppress(OSError):
                os.utime(path)  # access times are often not kept
        return found

    def store(self, name: str, data: bytes) -> None:
        """Keep an object, replacing what has this name. A full disk is no error: it is compiled again next time."""
        if self.folder is None:
            return
        temporary = None
        try:
            number, temporary = tempfile.mkstemp(dir=self.folder)  # for the user alone
            with open(number, "wb") as file:
                file.write(_wrap(name, data))
            os.replace(temporary, self.folder / (name + _SUFFIX))  # atomic: a reader sees the old or the new one
        except OSError:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            return
        if self._stored % CHECK_EVERY == 0:
            self.trim()
        self._stored += 1

    def trim(self) -> None:
        """Remove entries, those longest unread first, until a tenth of the limit is free; and abandoned files."""
        if self.folder is None:
            return
        entries, total, now = [], 0, time.time()
        with contextlib.suppress(OSError):
            for entry in os.scandir(self.folder):
                with contextlib.suppress(OSError):  # another process may have removed it
                    info = entry.stat(follow_symlinks=False)
                    if entry.name.endswith(_SUFFIX):
                        entries.append((info.st_mtime, info.st_size, entry.path))
                        total += info.st_size
                    elif now - info.st_mtime > ABANDONED:
                        os.unlink(entry.path)
        if total <= self._limit:
            return
        for _, size, path in sorted(entries):
            if total <= self._limit * 0.9:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size


def _wrap(name: str, data: bytes) -> bytes:
    return MAGIC + hashlib.sha256(name.encode() + data).digest() + data


def _unwrap(name: str, content: bytes) -> bytes | None:
    data = content[len(MAGIC) + hashlib.sha256().digest_size :]
    return data if content == _wrap(name, data) else None


def open_cache() -> ObjectCache:
    """The cache of the user, as the environment says."""
    if os.environ.get("CHAINRULE_CACHE") == "0":
        return ObjectCache(None, "CHAINRULE_CACHE is 0")
    folder = system.cache_folder()
    return ObjectCache(folder, "there is no home folder" if folder is None else "")


def namer(*facts: str) -> Callable[[str], str]:
    """A function that names the object of a kernel by its key, given what all objects depend on.

    Raises:
        OSError: the compiler's sources cannot be read.
    """
    start = hashlib.sha256(_sources())
    for fact in facts:
        start.update(fact.encode() + b"\0")

    def name(key: str) -> str:
        digest = start.copy()
        digest.update(key.encode())
        return digest.hexdigest()

    return name


def _sources() -> bytes:
    """A digest of the sources of the compiler."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.digest()
