"""Where the program uv is: it comes in a wheel of its own."""

from __future__ import annotations

from machine_lifecycle.installers.errors import ProgramMissing

__all__ = ["uv_program"]


def uv_program() -> str:
    """Its path.

    Raises:
        ProgramMissing: It is not there.
    """
    from uv import find_uv_bin  # noqa: PLC0415 - only when something is installed

    try:
        return str(find_uv_bin())
    except FileNotFoundError as error:
        raise ProgramMissing(program="uv") from error
