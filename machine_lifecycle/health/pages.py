"""One coroutine per page."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web

from machine_lifecycle.health.answers import answer_json, json_text
from machine_lifecycle.health.metrics import CONTENT_TYPE, metrics_text
from machine_lifecycle.health.picture import Picture
from machine_lifecycle.health.render import (
    health_value,
    live_value,
    process_value,
    ready_value,
    status_value,
)
from machine_lifecycle.health.source import HealthSource
from machine_lifecycle.health.watchers import Watchers

__all__ = ["Pages"]

_KEEP_ALIVE = 15.0
"""Seconds without a change after which a reader of ``/events`` is sent a comment, so that proxies
keep the connection and a reader that has gone is noticed."""

_LINES, _COMFYUI_LINES = 50, 100
"""Lines of a log that are sent where the request asks for no number: of any process's, and of a
ComfyUI's by its GPU."""
_MOST_LINES = 10_000
"""And those that are sent at most, whatever it asks for."""


class Pages:
    """The pages of one machine, each made from the report of the moment."""

    def __init__(self, source: HealthSource, watchers: Watchers) -> None:
        self._source = source
        self._watchers = watchers
        self._picture = Picture()

    async def picture(self, _request: web.Request) -> web.StreamResponse:
        """The machine for people who would rather look than read."""
        return web.Response(
            text=self._picture.html,
            content_type="text/html",
            headers={
                "Content-Security-Policy": self._picture.policy,
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
            },
        )

    async def health(self, _request: web.Request) -> web.StreamResponse:
        """200 if all that is essential runs, Redis answers and the machine takes jobs."""
        value = health_value(self._source.report())
        return answer_json(value, 200 if value["healthy"] else 503)

    async def status(self, _request: web.Request) -> web.StreamResponse:
        """Everything there is to know."""
        return answer_json(status_value(self._source.report()))

    async def metrics(self, _request: web.Request) -> web.StreamResponse:
        """For Prometheus."""
        figures = await self._source.figures()
        body = metrics_text(self._source.report(), figures)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def ready(self, _request: web.Request) -> web.StreamResponse:
        """200 while the machine takes jobs."""
        value = ready_value(self._source.report())
        return answer_json(value, 200 if value["ready"] else 503)

    async def live(self, _request: web.Request) -> web.StreamResponse:
        """200 as long as the event loop answers, in the middle of a long installation too."""
        return answer_json(live_value(self._source.report()))

    async def processes(self, _request: web.Request) -> web.StreamResponse:
        """Every process with what it uses."""
        figures = await self._source.figures()
        report = self._source.report()
        return answer_json([process_value(process, figures) for process in report.processes])

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Server-Sent Events: the whole status at once, and again at each change."""
        bell = self._watchers.join()
        if bell is None:
            return answer_json({"error": "too many readers, or the machine is closing"}, 503)
        try:
            return await self._tell(request, bell)
        finally:
            self._watchers.leave(bell)

    async def _tell(self, request: web.Request, bell: asyncio.Event) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
                "Access-Control-Allow-Origin": "*",
            }
        )
        await response.prepare(request)
        while True:
            try:
                async with asyncio.timeout(_KEEP_ALIVE):
                    await bell.wait()
            except TimeoutError:
                text = ": still here\n\n"
            else:
                if self._watchers.closing:
                    break
                bell.clear()
                value = json_text(status_value(self._source.report()))
                text = f"event: status\ndata: {value}\n\n"
            try:
                await response.write(text.encode())
            except ConnectionError:  # the reader has gone: nothing is lost
                break
        return response

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """The last lines of one process's log, as text."""
        name, refused = self._named(request.query.get("service", ""))
        if refused is not None:
            return refused
        return await self._last_lines(request, name, _LINES)

    async def comfyui_logs(self, request: web.Request) -> web.StreamResponse:
        """The same of the ComfyUI on one GPU, by the GPU's number."""
        name, refused = self._named(f"comfyui-gpu{request.query.get('gpu', '0')}")
        if refused is not None:
            return refused
        return await self._last_lines(request, name, _COMFYUI_LINES)

    async def _last_lines(self, request: web.Request, name: str, usual: int) -> web.StreamResponse:
        wanted = request.query.get("lines", str(usual))
        if not wanted.isdecimal():
            return answer_json({"error": f"lines must be a whole number, not {wanted!r}"}, 400)
        lines = min(int(wanted[:9]), _MOST_LINES)
        text = await self._source.tail(name, lines)
        return web.Response(
            text="".join(f"{line}\n" for line in text), headers={"Cache-Control": "no-store"}
        )

    async def restart_machine(self, _request: web.Request) -> web.StreamResponse:
        """Boot anew."""
        await self._source.restart_machine()
        return answer_json({"message": "the machine restarts"})

    async def restart_service(self, request: web.Request) -> web.StreamResponse:
        """Start one process anew."""
        name, refused = self._named(request.query.get("service", ""))
        if refused is not None:
            return refused
        await self._source.restart_process(name)
        return answer_json({"message": f"{name} restarts"})

    async def refresh(self, _request: web.Request) -> web.StreamResponse:
        """Publish the status to Redis now instead of at the next tick."""
        await self._source.publish_now()
        return answer_json(
            {
                "message": "status published",
                "machine_id": self._source.report().machine_id,
                "timestamp": round(time.time() * 1000),
            }
        )

    def _named(self, name: str) -> tuple[str, web.Response | None]:
        """The process a request is about, or the answer that there is none."""
        if not name:
            return "", answer_json({"error": "say which one: ?service=NAME"}, 400)
        names = [process.name for process in self._source.report().processes]
        if name not in names:
            known = ", ".join(names) or "none"
            return "", answer_json({"error": f"no process {name!r}; there are: {known}"}, 404)
        return name, None
