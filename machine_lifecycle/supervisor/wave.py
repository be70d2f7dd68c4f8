"""End many processes at once, in order, within a budget."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from machine_lifecycle.model.processes import Role
from machine_lifecycle.supervisor.unit import Unit

__all__ = ["stop_wave"]

_RESERVE = 0.5  # to kill, and to see that everything is gone
_LAST_SECONDS = 2.0  # for who was killed, though the budget be over: less is nothing, more not ours


async def stop_wave(units: Sequence[Unit], budget: float) -> tuple[int, ...]:
    """End all units; numbers of processes that could not be ended.

    Whoever nobody needs is asked at once. The others are asked when those who need them are gone,
    or after a third of the budget; support processes last, after two thirds at the latest. All
    are killed when the budget is nearly over, wherever they stand. What is killed may take the rest
    of it to die.
    """
    loop = asyncio.get_running_loop()
    start = loop.time()
    kill_at = start + max(budget / 2, budget - _RESERVE)
    done = {unit.spec.name: loop.create_future() for unit in units}
    needing: dict[str, list[asyncio.Future[None]]] = {}
    for unit in units:
        for need in unit.spec.needs:
            needing.setdefault(need, []).append(done[unit.spec.name])

    def before(unit: Unit) -> tuple[list[asyncio.Future[None]], float]:
        """Whose end this one waits for, and until when at most."""
        if unit.spec.role is Role.SUPPORT:
            others = [done[u.spec.name] for u in units if u.spec.role is not Role.SUPPORT]
            return others, start + budget * 2 / 3
        return needing.get(unit.spec.name, []), start + budget / 3

    async def end(unit: Unit) -> tuple[int, ...]:
        waits, until = before(unit)
        try:
            if waits:
                await asyncio.wait(waits, timeout=max(0.0, until - loop.time()))
            grace = max(0.0, min(unit.spec.stop.grace, kill_at - loop.time()))
            left = start + budget - loop.time() - grace
            return await unit.stop(grace, max(_LAST_SECONDS, left))
        finally:
            if not done[unit.spec.name].done():
                done[unit.spec.name].set_result(None)

    # One that can't be stopped cleanly must not keep the others from being stopped.
    results = await asyncio.gather(*(end(unit) for unit in units), return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    if errors:
        for unit in units:
            unit.kill()
        raise errors[0]
    return tuple(pid for left in results if isinstance(left, tuple) for pid in left)
