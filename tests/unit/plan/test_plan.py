"""Plans against goldens; `UPDATE_GOLDENS=1 pytest tests/unit/plan` writes them anew."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import attrs
import pytest

from machine_lifecycle.config.mapping import parse_mapping
from machine_lifecycle.config.settings import load_settings
from machine_lifecycle.config.workers import parse_workers
from machine_lifecycle.errors import Problems
from machine_lifecycle.model.catalogue import ServiceMapping
from machine_lifecycle.model.hardware import Gpu, GpuSource, Hardware
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.warming import WarmUp, warm_ups_from
from machine_lifecycle.plan.making import make_plan
from machine_lifecycle.plan.manifest import manifest, plan_values
from machine_lifecycle.services.registry import Registry

GOLDENS = Path(__file__).parents[2] / "data" / "plans"
UPDATE = bool(os.getenv("UPDATE_GOLDENS"))


def gpus(number: int) -> Hardware:
    found = tuple(
        Gpu(index=i, name="NVIDIA H200", memory_mib=143771, uuid=f"GPU-{i:08x}", visible=str(i))
        for i in range(number)
    )
    source = GpuSource.NVML if number else GpuSource.NONE
    return Hardware(gpus=found, source=source, cpus=16, memory_mib=131072)


def shipped(environ: Mapping[str, str]) -> ServiceMapping:
    file = files("machine_lifecycle.config").joinpath("service-mapping.json")
    return parse_mapping(file.read_text(), environ, file.name)


def plan(
    workers: str,
    number: int,
    environ: Mapping[str, str] | None = None,
    *,
    mapping: ServiceMapping | None = None,
    taken: frozenset[int] = frozenset(),
) -> BootPlan:
    environ = environ or {}
    return make_plan(
        requests=parse_workers(workers),
        mapping=mapping or shipped(environ),
        lookup=Registry().lookup,
        hardware=gpus(number),
        settings=load_settings(environ).settings,
        paths=Paths(workspace=Path("/workspace"), runtime=Path("/run/ml")),
        machine_id="m1",
        free_port=lambda _host, port: port not in taken,
        environ=environ,
    )


def refused(workers: str, number: int, **environ: str) -> str:
    with pytest.raises(Problems) as caught:
        plan(workers, number, environ)
    return str(caught.value)


@pytest.mark.parametrize(
    ("workers", "number"),
    [
        ("comfyui:1", 1),
        ("comfyui:1", 2),
        ("comfyui:1", 8),
        ("comfyui:2", 2),
        ("simulation:1", 0),
        ("simulation:auto", 0),
        ("comfyui:auto,simulation:3", 1),
    ],
)
def test_goldens(workers: str, number: int) -> None:
    values = plan_values(plan(workers, number))
    values.pop("digest")  # covers the path of the Python that runs this test
    text = json.dumps(values, indent=1, sort_keys=True).replace(sys.executable, "PYTHON") + "\n"
    name = workers.replace(":", "-").replace(",", "_")
    golden = GOLDENS / f"{name}-on-{number}-gpus.json"
    if UPDATE:
        golden.write_text(text)
    assert text == golden.read_text()


def test_the_five_processes_in_their_order() -> None:
    assert plan("comfyui:1", 2).listing == (
        "health-server",
        "comfyui-gpu0",
        "comfyui-gpu1",
        "redis-worker-comfyui-0",
        "redis-worker-comfyui-1",
    )


def test_equal_inputs_give_equal_digests() -> None:
    assert plan("comfyui:1", 2).digest == plan("comfyui:1", 2).digest
    assert plan("comfyui:1", 2).digest != plan("comfyui:1", 1).digest
    assert len(plan("comfyui:1", 2).digest) == 64


def test_a_worker_talks_to_its_own_instance() -> None:
    made = plan("comfyui:1", 2, {"COMFYUI_BASE_PORT": "9000"})
    worker = made.processes[3].command.env
    assert made.processes[1].port == 9001
    assert (worker["COMFYUI_HOST"], worker["COMFYUI_PORT"]) == ("localhost", "9001")
    assert worker["WORKER_ID"] == "m1-worker-comfyui-1"
    assert json.loads(worker["WORKER_ROUTES"])[0]["asks"] == "comfyui"
    assert made.processes[3].needs == ("comfyui-gpu1",)
    assert made.processes[3].standby


def test_more_than_one_per_gpu_keeps_the_first_ones() -> None:
    first, more = plan("comfyui:1", 2), plan("comfyui:2", 2)
    assert more.instances[:2] == first.instances
    assert [one.id for one in more.instances[2:]] == ["comfyui-gpu0-1", "comfyui-gpu1-1"]


def test_one_of_several_is_not_essential() -> None:
    assert all(spec.essential for spec in plan("comfyui:1", 1).processes)
    assert not any(spec.essential for spec in plan("comfyui:1", 2).processes)


def test_simulated_gpus_run_comfyui_on_the_processor() -> None:
    made = plan("comfyui:1", 1, {"COMFYUI_CPU_MODE": "true", "COMFY_ARGS": "--fast 'a b'"})
    argv = made.processes[0].command.argv
    assert "--cpu" in argv
    assert argv[-2:] == ("--fast", "a b")
    assert "CUDA_VISIBLE_DEVICES" not in made.processes[0].command.env


def test_remote_has_no_service_process_but_its_secrets() -> None:
    environ = {"WORKER_COMFYUI_REMOTE_HOST": "far", "WORKER_COMFYUI_REMOTE_PASSWORD": "canary"}
    made = plan("comfyui-remote:2", 0, environ)
    assert [spec.name for spec in made.processes] == [
        "redis-worker-comfyui-remote-0",
        "redis-worker-comfyui-remote-1",
    ]
    # A password that is not set is none that must be.
    assert made.processes[0].command.secrets == ("HUB_REDIS_URL", "WORKER_COMFYUI_REMOTE_PASSWORD")
    assert "canary" not in manifest(made) + repr(made)


def test_no_gpu() -> None:
    text = refused("comfyui:1", 0)
    assert "no-gpu" in text
    assert "GPU_MODE=mock" in text


def test_everything_wrong_comes_at_once() -> None:
    text = refused("comfyui:1,comfyui-remote:1,comfyu:1", 0)
    for code in ("no-gpu", "variable-missing", "worker-unknown"):
        assert code in text
    assert "export WORKERS=comfyui:1" in text


def test_ports_that_clash() -> None:
    text = refused("comfyui:1,simulation:1", 2, SIMULATION_BASE_PORT="8189")
    assert "port 8189 is meant for both comfyui-gpu1 and simulation-gpu0" in text
    assert "MACHINE_HEALTH_PORT" in refused("comfyui:1", 1, COMFYUI_BASE_PORT="9090")
    assert "port-range" in refused("comfyui:1", 2, COMFYUI_BASE_PORT="65535")


def test_a_port_that_a_stranger_has() -> None:
    with pytest.raises(
        Problems, match=r"port 8189 on 127\.0\.0\.1, needed by comfyui-gpu1, is taken"
    ):
        plan("comfyui:1", 2, taken=frozenset({8189}))


def test_a_worker_of_two_services_drives_one_of_each_on_its_gpu() -> None:
    text = json.dumps(
        {
            "workers": {"both": {"services": ["one", "two"], "is_gpu_bound": True}},
            "services": {
                "one": {"connector": "ComfyUIConnector", "ports": ["7000"]},
                "two": {"connector": "SimulationConnector", "ports": ["7100"], "port_increment": 0},
            },
        }
    )
    made = plan("both:1", 2, mapping=parse_mapping(text, {}, "m.json"))
    assert [spec.name for spec in made.processes[:4]] == [
        "one-gpu0",
        "two-gpu0",
        "one-gpu1",
        "two-gpu1",
    ]
    assert [spec.port for spec in made.processes[:4]] == [7000, 7100, 7001, 7101]
    assert made.workers[1].instances == ("one-gpu1", "two-gpu1")
    assert made.workers[1].capabilities == {"one": "one", "two": "two"}


def test_a_connector_that_nobody_has_matters_only_if_asked_for() -> None:
    text = json.dumps(
        {
            "workers": {"chat": {"services": ["chat"]}, "comfyui": {"services": ["comfyui"]}},
            "services": {
                "chat": {"connector": "ChatConnector", "type": "external_api"},
                "comfyui": {"connector": "ComfyUIConnector"},
            },
        }
    )
    mapping = parse_mapping(text, {}, "m.json")
    assert plan("comfyui:1", 1, mapping=mapping).workers
    with pytest.raises(Problems, match="ChatConnector"):
        plan("chat:1", 1, mapping=mapping)


def test_a_service_by_reference() -> None:
    made = plan("machine_lifecycle.services.simulation:SERVICE:2", 0)
    assert [one.id for one in made.instances] == ["simulation-gpu0", "simulation-gpu1"]


def test_secrets_in_options_are_masked() -> None:
    service = {
        "connector": "ComfyUIConnector",
        "installer_config": {"hf_token": "canary", "repo_url": "https://me:canary@host/x.git"},
    }
    text = json.dumps({"workers": {"c": {"services": ["c"]}}, "services": {"c": service}})
    assert "canary" not in manifest(plan("c:1", 1, mapping=parse_mapping(text, {}, "m.json")))


def test_what_the_mapping_says_to_a_connector_yields_to_the_setting() -> None:
    packaged = shipped({})
    entry = attrs.evolve(packaged.services["comfyui"], options={"hung_after": "60"})
    mapping = attrs.evolve(packaged, services={**packaged.services, "comfyui": entry})

    def said(**environ: str) -> str:
        processes = plan("comfyui:1", 1, environ, mapping=mapping).processes
        return processes[-1].command.env["COMFYUI_HUNG_AFTER"]

    assert said() == "60"
    assert said(COMFYUI_HUNG_AFTER="90") == "90.0"


def test_a_warm_up_of_the_mapping_or_of_the_settings() -> None:
    def worker(options: dict[str, str], **environ: str) -> Any:
        packaged = shipped({})
        entry = attrs.evolve(packaged.services["comfyui"], options=options)
        changed = attrs.evolve(packaged, services={**packaged.services, "comfyui": entry})
        return plan("comfyui:1", 1, environ, mapping=changed).processes[-1]

    def said(options: dict[str, str], **environ: str) -> Any:
        return warm_ups_from(worker(options, **environ).command.env.get("WORKER_WARMUPS", ""))

    assert said({}) == {}
    file = {"warmup": "/mapped.json"}
    assert said(file) == {"comfyui": WarmUp(file=Path("/mapped.json"), timeout=300)}
    own = {"COMFYUI_WARMUP": "/own.json", "COMFYUI_WARMUP_TIMEOUT": "60"}
    assert said(file, **own) == {"comfyui": WarmUp(file=Path("/own.json"), timeout=60)}
    assert worker(file, **own).start_deadline == worker({}).start_deadline + 60
