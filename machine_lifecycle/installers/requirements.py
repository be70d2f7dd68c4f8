"""Requirement files of node packs, read as data: each line is admitted, or refused with a reason.

Nothing is run, fetched or resolved here. A line that one pack got wrong costs that line, not the
pack, and not the sixty others that share the environment. The format is pip's (Requirements File
Format) around requirements of the dependency specifiers that PyPA standardised (PEP 508).
"""

from __future__ import annotations

import codecs
import posixpath
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from urllib.parse import urlsplit

import attrs
from packaging.markers import UndefinedComparison, UndefinedEnvironmentName, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from machine_lifecycle.installers.package_names import module_of
from machine_lifecycle.model.redaction import (
    without_credentials,
    without_logins,
    without_query_secrets,
)

__all__ = [
    "Admitted",
    "Place",
    "Reading",
    "Refused",
    "Why",
    "decode",
    "environment_of",
    "read_requirements",
]

_DEPTH = 8
"""Files that may include each other in a row; real packs use one or two."""
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_HASH = re.compile(r"\s--hash[=\s]\S+")
_OPTION_AFTER = re.compile(r"\s(--?[A-Za-z][\w-]*)")
_VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
_INCLUDE = re.compile(r"^(?:-r|--requirement)(?:\s+|=|(?=[^\s=-]))(.+)$")
_CONSTRAIN = re.compile(r"^(?:-c|--constraint)(?:\s+|=|(?=[^\s=-]))(.+)$")
_VCS = re.compile(r"^(?:(?P<name>[A-Za-z0-9][\w.-]*(?:\[[^\]]*\])?)\s*@\s*)?(?P<url>git\+\S+)$")
_EGG = re.compile(r"(?:^|&)egg=([A-Za-z0-9][\w.-]*)")
_BARE = re.compile(r"^(?:https?|ftp|file)://", re.IGNORECASE)
_WHEEL = re.compile(r"^(?P<name>[A-Za-z0-9][\w.]*)-[^-]+(?:-[^-]+)?-[^-]+-[^-]+-[^-]+\.whl$")
_PATH = re.compile(r"^(?:\.{0,2}[/\\]|[A-Za-z]:[\\/]|~)|\.(?:whl|zip|tar\.gz|tgz)$")
_INSTALLERS = frozenset({"pip", "setuptools", "wheel", "uv"})
_OPTIONS = {
    "-e": "an editable install runs the code of a folder",
    "--editable": "an editable install runs the code of a folder",
    "-i": "where packages come from is said by the machine's settings",
    "--index-url": "where packages come from is said by the machine's settings",
    "--extra-index-url": "where packages come from is said by the machine's settings",
    "--pypi-url": "where packages come from is said by the machine's settings",
    "-f": "where packages come from is said by the machine's settings",
    "--find-links": "where packages come from is said by the machine's settings",
    "--no-index": "where packages come from is said by the machine's settings",
    "--trusted-host": "it would turn off the check of a server's certificate",
    "--pre": "it would take unfinished versions of every package",
    "--global-option": "options of a build are not passed on",
    "--config-settings": "options of a build are not passed on",
}


class Why(Enum):
    """Why a line is refused; the words are for people, this is to decide and count by."""

    MALFORMED = "malformed"
    MODULE = "module-not-package"
    OPTION = "option"
    LOCAL = "local-path"
    INSECURE = "insecure-address"
    VARIABLE = "variable"
    INCLUDE = "include"
    INSTALLER = "installer"
    LOGIN = "login"
    UNKNOWN = "not-on-index"
    """Found while solving: no index that is asked has a package of this name."""


@attrs.frozen(kw_only=True)
class Place:
    """Where a line is.

    Attributes:
        file: Path inside the pack.
        line: Number of its first line, from 1.
    """

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@attrs.frozen(kw_only=True)
class Admitted:
    """A line that is asked for.

    Attributes:
        place: Where it is.
        text: As the solver is given it.
        name: Canonical name of the package; empty for a repository that does not say it.
        vcs: Address of a git repository, without ``git+``, revision and fragment; else empty.
        revision: Branch, tag or commit of that; empty: its default branch.
        here: Whether its marker holds in the environment that was read for.
    """

    place: Place
    text: str
    name: str
    vcs: str = ""
    revision: str = ""
    here: bool = True

    def pinned(self, commit: str) -> str:
        """The text with a repository at *commit*, in place of a branch that moves."""
        head, mark, rest = self.text.partition("git+")
        old = rest.split(" ;")[0].strip()
        parts = urlsplit(old)
        fragment = "&".join(one for one in parts.fragment.split("&") if one[:4] != "egg=")
        path = urlsplit(self.vcs).path
        new = parts._replace(path=f"{path}@{commit}", fragment=fragment, query="").geturl()
        named = head or (f"{self.name} @ " if self.name else "")
        return f"{named}{mark}{new}{rest[len(old) :]}"


