"""How long an installation waits for node packs that are not required."""

from __future__ import annotations

import asyncio

from machine_lifecycle.model.installing import Step

__all__ = ["PackDeadlines"]


class PackDeadlines:
    """Says until when each step of one stage may go on.

    A pack's time begins with the stage; that of what it does later, once all is done that it needs
    and that is no such pack's own: the installation of what all packs require is waited for.

    Args:
        limit: Seconds; 0: as long as it takes.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._began = 0.0
        self._since: dict[str, float] = {}

    def begin(self) -> None:
        """The stage begins."""
        self._began = asyncio.get_running_loop().time()

    def _counts(self, step: Step) -> bool:
        return bool(self.limit and step.subject and not step.required)

    def _from(self, step: Step) -> float:
        before = (self._since.get(need, self._began) for need in (*step.needs, *step.after))
        return max((self._began, *before))

    def until(self, step: Step) -> float | None:
        """When the step is given up, by the event loop's clock; None: never. All that it needs
        has ended.
        """
        return self._from(step) + self.limit if self._counts(step) else None

    def ended(self, step: Step) -> None:
        """The step has ended."""
        now = asyncio.get_running_loop().time()
        self._since[step.id] = self._from(step) if self._counts(step) else now
