"""Looks, before a boot, at everything that a boot will need. Changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from machine_lifecycle.assembly.doctor.examination import Examination
from machine_lifecycle.assembly.doctor.finding import Finding, Look, Verdict, judged
from machine_lifecycle.assembly.planner import MachinePlanner
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.settings import Settings

__all__ = ["Finding", "Verdict", "examine"]


async def examine(
    settings: Settings, environ: Mapping[str, str], paths: Paths, machine_id: str
) -> AsyncIterator[Finding]:
    """Look at everything at once; yields in a fixed order, as soon as each is known.

    Args:
        settings: Of the machine.
        environ: The environment that its processes would inherit.
        paths: Its folders, which need not be there yet.
        machine_id: Its id, for the plan.
    """
    planner = MachinePlanner(settings=settings, paths=paths, machine_id=machine_id, environ=environ)
    patient = Examination(settings, environ, paths, planner)
    looks: dict[str, Look] = {
        "clock": patient.clock,
        "workspace": patient.workspace,
        "disk": patient.disk,
        "inodes": patient.inodes,
        "driver": patient.driver,
        "gpu": patient.gpu,
        "mapping": patient.mapping,
        "plan": patient.plan,
        "ports": patient.ports,
        "git": patient.git,
        "uv": patient.uv,
        "python": patient.python,
        "packs": patient.packs,
        "models": patient.models,
        "redis": patient.redis,
    }
    running = [asyncio.create_task(judged(name, look)) for name, look in looks.items()]
    try:
        for task in running:
            yield await task
    finally:
        for task in running:
            task.cancel()
