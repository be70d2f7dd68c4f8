"""What is published is heard again after every break, and who listens knows of the break."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from machine_lifecycle.system.redis import connect
from machine_lifecycle.system.redis_subscription import Subscription
from machine_lifecycle.system.tasks import end_tasks
from tests.support.patience import PATIENCE
from tests.support.redis_server import ValkeyServer


class Listener:
    """Writes down what a subscription tells."""

    def __init__(self, redis: Redis, *channels: str, tries: int | None = None) -> None:
        self.told: asyncio.Queue[tuple[str | bytes, ...]] = asyncio.Queue()
        self.subscription = Subscription(
            redis,
            channels,
            hear=lambda *message: self.told.put_nowait(message),
            ready=lambda: self.told.put_nowait(("ready",)),
            broken=lambda: self.told.put_nowait(("broken",)),
            tries=tries,
        )
        self.running = asyncio.create_task(self.subscription.run())

    async def next(self) -> tuple[str | bytes, ...]:
        async with asyncio.timeout(PATIENCE):
            return await self.told.get()

    async def ready(self) -> None:
        """Return when it hears again; how often it tries meanwhile is no matter."""
        while (said := await self.next()) != ("ready",):
            assert said == ("broken",)


@pytest_asyncio.fixture
async def listener(admin: Redis) -> AsyncIterator[Listener]:
    found = Listener(admin, "one", "two")
    yield found
    await end_tasks(found.running)


async def test_channels_may_change_and_are_known_after_a_break(
    admin: Redis, listener: Listener
) -> None:
    assert await listener.next() == ("ready",), "once, when both are heard"
    listener.subscription.change("three", heard=True)
    listener.subscription.change("three", heard=True)
    assert await listener.next() == ("ready",)
    listener.subscription.change("one", heard=False)
    for _ in range(2):
        async with asyncio.timeout(PATIENCE):
            while await admin.publish("one", "left"):  # noqa: ASYNC110 - the server is asked
                await asyncio.sleep(0.01)  # sleep: how often
        assert await admin.publish("two", "a") == 1
        assert await admin.publish("three", b"\xff\n") == 1
        while (said := await listener.next())[0] == "one":
            pass
        assert (said, await listener.next()) == (("two", b"a"), ("three", b"\xff\n"))
        await admin.client_kill_filter(_type="pubsub")
        await listener.ready()


async def test_what_is_changed_while_there_is_no_connection_counts_for_the_next(
    own_valkey: ValkeyServer, listener: Listener
) -> None:
    await listener.ready()
    own_valkey.stop()
    assert await listener.next() == ("broken",)
    listener.subscription.change("three", heard=True)
    listener.subscription.change("two", heard=False)
    own_valkey.start()
    await listener.ready()
    async with contextlib.aclosing(connect(own_valkey.url)) as redis:
        assert await redis.publish("three", "b") == 1
        assert await redis.publish("two", "a") == 0
    assert await listener.next() == ("three", b"b")


async def test_a_password_that_is_refused_for_a_while_ends_nothing(
    own_valkey: ValkeyServer, admin: Redis
) -> None:
    some = ("ACL", "SETUSER", "some", "on", "&*", "+@all")
    await admin.execute_command(*some, ">right")
    path = own_valkey.url.split("@", 1)[1]
    async with contextlib.aclosing(connect(f"unix://some:right@{path}")) as redis:
        listener = Listener(redis, "one")
        try:
            await listener.ready()
            await admin.execute_command(*some, "<right", ">other")
            await admin.client_kill_filter(_type="pubsub")
            for _ in range(3):
                assert await listener.next() == ("broken",)
            await admin.execute_command(*some, ">right")
            await listener.ready()
        finally:
            await end_tasks(listener.running)


async def test_a_channel_that_may_not_be_heard_is_tried_until_it_may(
    own_valkey: ValkeyServer, admin: Redis
) -> None:
    await admin.execute_command("ACL", "SETUSER", "some", "on", ">secret", "+@all")
    path = own_valkey.url.split("@", 1)[1]
    async with contextlib.aclosing(connect(f"unix://some:secret@{path}")) as redis:
        listener = Listener(redis, "one")
        try:
            for _ in range(2):
                assert await listener.next() == ("broken",)
            await admin.execute_command("ACL", "SETUSER", "some", "&one")
            await listener.ready()
        finally:
            await end_tasks(listener.running)


async def test_it_gives_up_after_as_many_tries_as_it_is_given(
    own_valkey: ValkeyServer, admin: Redis
) -> None:
    listener = Listener(admin, "one", tries=3)
    await listener.ready()
    await admin.client_kill_filter(_type="pubsub")
    await listener.ready()
    own_valkey.stop()
    with pytest.raises(RedisConnectionError):
        await listener.running
    said: list[Any] = [listener.told.get_nowait() for _ in range(listener.told.qsize())]
    assert said == [("broken",)] * 3, "the break, and two tries after it"
