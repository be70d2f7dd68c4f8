"""Repositories, and servers that hand them out: git's own http-backend, with a password and TLS."""

from __future__ import annotations

import base64
import contextlib
import os
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import attrs

__all__ = ["Fault", "Origin", "git_server", "self_signed"]

_ENV = {
    "PATH": os.defpath + ":/usr/local/bin",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "protocol.file.allow",  # submodules of local repositories need it
    "GIT_CONFIG_VALUE_0": "always",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@b",
}


class Origin:
    """A repository to clone from."""

    def __init__(self, folder: Path, **files: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=master")
        self.git("config", "uploadpack.allowAnySHA1InWant", "true")
        if files:
            self.commit(**files)

    @property
    def url(self) -> str:
        return str(self.folder)

    def git(self, *words: str) -> str:
        argv = ["git", *words]
        return subprocess.run(  # noqa: S603, RUF100 - git, with words of the test's own
            argv, cwd=self.folder, env=_ENV, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, **files: str) -> str:
        """Commit files, the last ``__`` in a name standing for a dot; the commit's hash."""
        for name, text in files.items():
            path = self.folder / ".".join(name.rsplit("__", 1))
            path.write_text(text, encoding="utf-8")
        self.git("add", ".")
        self.git("commit", "--quiet", "-m", "change")
        return self.git("rev-parse", "HEAD")


@attrs.frozen
class Fault:
    """An answer that is none."""

    status: int
    headers: Mapping[str, str] = attrs.field(factory=dict)

    def send(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(self.status)
        for name, value in {**self.headers, "Content-Length": "0"}.items():
            handler.send_header(name, value)
        handler.end_headers()


_WHO = Fault(401, {"WWW-Authenticate": 'Basic realm="git"'})


@contextlib.contextmanager
def git_server(
    root: Path,
    *,
    login: str = "",
    tls: tuple[Path, Path] | None = None,
    fault: Callable[[str, bytes], Fault | None] = lambda _path, _body: None,
    old: bool = False,
    port: int = 0,
) -> Iterator[str]:
    """Serve the repositories below *root*; ``host:port`` of the server.

    Args:
        root: Folder with repositories.
        login: ``name:password`` that is asked for; empty: none.
        tls: Certificate and key; None: plain HTTP.
        fault: What is answered instead, for a path and a body.
        old: Whether it speaks the first version of the protocol alone.
        port: To listen on; 0: any.
    """
    wanted = "Basic " + base64.b64encode(login.encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, body: bytes) -> None:
            known = not login or self.headers.get("Authorization") == wanted
            if answer := fault(self.path, body) if known else _WHO:
                answer.send(self)
                return
            path, _, query = self.path.partition("?")
            done = subprocess.run(
                ["git", "http-backend"],  # noqa: S607 - the system's git
                input=body,
                stdout=subprocess.PIPE,
                check=False,  # it tells the client
                env=_ENV
                | {
                    "GIT_PROJECT_ROOT": str(root),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "REQUEST_METHOD": self.command,
                    "PATH_INFO": path,
                    "QUERY_STRING": query,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "CONTENT_LENGTH": str(len(body)),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "GIT_PROTOCOL": "" if old else self.headers.get("Git-Protocol", ""),
                },
            )
            head, _, rest = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
            self.send_response(int(fields.pop("Status", "200 OK").split()[0]))
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest)

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that refuses our certificate hangs up: that is what the test is about."""

    with Server(("127.0.0.1", port), Handler) as server:
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody vouches for, and its key."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key