@attrs.frozen(kw_only=True)
class Refused:
    """A line that is left out.

    Attributes:
        place: Where it is.
        text: As written.
        why: The kind.
        reason: For people, no sentence.
    """

    place: Place
    text: str
    why: Why
    reason: str


@attrs.frozen(kw_only=True)
class Reading:
    """All lines of a pack, each in exactly one of the three, in the order they were met."""

    admitted: tuple[Admitted, ...] = ()
    constraints: tuple[Admitted, ...] = ()
    refused: tuple[Refused, ...] = ()

    @property
    def wanted(self) -> tuple[Admitted, ...]:
        """Those admitted whose markers hold here."""
        return tuple(line for line in self.admitted if line.here)


def environment_of(python: str) -> dict[str, str]:
    """The values of markers for a CPython of version *python* (``3.12.4``) on this system."""
    short = ".".join(python.split(".")[:2])
    found = {name: str(value) for name, value in default_environment().items()}
    changed = {"python_version": short, "python_full_version": python}
    return found | changed | {"implementation_version": python, "extra": ""}


def decode(data: bytes) -> str:
    """The text of a requirement file: UTF-8, or UTF-16 with its mark, as editors on Windows save.

    Bytes that are neither become marks that no requirement can hold, so that their line is refused.
    """
    for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        if data.startswith(mark):
            return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "replace")


def read_requirements(
    read: Callable[[str], str | None],
    start: str = "requirements.txt",
    environment: Mapping[str, str] | None = None,
) -> Reading:
    """Read a pack's requirement file and what it includes.

    Args:
        read: Gives the text of a file by its path inside the pack; ``None`` if it is not there.
        start: The first file; a pack without it requires nothing.
        environment: Values of markers; default: those of the running Python.
    """
    reader = _Reader(read, environment or environment_of(sys.version.split()[0]))
    text = read(start)
    if text is not None:
        reader.file(start, text, (start,))
    return Reading(
        admitted=tuple(reader.admitted),
        constraints=tuple(reader.constraints),
        refused=tuple(reader.refused),
    )


class _Reader:
    def __init__(self, read: Callable[[str], str | None], environment: Mapping[str, str]) -> None:
        self._read = read
        self._environment = dict(environment)
        self.admitted: list[Admitted] = []
        self.constraints: list[Admitted] = []
        self.refused: list[Refused] = []

    def file(self, name: str, text: str, chain: tuple[str, ...], *, bounds: bool = False) -> None:
        """Read one file; *bounds*: its lines bound versions and ask for nothing."""
        for number, line in _lines(text):
            place = Place(file=name, line=number)
            if found := _INCLUDE.match(line):
                self._include(place, line, found[1], chain, bounds=bounds)
            elif found := _CONSTRAIN.match(line):
                self._include(place, line, found[1], chain, bounds=True)
            else:
                read = self._line(place, line)
                if isinstance(read, Refused):
                    self.refused.append(read)
                else:
                    (self.constraints if bounds else self.admitted).append(read)

    def _include(
        self, place: Place, line: str, target: str, chain: tuple[str, ...], *, bounds: bool
    ) -> None:
        target = target.strip().strip("\"'")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(place.file), target))
        inside = not (path.startswith(("/", "../")) or path == ".." or "\\" in target)
        if "://" in target or not inside:
            problem = "it includes a file from outside the pack"
        elif path in chain:
            problem = "it includes a file that includes it"
        elif len(chain) >= _DEPTH:
            problem = f"more than {_DEPTH} files include each other"
        elif (text := self._read(path)) is None:
            problem = f"the pack has no {path}"
        else:
            self.file(path, text, (*chain, path), bounds=bounds)
            return
        self.refused.append(_refused(place, line, Why.INCLUDE, problem))

    def _line(self, place: Place, line: str) -> Admitted | Refused:
        text = _HASH.sub("", line)  # the lock has hashes of its own
        kind, reason = _refusal(text)
        if kind is None:
            repository = _VCS.match(text.partition(" ;")[0])
            try:
                return (self._repository if repository else self._requirement)(place, text)
            except _Refusal as error:
                kind, reason = error.why, str(error)
            except ValueError as error:  # InvalidRequirement, and addresses that are none
                kind, reason = Why.MALFORMED, _first_line(error)
        return _refused(place, line, kind, reason)

    def _repository(self, place: Place, text: str) -> Admitted:
        head, _, marker = text.partition(" ;")
        found = _VCS.match(head)
        if found is None:  # can't be: the caller matched the same pattern
            raise AssertionError
        named, url = found["name"] or "", found["url"]
        parts = urlsplit(url.removeprefix("git+"))
        if "://" not in url:
            raise _Refusal(Why.MALFORMED, "it names no repository")
        if parts.scheme not in {"https", "ssh"}:
            raise _Refusal(Why.INSECURE, f"a repository over {parts.scheme}")
        if not parts.netloc or not parts.path.strip("/"):
            raise _Refusal(Why.MALFORMED, "it names no repository")
        path, at, revision = parts.path.rpartition("@")
        egg = _EGG.search(parts.fragment)
        named = named or (egg[1] if egg else "")
        here = not marker.strip() or self._holds(f"{named or 'x'};{marker}")
        return Admitted(
            place=place,
            text=text,
            name=canonicalize_name(named.partition("[")[0]) if named else "",
            vcs=parts._replace(path=path if at else parts.path, fragment="", query="").geturl(),
            revision=revision if at else "",
            here=here,
        )

    def _requirement(self, place: Place, text: str) -> Admitted:
        if _BARE.match(text):
            text = _named(text)
        wanted = Requirement(text)
        name = canonicalize_name(wanted.name)
        if wanted.url is not None:
            scheme = urlsplit(wanted.url).scheme
            if scheme in {"", "file"}:
                raise _Refusal(Why.LOCAL, "a path on somebody's disk")
            if scheme != "https":
                raise _Refusal(Why.INSECURE, f"a file over {scheme}")
        if name in _INSTALLERS:
            raise _Refusal(Why.INSTALLER, f"{name} is what installs the others, and stays as it is")
        if name.replace("-", "_") in sys.stdlib_module_names:
            raise _Refusal(Why.MODULE, f"{wanted.name} is a part of Python")
        if package := module_of(wanted.name):
            raise _Refusal(Why.MODULE, f"{wanted.name} is a module of the package {package}")
        return Admitted(place=place, text=str(wanted), name=name, here=self._holds(text))

    def _holds(self, text: str) -> bool:
        marker = Requirement(text).marker
        try:
            return marker is None or marker.evaluate(self._environment)
        except (UndefinedComparison, UndefinedEnvironmentName) as error:
            raise _Refusal(Why.MALFORMED, _first_line(error)) from error


