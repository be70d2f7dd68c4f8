"""Which host this is, and which of its lives."""

from __future__ import annotations

import platform
from pathlib import Path

import psutil

__all__ = ["boot_id", "host_name"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def host_name() -> str:
    """The host's name."""
    return platform.node() or "localhost"


def boot_id() -> str:
    """Differs for each boot of the kernel: a process id counts within one boot only."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        return f"{psutil.boot_time():.0f}"
