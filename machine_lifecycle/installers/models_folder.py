"""A folder of models, perhaps shared with other machines: files get in whole, and one at a time.

What was put there is written down in a folder of its own below it, so that a file of ours is known
from one of the user's, and an unchanged one needs no second look at all of its bytes. A cache
keeps files by their digest, for several folders and machines: a model is a hard link to it, or a
symbolic one where the cache is on another disk.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import attrs

from machine_lifecycle.installers.base import file_name
from machine_lifecycle.system.files import write_atomically

__all__ = ["Kept", "Shelf", "cached", "link"]

_OURS = ".machine-lifecycle"


@attrs.frozen(kw_only=True)
class Kept:
    """What is known of a file that was put in its place.

    Attributes:
        of: Which file it is, by digest or address.
        sha256: Of its bytes.
        size: In bytes.
        changed: When it was last written to, as the file system says (ns).
    """

    of: str
    sha256: str
    size: int
    changed: int


@attrs.frozen
class Shelf:
    """One folder of models.

    Attributes:
        root: The folder.
    """

    root: Path

    def path(self, target: str) -> Path:
        """Where a model is."""
        return self.root / target

    def partial(self, target: str) -> Path:
        """What came of it so far: in the same folder, which may be a disk of its own."""
        path = self.path(target)
        return path.with_name(f".{path.name}.partial")

    def _beside(self, target: str, ending: str) -> Path:
        return self.root / _OURS / f"{file_name(target)}{ending}"

    def lock(self, target: str) -> Path:
        """Held while it is put there."""
        return self._beside(target, ".lock")

    @property
    def fixed(self) -> bool:
        """Whether nothing can be put there: it is mounted read-only, say."""
        return self.root.is_dir() and not os.access(self.root, os.W_OK)

    def kept(self, target: str) -> Kept | None:
        """What is known of the file, if it is still the one that was put there."""
        try:
            noted = json.loads(self._beside(target, ".json").read_text("utf-8"))
            found = self.path(target).stat()
            kept = Kept(**noted)
        except (OSError, ValueError, TypeError):
            return None
        return kept if (found.st_size, found.st_mtime_ns) == (kept.size, kept.changed) else None

    def note(self, target: str, of: str, sha256: str) -> None:
        """Write down what was put there."""
        found = self.path(target).stat()
        kept = Kept(of=of, sha256=sha256, size=found.st_size, changed=found.st_mtime_ns)
        write_atomically(self._beside(target, ".json"), json.dumps(attrs.asdict(kept)) + "\n")


def cached(cache: Path, sha256: str) -> Path:
    """Where a cache keeps the file of a digest."""
    return cache / "sha256" / sha256[:2] / sha256


def link(source: Path, target: Path) -> str:
    """Give a file of the cache its name: by a hard link, else by a symbolic one; which it was."""
    between = target.with_name(f".{target.name}.link")
    between.unlink(missing_ok=True)
    try:
        os.link(source, between)
        how = "hard link"
    except OSError:  # another disk, or a file system without hard links
        between.symlink_to(source)
        how = "symbolic link"
    between.replace(target)
    # Where both were the same file already, a rename does nothing (rename(2)).
    between.unlink(missing_ok=True)
    return how
