"""Canary values in every secret setting are found nowhere: files, argv, Redis, pages, logs."""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from machine_lifecycle.model.settings import setting_info
from machine_lifecycle.system.redis import connect
from tests.support.outside import Outside
from tests.support.patience import PATIENCE
from tests.support.redis_server import ValkeyServer

CANARIES = {
    info.env[0]: f"canary-{number}-7f3a9c1e"
    for number, info in enumerate(setting_info())
    if info.secret and info.env[0] != "HUB_REDIS_URL"
}
# Secrets that are addresses, with what is secret in them: nobody listens there.
ADDRESSES = {
    name: f"http://127.0.0.1:9/{secret}" for name, secret in CANARIES.items() if "_URL" in name
}
PAGES = ("/health", "/status", "/metrics", "/ready", "/live", "/pm2/list", "/")
# Files that must hold the queue's password, and are for our own eyes.
KEEPERS = {"valkey.conf", "machine.json"}


def files(machine: Outside) -> Iterator[Path]:
    for path in machine.folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield path


def check_files(machine: Outside, secrets: dict[str, str]) -> None:
    for path in files(machine):
        held = path.read_bytes()
        for name, secret in secrets.items():
            if secret.encode() in held:
                assert path.name in KEEPERS, f"{name} is in {path}"
                assert path.stat().st_mode & 0o077 == 0, f"{path} is open to others"


def check_argv(machine: Outside, secrets: dict[str, str]) -> None:
    for process in machine.running():
        line = " ".join(process.cmdline())
        for name, secret in secrets.items():
            assert secret not in line, f"{name} is in the arguments of {line}"


async def check_redis(redis: Redis, secrets: dict[str, str]) -> None:
    readers: dict[str, Callable[[str], Any]] = {
        "string": redis.get,
        "hash": redis.hgetall,
        "set": redis.smembers,
        "stream": redis.xrange,
    }
    seen = 0
    async for found in redis.scan_iter():
        key = str(found)
        reader = readers.get(str(await redis.type(key)))
        text = key + str(await reader(key) if reader else "")
        seen += 1
        for name, secret in secrets.items():
            assert secret not in text, f"{name} is in Redis under {key}"
    assert seen, "a machine leaves no trace in Redis?"


def check_text(text: str, what: str, secrets: dict[str, str]) -> None:
    for name, secret in secrets.items():
        assert secret not in text, f"{name} is in {what}"


def read_page(url: str, token: str) -> str:
    headers = {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - loopback
        text: str = answer.read().decode()
        return text


@pytest.fixture
def guarded_hub() -> Iterator[ValkeyServer]:
    server = ValkeyServer()
    server.start()
    yield server
    server.close()


async def test_after_a_good_boot(
    outside: Callable[..., Outside], guarded_hub: ValkeyServer
) -> None:
    password = guarded_hub.url.split("@")[0].rpartition(":")[2]
    secrets = {**CANARIES, "HUB_REDIS_URL": password}
    machine = outside(
        **(CANARIES | ADDRESSES),
        HUB_REDIS_URL=guarded_hub.url,
        LOG_LEVEL="debug",
        MACHINE_TEE_LOGS="true",
    ).start()
    machine.until("machine_ready")
    check_argv(machine, secrets)
    status = machine.call("status", "--json").stdout
    base = json.loads(status)["health_url"]
    token = CANARIES["MACHINE_HEALTH_TOKEN"]
    for path in PAGES:
        check_text(read_page(base + path, token), path, secrets)
    for words in (
        ("status",),
        ("ps", "--json"),
        ("settings",),
        ("settings", "--json"),
        ("plan", "--json"),
        ("plan",),
        ("logs",),
    ):
        done = machine.call(*words)
        check_text(done.stdout + done.stderr, " ".join(words), secrets)
    redis = connect(guarded_hub.url)
    await check_redis(redis, secrets)
    await redis.aclose()
    machine.signal(signal.SIGTERM)
    assert machine.wait() == 0
    check_text(json.dumps(machine.events), "the events", secrets)
    check_text(machine.said(), "the log", secrets)
    check_files(machine, secrets)


def test_after_a_failed_boot(outside: Callable[..., Outside]) -> None:
    secret = "canary-in-a-url-7f3a9c1e"
    secrets = {**CANARIES, "HUB_REDIS_URL": secret}
    machine = outside(
        **(CANARIES | ADDRESSES),
        HUB_REDIS_URL=f"redis://:{secret}@127.0.0.1:1/0",
        LOG_LEVEL="debug",
    ).start()
    assert machine.wait() == 3
    check_text(json.dumps(machine.events), "the events", secrets)
    check_text(machine.said(), "the log", secrets)
    check_files(machine, secrets)


def test_a_wrong_password_fails_and_is_not_shown(
    outside: Callable[..., Outside], guarded_hub: ValkeyServer
) -> None:
    wrong = "canary-wrong-password-7f3a"
    socket = guarded_hub.url.partition("@")[2]
    machine = outside(HUB_REDIS_URL=f"unix://:{wrong}@{socket}").start()
    assert machine.wait() == 2
    failed = next(event for event in machine.events if event["kind"] == "machine_failed")
    assert failed["error"]["code"] == "redis-auth"
    check_text(json.dumps(machine.events) + machine.said(), "events or log", {"it": wrong})
    check_files(machine, {"it": wrong})
