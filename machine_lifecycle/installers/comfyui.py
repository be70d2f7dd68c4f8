"""ComfyUI: the steps that bring it, its environment and its node packs to disk."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

import attrs

from machine_lifecycle.config.models import ModelEntry
from machine_lifecycle.config.nodes import NodeEntry
from machine_lifecycle.errors import Problems
from machine_lifecycle.installers.base import fingerprint
from machine_lifecycle.installers.blocklist import Blocklist
from machine_lifecycle.installers.comfyui_settings import (
    ALSO,
    comfyui_environment,
    comfyui_nodes,
    comfyui_repository,
    packs_are_off,
)
from machine_lifecycle.installers.errors import CommandFailed, VerificationFailed
from machine_lifecycle.installers.guarding import protect, repairing
from machine_lifecycle.installers.hosts import Hosts
from machine_lifecycle.installers.lock_errors import LockMissing
from machine_lifecycle.installers.locked import Locked
from machine_lifecycle.installers.lockfile import kept_lock, own_lock_path
from machine_lifecycle.installers.locking_step import locking_step
from machine_lifecycle.installers.model_files import ModelFiles
from machine_lifecycle.installers.models import Models
from machine_lifecycle.installers.origins import Origins
from machine_lifecycle.installers.packages import Environment
from machine_lifecycle.installers.preflight import preflight
from machine_lifecycle.installers.repository import Repository, check_repository
from machine_lifecycle.installers.scripts import PackScripts
from machine_lifecycle.installers.steps import PACKAGES, bringing, nothing, requiring
from machine_lifecycle.model.choices import LockMode
from machine_lifecycle.model.installing import InstallContext, Step, StepContext
from machine_lifecycle.system.files import write_atomically

__all__ = ["ComfyUIInstaller"]

_SIZE = 43 << 20
"""Bytes of a clone of 0.3.12 without its history."""
_SIZE_OF_TORCH = {"cpu": 800 << 20, "": 0}
_SIZE_OF_CUDA = 7 << 30
"""Bytes of torch with its family: 712 MiB for the processor (2.13); with CUDA's libraries, about
ten times that."""
_SIZE_OF_REQUIREMENTS = 450 << 20
"""Bytes of what 0.3.12 requires beside torch; a whole environment for the processor is 1.15 GiB."""


class ComfyUIInstaller:
    """Plans ComfyUI's installation. Node packs come from ``CONFIG_NODES_PATH``."""

    def plan(self, context: InstallContext) -> tuple[Step, ...]:
        """What settles the lock, where that is to be done; the base steps; those of each pack.

        Raises:
            Problems: The list of node packs, or that of models, can't be used, or something in
                them may not come from where it is.
            FileNotRead: One of them can't be read.
            LockMissing: A lock is required, and there is none.
            LockStale: There is a lock beside the list, and it is of another one.
            LockUnreadable: It is none.
        """
        repository, environment = comfyui_repository(context), comfyui_environment(context)
        nodes = () if packs_are_off(context) else comfyui_nodes(context)
        settling, locked = _settled(context, environment, repository, nodes)
        by_hand = locked is not None and locked.path != own_lock_path(context)
        wanted = (
            (locked.comfyui, locked.nodes(nodes)) if locked and by_hand else (repository, nodes)
        )
        models, blocklist = ModelFiles.of(context), Blocklist.of(context.settings)
        _check_origins(context, *wanted, models.entries)
        if locked:
            repository, nodes = locked.comfyui, locked.nodes(nodes)
        steps = _Base(context, environment, repository).steps() + models.steps()
        hosts = Hosts()  # shared by all packs, so that a dead host is found out once
        for node in nodes:
            steps += _Pack(context, environment, node, hosts).steps()
        steps = blocklist.over(locked.over(steps) if locked else steps, nodes)
        return settling + _looked_at(context, environment, steps)


