"""Installers that are values, used as a service in one file uses them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest

from machine_lifecycle import GitInstaller, InstallContext, PipInstaller, Problems
from machine_lifecycle.installers.base import StepStatus
from machine_lifecycle.installers.errors import VerificationFailed
from machine_lifecycle.installers.execute import Executor
from machine_lifecycle.installers.git_errors import GitUrlRefused
from machine_lifecycle.installers.package_errors import PackagesFailed
from machine_lifecycle.model.plan import InstallPlan
from machine_lifecycle.model.ports import Installer
from machine_lifecycle.system.errors import FileNotRead
from machine_lifecycle.testing import check_installer
from tests.support.comfyui_bed import Bed, make_bed, modules
from tests.support.git_server import Origin
from tests.support.progress import KeptProgress


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    return make_bed(tmp_path)


async def install(bed: Bed, installer: Installer, **options: str) -> dict[str, StepStatus]:
    run = Executor(
        bed.paths,
        settings=bed.settings,
        environ=bed.environ,
        resolve=lambda _: installer,
        retry_wait=0.001,
    )
    plan = InstallPlan(service="speech", installer="speech:INSTALLER", options=options)
    await run.install(plan, "base", KeptProgress())
    return {one.step: one.status for one in run.outcomes}


def home(bed: Bed) -> Path:
    return bed.paths.service("speech")


def installed(bed: Bed) -> set[str]:
    return modules(home(bed) / "venv" / "bin" / "python")


async def test_packages_keep_every_rule_of_an_installer(bed: Bed, tmp_path: Path) -> None:
    installer = PipInstaller(packages=("small==1.0",), proof=("-c", "import small"))
    await check_installer(
        installer, folder=tmp_path / "checked", service="speech", environ=bed.environ
    )
    await install(bed, installer)
    assert installed(bed) >= {"small"}


async def test_a_line_that_changes_is_installed_and_nothing_else_is_done_again(bed: Bed) -> None:
    await install(bed, PipInstaller(packages=("small",)))
    again = await install(bed, PipInstaller(packages=("small",)))
    assert set(again.values()) == {StepStatus.SKIPPED}
    more = await install(bed, PipInstaller(packages=("small", "requests")))
    assert more == {"environment": StepStatus.SKIPPED, "packages": StepStatus.DONE}
    assert {"small", "requests"} <= installed(bed)
    shutil.rmtree(home(bed) / "venv")
    anew = await install(bed, PipInstaller(packages=("small", "requests")))
    assert set(anew.values()) == {StepStatus.DONE}
    assert {"small", "requests"} <= installed(bed)


async def test_a_requirements_file_counts_by_its_text(bed: Bed, tmp_path: Path) -> None:
    file = tmp_path / "speech.txt"
    installer = PipInstaller(requirements=file)
    with pytest.raises(FileNotRead, match=r"speech\.txt can't be read: No such file"):
        await install(bed, installer)
    file.write_text("small\n")
    await install(bed, installer)
    file.write_text("small\nrequests\n")
    done = await install(bed, installer)
    assert done["packages"] is StepStatus.DONE
    assert {"small", "requests"} <= installed(bed)


async def test_torch_comes_first_and_stays(bed: Bed) -> None:
    done = await install(bed, PipInstaller(packages=("small",), torch=True))
    assert [*done] == ["environment", "torch", "packages"]
    assert {"torch", "torchvision", "torchaudio", "small"} <= installed(bed)
    with pytest.raises(Problems) as caught:
        await install(bed, PipInstaller(packages=("greedy",), torch=True))
    assert isinstance(caught.value.errors[0], PackagesFailed)


async def test_all_that_is_no_requirement_is_told_at_once(bed: Bed) -> None:
    context = InstallContext(service="speech", paths=bed.paths)
    with pytest.raises(Problems) as caught:
        PipInstaller(packages=("small", "--index-url=x", "a b")).plan(context)
    assert len(caught.value.errors) == 2
    assert "'--index-url=x' is no requirement" in str(caught.value)


async def test_what_does_not_run_is_told_with_the_line_to_try(bed: Bed) -> None:
    installer = PipInstaller(packages=("small",), proof=("-c", "import nowhere"))
    with pytest.raises(Problems) as caught:
        await install(bed, installer)
    (error,) = caught.value.errors
    assert isinstance(error, VerificationFailed)
    assert "import nowhere" in error.command


async def test_a_repository_and_what_it_requires(bed: Bed, tmp_path: Path) -> None:
    origin = Origin(tmp_path / "speech", requirements__txt="small\n", speech__py="x = 1\n")
    first = origin.git("rev-parse", "HEAD")
    installer = GitInstaller(
        url=origin.url, packages=("requests",), proof=("-c", "import small, requests, speech")
    )
    await check_installer(
        installer, folder=tmp_path / "checked", service="speech", environ=bed.environ
    )
    await install(bed, installer)
    assert {"small", "requests"} <= installed(bed)
    origin.commit(requirements__txt="small\npip\n", speech__py="x = 2\n")
    assert set((await install(bed, installer)).values()) == {StepStatus.SKIPPED}
    # Another commit, from the mapping: fetched into the clone, its file installed.
    newer = origin.git("rev-parse", "HEAD")
    done = await install(bed, installer, commit=newer)
    assert done["packages"] is StepStatus.DONE
    assert "pip" in installed(bed)
    assert (home(bed) / "speech.py").read_text() == "x = 2\n"
    await install(bed, attrs.evolve(installer, commit=first))
    assert (home(bed) / "speech.py").read_text() == "x = 1\n"


@pytest.mark.parametrize(
    "more", [{"url": "ext::sh -c id"}, {"url": "--upload-pack=x"}, {"branch": "-x"}]
)
async def test_what_git_would_take_for_something_else(bed: Bed, more: dict[str, Any]) -> None:
    context = InstallContext(service="speech", paths=bed.paths)
    with pytest.raises(GitUrlRefused):
        GitInstaller(**{"url": "https://example.org/x", **more}).plan(context)


def test_a_login_is_in_no_text_of_it() -> None:
    assert "s3cret" not in repr(GitInstaller(url="https://me:s3cret@example.org/x"))
