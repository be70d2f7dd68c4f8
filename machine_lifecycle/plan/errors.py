"""Why no plan can be made."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Remedy

__all__ = [
    "ExportNeedsRedis",
    "ManifestUnusable",
    "NoGpu",
    "PortClash",
    "PortRange",
    "PortTaken",
    "TooManyInstances",
    "VariableMissing",
    "WorkerUnknown",
    "WrongBinding",
]


_HIGH = 65_000
"""Above, there is little room for further ports: they end at 65535."""


@attrs.define(kw_only=True, slots=False, eq=False)
class NoGpu(ConfigurationError):
    """Something that needs a GPU is asked for, and there is none.

    Attributes:
        workers: The item of WORKERS.
        looked: Who looked, and what was found there.
    """

    code: ClassVar[str] = "no-gpu"

    workers: str
    looked: tuple[str, ...]

    @property
    def summary(self) -> str:
        """What asked for a GPU, and who looked for one."""
        return f"WORKERS asks for {self.workers}, which needs a GPU; none found ({self._looked})"

    @property
    def _looked(self) -> str:
        return "; ".join(self.looked) or "nobody could be asked"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """See what the driver says; or do without."""
        return (
            Remedy("See whether the driver finds one", "nvidia-smi --list-gpus"),
            Remedy("In a container, hand the GPUs in", "docker run --gpus all …"),
            Remedy("Or simulate GPUs", "export GPU_MODE=mock MOCK_GPU_NUM=2"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class WorkerUnknown(ConfigurationError):
    """WORKERS names a type that nobody has.

    Attributes:
        name: As written.
        known: Types of the service mapping.
        close: The one that was meant, perhaps; or empty.
        source: The service mapping.
    """

    code: ClassVar[str] = "worker-unknown"

    name: str
    known: tuple[str, ...]
    close: str
    source: str

    @property
    def summary(self) -> str:
        """The type, and those there are."""
        return f"WORKERS: no `{self.name}` in {self.source}; there are {', '.join(self.known)}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """The type that was meant, and the list."""
        meant = self.close or next(iter(self.known), "simulation")
        return (
            Remedy("Name a type that is there", f"export WORKERS={meant}:1"),
            Remedy("See what is there", "machine-lifecycle services"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class VariableMissing(ConfigurationError):
    """A variable is not set without which a worker can't work.

    Attributes:
        variable: Its name.
        needed_by: Who needs it.
    """

    code: ClassVar[str] = "variable-missing"

    variable: str
    needed_by: str

    @property
    def summary(self) -> str:
        """The variable and who needs it."""
        return f"{self.needed_by} needs {self.variable}, which is not set"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Set it."""
        return (Remedy("Set it", f"export {self.variable}=…"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class PortClash(ConfigurationError):
    """Two things would listen on one port.

    Attributes:
        port: The port.
        first: Who has it.
        second: Who wants it too.
        variable: Variable that moves the second, or empty.
    """

    code: ClassVar[str] = "port-clash"

    port: int
    first: str
    second: str
    variable: str = ""

    @property
    def summary(self) -> str:
        """The port and both."""
        return f"port {self.port} is meant for both {self.first} and {self.second}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Move one of them."""
        if not self.variable:
            return (Remedy(f"Give {self.second} another base port in the service mapping"),)
        # A thousand away: beyond any number of instances.
        other = self.port + 1000 if self.port < 60000 else self.port - 1000  # noqa: PLR2004
        return (Remedy(f"Move {self.second}", f"export {self.variable}={other}"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class PortTaken(LifecycleError):
    """A program that is not ours listens on a port that we need.

    Attributes:
        host: Address.
        port: The port.
        wanted_by: Who needs it: an instance or its process.
        owner: Who has it, if that could be seen.
        variable: Variable that moves it, or empty.
    """

    code: ClassVar[str] = "port-taken"

    host: str
    port: int
    wanted_by: str
    owner: str = ""
    variable: str = ""

    @property
    def summary(self) -> str:
        """Which port, for whom, and who has it."""
        owner = f" by {self.owner}" if self.owner else ""
        return f"port {self.port} on {self.host}, needed by {self.wanted_by}, is taken{owner}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """See who has it; move us."""
        look = Remedy(
            f"See who listens on port {self.port}, and end it", f"ss -ltnp 'sport = :{self.port}'"
        )
        if not self.variable:
            return (look,)
        other = self.port + (100 if self.port < _HIGH else -100)
        return (look, Remedy("Or move ours", f"export {self.variable}={other}"))


@attrs.define(kw_only=True, slots=False, eq=False)
class PortRange(ConfigurationError):
    """An instance's port would be above 65535.

    Attributes:
        instance: Its id.
        port: The number.
    """

    code: ClassVar[str] = "port-range"

    instance: str
    port: int

    @property
    def summary(self) -> str:
        """The instance and the number."""
        return f"{self.instance} would listen on port {self.port}; ports end at 65535"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Begin lower."""
        return (Remedy("Give the service a lower base port"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class TooManyInstances(ConfigurationError):
    """More instances are asked for than the service mapping allows.

    Attributes:
        worker: The item of WORKERS.
        asked: How many.
        allowed: ``service_instances_per_machine``.
        service: The service.
    """

    code: ClassVar[str] = "too-many-instances"

    worker: str
    asked: int
    allowed: int
    service: str

    @property
    def summary(self) -> str:
        """How many, and how many are allowed."""
        return (
            f"WORKERS asks for {self.asked} {self.worker}; the service mapping allows "
            f"{self.allowed} {self.service} per machine"
        )

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Ask for fewer."""
        return (Remedy("Ask for fewer", f"export WORKERS={self.worker}:{self.allowed}"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class WrongBinding(ConfigurationError):
    """A service that must be started here has nothing to start.

    Attributes:
        service: The service.
        worker: The item of WORKERS.
    """

    code: ClassVar[str] = "nothing-to-start"

    service: str
    worker: str

    @property
    def summary(self) -> str:
        """The service and who asked."""
        return f"{self.worker} drives {self.service}, which names no port to listen on"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Give it a port."""
        return (Remedy(f'Write "ports": ["9100"] for {self.service} in the service mapping'),)


@attrs.define(kw_only=True, slots=False, eq=False)
class ExportNeedsRedis(ConfigurationError):
    """Processes for another supervisor have no queue: the embedded one is the orchestrator's.

    Attributes:
        form: The format that was asked for.
    """

    code: ClassVar[str] = "export-needs-redis"

    form: str

    @property
    def summary(self) -> str:
        """What is missing, and why it is needed here."""
        return (
            f"an export to {self.form} needs HUB_REDIS_URL: the embedded queue is run by the "
            "orchestrator, which is not part of it"
        )

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Name the fleet's Redis; or have the orchestrator run."""
        return (
            Remedy("Name the Redis that the workers are to use", "export HUB_REDIS_URL=redis://…"),
            Remedy(
                "Or let systemd run the whole machine, queue included",
                "machine-lifecycle export systemd",
            ),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class ManifestUnusable(ConfigurationError):
    """A process manifest can't be read, or is none of this version."""

    code: ClassVar[str] = "manifest-unusable"

    path: Path
    reason: str

    @property
    def summary(self) -> str:
        """Which file, and what is wrong with it."""
        return f"the process manifest {self.path} can't be used: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Write it anew."""
        return (
            Remedy(
                "Write it anew, with the files that go with it",
                f"machine-lifecycle export pm2 --out {self.path.parent}",
            ),
        )
