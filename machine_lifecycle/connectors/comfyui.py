"""Drives a ComfyUI: submits over HTTP, follows over the socket, fetches what was made.

Works with every version since 0.3.12 and with the fork that chooses the socket's id itself. What
the messages mean is known by ``comfyui_events``, ``comfyui_run`` and ``comfyui_protocol``; this
module only carries them.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Self

import attrs

from machine_lifecycle.connectors.base import Endpoint, Job, JobResult, Probe, ProgressCallback
from machine_lifecycle.connectors.comfyui_earlier import find_earlier, marked
from machine_lifecycle.connectors.comfyui_events import Event, Picture, PromptEvent, QueueStatus
from machine_lifecycle.connectors.comfyui_facts import capabilities_of, probe_of
from machine_lifecycle.connectors.comfyui_follow import Follower
from machine_lifecycle.connectors.comfyui_graph import GraphChecker
from machine_lifecycle.connectors.comfyui_inputs import with_images
from machine_lifecycle.connectors.comfyui_outputs import fetch_outputs
from machine_lifecycle.connectors.comfyui_packs import read_packs
from machine_lifecycle.connectors.comfyui_pages import ComfyUIPages
from machine_lifecycle.connectors.comfyui_protocol import (
    Accepted,
    HistoryEntry,
    Payload,
    is_out_of_memory,
    parse_payload,
    parse_prompt_answer,
)
from machine_lifecycle.connectors.comfyui_run import Ending
from machine_lifecycle.connectors.comfyui_socket import ComfyUISocket
from machine_lifecycle.connectors.comfyui_watch import Watch
from machine_lifecycle.connectors.environment import endpoint_from
from machine_lifecycle.connectors.errors import (
    GpuBroken,
    GpuFault,
    NodeFailed,
    NodeFailedForGood,
    PromptInterrupted,
    PromptTimeout,
    ServiceOutOfMemory,
    ServiceUnreachable,
)
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.gpu_signs import Scope, sign_in
from machine_lifecycle.model.jobs import NodeFailure
from machine_lifecycle.model.packs import Loaded, Run

__all__ = ["ComfyUIConnector", "ComfyUIRemoteConnector", "SimulationConnector"]

_STOP_GRACE = 5.0  # seconds to wait until a stopped prompt has ended
_EARLY_EVENTS = 2000
# Python's own exceptions that say something about the inputs or the code. Others (RuntimeError of a
# GPU, OSError of a download) may be past at the next attempt.
_FOR_GOOD = frozenset(
    {
        *("AssertionError", "AttributeError", "FileNotFoundError", "ImportError", "IndexError"),
        *("KeyError", "ModuleNotFoundError", "NameError", "NotImplementedError", "TypeError"),
        *("ValueError", "ZeroDivisionError"),
    }
)


class ComfyUIConnector(GraphChecker):
    """Drives one ComfyUI. Several ``run`` at once are fine; ComfyUI does them in order.

    Options of the endpoint, all in seconds: ``connect_timeout`` (10), ``hung_after`` (300; 0 turns
    it off), ``unreachable_after`` (30), ``look_interval`` (30), ``poll_interval`` (1); ``ca_file``,
    further authorities for TLS; its ``output_directory`` and ``temp_directory`` as seen from here.

    Stopping a prompt has a race that old versions leave open: their ``/interrupt`` stops whatever
    runs. We ask ``/queue`` first and interrupt only if our prompt runs, but it may end, and
    another client's begin, between the two requests. Versions from 0.3.64 on take our prompt's id
    and stop nothing else. A worker that has its ComfyUI to itself is never affected.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        asked = f"{endpoint.worker_id or 'machine-lifecycle'}-{uuid.uuid4().hex[:12]}"
        self._pages = ComfyUIPages(endpoint)
        self._socket = ComfyUISocket(endpoint, asked, self._on_event, self._on_link)
        self._follower = Follower(self._pages, endpoint)
        self._jobs: dict[str, Watch] = {}
        self._watches: dict[str, Watch] = {}
        """The same by prompt id, once the service took them."""
        self._submitting = 0
        # Events may come before the answer that says which prompt is ours.
        self._early: deque[tuple[str, Event]] = deque(maxlen=_EARLY_EVENTS)
        self._speaking = ""
        """The prompt of the last event: a picture does not say of which it is."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """A connector for ``COMFYUI_HOST`` (localhost) and ``COMFYUI_PORT`` (8188).

        Also read: ``COMFYUI_SECURE``, ``COMFYUI_USERNAME``, ``COMFYUI_PASSWORD``,
        ``COMFYUI_API_KEY``, ``COMFYUI_HUNG_AFTER`` (seconds), ``WORKER_ID``, and its folders:
        ``COMFYUI_OUTPUT_DIRECTORY``, ``COMFYUI_TEMP_DIRECTORY``.

        Raises:
            BadServiceAddress: The port is no number.
        """
        return cls(endpoint_from(environ, ("COMFYUI",), default_host="localhost"))

    async def __aenter__(self) -> Self:
        await self._pages.__aenter__()
        self._socket.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._socket.stop()
        await self._pages.__aexit__(*exc)

    async def probe(self) -> Probe:
        """Ask ``/system_stats``; the facts hold devices and the arguments it was started with."""
        try:
            return probe_of(await self._pages.system_stats())
        except ServiceUnreachable as error:
            return Probe(healthy=False, detail=error.reason)

    async def capabilities(self) -> Mapping[str, Any]:
        """Version, devices, node classes, their number by node pack, models by kind."""
        return capabilities_of(await self._pages.system_stats(), await self._pages.object_info())

    async def loaded(self, runs: Sequence[Run], proved: Mapping[str, Any]) -> Loaded:
        """Which node packs are in and which failed; see ``model.packs.PackReader``."""
        return await read_packs(self._pages, self.endpoint.port, runs, proved["node_packs"])

    async def run(self, job: Job, progress: ProgressCallback) -> JobResult:
        """Run the job's graph; see ``model.ports.Connector``.

        Raises:
            BadPayload: The payload is no graph.
            PromptRejected: The service refused it; every node's complaint is named.
            NodeFailed, ServiceOutOfMemory: A node raised.
            PromptInterrupted: Somebody stopped it.
            PromptTimeout: It took longer than ``job.timeout``; it was stopped.
            PromptLost: The service forgot it.
            ServiceHung: It runs, and nothing is heard of it.
            ServiceUnreachable: The service is away, and stays away.
        """
        payload = parse_payload(job.payload)
        watch = Watch(job_id=job.id, graph=payload.graph)
        self._jobs[job.id] = watch
        try:
            async with asyncio.timeout(job.timeout):
                return await self._run(payload, watch, progress, again=job.claims > 1)
        except TimeoutError:
            error = _late(watch, job.timeout)  # how far it was, before it is stopped
            await self._abandon(watch)
            raise error from None
        except asyncio.CancelledError:
            await self._abandon(watch)
            raise
        finally:
            self._jobs.pop(job.id, None)
            if watch.run is not None:
                self._watches.pop(watch.run.prompt_id, None)

    async def cancel(self, job_id: str) -> bool:
        """Stop a job: its ``run`` raises ``PromptInterrupted``. See the class about a race."""
        watch = self._jobs.get(job_id)
        if watch is None:
            return False
        watch.cancelled = True
        # One that the service has not taken yet stops as soon as it did.
        return watch.run is None or await self._follower.stop(watch)

    async def _run(
        self, payload: Payload, watch: Watch, progress: ProgressCallback, *, again: bool
    ) -> JobResult:
        payload = await with_images(self._pages, payload)
        client_id = await self._socket.ready(self._follower.connect_timeout)
        accepted = await self._resume(payload, watch) if again else None
        accepted = accepted or await self._submit(payload, watch, client_id)
        if watch.cancelled:
            await self._follower.stop(watch)
        entry = await self._follower.follow(watch, progress)
        if entry.ending is not Ending.SUCCESS:
            raise _failed(watch, entry)
        if entry.files:
            progress(attrs.evolve(watch.tracked.progress, service_free=True))
        outputs, missing = await fetch_outputs(self._pages, entry.files)
        data: dict[str, Any] = {"outputs": entry.data, "previews": watch.previews}
        if missing:
            data["missing"] = missing
        return JobResult(
            outputs=(*outputs, *watch.pictures),
            data=data,
            service_job_id=accepted.prompt_id,
            warnings=accepted.warnings,
        )

    async def _resume(self, payload: Payload, watch: Watch) -> Accepted | None:
        """Take up what an earlier run of the job left here, if it did."""
        found = await find_earlier(self._pages, watch.job_id, payload.graph)
        if not found:
            return None
        watch.resume(found)
        self._watches[found] = watch
        return Accepted(prompt_id=found)

    async def _submit(self, payload: Payload, watch: Watch, client_id: str) -> Accepted:
        body = {
            "prompt": payload.graph,
            "client_id": client_id,
            "prompt_id": str(uuid.uuid4()),  # newer versions keep it; the answer decides
            "extra_data": marked(payload, watch.job_id),
        }
        self._submitting += 1
        watch.submission = asyncio.create_task(self._pages.submit(body))
        try:
            # Shielded: whoever gives up meanwhile must learn the id, to stop the prompt.
            accepted = parse_prompt_answer(*await asyncio.shield(watch.submission))
            self._adopt(watch, accepted.prompt_id, client_id)
        finally:
            self._submitting -= 1
            if not self._submitting:
                self._early.clear()
        return accepted

    def _adopt(self, watch: Watch, prompt_id: str, client_id: str) -> None:
        watch.begin(prompt_id, client_id, attached=self._socket.client_id == client_id)
        self._watches[prompt_id] = watch
        for early_id, event in self._early:
            if early_id == prompt_id:
                watch.feed(event)

    # Stopping

    async def _abandon(self, watch: Watch) -> None:
        """Leave the service without the job, if it allows; never takes long."""
        watch.cancelled = True
        with contextlib.suppress(LifecycleError, TimeoutError):
            async with asyncio.timeout(_STOP_GRACE):
                if watch.run is None and watch.submission is not None:
                    accepted = parse_prompt_answer(*await watch.submission)
                    self._adopt(watch, accepted.prompt_id, "")
                if watch.run is None or not await self._follower.stop(watch):
                    return
                while not (watch.run.finished or watch.deleted):
                    if not await watch.heard(self._follower.patience(watch)):
                        await self._follower.look(watch)

    # What the socket says

    def _on_event(self, event: Event) -> None:
        if isinstance(event, QueueStatus):
            for watch in self._watches.values():
                watch.queue_moved()
        if isinstance(event, PromptEvent):
            self._speaking = event.prompt_id or self._speaking
        elif not isinstance(event, Picture):
            return
        speaking = self._watches.get(self._speaking)
        if speaking is not None:
            speaking.feed(event)
        elif self._submitting:
            self._early.append((self._speaking, event))

    def _on_link(self, client_id: str) -> None:
        for watch in self._watches.values():
            watch.link(client_id)


class ComfyUIRemoteConnector(ComfyUIConnector):
    """Drives a ComfyUI on another machine."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """A connector for ``WORKER_COMFYUI_REMOTE_HOST`` and ``WORKER_COMFYUI_REMOTE_PORT``.

        Also read, with the same beginning: ``_SECURE``, ``_USERNAME``, ``_PASSWORD``, ``_API_KEY``,
        ``_HUNG_AFTER``, ``_OUTPUT_DIRECTORY``, ``_TEMP_DIRECTORY``. ``COMFYUI_HOST`` counts where
        the host is not named otherwise.

        Raises:
            BadServiceAddress: No host is named, or the port is no number.
        """
        fallback = environ.get("COMFYUI_HOST", "")
        return cls(endpoint_from(environ, ("WORKER_COMFYUI_REMOTE",), default_host=fallback))

    async def loaded(self, runs: Sequence[Run], proved: Mapping[str, Any]) -> Loaded:
        """Those with nodes: its log is elsewhere, and so a pack that failed is not known."""
        return await super().loaded(runs[:0], proved)


class SimulationConnector(ComfyUIConnector):
    """Drives the simulated service, which speaks as ComfyUI does."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """A connector for ``SIMULATION_HOST`` and ``SIMULATION_PORT``, else ComfyUI's.

        Raises:
            BadServiceAddress: The port is no number.
        """
        return cls(endpoint_from(environ, ("SIMULATION", "COMFYUI"), default_host="localhost"))


def _late(watch: Watch, seconds: float) -> PromptTimeout:
    run = watch.run
    if run is None:
        return PromptTimeout(seconds=seconds)
    return PromptTimeout(
        prompt_id=run.prompt_id, seconds=seconds, progress=run.progress.fraction, at=run.node
    )


def _failed(watch: Watch, entry: HistoryEntry) -> LifecycleError:
    prompt_id = watch.tracked.prompt_id
    if entry.ending is Ending.INTERRUPTED:
        return PromptInterrupted(prompt_id=prompt_id, node=entry.node, by_us=watch.cancelled)
    failure = entry.failure or NodeFailure(
        node="", node_type="", message="the service does not say why", kind=""
    )
    if is_out_of_memory(failure):
        return ServiceOutOfMemory(failure=failure)
    if failure.kind in _FOR_GOOD:  # no error of CUDA, whatever words a node puts into it
        return NodeFailedForGood(failure=failure, traceback=entry.traceback)
    if (sign := sign_in([failure.message])) is not None:
        fault = GpuBroken if sign.scope is Scope.GPU else GpuFault
        return fault(failure=failure, source=sign.source, context=entry.traceback)
    return NodeFailed(failure=failure, traceback=entry.traceback)
