from __future__ import annotations

import shutil
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.system.errors import BadFolder, BadMachineId
from machine_lifecycle.system.files import write_atomically
from machine_lifecycle.system.folders import find_paths, prepare
from machine_lifecycle.system.identity import machine_id
from machine_lifecycle.system.network import free_port, port_is_free


@pytest.fixture
def short() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ml-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def test_settings_come_first(short: Path) -> None:
    paths = find_paths(Settings(workspace=short / "w", runtime_dir=short / "r"), {})
    assert paths == Paths(workspace=short / "w", runtime=short / "r")
    assert not (short / "w").exists()


def test_services_may_be_elsewhere(short: Path) -> None:
    settings = Settings(workspace=short / "w", runtime_dir=short / "r", services_path=short / "s")
    paths = find_paths(settings, {})
    assert paths.service("comfyui") == short / "s" / "ComfyUI"
    assert paths.logs == short / "w" / "logs"
    prepare(paths)
    assert (short / "s").is_dir()
    (short / "file").write_text("")
    bad = find_paths(
        Settings(workspace=short / "w", runtime_dir=short / "r", services_path=short / "file"), {}
    )
    with pytest.raises(BadFolder, match="MACHINE_SERVICES_PATH"):
        prepare(bad)
    same = find_paths(Settings(workspace=short / "w", services_path=short / "w"), {})
    assert same.shared is None


def test_two_workspaces_have_two_runtime_folders(short: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(short)}
    one = find_paths(Settings(workspace=short / "a"), environ)
    two = find_paths(Settings(workspace=short / "b"), environ)
    assert one.runtime.parent == short / "machine-lifecycle"
    assert one.runtime != two.runtime
    assert one == find_paths(Settings(workspace=short / "a"), environ)


def test_a_path_too_long_for_sockets_is_refused() -> None:
    with pytest.raises(BadFolder, match="MACHINE_RUNTIME_DIR"):
        find_paths(Settings(workspace=Path("/w"), runtime_dir=Path("/r") / ("x" * 100)), {})


def test_the_runtime_folder_is_ours_alone(short: Path) -> None:
    paths = Paths(workspace=short / "w", runtime=short / "run" / "r")
    paths.runtime.mkdir(parents=True, mode=0o755)
    prepare(paths)
    assert stat.S_IMODE(paths.runtime.stat().st_mode) == 0o700
    assert paths.logs.is_dir()


def test_a_link_in_the_runtime_folders_place_is_refused(short: Path) -> None:
    (short / "elsewhere").mkdir()
    (short / "r").symlink_to(short / "elsewhere")
    with pytest.raises(BadFolder, match="is no folder"):
        prepare(Paths(workspace=short / "w", runtime=short / "r"))


def test_a_file_in_the_workspaces_place(short: Path) -> None:
    (short / "w").write_text("x")
    with pytest.raises(BadFolder, match="can't be made"):
        prepare(Paths(workspace=short / "w" / "x", runtime=short / "r"))


def test_files_are_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    write_atomically(path, "ü" * 10, 0o600)
    assert path.read_text(encoding="utf-8") == "ü" * 10
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_ports() -> None:
    port = free_port(count=3)
    assert all(port_is_free("127.0.0.1", one) for one in range(port, port + 3))


@pytest.mark.skipif(not Path("/proc/sys/net").is_dir(), reason="only Linux says its range")
def test_no_connection_is_given_a_free_port() -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert free_port(count=3) + 2 not in range(first, last + 1)


def test_ports_in_a_row_are_free_all_of_them() -> None:
    def is_free(_: str, port: int) -> bool:
        return port % 4 != 0

    assert free_port(count=3, is_free=is_free) % 4 == 1
    with pytest.raises(OSError, match="no 4 free ports in a row"):
        free_port(count=4, is_free=is_free)


@pytest.fixture
def bare(tmp_path: Path) -> Paths:
    return Paths(workspace=tmp_path / "w", runtime=tmp_path / "r")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"RUNPOD_POD_ID": "abc123"}, "abc123"),
        ({"VAST_CONTAINERLABEL": "C.77"}, "C.77"),
        ({"SALAD_MACHINE_ID": "s-1"}, "s-1"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "pod-7"}, "pod-7"),
    ],
)
def test_platforms(bare: Paths, environ: dict[str, str], expected: str) -> None:
    assert machine_id(Settings(), environ, bare)[0] == expected
    assert machine_id(Settings(machine_id="mine"), environ, bare) == ("mine", "MACHINE_ID")


def test_containers(bare: Paths, tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    mounts = tmp_path / "self" / "mountinfo"
    mounts.write_text(
        f"1 2 0:1 /var/lib/docker/containers/{'ab' * 32}/hostname /etc/hostname rw - ext4 x rw\n"
    )
    assert machine_id(Settings(), {}, bare, proc=tmp_path)[0] == "abababababab"
    (tmp_path / "self" / "cgroup").write_text(f"1:cpu:/docker/{'cd' * 32}\n")
    assert machine_id(Settings(), {}, bare, proc=tmp_path)[0] == "cdcdcdcdcdcd"


def test_a_file_gives_the_same_id_to_all_who_ask_at_once(bare: Paths, tmp_path: Path) -> None:
    def ask(_: int) -> str:
        return machine_id(Settings(), {}, bare, proc=tmp_path)[0]

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1


def test_looking_writes_nothing(bare: Paths, tmp_path: Path) -> None:
    assert machine_id(Settings(), {}, bare, create=False, proc=tmp_path)[0] == "unnamed"
    assert not bare.workspace.exists()


@pytest.mark.parametrize("bad", ["a b", "a:b", "a*", "-x", "ü", "x" * 129])
def test_ids_that_no_key_can_hold(bare: Paths, bad: str) -> None:
    with pytest.raises(BadMachineId, match="export MACHINE_ID="):
        machine_id(Settings(machine_id=bad), {}, bare)
