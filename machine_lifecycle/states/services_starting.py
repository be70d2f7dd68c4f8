"""ServicesStarting: wait until every service answers."""

from __future__ import annotations

from machine_lifecycle.model.processes import Role
from machine_lifecycle.states.context import Context
from machine_lifecycle.states.stimuli import ServicesOnline, Stimulus
from machine_lifecycle.states.waiting import wait_for_enough

__all__ = ["run"]


async def run(ctx: Context) -> Stimulus:
    """Wait for the readiness of every service; fail as soon as too few can get ready."""
    specs = [spec for spec in ctx.plan.processes if spec.role is Role.SERVICE]
    began = ctx.clock.monotonic()
    await wait_for_enough(ctx, specs, "services")
    seconds = ctx.clock.monotonic() - began
    ctx.progress.finished("services", seconds=seconds, skipped=not specs)
    return ServicesOnline(attempt=ctx.attempt)