def _looked_at(
    context: InstallContext, environment: Environment, steps: tuple[Step, ...]
) -> tuple[Step, ...]:
    """The steps, after one that looks at what they will need."""
    look = preflight(context, environment, steps)
    first = (step if step.needs else attrs.evolve(step, after=(look.id,)) for step in steps)
    return (look, *first)


def _check_origins(
    context: InstallContext,
    comfyui: Repository,
    nodes: Sequence[NodeEntry],
    models: Sequence[ModelEntry],
) -> None:
    """Whether all of it may come from where it is.

    Raises:
        Problems: All that may not.
    """
    origins = Origins.of(context.settings)
    packs = (Repository(url=node.url, branch=node.branch, commit=node.commit) for node in nodes)
    errors = (
        *origins.refused((comfyui, *packs)),
        *origins.refused_addresses(one.url for one in models),
    )
    if errors:
        raise Problems(subject="Where things come from", errors=errors)


def _settled(
    context: InstallContext,
    environment: Environment,
    repository: Repository,
    nodes: tuple[NodeEntry, ...],
) -> tuple[tuple[Step, ...], Locked | None]:
    """The step that makes the lock or brings it up to date, if it is needed; the lock, if there is
    one that fits.
    """
    mode = context.settings.comfyui_lock
    if mode is LockMode.OFF:
        return (), None
    kept = kept_lock(context)
    if kept is None:
        if mode is LockMode.REQUIRE:
            raise LockMissing(path=own_lock_path(context))
        return (locking_step(context, None),), None
    locked = Locked.of(context, environment, repository, nodes, kept)
    if mode is LockMode.REQUIRE or not kept.ours:
        locked.check()
        return (), locked
    if locked.differences:
        return (locking_step(context, kept),), None
    return ((locking_step(context, kept),) if kept.lock.out_of_reach else ()), locked


class _Base:
    """The steps of ComfyUI itself."""

    def __init__(
        self, context: InstallContext, environment: Environment, repository: Repository
    ) -> None:
        self._context = context
        self._home = context.home
        self._environment = environment
        self._repository = repository
        seconds = context.options.get("install_timeout", "")
        # The mapping's figure (300) is too small for torch; it can only make the limit longer.
        self._limit = max(1800.0, float(seconds) if seconds.isdigit() else 0.0)

    def steps(self) -> tuple[Step, ...]:
        """Clone, environment, torch, requirements, folders, verification."""
        repository, environment, home = self._repository, self._environment, self._home
        check_repository(repository)
        clone = bringing(
            self._context,
            repository,
            home,
            Step(
                id="clone",
                summary=f"clone {repository.plain_url}",
                fingerprint="",
                timeout=900,
                retries=2,
                run=nothing,
                space=_SIZE,
            ),
            Hosts(),
        )
        venv = Step(
            id="environment",
            summary="make the Python environment" if environment.ours else "look at the Python",
            fingerprint=fingerprint(environment.site_packages.identity, environment.ours),
            needs=("clone",),
            timeout=300,
            run=environment.make,
            present=environment.site_packages.known,
        )
        torch = Step(
            id="torch",
            summary="install torch" if environment.ours else "pin torch",
            fingerprint=fingerprint(environment.backend),
            needs=("environment",),
            timeout=self._limit,
            retries=1,
            exclusive=PACKAGES,
            run=self._torch,
            space=_SIZE_OF_TORCH.get(environment.backend, _SIZE_OF_CUDA) if environment.ours else 0,
            present=environment.torch_is_there,
        )
        requirements = Step(
            id="requirements",
            summary="install ComfyUI's requirements",
            fingerprint=fingerprint(*ALSO),
            needs=("torch", "clone"),
            timeout=self._limit,
            retries=1,
            exclusive=PACKAGES,
            run=requiring(environment, home / "requirements.txt", ALSO),
            space=_SIZE_OF_REQUIREMENTS,
        )
        folders = Models.of(self._context).step()
        verify = Step(
            id="verify",
            summary="try python main.py --help",
            fingerprint=fingerprint("main.py --help"),
            needs=("requirements", "folders"),
            timeout=180,
            run=self._verify,
            present=(home / "main.py").exists,
        )
        return (clone, venv, torch, requirements, folders, verify)

    async def _torch(self, ctx: StepContext) -> None:
        protect(self._environment)
        await self._environment.install_torch(ctx)

    async def _verify(self, ctx: StepContext) -> None:
        python = str(self._environment.python)
        for words in (
            ("-c", "import torch; print('torch', torch.__version__)"),
            ("main.py", "--help"),
        ):
            try:
                await ctx.run_command([python, *words], env=self._environment.env, cwd=self._home)
            except CommandFailed as error:
                line = f"cd {shlex.quote(str(self._home))} && {shlex.join([python, *words])}"
                raise VerificationFailed(
                    service=self._context.service, command=line, context=error.context[-12:]
                ) from error


