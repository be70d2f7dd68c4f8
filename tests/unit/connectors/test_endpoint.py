"""Where a service is, as the environment says it; and that no secret is shown."""

from __future__ import annotations

import pytest

from machine_lifecycle.connectors.base import Endpoint
from machine_lifecycle.connectors.comfyui import (
    ComfyUIConnector,
    ComfyUIRemoteConnector,
    SimulationConnector,
)
from machine_lifecycle.connectors.errors import BadServiceAddress

_SECRET = "canary-5d1f"


def test_a_local_service_needs_no_variable():
    endpoint = ComfyUIConnector.from_env({}).endpoint
    assert (endpoint.host, endpoint.port, endpoint.secure) == ("localhost", 8188, False)
    assert endpoint.headers() == {}


def test_the_remote_service_and_its_secrets():
    endpoint = ComfyUIRemoteConnector.from_env(
        {
            "WORKER_COMFYUI_REMOTE_HOST": "gpu.example",
            "WORKER_COMFYUI_REMOTE_PORT": "443",
            "WORKER_COMFYUI_REMOTE_SECURE": "true",
            "WORKER_COMFYUI_REMOTE_USERNAME": "me",
            "WORKER_COMFYUI_REMOTE_PASSWORD": _SECRET,
            "WORKER_ID": "m-worker-comfyui-remote-0",
        }
    ).endpoint
    assert endpoint.url("/ws", scheme="ws") == "wss://gpu.example:443/ws"
    assert endpoint.headers()["Authorization"].startswith("Basic ")
    assert endpoint.worker_id == "m-worker-comfyui-remote-0"
    assert _SECRET not in f"{endpoint!r} {endpoint.url()}"


def test_a_token_counts_more_than_a_user():
    endpoint = Endpoint(host="::1", port=1, username="me", api_key=_SECRET)
    assert endpoint.headers() == {"Authorization": f"Bearer {_SECRET}"}
    assert endpoint.url("/x") == "http://[::1]:1/x"
    assert _SECRET not in repr(endpoint)


def test_a_remote_service_must_be_named():
    with pytest.raises(BadServiceAddress, match="WORKER_COMFYUI_REMOTE_HOST is not set"):
        ComfyUIRemoteConnector.from_env({})
    assert ComfyUIRemoteConnector.from_env({"COMFYUI_HOST": "other"}).endpoint.host == "other"


@pytest.mark.parametrize("port", ["many", "0", "70000", "8188.5", "nan"])
def test_a_port_must_be_one(port: str):
    with pytest.raises(BadServiceAddress, match="COMFYUI_PORT"):
        ComfyUIConnector.from_env({"COMFYUI_PORT": port})


def test_the_simulation_has_names_of_its_own():
    ours = SimulationConnector.from_env({"SIMULATION_PORT": "8399", "COMFYUI_PORT": "8188"})
    assert ours.endpoint.port == 8399
    assert SimulationConnector.from_env({"COMFYUI_PORT": "8400"}).endpoint.port == 8400


def test_hung_after_is_an_option():
    endpoint = ComfyUIConnector.from_env({"COMFYUI_HUNG_AFTER": "2.5"}).endpoint
    assert endpoint.options == {"hung_after": 2.5}


@pytest.mark.parametrize("text", ["soon", "-"])
def test_hung_after_must_be_a_number(text: str):
    with pytest.raises(BadServiceAddress, match="COMFYUI_HUNG_AFTER"):
        ComfyUIConnector.from_env({"COMFYUI_HUNG_AFTER": text})
