"""Settings that a program gives as values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from machine_lifecycle import GpuMode, RedisMode, Settings


def test_a_path_a_choice_and_a_duration_may_be_given_as_people_write_them() -> None:
    given: dict[str, Any] = {"workspace": "/w", "redis_mode": "embedded", "stop_budget": 20}
    settings = Settings(**given)
    assert settings.workspace == Path("/w")
    assert settings.redis_mode is RedisMode.EMBEDDED
    assert (settings.stop_budget, type(settings.stop_budget)) == (20.0, float)


def test_values_of_the_right_type_stay_the_same() -> None:
    path = Path("/w")
    settings = Settings(workspace=path, gpu_mode=GpuMode.MOCK, mock_gpus=None)
    assert settings.workspace is path
    assert settings.gpu_mode is GpuMode.MOCK
    assert attrs.evolve(settings, workers="simulation:2").workspace is path


def test_all_that_is_of_the_wrong_type_is_told_at_once_and_no_secret() -> None:
    given: dict[str, Any] = {
        "workers": 3,
        "health_port": "first",
        "redis_mode": "island",
        "mock_gpus": True,
        "redis_url": b"redis://:canary@h",
    }
    with pytest.raises(TypeError) as told:
        Settings(**given)
    words = str(told.value)
    assert "workers must be str, not 3" in words
    assert "health_port must be int, not 'first'" in words
    assert "redis_mode must be 'auto', 'hub', 'embedded', not 'island'" in words
    assert "mock_gpus must be int or None, not True" in words
    assert "redis_url must be str" in words
    assert "canary" not in words
