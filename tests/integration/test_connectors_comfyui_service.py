"""The connector when the service misbehaves: away, hung, restarted, guarded."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest
from aiohttp import web

from machine_lifecycle.connectors.base import Endpoint, Job, Progress
from machine_lifecycle.connectors.comfyui import ComfyUIConnector
from machine_lifecycle.connectors.errors import (
    BadPayload,
    NodeFailed,
    PromptInterrupted,
    PromptLost,
    PromptRejected,
    PromptTimeout,
    ServiceHung,
    ServiceUnreachable,
)
from machine_lifecycle.simulation.execution import Folders, Habits
from machine_lifecycle.simulation.flavours import FORK, UPSTREAM, Flavour
from machine_lifecycle.simulation.server import SimulatedComfyUI
from tests.support.patience import PATIENCE

_SECRET = "canary-77aa"


@attrs.frozen
class Bench:
    """Starts services and connectors, and ends them."""

    root: Path
    stack: AsyncExitStack

    async def service(
        self, flavour: Flavour = UPSTREAM, port: int = 0, **habits: Any
    ) -> tuple[SimulatedComfyUI, int]:
        folders = Folders(
            input=self.root / "input", output=self.root / "output", temp=self.root / "temp"
        )
        service = SimulatedComfyUI(folders, flavour=flavour, habits=Habits(**habits))
        bound = await service.start("127.0.0.1", port)
        self.stack.push_async_callback(service.close)
        return service, bound

    async def connector(self, port: int, **options: Any) -> ComfyUIConnector:
        endpoint = Endpoint(host="127.0.0.1", port=port, password=_SECRET, options=options)
        return await self.stack.enter_async_context(ComfyUIConnector(endpoint))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        yield Bench(tmp_path, stack)


def _job(graph: dict[str, Any], *, timeout: float = PATIENCE, id: str = "j") -> Job:  # noqa: A002 - the job's own field
    return Job(id=id, service_required="comfyui", payload=graph, timeout=timeout)


def _graph(middle: dict[str, Any] | None = None) -> dict[str, Any]:
    empty = {"width": 16, "height": 16, "batch_size": 1, "color": 5}
    graph: dict[str, Any] = {"1": {"class_type": "EmptyImage", "inputs": empty}}
    if middle is not None:
        graph["2"] = middle
    source = "2" if middle is not None else "1"
    save = {"images": [source, 0], "filename_prefix": "x"}
    graph["3"] = {"class_type": "SaveImage", "inputs": save}
    return graph


def _steps(steps: int, seconds: float = 0.02) -> dict[str, Any]:
    inputs = {"image": ["1", 0], "steps": steps, "seconds": seconds, "nonce": 0}
    return {"class_type": "SimulateSteps", "inputs": inputs}


def _ignored(_progress: Progress) -> None:
    pass


class _Begun:
    """Lets a test wait until a run is within a node."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def __call__(self, progress: Progress) -> None:
        if progress.steps > 1:
            self.event.set()


@pytest.fixture
def dead_port(unused_tcp_port: int) -> int:
    return unused_tcp_port


async def test_a_service_that_is_down_is_told_so(bench: Bench, dead_port: int) -> None:
    connector = await bench.connector(dead_port, connect_timeout=0.3)
    probe = await connector.probe()
    assert not probe.healthy
    assert str(dead_port) in probe.detail
    with pytest.raises(ServiceUnreachable) as caught:
        await connector.run(_job(_graph()), _ignored)
    assert caught.value.recoverable
    assert f"127.0.0.1:{dead_port}" in str(caught.value)
    assert _SECRET not in str(caught.value)


async def test_a_job_waits_while_the_service_comes_up(bench: Bench, dead_port: int) -> None:
    connector = await bench.connector(dead_port, connect_timeout=PATIENCE)
    run = asyncio.create_task(connector.run(_job(_graph()), _ignored))
    assert not (await connector.probe()).healthy
    await bench.service(port=dead_port)
    assert len((await run).outputs) == 1


async def test_a_job_can_be_cancelled_before_the_service_took_it(
    bench: Bench, dead_port: int
) -> None:
    connector = await bench.connector(dead_port, connect_timeout=PATIENCE)
    run = asyncio.create_task(connector.run(_job(_graph(_steps(2000))), _ignored))
    assert not (await connector.probe()).healthy  # by now the run waits for the socket
    assert await connector.cancel("j")
    await bench.service(port=dead_port)
    with pytest.raises(PromptInterrupted) as caught:
        await run
    assert caught.value.by_us


