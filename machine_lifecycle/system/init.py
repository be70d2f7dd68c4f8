"""The first process of a container: reaps, forwards signals, respawns the orchestrator.

The kernel kills everything in a container when its first process ends, and gives that process no
default signal handlers and every orphan to reap. So the first process is this small one: it does
nothing that could fail. An orchestrator that is killed is started again and adopts what runs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence

__all__ = ["run_init"]

FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_RESPAWN_WAITS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before each respawn in a row; the last one repeats."""
_GOOD_UPTIME = 60.0
"""Seconds after which a killed orchestrator counts as the first again."""
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def run_init(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run *argv* until it ends by itself; the exit status to end with.

    A status of its own is final. Death by a signal is not: it is started again, unless it was told
    to stop. Signals that arrive here go to it. Orphans are reaped whoever they belonged to.
    """
    watched = {*FORWARDED, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    if os.getpid() != 1:
        _become_subreaper()
    told_to_stop = False
    deaths = 0
    while True:
        began = time.monotonic()
        child = os.posix_spawn(argv[0], list(argv), dict(environ), setsigmask=[])
        status: int | None = None
        while status is None:
            number = signal.sigwait(watched)
            if number == signal.SIGCHLD:
                status = _reap(child)
            else:
                told_to_stop = told_to_stop or number in _STOPPING
                os.kill(child, number)
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return code
        if told_to_stop:
            return 128 - code
        deaths = 1 if time.monotonic() - began >= _GOOD_UPTIME else deaths + 1
        wait = _RESPAWN_WAITS[min(deaths, len(_RESPAWN_WAITS)) - 1]
        name = signal.Signals(-code).name
        sys.stderr.write(f"init: the orchestrator was killed by {name}; again in {wait:g} s\n")
        if _told_to_stop_within(wait):
            return 128 - code


def _reap(child: int) -> int | None:
    """Reap everything that has ended; the wait status of *child* if it was among it."""
    found: int | None = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = status


def _told_to_stop_within(seconds: float) -> bool:
    """Wait, reaping; whether a signal asked for the end meanwhile."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        info = signal.sigtimedwait({*_STOPPING, signal.SIGCHLD}, left)
        if info is None:
            return False
        if info.si_signo != signal.SIGCHLD:
            return True
        _reap(0)
    return False


def _become_subreaper() -> None:
    """Have orphans handed to us although we are not process 1 (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
