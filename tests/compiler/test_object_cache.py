from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chainrule.compiler import objects
from chainrule.compiler.objects import ObjectCache

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="folders have no owners here: there is no cache")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def the_file(folder: Path) -> Path:
    (found,) = folder.glob("*.o")
    return found


def test_what_is_stored_is_loaded(folder):
    cache = ObjectCache(folder)
    assert cache.load("a") is None
    cache.store("a", b"machine code")
    assert cache.load("a") == b"machine code"
    assert ObjectCache(folder).load("a") == b"machine code"
    assert cache.load("b") is None


def test_only_the_user_can_read_and_write(folder):
    ObjectCache(folder).store("a", b"code")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert the_file(folder).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702])
def test_a_folder_that_others_can_write_is_not_used(folder, mode):
    ObjectCache(folder).store("a", b"code")
    folder.chmod(mode)
    cache = ObjectCache(folder)
    assert cache.folder is None
    assert "does not belong to this user alone" in cache.reason
    assert cache.load("a") is None
    cache.store("b", b"code")
    assert len(list(folder.iterdir())) == 1


def test_a_folder_of_another_user_is_not_used(folder, monkeypatch):
    ObjectCache(folder)
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    assert ObjectCache(folder).folder is None


def test_a_link_is_not_used(folder, tmp_path):
    ObjectCache(folder)
    (tmp_path / "link").symlink_to(folder)
    assert ObjectCache(tmp_path / "link").folder is None


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").touch()
    cache = ObjectCache(tmp_path / "file" / "cache")
    assert cache.folder is None
    cache.store("a", b"code")


def damaged(content: bytes) -> list[bytes]:
    middle = len(content) // 2
    flipped = content[:-1] + bytes([content[-1] ^ 1])
    return [
        b"",
        content[:10],
        content[:middle],
        content[:-1],
        content + b"x",
        flipped,
        b"foreign" + content[7:],
        b"\x7fELF" * 50,
    ]


@pytest.mark.parametrize("kind", range(8))
def test_a_damaged_file_is_ignored_and_replaced(folder, kind):
    cache = ObjectCache(folder)
    cache.store("a", b"machine code")
    path = the_file(folder)
    path.write_bytes(damaged(path.read_bytes())[kind])
    assert cache.load("a") is None
    cache.store("a", b"machine code")
    assert cache.load("a") == b"machine code"


def test_a_file_under_another_name_is_ignored(folder):
    cache = ObjectCache(folder)
    cache.store("a", b"machine code")
    the_file(folder).rename(folder / "b.o")
    assert cache.load("b") is None


def test_the_reason_says_what_is_wrong(folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    assert "cannot be made: Not a directory" in ObjectCache(tmp_path / "file" / "cache").reason
    ObjectCache(folder)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # a medium that cannot be written
    assert ObjectCache(folder).reason == f"{folder} cannot be written"


def test_a_folder_that_vanishes_or_cannot_be_written_any_more_is_no_error(folder, monkeypatch):
    cache = ObjectCache(folder)

    def fail(*_):
        raise PermissionError("read-only")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        patch.setattr(os, "unlink", fail)
        cache.store("a", b"code")
    shutil.rmtree(folder)
    cache.store("a", b"code")
    cache.trim()
    assert cache.load("a") is None


def test_the_size_is_bounded_and_the_longest_unread_go_first(folder):
    cache = ObjectCache(folder, limit=10_000)
    for i in range(20):
        cache.store(str(i), bytes(1000))
        os.utime(folder / f"{i}.o", (1000 + i, 1000 + i))
    cache.load("0")  # makes it the one read last
    cache.trim()
    left = sorted(int(path.stem) for path in folder.glob("*.o"))
    assert left[0] == 0
    assert left[1:] == list(range(20 - len(left) + 1, 20))
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 9_000


def test_storing_looks_at_the_size_now_and_then(folder, monkeypatch):
    monkeypatch.setattr(objects, "CHECK_EVERY", 4)
    cache = ObjectCache(folder, limit=10_000)
    for i in range(41):
        cache.store(str(i), bytes(1000))
    assert len(list(folder.glob("*.o"))) < 10


def test_abandoned_temporary_files_are_removed(folder):
    cache = ObjectCache(folder)
    (folder / "old").touch()
    os.utime(folder / "old", (0, 0))
    (folder / "new").touch()
    cache.trim()
    assert [path.name for path in folder.iterdir()] == ["new"]


def test_many_writers_of_one_name(folder):
    contents = [bytes([i]) * 50_000 for i in range(8)]
    ObjectCache(folder).store("a", contents[0])

    def work(content: bytes) -> bool:
        cache = ObjectCache(folder)
        for _ in range(20):
            cache.store("a", content)
            if cache.load("a") not in contents:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, contents))
    assert len(list(folder.iterdir())) == 1


