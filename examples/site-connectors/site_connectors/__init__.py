"""A connector that a site ships to its machines: the simulation's, with a mark in each result."""

from __future__ import annotations

import attrs

from machine_lifecycle.connectors.base import Job, JobResult, ProgressCallback
from machine_lifecycle.connectors.comfyui import SimulationConnector

__all__ = ["SiteConnector"]


class SiteConnector(SimulationConnector):
    """Writes into each result which site it was made at."""

    async def run(self, job: Job, progress: ProgressCallback) -> JobResult:
        """Do a job, and mark what came out."""
        result = await super().run(job, progress)
        return attrs.evolve(result, data={**result.data, "site": "north"})
