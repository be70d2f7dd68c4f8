from __future__ import annotations

import pytest

from machine_lifecycle.config.settings import load_settings, secret_values, settings_env, shown
from machine_lifecycle.config.values import Unusable, parse_limits
from machine_lifecycle.errors import Problems
from machine_lifecycle.model.settings import CustomerIsolation, GpuMode, Settings, setting_info


def test_nothing_written_gives_the_defaults() -> None:
    loaded = load_settings({})
    assert loaded.settings == Settings()
    assert {origin.kind for origin in loaded.origins.values()} == {"default"}
    assert set(loaded.origins) == {info.field for info in setting_info()}


def test_environment_beats_dotenv_beats_default() -> None:
    dotenv = "# ours\n\nWORKERS=simulation:2\nGPU_MODE=mock\n"
    loaded = load_settings({"WORKERS": "comfyui:1"}, dotenv)
    assert loaded.settings.workers == "comfyui:1"
    assert loaded.settings.gpu_mode is GpuMode.MOCK
    assert str(loaded.origins["workers"]) == "environment"
    assert str(loaded.origins["gpu_mode"]) == ".env line 4"


def test_an_older_name_counts_and_is_told() -> None:
    loaded = load_settings({"WORKER_CONNECTORS": "comfyui:3"})
    assert loaded.settings.workers == "comfyui:3"
    assert str(loaded.origins["workers"]) == "environment (as WORKER_CONNECTORS)"


def test_customers_are_named_as_hubs_name_them() -> None:
    names = {"ALLOWED_CUSTOMERS": "a,b", "DENIED_CUSTOMERS": "c", "CUSTOMER_ISOLATION": "strict"}
    settings = load_settings(names).settings
    assert (settings.allowed_customers, settings.denied_customers) == ("a,b", "c")
    assert settings.customer_isolation is CustomerIsolation.STRICT
    assert settings_env(settings) == {f"WORKER_{name}": value for name, value in names.items()}
    with pytest.raises(Problems, match="CUSTOMER_ISOLATION"):
        load_settings({"CUSTOMER_ISOLATION": "tight"})


def test_two_names_that_differ_are_warned_of() -> None:
    loaded = load_settings({"WORKERS": "a:1", "WORKER_CONNECTORS": "b:1"})
    assert loaded.settings.workers == "a:1"
    assert "WORKER_CONNECTORS" in loaded.warnings[0]


def test_empty_counts_as_unset_but_hides_gpus() -> None:
    loaded = load_settings({"MACHINE_HEALTH_PORT": "", "CUDA_VISIBLE_DEVICES": ""})
    assert loaded.settings.health_port == 9090
    assert loaded.settings.cuda_visible_devices == ""


def test_all_problems_come_at_once_with_their_places() -> None:
    dotenv = "\nMACHINE_HEALTH_PORT=70000\nSIMULATION_STEP_MS=${NOWHERE}\n"
    environ = {
        "HUB_REDIS_URL": "http://:hunter2@x",
        "REDIS": "maybe",
        "COMFYUI_CPU_MODE": "perhaps",
    }
    with pytest.raises(Problems) as caught:
        load_settings(environ, dotenv)
    text = str(caught.value)
    assert len(caught.value.errors) == 5
    assert ".env line 2" in text
    assert ".env line 3" in text
    assert "NOWHERE" in text
    assert "hunter2" not in text
    assert "export REDIS=auto" in text
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("MACHINE_STATUS_UPDATE_INTERVAL_SECONDS", "30"),
        ("WORKER_SIMULATION_FAILURE_RATE", "1.5"),
        ("WORKER_SIMULATION_FAILURE_RATE", "nan"),
        ("MACHINE_BOOT_ATTEMPTS", "0"),
        ("MACHINE_STALL_LIMITS", "installing"),
        ("MACHINE_STATE_CAPS", "installing=-1"),
        ("HUB_REDIS_URL", "redis://"),
        ("HUB_REDIS_URL", "redis://h:99999"),
        ("LOG_LEVEL", "loud"),
        ("COMFYUI_BASE_PORT", "0"),
    ],
)
def test_values_out_of_range_are_refused(variable: str, text: str) -> None:
    with pytest.raises(Problems, match=variable):
        load_settings({variable: text})


