"""A second orchestrator takes over from one that was killed."""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import attrs
import pytest
import pytest_asyncio

from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.processes import ProcessSpec, ProcessState, ProcessStatus
from machine_lifecycle.supervisor import Supervisor
from machine_lifecycle.supervisor.identity import boot_mark, identify, read_stat
from machine_lifecycle.supervisor.journal import Entry, Journal
from machine_lifecycle.supervisor.tree import TOKEN_VARIABLE, bearers
from tests.support.patience import PATIENCE

PROGRAM = Path(__file__).parents[1] / "data" / "programs" / "orchestrator.py"
SLEEP = shutil.which("sleep") or "/bin/sleep"
ENV = {"PATH": os.environ["PATH"]}  # noqa: TID251 - children must find their programs


class Progress:
    def step(self, name: str, detail: str = "", *, done: int = 0, total: int = 0) -> None:
        """Nobody looks."""

    def finished(self, name: str, *, seconds: float, skipped: bool = False) -> None:
        """Nobody looks."""


def is_alive(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is not None and not stat.dead


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    runtime = Path(tempfile.mkdtemp(prefix="ml-", dir="/tmp"))
    yield Paths(workspace=tmp_path, runtime=runtime)
    shutil.rmtree(runtime)


async def until(holds: Callable[[], object]) -> None:
    """For what the processes do, of which there is no event."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.01)  # sleep: as said


@pytest_asyncio.fixture
async def orphaned(paths: Paths) -> dict[str, int]:
    """Numbers of processes whose orchestrator was killed."""
    with subprocess.Popen(  # noqa: ASYNC220 - a ms
        [sys.executable, str(PROGRAM), str(paths.workspace), str(paths.runtime)],
        env=ENV,
        stdout=subprocess.PIPE,
    ) as orchestrator:
        assert orchestrator.stdout is not None
        found: dict[str, int] = json.loads(orchestrator.stdout.readline())
        await until((paths.workspace / "grandchild").exists)  # it is forked after its parent's word
        orchestrator.kill()
    assert all(is_alive(pid) for pid in found.values())
    return found


@pytest_asyncio.fixture(params=[False, True], ids=["main", "guest"])
async def changes_and_supervisor(
    paths: Paths, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[Supervisor, asyncio.Queue[ProcessStatus]]]:
    changes: asyncio.Queue[ProcessStatus] = asyncio.Queue()
    supervisor = Supervisor(
        paths=paths,
        base_env=ENV,
        secrets=lambda _: None,
        on_change=changes.put_nowait,
        on_fatal=lambda *_: None,
        on_needs=lambda *_: None,
        guest=request.param,
    )
    yield supervisor, changes
    await supervisor.stop_all(1, support=True)


Changes = tuple[Supervisor, asyncio.Queue[ProcessStatus]]


def wanted(paths: Paths) -> list[ProcessSpec]:
    made: list[ProcessSpec] = runpy.run_path(str(PROGRAM))["specs"](paths.workspace)
    return made


async def test_what_matches_is_adopted(
    orphaned: dict[str, int], paths: Paths, changes_and_supervisor: Changes
) -> None:
    supervisor, changes = changes_and_supervisor
    specs = wanted(paths)
    assert set(await supervisor.recover(specs)) == set(orphaned)
    await supervisor.launch(specs)
    async with asyncio.timeout(PATIENCE):
        await supervisor.wait_ready(list(orphaned), Progress())
    assert {s.name: s.pid for s in supervisor.statuses()} == orphaned
    assert all(s.adopted for s in supervisor.statuses())
    tokens = {entry.token for entry in Journal(paths.journal).read().values()}
    await until(lambda: sum(map(len, bearers(frozenset(tokens)).values())) == 4)

    os.kill(orphaned["quiet"], signal.SIGKILL)
    async with asyncio.timeout(PATIENCE):
        while (status := await changes.get()).restarts == 0 or not status.ready:
            pass
    assert status.name == "quiet"
    assert not status.adopted

    grandchild = int((paths.workspace / "grandchild").read_text())
    await supervisor.stop_all(1)
    assert not any(is_alive(pid) for pid in (*orphaned.values(), grandchild))
    assert Journal(paths.journal).read() == {}


async def test_what_is_not_wanted_any_more_is_ended(
    orphaned: dict[str, int], paths: Paths, changes_and_supervisor: Changes
) -> None:
    supervisor, _ = changes_and_supervisor
    quiet, notifies, _ = wanted(paths)
    other = attrs.evolve(notifies, command=attrs.evolve(notifies.command, env={"A": "1"}))
    grandchild = int((paths.workspace / "grandchild").read_text())
    assert await supervisor.recover([quiet, other]) == ("quiet",)
    assert is_alive(orphaned["quiet"])
    assert not any(is_alive(pid) for pid in (orphaned["notifies"], orphaned["forks"], grandchild))


async def test_launch_adopts_too(
    orphaned: dict[str, int], paths: Paths, changes_and_supervisor: Changes
) -> None:
    supervisor, _ = changes_and_supervisor
    await supervisor.launch(wanted(paths)[:1])
    assert [s.pid for s in supervisor.statuses()] == [orphaned["quiet"]]
    assert is_alive(orphaned["forks"])
    await supervisor.stop_all(1)
    assert not is_alive(orphaned["forks"])


async def test_a_process_whose_number_was_not_recorded_is_found(
    paths: Paths, changes_and_supervisor: Changes
) -> None:
    supervisor, _ = changes_and_supervisor
    with subprocess.Popen(  # noqa: ASYNC220 - a ms
        [SLEEP, "100"], env={**ENV, TOKEN_VARIABLE: "t1"}
    ) as sleeper:
        Journal(paths.journal).write({"quiet": Entry(name="quiet", token="t1")})
        assert await supervisor.recover(wanted(paths)) == ()
        assert sleeper.wait(PATIENCE) == -signal.SIGKILL


@pytest.mark.parametrize("wrong", ["created", "boot"])
async def test_a_number_that_was_reused_is_never_signalled(
    paths: Paths, changes_and_supervisor: Changes, wrong: str
) -> None:
    supervisor, _ = changes_and_supervisor
    with subprocess.Popen(  # noqa: ASYNC220 - a ms
        [SLEEP, "100"], env=ENV, start_new_session=True
    ) as stranger:
        who = identify(stranger.pid)
        assert who is not None
        entry = Entry(
            name="quiet",
            token="t2",
            pid=who.pid,
            created=who.created - (wrong == "created"),
            boot="other" if wrong == "boot" else boot_mark(),
        )
        Journal(paths.journal).write({"quiet": entry})
        assert await supervisor.recover(wanted(paths)) == ()
        await supervisor.stop_all(1)
        supervisor.kill_all()
        assert is_alive(stranger.pid)
        stranger.kill()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 9}', '{"version":1,"processes":[{}]}']
)
async def test_a_corrupt_journal_is_put_aside(
    paths: Paths,
    changes_and_supervisor: Changes,
    caplog: pytest.LogCaptureFixture,
    text: str,
) -> None:
    supervisor, _ = changes_and_supervisor
    paths.journal.write_text(text)
    assert await supervisor.recover(wanted(paths)) == ()
    assert "can't be read" in caplog.text
    (aside,) = paths.runtime.glob("*.corrupt-*")
    assert aside.read_text() == text
    await supervisor.launch(wanted(paths)[:1])
    assert supervisor.statuses()[0].state is not ProcessState.FATAL
