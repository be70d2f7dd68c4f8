"""A Python without what this version needs, as after a pull that brought a new dependency.

With ``-S`` a Python has no packages that are installed; ours is found by its folder.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from machine_lifecycle.errors import ExitCode
from tests.support.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]


def bare(*words: str, folders: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", "-m", "machine_lifecycle", *words],
        env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(map(str, (*folders, ROOT)))},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize(("words", "module"), [(("ps",), "click"), (("redis-worker",), "attrs")])
def test_it_says_which_and_what_brings_it(words: tuple[str, ...], module: str) -> None:
    done = bare(*words)
    assert done.returncode == ExitCode.CONFIGURATION
    first, _, command = done.stderr.splitlines()
    assert (
        first
        == f"error this version needs the Python module {module}, which {sys.executable} has not"
    )
    argv = [sys.executable, "-m", "pip", "install", "--editable", str(ROOT)]
    assert shlex.split(command) == argv


def test_what_others_import_is_not_blamed_on_ours(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import nothing_of_ours\n", encoding="utf-8")
    done = bare("ps", folders=(tmp_path,))
    assert "No module named 'nothing_of_ours'" in done.stderr
    assert "pip install" not in done.stderr
