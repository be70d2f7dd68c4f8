"""Small conversions of values that rooms share."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["frozen_map"]


def frozen_map(values: Mapping[str, str]) -> dict[str, str]:
    """A copy in order of keys, so that equal maps print and hash to equal text."""
    return dict(sorted(values.items()))
