"""A worker bundle on its way into the workspace: copied or downloaded, pinned, kept in place."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from machine_lifecycle.installers.bundle import bring_bundle, find_bundle
from machine_lifecycle.installers.bundle_errors import BundleUnreachable, BundleUnusable
from machine_lifecycle.installers.downloading import Downloader
from machine_lifecycle.installers.errors import HostDown
from machine_lifecycle.installers.transfer import Patience
from machine_lifecycle.model.bundle import BundledConnector, WorkerBundle
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.progress import Unheard
from machine_lifecycle.model.settings import BundleMode, Settings
from tests.support.bundle import make_bundle, pack, served
from tests.support.file_server import serving_files
from tests.support.patience import PATIENCE

QUICK = Patience(connect=PATIENCE, silence=PATIENCE, first=0.001)
OFFERED = BundledConnector(
    name="SiteConnector",
    reference="site_connectors:SiteConnector",
    distribution="site-connectors",
    version="1.2",
)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(workspace=tmp_path / "w", runtime=tmp_path / "r")


def local(folder: Path) -> Settings:
    return Settings(worker_bundle_mode=BundleMode.LOCAL, worker_local_path=folder)


def remote(url: str, sha256: str) -> Settings:
    return Settings(
        worker_bundle_mode=BundleMode.REMOTE,
        worker_download_url=url,
        worker_download_sha256=sha256,
    )


async def brought(settings: Settings, paths: Paths, **bounds: int) -> WorkerBundle:
    downloader = Downloader({}, QUICK)
    await bring_bundle(settings, paths, Unheard(), downloader=downloader, **bounds)
    found = find_bundle(settings, paths)
    assert found is not None
    return found


async def test_without_a_mode_there_is_none(paths: Paths) -> None:
    await bring_bundle(Settings(), paths, Unheard(), downloader=Downloader({}))
    assert find_bundle(Settings(), paths) is None
    assert not paths.workspace.exists()


async def test_a_folder_is_copied_once_and_anew_when_it_changes(
    paths: Paths, tmp_path: Path
) -> None:
    source = make_bundle(tmp_path / "shipped")
    (source / "site_connectors" / "__pycache__").mkdir()
    (source / "site_connectors" / "__pycache__" / "x.pyc").write_bytes(b"old")
    settings = local(source)
    before = find_bundle(settings, paths)
    assert before is not None
    assert before.connectors == (OFFERED,), "it is told before anything is copied"
    first = await brought(settings, paths)
    assert first == before
    code = first.folder / "site_connectors" / "__init__.py"
    assert code.read_text("utf-8") == (source / "site_connectors" / "__init__.py").read_text()
    assert not (first.folder / "site_connectors" / "__pycache__").exists()
    at = code.stat().st_mtime_ns
    code.touch()
    touched = code.stat().st_mtime_ns
    assert touched != at
    await brought(settings, paths)
    assert code.stat().st_mtime_ns == touched, "what is there is left alone"

    make_bundle(source, version="1.3")
    second = await brought(settings, paths)
    assert second.sha256 != first.sha256
    assert {one.version for one in second.connectors} == {"1.2", "1.3"}
    assert [path.name for path in second.folder.parent.iterdir()] == [second.folder.name]


async def test_an_archive_is_downloaded_once(paths: Paths, tmp_path: Path) -> None:
    sha256 = pack(make_bundle(tmp_path / "made"), tmp_path / "bundle.tar.gz")
    with served(tmp_path) as (host, asked):
        settings = remote(f"http://name:canary-1@{host}/bundle.tar.gz?token=canary-2", sha256)
        bundle = await brought(settings, paths)
        assert bundle.connectors == (OFFERED,)
        assert bundle.source == f"http://{host}/bundle.tar.gz", "nothing secret is shown"
        await brought(settings, paths)
        assert len(asked) == 1
    assert "canary" not in repr(bundle)
    assert "canary" not in repr(settings)


def written(path: Path, *, names: tuple[str, ...], link: str = "") -> None:
    """An archive with these names."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name in names:
                packed.writestr(name, "x")
            if link:
                info = zipfile.ZipInfo(link)
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
                packed.writestr(info, "/etc/passwd")
        return
    with tarfile.open(path, "w") as tar:
        for name in names:
            info_ = tarfile.TarInfo(name)
            info_.size = 1
            tar.addfile(info_, io.BytesIO(b"x"))
        if link:
            one = tarfile.TarInfo(link)
            one.type, one.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(one)


