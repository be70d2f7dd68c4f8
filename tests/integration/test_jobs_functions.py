"""A server that does not take the queue's functions is told as that, with what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from redis.asyncio import Redis

from machine_lifecycle.jobs.client import JobQueue, open_job_queue
from machine_lifecycle.jobs.functions import LIBRARY
from machine_lifecycle.system.redis_errors import RedisFunctionsRefused, RedisRefuses, Refusal
from tests.support.redis_server import ValkeyServer
from tests.support.workers import Orchestrator, Workers, end_of

THEIRS = "#!lua name=theirs\nredis.register_function('{}', function() return 'theirs' end)"


@pytest.fixture
def without_functions() -> Iterator[ValkeyServer]:
    """A server of which somebody has taken the command FUNCTION, or that never had it."""
    server = ValkeyServer()
    with server.settings.open("a", encoding="utf-8") as settings:
        settings.write('rename-command FUNCTION ""\n')
    server.start()
    yield server
    server.close()


async def take_name(admin: Redis, function: str) -> None:
    execute: Any = admin.execute_command
    await execute("FUNCTION", "FLUSH")
    await execute("FUNCTION", "LOAD", THEIRS.format(function))


async def submit(url: str) -> str:
    async with open_job_queue(url) as client:
        return await client.submit({}, service_required="simulation")


async def test_a_function_of_somebody_else_in_the_way_is_named_with_its_library(
    own_valkey: Any, admin: Redis
) -> None:
    await take_name(admin, "ml1_submit")
    with pytest.raises(RedisFunctionsRefused) as told:
        await submit(own_valkey.url)
    error = told.value
    assert (error.code, error.library) == ("redis-functions-refused", "theirs")
    assert error.summary.endswith(
        "does not take the queue's functions: Function ml1_submit already exists"
    )
    look, remove = [str(remedy.command) for remedy in error.remedies]
    assert look.endswith(" function list libraryname theirs withcode")
    assert remove.endswith(" function delete theirs")
    execute: Any = admin.execute_command
    await execute("FUNCTION", "DELETE", error.library)
    assert await submit(own_valkey.url)


async def test_a_server_without_functions_is_told_as_that(without_functions: ValkeyServer) -> None:
    with pytest.raises(RedisFunctionsRefused) as told:
        await submit(without_functions.url)
    assert told.value.summary.endswith("the queue's functions: unknown command 'FUNCTION'")
    see, island = told.value.remedies
    assert "Redis 7.0 or later" in see.text
    assert str(see.command).endswith(" info server")
    assert island.command == "export REDIS=embedded"


async def test_a_user_who_may_not_load_functions_is_told_what_to_be_given(
    own_valkey: Any, admin: Redis
) -> None:
    execute: Any = admin.execute_command
    await execute("ACL", "SETUSER", "some", "on", ">s", "~*", "&*", "+@all", "-function|load")
    url = re.sub("//.*@", "//some:s@", own_valkey.url)
    with pytest.raises(RedisRefuses) as told:
        await submit(url)
    assert told.value.refusal is Refusal.NOT_PERMITTED
    assert "+function|load" in str(told.value.remedies[0].command)


async def test_the_hubs_own_function_may_be_in_a_library_of_another_name(
    own_valkey: Any, admin: Redis
) -> None:
    await take_name(admin, "findMatchingJob")
    assert await submit(own_valkey.url)
    execute: Any = admin.execute_command
    assert await execute("FCALL", "findMatchingJob", 0, "{}", 100) == "theirs"


async def test_a_worker_that_comes_says_so_and_goes_on_when_it_is_over(
    own_valkey: Any, admin: Redis, workers: Workers
) -> None:
    boss = Orchestrator(own_valkey.folder / "control.sock")
    await take_name(admin, "ml1_why")
    async with await boss.serve():
        worker = await workers.start(
            own_valkey.url, MACHINE_CONTROL_SOCKET=str(boss.path), WORKER_ID="w-1"
        )
        await boss.wait_for("standby")
        boss.tell(do="go")
        await told_and_over(boss, admin)
        await end_of(JobQueue(admin), await submit(own_valkey.url))
        assert worker.returncode is None


@pytest.mark.parametrize("busy", [True, False])
async def test_a_worker_whose_functions_are_replaced_says_so_and_keeps_what_it_has(
    own_valkey: Any, admin: Redis, workers: Workers, *, busy: bool
) -> None:
    boss = Orchestrator(own_valkey.folder / "control.sock")
    async with await boss.serve():
        worker = await workers.start(
            own_valkey.url, MACHINE_CONTROL_SOCKET=str(boss.path), WORKER_ID="w-1",
            WORKER_POLL_INTERVAL_MS="200",
        )  # fmt: skip
        await boss.wait_for("standby")
        boss.tell(do="go")
        await boss.wait_for("connected")
        client = JobQueue(admin)
        if busy:
            await client.submit({"wait": "go"}, service_required="simulation", job_id="runs")
            await boss.wait_for("job_taken", job_id="runs")
        await take_name(admin, "ml1_why")
        (workers.folder / "go").touch()
        await told_and_over(boss, admin)
        if busy:
            end = await end_of(client, "runs")
            assert end.job
            assert (end.kind, end.job.fence) == ("completed", 1)
        last = await end_of(client, await submit(own_valkey.url))
        assert (last.kind, worker.returncode) == ("completed", None)


async def told_and_over(boss: Orchestrator, admin: Redis) -> None:
    """The worker tells of it; once that is away, of being connected."""
    error = (await boss.wait_for("trouble"))["error"]
    assert error["code"] == "redis-functions-refused"
    assert "Function ml1_why already exists" in error["summary"]
    execute: Any = admin.execute_command
    await execute("FUNCTION", "DELETE", "theirs")
    await boss.wait_for("connected")
    assert await execute("FUNCTION", "LIST", "LIBRARYNAME", LIBRARY)
