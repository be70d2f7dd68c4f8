"""What a worker makes of its service's runs: it looks again at each new one, and only then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from machine_lifecycle.jobs.errors import ServiceDown
from machine_lifecycle.jobs.worker_services import WorkerServices
from machine_lifecycle.model.packs import Loaded, Pack, PackState, Run
from machine_lifecycle.model.wire import to_json_value
from tests.support.fake_connector import FakeConnector

FIRST = Run(instance="gpu0", port=1, log=Path("/log"), offset=0, started=1.0)
SECOND = attrs.evolve(FIRST, offset=400, started=2.0)


class Reading(FakeConnector):
    """Loads what its runs say: nothing without one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.seen: list[Sequence[Run]] = []
        self.meanwhile: list[dict[str, Any]] = []
        self.services: WorkerServices | None = None

    async def loaded(self, runs: Sequence[Run], proved: Mapping[str, Any]) -> Loaded:
        assert proved == await self.capabilities()
        self.seen.append(runs)
        if self.meanwhile and self.services:
            self.services.began([self.meanwhile.pop()])
        packs = (Pack(name=f"from-{run.offset}") for run in runs)
        failed = Pack(name="failed", state=PackState.FAILED)
        return Loaded(instance=runs[0].instance if runs else "", packs=(*packs, failed))


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    made = Reading(tmp_path)
    made.services = WorkerServices({"comfyui": made}, {"comfyui": "comfyui"})
    return made


async def test_only_what_loaded_is_advertised(reading: Reading) -> None:
    assert reading.services is not None
    assert reading.services.began([to_json_value(FIRST)])
    proved = await reading.services.connect()
    assert proved["comfyui"]["node_packs"] == ["from-0"]
    (known,) = reading.services.loaded
    assert [pack.name for pack in known.packs] == ["from-0", "failed"]
    assert not reading.services.began([to_json_value(FIRST)]), "the same run is no news"
    assert reading.services.began([to_json_value(SECOND)])
    await reading.services.leave()


async def test_a_service_without_a_process_here_goes_by_its_name(reading: Reading) -> None:
    assert reading.services is not None
    await reading.services.connect()
    assert [one.instance for one in reading.services.loaded] == ["comfyui"]
    await reading.services.leave()


async def test_a_start_in_mid_look_is_looked_at_too(reading: Reading) -> None:
    assert reading.services is not None
    reading.services.began([to_json_value(FIRST)])
    reading.meanwhile = [to_json_value(SECOND)]
    proved = await reading.services.connect()
    assert reading.seen == [(FIRST,), (SECOND,)]
    assert proved["comfyui"]["node_packs"] == ["from-400"]
    await reading.services.leave()


async def test_a_service_that_is_down_has_loaded_nothing_new(
    reading: Reading, tmp_path: Path
) -> None:
    assert reading.services is not None
    await reading.services.connect()
    before = reading.services.loaded
    (tmp_path / "down").touch()
    with pytest.raises(ServiceDown):
        await reading.services.connect()
    assert reading.services.loaded == before
    await reading.services.leave()
