"""Take the lock of a data directory, then become the Valkey server that uses it.

Run as a script, isolated and without ``site`` (20 ms): ``valkey_launch.py LOCK SERVER CONFIG``. The
lock is held by an open file that the server inherits, so that it lives exactly as long as the
server: two servers never open one data directory, not even after the orchestrator was killed.
"""

import fcntl
import os
import signal
import sys

__all__ = ["main"]

_WAIT = 5
"""Seconds that a server which is just ending may still hold the lock."""
_EX_TEMPFAIL = 75


def main(lock: str, server: str, config: str) -> None:
    """Never returns: becomes the server, or ends with status 75 if another one lives."""
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def give_up(_number: int, _frame: object) -> None:
        sys.stderr.write(f"another Valkey server uses {os.path.dirname(lock)}\n")  # noqa: PTH120  # pathlib takes 15 ms to import
        os._exit(_EX_TEMPFAIL)

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_WAIT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    signal.alarm(0)
    os.set_inheritable(handle, True)  # noqa: FBT003  # the function's own signature
    os.execv(server, [server, config])  # noqa: S606  # becoming the server is the purpose


if __name__ == "__main__":
    main(*sys.argv[1:])
