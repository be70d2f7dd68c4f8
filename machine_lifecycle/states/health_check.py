"""HealthCheck: verify every service, every worker and the registration."""

from __future__ import annotations

import asyncio

from machine_lifecycle.states.context import Context
from machine_lifecycle.states.errors import ChecksFailed
from machine_lifecycle.states.stimuli import MachineHealthy, Stimulus

__all__ = ["run"]


async def run(ctx: Context) -> Stimulus:
    """Look at everything as an outsider would, all checks at once.

    Raises:
        ChecksFailed: At least one did not pass.
    """
    async with asyncio.TaskGroup() as both:
        running = both.create_task(ctx.verifier.verify(ctx.plan))
        registered = both.create_task(ctx.registry.verify(ctx.plan))
    checks = (*running.result(), *registered.result())
    for check in checks:
        ctx.progress.finished(check.name, seconds=check.seconds)
    if failed := [check for check in checks if not check.ok]:
        raise ChecksFailed(
            failed=tuple(f"{check.name}: {check.detail}" for check in failed),
            advice=tuple(remedy for check in failed for remedy in check.remedies),
        )
    return MachineHealthy(attempt=ctx.attempt, checks=checks)
