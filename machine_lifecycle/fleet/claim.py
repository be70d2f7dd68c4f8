"""The claim on a machine's id: one living machine has it, and a dead one's is taken over."""

from __future__ import annotations

import json
import os
import secrets
import time
from typing import Any

import attrs
import psutil
from redis.asyncio import Redis

from machine_lifecycle.fleet.errors import MachineIdTaken
from machine_lifecycle.fleet.host import boot_id, host_name
from machine_lifecycle.system import redis_keys as keys
from machine_lifecycle.system.redis_keys import iso

__all__ = ["Claim"]

_TTL = 30
"""Seconds that a claim holds without being renewed: so long is a dead machine's id taken."""

# Take or renew the claim if nobody else has it; in a full server too, whose jobs want to be done.
# KEYS: owner. ARGV: mine, ttl, the one seen before.
_CLAIM = """#!lua flags=allow-oom
local now = redis.call('GET', KEYS[1])
if not now or now == ARGV[1] or now == ARGV[3] then
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
  return ''
end
return now
"""
# Remove the claim, and only ours.
_UNCLAIM = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


@attrs.frozen
class _Owner:
    token: str
    host: str
    boot: str
    pid: int
    started: float
    since: str

    def gone(self, host: str, boot: str) -> bool:
        """Whether this was a process of this very host that is dead."""
        if self.host != host or self.boot != boot:
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) > 1.0
        except psutil.NoSuchProcess:
            return True


class Claim:
    """This process's claim on one machine's id."""

    def __init__(self, redis: Redis, machine_id: str) -> None:
        self._redis: Any = redis  # scripts have hardly any types in redis-py
        self._machine_id = machine_id
        self._mine = _Owner(
            token=secrets.token_hex(8),
            host=host_name(),
            boot=boot_id(),
            pid=os.getpid(),
            started=psutil.Process().create_time(),
            since=iso(time.time_ns() // 1_000_000),
        )
        self._text = json.dumps(attrs.asdict(self._mine))

    async def take(self) -> None:
        """Take the id, or keep it; it is free again 30 s after the last time.

        Raises:
            MachineIdTaken: Another living machine holds it.
        """
        found = await self._try("")
        if found and _owner(found).gone(self._mine.host, self._mine.boot):
            # Our own earlier run, killed: taken over, unless a third one was faster.
            found = await self._try(found)
        if found:
            owner = _owner(found)
            raise MachineIdTaken(
                machine_id=self._machine_id, host=owner.host, pid=owner.pid, since=owner.since
            )

    def drop(self, pipeline: Any) -> None:
        """Give the id back, if it is ours, with what else the pipeline brings."""
        pipeline.eval(_UNCLAIM, 1, keys.machine_owner(self._machine_id), self._text)

    async def _try(self, seen: str) -> str:
        """Take it from nobody, from ourselves or from the one seen before; else who has it."""
        key = keys.machine_owner(self._machine_id)
        return str(await self._redis.eval(_CLAIM, 1, key, self._text, _TTL, seen))


def _owner(text: str) -> _Owner:
    """Who wrote a claim; nobody that could be named where another version wrote it otherwise."""
    try:
        return _Owner(**json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return _Owner(token="", host="", boot="", pid=0, started=0.0, since="")
