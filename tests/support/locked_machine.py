"""A machine that boots from a lock, beside the place that it installs from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from machine_lifecycle.installers.comfyui_settings import comfyui_environment
from machine_lifecycle.installers.command import CommandRunner, Journal, Redactor
from machine_lifecycle.installers.execute import Executor
from machine_lifecycle.installers.lock import Lock
from machine_lifecycle.installers.lock_verification import Difference, prove
from machine_lifecycle.installers.lockfile import save_lock
from machine_lifecycle.installers.locking import WantedPack
from machine_lifecycle.model.choices import LockMode
from machine_lifecycle.model.installing import InstallContext, StepContext
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import InstallPlan
from machine_lifecycle.model.settings import Settings
from tests.support.lock_bed import Place
from tests.support.progress import KeptProgress

__all__ = ["PLAN", "Machine"]

PLAN = InstallPlan(
    service="comfyui", installer="machine_lifecycle.installers.comfyui:ComfyUIInstaller"
)


@attrs.frozen
class Machine:
    """One that boots from a lock; with a Python of its own, or one that is named."""

    place: Place
    python: str = ""
    progress: KeptProgress = attrs.field(factory=KeptProgress)

    @property
    def root(self) -> Path:
        return self.place.root

    @property
    def home(self) -> Path:
        return self.root / "ws" / "ComfyUI"

    @property
    def lock(self) -> Path:
        return self.root / "config_nodes.lock.json"

    @property
    def own_lock(self) -> Path:
        return self.root / "ws" / "comfyui.lock.json"

    def lists(self, *names: str, **more: Any) -> list[WantedPack]:
        """Write the list; what it wants."""
        packs = [self.place.pack(name) for name in names]
        nodes = [
            {"name": pack.name, "url": pack.repository.url, "requirements": True, **more}
            for pack in packs
        ]
        (self.root / "config_nodes.json").write_text(json.dumps(nodes))
        return packs

    async def is_locked(self, *names: str) -> Lock:
        """Write the list and its lock."""
        packs = self.lists(*names)
        lock = await self.place.lock(self.place.wanted(*packs, also=("pip", "requests")))
        save_lock(lock, self.lock)
        return lock

    @property
    def paths(self) -> Paths:
        return Paths(workspace=self.root / "ws", runtime=self.root / "rt")

    @property
    def settings(self) -> Settings:
        return Settings(
            comfyui_repo_url=self.place.pack("ComfyUI").repository.url,
            comfyui_nodes=self.root / "config_nodes.json",
            torch_backend="none",
            comfyui_python=self.python,
        )

    async def proved(self, lock: Lock) -> list[Difference]:
        context = InstallContext(
            service="comfyui", settings=self.settings, environ=self.place.environ, paths=self.paths
        )
        run = CommandRunner(
            log=self.root / "verify.txt",
            journal=Journal(self.root / "verify.jsonl"),
            redact=Redactor(),
            report=lambda _: None,
        )
        ctx = StepContext(report=lambda _: None, run_command=run)
        return list(await prove(lock, context, comfyui_environment(context), ctx))

    def executor(
        self,
        mode: LockMode = LockMode.MAKE,
        blocked_packs: Path | None = None,
        blocked_packages: Path | None = None,
        **environ: str,
    ) -> Executor:
        return Executor(
            self.paths,
            settings=attrs.evolve(
                self.settings,
                comfyui_lock=mode,
                blocked_packs=blocked_packs,
                blocked_packages=blocked_packages,
            ),
            environ={**self.place.environ, **environ},
            retry_wait=0.001,
        )

    async def boots(
        self,
        options: dict[str, str] | None = None,
        mode: LockMode = LockMode.MAKE,
        blocked_packs: Path | None = None,
        blocked_packages: Path | None = None,
        **environ: str,
    ) -> Executor:
        run = self.executor(mode, blocked_packs, blocked_packages, **environ)
        plan = attrs.evolve(PLAN, options=options or {})
        self.progress.lines.clear()
        for stage in ("lock", "base", "nodes"):
            await run.install(plan, stage, self.progress)
        return run

    def versions(self) -> dict[str, str]:
        (site,) = (self.home / "venv" / "lib").glob("python*/site-packages")
        found = (path.name.removesuffix(".dist-info") for path in site.glob("*.dist-info"))
        return dict(name.rsplit("-", 1) for name in found)

    def log(self) -> str:
        logs = (self.root / "ws" / "logs" / "install").rglob("*.log")
        return "".join(path.read_text("utf-8") for path in logs)
