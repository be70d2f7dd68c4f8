"""What the queue answers to the end of a run, in the orchestrator's words; refusals in full."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from machine_lifecycle.jobs.breaker import Breaker
from machine_lifecycle.jobs.outcomes import UNWRITTEN, refusal
from machine_lifecycle.jobs.result_errors import ResultRefused
from machine_lifecycle.jobs.worker_voice import WorkerVoice

__all__ = ["Answers"]

_WORDS = {"ok": "completed", "lost": "released", "dead": "failed"}


class Answers:
    """Tells what Redis refuses, and has the worker rest should it refuse whatever ends here."""

    def __init__(
        self,
        voice: WorkerVoice,
        outbox: Path | None,
        *,
        on_hung: Callable[[float], None],
        cli: str,
    ) -> None:
        """Make it.

        Args:
            voice: Tells it.
            outbox: Where results are kept that can't be written.
            on_hung: Called with seconds to rest, so that no more is run for nothing.
            cli: The call of ``redis-cli`` that reaches the queue.
        """
        self._voice = voice
        self._outbox = outbox
        self._on_hung = on_hung
        self._cli = cli
        self._breaker = Breaker("Redis")

    def word(self, job_id: str, answer: str, *, result: bool = False) -> str:
        """``completed``, ``failed``, ``retrying``, ``cancelled`` or ``released``.

        Args:
            job_id: Whose end it is.
            answer: As in ``Outcome``, or of one of the queue's other functions.
            result: It is the end of a run that had a result.
        """
        reason = refusal(answer)
        if not reason:
            self._breaker.succeeded()
            return _WORDS.get(answer, answer)
        unwritten = answer.startswith(UNWRITTEN)
        kept = str(self._outbox) if unwritten and result and self._outbox else ""
        error = ResultRefused(job_id=job_id, reason=reason, kept=kept, cli=self._cli)
        self._voice.trouble(error)
        if (failing := self._breaker.failed(error)) is not None:
            self._on_hung(failing.seconds)
            self._voice.trouble(failing)
        return "released" if unwritten else "failed"
