"""What can be wrong with the worker bundle."""

from __future__ import annotations

import shlex
from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Remedy

__all__ = ["BundleUnreachable", "BundleUnusable"]


@attrs.define(kw_only=True, slots=False, eq=False)
class BundleUnusable(ConfigurationError):
    """The worker bundle can't be used.

    Attributes:
        source: Folder or address, without credentials.
        problem: Why not.
    """

    code: ClassVar[str] = "bundle-unusable"

    source: str
    problem: str

    @property
    def summary(self) -> str:
        """Which bundle, and why."""
        return f"the worker bundle {self.source} can't be used: {self.problem}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Make one; pin it; or do without."""
        return (
            Remedy("Make a folder of packages", "pip install --target worker-bundled your-package"),
            Remedy(
                "Name the archive's digest",
                "export WORKER_DOWNLOAD_SHA256=$(sha256sum bundle.tar.gz | cut -d' ' -f1)",
            ),
            Remedy("Or do without", "export WORKER_BUNDLE_MODE=none"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class BundleUnreachable(LifecycleError):
    """The worker bundle can't be downloaded now.

    Attributes:
        source: Its address, without credentials.
        problem: What happened.
    """

    code: ClassVar[str] = "bundle-unreachable"

    source: str
    problem: str

    @property
    def summary(self) -> str:
        """Which bundle, and what happened."""
        return f"the worker bundle {self.source} can't be downloaded: {self.problem}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Try by hand."""
        return (Remedy("See whether it answers", f"curl -fI {shlex.quote(self.source)}"),)
