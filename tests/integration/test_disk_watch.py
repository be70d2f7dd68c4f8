"""The watch of the workspace's disk, on a small disk of its own and around a real machine."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from machine_lifecycle.assembly.disk import DiskWatch
from tests.support.outside import Outside, machines
from tests.support.pages import asked, until
from tests.support.patience import PATIENCE
from tests.support.small_disk import hung_disk

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

    def __init__(self, folder: Path, low: int, full: int, patience: float = PATIENCE) -> None:
        self.said: list[str] = []
        self.held: list[bool] = []
        self.heard = asyncio.Event()
        self.watch = DiskWatch(
            folder=folder,
            low=low,
            full=full,
            raise_condition=lambda kind, _, words: self.hear(f"{kind}: {words}"),
            clear_condition=lambda kind: self.hear(f"no {kind}"),
            hold=self.held.append,
            patience=patience,
        )

    def hear(self, words: str) -> None:
        self.said.append(words)
        self.heard.set()


async def test_a_disk_that_fills_up_alarms_then_holds_and_lets_go_again(disk: Path) -> None:
    told = Told(disk, low=16 * MIB, full=8 * MIB)
    filler = disk / "filler"

    async def fill(mib: int) -> None:
        filler.write_bytes(bytes(mib * MIB))
        await told.watch.look()

    await told.watch.look()
    assert (told.said, told.held) == ([], [])
    assert told.watch.free == 32 * MIB
    await fill(17)
    assert told.said == [f"disk_low: 15 MiB are free on the disk of {disk}"]
    await fill(18)
    assert len(told.said) == 1, "it is not said again"
    await fill(25)
    assert told.held == [True]
    assert told.said[-1].endswith("no further jobs are taken until it is 9 MiB")
    await fill(24)
    assert told.held == [True], "a hair above the mark is not enough"
    await fill(22)
    assert told.held == [True, False]
    assert told.said[-1] == f"disk_low: 10 MiB are free on the disk of {disk}"
    filler.unlink()
    await told.watch.look()
    assert told.said[-1] == "no disk_low"


async def test_both_can_be_switched_off(disk: Path) -> None:
    told = Told(disk, low=0, full=0)
    (disk / "filler").write_bytes(bytes(32 * MIB))
    await told.watch.look()
    assert (told.said, told.held) == ([], [])


async def test_a_disk_that_can_not_be_seen_is_no_alarm(tmp_path: Path) -> None:
    told = Told(tmp_path / "gone", low=MIB, full=MIB)
    await told.watch.look()
    assert (told.said, told.held) == ([], [])


async def test_a_file_system_that_does_not_answer_holds_up_jobs_alone(tmp_path: Path) -> None:
    with hung_disk(tmp_path / "hung") as (folder, answer):
        told = Told(folder, low=MIB, full=MIB, patience=0.1)
        told.watch.start()
        async with asyncio.timeout(PATIENCE):  # the loop goes on, or this could not end
            await told.heard.wait()
        (words,) = told.said
        assert words.startswith(f"disk_hung: the file system of {folder} has not answered for")
        assert told.held == [True]
        asking = [one for one in threading.enumerate() if one.name == "disk watch"]
        assert len(asking) == 1
        told.heard.clear()
        answer()
        async with asyncio.timeout(PATIENCE):
            await told.heard.wait()
        assert (told.said[1:], told.held) == (["no disk_hung"], [True, False])
        await told.watch.close()


async def test_a_watch_ends_while_its_file_system_hangs(tmp_path: Path) -> None:
    with hung_disk(tmp_path / "hung") as (folder, _):
        told = Told(folder, low=MIB, full=MIB, patience=0.1)
        told.watch.start()
        async with asyncio.timeout(PATIENCE):
            await told.heard.wait()
            await told.watch.close()
        (asking,) = (one for one in threading.enumerate() if one.name == "disk watch")
        assert asking.daemon, "the program's end would wait for it"
    asking.join(PATIENCE)
    assert not asking.is_alive()


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
