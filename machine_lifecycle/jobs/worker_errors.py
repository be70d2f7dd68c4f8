"""Why a worker can't start."""

from __future__ import annotations

from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, Remedy, import_remedies

__all__ = ["ConnectorBroken", "WorkerSettingWrong"]


@attrs.define(kw_only=True, slots=False, eq=False)
class ConnectorBroken(ConfigurationError):
    """A connector can't be loaded.

    Attributes:
        reference: ``module:attribute``.
        reason: What Python said.
        folder: Where its module lies, if it is not found for want of a path.
    """

    code: ClassVar[str] = "connector-broken"

    reference: str
    reason: str
    folder: str = ""

    @property
    def summary(self) -> str:
        """Which, and why."""
        return f"the connector {self.reference} can't be loaded: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Put it on the path; try to import it."""
        return import_remedies(self.reference.partition(":")[0], self.folder)


@attrs.define(kw_only=True, slots=False, eq=False)
class WorkerSettingWrong(ConfigurationError):
    """A variable that a worker needs is missing or wrong.

    Attributes:
        name: Of the variable.
        reason: What is wrong with it.
        example: A value that would do.
    """

    code: ClassVar[str] = "worker-setting-wrong"

    name: str
    reason: str
    example: str

    @property
    def summary(self) -> str:
        """Which, and what is wrong."""
        return f"{self.name} {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Set it."""
        return (Remedy("Set it", f"export {self.name}='{self.example}'"),)
