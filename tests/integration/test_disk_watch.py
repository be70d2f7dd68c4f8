"""The watch of the workspace's disk, on a small disk of its own and around a real machine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from machine_lifecycle.assembly.disk import DiskWatch
from tests.support.outside import Outside, machines
from tests.support.pages import asked, until

MIB = 1 << 20
GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": 255},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "p"}},
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 MiB."""
    mount = ["/bin/mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield tmp_path
    subprocess.run(["/bin/umount", str(tmp_path)], check=True)


class Told:
    """What a watch says."""

    def __init__(self, folder: Path, low: int, full: int) -> None:
        self.said: list[str] = []
        self.held: list[bool] = []
        self.watch = DiskWatch(
            folder=folder,
            low=low,
            full=full,
            raise_condition=lambda kind, _, words: self.said.append(f"{kind}: {words}"),
            clear_condition=lambda kind: self.said.append(f"no {kind}"),
            hold=self.held.append,
        )


def test_a_disk_that_fills_up_alarms_then_holds_and_lets_go_again(disk: Path) -> None:
    told = Told(disk, low=16 * MIB, full=8 * MIB)
    filler = disk / "filler"

    def fill(mib: int) -> None:
        filler.write_bytes(bytes(mib * MIB))
        told.watch.look()

    told.watch.look()
    assert (told.said, told.held) == ([], [])
    assert told.watch.free == 32 * MIB
    fill(17)
    assert told.said == [f"disk_low: 15 MiB are free on the disk of {disk}"]
    fill(18)
    assert len(told.said) == 1, "it is not said again"
    fill(25)
    assert told.held == [True]
    assert told.said[-1].endswith("no further jobs are taken until it is 9 MiB")
    fill(24)
    assert told.held == [True], "a hair above the mark is not enough"
    fill(22)
    assert told.held == [True, False]
    assert told.said[-1] == f"disk_low: 10 MiB are free on the disk of {disk}"
    filler.unlink()
    told.watch.look()
    assert told.said[-1] == "no disk_low"


def test_both_can_be_switched_off(disk: Path) -> None:
    told = Told(disk, low=0, full=0)
    (disk / "filler").write_bytes(bytes(32 * MIB))
    told.watch.look()
    assert (told.said, told.held) == ([], [])


def test_a_disk_that_can_not_be_seen_is_no_alarm(tmp_path: Path) -> None:
    told = Told(tmp_path / "gone", low=MIB, full=MIB)
    told.watch.look()
    assert (told.said, told.held) == ([], [])


@pytest.fixture
def outside() -> Iterator[Callable[..., Outside]]:
    with machines() as make:
        yield make


def test_workers_of_a_full_machine_take_no_jobs_and_it_says_so(
    outside: Callable[..., Outside],
) -> None:
    machine = outside(MACHINE_DISK_FULL_MB="1000000000").start()
    machine.until("machine_ready")
    graph = machine.folder / "graph.json"
    graph.write_text(json.dumps(GRAPH), encoding="utf-8")
    job = machine.call("submit", str(graph)).stdout.strip()
    report = json.loads(machine.call("status", "--json").stdout)
    (condition,) = report["conditions"]
    assert condition["kind"] == "disk_low"
    assert "no further jobs are taken" in condition["reason"]
    assert report["disk_free"] > 0
    url = report["health_url"]
    status = until(
        lambda: asked(f"{url}/status"),
        lambda answer: answer[1]["workers"][0]["status"] == "paused",
        machine.said,
    )
    assert status["workers"][0]["connected"], "it stays registered"
    shown = json.loads(machine.call("jobs", "show", job, "--json").stdout)
    assert shown["status"] == "pending"
