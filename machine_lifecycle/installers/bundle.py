"""Brings the worker bundle: a folder of Python packages, copied or downloaded, never installed.

It is made as ``pip install --target FOLDER`` makes one, so that the entry points of its packages
say which connectors it has. Nothing of it is imported here: workers put it at the end of their
path, where it can add modules and not replace any.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

import attrs

from machine_lifecycle.installers.bundle_errors import BundleUnreachable, BundleUnusable
from machine_lifecycle.installers.download_errors import (
    DownloadDiffers,
    DownloadInterrupted,
    DownloadMissing,
    DownloadRefused,
)
from machine_lifecycle.installers.downloading import Downloader
from machine_lifecycle.installers.partial_file import File
from machine_lifecycle.model.bundle import BundledConnector, WorkerBundle
from machine_lifecycle.model.offers import Offer
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.progress import ProgressSink
from machine_lifecycle.model.settings import BundleMode, Settings
from machine_lifecycle.model.text import counted, human_bytes

__all__ = ["GROUP", "bring_bundle", "find_bundle"]

GROUP = Offer.CONNECTOR.group
"""The entry point group in which a bundle's packages offer connectors."""

_STEP = "worker bundle"
_MOST_BYTES = 1 << 30
"""Of an archive, and of what it holds: connectors are code, not models."""
_MOST_FILES = 50_000
_CHUNK = 1 << 20
_SHA256_LENGTH = 64
_SHORT = 16  # of a digest, for the folder's name


def find_bundle(settings: Settings, paths: Paths) -> WorkerBundle | None:
    """What the settings ask for, with the connectors that can be told without fetching anything;
    ``None`` if they ask for no bundle.

    Raises:
        BundleUnusable: What they say can't be a bundle.
    """
    mode = settings.worker_bundle_mode
    if mode is BundleMode.NONE:
        return None
    if mode is BundleMode.LOCAL:
        source = settings.worker_local_path
        if not source.is_dir():
            raise BundleUnusable(source=str(source), problem="there is no such folder")
        bundle = _bundle(mode, str(source), _digest_of(source), paths)
        there = bundle.folder if bundle.folder.is_dir() else source
    else:
        bundle = _bundle(mode, *_pinned(settings), paths)
        there = bundle.folder
    return attrs.evolve(bundle, connectors=tuple(_offered(there)))


async def bring_bundle(
    settings: Settings,
    paths: Paths,
    progress: ProgressSink,
    *,
    downloader: Downloader,
    most: int = _MOST_BYTES,
) -> None:
    """Have it in the workspace; nothing is done where it is there already.

    Args:
        settings: Say which.
        paths: Where the workspace is.
        progress: Is told what comes.
        downloader: Brings an archive.
        most: Bytes that an archive may have, and what it holds.

    Raises:
        BundleUnusable: It can't be used, now or later.
        BundleUnreachable: It can't be had now.
        HostDown: Its host does not answer.
        DiskFull: There is no room for it.
    """
    bundle = await asyncio.to_thread(find_bundle, settings, paths)
    if bundle is None or bundle.folder.is_dir():
        return
    progress.step(_STEP, f"{bundle.mode} from {bundle.source}")
    home = bundle.folder.parent
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=home) as name:
        staged = Path(name) / "bundle"
        if bundle.mode == BundleMode.LOCAL.value:
            await asyncio.to_thread(_copy, settings.worker_local_path, staged)
        else:
            file = File(url=settings.worker_download_url, sha256=bundle.sha256, most=most)
            # Always under this name, so that a run after a kill goes on with what came.
            archive = home / f".{bundle.folder.name}.partial"
            await _download(bundle, file, archive, downloader, progress)
            try:
                await asyncio.to_thread(_unpack, bundle.source, archive, staged, most)
            finally:
                file.partial(archive).forget()
        await asyncio.to_thread(staged.rename, bundle.folder)
    await asyncio.to_thread(_leave_only, bundle.folder)
    count = len(tuple(_offered(bundle.folder)))
    progress.step(_STEP, counted(count, "connector"))


def _leave_only(folder: Path) -> None:
    """Remove what lies beside it: earlier bundles, and what of one came before an end."""
    for other in folder.parent.iterdir():
        if other.is_dir() and other != folder:
            shutil.rmtree(other, ignore_errors=True)
        elif other != folder:
            other.unlink(missing_ok=True)


def _bundle(mode: BundleMode, source: str, sha256: str, paths: Paths) -> WorkerBundle:
    folder = paths.workspace / "worker-bundled" / sha256[:_SHORT]
    return WorkerBundle(mode=mode.value, source=source, sha256=sha256, folder=folder)


