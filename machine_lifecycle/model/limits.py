"""What a process may take of its host."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs

__all__ = ["IO_CLASSES", "RESOURCES", "UNLIMITED", "Limits"]

UNLIMITED = -1
IO_CLASSES = ("idle", "best-effort", "realtime")
RESOURCES = MappingProxyType(
    {
        "as": "RLIMIT_AS",
        "core": "RLIMIT_CORE",
        "cpu": "RLIMIT_CPU",
        "data": "RLIMIT_DATA",
        "fsize": "RLIMIT_FSIZE",
        "memlock": "RLIMIT_MEMLOCK",
        "nofile": "RLIMIT_NOFILE",
        "nproc": "RLIMIT_NPROC",
        "stack": "RLIMIT_STACK",
    }
)
"""Names of resource limits, as ``prlimit`` takes them, and what the kernel calls them."""


def _sorted(values: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(values.items()))


@attrs.frozen(kw_only=True)
class Limits:
    """What a process and all that it starts may take. Nothing is changed that is not said.

    Attributes:
        nice: -20, which is served first, to 19.
        ionice: ``idle``, ``best-effort:4`` or ``realtime:0``: a class, and a level from 0 to 7.
        cpus: Numbers of the processors that it may run on; none: all.
        resources: Resource limits by name, soft and hard alike; -1: none. Bytes where they are of
            memory or files, seconds for ``cpu``.
        umask: Of the files that it makes.
        user: Name or number of the user that it runs as.
        group: Likewise; empty: that of the user.
    """

    nice: int | None = None
    ionice: str = ""
    cpus: tuple[int, ...] = ()
    resources: dict[str, int] = attrs.field(factory=dict, converter=_sorted)
    umask: int | None = None
    user: str = ""
    group: str = ""

    def words(self, niceness: int = 0) -> tuple[str, ...]:
        """The words in front of a program that give it its limits: those of the tools that set
        them and then become the program. User, group and umask are no matter of these tools.

        Args:
            niceness: That of whoever starts it, since ``nice`` adds to that.
        """
        words: list[str] = []
        if self.nice is not None:
            words += ["nice", "-n", str(self.nice - niceness)]
        if self.ionice:
            kind, _, level = self.ionice.partition(":")
            words += ["ionice", "-c", kind, *(["-n", level] if level and kind != "idle" else [])]
        if self.cpus:
            words += ["taskset", "-c", ",".join(map(str, self.cpus))]
        if self.resources:
            words.append("prlimit")
            for name, value in self.resources.items():
                said = "unlimited" if value == UNLIMITED else str(value)
                words.append(f"--{name}={said}:{said}")
        return tuple(words)
