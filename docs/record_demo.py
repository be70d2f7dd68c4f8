"""Draw `docs/pictures/demo.svg`: what `machine-lifecycle demo` showed on a terminal here."""

from __future__ import annotations

import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).resolve().parent / "pictures" / "demo.svg"
COLUMNS = 88
COMMAND = "machine-lifecycle demo"
# Cursor movements and erasures: only what stays on the screen is drawn.
REDRAWN = re.compile(r"(?:\x1b\[1A|\x1b\[2K|\r(?!\n)|\x1b\[\?25[lh])+")


def record() -> str:
    """Run the demo on a terminal of its own; what it wrote."""
    here, there = pty.openpty()
    ioctl(there, TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    program = Path(sys.executable).parent / "machine-lifecycle"
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.Popen(
            [str(program), "demo"], stdin=there, stdout=there, stderr=there, cwd=folder
        )
        os.close(there)
        written = bytearray()
        while True:
            try:
                piece = os.read(here, 65536)
            except OSError:  # the terminal's other end is closed: the program has ended
                break
            if not piece:
                break
            written += piece
        os.close(here)
        if ran.wait() != 0:
            raise SystemExit(written.decode())
        return written.decode().replace(folder + "/", "")


def last_screen(written: str) -> str:
    """The lines as they stood at the end: a line that was drawn again counts once."""
    lines: list[str] = []
    for line in written.replace("\r\n", "\n").split("\n"):
        ups = line.count("\x1b[1A")
        if ups:
            del lines[-ups:]
        # What was erased or written over in this line is gone.
        lines.append(REDRAWN.sub("", re.split(r"\r|\x1b\[2K", line)[-1]))
    return "\n".join(lines).strip("\n")


def main() -> None:
    """Write the picture."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(f"$ {COMMAND}\n{last_screen(record())}"))
    PICTURE.parent.mkdir(exist_ok=True)
    console.save_svg(str(PICTURE), title=COMMAND, unique_id="demo")
    print(f"wrote {PICTURE}")


if __name__ == "__main__":
    main()
