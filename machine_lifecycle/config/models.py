"""The list of models: what is downloaded into ComfyUI's folders of models."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from urllib.parse import SplitResult, unquote, urlsplit

import attrs

from machine_lifecycle.config.document import Cursor, read_document
from machine_lifecycle.config.errors import ModelsInvalid, raise_problems

__all__ = ["ModelEntry", "parse_models", "pinned_models", "plain_address"]

_FIELDS = frozenset({"description", "name", "required", "sha256", "size", "target", "url"})
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST = 1 << 50
"""Bytes of one file, a PiB: more is a slip of the pen."""
_NAME_MAX = 200
"""Bytes of a file's name: file systems take 255, and a name of ours beside it is longer."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@attrs.frozen(kw_only=True)
class ModelEntry:
    """One model.

    Attributes:
        target: Its file, below the folder of models: ``checkpoints/sdxl.safetensors``.
        url: Where it is, ``https`` or ``http``; may hold credentials, so never shown.
        sha256: Of the whole file, in hex; empty: not known, whatever comes is taken.
        size: In bytes; 0: not known.
        required: Whether the boot fails without it.
    """

    target: str
    url: str = attrs.field(repr=False)
    sha256: str = ""
    size: int = 0
    required: bool = False

    @property
    def plain_url(self) -> str:
        """The address without login and without what follows ``?``: fit to be shown."""
        return plain_address(self.url)


def plain_address(url: str) -> str:
    """An address without login, query and fragment, where secrets may be."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def parse_models(text: str, environ: Mapping[str, str], source: str) -> tuple[ModelEntry, ...]:
    """Read a list of models: a list, or an object with one under ``models``.

    Raises:
        Problems: Everything wrong in it, each with JSON path, line and column.
    """
    document = read_document(text, environ, source, ModelsInvalid)
    models: list[ModelEntry] = []
    if not document.errors:
        root = document.root
        listed = root.get("models") or root
        seen: dict[str, str] = {}
        for cursor in listed.items() if isinstance(listed.value, list) else _none(listed):
            model = _model(cursor)
            # Files that differ in case alone are one file on many file systems.
            key = model.target.lower()
            if key and key in seen:
                cursor.problem(f"`{model.target}` is the target of {seen[key]} already")
            seen.setdefault(key, cursor.path)
            models.append(model)
    raise_problems(source, document.errors)
    return tuple(models)


def pinned_models(
    text: str, entries: Sequence[ModelEntry], found: Mapping[str, tuple[str, int]]
) -> str:
    """The same list with the digests and sizes that were found; all else is kept as written.

    Args:
        text: A list.
        entries: What it says.
        found: SHA-256 and size (0: not known) by target.
    """
    value = json.loads(text)
    listed = value["models"] if isinstance(value, dict) else value
    for entry, written in zip(entries, listed, strict=True):
        if entry.target in found:
            sha256, size = found[entry.target]
            written.update({"sha256": sha256} | ({"size": size} if size else {}))
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _none(cursor: Cursor) -> tuple[Cursor, ...]:
    cursor.problem("must be a list of models", 'Write `{"models": [{…}, …]}`')
    return ()


def _model(cursor: Cursor) -> ModelEntry:
    if not isinstance(cursor.value, dict):
        cursor.problem("must be an object", "Write `{…}`")
        return ModelEntry(target="", url="")
    for key in sorted(set(cursor.value) - _FIELDS):
        cursor.problem(f"`{key}` is not known", f"Known are {', '.join(sorted(_FIELDS))}")
    sha256 = _digest(cursor)
    url = _url(cursor, sha256)
    size, required = cursor.get("size"), cursor.get("required")
    return ModelEntry(
        target=_target(cursor, url),
        url=url,
        sha256=sha256,
        size=(size.number(1, _MOST) or 0) if size else 0,
        required=required.flag() if required else False,
    )


def _digest(cursor: Cursor) -> str:
    member = cursor.get("sha256")
    text = member.text().lower().removeprefix("sha256:") if member else ""
    if member and not _SHA256.fullmatch(text):
        member.problem("is no SHA-256", "Write its 64 hexadecimal digits")
    return text


def _url(cursor: Cursor, sha256: str) -> str:
    member = cursor.get("url")
    if member is None:
        cursor.problem("has no `url`", 'Write "url": "https://…"')
        return ""
    before = len(cursor.document.errors)
    url = member.name()
    if len(cursor.document.errors) > before:
        return ""
    parts = _split(url)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        member.problem("is no whole http:// or https:// address")
        return ""
    if parts.scheme == "http" and not sha256 and parts.hostname not in _LOOPBACK:
        member.problem(
            f"{plain_address(url)} is not encrypted, so anybody on the way may change what comes",
            "Write https://, or the `sha256` of the file",
        )
    return url


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return None if any(mark.isspace() or mark < " " for mark in url) else parts


def _target(cursor: Cursor, url: str) -> str:
    """As written; a folder (``loras/``) gets the name at the end of the address."""
    member = cursor.get("target")
    if member is None:
        cursor.problem("has no `target`", 'Write "target": "checkpoints/…"')
        return ""
    text = member.name()
    if text.endswith("/"):
        name = unquote(urlsplit(url).path.rpartition("/")[2]) if url else "file"
        if not name or "/" in name:
            member.problem(f"`{text}` is a folder, and the address ends with no name", "Name it")
            return ""
        text += name
    problem = _misplaced(text)
    if text and problem:
        member.problem(f"`{text}` {problem}", "Write folder and file: checkpoints/sdxl.safetensors")
        return ""
    return str(PurePosixPath(text)) if text else ""


def _misplaced(target: str) -> str:
    """Why a target is none; empty if it is one."""
    path = PurePosixPath(target)
    if path.is_absolute() or ".." in path.parts or "\\" in target:
        return "would lie outside the folder of models"
    if any(not mark.isprintable() for mark in target):
        return "holds a character that can't be printed"
    if any(part.startswith((".", "-")) for part in path.parts):
        return "has a part that begins with a dot or a dash"
    if len(path.parts) == 1:
        return "names no folder"
    if any(len(part.encode()) > _NAME_MAX for part in path.parts):
        return f"has a part longer than {_NAME_MAX} bytes"
    return ""
