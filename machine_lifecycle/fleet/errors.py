"""What can go wrong between machines."""

from __future__ import annotations

from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, Remedy

__all__ = ["MachineIdTaken"]


@attrs.define(kw_only=True, slots=False, eq=False)
class MachineIdTaken(ConfigurationError):
    """Another living machine goes by this id.

    Attributes:
        machine_id: The id.
        host: Where the other one runs; empty: it wrote its claim in a way that this version does
            not know.
        pid: Its orchestrator; 0 likewise.
        since: When it came, ISO 8601; empty likewise.
    """

    code: ClassVar[str] = "machine-id-taken"

    machine_id: str
    host: str
    pid: int
    since: str

    @property
    def summary(self) -> str:
        """Who has it."""
        taken = f"machine id {self.machine_id} is taken by a living machine"
        if not self.pid:
            return f"{taken}, which is of another version"
        return f"{taken}: process {self.pid} on {self.host}, since {self.since}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Another id, or an end to the other machine."""
        return (
            Remedy("Give this machine an id of its own", f"export MACHINE_ID={self.machine_id}-2"),
            Remedy(
                f"Or stop the other one{f' on {self.host}' if self.host else ''}; "
                "if its host is dead, wait 30 seconds",
                f"kill -TERM {self.pid}" if self.pid else None,
            ),
        )