@pytest.mark.parametrize("form", ["tar", "zip"])
@pytest.mark.parametrize(
    ("holds", "words"),
    [
        ({"names": ("good.py", "../escaped.py")}, "`../escaped.py` would lie outside of its"),
        ({"names": ("a/../../escaped.py",)}, "would lie outside of its folder"),
        ({"names": ("/escaped.py",)}, "`/escaped.py` would lie outside of its folder"),
        ({"names": ("good.py",), "link": "passwd"}, "`passwd` is a link or device"),
    ],
    ids=["up", "up-within", "absolute", "link"],
)
async def test_nothing_of_an_archive_lies_outside_its_folder(
    paths: Paths, tmp_path: Path, form: str, holds: dict[str, Any], words: str
) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    archive = shop / f"bundle.{form}"
    written(archive, **holds)
    with served(shop) as (host, _), pytest.raises(BundleUnusable, match=words):
        await brought(remote(f"http://{host}/{archive.name}", digest(archive)), paths)
    assert found(tmp_path, "escaped.py") == []
    assert found(paths.workspace / "worker-bundled", "*") == [], "nothing half made is left"


def found(folder: Path, pattern: str) -> list[Path]:
    return list(folder.rglob(pattern))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("form", ["tar", "zip"])
async def test_a_bomb_is_not_unpacked(paths: Paths, tmp_path: Path, form: str) -> None:
    archive = tmp_path / f"bundle.{form}"
    if form == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("big", b"\0" * 100_000)
    else:
        (tmp_path / "big").write_bytes(b"\0" * 100_000)
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(tmp_path / "big", arcname="big")
    assert archive.stat().st_size < 1000
    with served(tmp_path) as (host, _), pytest.raises(BundleUnusable, match="more than 1000 B"):
        await brought(remote(f"http://{host}/{archive.name}", digest(archive)), paths, most=1000)


@pytest.mark.parametrize("length", [True, False], ids=["told", "not-told"])
async def test_a_huge_archive_is_cut_off(paths: Paths, *, length: bool) -> None:
    async with serving_files() as server:
        server.add("bundle.tar", b"\0" * 5000, length=length)
        with pytest.raises(BundleUnusable, match="more than 1000 B"):
            await brought(remote(server.url("bundle.tar"), "0" * 64), paths, most=1000)
    assert found(paths.workspace / "worker-bundled", "*") == [], "nothing half made is left"


async def test_a_download_that_broke_off_goes_on_at_the_next_boot(
    paths: Paths, tmp_path: Path
) -> None:
    (tmp_path / "more").write_bytes(os.urandom(300_000))
    made = make_bundle(tmp_path / "made")
    (tmp_path / "more").rename(made / "more")
    sha256 = pack(made, tmp_path / "bundle.tar.gz")
    data = (tmp_path / "bundle.tar.gz").read_bytes()
    async with serving_files() as server:
        server.add("bundle.tar.gz", data, cuts=[200_000, 0, 0, 0])
        settings = remote(server.url("bundle.tar.gz"), sha256)
        with pytest.raises(BundleUnreachable, match="the connection was cut") as caught:
            await brought(settings, paths)
        assert caught.value.recoverable
        before = server.sent
        bundle = await brought(settings, paths)
        assert server.sent - before < len(data)
    assert bundle.connectors == (OFFERED,)
    assert [path.name for path in bundle.folder.parent.iterdir()] == [bundle.folder.name]


Change = Callable[[Settings], Settings]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda s: attrs.evolve(s, worker_download_sha256=""), BundleUnusable, "SHA-256, in hex"),
        (lambda s: attrs.evolve(s, worker_download_sha256="0" * 64), BundleUnusable, "not 0000"),
        (lambda s: attrs.evolve(s, worker_download_url=""), BundleUnusable, "http"),
        (lambda s: attrs.evolve(s, worker_download_url="file:///x"), BundleUnusable, "http"),
        (
            lambda s: attrs.evolve(s, worker_download_url=s.worker_download_url + ".gone"),
            BundleUnreachable,
            "HTTP status 404",
        ),
        (lambda _: local(Path("/nowhere/bundle")), BundleUnusable, "there is no such folder"),
    ],
    ids=["no-digest", "another-digest", "no-url", "no-http", "not-found", "no-folder"],
)
async def test_what_can_not_be_is_told(
    paths: Paths, tmp_path: Path, change: Change, error: Any, words: str
) -> None:
    sha256 = pack(make_bundle(tmp_path / "made"), tmp_path / "bundle.tar.gz")
    with served(tmp_path) as (host, _), pytest.raises(error, match=words):
        await brought(change(remote(f"http://{host}/bundle.tar.gz", sha256)), paths)


async def test_nobody_there_and_no_archive_at_all(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "bundle.tar.gz").write_bytes(b"no archive")
    with served(tmp_path) as (host, _):
        settings = remote(
            f"http://u:canary@{host}/bundle.tar.gz", digest(tmp_path / "bundle.tar.gz")
        )
        with pytest.raises(BundleUnusable, match="can't be unpacked"):
            await brought(settings, paths)
    with pytest.raises(HostDown) as caught:
        await brought(settings, paths)
    assert caught.value.recoverable
    assert "canary" not in str(caught.value)
