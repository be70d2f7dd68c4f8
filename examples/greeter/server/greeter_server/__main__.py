"""Stands for the server of a model, which somebody else wrote: `GET /` and `POST /greet`."""

from __future__ import annotations

import argparse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Greets whoever is named."""

    def do_GET(self) -> None:
        """Say that it runs."""
        self._answer("ready")

    def do_POST(self) -> None:
        """Greet."""
        name = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._answer(f"Hello {name}!")

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


parser = argparse.ArgumentParser()
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, required=True)
options = parser.parse_args()
ThreadingHTTPServer((options.host, options.port), Handler).serve_forever()
