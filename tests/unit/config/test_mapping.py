from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest

from machine_lifecycle.config.mapping import parse_mapping
from machine_lifecycle.errors import Problems
from machine_lifecycle.model.catalogue import NO_INSTALLER, JobRoute, ServiceMapping
from machine_lifecycle.model.services import Binding

ONE_LEVEL = """{
  "workers": {
    "painter": {
      "service": [
        {"capability": ["paint", "draw"], "connector": "ComfyUIConnector", "type": "internal"},
        {"capability": "ask", "connector": "SimulationConnector", "type": "external"}
      ],
      "installer": "installComfyUI",
      "resource_binding": "${PAINTER_BINDING:-gpu}",
      "service_instances_per_gpu": "${PER_GPU:-2}",
      "ports": ["${PAINTER_PORT:-7000}"],
      "port_increment": "10",
      "required_env": ["PAINT_KEY"],
      "installer_config": {"branch": "${BRANCH:-trunk}", "deep": true, "list": [1]}
    }
  }
}"""


def parse(value: Any, **environ: str) -> ServiceMapping:
    text = value if isinstance(value, str) else json.dumps(value, indent=1)
    return parse_mapping(text, environ, "mapping.json")


def problems(value: Any) -> str:
    with pytest.raises(Problems) as caught:
        parse(value)
    return str(caught.value)


def test_one_level() -> None:
    mapping = parse(ONE_LEVEL, PAINTER_PORT="7100")
    worker = mapping.workers["painter"]
    assert worker.services == ("painter", "painter-ask")
    assert worker.routes == (
        JobRoute(asks="paint", service="painter"),
        JobRoute(asks="draw", service="painter"),
        JobRoute(asks="ask", service="painter-ask"),
    )
    own = mapping.services["painter"]
    assert (own.binding, own.per_gpu, own.base_port) == (Binding.GPU, 2, 7100)
    assert own.port_increment == 10
    assert own.options == {"branch": "trunk", "deep": "true", "list": "[1]"}
    assert own.required_env == ("PAINT_KEY",)
    assert mapping.services["painter-ask"].external
    assert mapping.services["painter-ask"].installer == NO_INSTALLER


def test_the_shipped_mapping() -> None:
    text = files("machine_lifecycle.config").joinpath("service-mapping.json").read_text()
    mapping = parse(text)
    assert list(mapping.workers) == ["simulation", "comfyui", "comfyui-remote"]
    assert mapping.services["comfyui"].installer == "installComfyUI"
    assert mapping.services["comfyui-remote"].external
    assert mapping.warnings == ()


def test_without_a_map_services_do_jobs_of_their_name() -> None:
    mapping = parse({"workers": {"w": {"services": ["s"]}}, "services": {"s": {}}})
    assert mapping.workers["w"].routes == (JobRoute(asks="s", service="s"),)


def test_an_unset_variable_in_options_becomes_a_requirement() -> None:
    service = {"api_config": {"url": "${API_URL}"}}
    mapping = parse({"workers": {"w": {"services": ["s"]}}, "services": {"s": service}})
    assert mapping.services["s"].required_env == ("API_URL",)


def test_all_problems_at_once_with_path_and_line() -> None:
    text = problems(
        {
            "workers": {
                "w": {"services": ["sim"], "is_gpu_bound": "maybe"},
                "v": {
                    "services": ["s"],
                    "job_service_required_map": [
                        {"job_service_required": "x", "worker_service": "y"}
                    ],
                },
            },
            "services": {
                "s": {"resource_binding": "gpux", "ports": ["many"], "type": "odd", "connector": 3},
                "simu": {"port_increment": "${NOPE}", "service_instances_per_gpu": "0"},
            },
        }
    )
    for part in (
        "mapping.json:5:5: $.workers.w.services[0]: `services` has no `sim`",
        "Did you mean `simu`?",
        "$.workers.w.is_gpu_bound: must be true or false",
        "`y` is not among this worker's services",
        "unknown binding `gpux`",
        "$.services.s.ports[0]: `many` is not a whole number",
        "unknown type `odd`",
        "NOPE is not set",
        "0 is not within 1 to 1024",
    ):
        assert part in text


def test_broken_json_has_its_place() -> None:
    assert "mapping.json:2:3" in problems("{\n  oops}")


def test_names_that_occur_twice() -> None:
    text = problems(
        '{"services": {},\n "workers": {"w": {"services": []},\n  "w": {"services": []}}}'
    )
    assert "mapping.json:3:3: $.workers.w: this name is used twice" in text


@pytest.mark.parametrize(
    "text", ["[]", "null", '"x"', "{}", '{"workers": []}', '{"workers": {"w": 1}}']
)
def test_wrong_shapes(text: str) -> None:
    assert "problem" in problems(text)


def test_fields_that_nobody_reads_are_warned_of() -> None:
    service = {"conector": "X", "build_stage": "base", "telemetry_logs": []}
    mapping = parse({"workers": {"w": {"services": ["s"]}}, "services": {"s": service}})
    assert len(mapping.warnings) == 1
    assert "$.services.s.conector is not read" in mapping.warnings[0]
