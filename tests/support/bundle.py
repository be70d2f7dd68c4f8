"""A worker bundle as ``pip install --target`` makes one, and a server of its archive."""

from __future__ import annotations

import hashlib
import http.server
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["make_bundle", "pack", "served"]

_CODE = '''\
import os
from pathlib import Path

import machine_lifecycle
from machine_lifecycle.connectors.comfyui import SimulationConnector


class SiteConnector(SimulationConnector):
    """The simulation's, which says what it was loaded from."""

    @classmethod
    def from_env(cls, environ):
        import json
        said = {"from": __file__, "json": json.__file__, "package": machine_lifecycle.__file__}
        place = Path(environ["MACHINE_CONTROL_SOCKET"]).parent / f"loaded-{os.getpid()}.json"
        place.write_text(json.dumps(said))
        return super().from_env(environ)
'''


def make_bundle(folder: Path, *, version: str = "1.2", name: str = "SiteConnector") -> Path:
    """One connector, and modules named as some that others need."""
    facts = folder / f"site_connectors-{version}.dist-info"
    for path in (folder / "site_connectors", folder / "machine_lifecycle", facts):
        path.mkdir(parents=True, exist_ok=True)
    (folder / "site_connectors" / "__init__.py").write_text(_CODE, "utf-8")
    (folder / "json.py").write_text("raise RuntimeError('shadowed')\n", "utf-8")
    (folder / "machine_lifecycle" / "__init__.py").write_text("shadow = True\n", "utf-8")
    metadata = f"Metadata-Version: 2.1\nName: site-connectors\nVersion: {version}\n"
    (facts / "METADATA").write_text(metadata, "utf-8")
    offers = f"[machine_lifecycle.connectors]\n{name} = site_connectors:SiteConnector\n"
    (facts / "entry_points.txt").write_text(offers, "utf-8")
    return folder


def pack(folder: Path, archive: Path) -> str:
    """Write the archive; its SHA-256."""
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, arcname=path.name)
    return hashlib.sha256(archive.read_bytes()).hexdigest()


class _Handler(http.server.SimpleHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base has it
        """Nothing to the terminal."""


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Its files over HTTP: host and port, and the paths that were asked for."""
    asked: list[str] = []
    handler = type("Handler", (_Handler,), {"asked": asked})

    def make(*args: object) -> object:
        return handler(*args, directory=str(folder))

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), make)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
