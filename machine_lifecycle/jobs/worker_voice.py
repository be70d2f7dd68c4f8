"""What a worker says of itself, to its orchestrator and in Redis, and what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterable
from typing import Any

from redis.exceptions import RedisError

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.jobs.errors import WarmUpFailed
from machine_lifecycle.jobs.link import Link
from machine_lifecycle.jobs.registration import Registration
from machine_lifecycle.jobs.worker_config import WorkerConfig
from machine_lifecycle.model.packs import Loaded
from machine_lifecycle.model.wire import to_json_value
from machine_lifecycle.system.redis import as_lifecycle_error
from machine_lifecycle.system.redis_foreign import ForeignKey
from machine_lifecycle.system.redis_functions import FunctionsRefused

__all__ = ["Hold", "WorkerVoice"]

_log = logging.getLogger(__name__)

_GATHER = 0.1
"""Seconds in which changes of the status become one."""


class Hold:
    """Reasons for which a worker takes no job. It takes jobs while there is none."""

    STANDBY = "standby"
    PAUSED = "paused"
    DRAINING = "draining"
    STOPPING = "stopping"
    HELD = "held"
    """The machine is short of something, such as room on its disk. The worker stays registered."""
    HUNG = "hung"
    """Its service answers and does nothing, or fails all it is given; it may be restarted soon."""


_HELD_BY = {
    Hold.STOPPING: "it stops",
    Hold.DRAINING: "it is draining",
    Hold.STANDBY: "its service is not ready",
    Hold.PAUSED: "its service went down",
    Hold.HUNG: "its service fails job after job, or hangs; it is given a rest",
    Hold.HELD: "its machine is short of something; see: machine-lifecycle status",
}
"""Why a worker takes no jobs, for those who ask the queue; what weighs most comes first."""


class WorkerVoice:
    """Keeps the reasons that hold the worker back, and tells every change in order."""

    def __init__(
        self,
        config: WorkerConfig,
        registration: Registration,
        *,
        order: Callable[[dict[str, Any]], None],
    ) -> None:
        """Make a voice; it speaks while ``run`` does.

        Args:
            config: Whose it is.
            registration: Tells it in Redis.
            order: Takes what the orchestrator says.
        """
        self.holds: set[str] = {Hold.STANDBY} if config.control_socket else set()
        self.advertised: dict[str, Any] | None = None
        self._loaded: list[dict[str, Any]] = []
        self._jobs: dict[str, None] = {}
        self._registration = registration
        self._change = asyncio.Event()
        self._said_status = ""
        self._config = config
        self._logged = ""
        """The last trouble that was logged, until it is over."""
        self._hindrances: dict[str, str] = {}
        """What is hindered, and by what."""
        self._link: Link | None = None
        if config.control_socket:
            hello = {
                "hello": "worker",
                "worker_id": config.worker_id,
                "process": config.process,
                "pid": os.getpid(),
            }
            self._link = Link(config.control_socket, hello=hello, state=self._state, told=order)

    async def run(self) -> None:
        """Speak until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish())
            if self._link:
                group.create_task(self._link.run())

    def connected(self, capabilities: dict[str, Any], loaded: tuple[Loaded, ...]) -> None:
        """The services answered, with these node packs, and the worker is registered."""
        self.advertised = capabilities
        self._loaded = to_json_value(loaded)
        self._tell_connected()

    def _tell_connected(self) -> None:
        """Which ends what was told as trouble."""
        self._logged = ""
        self._say("connected", loaded=self._loaded)
        self._say("status", status=self.status)
        self._change.set()

    def disconnected(self, reason: str) -> None:
        """A service went away."""
        self.advertised = None
        self._say("disconnected", reason=reason)
        self._change.set()

    def trouble(self, error: LifecycleError) -> None:
        """Something the orchestrator should show."""
        self._say("trouble", error=error.to_wire())
        if self._link is None and error.summary != self._logged:  # with one, the other end does it
            _log.warning("%s: %s", self._config.worker_id, error)
            self._logged = error.summary
        if isinstance(error, WarmUpFailed):  # before it was started anew, it may have been warm
            self.disconnected(error.summary)
            self._say("cold", words=error.summary)

    def hindered(self, what: str, error: Exception | None) -> None:
        """Tell what hinders the queue and nobody else would tell.

        Args:
            what: Is hindered.
            error: By which; ``None``: by nothing any more.
        """
        if isinstance(error, ForeignKey | FunctionsRefused):
            known = str(error) in self._hindrances.values()
            self._hindrances[what] = str(error)
            if not known:
                self.trouble(as_lifecycle_error(error, self._config.redis_url))
        elif error is None and self._hindrances:
            over = self._hindrances.pop(what, "")
            if over and self.advertised is not None and not self._hindrances:
                self._tell_connected()

    def warming(self, words: str) -> None:
        """A service is being warmed up, and how far that is."""
        self._say("warming", words=words)

    def taken(self, job_id: str) -> None:
        """A job was claimed."""
        self._jobs[job_id] = None
        self._say("job_taken", job_id=job_id)
        self._said_status = "busy"  # whoever hears of a job knows that
        self.changed()

    def done(self, job_id: str, outcome: str) -> None:
        """A run ended here: ``completed``, ``failed``, ``retrying`` (it failed, and will be run
        again), ``cancelled`` or ``released``.
        """
        self._jobs.pop(job_id, None)
        self._say("job_done", job_id=job_id, outcome=outcome)
        if not self._jobs and self._said_status == "busy":
            self._said_status = "idle"  # likewise
        self.changed()

    def changed(self) -> None:
        """Tell the present status."""
        if self._link and self.status != self._said_status:
            self._said_status = self.status
            self._say("status", status=self.status)
        self._change.set()

    @property
    def status(self) -> str:
        """``idle``, ``busy``, ``paused`` or ``draining``."""
        if self.holds & {Hold.DRAINING, Hold.STOPPING}:
            return "draining"
        if self._jobs:
            return "busy"
        return "paused" if self.holds else "idle"

    async def last_words(self) -> None:
        """Return when what was said has left."""
        if self._link:
            await self._link.flush()

    def _say(self, say: str, **facts: Any) -> None:
        if self._link:
            self._link.say({"say": say, **facts})

    def _state(self) -> Iterable[dict[str, Any]]:
        if self.advertised is None:
            yield {"say": "standby"}
        else:
            yield {"say": "connected", "loaded": self._loaded}
        for job_id in self._jobs:
            yield {"say": "job_taken", "job_id": job_id}
        if self.advertised is not None:
            yield {"say": "status", "status": self.status}

    async def _publish(self) -> None:
        told = ("", "")
        while True:
            await self._change.wait()
            # The job begins first. Whoever ends one and begins the next at once was never idle.
            await asyncio.sleep(_GATHER)
            self._change.clear()
            status, held_by = self.status, self._held_by()
            if held_by and status == "idle":
                status = "paused"
            if (status, held_by) == told or not self._registration.status:
                continue  # before it is registered there is nothing to change
            told = status, held_by
            # Readers see the state again with the next beat and the next change; a Redis that is
            # away must not hold up the work.
            with contextlib.suppress(RedisError, OSError):
                job_id = next(iter(self._jobs), "")
                await self._registration.change(status, job_id, held_by=held_by)

    def _held_by(self) -> str:
        holds = [words for hold, words in _HELD_BY.items() if hold in self.holds]
        return holds[0] if holds else "" if self.advertised else "its service does not answer"
