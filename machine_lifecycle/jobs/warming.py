"""Warming services up: a graph that runs once, before the first job, and again after each start.

The first graph that a service runs pays for what later ones find done: libraries that are loaded,
kernels that are compiled, a model that comes from the disk. A run that a worker has warmed is
written down beside the machine's socket, so that neither a new worker nor a new orchestrator warms
a service anew that has lived on.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.jobs.brevity import words_of
from machine_lifecycle.jobs.errors import WarmUpFailed
from machine_lifecycle.model.jobs import Job, Progress
from machine_lifecycle.model.packs import Run
from machine_lifecycle.model.ports import Connector
from machine_lifecycle.model.warming import WarmUp
from machine_lifecycle.system.files import write_atomically

__all__ = ["Warmer"]

_WORD = 10.0
"""Seconds between two words of a warm-up that says nothing: far below every stall limit, and it is
bounded by its own time.
"""
_LEAVE = 0.15
"""Seconds for taking the graph away from the service, when the worker ends."""


def _unheard(_: str) -> None:
    """Stands for a listener where nobody listens."""


class Warmer:
    """Runs warm-ups through connectors, each once per run of its service."""

    def __init__(self, warm_ups: Mapping[str, WarmUp], folder: Path | None) -> None:
        """Make it.

        Args:
            warm_ups: By name of the service.
            folder: Where runs that are warm are written down; ``None``: in memory alone.
        """
        self.on_word: Callable[[str], None] = _unheard
        """Told in words how far a warm-up is, at each step and every 10 s."""
        self._warm_ups = dict(warm_ups)
        self._folder = folder
        self._warm: dict[str, str] = {}
        self._failed: dict[str, str] = {}
        """Why the last try of a service failed."""
        self._task: asyncio.Task[object] | None = None

    async def warm(self, service: str, connector: Connector, runs: Sequence[Run]) -> None:
        """Run the service's warm-up, if it has one and this run of it is cold.

        One whose runs nobody knows, since it runs elsewhere, is warmed at each connection.

        Raises:
            WarmUpFailed: The graph can't be read, or the service did not do it in time.
        """
        warm_up = self._warm_ups.get(service)
        if warm_up is None:
            return
        try:
            text = await asyncio.to_thread(warm_up.file.read_text, "utf-8")
            payload = json.loads(text)
        except (OSError, ValueError) as error:
            raise WarmUpFailed(service=service, file=warm_up.file, reason=str(error)) from error
        mark = _mark(text, runs)
        if runs and mark in (self._warm.get(service), self._written(service)):
            return
        job = Job(
            id=f"warm-up-{uuid.uuid4().hex[:12]}",
            service_required=service,
            payload=payload,
            timeout=warm_up.timeout,
        )
        try:
            await self._run(job, connector)
        except Exception as error:  # a connector may be a stranger's
            reason = self._failed[service] = words_of(error)
            cause = error.code if isinstance(error, LifecycleError) else ""
            raise WarmUpFailed(
                service=service, file=warm_up.file, reason=reason, cause=cause
            ) from error
        self._failed.pop(service, None)
        self._warm[service] = mark
        self._write(service, mark)

    def abandon(self) -> None:
        """The service went down: nothing will come of what runs."""
        if self._task is not None:
            self._task.cancel("its service went down")

    async def _run(self, job: Job, connector: Connector) -> None:
        began = time.monotonic()
        last = Progress(fraction=0.0)

        failed = self._failed.get(job.service_required, "")
        before = f"; the last try failed: {failed}" if failed else ""

        def say() -> None:
            doing = f", {last.message}" if last.message else ""
            self.on_word(
                f"warming {job.service_required} up ({last.fraction:.0%}{doing}, "
                f"{time.monotonic() - began:.0f} s of at most {job.timeout:g} s){before}"
            )

        def heard(progress: Progress) -> None:
            nonlocal last
            last = progress
            say()

        say()
        self._task = task = asyncio.create_task(connector.run(job, heard), name=job.id)
        try:
            while not task.done():
                await asyncio.wait((task,), timeout=_WORD)
                say()
            if task.cancelled():
                raise WarmUpFailed(
                    service=job.service_required,
                    file=self._warm_ups[job.service_required].file,
                    reason="its service went down",
                )
            task.result()  # what it made is nobody's
        finally:
            self._task = None
            if not task.done():
                task.cancel()
                await asyncio.wait((task,), timeout=_LEAVE)

    def _path(self, service: str) -> Path | None:
        name = hashlib.sha256(service.encode()).hexdigest()[:16]
        return self._folder / f"{name}.warm" if self._folder else None

    def _written(self, service: str) -> str:
        path = self._path(service)
        try:
            return path.read_text("utf-8") if path else ""
        except (OSError, UnicodeDecodeError):
            return ""

    def _write(self, service: str, mark: str) -> None:
        path = self._path(service)
        try:
            if path:
                write_atomically(path, mark, 0o600)
        except OSError as error:
            self.on_word(f"that {service} is warm can't be written down: {error.strerror}")


def _mark(text: str, runs: Iterable[Run]) -> str:
    """Which graph was run by which processes."""
    known = [(run.instance, run.port, round(run.started)) for run in runs]
    return hashlib.sha256(json.dumps([text, known]).encode()).hexdigest()
