"""Looks which node packs a running ComfyUI has loaded: in its log, and on its pages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from machine_lifecycle.connectors.comfyui_loading import LoadingLog, packs_of, served_packs
from machine_lifecycle.connectors.comfyui_pages import ComfyUIPages
from machine_lifecycle.model.packs import Loaded, Run

__all__ = ["read_packs"]

_MOST = 16 << 20
"""Bytes of a run's log in which the packs must have been told of. With twenty packs it is 60 KiB;
one that installs packages while it is imported writes much more."""
_LONGEST_LINE = 1 << 16


async def read_packs(
    pages: ComfyUIPages, port: int, runs: Sequence[Run], nodes: Mapping[str, int]
) -> Loaded:
    """Every pack of which log or pages tell.

    Args:
        pages: Of the service.
        port: Where it listens.
        runs: Processes whose logs can be read here; its own is the one on that port.
        nodes: Number of node classes by pack.

    Raises:
        ServiceUnreachable: It is away.
    """
    run = next((run for run in runs if run.port == port), None)
    log = await asyncio.to_thread(_read, run) if run else None
    # Only a pack that declares no nodes needs its scripts to prove that it is there.
    asks = log is not None and any(found.nothing for found in log.found.values())
    served = served_packs(await pages.extensions()) if asks else frozenset[str]()
    return Loaded(
        instance=run.instance if run else "",
        packs=packs_of(log, nodes, served),
        complete=log is not None and log.complete,
        started=run.started if run else 0.0,
    )


def _read(run: Run) -> LoadingLog | None:
    """The part of the log that tells of the start; ``None`` if it is not there any more."""
    log = LoadingLog()
    try:
        with run.log.open("rb") as file:
            if file.seek(0, 2) < run.offset:  # somebody has emptied it
                return None
            file.seek(run.offset)
            while not log.ended and file.tell() - run.offset < _MOST:
                line = file.readline(_LONGEST_LINE)
                if not line:
                    break
                log.feed(line.decode("utf-8", "replace"))
    except OSError:
        return None
    return log
