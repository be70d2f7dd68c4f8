"""A Chromium that shows a page, driven over its own protocol (chromedevtools.github.io)."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
from websockets.asyncio.client import ClientConnection, connect

from machine_lifecycle.system.tasks import end_tasks
from tests.support.patience import PATIENCE

__all__ = ["Page", "browser_page"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_WORDS = (
    "--headless",
    "--no-sandbox",  # it can't be made by root, nor in most containers; the page is ours
    "--disable-gpu",
    "--disable-dev-shm-usage",  # 64 MB in a container
    "--disable-breakpad",  # its helper outlives the browser
    "--disable-background-networking",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-port=0",
)
_LISTENS = "DevTools listening on "
_UNTIL = """new Promise((done) => {
  const look = () => (%s) ? (done(true), true) : false;
  if (!look()) new MutationObserver((_, all) => { if (look()) all.disconnect(); }).observe(
    document, { subtree: true, childList: true, characterData: true, attributes: true });
})"""


@attrs.define(eq=False)
class Page:
    """One tab.

    Attributes:
        complaints: What its script and the browser wrote to the console as warnings and errors.
        requests: Every address that was asked for, for the page or by it.
    """

    _line: ClientConnection
    _session: str = ""
    complaints: list[str] = attrs.field(factory=list)
    requests: list[str] = attrs.field(factory=list)
    _numbers: itertools.count[int] = attrs.field(factory=itertools.count)
    _asked: dict[int, asyncio.Future[dict[str, Any]]] = attrs.field(factory=dict)
    _loaded: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def listen(self) -> None:
        """Hear what the browser says, until it is gone."""
        async for text in self._line:
            said = json.loads(text)
            if "id" in said:
                self._asked.pop(said["id"]).set_result(said)
            else:
                self._hear(said["method"], said["params"])

    def _hear(self, event: str, facts: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded.set()
        elif event == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(facts["exceptionDetails"]))
        elif event == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
            self.complaints.append(json.dumps(facts["entry"]))
        elif event == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning"):
            self.complaints.append(json.dumps(facts["args"]))

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask the browser something; what it answers."""
        number = next(self._numbers)
        self._asked[number] = asyncio.get_running_loop().create_future()
        asked: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            asked["sessionId"] = self._session
        await self._line.send(json.dumps(asked))
        async with asyncio.timeout(PATIENCE):
            answer = await self._asked[number]
        assert "error" not in answer, f"{method}: {answer}"
        result: dict[str, Any] = answer["result"]
        return result

    async def begin(self) -> None:
        """Have a tab, and be told what happens in it."""
        target = await self.send("Target.createTarget", url="about:blank")
        wanted = {"targetId": target["targetId"], "flatten": True}
        self._session = (await self.send("Target.attachToTarget", **wanted))["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.send(f"{domain}.enable")

    async def open(self, url: str, *, width: int = 1280, dark: bool = False) -> None:
        """Load a page into a window of this width, for somebody who likes it light or dark."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])
        self._loaded.clear()
        await self.send("Page.navigate", url=url)
        async with asyncio.timeout(PATIENCE):
            await self._loaded.wait()

    async def value(self, expression: str) -> Any:
        """What an expression is in the page; a promise is waited for."""
        answer = await self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def text(self, selector: str) -> str:
        """The text that a person sees there."""
        return str(await self.value(f"document.querySelector({json.dumps(selector)}).innerText"))

    async def until(self, expression: str) -> None:
        """Wait until it holds, looking whenever the page changes."""
        await self.value(_UNTIL % expression)

    async def until_text(self, selector: str, wanted: str) -> None:
        """Wait until this text stands there."""
        place, text = json.dumps(selector), json.dumps(wanted)
        await self.until(f"document.querySelector({place}).textContent.includes({text})")


@contextlib.asynccontextmanager
async def browser_page() -> AsyncIterator[Page]:
    """A tab of a browser of its own; skips the test where there is none."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip(f"there is no browser: none of {', '.join(_NAMES)}")
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            program, *_WORDS, f"--user-data-dir={profile}",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with _tab(process) as page:
                yield page
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            async with asyncio.timeout(PATIENCE):
                await process.wait()


@contextlib.asynccontextmanager
async def _tab(process: asyncio.subprocess.Process) -> AsyncIterator[Page]:
    assert process.stderr is not None
    said = ""
    async with asyncio.timeout(PATIENCE):
        while _LISTENS not in said:
            said = (await process.stderr.readline()).decode()
            assert said, "the browser does not start"
    saying = asyncio.create_task(process.stderr.read())  # or it would wait until it can say more
    try:
        address = said.split(_LISTENS)[1].strip()
        async with connect(address, max_size=None, ping_interval=None) as line:
            page = Page(line)
            listening = asyncio.create_task(page.listen())
            try:
                await page.begin()
                yield page
            finally:
                await end_tasks(listening)
    finally:
        await end_tasks(saying)
