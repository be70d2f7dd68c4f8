"""ComfyUI, installed and run here."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from machine_lifecycle.installers.variables import held_environment
from machine_lifecycle.model.processes import Command, HttpReady, StopPolicy, WebSocketReady
from machine_lifecycle.model.services import Binding, Instance, Ports, ServiceDefinition
from machine_lifecycle.services.errors import ComfyArgsUnusable

__all__ = ["SERVICE", "known_arguments"]

_DECLARED = re.compile(r"""add_argument\(\s*["'](--[a-z][\w-]*)""")
_OURS = {
    "--port": "COMFYUI_BASE_PORT",
    "--listen": "COMFYUI_LISTEN",
    "--output-directory": "WORKSPACE_PATH",
    "--temp-directory": "WORKSPACE_PATH",
    "--user-directory": "WORKSPACE_PATH",
    "--database-url": "WORKSPACE_PATH",
    "--cuda-device": "CUDA_VISIBLE_DEVICES",
}
"""Arguments that each instance gets for itself, and the variable that moves what they say."""
_SHORTEST = len("--po")


def known_arguments(home: Path) -> frozenset[str]:
    """The arguments that the ComfyUI in *home* knows, as its own code declares them; none before it
    is installed. Versions differ: 0.3.12 has no ``--database-url``, 0.3.64 has.
    """
    try:
        text = (home / "comfy" / "cli_args.py").read_text("utf-8", "replace")
    except OSError:
        return frozenset()
    return frozenset(_DECLARED.findall(text))


def _further(text: str) -> list[str]:
    """``COMFY_ARGS``, split.

    Raises:
        ComfyArgsUnusable: It can't be split, or says what each instance must be told for itself.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ComfyArgsUnusable(arguments=text, problem=str(error).lower()) from error
    for word in words:
        flag = word.partition("=")[0]
        for ours, variable in _OURS.items():
            # ComfyUI takes abbreviations, too.
            if len(flag) >= _SHORTEST and ours.startswith(flag):
                raise ComfyArgsUnusable(
                    arguments=text,
                    problem=f"{ours} is given to each instance by itself",
                    variable=variable,
                )
    return words


def _folders(instance: Instance) -> tuple[Path, Path, Path]:
    data = instance.data
    return data / "output", data / "temp", data / "user"


def _shared_disk(instance: Instance) -> dict[str, str]:
    output, temporary, _ = _folders(instance)
    # It makes a folder of its own for temporary files.
    return {
        "COMFYUI_OUTPUT_DIRECTORY": str(output),
        "COMFYUI_TEMP_DIRECTORY": str(temporary / "temp"),
    }


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
    argv += ["--user-directory", str(user)]
    if "--database-url" in known_arguments(instance.home):
        # Of two instances on one database, the second goes without.
        argv += ["--database-url", f"sqlite:///{instance.data / 'comfyui.db'}"]
    argv += _further(settings.get("COMFY_ARGS", ""))
    env = {"PYTHONUNBUFFERED": "1", **held_environment(instance.home)}
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
    connector_env=_shared_disk,
    directories=_folders,
)
