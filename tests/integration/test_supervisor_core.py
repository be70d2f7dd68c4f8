"""Supervision of real processes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.processes import (
    Command,
    CommandReady,
    HttpReady,
    LinkReady,
    LogReady,
    NotifyReady,
    ProcessSpec,
    ProcessState,
    ProcessStatus,
    RestartPolicy,
    RestartWhen,
    Role,
    StopPolicy,
    TcpReady,
    WebSocketReady,
)
from machine_lifecycle.plan.errors import PortTaken
from machine_lifecycle.supervisor import (
    NeedsUnmet,
    ProcessFailed,
    ProgramNotFound,
    SecretMissing,
    Supervisor,
    UnknownProcess,
    figures,
)
from machine_lifecycle.supervisor.identity import read_stat
from machine_lifecycle.system.nvml import GpuUse
from tests.support.patience import PATIENCE
from tests.support.ports import free_port

PROGRAM = Path(__file__).parents[1] / "data" / "programs" / "service.py"
FAST = RestartPolicy(backoff=0.01, backoff_max=0.02, jitter=0)
ENV = {"PATH": os.environ["PATH"]}  # noqa: TID251 - children must find their programs


class Progress:
    def step(self, name: str, detail: str = "", *, done: int = 0, total: int = 0) -> None:
        """Nobody looks."""

    def finished(self, name: str, *, seconds: float, skipped: bool = False) -> None:
        """Nobody looks."""


PROGRESS = Progress()


class House:
    """A supervisor and what it said."""

    def __init__(self, paths: Paths, *, guest: bool, tee: bool = False) -> None:
        self.changes: list[ProcessStatus] = []
        self.fatal: list[tuple[str, LifecycleError]] = []
        self.needs: list[tuple[str, bool]] = []
        self.lines: list[tuple[str, bytes]] = []
        self.wake = asyncio.Event()
        self.paths = paths
        self.supervisor = Supervisor(
            paths=paths,
            base_env=ENV,
            secrets={"SECRET": "canary"}.get,
            on_change=self._changed,
            on_fatal=lambda spec, error: self.fatal.append((spec.name, error)),
            on_needs=lambda name, ready: self.needs.append((name, ready)),
            tee=(lambda name, line: self.lines.append((name, line))) if tee else None,
            guest=guest,
        )

    def _changed(self, status: ProcessStatus) -> None:
        self.changes.append(status)
        self.wake.set()

    def status(self, name: str) -> ProcessStatus:
        return next(s for s in self.supervisor.statuses() if s.name == name)

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                self.wake.clear()
                await self.wake.wait()

    async def ready(self, *names: str) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.supervisor.wait_ready(names, PROGRESS)


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    runtime = Path(tempfile.mkdtemp(prefix="ml-", dir="/tmp"))
    yield Paths(workspace=tmp_path, runtime=runtime)
    shutil.rmtree(runtime)


@pytest_asyncio.fixture(params=[False, True], ids=["main", "guest"])
async def house(paths: Paths, request: pytest.FixtureRequest) -> AsyncIterator[House]:
    made = House(paths, guest=request.param)
    yield made
    await made.supervisor.stop_all(1, support=True)


@pytest_asyncio.fixture
async def main_house(paths: Paths) -> AsyncIterator[House]:
    made = House(paths, guest=False, tee=True)
    yield made
    await made.supervisor.stop_all(1, support=True)


def spec(name: str, *arguments: str, **options: Any) -> ProcessSpec:
    options.setdefault("role", Role.SERVICE)
    options.setdefault("restart", FAST)
    options.setdefault("readiness", (LogReady(pattern="^started$"),))
    argv = options.pop("argv", (sys.executable, str(PROGRAM), *arguments))
    return ProcessSpec(name=name, command=Command(argv=argv), **options)


def is_alive(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is not None and not stat.dead


async def until(holds: Callable[[], object]) -> None:
    """For facts that come without an event."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.005)  # sleep: these facts have no event


async def number_in(path: Path) -> int:
    await until(path.exists)
    return int(path.read_text())  # noqa: ASYNC240 - a few bytes


