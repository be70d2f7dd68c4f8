"""Which node packs a running service has loaded: what was found, and where it was looked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import attrs

__all__ = ["Loaded", "Pack", "PackReader", "PackState", "PackTimes", "Run"]


class PackState(Enum):
    """What became of a node pack when its service started."""

    LOADED = "loaded"
    FAILED = "failed"
    """It could not be imported, or gave nothing."""
    ABSENT = "absent"
    """The service did not try: the pack is not in its folder, disabled, or left out on purpose."""


@attrs.frozen(kw_only=True)
class Pack:
    """One node pack of one running service.

    Attributes:
        name: Its folder, or its file without ``.py``.
        nodes: Node classes that it added; a pack may add none, and only pages or settings.
        seconds: What its import took, to a tenth; ``None`` where the service did not tell.
        missing: The Python module that its import did not find; empty if it was not that.
        reason: Why it is not loaded: the exception's type and text; empty if it is.
    """

    name: str
    state: PackState = PackState.LOADED
    nodes: int = 0
    seconds: float | None = None
    missing: str = ""
    reason: str = ""

    @classmethod
    def from_wire(cls, value: Mapping[str, Any]) -> Pack:
        """From its JSON form.

        Raises:
            KeyError, ValueError: It is not one.
        """
        seconds = value.get("seconds")
        return cls(
            name=str(value["name"]),
            state=PackState(value["state"]),
            nodes=int(value.get("nodes", 0)),
            seconds=None if seconds is None else float(seconds),
            missing=str(value.get("missing", "")),
            reason=str(value.get("reason", "")),
        )


@attrs.frozen(kw_only=True)
class Loaded:
    """All node packs of one running service.

    Attributes:
        instance: Id of the instance; the service's name for one that runs elsewhere.
        packs: By name.
        complete: Whether the service told of every pack that it tried. What is known from its
            nodes alone leaves out those that failed and those without nodes.
        started: When the service was started, wall-clock seconds; 0 for one that we did not start.
    """

    instance: str = ""
    packs: tuple[Pack, ...] = ()
    complete: bool = False
    started: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are loaded."""
        return tuple(pack.name for pack in self.packs if pack.state is PackState.LOADED)

    @classmethod
    def from_wire(cls, value: Mapping[str, Any]) -> Loaded:
        """From its JSON form.

        Raises:
            KeyError, ValueError: It is not one.
        """
        return cls(
            instance=str(value["instance"]),
            packs=tuple(Pack.from_wire(pack) for pack in value["packs"]),
            complete=bool(value.get("complete", False)),
            started=float(value.get("started", 0.0)),
        )


@attrs.frozen(kw_only=True)
class PackTimes:
    """What a node pack costs a boot, in seconds as last measured; ``None``: never measured.

    Attributes:
        name: Its folder.
        fetch: Of its repository.
        install: Of what it requires, where that is installed for it alone.
        script: Of its scripts.
        imported: Of its import, on the instance where that took longest.
        slower: What took this boot at least a fifth longer than the one before, and how long.
    """

    name: str
    fetch: float | None = None
    install: float | None = None
    script: float | None = None
    imported: float | None = None
    slower: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        """All of it."""
        parts = (self.fetch, self.install, self.script, self.imported)
        return sum(part for part in parts if part is not None)


@attrs.frozen(kw_only=True)
class Run:
    """One run of a service's process, and where it says what it does.

    Attributes:
        instance: Id of the instance, which is its process's name.
        log: Its log file.
        offset: Byte at which this run's part of it begins.
        started: Wall-clock seconds when the process was spawned.
        port: Where it listens; 0 if nowhere.
    """

    instance: str
    port: int
    log: Path
    offset: int
    started: float

    @classmethod
    def from_wire(cls, value: Mapping[str, Any]) -> Run:
        """From its JSON form.

        Raises:
            KeyError, ValueError: It is not one.
        """
        return cls(
            instance=str(value["instance"]),
            port=int(value["port"]),
            log=Path(value["log"]),
            offset=int(value["offset"]),
            started=float(value["started"]),
        )


@runtime_checkable
class PackReader(Protocol):
    """A connector that knows which node packs its service has loaded. Not every one does."""

    async def loaded(self, runs: Sequence[Run], proved: Mapping[str, Any]) -> Loaded:
        """Look. Called after ``capabilities``, each time that the service was started.

        Args:
            runs: Processes of this machine, among which the service's is if we started it.
            proved: What ``capabilities`` said.
        """
