"""The simulated GPU service: speaks ComfyUI's protocol, draws real pictures, needs no GPU."""

from __future__ import annotations

import sys
from pathlib import Path

from machine_lifecycle.model.processes import Command, NotifyReady, StopPolicy
from machine_lifecycle.model.services import Binding, Instance, Ports, ServiceDefinition

__all__ = ["SERVICE"]

_SETTINGS = (
    "SIMULATION_STEP_MS",
    "SIMULATION_READY_DELAY_MS",
    "SIMULATION_CUSTOM_NODES",
    "WORKER_SIMULATION_FAILURE_RATE",
)


def _folders(instance: Instance) -> tuple[Path, Path]:
    return instance.data / "output", instance.data / "temp"


def _shared_disk(instance: Instance) -> dict[str, str]:
    output, temporary = _folders(instance)
    # As with ComfyUI, a folder is made in it.
    return {
        "SIMULATION_OUTPUT_DIRECTORY": str(output),
        "SIMULATION_TEMP_DIRECTORY": str(temporary / "temp"),
    }


def _process(instance: Instance) -> Command:
    output, temporary = _folders(instance)
    env = {name: instance.settings[name] for name in _SETTINGS if name in instance.settings}
    if instance.gpu is not None:
        env["SIMULATION_GPU_NAME"] = instance.gpu.name
        env["SIMULATION_GPU_MEMORY_MIB"] = str(instance.gpu.memory_mib)
    argv = [sys.executable, "-m", "machine_lifecycle.simulation"]
    argv += ["--listen", instance.host, "--port", str(instance.port)]
    argv += ["--output-directory", str(output), "--temp-directory", str(temporary)]
    return Command(argv=tuple(argv), env=env)


SERVICE = ServiceDefinition(
    name="simulation",
    summary="A simulated GPU service that speaks ComfyUI's protocol.",
    capabilities=("simulation",),
    connector="machine_lifecycle.connectors.comfyui:SimulationConnector",
    process=_process,
    binding=Binding.MOCK_GPU,
    ports=Ports(base=8399, setting="simulation_base_port"),
    readiness=(NotifyReady(),),
    start_deadline=60.0,
    stop=StopPolicy(signal="SIGTERM", grace=3.0),
    modules=(("PIL", "machine-lifecycle[demo]"),),
    aliases=(
        "installSimulation",
        "SimulationConnector",
        "SimulationWebsocketConnector",
        "SimulationHttpConnector",
        "simulation-websocket",
        "simulation-http",
    ),
    connector_env=_shared_disk,
    directories=_folders,
)
