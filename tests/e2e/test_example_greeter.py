"""The service in one file: installed by a ready-made installer, started, given a job, stopped."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine_lifecycle.installers.base import load_installer
from machine_lifecycle.services.registry import Registry
from machine_lifecycle.testing import check_service

EXAMPLE = Path(__file__).parents[2] / "examples" / "greeter"


@pytest.fixture
def on_path() -> Iterator[None]:
    sys.path.insert(0, str(EXAMPLE))
    try:
        yield
    finally:
        sys.path.remove(str(EXAMPLE))
        sys.modules.pop("greeter", None)


async def test_it_is_a_whole_service(tmp_path: Path, on_path: None) -> None:
    definition = Registry().find("greeter:SERVICE")
    assert callable(load_installer(definition.installer).plan)
    result = await check_service(definition, folder=tmp_path, payload={"name": "Ada"})
    assert result.data == {"said": "Hello Ada!"}
