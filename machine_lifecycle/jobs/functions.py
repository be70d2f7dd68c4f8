"""Calls of the queue's functions, which live in Redis and are put there when they are missing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from machine_lifecycle.system.redis_foreign import name_foreign
from machine_lifecycle.system.redis_functions import FunctionsRefused
from machine_lifecycle.system.redis_line import Line

__all__ = ["LIBRARY", "LOST", "FunctionsWithFiles", "QueueFunctions"]

LIBRARY = "machine_lifecycle_1"
"""Name of the library. A change that older callers can't live with gets a new name, so that both
may be loaded side by side."""

LOST = "Function not found"
"""What a server says that has lost the library, as one that was emptied has."""

_CALLS = 3
"""How often a call is made of a server that has lost the library each time: whoever empties one may
do so again before the call comes.
"""

_SHARED = ("base", "matching", "index", "waiting", "runs")
"""Files of both libraries, in the order in which they build on each other."""
_OURS = (*_SHARED, "push", "api")
_THEIRS = (*_SHARED, "compat")
_HUBS = "jobMatching"
"""The hub's own library, whose one function its workers call."""
_TOGETHER = 4 * 1024 * 1024
"""Bytes of files up to which they travel with the call. A server holds a transaction in memory, and
ends connections that have it hold too much; of what takes longer, a round trip is the least part.
"""
_TAKEN = re.compile(r"Function (\S+) already exists")
"""What a server says that has a function of that name in another library."""
_REVISION = re.compile(r"^-- revision (\d+)$", re.MULTILINE)


@cache
def _source(parts: tuple[str, ...] = _OURS, name: str = LIBRARY) -> str:
    folder = files("machine_lifecycle.jobs").joinpath("lua")
    code = "".join(folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in parts)
    return code.replace(f"name={LIBRARY}", f"name={name}", 1)


def _revision(code: str) -> int:
    found = _REVISION.search(code)
    return int(found.group(1)) if found else 0


def _facts(entry: Any) -> dict[str, Any]:
    """What a server tells of a thing, as it comes by RESP3 or RESP2."""
    return entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))


class QueueFunctions:
    """The functions of one Redis."""

    def __init__(self, redis: Redis | Line) -> None:
        self._execute: Callable[..., Awaitable[Any]] = redis.execute_command
        self._loaded = False

    async def ensure(self) -> None:
        """Load the library unless this revision, or a newer one, is there; and the hub's function,
        on our index, unless the hub has loaded its own.

        Raises:
            FunctionsRefused: The server does not take them, for a while or for good.
            RedisError: It is away.
            OSError: Likewise.
        """
        try:
            await self._load(LIBRARY, _source())
            theirs = await self._code(_HUBS)
            if not theirs or _revision(theirs):
                await self._load_theirs()
        except ResponseError as error:
            taken = _TAKEN.search(str(error))
            library = await self._library_of(taken[1]) if taken else ""
            raise FunctionsRefused(error, library) from error
        self._loaded = True

    async def _load_theirs(self) -> None:
        try:
            await self._load(_HUBS, _source(_THEIRS, _HUBS))
        except ResponseError as error:
            if not _TAKEN.search(str(error)):
                raise  # else the hub keeps its function in a library of another name

    async def _load(self, library: str, source: str) -> None:
        code = await self._code(library)
        if code != source and _revision(code) <= _revision(source):
            await self._execute("FUNCTION", "LOAD", "REPLACE", source)

    async def _code(self, library: str) -> str:
        for found in await self._listed("LIBRARYNAME", library, "WITHCODE"):
            return str(found.get("library_code", ""))
        return ""

    async def _library_of(self, function: str) -> str:
        for found in await self._listed():
            if function in (_facts(each)["name"] for each in found["functions"]):
                return str(found["library_name"])
        return ""

    async def _listed(self, *which: str) -> list[dict[str, Any]]:
        return list(map(_facts, await self._execute("FUNCTION", "LIST", *which) or ()))

    async def call(self, name: str, *args: str | float | bytes) -> Any:
        """Call one function. A server that has lost the library gets it again."""
        return await self._loaded_for(lambda: self._execute("FCALL", name, 0, *args), args)

    async def _loaded_for(self, call: Callable[[], Awaitable[Any]], args: Sequence[Any]) -> Any:
        calls = 0
        while True:
            if not self._loaded:
                await self.ensure()
            try:
                return await call()
            except ResponseError as error:
                if LOST not in str(error):
                    # What a worker calls begins with its id.
                    raise await name_foreign(self._execute, error, str(args[0])) from error
                self._loaded, calls = False, calls + 1
                if calls == _CALLS:
                    raise

    async def ping(self) -> None:
        """Return when the server has answered."""
        await self._execute("PING")

    async def tell(self, channel: str, message: str) -> None:
        """Publish to who listens; if nobody does, it is not even sent."""
        _, listeners = await self._execute("PUBSUB", "NUMSUB", channel)
        if int(listeners):
            await self._execute("PUBLISH", channel, message)


class FunctionsWithFiles(QueueFunctions):
    """Those of who writes results, which may bring files."""

    def __init__(self, line: Line) -> None:
        super().__init__(line)
        self._line = line

    async def call_after(
        self, files: Mapping[str, bytes], seconds: int, name: str, *args: str | float | bytes
    ) -> Any:
        """Put files into keys that last so long, and call a function if Redis took them all.

        A call that fails leaves the files; it is safe to repeat.
        """
        puts = [("SET", key, data, "EX", seconds) for key, data in files.items()]
        if sum(map(len, files.values())) > _TOGETHER:
            await asyncio.gather(*(self._line.execute_command(*put) for put in puts))
            return await self.call(name, *args)
        call = ("FCALL", name, 0, *args)
        return (await self._loaded_for(lambda: self._line.transaction(*puts, call), args))[-1]
