"""Connectors that a site ships beside the package, from the settings to a job that they did."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

import machine_lifecycle
from tests.support.bundle import make_bundle, pack, served
from tests.support.outside import Outside
from tests.support.patience import PATIENCE

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "site-connectors"
pytestmark = pytest.mark.xdist_group("site-connectors")  # it is built in its folder, once
GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 32, "height": 16, "batch_size": 1, "color": 7},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "b"}},
}


def with_connector(outside: Callable[..., Outside], connector: str, **settings: str) -> Outside:
    machine = outside(**settings)
    mapping = {
        "services": {"simulation": {"connector": connector}},
        "workers": {"simulation": {"services": ["simulation"]}},
    }
    path = machine.folder / "mapping.json"
    path.write_text(json.dumps(mapping), encoding="utf-8")
    machine.env["SERVICE_MAPPING_PATH"] = str(path)
    return machine


def does_a_job(machine: Outside) -> Any:
    graph = machine.folder / "graph.json"
    graph.write_text(json.dumps(GRAPH), encoding="utf-8")
    done = machine.call("submit", str(graph), "--watch", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["status"] == "completed"
    return answer


def status(machine: Outside) -> Any:
    return json.loads(machine.call("status", "--json").stdout)


def loaded(machine: Outside) -> list[dict[str, str]]:
    runtime = Path(machine.env["MACHINE_RUNTIME_DIR"])
    return [json.loads(path.read_text("utf-8")) for path in runtime.glob("loaded-*.json")]


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the examples, as `pip install --target` makes a folder of it."""
    target = tmp_path_factory.mktemp("made") / "worker-bundled"
    words = ("pip", "install", "--offline", "--no-deps", "--target", str(target), str(EXAMPLE))
    done = subprocess.run(
        [find_uv_bin(), *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.mark.parametrize("mode", ["local", "remote"])
def test_a_bundle_that_pip_made_does_jobs_and_is_told(
    outside: Callable[..., Outside], packaged: Path, tmp_path: Path, mode: str
) -> None:
    digest = pack(packaged, tmp_path / "worker-bundled.tar.gz")
    with served(tmp_path) as (host, _):
        settings = {
            "local": {"WORKER_LOCAL_PATH": str(packaged)},
            "remote": {
                "WORKER_DOWNLOAD_URL": f"http://{host}/worker-bundled.tar.gz",
                "WORKER_DOWNLOAD_SHA256": digest,
            },
        }
        machine = with_connector(
            outside, "SiteConnector", WORKER_BUNDLE_MODE=mode, **settings[mode]
        ).start()
        machine.until("machine_ready")
        assert does_a_job(machine)["result"]["data"]["site"] == "north"
    report = status(machine)
    with urllib.request.urlopen(f"{report['health_url']}/status", timeout=PATIENCE) as answer:  # noqa: S310 - loopback
        page = json.load(answer)
    assert page["bundle"] == report["bundle"]
    bundle = page["bundle"]
    assert bundle["mode"] == mode
    assert bundle["folder"].startswith(machine.env["WORKSPACE_PATH"])
    assert bundle["connectors"] == [
        {
            "name": "SiteConnector",
            "reference": "site_connectors:SiteConnector",
            "distribution": "site-connectors",
            "version": "1.2",
        }
    ]


@pytest.mark.parametrize("connector", ["SiteConnector", "bundle:SiteConnector"])
def test_a_connector_of_a_local_bundle_does_jobs(
    outside: Callable[..., Outside], tmp_path: Path, connector: str
) -> None:
    source = make_bundle(tmp_path / "shipped")
    machine = with_connector(
        outside, connector, WORKER_BUNDLE_MODE="local", WORKER_LOCAL_PATH=str(source)
    ).start()
    machine.until("machine_ready")
    does_a_job(machine)
    bundle = status(machine)["bundle"]
    assert bundle["mode"] == "local"
    assert bundle["source"] == str(source)
    (offered,) = bundle["connectors"]
    assert offered["name"] == "SiteConnector"
    assert (offered["distribution"], offered["version"]) == ("site-connectors", "1.2")
    (said,) = loaded(machine)
    assert said["from"] == f"{bundle['folder']}/site_connectors/__init__.py"
    # The bundle has a `json` and a `machine_lifecycle` of its own: they replace nothing.
    assert said["package"] == machine_lifecycle.__file__
    assert not said["json"].startswith(bundle["folder"])


def test_a_bundle_replaces_no_connector_of_ours_unless_it_is_named(
    outside: Callable[..., Outside], tmp_path: Path
) -> None:
    source = make_bundle(tmp_path / "shipped", name="SimulationConnector")
    settings = {"WORKER_BUNDLE_MODE": "local", "WORKER_LOCAL_PATH": str(source)}
    for connector, module in (
        ("SimulationConnector", "machine_lifecycle.connectors.comfyui"),
        ("bundle:SimulationConnector", "site_connectors"),
    ):
        machine = with_connector(outside, connector, **settings)
        (worker,) = json.loads(machine.call("plan", "--json").stdout)["workers"]
        assert worker["connectors"]["simulation"].partition(":")[0] == module
    unknown = with_connector(outside, "bundle:SimulatoinConnector", **settings).call("plan")
    assert unknown.returncode == 2
    assert "bundle:SimulationConnector" in unknown.stderr


def test_a_connector_of_a_remote_bundle_does_jobs(
    outside: Callable[..., Outside], tmp_path: Path
) -> None:
    source = make_bundle(tmp_path / "made")
    shop = tmp_path / "shop"
    shop.mkdir()
    first = pack(source, shop / "1.tar.gz")
    with served(shop) as (host, asked):
        machine = with_connector(
            outside,
            "SiteConnector",
            WORKER_BUNDLE_MODE="remote",
            WORKER_DOWNLOAD_URL=f"http://user:canary-9@{host}/1.tar.gz",
            WORKER_DOWNLOAD_SHA256=first,
        ).start()
        machine.until("machine_ready")
        does_a_job(machine)
        assert asked == ["/1.tar.gz"]
        shown = machine.call("status", "--json").stdout + machine.call("plan", "--json").stdout
        assert first in shown
        assert "canary" not in shown
    assert "canary" not in machine.said()


def test_a_bundle_without_a_digest_is_refused(outside: Callable[..., Outside]) -> None:
    machine = outside(
        WORKER_BUNDLE_MODE="remote", WORKER_DOWNLOAD_URL="http://127.0.0.1:9/x.tar.gz"
    ).start()
    assert machine.wait() == 2
    assert "bundle-unusable" in machine.said()
    assert "WORKER_DOWNLOAD_SHA256" in machine.said()
