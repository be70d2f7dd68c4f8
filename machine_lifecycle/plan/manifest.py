"""The plan as JSON: for the manifest on disk, for ``plan --json``, for its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import attrs

from machine_lifecycle.model.limits import Limits
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.processes import ProcessSpec
from machine_lifecycle.model.redaction import MASK, names_secret, without_credentials

__all__ = ["digest_of", "manifest", "plan_values"]


def digest_of(plan: BootPlan) -> str:
    """The SHA-256, in hex, of everything in *plan* but its digest."""
    values = plan_values(plan)
    values.pop("digest")
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def manifest(plan: BootPlan) -> str:
    """The plan as JSON text. Secrets appear by name, never by value."""
    return json.dumps(plan_values(plan), indent=2, ensure_ascii=False) + "\n"


def plan_values(plan: BootPlan) -> dict[str, Any]:
    """The plan as JSON values."""
    return {
        "version": 1,
        "machine_id": plan.machine_id,
        "digest": plan.digest,
        "hardware": _plain(plan.hardware),
        "installs": [{**_plain(one), "options": _masked(one.options)} for one in plan.installs],
        "processes": [_process(one) for one in plan.processes],
        "workers": [_plain(one) for one in plan.workers],
        **({"bundle": _plain(plan.bundle)} if plan.bundle else {}),
    }


def _process(spec: ProcessSpec) -> dict[str, Any]:
    values: dict[str, Any] = _plain(spec)
    values["readiness"] = [{"kind": type(one).__name__, **_plain(one)} for one in spec.readiness]
    values["command"]["env"] = _masked(spec.command.env)
    if spec.command.limits == Limits():  # most have none, and are easier to read so
        del values["command"]["limits"]
    if not spec.command.env_files:
        del values["command"]["env_files"]
    return values


def _masked(values: Mapping[str, str]) -> dict[str, str]:
    """Options come from files of others, who may have put a secret into one."""
    return {
        key: MASK if names_secret(key) and value else without_credentials(value)
        for key, value in sorted(values.items())
    }


def _plain(value: Any) -> Any:
    if attrs.has(type(value)):
        return {
            field.name: _plain(getattr(value, field.name)) for field in attrs.fields(type(value))
        }
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value
