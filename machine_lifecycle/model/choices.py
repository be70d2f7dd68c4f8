"""What settings choose among."""

from __future__ import annotations

from enum import Enum

__all__ = [
    "BundleMode",
    "CustomerIsolation",
    "GpuMode",
    "LockMode",
    "LogFormat",
    "OnFailed",
    "RedisMode",
]


class BundleMode(Enum):
    """Where the worker bundle comes from."""

    NONE = "none"
    LOCAL = "local"
    REMOTE = "remote"


class GpuMode(Enum):
    """Which GPUs count."""

    ACTUAL = "actual"
    MOCK = "mock"


class LockMode(Enum):
    """What a boot does about the lock of what it installs."""

    MAKE = "make"
    """Follow it; make one where there is none."""
    REQUIRE = "require"
    """Follow it; without one there is no boot."""
    OFF = "off"
    """Pay no heed to it: install whatever branches and ranges of versions come to."""


class CustomerIsolation(Enum):
    """How far workers keep the jobs of one customer from those of another."""

    NONE = "none"
    LOOSE = "loose"
    STRICT = "strict"
    """They are fit for jobs that require it."""


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
