"""Watches whether the workspace's disk answers, and how much room it has: an alarm first, then no
further jobs.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import attrs

from machine_lifecycle.assembly.watching import Watching
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.model.status import ConditionKind
from machine_lifecycle.system.tasks import end_tasks, in_daemon_thread

__all__ = ["INTERVAL", "DiskWatch", "disk_watch"]

INTERVAL = 30.0
"""Seconds between two looks. A disk tells nobody that it gets full; at 500 MB/s, which is much for
pictures, 15 GB go by in between."""
PATIENCE = 10.0
"""Seconds in which a file system is to answer. A local one takes microseconds, one over a network
that is busy some seconds; one whose server is lost answers when that is back, or never."""
_AGAIN = 1.1
"""The alarm ends when there is a tenth more than the threshold, so that it doesn't flutter."""
_CAUSE = "disk"
_log = logging.getLogger("machine_lifecycle.machine")


@attrs.define(kw_only=True, eq=False)
class DiskWatch:
    """Looks now and then, and raises ``disk_low``; holds the workers while hardly anything is left.

    A job that is taken then would fail with a full disk, and use up its tries on this machine. A
    worker that is held stays registered, and ends what it runs. They are held, too, while the file
    system does not answer (``disk_hung``): whoever touches it hangs until it does.

    Attributes:
        folder: On the disk that is looked at; the nearest one above it that is there counts.
        low: Bytes below which the alarm is raised; 0: never.
        full: Bytes below which workers take no further jobs; 0: never.
        raise_condition: Kind, cause, words.
        clear_condition: Kind.
        hold: Told whether workers are to take no jobs.
        patience: Seconds in which the file system is to answer.
        free: Bytes that were free at the last look.
    """

    folder: Path
    low: int
    full: int
    raise_condition: Callable[[str, str, str], None]
    clear_condition: Callable[[str], None]
    hold: Callable[[bool], None]
    patience: float = PATIENCE
    free: int = attrs.field(init=False, default=0)
    _alarmed: bool = attrs.field(init=False, default=False)
    _held: bool = attrs.field(init=False, default=False)
    _hung: bool = attrs.field(init=False, default=False)
    _task: asyncio.Task[None] | None = attrs.field(init=False, default=None)

    def start(self) -> None:
        """Look, again and again, until closed."""
        self._task = asyncio.create_task(self._run(), name="disk watch")

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            await end_tasks(self._task)

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL)

    async def look(self) -> None:
        """Look once, and tell what follows from it; returns when the file system has answered."""
        answer = in_daemon_thread(partial(shutil.disk_usage, self.folder), name="disk watch")
        try:
            await asyncio.wait({answer}, timeout=self.patience)
            if not answer.done():
                self._set_hung(hung=True)
            usage = await answer
        except OSError as error:
            self._set_hung(hung=False)
            _log.warning("can't see how much room %s has: %s", self.folder, error)
        else:
            self._set_hung(hung=False)
            self._weigh(usage.free)
        finally:
            answer.cancel()

    def _set_hung(self, *, hung: bool) -> None:
        if hung is self._hung:
            return
        self._hung = hung
        if hung:
            words = (
                f"the file system of {self.folder} has not answered for {self.patience:.0f} s: "
                "no further jobs are taken until it does"
            )
            _log.warning("%s", words)
            self.raise_condition(ConditionKind.DISK_HUNG, _CAUSE, words)
        else:
            _log.info("the file system of %s answers again", self.folder)
            self.clear_condition(ConditionKind.DISK_HUNG)
        if not self._held:
            self.hold(hung)

    def _weigh(self, free: int) -> None:
        self.free = free
        held = free < self.full * (_AGAIN if self._held else 1)
        alarmed = held or free < self.low * (_AGAIN if self._alarmed else 1)
        if held is not self._held:
            self.hold(held)
        if (alarmed, held) == (self._alarmed, self._held):
            return
        self._alarmed, self._held = alarmed, held
        if alarmed:
            words = self._words()
            _log.warning("%s", words)
            self.raise_condition(ConditionKind.DISK_LOW, _CAUSE, words)
        else:
            _log.info("%s has room again", self.folder)
            self.clear_condition(ConditionKind.DISK_LOW)

    def _words(self) -> str:
        words = f"{_mib(self.free)} are free on the disk of {self.folder}"
        if self._held:
            return f"{words}: no further jobs are taken until it is {_mib(self.full * _AGAIN)}"
        return words


def disk_watch(settings: Settings, paths: Paths, watching: Watching) -> DiskWatch:
    """The watch of a machine's workspace, by its settings."""
    return DiskWatch(
        folder=paths.workspace,
        low=round(settings.disk_low_gb * (1 << 30)),
        full=round(settings.disk_full_mb * (1 << 20)),
        raise_condition=watching.raise_condition,
        clear_condition=watching.clear_condition,
        hold=lambda held: watching.links.hold(held),  # noqa: PLW0108 - they are made further down
    )


def _mib(count: float) -> str:
    return f"{count / (1 << 20):,.0f} MiB"
