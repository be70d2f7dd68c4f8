"""The lock: everything that an installation of ComfyUI and its packs brings, to the last hash.

It is JSON: read by anything, no library of its own, one thing a line in an order that does not
change, so that two of them can be compared by eye. The digest is of all the rest.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from machine_lifecycle.installers.compiling import Asking, Fault, LockedPackage, apart
from machine_lifecycle.installers.lock_errors import LockUnreadable
from machine_lifecycle.installers.solving import Quarantined

_COMFYUI = "pack:comfyui"
"""Who wants what ComfyUI itself requires."""

__all__ = ["Collapsed", "Lock", "LockedLine", "LockedRepository", "changes", "parse_lock"]

FORMAT = 1


@attrs.frozen(kw_only=True)
class LockedLine:
    """A line of a requirement file that is left out.

    Attributes:
        place: File and line.
        text: As written.
        why: The kind.
        reason: For people.
    """

    place: str
    text: str
    why: str
    reason: str


@attrs.frozen(kw_only=True)
class LockedRepository:
    """A repository at one commit.

    Attributes:
        name: Of the pack; empty: ComfyUI itself.
        url: Without credentials.
        wanted: Branch, tag or commit that the list asks for; empty: the default branch.
        commit: Full hash; empty for one that could not be reached.
        tree: Hash of its files.
        recursive: Whether its submodules are brought.
        requirements: Whether what it requires is installed.
        submodules: Path and commit of each.
        refused: Lines that are left out.
    """

    name: str = ""
    url: str
    wanted: str = ""
    commit: str = ""
    tree: str = ""
    recursive: bool = False
    requirements: bool = False
    submodules: tuple[tuple[str, str], ...] = ()
    refused: tuple[LockedLine, ...] = ()

    @property
    def entry(self) -> tuple[str, str, str, bool, bool]:
        """What the list says of it: it is kept while this stays."""
        return self.name, self.url, self.wanted, self.recursive, self.requirements


@attrs.frozen(kw_only=True)
class Collapsed:
    """Packages that exclude each other, of which one was taken.

    Attributes:
        family: Its name.
        took: What is installed.
        instead_of: What was asked for beside it.
        rule: Why this one.
    """

    family: str
    took: str
    instead_of: tuple[str, ...]
    rule: str


@attrs.frozen(kw_only=True)
class Lock:
    """All of it.

    Attributes:
        python: Version that was solved for, ``3.12``.
        platform: System and processor, ``linux-x86_64``.
        torch: Build of torch, in uv's words; ``found``: that of the named Python; empty: the
            index's own.
        exclude_newer: Only packages older than this were looked at; empty: all.
        comfyui: ComfyUI itself.
        packs: Each pack of the list, in its order; those that are quarantined too.
        quarantined: Packs that are left out.
        packages: Every package, in order of names.
        built: Names of those without a wheel, whose own code builds one.
        collapsed: Families of which one was taken.
    """

    python: str
    platform: str
    torch: str
    exclude_newer: str = ""
    comfyui: LockedRepository
    packs: tuple[LockedRepository, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    packages: tuple[LockedPackage, ...] = ()
    built: tuple[str, ...] = ()
    collapsed: tuple[Collapsed, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return "sha256:" + hashlib.sha256(_text(self._values()).encode()).hexdigest()

    @property
    def installed(self) -> tuple[LockedRepository, ...]:
        """Packs that are not quarantined."""
        out = {one.pack for one in self.quarantined}
        return tuple(pack for pack in self.packs if pack.name not in out)

    def needed_by(self, pack: str = "") -> tuple[LockedPackage, ...]:
        """The packages that a pack comes to with all that they need; without a name, ComfyUI's."""
        if pack and pack not in self._slugs:
            return ()  # none of its requirements applies to this environment
        names: set[str] = set()
        more = {f"pack:{self._slugs[pack]}" if pack else _COMFYUI}
        while more:
            names |= more
            more = {one.name for one in self.packages if not names.isdisjoint(one.wanted_by)}
            more -= names
        # The solver names who wants a package, but for those that it was given as lines of their
        # own: what nobody is said to want is one of these.
        return tuple(
            one for one in self.packages if one.name in names or not (pack or one.wanted_by)
        )

    @functools.cached_property
    def _slugs(self) -> dict[str, str]:
        asked = [Asking(name=one.name) for one in self.packs if one.requirements]
        return {one.name: one.slug for one in apart(asked)}

    @property
    def out_of_reach(self) -> tuple[str, ...]:
        """Packs of which no commit could be had: they may be there another time."""
        return tuple(one.pack for one in self.quarantined if one.fault is Fault.SOURCE)

    def _values(self) -> dict[str, Any]:
        values = attrs.asdict(self, value_serializer=_plain)
        return {"format": FORMAT, **values}

    def text(self) -> str:
        """As it is written into a file."""
        return _text({**self._values(), "digest": self.digest})


