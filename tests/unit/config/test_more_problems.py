"""Problems that once hid each other, or said something else than what was wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine_lifecycle.config.mapping import parse_mapping
from machine_lifecycle.config.workers import parse_workers
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.installers.lock import parse_lock
from machine_lifecycle.installers.lock_errors import LockUnreadable
from machine_lifecycle.plan.errors import ManifestUnusable
from machine_lifecycle.plan.outline import read_outline


def told(text: str) -> str:
    with pytest.raises(LifecycleError) as raised:
        parse_mapping(text, {}, "own.json")
    return str(raised.value)


def test_a_name_used_twice_hides_no_other_problem() -> None:
    said = told('{"workers": {"a": {"services": 1, "services": ["gone"]}}, "services": {}}')
    assert "used twice" in said
    assert "`gone`" in said


def test_a_negative_number_is_told_its_range() -> None:
    said = told('{"workers": {}, "services": {"s": {"service_instances_per_gpu": -4}}}')
    assert "-4 is not within 1 to" in said


def test_an_installer_is_a_name() -> None:
    assert "name of an installer" in told('{"workers": {}, "services": {"s": {"installer": 5}}}')


def test_two_counts_are_told_as_such() -> None:
    with pytest.raises(LifecycleError, match="more than one count"):
        parse_workers("comfyui:1:2")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, f'{{"workers": {"7" * 5000}}}'], ids=["depth", "digits"]
)
def test_what_json_allows_and_nobody_can_read_is_told(text: str) -> None:
    assert "can't be read" in told(text)


def test_a_lock_that_is_nested_too_deep_is_told(tmp_path: Path) -> None:
    with pytest.raises(LockUnreadable):
        parse_lock("[" * 100_000, tmp_path / "lock.json")


def test_a_manifest_that_is_nested_too_deep_is_told(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(ManifestUnusable):
        read_outline(path)
