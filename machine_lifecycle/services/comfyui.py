"""ComfyUI, installed and run here."""

from __future__ import annotations

import shlex
from pathlib import Path

from machine_lifecycle.model.processes import Command, HttpReady, StopPolicy, WebSocketReady
from machine_lifecycle.model.services import Binding, Instance, Ports, ServiceDefinition

__all__ = ["SERVICE"]


def _folders(instance: Instance) -> tuple[Path, Path, Path]:
    data = instance.data
    return data / "output", data / "temp", data / "user"


def _process(instance: Instance) -> Command:
    settings = instance.settings
    python = settings.get("COMFYUI_PYTHON") or str(instance.home / "venv" / "bin" / "python")
    on_gpu = (
        instance.gpu is not None
        and not instance.gpu.simulated
        and settings.get("COMFYUI_CPU_MODE") != "true"
    )
    output, temporary, user = _folders(instance)
    argv = [python, "main.py", "--listen", instance.host, "--port", str(instance.port)]
    argv += [] if on_gpu else ["--cpu"]
    argv += ["--output-directory", str(output), "--temp-directory", str(temporary)]
    argv += ["--user-directory", str(user), *shlex.split(settings.get("COMFY_ARGS", ""))]
    env = {"PYTHONUNBUFFERED": "1"}
    if on_gpu and instance.gpu is not None:
        env["CUDA_VISIBLE_DEVICES"] = instance.gpu.visible
        # CUDA's own order is by speed; the driver's tools, and so our numbers, go by bus.
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    return Command(argv=tuple(argv), cwd=instance.home, env=env)


SERVICE = ServiceDefinition(
    name="comfyui",
    summary="ComfyUI: images and video from a graph of nodes.",
    capabilities=("comfyui",),
    connector="machine_lifecycle.connectors.comfyui:ComfyUIConnector",
    installer="machine_lifecycle.installers.comfyui:ComfyUIInstaller",
    process=_process,
    binding=Binding.GPU,
    ports=Ports(base=8188, setting="comfyui_base_port"),
    readiness=(HttpReady(path="/system_stats"), WebSocketReady(path="/ws")),
    # Many nodes were seen to take nine minutes to an open port; this is a cap, not an expectation.
    start_deadline=900.0,
    stop=StopPolicy(signal="SIGTERM", grace=5.0),
    aliases=(
        "installComfyUI",
        "ComfyUIManagementClient",
        "ComfyUIConnector",
        "ComfyUIWebSocketConnector",
    ),
    directories=_folders,
)
