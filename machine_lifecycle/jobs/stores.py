"""Where a site keeps the files that jobs made: a folder, or a bucket through fsspec."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import attrs

from machine_lifecycle.jobs.errors import OutputNotStored, OutputStoreUnusable, OutputUnreadable
from machine_lifecycle.jobs.files import bare_name
from machine_lifecycle.model.jobs import JobResult

__all__ = ["OutputStore", "check_store", "digest", "read"]

_T = TypeVar("_T")

_PATIENCE = 300.0
"""Seconds for one file."""
_TRIES = 3
"""Those of a bucket's library come on top."""


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def check_store(where: str) -> None:
    """See whether files can be kept there, as far as that is known without a connection.

    Args:
        where: An absolute folder, ``file:///FOLDER``, or a URL that fsspec knows such as
            ``s3://BUCKET/PREFIX``.

    Raises:
        OutputStoreUnusable: They can't.
    """
    parts = urlsplit(where)
    if parts.scheme in {"", "file"}:
        if parts.netloc or not parts.path.startswith("/"):
            raise OutputStoreUnusable(store=where, reason="names no absolute folder")
        return
    if "::" in where:
        raise OutputStoreUnusable(store=where, reason="a chain of addresses is not supported")
    try:
        import fsspec  # noqa: PLC0415 - an extra
        from fsspec.registry import known_implementations  # noqa: PLC0415 - likewise
    except ImportError as error:
        reason = "fsspec is not installed"
        raise OutputStoreUnusable(store=where, reason=reason, package="fsspec") from error
    try:
        fsspec.get_filesystem_class(parts.scheme)
    except ImportError as error:
        package = str(known_implementations[parts.scheme]["class"]).partition(".")[0]
        raise OutputStoreUnusable(
            store=where, reason=str(error), package="" if package == "fsspec" else package
        ) from error
    except ValueError as error:
        raise OutputStoreUnusable(store=where, reason=str(error)) from error


class OutputStore:
    """Keeps files under ``{store}/{job}/{run}-{number}-{name}``: no two of them share a name."""

    def __init__(self, where: str, *, first_wait: float = 0.5) -> None:
        """Make it; nothing is opened.

        Args:
            where: As ``check_store`` takes it.
            first_wait: Seconds before a file is tried again; doubles at the next time.

        Raises:
            OutputStoreUnusable: Files can't be kept there.
        """
        check_store(where)
        self._first_wait = first_wait
        self._where = Path(where).as_uri() if where.startswith("/") else where.rstrip("/")

    async def keep(self, job_id: str, run: int, result: JobResult) -> JobResult:
        """Keep what a job made, but for previews; the result says where.

        Args:
            job_id: Whose it is.
            run: Which of its runs, so that a late one overwrites nothing.
            result: With the bytes.

        Raises:
            OutputNotStored: A file could not be written.
        """
        kept = []
        for number, output in enumerate(result.outputs):
            if output.temporary or not output.data:
                kept.append(output)
                continue
            name = f"{run}-{number}-{quote(bare_name(output.name))}"
            url = f"{self._where}/{_folder(job_id)}/{name}"
            await self._write(url, output.data)
            kept.append(attrs.evolve(output, stored=url))
        return attrs.evolve(result, outputs=tuple(kept))

    async def _write(self, url: str, data: bytes) -> None:
        wait, tries = self._first_wait, 0
        while True:
            try:
                await _patiently(lambda: _put(url, data))
            # Each bucket's library has errors of its own.
            except Exception as error:
                tries += 1
                if tries == _TRIES:
                    reason = str(error) or type(error).__name__
                    raise OutputNotStored(url=url, reason=reason) from error
            else:
                return
            await asyncio.sleep(wait)
            wait *= 2


def _folder(job_id: str) -> str:
    """A job's id, which may be any text, as one part of a URL that is one folder once decoded."""
    return quote(quote(job_id, safe="") if job_id.strip(".") else f"_{job_id}")


async def read(url: str, sha256: str) -> bytes | None:
    """A file that was kept; ``None`` where its place can't be reached from here at all: a folder of
    another machine, or a bucket whose library is not installed.

    Raises:
        OutputUnreadable: It can't be read, or is not the file that was kept.
    """
    try:
        check_store(url)
    except OutputStoreUnusable:
        return None
    try:
        data = await _patiently(lambda: _get(url))
    except FileNotFoundError as error:
        if url.startswith("file:"):
            return None
        raise OutputUnreadable(url=url, reason="it is gone") from error
    except Exception as error:  # likewise
        raise OutputUnreadable(url=url, reason=str(error) or type(error).__name__) from error
    if digest(data) != sha256:
        raise OutputUnreadable(url=url, reason="its checksum is another one")
    return data


async def _patiently(call: Callable[[], _T]) -> _T:
    async with asyncio.timeout(_PATIENCE):
        return await asyncio.to_thread(call)


def _put(url: str, data: bytes) -> None:
    if not url.startswith("file:"):
        files, path = _opened(url)
        files.pipe_file(path, data)
        return
    target = _local(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.part")
    partial.write_bytes(data)
    partial.replace(target)


def _get(url: str) -> bytes:
    if url.startswith("file:"):
        return _local(url).read_bytes()
    files, path = _opened(url)
    data: bytes = files.cat_file(path)
    return data


def _local(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


def _opened(url: str) -> tuple[Any, str]:
    import fsspec  # noqa: PLC0415 - an extra

    files, path = fsspec.core.url_to_fs(url)
    return files, path
