"""The public names: all there, all documented, none of them heavy until used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import machine_lifecycle

HEAVY = ("aiohttp", "redis", "psutil", "rich", "websockets", "transitions", "prometheus_client")


@pytest.mark.parametrize("name", machine_lifecycle.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    found = getattr(machine_lifecycle, name)
    assert found.__doc__
    assert found.__name__ == name


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        machine_lifecycle.nonsense  # noqa: B018 - the look-up is the test


@pytest.mark.parametrize("words", [["--help"], ["explain", "no-queue"], ["--version"]])
def test_cheap_commands_load_nothing_heavy(words: list[str]) -> None:
    code = (
        "import atexit, sys\n"
        f"heavy = lambda: [m for m in {HEAVY!r} if m in sys.modules and m != 'rich']\n"
        "atexit.register(lambda: print('LOADED', heavy()))\n"
        "from machine_lifecycle.cli.group import cli\n"
        f"cli({words!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "LOADED []" in done.stdout


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, machine_lifecycle; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
