"""Order, stamps and environments of installation steps: values and small files only."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from machine_lifecycle.installers.base import Stamps, check_steps, fingerprint, load_installer
from machine_lifecycle.installers.command import Redactor
from machine_lifecycle.installers.errors import InstallerBroken
from machine_lifecycle.installers.git_errors import GitUrlRefused
from machine_lifecycle.installers.packages import Environment, torch_backend
from machine_lifecycle.installers.repository import Repository, check_repository, git_environment
from machine_lifecycle.installers.variables import package_environment
from machine_lifecycle.model.hardware import Gpu, GpuSource, Hardware
from machine_lifecycle.model.installing import Step, StepContext
from machine_lifecycle.model.settings import Settings


async def _nothing(_: StepContext) -> None:
    pass


def _step(step_id: str, *needs: str, required: bool = True, digest: str = "1") -> Step:
    return Step(
        id=step_id, summary="", fingerprint=digest, needs=needs, required=required, run=_nothing
    )


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([_step("a"), _step("a")], "twice"),
        ([_step("a", "b")], "needs b"),
        ([_step("a", "b"), _step("b", "a")], "each other"),
        ([_step("a", required=False), _step("b", "a")], "needs optional"),
    ],
)
def test_steps_that_make_no_sense_are_refused(steps: list[Step], problem: str) -> None:
    with pytest.raises(InstallerBroken, match=problem):
        check_steps("m:a", steps)


@pytest.mark.parametrize("name", ["", "no_such_module:x", "json:nothing", "json:dumps"])
def test_an_installer_that_cannot_be_loaded_is_named(name: str) -> None:
    with pytest.raises(InstallerBroken) as caught:
        load_installer(name)
    assert caught.value.installer == name


def test_a_stamp_counts_until_fingerprint_presence_or_a_need_changes(tmp_path: Path) -> None:
    stamps = Stamps(tmp_path)
    first, second = _step("node a/b clone"), _step("second", "node a/b clone")
    stamps.write(first)
    stamps.write(second)
    assert stamps.done(first)
    assert stamps.done(second)
    assert not stamps.done(attrs.evolve(first, fingerprint="2"))
    assert not stamps.done(attrs.evolve(first, present=lambda: False))
    stamps.write(first)  # done again, so what was built on it must be built again
    assert not stamps.done(second)


def test_a_stamp_that_was_cut_short_does_not_count(tmp_path: Path) -> None:
    stamps = Stamps(tmp_path)
    stamps.write(_step("a"))
    next(stamps.folder.iterdir()).write_text('{"finger')
    assert not stamps.done(_step("a"))


def test_fingerprints_tell_parts_apart() -> None:
    assert fingerprint("a", "bc") != fingerprint("ab", "c")


@pytest.mark.parametrize(
    "repository",
    [
        Repository(url="--upload-pack=touch"),
        Repository(url="ext::sh -c id"),
        Repository(url=" "),
        Repository(url="https://host/a?access_token=s3cret"),
        Repository(url="https://host/a", branch="-b"),
        Repository(url="https://host/a", commit="--orphan"),
    ],
)
def test_addresses_that_git_would_run_are_refused(repository: Repository) -> None:
    with pytest.raises(GitUrlRefused) as caught:
        check_repository(repository)
    assert "s3cret" not in str(caught.value)


def test_git_gets_no_prompt_no_files_and_no_secret_in_its_arguments() -> None:
    repository = Repository(url="https://me:s3cret-token@host/a.git")
    environ = {
        "PATH": "/bin",
        "GIT_DIR": "/elsewhere",
        "HUB_REDIS_URL": "redis://secret",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "a.b",
        "GIT_CONFIG_VALUE_0": "c",
    }
    env = git_environment(environ, repository)
    assert repository.plain_url == "https://host/a.git"
    assert "s3cret" not in repr(repository)
    assert not {"GIT_DIR", "HUB_REDIS_URL"} & env.keys()
    assert (env["GIT_CONFIG_KEY_0"], env["GIT_CONFIG_VALUE_0"]) == ("a.b", "c")
    assert env["GIT_CONFIG_GLOBAL"] == "/dev/null"
    assert env["GIT_TERMINAL_PROMPT"] == "0"
    count = int(env["GIT_CONFIG_COUNT"])
    assert {f"GIT_CONFIG_KEY_{number}" for number in range(count)} <= env.keys()
    assert any(value.startswith("Authorization: Basic ") for value in env.values())
    assert "GIT_CONFIG_GLOBAL" not in git_environment(environ, repository, global_config=True)


def test_settings_of_pip_reach_uv_and_the_other_way_round(tmp_path: Path) -> None:
    pip = package_environment({"PIP_FIND_LINKS": "/a /b", "AWS_SECRET_ACCESS_KEY": "x"})
    assert pip["UV_FIND_LINKS"] == "/a,/b"
    assert "AWS_SECRET_ACCESS_KEY" not in pip
    uv = package_environment(
        {"UV_FIND_LINKS": "/a,/b", "UV_CONSTRAINT": "mine.txt"}, constraints=(tmp_path / "c.txt",)
    )
    assert uv["PIP_FIND_LINKS"] == "/a /b"
    assert uv["PIP_CONSTRAINT"] == f"mine.txt {tmp_path / 'c.txt'}" == uv["UV_CONSTRAINT"]


def test_torch_comes_for_the_driver_and_for_the_processor_where_there_is_none() -> None:
    gpu = Gpu(index=0, name="x", memory_mib=1, uuid="GPU-1", visible="0")
    real = Hardware(gpus=(gpu,), source=GpuSource.NVML)
    assert torch_backend(Settings(), Hardware(), {}) == "cpu"
    assert torch_backend(Settings(), Hardware(gpus=(gpu,), source=GpuSource.MOCK), {}) == "cpu"
    assert torch_backend(Settings(), real, {}) == "auto"
    assert torch_backend(Settings(comfyui_cpu_mode=True), real, {}) == "cpu"
    assert torch_backend(Settings(torch_backend="cu128"), real, {}) == "cu128"
    assert torch_backend(Settings(torch_backend="none"), real, {}) == ""


def test_an_environment_that_was_there_asks_no_index_of_torch(tmp_path: Path) -> None:
    """Which build it has is decided; asking would need a network for nothing."""

    def backend(*, ours: bool) -> str | None:
        environment = Environment(
            python=tmp_path / "bin" / "python",
            ours=ours,
            constraints=tmp_path / "constraints.txt",
            environ={},
            backend="cpu",
        )
        return environment.env.get("UV_TORCH_BACKEND")

    assert backend(ours=True) == "cpu"
    assert backend(ours=False) is None


def test_secrets_are_masked_wherever_they_stand() -> None:
    redact = Redactor(["s3cret-value", "abc", "false"])
    assert redact("x s3cret-value abc false") == "x *** abc false"
    assert redact("https://me:token@host/a") == "https://***@host/a"
    assert redact("s3://me:token@host/a") == "s3://***@host/a"
    assert redact("ssh://git@host/a") == "ssh://git@host/a"
    assert redact("'https://h/a?v=1&token=t&x=2#f'") == "'https://h/a?v=1&token=***&x=2#f'"
    assert redact(redact("https://h/a?sig=t")) == "https://h/a?sig=***"
