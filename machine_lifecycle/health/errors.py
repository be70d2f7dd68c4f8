"""Errors of the health pages."""

from __future__ import annotations

from typing import ClassVar

import attrs

from machine_lifecycle.errors import LifecycleError, Remedy

__all__ = ["HealthAddressUnusable", "HealthPortTaken", "NotOurProcess"]


@attrs.define(kw_only=True, slots=False, eq=False)
class HealthPortTaken(LifecycleError):
    """Another program listens on the port of the health pages."""

    code: ClassVar[str] = "health-port-taken"

    host: str
    port: int

    @property
    def summary(self) -> str:
        """Which port."""
        return f"port {self.port} on {self.host}, meant for the health pages, is taken"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Find who has it, or take another one."""
        return (
            Remedy("See which program has it", f"lsof -nP -iTCP:{self.port} -sTCP:LISTEN"),
            Remedy("Or take another port", f"export MACHINE_HEALTH_PORT={self.port + 1}"),
            Remedy("Or take any free one", "export MACHINE_HEALTH_PORT=0"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class HealthAddressUnusable(LifecycleError):
    """The health pages can't listen on the address that was set."""

    code: ClassVar[str] = "health-address-unusable"
    recoverable: ClassVar[bool] = False

    host: str
    port: int
    reason: str

    @property
    def summary(self) -> str:
        """Which address, and why not."""
        return f"the health pages can't listen on {self.host}:{self.port}: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """An address that every machine has."""
        return (
            Remedy("Listen for this machine only", "export MACHINE_HEALTH_HOST=127.0.0.1"),
            Remedy("Or for probes from outside", "export MACHINE_HEALTH_HOST=0.0.0.0"),
            Remedy("Ports below 1024 need privileges; take", "export MACHINE_HEALTH_PORT=9090"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class NotOurProcess(LifecycleError):
    """These pages only look at a process: another supervisor started it."""

    code: ClassVar[str] = "not-our-process"
    recoverable: ClassVar[bool] = False

    name: str

    @property
    def summary(self) -> str:
        """What can't be done from here."""
        return f"{self.name} can't be restarted from here: another supervisor runs it"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Ask the one who can."""
        return (
            Remedy("Under PM2", f"pm2 restart {self.name}"),
            Remedy("Under supervisord", f"supervisorctl restart machine:{self.name}"),
            Remedy("Under systemd", f"systemctl restart machine-{self.name}"),
        )
