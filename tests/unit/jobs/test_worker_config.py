"""What a worker reads from its environment, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from machine_lifecycle.errors import our_python
from machine_lifecycle.jobs.worker_config import WorkerConfig, load_connector
from machine_lifecycle.jobs.worker_errors import ConnectorBroken, WorkerSettingWrong

ROUTES = json.dumps([{"asks": "simulation", "service": "simulation", "connector": "module:Class"}])
GOOD = {"HUB_REDIS_URL": "redis://127.0.0.1:6379", "MACHINE_ID": "m1", "WORKER_ROUTES": ROUTES}


def test_what_is_set_is_read() -> None:
    config = WorkerConfig.from_env(GOOD | {"CONNECTORS": "sim", "WORKER_RAM_GB": "12.5"}, index=2)
    assert (config.worker_id, config.process) == ("m1-worker-sim-2", "redis-worker-sim-2")
    assert config.ram_gb == 12.5
    assert config.control_socket is None


def test_jobs_of_one_kind_may_have_a_time_of_their_own() -> None:
    routes = [
        {"asks": asks, "service": "s", "connector": "module:Class"} for asks in ("a-1", "b", "c")
    ]
    config = WorkerConfig.from_env(
        GOOD
        | {"WORKER_ROUTES": json.dumps(routes), "WORKER_JOB_TIMEOUT_MINUTES": "10"}
        | {"A_1_JOB_TIMEOUT_MINUTES": "0.5", "B_JOB_TIMEOUT_MINUTES": "120"}
    )
    assert [config.timeout_of(asks) for asks in ("a-1", "b", "c")] == [30, 7200, 600]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("HUB_REDIS_URL", "", "is not set"),
        ("WORKER_GPU_MEMORY_GB", "much", "is no number: 'much'"),
        ("SIMULATION_JOB_TIMEOUT_MINUTES", "soon", "is no number: 'soon'"),
        ("SIMULATION_JOB_TIMEOUT_MINUTES", "0", "is not above zero"),
        ("WORKER_ROUTES", "", "names no route"),
        ("WORKER_ROUTES", "{", "can't be read"),
        ("WORKER_ROUTES", '[{"asks": "simulation"}]', "can't be read"),
    ],
)
def test_what_can_not_be_used_is_named(name: str, value: str, reason: str) -> None:
    with pytest.raises(WorkerSettingWrong) as wrong:
        WorkerConfig.from_env(GOOD | {name: value})
    assert wrong.value.code == "worker-setting-wrong"
    assert name in wrong.value.summary
    assert reason in wrong.value.summary
    assert any(f"export {name}=" in (remedy.command or "") for remedy in wrong.value.remedies)


@pytest.mark.parametrize(
    "reference", ["no_such_module:Connector", "json:Connector", "decimal:Decimal", "json"]
)
def test_a_connector_that_can_not_be_loaded_is_named(reference: str) -> None:
    with pytest.raises(ConnectorBroken) as broken:
        load_connector(reference, {})
    assert broken.value.code == "connector-broken"
    assert reference in broken.value.summary
    module = reference.partition(":")[0]
    assert broken.value.remedies[0].command == our_python("-P", "-c", f"import {module}")


class Lacking:
    """A connector that lacks most of one, and wants to do no jobs at a time."""

    max_concurrent_jobs = 0

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Lacking:
        made = cls()
        if environ["METHODS"] == "all":
            for name in ("run", "probe", "cancel", "capabilities", "__aenter__", "__aexit__"):
                setattr(made, name, print)
        return made


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({}, "KeyError: 'METHODS'"),
        ({"METHODS": "none"}, "it has no run(), probe(), cancel(), capabilities(), __aenter__(), "),
        ({"METHODS": "all"}, "its max_concurrent_jobs is 0, and must be a number from 1 on"),
    ],
)
def test_a_connector_that_is_none_is_told_with_all_that_it_lacks(
    environ: dict[str, str], reason: str
) -> None:
    with pytest.raises(ConnectorBroken) as broken:
        load_connector(f"{__name__}:Lacking", environ)
    assert f"can't be loaded: {reason}" in broken.value.summary


def test_what_an_operator_says_of_a_worker_is_advertised() -> None:
    said = {
        "WORKER_FEATURES": "upscale",
        "WORKER_LIMITATIONS": '["no_video"]',
        "WORKER_MODELS": "one, two",
        "WORKER_MAX_BATCH_SIZE": "4",
        "DEBUGGING_ENABLED": "true",
        "WORKER_COMFYUI_VERSION": "1.10",
        "WORKER_REGION": "eu-1",
        "WORKER_COMPLIANCE": "gdpr,hipaa",
        "WORKER_COST_TIER": "economy",
        "WORKER_RATE_PER_HOUR": "1.5",
        "QUALITY_LEVELS": "fast",
        "MAX_CONCURRENT_CUSTOMERS": "3",
    }
    known = WorkerConfig.from_env(GOOD | said).capabilities({"simulation": {}})
    expected = {
        "features": ["upscale"],
        "limitations": ["no_video"],
        "available_models": ["one", "two"],
        "max_batch_size": 4,
        "debugging_enabled": True,
        "comfyui_version": "1.10",
        "location": {"region": "eu-1", "compliance_zones": ["gdpr", "hipaa"]},
        "cost": {"tier": "economy", "rate_per_hour": 1.5},
    }
    assert {name: known[name] for name in expected} == expected
    assert known["performance"]["quality_levels"] == ["fast"]
    assert known["performance"]["max_processing_time_minutes"] == 30, "what is not said is known"
    assert known["customer_access"]["max_concurrent_customers"] == 3
    assert known["customer_access"]["isolation"] == "loose"
    silent = WorkerConfig.from_env(GOOD).capabilities({"simulation": {}})
    assert not {"location", "cost", "features", "workflow_id"} & set(silent)


def test_what_services_loaded_is_advertised_for_jobs_to_require() -> None:
    config = WorkerConfig.from_env(GOOD)
    facts = {"node_packs": ["good"], "node_classes": ["KSampler", "Good"], "models": {}}
    known = config.capabilities({"simulation": facts, "speech": {}})
    assert known["node_packs"] == known["custom_nodes"] == ["good"]
    assert known["node_classes"] == ["Good", "KSampler"]
    # A service that has no packs says nothing of them, a service without any loaded has none.
    assert "node_packs" not in config.capabilities({"speech": {}})
    assert config.capabilities({"simulation": {"node_packs": []}})["node_packs"] == []