def test_a_drain_longer_than_the_stop_is_refused() -> None:
    with pytest.raises(Problems, match="MACHINE_DRAIN_TIMEOUT"):
        load_settings({"MACHINE_STOP_TIMEOUT": "5", "MACHINE_DRAIN_TIMEOUT": "6"})


@pytest.mark.parametrize(
    ("written", "remedies"),
    [
        (
            {"MACHINE_HEALTH_PORT": "first"},
            ("Set a value that can be used: export MACHINE_HEALTH_PORT=9090",
             "or remove it to get the default: unset MACHINE_HEALTH_PORT"),
        ),
        (
            {"MACHINE_BOOT_ATTEMPTS": "1.5"},
            ("Set a value that can be used: export MACHINE_BOOT_ATTEMPTS=3",
             "or remove it to get the default: unset MACHINE_BOOT_ATTEMPTS"),
        ),
        ({"MOCK_GPU_NUM": "two"}, ("Remove it to get the default: unset MOCK_GPU_NUM",)),
    ],
)  # fmt: skip
def test_what_is_no_number_is_told_with_one_that_fits(
    written: dict[str, str], remedies: tuple[str, ...]
) -> None:
    with pytest.raises(Problems) as caught:
        load_settings(written)
    assert tuple(map(str, caught.value.remedies)) == remedies


def test_a_line_of_a_file_is_told_as_it_should_be() -> None:
    with pytest.raises(Problems) as caught:
        load_settings({}, "WORKERS=simulation:1\nMACHINE_HEALTH_PORT=first\n")
    assert tuple(map(str, caught.value.remedies)) == (
        "Write MACHINE_HEALTH_PORT=9090 in .env line 2",
        "or remove the line from .env",
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("MACHINE_HEALTH_PRT", "MACHINE_HEALTH_PORT"),
        ("MACHINE_LOG_FORMAT", "LOG_FORMAT"),
        ("WORKER", "WORKERS"),
    ],
)
def test_misspelt_variables_are_warned_of(written: str, meant: str) -> None:
    loaded = load_settings({written: "1", "PATH": "x", "WORKER_ID": "w"})
    assert len(loaded.warnings) == 1
    assert f"did you mean {meant}?" in loaded.warnings[0]


def test_secrets_never_show() -> None:
    loaded = load_settings(
        {
            "HUB_REDIS_URL": "rediss://u:canary@h:1/0?password=canary",
            "MACHINE_HEALTH_TOKEN": "canary",
        }
    )
    settings = loaded.settings
    assert "canary" not in str(shown(settings)) + repr(settings) + repr(loaded)
    assert "canary" not in str(settings_env(settings, defaults=True))
    assert shown(settings)["redis_url"] == "rediss://u:***@h:1"
    assert secret_values(settings)["MACHINE_HEALTH_TOKEN"] == "canary"


def test_settings_survive_a_child() -> None:
    environ = {
        "WORKERS": "a:1",
        "MOCK_GPU_NUM": "3",
        "COMFYUI_CPU_MODE": "yes",
        "LOG_LEVEL": "WARN",
    }
    settings = load_settings(environ).settings
    assert load_settings(settings_env(settings)).settings == settings
    assert load_settings(settings_env(settings, defaults=True)).settings == settings


def test_limits() -> None:
    assert parse_limits(" installing=900, launching = 1.5,") == {
        "installing": 900,
        "launching": 1.5,
    }
    assert parse_limits("") == {}
    with pytest.raises(Unusable, match="twice"):
        parse_limits("a=1,a=2")


def test_a_token_in_an_address_is_not_shown() -> None:
    settings = load_settings({"COMFYUI_REPO_URL": "https://me:s3cret@h/a.git"}).settings
    assert shown(settings)["comfyui_repo_url"] == "https://***@h/a.git"
