"""No script of a pack's moves what the lock says, be it for torch, ComfyUI or another pack."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from machine_lifecycle.installers.lock import parse_lock
from machine_lifecycle.installers.package_errors import PackagesChanged, TorchChanged
from tests.support.comfyui_bed import bundled_pip
from tests.support.lock_bed import served
from tests.support.locked_machine import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with served(tmp_path) as place:
        bundled_pip(tmp_path / "wheels")
        yield Machine(place)


def lists(machine: Machine, **scripts: str) -> None:
    """Two packs, of which each has a script, or none."""
    nodes: list[dict[str, Any]] = []
    for name, line in (("a", "thing<2.1\n"), ("b", "small\n")):
        machine.place.origin(name, requirements__txt=line)
        url = machine.place.pack(name).repository.url
        node = {"name": name, "url": url, "requirements": True}
        nodes.append(node | ({"custom_script": scripts[name]} if name in scripts else {}))
    (machine.root / "config_nodes.json").write_text(json.dumps(nodes))


LOOSE = "env -u PIP_CONSTRAINT -u UV_CONSTRAINT PIP_CONFIG_FILE=/dev/null pip"


async def test_a_script_that_moves_what_another_pack_needs_is_named_and_all_is_put_back(
    machine: Machine,
) -> None:
    lists(machine, b=f"{LOOSE} install --upgrade thing && {LOOSE} uninstall --yes requests")
    run = await machine.boots()
    (failed,) = run.failures
    assert failed.subject == "b"
    assert isinstance(failed.error, PackagesChanged)
    assert not isinstance(failed.error, TorchChanged)
    assert failed.error.summary == (
        "b changed requests==1.0 to nothing, thing==2.0 to thing==2.1; all was put back"
    )
    lock = parse_lock(machine.own_lock.read_text("utf-8"), machine.own_lock)
    assert await machine.proved(lock) == []


async def test_torch_is_told_by_a_code_of_its_own(machine: Machine) -> None:
    lists(machine, b=f"{LOOSE} install --upgrade torch thing")
    run = await machine.boots()
    (failed,) = run.failures
    assert isinstance(failed.error, TorchChanged)
    assert set(failed.error.before) == {"torch==2.0", "thing==2.0"}
    lock = parse_lock(machine.own_lock.read_text("utf-8"), machine.own_lock)
    assert await machine.proved(lock) == []


@pytest.mark.parametrize(
    "script",
    [
        "pip install --upgrade thing",
        "env -i $PYTHON -m pip install --upgrade thing --index-url $PIP_INDEX_URL",
        "env -u PIP_CONSTRAINT pip install --upgrade thing",
        """$PYTHON -c 'import subprocess, sys
subprocess.run([sys.executable, "-m", "pip", "install", "--upgrade", "thing"], check=True)'""",
    ],
)
async def test_a_script_that_asks_for_more_gets_what_is_locked(
    machine: Machine, script: str
) -> None:
    lists(machine, b=script)
    run = await machine.boots()
    assert [one.error for one in run.failures] == []
    assert machine.versions()["thing"] == "2.0"


async def test_what_was_moved_after_the_boot_is_put_back_by_the_next(machine: Machine) -> None:
    lists(machine)
    await machine.boots()
    python = machine.home / "venv" / "bin" / "python"
    index = machine.place.environ["UV_DEFAULT_INDEX"]
    words = ("--upgrade", "thing", "--index-url", index, "--isolated")
    environ = {"PIP_CONFIG_FILE": "/dev/null"}
    argv = [str(python), "-m", "pip", "install", *words]
    await asyncio.to_thread(subprocess.run, argv, env=environ, check=True)
    assert machine.versions()["thing"] == "2.1"
    again = await machine.boots()
    done = {one.step for one in again.outcomes if one.status.value == "done"}
    assert "node packages" in done
    again_for_nothing = {"clone", "torch", "requirements", "node a clone", "node b clone"}
    assert not done & (again_for_nothing | {"node a script", "node b script"})
    assert machine.versions()["thing"] == "2.0"


async def test_another_lock_is_not_held_back_by_what_was_protected(machine: Machine) -> None:
    lists(machine)
    await machine.boots()
    machine.own_lock.unlink()
    machine.place.origin("c", requirements__txt="thing>=2.1\n")
    machine.lists("c")
    await machine.boots()
    assert machine.versions()["thing"] == "2.1"
    held = (machine.home / ".machine-lifecycle" / "protected.txt").read_text()
    assert "thing==2.1" in held
