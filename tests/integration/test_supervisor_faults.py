"""What is done to a supervisor and its children, judged from outside.

Every process that the supervisor or its children start bears a mark in its environment, so whoever
is left over is found, whatever the supervisor believes.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.processes import (
    Command,
    ProcessSpec,
    ProcessState,
    ProcessStatus,
    RestartPolicy,
    RestartWhen,
    Role,
    StopPolicy,
)
from machine_lifecycle.supervisor import Supervisor
from tests.support.outside import subreaper
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="judged by way of /proc")

PROGRAMS = Path(__file__).parents[1] / "data" / "programs"
SLEEP = shutil.which("sleep") or "/bin/sleep"
SHELL = shutil.which("sh") or "/bin/sh"
STEPS = int(os.environ.get("SUPERVISOR_STEPS", "60"))  # noqa: TID251 - a setting of this test
PATH = os.environ["PATH"]  # noqa: TID251 - children must find their programs


def marked(mark: str) -> dict[int, int]:
    """Living processes that bear a mark, each with its parent."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if mark.encode() not in (entry / "environ").read_bytes():
                continue
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended meanwhile
        if fields[0] not in "ZX":
            found[int(entry.name)] = int(fields[1])
    return found


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not fact():  # noqa: ASYNC110 - what is in /proc tells nobody
            await asyncio.sleep(0.01)


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    runtime = Path(tempfile.mkdtemp(prefix="ml-", dir="/tmp"))
    yield Paths(workspace=tmp_path, runtime=runtime)
    shutil.rmtree(runtime)


class Heard:
    """A supervisor whose children bear a mark."""

    def __init__(self, paths: Paths, mark: str, *, guest: bool = False) -> None:
        self.changes: list[ProcessStatus] = []
        self.fatal: list[LifecycleError] = []
        self.supervisor = Supervisor(
            paths=paths,
            base_env={"PATH": f"{PATH}:/{mark}"},
            secrets=lambda _: None,
            on_change=self.changes.append,
            on_fatal=lambda _, error: self.fatal.append(error),
            on_needs=lambda *_: None,
            guest=guest,
        )

    def pids(self) -> dict[str, int]:
        """Running processes, as the supervisor has it."""
        return {one.name: one.pid for one in self.supervisor.statuses() if one.pid}


