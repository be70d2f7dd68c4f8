"""Health pages as a platform's probe asks for them: again and again, since nobody tells it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from tests.support.patience import PATIENCE

__all__ = ["asked", "until"]

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
