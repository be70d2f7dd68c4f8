"""Follows a run to its end: by its events where they come, by asking the pages where not."""

from __future__ import annotations

import asyncio

import attrs

from machine_lifecycle.connectors.base import Endpoint, ProgressCallback
from machine_lifecycle.connectors.comfyui_pages import ComfyUIPages
from machine_lifecycle.connectors.comfyui_protocol import (
    HistoryEntry,
    Place,
    entry_of_success,
    parse_history,
    parse_queue,
)
from machine_lifecycle.connectors.comfyui_run import Ending
from machine_lifecycle.connectors.comfyui_watch import Watch
from machine_lifecycle.connectors.errors import PromptLost, ServiceHung, ServiceUnreachable
from machine_lifecycle.system.effort import Effort, effort_of, is_local

__all__ = ["Follower"]

_CONNECT_TIMEOUT = 10.0
_HUNG_AFTER = 300.0
_LOOK_INTERVAL = 30.0  # seconds without an event after which the pages are asked
_POLL_INTERVAL = 1.0  # the same while no events can come
_UNREACHABLE_AFTER = 30.0  # seconds a service may be away before its job is given up
_HISTORY_PAUSE = 0.2
_MEASURED = 5.0  # seconds between two looks at what a silent service uses


class Follower:
    """Waits for runs. The options are those of the connector.

    A service on this host that is silent for ``hung_after`` seconds, but whose processes work, is
    not hung. One that is elsewhere can't be looked at.
    """

    def __init__(self, pages: ComfyUIPages, endpoint: Endpoint) -> None:
        self._pages = pages
        self._endpoint = endpoint
        self._options = endpoint.options

    @property
    def connect_timeout(self) -> float:
        """Seconds the socket may take to come up."""
        return self._option("connect_timeout", _CONNECT_TIMEOUT)

    async def follow(self, watch: Watch, progress: ProgressCallback) -> HistoryEntry:
        """Wait for the end; what the history says then, or will say in a moment."""
        told = None
        run = watch.tracked
        while not (run.finished or watch.deleted or run.shown is not None):
            now = run.progress
            preview = watch.take_preview()
            if preview or now != told:
                progress(attrs.evolve(now, preview=preview))
                told = now
            if not await watch.heard(self.patience(watch)):
                entry = await self.look(watch)
                if entry is not None:
                    return entry
        if watch.deleted:
            return HistoryEntry(ending=Ending.INTERRUPTED)
        if run.progress != told:
            progress(run.progress)
        if run.shown is not None:  # it came over the socket: nothing need be asked
            return entry_of_success(run.shown, watch.graph)
        return await self._ended(watch)

    def patience(self, watch: Watch) -> float:
        """Seconds to wait for an event before the pages are asked."""
        if not watch.attached:
            return self._option("poll_interval", _POLL_INTERVAL)
        hung_after = self._option("hung_after", _HUNG_AFTER)
        look = self._option("look_interval", _LOOK_INTERVAL)
        return min(look, hung_after) if hung_after else look

    async def _ended(self, watch: Watch) -> HistoryEntry:
        """The history of a run whose last event was seen: it is there by then."""
        run = watch.tracked
        while True:
            try:
                entry = await self.look(watch)
            except PromptLost:
                if run.ending in (None, Ending.SUCCESS):
                    raise
                # Somebody cleared the history; the events told enough.
                return HistoryEntry(
                    ending=run.ending, failure=run.failure, traceback=run.traceback, node=run.node
                )
            if entry is not None:
                return entry
            await asyncio.sleep(_HISTORY_PAUSE)  # the service is away for a moment

    async def look(self, watch: Watch) -> HistoryEntry | None:
        """Ask the pages about a run of which nothing was heard."""
        prompt_id = watch.tracked.prompt_id
        try:
            entry = parse_history(await self._pages.history(prompt_id), prompt_id)
            if entry is not None:
                return entry
            place = parse_queue(await self._pages.queue(), prompt_id)
            if place is Place.NOWHERE:
                # It may have ended between the two questions.
                entry = parse_history(await self._pages.history(prompt_id), prompt_id)
                if entry is None and not watch.deleted:
                    raise PromptLost(prompt_id=prompt_id)
                return entry
        except ServiceUnreachable:
            if watch.away_for() > self._option("unreachable_after", _UNREACHABLE_AFTER):
                raise
            return None
        watch.found(running=place is Place.RUNNING)
        await self._judge(watch)
        return None

    async def stop(self, watch: Watch) -> bool:
        """Interrupt it if it runs, take it out of the queue if it waits; whether it was there."""
        prompt_id = watch.tracked.prompt_id
        place = parse_queue(await self._pages.queue(), prompt_id)
        if place is Place.WAITING:
            await self._pages.delete(prompt_id)
            place = parse_queue(await self._pages.queue(), prompt_id)
            if place is Place.NOWHERE and not watch.tracked.started:
                # A deleted prompt leaves no event and no history.
                watch.delete()
                return True
        if place is Place.RUNNING:
            await self._pages.interrupt(prompt_id)
        return place is not Place.NOWHERE

    async def _judge(self, watch: Watch) -> None:
        limit = self._option("hung_after", _HUNG_AFTER)
        # Without its events nothing can be said about a run: only its deadline counts then, and,
        # where an earlier run submitted it, what its processes do.
        if not limit or watch.silent_for() < limit or not (watch.attached or watch.resumed):
            return
        silent = watch.silent_for()
        before = await self._effort()
        # A node may work for long without a word (a large decode, a download), and then it uses
        # something; what is heard meanwhile is news as ever.
        if before is not None:
            if await watch.heard(min(_MEASURED, limit)):
                return
            after = await self._effort()
            if after is not None and after.works_since(before):
                watch.works()
                return
        elif not watch.attached:
            return
        run = watch.tracked
        raise ServiceHung(
            prompt_id=run.prompt_id, seconds=silent, at=run.node, measured=before is not None
        )

    async def _effort(self) -> Effort | None:
        if not is_local(self._endpoint.host):
            return None
        return await asyncio.to_thread(effort_of, self._endpoint.port)

    def _option(self, name: str, default: float) -> float:
        return float(self._options.get(name, default))
