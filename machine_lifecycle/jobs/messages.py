"""What is told of jobs, for who follows some of them: one subscription hears it for all."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import attrs
from redis.asyncio import Redis
from redis.exceptions import RedisError

from machine_lifecycle.jobs.records import json_object, preview_from_message
from machine_lifecycle.model.jobs import Preview
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis_subscription import Subscription
from machine_lifecycle.system.tasks import end_tasks

__all__ = ["Heard", "Messages", "Told"]

_CHANNELS = (
    keys.CLAIMED,
    keys.PROGRESS_CHANNEL,
    keys.COMPLETE_CHANNEL,
    keys.FAILED_CHANNEL,
    keys.ENDED,
    keys.CANCEL,
)
_TRIES = 5
"""Connections that break or can't be made, in a row, until the followers are told that there is
none: with a server that is down some 0.6 s.
"""
_KEPT = 200
"""Messages that wait for a follower who does not come for them; the oldest go."""


@attrs.frozen
class Told:
    """One message.

    Attributes:
        channel: Where it was told.
        facts: What it says.
        preview: The picture that it is, if it is one.
    """

    channel: str
    facts: dict[str, Any]
    preview: Preview | None = None


class Heard:
    """What is heard of one job, in its order."""

    def __init__(self, untold: Callable[[float], None]) -> None:
        self.files: dict[str, bytes] = {}
        """Small files of the job, by their keys: they are told right before its end."""
        self._messages: deque[Told] = deque(maxlen=_KEPT)
        self._news = asyncio.Event()
        self._broken: RedisError | OSError | None = None
        self._untold = untold
        self._silent_since: float | None = None
        """When the last wait began, if nothing came of it."""

    def take(self, told: Told) -> None:
        """One more message."""
        self._messages.append(told)
        self._news.set()

    def look(self) -> None:
        """Something may have been missed."""
        self._news.set()

    def broken(self, error: RedisError | OSError) -> None:
        """Nothing more will be heard."""
        self._broken = error
        self._news.set()

    def over(self) -> None:
        """The job has ended. Where that was not told, others are not told of theirs either."""
        if self._silent_since is not None:
            self._untold(self._silent_since)

    async def next(self, seconds: float) -> Told | None:
        """The next message; ``None`` if there is none in time, or something may have been missed.

        Raises:
            RedisError: The server is away.
            OSError: Likewise.
        """
        since = asyncio.get_running_loop().time()
        if not self._messages:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._news.wait()
        self._silent_since = None if self._messages or self._news.is_set() else since
        self._news.clear()
        if self._messages:
            return self._messages.popleft()
        if self._broken is not None:
            raise self._broken
        return None


class Messages:
    """Listens from the first job that is followed until it is left. An async context manager."""

    def __init__(self, redis: Redis) -> None:
        """Make it; nothing is opened yet.

        Args:
            redis: It connects as this client does.
        """
        self._up = asyncio.Event()
        self._subscription = Subscription(
            redis, _CHANNELS,
            hear=self._hear, ready=self._ready, broken=self._up.clear, tries=_TRIES,
        )  # fmt: skip
        self._followers: dict[str, set[Heard]] = {}
        self._own: dict[str, str] = {}
        """Channels of one job alone that are heard, and the job."""
        self._task: asyncio.Task[RedisError | OSError] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            await end_tasks(self._task)

    @contextlib.asynccontextmanager
    async def of(
        self, job_id: str, *, previews: bool = False, files: bool = False
    ) -> AsyncIterator[Heard]:
        """What is told of a job from here on; with its pictures, or small files, if they are asked
        for.

        Raises:
            RedisError: The server is away.
            OSError: Likewise.
        """
        heard = Heard(self._subscription.is_unknown)
        asked = (keys.preview(job_id), previews), (keys.outputs(job_id), files)
        self._followers.setdefault(job_id, set()).add(heard)
        try:
            await self._listening()
            for channel in (channel for channel, wanted in asked if wanted):
                self._own[channel] = job_id
                self._subscription.change(channel, heard=True)
            yield heard
        finally:
            self._followers[job_id].discard(heard)
            if not self._followers[job_id]:
                del self._followers[job_id]
                for channel in (channel for channel, _ in asked if self._own.pop(channel, None)):
                    self._subscription.change(channel, heard=False)

    async def _listening(self) -> None:
        if self._up.is_set():
            return
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="messages of jobs")
        up = asyncio.create_task(self._up.wait())
        try:
            await asyncio.wait({up, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if self._task.done():
                raise self._task.result()
        finally:
            await end_tasks(up)

    async def _run(self) -> RedisError | OSError:
        """Listen until cancelled, or until the server stays away: how that shows. It is returned,
        as there may be nobody who follows.
        """
        try:
            await self._subscription.run()
        except (RedisError, OSError) as error:
            for heard in self._everybody():
                heard.broken(error)
            return error
        finally:
            self._up.clear()

    def _ready(self) -> None:
        if self._up.is_set():  # a channel of one job is heard, too
            return
        self._up.set()
        for heard in self._everybody():  # who followed before has missed what was told meanwhile
            heard.look()

    def _everybody(self) -> list[Heard]:
        return [heard for some in self._followers.values() for heard in some]

    def _hear(self, channel: str, data: bytes) -> None:
        job_id = self._own.get(channel)
        if job_id is None:
            told = Told(channel, json_object(data))
            job_id = str(told.facts.get("job_id", ""))
        elif channel == keys.preview(job_id):
            told = Told(channel, {}, preview_from_message(data))
        else:
            number, _, file = data.partition(b"\n")
            key = keys.output(job_id, number.decode(errors="replace"))
            for heard in self._followers.get(job_id, ()):
                heard.files[key] = file
            return
        for heard in self._followers.get(job_id, ()):
            heard.take(told)
