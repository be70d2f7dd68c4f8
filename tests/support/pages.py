"""Health pages as a platform's probe asks for them: again and again, since nobody tells it. And a
machine without processes, for pages alone.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from machine_lifecycle.model.figures import Figures
from machine_lifecycle.model.status import StatusReport
from tests.support.patience import PATIENCE

__all__ = ["PlainMachine", "asked", "until"]

Answer = tuple[int, Any]


def asked(url: str, *, token: str = "", method: str = "GET") -> Answer:
    """Status and JSON of one page.

    Raises:
        OSError: Nobody answers.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - loopback
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - loopback
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read())


def until(
    ask: Callable[[], Answer], wanted: Callable[[Answer], bool], said: Callable[[], str]
) -> Any:
    """Ask until the answer is as wanted; its JSON. *said* helps where it never is."""
    deadline = time.monotonic() + PATIENCE
    answer: Answer = 0, None
    while True:
        try:
            answer = ask()
            if wanted(answer):
                return answer[1]
        except OSError as error:
            answer = 0, str(error)
        assert time.monotonic() < deadline, f"{answer}\n{said()}"
        time.sleep(0.05)


class PlainMachine:
    """A machine as its pages see it: it tells what it is given, and notes what it is asked to do.

    Attributes:
        now: Its report.
        done: What it was asked to do.
        raises: What becomes of it when it is asked for its report.
    """

    def __init__(self, now: StatusReport) -> None:
        self.now = now
        self.done: list[str] = []
        self.raises: Exception | None = None

    def report(self) -> StatusReport:
        if self.raises:
            raise self.raises
        return self.now

    async def figures(self) -> Mapping[int, Figures]:
        return {42: Figures(cpu_percent=12.5, memory_bytes=1024, share_bytes=512)}

    async def tail(self, name: str, lines: int) -> list[str]:
        return [f"{name} {number}" for number in range(lines)]

    async def restart_process(self, name: str) -> None:
        self.done.append(f"restart {name}")

    async def restart_machine(self) -> None:
        self.done.append("restart machine")

    async def publish_now(self) -> None:
        self.done.append("publish")
