"""What is left of a tree whose members end while it is looked at."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from machine_lifecycle.supervisor.child import Child
from machine_lifecycle.supervisor.identity import Stat, read_stat
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="judged by way of /proc")

SLEEP = shutil.which("sleep") or "/bin/sleep"


class Looks:
    """Finds, look by look, what it is told to find; the last of that again and again."""

    def __init__(self, *looks: list[int]) -> None:
        self.looks = list(looks)

    def of(self, leader: int, token: str, after: float) -> list[Stat]:  # noqa: ARG002 - as the port
        found = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return [stat for stat in map(read_stat, found) if stat is not None]


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    made = [subprocess.Popen([SLEEP, "600"], start_new_session=True) for _ in range(3)]
    yield made
    for one in made:
        one.kill()
        one.wait()


async def test_one_that_a_look_missed_while_its_parent_ended_is_killed_too(
    processes: list[subprocess.Popen[bytes]],
) -> None:
    leader, parent, missed = processes
    # The second look passed us by when its parent still had it, and the parent when it had ended:
    # the kernel had handed it to us meanwhile.
    child = Child(leader, "token", strays=Looks([parent.pid], [], [missed.pid]))
    leader.send_signal(signal.SIGKILL)
    async with asyncio.timeout(PATIENCE):
        await child.ended
        await asyncio.to_thread(parent.wait)
        await child.sweep()
    assert missed.poll() == -signal.SIGKILL
