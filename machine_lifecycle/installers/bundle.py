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

from machine_lifecycle.installers.errors import BundleUnreachable, BundleUnusable
from machine_lifecycle.model.bundle import BundledConnector, WorkerBundle
from machine_lifecycle.model.offers import Offer
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.progress import ProgressSink
from machine_lifecycle.model.settings import BundleMode, Settings
from machine_lifecycle.model.text import human_bytes

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
_SILENCE = 30.0  # seconds without a byte


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
    settings: Settings, paths: Paths, progress: ProgressSink, *, most: int = _MOST_BYTES
) -> None:
    """Have it in the workspace; nothing is done where it is there already.

    Args:
        settings: Say which.
        paths: Where the workspace is.
        progress: Is told what comes.
        most: Bytes that an archive may have, and what it holds.

    Raises:
        BundleUnusable: It can't be used, now or later.
        BundleUnreachable: It can't be had now.
    """
    bundle = await asyncio.to_thread(find_bundle, settings, paths)
    if bundle is None or bundle.folder.is_dir():
        return
    progress.step(_STEP, f"{bundle.mode} from {bundle.source}")
    bundle.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=bundle.folder.parent) as name:
        staged = Path(name) / "bundle"
        if bundle.mode == BundleMode.LOCAL.value:
            await asyncio.to_thread(_copy, settings.worker_local_path, staged)
        else:
            archive = Path(name) / "archive"
            await _download(settings.worker_download_url, bundle, archive, progress, most)
            await asyncio.to_thread(_unpack, bundle.source, archive, staged, most)
        await asyncio.to_thread(staged.rename, bundle.folder)
    for other in await asyncio.to_thread(lambda: list(bundle.folder.parent.iterdir())):
        if other != bundle.folder:
            await asyncio.to_thread(shutil.rmtree, other, ignore_errors=True)
    count = len(tuple(_offered(bundle.folder)))
    progress.step(_STEP, f"{count} connector{'' if count == 1 else 's'}")


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
    url: str, bundle: WorkerBundle, to: Path, progress: ProgressSink, most: int
) -> None:
    import aiohttp  # noqa: PLC0415 - heavy, and most machines have no bundle

    digest, size = hashlib.sha256(), 0
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE, sock_read=_SILENCE)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            session.get(url, allow_redirects=True) as answer,
        ):
            answer.raise_for_status()
            with to.open("wb") as file:
                async for chunk in answer.content.iter_chunked(_CHUNK):
                    size += len(chunk)
                    if size > most:
                        problem = f"the archive is larger than {human_bytes(most)}"
                        raise BundleUnusable(source=bundle.source, problem=problem)
                    digest.update(chunk)
                    file.write(chunk)
                    progress.step(_STEP, f"{size / _CHUNK:.0f} MiB")
    except aiohttp.ClientResponseError as error:
        problem = f"it answers with HTTP status {error.status}"
        raise BundleUnreachable(source=bundle.source, problem=problem) from None
    except (aiohttp.ClientError, TimeoutError) as error:
        # Its words may hold the whole address.
        problem = str(getattr(error, "os_error", "")) or type(error).__name__
        raise BundleUnreachable(source=bundle.source, problem=problem) from None
    if digest.hexdigest() != bundle.sha256:
        problem = f"its SHA-256 is {digest.hexdigest()}, not {bundle.sha256}"
        raise BundleUnusable(source=bundle.source, problem=problem)


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
