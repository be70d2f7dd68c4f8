"""A small server whose habits are set by its arguments; each flag is one habit.

--port N        answer GET with 200 and accept WebSocket handshakes
--late S        listen only after S seconds
--deaf          ignore SIGTERM
--grandchild F  start `sleep` in a session of its own, write its number to F
--orphan F      the same through a second fork, so that its parent is gone
--crash N       end with status N at once
--flood N       write N lines
--beat S        say WATCHDOG=1 every S seconds
--mute F        say nothing more once F is there
--notify        say READY=1 over sd_notify
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import signal
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        key = self.headers.get("Sec-WebSocket-Key")
        if key:
            guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            proof = base64.b64encode(hashlib.sha1((key + guid).encode()).digest())  # noqa: S324
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", proof.decode())
            self.end_headers()
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def fork_away(path: str, *, twice: bool) -> None:
    if os.fork() == 0:
        os.setsid()
        if twice and os.fork():
            os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        fresh = Path(path + ".fresh")
        fresh.write_text(str(os.getpid()))
        fresh.rename(path)
        os.execvp("sleep", ["sleep", "1000"])  # noqa: S606, S607


def beat(seconds: float, mute: Path | None) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        while not (mute and mute.exists()):
            sock.sendto(b"WATCHDOG=1", os.environ["NOTIFY_SOCKET"])  # noqa: TID251
            threading.Event().wait(seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--late", type=float, default=0)
    parser.add_argument("--deaf", action="store_true")
    parser.add_argument("--grandchild")
    parser.add_argument("--orphan")
    parser.add_argument("--crash", type=int)
    parser.add_argument("--flood", type=int, default=0)
    parser.add_argument("--notify", action="store_true")
    parser.add_argument("--beat", type=float)
    parser.add_argument("--mute", type=Path)
    args = parser.parse_args()
    if args.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for number in range(args.flood):
        sys.stdout.write(f"line {number}\n")
    sys.stdout.write("started\n")
    sys.stdout.flush()
    if args.crash is not None:
        sys.exit(args.crash)
    if args.grandchild:
        fork_away(args.grandchild, twice=False)
    if args.orphan:
        fork_away(args.orphan, twice=True)
    stop = threading.Event()
    stop.wait(args.late)
    if args.notify:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"STATUS=here\nREADY=1", os.environ["NOTIFY_SOCKET"])  # noqa: TID251
    if args.beat:
        beat(args.beat, args.mute)
    if args.port:
        ThreadingHTTPServer(("127.0.0.1", args.port), Handler).serve_forever()
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
