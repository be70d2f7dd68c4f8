"""Why a process ends, in its own words: an error that it leaves for whoever started it.

Its log tells a person; this tells a program. The supervisor names a file in the environment of each
process, and reads it when the process has ended. Any program may write there what an error is on
the wire: ``code`` and ``summary``, ``remedies`` with a ``text`` and a ``command`` each, and
``recoverable: false`` where another start would end the same.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.system.files import write_atomically

__all__ = ["VARIABLE", "leave", "read"]

VARIABLE = "MACHINE_LAST_WORDS"
_LONGEST = 64 * 1024
_log = logging.getLogger(__name__)


def leave(error: LifecycleError, environ: Mapping[str, str]) -> None:
    """Write *error* where it is asked for; do nothing if nobody asks."""
    if path := environ.get(VARIABLE):
        try:
            # Its class, which knows the status, need not be loaded where this is read.
            told = error.to_wire() | {"exit_code": error.exit_code}
            write_atomically(Path(path), json.dumps(told), mode=0o600)
        except OSError as reason:
            _log.warning("can't leave word in %s: %s", path, reason)


def read(path: Path) -> dict[str, Any] | None:
    """What was left there in the wire form of an error; ``None`` if nothing of that kind."""
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(_LONGEST))
    except (OSError, ValueError, RecursionError):  # the last: it is nested deeper than can be read
        return None
    match said:
        case {"code": str(), "summary": str()}:
            lists = {
                "remedies": _each(said, "remedies", dict),
                "context": _each(said, "context", str),
            }
            return {**said, **lists}
    return None


def _each(said: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    value = said.get(name)
    return [one for one in value if isinstance(one, kind)] if isinstance(value, list) else []