def _pinned(settings: Settings) -> tuple[str, str]:
    """Where an archive is, fit to be shown, and its digest."""
    url = urlsplit(settings.worker_download_url)
    shown = f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise BundleUnusable(
            source=shown, problem="WORKER_DOWNLOAD_URL must be the http(s) address of an archive"
        )
    sha256 = settings.worker_download_sha256.lower()
    if len(sha256) != _SHA256_LENGTH or set(sha256) - set("0123456789abcdef"):
        raise BundleUnusable(
            source=shown, problem="WORKER_DOWNLOAD_SHA256 must be the archive's SHA-256, in hex"
        )
    return shown, sha256


def _offered(folder: Path) -> Iterator[BundledConnector]:
    for package in distributions(path=[str(folder)]):
        for entry in package.entry_points.select(group=GROUP):
            yield BundledConnector(
                name=entry.name,
                reference=entry.value,
                distribution=package.name,
                version=package.version,
            )


def _files(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return sorted(path for path in found if path.is_file())


def _digest_of(folder: Path) -> str:
    digest, size = hashlib.sha256(), 0
    for path in _files(folder):
        size += path.stat().st_size
        if size > _MOST_BYTES:
            problem = f"it holds more than {human_bytes(_MOST_BYTES)}"
            raise BundleUnusable(source=str(folder), problem=problem)
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _copy(source: Path, target: Path) -> None:
    target.mkdir()
    for path in _files(source):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)


async def _download(
    bundle: WorkerBundle, file: File, archive: Path, downloader: Downloader, progress: ProgressSink
) -> None:
    """Have the archive there, checked. One that broke off goes on at the next try."""
    try:
        await downloader.bring(file, archive, lambda text: progress.step(_STEP, text))
    except DownloadDiffers as error:
        file.partial(archive).forget()
        raise BundleUnusable(source=bundle.source, problem=error.problem) from error
    except (DownloadInterrupted, DownloadMissing, DownloadRefused) as error:
        raise BundleUnreachable(source=bundle.source, problem=error.problem) from error


def _unpack(source: str, archive: Path, target: Path, most: int) -> None:
    target.mkdir()
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                _write(source, target, _zip_members(packed), most)
        else:
            with tarfile.open(archive) as tar:
                _write(source, target, _tar_members(tar), most)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        problem = f"it can't be unpacked: {str(error) or type(error).__name__}"
        raise BundleUnusable(source=source, problem=problem) from error


Member = tuple[str, str, Any]
"""Name, kind (``file``, ``folder``, or what else it is), and what opens it."""


def _zip_members(packed: zipfile.ZipFile) -> Iterator[Member]:
    for info in packed.infolist():
        mode = stat.S_IFMT(info.external_attr >> 16)
        kind = "folder" if info.is_dir() else "file"
        if mode not in {0, stat.S_IFREG, stat.S_IFDIR}:
            kind = "link or device"
        yield info.filename, kind, lambda info=info: packed.open(info)


def _tar_members(tar: tarfile.TarFile) -> Iterator[Member]:
    for info in tar:
        kind = "file" if info.isreg() else "folder" if info.isdir() else "link or device"
        yield info.name, kind, lambda info=info: tar.extractfile(info)


def _write(source: str, target: Path, members: Iterator[Member], most: int) -> None:
    left = most
    for number, (name, kind, open_it) in enumerate(members, 1):
        path = PurePosixPath(name.replace("\\", "/"))
        problem = ""
        if path.is_absolute() or ".." in path.parts or ":" in name:
            problem = f"`{name}` would lie outside of its folder"
        elif kind not in {"file", "folder"}:
            problem = f"`{name}` is a {kind}"
        elif number > _MOST_FILES:
            problem = f"it holds more than {_MOST_FILES} files"
        if problem:
            raise BundleUnusable(source=source, problem=problem)
        place = target.joinpath(*path.parts)
        if kind == "folder":
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        with open_it() as packed, place.open("wb") as file:
            left = _pour(packed, file, left)
        if left < 0:
            raise BundleUnusable(source=source, problem=f"it holds more than {human_bytes(most)}")


def _pour(packed: IO[bytes], file: IO[bytes], left: int) -> int:
    """Copy; how many bytes may still come. What a member says of its size is not believed."""
    while left >= 0 and (chunk := packed.read(_CHUNK)):
        left -= len(chunk)
        if left >= 0:
            file.write(chunk)
    return left
