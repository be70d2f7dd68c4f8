"""Processes that must say that they live, and who may say so for them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.processes import NotifyReady, ProcessState, StopPolicy
from machine_lifecycle.supervisor.notify import NotifySocket, notify_path
from machine_lifecycle.system.notify import beat
from tests.integration.test_supervisor_core import House, house, paths, spec, until

__all__ = ["house", "paths"]


async def test_one_that_falls_silent_is_started_anew(house: House, tmp_path: Path) -> None:
    mute = tmp_path / "mute"
    beats = spec("p", "--beat=0.05", f"--mute={mute}", watchdog=2.0)
    await house.supervisor.launch([beats])
    await house.ready("p")
    first = house.status("p").pid
    mute.touch()
    await house.until(lambda: house.status("p").last_exit)
    mute.unlink()
    cause = house.status("p").last_exit
    assert cause is not None
    assert cause.reason == "watchdog: no word for 2 s"
    assert cause.signal == "SIGABRT"
    await house.ready("p")
    assert house.status("p").pid != first
    assert house.status("p").restarts == 1


async def test_one_that_beats_lives_and_one_that_stops_does_not(house: House) -> None:
    """A stopped process (SIGSTOP) has its socket, its port and its pid; it is hung all the same."""
    await house.supervisor.launch(
        [spec("p", "--beat=0.05", watchdog=2.0, stop=StopPolicy(grace=0.1))]
    )
    await house.ready("p")
    pid = house.status("p").pid
    assert pid
    loop = asyncio.get_running_loop()
    alive_for = loop.time() + 2.5
    await until(lambda: loop.time() > alive_for)
    assert house.status("p").pid == pid
    os.kill(pid, signal.SIGSTOP)
    await house.until(lambda: house.status("p").restarts == 1)


async def test_a_hung_one_may_say_so_itself(house: House) -> None:
    program = (
        "import os, socket, time\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "s.connect(os.environ['NOTIFY_SOCKET'])\n"
        "s.send(b'READY=1'); s.send(b'WATCHDOG=trigger'); s.close(); time.sleep(100)\n"
    )
    hangs = spec("p", argv=(sys.executable, "-c", program), readiness=(NotifyReady(),), watchdog=60)
    await house.supervisor.launch([hangs])
    await house.until(lambda: house.status("p").last_exit)
    cause = house.status("p").last_exit
    assert cause is not None
    assert cause.reason == "watchdog: it said that it hangs"


async def test_a_stranger_is_not_heard(house: House) -> None:
    """This test is a process of the same user, and may not speak for the child."""
    await house.supervisor.launch([spec("p", readiness=(NotifyReady(),))])
    await until(lambda: house.status("p").state is ProcessState.STARTING)
    path = str(notify_path(house.paths.runtime, "p"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"STATUS=spoofed\nREADY=1", path)
    loop = asyncio.get_running_loop()
    later = loop.time() + 0.2
    await until(lambda: loop.time() > later)
    assert not house.status("p").ready
    assert "spoofed" not in house.status("p").waiting_for


async def test_a_child_of_the_process_is_heard_in_whatever_session(house: House) -> None:
    program = (
        "import os, socket, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)"
        ".sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])\n"
        "time.sleep(100)\n"
    )
    forks = spec("p", argv=(sys.executable, "-c", program), readiness=(NotifyReady(),))
    await house.supervisor.launch([forks])
    await house.ready("p")


async def test_descriptors_that_come_along_are_closed(paths: Paths) -> None:
    """How ``systemd-notify`` learns that it was heard: the descriptor it sent is closed."""
    heard: list[bool] = []
    listener = NotifySocket(paths.runtime / "n", lambda: heard.append(True), lambda _: True)
    reading, writing = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(str(listener.path))
        socket.send_fds(sock, [b"READY=1\nBARRIER=1"], [writing])
    os.close(writing)
    await until(lambda: heard)
    assert os.read(reading, 1) == b""
    os.close(reading)
    listener.close()
    assert not listener.path.exists()


async def test_a_watchdog_that_watches_us_is_not_our_children_s(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(house_env(), "WATCHDOG_USEC", "1")
    made = House(paths, guest=True)
    program = "import os, time; print([k for k in os.environ if 'WATCH' in k], flush=True)"
    await made.supervisor.launch([spec("p", argv=(sys.executable, "-c", program), readiness=())])
    log = paths.logs / "p.log"
    await until(lambda: log.exists() and log.read_text())
    assert log.read_text().startswith("[]")
    await made.supervisor.stop_all(1, support=True)


def house_env() -> dict[str, str]:
    from tests.integration import test_supervisor_core  # noqa: PLC0415 - beside its one use

    return test_supervisor_core.ENV


async def test_our_own_processes_beat_when_they_are_asked_to(paths: Paths) -> None:
    listener = NotifySocket(paths.runtime / "n", lambda: None, lambda pid: pid == os.getpid())
    await beat({})
    await beat({"NOTIFY_SOCKET": str(listener.path), "WATCHDOG_USEC": "0"})
    asked = {"NOTIFY_SOCKET": str(listener.path), "WATCHDOG_USEC": "20000"}
    beating = asyncio.create_task(beat(asked))
    await until(lambda: listener.beaten)
    first = listener.beaten
    await until(lambda: listener.beaten > first)
    listener.close()
    await asyncio.sleep(0)
    assert not beating.done()  # nobody listens: it goes on, for the next orchestrator
    beating.cancel()
    assert listener.refused == 0
