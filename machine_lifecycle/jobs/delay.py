"""Delays: of time, one for many, most of whom are called off; and of rounds of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Delay", "Rounds"]


class Delay:
    """Calls back after so many seconds, the same for all.

    One timer of the event loop does for all of them. To set and to cancel one for each would be a
    tenth of the cost of a short job.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds: float = seconds
        self._due: dict[Callable[[], None], float] = {}
        """When each is due, as the event loop counts; the first one is first."""
        self._timer: asyncio.TimerHandle | None = None

    def call(self, back: Callable[[], None]) -> None:
        """Call it when the delay is over, unless it is called off."""
        loop = asyncio.get_running_loop()
        self._due[back] = due = loop.time() + self.seconds
        if self._timer is None:
            self._timer = loop.call_at(due, self._look)

    def call_off(self, back: Callable[[], None]) -> None:
        """Do not call it; nothing happens if it was called, or is not known."""
        self._due.pop(back, None)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        try:
            while self._due:
                back, due = next(iter(self._due.items()))
                if due > now:
                    break
                del self._due[back]
                back()  # in the next round it might be called off by then
        finally:  # one that raises costs the others a round of the event loop, and no more
            first = next(iter(self._due.values()), None)
            self._timer = None if first is None else loop.call_at(first, self._look)


class Rounds:
    """Calls back after so many rounds of the event loop, in which others go on that were first."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._waiting: deque[Callable[[], None]] = deque()

    def call(self, back: Callable[[], None]) -> None:
        """Call it then."""
        self._waiting.append(back)
        self._pass(self._rounds)

    def flush(self) -> None:
        """Call all that wait, at once."""
        while self._waiting:
            self._waiting.popleft()()

    def _pass(self, rounds: int) -> None:
        if rounds:
            asyncio.get_running_loop().call_soon(self._pass, rounds - 1)
        elif self._waiting:
            self._waiting.popleft()()
