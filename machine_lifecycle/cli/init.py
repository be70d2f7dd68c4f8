"""``--init``: the small first process of a container."""

from __future__ import annotations

import sys

from machine_lifecycle.cli.environment import environment
from machine_lifecycle.system.init import run_init

__all__ = ["run_as_init"]


def run_as_init(env_file: str | None) -> int:
    """Run the orchestrator as a child; the exit status to end with."""
    argv = [sys.executable, "-m", "machine_lifecycle"]
    argv += ["--env-file", env_file] if env_file else []
    return run_init([*argv, "boot"], environment())
