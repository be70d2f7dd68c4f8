"""A JSON document whose every value knows its place: JSON path, line and column."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import attrs

from machine_lifecycle.config.errors import MappingInvalid, ModelsInvalid, NodesInvalid
from machine_lifecycle.config.expansion import expand

__all__ = ["Cursor", "Document", "child", "read_document"]

_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}:,]|[^\s\[\]{}:,"]+')
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def child(path: str, key: str | int) -> str:
    """The path of a member of the value at *path*."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if _PLAIN.fullmatch(key) else f"{path}[{json.dumps(key)}]"


@attrs.define(kw_only=True)
class Document:
    """A parsed file, and what was found wrong in it so far.

    Attributes:
        source: Name of the file.
        value: The JSON value.
        environ: Variables for ``${VAR}``.
        error: Class of the problems.
        places: Line and column of every value, by JSON path.
        errors: Problems, in the order found.
        warnings: What may not be meant as written.
    """

    source: str
    value: Any
    environ: Mapping[str, str]
    error: type[MappingInvalid | ModelsInvalid | NodesInvalid]
    places: dict[str, tuple[int, int]] = attrs.field(factory=dict)
    errors: list[MappingInvalid | ModelsInvalid | NodesInvalid] = attrs.field(factory=list)
    warnings: list[str] = attrs.field(factory=list)

    def problem(self, path: str, problem: str, hint: str = "") -> None:
        """Note what is wrong at *path*."""
        line, column = self.places.get(path, (0, 0))
        self.errors.append(
            self.error(
                source=self.source,
                path=path,
                line=line,
                column=column,
                problem=problem,
                hint=hint,
            )
        )

    @property
    def root(self) -> Cursor:
        """The outermost value."""
        return Cursor(document=self, path="$", value=self.value)


def read_document(
    text: str,
    environ: Mapping[str, str],
    source: str,
    error: type[MappingInvalid | ModelsInvalid | NodesInvalid],
) -> Document:
    """Parse *text*. A document that is no JSON has one problem and the value ``None``."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as broken:
        document = Document(source=source, value=None, environ=environ, error=error)
        if isinstance(broken, json.JSONDecodeError):
            document.places["$"] = (broken.lineno, broken.colno)
            document.problem("$", f"not JSON: {broken.msg}")
        else:  # a number of thousands of digits, or a thousand lists in each other
            document.places["$"] = (1, 1)
            document.problem("$", f"can't be read: {broken}")
        return document
    document = Document(source=source, value=value, environ=environ, error=error)
    _locate(text, document)
    return document


def _locate(text: str, document: Document) -> None:
    """Fill in the places, and note keys that occur twice in one object (JSON keeps the last)."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    line = 0
    walk = _Walk(document=document)
    for match in _PIECE.finditer(text):
        while line + 1 < len(starts) and starts[line + 1] <= match.start():
            line += 1
        walk.take(match[0], (line + 1, match.start() - starts[line] + 1))


@attrs.define(kw_only=True)
class _Walk:
    """Where a reader of a valid document is, piece by piece."""

    document: Document
    path: str = "$"
    stack: list[tuple[str, int | None]] = attrs.field(factory=list)
    key_next: bool = False

    def take(self, piece: str, place: tuple[int, int]) -> None:
        """Move on by one piece: a bracket, a comma, a colon, a key or a plain value."""
        if piece in "]}":
            self.path, _ = self.stack.pop()
            self.key_next = False
        elif piece == ",":
            parent, position = self.stack[-1]
            self.key_next = position is None
            if position is not None:
                self.stack[-1] = (parent, position + 1)
                self.path = child(parent, position + 1)
        elif self.key_next:
            self.path = child(self.stack[-1][0], json.loads(piece))
            self.key_next = False
            self._key(place)
        elif piece != ":":
            self.document.places.setdefault(self.path, place)
            if piece in "{[":
                self._open(piece)

    def _open(self, piece: str) -> None:
        self.key_next = piece == "{"
        self.stack.append((self.path, None if self.key_next else 0))
        if not self.key_next:
            self.path = child(self.path, 0)

    def _key(self, place: tuple[int, int]) -> None:
        places = self.document.places
        if self.path in places:
            for below in [
                one for one in places if one.startswith((self.path + ".", self.path + "["))
            ]:
                del places[below]
            places[self.path] = place
            self.document.problem(self.path, "this name is used twice", "Keep one of the two")
        places[self.path] = place


