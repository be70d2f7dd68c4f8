"""What becomes of a run that raised: whose fault it is, and whether its service is to go on."""

from __future__ import annotations

from collections.abc import Callable

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.jobs.breaker import Breaker
from machine_lifecycle.jobs.claims import Claimed
from machine_lifecycle.jobs.errors import ServiceDown
from machine_lifecycle.jobs.settling import Settler
from machine_lifecycle.jobs.worker_services import WorkerServices
from machine_lifecycle.jobs.worker_voice import Hold, WorkerVoice

__all__ = ["Failures"]

_MENDING = 10.0
"""Seconds in which the restart of a hung service should have begun; else it is tried again."""
_MENDED_ELSEWHERE = ("service-hung", "gpu-fault", "gpu-broken")
"""Codes of errors after which a service answers and does nothing right, until it is restarted."""


class Failures:
    """Judges each failure by what its service says of itself, and by those before it."""

    def __init__(
        self,
        services: WorkerServices,
        settler: Settler,
        voice: WorkerVoice,
        *,
        on_hung: Callable[[float], None],
    ) -> None:
        """Make it; nothing has failed yet.

        Args:
            services: Who does the work.
            settler: Writes down how runs end.
            voice: Tells what happens.
            on_hung: Called with seconds to rest while a service fails job after job.
        """
        self._services = services
        self._settler = settler
        self._voice = voice
        self._on_hung = on_hung
        self._breakers: dict[str, Breaker] = {}

    def succeeded(self, service: str) -> None:
        """A job of a service ended well."""
        if service in self._breakers:
            self._breakers[service].succeeded()

    async def settle(self, claimed: Claimed, service: str, error: LifecycleError) -> str:
        """Write it down; the answer is as of ``Settler.fail`` or ``Settler.release``."""
        if error.recoverable:
            detail = await self._services.down(service)
            if error.code in _MENDED_ELSEWHERE:
                # It answers all the same; only whoever started it can mend it, by a restart.
                self._on_hung(_MENDING)
                error.where = error.where or claimed.id
                self._voice.trouble(error)
                detail = error.summary
            if detail:
                down = ServiceDown(service=service, detail=detail)
                # A GPU that must be reset is no fault of the job.
                blame = "lost" if error.code == "gpu-broken" else "crash"
                why = "release" if Hold.STOPPING in self._voice.holds else blame
                said = await self._settler.release(claimed, why=why, reason=down.summary)
                self._voice.trouble(down)
                self._voice.disconnected(down.summary)
                return said
        failing = self._breakers.setdefault(service, Breaker(service)).failed(error)
        if failing is not None:
            self._on_hung(failing.seconds)
            self._voice.trouble(failing)
        return await self._settler.fail(claimed, error)
