from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.catalogue import NO_INSTALLER, ServiceEntry
from machine_lifecycle.model.services import ServiceDefinition
from machine_lifecycle.services import comfyui, comfyui_remote, simulation
from machine_lifecycle.services.errors import PluginClash, ServiceBroken, ServiceUnknown
from machine_lifecycle.services.registry import BUILTINS, GROUP, Registry

OURS = "machine_lifecycle.services.simulation:SERVICE"


def registry(*entries: tuple[str, str]) -> Registry:
    points = [EntryPoint(name=name, value=value, group=GROUP) for name, value in entries]
    return Registry(plugins=lambda: points)


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("comfyui", comfyui.SERVICE),
        ("installComfyUI", comfyui.SERVICE),
        ("ComfyUIWebSocketConnector", comfyui.SERVICE),
        ("ComfyUIRemoteConnector", comfyui_remote.SERVICE),
        ("SimulationHttpConnector", simulation.SERVICE),
        (OURS, simulation.SERVICE),
    ],
)
def test_names_aliases_references(name: str, service: ServiceDefinition) -> None:
    assert Registry().find(name) is service


def test_names_are_case_sensitive_and_the_close_one_is_offered() -> None:
    with pytest.raises(ServiceUnknown) as caught:
        registry().find("Comfyui")
    assert caught.value.close == "comfyui"
    assert "simulation" in caught.value.summary


def test_objects_come_first() -> None:
    mine = ServiceDefinition(name="comfyui", summary="", capabilities=(), connector="a:b")
    assert Registry(definitions=(mine,)).find("comfyui") is mine


def test_plugins_are_found_and_broken_ones_cost_nothing_unless_asked_for() -> None:
    found = registry(("good", OURS), ("bad", "no.such.module:X"), ("odd", "json:dumps"))
    assert found.find("good") is simulation.SERVICE
    assert len(found.origins()) == len(BUILTINS) + 3
    with pytest.raises(ServiceBroken, match="ModuleNotFoundError"):
        found.find("bad")
    with pytest.raises(ServiceBroken, match="not a ServiceDefinition"):
        found.find("odd")


def test_two_plugins_of_one_name() -> None:
    with pytest.raises(PluginClash, match="provided by"):
        registry(("x", "a:b"), ("x", "c:d")).find("x")


def test_entries() -> None:
    lookup = registry().lookup
    plain = lookup(ServiceEntry(name="mine", connector="ComfyUIConnector"))
    assert plain.installer == comfyui.SERVICE.installer
    none = lookup(ServiceEntry(name="mine", connector="ComfyUIConnector", installer=NO_INSTALLER))
    assert none.installer == ""
    other = lookup(ServiceEntry(name="comfyui", installer="my.pack:Installer"))
    assert other.installer == "my.pack:Installer"
    outside = lookup(ServiceEntry(name="comfyui", connector="ComfyUIConnector", external=True))
    assert outside.process is None
    api = lookup(ServiceEntry(name="api", connector="my.pack:Api", external=True))
    assert (api.connector, api.process) == ("my.pack:Api", None)
    with pytest.raises(LifecycleError, match="OpenAITextConnector"):
        lookup(ServiceEntry(name="openai", connector="OpenAITextConnector"))
