"""What runs, who and where the machine is, its queue, its hardware."""

from __future__ import annotations

from pathlib import Path

import attrs

from machine_lifecycle.model.choices import BundleMode, GpuMode, RedisMode
from machine_lifecycle.model.settings.fields import setting

__all__ = ["OfMachine"]


@attrs.frozen(kw_only=True)
class OfMachine:
    """What runs, who and where the machine is, its hardware."""

    # What runs
    workers: str = setting(
        ("WORKERS", "WORKER_CONNECTORS"),
        "simulation:1",
        "What the machine runs: `type[:count|auto]`, separated by commas.",
    )
    service_mapping: Path | None = setting(
        "SERVICE_MAPPING_PATH", None, "Your own service mapping; unset: the one in the package."
    )
    worker_bundle_mode: BundleMode = setting(
        "WORKER_BUNDLE_MODE",
        BundleMode.NONE,
        "Where further connectors come from: `none`, `local` (a folder is copied) or `remote` (an "
        "archive is downloaded).",
    )
    worker_local_path: Path = setting(
        "WORKER_LOCAL_PATH",
        Path("/service-manager/worker-bundled"),
        "The folder that `local` copies.",
    )
    worker_download_url: str = setting(
        "WORKER_DOWNLOAD_URL", "", "The archive (tar or zip) that `remote` downloads.", secret=True
    )
    worker_download_sha256: str = setting(
        "WORKER_DOWNLOAD_SHA256", "", "Its SHA-256 in hex, without which it is not used."
    )

    # Who and where
    machine_id: str = setting(
        "MACHINE_ID",
        "",
        "Unique in the fleet; empty: the platform's (pod, container), else a file's.",
    )
    workspace: Path | None = setting(
        "WORKSPACE_PATH",
        None,
        "Installed services, logs, outputs; unset: `/workspace` if it is there, else a per-user "
        "data folder.",
    )
    services_path: Path | None = setting(
        "MACHINE_SERVICES_PATH",
        None,
        "Where services are installed, a volume that machines share, perhaps; unset: in the "
        "workspace.",
    )
    runtime_dir: Path | None = setting(
        "MACHINE_RUNTIME_DIR", None, "Sockets, locks, journal; unset: a per-user runtime folder."
    )

    # Queue
    redis_url: str = setting(
        "HUB_REDIS_URL",
        "",
        "The fleet's Redis: `redis://`, `rediss://`, `unix://` or `redis+sentinel://`.",
        secret=True,
    )
    redis_mode: RedisMode = setting(
        "REDIS", RedisMode.AUTO, "`auto`, `hub` or `embedded`: where the queue lives."
    )

    # Hardware
    gpu_mode: GpuMode = setting(
        "GPU_MODE", GpuMode.ACTUAL, "`actual`, or `mock` for simulated GPUs even beside real ones."
    )
    mock_gpus: int | None = setting(
        "MOCK_GPU_NUM", None, "Number of simulated GPUs; counts where no real one is found."
    )
    mock_gpu_model: str = setting("MACHINE_GPU_MODEL", "Simulated GPU", "Model of simulated GPUs.")
    mock_gpu_memory_gb: int = setting(
        "MACHINE_GPU_MEMORY_GB", 16, "Memory of a simulated GPU in GiB."
    )
    cuda_visible_devices: str | None = setting(
        "CUDA_VISIBLE_DEVICES", None, "GPUs this machine may use, as CUDA reads it."
    )
    gpu_by_uuid: bool = setting(
        "MACHINE_GPU_BY_UUID",
        False,
        "Name each service's GPU by its UUID, which stays when the order of GPUs changes.",
    )
    gpu_memory_wait: float = setting(
        "MACHINE_GPU_MEMORY_WAIT",
        30.0,
        "Seconds that a service waits at most, before it is started anew, for the memory of its GPU"
        " to be free again; `0`: it doesn't wait.",
    )
