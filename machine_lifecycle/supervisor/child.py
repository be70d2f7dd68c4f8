"""One spawned or adopted process and everything that it started."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from enum import Enum

import attrs

from machine_lifecycle.supervisor.identity import Identity, alive, identify, send
from machine_lifecycle.supervisor.tree import Strays, members
from machine_lifecycle.supervisor.watch import ExitWatch, foreign_status, gone

__all__ = ["KILLED_WITHIN", "Child", "Ended", "describe_status"]

_GROUP = 4  # PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9
_REAPED_WITHIN = 0.2  # another parent reaps in a few ms; then the kernel tells its status
KILLED_WITHIN = 30.0
"""Seconds in which a killed process ends. The kernel first takes back its memory: seconds
for tens of GB, more where a driver has pinned it. One that is still there after this hangs.
"""


@attrs.frozen
class Ended:
    """How a process ended: a status, the name of a signal, or neither if nobody can tell."""

    code: int | None = None
    signal: str = ""

    @property
    def failed(self) -> bool:
        """Whether it ended other than with status 0."""
        return self.code != 0

    @property
    def words(self) -> str:
        """For people."""
        if self.signal:
            return f"killed by {self.signal}"
        return "ended, status unknown" if self.code is None else f"exit status {self.code}"


def describe_status(returncode: int | None) -> Ended:
    """From a return code as ``subprocess`` gives it."""
    if returncode is not None and returncode < 0:
        try:
            return Ended(signal=signal.Signals(-returncode).name)
        except ValueError:  # real-time signals have no names
            return Ended(signal=f"signal {-returncode}")
    return Ended(code=returncode)


class _Order(Enum):
    """What was last asked of a child."""

    RUN = "run"
    END = "end"
    KILL = "kill"


class Child:
    """A process, its tree, and its end.

    ``ended`` is resolved as soon as the process itself has ended; what it leaves behind has been
    killed by then, unless its end was asked for, in which case ``end`` sees to it.
    """

    def __init__(
        self, process: subprocess.Popen[bytes] | Identity, token: str, *, strays: Strays
    ) -> None:
        """Watch a process.

        Args:
            process: Our own child, not reaped, or one that is adopted.
            token: What it carries in its environment.
            strays: Finds what slipped away from its tree.

        Raises:
            ProcessLookupError: It has ended, and was no child of ours.
        """
        self.pid: int = process.pid
        self.token = token
        self.adopted: bool = isinstance(process, Identity)
        self._identity = process if isinstance(process, Identity) else None
        self.ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._popen = None if isinstance(process, Identity) else process
        self._strays = strays
        self._order = _Order.RUN
        self._acted = 0.0
        self._over = False  # whether the kernel has told of its end
        self._left: set[Identity] = set()
        self._watch = ExitWatch(self.pid, self._on_exit)
        if self._watch.handle < 0 or self.adopted:
            self._check()

    @property
    def identity(self) -> Identity:
        """Who it is.

        The number of a child of ours can't change hands before we reap it, so this is asked of the
        kernel when it is first needed: right after the spawn that would wait for the child.
        """
        if self._identity is None:
            self._identity = identify(self.pid)
        if self._identity is None:
            raise ProcessLookupError(self.pid)
        return self._identity

    def _check(self) -> None:
        """Raise if it is not there, or not the one that is meant."""
        if not self.adopted:
            self._identity = identify(self.pid)
        elif not alive(self.identity):
            self._watch.close()
            raise ProcessLookupError(self.pid)

    def _members(self) -> set[Identity]:
        """Its tree without itself, not looked at before our last signal."""
        living = not self._over
        strays, after = self._strays, self._acted
        return members(self.pid, self.token, living=living, strays=strays, after=after)

    def _on_exit(self) -> None:
        # Until it is reaped its number can't be used anew, so the sweep comes first.
        self._identity = self._identity or identify(self.pid)
        self._over = True
        if self._order is _Order.END:
            self._left |= self._members()
        else:
            found = self._members()
            self._signal_group(signal.SIGKILL)
            self._left |= self._kill_each(found)
        if self._popen is not None:
            self._finish(describe_status(self._popen.wait()))
        else:
            try:  # adopted, and yet our child: by an earlier supervisor in this same program
                _, status = os.waitpid(self.pid, 0)
            except ChildProcessError:
                self._ask_status(asyncio.get_running_loop().time() + _REAPED_WITHIN)
            else:
                self._finish(describe_status(os.waitstatus_to_exitcode(status)))

    def _ask_status(self, until: float) -> None:
        """Not our child: its parent reaps it in a moment, and there is no event for that."""
        status = foreign_status(self._watch.handle) if self._watch.handle >= 0 else None
        loop = asyncio.get_running_loop()
        if status is not None:
            self._finish(describe_status(os.waitstatus_to_exitcode(status)))
        elif loop.time() < until:
            loop.call_later(0.005, self._ask_status, until)
        else:
            self._finish(Ended())

    def _finish(self, ended: Ended) -> None:
        self._watch.close()
        if not self.ended.done():
            self.ended.set_result(ended)

    def _signal_group(self, number: int) -> None:
        """Signal its process group, which is its own: it was made leader of a session."""
        if self.ended.done():
            return  # reaped: the number may be somebody else's group now
        self._acted = time.monotonic()
        if self._watch.handle >= 0:
            try:
                signal.pidfd_send_signal(self._watch.handle, number, None, _GROUP)
            except ProcessLookupError:
                return  # the whole group has ended
            except OSError:
                pass  # a kernel before 6.9: by number, below
            else:
                return
        if identify(self.pid) == self.identity:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                return

    def _kill_each(self, identities: Iterable[Identity]) -> set[Identity]:
        self._acted = time.monotonic()
        return {identity for identity in identities if send(identity, signal.SIGKILL)}

    def ask(self, number: int) -> None:
        """Send the stop signal to the tree, once however often this is called."""
        if self._order is not _Order.RUN or self.ended.done():
            return
        self._order = _Order.END
        self._left |= self._members()  # before the signal: who loses its parent is not found after
        outside = [one for one in self._left if not _in_group(one, self.pid)]
        self._signal_group(number)
        for identity in outside:
            send(identity, number)

    def kill(self) -> None:
        """End the tree at once, without asking."""
        self._order = _Order.KILL
        found = self._members() | self._left
        self._signal_group(signal.SIGKILL)
        self._left |= self._kill_each(found)

    @property
    def remains(self) -> bool:
        """Whether something of its tree is still there that was told to end."""
        return any(alive(one) for one in self._left)

    async def end(
        self, number: int, grace: float, killed_within: float = KILLED_WITHIN
    ) -> tuple[int, ...]:
        """Ask the tree to end, wait, kill what is left of it; the numbers that survived even that.

        Safe to call twice, at once too, and when it has ended.

        Args:
            number: The stop signal.
            grace: Seconds until the tree is killed.
            killed_within: Seconds for which its end is waited for then.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        self.ask(number)
        await asyncio.wait([self.ended], timeout=max(0.0, grace))
        if self.ended.done() and self._left:
            await gone(self._left, deadline - loop.time())
        return await self.sweep(killed_within)

    async def sweep(self, within: float = KILLED_WITHIN) -> tuple[int, ...]:
        """Kill whatever there still is of the tree, and wait until it is gone, at most so many
        seconds; the numbers that survived.
        """
        until = asyncio.get_running_loop().time() + within
        seen = bool(self._left)
        while True:
            found = self._members()
            left = {one for one in found | self._left if alive(one)}
            if not self.ended.done():
                left.add(self.identity)
            if left:
                remaining = until - asyncio.get_running_loop().time()
                if remaining <= 0:
                    return tuple(sorted(one.pid for one in left))
                self.kill()
                await gone(left, remaining)
                await asyncio.wait([self.ended], timeout=max(0.0, remaining))
            elif found or seen:
                # What one had started that ended during the look may have been handed on to whom
                # the look had passed already: only a look that begins later finds it.
                await asyncio.sleep(0)
            else:
                break
            seen = bool(left)
        self._left.clear()
        return ()


def _in_group(identity: Identity, group: int) -> bool:
    try:
        return os.getpgid(identity.pid) == group
    except ProcessLookupError:
        return True  # ended: nothing to signal
