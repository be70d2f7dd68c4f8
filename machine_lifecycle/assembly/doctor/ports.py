"""What is looked at of ports: who listens on those that a boot would take."""

from __future__ import annotations

import asyncio

from machine_lifecycle.assembly.doctor.finding import Doubtful
from machine_lifecycle.control.client import ControlClient
from machine_lifecycle.errors import LifecycleError, as_one
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.plan.errors import PortTaken
from machine_lifecycle.system.network import listeners

__all__ = ["ports"]


async def ports(made: BootPlan, settings: Settings, paths: Paths) -> str | Doubtful:
    """Whether the ports of a plan are free, or this machine's own, which runs already."""
    address, number = settings.health_host, settings.health_port
    wanted = [("the health pages", address, number, "MACHINE_HEALTH_PORT")]
    wanted += [(one.name, one.host, one.port or 0, one.port_variable) for one in made.processes]
    taken, ours = await asyncio.to_thread(listeners), await _of_the_running(paths)
    errors = [
        PortTaken(host=where, port=port, wanted_by=who, owner=taken[port], variable=variable)
        for who, where, port, variable in wanted
        if port in taken and port not in ours
    ]
    if errors:
        detail = "; ".join(error.summary for error in errors)
        return Doubtful(detail=detail, error=as_one("ports", errors))
    asked = {port for _, _, port, _ in wanted if port}
    found = {"free": asked - ours, "used by this machine, which runs": asked & ours}
    return "; ".join(
        f"{', '.join(map(str, sorted(some)))} {'is' if len(some) == 1 else 'are'} {how}"
        for how, some in found.items()
        if some
    )


async def _of_the_running(paths: Paths) -> frozenset[int]:
    """Ports on which processes of this machine listen, if it runs."""
    try:
        async with ControlClient(paths.control_socket) as client:
            report = await client.call("status")
    except (LifecycleError, OSError):
        return frozenset()
    return frozenset(one["port"] for one in report["processes"] if one["port"])
