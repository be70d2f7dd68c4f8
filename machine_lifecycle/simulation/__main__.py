"""``python -m machine_lifecycle.simulation``: the simulated service as a process of its own.

Takes ComfyUI's own arguments, and lets those it does not know pass, so that it can be started
exactly like the real one.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import logging
import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from machine_lifecycle.simulation.custom_nodes import CustomNodes, import_packs
from machine_lifecycle.simulation.execution import Folders, Habits
from machine_lifecycle.simulation.flavours import FLAVOURS
from machine_lifecycle.simulation.server import SimulatedComfyUI

__all__ = ["main"]

_DEFAULT_PORT = 8399
_MIB = 2**20

_log = logging.getLogger("simulation")


def _arguments(argv: Sequence[str], environ: Mapping[str, str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="machine_lifecycle.simulation", description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1", help="address")
    parser.add_argument("--port", type=int, default=_DEFAULT_PORT, help="0: any free one")
    parser.add_argument("--output-directory", type=Path, default=Path("output"))
    parser.add_argument("--temp-directory", type=Path, default=Path())
    parser.add_argument("--input-directory", type=Path, default=None)
    parser.add_argument(
        "--custom-nodes",
        type=Path,
        default=environ.get("SIMULATION_CUSTOM_NODES") or None,
        help="folder of node packs, which are imported as ComfyUI does",
    )
    parser.add_argument("--flavour", choices=sorted(FLAVOURS), default="upstream")
    parser.add_argument(
        "--step-ms",
        type=float,
        default=environ.get("SIMULATION_STEP_MS", "50"),
        help="milliseconds of one sampling step",
    )
    parser.add_argument(
        "--ready-delay-ms",
        type=float,
        default=environ.get("SIMULATION_READY_DELAY_MS", "0"),
        help="milliseconds until it listens",
    )
    parser.add_argument(
        "--failure-rate",
        type=float,
        default=environ.get("WORKER_SIMULATION_FAILURE_RATE", "0"),
        help="share of prompts that fail, 0 to 1",
    )
    parser.add_argument("--gpu-name", default=environ.get("SIMULATION_GPU_NAME", "Simulated GPU"))
    parser.add_argument(
        "--gpu-memory-mib",
        type=int,
        default=environ.get("SIMULATION_GPU_MEMORY_MIB", str(16 * 1024)),
    )
    return parser.parse_known_args(argv)[0]


def _folders(options: argparse.Namespace) -> Folders:
    output: Path = options.output_directory
    # ComfyUI makes a folder of this name in the one it is given, and empties it at each start.
    temp = options.temp_directory / "temp"
    shutil.rmtree(temp, ignore_errors=True)
    folders = Folders(
        input=options.input_directory or output.parent / "input", output=output, temp=temp
    )
    for folder in (folders.input, folders.output, folders.temp):
        folder.mkdir(parents=True, exist_ok=True)
    return folders


def _notify_ready(environ: Mapping[str, str]) -> None:
    """Tell a supervisor that understands ``sd_notify``."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    # A leading @ means Linux' abstract names, which start with a zero byte.
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        try:
            channel.sendto(b"READY=1", target)
        except OSError as error:
            _log.warning("can't tell %s that the service is ready: %s", address, error)


async def _serve(
    options: argparse.Namespace, environ: Mapping[str, str], packs: CustomNodes
) -> None:
    habits = Habits(
        step_seconds=options.step_ms / 1000,
        failure_rate=options.failure_rate,
        gpu_name=options.gpu_name,
        gpu_memory=options.gpu_memory_mib * _MIB,
    )
    flavour = FLAVOURS[options.flavour]
    service = SimulatedComfyUI(_folders(options), flavour=flavour, habits=habits, packs=packs)
    await asyncio.sleep(options.ready_delay_ms / 1000)
    port = await service.start(options.listen, options.port)
    _notify_ready(environ)
    _log.info("Starting server\n")
    _log.info("To see the pages go to: http://%s:%s", options.listen, port)
    try:
        await asyncio.Event().wait()
    finally:
        await service.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to end. SIGTERM ends at once, as with ComfyUI; SIGINT closes the sockets."""
    environ = os.environ  # noqa: TID251  # a program of its own, not a part of the machine
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    if importlib.util.find_spec("PIL") is None:
        _log.error("Pillow is missing; install it: %s -m pip install Pillow", sys.executable)
        return 1
    options = _arguments(sys.argv[1:] if argv is None else argv, environ)
    packs = CustomNodes()
    if options.custom_nodes:
        packs = import_packs(options.custom_nodes, FLAVOURS[options.flavour])
    try:
        asyncio.run(_serve(options, environ, packs))
    except KeyboardInterrupt:
        _log.info("Stopped server")
    except OSError as error:
        _log.error("can't listen: %s", error)  # the traceback says no more
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
