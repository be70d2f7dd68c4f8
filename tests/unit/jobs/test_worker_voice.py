"""What a worker says that nobody leads: its log is all that tells of it."""

from __future__ import annotations

import contextlib

import pytest

from machine_lifecycle.jobs.functions import QueueFunctions
from machine_lifecycle.jobs.registration import Registration
from machine_lifecycle.jobs.worker_config import WorkerConfig
from machine_lifecycle.jobs.worker_voice import WorkerVoice
from machine_lifecycle.system.redis import connect
from machine_lifecycle.system.redis_errors import RedisRefuses, RedisUnreachable, Refusal
from tests.unit.jobs.test_worker_config import GOOD


async def test_trouble_of_a_worker_alone_is_logged_once_until_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = WorkerConfig.from_env(GOOD | {"WORKER_ID": "w-1"})
    full = RedisRefuses(address="host:1", refusal=Refusal.FULL, said="OOM command not allowed")
    away = RedisUnreachable(address="host:1")
    async with contextlib.aclosing(connect(config.redis_url)) as redis:
        registration = Registration(redis, QueueFunctions(redis), config)
        voice = WorkerVoice(config, registration, order=lambda _order: None)
        for error in (full, full, away, away, full):
            voice.trouble(error)
        voice.connected({}, ())
        voice.trouble(full)
    told = [record.getMessage() for record in caplog.records]
    assert [text.startswith("w-1: Redis at host:1 takes nothing more") for text in told] == [
        True, False, True, True,
    ]  # fmt: skip
    assert "redis-cli" in told[0]
