"""What a process tree uses right now."""

from __future__ import annotations

import attrs

__all__ = ["Figures"]


@attrs.frozen(kw_only=True)
class Figures:
    """Use of one process and all that it started.

    Attributes:
        cpu_percent: Share of one processor, so that four busy ones are 400.
        memory_bytes: Resident memory; pages that processes share are counted in each.
        processes: How many processes the tree has.
    """

    cpu_percent: float
    memory_bytes: int
    processes: int = 1
