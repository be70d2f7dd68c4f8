"""Ports on this machine."""

from __future__ import annotations

import socket

import psutil

__all__ = ["free_port", "listeners", "port_is_free"]


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


def listeners() -> dict[int, str]:
    """Ports that somebody listens on now, each with who it is as far as we may know.

    Read from the system's tables: nothing is bound, nobody is connected to. Empty where they can't
    be read (macOS without privileges).
    """
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return {}
    return {
        connection.laddr.port: _who(connection.pid)
        for connection in connections
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    }


def _who(pid: int | None) -> str:
    if pid is None:
        return "a process of somebody else"
    try:
        return f"process {pid} ({psutil.Process(pid).name()})"
    except psutil.Error:
        return f"process {pid}"
