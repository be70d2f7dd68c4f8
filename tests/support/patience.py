"""How long a test waits for what must come: as long as a slow, busy machine may need for it."""

from __future__ import annotations

__all__ = ["PATIENCE"]

PATIENCE = 60.0
"""Seconds; used up by nothing but a test that fails."""
