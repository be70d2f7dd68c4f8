"""Text to typed values, and what each setting may be."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

from machine_lifecycle.model.redis_url import RedisUrl
from machine_lifecycle.model.settings import Settings

__all__ = [
    "Unusable",
    "check",
    "convert",
    "field_types",
    "parse_limits",
    "parse_mirrors",
    "text_of",
]

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "warn": "warning"}
_LEVELS |= {"error": "error"}
_STATUS_INTERVAL_LIMIT = 30.0
"""Seconds after which a reader of the fleet takes a silent machine for lost."""


class Unusable(ValueError):
    """A text can't be turned into the value that is wanted. Never leaves this room.

    Attributes:
        example: A text that would do; none where the setting's default is the best one.
    """

    def __init__(self, problem: str, example: str = "") -> None:
        super().__init__(problem)
        self.example = example


def field_types() -> Mapping[str, Any]:
    """The type of every setting, by field."""
    return typing.get_type_hints(Settings)


def convert(text: str, wanted: Any, home: str = "") -> Any:
    """Turn *text* into a value of the type *wanted*.

    Args:
        text: As written; spaces around it are ignored.
        wanted: A type of a field of ``Settings``; optional ones too.
        home: What ``~`` stands for at the start of a path; empty leaves it.

    Raises:
        Unusable: With the reason and an example.
    """
    text = text.strip()
    if isinstance(wanted, types.UnionType):
        wanted = next(one for one in typing.get_args(wanted) if one is not types.NoneType)
    if wanted is bool:
        return _to_bool(text)
    if wanted in (int, float):
        return _to_number(text, wanted)
    if wanted is Path:
        return Path(home + text[1:] if home and text.startswith("~/") else text)
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return _to_enum(text, wanted)
    return text


def _to_bool(text: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise Unusable("neither true nor false", "true")


def _to_number(text: str, wanted: type[int | float]) -> int | float:
    word = "whole number" if wanted is int else "number"
    try:
        value = wanted(text)
    except ValueError:
        raise Unusable(f"not a {word}") from None
    if not math.isfinite(value):
        raise Unusable("not a finite number")
    return value


def _to_enum(text: str, wanted: type[Enum]) -> Enum:
    try:
        return wanted(text.lower())
    except ValueError:
        words = [str(member.value) for member in wanted]
        raise Unusable(f"must be one of {', '.join(words)}", words[0]) from None


def text_of(value: Any) -> str:
    """A value as it would be written into the environment."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value.value) if isinstance(value, Enum) else str(value)


def parse_limits(text: str) -> Mapping[str, float]:
    """Read ``state=seconds,…``.

    Returns:
        Seconds by state, in the order written; empty for an empty text.

    Raises:
        Unusable: With the item that can't be read.
    """
    limits: dict[str, float] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        state, equals, seconds = (part.strip() for part in item.partition("="))
        if not equals or not state.replace("_", "").isalnum():
            raise Unusable(f"`{item}` is not `state=seconds`", "installing=900")
        try:
            value = float(seconds)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value > 0):
            raise Unusable(f"`{item}`: seconds must be a number above 0", f"{state}=900")
        if state in limits:
            raise Unusable(f"`{state}` is given twice", f"{state}=900")
        limits[state] = value
    return limits


def parse_mirrors(text: str) -> Mapping[str, str]:
    """Read ``ADDRESS=INSTEAD,…``.

    Returns:
        Beginnings of addresses, and what stands there instead.

    Raises:
        Unusable: With the item that can't be read.
    """
    example = "https://github.com/=https://git.example.org/github/"
    mirrors: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        start, equals, instead = (part.strip() for part in item.partition("="))
        if not equals or "://" not in start or not instead or instead.startswith("-"):
            raise Unusable(f"`{item}` is not `ADDRESS=INSTEAD`", example)
        if start.endswith("/") != instead.endswith("/"):
            raise Unusable(f"`{item}`: both end with a slash, or none", example)
        if start in mirrors:
            raise Unusable(f"`{start}` is given twice", example)
        mirrors[start] = instead
    return mirrors


def _between(low: float, high: float, example: str) -> Callable[[Any], Any]:
    def checked(value: Any) -> Any:
        if value is not None and not low <= value <= high:
            bound = f"{low:g} to {high:g}" if math.isfinite(high) else f"{low:g} or more"
            raise Unusable(f"must be {bound}", example)
        return value

    return checked


