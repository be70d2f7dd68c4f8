"""A file that is not whole yet: what came of it, and of which file it is the beginning."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import attrs

from machine_lifecycle.config.models import plain_address
from machine_lifecycle.installers.base import fingerprint
from machine_lifecycle.model.text import human_bytes
from machine_lifecycle.system.files import write_atomically

__all__ = ["Cut", "File", "Partial", "hash_of"]

_PIECE = 1 << 20
_PIECES = 64
"""That are read at a time: few enough to be stopped between, many enough to cost nothing."""


def _nobody(_: int) -> None:
    """Takes a count that nobody asked for."""


@attrs.frozen(kw_only=True)
class File:
    """A file to be downloaded.

    Attributes:
        url: Where it is; may hold a login.
        sha256: In hex; empty: not known.
        size: In bytes; 0: not known.
        most: Bytes that it may have; 0: any number.
    """

    url: str = attrs.field(repr=False)
    sha256: str = ""
    size: int = 0
    most: int = 0

    @property
    def shown(self) -> str:
        """Its address, fit to be shown."""
        return plain_address(self.url)

    @property
    def identity(self) -> str:
        """Tells it from other files: its digest, else where it is."""
        return fingerprint(self.sha256 or self.url)

    def too_large(self, count: int) -> str:
        """Why so many bytes are more than it may have; empty: they are not."""
        return f"it has more than {human_bytes(self.most)}" if 0 < self.most < count else ""

    def partial(self, path: Path) -> Partial:
        """What came of it so far, at a path."""
        return Partial(path, self.identity, proved=bool(self.sha256))


@attrs.frozen
class Cut:
    """A file in pieces of one size; the last one may be smaller.

    Attributes:
        total: Bytes of the file.
        size: Bytes of a piece.
        done: Numbers of those that are there.
    """

    total: int
    size: int
    done: set[int] = attrs.field(factory=set)

    @property
    def count(self) -> int:
        """How many pieces there are."""
        return -(-self.total // self.size)

    def span(self, number: int) -> tuple[int, int]:
        """Where a piece begins, and where it ends."""
        start = number * self.size
        return start, min(start + self.size, self.total)


@attrs.frozen
class Partial:
    """What came of a file so far, in a file of its own.

    Beside it lies a note: of which file it is the beginning, and by what the server knows that
    state of it again. Without one, what is there can't be told from anything else and is dropped.

    Attributes:
        path: Where it is.
        identity: Of the file that is wanted.
        proved: Whether its digest is known, so that a beginning of another file is found out.
    """

    path: Path
    identity: str
    proved: bool

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def _noted(self) -> dict[str, Any]:
        try:
            noted = json.loads(self._note.read_text("utf-8"))
        except (OSError, ValueError):
            return {}  # there is none, or one cut short by a crash of the machine
        good = isinstance(noted, dict) and noted.get("of") == self.identity
        return noted if good and (self.proved or noted.get("validator")) else {}

    @property
    def size(self) -> int:
        """Bytes that came so far; 0 if they are of no use."""
        noted = self._noted()
        if not noted or not self.path.exists():
            return 0
        if cut := _cut(noted):
            return sum(end - start for start, end in map(cut.span, cut.done))
        return self.path.stat().st_size

    @property
    def validator(self) -> str:
        """What goes into ``If-Range``; empty: the server gave nothing to go by."""
        return str(self._noted().get("validator", ""))

    @property
    def cut(self) -> Cut | None:
        """How the file is cut, if it is brought in pieces."""
        noted = self._noted()
        return _cut(noted) if noted and self.path.exists() else None

    def start(self, headers: Mapping[str, str]) -> None:
        """Begin anew with what an answer says of the file."""
        self.path.unlink(missing_ok=True)
        tag = headers.get("ETag", "")
        # A weak one does not promise the same bytes (RFC 9110, 13.1.5).
        strong = tag if tag.startswith('"') else headers.get("Last-Modified", "")
        write_atomically(self._note, json.dumps({"of": self.identity, "validator": strong}) + "\n")

    def start_pieces(self, headers: Mapping[str, str], cut: Cut) -> None:
        """Likewise, for pieces that are written where they belong."""
        self.start(headers)
        with self.path.open("wb") as file:
            file.truncate(cut.total)
        self.note_pieces(cut)

    def note_pieces(self, cut: Cut) -> None:
        """Write down which pieces are there."""
        pieces = {"total": cut.total, "size": cut.size, "done": sorted(cut.done)}
        noted = {"of": self.identity, "validator": self.validator, "pieces": pieces}
        write_atomically(self._note, json.dumps(noted) + "\n")

    def forget(self) -> None:
        """Remove it and its note."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def place(self, target: Path) -> None:
        """It is whole: give it its name."""
        self.path.replace(target)
        self._note.unlink(missing_ok=True)

    def open(self, at: int) -> IO[bytes]:
        """To write on from there: what lies behind is cut off."""
        file = self.path.open("r+b" if at else "wb", buffering=0)
        file.seek(at)
        file.truncate()
        return file


def _cut(noted: Mapping[str, Any]) -> Cut | None:
    pieces = noted.get("pieces")
    if not isinstance(pieces, dict):
        return None
    return Cut(pieces["total"], pieces["size"], set(pieces["done"]))


async def hash_of(path: Path, heard: Callable[[int], None] = _nobody) -> hashlib._Hash:
    """A file's SHA-256, to be gone on with; the file is read beside the event loop.

    Args:
        path: The file.
        heard: Is told how many bytes were read so far, now and then.
    """
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while count := await asyncio.to_thread(_read_into, file, digest):
            done += count
            heard(done)
    return digest


def _read_into(file: IO[bytes], digest: hashlib._Hash) -> int:
    """Read on for a while; how many bytes it was."""
    done = 0
    for _ in range(_PIECES):
        piece = file.read(_PIECE)
        if not piece:
            break
        digest.update(piece)
        done += len(piece)
    return done
