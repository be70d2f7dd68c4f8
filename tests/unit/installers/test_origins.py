"""Where things may come from, and what is never installed: decided on values alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from machine_lifecycle.config.settings import load_settings
from machine_lifecycle.errors import Problems
from machine_lifecycle.installers.blocklist import Blocklist, blocked_by, blocked_packages
from machine_lifecycle.installers.git_errors import CommitWanted, GitUrlRefused, HostNotAllowed
from machine_lifecycle.installers.origins import Origins
from machine_lifecycle.installers.repository import Repository, check_repository
from machine_lifecycle.installers.variables import package_environment
from machine_lifecycle.model.settings import Settings
from machine_lifecycle.system.errors import FileNotRead

COMMIT = "ab" * 20


def origins(**environ: str) -> Origins:
    return Origins.of(load_settings(environ).settings)


def test_the_mirror_that_fits_best_counts_and_gets_no_login() -> None:
    found = origins(
        MACHINE_MIRRORS="https://github.com/=https://m.example/gh/, "
        "https://github.com/mine/=http://127.0.0.1:3000/"
    )
    assert found.address("https://github.com/a/b.git") == "https://m.example/gh/a/b.git"
    assert found.address("https://me:s3cret@github.com/mine/b") == "http://127.0.0.1:3000/b"
    assert found.address("https://github.com.example.org/a") == "https://github.com.example.org/a"
    assert found.address("https://me:s3cret@example.org/a") == "https://me:s3cret@example.org/a"
    assert dict(found.git_config()) == {
        "url.https://m.example/gh/.insteadOf": "https://github.com/",
        "url.http://127.0.0.1:3000/.insteadOf": "https://github.com/mine/",
    }


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://github.com/a/b", True),
        ("https://GitHub.com/a/b", True),
        ("git@github.com:a/b", True),
        ("ssh://git@github.com/a/b", True),
        ("https://git.example:8443/a", True),
        ("https://git.example/a", False),
        ("https://github.com.evil.example/a", False),
        ("https://github.com@evil.example/a", False),
        ("https://evil.example/github.com", False),
        ("git@evil.example:a/b", False),
        ("/srv/git/a", True),
        ("https://huggingface.co/m", True),
    ],
)
def test_allowed_hosts(url: str, good: bool) -> None:  # noqa: FBT001 - a case
    found = origins(
        MACHINE_ALLOWED_HOSTS="github.com, git.example:8443",
        MACHINE_MIRRORS="https://huggingface.co/=https://hf.example/",
    )
    assert found.allows(url) is good
    assert origins().allows(url)
    errors = [*found.refused((Repository(url=url),)), *found.refused_addresses((url,))]
    assert [type(one) for one in errors] == [] if good else [HostNotAllowed, HostNotAllowed]
    assert good or "export MACHINE_ALLOWED_HOSTS=github.com,git.example:8443," in str(errors[0])


def test_no_secret_in_a_refusal() -> None:
    found = origins(MACHINE_ALLOWED_HOSTS="github.com")
    url = "https://me:s3cret@evil.example/m?key=s3cret"
    errors = [*found.refused((Repository(url=url),)), *found.refused_addresses((url,))]
    assert "s3cret" not in str(errors[1])
    assert "me:s3cret" not in str(errors[0])


def test_full_commits_only() -> None:
    found = origins(MACHINE_COMMITS_ONLY="true")
    good = Repository(url="https://example.org/a", commit=COMMIT)
    bad = [
        Repository(url="https://example.org/a", branch="main"),
        Repository(url="https://example.org/b"),
        Repository(url="https://example.org/c", commit=COMMIT[:12]),
    ]
    errors = list(found.refused((good, *bad)))
    assert [type(one) for one in errors] == [CommitWanted] * 3
    assert "named by main" in errors[0].summary
    assert "named by no commit" in errors[1].summary


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("MACHINE_MIRRORS", "https://github.com/"),
        ("MACHINE_MIRRORS", "github.com=https://m.example"),
        ("MACHINE_MIRRORS", "https://github.com/=https://m.example"),
        ("MACHINE_MIRRORS", "https://github.com/=--upload-pack=x"),
        ("MACHINE_MIRRORS", "https://a/=https://b/,https://a/=https://c/"),
        ("MACHINE_ALLOWED_HOSTS", "https://github.com/"),
        ("MACHINE_ALLOWED_HOSTS", "*.example.org"),
        ("MODELS_CONCURRENCY", "0"),
    ],
)
def test_settings_that_can_not_be_used(variable: str, text: str) -> None:
    with pytest.raises(Problems, match=variable):
        load_settings({variable: text})


@pytest.mark.parametrize(
    "url", ["s3://bucket/x", "ftp://example.org/x", "javascript://x", "ext::sh -c id", "-x", ""]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(GitUrlRefused):
        check_repository(Repository(url=url))


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("comfyui_llmvision", "https://example.org/x"),
        ("other", "https://github.com/AppleBotzz/ComfyUI_LLMVISION.git"),
        ("other", "git@github.com:AppleBotzz/ComfyUI_LLMVISION"),
        ("other", "git clone https://me:x@github.com/appleBotzz/comfyui_llmvision/"),
        ("mine", "https://example.org/x"),
    ],
)
def test_packs_that_are_blocked(tmp_path: Path, name: str, url: str) -> None:
    path = tmp_path / "blocked.txt"
    path.write_text("# ours\nmine # too slow\n\n")
    found = Blocklist.of(Settings(blocked_packs=path))
    assert found.reason(name, url)
    assert found.reason("ComfyUI-KJNodes", "https://github.com/kijai/ComfyUI-KJNodes") is None


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotRead, match=r"MACHINE_BLOCKED_PACKS=.*nowhere"):
        Blocklist.of(Settings(blocked_packs=tmp_path / "nowhere"))


def test_packages_that_do_harm_are_kept_out_by_constraints(tmp_path: Path) -> None:
    shipped, own = blocked_packages(Settings(blocked_packages=tmp_path / "own.txt"))
    lines = (line.partition("#")[0].strip() for line in shipped.read_text().splitlines())
    bad = {one.name: one.specifier for one in map(Requirement, filter(None, lines))}
    assert not bad["ultralytics"].contains("8.3.41")
    assert bad["ultralytics"].contains("8.3.47")
    env = package_environment({}, constraints=(shipped, own))
    assert env["UV_CONSTRAINT"] == env["PIP_CONSTRAINT"] == f"{shipped} {own}"


def test_which_releases_are_blocked(tmp_path: Path) -> None:
    file = tmp_path / "blocked.txt"
    file.write_text("Some_Thing != 1.0, < 3  # harms\nold == 0; python_version < '3'\n-c other\n")
    versions = {"some-thing": "1.0", "old": "1", "else": "1"}
    assert [*blocked_by([file], versions)] == ["Some_Thing 1.0 is blocked"]
    assert [*blocked_by([file], {"some-thing": "2.0"})] == []
    with pytest.raises(FileNotRead, match=r"MACHINE_BLOCKED_PACKAGES=.*nowhere"):
        list(blocked_by([tmp_path / "nowhere"], versions))
