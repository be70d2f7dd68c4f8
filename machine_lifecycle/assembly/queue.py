"""The machine's queue: the fleet's Redis, or a Valkey of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from machine_lifecycle.assembly.errors import NoQueue
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.ports import ProgressSink, Supervisor
from machine_lifecycle.model.redis_url import RedisUrl
from machine_lifecycle.model.settings import RedisMode, Settings
from machine_lifecycle.system.valkey import (
    PROCESS_NAME,
    Discovery,
    embedded_spec,
    embedded_url,
    remove_discovery,
    write_discovery,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["Queue"]

_log = logging.getLogger("machine_lifecycle.queue")


class Queue:
    """Opens the queue and keeps the client to it; implements ``states.context.QueueHost``."""

    def __init__(
        self, settings: Settings, paths: Paths, supervisor: Supervisor, *, simulated: bool
    ) -> None:
        """Nothing is opened yet; *simulated*: an island is taken for granted."""
        self._settings = settings
        self._paths = paths
        self._supervisor = supervisor
        self._simulated = simulated
        self._client: Redis | None = None
        self._url = ""

    @property
    def embedded(self) -> bool:
        """Whether the queue is a Valkey of our own."""
        mode = self._settings.redis_mode
        return mode is RedisMode.EMBEDDED or (
            mode is RedisMode.AUTO and not self._settings.redis_url and self._simulated
        )

    @property
    def url(self) -> str:
        """Where the queue is, with its password; empty before ``open``."""
        return self._url

    @property
    def where(self) -> str:
        """Where the queue is, for people."""
        if not self._url:
            return ""
        masked = RedisUrl.parse(self._url).masked
        return f"embedded ({masked})" if self.embedded else masked

    @property
    def client(self) -> Redis:
        """The client; raises before ``open``."""
        if self._client is None:
            raise RuntimeError("the queue is not open")
        return self._client

    async def open(self, progress: ProgressSink) -> None:
        """Make the queue answer; does nothing if it was opened before.

        Raises:
            NoQueue: No Redis is set, and an island was not asked for.
            LifecycleError: It does not answer, or can't carry the queue.
        """
        if self._client is not None:
            await self._client.ping()
            return
        began = time.monotonic()
        if self.embedded:
            progress.step("queue", "starting the embedded Valkey")
            spec = embedded_spec(self._paths)
            self._url = embedded_url(self._paths)  # before the first wait: workers need it
            await self._supervisor.launch((spec,))
            await self._supervisor.wait_ready((PROCESS_NAME,), progress)
        else:
            if not self._settings.redis_url:
                raise NoQueue(workers=self._settings.workers)
            self._url = self._settings.redis_url
            progress.step("queue", f"connecting to {self.where}")
        from machine_lifecycle.system.redis import check, connect  # noqa: PLC0415 - 300 ms

        client = connect(self._url)
        try:
            for warning in await check(client, self._url):
                _log.warning("%s", warning.summary)
        except BaseException:
            await client.aclose()
            raise
        self._client = client
        progress.finished("queue", seconds=time.monotonic() - began)

    def announce(self, machine_id: str, pid: int, health_url: str) -> None:
        """Tell ``submit`` on this host how to reach the queue."""
        discovery = Discovery(url=self._url, machine_id=machine_id, pid=pid, health_url=health_url)
        write_discovery(self._paths, discovery)

    def secrets(self) -> Mapping[str, str]:
        """The variable through which workers learn where the queue is."""
        return {"HUB_REDIS_URL": self._url} if self._url else {}

    async def close(self) -> None:
        """Let go of the queue; ends a Valkey of our own."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
        remove_discovery(self._paths)
        await self._supervisor.stop_all(self._settings.stop_budget / 4, support=True)
