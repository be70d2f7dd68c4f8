"""Running a program as part of an installation, and ending what an earlier run left behind."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
import os
import re
import secrets
import signal
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

from machine_lifecycle.installers.errors import CommandFailed, CommandTimeout, ProgramMissing
from machine_lifecycle.installers.space import disk_full, places
from machine_lifecycle.model.installing import CommandResult
from machine_lifecycle.model.redaction import MASK, without_credentials

__all__ = ["CommandRunner", "Journal", "Redactor"]

_TAIL = 40
"""Last lines of a program that its error tells."""
_TAIL_LINE = 1 << 16
"""Letters of such a line at most."""
_OUTPUT = 1 << 20
"""Letters of a program's output that are kept in memory: the last ones. A line without an end is
cut there, too. The log has all of it."""
_LINE = 300
"""Letters of a line that are reported."""
_MARK = "MACHINE_INSTALLATION"
"""The variable by which the programs of an installation are found again."""
_ROUNDS = 20
"""Looks for such programs, since one may start another between two."""
_SHORT = 3
_WORDS = frozenset({"true", "false", "none", "null"})
"""Values of that many letters, and these words, are masked nowhere: they are no secrets, and stand
in every line."""
_GRACE = 3.0
"""Seconds between asking a program to end and killing it."""


class Redactor:
    """Masks secrets in text: given values, and credentials in URLs."""

    def __init__(self, values: Collection[str] = ()) -> None:
        kept = (one for one in values if len(one) > _SHORT and one.lower() not in _WORDS)
        self._values = sorted(kept, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        for value in self._values:
            text = text.replace(value, MASK)
        return without_credentials(text)


class Journal:
    """What is going on in an installation, line by line, so that a kill leaves a trace.

    It lives in the runtime folder: what runs on another machine is not ours to end.

    Attributes:
        mark: Of all programs that the installation runs.
        inherited: Descriptors that they get, such as that of a lock which they are to keep.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.mark: str = secrets.token_hex(8)
        self.inherited: tuple[int, ...] = ()

    def write(self, event: str, **facts: object) -> None:
        """Add a line; no kill of this process loses it any more."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"event": event, "at": time.time(), **facts}) + "\n"
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()

    def _entries(self) -> list[dict[str, object]]:
        if not self._path.exists():
            return []
        found = []
        for line in self._path.read_text("utf-8", "replace").splitlines():
            # The last line may be cut short by a kill; what it would have said is not known.
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [entry for entry in found if isinstance(entry, dict)]

    def unfinished(self) -> tuple[str, ...]:
        """Ids of steps that began and did not end, in order."""
        began: dict[str, None] = {}
        for entry in self._entries():
            step = str(entry.get("step", ""))
            if entry.get("event") == "begin":
                began[step] = None
            elif entry.get("event") == "end":
                began.pop(step, None)
        return tuple(began)

    def start(self) -> None:
        """Begin anew: kill programs that a killed run left running, then draw a mark of our own.

        Each program of an installation carries the mark in its environment, and so does what it
        starts. A process id could be written down only after the start, when a kill may have come.
        """
        # What a step started has ended before it: without an unfinished one, there is none.
        if self.unfinished():
            for entry in self._entries():
                if entry.get("event") == "run":
                    _end_marked(str(entry.get("mark", "")))
        self._path.unlink(missing_ok=True)
        self.write("run", mark=self.mark)


def _end_marked(mark: str) -> None:
    for _ in range(_ROUNDS):  # one of them may have started another meanwhile
        found = [one.pid for one in psutil.process_iter() if mark and _mark_of(one) == mark]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                _signal_group(os.getpgid(pid), signal.SIGKILL)
        if not found:
            return


def _mark_of(process: psutil.Process) -> str:
    try:
        return str(process.environ().get(_MARK, ""))
    except psutil.Error:  # it has ended, or is somebody else's
        return ""


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


class CommandRunner:
    """Runs programs of one step: a ``RunCommand`` whose output goes to the step's log."""

    def __init__(
        self, *, log: Path, journal: Journal, redact: Redactor, report: Callable[[str], None]
    ) -> None:
        self._log = log
        self._journal = journal
        self._redact = redact
        self._report = report

    async def __call__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the child's tree is ended at the limit
        check: bool = True,
    ) -> CommandResult:
        """Run a program to its end, in a session of its own, without a terminal or a shell."""
        began = time.monotonic()
        self._log.parent.mkdir(parents=True, exist_ok=True)
        words = tuple(self._redact(word) for word in argv)
        tail: deque[str] = deque(maxlen=_TAIL)
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(words)}\n")
            log.flush()
            process = await self._spawn(argv, env, cwd)
            try:
                async with asyncio.timeout(timeout):
                    output = await self._follow(process, log, tail)
            except TimeoutError as error:
                raise CommandTimeout(
                    argv=words,
                    status=-signal.SIGTERM,
                    log=self._log,
                    limit=timeout or 0.0,
                    context=tuple(tail),
                ) from error
            finally:
                await asyncio.shield(_end(process))
        status = process.returncode or 0
        if status and (full := disk_full(tuple(tail), self._folders(argv, env, cwd))):
            raise full
        if check and status:
            raise CommandFailed(argv=words, status=status, log=self._log, context=tuple(tail))
        seconds = time.monotonic() - began
        return CommandResult(status=status, output=output, tail=tuple(tail), seconds=seconds)

    def _folders(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: Path | None
    ) -> tuple[Path, ...]:
        """Where the program may have written."""
        named = (Path(word) for word in argv if word.startswith("/"))
        return (cwd or self._log.parent, self._log.parent, *named, *places(env))

    async def _spawn(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: Path | None
    ) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**env, _MARK: self._journal.mark},
                cwd=cwd,
                start_new_session=True,
                pass_fds=self._journal.inherited,
                limit=_OUTPUT,
            )
        except (FileNotFoundError, PermissionError) as error:
            raise ProgramMissing(program=str(argv[0])) from error

    async def _follow(
        self, process: asyncio.subprocess.Process, log: IO[str], tail: deque[str]
    ) -> str:
        output = _LastLines()

        async def read(stream: asyncio.StreamReader, *, keep: bool) -> None:
            # What comes may end in the middle of a letter.
            decoder, rest = codecs.getincrementaldecoder("utf-8")("replace"), ""
            while data := await stream.read(1 << 16):
                *lines, rest = re.split(r"[\r\n]+", rest + decoder.decode(data))
                for line in lines:
                    take(line, keep=keep)
                if len(rest) > _OUTPUT:
                    take(rest, keep=keep)
                    rest = ""
            take(rest + decoder.decode(b"", final=True), keep=keep)

        def take(line: str, *, keep: bool) -> None:
            if keep:
                output.add(line)
            if line.strip():
                shown = self._redact(line)
                tail.append(shown[:_TAIL_LINE])
                log.write(shown + "\n")
                log.flush()
                self._report(shown[:_LINE])

        if process.stdout is None or process.stderr is None:  # both were asked for
            raise AssertionError
        async with asyncio.TaskGroup() as group:
            group.create_task(read(process.stdout, keep=True))
            group.create_task(read(process.stderr, keep=False))
            await process.wait()
            # A background process that it left would hold the pipes open.
            _signal_group(process.pid, signal.SIGKILL)
        return output.text()


class _LastLines:
    """The last ``_OUTPUT`` letters of what a program writes, however much that is."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._size = 0

    def add(self, line: str) -> None:
        self._lines.append(line)
        self._size += len(line) + 1
        while self._size - len(self._lines[0]) - 1 > _OUTPUT:
            self._size -= len(self._lines.popleft()) + 1

    def text(self) -> str:
        return "\n".join(self._lines)[-_OUTPUT:]


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the program and all that it started in its session."""
    if process.returncode is None:
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _GRACE)
    # The leader is gone; what it left in its group would hold files and pipes open.
    _signal_group(process.pid, signal.SIGKILL)
    await process.wait()
