"""What a worker offers to the queue: its capabilities without its name, and room for jobs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from machine_lifecycle.jobs.slots import Slots
from machine_lifecycle.jobs.turns import Offer
from machine_lifecycle.jobs.worker_services import WorkerServices

__all__ = ["Offers"]

_OWN = frozenset({"worker_id", "machine_id"})
"""What tells equal workers apart. Requirements that name one are matched in the queue."""


class Offers:
    """Makes offers. Equal workers make equal ones, so that the queue matches their jobs once."""

    def __init__(self, services: WorkerServices) -> None:
        self._services = services
        self._capabilities: Mapping[str, Any] = {}
        self._made: dict[frozenset[str], tuple[str, str]] = {}

    def connected(self, capabilities: Mapping[str, Any]) -> None:
        """The worker can do this from here on."""
        if dict(capabilities) != dict(self._capabilities):
            self._capabilities = capabilities
            self._made = {}

    def digests(self) -> set[str]:
        """Names of all that was offered."""
        return {digest for digest, _ in self._made.values()}

    def whole(self) -> str:
        """Name of what the worker offers while nothing runs."""
        return self._offer(frozenset(self._services.limits))[0]

    def make(self, slots: Slots, asked: int) -> Offer | None:
        """What it can take while so many jobs run on each service, and so many are asked for;
        ``None`` for nothing.
        """
        services, room = self._services.room(slots.taken)
        room -= asked
        ahead = slots.ahead()
        if room <= 0 and not ahead:
            return None
        digest, text = self._offer(services or frozenset(self._services.limits))
        return Offer(digest, text, max(0, room), self._services.most, ahead)

    def _offer(self, services: frozenset[str]) -> tuple[str, str]:
        if services not in self._made:
            proved = self._capabilities.get("job_service_required_map", ())
            asks = [asked for asked in self._services.asked(services) if asked in proved]
            facts = {
                name: value for name, value in self._capabilities.items() if name not in _OWN
            } | {"job_service_required_map": asks, "services": asks}
            text = json.dumps(facts, sort_keys=True)
            self._made[services] = (hashlib.sha256(text.encode()).hexdigest()[:32], text)
        return self._made[services]
