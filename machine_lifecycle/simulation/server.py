"""The simulated ComfyUI: its pages and its socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import uuid
from typing import Any

from aiohttp import WSMsgType, web

from machine_lifecycle.simulation import frames, pages
from machine_lifecycle.simulation.execution import Executor, Folders, Habits
from machine_lifecycle.simulation.flavours import UPSTREAM, Flavour
from machine_lifecycle.simulation.graph import Verdict, check_graph, refusal
from machine_lifecycle.simulation.queue import Prompt, PromptQueue
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
    ) -> None:
        self.flavour = flavour
        self.folders = folders
        self.habits = habits or Habits()
        self.argv = argv or tuple(sys.argv)
        self.sockets = Sockets()
        self.queue = PromptQueue(self._queue_changed)
        self.executor = Executor(self.queue, flavour, folders, self.habits, self.sockets.send)
        self._runner: web.AppRunner | None = None
        self._number = 0

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
        lists = pages.ListPages(self.flavour, self.habits, self.folders, self.argv)
        routes = [
            web.get("/ws", self._socket),
            web.get("/prompt", self._remaining),
            web.post("/prompt", self._prompt),
            web.get("/queue", self._queue),
            web.post("/queue", self._change_queue),
            web.get("/history", self._history),
            web.get("/history/{prompt_id}", self._history),
            web.post("/history", self._change_history),
            web.post("/interrupt", self._interrupt),
            web.post("/free", self._free),
            web.get("/view", files.view),
            web.post("/upload/image", files.upload),
            web.get("/object_info", lists.object_info),
            web.get("/object_info/{name}", lists.object_info),
            web.get("/system_stats", lists.system_stats),
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
                answer, verdict = self._accept({"prompt": data["prompt"], **_extra(data)}, sid)
                if answer is not None:
                    await send_to(socket, frames.frame("prompt_queued", answer))
                else:
                    await send_to(socket, frames.frame("error", verdict.body()))
        except (KeyError, TypeError, ValueError):
            return  # what can't be read is met with silence

    # Prompts

    async def _remaining(self, _request: web.Request) -> web.Response:
        info = {"exec_info": {"queue_remaining": self.queue.remaining()}}
        return web.json_response(info)

    async def _prompt(self, request: web.Request) -> web.Response:
        body = json.loads(await request.text())
        if "prompt" not in body:
            error: Any = refusal("no_prompt", "No prompt provided", "No prompt provided")
            nothing: Any = {}
            if self.flavour.plain_no_prompt:
                error, nothing = "no prompt", []
            return web.json_response({"error": error, "node_errors": nothing}, status=400)
        client = body.get("client_id")
        answer, verdict = self._accept(body, client)
        if answer is None:
            return web.json_response(verdict.body(), status=400)
        return web.json_response(answer)

    def _accept(
        self, body: dict[str, Any], client: str | None
    ) -> tuple[dict[str, Any] | None, Verdict]:
        number = self._place(body)
        verdict = check_graph(body["prompt"], self.flavour, pages.input_names(self.folders))
        if verdict.error is not None:
            return None, verdict
        asked = body.get("prompt_id")
        prompt_id = str(asked) if asked and self.flavour.keeps_prompt_id else str(uuid.uuid4())
        extra = dict(body.get("extra_data") or {})
        if client is not None:
            extra["client_id"] = client
        prompt = Prompt(
            number=number,
            id=prompt_id,
            graph=body["prompt"],
            extra=extra,
            outputs=verdict.outputs,
        )
        self.queue.put(prompt)
        answer = {"prompt_id": prompt_id, "number": number, "node_errors": verdict.node_errors}
        return answer, verdict

    def _place(self, body: dict[str, Any]) -> float:
        if "number" in body:
            return float(body["number"])
        number = -self._number if body.get("front") else self._number
        self._number += 1
        return number

    async def _queue(self, _request: web.Request) -> web.Response:
        return web.json_response(self.queue.rows())

    async def _change_queue(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("clear"):
            self.queue.delete(None)
        self.queue.delete(body.get("delete", ()))
        return web.Response()

    async def _history(self, request: web.Request) -> web.Response:
        newest = request.query.get("max_items")
        answer = self.queue.history(
            request.match_info.get("prompt_id"), int(newest) if newest else None
        )
        return web.json_response(answer)

    async def _change_history(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("clear"):
            self.queue.forget(None)
        self.queue.forget(body.get("delete", ()))
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.Response:
        wanted = None
        with contextlib.suppress(ValueError, AttributeError):
            wanted = (await request.json()).get("prompt_id")
        running = self.queue.running()
        if wanted and self.flavour.targeted_interrupt and (not running or running.id != wanted):
            return web.Response()
        self.executor.interrupt()
        return web.Response()

    async def _free(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("free_memory"):
            self.executor.free()
        return web.Response()


def _extra(data: dict[str, Any]) -> dict[str, Any]:
    extra = data.get("extra_data")
    return {"extra_data": extra} if isinstance(extra, dict) else {}
