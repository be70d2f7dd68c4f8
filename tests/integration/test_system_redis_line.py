"""Calls over a stream that was taken over from redis-py."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from machine_lifecycle.jobs.retrying import passing
from machine_lifecycle.system.redis import connect
from machine_lifecycle.system.redis_line import Line
from machine_lifecycle.system.redis_subscription import Subscription
from tests.support.front import Front
from tests.support.patience import PATIENCE


@pytest_asyncio.fixture
async def line(redis: Redis) -> AsyncIterator[Line]:
    async with contextlib.aclosing(Line(redis)) as found:
        yield found


async def test_each_call_gets_its_own_answer(line: Line) -> None:
    asked = [f"word {number}" for number in range(200)]
    calls = [line.execute_command("ECHO", word) for word in asked]
    assert await asyncio.gather(*calls) == asked
    assert await line.execute_command("SET", "k", b"\xc3\xbc", "EX", 9) == "OK"
    assert await line.execute_command("MGET", "k", "none") == ["\u00fc", None]


async def test_bytes_come_among_texts_each_as_its_call_wants_it(line: Line) -> None:
    await line.execute_command("SET", "k", b"\xc3\xbc\xff")
    calls = [
        line.execute_command("GET", "k", NEVER_DECODE=True),
        line.execute_command("ECHO", "text"),
        line.execute_command("GET", "none", NEVER_DECODE=True),
        line.execute_command("HGETALL", "k", NEVER_DECODE=True),
        line.execute_command("GET", "k"),
    ]
    *found, refused, text = await asyncio.gather(*calls, return_exceptions=True)
    assert found == [b"\xc3\xbc\xff", "text", None]
    assert isinstance(refused, ResponseError)
    assert text == "\u00fc\ufffd"


async def test_it_tells_whether_an_answer_is_due(line: Line, redis: Redis) -> None:
    await line.execute_command("PING")
    assert not line.is_asking()
    call = asyncio.create_task(line.execute_command("BLPOP", "list", PATIENCE))
    await asyncio.sleep(0)
    assert line.is_asking()
    await redis.rpush("list", "x")
    assert await call == ["list", "x"]
    assert not line.is_asking()


async def test_a_refusal_ends_its_own_call_only(line: Line, redis: Redis) -> None:
    await redis.set("text", "x")
    refused = asyncio.create_task(line.execute_command("HGETALL", "text"))
    answered = asyncio.create_task(line.execute_command("ECHO", "next"))
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await refused
    assert await answered == "next"


async def test_who_gives_up_gets_nobody_elses_answer(line: Line) -> None:
    await line.execute_command("PING")
    slow = asyncio.create_task(line.execute_command("BLPOP", "nothing", "0.2"))
    await asyncio.sleep(0)
    slow.cancel()
    assert await line.execute_command("ECHO", "mine") == "mine"


async def test_a_break_is_mended_once_and_told_then(own_valkey: Any) -> None:
    front = Front(own_valkey.paths.runtime / "valkey.sock")
    password = own_valkey.url.split("@")[0].split(":")[-1]
    redis = connect(f"redis://:{password}@127.0.0.1:{front.port}")
    try:
        async with contextlib.aclosing(Line(redis)) as line:
            client_id = await line.execute_command("CLIENT", "ID")
            async with contextlib.aclosing(connect(own_valkey.url)) as other:
                waiting = asyncio.create_task(line.execute_command("BLPOP", "later", "60"))
                while not (await other.info("clients"))["blocked_clients"]:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.01)
                await other.client_kill_filter(_id=client_id)
                await other.rpush("later", "came")
            assert await waiting == ["later", "came"]
            assert await line.execute_command("CLIENT", "ID") != client_id
            front.cut()
            with pytest.raises(RedisConnectionError):
                await line.execute_command("PING")
            front.mend()
            assert await line.execute_command("PING") == "PONG"
    finally:
        await redis.aclose()
        front.close()


class _Parting(Connection):
    """One that the server closes as soon as it is made."""

    front: Front

    async def connect(self) -> None:
        self.front.mend()
        await super().connect()
        self.front.cut()
        assert self._reader
        assert self._writer
        while not (self._reader.at_eof() or self._writer.is_closing()):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0)


async def test_an_end_before_the_stream_is_taken_over_is_known_at_once(own_valkey: Any) -> None:
    _Parting.front = front = Front(own_valkey.paths.runtime / "valkey.sock")
    front.cut()
    password = own_valkey.url.split("@")[0].split(":")[-1]
    pool = ConnectionPool(
        connection_class=_Parting, host="127.0.0.1", port=front.port, password=password
    )
    try:
        async with (
            contextlib.aclosing(Redis(connection_pool=pool)) as redis,
            contextlib.aclosing(Line(redis, patience=3600)) as line,
            asyncio.timeout(PATIENCE),
        ):
            with pytest.raises(RedisConnectionError, match="closed by server"):
                await line.execute_command("PING")
            subscription = Subscription(
                redis, ["one"], hear=lambda *_message: None, ready=lambda: None, tries=1
            )
            with pytest.raises(RedisConnectionError, match="closed by server"):
                await subscription.run()
    finally:
        await pool.aclose()
        front.close()


async def test_a_transaction_is_one_round_trip(line: Line, redis: Redis) -> None:
    before = line.execute_command("ECHO", "before")
    done = line.transaction(("SET", "a", "1"), ("INCRBY", "a", 2), ("GET", "a"))
    after = line.execute_command("ECHO", "after")
    assert await asyncio.gather(before, done, after) == ["before", ["OK", 3, "3"], "after"]
    assert await redis.get("a") == "3"


async def test_of_a_transaction_nothing_is_done_if_one_is_refused_when_it_comes(
    own_valkey: Any,
) -> None:
    async with (
        contextlib.aclosing(connect(own_valkey.url)) as redis,
        contextlib.aclosing(Line(redis)) as line,
    ):
        await redis.config_set("maxmemory", 1)
        with pytest.raises(ResponseError, match="OOM command"):
            await line.transaction(("DEL", "b"), ("SET", "a", "1"), ("PUBLISH", "c", "d"))
        await redis.config_set("maxmemory", 0)
        assert await line.transaction(("SET", "a", "1"), ("SET", "b", "2")) == ["OK", "OK"]
        await redis.config_set("maxmemory", 1)
        with pytest.raises(ResponseError, match="OOM command"):
            await line.transaction(("DEL", "b"), ("SET", "a", "3"))
        assert await line.execute_command("MGET", "a", "b") == ["1", "2"]
        # What is refused while it is done is no matter for the others.
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await line.transaction(("DEL", "b"), ("HGET", "a", "b"))
        assert await line.execute_command("EXISTS", "b") == 0


async def test_a_transaction_that_meets_a_break_is_sent_once_more(own_valkey: Any) -> None:
    async with (
        contextlib.aclosing(connect(own_valkey.url)) as redis,
        contextlib.aclosing(Line(redis)) as line,
    ):
        client_id = await line.execute_command("CLIENT", "ID")
        own = ("CLIENT", "KILL", "ID", client_id, "SKIPME", "no")
        said = line.execute_command(*own), line.transaction(("INCR", "a"), ("INCR", "a"))
        assert (await asyncio.gather(*said))[1] == [1, 2]


async def test_a_server_that_says_nothing_is_given_up(redis: Redis) -> None:
    async with contextlib.aclosing(Line(redis, patience=1)) as line:
        with pytest.raises(RedisTimeoutError, match=r"no answer within 1 s"):
            await line.execute_command("BLPOP", "nothing", "0")
        assert await line.execute_command("PING") == "PONG"


async def test_a_primary_that_became_a_replica_is_asked_by_its_name_again(own_valkey: Any) -> None:
    async with (
        contextlib.aclosing(connect(own_valkey.url)) as redis,
        contextlib.aclosing(Line(redis)) as line,
    ):
        before = await line.execute_command("CLIENT", "ID")
        await redis.replicaof("127.0.0.1", "1")
        with pytest.raises(ReadOnlyError):
            await line.execute_command("SET", "a", 1)
        await redis.replicaof("NO", "ONE")
        assert await line.execute_command("SET", "a", 1) == "OK"
        assert await line.execute_command("CLIENT", "ID") != before


async def test_words_that_can_not_be_sent_cost_their_own_call_only(line: Line) -> None:
    await line.execute_command("PING")
    with pytest.raises(TypeError):
        await line.execute_command("ECHO", None)
    assert await line.execute_command("ECHO", "mine") == "mine"
    # Half of a character that somebody cut, as JSON may hold it, is no reason to fail.
    assert await line.execute_command("ECHO", "cut \ud83d off") == "cut ? off"


async def test_a_replica_refuses_all_that_is_on_its_way(own_valkey: Any) -> None:
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, facts: faults.append(facts))
    async with (
        contextlib.aclosing(connect(own_valkey.url)) as redis,
        contextlib.aclosing(Line(redis)) as line,
    ):
        await line.execute_command("PING")
        await redis.replicaof("127.0.0.1", "1")
        calls = (line.execute_command("SET", f"k{number}", 1) for number in range(3))
        ends = await asyncio.gather(*calls, return_exceptions=True)
        await redis.replicaof("NO", "ONE")
        assert [type(end) for end in ends] == [ReadOnlyError] * 3
        assert await line.execute_command("PING") == "PONG"
    assert faults == []


@pytest.mark.parametrize(
    ("words", "said"),
    [(("GET", "a"), "Link with MASTER is down"), (("SET", "a", "1"), "NOREPLICAS")],
)
async def test_what_a_server_refuses_for_a_while_is_known(
    own_valkey: Any, words: tuple[str, ...], said: str
) -> None:
    async with (
        contextlib.aclosing(connect(own_valkey.url)) as redis,
        contextlib.aclosing(Line(redis)) as line,
    ):
        if words[0] == "GET":
            await redis.config_set("replica-serve-stale-data", "no")
            await redis.replicaof("127.0.0.1", "1")
        else:
            await redis.config_set("min-replicas-to-write", 1)
        for client in (line, redis):
            with pytest.raises(ResponseError, match=said) as refused:
                await client.execute_command(*words)
            assert passing(refused.value)


@pytest.mark.parametrize("way", ["there", "back"])
async def test_what_is_large_may_take_longer_than_an_answer(own_valkey: Any, way: str) -> None:
    front = Front(own_valkey.paths.runtime / "valkey.sock", pace=8 * 2**20)
    password = own_valkey.url.split("@")[0].split(":")[-1]
    large = "x" * (8 * 2**20)
    try:
        async with (
            contextlib.aclosing(connect(own_valkey.url)) as direct,
            contextlib.aclosing(connect(f"redis://:{password}@127.0.0.1:{front.port}")) as redis,
            contextlib.aclosing(Line(redis, patience=0.5)) as line,
        ):
            if way == "there":
                assert await line.execute_command("SET", "large", large) == "OK"
            else:
                await direct.set("large", large)
            assert (
                await (line if way == "back" else direct).execute_command("GET", "large") == large
            )
    finally:
        front.close()
