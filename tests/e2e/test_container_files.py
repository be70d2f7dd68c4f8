"""The files in examples/docker say what is true, and the machine runs as the user they make."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from machine_lifecycle.model.settings import setting_info
from tests.support.outside import Outside, machines
from tests.support.patience import PATIENCE
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "examples" / "docker").glob("Dockerfile*"))
SETTINGS = {name for info in setting_info() for name in info.env}


def instructions(path: Path) -> list[tuple[str, str]]:
    """Instruction and argument of each line, continued lines joined, comments left out."""
    text = re.sub(r"(?m)^\s*#.*\n", "", path.read_text(encoding="utf-8"))
    lines = text.replace("\\\n", " ").splitlines()
    return [
        (word, rest.strip()) for line in lines if line for word, _, rest in [line.partition(" ")]
    ]


def health_command(path: Path) -> list[str]:
    health = next(rest for word, rest in instructions(path) if word == "HEALTHCHECK")
    command: list[str] = json.loads(health.partition("CMD ")[2])
    return command


@pytest.fixture
def outside() -> Iterator[Callable[..., Outside]]:
    with machines() as make:
        yield make


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_image_runs_as_a_user_from_the_first_process_on(path: Path) -> None:
    said = instructions(path)
    words = [word for word, _ in said]
    assert ("USER", "machine") in said
    assert words.index("USER") < words.index("ENTRYPOINT")
    entry = json.loads(next(rest for word, rest in said if word == "ENTRYPOINT"))
    assert entry == ["machine-lifecycle", "--init"]
    assert "/live" in " ".join(health_command(path))
    variables = next(rest for word, rest in said if word == "ENV")
    names = set(re.findall(r"(\w+)=", variables)) - {"PATH"}
    assert names
    assert names <= SETTINGS


def test_compose_sets_what_there_is_and_stops_as_slowly_as_the_machine() -> None:
    text = (ROOT / "examples" / "docker" / "compose.yaml").read_text(encoding="utf-8")
    body = text.partition("environment:\n")[2].partition("volumes:")[0]
    names = set(re.findall(r"^ {6}(\w+):", body, re.MULTILINE))
    assert names
    assert names <= SETTINGS
    (stop,) = re.findall(r'MACHINE_STOP_TIMEOUT: "(\d+)"', text)
    (grace,) = re.findall(r"stop_grace_period: (\d+)s", text)
    assert int(grace) > int(stop)
    (dockerfile,) = re.findall(r"dockerfile: (\S+)", text)
    assert (ROOT / dockerfile).is_file()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_health_command_tells_a_machine_from_none(
    path: Path, outside: Callable[..., Outside]
) -> None:
    port = str(free_port())
    machine = outside(MACHINE_HEALTH_PORT=port).start()
    machine.until("step_progressed")
    command = [word.replace("9090", port) for word in health_command(path)]
    command[0] = shutil.which("python3") or command[0]
    assert subprocess.run(command, check=False, timeout=PATIENCE).returncode == 0
    machine.signal(signal.SIGTERM)
    machine.wait()
    quiet = subprocess.DEVNULL
    assert subprocess.run(command, check=False, timeout=PATIENCE, stderr=quiet).returncode != 0


def test_a_machine_of_an_ordinary_user_boots_and_stops(outside: Callable[..., Outside]) -> None:
    """Not by another account, which could not read this checkout: by a user namespace."""
    if os.geteuid() != 0:
        pytest.skip("every other test runs as an ordinary user here")
    become = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    if subprocess.run([*become, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespace can be made here")
    machine = outside()
    machine.start(before=become)
    machine.until("machine_ready")
    report = json.loads(machine.call("status", "--json").stdout)
    assert report["state"] == "ready"
    status = Path(f"/proc/{report['pid']}/status").read_text(encoding="utf-8")
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE), "it may do nothing that root may"
    machine.signal(signal.SIGTERM)
    assert machine.wait() == 0
    machine.reap()
    assert machine.running() == []
