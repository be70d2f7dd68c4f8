"""What a worker does with a job that it claimed: run it, and write down how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.jobs.errors import ServiceDown
from machine_lifecycle.jobs.functions import QueueFunctions
from machine_lifecycle.jobs.records import JobRecord, job_from_record, record_from_hash
from machine_lifecycle.jobs.running import Ended, RunningJob
from machine_lifecycle.jobs.settling import Settler
from machine_lifecycle.jobs.worker_config import WorkerConfig
from machine_lifecycle.jobs.worker_services import WorkerServices
from machine_lifecycle.jobs.worker_voice import Hold, WorkerVoice
from machine_lifecycle.model.jobs import JobResult, Progress

__all__ = ["Execution"]


class Execution:
    """Does one claimed job at a time."""

    def __init__(
        self,
        config: WorkerConfig,
        functions: QueueFunctions,
        settler: Settler,
        services: WorkerServices,
        voice: WorkerVoice,
        *,
        next_claim: Callable[[], tuple[str, str]],
        on_hung: Callable[[], None],
    ) -> None:
        """Make it; nothing runs until ``do``.

        Args:
            config: Whose it is.
            functions: For reports of progress.
            settler: Writes down how runs end.
            services: Who does the work.
            voice: Tells what happens.
            next_claim: Capabilities and token to claim the next job with as one completes; both
                empty for none.
            on_hung: Called when a service turns out to be silent for ever.
        """
        self.running: RunningJob | None = None
        self._config = config
        self._functions = functions
        self._settler = settler
        self._services = services
        self._voice = voice
        self._next_claim = next_claim
        self._on_hung = on_hung

    def cancel(self, job_id: str) -> None:
        """Somebody asked that this job end; nothing happens if it does not run here."""
        if self.running and self.running.job.id == job_id:
            self.running.cut("cancelled")

    def give_back(self, reason: str) -> None:
        """Cut short what runs, and put it back into the queue."""
        if self.running:
            self.running.cut("released", reason)

    def crash(self, reason: str) -> None:
        """Likewise, where what runs may be to blame: that is counted."""
        if self.running:
            self.running.cut("crashed", reason)

    async def do(self, claimed: list[Any]) -> list[Any] | None:
        """Do a job as it was claimed; the next one, if it was claimed in the same step."""
        flat = claimed[3]
        fields = dict(zip(flat[::2], flat[1::2], strict=True)) | {"fence": str(claimed[2])}
        record = record_from_hash({"id": str(claimed[1]), **fields}, {})
        service, connector = self._services.route(record.service_required)
        job = job_from_record(record, default_timeout=self._config.job_timeout)
        self.running = RunningJob(
            job, record.fence, connector, report=lambda progress: self._report(record, progress)
        )
        self._voice.taken(job.id)
        if Hold.STOPPING in self._voice.holds:
            self.give_back("its worker stops")
        began = time.monotonic()
        following: list[Any] | None = None
        try:
            result = await self.running.run()
        except Ended as end:
            outcome = await self._settle_cut(record, end)
        except LifecycleError as error:
            outcome = await self._settle_error(record, service, error)
        else:
            outcome, following = await self._settle_result(
                record, service, result, time.monotonic() - began
            )
        self.running = None
        self._voice.done(job.id, service, outcome)
        return following

    async def _settle_result(
        self, record: JobRecord, service: str, result: JobResult, seconds: float
    ) -> tuple[str, list[Any] | None]:
        answer = await self._settler.complete(
            record, result, service=service, seconds=seconds, claim=self._next_claim()
        )
        following = answer[1] if len(answer) > 1 and answer[1][0] == "job" else None
        return "completed" if answer[0] == "ok" else "released", following

    async def _settle_error(self, record: JobRecord, service: str, error: LifecycleError) -> str:
        if error.recoverable:
            detail = await self._services.down(service)
            if error.code == "service-hung":
                # It answers all the same; only whoever started it can mend it, by a restart.
                self._on_hung()
                self._voice.trouble(error)
                detail = error.summary
            if detail:
                down = ServiceDown(service=service, detail=detail)
                crash = Hold.STOPPING not in self._voice.holds
                outcome = await self._settler.release(record, crash=crash, reason=down.summary)
                self._voice.trouble(down)
                self._voice.disconnected(down.summary)
                return "failed" if outcome == "dead" else _outcome(outcome)
        return _outcome(await self._settler.fail(record, error))

    async def _settle_cut(self, record: JobRecord, end: Ended) -> str:
        if end.outcome == "cancelled":
            return _outcome(await self._settler.cancelled(record))
        if end.outcome in {"released", "crashed"}:
            crash = end.outcome == "crashed"
            return _outcome(await self._settler.release(record, crash=crash, reason=end.reason))
        return "released"

    async def _report(self, record: JobRecord, progress: Progress) -> str:
        return str(
            await self._functions.call(
                "ml1_progress",
                self._config.worker_id,
                record.id,
                record.fence,
                round(min(max(progress.fraction, 0.0), 1.0) * 100),
                progress.message,
                progress.step or "",
                progress.steps or 0,
            )
        )


def _outcome(answer: str) -> str:
    """The word for the orchestrator of what the queue said."""
    return {"retrying": "failed", "lost": "released", "dead": "failed"}.get(answer, answer)