async def test_a_dead_working_thread_is_found(bench: Bench) -> None:
    _service, port = await bench.service()
    connector = await bench.connector(port, hung_after=1.0)
    exits = {"image": ["1", 0], "kind": "SystemExit", "message": "gone"}
    graph = _graph({"class_type": "SimulateRaise", "inputs": exits})
    with pytest.raises(ServiceHung) as caught:
        await connector.run(_job(graph), _ignored)
    assert caught.value.at == "2"
    assert (await connector.probe()).healthy  # nothing else shows it


async def test_waiting_behind_others_is_not_hung(bench: Bench) -> None:
    _service, port = await bench.service()
    first = await bench.connector(port)
    second = await bench.connector(port, hung_after=0.5)
    begun = _Begun()
    long = asyncio.create_task(first.run(_job(_graph(_steps(70))), begun))
    await begun.event.wait()
    assert len((await second.run(_job(_graph(), id="k"), _ignored)).outputs) == 1
    await long


@pytest.mark.parametrize("flavour", [FORK, UPSTREAM], ids=["fork", "upstream"])
async def test_a_restarted_service_has_lost_the_prompt(bench: Bench, flavour: Flavour) -> None:
    service, port = await bench.service(flavour)
    connector = await bench.connector(port, poll_interval=0.05)
    begun = _Begun()
    run = asyncio.create_task(connector.run(_job(_graph(_steps(2000))), begun))
    await begun.event.wait()
    await service.close()
    await bench.service(flavour, port)
    with pytest.raises(PromptLost) as caught:
        await run
    assert caught.value.recoverable
    assert len((await connector.run(_job(_graph(), id="k"), _ignored)).outputs) == 1


async def test_a_service_that_stays_away_ends_the_job(bench: Bench) -> None:
    service, port = await bench.service()
    connector = await bench.connector(port, poll_interval=0.05, unreachable_after=0.2)
    begun = _Begun()
    run = asyncio.create_task(connector.run(_job(_graph(_steps(2000))), begun))
    await begun.event.wait()
    await service.close()
    with pytest.raises(ServiceUnreachable):
        await run


async def test_a_cleared_queue_is_found(bench: Bench) -> None:
    service, port = await bench.service()
    connector = await bench.connector(port, look_interval=0.05)
    begun = _Begun()
    long = asyncio.create_task(connector.run(_job(_graph(_steps(2000))), begun))
    await begun.event.wait()
    waits = asyncio.Event()
    waiting = asyncio.create_task(
        connector.run(_job(_graph(), id="k"), lambda _progress: waits.set())
    )
    await waits.wait()
    service.queue.delete(None)
    with pytest.raises(PromptLost):
        await waiting
    assert await connector.cancel("j")
    with pytest.raises(PromptInterrupted):
        await long


async def test_an_unlucky_gpu_fails_every_job(bench: Bench) -> None:
    _service, port = await bench.service(failure_rate=1.0)
    connector = await bench.connector(port)
    with pytest.raises(NodeFailed, match="Simulated failure"):
        await connector.run(_job(_graph()), _ignored)


async def test_a_payload_of_no_use_never_reaches_the_service(bench: Bench, dead_port: int) -> None:
    connector = await bench.connector(dead_port)
    with pytest.raises(BadPayload):
        await connector.run(_job({"workflow": {}}), _ignored)


async def test_an_image_must_be_base64(bench: Bench) -> None:
    _service, port = await bench.service()
    connector = await bench.connector(port)
    payload = {"workflow": _graph(), "images": [{"name": "a.png", "data": "?"}]}
    with pytest.raises(BadPayload, match=r"a\.png"):
        await connector.run(_job(payload), _ignored)


async def test_a_silent_service_meets_the_deadline(bench: Bench) -> None:
    _service, port = await bench.service()
    connector = await bench.connector(port)
    delay = {"class_type": "SimulateDelay", "inputs": {"image": ["1", 0], "seconds": 2.0}}
    with pytest.raises(PromptTimeout) as caught:
        await connector.run(_job(_graph(delay), timeout=1.0), _ignored)
    assert caught.value.at == "2"


