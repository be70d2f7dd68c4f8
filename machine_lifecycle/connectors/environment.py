"""Reads an endpoint from environment variables that are handed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from machine_lifecycle.connectors.base import Endpoint
from machine_lifecycle.connectors.errors import BadServiceAddress

__all__ = ["endpoint_from"]

_COMFYUI_PORT = 8188
_LAST_PORT = 65535
_TRUE = ("1", "true", "yes", "on")


def endpoint_from(
    environ: Mapping[str, str], prefixes: Sequence[str], *, default_host: str
) -> Endpoint:
    """The endpoint that ``{prefix}_HOST``, ``{prefix}_PORT`` and so on describe.

    Args:
        environ: The variables.
        prefixes: The first one under which a variable is set counts.
        default_host: Where no host is named; empty if one must be.

    Raises:
        BadServiceAddress: No host, or a number that is none.
    """

    def read(name: str) -> tuple[str, str]:
        names = [f"{prefix}_{name}" for prefix in prefixes]
        return next(
            ((known, environ[known]) for known in names if environ.get(known)), (names[0], "")
        )

    variable, host = read("HOST")
    host = host or default_host
    if not host:
        raise BadServiceAddress(variable=variable)
    options: dict[str, Any] = {}
    hung_variable, hung_after = read("HUNG_AFTER")
    if hung_after:
        options["hung_after"] = _number(hung_variable, hung_after, "300")
    for kind in ("output", "temp"):
        if folder := read(f"{kind.upper()}_DIRECTORY")[1]:
            options[f"{kind}_directory"] = folder
    port_variable, port = read("PORT")
    if not port and "COMFYUI" in prefixes:
        port_variable, port = "COMFYUI_BASE_PORT", environ.get("COMFYUI_BASE_PORT", "")
    port = port or str(_COMFYUI_PORT)
    return Endpoint(
        host=host,
        port=_port(port_variable, port),
        secure=read("SECURE")[1].strip().lower() in _TRUE,
        username=read("USERNAME")[1],
        password=read("PASSWORD")[1],
        api_key=read("API_KEY")[1],
        worker_id=environ.get("WORKER_ID", ""),
        options=options,
    )


def _port(variable: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _LAST_PORT):
        raise BadServiceAddress(variable=variable, value=text, example=str(_COMFYUI_PORT))
    return int(text)


def _number(variable: str, text: str, example: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadServiceAddress(variable=variable, value=text, example=example) from None
