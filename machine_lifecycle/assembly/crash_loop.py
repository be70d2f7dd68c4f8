"""What the workspace remembers of the lives before this one, and the wait that follows from it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import attrs

from machine_lifecycle.assembly.watching import Watching
from machine_lifecycle.lifecycle import events
from machine_lifecycle.lifecycle.crash_loop import HEAL_AFTER, PastLives, wait_before
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.ports import Clock, ProgressSink
from machine_lifecycle.model.settings import Settings, setting_info
from machine_lifecycle.model.status import ConditionKind
from machine_lifecycle.supervisor.identity import alive
from machine_lifecycle.supervisor.journal import Journal
from machine_lifecycle.system.files import write_atomically

__all__ = ["CrashLoop", "configuration_digest", "crash_loop"]

_VERSION = 1
_TELL = 10.0
"""Seconds between two words about the wait: fewer than a state may be silent for."""
_LARGEST = 1 << 20
"""Bytes up to which a file that a setting names is looked into."""
_CAUSE = "earlier lives"
_log = logging.getLogger("machine_lifecycle.machine")


def configuration_digest(settings: Settings) -> str:
    """Of all settings that are no secrets, the files they name, and our own version."""
    told: dict[str, str] = {"version": version("machine-lifecycle")}
    for info in setting_info():
        if info.secret:
            continue
        value = str(getattr(settings, info.field))
        told[info.field] = value
        content = _content(value)
        if content is not None:
            told[f"{info.field} content"] = hashlib.sha256(content).hexdigest()
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _content(value: str) -> bytes | None:
    try:
        path = Path(value)
        return path.read_bytes() if path.is_file() and path.stat().st_size <= _LARGEST else None
    except (OSError, ValueError):
        return None  # no path, or none that we may read


@attrs.define(kw_only=True, eq=False)
class CrashLoop:
    """Reads the lives before this one, keeps this one, and holds its beginning back.

    Implements ``states.context.CrashLoop``.

    Attributes:
        path: The file (0600).
        journal: Of the processes that an earlier orchestrator left.
        longest: Seconds of the longest wait; 0: never wait.
        raise_condition: Kind, cause, words.
        clear_condition: Kind.
    """

    path: Path
    journal: Path
    longest: float
    clock: Clock
    raise_condition: Callable[[str, str, str], None]
    clear_condition: Callable[[str], None]
    past: PastLives = attrs.field(init=False, factory=PastLives)
    _ready: bool = attrs.field(init=False, default=False)
    _healing: asyncio.TimerHandle | None = attrs.field(init=False, default=None)

    def begin(self, digest: str) -> None:
        """A life begins with this configuration."""
        self._keep(self._read().begun(digest))

    def hear(self, event: events.Event) -> None:
        """Learn how this life goes."""
        match event:
            case events.MachineReady():
                self._ready = True
                loop = asyncio.get_running_loop()
                self._healing = loop.call_later(HEAL_AFTER, self._heal)
            case events.MachineFailed():
                self._ready = False
                self._calm()
            case events.MachineStopped(reason=reason):
                self._calm()
                self._keep(self.past.ended(well=self._ready, cause=reason))

    async def wait(self, progress: ProgressSink) -> None:
        """Wait, as a step that is seen, if the lives before failed; not where processes of the
        last one still run, since they lose nothing but time.
        """
        seconds = wait_before(self.past, self.longest)
        if not self.past.failures:
            return
        many, cause = self.past.failures, self.past.cause
        lives = (
            f"{many} lives in a row failed, the last one" if many > 1 else "the last life failed"
        )
        words = f"{lives}: {cause}"
        self.raise_condition(ConditionKind.CRASH_LOOP, _CAUSE, words)
        if not seconds or self._inherits():
            return
        _log.warning("%s; this one begins in %.0f s", words, seconds)
        began = now = self.clock.monotonic()
        while (left := began + seconds - now) > 0:
            progress.step("crash loop", f"{words}; this one begins in {left:.0f} s")
            await self.clock.sleep_until(now + min(_TELL, left))
            now = self.clock.monotonic()
        progress.finished("crash loop", seconds=now - began)

    def close(self) -> None:
        """Heal no more."""
        self._calm()

    def _inherits(self) -> bool:
        entries = Journal(self.journal).read().values()
        return any(entry.identity is not None and alive(entry.identity) for entry in entries)

    def _calm(self) -> None:
        if self._healing is not None:
            self._healing.cancel()
            self._healing = None

    def _heal(self) -> None:
        self._keep(self.past.healed())
        self.clear_condition(ConditionKind.CRASH_LOOP)

    def _keep(self, past: PastLives) -> None:
        self.past = past
        try:
            told = {"version": _VERSION, **attrs.asdict(past)}
            write_atomically(self.path, json.dumps(told) + "\n", mode=0o600)
        except OSError as error:  # a full disk: the machine may well run all the same
            _log.warning("how this life goes can't be remembered: %s", error)

    def _read(self) -> PastLives:
        try:
            return _parsed(json.loads(self.path.read_text("utf-8")))
        except FileNotFoundError:
            return PastLives()
        except (OSError, ValueError, TypeError, KeyError) as error:
            aside = self.path.with_name(f"{self.path.name}.corrupt-{int(time.time())}")
            _log.error("what failed before can't be read (%s); kept as %s", error, aside)
            try:
                self.path.replace(aside)
            except OSError as refused:
                _log.error("nor can it be put aside: %s", refused)
            return PastLives()


def _parsed(data: dict[str, object]) -> PastLives:
    if data["version"] != _VERSION:
        raise ValueError(f"version {data['version']!r} is not {_VERSION}")
    failures, cause, digest, is_open = (data[k] for k in ("failures", "cause", "digest", "open"))
    if type(failures) is not int or failures < 0 or type(is_open) is not bool:
        raise ValueError("its numbers are none")
    return PastLives(failures=failures, cause=str(cause), digest=str(digest), open=is_open)


def crash_loop(settings: Settings, paths: Paths, clock: Clock, watching: Watching) -> CrashLoop:
    """The one of a machine, by its settings."""
    return CrashLoop(
        path=paths.crash_loop,
        journal=paths.journal,
        longest=settings.crash_backoff_max,
        clock=clock,
        raise_condition=watching.raise_condition,
        clear_condition=watching.clear_condition,
    )