async def test_workers_start_when_their_service_is_ready(main_house: House) -> None:
    port = free_port()
    service = spec(
        "s", f"--port={port}", "--late=0.3", port=port, readiness=(HttpReady(), WebSocketReady())
    )
    waits = spec("w", role=Role.WORKER, needs=("s",))
    stands_by = spec("b", role=Role.WORKER, needs=("s",), standby=True, readiness=(LinkReady(),))
    supervisor = main_house.supervisor
    await supervisor.launch([waits, stands_by, service])
    assert main_house.status("w").state is ProcessState.WAITING
    assert main_house.status("b").state is ProcessState.STARTING
    assert not supervisor.may_go("b")
    await main_house.ready("s")
    assert ("b", True) in main_house.needs
    assert supervisor.may_go("b")
    supervisor.link_ready("b", ready=True)
    await main_house.ready("s", "w", "b")
    told = [(one.name, one.ready, one.pid) for one in main_house.changes]
    ready = next(place for place, (name, ready, _) in enumerate(told) if name == "s" and ready)
    assert not [pid for name, _, pid in told[:ready] if name == "w" and pid]
    began = {status.name: status.started for status in supervisor.statuses()}
    await supervisor.launch([waits, stands_by, service])
    assert {status.name: status.started for status in supervisor.statuses()} == began
    supervisor.link_ready("b", ready=False)
    assert not main_house.status("b").ready


async def test_what_is_ready_is_no_step_of_a_wait(main_house: House) -> None:
    stands_by = spec("b", role=Role.WORKER, needs=("s",), standby=True, readiness=(LinkReady(),))
    supervisor = main_house.supervisor
    await supervisor.launch([spec("s"), stands_by])
    await main_house.ready("s")
    steps: list[str] = []

    class Heard(Progress):
        def step(self, name: str, detail: str = "", **_counts: int) -> None:  # noqa: ARG002 - nobody reads it
            steps.append(name)
            supervisor.link_ready("b", ready=True)

    async with asyncio.timeout(PATIENCE):
        await supervisor.wait_ready(["b"], Heard())
    assert set(steps) == {"b"}


async def test_one_that_stands_by_may_be_launched_before_what_it_needs(main_house: House) -> None:
    """A worker's imports need not wait until its service is launched."""
    stands_by = spec("b", role=Role.WORKER, needs=("s",), standby=True, readiness=(LinkReady(),))
    supervisor = main_house.supervisor
    await supervisor.launch([stands_by])
    pid = main_house.status("b").pid
    assert pid
    assert not supervisor.may_go("b")
    await supervisor.launch([spec("s"), stands_by])
    await main_house.ready("s")
    assert supervisor.may_go("b")
    assert main_house.status("b").pid == pid
    assert [status.name for status in supervisor.statuses()] == ["s", "b"]


@pytest.mark.parametrize("kind", ["tcp", "http", "ws", "log", "command", "notify", "none"])
async def test_each_kind_of_readiness(house: House, kind: str) -> None:
    port = free_port()
    readiness = {
        "tcp": (TcpReady(),),
        "http": (HttpReady(path="/x"),),
        "ws": (WebSocketReady(),),
        "log": (LogReady(pattern="start.d"),),
        "command": (CommandReady(argv=("test", "-e", str(house.paths.logs / "p.log"))),),
        "notify": (NotifyReady(),),
        "none": (),
    }[kind]
    arguments = ["--notify"] if kind == "notify" else [f"--port={port}"]
    await house.supervisor.launch([spec("p", *arguments, port=port, readiness=readiness)])
    await house.ready("p")
    assert house.status("p").state is ProcessState.RUNNING
    assert house.status("p").waiting_for == ""


async def test_what_is_waited_for_is_told(house: House) -> None:
    port = free_port()
    await house.supervisor.launch([spec("p", port=port, readiness=(HttpReady(path="/x"),))])
    await until(lambda: "refused" in house.status("p").waiting_for)
    assert house.status("p").waiting_for == f"GET http://127.0.0.1:{port}/x: connection refused"


async def test_nothing_is_waited_for_of_a_process_that_ended(house: House) -> None:
    never = RestartPolicy(when=RestartWhen.NEVER)
    crashes = spec("p", "--crash=7", restart=never, readiness=(NotifyReady(),))
    await house.supervisor.launch([crashes])
    await house.until(lambda: house.fatal)
    found = house.status("p")
    assert found.waiting_for == ""
    assert found.last_exit is not None
    assert found.last_exit.reason == "exit status 7"


async def test_waiting_fails_at_once_when_the_process_dies_for_good(house: House) -> None:
    never = RestartPolicy(when=RestartWhen.NEVER)
    await house.supervisor.launch(
        [
            spec("p", "--crash=7", restart=never, readiness=(NotifyReady(),)),
            spec("w", needs=("p",)),
        ]
    )
    with pytest.raises(ProcessFailed) as caught:
        await house.ready("w")
    assert "exit status 7" in caught.value.reason
    assert caught.value.context == ("started",)
    assert [name for name, _ in house.fatal] == ["p"]


