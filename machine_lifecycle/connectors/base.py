"""What every connector shares: where its service is, and the protocol it fulfils."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from machine_lifecycle.model.jobs import Job, JobResult, NodeFailure, Output, Progress
from machine_lifecycle.model.ports import Connector, Probe

__all__ = [
    "Connector",
    "Endpoint",
    "Job",
    "JobResult",
    "NodeFailure",
    "Output",
    "Probe",
    "Progress",
    "ProgressCallback",
]

ProgressCallback = Callable[[Progress], None]
"""Told each time a job gets further."""


@attrs.frozen(kw_only=True)
class Endpoint:
    """Where a service is, and who we are to it.

    Attributes:
        host: Name or address.
        port: TCP port.
        secure: Use TLS.
        username: For basic authentication; empty for none.
        password: That goes with it; never shown.
        api_key: A bearer token, which counts more than a user name; never shown.
        worker_id: The worker that connects; services show it as their client.
        options: What only some connectors know; each says which names it reads.
    """

    host: str
    port: int
    secure: bool = False
    username: str = ""
    password: str = attrs.field(default="", repr=False)
    api_key: str = attrs.field(default="", repr=False)
    worker_id: str = ""
    options: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def authority(self) -> str:
        """Host and port as a URL writes them, without user or password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def url(self, path: str = "", *, scheme: str = "http") -> str:
        """A URL of the service, without secrets: they travel in headers only.

        Args:
            path: Begins with a slash, or is empty.
            scheme: ``http`` or ``ws``; an ``s`` is added where TLS is used.
        """
        return f"{scheme}{'s' if self.secure else ''}://{self.authority}{path}"

    def headers(self) -> dict[str, str]:
        """Headers that authenticate; empty where nothing is to be said."""
        if self.api_key:
            return {"Authorization": f"Bearer {self.api_key}"}
        if self.username or self.password:
            pair = f"{self.username}:{self.password}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        return {}
