"""The command line: the only place that prints or reads the environment.

Each command lives in a module of its own and is imported when it is called, so that ``--help``,
``diagram`` and ``explain`` load none of the heavy libraries.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; errors of ours end with their own exit status."""
    try:
        if sys.argv[1:2] == ["redis-worker"]:
            # A boot waits for its workers' imports, so they do without those of other commands.
            from machine_lifecycle.cli.redis_worker import run_worker  # noqa: PLC0415 - one of two

            run_worker(sys.argv[2:])
        else:
            from machine_lifecycle.cli.group import run  # noqa: PLC0415 - see above

            run()
    except ModuleNotFoundError as error:
        from machine_lifecycle.cli.lacking import tell_of  # noqa: PLC0415 - only when it is so

        if not tell_of(error):
            raise
        sys.exit(2)
