"""When which part of a log was written.

Processes write their logs themselves, so nobody sees the single lines. What is known is how long a
log was at some moments: when its process was started, when somebody looked at its size. Those are
kept beside it, in ``NAME.log.marks``: one ``offset seconds`` a line. The time of a line between
two marks is reckoned from its place between them.
"""

from __future__ import annotations

import bisect
import os
from pathlib import Path

import attrs

__all__ = ["Marks", "marks_path", "note", "read_marks", "write_marks"]

_SUFFIX = ".marks"
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
_MOST = 20_000
"""Marks that are kept of one file: at one every 5 s, a day of them. Beyond that, every second one
of the older half is left out."""


@attrs.frozen
class Marks:
    """Moments of one log file, oldest first.

    Attributes:
        offsets: Length of the file, in bytes, at
        times: these times, wall-clock seconds.
    """

    offsets: tuple[int, ...] = ()
    times: tuple[float, ...] = ()

    def offset_at(self, seconds: float) -> int:
        """Where to read from for all that was written since then: not later than it, and not
        earlier by more than the time between two marks.
        """
        index = bisect.bisect_right(self.times, seconds)
        return self.offsets[index - 1] if index else 0

    def time_of(self, offset: int, end: int, at_end: float) -> float:
        """About when the byte at *offset* was written.

        Args:
            offset: Place in the file.
            end: Length of the file, and
            at_end: when it had that, for what is behind the last mark.
        """
        index = bisect.bisect_right(self.offsets, offset)
        low, begun = (self.offsets[index - 1], self.times[index - 1]) if index else (0, 0.0)
        high, ended = (
            (self.offsets[index], self.times[index]) if index < len(self.offsets) else (end, at_end)
        )
        if not index or high <= low or ended <= begun:
            return ended if not index else begun
        return begun + (ended - begun) * (offset - low) / (high - low)

    def before(self, offset: int) -> Marks:
        """Those up to a place, for the part of the file that is put aside."""
        index = bisect.bisect_right(self.offsets, offset)
        return Marks(self.offsets[:index], self.times[:index])

    def after(self, offset: int) -> Marks:
        """Those from a place on, and the last one before it: there the rest begins."""
        index = max(0, bisect.bisect_right(self.offsets, offset) - 1)
        return Marks(self.offsets[index:], self.times[index:])

    def moved(self, by: int) -> Marks:
        """The same for a file that begins *by* bytes later."""
        return Marks(tuple(max(0, offset - by) for offset in self.offsets), self.times)


def marks_path(log: Path) -> Path:
    """The marks of a log file, or of an archive."""
    return log.with_name(f"{log.name}{_SUFFIX}")


def note(log: Path, offset: int, seconds: float) -> None:
    """Remember that the log was so long then.

    Raises:
        OSError: The disk is full.
    """
    handle = os.open(f"{log}{_SUFFIX}", _APPEND, 0o644)  # at each start of a process
    try:
        os.write(handle, f"{offset} {seconds:.3f}\n".encode())
    finally:
        os.close(handle)


def read_marks(log: Path) -> Marks:
    """All marks of a file; none if there are none. A line that a full disk cut short is skipped."""
    try:
        text = marks_path(log).read_text("ascii", "replace")
    except FileNotFoundError:
        return Marks()
    rows: list[tuple[int, float]] = []
    for line in text.splitlines():
        first, _, second = line.partition(" ")
        try:
            row = int(first), float(second)
        except ValueError:
            continue
        if not rows or (row[0] >= rows[-1][0] and row[1] >= rows[-1][1]):  # else the clock jumped
            rows.append(row)
    return Marks(tuple(row[0] for row in rows), tuple(row[1] for row in rows))


def write_marks(log: Path, marks: Marks) -> None:
    """Replace the marks of a file.

    Raises:
        OSError: The disk is full.
    """
    rows = list(zip(marks.offsets, marks.times, strict=True))
    if len(rows) > _MOST:
        half = len(rows) // 2
        rows = rows[:half:2] + rows[half:]
    path = marks_path(log)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text("".join(f"{offset} {at:.3f}\n" for offset, at in rows), "ascii")
    fresh.replace(path)
