"""How many node packs may be missing: none that is required, and few of the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import attrs

from machine_lifecycle.errors import LifecycleError, Remedy

__all__ = ["Listed", "PacksMissing", "may_miss", "missing_too_much"]

_ROUNDING = 1e-9
"""So that 10 packs times 0.1 is 1, which binary fractions miss by a hair."""
_SHOWN = 5
"""Packs that an error names; of the rest it tells the number."""


@attrs.frozen
class Listed:
    """The packs that a service was to get.

    Attributes:
        required: Without one of these the machine is of no use.
        optional: Of these some may be missing.
        floor: Share of the optional ones that must be in.
    """

    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    floor: float = 1.0

    @property
    def names(self) -> frozenset[str]:
        """All of them."""
        return self.required | self.optional


@attrs.define(kw_only=True, slots=False, eq=False)
class PacksMissing(LifecycleError):
    """More node packs are missing than a machine may lack.

    Attributes:
        service: Of which.
        missing: Each, and why.
        required: Those of them that are required.
        optional: How many the list has that are not.
        floor: Share of these that must be in.
    """

    code: ClassVar[str] = "packs-missing"

    service: str
    missing: Mapping[str, str]
    required: tuple[str, ...]
    optional: int
    floor: float

    @property
    def summary(self) -> str:
        """Which, and what the floor is."""
        if self.required:
            whys = ((name, self.missing.get(name)) for name in self.required[:_SHOWN])
            parts = [f"{name} ({why})" if why else name for name, why in whys]
            rest = f" and {len(self.required) - _SHOWN} more" if len(self.required) > _SHOWN else ""
            many = "s" if len(self.required) > 1 else ""
            return f"{self.service} lacks the required node pack{many} {', '.join(parts)}{rest}"
        out, allowed = len(self.missing), may_miss(self.optional, self.floor)
        return (
            f"{out} of {self.optional} node packs of {self.service} are missing, "
            f"{allowed} may be (MACHINE_PACK_FLOOR={self.floor:g})"
        )

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Mend them, or allow more to be missing."""
        found = [Remedy(f"Mend {name} or take it out: {why}") for name, why in self.missing.items()]
        if not self.required and self.optional:
            enough = max(0.0, math.floor(100 * (1 - len(self.missing) / self.optional)) / 100)
            found.append(
                Remedy("Or let as many be missing", f"export MACHINE_PACK_FLOOR={enough:g}")
            )
        return tuple(found)


def may_miss(optional: int, floor: float) -> int:
    """How many of the packs that are not required may be missing: one at least, but with a floor
    of 1 none.
    """
    if floor >= 1:
        return 0
    return max(1, math.floor(optional * (1 - floor) + _ROUNDING))


def missing_too_much(
    service: str, listed: Listed, missing: Mapping[str, str]
) -> PacksMissing | None:
    """The error, if too much is missing.

    Args:
        service: Of which.
        listed: What it was to get.
        missing: Packs that are not in, and why.
    """
    required = tuple(name for name in missing if name in listed.required)
    optional = [name for name in missing if name in listed.optional]
    if not required and len(optional) <= may_miss(len(listed.optional), listed.floor):
        return None
    return PacksMissing(
        service=service,
        missing=dict(missing),
        required=required,
        optional=len(listed.optional),
        floor=listed.floor,
    )
