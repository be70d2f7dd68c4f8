from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.catalogue import NO_INSTALLER, ServiceEntry
from machine_lifecycle.model.offers import Offer
from machine_lifecycle.model.services import ServiceDefinition
from machine_lifecycle.services import comfyui, comfyui_remote, simulation
from machine_lifecycle.services.errors import PluginClash, ServiceBroken, ServiceUnknown
from machine_lifecycle.services.registry import BUILTINS, Registry

OURS = "machine_lifecycle.services.simulation:SERVICE"


def registry(*entries: tuple[str, str], offer: Offer = Offer.SERVICE) -> Registry:
    points = [EntryPoint(name=name, value=value, group=offer.group) for name, value in entries]
    return Registry(plugins=lambda wanted: points if wanted is offer else [])


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


@pytest.mark.parametrize(
    ("written", "offered"),
    [
        ("SimulatoinConnector", "SimulationConnector"),
        ("ComfyConnector", "ComfyUIConnector"),
        ("OllamaConnector", ""),
        ("GeminiConnector", ""),
        ("A1111WebSocketConnector", ""),
    ],
)
def test_no_connector_is_offered_for_what_it_shares_with_all(written: str, offered: str) -> None:
    with pytest.raises(ServiceUnknown) as caught:
        registry().lookup(ServiceEntry(name="x", connector=written))
    assert caught.value.close == offered


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
    other = lookup(ServiceEntry(name="comfyui", installer="tests.support:Installer"))
    assert other.installer == "tests.support:Installer"
    outside = lookup(ServiceEntry(name="comfyui", connector="ComfyUIConnector", external=True))
    assert outside.process is None
    api = lookup(ServiceEntry(name="api", connector="tests.support:Api", external=True))
    assert (api.connector, api.process) == ("tests.support:Api", None)
    with pytest.raises(LifecycleError, match="OpenAITextConnector"):
        lookup(ServiceEntry(name="openai", connector="OpenAITextConnector"))


def test_a_package_offers_an_installer() -> None:
    found = registry(("myInstaller", "tests.support:Installer"), offer=Offer.INSTALLER)
    assert found.lookup(ServiceEntry(name="comfyui", installer="myInstaller")).installer == (
        "tests.support:Installer"
    )
    with pytest.raises(ServiceUnknown) as caught:
        found.lookup(ServiceEntry(name="comfyui", installer="myinstaller"))
    assert "myInstaller" in caught.value.summary
    own = found.lookup(ServiceEntry(name="comfyui", installer="installComfyUI"))
    assert own.installer == comfyui.SERVICE.installer


def test_a_package_offers_a_connector_which_shadows_none_of_ours() -> None:
    entries = (("Site", "tests.support:Connector"), ("ComfyUIConnector", "tests.support:Other"))
    found = registry(*entries, offer=Offer.CONNECTOR)
    assert found.lookup(ServiceEntry(name="comfyui", connector="Site")).connector == (
        "tests.support:Connector"
    )
    ours = found.lookup(ServiceEntry(name="comfyui", connector="ComfyUIConnector"))
    assert ours.connector == comfyui.SERVICE.connector
    with pytest.raises(ServiceUnknown) as caught:
        found.lookup(ServiceEntry(name="comfyui", connector="Sight"))
    assert caught.value.kind == "connector"
    assert "Site" in caught.value.summary
    twice = registry(("Site", "a:b"), ("Site", "c:d"), offer=Offer.CONNECTOR)
    with pytest.raises(PluginClash):
        twice.lookup(ServiceEntry(name="comfyui", connector="Site"))
    assert [(one.name, one.offer) for one in found.origins()[len(BUILTINS) :]] == [
        ("ComfyUIConnector", Offer.CONNECTOR),
        ("Site", Offer.CONNECTOR),
    ]
