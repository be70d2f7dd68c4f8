"""Variables from files: what a process really has, and what is said of files that can't be used."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import attrs
import pytest

from machine_lifecycle.model.processes import Command, EnvFile, ProcessSpec, Role
from machine_lifecycle.supervisor import spawn
from machine_lifecycle.supervisor.env_files import read_env_files
from machine_lifecycle.supervisor.errors import EnvFilesUnusable
from tests.support.patience import PATIENCE

_TELL = "import json, os; print(json.dumps(dict(os.environ)))"
SECRET = "canary-1742"


def variables(command: Command, folder: Path) -> dict[str, str]:
    """What a process that is started with this command finds in its environment."""
    env = spawn.environment(
        "one", command, {"PATH": os.defpath, "FROM": "base", "KEPT": "base"}, lambda _: None, "t"
    )
    path = folder / "out"
    with path.open("wb") as out:
        child = spawn.run("one", command, env, output=out.fileno())
        assert child.wait(timeout=PATIENCE) == 0
    return dict(json.loads(path.read_text("utf-8")))


def with_files(folder: Path, *files: EnvFile, **env: str) -> Command:
    return Command(argv=(sys.executable, "-c", _TELL), cwd=folder, env=env, env_files=files)


def test_a_process_has_what_its_files_say(tmp_path: Path) -> None:
    (tmp_path / "first.env").write_text(
        "# a comment\n\nFROM=first\nexport EXPORTED=yes\nQUOTED='a # b'\nTWO=\"a\\nb\"\n"
        "PLAIN=$HOME ${FROM}\nEMPTY=\n",
        encoding="utf-8",
    )
    (tmp_path / "second.env").write_text("FROM=second\nPORT=1\nLATE=ü\n", encoding="utf-8")
    files = (
        EnvFile(Path("first.env")),
        EnvFile(tmp_path / "second.env"),
        EnvFile(Path("absent.env"), required=False),
    )
    found = variables(with_files(tmp_path, *files, PORT="8188"), tmp_path)
    assert found["FROM"] == "second", "the last file counts, and more than what is inherited"
    assert found["PORT"] == "8188", "what the plan says counts more than any file"
    assert found["KEPT"] == "base"
    assert found["EXPORTED"] == "yes"
    assert found["QUOTED"] == "a # b"
    assert found["TWO"] == "a\nb"
    assert found["PLAIN"] == "$HOME ${FROM}", "nothing is expanded"
    assert found["EMPTY"] == ""
    assert found["LATE"] == "ü"


def test_all_that_is_wrong_is_told_at_once_and_no_value(tmp_path: Path) -> None:
    (tmp_path / "broken.env").write_text(f"GOOD=1\n\n{SECRET}\n='{SECRET}'\n", encoding="utf-8")
    (tmp_path / "bytes.env").write_bytes(b"NAME=\xff\xfe\n")
    (tmp_path / "folder.env").mkdir()
    names = ("broken.env", "absent.env", "bytes.env", "folder.env")
    command = with_files(tmp_path, *(EnvFile(Path(name)) for name in names))
    with pytest.raises(EnvFilesUnusable) as caught:
        read_env_files("one", command)
    error = caught.value
    assert error.code == "env-files-unusable"
    first, second, absent, encoding, folder = error.problems
    assert first == f"{tmp_path / 'broken.env'}, line 3, is not `NAME=value`"
    assert second == f"{tmp_path / 'broken.env'}, line 4, is not `NAME=value`"
    assert absent == f"{tmp_path / 'absent.env'} is not there"
    assert "bytes.env can't be read" in encoding
    assert "folder.env can't be read" in folder
    assert SECRET not in str(error)
    assert SECRET not in repr(error)


def test_a_process_would_start_differently_when_a_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "a.env"
    command = with_files(tmp_path, EnvFile(Path("a.env"), required=False))
    spec = ProcessSpec(name="one", role=Role.SERVICE, command=command)

    def digest(spec: ProcessSpec) -> str:
        return spawn.digest(spec, lambda _: None)

    without = digest(spec)
    file.write_text(f"TOKEN={SECRET}\n", encoding="utf-8")
    there = digest(spec)
    assert there != without
    assert SECRET not in there
    file.write_text("TOKEN=other\n", encoding="utf-8")
    assert digest(spec) not in (there, without)
    plain = attrs.evolve(spec, command=attrs.evolve(command, env_files=()))
    assert digest(plain) not in (there, without)
