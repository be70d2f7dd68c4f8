"""What a user of Redis must be allowed: enough for machines, workers and who submits jobs, no more.

A test runs a machine and its jobs as such a user, and finds nothing in the server's ``ACL LOG``.
"""

from __future__ import annotations

from typing import Final

__all__ = ["CHANNELS", "COMMANDS", "KEYS", "rules"]

KEYS: Final = (
    "job:*",
    "jobs:*",
    "progress:*",
    "worker:*",
    "workers:active",
    "machine:*",
)
"""Patterns of the keys that are read and written."""

CHANNELS: Final = (
    "cancel_job",
    "complete_job",
    "job_claimed",
    "job_failed",
    "job_submitted",
    "jobs:*",
    "machine:*",
    "update_job_progress",
    "worker:events",
    "worker_status",
    "worker_status:*",
)
"""Patterns of the channels that are spoken and heard on."""

COMMANDS: Final = (
    "+@hash",
    "+@set",
    "+@sortedset",
    "+@stream",
    "+@string",
    "+@pubsub",
    "+@transaction",
    "+@connection",
    "-@dangerous",
    "+del",
    "+exists",
    "+expire",
    "+persist",
    "+time",
    "+info",
    "+eval",
    "+fcall",
    "+function|list",
    "+function|load",
)
"""Groups of commands and single ones, in the order in which ``ACL SETUSER`` must read them."""


def rules() -> tuple[str, ...]:
    """The words for ``ACL SETUSER NAME on >PASSWORD …``."""
    keys, channels = (f"~{key}" for key in KEYS), (f"&{channel}" for channel in CHANNELS)
    return ("resetkeys", *keys, "resetchannels", *channels, "-@all", *COMMANDS)
