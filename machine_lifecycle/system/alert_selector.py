"""A selector of the event loop that looks for a moment before it sleeps.

A processor that has gone to sleep takes 50 to 100 µs to wake up, as long as a quick answer takes to
come. So while one is due it is looked for a little longer, as a mutex spins before it parks its
thread. It is for loops that ask and are answered thousands of times a second.
"""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable

__all__ = ["AlertSelector"]

_MOST = 200e-6
"""Seconds for which it is looked for: twice what being woken costs."""
_LEAST = 10e-6
"""Down to which that is halved each time that nothing came."""


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


def _never() -> bool:
    return False


class AlertSelector(selectors.DefaultSelector):
    """Sleeps later while an answer is due. With one processor it would keep that from whoever is to
    answer, and does not.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.perf_counter, processors: int | None = None
    ) -> None:
        """Nothing is due.

        Args:
            clock: Tells seconds.
            processors: That this process may use; ``None``: as the system says.
        """
        super().__init__()
        self.due: Callable[[], bool] = _never
        """Whether an answer is due."""
        self._clock = clock
        self._alone = (processors or _processors()) == 1
        self._patience = _MOST

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready, as of every selector."""
        if not (self._alone or (timeout is not None and timeout <= 0)) and self.due():
            until = self._clock() + (
                self._patience if timeout is None else min(self._patience, timeout)
            )
            while True:
                if found := super().select(0):
                    self._patience = _MOST
                    return found
                if self._clock() >= until:
                    break
            self._patience = max(_LEAST, self._patience / 2)
        return super().select(timeout)
