"""A machine as a guest: in a loop of somebody else's, which it leaves as it found it."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from machine_lifecycle import LifecycleError, Machine, MachineState, Settings, open_job_queue
from tests.e2e.test_life import GRAPH
from tests.support.ports import free_port

_GET_CHILD_SUBREAPER = 37  # prctl.h
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP, signal.SIGPIPE)


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ml-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def host() -> dict[str, Any]:
    """What belongs to the program that a machine is a guest in."""
    reaper = ctypes.c_int()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_GET_CHILD_SUBREAPER, ctypes.byref(reaper), 0, 0, 0)
    root, ours = logging.getLogger(), logging.getLogger("machine_lifecycle")
    return {
        "handlers of signals": [signal.getsignal(number) for number in _SIGNALS],
        "reaper of orphans": reaper.value,
        "logging": (list(root.handlers), root.level, list(ours.handlers), ours.level),
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook),
        "environment": dict(os.environ),  # noqa: TID251 - that it is not touched
        "folder": Path.cwd(),
    }


async def life(home: Path, at_ready: Callable[[], None] = lambda: None) -> str:
    """Boot, one job, drain, stop; what became of the job."""
    settings = Settings(
        workers="simulation:1",
        workspace=home / "w",
        runtime_dir=home / "r",
        health_port=0,
        simulation_base_port=free_port(),
    )
    async with Machine.open(settings) as machine:
        await machine.boot()
        await machine.boot()  # it is ready: nothing is to be waited for
        at_ready()
        async with open_job_queue(machine.queue_url) as queue:
            job = await queue.submit({"workflow": GRAPH}, service_required="simulation")
            (ended,) = [event async for event in queue.watch(job) if event.kind == "completed"]
        await machine.drain()
    assert machine.state is MachineState.STOPPED
    return ended.kind


def test_a_life_leaves_its_host_as_it_was(home: Path) -> None:
    before = host()

    async def main() -> None:
        inside = host()  # asyncio.run itself has a handler of SIGINT
        seen: list[dict[str, Any]] = []
        assert await life(home, lambda: seen.append(host())) == "completed"
        assert seen == [inside], "it changes nothing while it lives, either"
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert host() == before


def test_a_machine_that_is_closed_boots_no_more(home: Path) -> None:
    async def late() -> None:
        async with Machine.open(Settings(workspace=home / "w", runtime_dir=home / "r")) as machine:
            pass
        with pytest.raises(LifecycleError, match="the machine is closed"):
            await machine.boot()
        assert not (home / "r" / "processes.json").exists(), "nothing was started"

    asyncio.run(late())


def test_a_second_life_in_the_same_process(home: Path) -> None:
    async def twice() -> list[str]:
        return [await life(home / "one"), await life(home / "one")]

    assert asyncio.run(twice()) == ["completed", "completed"]


def test_two_at_once_each_in_a_thread_with_a_loop_of_its_own(home: Path) -> None:
    ended: dict[str, str] = {}
    threads = [
        threading.Thread(
            target=lambda name=name: ended.update({name: asyncio.run(life(home / name))}),
            name=name,
        )
        for name in ("one", "two")
    ]
    before, living = host(), threading.active_count()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == {"one": "completed", "two": "completed"}
    assert host() == before
    assert threading.active_count() == living
