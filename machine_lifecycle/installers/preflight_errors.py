"""What a machine can lack that is to install something."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, Remedy

__all__ = ["InodesShort", "TorchNotForDriver"]


@attrs.define(kw_only=True, slots=False, eq=False)
class InodesShort(ConfigurationError):
    """The disk can't hold as many files as an installation has, whatever room there is.

    Attributes:
        folder: On which disk.
        free: Files that it can still hold.
        needed: Files that there will be.
    """

    code: ClassVar[str] = "inodes-short"

    folder: Path
    free: int
    needed: int

    @property
    def summary(self) -> str:
        """How many there may be, and how many there will be."""
        return (
            f"the disk of {self.folder} can hold {self.free:,} further files; an environment with "
            f"torch needs {self.needed:,}"
        )

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Find where the files are; or go elsewhere."""
        folder = shlex.quote(str(self.folder))
        return (
            Remedy("See where the files are", f"du -x --inodes -d2 {folder} | sort -n | tail"),
            Remedy("Or take another disk", "export WORKSPACE_PATH=/another/folder"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class TorchNotForDriver(ConfigurationError):
    """The build of torch that was named needs a newer driver than this machine has.

    Attributes:
        backend: The build, in uv's words.
        driver: The driver that is there.
        needed: The oldest that would do.
    """

    code: ClassVar[str] = "torch-not-for-driver"

    backend: str
    driver: str
    needed: str

    @property
    def summary(self) -> str:
        """Which build, and which drivers."""
        return (
            f"torch for {self.backend} needs a driver of version {self.needed} or later; this "
            f"machine has {self.driver}"
        )

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Take the build that fits, or another driver."""
        return (
            Remedy("Take the newest build that fits the driver", "export TORCH_BACKEND=auto"),
            Remedy("Or see the driver, and install a later one on the host", "nvidia-smi"),
        )
