"""The settings of a machine: one typed value, one environment variable per field.

Text is turned into this value by ``machine_lifecycle.config.settings``; the environment itself is
read by the command line alone. The generated page ``docs/reference/settings.md`` lists every field.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from machine_lifecycle.model.choices import BundleMode, GpuMode, LogFormat, OnFailed, RedisMode

__all__ = [
    "BundleMode",
    "GpuMode",
    "LogFormat",
    "OnFailed",
    "RedisMode",
    "SettingInfo",
    "Settings",
    "setting_info",
]


@attrs.frozen(kw_only=True)
class SettingInfo:
    """What is known of one setting.

    Attributes:
        field: Attribute of ``Settings``.
        env: Environment variable, and older names of it, first one first.
        help: What it means, with its unit.
        secret: Whether its value must never be shown.
    """

    field: str
    env: tuple[str, ...]
    help: str
    secret: bool = False


def _setting(env: str | tuple[str, ...], default: Any, text: str, *, secret: bool = False) -> Any:
    names = (env,) if isinstance(env, str) else env
    return attrs.field(
        default=default,
        repr=not secret,
        metadata={"info": SettingInfo(field="", env=names, help=text, secret=secret)},
    )


# Declared in parts, each adding to the one before it, so that their order is that of the reference.


@attrs.frozen(kw_only=True)
class _OfMachine:
    """What runs, who and where the machine is, its hardware."""

    # What runs
    workers: str = _setting(
        ("WORKERS", "WORKER_CONNECTORS"),
        "simulation:1",
        "What the machine runs: `type[:count|auto]`, separated by commas.",
    )
    service_mapping: Path | None = _setting(
        "SERVICE_MAPPING_PATH", None, "Your own service mapping; unset: the one in the package."
    )
    worker_bundle_mode: BundleMode = _setting(
        "WORKER_BUNDLE_MODE",
        BundleMode.NONE,
        "Where further connectors come from: `none`, `local` (a folder is copied) or `remote` (an "
        "archive is downloaded).",
    )
    worker_local_path: Path = _setting(
        "WORKER_LOCAL_PATH",
        Path("/service-manager/worker-bundled"),
        "The folder that `local` copies.",
    )
    worker_download_url: str = _setting(
        "WORKER_DOWNLOAD_URL", "", "The archive (tar or zip) that `remote` downloads.", secret=True
    )
    worker_download_sha256: str = _setting(
        "WORKER_DOWNLOAD_SHA256", "", "Its SHA-256 in hex, without which it is not used."
    )

    # Who and where
    machine_id: str = _setting(
        "MACHINE_ID",
        "",
        "Unique in the fleet; empty: the platform's (pod, container), else a file's.",
    )
    workspace: Path | None = _setting(
        "WORKSPACE_PATH",
        None,
        "Installed services, logs, outputs; unset: `/workspace` if it is there, else a per-user "
        "data folder.",
    )
    runtime_dir: Path | None = _setting(
        "MACHINE_RUNTIME_DIR", None, "Sockets, locks, journal; unset: a per-user runtime folder."
    )

    # Queue
    redis_url: str = _setting(
        "HUB_REDIS_URL",
        "",
        "The fleet's Redis: `redis://`, `rediss://`, `unix://` or `redis+sentinel://`.",
        secret=True,
    )
    redis_mode: RedisMode = _setting(
        "REDIS", RedisMode.AUTO, "`auto`, `hub` or `embedded`: where the queue lives."
    )

    # Hardware
    gpu_mode: GpuMode = _setting(
        "GPU_MODE", GpuMode.ACTUAL, "`actual`, or `mock` for simulated GPUs even beside real ones."
    )
    mock_gpus: int | None = _setting(
        "MOCK_GPU_NUM", None, "Number of simulated GPUs; counts where no real one is found."
    )
    mock_gpu_model: str = _setting("MACHINE_GPU_MODEL", "Simulated GPU", "Model of simulated GPUs.")
    mock_gpu_memory_gb: int = _setting(
        "MACHINE_GPU_MEMORY_GB", 16, "Memory of a simulated GPU in GiB."
    )
    cuda_visible_devices: str | None = _setting(
        "CUDA_VISIBLE_DEVICES", None, "GPUs this machine may use, as CUDA reads it."
    )
    gpu_by_uuid: bool = _setting(
        "MACHINE_GPU_BY_UUID",
        False,
        "Name each service's GPU by its UUID, which stays when the order of GPUs changes.",
    )
    gpu_memory_wait: float = _setting(
        "MACHINE_GPU_MEMORY_WAIT",
        30.0,
        "Seconds that a service waits at most, before it is started anew, for the memory of its GPU"
        " to be free again; `0`: it doesn't wait.",
    )


@attrs.frozen(kw_only=True)
class _OfServices(_OfMachine):
    """What concerns ComfyUI and the simulation."""

    # ComfyUI
    comfyui_repo_url: str = _setting(
        "COMFYUI_REPO_URL",
        "https://github.com/stakeordie/ComfyUI.git",
        "Where ComfyUI is cloned from.",
    )
    comfyui_branch: str = _setting("COMFYUI_BRANCH", "", "Branch; empty: the remote's default.")
    comfyui_commit: str = _setting("COMFYUI_COMMIT", "", "Commit; empty: the branch's newest.")
    comfyui_listen: str = _setting(
        "COMFYUI_LISTEN", "127.0.0.1", "Address every service listens on."
    )
    comfyui_base_port: int = _setting(
        ("COMFYUI_BASE_PORT", "COMFYUI_PORT_START"), 8188, "Port of the first ComfyUI."
    )
    comfyui_python: str = _setting(
        "COMFYUI_PYTHON", "", "Python that runs ComfyUI; empty: an environment of its own."
    )
    comfy_args: str = _setting("COMFY_ARGS", "", "Further arguments of ComfyUI, as a shell splits.")
    comfyui_cpu_mode: bool = _setting(
        "COMFYUI_CPU_MODE", False, "Run ComfyUI on the CPU even where there is a GPU."
    )
    comfyui_hung_after: float = _setting(
        "COMFYUI_HUNG_AFTER",
        300.0,
        "Seconds without a word of a running job after which a ComfyUI whose processes do nothing "
        "either is restarted; 0: never.",
    )
    comfyui_warmup: Path | None = _setting(
        "COMFYUI_WARMUP",
        None,
        "A workflow in API form, a JSON file, that each ComfyUI runs before it takes jobs; unset: "
        "none.",
    )
    comfyui_warmup_timeout: float = _setting(
        "COMFYUI_WARMUP_TIMEOUT",
        300.0,
        "Seconds that the warm-up of a service may take, whatever service it is.",
    )
    comfyui_nodes: Path | None = _setting(
        "CONFIG_NODES_PATH", None, "The list of node packs, a `config_nodes.json`; unset: none."
    )
    torch_backend: str = _setting(
        "TORCH_BACKEND",
        "",
        "Build of torch for a new environment: `cpu`, `cu128`, `auto` …; `none`: whatever the "
        "package index has; empty: `auto` with an NVIDIA driver, else `cpu`.",
    )
    install_concurrency: int = _setting(
        "MACHINE_INSTALL_CONCURRENCY", 5, "Installation steps that run at once."
    )
    git_global_config: bool = _setting(
        "MACHINE_GIT_GLOBAL_CONFIG", False, "Let git read the user's and the system's settings."
    )
    comfyui_remote_host: str = _setting(
        ("WORKER_COMFYUI_REMOTE_HOST", "COMFYUI_HOST"), "", "Host of a ComfyUI that runs elsewhere."
    )
    comfyui_remote_port: int = _setting(
        "WORKER_COMFYUI_REMOTE_PORT", 8188, "Port of a ComfyUI that runs elsewhere."
    )
    comfyui_remote_secure: bool = _setting(
        "WORKER_COMFYUI_REMOTE_SECURE", False, "Use TLS towards a ComfyUI that runs elsewhere."
    )
    comfyui_remote_username: str = _setting(
        "WORKER_COMFYUI_REMOTE_USERNAME", "", "Basic authentication towards a remote ComfyUI."
    )
    comfyui_remote_password: str = _setting(
        "WORKER_COMFYUI_REMOTE_PASSWORD", "", "The password that goes with it.", secret=True
    )
    comfyui_remote_api_key: str = _setting(
        "WORKER_COMFYUI_REMOTE_API_KEY", "", "Bearer token towards a remote ComfyUI.", secret=True
    )

    comfyui_remote_hung_after: float = _setting(
        "WORKER_COMFYUI_REMOTE_HUNG_AFTER",
        300.0,
        "Seconds without a word of a running job after which a remote ComfyUI is taken for hung "
        "and the job is handed back; 0: never.",
    )

    # Simulation
    simulation_base_port: int = _setting(
        ("SIMULATION_BASE_PORT", "SIMULATION_WS_BASE_PORT"),
        8399,
        "Port of the first simulated service.",
    )
    simulation_step_ms: int = _setting(
        "SIMULATION_STEP_MS", 50, "Milliseconds that one simulated step takes."
    )
    simulation_ready_delay_ms: int = _setting(
        "SIMULATION_READY_DELAY_MS", 0, "Milliseconds until the simulated service listens."
    )
    simulation_warmup: Path | None = _setting(
        "SIMULATION_WARMUP", None, "What `COMFYUI_WARMUP` is to ComfyUI."
    )
    simulation_custom_nodes: Path | None = _setting(
        "SIMULATION_CUSTOM_NODES", None, "Folder of node packs that it imports; none can be run."
    )
    simulation_failure_rate: float = _setting(
        "WORKER_SIMULATION_FAILURE_RATE", 0.0, "Share of simulated jobs that fail, 0 to 1."
    )


@attrs.frozen(kw_only=True)
class Settings(_OfServices):
    """Everything that can be set from outside. Times are seconds unless a name says otherwise."""

    # Boot, restart, stop
    boot_attempts: int = _setting(
        "MACHINE_BOOT_ATTEMPTS", 3, "Boots tried before the machine gives up."
    )
    boot_backoff: float = _setting(
        "MACHINE_BOOT_BACKOFF", 5.0, "Wait before the second boot attempt; doubles each time."
    )
    boot_backoff_max: float = _setting("MACHINE_BOOT_BACKOFF_MAX", 120.0, "Longest such wait.")
    crash_backoff_max: float = _setting(
        "MACHINE_CRASH_BACKOFF_MAX",
        300.0,
        "Longest wait of a machine whose lives before failed, from the third one on; `0`: none.",
    )
    stall_limits: str = _setting(
        "MACHINE_STALL_LIMITS",
        "",
        "Seconds without progress after which a state has failed, as `state=seconds,…`.",
    )
    state_caps: str = _setting(
        "MACHINE_STATE_CAPS", "", "Longest time in a state, as `state=seconds,…`."
    )
    stop_budget: float = _setting(
        "MACHINE_STOP_TIMEOUT", 10.0, "Total time for a stop, like `docker stop`'s."
    )
    drain_budget: float = _setting(
        "MACHINE_DRAIN_TIMEOUT", 3.0, "Share of the stop budget in which running jobs may end."
    )
    on_failed: OnFailed = _setting(
        "ON_FAILED", OnFailed.EXIT, "`exit`, or `stay`: keep pages and evidence up."
    )
    min_healthy: int = _setting(
        "MACHINE_MIN_HEALTHY", 1, "Healthy workers below which the machine has failed."
    )

    # Workers
    job_timeout_minutes: float = _setting(
        ("WORKER_JOB_TIMEOUT_MINUTES", "JOB_TIMEOUT_MINUTES"), 30.0, "Minutes a job may take."
    )
    heartbeat_ms: int = _setting(
        "WORKER_HEARTBEAT_INTERVAL_MS", 30_000, "Milliseconds between a worker's heartbeats."
    )
    poll_ms: int = _setting(
        "WORKER_POLL_INTERVAL_MS",
        2_000,
        "Milliseconds between a fleet's looks at what messages missed; idle workers take turns.",
    )
    concurrent_jobs: int = _setting(
        "WORKER_MAX_CONCURRENT_JOBS", 0, "Jobs a worker does at a time; 0: what its service takes."
    )

    # Reports
    health_host: str = _setting(
        "MACHINE_HEALTH_HOST", "127.0.0.1", "Address of the health pages; `0.0.0.0` for probes."
    )
    health_port: int = _setting(
        "MACHINE_HEALTH_PORT", 9090, "Port of the health pages; 0: any free one."
    )
    health_token: str = _setting(
        "MACHINE_HEALTH_TOKEN",
        "",
        "Token for pages that change the machine or show logs.",
        secret=True,
    )
    status_interval: float = _setting(
        "MACHINE_STATUS_UPDATE_INTERVAL_SECONDS", 10.0, "Seconds between status messages; below 30."
    )
    disk_low_gb: float = _setting(
        "MACHINE_DISK_LOW_GB",
        5.0,
        "GiB free on the workspace's disk below which `disk_low` is raised; 0: never.",
    )
    disk_full_mb: float = _setting(
        "MACHINE_DISK_FULL_MB",
        512.0,
        "MiB free on it below which workers take no further jobs; 0: never.",
    )
    webhook_url: str = _setting(
        "MACHINE_WEBHOOK_URL", "", "Where events are posted as JSON; empty: nowhere.", secret=True
    )
    webhook_secret: str = _setting(
        "MACHINE_WEBHOOK_SECRET", "", "Signs what is posted (HMAC-SHA256).", secret=True
    )
    webhook_events: str = _setting(
        "MACHINE_WEBHOOK_EVENTS",
        "changed,condition_changed,machine_ready,machine_failed,machine_stopped",
        "Kinds of events that are posted, separated by commas.",
    )
    events_stream: int = _setting(
        "MACHINE_EVENTS_STREAM",
        1000,
        "Events kept in Redis, in the stream `machine:{id}:events`; 0: none are sent.",
    )
    observers: str = _setting(
        "MACHINE_OBSERVERS",
        "",
        "Observers of installed packages, by entry point or `module:attribute`, separated by "
        "commas.",
    )
    gates: str = _setting("MACHINE_GATES", "", "Gates of installed packages, likewise.")
    log_level: str = _setting("LOG_LEVEL", "info", "`debug`, `info`, `warning` or `error`.")
    log_format: LogFormat = _setting("LOG_FORMAT", LogFormat.AUTO, "`auto`, `text` or `json`.")
    log_max_mb: int = _setting(
        "MACHINE_LOG_MAX_MB",
        64,
        "MiB that the log of a process may hold before they are put aside; 0: no limit.",
    )
    log_archives: int = _setting(
        "MACHINE_LOG_ARCHIVES", 3, "Older parts of each log that are kept, of that size at most."
    )
    log_max_age_days: float = _setting(
        "MACHINE_LOG_MAX_AGE_DAYS",
        0.0,
        "Days after which a log that is written to is put aside, and its older parts are removed; "
        "0: never.",
    )
    log_compress: bool = _setting(
        "MACHINE_LOG_COMPRESS", False, "Write the older parts of logs as gzip."
    )
    output_keep_days: float = _setting(
        "MACHINE_OUTPUT_KEEP_DAYS",
        7.0,
        "Days for which files in a service's own output and temp folders are kept; 0: for ever.",
    )
    output_keep_gb: float = _setting(
        "MACHINE_OUTPUT_KEEP_GB",
        10.0,
        "GiB of them that are kept for each instance, the newest ones; 0: all.",
    )
    output_store: str = _setting(
        "WORKER_OUTPUT_STORE",
        "",
        "Where what jobs make is kept: a folder, or a bucket such as `s3://NAME/PREFIX`; empty: in "
        "Redis, files up to 8 MiB.",
    )
    tee_logs: bool = _setting(
        "MACHINE_TEE_LOGS", False, "Repeat the processes' output on ours, with their names."
    )


def setting_info() -> tuple[SettingInfo, ...]:
    """Every setting in order of declaration."""
    return tuple(
        attrs.evolve(field.metadata["info"], field=field.name) for field in attrs.fields(Settings)
    )
