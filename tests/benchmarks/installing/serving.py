"""A server of the bed's repositories and wheels: git's own http-backend, and a simple index.

The index speaks the simple repository API (PEP 503), with metadata files (PEP 658) as PyPI does.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

__all__ = ["serving"]

_PIECE = 1 << 16


@cache
def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _link(path: Path) -> str:
    address = f"/files/{path.name}#sha256={_sha256(path)}"
    return f'<a href="{address}" data-core-metadata="true">{path.name}</a>\n'


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass

    def do_GET(self) -> None:
        if self.path.startswith("/git/"):
            self._git(b"")
        else:
            self._index()

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            self._git(self._chunks())
        else:
            self._git(self.rfile.read(int(self.headers["Content-Length"])))

    def _chunks(self) -> bytes:
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _send(self, body: bytes, kind: str = "text/html", status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _index(self) -> None:
        parts = self.path.strip("/").split("/")
        if parts[0] == "simple" and len(parts) == 2:
            found = sorted(self.server.wheels.glob(f"{parts[1].replace('-', '_')}-*.whl"))
            links = "".join(_link(path) for path in found)
            page = f"<!DOCTYPE html><html><body>{links}</body></html>"
            self._send(page.encode(), status=200 if found else 404)
            return
        path = self.server.wheels / parts[-1]
        if parts[0] != "files" or not path.is_file():
            self._send(b"", status=404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        with path.open("rb") as file:
            shutil.copyfileobj(file, self.wfile, _PIECE)

    def _git(self, body: bytes) -> None:
        path, _, query = self.path.removeprefix("/git").partition("?")
        with subprocess.Popen(
            ["git", "http-backend"],  # noqa: S607 - the system's git
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                "PATH": os.defpath + ":/usr/local/bin",
                "GIT_CONFIG_GLOBAL": "/dev/null",
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_PROJECT_ROOT": str(self.server.git),
                "GIT_HTTP_EXPORT_ALL": "1",
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            },
        ) as backend:
            if backend.stdin is None or backend.stdout is None:  # both were asked for
                raise AssertionError
            backend.stdin.write(body)
            backend.stdin.close()
            self._answer(backend)

    def _answer(self, backend: subprocess.Popen[bytes]) -> None:
        out = backend.stdout
        if out is None:
            raise AssertionError
        fields = {}
        while line := out.readline().strip():
            name, _, value = line.decode().partition(": ")
            fields[name] = value
        self.send_response(int(fields.pop("Status", "200 OK").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while data := out.read1(_PIECE):  # type: ignore[attr-defined]  # a buffered pipe
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")


class _Server(ThreadingHTTPServer):
    def __init__(self, git: Path, wheels: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.git = git
        self.wheels = wheels
        self.daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up has its own story."""


@contextlib.contextmanager
def serving(git: Path, wheels: Path) -> Iterator[int]:
    """Serve ``/git/NAME.git`` and ``/simple/NAME/``; the port."""
    with _Server(git, wheels) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