async def test_only_the_crashed_process_comes_back(house: House) -> None:
    await house.supervisor.launch([spec("a"), spec("b", needs=("a",))])
    await house.ready("a", "b")
    a, b = house.status("a").pid, house.status("b").pid
    assert a is not None
    os.kill(a, signal.SIGKILL)
    await house.until(lambda: house.status("a").restarts == 1 and house.status("a").ready)
    assert house.status("a").pid != a
    assert house.status("b").pid == b
    last = house.status("a").last_exit
    assert last is not None
    assert last.signal == "SIGKILL"
    assert house.needs == [("b", True), ("b", False), ("b", True)]


async def test_the_budget_ends_a_crash_loop(house: House) -> None:
    policy = RestartPolicy(backoff=0, budget=3, alike=0)
    await house.supervisor.launch(
        [spec("p", "--crash=1", restart=policy, readiness=(NotifyReady(),))]
    )
    with pytest.raises(ProcessFailed):
        await house.ready("p")
    assert house.status("p").restarts == 3
    assert house.status("p").state is ProcessState.FATAL


async def test_a_kill_by_somebody_else_is_told_as_such(house: House) -> None:
    policy = RestartPolicy(backoff=0, when=RestartWhen.NEVER)
    await house.supervisor.launch([spec("p", restart=policy, readiness=(NotifyReady(),))])
    os.kill(house.status("p").pid or 0, signal.SIGKILL)
    with pytest.raises(ProcessFailed, match=r"killed by SIGKILL, (by somebody|perhaps)") as failed:
        await house.ready("p")
    assert any("dmesg" in (remedy.command or "") for remedy in failed.value.remedies)


async def test_a_start_that_always_fails_alike_is_tried_twice(house: House) -> None:
    policy = RestartPolicy(backoff=0)
    await house.supervisor.launch(
        [spec("p", "--crash=1", restart=policy, readiness=(NotifyReady(),))]
    )
    with pytest.raises(ProcessFailed, match="exit status 1; 2 starts ended so") as failed:
        await house.ready("p")
    assert failed.value.context[-1] == "started"
    assert house.status("p").restarts == 1


async def test_a_late_start_is_a_failure(house: House) -> None:
    policy = RestartPolicy(backoff=0, budget=1)
    await house.supervisor.launch(
        [spec("p", start_deadline=0.1, restart=policy, readiness=(NotifyReady(),))]
    )
    with pytest.raises(ProcessFailed, match="start deadline"):
        await house.ready("p")


@pytest.mark.parametrize("away", ["grandchild", "orphan"])
@pytest.mark.parametrize("end", ["stop", "crash"])
async def test_what_a_process_started_ends_with_it(house: House, away: str, end: str) -> None:
    file = house.paths.workspace / "pid"
    once = RestartPolicy(when=RestartWhen.NEVER)
    await house.supervisor.launch([spec("p", f"--{away}={file}", restart=once)])
    number = await number_in(file)
    await house.ready("p")
    assert is_alive(number)
    pid = house.status("p").pid
    assert pid is not None
    if end == "stop":
        # Deaf to the signal, so that it is killed when the grace is over.
        await house.supervisor.stop_all(1)
    else:
        os.kill(pid, signal.SIGKILL)
        await house.until(lambda: house.status("p").state is ProcessState.FATAL)
    assert not is_alive(number)
    assert not is_alive(pid)


async def test_deaf_processes_are_killed_within_the_budget(house: House) -> None:
    """Whatever grace each of them has."""
    patient = StopPolicy(grace=10 * PATIENCE)
    deaf = spec("p", "--deaf", stop=patient), spec("q", "--deaf", needs=("p",), stop=patient)
    await house.supervisor.launch(deaf)
    await house.ready("p", "q")
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(house.supervisor.stop_all(1.5), house.supervisor.stop_all(1.5))
    assert {s.state for s in house.supervisor.statuses()} == {ProcessState.STOPPED}


async def test_stop_during_back_off(house: House) -> None:
    policy = RestartPolicy(backoff=60)
    await house.supervisor.launch([spec("p", "--crash=1", restart=policy)])
    await house.until(lambda: house.status("p").state is ProcessState.BACKOFF)
    await house.supervisor.stop_all(1)
    await house.supervisor.stop_all(1)
    assert house.status("p").state is ProcessState.STOPPED


async def test_support_lives_on(house: House) -> None:
    await house.supervisor.launch([spec("v", role=Role.SUPPORT), spec("p")])
    await house.ready("v", "p")
    await house.supervisor.stop_all(2)
    assert house.status("v").ready
    assert house.status("p").state is ProcessState.STOPPED


