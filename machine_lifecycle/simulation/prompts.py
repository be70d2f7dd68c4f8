"""The pages about prompts: taking them, showing and changing the queue and its history."""

from __future__ import annotations

import contextlib
import json
import uuid
from typing import Any

from aiohttp import web

from machine_lifecycle.simulation import pages
from machine_lifecycle.simulation.execution import Executor, Folders
from machine_lifecycle.simulation.flavours import Flavour
from machine_lifecycle.simulation.graph import Verdict, check_graph, refusal
from machine_lifecycle.simulation.queue import Prompt, PromptQueue

__all__ = ["PromptPages"]


class PromptPages:
    """Answers for one server's queue."""

    def __init__(
        self, queue: PromptQueue, executor: Executor, flavour: Flavour, folders: Folders
    ) -> None:
        self._queue = queue
        self._executor = executor
        self._flavour = flavour
        self._folders = folders
        self._number = 0

    def routes(self) -> list[web.RouteDef]:
        """What it answers."""
        return [
            web.get("/prompt", self._remaining),
            web.post("/prompt", self._prompt),
            web.get("/queue", self._rows),
            web.post("/queue", self._change_queue),
            web.get("/history", self._history),
            web.get("/history/{prompt_id}", self._history),
            web.post("/history", self._change_history),
            web.post("/interrupt", self._interrupt),
            web.post("/free", self._free),
        ]

    def accept(
        self, body: dict[str, Any], client: str | None
    ) -> tuple[dict[str, Any] | None, Verdict]:
        """Check a prompt and put it into the queue; the answer, unless the verdict has an error."""
        number = self._place(body)
        verdict = check_graph(body["prompt"], self._flavour, pages.input_names(self._folders))
        if verdict.error is not None:
            return None, verdict
        asked = body.get("prompt_id")
        prompt_id = str(asked) if asked and self._flavour.keeps_prompt_id else str(uuid.uuid4())
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
        self._queue.put(prompt)
        answer = {"prompt_id": prompt_id, "number": number, "node_errors": verdict.node_errors}
        return answer, verdict

    async def _remaining(self, _request: web.Request) -> web.Response:
        info = {"exec_info": {"queue_remaining": self._queue.remaining()}}
        return web.json_response(info)

    async def _prompt(self, request: web.Request) -> web.Response:
        body = json.loads(await request.text())
        if "prompt" not in body:
            error: Any = refusal("no_prompt", "No prompt provided", "No prompt provided")
            nothing: Any = {}
            if self._flavour.plain_no_prompt:
                error, nothing = "no prompt", []
            return web.json_response({"error": error, "node_errors": nothing}, status=400)
        client = body.get("client_id")
        answer, verdict = self.accept(body, client)
        if answer is None:
            return web.json_response(verdict.body(), status=400)
        return web.json_response(answer)

    def _place(self, body: dict[str, Any]) -> float:
        if "number" in body:
            return float(body["number"])
        number = -self._number if body.get("front") else self._number
        self._number += 1
        return number

    async def _rows(self, _request: web.Request) -> web.Response:
        return web.json_response(self._queue.rows())

    async def _change_queue(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("clear"):
            self._queue.delete(None)
        self._queue.delete(body.get("delete", ()))
        return web.Response()

    async def _history(self, request: web.Request) -> web.Response:
        newest = request.query.get("max_items")
        answer = self._queue.history(
            request.match_info.get("prompt_id"), int(newest) if newest else None
        )
        return web.json_response(answer)

    async def _change_history(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("clear"):
            self._queue.forget(None)
        self._queue.forget(body.get("delete", ()))
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.Response:
        wanted = None
        with contextlib.suppress(ValueError, AttributeError):
            wanted = (await request.json()).get("prompt_id")
        running = self._queue.running()
        if wanted and self._flavour.targeted_interrupt and (not running or running.id != wanted):
            return web.Response()
        self._executor.interrupt()
        return web.Response()

    async def _free(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("free_memory"):
            self._executor.free()
        return web.Response()
