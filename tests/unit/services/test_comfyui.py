"""How each instance of ComfyUI is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine_lifecycle.model.hardware import Gpu
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.processes import Command, HttpReady, WebSocketReady
from machine_lifecycle.model.services import Instance
from machine_lifecycle.services.comfyui import SERVICE, known_arguments
from machine_lifecycle.services.errors import ComfyArgsUnusable

OLD = 'parser.add_argument("--port", type=int)\n'
NEW = OLD + 'parser.add_argument(\n    "--database-url",\n    type=str,\n)\n'


def gpu(index: int, *, real: bool = True) -> Gpu:
    uuid = f"GPU-{index}" if real else f"MOCK-{index}"
    return Gpu(index=index, name="GPU", memory_mib=1, uuid=uuid, visible=f"GPU-{index}")


def instance(folder: Path, index: int = 0, on: Gpu | None = None, **settings: str) -> Instance:
    paths = Paths(workspace=folder, runtime=folder / "r")
    name = f"comfyui-gpu{index}"
    return Instance(
        id=name,
        service="comfyui",
        index=index,
        gpu=on,
        host="127.0.0.1",
        port=8188 + index,
        paths=paths,
        home=paths.service("comfyui"),
        data=paths.instance(name),
        settings=settings,
    )


def command(one: Instance) -> Command:
    assert SERVICE.process is not None
    return SERVICE.process(one)


def value(argv: tuple[str, ...], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def install(folder: Path, arguments: str) -> None:
    file = folder / "ComfyUI" / "comfy" / "cli_args.py"
    file.parent.mkdir(parents=True)
    file.write_text(arguments, encoding="utf-8")


def test_each_instance_has_its_own_gpu_in_the_order_of_the_bus(tmp_path: Path) -> None:
    for index in (0, 1):
        made = command(instance(tmp_path, index, gpu(index)))
        assert made.env["CUDA_VISIBLE_DEVICES"] == f"GPU-{index}"
        assert made.env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
        assert "--cpu" not in made.argv
        assert value(made.argv, "--port") == str(8188 + index)


@pytest.mark.parametrize(
    ("on", "settings"),
    [(None, {}), (gpu(0, real=False), {}), (gpu(0), {"COMFYUI_CPU_MODE": "true"})],
    ids=["no GPU", "simulated", "asked for"],
)
def test_without_a_gpu_it_runs_on_the_processor(
    tmp_path: Path, on: Gpu | None, settings: dict[str, str]
) -> None:
    made = command(instance(tmp_path, 0, on, **settings))
    assert "--cpu" in made.argv
    assert not [name for name in made.env if name.startswith("CUDA")]


def test_nothing_that_one_instance_writes_is_where_another_writes(tmp_path: Path) -> None:
    install(tmp_path, NEW)
    flags = ("--output-directory", "--temp-directory", "--user-directory", "--database-url")
    first, second = (command(instance(tmp_path, index)).argv for index in (0, 1))
    assert not {value(first, flag) for flag in flags} & {value(second, flag) for flag in flags}
    database = tmp_path / "instances" / "comfyui-gpu0" / "comfyui.db"
    assert value(first, "--database-url") == f"sqlite:///{database}"
    assert SERVICE.directories is not None
    assert {str(folder) for folder in SERVICE.directories(instance(tmp_path))} == {
        value(first, flag) for flag in flags[:3]
    }


def test_a_version_is_told_only_what_it_knows(tmp_path: Path) -> None:
    assert known_arguments(tmp_path / "ComfyUI") == frozenset()
    assert "--database-url" not in command(instance(tmp_path)).argv
    install(tmp_path, OLD)
    assert known_arguments(tmp_path / "ComfyUI") == {"--port"}
    assert "--database-url" not in command(instance(tmp_path)).argv


def test_further_arguments_come_last(tmp_path: Path) -> None:
    argv = command(instance(tmp_path, COMFY_ARGS="--lowvram --preview-method 'auto'")).argv
    assert argv[-3:] == ("--lowvram", "--preview-method", "auto")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--port 9000", "COMFYUI_BASE_PORT"),
        ("--port=9000", "COMFYUI_BASE_PORT"),
        ("--lowvram --liste 0.0.0.0", "COMFYUI_LISTEN"),
        ("--output-directory /mnt", "WORKSPACE_PATH"),
        ("--database-url sqlite:///x", "WORKSPACE_PATH"),
        ("--cuda-device 1", "CUDA_VISIBLE_DEVICES"),
        ("--preview-method 'auto", "closing quotation"),
    ],
)
def test_what_each_instance_is_told_by_itself_is_refused(
    tmp_path: Path, arguments: str, words: str
) -> None:
    with pytest.raises(ComfyArgsUnusable) as caught:
        command(instance(tmp_path, COMFY_ARGS=arguments))
    assert arguments in caught.value.summary
    assert words in str(caught.value)
    assert caught.value.remedies


def test_it_is_ready_when_it_answers_as_itself() -> None:
    assert SERVICE.readiness == (HttpReady(path="/system_stats"), WebSocketReady(path="/ws"))


def test_what_is_protected_holds_for_what_comfyui_starts(tmp_path: Path) -> None:
    assert "PIP_CONSTRAINT" not in command(instance(tmp_path)).env
    held = instance(tmp_path).home / ".machine-lifecycle" / "protected.txt"
    held.parent.mkdir(parents=True)
    held.write_text("torch==2.0\n")
    env = command(instance(tmp_path)).env
    assert env["PIP_CONSTRAINT"] == env["UV_CONSTRAINT"] == str(held)
    assert env["PIP_NO_INPUT"] == "1"