class _Pack:
    """The steps of one node pack."""

    def __init__(
        self, context: InstallContext, environment: Environment, node: NodeEntry, hosts: Hosts
    ) -> None:
        self._context = context
        self._environment = environment
        self._hosts = hosts
        self._node = node
        self._folder = context.home / "custom_nodes" / node.name

    def steps(self) -> tuple[Step, ...]:
        """Clone, scripts; ``.env`` and requirements if the list asks for them."""
        node = self._node
        repository = Repository(
            url=node.url, branch=node.branch, commit=node.commit, recursive=node.recursive
        )
        clone = self._step("clone", f"clone {repository.plain_url}", ("clone",))
        steps = [
            bringing(
                self._context,
                repository,
                self._folder,
                attrs.evolve(clone, timeout=300, retries=2),
                self._hosts,
            )
        ]
        if node.env:
            env = self._step("env", "write .env", (steps[-1].id,))
            # Values stay out of the fingerprint: the file itself is compared.
            digest = fingerprint(*node.env)
            steps.append(
                attrs.evolve(
                    env, run=self._write_env, present=self._env_current, fingerprint=digest
                )
            )
        if node.requirements:
            packages = self._step(
                "packages", "install requirements", (steps[-1].id, "requirements")
            )
            run = requiring(self._environment, self._folder / "requirements.txt", by=node.name)
            repair = repairing(self._environment, node.name, ())
            steps.append(
                attrs.evolve(
                    packages, run=run, repair=repair, timeout=1800, retries=1, exclusive=PACKAGES
                )
            )
        script = self._step("script", "run its scripts", (steps[-1].id, "requirements"))
        origins = Origins.of(self._context.settings)
        git_env = origins.environment(self._context.environ, repository)
        scripts = PackScripts(self._context, self._environment, node, self._folder, git_env)
        digest = fingerprint(node.custom_script, self._context.settings.comfyui_install_py)
        steps.append(
            attrs.evolve(
                script,
                run=scripts.run,
                repair=repairing(self._environment, node.name),
                programs=("git", *(("bash",) if node.custom_script else ())),
                timeout=1800,
                exclusive=PACKAGES,
                fingerprint=digest,
            )
        )
        return tuple(steps)

    def _step(self, part: str, summary: str, needs: tuple[str, ...]) -> Step:
        node = self._node
        return Step(
            id=f"node {node.name} {part}",
            summary=f"node pack {node.name}: {summary}",
            fingerprint=fingerprint(node.name, part),
            needs=needs,
            required=node.required,
            stage="nodes",
            subject=node.name,
            run=nothing,
        )

    def _env_text(self) -> str:
        return "".join(f"{name}={_as_read(one)}\n" for name, one in self._node.env.items())

    def _env_current(self) -> bool:
        path = self._folder / ".env"
        return path.is_file() and path.read_text("utf-8", "replace") == self._env_text()

    async def _write_env(self, _: StepContext) -> None:
        write_atomically(self._folder / ".env", self._env_text(), mode=0o600)


def _as_read(value: str) -> str:
    """A value as readers of such files want it: in quotes where they would read another."""
    if value == value.strip() and not re.search(r"^['\"]|[\r\n]|\s#", value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
