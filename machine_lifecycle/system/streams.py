"""The standard streams of a program: what can't be written to stdout is an error of its own.

Each print is written at once, as it is: nothing waits in a buffer that may fail when the program
has ended. What can't be written to stderr is dropped: there is nowhere left to tell it.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from machine_lifecycle.system.errors import OutputNotWritten

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["ReaderGone", "open_streams"]

_STDIN, _STDOUT, _STDERR = range(3)


class ReaderGone(Exception):
    """Whoever read our output has gone: ``| head`` has what it wants."""


def open_streams() -> None:
    """Have all three standard streams, where we were started with one closed, and ours for output.

    The next file or socket to be opened would get the number of a closed one otherwise, and what is
    printed would go into it.
    """
    number = os.open(os.devnull, os.O_RDWR)
    while number <= _STDERR:
        os.set_inheritable(number, True)  # noqa: FBT003 - has no name
        number = os.open(os.devnull, os.O_RDWR)
    os.close(number)
    sys.stdin = sys.stdin or os.fdopen(_STDIN, encoding="utf-8", closefd=False)
    sys.stdout = _text(_Output(_STDOUT, "wb", closefd=False), sys.stdout)
    sys.stderr = _text(_Complaints(_STDERR, "wb", closefd=False), sys.stderr)


def _text(stream: io.FileIO, before: TextIO | None) -> TextIO:
    """Text for it, in the encoding that Python chose; what has none is shown as its number: half a
    character that others wrote, bytes of a path.
    """
    encoding = before.encoding if before else "utf-8"
    return io.TextIOWrapper(
        stream,  # as Python itself does it where output is not buffered
        encoding=encoding,
        errors="backslashreplace",
        write_through=True,
    )


class _Output(io.FileIO):
    """Stdout."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of it.

        Raises:
            ReaderGone: Nobody reads it.
            OutputNotWritten: The system refuses it.
        """
        whole = memoryview(data).cast("B")
        rest = whole
        try:
            while rest:
                rest = rest[os.write(self.fileno(), rest) :]
        except BrokenPipeError as error:
            raise ReaderGone from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputNotWritten(
                reason=reason, text=bytes(whole).decode("utf-8", "replace")
            ) from error
        return len(whole)


class _Complaints(io.FileIO):
    """Stderr."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write what can be written of it."""
        with contextlib.suppress(OSError):
            super().write(data)
        return memoryview(data).nbytes
