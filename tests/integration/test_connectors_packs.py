"""Which packs are loaded, as a connector finds out of a running service and of its log."""

from __future__ import annotations

import os
from pathlib import Path

import attrs

from machine_lifecycle.connectors.base import Endpoint
from machine_lifecycle.connectors.comfyui import ComfyUIConnector, ComfyUIRemoteConnector
from machine_lifecycle.model.packs import Loaded, PackReader, PackState, Run
from machine_lifecycle.model.wire import to_json_value
from machine_lifecycle.simulation.custom_nodes import CustomNodes
from machine_lifecycle.simulation.execution import Folders
from machine_lifecycle.simulation.server import SimulatedComfyUI

BEFORE = (
    "Import times for custom nodes:\n   9.9 seconds: /srv/custom_nodes/of_the_run_before\n"
    "Starting server\n"
)
LOG = (
    "Skip /srv/custom_nodes/pages module for custom nodes due to the lack of NODE_CLASS_MAPPINGS.\n"
    "Cannot import /srv/custom_nodes/broken module for custom nodes: No module named 'x.y'\n"
    "\nImport times for custom nodes:\n"
    "   0.1 seconds (IMPORT FAILED): /srv/custom_nodes/broken\n"
    "   0.1 seconds (IMPORT FAILED): /srv/custom_nodes/pages\n"
    "   0.4 seconds: /srv/custom_nodes/without\n"
    "   0.5 seconds: /srv/custom_nodes/simulation\n\n"
    "Starting server\n"
    "Cannot import /srv/custom_nodes/later module for custom nodes: a job's own words\n"
)


async def look(
    tmp_path: Path, run: Run | None, connector_type: type[ComfyUIConnector] = ComfyUIConnector
) -> Loaded:
    folders = Folders(input=tmp_path / "i", output=tmp_path / "o", temp=tmp_path / "t")
    packs = CustomNodes(scripts=("/extensions/pages/a.js",))
    service = SimulatedComfyUI(folders, packs=packs)
    port = await service.start("127.0.0.1", 0)
    try:
        async with connector_type(Endpoint(host="127.0.0.1", port=port)) as connector:
            assert isinstance(connector, PackReader)
            runs = [attrs.evolve(run, port=port + 1, instance="another")] if run else []
            runs += [attrs.evolve(run, port=port)] if run else []
            return await connector.loaded(runs, await connector.capabilities())
    finally:
        await service.close()


def a_run(log: Path, offset: int = 0) -> Run:
    return Run(instance="comfyui-gpu0", port=0, log=log, offset=offset, started=1.0)


async def test_log_and_pages_together_tell_of_this_run_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(BEFORE + LOG)
    found = await look(tmp_path, a_run(log, len(BEFORE)))
    assert (found.instance, found.complete, found.started) == ("comfyui-gpu0", True, 1.0)
    states = {pack.name: (pack.state, pack.seconds, pack.missing) for pack in found.packs}
    assert states == {
        "broken": (PackState.FAILED, 0.1, "x.y"),
        "pages": (PackState.LOADED, 0.1, ""),
        "simulation": (PackState.LOADED, 0.5, ""),
        "without": (PackState.LOADED, 0.4, ""),
    }
    assert found.names == ("pages", "simulation", "without")


async def test_a_log_that_is_gone_or_was_emptied_leaves_the_pages(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("short\n")
    for run in (None, a_run(tmp_path / "none"), a_run(log, 4096)):
        found = await look(tmp_path, run)
        assert [pack.name for pack in found.packs] == ["simulation"]
        assert found.packs[0].seconds is None
        assert not found.complete


async def test_a_log_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        file.write(b"Installing, for ever\n" * 100)
        os.truncate(log, 1 << 34)  # 16 GiB that take no room
    found = await look(tmp_path, a_run(log))
    assert [pack.name for pack in found.packs] == ["simulation"]


async def test_a_service_elsewhere_has_no_log_here(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(LOG)
    found = await look(tmp_path, a_run(log), ComfyUIRemoteConnector)
    assert ([pack.name for pack in found.packs], found.complete) == (["simulation"], False)


async def test_what_is_found_survives_the_wire(tmp_path: Path) -> None:

    log = tmp_path / "log"
    log.write_text(LOG)
    run = a_run(log)
    found = await look(tmp_path, run)
    assert Loaded.from_wire(to_json_value(found)) == found
    assert Run.from_wire(to_json_value(run)) == run
