"""Ports on this machine."""

from __future__ import annotations

import socket

__all__ = ["free_port", "port_is_free"]


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def port_is_free(host: str, port: int) -> bool:
    """Whether a service could listen on *host* and *port* now.

    Asked by binding, as the service will: connecting would miss one that is bound and not yet
    listening, and would disturb one that is.
    """
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        # Without it, connections that an earlier service left in TIME_WAIT look like a service.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """A port that was free a moment ago."""
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
