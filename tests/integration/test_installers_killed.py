"""An installation that is killed at every step, and in the middle of git and uv, then run again."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.comfyui_bed import Bed, make_bed, modules, wheel
from tests.support.git_server import Origin
from tests.support.installation import write_settings
from tests.support.outside import subreaper
from tests.support.patience import PATIENCE

ROOT = Path(__file__).parents[2]
STEPS = (
    *("preflight", "clone", "environment", "torch", "requirements", "folders", "verify"),
    *("node Pack clone", "node Pack env", "node Pack packages", "node Pack script"),
)

LOCKED = ("lock", *STEPS[:7], "node packages", *STEPS[7:])
"""Those of a boot that makes a lock, and follows it."""


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    made = make_bed(tmp_path)
    wheel(made.wheels, "extra", "1.0")
    made.listed(
        {
            "name": "Pack",
            "url": made.pack("pack", requirements__txt="small\nextra\n"),
            "requirements": True,
            "env": {"HF_TOKEN": "${HF_TOKEN}"},
            "custom_script": "echo once >> made",
        }
    )
    write_settings(made)
    return made


@contextmanager
def installing(bed: Bed) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "tests.support.installation", str(bed.root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        yield child


def killed_after(bed: Bed, words: set[str]) -> list[str]:
    """Install until one of *words* is said, then kill; all that was said."""
    said = []
    with installing(bed) as child:
        assert child.stdout is not None
        for line in child.stdout:
            said.append(line.strip())
            if said[-1] in words:
                child.send_signal(signal.SIGKILL)
    return said


def to_its_end(bed: Bed) -> list[str]:
    with installing(bed) as child:
        out, _ = child.communicate(timeout=120)
    assert child.returncode == 0
    return out.split("\n")[:-1]


def steps(said: list[str], word: str) -> set[str]:
    return {line.removeprefix(f"{word} ") for line in said if line.startswith(f"{word} ")}


def check_whole(bed: Bed, every: Sequence[str] = STEPS) -> None:
    """All that an undisturbed installation makes is there, once, and nothing half made."""
    assert "small" in modules(bed.home / "venv" / "bin" / "python")
    assert (bed.home / "models" / "checkpoints").is_dir()
    pack = bed.home / "custom_nodes" / "Pack"
    assert (pack / ".env").read_text() == "HF_TOKEN=hf-s3cret\n"
    assert set((pack / "made").read_text().split()) == {"once"}
    left = [
        str(path)
        for path in bed.paths.workspace.rglob("*")
        if path.name.endswith(
            (".machine-lifecycle-clone", ".partial", "index.lock", "shallow.lock", ".history")
        )
        or path.name in {"machine-lifecycle-update", "packages-under-way"}
    ]
    assert left == []
    # A lock that is there is no step any more.
    assert steps(to_its_end(bed), "skipped") == set(every) - {"lock"}


@pytest.mark.parametrize("every", [STEPS, LOCKED], ids=["loose", "locked"])
@pytest.mark.parametrize("word", ["finished", "began"])
def test_killed_at_every_step_it_goes_on_where_it_was(
    bed: Bed, word: str, every: Sequence[str]
) -> None:
    write_settings(bed, COMFYUI_LOCK="make" if every is LOCKED else "off")
    chance = random.Random(word)  # noqa: S311 - where a write is torn, no secret
    done: set[str] = set()
    killed: set[str] = set()
    with subreaper():
        while killed != set(every):
            words = {f"{word} {step}" for step in every if step not in killed}
            said = killed_after(bed, words)
            # What was done stays done, and is done once.
            assert not done & steps(said, "finished"), said
            assert steps(said, word) - killed, said
            killed |= steps(said, word)
            done |= steps(said, "finished") - {"preflight"}  # it looks as long as something is left
            journal = bed.paths.runtime / "install-comfyui.jsonl"
            # As a crash of the machine leaves it: lines that were not written, or by half.
            there = journal.read_bytes()
            torn = there[: chance.randint(len(there) // 2, len(there))]
            journal.write_bytes(torn + b'{"event": "spawn", "pid": 1, "crea\xff\0\n17\n{"ev')
        said = to_its_end(bed)
        assert not done & steps(said, "finished"), said
        check_whole(bed, every)
        assert "extra" in modules(bed.home / "venv" / "bin" / "python")


@pytest.mark.parametrize(
    "torn",
    ["", '{"fingerprint": "x"', "null", "[1]", "\0" * 40],
    ids=["empty", "half", "null", "list", "zeros"],
)
def test_a_stamp_that_was_cut_short_counts_as_none(bed: Bed, torn: str) -> None:
    to_its_end(bed)
    stamps = sorted((bed.home / ".machine-lifecycle" / "stamps").iterdir())
    assert len(stamps) == len(STEPS)
    (lost,) = (path for path in stamps if "env" in path.name and "Pack" in path.name)
    lost.write_text(torn)
    again = to_its_end(bed)
    assert "node Pack env" in steps(again, "finished")
    assert set(STEPS[1:8]) <= steps(again, "skipped")
    check_whole(bed)


def _waits_first(book: Path) -> str:
    """Lines of a shell that stop for ever the first time, after they told their process id."""
    return f"if mkdir {book}.told; then echo $$ > {book}; exec sleep 600; fi 2>/dev/null\n"


def kill_while_it_waits(bed: Bed, book: Path) -> tuple[list[str], psutil.Process]:
    with installing(bed) as child:
        left = psutil.Process(int(book.read_text()))  # it is a pipe: this waits
        child.send_signal(signal.SIGKILL)
        child.wait()
        # It lives on without its parent, and would go on writing.
        assert left.is_running()
        said = to_its_end(bed)
        _, alive = psutil.wait_procs([left], timeout=PATIENCE)
        assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
    return said, left


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A pipe into which a program that waits writes its process id."""
    path = tmp_path / "book"
    os.mkfifo(path)
    return path


