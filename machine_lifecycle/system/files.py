"""Files that are there whole or not at all; files that people name."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from machine_lifecycle.system.errors import FileNotRead, FileNotWritten

__all__ = ["asked_for", "read_named", "replacing", "write_atomically"]


def write_atomically(path: Path, text: str, mode: int = 0o644, *, durable: bool = True) -> None:
    """Write *text* so that a reader sees the old file or the new one, after a crash too.

    Args:
        path: The file; its folder is made if it is not there.
        text: Its contents, written as UTF-8.
        mode: Permissions of the file. It is never readable by more than that, not for a moment.
        durable: Whether that holds for a crash of the whole machine, too.

    Raises:
        OSError: The folder can't be written to, or the disk is full.
    """
    with replacing(path, mode, durable=durable) as file:
        file.write(text.encode())


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o644, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """The same for what is written by and by. If that fails, the old file stays as it is.

    Raises:
        OSError: The folder can't be written to, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # One fixed name, so that what a killed writer left is used up by the next one.
    partial = path.with_name(f".{path.name}.partial")
    with os.fdopen(_alone(partial), "wb") as file:
        try:
            os.fchmod(file.fileno(), mode)
            file.truncate()
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def asked_for(path: Path) -> Iterator[None]:
    """Around the writing of a file that a person asked for.

    Raises:
        FileNotWritten: The system refuses it.
    """
    try:
        yield
    except OSError as error:
        raise FileNotWritten(path=path, reason=error.strerror or str(error)) from error


def read_named(path: Path, variable: str = "") -> str:
    """The text of a file that a person named.

    Args:
        path: The file.
        variable: The setting that names it, if one does.

    Raises:
        FileNotRead: It is not there, is not to be read, or is no text.
    """
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise FileNotRead(path=path, variable=variable, reason="it is no UTF-8 text") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileNotRead(path=path, variable=variable, reason=reason) from error


def _alone(partial: Path) -> int:
    """Open it, and hold it against whoever writes the same file at the same time."""
    while True:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            with contextlib.suppress(OSError):  # some network folders have no locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            ours = os.fstat(descriptor)
            if ours.st_nlink and os.path.samestat(ours, partial.stat()):
                return descriptor
        except FileNotFoundError:
            pass  # the writer before us has renamed it: open a new one
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
