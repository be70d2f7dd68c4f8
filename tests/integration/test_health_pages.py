"""The health pages over real sockets, before a machine that is a plain object."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import attrs
import pytest
import pytest_asyncio
from aiohttp import ClientSession, ClientTimeout

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.health.errors import HealthAddressUnusable, HealthPortTaken
from machine_lifecycle.health.server import HealthServer
from machine_lifecycle.model.processes import ProcessState, ProcessStatus, Role
from machine_lifecycle.model.status import Condition, StateTiming, StatusReport, WorkerStatus
from tests.support.pages import PlainMachine
from tests.support.patience import PATIENCE

_TOKEN = "canary-token"
_PROCESS = ProcessStatus(
    name="comfyui-gpu0",
    role=Role.SERVICE,
    state=ProcessState.RUNNING,
    ready=True,
    pid=42,
    port=8188,
    since=1.0,
    started=time.time() - 5,
    restarts=2,
)
_READY = StatusReport(
    machine_id="box",
    version="9",
    state="ready",
    phase="ready",
    since=1.0,
    uptime=2.5,
    attempt=1,
    pid=7,
    processes=(_PROCESS,),
    timings=(StateTiming(state="starting", attempt=1, started=1.0, seconds=1.5),),
    redis_connected=True,
)


@attrs.define
class _Site:
    machine: PlainMachine
    server: HealthServer
    url: str
    session: ClientSession

    async def ask(self, path: str, method: str = "GET", *, token: str = "") -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.session.request(method, self.url + path, headers=headers) as answer:
            return answer.status, await answer.text()


@pytest_asyncio.fixture
async def site() -> AsyncIterator[_Site]:
    machine = PlainMachine(_READY)
    server = HealthServer("127.0.0.1", 0, machine, _TOKEN)
    port = await server.start()
    async with ClientSession(timeout=ClientTimeout(total=PATIENCE)) as session:
        yield _Site(machine, server, f"http://127.0.0.1:{port}", session)
    await server.close()


async def test_a_healthy_machine(site: _Site) -> None:
    code, text = await site.ask("/health")
    assert code == 200
    assert json.loads(text) == {
        "healthy": True,
        "services": {
            "comfyui-gpu0": {"healthy": True, "status": "online", "pid": 42, "restarts": 2},
            "status-aggregator": {"healthy": True, "error": None},
        },
        "uptime": 2500,
        "state": "ready",
    }
    assert await site.ask("/ready") == (200, '{"ready": true, "state": "ready", "reason": ""}')


@pytest.mark.parametrize(
    ("change", "health", "ready", "words"),
    [
        ({"state": "installing"}, 503, 503, "installing"),
        ({"redis_connected": False}, 503, 200, "Redis"),
        ({"processes": (attrs.evolve(_PROCESS, ready=False),)}, 503, 200, "comfyui-gpu0"),
        ({"processes": (attrs.evolve(_PROCESS, ready=False, essential=False),)}, 200, 200, ""),
        (
            {
                "processes": (attrs.evolve(_PROCESS, ready=False),),
                "workers": (
                    WorkerStatus(
                        id="w", process=_PROCESS.name, type="x", status="standby", trouble="is full"
                    ),
                ),
            },
            503,
            200,
            "comfyui-gpu0 is running: is full",
        ),
        ({"conditions": (Condition(kind="draining", reason="r", since=1.0),)}, 200, 503, ""),
        ({"state": "processing"}, 200, 200, ""),
        ({"state": "failed", "failure": {"summary": "no disk"}}, 503, 503, "no disk"),
        ({"state": "failed", "failure": {"summary": "cut: \ud83d"}}, 503, 503, "cut: ?"),
    ],
)
async def test_what_is_not_well_is_said_and_life_goes_on(
    site: _Site, change: dict[str, object], health: int, ready: int, words: str
) -> None:
    site.machine.now = attrs.evolve(_READY, **change)  # type: ignore[arg-type]  # by parameter
    code, text = await site.ask("/health")
    assert code == health
    assert words in json.loads(text).get("error", "")
    assert (await site.ask("/ready"))[0] == ready
    assert (await site.ask("/live"))[0] == 200


async def test_status_tells_everything(site: _Site) -> None:
    code, text = await site.ask("/status")
    told = json.loads(text)
    assert code == 200
    assert told["pm2Mode"] is False
    assert told["uptime"] == 2500
    assert told["services"]["comfyui-gpu0"]["status"] == "online"
    assert told["timings"][0]["seconds"] == 1.5
    assert {field.name for field in attrs.fields(StatusReport)} <= set(told)


async def test_processes_are_listed_with_what_they_use(site: _Site) -> None:
    _, text = await site.ask("/pm2/list")
    (process,) = json.loads(text)
    assert (process["cpu"], process["memory"], process["port"]) == (12.5, 1024, 8188)
    assert process["uptime"] >= 5000


async def test_metrics(site: _Site) -> None:
    code, text = await site.ask("/metrics")
    assert code == 200
    for line in (
        'machine_state{state="ready"} 1.0',
        'machine_state{state="failed"} 0.0',
        'machine_state_seconds{state="starting"} 1.5',
        "machine_boot_seconds 1.5",
        'machine_process_up{process="comfyui-gpu0",role="service"} 1.0',
        'machine_process_restarts_total{process="comfyui-gpu0",role="service"} 2.0',
        'machine_process_share_bytes{process="comfyui-gpu0",role="service"} 512.0',
        'machine_jobs_total{outcome="failed"} 0.0',
        'machine_condition{condition="draining"} 0.0',
    ):
        assert line in text.splitlines()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/pm2/logs?service=comfyui-gpu0"),
        ("GET", "/comfyui/logs?gpu=0"),
        ("POST", "/restart/machine"),
        ("POST", "/restart/service?service=comfyui-gpu0"),
        ("GET", "/refresh-status"),
        ("POST", "/refresh-status"),
    ],
)
async def test_pages_that_change_or_tell_much_need_the_token(
    site: _Site, method: str, path: str
) -> None:
    for wrong in ("", "no", "canary-tokenx"):
        code, text = await site.ask(path, method, token=wrong)
        assert code == 401
        assert "MACHINE_HEALTH_TOKEN" in text
        assert _TOKEN not in text
    assert site.machine.done == []
    assert (await site.ask(path, method, token=_TOKEN))[0] == 200


async def test_without_a_token_nobody_may() -> None:
    server = HealthServer("127.0.0.1", 0, PlainMachine(_READY), "")
    port = await server.start()
    async with ClientSession() as session:
        url = f"http://127.0.0.1:{port}/restart/machine"
        async with session.post(url, headers={"Authorization": "Bearer "}) as answer:
            assert answer.status == 401
            assert "set MACHINE_HEALTH_TOKEN" in await answer.text()
    await server.close()


async def test_orders_reach_the_machine(site: _Site) -> None:
    await site.ask("/restart/machine", "POST", token=_TOKEN)
    await site.ask("/restart/service?service=comfyui-gpu0", "POST", token=_TOKEN)
    _, text = await site.ask("/refresh-status", "POST", token=_TOKEN)
    assert json.loads(text)["machine_id"] == "box"
    assert site.machine.done == ["restart machine", "restart comfyui-gpu0", "publish"]
    _, text = await site.ask("/pm2/logs?service=comfyui-gpu0&lines=2", token=_TOKEN)
    assert text == "comfyui-gpu0 0\ncomfyui-gpu0 1\n"
    _, text = await site.ask("/comfyui/logs?gpu=0&type=server&lines=1", token=_TOKEN)
    assert text == "comfyui-gpu0 0\n"
    _, text = await site.ask("/comfyui/logs", token=_TOKEN)
    assert len(text.splitlines()) == 100


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("POST", "/restart/service", 400),
        ("POST", "/restart/service?service=no", 404),
        ("GET", "/restart/service?service=no", 405),
        ("GET", "/restart/machine", 405),
        ("GET", "/pm2/logs", 400),
        ("GET", "/pm2/logs?service=../../etc/passwd", 404),
        ("GET", "/pm2/logs?service=comfyui-gpu0&lines=-1", 400),
        ("GET", "/comfyui/logs?gpu=7", 404),
        ("GET", "/comfyui/logs?gpu=/../x", 404),
        ("GET", "/comfyui/logs?lines=x", 400),
        ("PUT", "/refresh-status", 405),
        ("GET", "/nothing", 404),
        ("POST", "/health", 405),
    ],
)
async def test_requests_that_make_no_sense(site: _Site, method: str, path: str, code: int) -> None:
    answered, text = await site.ask(path, method, token=_TOKEN)
    assert answered == code
    assert json.loads(text)["error"]
    assert site.machine.done == []


async def test_other_origins_may_read_but_not_order(site: _Site) -> None:
    for path in ("/health", "/status", "/metrics", "/ready", "/live", "/pm2/list"):
        async with site.session.options(site.url + path) as answer:
            assert answer.status == 200
            assert await answer.text() == ""
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
        async with site.session.get(site.url + path) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
    for path in (
        "/restart/machine",
        "/restart/service",
        "/pm2/logs",
        "/comfyui/logs",
        "/refresh-status",
    ):
        async with site.session.options(site.url + path) as answer:
            assert answer.status == 405
            assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_page_that_breaks_says_so_without_a_trace(site: _Site) -> None:
    site.machine.raises = ValueError("canary-detail")
    code, text = await site.ask("/status")
    assert code == 500
    assert "canary-detail" not in text
    assert "Traceback" not in text
    site.machine.raises = LifecycleError(where="there")
    code, text = await site.ask("/status")
    assert code == 500
    assert json.loads(text)["code"] == "lifecycle-error"


async def test_events_tell_now_and_at_each_change_and_end_with_the_server(site: _Site) -> None:
    async with site.session.get(site.url + "/events") as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"

        async def next_state() -> str:
            while True:
                line = (await answer.content.readline()).decode()
                if line.startswith("data: "):
                    return str(json.loads(line.removeprefix("data: "))["state"])

        assert await next_state() == "ready"
        site.machine.now = attrs.evolve(_READY, state="processing")
        site.server.changed()
        assert await next_state() == "processing"
        async with asyncio.timeout(PATIENCE):
            await site.server.close()
        # One that is cut off, because it does not end by itself, can not be read to its end.
        assert b"data" not in await answer.content.read()


async def test_the_picture_has_nothing_from_elsewhere(site: _Site) -> None:
    async with site.session.get(site.url + "/") as answer:
        text = await answer.text()
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert "__" not in text
    outside = text.replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert "http://" not in outside
    assert "https://" not in outside


async def test_a_taken_port_names_itself(site: _Site) -> None:
    port = int(site.url.rpartition(":")[2])
    with pytest.raises(HealthPortTaken) as caught:
        await HealthServer("127.0.0.1", port, PlainMachine(_READY), "").start()
    assert caught.value.port == port
    assert str(port) in (caught.value.remedies[0].command or "")


async def test_an_address_of_another_machine() -> None:
    with pytest.raises(HealthAddressUnusable):
        await HealthServer("192.0.2.1", 0, PlainMachine(_READY), "").start()
