"""The page for people in a real browser: left out unless asked for (``-m browser``)."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import attrs
import pytest

from machine_lifecycle.health.server import HealthServer
from machine_lifecycle.model.hardware import Gpu, Hardware
from machine_lifecycle.model.packs import Loaded, Pack, PackState
from machine_lifecycle.model.ports import Check
from machine_lifecycle.model.processes import ProcessState, ProcessStatus, Role
from machine_lifecycle.model.status import Condition, StateTiming, StatusReport, WorkerStatus
from tests.e2e.test_life import GRAPH
from tests.support.browser import Page, browser_page
from tests.support.outside import Outside
from tests.support.pages import PlainMachine
from tests.support.ports import free_port

pytestmark = pytest.mark.browser

LONG = "a-name-that-" + "goes-on-" * 12 + "and-ends"
MARKUP = "<img src=/canary onerror=alert(1)><script>alert(2)</script>"
PATH = "/workspace/" + "folder_without_a_place_to_break_" * 5 + "main.py"
READY = StatusReport(
    machine_id="box",
    version="9",
    state="ready",
    phase="ready",
    since=time.time() - 90,
    uptime=100,
    attempt=1,
    pid=7,
    timings=(
        StateTiming(state="starting", attempt=1, started=1.0, seconds=2.0, expected=(1, 2)),
        StateTiming(state="installing", attempt=1, started=3.0, seconds=8.0, expected=(30, 180)),
        StateTiming(state="ready", attempt=1, started=time.time() - 90, seconds=None),
    ),
)
FAULT = {
    "code": "port-taken",
    "summary": f"{PATH} is taken by {MARKUP}",
    "where": LONG,
    "context": [PATH, MARKUP],
    "remedies": [{"text": f"Look at {PATH}", "command": f"ls {PATH}"}],
}
BROKEN = Pack(name=LONG, state=PackState.FAILED, reason=f"{PATH} {MARKUP}")
FULL = attrs.evolve(
    READY,
    machine_id=LONG,
    state="failed",
    conditions=(
        Condition(kind="degraded", reason=f"{PATH}: {MARKUP}", since=1.0),
        Condition(kind="disk_low", reason="no further jobs are taken " * 6, since=1.0),
    ),
    waiting=(f"{PATH} (12 s)",),
    failure={"code": "problems", "errors": [FAULT, FAULT]},
    hardware=Hardware(
        gpus=tuple(
            Gpu(index=n, name=LONG, memory_mib=24576, uuid=f"GPU-{n}", visible=str(n))
            for n in range(8)
        ),
        memory_mib=65536,
    ),
    processes=tuple(
        ProcessStatus(
            name=f"{LONG}-{n}",
            role=Role.SERVICE,
            state=ProcessState.BACKOFF,
            pid=n,
            port=8188 + n,
            gpu=n,
            since=1.0,
            waiting_for=f"GET {PATH}",
        )
        for n in range(8)
    ),
    workers=tuple(
        WorkerStatus(
            id=f"{LONG}-{n}", process="w", type="comfyui", status="busy", current_job_id=LONG
        )
        for n in range(8)
    ),
    loaded=(
        Loaded(
            instance=LONG,
            packs=(Pack(name=LONG, state=PackState.FAILED, reason=f"{PATH} {MARKUP}"),),
        ),
    ),
    checks=(Check(name=LONG, ok=False, seconds=1.0, detail=PATH),),
    redis_where=f"rediss://{LONG}:6379",
    redis_trouble=PATH,
    capabilities=(LONG, LONG),
    story=tuple(f"12:00:00.000 Faulted: {PATH}" for _ in range(20)),
)


@asynccontextmanager
async def served(report: StatusReport) -> AsyncIterator[tuple[PlainMachine, HealthServer, str]]:
    machine = PlainMachine(report)
    server = HealthServer("127.0.0.1", 0, machine, "")
    port = await server.start()
    try:
        yield machine, server, f"http://127.0.0.1:{port}"
    finally:
        await server.close()


async def is_tidy(page: Page, url: str) -> None:
    """Nothing complains, nothing is asked of anybody else, nothing stands out at the side."""
    assert page.complaints == []
    assert {asked.rpartition("/")[0] for asked in page.requests} == {url}
    beyond = """[...document.body.querySelectorAll("*")].filter((one) =>
      one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".scroll"))
      .map((one) => one.outerHTML.slice(0, 200))"""
    assert await page.value(beyond) == []
    assert await page.value("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("report", [READY, FULL], ids=["plain", "full"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
async def test_it_is_whole_and_can_be_read(report: StatusReport, width: int, *, dark: bool) -> None:
    async with served(report) as (_, _, url), browser_page() as page:
        await page.open(f"{url}/", width=width, dark=dark)
        await page.until_text("#link", "live")
        assert await page.text("#machine") == report.machine_id
        assert (await page.text("#state")).lower() == report.state
        await is_tidy(page, url)
        assert await page.value(f"({FAINT})()") == []
        ground = await page.value("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) < 3 * 64) is dark, ground


FAINT = """() => {
  const shade = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).map((each) => each / 255)
      .map((each) => each <= .03928 ? each / 12.92 : ((each + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const found = getComputedStyle(one).backgroundColor;
      if (found !== "rgba(0, 0, 0, 0)") return found;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("h1,h2,th,td,p,li,pre,.pill,.dim")].filter((one) => {
    const [a, b] = [getComputedStyle(one).color, behind(one)].map(shade);
    return (Math.max(a, b) + .05) / (Math.min(a, b) + .05) < 4.5;
  }).map((one) => one.outerHTML.slice(0, 200));
}"""
"""Texts that stand out from what is behind them by less than WCAG 2.2 asks for (1.4.3, AA)."""


async def test_what_others_wrote_is_text() -> None:
    async with served(FULL) as (_, _, url), browser_page() as page:
        await page.open(f"{url}/")
        await page.until_text("#failure", MARKUP)
        assert await page.value("document.images.length") == 0
        assert not any("canary" in asked for asked in page.requests)
        assert await page.value("document.querySelectorAll('#failure h2').length") == 2


async def test_it_follows_the_machine_and_comes_back_to_one_that_had_no_place() -> None:
    async with served(READY) as (machine, server, url), browser_page() as page:
        async with AsyncExitStack() as taken:
            readers = await taken.enter_async_context(aiohttp.ClientSession())
            while (answer := await taken.enter_async_context(readers.get(f"{url}/events"))).ok:
                continue
            assert answer.status == 503
            await page.open(f"{url}/")
            await page.until_text("#link", "trying again")
        await page.until_text("#link", "live")
        await page.value("window.same = true")
        machine.now = attrs.evolve(READY, state="processing", jobs_running=3)
        server.changed()
        await page.until_text("#state", "Processing")
        assert "3 running" in await page.text("#hardware")
        assert "Processing" in await page.value("document.title")
        assert await page.value("document.querySelector('#s-processing.now.good') !== null")
        assert await page.value("window.same"), "it was loaded again"


async def test_it_tells_of_a_real_machine_from_its_boot_to_its_next_life(
    outside: Callable[..., Outside],
) -> None:
    machine = outside(MACHINE_HEALTH_PORT=str(free_port()))
    url = f"http://127.0.0.1:{machine.env['MACHINE_HEALTH_PORT']}"
    async with browser_page() as page:
        machine.start()
        machine.until("changed", target="installing")
        await page.open(f"{url}/")
        await page.value("window.same = true")
        await page.until_text("#state", "Ready")
        await page.until_text("#processes", "simulation-gpu0")
        slow = json.loads(json.dumps(GRAPH))
        slow["2"] = {
            "class_type": "SimulateSteps",
            "inputs": {"image": ["1", 0], "steps": 1000, "seconds": 1.0, "nonce": 1},
        }
        graph = machine.folder / "graph.json"
        graph.write_text(json.dumps(slow), encoding="utf-8")
        job = machine.call("submit", str(graph)).stdout.strip()
        await page.until_text("#state", "Processing")
        await page.until_text("#workers", job)
        machine.call("jobs", "cancel", job)
        await page.until_text("#state", "Ready")
        machine.call("drain")
        await page.until_text("#conditions", "draining")
        await is_tidy(page, url)
        machine.call("stop")
        await page.until_text("#link", "trying again")
        machine.wait()
        machine.start()
        await page.until_text("#link", "live")
        await page.until_text("#state", "Ready")
        assert await page.value("window.same"), "it was loaded again"
