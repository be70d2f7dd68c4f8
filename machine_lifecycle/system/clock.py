"""Time, as the operating system tells it. The only module that reads clocks for decisions."""

from __future__ import annotations

import asyncio
import time

__all__ = ["SystemClock"]


class SystemClock:
    """The real clock; implements ``machine_lifecycle.model.ports.Clock``."""

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since 1970."""
        return time.time()

    async def sleep_until(self, deadline: float) -> None:
        """Return when ``monotonic()`` has reached *deadline*."""
        await asyncio.sleep(deadline - time.monotonic())
