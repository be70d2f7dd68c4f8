"""Packages of a Python environment as they are: versions, who wants them, an index's hashes."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import attrs
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from machine_lifecycle.installers.compiling import LockedPackage, read
from machine_lifecycle.installers.packages import Environment
from machine_lifecycle.installers.repository import public_address
from machine_lifecycle.installers.uv_program import uv_program
from machine_lifecycle.installers.variables import without_index
from machine_lifecycle.model.installing import StepContext

__all__ = ["Installed"]

_SCRIPT = """
import json
from importlib.metadata import distributions
print(json.dumps({one.metadata["Name"]: one.requires or [] for one in distributions()}))
"""
"""Run by the environment's own Python: what each package requires."""
_NONE_SUCH = re.compile(
    r"no version of ([A-Za-z0-9][\w.-]*)==|Because ([A-Za-z0-9][\w.-]*) was not found"
)
_TRIES = 100
"""Packages that no index may have, each of which costs a further question."""


@attrs.frozen(kw_only=True)
class Installed:
    """What is installed in an environment.

    Attributes:
        ctx: Runs uv and the environment's Python.
        environment: The environment.
        indexes: Variables that say where packages come from.
        interpreter: A Python of the version that is locked for.
        markers: Values of markers.
        note: Is told what can't be locked, or not with a hash.
    """

    ctx: StepContext
    environment: Environment
    indexes: Mapping[str, str] = attrs.field(repr=False)
    interpreter: Path
    markers: Mapping[str, str]
    note: Callable[[str], None]

    async def packages(
        self, asking: Mapping[str, Sequence[str]], left_out: Collection[str] = ()
    ) -> tuple[LockedPackage, ...]:
        """All of them, by name.

        Args:
            asking: What packs require, by who they are to a lock.
            left_out: Names of those that are no part of a lock.
        """
        python, env = self.environment.python, self.environment.env
        freeze = [uv_program(), "pip", "freeze", "--quiet", "--python", str(python)]
        frozen = await self.ctx.run_command(freeze, env=env)
        told = await self.ctx.run_command([str(python), "-I", "-c", _SCRIPT], env=env)
        wanted_by = _wanted_by(asking, json.loads(told.output), self.markers)
        found = [
            attrs.evolve(one, wanted_by=tuple(sorted(wanted_by.get(one.name, ()))))
            for one in self._frozen(frozen.output.splitlines())
            if one.name not in left_out
        ]
        hashes = await self._hashes(found)
        return tuple(
            attrs.evolve(one, hashes=hashes.get(one.name, ()))
            for one in sorted(found, key=lambda one: one.name)
        )

    def _frozen(self, lines: Sequence[str]) -> Iterator[LockedPackage]:
        for line in lines:
            name, exact, version = line.partition("==")
            at, _, url = line.partition(" @ ")
            if exact and "@" not in name:
                yield LockedPackage(name=canonicalize_name(name), version=version.strip())
            elif url.startswith(("git+https://", "https://")):
                plain = public_address(url)
                if plain != url:
                    self.note(f"package {at}: the credentials in its address are left out")
                yield LockedPackage(name=canonicalize_name(at), url=plain)
            elif line.strip():
                shown = public_address(line.strip())
                self.note(f"package {shown} is of this machine alone: it is not locked")

    async def _hashes(self, packages: Sequence[LockedPackage]) -> Mapping[str, tuple[str, ...]]:
        """The index's hashes of what is installed; nothing for what no index has."""
        env = dict(self.indexes)
        # The versions are fixed already: constraints could only contradict them.
        env.pop("UV_CONSTRAINT", None)
        asked = {one.name: one.version for one in packages if one.version}
        with tempfile.TemporaryDirectory(prefix="machine-lifecycle-hashes-") as folder:
            question, answer = Path(folder) / "asked.txt", Path(folder) / "answer.txt"
            argv = [
                *(uv_program(), "pip", "compile", str(question), "--quiet", "--no-deps"),
                *("--generate-hashes", "--no-header", "--no-annotate"),
                *("--output-file", str(answer), "--python", str(self.interpreter)),
                *(("--no-index",) if without_index(env) else ()),
            ]
            for _ in range(_TRIES):
                lines = (f"{name}=={version}\n" for name, version in asked.items())
                question.write_text("".join(lines), "utf-8")
                done = await self.ctx.run_command(argv, env=env, check=False)
                if done.status == 0:
                    return {one.name: one.hashes for one in read(answer.read_text("utf-8"))}
                gone = _none_such(done.tail).intersection(asked)
                if not gone:
                    self.note(f"no hashes are to be had: {done.tail[-1:]}")
                    return {}
                for name in sorted(gone):
                    self.note(f"no index has {name} {asked.pop(name)}: it is locked without a hash")
        return {}


def _none_such(lines: Sequence[str]) -> set[str]:
    """Packages that no index has in the version that is there, by the solver's words."""
    # It folds its words at the width of a terminal.
    found = _NONE_SUCH.findall(" ".join(line.strip() for line in lines))
    return {canonicalize_name(one or other) for one, other in found}


def _wanted_by(
    packs: Mapping[str, Sequence[str]],
    installed: Mapping[str, Sequence[str]],
    environment: Mapping[str, str],
) -> dict[str, set[str]]:
    """Who wants each package: packs, and packages that are there."""
    wants = {who: [*_read(requires)] for who, requires in packs.items()}
    for name, requires in installed.items():
        wants[canonicalize_name(name)] = [*_read(requires)]
    extras: dict[str, set[str]] = {}
    for lines in wants.values():
        for one in lines:
            extras.setdefault(canonicalize_name(one.name), {""}).update(one.extras)
    found: dict[str, set[str]] = {}
    for who, lines in wants.items():
        for one in lines:
            mine = extras.get(who, {""})
            if one.marker is None or any(
                one.marker.evaluate({**environment, "extra": extra}) for extra in mine
            ):
                found.setdefault(canonicalize_name(one.name), set()).add(who)
    return found


def _read(lines: Sequence[str]) -> Iterator[Requirement]:
    for line in lines:
        try:
            yield Requirement(line)
        except InvalidRequirement:  # of an old package: nobody can tell what it means
            continue
