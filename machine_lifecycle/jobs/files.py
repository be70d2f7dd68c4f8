"""Payloads from files, and outputs into files."""

from __future__ import annotations

import json
import mimetypes
import shlex
import sys
from pathlib import Path
from typing import Any

from machine_lifecycle.errors import our_python
from machine_lifecycle.jobs.errors import PayloadUnusable
from machine_lifecycle.jobs.result_errors import OutputNotSaved
from machine_lifecycle.model.jobs import Output, Preview

__all__ = ["bare_name", "is_graph", "read_payload", "save", "save_preview"]

_STDIN = "-"
_LONGEST_NAME = 200
"""Bytes of a file's name, of which file systems take 255; a number may follow."""


def read_payload(path: Path) -> dict[str, Any]:
    """What a file asks to be done: a graph is put under ``workflow``, all else is as it is.

    Args:
        path: The file; ``-`` is what comes over stdin.

    Raises:
        PayloadUnusable: It holds no JSON object, or a graph in the form of the editor.
    """
    try:
        value = json.loads(_content(path))
    except OSError as error:
        reason = f"can't be read: {error.strerror}"
        look = f"ls -l {shlex.quote(str(path.parent))}"
        raise PayloadUnusable(path=str(path), reason=reason, look=look) from error
    except ValueError as error:
        reason = f"is not JSON: {error}"
        look = "" if str(path) == _STDIN else our_python("-m", "json.tool", str(path))
        raise PayloadUnusable(path=str(path), reason=reason, look=look) from error
    except RecursionError as error:
        raise PayloadUnusable(path=str(path), reason="is nested too deep") from error
    if not isinstance(value, dict):
        raise PayloadUnusable(path=str(path), reason="holds no JSON object")
    if isinstance(value.get("nodes"), list) and "links" in value:
        raise PayloadUnusable(path=str(path), reason="is a workflow in the editor's own form")
    return {"workflow": value} if is_graph(value) else value


def _content(path: Path) -> bytes:
    """In any of JSON's encodings: some editors write UTF-16, or a mark before UTF-8."""
    return sys.stdin.buffer.read() if str(path) == _STDIN else path.read_bytes()


def is_graph(value: dict[str, Any]) -> bool:
    """Whether this is a graph in ComfyUI's API form: node ids to nodes with a class."""
    return bool(value) and all(
        isinstance(node, dict) and isinstance(node.get("class_type"), str)
        for node in value.values()
    )


def bare_name(name: str) -> str:
    """The last part of a name that somebody else gave, whatever system it was made on, as far as a
    file may have it here.
    """
    text = name.encode(errors="replace").decode().replace("\\", "/").replace("\0", "_")
    last = Path(text).name or "output"
    return last.encode()[-_LONGEST_NAME:].decode(errors="ignore")


def save_preview(preview: Preview, folder: Path, job_id: str) -> Path:
    """Write a preview under the job's id and a number."""
    name = f"{bare_name(job_id)}{mimetypes.guess_extension(preview.mime) or '.bin'}"
    return save(
        Output(name=name, kind="image", mime=preview.mime, data=preview.data), folder, job_id
    )


def save(output: Output, folder: Path, job_id: str) -> Path:
    """Write an output's bytes under its own name, or under a numbered one if that is taken.

    Nothing is overwritten, and nothing is written outside of *folder*.

    Raises:
        OutputNotSaved: It can't be written there.
    """
    try:
        return _save(output, folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputNotSaved(job_id=job_id, folder=str(folder), reason=reason) from error


def _save(output: Output, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    name = bare_name(output.name)
    stem, suffix = Path(name).stem, Path(name).suffix
    number = 0
    while True:
        target = folder / (f"{stem}-{number}{suffix}" if number else name)
        try:
            file = target.open("xb")
        except FileExistsError:
            number += 1
            continue
        try:
            with file:
                file.write(output.data)
        except OSError:
            target.unlink()  # a part of a picture is none
            raise
        return target
