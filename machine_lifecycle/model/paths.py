"""Where a machine keeps its files."""

from __future__ import annotations

from pathlib import Path

import attrs

__all__ = ["Paths"]


@attrs.frozen(kw_only=True)
class Paths:
    """The folders of one machine.

    Attributes:
        workspace: Large and lasting: installed services, logs, outputs. May be a network folder.
        runtime: Small and local: sockets, locks, journal. Its path is short, since the path of a
            Unix socket ends at 107 bytes (sun_path, ``man 7 unix``).
        shared: Where services are installed, for several machines; ``None``: in the workspace.
    """

    workspace: Path
    runtime: Path
    shared: Path | None = None

    @property
    def services(self) -> Path:
        """Where services are installed."""
        return self.shared or self.workspace

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.workspace / "logs"

    @property
    def manifest(self) -> Path:
        """The process manifest, written in PMGeneration."""
        return self.workspace / "process-manifest.json"

    @property
    def redis(self) -> Path:
        """Data of the embedded Valkey."""
        return self.workspace / "redis"

    @property
    def machine_id(self) -> Path:
        """The machine's id, where neither the environment nor the platform gives one."""
        return self.workspace / "machine-id"

    @property
    def crash_loop(self) -> Path:
        """How the lives before this one ended (0600)."""
        return self.workspace / "crash-loop.json"

    @property
    def pack_times(self) -> Path:
        """What node packs cost the boots before."""
        return self.workspace / "pack-times.json"

    @property
    def control_socket(self) -> Path:
        """The Unix socket for commands and for the workers' links (0600)."""
        return self.runtime / "control.sock"

    @property
    def lock(self) -> Path:
        """Held by the one orchestrator of this machine."""
        return self.runtime / "orchestrator.lock"

    @property
    def workspace_lock(self) -> Path:
        """Held beside it, against those who share the workspace alone."""
        return self.workspace / ".machine-lifecycle.lock"

    @property
    def journal(self) -> Path:
        """Processes that were spawned, so that a later orchestrator knows them again."""
        return self.runtime / "processes.json"

    @property
    def discovery(self) -> Path:
        """How to reach the running machine's queue (0600): read by ``submit``."""
        return self.runtime / "machine.json"

    def service(self, name: str) -> Path:
        """The folder a service is installed in. ComfyUI's is ``{workspace}/ComfyUI``."""
        return self.services / ("ComfyUI" if name == "comfyui" else name)

    def instance(self, instance: str) -> Path:
        """The folder of one instance's own data."""
        return self.workspace / "instances" / instance
