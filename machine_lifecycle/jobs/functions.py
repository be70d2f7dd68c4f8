"""Calls of the queue's functions, which live in Redis and are put there when they are missing."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

__all__ = ["LIBRARY", "QueueFunctions"]

LIBRARY = "machine_lifecycle_1"
"""Name of the library. A change that older callers can't live with gets a new name, so that both
may be loaded side by side."""

_PARTS = ("base", "matching", "index", "runs", "api")
"""Files of the library, in the order in which they build on each other."""
_REVISION = re.compile(r"^-- revision (\d+)$", re.MULTILINE)


@cache
def _source() -> str:
    folder = files("machine_lifecycle.jobs").joinpath("lua")
    return "".join(folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in _PARTS)


def _revision(code: str) -> int:
    found = _REVISION.search(code)
    return int(found.group(1)) if found else 0


class QueueFunctions:
    """The functions of one Redis."""

    def __init__(self, redis: Redis) -> None:
        self._execute: Any = redis.execute_command
        """redis-py gives it no types."""
        self._loaded = False

    async def ensure(self) -> None:
        """Load the library unless this revision, or a newer one, is there."""
        listed: Any = await self._execute("FUNCTION LIST", "LIBRARYNAME", LIBRARY, "WITHCODE")
        code = ""
        for entry in listed or ():
            facts = (
                entry
                if isinstance(entry, dict)
                else dict(zip(entry[::2], entry[1::2], strict=True))
            )
            code = str(facts.get("library_code", ""))
        if code != _source() and _revision(code) <= _revision(_source()):
            await self._execute("FUNCTION LOAD", "REPLACE", _source())
        self._loaded = True

    async def call(self, name: str, *args: str | float | bytes) -> Any:
        """Call one function. A server that has lost the library gets it again."""
        if not self._loaded:
            await self.ensure()
        try:
            return await self._execute("FCALL", name, 0, *args)
        except ResponseError as error:
            if "Function not found" not in str(error):
                raise
        await self.ensure()
        return await self._execute("FCALL", name, 0, *args)