async def test_text_to_image_renders_what_was_asked(bench: Bench) -> None:
    _service, port = await bench.service(step_seconds=0.0)
    connector = await bench.connector(port)

    def graph(seed: int, text: str) -> dict[str, Any]:
        sampler = {
            "model": ["1", 0], "seed": seed, "steps": 4, "cfg": 7.0, "sampler_name": "euler",
            "scheduler": "normal", "positive": ["2", 0], "negative": ["3", 0],
            "latent_image": ["4", 0], "denoise": 1.0,
        }  # fmt: skip
        size = {"width": 128, "height": 64, "batch_size": 2}
        checkpoint = {"ckpt_name": "simulated.safetensors"}
        return {
            "1": {"class_type": "CheckpointLoaderSimple", "inputs": checkpoint},
            "2": {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": ["1", 1]}},
            "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["1", 1]}},
            "4": {"class_type": "EmptyLatentImage", "inputs": size},
            "5": {"class_type": "KSampler", "inputs": sampler},
            "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
            "7": {"class_type": "PreviewImage", "inputs": {"images": ["6", 0]}},
        }

    async def pixels(seed: int, text: str) -> list[bytes]:
        result = await connector.run(_job(graph(seed, text)), _ignored)
        # Equal pictures have equal data after the metadata, which repeat the graph.
        return [output.data.partition(b"IDAT")[2] for output in result.outputs]

    first = await pixels(1, "a fox")
    assert len(first) == 2
    assert first[0] != first[1]
    other = await pixels(2, "a fox")
    assert other != first
    assert await pixels(1, "a cat") != first
    assert await pixels(1, "a fox") == first


class _Guarded:
    """Lets only those in that know the word."""

    def __init__(self, expected: str) -> None:
        self.expected = expected
        self.seen: list[str] = []

    async def start(self, stack: AsyncExitStack) -> int:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port: int = runner.addresses[0][1]
        return port

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != self.expected:
            return web.Response(status=401)
        self.seen.append(request.path)
        if request.path == "/ws":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            status = {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "s"}
            await socket.send_json({"type": "status", "data": status})
            async for _message in socket:
                pass
            return socket
        return web.json_response({"error": {"type": "x", "message": "no"}}, status=400)


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        ({"api_key": _SECRET}, f"Bearer {_SECRET}"),
        (
            {"username": "me", "password": _SECRET},
            "Basic " + base64.b64encode(f"me:{_SECRET}".encode()).decode(),
        ),
    ],
    ids=["token", "password"],
)
async def test_authentication_goes_with_every_request(who: dict[str, str], expected: str) -> None:
    async with AsyncExitStack() as stack:
        guarded = _Guarded(expected)
        port = await guarded.start(stack)
        good = Endpoint(host="127.0.0.1", port=port, **who)  # type: ignore[arg-type]  # strings only
        connector = await stack.enter_async_context(ComfyUIConnector(good))
        with pytest.raises(PromptRejected) as caught:
            await connector.run(_job(_graph()), _ignored)
        assert set(guarded.seen) == {"/ws", "/prompt"}
        assert _SECRET not in f"{caught.value} {connector.endpoint!r}"
        bad = Endpoint(
            host="127.0.0.1", port=port, api_key="wrong", options={"connect_timeout": 1.0}
        )
        stranger = await stack.enter_async_context(ComfyUIConnector(bad))
        with pytest.raises(ServiceUnreachable, match="401"):
            await stranger.run(_job(_graph()), _ignored)
        assert not (await stranger.probe()).healthy


class _Hasty:
    """Has done the prompt, and told all of it, before it answers that it took it."""

    def __init__(self, prompt_id: str) -> None:
        self.prompt_id = prompt_id
        self.socket: web.WebSocketResponse | None = None

    async def start(self, stack: AsyncExitStack) -> int:
        app = web.Application()
        app.add_routes(self.routes())
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port: int = runner.addresses[0][1]
        return port

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/ws", self._listen),
            web.post("/prompt", self._prompt),
            web.get("/history/{id}", self._history),
        ]

    async def _say(self, kind: str, **data: Any) -> None:
        assert self.socket is not None
        await self.socket.send_json({"type": kind, "data": data})

    async def _listen(self, request: web.Request) -> web.WebSocketResponse:
        self.socket = web.WebSocketResponse()
        await self.socket.prepare(request)
        await self._say("client_id", client_id="chosen")
        async for _message in self.socket:
            pass
        return self.socket

    async def _prompt(self, _request: web.Request) -> web.Response:
        assert self.socket is not None
        mine = {"prompt_id": self.prompt_id}
        await self._say("executing", node=None, prompt_id="of somebody else")
        await self._say("execution_start", **mine)
        await self._say("executing", node="2", **mine)
        await self.socket.send_bytes(struct.pack(">II", 1, 2) + b"picture")
        await self._say("execution_success", **mine)
        await self._say("executing", node=None, **mine)
        await self.socket.ping()
        return web.json_response({**mine, "number": 1, "node_errors": []})

    async def _history(self, _request: web.Request) -> web.Response:
        return web.json_response({self.prompt_id: {"outputs": {}, "status": {}}})


