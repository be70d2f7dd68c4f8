"""A package that this version needs and that is not there: after a ``git pull``, say.

This module imports nothing but the standard library: any other may be what is lacking.
"""

from __future__ import annotations

import shlex
import sys
import traceback
from pathlib import Path

__all__ = ["tell_of"]

_OURS = Path(__file__).resolve().parents[1]


def tell_of(error: ModuleNotFoundError) -> bool:
    """Say on stderr what is lacking and what brings it, if it is we who import it."""
    importing = [
        Path(frame.f_code.co_filename)
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith("<")
    ]
    name = str(error.name)
    if not importing[-1].is_relative_to(_OURS) or name.partition(".")[0] == _OURS.name:
        return False
    clone = _OURS.parent
    in_clone = (clone / "pyproject.toml").exists()
    source = ("--editable", str(clone)) if in_clone else ("machine-lifecycle",)
    command = shlex.join((sys.executable, "-m", "pip", "install", *source))
    sys.stderr.write(
        f"error this version needs the Python module {name}, which {sys.executable} has not\n"
        f"  -> Install what it needs\n       {command}\n"
    )
    return True
