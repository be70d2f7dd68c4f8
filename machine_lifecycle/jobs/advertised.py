"""What an operator says of a machine's workers, for jobs to require: words of the environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["listed", "said_of_workers", "with_said"]

_PLAIN = (
    *("asset_type", "performance_tier", "features", "specialization", "sla_tier", "limitations"),
    *("availability", "experimental_mode", "memory_constrained", "max_batch_size"),
    *("multi_service", "comfyui_version", "a1111_version", "workflow_id"),
)
"""Capabilities whose variables are their names in capitals, after ``WORKER_``."""

_VARIABLES: Mapping[str, tuple[str, ...]] = {
    **{name: (f"WORKER_{name.upper()}",) for name in _PLAIN},
    "available_models": ("WORKER_AVAILABLE_MODELS", "WORKER_MODELS"),
    "debugging_enabled": ("WORKER_DEBUGGING_ENABLED", "DEBUGGING_ENABLED"),
    "development_mode": ("WORKER_DEVELOPMENT_MODE", "DEVELOPMENT_MODE"),
    "location.region": ("WORKER_REGION",),
    "location.country": ("WORKER_COUNTRY",),
    "location.compliance_zones": ("WORKER_COMPLIANCE",),
    "location.data_residency_requirements": ("WORKER_DATA_RESIDENCY",),
    "cost.tier": ("WORKER_COST_TIER",),
    "cost.rate_per_hour": ("WORKER_RATE_PER_HOUR",),
    "cost.rate_per_job": ("WORKER_RATE_PER_JOB",),
    "cost.minimum_charge": ("WORKER_MINIMUM_CHARGE",),
    "performance.quality_levels": ("WORKER_QUALITY_LEVELS", "QUALITY_LEVELS"),
    "performance.max_processing_time_minutes": (
        "WORKER_MAX_PROCESSING_TIME_MINUTES",
        "MAX_PROCESSING_TIME_MINUTES",
    ),
    "customer_access.max_concurrent_customers": (
        "WORKER_MAX_CONCURRENT_CUSTOMERS",
        "MAX_CONCURRENT_CUSTOMERS",
    ),
}
"""By capability: its variables, of which the first one that is set counts."""

_LISTS = frozenset(
    {
        *("asset_type", "available_models", "features", "limitations"),
        *("location.compliance_zones", "location.data_residency_requirements"),
        "performance.quality_levels",
    }
)
"""Capabilities that are lists, of one thing, too."""

_TEXTS = frozenset({"comfyui_version", "a1111_version", "workflow_id"})
"""Capabilities that are text, however much like a number they look: 1.10 is not 1.1."""


def said_of_workers(environ: Mapping[str, str]) -> dict[str, Any]:
    """The capabilities that are said there; those of a group, as ``location.region`` is, in it."""
    found: dict[str, Any] = {}
    for name, variables in _VARIABLES.items():
        text = next((environ[one] for one in variables if environ.get(one)), "")
        if text:
            group, _, member = name.rpartition(".")
            (found.setdefault(group, {}) if group else found)[member] = _value(name, text)
    return found


def with_said(known: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a worker, with what is said: members of a group join those of the same."""
    joined = {
        name: {**known[name], **value} if isinstance(known.get(name), Mapping) else value
        for name, value in said.items()
    }
    return {**known, **joined}


def listed(text: str) -> list[str]:
    """The words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def _value(name: str, text: str) -> Any:
    if name in _TEXTS:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = listed(text) if name in _LISTS or "," in text else text
    return value if isinstance(value, list) or name not in _LISTS else [value]
