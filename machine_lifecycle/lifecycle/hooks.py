"""Observers: they hear everything and can harm nothing.

Each has a bounded queue of its own and gets events in order. One that is too slow loses the oldest
and is told how many (``EventsDropped``); one that raises is switched off, loudly. The boot goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import attrs

from machine_lifecycle.lifecycle.events import Event, EventsDropped, MachineStopped
from machine_lifecycle.model.ports import Clock

__all__ = ["EventBus", "Observer", "Subscription"]

E = TypeVar("E", bound=Event)
Observer = Callable[[E], Awaitable[None] | None]
"""Called with each event, in order, on the machine's loop; may be a coroutine function."""

QUEUE_LENGTH = 1000
"""Events an observer may lag behind: many boots' worth."""

_log = logging.getLogger("machine_lifecycle.hooks")


class Subscription:
    """One listener's queue. ``close()`` ends it."""

    def __init__(self, kinds: type[Event], length: int = QUEUE_LENGTH) -> None:
        self._kinds = kinds
        self._queue: deque[Event] = deque(maxlen=length)
        self._dropped = 0
        self._closed = False
        self._news = asyncio.Event()

    def offer(self, event: Event) -> None:
        """Take in an event; never waits. The oldest goes when there is no room."""
        if self._closed or not isinstance(event, self._kinds):
            return
        if len(self._queue) == self._queue.maxlen:
            self._dropped += 1
        self._queue.append(event)
        self._news.set()

    def close(self) -> None:
        """End the stream after what is queued."""
        self._closed = True
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            while self._queue:
                if self._dropped:
                    count, self._dropped = self._dropped, 0
                    first = self._queue[0]
                    yield EventsDropped(
                        seq=first.seq,
                        at=first.at,
                        machine_id=first.machine_id,
                        attempt=first.attempt,
                        count=count,
                    )
                yield self._queue.popleft()
            if self._closed:
                return
            self._news.clear()
            await self._news.wait()


class EventBus:
    """Numbers events and hands them to every listener."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seq = 0
        self._subscriptions: list[Subscription] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.machine_id = ""

    def emit(self, event: Event) -> Event:
        """Number an event, stamp it, and offer it to all; returns it as stamped."""
        self._seq += 1
        stamped = attrs.evolve(
            event, seq=self._seq, at=self._clock.wall(), machine_id=self.machine_id
        )
        for subscription in tuple(self._subscriptions):
            subscription.offer(stamped)
        if isinstance(event, MachineStopped):
            for subscription in self._subscriptions:
                subscription.close()
        return stamped

    def subscribe(self, kinds: type[Event] = Event) -> Subscription:
        """A queue of the events of these kinds from now on."""
        subscription = Subscription(kinds)
        self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a queue."""
        with contextlib.suppress(ValueError):
            self._subscriptions.remove(subscription)

    def on(self, kinds: type[E], observer: Observer[E]) -> Callable[[], None]:
        """Call *observer* with every event of these kinds; the answer ends that."""
        subscription = self.subscribe(kinds)
        task = asyncio.get_running_loop().create_task(self._feed(subscription, observer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return subscription.close

    async def _feed(self, subscription: Subscription, observer: Observer[Any]) -> None:
        try:
            async for event in subscription:
                heard = observer(event)
                if inspect.isawaitable(heard):
                    await heard
        except Exception:  # noqa: BLE001 - an observer's fault must stay its own: said aloud, switched off
            _log.exception("observer %r raised and is switched off", observer)
        finally:
            subscription.close()
            self.unsubscribe(subscription)

    async def close(self, patience: float = 1.0) -> None:
        """Let observers hear what is queued, for at most *patience* seconds, and end them."""
        for subscription in tuple(self._subscriptions):
            subscription.close()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=patience)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=patience)
