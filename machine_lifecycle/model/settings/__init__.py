"""The settings of a machine: one typed value, one environment variable per field.

Text is turned into this value by ``machine_lifecycle.config.settings``; the environment itself is
read by the command line alone. The generated page ``docs/reference/settings.md`` lists every field.

They are declared in parts, a module each, every part adding to the one before it: ``machine``,
``services``, ``installation``, ``workers``, and the rest here. That order is the reference's.
"""

from __future__ import annotations

import functools
import typing
from typing import Any

import attrs

from machine_lifecycle.model.choices import (
    BundleMode,
    CustomerIsolation,
    GpuMode,
    LockMode,
    LogFormat,
    OnFailed,
    RedisMode,
)
from machine_lifecycle.model.settings.fields import SettingInfo, fitted, setting
from machine_lifecycle.model.settings.workers import OfWorkers

__all__ = [
    "BundleMode",
    "CustomerIsolation",
    "GpuMode",
    "LockMode",
    "LogFormat",
    "OnFailed",
    "RedisMode",
    "SettingInfo",
    "Settings",
    "setting_info",
]


@attrs.frozen(kw_only=True)
class Settings(OfWorkers):
    """Everything that can be set from outside. Times are seconds unless a name says otherwise."""

    # Boot, restart, stop
    boot_attempts: int = setting(
        "MACHINE_BOOT_ATTEMPTS", 3, "Boots tried before the machine gives up."
    )
    boot_backoff: float = setting(
        "MACHINE_BOOT_BACKOFF", 5.0, "Wait before the second boot attempt; doubles each time."
    )
    boot_backoff_max: float = setting("MACHINE_BOOT_BACKOFF_MAX", 120.0, "Longest such wait.")
    crash_backoff_max: float = setting(
        "MACHINE_CRASH_BACKOFF_MAX",
        300.0,
        "Longest wait of a machine whose lives before failed, from the third one on; `0`: none.",
    )
    stall_limits: str = setting(
        "MACHINE_STALL_LIMITS",
        "",
        "Seconds without progress after which a state has failed, as `state=seconds,…`.",
    )
    state_caps: str = setting(
        "MACHINE_STATE_CAPS", "", "Longest time in a state, as `state=seconds,…`."
    )
    stop_budget: float = setting(
        "MACHINE_STOP_TIMEOUT", 10.0, "Total time for a stop, like `docker stop`'s."
    )
    drain_budget: float = setting(
        "MACHINE_DRAIN_TIMEOUT", 3.0, "Share of the stop budget in which running jobs may end."
    )
    on_failed: OnFailed = setting(
        "ON_FAILED", OnFailed.EXIT, "`exit`, or `stay`: keep pages and evidence up."
    )
    min_healthy: int = setting(
        "MACHINE_MIN_HEALTHY", 1, "Healthy workers below which the machine has failed."
    )

    # Reports
    health_host: str = setting(
        "MACHINE_HEALTH_HOST", "127.0.0.1", "Address of the health pages; `0.0.0.0` for probes."
    )
    health_port: int = setting(
        "MACHINE_HEALTH_PORT", 9090, "Port of the health pages; 0: any free one."
    )
    health_token: str = setting(
        "MACHINE_HEALTH_TOKEN",
        "",
        "Token for pages that change the machine or show logs.",
        secret=True,
    )
    status_interval: float = setting(
        "MACHINE_STATUS_UPDATE_INTERVAL_SECONDS", 10.0, "Seconds between status messages; below 30."
    )
    disk_low_gb: float = setting(
        "MACHINE_DISK_LOW_GB",
        5.0,
        "GiB free on the workspace's disk below which `disk_low` is raised; 0: never.",
    )
    disk_full_mb: float = setting(
        "MACHINE_DISK_FULL_MB",
        512.0,
        "MiB free on it below which workers take no further jobs; 0: never.",
    )
    webhook_url: str = setting(
        "MACHINE_WEBHOOK_URL", "", "Where events are posted as JSON; empty: nowhere.", secret=True
    )
    webhook_secret: str = setting(
        "MACHINE_WEBHOOK_SECRET", "", "Signs what is posted (HMAC-SHA256).", secret=True
    )
    webhook_events: str = setting(
        "MACHINE_WEBHOOK_EVENTS",
        "changed,condition_changed,machine_ready,machine_failed,machine_stopped",
        "Kinds of events that are posted, separated by commas.",
    )
    events_stream: int = setting(
        "MACHINE_EVENTS_STREAM",
        1000,
        "Events kept in Redis, in the stream `machine:{id}:events`; 0: none are sent.",
    )
    observers: str = setting(
        "MACHINE_OBSERVERS",
        "",
        "Observers of installed packages, by entry point or `module:attribute`, separated by "
        "commas.",
    )
    gates: str = setting("MACHINE_GATES", "", "Gates of installed packages, likewise.")
    log_level: str = setting("LOG_LEVEL", "info", "`debug`, `info`, `warning` or `error`.")
    log_format: LogFormat = setting("LOG_FORMAT", LogFormat.AUTO, "`auto`, `text` or `json`.")
    log_max_mb: int = setting(
        "MACHINE_LOG_MAX_MB",
        64,
        "MiB that the log of a process may hold before they are put aside; 0: no limit.",
    )
    log_archives: int = setting(
        "MACHINE_LOG_ARCHIVES", 3, "Older parts of each log that are kept, of that size at most."
    )
    log_max_age_days: float = setting(
        "MACHINE_LOG_MAX_AGE_DAYS",
        0.0,
        "Days after which a log that is written to is put aside, and its older parts are removed; "
        "0: never.",
    )
    log_compress: bool = setting(
        "MACHINE_LOG_COMPRESS", False, "Write the older parts of logs as gzip."
    )
    output_keep_days: float = setting(
        "MACHINE_OUTPUT_KEEP_DAYS",
        7.0,
        "Days for which files in a service's own output and temp folders are kept; 0: for ever.",
    )
    output_keep_gb: float = setting(
        "MACHINE_OUTPUT_KEEP_GB",
        10.0,
        "GiB of them that are kept for each instance, the newest ones; 0: all.",
    )
    output_store: str = setting(
        "WORKER_OUTPUT_STORE",
        "",
        "Where what jobs make is kept: a folder, or a bucket such as `s3://NAME/PREFIX`; empty: in "
        "Redis, files up to 8 MiB.",
    )
    tee_logs: bool = setting(
        "MACHINE_TEE_LOGS", False, "Repeat the processes' output on ours, with their names."
    )

    def __attrs_post_init__(self) -> None:
        """Take paths and choices that a program gives as texts for what they say.

        Raises:
            TypeError: Values of another type, all of them.
        """
        wrong: list[str] = []
        for name, wanted in _types().items():
            value = getattr(self, name)
            try:
                fit = fitted(value, wanted)
            except TypeError as error:
                secret = attrs.fields_dict(Settings)[name].metadata["info"].secret
                shown = type(value).__name__ if secret else repr(value)
                wrong.append(f"{name} must be {error}, not {shown}")
            else:
                if fit is not value:
                    object.__setattr__(self, name, fit)
        if wrong:
            raise TypeError(f"Settings: {'; '.join(wrong)}")


@functools.cache
def _types() -> dict[str, Any]:
    return typing.get_type_hints(Settings)


def setting_info() -> tuple[SettingInfo, ...]:
    """Every setting in order of declaration."""
    return tuple(
        attrs.evolve(field.metadata["info"], field=field.name) for field in attrs.fields(Settings)
    )
