"""The connector for services that do a job in one request, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from machine_lifecycle import HttpConnector, Job, JobResult, LifecycleError, Progress
from machine_lifecycle.connectors.errors import BadServiceAddress, ServiceUnreachable
from machine_lifecycle.connectors.http_errors import ServiceFailedJob, ServiceRefusedJob
from machine_lifecycle.testing import check_connector
from tests.support.patience import PATIENCE
from tests.support.ports import free_port

PNG = b"\x89PNG\r\n\x1a\nnot quite"


class PaintConnector(HttpConnector):
    service = "oil-paint"
    run_path = "/paint"
    health_path = "/up"


class Studio:
    """The service; a job's payload says what it answers."""

    def __init__(self) -> None:
        self.up = 200
        self.headers: dict[str, str] = {}
        self.begun, self.dropped = asyncio.Event(), asyncio.Event()

    async def health(self, _: web.Request) -> web.Response:
        return web.Response(status=self.up)

    async def paint(self, request: web.Request) -> web.Response:
        self.headers = dict(request.headers)
        told = await request.json()
        if told.get("slow"):
            self.begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.dropped.set()
                raise
        return web.Response(
            status=told.get("status", 200),
            body=bytes.fromhex(told["hex"]) if "hex" in told else told.get("text", "{}").encode(),
            headers={"Content-Type": told.get("type", "application/json"), **told.get("more", {})},
        )


@pytest_asyncio.fixture
async def studio() -> AsyncIterator[tuple[Studio, dict[str, str]]]:
    made = Studio()
    app = web.Application()
    app.router.add_get("/up", made.health)
    app.router.add_post("/paint", made.paint)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield made, {"OIL_PAINT_HOST": "127.0.0.1", "OIL_PAINT_PORT": str(port)}
    await runner.cleanup()


Place = tuple[Studio, dict[str, str]]


def job(**payload: object) -> Job:
    return Job(id="j", service_required="paint", payload=payload, timeout=PATIENCE)


async def done(place: Place, **payload: object) -> JobResult:
    async with PaintConnector.from_env(place[1]) as connector:
        return await connector.run(job(**payload), lambda _: None)


async def failure(place: Place, **payload: object) -> LifecycleError:
    with pytest.raises(LifecycleError) as failed:
        await done(place, **payload)
    return failed.value


async def test_it_keeps_the_rules(studio: Place) -> None:
    result = await check_connector(PaintConnector.from_env(studio[1]), payload={"text": '{"a":1}'})
    assert result == JobResult(data={"a": 1})


async def test_json_becomes_data(studio: Place) -> None:
    assert await done(studio, text='{"words": ["a"]}') == JobResult(data={"words": ["a"]})
    assert await done(studio, text="[1, 2]") == JobResult(data={"result": [1, 2]})


@pytest.mark.parametrize(
    ("told", "name", "kind"),
    [
        ({"type": "image/png"}, "output.png", "image"),
        ({"type": "text/plain"}, "output.txt", "text"),
        ({"type": "application/x-own"}, "output.bin", "binary"),
        (
            {
                "type": "audio/wav",
                "more": {"Content-Disposition": 'attachment; filename="../../etc/so.wav"'},
            },
            "so.wav",
            "audio",
        ),
    ],
)
async def test_anything_else_becomes_a_file(
    studio: Place, told: dict[str, object], name: str, kind: str
) -> None:
    (output,) = (await done(studio, hex=PNG.hex(), **told)).outputs
    assert (output.name, output.kind, output.mime) == (name, kind, told["type"])
    assert output.data == PNG


@pytest.mark.parametrize(
    ("status", "kind", "again"),
    [
        (400, ServiceRefusedJob, False),
        (422, ServiceRefusedJob, False),
        (429, ServiceFailedJob, True),
        (500, ServiceFailedJob, True),
        (503, ServiceUnreachable, True),
    ],
)
async def test_statuses_say_whether_another_run_may_help(
    studio: Place, status: int, kind: type[LifecycleError], *, again: bool
) -> None:
    error = await failure(studio, status=status, text="there is no text", type="text/plain")
    assert type(error) is kind
    assert error.recoverable is again
    assert str(status) in error.summary
    if kind is not ServiceUnreachable:
        assert "there is no text" in error.summary
    assert error.remedies


async def test_json_that_is_none_is_a_failure_of_the_service(studio: Place) -> None:
    for text in ("<html>", "[" * 100_000):
        assert "no JSON" in (await failure(studio, text=text)).summary


async def test_nobody_answers() -> None:
    nobody = {"OIL_PAINT_HOST": "127.0.0.1", "OIL_PAINT_PORT": str(free_port())}
    async with PaintConnector.from_env(nobody) as connector:
        assert not (await connector.probe()).healthy
        with pytest.raises(ServiceUnreachable):
            await connector.run(job(), lambda _: None)


async def test_it_looks_at_the_page_that_tells_its_health(studio: Place) -> None:
    async with PaintConnector.from_env(studio[1]) as connector:
        assert (await connector.probe()).healthy
        studio[0].up = 503
        probe = await connector.probe()
    assert (probe.healthy, probe.detail) == (False, "HTTP status 503")


async def test_a_cancelled_job_drops_its_request(studio: Place) -> None:
    service, environ = studio
    told: list[Progress] = []
    async with PaintConnector.from_env(environ) as connector:
        running = asyncio.ensure_future(connector.run(job(slow=True), told.append))
        await service.begun.wait()
        assert await connector.cancel("j") is False
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        async with asyncio.timeout(PATIENCE):
            await service.dropped.wait()
    assert [one.message for one in told] == ["sent to oil-paint"]


async def test_a_token_goes_along(studio: Place) -> None:
    environ = {**studio[1], "OIL_PAINT_API_KEY": "canary"}
    await done((studio[0], environ))
    assert studio[0].headers["Authorization"] == "Bearer canary"


def test_an_address_that_is_none_is_told_with_its_variable() -> None:
    with pytest.raises(BadServiceAddress, match="OIL_PAINT_PORT"):
        PaintConnector.from_env({"OIL_PAINT_PORT": "first"})
