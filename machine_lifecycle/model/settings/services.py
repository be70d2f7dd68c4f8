"""What concerns ComfyUI and the simulation."""

from __future__ import annotations

from pathlib import Path

import attrs

from machine_lifecycle.model.settings.fields import setting
from machine_lifecycle.model.settings.machine import OfMachine

__all__ = ["OfServices"]


@attrs.frozen(kw_only=True)
class OfServices(OfMachine):
    """What concerns ComfyUI and the simulation."""

    # ComfyUI
    comfyui_repo_url: str = setting(
        "COMFYUI_REPO_URL",
        "https://github.com/stakeordie/ComfyUI.git",
        "Where ComfyUI is cloned from.",
    )
    comfyui_branch: str = setting("COMFYUI_BRANCH", "", "Branch; empty: the remote's default.")
    comfyui_commit: str = setting("COMFYUI_COMMIT", "", "Commit; empty: the branch's newest.")
    comfyui_listen: str = setting(
        "COMFYUI_LISTEN", "127.0.0.1", "Address every service listens on."
    )
    comfyui_base_port: int = setting(
        ("COMFYUI_BASE_PORT", "COMFYUI_PORT_START"), 8188, "Port of the first ComfyUI."
    )
    comfyui_python: str = setting(
        "COMFYUI_PYTHON", "", "Python that runs ComfyUI; empty: an environment of its own."
    )
    comfy_args: str = setting("COMFY_ARGS", "", "Further arguments of ComfyUI, as a shell splits.")
    comfyui_cpu_mode: bool = setting(
        "COMFYUI_CPU_MODE", False, "Run ComfyUI on the CPU even where there is a GPU."
    )
    comfyui_hung_after: float = setting(
        "COMFYUI_HUNG_AFTER",
        300.0,
        "Seconds without a word of a running job after which a ComfyUI whose processes do nothing "
        "either is restarted; 0: never.",
    )
    comfyui_warmup: Path | None = setting(
        "COMFYUI_WARMUP",
        None,
        "A workflow in API form, a JSON file, that each ComfyUI runs before it takes jobs; unset: "
        "none.",
    )
    comfyui_warmup_timeout: float = setting(
        "COMFYUI_WARMUP_TIMEOUT",
        300.0,
        "Seconds that the warm-up of a service may take, whatever service it is.",
    )
    comfyui_remote_host: str = setting(
        ("WORKER_COMFYUI_REMOTE_HOST", "COMFYUI_HOST"), "", "Host of a ComfyUI that runs elsewhere."
    )
    comfyui_remote_port: int = setting(
        "WORKER_COMFYUI_REMOTE_PORT", 8188, "Port of a ComfyUI that runs elsewhere."
    )
    comfyui_remote_secure: bool = setting(
        "WORKER_COMFYUI_REMOTE_SECURE", False, "Use TLS towards a ComfyUI that runs elsewhere."
    )
    comfyui_remote_username: str = setting(
        "WORKER_COMFYUI_REMOTE_USERNAME", "", "Basic authentication towards a remote ComfyUI."
    )
    comfyui_remote_password: str = setting(
        "WORKER_COMFYUI_REMOTE_PASSWORD", "", "The password that goes with it.", secret=True
    )
    comfyui_remote_api_key: str = setting(
        "WORKER_COMFYUI_REMOTE_API_KEY", "", "Bearer token towards a remote ComfyUI.", secret=True
    )

    comfyui_remote_hung_after: float = setting(
        "WORKER_COMFYUI_REMOTE_HUNG_AFTER",
        300.0,
        "Seconds without a word of a running job after which a remote ComfyUI is taken for hung "
        "and the job is handed back; 0: never.",
    )
    comfyui_remote_output_directory: Path | None = setting(
        "WORKER_COMFYUI_REMOTE_OUTPUT_DIRECTORY",
        None,
        "Where a remote ComfyUI's output folder can be read from here: its files are read there.",
    )
    comfyui_remote_temp_directory: Path | None = setting(
        "WORKER_COMFYUI_REMOTE_TEMP_DIRECTORY", None, "The same of its temporary files."
    )

    # Simulation
    simulation_base_port: int = setting(
        ("SIMULATION_BASE_PORT", "SIMULATION_WS_BASE_PORT"),
        8399,
        "Port of the first simulated service.",
    )
    simulation_step_ms: int = setting(
        "SIMULATION_STEP_MS", 50, "Milliseconds that one simulated step takes."
    )
    simulation_ready_delay_ms: int = setting(
        "SIMULATION_READY_DELAY_MS", 0, "Milliseconds until the simulated service listens."
    )
    simulation_warmup: Path | None = setting(
        "SIMULATION_WARMUP", None, "What `COMFYUI_WARMUP` is to ComfyUI."
    )
    simulation_custom_nodes: Path | None = setting(
        "SIMULATION_CUSTOM_NODES", None, "Folder of node packs that it imports; none can be run."
    )
    simulation_failure_rate: float = setting(
        "WORKER_SIMULATION_FAILURE_RATE", 0.0, "Share of simulated jobs that fail, 0 to 1."
    )
