"""Files that are there whole or not at all, whoever else writes them, however it ends."""

from __future__ import annotations

import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from machine_lifecycle.system.files import replacing, write_atomically

_KILLED = """
import os, signal, sys
from pathlib import Path
from machine_lifecycle.system.files import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_has_its_text_its_rights_and_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_atomically(path, "ä", 0o600)
    assert path.read_bytes() == "ä".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    write_atomically(path, "b", durable=False)
    assert path.read_text() == "b"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert names(path.parent) == ["file"]


def test_one_that_fails_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def write() -> None:
        with replacing(path) as file:
            file.write(b"new")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - its own
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_what_a_killed_writer_left_is_used_up(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    subprocess.run([sys.executable, "-c", _KILLED, str(path)], check=False)
    assert path.read_text() == "old"
    assert len(names(tmp_path)) == 2, "it was killed in the middle"
    write_atomically(path, "n")
    assert path.read_text() == "n"
    assert names(tmp_path) == ["file"]


def test_two_that_write_the_same_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "file"
    texts = ["a" * 1_000, "b" * 200_000]
    write_atomically(path, texts[0])
    seen = set()

    def write(number: int) -> None:
        write_atomically(path, texts[number % 2], durable=False)
        seen.add(path.read_text())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(400)))
    assert seen == set(texts)
    assert names(tmp_path) == ["file"]


def test_a_link_in_its_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / ".file.partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        write_atomically(tmp_path / "file", "x")
    assert not (tmp_path / "elsewhere").exists()
