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
        share_bytes: Memory with each shared page divided among those that share it (PSS), so that
            the sum over processes is true; ``None`` where the kernel doesn't say.
        processes: How many processes the tree has.
        threads: How many threads they have.
        descriptors: How many files and sockets they hold open; those of other users don't count.
        gpu_memory_bytes: What they hold on all GPUs; ``None`` where the driver doesn't say, as in a
            container that has process numbers of its own.
        gpu_percent: Share of a GPU's time, so that two busy GPUs are 200; ``None`` where the driver
            doesn't say, as of MIG slices.
    """

    cpu_percent: float
    memory_bytes: int
    share_bytes: int | None = None
    processes: int = 1
    threads: int = 1
    descriptors: int = 0
    gpu_memory_bytes: int | None = None
    gpu_percent: float | None = None
