"""Wait until a process can serve.

Where the process tells us (sd_notify, the link) we wait for that. Where nobody tells, we look:
every 20 ms at first, growing to every 250 ms, until it is ready and not after.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs

from machine_lifecycle.model.processes import (
    Command,
    CommandReady,
    HttpReady,
    LinkReady,
    LogReady,
    NotifyReady,
    ProcessSpec,
    Readiness,
    TcpReady,
    WebSocketReady,
)
from machine_lifecycle.supervisor.child import Child
from machine_lifecycle.supervisor.handshake import (
    accepts_connection,
    accepts_websocket,
    answers_http,
    dial_host,
)
from machine_lifecycle.supervisor.logs import Follower

__all__ = ["Surroundings", "describe", "wait_until"]

_FIRST, _GROWTH, _LONGEST = 0.02, 1.5, 0.25
_COMMAND_TIMEOUT = 10.0
"""Seconds for one run of a command that tells whether a process is ready."""

Say = Callable[[str], None]


@attrs.frozen(kw_only=True)
class Surroundings:
    """What probes of one running process need.

    Attributes:
        log: Its log file, and
        log_offset: where its part of that begins.
        notified: Set when it has said ``READY=1``.
        linked: Set while it is connected over its link.
        run: Starts a probe command in the process's own environment.
    """

    spec: ProcessSpec
    log: Path
    log_offset: int
    notified: asyncio.Event
    linked: asyncio.Event
    run: Callable[[Command], Child]


def describe(readiness: Readiness, spec: ProcessSpec) -> str:  # noqa: PLR0911 - one per kind
    """What is waited for, in words."""
    where = f"{dial_host(spec.host)}:{spec.port}"
    match readiness:
        case HttpReady(path=path):
            return f"GET http://{where}{path}"
        case WebSocketReady(path=path):
            return f"WebSocket ws://{where}{path}"
        case TcpReady():
            return f"connection to {where}"
        case LogReady(pattern=pattern):
            return f"log line matching {pattern!r}"
        case CommandReady(argv=argv):
            return f"command {' '.join(argv)}"
        case NotifyReady():
            return "its READY=1"
        case LinkReady():
            return "its word that it is connected"


async def _look(attempt: Callable[[], Awaitable[str]], say: Say) -> None:
    pause = _FIRST
    while problem := await attempt():
        say(problem)
        await asyncio.sleep(pause)
        pause = min(_LONGEST, pause * _GROWTH)


def _log_attempt(pattern: str, around: Surroundings) -> Callable[[], Awaitable[str]]:
    follower = Follower(around.log, around.log_offset)
    wanted = re.compile(pattern)

    async def attempt() -> str:
        lines = follower.read()
        return "" if any(wanted.search(line.decode("utf-8", "replace")) for line in lines) else "no"

    return attempt


def _command_attempt(argv: tuple[str, ...], around: Surroundings) -> Callable[[], Awaitable[str]]:
    async def attempt() -> str:
        child = around.run(attrs.evolve(around.spec.command, argv=argv))
        try:
            async with asyncio.timeout(_COMMAND_TIMEOUT):
                ended = await asyncio.shield(child.ended)
                return ended.words if ended.failed else ""
        except TimeoutError:
            return f"still runs after {_COMMAND_TIMEOUT:g} s"
        finally:
            child.kill()
            await child.end(signal.SIGKILL, 0)

    return attempt


async def wait_until(readiness: Readiness, around: Surroundings, say: Say) -> None:
    """Return when the condition holds; *say* is told what still stands against it."""
    spec = around.spec
    port = spec.port or 0
    match readiness:
        case HttpReady(path=path):
            await _look(lambda: answers_http(spec.host, port, path, spec.command.argv), say)
        case WebSocketReady(path=path):
            await _look(lambda: accepts_websocket(spec.host, port, path), say)
        case TcpReady():
            await _look(lambda: accepts_connection(spec.host, port), say)
        case LogReady(pattern=pattern):
            await _look(_log_attempt(pattern, around), lambda _: say(""))
        case CommandReady(argv=argv):
            await _look(_command_attempt(argv, around), say)
        case NotifyReady():
            await around.notified.wait()
        case LinkReady():
            await around.linked.wait()
