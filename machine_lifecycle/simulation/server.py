"""The simulated ComfyUI: its pages and its socket."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from typing import Any

from aiohttp import WSMsgType, web

from machine_lifecycle.simulation import frames, pages
from machine_lifecycle.simulation.custom_nodes import CustomNodes
from machine_lifecycle.simulation.execution import Executor, Folders, Habits
from machine_lifecycle.simulation.flavours import UPSTREAM, Flavour
from machine_lifecycle.simulation.prompts import PromptPages
from machine_lifecycle.simulation.queue import PromptQueue
from machine_lifecycle.simulation.sockets import Sockets, send_to

__all__ = ["SimulatedComfyUI"]

_MAX_BODY = 100 * 2**20  # ComfyUI's own limit of an HTTP body
_MAX_FRAME = 4 * 2**20  # longer text frames cut the socket


class SimulatedComfyUI:
    """One server. ``start`` returns once it listens; ``close`` ends it and its thread."""

    def __init__(
        self,
        folders: Folders,
        *,
        flavour: Flavour = UPSTREAM,
        habits: Habits | None = None,
        argv: tuple[str, ...] = (),
        packs: CustomNodes | None = None,
    ) -> None:
        self.flavour = flavour
        self.folders = folders
        self.habits: Habits = habits or Habits()
        self.argv: tuple[str, ...] = argv or tuple(sys.argv)
        self.packs: CustomNodes = packs or CustomNodes()
        self.sockets: Sockets = Sockets()
        self.queue: PromptQueue = PromptQueue(self._queue_changed)
        self.executor: Executor = Executor(
            self.queue, flavour, folders, self.habits, self.sockets.send
        )
        self.prompts: PromptPages = PromptPages(self.queue, self.executor, flavour, folders)
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port, which the system chooses when *port* is 0."""
        app = web.Application(
            client_max_size=_MAX_BODY, middlewares=[pages.only_own_origin, pages.json_errors]
        )
        self._add_routes(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self.sockets.start()
        self.executor.start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def close(self) -> None:
        """Cut all sockets and end, whatever runs."""
        self.queue.close()
        self.executor.interrupt()
        await self.sockets.close()
        if self._runner is not None:
            await self._runner.cleanup()
        await asyncio.to_thread(self.executor.join)
        await self.sockets.stop()

    def _queue_changed(self) -> None:
        self.sockets.send(frames.status(self.queue.remaining()), None)

    def _add_routes(self, app: web.Application) -> None:
        files = pages.FilePages(self.folders)
        lists = pages.ListPages(self.flavour, self.habits, self.folders, self.argv, self.packs)
        routes = [
            web.get("/ws", self._socket),
            *self.prompts.routes(),
            web.get("/view", files.view),
            web.post("/upload/image", files.upload),
            web.get("/object_info", lists.object_info),
            web.get("/object_info/{name}", lists.object_info),
            web.get("/system_stats", lists.system_stats),
            web.get("/extensions", lists.extensions),
            web.get("/embeddings", lists.embeddings),
            web.get("/models", lists.models),
            web.get("/models/{folder}", lists.models),
        ]
        if self.flavour.features is not None:
            routes.append(web.get("/features", lists.features))
        app.add_routes(routes)
        app.add_routes(
            [web.route(route.method, f"/api{route.path}", route.handler) for route in routes]
        )

    # The socket

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=_MAX_FRAME)
        await socket.prepare(request)
        asked = request.query.get("clientId", "")
        chosen = "" if self.flavour.own_socket_ids else asked
        sid = chosen or uuid.uuid4().hex
        with self.sockets.joined(sid, socket):
            if self.flavour.own_socket_ids:
                await send_to(socket, frames.frame("client_id", {"client_id": sid}))
            await send_to(socket, frames.status(self.queue.remaining(), sid))
            if self.executor.client == sid and self.executor.node is not None:
                await send_to(socket, frames.frame("executing", {"node": self.executor.node}))
            async for message in socket:
                if message.type is WSMsgType.TEXT and self.flavour.socket_prompts:
                    await self._heard(socket, sid, message.data)
        return socket

    async def _heard(self, socket: web.WebSocketResponse, sid: str, text: str) -> None:
        try:
            message = json.loads(text)
            if message["type"] == "ping":
                await send_to(socket, {"type": "pong"})
            elif message["type"] == "prompt":
                data = message["data"]
                answer, verdict = self.prompts.accept(
                    {"prompt": data["prompt"], **_extra(data)}, sid
                )
                if answer is not None:
                    await send_to(socket, frames.frame("prompt_queued", answer))
                else:
                    await send_to(socket, frames.frame("error", verdict.body()))
        except (KeyError, TypeError, ValueError):
            return  # what can't be read is met with silence


def _extra(data: dict[str, Any]) -> dict[str, Any]:
    extra = data.get("extra_data")
    return {"extra_data": extra} if isinstance(extra, dict) else {}