async def test_single_processes_are_stopped_started_and_restarted(house: House) -> None:
    await house.supervisor.launch([spec("p")])
    await house.ready("p")
    first = house.status("p").pid
    await house.supervisor.restart("p")
    await house.ready("p")
    assert house.status("p").pid != first
    await house.supervisor.stop("p")
    assert house.status("p").state is ProcessState.STOPPED
    await house.supervisor.start("p")
    await house.ready("p")
    with pytest.raises(UnknownProcess, match="there are: p"):
        await house.supervisor.stop("q")


@pytest.mark.parametrize("asked", ["recover", "launch"])
async def test_a_taken_port_is_told_at_once(house: House, asked: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTaken) as caught:
            await getattr(house.supervisor, asked)([spec("p", port=port)])
    assert caught.value.remedies[0].command == f"ss -ltnp 'sport = :{port}'"
    assert str(os.getpid()) in caught.value.owner
    assert house.supervisor.statuses() == ()


async def test_a_program_that_is_not_there(house: House, tmp_path: Path) -> None:
    with pytest.raises(ProgramNotFound):
        await house.supervisor.launch([spec("p", argv=(str(tmp_path / "none"),))])
    assert house.status("p").state is ProcessState.FATAL


@pytest.mark.parametrize("place", ["folder", "log"])
async def test_what_the_disk_refuses_costs_only_its_process(
    house: House, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dir").mkdir()
    refused = {"directories": (tmp_path / "file" / "x",)}, {"log": tmp_path / "dir"}
    bad = spec("bad", **refused[place == "log"])
    with pytest.raises(ProcessFailed, match=r"bad .*directory"):
        await house.supervisor.launch([spec("good"), bad, spec("other")])
    assert house.status("bad").state is ProcessState.FATAL
    await house.ready("good")
    await house.ready("other")


async def test_unmet_needs_and_circles(house: House) -> None:
    with pytest.raises(NeedsUnmet):
        await house.supervisor.launch([spec("p", needs=("q",))])
    with pytest.raises(NeedsUnmet):
        await house.supervisor.launch([spec("p", needs=("q",)), spec("q", needs=("p",))])


async def test_secrets_reach_the_process_and_nothing_else(house: House) -> None:
    shell = ("sh", "-c", "echo got-${#SECRET}; exec sleep 100")
    command = Command(argv=shell, secrets=("SECRET",))
    good = ProcessSpec(
        name="p", role=Role.WORKER, command=command, readiness=(LogReady(pattern="got-6"),)
    )
    await house.supervisor.launch([good])
    await house.ready("p")
    assert "canary" not in house.paths.journal.read_text()
    assert house.paths.journal.stat().st_mode & 0o777 == 0o600
    missing = ProcessSpec(
        name="q", role=Role.WORKER, command=Command(argv=shell, secrets=("OTHER",))
    )
    with pytest.raises(SecretMissing):
        await house.supervisor.launch([missing])


async def test_lines_are_repeated(main_house: House) -> None:
    await main_house.supervisor.launch([spec("p", "--flood=200000")])
    await main_house.ready("p")
    await main_house.supervisor.stop_all(2)
    assert len(main_house.lines) == 200_001
    assert main_house.lines[-1] == ("p", b"started")


async def test_figures_count_the_tree(house: House, tmp_path: Path) -> None:
    await house.supervisor.launch([spec("p", f"--grandchild={tmp_path / 'pid'}")])
    await number_in(tmp_path / "pid")
    pid = house.status("p").pid
    assert pid is not None
    found = figures([pid, 2**22 + 1], {pid: GpuUse(memory=5, percent=40.0), 1: GpuUse(memory=7)})
    assert list(found) == [pid]
    assert found[pid].processes == 2
    assert found[pid].memory_bytes > 1 << 20
    share = found[pid].share_bytes
    assert share is not None
    assert 1 << 20 < share < found[pid].memory_bytes  # both have the interpreter
    assert found[pid].threads >= 2
    assert found[pid].descriptors >= 6  # three of each
    assert found[pid].gpu_memory_bytes == 5
    assert found[pid].gpu_percent == 40.0
    assert figures([pid])[pid].gpu_memory_bytes is None
    assert figures([pid])[pid].gpu_percent is None


async def test_kill_all_leaves_nothing(house: House, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    grace = StopPolicy(grace=30)
    await house.supervisor.launch([spec("p", "--deaf", f"--grandchild={file}", stop=grace)])
    number = await number_in(file)
    await house.ready("p")
    house.supervisor.kill_all()
    await house.until(lambda: house.status("p").state is ProcessState.STOPPED)
    await house.supervisor.stop_all(5)
    await until(lambda: not is_alive(number))
