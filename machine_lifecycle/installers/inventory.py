"""What is installed, however it came there, written down as a list of packs and a lock of it.

Repositories are asked for their commits and packages for their versions; the index is asked for
hashes alone, and nothing is resolved: the lock says what is there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from machine_lifecycle.config.nodes import WrittenNode
from machine_lifecycle.installers.comfyui_settings import ALSO
from machine_lifecycle.installers.compiling import Asking, LockedPackage
from machine_lifecycle.installers.git_program import Git
from machine_lifecycle.installers.installed import Installed
from machine_lifecycle.installers.lock import Lock, LockedRepository
from machine_lifecycle.installers.lock_errors import NothingInstalled
from machine_lifecycle.installers.locking import FOUND, Wanted
from machine_lifecycle.installers.origins import Origins
from machine_lifecycle.installers.packages import TORCH_FAMILY, Environment
from machine_lifecycle.installers.repository import Repository
from machine_lifecycle.installers.requirements import decode, environment_of, read_requirements
from machine_lifecycle.installers.variables import package_environment
from machine_lifecycle.model.installing import InstallContext, StepContext

__all__ = ["Inventory", "take_inventory"]

_REQUIREMENTS = "requirements.txt"


@attrs.frozen(kw_only=True)
class Inventory:
    """What is there.

    Attributes:
        nodes: Entries of a list of packs, each at its commit.
        lock: All of it.
        notes: What neither can say, a line each, for people.
    """

    nodes: tuple[Mapping[str, Any], ...]
    lock: Lock
    notes: tuple[str, ...]


@attrs.frozen
class _Clone:
    """A repository that is there, and what its requirement file says."""

    found: LockedRepository
    requires: tuple[str, ...]


async def take_inventory(
    context: InstallContext,
    environment: Environment,
    ctx: StepContext,
    wanted: Wanted,
    listed: Sequence[WrittenNode] = (),
) -> Inventory:
    """Look at all that is installed. Changes nothing.

    Args:
        context: Of the installation.
        environment: Where the packages are.
        ctx: Runs git, uv and the environment's Python.
        wanted: What the settings ask for.
        listed: The list that there is: what it says beside the commits is kept.

    Raises:
        NothingInstalled: There is no ComfyUI, or no Python for it.
        LifecycleError: One of these programs is missing or fails.
    """
    return await _Taking(context, environment, ctx, wanted, listed).run()


class _Taking:
    def __init__(
        self,
        context: InstallContext,
        environment: Environment,
        ctx: StepContext,
        wanted: Wanted,
        listed: Sequence[WrittenNode],
    ) -> None:
        self._context = context
        self._environment = environment
        self._ctx = ctx
        self._quiet = attrs.evolve(ctx, report=lambda _: None)
        self._wanted = wanted
        self._listed = {one.entry.name: one for one in listed}
        self._notes: list[str] = []

    async def run(self) -> Inventory:
        home, python = self._context.home, self._environment.python
        if missing := [str(path) for path in (home / ".git", python) if not path.exists()]:
            raise NothingInstalled(home=home, missing=tuple(missing))
        comfyui = await self._clone(home, "")
        packs = [pack async for pack in self._packs()]
        packages = await self._packages(comfyui, packs)
        self._ctx.report(f"looked at {len(packs)} packs and {len(packages)} packages")
        lock = Lock(
            **self._facts(packages),
            comfyui=self._of_settings(comfyui.found),
            packs=tuple(pack.found for pack in packs),
            packages=packages,
            quarantined=(),
            built=(),
            collapsed=(),
        )
        nodes = tuple(self._entry(pack.found) for pack in packs)
        return Inventory(nodes=nodes, lock=lock, notes=tuple(self._notes))

    async def _packs(self) -> AsyncIterator[_Clone]:
        """Those of the list in its order, then the others by name."""
        folder = self._context.home / "custom_nodes"
        there = {one.name: one for one in folder.iterdir()} if folder.is_dir() else {}
        order = [*(name for name in self._listed if name in there), *sorted(there)]
        for name in dict.fromkeys(order):
            path = there[name]
            if (path / ".git").exists():
                yield await self._clone(path, name)
            elif path.is_dir() and not name.startswith((".", "__")) and any(path.iterdir()):
                self._notes.append(f"{name} is no clone of a repository: it is not in the list")
            elif path.suffix == ".py" and name != "websocket_image_save.py":  # ComfyUI's own
                self._notes.append(f"{name} is a single file: it is not in the list")
        for name in self._listed:
            if name not in there:
                self._notes.append(f"{name} is listed and not there: it is not in the new list")

    async def _clone(self, folder: Path, name: str) -> _Clone:
        self._ctx.report(f"looking at {name or 'ComfyUI'}")
        git = Git(self._quiet, Repository(url=str(folder)), folder, self._env(folder))
        url = await git.text("config", "--get", "remote.origin.url", cwd=folder)
        plain = Repository(url=url).plain_url
        if plain != url:
            self._notes.append(f"{name or 'ComfyUI'}: the login in its address is left out")
        commit = await git.head(folder)
        modules = await git.text(
            *("config", "--blob", f"{commit}:.gitmodules", "--get-regexp", r"\.path$"), cwd=folder
        )
        paths = sorted(line.partition(" ")[2] for line in modules.splitlines())
        submodules = [
            (path, await git.text("rev-parse", "--verify", f"{commit}:{path}", cwd=folder))
            for path in paths
        ]
        requires = self._requires(folder)
        listed = self._listed.get(name)
        wants = listed.entry.requirements if listed else (folder / _REQUIREMENTS).exists()
        found = LockedRepository(
            name=name,
            url=plain,
            wanted=commit if name else "",
            commit=commit,
            tree=await git.text("rev-parse", "--verify", f"{commit}^{{tree}}", cwd=folder),
            recursive=bool(name and any((folder / path / ".git").exists() for path in paths)),
            requirements=wants or not name,
            submodules=tuple((path, one) for path, one in submodules if one),
        )
        return _Clone(found, requires)

    def _env(self, folder: Path) -> dict[str, str]:
        origins = Origins.of(self._context.settings)
        return origins.environment(self._context.environ, Repository(url=str(folder)))

    def _requires(self, folder: Path) -> tuple[str, ...]:
        """Names of the packages that a repository's file asks for."""

        def text_of(path: str) -> str | None:
            file = folder / path
            return decode(file.read_bytes()) if file.is_file() else None

        reading = read_requirements(text_of, _REQUIREMENTS, environment_of(self._wanted.python))
        return tuple(line.text if not line.vcs else line.name for line in reading.wanted)

    def _of_settings(self, found: LockedRepository) -> LockedRepository:
        """ComfyUI as the settings ask for it, if they do; else what they would have to say."""
        asked = self._wanted.comfyui
        if asked.plain_url != found.url:
            self._notes.append(f"ComfyUI is of {found.url}: set COMFYUI_REPO_URL to that")
            return attrs.evolve(found, wanted=asked.commit or asked.branch)
        return attrs.evolve(found, wanted=asked.commit or asked.branch, recursive=asked.recursive)

    def _facts(self, packages: Sequence[LockedPackage]) -> dict[str, str]:
        facts = self._wanted.facts()
        torch = next((one.version for one in packages if one.name == "torch"), "")
        build = torch.partition("+")[2]
        if build and facts["torch"] not in {"", build, FOUND}:
            self._notes.append(
                f"torch is {torch}, and the settings ask for another build: "
                f"set TORCH_BACKEND={build}"
            )
        return facts

    def _entry(self, pack: LockedRepository) -> Mapping[str, Any]:
        """What the list says of a pack: as it did, at the commit that is there."""
        said: dict[str, Any] = {"name": pack.name, "url": pack.url}
        if listed := self._listed.get(pack.name):
            same = Repository(url=listed.entry.url).plain_url == pack.url
            said |= {key: value for key, value in listed.written.items() if same or key != "url"}
            said.pop("branch", None)
        said["commit"] = pack.commit
        for flag in ("requirements", "recursive"):
            said.pop(flag, None)
            said |= {flag: True} if getattr(pack, flag) else {}
        return said

    async def _packages(
        self, comfyui: _Clone, packs: Sequence[_Clone]
    ) -> tuple[LockedPackage, ...]:
        asking = {
            f"pack:{Asking(name=one.found.name).slug}": one.requires
            for one in packs
            if one.found.requirements
        }
        asking["pack:comfyui"] = (*comfyui.requires, *ALSO, *TORCH_FAMILY)
        backend = self._environment.backend if self._environment.ours else ""
        installed = Installed(
            ctx=self._quiet,
            environment=self._environment,
            indexes=package_environment(self._context.environ, backend=backend),
            interpreter=self._wanted.interpreter,
            markers=environment_of(self._wanted.python),
            note=self._notes.append,
        )
        # A Python that the user named (COMFYUI_PYTHON) brings its own torch: no part of a lock.
        left_out = TORCH_FAMILY if self._wanted.torch == FOUND else ()
        return await installed.packages(asking, left_out)
