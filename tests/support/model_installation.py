"""Models being installed in a process of its own, which can be killed; says what it does.

``python -m tests.support.model_installation FOLDER [pieces]`` brings the list in FOLDER; in small
pieces, if that is said.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import attrs

from machine_lifecycle.installers.downloading import Downloader
from machine_lifecycle.installers.execute import Executor
from machine_lifecycle.installers.model_files import ModelFiles
from machine_lifecycle.installers.models import Models
from machine_lifecycle.installers.pieces import Pieces
from machine_lifecycle.installers.transfer import Patience
from machine_lifecycle.model.installing import InstallContext, Step
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import InstallPlan
from machine_lifecycle.model.settings import Settings

__all__ = ["Talkative"]


class Talkative:
    """Plans what ComfyUI's installer plans for its models; each piece that comes is told."""

    def plan(self, context: InstallContext) -> tuple[Step, ...]:
        folders = attrs.evolve(Models.of(context).step(), needs=())
        small = Pieces(size=1 << 18, least=1 << 20) if "pieces" in sys.argv else None
        downloader = Downloader({}, Patience(report=0), pieces=small)
        files = attrs.evolve(ModelFiles.of(context), downloader=downloader)
        return (folders, *files.steps())


class _Said:
    def step(self, name: str, detail: str = "", *, done: int = 0, total: int = 0) -> None:  # noqa: ARG002
        sys.stdout.write(f"{name}: {detail}\n")
        sys.stdout.flush()

    def finished(self, name: str, *, seconds: float, skipped: bool = False) -> None:
        pass


if __name__ == "__main__":
    root = Path(sys.argv[1])
    run = Executor(
        Paths(workspace=root / "ws", runtime=root / "rt"),
        settings=Settings(models_manifest=root / "models.json"),
        resolve=lambda _: Talkative(),
    )
    plan = InstallPlan(service="comfyui", installer="models")
    asyncio.run(run.install(plan, "base", _Said()))
