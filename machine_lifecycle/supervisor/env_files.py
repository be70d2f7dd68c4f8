"""Variables that a process gets from files.

The files are read at each start, so a changed value holds from the next one on; the values go to
the process alone, never to a plan, a journal, a log or a page.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

from machine_lifecycle.model.processes import Command
from machine_lifecycle.supervisor.errors import EnvFilesUnusable

__all__ = ["check_env_files", "fingerprint", "read_env_files"]


def read_env_files(process: str, command: Command) -> dict[str, str]:
    """What the files of a command say, the last one counting.

    The form is that of ``.env`` files: comments, ``export``, quotes; nothing is expanded.

    Raises:
        EnvFilesUnusable: With everything that is wrong with any of them.
    """
    values: dict[str, str] = {}
    problems: list[str] = []
    for path, required in _paths(command):
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            if required:
                problems.append(f"{path} is not there")
            continue
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{path} can't be read: {error}")
            continue
        problems += _add(path, text, values)
    if problems:
        raise EnvFilesUnusable(process=process, problems=tuple(problems))
    return values


def check_env_files(process: str, command: Command) -> None:
    """Raise if a process can't have its variables.

    Raises:
        EnvFilesUnusable: With everything that is wrong.
    """
    read_env_files(process, command)


def fingerprint(command: Command) -> str:
    """Changes when a file does; empty if there are none."""
    if not command.env_files:
        return ""
    digest = hashlib.sha256()
    for path, _ in _paths(command):
        try:
            digest.update(path.read_bytes())
        except OSError:
            digest.update(b"none")
        digest.update(b"\0")
    return digest.hexdigest()


def _paths(command: Command) -> Iterator[tuple[Path, bool]]:
    for file in command.env_files:
        yield (command.cwd or Path.cwd()) / file.path, file.required


def _add(path: Path, text: str, values: dict[str, str]) -> Iterator[str]:
    """Add what *text* says; the problems, without the values: they may be secret."""
    from dotenv.parser import parse_stream  # noqa: PLC0415 - few processes have such files

    for binding in parse_stream(io.StringIO(text)):
        if binding.error or (binding.key and binding.value is None):
            lead = len(binding.original.string) - len(binding.original.string.lstrip())
            line = binding.original.line + binding.original.string[:lead].count("\n")
            yield f"{path}, line {line}, is not `NAME=value`"
        elif binding.key and binding.value is not None:
            if "\0" in binding.value:
                yield f"{path}: the value of {binding.key} holds a NUL"
            values[binding.key] = binding.value
