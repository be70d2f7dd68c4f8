"""``python -m machine_lifecycle``: the same as the ``machine-lifecycle`` command."""

from machine_lifecycle.cli import main

main()
