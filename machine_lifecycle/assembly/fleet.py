"""The machine in Redis, from the moment the queue is open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from machine_lifecycle.assembly.queue import Queue
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.ports import Check
from machine_lifecycle.model.status import StatusReport
from machine_lifecycle.states.names import MachineState
from machine_lifecycle.system.tasks import end_tasks

if TYPE_CHECKING:
    from machine_lifecycle.fleet.registry import Registry

__all__ = ["Fleet"]

_GATHER = 0.1
"""Seconds in which what jobs change is told as one: short ones come by the hundred a second."""
_log = logging.getLogger("machine_lifecycle.fleet")


class Fleet:
    """Registers the machine once the queue is open; implements ``model.ports.MachineRegistry``.

    Attributes:
        connected: Whether Redis did what it was asked last.
        trouble: Why not, in words; empty before it was asked.
    """

    def __init__(
        self,
        *,
        queue: Queue,
        machine_id: str,
        report: Callable[[], StatusReport],
        interval: float,
        on_lost: Callable[[LifecycleError], None],
        on_drained: Callable[[bool], None],
    ) -> None:
        """Nothing is sent before ``register``; *on_lost* hears if another takes our id, and
        *on_drained* of drains that are ordered by Redis.
        """
        self._queue = queue
        self._machine_id = machine_id
        self._report = report
        self._interval = interval
        self.connected: bool = False
        self.trouble: str = ""
        self._on_lost = on_lost
        self._on_drained = on_drained
        self._registry: Registry | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._due: asyncio.TimerHandle | None = None

    async def register(self, plan: BootPlan) -> None:
        """Claim the machine's id, and keep it claimed from here on."""
        from machine_lifecycle.fleet.registry import Registry  # noqa: PLC0415 - redis loads late

        if self._registry is None:
            self._registry = Registry(
                self._queue.client,
                self._machine_id,
                self._report,
                url=self._queue.url,
                interval=self._interval,
                on_answer=self._hear,
                on_drained=self._on_drained,
            )
        await self._registry.register(plan)
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep(self._registry), name="fleet")

    def _hear(self, trouble: LifecycleError | None) -> None:
        words = trouble.summary if trouble else ""
        if words and not self.trouble:
            _log.warning("the queue is lost: %s", words)
        elif self.trouble and not words:
            _log.info("the queue is back")
        self.connected, self.trouble = trouble is None, words

    async def _keep(self, registry: Registry) -> None:
        try:
            await registry.run()
        except LifecycleError as error:
            self._on_lost(error)

    def worker_died(self, worker_id: str, pid: int | None) -> None:
        """Hand back what a worker ran whose process has ended: nobody need wait for its lease."""
        if self._registry is not None:
            self._spawn(self._release(worker_id, pid), f"release {worker_id}")

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _release(self, worker_id: str, pid: int | None) -> None:
        from redis.exceptions import RedisError  # noqa: PLC0415 - redis loads late

        from machine_lifecycle.jobs.client import JobQueue  # noqa: PLC0415 - likewise

        try:
            queue = JobQueue(self._queue.client)
            reason = "the process of its worker ended"
            released = await queue.release_worker(worker_id, reason, pid=pid)
        except (RedisError, OSError) as error:
            why = str(error) or "Redis does not answer"
            _log.warning("can't hand back the jobs of %s, its lease must end: %s", worker_id, why)
        else:
            for job_id in released:
                _log.info("job %s is handed back: its worker %s died", job_id, worker_id)

    async def undrain(self) -> None:
        """Take back a drain that was ordered by Redis, if there is one.

        Raises:
            RedisUnreachable: Redis does not answer.
        """
        if self._registry is None or not self._registry.drained:
            return
        from redis.exceptions import RedisError  # noqa: PLC0415 - redis loads late

        from machine_lifecycle.jobs.client import JobQueue  # noqa: PLC0415 - likewise
        from machine_lifecycle.system.redis import as_lifecycle_error  # noqa: PLC0415 - likewise

        try:
            await JobQueue(self._queue.client).undrain(self._machine_id)
            self._registry.drained = False
        except (RedisError, OSError) as error:
            raise as_lifecycle_error(error, self._queue.url) from error

    async def publish(self, update_type: str) -> None:
        """Say how the machine is, now; silent before it is registered."""
        if self._registry:
            await self._registry.publish(update_type)

    async def moved(self, source: MachineState, target: MachineState) -> None:
        """The machine came into another state; what jobs make of it is told within a moment."""
        if {source, target} == {MachineState.READY, MachineState.PROCESSING}:
            self._publish_soon()
        elif target is not MachineState.STOPPED:
            await self.publish("event_driven")

    def _publish_soon(self) -> None:
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(_GATHER, self._publish_now)

    def _publish_now(self) -> None:
        self._due = None
        self._spawn(self.publish("event_driven"), "fleet status")

    async def verify(self, plan: BootPlan) -> tuple[Check, ...]:
        """Check the registration as a reader of Redis sees it."""
        if self._registry is None:
            return (Check(name="registration", ok=False, seconds=0.0, detail="not registered"),)
        return await self._registry.verify(plan)

    async def deregister(self) -> None:
        """Stop renewing, say ``shutdown``, remove what was registered. Safe to repeat."""
        if self._keeper:
            if self._due:
                self._due.cancel()
            await end_tasks(self._keeper, *self._tasks)
            self._keeper = self._due = None
        registry, self._registry = self._registry, None
        if registry:
            await registry.deregister()
