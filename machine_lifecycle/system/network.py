"""Ports on this machine."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from pathlib import Path

import psutil

__all__ = ["free_port", "listeners", "port_is_free"]


# Below it are the ports of well-known services; IANA's range for connections is where macOS and
# others take theirs from (RFC 6335, section 6). Linux says its own.
_LOWEST, _IANA_CONNECTIONS = 10_000, 49_152
_LINUX_CONNECTIONS = Path("/proc/sys/net/ipv4/ip_local_port_range")


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


def free_port(
    host: str = "127.0.0.1",
    count: int = 1,
    *,
    is_free: Callable[[str, int], bool] = port_is_free,
) -> int:
    """The first of *count* ports in a row that were free a moment ago.

    Not one of those that the system gives to outgoing connections, as binding to port 0 would
    yield: any connection could take such a port before its service does. Chosen by the system's
    own randomness: two programs that seed theirs alike would both find the same ports.

    Args:
        host: Address that they are free on.
        count: How many in a row.
        is_free: Tells of one port whether it is.

    Raises:
        OSError: No such row was found.
    """
    try:
        last = int(_LINUX_CONNECTIONS.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        last = _IANA_CONNECTIONS
    if last - count <= _LOWEST:  # connections may take nearly any port here
        last = _IANA_CONNECTIONS
    firsts = range(_LOWEST, last - count)
    for first in random.SystemRandom().sample(firsts, k=min(1000, len(firsts))):
        if all(is_free(host, port) for port in range(first, first + count)):
            return first
    raise OSError(f"no {count} free ports in a row on {host}")


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
