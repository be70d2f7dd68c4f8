"""What settings choose among."""

from __future__ import annotations

from enum import Enum

__all__ = ["BundleMode", "GpuMode", "LogFormat", "OnFailed", "RedisMode"]


class BundleMode(Enum):
    """Where the worker bundle comes from."""

    NONE = "none"
    LOCAL = "local"
    REMOTE = "remote"


class GpuMode(Enum):
    """Which GPUs count."""

    ACTUAL = "actual"
    MOCK = "mock"


class OnFailed(Enum):
    """What a machine does when its boot attempts are used up."""

    EXIT = "exit"
    STAY = "stay"


class RedisMode(Enum):
    """Where the queue lives."""

    AUTO = "auto"
    """``HUB_REDIS_URL`` if set; else embedded, if every service of the machine is simulated."""
    HUB = "hub"
    EMBEDDED = "embedded"


class LogFormat(Enum):
    """How log lines look."""

    AUTO = "auto"
    """Text on a terminal, JSON elsewhere."""
    TEXT = "text"
    JSON = "json"
