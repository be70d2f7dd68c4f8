"""The control socket with real sockets: commands, streams, links, and those who misbehave."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self

import attrs
import pytest
import pytest_asyncio

from machine_lifecycle.control.client import ControlClient
from machine_lifecycle.control.errors import ControlSocketInUse, MachineUnresponsive
from machine_lifecycle.control.links import LOST, Links
from machine_lifecycle.control.messages import MAX_LINE
from machine_lifecycle.control.server import ControlServer
from machine_lifecycle.control.workers import Listeners
from machine_lifecycle.errors import RemoteError
from machine_lifecycle.model.figures import Figures
from machine_lifecycle.model.processes import ProcessState, ProcessStatus, Role
from machine_lifecycle.model.status import StatusReport
from machine_lifecycle.system.errors import MachineNotRunning
from tests.support.patience import PATIENCE

_PROCESS = ProcessStatus(
    name="comfyui-gpu0", role=Role.SERVICE, state=ProcessState.RUNNING, pid=42, since=1.0
)


class _Machine:
    def __init__(self) -> None:
        self.done: list[str] = []
        self.more = asyncio.Event()
        self.closed = asyncio.Event()
        self.drains, self.may_drain = asyncio.Event(), asyncio.Event()
        self.may_drain.set()

    def report(self) -> StatusReport:
        return StatusReport(
            machine_id="box",
            version="9",
            state="ready",
            phase="ready",
            since=1.0,
            uptime=2.0,
            attempt=1,
            pid=7,
            processes=(_PROCESS,),
        )

    async def figures(self) -> Mapping[int, Figures]:
        return {42: Figures(cpu_percent=1.0, memory_bytes=2)}

    async def logs(
        self, names: Sequence[str], lines: int, *, since: float | None, follow: bool
    ) -> AsyncIterator[tuple[float, str, str]]:
        try:
            for name in names:
                for number in range(lines):
                    yield since or 7.0, name, f"line {number}"
            while follow:
                await self.more.wait()
                yield 7.0, names[0], "x" * 60_000
        finally:
            self.closed.set()

    async def events(self) -> AsyncIterator[Mapping[str, Any]]:
        yield {"kind": "changed"}
        await self.more.wait()

    async def restart_process(self, name: str) -> None:
        self.done.append(f"restart {name}")

    async def stop_process(self, name: str) -> None:
        self.done.append(f"stop {name}")

    async def start_process(self, name: str) -> None:
        self.done.append(f"start {name}")

    def signal_process(self, name: str, number: int) -> None:
        self.done.append(f"signal {name} {number}")

    async def reload(self) -> Mapping[str, Any]:
        return {}

    def shutdown(self) -> None:
        self.done.append("shutdown")

    async def drain(self) -> None:
        self.drains.set()
        await self.may_drain.wait()
        self.done.append("drain")

    async def undrain(self) -> None:
        raise ValueError("unforeseen")


@attrs.define
class _Heard:
    """What links tell their owner, in order; ``some`` is set at each."""

    words: list[tuple[Any, ...]] = attrs.field(factory=list)
    some: asyncio.Event = attrs.field(factory=asyncio.Event)

    def take(self, *word: Any) -> None:
        self.words.append(word)
        self.some.set()

    async def until(self, word: tuple[Any, ...]) -> None:
        async with asyncio.timeout(PATIENCE):
            while word not in self.words:
                self.some.clear()
                await self.some.wait()


@attrs.define
class _Place:
    path: Path
    machine: _Machine
    links: Links
    heard: _Heard
    server: ControlServer


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ml-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest_asyncio.fixture
async def place(folder: Path) -> AsyncIterator[_Place]:
    machine, heard = _Machine(), _Heard()
    links = Links(
        Listeners(connected=heard.take, job_taken=heard.take, job_done=heard.take),
        wall=lambda: 1.0,
    )
    path = folder / "control.sock"
    server = ControlServer(path, machine, links, patience=0.3)
    await server.start()
    yield _Place(path, machine, links, heard, server)
    await server.close()
    assert not path.exists()


class _Worker:
    """The other end of a link, by hand."""

    def __init__(self, path: Path, worker_id: str = "w0") -> None:
        self._path, self._id = path, worker_id

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_unix_connection(str(self._path))
        self.say(hello="worker", worker_id=self._id, process=f"p-{self._id}", pid=1)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        await self.writer.wait_closed()

    def say(self, **message: Any) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n")

    async def told(self) -> Any:
        async with asyncio.timeout(PATIENCE):
            return json.loads(await self.reader.readline())


async def test_calls(place: _Place) -> None:
    async with ControlClient(place.path) as client:
        assert await client.call("ping") == {"machine_id": "box", "pid": 7, "version": "9"}
        assert (await client.call("status"))["state"] == "ready"
        (process,) = await client.call("ps")
        assert (process["name"], process["figures"]["memory_bytes"]) == ("comfyui-gpu0", 2)
        for call in ("restart", "stop_process", "start_process"):
            await client.call(call, name="comfyui-gpu0")
        await client.call("drain")
        await client.call("shutdown")
    done = ["restart comfyui-gpu0", "stop comfyui-gpu0", "start comfyui-gpu0", "drain", "shutdown"]
    assert place.machine.done == done


@pytest.mark.parametrize(
    ("call", "args", "code"),
    [
        ("nothing", {}, "unknown-call"),
        ("restart", {"name": "no"}, "process-unknown"),
        ("restart", {}, "control-message-unusable"),
        ("undrain", {}, "internal-fault"),
    ],
)
async def test_errors_keep_code_and_remedies_and_the_talk_goes_on(
    place: _Place, call: str, args: dict[str, Any], code: str
) -> None:
    async with ControlClient(place.path) as client:
        with pytest.raises(RemoteError) as caught:
            await client.call(call, **args)
        assert caught.value.code == code
        assert caught.value.remedies
        assert caught.value.to_wire()["code"] == code
        assert await client.call("ping")
    assert RemoteError.code == "remote-error"


async def test_a_call_that_is_given_up_leaves_its_answer_to_no_other(place: _Place) -> None:
    place.machine.may_drain.clear()
    async with asyncio.timeout(PATIENCE), ControlClient(place.path) as client:
        given_up = asyncio.ensure_future(client.call("drain"))
        await place.machine.drains.wait()
        given_up.cancel()
        await asyncio.wait({given_up})
        assert given_up.cancelled()
        place.machine.may_drain.set()
        assert (await client.call("ping"))["machine_id"] == "box"
        assert (await client.call("status"))["state"] == "ready"
    with pytest.raises(MachineNotRunning):
        await client.call("ping")


async def test_logs_end_or_go_on_until_the_reader_goes(place: _Place) -> None:
    async with ControlClient(place.path) as client:
        items = [item async for item in client.stream("logs", lines=2)]
        assert items[1] == {"name": "comfyui-gpu0", "line": "line 1", "time": 7.0}
        assert len(items) == 2
        items = [item async for item in client.stream("logs", lines=1, since=99.5)]
        assert items[0]["time"] == 99.5
        for wrong in ("x", True):
            with pytest.raises(RemoteError, match="control-message-unusable"):
                await anext(client.stream("logs", since=wrong))
        place.machine.closed.clear()
        async with aclosing(client.stream("logs", lines=1, follow=True)) as lines:
            assert (await anext(lines))["line"] == "line 0"
        async with asyncio.timeout(PATIENCE):
            await place.machine.closed.wait()
        with pytest.raises(RemoteError, match="process-unknown"):
            await anext(client.stream("logs", names=["no"]))


async def test_events_break_off_when_the_machine_goes(place: _Place) -> None:
    async with (
        ControlClient(place.path) as client,
        aclosing(client.stream("events")) as events,
    ):
        assert await anext(events) == {"kind": "changed"}
        await place.server.close()
        with pytest.raises(MachineUnresponsive):
            await anext(events)


async def test_a_reader_that_does_not_read_is_dropped(place: _Place) -> None:
    reader, writer = await asyncio.open_unix_connection(str(place.path), limit=1024)
    writer.write(b'{"hello":"client"}\n{"call":"logs","args":{"lines":0,"follow":true}}\n')
    place.machine.more.set()  # lines without end
    async with asyncio.timeout(PATIENCE):
        await place.machine.closed.wait()
    writer.close()
    await writer.wait_closed()
    assert reader is not None


async def test_nobody_there(folder: Path) -> None:
    with pytest.raises(MachineNotRunning):
        async with ControlClient(folder / "no.sock"):
            pytest.fail("entered")


async def test_machines_that_run_beside_are_told(folder: Path) -> None:
    derived = folder / "machine-lifecycle"
    ours, living, killed = (derived / name / "control.sock" for name in ("a", "b", "c"))
    for path in (ours, living, killed):
        path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as dead, socket.socket(socket.AF_UNIX) as alive:
        dead.bind(str(killed))  # as a machine that was killed leaves it: nobody listens
        alive.bind(str(living))
        alive.listen()
        with pytest.raises(MachineNotRunning) as caught:
            async with ControlClient(ours):
                pytest.fail("entered")
        assert caught.value.beside == (living.parent,)
        commands = [str(remedy.command) for remedy in caught.value.remedies]
        assert f"export MACHINE_RUNTIME_DIR={living.parent}" in commands
        derived.rename(folder / "elsewhere")
        with pytest.raises(MachineNotRunning) as caught:
            async with ControlClient(folder / "elsewhere" / "a" / "control.sock"):
                pytest.fail("entered")
        assert caught.value.beside == ()


async def test_the_socket_is_ours_alone_and_a_stale_one_is_replaced(folder: Path) -> None:
    path = folder / "in" / "control.sock"
    first = ControlServer(path, _Machine(), Links())
    await first.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with pytest.raises(ControlSocketInUse):
        await ControlServer(path, _Machine(), Links()).start()
    left = folder / "left.sock"
    left.hardlink_to(path)  # what a killed orchestrator leaves: a name that nobody listens on
    await first.close()
    second = ControlServer(left, _Machine(), Links())
    await second.start()
    async with ControlClient(left) as client:
        assert await client.call("ping")
    await second.close()


@pytest.mark.parametrize(
    "lines",
    [
        b"no json\n",
        b"[]\n",
        b'{"hello":"stranger"}\n',
        b'{"hello":"worker","worker_id":"w"}\n',
        b'{"hello":"worker","worker_id":1,"process":"p","pid":1}\n',
        b'{"hello":"client"}\n{"no":1}\n',
        b'{"hello":"client"}\n{"call":"ping","args":[]}\n',
        b'{"hello":"worker","worker_id":"w","process":"p","pid":1}\n{"say":"nonsense"}\n',
        b'{"hello":"worker","worker_id":"w","process":"p","pid":1}\n{"say":"job_taken"}\n',
        b"[" * 100_000 + b"\n",
        b"x" * (MAX_LINE + 10),
    ],
)
async def test_nonsense_is_answered_and_ends_that_talk_alone(place: _Place, lines: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(str(place.path))
    writer.write(lines)
    async with asyncio.timeout(PATIENCE):
        answer = json.loads(await reader.readline())
        assert answer["error"]["code"] == "control-message-unusable"
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    async with ControlClient(place.path) as client:
        assert await client.call("ping")


async def test_a_worker_from_hello_to_its_end(place: _Place) -> None:
    links, heard = place.links, place.heard
    links.expect("w0", process="p-w0", type="comfyui", capabilities=("comfyui",), gpu=0)
    assert links.statuses()[0].status == "starting"
    assert links.pid("w0") is None
    links.go("p-w0")  # before it said hello
    await links.drain()
    async with _Worker(place.path) as worker:
        assert await worker.told() == {"do": "drain"}
        assert await worker.told() == {"do": "go"}
        worker.say(say="standby")
        worker.say(say="connected", capabilities={})
        async with asyncio.timeout(PATIENCE):
            await links.wait_connected(["w0"])
        assert links.connected() == {"w0"}
        worker.say(say="job_taken", job_id="j1")
        worker.say(say="job_taken", job_id="j1")  # repeated, as after a break
        worker.say(say="job_done", job_id="j1", outcome="completed")
        await heard.until(("w0", "j1", "completed"))
        await links.release()
        assert await worker.told() == {"do": "release"}
        assert links.tell("p-w0", "cancel", job_id="j2")
        assert await worker.told() == {"do": "cancel", "job_id": "j2"}
        worker.say(say="job_taken", job_id="j2")
        await heard.until(("w0", "j2"))
        assert links.statuses()[0].status == "busy"
    await heard.until(("w0", "j2", LOST))
    (status,) = links.statuses()
    assert (status.status, status.connected, status.jobs_completed) == ("gone", False, 1)
    assert (status.type, status.gpu) == ("comfyui", 0)
    assert links.pid("w0") == 1  # by which the jobs of that process are known
    assert not links.tell("p-w0", "go")
    assert heard.words == [
        ("p-w0", True),
        ("w0", "j1"),
        ("w0", "j1", "completed"),
        ("w0", "j2"),
        ("p-w0", False),
        ("w0", "j2", LOST),
    ]


async def test_trouble_that_a_worker_repeats_is_told_once_and_when_it_is_over(
    folder: Path,
) -> None:
    machine, heard = _Machine(), _Heard()
    links = Links(
        Listeners(
            trouble=lambda _worker, error: heard.take("met", error["summary"]),
            troubled=lambda worker: heard.take("has", worker.trouble),
        )
    )
    path = folder / "control.sock"
    server = ControlServer(path, machine, links, patience=0.3)
    await server.start()
    try:
        async with _Worker(path) as worker:
            worker.say(say="connected")
            for words in ("is full", "is full", "is away", "is full"):
                worker.say(say="trouble", error={"summary": words})
            worker.say(say="connected")
            await heard.until(("has", ""))
    finally:
        await server.close()
    assert heard.words == [
        ("has", "is full"),
        ("met", "is full"),
        ("met", "is full"),
        ("has", "is away"),
        ("met", "is away"),
        ("has", "is full"),
        ("met", "is full"),
        ("has", ""),
    ]


async def test_waiting_for_workers_can_be_given_up(place: _Place) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await place.links.wait_connected(["w0"])
    async with _Worker(place.path) as worker:
        worker.say(say="connected")
        await place.heard.until(("p-w0", True))


async def test_a_second_stream_of_one_worker_replaces_the_first(place: _Place) -> None:
    async with _Worker(place.path) as old:
        old.say(say="connected")
        await place.heard.until(("p-w0", True))
        async with _Worker(place.path) as new:
            new.say(say="job_taken", job_id="j")
            await place.heard.until(("w0", "j"))
            old.writer.write_eof()
            async with asyncio.timeout(PATIENCE):
                assert await old.reader.read() == b""
            assert place.links.statuses()[0].current_job_id == "j"
