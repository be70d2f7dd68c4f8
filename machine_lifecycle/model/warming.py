"""A graph that a service runs once before it takes jobs: so that the first job finds it warm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import attrs

__all__ = ["VARIABLE", "PayloadChecker", "WarmUp", "warm_ups_from", "warm_ups_text"]

VARIABLE = "WORKER_WARMUPS"
"""The variable that tells a worker what to run: an object of ``WarmUp`` by name of the service."""


@attrs.frozen(kw_only=True)
class WarmUp:
    """What a service is warmed with.

    Attributes:
        file: A payload as ``submit`` takes it, in JSON.
        timeout: Seconds it may take.
    """

    file: Path
    timeout: float = 300.0


@runtime_checkable
class PayloadChecker(Protocol):
    """A connector's class that knows bad payloads by itself. Not every one does."""

    @staticmethod
    def payload_problems(payload: Mapping[str, Any]) -> tuple[str, ...]:
        """Everything that is wrong with a payload, in words; empty if nothing is."""


def warm_ups_text(warm_ups: Mapping[str, WarmUp]) -> str:
    """The value of the variable."""
    values = {
        service: {"file": str(one.file), "timeout": one.timeout}
        for service, one in warm_ups.items()
    }
    return json.dumps(values, sort_keys=True)


def warm_ups_from(text: str) -> dict[str, WarmUp]:
    """Read the variable; empty for an empty text.

    Raises:
        ValueError: It says something else.
    """
    try:
        return {
            str(service): WarmUp(file=Path(one["file"]), timeout=float(one.get("timeout", 300.0)))
            for service, one in json.loads(text or "{}").items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"no object of files and timeouts by service: {error!r}") from error
