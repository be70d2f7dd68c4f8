"""Connections to a Redis behind TLS, and to one that Sentinels watch over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from machine_lifecycle.jobs.client import JobQueue
from machine_lifecycle.model.redis_url import RedisUrl
from machine_lifecycle.system.redis import as_lifecycle_error, check, connect
from machine_lifecycle.system.redis_errors import RedisCertificate, RedisUnreachable
from machine_lifecycle.system.redis_line import Line
from machine_lifecycle.system.valkey import find_server
from tests.support.front import Front
from tests.support.git_server import self_signed
from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.support.sentinel import Watched


async def test_tls_with_the_authority_that_is_named(own_valkey: Any, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    front = Front(own_valkey.paths.runtime / "valkey.sock", tls=(certificate, key))
    try:
        secret = RedisUrl.parse(own_valkey.url).password
        base = f"rediss://:{secret}@127.0.0.1:{front.port}"
        url = f"{base}?ssl_ca_certs={certificate}"
        redis = connect(url)
        await check(redis, url)
        client = JobQueue(redis)
        assert (await client.counts())["pending"] == 0
        async with contextlib.aclosing(Line(redis)) as line:
            assert await line.execute_command("ECHO", "over TLS") == "over TLS"
        await redis.aclose()
        for stranger, kind, words in (
            (base, RedisCertificate, "self-signed certificate"),
            (url.replace("127.0.0.1", "localhost"), RedisCertificate, "Hostname mismatch"),
            (base.replace("rediss:", "redis:"), RedisUnreachable, "TLS"),
        ):
            redis = connect(stranger)
            with pytest.raises(kind) as refused:
                await check(redis, stranger)
            assert words in str(refused.value)
            assert secret not in str(refused.value)
            await redis.aclose()
    finally:
        front.close()


@pytest.mark.parametrize("transaction", [True, False])
async def test_what_a_pipeline_is_refused_is_told_in_the_servers_words_alone(
    own_valkey: Any, *, transaction: bool
) -> None:
    async with contextlib.aclosing(connect(own_valkey.url)) as redis:
        await redis.config_set("maxmemory", 1)
        pipeline = redis.pipeline(transaction=transaction)
        pipeline.set("a", "the value")
        with pytest.raises(RedisError) as refused:
            await pipeline.execute()
        error = as_lifecycle_error(refused.value, own_valkey.url)
        assert error.summary.endswith("full: command not allowed when used memory > 'maxmemory'")


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    found = Watched(tmp_path, str(find_server()))
    try:
        found.start()
        yield found
    finally:
        found.close()


async def test_the_primary_that_sentinels_name_is_followed(watched: Watched) -> None:
    url = f"redis+sentinel://127.0.0.1:{watched.sentinel}/main"
    async with contextlib.aclosing(connect(url)) as redis:
        await check(redis, url)
        client, alone, line = JobQueue(redis), redis.client(), Line(redis)
        first = await client.submit({"a": 1}, service_required="simulation")
        await redis.wait(1, 5000)
        await alone.ping()
        await line.execute_command("PING")
        with watched.switching():
            watched.kill_primary()
        # Over a connection of the pool, over the one that a client has for itself, and over a line.
        second = await client.submit({"a": 2}, service_required="simulation")
        assert await alone.zcard("jobs:pending") == 2
        assert await line.execute_command("ZCARD", "jobs:pending") == 2
        assert {record.id for record in await client.list()} == {first, second}
        await line.aclose()
        await alone.aclose()


async def test_sentinels_that_are_down_are_passed_over(watched: Watched) -> None:
    down = f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}"
    url = f"redis+sentinel://{down},127.0.0.1:{watched.sentinel}/main"
    async with contextlib.aclosing(connect(url)) as redis:
        assert await check(redis, url) == ()
    url = f"redis+sentinel://{down}/main"
    async with contextlib.aclosing(connect(url)) as redis:
        with pytest.raises(RedisUnreachable) as refused:
            await check(redis, url)
    told = refused.value
    assert told.reason == "No master found for 'main', and not all Sentinels answer"


async def test_a_service_that_no_sentinel_knows(watched: Watched) -> None:
    url = f"redis+sentinel://127.0.0.1:{watched.sentinel}/other"
    async with contextlib.aclosing(connect(url)) as redis:
        with pytest.raises(RedisUnreachable, match="No master found for 'other'") as refused:
            await check(redis, url)
    assert f"-p {watched.sentinel}" in str(refused.value.remedies[0])


REDIS_CLI = f"""#!{sys.executable}
# As the real one answers where its output is no terminal: each text on a line of its own.
import sys
from redis import Redis
_, host, _, port, *words = sys.argv[1:]
answer = Redis(host, int(port), decode_responses=True).execute_command(*words)
print(*(answer if isinstance(answer, list) else [answer]), sep="\\n")
"""


async def test_remedies_reach_the_primary_that_sentinels_name(
    watched: Watched, tmp_path: Path
) -> None:
    url = f"redis+sentinel://127.0.0.1:{watched.sentinel}/main"
    async with contextlib.aclosing(connect(url)) as redis:
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        (warning,) = await check(redis, url)
        program = tmp_path / "redis-cli"
        program.write_text(REDIS_CLI, encoding="utf-8")
        program.chmod(0o700)
        path = f"{tmp_path}{os.pathsep}{os.defpath}"
        (remedy,) = warning.remedies
        shell = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", str(remedy.command), env={"PATH": path}, stdout=subprocess.PIPE
        )
        said, _ = await asyncio.wait_for(shell.communicate(), PATIENCE)
        assert said == b"OK\n"
        assert await check(redis, url) == ()
