"""Where a Python has its packages, and whether some are there: a quick look, at each boot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import attrs
from packaging.utils import canonicalize_name

from machine_lifecycle.installers.protection import moved
from machine_lifecycle.model.installing import StepContext
from machine_lifecycle.system.files import write_atomically

__all__ = ["SitePackages"]

_SCRIPT = "import json, sys; print(json.dumps([one for one in sys.path if one]))"


@attrs.frozen
class SitePackages:
    """The folders in which a Python looks for packages.

    Attributes:
        python: The Python.
        note: File in which they are noted, for a Python that was named: it may have them anywhere.
            None: it is that of an environment of ours.
    """

    python: Path
    note: Path | None

    @property
    def identity(self) -> str:
        """Which Python it is: another where one that was named has been replaced in its place."""
        if self.note is None or not self.python.exists():
            return str(self.python)
        real = self.python.resolve()
        return f"{self.python} {real} {real.stat().st_mtime_ns}"

    async def look(self, ctx: StepContext, env: Mapping[str, str]) -> None:
        """Ask the Python, and note what it says.

        Raises:
            LifecycleError: It does not run.
        """
        told = await ctx.run_command([str(self.python), "-c", _SCRIPT], env=env)
        if self.note is not None:
            self.note.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.note, told.output)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Those folders; none where nobody asked yet."""
        if self.note is None:
            return tuple((self.python.parent.parent / "lib").glob("python*/site-packages"))
        try:
            return tuple(Path(one) for one in json.loads(self.note.read_text("utf-8")))
        except (OSError, ValueError):
            return ()

    def known(self) -> bool:
        """Whether there is the Python, and it is known where it has its packages."""
        return self.python.exists() and bool(self.note is None or self.folders)

    def have(self, versions: Mapping[str, str]) -> bool:
        """Whether packages are there.

        Args:
            versions: By name; empty: any will do.
        """
        return not moved(versions, self.found())

    def found(self) -> dict[str, str]:
        """Versions by name, by the names of the folders with the packages' facts."""
        found: dict[str, str] = {}
        for folder in self.folders:
            # A system's own packages may still have the older kind (setuptools, "egg-info").
            for path in (*folder.glob("*.dist-info"), *folder.glob("*.egg-info")):
                name, _, version = path.stem.partition("-")
                version = version.partition("-")[0].replace("_", "+")
                found.setdefault(canonicalize_name(name), version)  # what comes first is imported
        return found
