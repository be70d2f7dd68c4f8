"""What another plan means for the processes that run: a pure comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from machine_lifecycle.model.processes import ProcessSpec, Role

__all__ = ["Changes", "compare"]


@attrs.frozen(kw_only=True)
class Changes:
    """Names of processes.

    Attributes:
        added: Wanted, and not there yet.
        changed: There, and to be started differently.
        removed: There, and no longer wanted.
        same: Left alone.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    same: tuple[str, ...] = ()


def compare(
    running: Mapping[str, ProcessSpec],
    wanted: Sequence[ProcessSpec],
    changed: Callable[[ProcessSpec], bool],
) -> Changes:
    """Hold what is wanted against what runs. Processes of role ``support`` are no part of a plan.

    Args:
        running: By name.
        wanted: Of the new plan.
        changed: Whether one that runs would be started differently from this.
    """
    names = [spec.name for spec in wanted]
    known = [spec for spec in wanted if spec.name in running]
    return Changes(
        added=tuple(name for name in names if name not in running),
        changed=tuple(spec.name for spec in known if changed(spec)),
        removed=tuple(
            name
            for name, spec in running.items()
            if name not in names and spec.role is not Role.SUPPORT
        ),
        same=tuple(spec.name for spec in known if not changed(spec)),
    )