@attrs.frozen(kw_only=True)
class Cursor:
    """One value of a document. Reading it notes problems instead of raising."""

    document: Document
    path: str
    value: Any

    def problem(self, problem: str, hint: str = "") -> None:
        """Note what is wrong here."""
        self.document.problem(self.path, problem, hint)

    def get(self, key: str) -> Cursor | None:
        """A member, or ``None`` if it is absent or null."""
        if not isinstance(self.value, dict) or self.value.get(key) is None:
            return None
        return Cursor(document=self.document, path=child(self.path, key), value=self.value[key])

    def members(self) -> tuple[tuple[str, Cursor], ...]:
        """The members of an object."""
        if not isinstance(self.value, dict):
            self.problem("must be an object", "Write `{…}`")
            return ()
        found = ((key, self.get(key)) for key in self.value)
        return tuple((key, member) for key, member in found if member is not None)

    def items(self) -> tuple[Cursor, ...]:
        """The items of a list; a single text or object counts as a list of one."""
        if isinstance(self.value, str | dict):
            return (self,)
        if not isinstance(self.value, list):
            self.problem("must be a list", "Write `[…]`")
            return ()
        return tuple(
            Cursor(document=self.document, path=child(self.path, index), value=item)
            for index, item in enumerate(self.value)
        )

    def text(self) -> str:
        """A text, expanded; numbers and flags as they are written."""
        if isinstance(self.value, bool):
            return "true" if self.value else "false"
        if isinstance(self.value, int | float):
            return str(self.value)
        if not isinstance(self.value, str):
            self.problem("must be a text", 'Write `"…"`')
            return ""
        expansion = expand(self.value, self.document.environ)
        for problem in expansion.problems:
            self.problem(problem, "Set the variable, or write a default: ${NAME:-default}")
        return expansion.text.strip()

    def name(self) -> str:
        """A text that is not empty."""
        before = len(self.document.errors)
        text = self.text()
        if not text and len(self.document.errors) == before:
            self.problem("is empty")
        return text

    def number(self, low: int, high: int) -> int | None:
        """A whole number from *low* to *high*, written as one or as a text."""
        before = len(self.document.errors)
        text = self.text()
        if len(self.document.errors) > before:
            return None
        if not (text.isascii() and text.lstrip("-").isdigit()) or isinstance(self.value, bool):
            self.problem(f"`{text}` is not a whole number")
            return None
        if not low <= int(text) <= high:
            self.problem(f"{text} is not within {low} to {high}")
            return None
        return int(text)

    def flag(self) -> bool:
        """True or false, written as one or as a text."""
        if isinstance(self.value, bool):
            return self.value
        text = self.text().lower()
        if text not in {"true", "false"}:
            self.problem("must be true or false")
        return text == "true"

    def texts(self) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(item.name() for item in self.items())

    def table(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """An object of texts (lists and objects in it as JSON), and the variables it lacks.

        Whether a variable that is not set matters depends on whether the service is asked for, so
        it is no problem yet.
        """
        texts: dict[str, str] = {}
        missing: list[str] = []
        for key, member in self.members():
            if isinstance(member.value, list | dict):
                texts[key] = json.dumps(member.value)
            elif isinstance(member.value, str):
                expansion = expand(member.value, self.document.environ)
                if expansion.malformed:
                    member.text()
                missing += expansion.missing
                texts[key] = expansion.text
            else:
                texts[key] = member.text()
        return texts, tuple(dict.fromkeys(missing))

    def warn_of_unknown(self, known: frozenset[str]) -> None:
        """Note fields that nobody reads."""
        if isinstance(self.value, dict):
            for key in self.value:
                if key not in known:
                    line = self.document.places.get(child(self.path, key), (0, 0))[0]
                    self.document.warnings.append(
                        f"{self.document.source}:{line}: {child(self.path, key)} is not read"
                    )