def _plain(_: object, __: object, value: object) -> object:
    return value.value if isinstance(value, Fault) else value


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def parse_lock(text: str, path: Path) -> Lock:
    """Read a lock.

    Args:
        text: Of the file.
        path: The file, for errors.

    Raises:
        LockUnreadable: It is none, is of a later format, or was changed by hand.
    """
    try:
        values = json.loads(text)
        if values["format"] != FORMAT:
            raise LockUnreadable(path=path, problem=f"its format is {values['format']}")
        lock = Lock(
            python=values["python"],
            platform=values["platform"],
            torch=values["torch"],
            exclude_newer=values["exclude_newer"],
            comfyui=_repository(values["comfyui"]),
            packs=tuple(_repository(one) for one in values["packs"]),
            quarantined=tuple(
                Quarantined(
                    pack=one["pack"],
                    fault=Fault(one["fault"]),
                    against=tuple(one["against"]),
                    told=tuple(one["told"]),
                )
                for one in values["quarantined"]
            ),
            packages=tuple(LockedPackage(**_tuples(one)) for one in values["packages"]),
            built=tuple(values["built"]),
            collapsed=tuple(Collapsed(**_tuples(one)) for one in values["collapsed"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise LockUnreadable(path=path, problem=problem) from error
    if values.get("digest") != lock.digest:
        raise LockUnreadable(path=path, problem="its digest is not that of what it says")
    return lock


def _repository(values: Mapping[str, Any]) -> LockedRepository:
    plain = _tuples(values)
    plain["submodules"] = tuple((path, commit) for path, commit in values["submodules"])
    plain["refused"] = tuple(LockedLine(**line) for line in values["refused"])
    return LockedRepository(**plain)


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }


def changes(old: Lock | None, new: Lock) -> tuple[str, ...]:
    """What differs, a line each, for people; empty: nothing does."""
    return tuple(_changes(old, new))


def _changes(old: Lock | None, new: Lock) -> Iterator[str]:
    for what in ("python", "platform", "torch", "exclude_newer"):
        before, after = getattr(old, what, ""), getattr(new, what)
        if before != after:
            yield f"~ {what} {before or '-'} -> {after or '-'}"
    yield from _of_packs(old, new)
    yield from _of_quarantine(old, new)
    yield from _differing(
        {one.name: one.version or one.url for one in old.packages} if old else {},
        {one.name: one.version or one.url for one in new.packages},
        lambda name: f"package {name}",
    )
    for one in new.collapsed:
        if not old or one not in old.collapsed:
            yield f"! {one.took} instead of {', '.join(one.instead_of)}: {one.rule}"


def _of_packs(old: Lock | None, new: Lock) -> Iterator[str]:
    before = {one.name: one for one in (old.comfyui, *old.packs)} if old else {}
    after = {one.name: one for one in (new.comfyui, *new.packs)}
    yield from _differing(
        {name: _at(one) for name, one in before.items()},
        {name: _at(one) for name, one in after.items()},
        lambda name: f"pack {name}" if name else "ComfyUI",
    )
    for name, one in after.items():
        known = before[name].refused if name in before else ()
        for line in one.refused:
            if line not in known:
                yield f"! {name or 'ComfyUI'} {line.place}: {line.text}: {line.reason}"


def _of_quarantine(old: Lock | None, new: Lock) -> Iterator[str]:
    was = {one.pack for one in old.quarantined} if old else set()
    for one in new.quarantined:
        if one.pack not in was:
            beside = f", not together with {', '.join(one.against)}" if one.against else ""
            yield f"! pack {one.pack} is left out: {one.fault.value}{beside}"
    back = was.difference(one.pack for one in new.quarantined)
    for name in sorted(back.intersection(pack.name for pack in new.packs)):
        yield f"+ pack {name} is no longer left out"


def _at(one: LockedRepository) -> str:
    asked = f" ({one.wanted})" if one.wanted and not one.commit.startswith(one.wanted) else ""
    return f"{one.commit[:12] or 'nowhere'}{asked}"


def _differing(
    before: Mapping[str, str], after: Mapping[str, str], word: Callable[[str], str]
) -> Iterator[str]:
    names: Sequence[str] = [*after, *(name for name in before if name not in after)]
    for name in names:
        if name not in before:
            yield f"+ {word(name)} {after[name]}"
        elif name not in after:
            yield f"- {word(name)} {before[name]}"
        elif before[name] != after[name]:
            yield f"~ {word(name)} {before[name]} -> {after[name]}"