def orchestrator(paths: Paths, mark: str) -> tuple[subprocess.Popen[bytes], dict[str, int]]:
    """An orchestrator with three processes and a grandchild in a session of its own."""
    process = subprocess.Popen(
        [
            sys.executable,
            str(PROGRAMS / "orchestrator.py"),
            str(paths.workspace),
            str(paths.runtime),
        ],
        env={"PATH": f"{PATH}:/{mark}"},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    pids: dict[str, int] = json.loads(process.stdout.readline())
    return process, pids


def wanted(paths: Paths) -> list[ProcessSpec]:
    import runpy  # noqa: PLC0415 - the program is no module of a package

    made: list[ProcessSpec] = runpy.run_path(str(PROGRAMS / "orchestrator.py"))["specs"](
        paths.workspace
    )
    return made


@pytest.mark.parametrize("at_once", [(), ("forks",), ("grandchild",), ("forks", "grandchild")])
async def test_orchestrator_child_and_grandchild_are_killed_at_once(
    paths: Paths, at_once: tuple[str, ...]
) -> None:
    """The next one keeps what lives, starts what doesn't, and starts nothing twice."""
    mark = uuid.uuid4().hex
    with subreaper():
        first, pids = orchestrator(paths, mark)
        file = paths.workspace / "grandchild"
        await until(file.exists)  # it is forked after its parent says that it has started
        grandchild = int(file.read_text())
        numbers = {**pids, "grandchild": grandchild}
        for pid in (*(numbers[name] for name in at_once), first.pid):
            os.kill(pid, signal.SIGKILL)
        first.wait()
        if first.stdout:
            first.stdout.close()
        specs = wanted(paths)
        heard = Heard(paths, mark)
        try:
            await heard.supervisor.recover(specs)
            await heard.supervisor.launch(specs)
            names = [spec.name for spec in specs]
            await until(lambda: all(one.ready for one in heard.supervisor.statuses()))
            running = heard.pids()
            kept = {name: pid for name, pid in running.items() if pid == pids[name]}
            assert set(kept) == set(names) - set(at_once)
            gone = at_once == ("grandchild",)

            def those_and_no_others() -> bool:
                grandchildren = () if gone else (int(file.read_text()),)
                return set(marked(mark)) == {*running.values(), *grandchildren}

            await until(those_and_no_others)
        finally:
            await heard.supervisor.stop_all(1)
        assert marked(mark) == {}


@pytest.mark.parametrize("guest", [False, True], ids=["main", "guest"])
async def test_one_that_ends_well_at_once_rests_and_leaves_nothing(
    paths: Paths,
    guest: bool,  # noqa: FBT001
) -> None:
    mark = uuid.uuid4().hex
    heard = Heard(paths, mark, guest=guest)
    command = Command(argv=(SHELL, "-c", "setsid sleep 1000 & exit 0"))
    rule = RestartPolicy(when=RestartWhen.ON_FAILURE)
    await heard.supervisor.launch(
        [ProcessSpec(name="brief", role=Role.SERVICE, command=command, restart=rule)]
    )
    await until(lambda: heard.supervisor.statuses()[0].state is ProcessState.EXITED)
    last = heard.supervisor.statuses()[0].last_exit
    assert last is not None
    assert last.code == 0
    assert marked(mark) == {}
    await heard.supervisor.stop_all(1)


async def test_without_pidfds_and_proc_the_promises_hold(paths: Paths) -> None:
    """As on macOS: see the program."""
    mark, file = uuid.uuid4().hex, paths.workspace / "grandchild"
    program = (str(PROGRAMS / "elsewhere.py"), str(paths.workspace), str(paths.runtime))
    forks = (sys.executable, str(PROGRAMS / "service.py"), f"--orphan={file}")
    with subprocess.Popen(  # noqa: ASYNC220 - a ms
        [sys.executable, *program, *forks], env={"PATH": f"{PATH}:/{mark}"}, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        first = int(process.stdout.readline())
        await until(file.exists)
        grandchild = int(file.read_text())
        file.unlink()
        os.kill(first, signal.SIGKILL)
        assert int(process.stdout.readline()) != first
        assert grandchild not in marked(mark)
        await until(file.exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert marked(mark) == {}


def test_a_number_that_the_kernel_gave_away_again_is_left_alone(paths: Paths) -> None:
    """In a process namespace of its own, where the next number can be chosen."""
    unshare = shutil.which("unshare")
    options = ["--pid", "--fork", "--mount-proc", "--kill-child"]
    probe = [unshare or "unshare", *options, SHELL, "-c", "echo 50 > /proc/sys/kernel/ns_last_pid"]
    if not unshare or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("may not make a process namespace")
    program = [
        sys.executable,
        str(PROGRAMS / "reused.py"),
        str(paths.workspace),
        str(paths.runtime),
    ]
    done = subprocess.run(
        [unshare, *options, *program],
        env={"PATH": PATH},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout == "same number, still alive\n", done.stderr


_KINDS = {
    "plain": (SLEEP, "1000"),
    "deaf": (SHELL, "-c", "trap '' TERM; sleep 1000 & wait"),
    "forks": (SHELL, "-c", "setsid sleep 1000 & exec sleep 1000"),
    "twice": (SHELL, "-c", "(setsid sleep 1000 &); exec sleep 1000"),
}
_IN_A_ROW = 30
_NAMES = st.sampled_from(sorted(_KINDS))


class AnyOrder(RuleBasedStateMachine):
    """Starts, stops, restarts and kills in any order: who lives is whom the supervisor names."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="ml-", dir="/tmp"))
        self.mark = uuid.uuid4().hex
        self.loop = asyncio.new_event_loop()
        self.expected: set[str] = set()
        self.heard = self.do(self.make())
        self.specs = [
            ProcessSpec(
                name=name,
                role=Role.SERVICE,
                command=Command(argv=argv),
                restart=RestartPolicy(backoff=0, budget=1_000_000),
                stop=StopPolicy(grace=0.05 if name == "deaf" else 5.0),
            )
            for name, argv in _KINDS.items()
        ]
        self.launch()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, PATIENCE))

    async def make(self) -> Heard:
        return Heard(Paths(workspace=self.folder, runtime=self.folder), self.mark)

    @rule()
    def launch(self) -> None:
        self.do(self.heard.supervisor.launch(self.specs))
        self.expected = set(_KINDS)

    @rule(name=_NAMES)
    def start(self, name: str) -> None:
        self.do(self.heard.supervisor.start(name))
        self.expected.add(name)

    @rule(name=_NAMES)
    def stop(self, name: str) -> None:
        self.do(self.heard.supervisor.stop(name))
        self.expected.discard(name)

    @rule(name=_NAMES)
    def restart(self, name: str) -> None:
        self.do(self.heard.supervisor.restart(name))
        self.expected.add(name)

    @rule(first=_NAMES, then=_NAMES)
    def restart_two_at_once(self, first: str, then: str) -> None:
        async def both() -> None:
            restart = self.heard.supervisor.restart
            await asyncio.gather(restart(first), restart(then))

        self.do(both())
        self.expected |= {first, then}

    @rule(names=st.sets(_NAMES, min_size=1))
    def kill(self, names: set[str]) -> None:
        before = {name: pid for name, pid in self.heard.pids().items() if name in names}
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)

        def replaced() -> bool:
            now = self.heard.pids()
            return all(now.get(name, pid) != pid for name, pid in before.items())

        self.do(until(replaced))

    @rule()
    def stop_all(self) -> None:
        self.do(self.heard.supervisor.stop_all(5))
        self.expected = set()

    def what_is_wrong(self) -> str:
        leaders = self.heard.pids()
        living = marked(self.mark)
        strays = {
            pid
            for pid, parent in living.items()
            if pid not in leaders.values() and parent not in leaders.values()
        }
        # One that lost its parent on purpose is ours by its session, and only while its leader is.
        allowed = {"deaf", "twice"} & self.expected
        if (
            set(leaders) == self.expected
            and set(leaders.values()) <= set(living)
            and len(strays) <= len(allowed)
        ):
            return ""
        return f"wanted {self.expected}, said {leaders}, living {living}, strays {strays}"

    @invariant()
    def who_lives_is_whom_it_names(self) -> None:
        # The kernel shows no environment for a moment while a program is being replaced by another.
        try:
            self.do(until(lambda: not self.what_is_wrong()))
        except TimeoutError:
            raise AssertionError(self.what_is_wrong()) from None

    def teardown(self) -> None:
        self.do(self.heard.supervisor.stop_all(5))
        left = marked(self.mark)
        self.loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        assert left == {}


def test_starts_stops_and_kills_in_any_order() -> None:
    """``SUPERVISOR_STEPS=1000`` takes a few minutes."""
    run_state_machine_as_test(
        AnyOrder,
        settings=settings(
            max_examples=-(-STEPS // _IN_A_ROW),
            stateful_step_count=_IN_A_ROW,
            suppress_health_check=list(HealthCheck),
        ),
    )