def _refused(place: Place, line: str, why: Why, reason: str) -> Refused:
    """A lock is for others to read: it shows no credentials, of no line."""
    return Refused(
        place=place, text=without_credentials(line), why=why, reason=without_credentials(reason)
    )


class _Refusal(Exception):
    def __init__(self, why: Why, reason: str) -> None:
        super().__init__(reason)
        self.why = why


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Logical lines with the number of their first line, without comments and empty ones."""
    joined, first = "", 0
    for number, raw in enumerate([*text.splitlines(), ""], 1):
        first = first or number
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            joined += raw[:-1].rstrip() + " "
            continue
        line = _COMMENT.sub("", joined + raw).strip()
        if line:
            yield first, line
        joined, first = "", 0


def _refusal(text: str) -> tuple[Why | None, str]:
    """What shows before a line is parsed."""
    if text.startswith("-"):
        option = re.split(r"[\s=]", text, maxsplit=1)[0]
        known = _OPTIONS.get(option) or _OPTIONS.get(option[:2] if option[1:2] != "-" else "")
        return Why.OPTION, f"{option}: {known or 'an option that is not known'}"
    if reason := _credentials(text):
        return Why.LOGIN, reason
    if _VARIABLE.search(text):
        return Why.VARIABLE, "it refers to a variable of somebody's environment"
    if text.startswith("file:") or (_PATH.search(text) and "://" not in text):
        return Why.LOCAL, "a path on somebody's disk"
    if (found := _OPTION_AFTER.search(text)) and not _VCS.match(text):
        return Why.OPTION, f"{found[1]}: an option after a requirement"
    return None, ""


def _credentials(text: str) -> str:
    """Why a line with credentials can't be taken; empty: it has none."""
    if without_query_secrets(text) != text:
        return (
            "its address holds a credential after the `?`, which a lock would show to others: "
            "put the file on an index, or on a host that takes a login, which ~/.netrc may have"
        )
    if without_logins(text) != text:
        return (
            "it holds a login, which a lock would show to others: "
            "give it to git by GIT_CONFIG_COUNT, and to indexes by ~/.netrc"
        )
    return ""


def _named(url: str) -> str:
    """A bare address as a requirement with a name, which a wheel's file name begins with."""
    address, _, marker = url.partition(" ;")
    found = _WHEEL.match(posixpath.basename(urlsplit(address).path))
    if found is None:
        raise _Refusal(Why.MALFORMED, "an address that does not say which package it is")
    return f"{found['name']} @ {address}" + (f" ;{marker}" if marker else "")


def _first_line(error: Exception) -> str:
    text = str(error).partition("\n")[0].strip()
    return text[:1].lower() + text[1:]
