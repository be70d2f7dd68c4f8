"""Times as people write them on a command line."""

from __future__ import annotations

import re
import time
from datetime import datetime

import click

__all__ = ["SINCE"]

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class _Since(click.ParamType[float]):
    """``10m`` for ten minutes ago, or a date and time, local where it names no zone."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds since 1970."""
        text = str(value).strip()
        ago = _AGO.fullmatch(text)
        if ago:
            return time.time() - float(ago[1]) * _SECONDS[ago[2]]
        try:
            return datetime.fromisoformat(text).timestamp()
        except ValueError:
            self.fail(f"{text!r} is neither a span (10m) nor a time (2026-01-31T08:00)", param, ctx)


SINCE = _Since()
