"""One run as the connector follows it: its tracker, and whether its events can reach us."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

from machine_lifecycle.connectors.comfyui_events import Event, Picture
from machine_lifecycle.connectors.comfyui_run import PromptRun
from machine_lifecycle.model.jobs import Output, Preview

__all__ = ["SOCKET_SAVER", "Watch"]

SOCKET_SAVER = "SaveImageWebsocket"
"""The node class whose pictures come over the socket and are nowhere else."""
_GATHER = 0.05
"""Seconds in which events gather before whoever waits is woken, but for the last one: a short
prompt has a dozen, and nobody is told of each.
"""


class Watch:
    """What is known of one job's run."""

    def __init__(self, *, job_id: str, graph: Mapping[str, Any]) -> None:
        self.job_id = job_id
        self.run: PromptRun | None = None
        """Its tracker, once the service took it."""
        self.submission: asyncio.Task[tuple[int, Any]] | None = None
        self.attached: bool = False
        """Whether its events come over our socket."""
        self.cancelled = False
        """Whether we asked the service to stop it."""
        self.resumed: bool = False
        """Whether an earlier run of the job submitted it."""
        self.deleted: bool = False
        """Whether it was taken out of the queue before it ran."""
        self.previews: int = 0
        self._preview: Preview | None = None
        self.pictures: list[Output] = []
        self.graph = graph
        self._client_id = ""
        self._changed = asyncio.Event()
        self._look = False
        self._due: asyncio.TimerHandle | None = None
        self._heard_at = time.monotonic()
        self._away_since: float | None = None

    @property
    def tracked(self) -> PromptRun:
        """The tracker of a run that was accepted."""
        if self.run is None:
            raise RuntimeError("the prompt was not accepted yet")
        return self.run

    def take_preview(self) -> Preview | None:
        """The newest preview that was not taken yet."""
        preview, self._preview = self._preview, None
        return preview

    def begin(self, prompt_id: str, client_id: str, *, attached: bool) -> None:
        """The service took it."""
        self.run = PromptRun(prompt_id, self.graph)
        self._client_id = client_id
        self.attached = attached
        self._heard_at = time.monotonic()

    def resume(self, prompt_id: str) -> None:
        """An earlier run submitted it; its events go elsewhere, so the pages tell."""
        self.begin(prompt_id, "", attached=False)
        self.resumed = True
        self._look = True
        self._changed.set()

    def feed(self, event: Event) -> None:
        """Take an event of this run, or a picture that came during it."""
        if isinstance(event, Picture):
            self._picture(event)
        elif self.run is not None and self.run.feed(event):
            self._heard_at = time.monotonic()
            if self.run.finished or self.run.shown is not None:
                self._changed.set()
            elif self._due is None:
                self._due = asyncio.get_running_loop().call_later(_GATHER, self._changed.set)

    def _picture(self, picture: Picture) -> None:
        self.previews += 1
        self._heard_at = time.monotonic()
        if self.run is None:
            return
        if self.run.node_type != SOCKET_SAVER:
            self._preview = Preview(mime=picture.mime, data=picture.data)
            self._changed.set()
            return
        suffix = "jpg" if picture.mime == "image/jpeg" else "png"
        name = f"{self.run.node}_{len(self.pictures) + 1:05}.{suffix}"
        self.pictures.append(
            Output(
                name=name, kind="image", mime=picture.mime, data=picture.data, node=self.run.node
            )
        )

    def link(self, client_id: str) -> None:
        """The socket is up under this id, or away. Events come only under the id of the start."""
        self.attached = bool(client_id) and client_id == self._client_id
        self._heard_at = time.monotonic()
        if self.run is not None:
            self.run.missed()
        self._look = True
        self._changed.set()

    def queue_moved(self) -> None:
        """The queue changed: a run without events may have ended."""
        if not self.attached:
            self._look = True
            self._changed.set()

    def delete(self) -> None:
        """It is out of the queue; nothing more will be heard."""
        self.deleted = True
        self._changed.set()

    async def heard(self, seconds: float) -> bool:
        """Wait for news; False if there are none in time, or the pages must be asked."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        news = self._changed.is_set() and not self._look
        self._changed.clear()
        self._look = False
        if self._due is not None:
            self._due.cancel()
            self._due = None
        return news

    def found(self, *, running: bool) -> None:
        """The pages know it. A waiting one is silent without being hung."""
        self._away_since = None
        if not running:
            self._heard_at = time.monotonic()

    def works(self) -> None:
        """It is silent, but its processes work: as good as a word."""
        self._heard_at = time.monotonic()

    def away_for(self) -> float:
        """Seconds since the service was first found unreachable."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
        return now - self._away_since

    def silent_for(self) -> float:
        """Seconds since something was heard of it."""
        return time.monotonic() - self._heard_at
