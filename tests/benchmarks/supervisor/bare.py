"""What Python can't do faster: ``posix_spawn``, pidfds and epoll, and no promise at all."""

from __future__ import annotations

import os
import select
import signal
import sys

_, CHILD, MODE, COUNT = sys.argv[1:5]


def main() -> None:
    """Spawn, spawn anew whatever ends, stop at SIGTERM."""
    poll, running, fds = select.epoll(), {}, {}

    def spawn(name: str) -> None:
        pid = os.posix_spawn(CHILD, (CHILD, MODE, name), {}, setsid=True)
        handle = os.pidfd_open(pid)
        running[handle], fds[name] = (name, pid), handle
        poll.register(handle, select.EPOLLIN)

    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    signal.signal(signal.SIGTERM, lambda *_: None)
    poll.register(read, select.EPOLLIN)
    for number in range(int(COUNT)):
        spawn(f"p{number}")
    stopping = False
    while running:
        for handle, _ in poll.poll():
            if handle == read:
                stopping = bool(os.read(read, 64))
                for one in running:
                    signal.pidfd_send_signal(one, signal.SIGTERM)
                continue
            name, pid = running.pop(handle)
            poll.unregister(handle)
            os.close(handle)
            os.waitpid(pid, 0)
            if not stopping:
                spawn(name)


main()