async def test_what_is_told_before_the_answer_is_not_lost() -> None:
    async with AsyncExitStack() as stack:
        port = await _Hasty("p-1").start(stack)
        endpoint = Endpoint(host="127.0.0.1", port=port, options={"look_interval": 20.0})
        connector = await stack.enter_async_context(ComfyUIConnector(endpoint))
        graph = {"2": {"class_type": "SaveImageWebsocket", "inputs": {}}}
        result = await connector.run(_job(graph, timeout=PATIENCE), _ignored)
    assert result.service_job_id == "p-1"
    assert [(output.node, output.data) for output in result.outputs] == [("2", b"picture")]


class _Vague(_Hasty):
    """Takes images, and says nothing of where they are."""

    def __init__(self, answer: str) -> None:
        super().__init__("p-1")
        self.answer = answer

    def routes(self) -> list[web.RouteDef]:
        return [*super().routes(), web.post("/upload/image", self._upload)]

    async def _upload(self, _request: web.Request) -> web.Response:
        return web.Response(text=self.answer)


@pytest.mark.parametrize("answer", ["", "thanks", "[]", '{"subfolder": ""}'])
async def test_an_upload_that_is_not_answered_is_a_fault_of_the_service(answer: str) -> None:
    payload = {"workflow": _graph(), "images": [{"name": "a.png", "data": "AAAA"}]}
    async with AsyncExitStack() as stack:
        port = await _Vague(answer).start(stack)
        connector = ComfyUIConnector(Endpoint(host="127.0.0.1", port=port))
        await stack.enter_async_context(connector)
        with pytest.raises(ServiceUnreachable, match=r"upload of a-\w+\.png was not answered"):
            await connector.run(_job(payload, timeout=PATIENCE), _ignored)


class _Telling(_Hasty):
    """Tells what its node showed, then waits before it writes that into its history."""

    def __init__(self, cached: list[str]) -> None:
        super().__init__("p-1")
        self.cached = cached
        self.asked = asyncio.Event()

    async def _prompt(self, _request: web.Request) -> web.Response:
        mine = {"prompt_id": self.prompt_id}
        await self._say("execution_start", **mine)
        await self._say("execution_cached", nodes=self.cached, **mine)
        await self._say("executed", node="3", output={"text": ["told"]}, **mine)
        await self._say("execution_success", **mine)
        if self.cached:
            await self._say("executing", node=None, **mine)
        return web.json_response({**mine, "number": 1, "node_errors": []})

    async def _history(self, _request: web.Request) -> web.Response:
        self.asked.set()
        shown = {"2": {"text": ["of before"]}, "3": {"text": ["told"]}}
        return web.json_response({self.prompt_id: {"outputs": shown, "status": {}}})


@pytest.mark.parametrize(
    ("cached", "shown"),
    [
        pytest.param([], {"3": {"text": ["told"]}}, id="all of it was told"),
        pytest.param(["3"], {"3": {"text": ["told"]}}, id="also of what was cached"),
        pytest.param(
            ["2"],
            {"2": {"text": ["of before"]}, "3": {"text": ["told"]}},
            id="what a cached node showed before is in the history alone",
        ),
    ],
)
async def test_the_history_is_asked_for_what_was_not_told(
    cached: list[str], shown: dict[str, Any]
) -> None:
    service = _Telling(cached)
    async with AsyncExitStack() as stack:
        port = await service.start(stack)
        endpoint = Endpoint(host="127.0.0.1", port=port, options={"look_interval": 20.0})
        connector = await stack.enter_async_context(ComfyUIConnector(endpoint))
        graph = {node: {"class_type": "ShowText", "inputs": {}} for node in ("2", "3")}
        result = await connector.run(_job(graph, timeout=PATIENCE), _ignored)
    assert result.data["outputs"] == shown
    assert service.asked.is_set() == (cached == ["2"])
