"""What no node pack may move: torch, and all that the lock says.

It is written down twice beside the service: as constraints, which every pip and uv that a pack's
script or ComfyUI itself starts is given by variables (and pip by a file in the environment, too),
and with hashes, to put back what was moved all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import attrs
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from machine_lifecycle.installers.compiling import LockedPackage
from machine_lifecycle.installers.variables import shown_constraints
from machine_lifecycle.system.files import write_atomically

__all__ = ["Protection", "moved"]


@attrs.frozen
class Protection:
    """The files about one environment.

    Attributes:
        constraints: What must hold, for pip and uv.
    """

    constraints: Path

    @property
    def _lines(self) -> Path:
        return self.constraints.with_name("protected-hashes.txt")

    def write(self, packages: Sequence[LockedPackage], *, further: Collection[Path]) -> None:
        """Say what is protected.

        Args:
            packages: Those of the lock; none without one.
            further: Files of constraints that hold beside.
        """
        self.constraints.parent.mkdir(parents=True, exist_ok=True)
        # pip takes no address as a constraint. Packages from one are in the file with hashes alone,
        # and are checked all the same.
        pins = [f"{one.name}=={one.version}" for one in packages if one.version]
        also = [f"-c {shown_constraints(path)}" for path in further]
        write_atomically(self._lines, "".join(f"{one.line}\n" for one in packages))
        write_atomically(self.constraints, "".join(f"{line}\n" for line in (*also, *pins)))

    def _read(self) -> dict[str, str]:
        try:
            lines = self._lines.read_text("utf-8").splitlines()
        except OSError:
            return {}
        return {canonicalize_name(line.split("==")[0].split(" @ ")[0]): line for line in lines}

    def pins(self) -> dict[str, str]:
        """Versions by name; empty for a package that comes from an address."""
        return {
            name: line.partition("==")[2].split(" ")[0] if "==" in line.split(" ")[0] else ""
            for name, line in self._read().items()
        }

    def lines(self, names: Collection[str]) -> list[str]:
        """How some of them are installed, with hashes."""
        return [line for name, line in self._read().items() if name in names]


def moved(pins: Mapping[str, str], found: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """Name, wanted version and found version of what is not as it is pinned."""
    return tuple(
        (name, version, found.get(name, ""))
        for name, version in pins.items()
        if name not in found or (version and not _same(version, found[name]))
    )


def _same(one: str, other: str) -> bool:
    if one == other:
        return True
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return False