def _above_zero(example: str) -> Callable[[Any], Any]:
    def checked(value: Any) -> Any:
        if value <= 0:
            raise Unusable("must be above 0", example)
        return value

    return checked


def _redis_url(value: str) -> str:
    if value:
        try:
            RedisUrl.parse(value)
        except ValueError as error:
            raise Unusable(str(error), "redis://:PASSWORD@127.0.0.1:6379/0") from None
    return value


def _web_address(value: str) -> str:
    example = "https://example.org/machines"
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise Unusable("not a URL", example) from None
    if value and (parts.scheme not in {"http", "https"} or not parts.hostname):
        raise Unusable("must be a whole http:// or https:// address", example)
    return value


def _log_level(value: str) -> str:
    level = _LEVELS.get(value.lower())
    if level is None:
        raise Unusable("must be one of debug, info, warning, error", "info")
    return level


def _limits(value: str) -> str:
    parse_limits(value)
    return value


def _mirrors(value: str) -> str:
    parse_mirrors(value)
    return value


def _hosts(value: str) -> str:
    for host in filter(None, (part.strip() for part in value.split(","))):
        if "/" in host or "*" in host or "@" in host:
            raise Unusable(f"`{host}` is no host", "github.com,huggingface.co")
    return value


def _status_interval(value: float) -> float:
    if not 0 < value < _STATUS_INTERVAL_LIMIT:
        raise Unusable("must be above 0 and below 30, else readers take us for lost", "10")
    return value


_PORT = _between(1, 65535, "8188")
_NOT_NEGATIVE = _between(0, math.inf, "0")

_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "redis_url": _redis_url,
    "mirrors": _mirrors,
    "allowed_hosts": _hosts,
    "crash_backoff_max": _NOT_NEGATIVE,
    "pack_floor": _between(0, 1, "0.9"),
    "gpu_memory_wait": _NOT_NEGATIVE,
    "disk_low_gb": _NOT_NEGATIVE,
    "disk_full_mb": _NOT_NEGATIVE,
    "webhook_url": _web_address,
    "events_stream": _between(0, 100_000, "1000"),
    "mock_gpus": _between(0, 1024, "2"),
    "mock_gpu_memory_gb": _between(1, 4096, "16"),
    "comfyui_base_port": _PORT,
    "comfyui_hung_after": _NOT_NEGATIVE,
    "comfyui_warmup_timeout": _between(1, 86_400, "300"),
    "comfyui_remote_hung_after": _NOT_NEGATIVE,
    "comfyui_remote_port": _PORT,
    "install_concurrency": _between(1, 256, "5"),
    "models_concurrency": _between(1, 64, "4"),
    "models_connections": _between(1, 64, "4"),
    "log_max_mb": _NOT_NEGATIVE,
    "log_archives": _NOT_NEGATIVE,
    "output_keep_days": _NOT_NEGATIVE,
    "output_keep_gb": _NOT_NEGATIVE,
    "log_max_age_days": _NOT_NEGATIVE,
    "simulation_base_port": _PORT,
    "simulation_step_ms": _NOT_NEGATIVE,
    "simulation_ready_delay_ms": _NOT_NEGATIVE,
    "simulation_failure_rate": _between(0, 1, "0.1"),
    "boot_attempts": _between(1, math.inf, "3"),
    "boot_backoff": _NOT_NEGATIVE,
    "boot_backoff_max": _NOT_NEGATIVE,
    "stall_limits": _limits,
    "state_caps": _limits,
    "stop_budget": _above_zero("10"),
    "drain_budget": _NOT_NEGATIVE,
    "min_healthy": _NOT_NEGATIVE,
    "job_timeout_minutes": _above_zero("30"),
    "heartbeat_ms": _above_zero("30000"),
    "poll_ms": _above_zero("5000"),
    "retry_backoff_ms": _NOT_NEGATIVE,
    "health_port": _between(0, 65535, "9090"),
    "status_interval": _status_interval,
    "log_level": _log_level,
}

# A check of a setting that is gone would never run; the names are held to the fields here.
_UNKNOWN = set(_CHECKS) - {field.name for field in attrs.fields(Settings)}
if _UNKNOWN:
    raise LookupError(_UNKNOWN)


def check(field: str, value: Any) -> Any:
    """The value of a setting as it is used, if it may have it.

    Raises:
        Unusable: With the reason and an example.
    """
    return _CHECKS[field](value) if field in _CHECKS else value
