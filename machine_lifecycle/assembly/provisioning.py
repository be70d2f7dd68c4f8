"""Installing what a boot would install, and nothing more: for images that are made beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from machine_lifecycle.assembly.installing import Installation
from machine_lifecycle.assembly.lock import machine_lock
from machine_lifecycle.assembly.planner import MachinePlanner
from machine_lifecycle.config.settings import secret_values
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.choices import GpuMode
from machine_lifecycle.model.progress import ProgressSink
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.system.folders import find_paths, prepare
from machine_lifecycle.system.gpus import Gpus
from machine_lifecycle.system.identity import machine_id
from machine_lifecycle.system.logs import register_secret

__all__ = ["Provisioned", "provision"]

_STAGES = ("base", "nodes")
_SUPPOSED = 64
"""GPUs to plan with where there are none: as many as any machine has."""


@attrs.frozen(kw_only=True)
class Provisioned:
    """What became of an installation.

    Attributes:
        services: Those that have an installer.
        done: Number of steps that were done; 0 if all was there.
        failures: What was left out, by name, and why: node packs that are not required.
    """

    services: tuple[str, ...]
    done: int
    failures: Mapping[str, LifecycleError]

    def value(self) -> dict[str, Any]:
        """As JSON values."""
        failures = {name: error.to_wire() for name, error in self.failures.items()}
        return {"services": list(self.services), "done": self.done, "failures": failures}


async def provision(
    settings: Settings, environ: Mapping[str, str], progress: ProgressSink
) -> Provisioned:
    """Do the steps of Installing and CustomNodes under the machine's lock. Opens no queue and
    starts no service; a boot with the same settings finds all of it done.

    Raises:
        LifecycleError: The machine runs, the plan can't be made, or a required step failed.
    """
    for value in secret_values(settings).values():
        register_secret(value)
    paths = find_paths(settings, environ)
    prepare(paths)
    with machine_lock(paths):
        gpus = Gpus(settings=settings)
        # No id is made here: else all machines that start from the image would share it.
        identity, _ = machine_id(settings, environ, paths, create=False)
        planner = MachinePlanner(
            settings=settings, paths=paths, machine_id=identity, environ=environ
        )
        await planner.prepare(progress)
        hardware = await gpus.detect()
        if (
            not hardware.gpus
        ):  # an image is made where there are none; what is installed is the same
            supposed = attrs.evolve(settings, gpu_mode=GpuMode.MOCK, mock_gpus=_SUPPOSED)
            hardware = await Gpus(settings=supposed).detect()
        plan = planner.plan(hardware)
        installation = Installation(settings, paths, environ, gpus)
        wanted = [one for one in plan.installs if one.installer]
        done = 0
        for stage in _STAGES:
            for one in wanted:
                done += await installation.install(one, stage, progress)
        return Provisioned(
            services=tuple(one.service for one in wanted),
            done=done,
            failures=dict(installation.failures),
        )
