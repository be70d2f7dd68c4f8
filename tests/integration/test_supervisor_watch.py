"""Ends, trees and identities, as the kernel tells them."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from machine_lifecycle.supervisor.identity import Identity, alive, identify, send
from machine_lifecycle.supervisor.tree import TOKEN_VARIABLE, bearers, descendants
from machine_lifecycle.supervisor.watch import ExitWatch, foreign_status, gone
from tests.support.patience import PATIENCE

_EXIT = {"x86_64": 60, "aarch64": 93}  # SYS_exit: of one thread
SLEEP = shutil.which("sleep") or "/bin/sleep"


@pytest.mark.parametrize("use_thread", [False, True])
async def test_an_end_is_told_and_left_to_be_reaped(use_thread: bool) -> None:  # noqa: FBT001
    with subprocess.Popen([SLEEP, "100"]) as child:  # noqa: ASYNC220 - a ms
        ended = asyncio.Event()
        watch = ExitWatch(child.pid, ended.set, use_thread=use_thread)
        child.kill()
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
        watch.close()
        watch.close()
        assert child.poll() == -signal.SIGKILL


async def test_a_process_that_is_not_our_child_can_be_watched(tmp_path: Path) -> None:
    """Its parent reaps it; the kernel keeps the status, from Linux 6.15 on."""
    script = (
        "import subprocess, sys\n"
        "child = subprocess.Popen(['sh', '-c', 'read line; exit 7'], stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\n"
        "input()\n"
        "child.communicate(b'go\\n')\n"
        "print('reaped', flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(  # noqa: ASYNC220 - a ms
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        grandchild = int(parent.stdout.readline())
        ended = asyncio.Event()
        watch = ExitWatch(grandchild, ended.set)
        handle = watch.handle
        assert foreign_status(handle) is None
        parent.stdin.write(b"\n")
        parent.stdin.flush()
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
        assert parent.stdout.readline() == b"reaped\n"
        status = foreign_status(handle)
        assert status is None or os.waitstatus_to_exitcode(status) == 7
        watch.close()
        parent.communicate(b"\n")


async def test_a_wrong_identity_is_never_signalled() -> None:
    with subprocess.Popen([SLEEP, "100"]) as child:  # noqa: ASYNC220 - a ms
        who = identify(child.pid)
        assert who is not None
        assert not send(Identity(who.pid, who.created + 1, who.boot), signal.SIGKILL)
        assert not send(Identity(who.pid, who.created, "another boot"), signal.SIGKILL)
        assert alive(who)
        assert not await gone([who], 0.01)
        assert send(who, signal.SIGKILL)
        assert await gone([who], PATIENCE)
        assert not alive(who)
    assert not send(who, signal.SIGKILL)
    assert identify(child.pid) is None


@pytest.mark.skipif(platform.machine() not in _EXIT, reason="a number of the kernel's is needed")
async def test_a_process_lives_until_its_last_thread_has_ended() -> None:
    """As one that is killed: its first thread may be gone while others have its port still."""
    script = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(100,)).start()\n"
        f"ctypes.CDLL(None).syscall({_EXIT[platform.machine()]}, 0)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as child:  # noqa: ASYNC220 - a ms
        who = identify(child.pid)
        assert who is not None
        status = Path(f"/proc/{child.pid}/status")
        async with asyncio.timeout(PATIENCE):
            while "zombie" not in status.read_text():  # noqa: ASYNC110, ASYNC240 - tells nobody
                await asyncio.sleep(0.01)  # sleep: as said
        assert alive(who)
        assert not await gone([who], 0.01)
        assert send(who, signal.SIGKILL)
        assert await gone([who], PATIENCE)
        assert not alive(who)


def test_bearers_of_a_token_are_found_with_their_descendants() -> None:
    shell = ["sh", "-c", f"{SLEEP} 100 & echo; wait"]
    env = {"PATH": os.defpath, TOKEN_VARIABLE: "a-token"}
    with subprocess.Popen(shell, env=env, stdout=subprocess.PIPE, start_new_session=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        # One that is just becoming another program shows no environment for a moment.
        while len((found := bearers(frozenset(("a-token", "another"))))["a-token"]) < 2:
            continue
        assert child.pid in {stat.pid for stat in found["a-token"]}
        assert found["another"] == []
        (below,) = descendants(child.pid)
        assert below.session == child.pid
        os.killpg(child.pid, signal.SIGKILL)