def test_killed_inside_a_clone(bed: Bed, book: Path) -> None:
    ssh = bed.root / "ssh"
    ssh.write_text(
        "#!/bin/sh\n" + _waits_first(book) + 'for last; do :; done\nexec sh -c "$last"\n'
    )
    ssh.chmod(0o755)
    listed = json.loads((bed.root / "config_nodes.json").read_text())
    listed["custom_nodes"][0]["url"] = f"git@host.invalid:{bed.root}/packs/pack"
    (bed.root / "config_nodes.json").write_text(json.dumps(listed))
    write_settings(bed, GIT_SSH_COMMAND=str(ssh), GIT_SSH_VARIANT="ssh")
    with subreaper():
        said, _ = kill_while_it_waits(bed, book)
        assert "resumed node Pack clone" in said
        assert steps(said, "skipped") == set(STEPS[1:7])
        check_whole(bed)


def _slow_source(bed: Bed, book: Path) -> None:
    """A package that is built from source by a program of its own, which waits the first time."""
    backend = f"""
import os, pathlib, time, zipfile
book = pathlib.Path({str(book)!r})
INFO = "Metadata-Version: 2.2\\nName: slow\\nVersion: 1.0\\n"
def build_wheel(folder, config_settings=None, metadata_directory=None):
    told = book.with_suffix(".told")
    if not told.exists():
        told.mkdir()
        book.write_text(str(os.getpid()))
        time.sleep(600)
    name = "slow-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("slow.py", "")
        wheel.writestr("slow-1.0.dist-info/METADATA", INFO)
        wheel.writestr("slow-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("slow-1.0.dist-info/RECORD", "")
    return name
"""
    files = {
        "pyproject.toml": '[project]\nname = "slow"\nversion = "1.0"\n[build-system]\n'
        'requires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": backend,
        "PKG-INFO": "Metadata-Version: 2.2\nName: slow\nVersion: 1.0\n",
    }
    with tarfile.open(bed.wheels / "slow-1.0.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"slow-1.0/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))


def test_killed_inside_uv(bed: Bed, book: Path) -> None:
    _slow_source(bed, book)
    pack = Origin(bed.root / "packs" / "slow-pack", requirements__txt="slow\nsmall\n")
    listed = json.loads((bed.root / "config_nodes.json").read_text())
    listed["custom_nodes"][0]["url"] = pack.url
    (bed.root / "config_nodes.json").write_text(json.dumps(listed))
    with subreaper():
        said, _ = kill_while_it_waits(bed, book)
        assert "resumed node Pack packages" in said
        assert steps(said, "skipped") == set(STEPS[1:9])
        assert (bed.site / "slow.py").exists()
        check_whole(bed)
