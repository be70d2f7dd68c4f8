"""Services on a volume that machines share: installed once, by one at a time, used by all."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.lock_bed import served
from tests.support.patience import PATIENCE
from tests.support.person import Person


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    with served(tmp_path) as place:
        yield Person(place)


def machine(person: Person, name: str) -> dict[str, str]:
    """What a machine of this name has of its own, and what it shares."""
    root = person.place.root
    return {
        "WORKERS": "comfyui:1",
        "WORKSPACE_PATH": str(root / name),
        "MACHINE_RUNTIME_DIR": str(root / f"{name}-run"),
        "MACHINE_SERVICES_PATH": str(root / "volume"),
    }


def test_one_installs_and_the_other_waits_and_finds_it_done(person: Person) -> None:
    # Its build waits for the other machine, so that both are there at once.
    person.place.origin("a", requirements__txt="small\n")
    script = "touch began; while [ ! -e go ]; do sleep 0.05; done"
    person.lists("a", custom_script=script, required=True)
    folder = person.place.root / "volume" / "ComfyUI" / "custom_nodes" / "a"
    first = person.starts("--json", command="install", **machine(person, "one"))
    assert first.stderr is not None
    for line in first.stderr:
        if "run its scripts" in line:
            break
    second = person.starts("--json", command="install", **machine(person, "two"))
    assert second.stderr is not None
    waited = next(line for line in second.stderr if "another machine" in line)
    assert waited.startswith("comfyui: another machine installs comfyui here")
    (folder / "go").touch()
    one, _ = first.communicate(timeout=PATIENCE)
    two, _ = second.communicate(timeout=PATIENCE)
    assert (first.returncode, second.returncode) == (0, 0)
    assert json.loads(one)["done"] > 0
    assert json.loads(two)["done"] == 0
    for name in ("one", "two"):
        proof = person.calls(command="verify", **machine(person, name))
        assert proof.returncode == 0, proof.stderr
        assert not (person.place.root / name / "ComfyUI").exists()


def test_what_a_killed_machine_left_running_is_waited_for(person: Person) -> None:
    person.place.origin("a", requirements__txt="small\n")
    script = "echo $$ >pid; while [ ! -e go ]; do sleep 0.05; done; echo whole >made"
    person.lists("a", custom_script=script, required=True)
    folder = person.place.root / "volume" / "ComfyUI" / "custom_nodes" / "a"
    with person.starts(command="install", **machine(person, "one")) as first:
        assert first.stderr is not None
        for line in first.stderr:
            if "run its scripts" in line:
                break
        while not (folder / "pid").exists() or not (folder / "pid").read_text().strip():
            time.sleep(0.02)  # sleep: files offer no event
        first.send_signal(signal.SIGKILL)
        first.wait()
        left = int((folder / "pid").read_text())
        assert psutil.pid_exists(left)
        second = person.starts("--json", command="install", **machine(person, "two"))
        assert second.stderr is not None
        assert next(line for line in second.stderr if "another machine" in line)
        (folder / "go").touch()
        _, told = second.communicate(timeout=PATIENCE)
        assert second.returncode == 0, told
    assert (folder / "made").read_text() == "whole\n"
    assert _has_ended(left)


def _has_ended(pid: int) -> bool:
    """Whether a process runs no more; who inherited it may not have looked at that yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
