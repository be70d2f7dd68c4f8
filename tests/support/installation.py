"""An installation in a process of its own, which can be killed: says each step as it goes.

``python -m tests.support.installation FOLDER`` installs what ``make_bed`` put into FOLDER.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import attrs

from machine_lifecycle.installers.execute import Executor
from machine_lifecycle.model.choices import LockMode
from tests.support.comfyui_bed import PLAN, Bed

__all__ = ["write_settings"]


def write_settings(bed: Bed, **environ: str) -> None:
    """Say to later processes with which variables they install."""
    (bed.root / "environ.json").write_text(json.dumps({**bed.environ, **environ}), "utf-8")


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


class _Said:
    """A progress sink that prints: ``began STEP``, then ``finished STEP`` or ``skipped STEP``."""

    def __init__(self) -> None:
        self._began: set[str] = set()

    def step(self, name: str, detail: str = "", *, done: int = 0, total: int = 0) -> None:  # noqa: ARG002
        if "cut short by an earlier end" in detail:
            _say("resumed", name)
        elif name not in self._began:
            self._began.add(name)
            _say("began", name)

    def finished(self, name: str, *, seconds: float, skipped: bool = False) -> None:  # noqa: ARG002
        _say("skipped" if skipped else "finished", name)


async def _install(bed: Bed) -> None:
    settings = attrs.evolve(
        bed.settings,
        comfyui_nodes=bed.root / "config_nodes.json",
        comfyui_lock=LockMode(bed.environ.get("COMFYUI_LOCK", "off")),
    )
    run = Executor(bed.paths, settings=settings, environ=bed.environ, retry_wait=0.001)
    for stage in ("lock", "base", "nodes"):
        await run.install(PLAN, stage, _Said())
    for failure in run.failures:
        _say("failed", failure.subject, failure.error)


if __name__ == "__main__":
    root = Path(sys.argv[1])
    asyncio.run(_install(Bed.at(root, json.loads((root / "environ.json").read_text("utf-8")))))
