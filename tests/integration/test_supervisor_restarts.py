"""Restarts for a reason of ours: too much memory, a process that is needed was started anew."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable

from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.processes import ProcessSpec, ProcessState, RestartPolicy, StopPolicy
from machine_lifecycle.supervisor.core import Supervisor
from machine_lifecycle.supervisor.memory import Limited, MemoryWatch, tree_memory
from tests.integration.test_supervisor_core import House, house, paths, spec, until
from tests.support.patience import PATIENCE

__all__ = ["house", "paths"]

_MIB = 1 << 20
_HOLDS = """
import os, sys, time
held = b"x" * (int(sys.argv[1]) << 20)
if "fork" in sys.argv:
    for _ in range(3):
        if os.fork() == 0:
            break
if "spawn" in sys.argv:
    import subprocess
    subprocess.Popen([sys.executable, "-c", "h = b'x' * (60 << 20)\\nimport time; time.sleep(99)"])
print("started", flush=True)
time.sleep(99)
"""


def holder(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-c", _HOLDS, *arguments)


async def test_what_a_child_of_it_holds_counts(house: House) -> None:
    """PM2 looks at the first process alone, which here is a small one."""
    house.supervisor._memory._interval = 0.05
    greedy = spec("p", argv=holder("1", "spawn"), max_memory_mib=60)
    await house.supervisor.launch([greedy, spec("q")])
    await house.until(lambda: house.status("p").restarts)
    cause = house.status("p").last_exit
    assert cause is not None
    assert cause.reason.startswith("memory: ")
    assert cause.reason.endswith("more than its 60 MiB")
    assert house.status("q").restarts == 0


async def test_memory_that_forks_share_counts_once(house: House) -> None:
    await house.supervisor.launch([spec("p", argv=holder("60", "fork"))])
    await house.ready("p")
    pid = house.status("p").pid
    assert pid
    await until(lambda: tree_memory(pid, 1 << 40) > 200 * _MIB)  # as resident, four times
    assert tree_memory(pid, 150 * _MIB) < 150 * _MIB
    assert tree_memory(2**22 + 1, 1) == 0


async def test_one_that_is_always_too_big_is_given_up(house: House) -> None:
    house.supervisor._memory._interval = 0.02
    rule = RestartPolicy(backoff=0.01, budget=2, jitter=0)
    await house.supervisor.launch([spec("p", argv=holder("80"), max_memory_mib=40, restart=rule)])
    await house.until(lambda: house.fatal)
    assert house.status("p").state is ProcessState.FATAL
    assert "memory" in house.fatal[0][1].summary


async def test_nothing_is_looked_at_without_a_limit(house: House) -> None:
    await house.supervisor.launch([spec("p")])
    await house.ready("p")
    assert not [t for t in asyncio.all_tasks() if t.get_name() == "memory of processes"]


async def test_the_look_ends_with_the_last_process_that_has_a_limit() -> None:
    asked: list[list[Limited] | None] = [None, [], []]
    watch = MemoryWatch(asked.pop, interval=0)
    watch.begin()
    await until(lambda: not asked)
    watch.close()


async def test_a_dependant_is_started_anew_with_what_it_needs(house: House) -> None:
    service = spec("s")
    follows = spec("f", needs=("s",), restart_with_needs=True)
    stays = spec("g", needs=("s",))
    await house.supervisor.launch([service, follows, stays])
    await house.ready("s", "f", "g")
    was = {name: house.status(name).pid for name in ("s", "f", "g")}
    os.kill(was["s"] or 0, signal.SIGKILL)
    await house.until(lambda: house.status("f").restarts == 1)
    await house.ready("s", "f", "g")
    cause = house.status("f").last_exit
    assert cause is not None
    assert cause.reason == "s, which it needs, has ended"
    assert house.status("f").pid != was["f"]
    assert house.status("g").pid == was["g"]
    assert (house.status("f").started or 0) > (house.status("s").started or 0)


async def test_such_restarts_use_up_no_budget(house: House) -> None:
    rule = RestartPolicy(backoff=0.01, budget=0)
    follows = spec("f", needs=("s",), restart_with_needs=True, restart=rule)
    await house.supervisor.launch([spec("s"), follows])
    for count in (1, 2, 3):
        await house.ready("s", "f")
        await house.supervisor.restart("s")
        await house.until(lambda: house.status("f").restarts >= count)  # noqa: B023 - in this round
    await house.ready("s", "f")
    assert not house.fatal


async def test_one_that_is_stopped_meanwhile_stays_stopped(house: House) -> None:
    grace = StopPolicy(grace=0.5)
    follows = spec("f", "--deaf", needs=("s",), restart_with_needs=True, stop=grace)
    await house.supervisor.launch([spec("s"), follows])
    await house.ready("s", "f")
    await house.supervisor.stop("s")
    async with asyncio.timeout(PATIENCE):
        await house.supervisor.stop("f")
    assert house.status("f").state is ProcessState.STOPPED
    assert house.status("f").restarts == 0


class Doorkeeper:
    """Lets the first start through, and each further one when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.free = asyncio.Event()

    async def wait(self, spec: ProcessSpec, tell: Callable[[str], None]) -> None:
        """Stand before a start."""
        self.asked.append(spec.name)
        if len(self.asked) > 1:
            tell("memory")
            await self.free.wait()


async def crashed(supervisor: Supervisor) -> int:
    """Start a process and kill it; return when its next start waits."""
    await supervisor.launch([spec("p")])
    await supervisor.wait_ready(["p"])
    pid = supervisor.statuses()[0].pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    await until(lambda: supervisor.statuses()[0].waiting_for.startswith("memory"))
    return pid


async def test_each_start_waits_for_what_must_be_there_first(paths: Paths) -> None:
    """Also the one after a crash, and the one that was asked for; and it can be seen."""
    keeper = Doorkeeper()
    supervisor = Supervisor(paths=paths, base_env={}, before_start=keeper.wait, guest=True)
    try:
        first = await crashed(supervisor)
        assert supervisor.statuses()[0].pid is None
        keeper.free.set()
        await supervisor.wait_ready(["p"])
        assert supervisor.statuses()[0].pid not in (None, first)
        await supervisor.restart("p")
        assert keeper.asked == ["p", "p", "p"]
    finally:
        await supervisor.stop_all(5, support=True)


async def test_a_stop_is_not_held_up_by_that(paths: Paths) -> None:
    keeper = Doorkeeper()
    supervisor = Supervisor(paths=paths, base_env={}, before_start=keeper.wait, guest=True)
    await crashed(supervisor)
    async with asyncio.timeout(PATIENCE):
        await supervisor.stop_all(4, support=True)
    assert supervisor.statuses()[0].state is ProcessState.STOPPED
    assert keeper.asked == ["p", "p"]
