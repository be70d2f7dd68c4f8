"""The health pages: an HTTP server beside the machine, for probes, dashboards and people."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import cast

from aiohttp import web

from machine_lifecycle.health.answers import answer_errors, needs_token, read_only
from machine_lifecycle.health.errors import HealthAddressUnusable, HealthPortTaken
from machine_lifecycle.health.pages import Pages
from machine_lifecycle.health.source import HealthSource
from machine_lifecycle.health.watchers import Watchers

__all__ = ["HealthServer"]

_log = logging.getLogger("machine_lifecycle.health")

_LINGER = 2.0
"""Seconds that answers under way have when the server closes."""


class HealthServer:
    """Serves the pages of one machine. It is up in every state, from the first to the last.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        source: The machine.
        token: What ``Authorization: Bearer`` must say on pages that change the machine or show
            logs; empty switches those pages off.
    """

    def __init__(self, host: str, port: int, source: HealthSource, token: str) -> None:
        self._host = host
        self._port = port
        self._watchers = Watchers()
        self._pages = Pages(source, self._watchers)
        self._token = token
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen.

        Returns:
            The port, which is the one asked for unless that was 0.

        Raises:
            HealthPortTaken: Another program listens there.
            HealthAddressUnusable: The address is not this machine's, or may not be used.
        """
        listener = await self._bind()
        runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=_LINGER)
        await runner.setup()
        self._runner = runner
        await web.SockSite(runner, listener).start()
        return cast(int, listener.getsockname()[1])

    async def _bind(self) -> socket.socket:
        """A bound socket. One, though a name may have several addresses: port 0 is one port."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except OSError as cause:
            raise self._unusable(cause) from cause
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)  # now, so that a port that is taken is noticed here
            listener.setblocking(False)  # noqa: FBT003 - the socket's signature
        except OSError as cause:
            listener.close()
            if cause.errno == errno.EADDRINUSE:
                raise HealthPortTaken(host=self._host, port=self._port) from cause
            raise self._unusable(cause) from cause
        return listener

    def _unusable(self, cause: OSError) -> HealthAddressUnusable:
        reason = cause.strerror or str(cause)
        return HealthAddressUnusable(host=self._host, port=self._port, reason=reason)

    def changed(self) -> None:
        """Say that the report is another one: readers of ``/events`` are sent it."""
        self._watchers.ring()

    async def close(self) -> None:
        """Stop listening and end every connection. Safe to call twice."""
        self._watchers.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def _application(self) -> web.Application:
        pages = self._pages
        application = web.Application(middlewares=[answer_errors(_log)])
        for path, page in {
            "/": pages.picture,
            "/health": pages.health,
            "/status": pages.status,
            "/metrics": pages.metrics,
            "/ready": pages.ready,
            "/live": pages.live,
            "/pm2/list": pages.processes,
            "/events": pages.events,
        }.items():
            handler = read_only(page)
            application.router.add_get(path, handler)
            application.router.add_route("OPTIONS", path, read_only(_nothing))
        token = self._token
        application.router.add_get("/pm2/logs", needs_token(token, pages.logs))
        application.router.add_get("/comfyui/logs", needs_token(token, pages.comfyui_logs))
        application.router.add_post("/restart/machine", needs_token(token, pages.restart_machine))
        application.router.add_post("/restart/service", needs_token(token, pages.restart_service))
        refresh = needs_token(token, pages.refresh)
        application.router.add_get("/refresh-status", refresh)
        application.router.add_post("/refresh-status", refresh)
        return application


async def _nothing(_request: web.Request) -> web.StreamResponse:
    return web.Response()
