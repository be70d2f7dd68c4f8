"""`plan` writes nothing and connects to nothing: held by an audit hook in the child."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.patience import PATIENCE

_GUARD = """
import os, sys
def guard(event, args):
    if event == "open" and isinstance(args[2], int) and not isinstance(args[0], int):
        writing = args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        if writing and args[0] != os.devnull and not str(args[0]).endswith(".pyc"):
            sys.stderr.write(f"FORBIDDEN {event} {args}"); os._exit(97)
    changes = ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.chmod",
               "os.rmdir", "socket.connect", "socket.bind", "shutil.rmtree", "tempfile.mkstemp")
    if event in changes:
        sys.stderr.write(f"FORBIDDEN {event} {args}"); os._exit(97)
    if event == "subprocess.Popen" and "nvidia-smi" not in str(args[0]):
        sys.stderr.write(f"FORBIDDEN {event} {args}"); os._exit(97)
sys.dont_write_bytecode = True
sys.addaudithook(guard)
from machine_lifecycle.cli import main
sys.argv = ["machine-lifecycle", *sys.argv[1:]]
main()
"""


def run(folder: Path, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {"PATH": os.defpath, "HOME": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", _GUARD, *args],
        env=inherited | environ,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_plan_changes_nothing(tmp_path: Path) -> None:
    work = str(tmp_path / "w")
    environ = {"WORKERS": "comfyui:1,simulation:1", "GPU_MODE": "mock", "WORKSPACE_PATH": work}
    ended = run(tmp_path, "plan", "--json", HUB_REDIS_URL="redis://:canary@127.0.0.1:1", **environ)
    assert ended.returncode == 0, ended.stderr
    assert "canary" not in ended.stdout
    made = json.loads(ended.stdout)
    assert made["listing"][:3] == ["health-server", "comfyui-gpu0", "comfyui-gpu1"]
    assert list(tmp_path.iterdir()) == []


def test_plan_for_people_names_hardware_and_ports(tmp_path: Path) -> None:
    ended = run(tmp_path, "plan", WORKERS="comfyui:1", GPU_MODE="mock", COLUMNS="120")
    assert ended.returncode == 0, ended.stderr
    for word in ("Simulated GPU", "mock", "8189", "redis-worker-comfyui-1", "--port 8188"):
        assert word in ended.stdout


def test_plan_warns_of_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = str(stranger.getsockname()[1])
        ended = run(tmp_path, "plan", WORKERS="simulation:1", SIMULATION_BASE_PORT=port)
    assert ended.returncode == 0, ended.stderr
    assert f"port {port}, meant for simulation-gpu0, is taken now by process" in ended.stderr
    ended = run(tmp_path, "plan", WORKERS="simulation:1", SIMULATION_BASE_PORT=port)
    assert f"port {port}, " not in ended.stderr  # who has another port is no business of this test


def test_an_unreadable_env_file_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"WORKERS=\xff\xfe")
    ended = run(tmp_path, "settings")
    assert ended.returncode == 2
    assert "env-file-unreadable" in ended.stderr
    named = run(tmp_path, "--env-file", "none.env", "settings")
    assert named.returncode == 2
    assert "none.env" in named.stderr


def test_a_bad_configuration_ends_with_status_2_and_all_reasons(tmp_path: Path) -> None:
    ended = run(tmp_path, "plan", WORKERS="comfyui:0,nope:x")
    assert ended.returncode == 2
    assert "comfyui:0" in ended.stderr


def test_settings_are_masked(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HUB_REDIS_URL=redis://:canary@h\nLOG_LEVEL=debug\n")
    for args in (("settings",), ("settings", "--json"), ("settings", "--set")):
        ended = run(tmp_path, *args)
        assert ended.returncode == 0, ended.stderr
        assert "canary" not in ended.stdout + ended.stderr
        assert ".env line 2" in ended.stdout


def test_services(tmp_path: Path) -> None:
    ended = run(tmp_path, "services", "--json")
    assert [one["name"] for one in json.loads(ended.stdout)][:3] == [
        "simulation",
        "comfyui",
        "comfyui-remote",
    ]
