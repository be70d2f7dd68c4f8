"""A ComfyUI, packs and an index to make locks of, served over loopback."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from machine_lifecycle.installers.command import CommandRunner, Journal, Redactor
from machine_lifecycle.installers.commits import Commits
from machine_lifecycle.installers.compiling import UvSolver
from machine_lifecycle.installers.lock import Lock
from machine_lifecycle.installers.locking import Wanted, WantedPack, make_lock
from machine_lifecycle.installers.repository import Repository
from machine_lifecycle.installers.sources import Sources
from machine_lifecycle.model.installing import StepContext
from tests.benchmarks.installing.serving import serving
from tests.benchmarks.installing.world import wheel
from tests.support.git_server import Origin

__all__ = ["Place", "served"]


@attrs.frozen
class Place:
    """Repositories and an index that are served, and a folder to work in."""

    root: Path
    port: int

    @property
    def environ(self) -> dict[str, str]:
        """Variables for all that makes a lock."""
        return {
            "PATH": os.defpath,
            "HOME": str(self.root),
            "UV_CACHE_DIR": str(self.root / "uv"),
            "UV_DEFAULT_INDEX": f"http://127.0.0.1:{self.port}/simple",
            # Of a repository that a line names: only encrypted ones are admitted.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.http://127.0.0.1:{self.port}/git/.insteadOf",
            "GIT_CONFIG_VALUE_0": "https://example.org/",
        }

    def origin(self, name: str, **files: str) -> Origin:
        """A repository; lines of its requirements are `requirements__txt`."""
        return Origin(self.root / "git" / name, **files)

    def pack(self, name: str, *, required: bool = False, **more: Any) -> WantedPack:
        """It, as it is wanted."""
        url = f"http://127.0.0.1:{self.port}/git/{name}/.git"
        repository = attrs.evolve(Repository(url=url), **more)
        return WantedPack(name=name, repository=repository, requirements=True, required=required)

    def wanted(self, *packs: WantedPack, **more: Any) -> Wanted:
        wanted = Wanted(comfyui=self.pack("ComfyUI").repository, packs=packs, also=("pip",))
        return attrs.evolve(wanted, **more)

    async def lock(
        self, wanted: Wanted, previous: Lock | None = None, upgrade: tuple[str, ...] | None = ()
    ) -> Lock:
        number = len(list(self.root.glob("questions-*")))
        environ = self.environ
        run = CommandRunner(
            log=self.root / "log.txt",
            journal=Journal(self.root / "journal.jsonl"),
            redact=Redactor(),
            report=lambda _: None,
        )
        ctx = StepContext(report=lambda _: None, run_command=run)
        questions = self.root / f"questions-{number}"
        questions.mkdir()
        return await make_lock(
            wanted,
            Sources(ctx=ctx, commits=Commits(self.root / "cache"), environ=environ),
            UvSolver(ctx=ctx, env=environ, folder=questions),
            previous=previous,
            upgrade=upgrade,
        )


@contextlib.contextmanager
def served(root: Path) -> Iterator[Place]:
    """Serve what there is to lock; repositories are added as they are needed."""
    wheels = root / "wheels"
    wheels.mkdir()
    for name in (
        "torchvision",
        "torchaudio",
        "pip",
        "requests",
        "small",
        "onnxruntime",
        "onnxruntime-gpu",
    ):
        wheel(wheels, name, "1.0")
    for version in ("2.0", "2.1"):
        wheel(wheels, "torch", version)
        wheel(wheels, "thing", version)
    wheel(wheels, "opencv-python", "4.0")
    wheel(wheels, "opencv-python-headless", "4.0")
    wheel(wheels, "opencv-contrib-python", "4.0")
    wheel(wheels, "opencv-contrib-python-headless", "4.0")
    wheel(wheels, "looks", "1.0", ["opencv-python"])
    with serving(root / "git", wheels) as port:
        made = Place(root, port)
        made.origin("ComfyUI", requirements__txt="torch<2.1\nsmall\n", main__py="")
        yield made