def test_names_depend_on_all_facts():
    facts = [("llvm 1", "cpu"), ("llvm 2", "cpu"), ("llvm 1", "other"), ("llvm 1cpu", "")]
    names = [objects.namer(*some)(key) for some in facts for key in ("key", "key 2")]
    assert len(set(names)) == len(names)
    assert objects.namer("llvm 1", "cpu")("key") == names[0]


def test_names_depend_on_the_sources(monkeypatch):
    before = objects.namer("cpu")("key")
    monkeypatch.setattr(objects, "_sources", lambda: b"other sources")
    assert objects.namer("cpu")("key") != before


def test_environment(folder, monkeypatch):
    monkeypatch.delenv("CHAINRULE_CACHE", raising=False)
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(folder))
    assert objects.open_cache().folder == folder
    monkeypatch.delenv("CHAINRULE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    assert objects.open_cache().folder == folder / "chainrule"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(folder))
    assert objects.open_cache().folder == folder / ".cache" / "chainrule"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert objects.open_cache().folder == folder / ".cache" / "chainrule"
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", "named")
    assert objects.open_cache().folder == folder / "named"  # also when the process is somewhere else
    monkeypatch.setenv("CHAINRULE_CACHE", "0")
    off = objects.open_cache()
    assert off.folder is None
    assert "CHAINRULE_CACHE" in off.reason


RUN = """
import numpy as np
from tiny_kernels import address, affine
from test_engine import call
from chainrule.compiler import engine
keys = [f"cached {i}" for i in range(5)]
for key in keys:
    x, out = call(address(affine(key=key)), 9)
    assert (out == x * 2 + 1).all()
now = engine.statistics()
print(now.compiled, now.loaded, now.cache)
"""


def in_new_process(folder: Path, **more: str) -> subprocess.Popen[str]:
    env = {k: v for k, v in os.environ.items() if k != "CHAINRULE_CACHE"}
    env |= {"CHAINRULE_CACHE_DIR": str(folder), "PYTHONPATH": str(HERE)} | more
    return subprocess.Popen([sys.executable, "-c", RUN], env=env, text=True, stdout=subprocess.PIPE)


def output(process: subprocess.Popen[str]) -> list[str]:
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return text.split()


def test_a_second_process_compiles_nothing_and_repairs_what_is_damaged(folder):
    assert output(in_new_process(folder)) == ["5", "0", str(folder)]
    assert output(in_new_process(folder)) == ["0", "5", str(folder)]
    first, second, *_ = sorted(folder.glob("*.o"))
    first.write_bytes(first.read_bytes()[:-20])
    second.write_bytes(b"something else")
    assert output(in_new_process(folder)) == ["2", "3", str(folder)]
    assert output(in_new_process(folder)) == ["0", "5", str(folder)]
    assert output(in_new_process(folder, CHAINRULE_CACHE="0")) == ["5", "0", "None"]


def test_processes_may_fill_the_cache_at_once(folder):
    for process in [in_new_process(folder) for _ in range(3)]:
        output(process)
    assert output(in_new_process(folder)) == ["0", "5", str(folder)]
