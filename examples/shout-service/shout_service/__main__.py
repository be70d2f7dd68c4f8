"""The model server: a small web server that says a text louder."""

from __future__ import annotations

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    """``GET /healthz`` and ``POST /shout``."""

    marks = ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Say that it runs."""
        self._answer(200 if self.path == "/healthz" else 404, "")

    def do_POST(self) -> None:
        """Say a text louder."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        text = json.loads(body).get("text")
        if isinstance(text, str):
            self._answer(200, text.upper() + self.marks)
        else:
            self._answer(400, "there is no text in the job")

    def _answer(self, status: int, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--marks", type=Path, required=True)
    options = parser.parse_args()
    Handler.marks = options.marks.read_text(encoding="utf-8")
    ThreadingHTTPServer((options.host, options.port), Handler).serve_forever()


main()
