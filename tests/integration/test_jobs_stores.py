"""Files that jobs made, in a folder and in a bucket."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from machine_lifecycle.errors import our_python
from machine_lifecycle.jobs.errors import OutputNotStored, OutputStoreUnusable, OutputUnreadable
from machine_lifecycle.jobs.stores import OutputStore, check_store, digest, read
from machine_lifecycle.model.jobs import JobResult, Output
from tests.support.patience import PATIENCE


def made(name: str, data: bytes, *, temporary: bool = False) -> Output:
    return Output(name=name, kind="image", mime="image/png", data=data, temporary=temporary)


@pytest.fixture
def bucket() -> Iterator[str]:
    yield "memory://bucket/prefix"
    MemoryFileSystem.store.clear()


@pytest.mark.parametrize("kind", ["folder", "file URL", "bucket"])
async def test_what_was_kept_is_read_again(kind: str, bucket: str, tmp_path: Path) -> None:
    place = tmp_path / "a folder"
    where = {"folder": str(place), "file URL": place.as_uri(), "bucket": bucket}[kind]
    outputs = (
        made("a.png", b"one"),
        made("a.png", b"two"),
        made("../../etc/a b.png", b"three"),
        made("preview.png", b"four", temporary=True),
        made("empty.png", b""),
    )
    kept = await OutputStore(where).keep("step/1", 7, JobResult(outputs=outputs))
    urls = [output.stored for output in kept.outputs]
    assert len(set(urls[:3])) == 3
    assert urls[3:] == ["", ""]
    for output in kept.outputs[:3]:
        assert output.stored.startswith(place.as_uri() if kind != "bucket" else bucket)
        assert await read(output.stored, digest(output.data)) == output.data
    if kind != "bucket":
        names = sorted(str(p.relative_to(place)) for p in place.rglob("*") if p.is_file())
        assert names == ["step%2F1/7-0-a.png", "step%2F1/7-1-a.png", "step%2F1/7-2-a b.png"]


def test_no_id_of_a_job_leads_out_of_the_folder(tmp_path: Path) -> None:
    store, one = OutputStore(str(tmp_path / "kept")), JobResult(outputs=(made("a", b"1"),))
    for job_id in ("..", ".", "../x", "/etc/x"):
        asyncio.run(store.keep(job_id, 1, one))
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("1-0-a")} == {
        "kept/%2Fetc%2Fx/1-0-a",
        "kept/..%2Fx/1-0-a",
        "kept/_./1-0-a",
        "kept/_../1-0-a",
    }


async def test_a_later_run_overwrites_nothing(bucket: str) -> None:
    store = OutputStore(bucket)
    first = await store.keep("j", 1, JobResult(outputs=(made("a", b"1"),)))
    second = await store.keep("j", 2, JobResult(outputs=(made("a", b"2"),)))
    assert await read(first.outputs[0].stored, digest(b"1")) == b"1"
    assert await read(second.outputs[0].stored, digest(b"2")) == b"2"


class Stumbling(MemoryFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """A bucket that refuses the first two files."""

    protocol = "stumbling"
    calls = 0

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        type(self).calls += 1
        if self.calls < 3:
            raise OSError("slow down")
        super().pipe_file(path, value, **options)


async def test_a_bucket_that_stumbles_is_tried_again() -> None:
    fsspec.register_implementation("stumbling", Stumbling, clobber=True)
    store = OutputStore("stumbling://bucket", first_wait=0.001)
    kept = await store.keep("j", 1, JobResult(outputs=(made("a", b"1"),)))
    assert Stumbling.calls == 3
    assert await read(kept.outputs[0].stored, digest(b"1")) == b"1"


async def test_a_folder_that_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = OutputStore(str(tmp_path / "file"), first_wait=0.001)
    with pytest.raises(OutputNotStored, match="file/j/1-0-a"):
        await store.keep("j", 1, JobResult(outputs=(made("a", b"1"),)))


async def test_what_is_gone_changed_or_out_of_reach(bucket: str, tmp_path: Path) -> None:
    kept = await OutputStore(bucket).keep("j", 1, JobResult(outputs=(made("a", b"1"),)))
    url = kept.outputs[0].stored
    with pytest.raises(OutputUnreadable, match="checksum"):
        await read(url, digest(b"2"))
    fsspec.filesystem("memory").rm(url)
    with pytest.raises(OutputUnreadable, match="it is gone"):
        await read(url, digest(b"1"))
    assert await read((tmp_path / "elsewhere").as_uri(), digest(b"1")) is None
    assert await read("nothing-known://x/y", digest(b"1")) is None


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("relative/folder", "names no absolute folder"),
        ("file://host/folder", "names no absolute folder"),
        ("simplecache::memory://x", "chain"),
        ("nothing-known://x", "Protocol not known"),
    ],
)
def test_where_nothing_can_be_kept(where: str, words: str) -> None:
    with pytest.raises(OutputStoreUnusable, match=words) as refused:
        check_store(where)
    assert "WORKER_OUTPUT_STORE" in str(refused.value.remedies[-1])


@pytest.mark.skipif(find_spec("s3fs") is not None, reason="s3fs is installed here")
def test_what_is_not_installed_is_named() -> None:
    with pytest.raises(OutputStoreUnusable) as refused:
        check_store("s3://bucket")
    assert refused.value.remedies[0].command == our_python("-m", "pip", "install", "s3fs")


def test_without_fsspec_that_is_named() -> None:
    script = (
        "import sys; sys.modules['fsspec'] = None\n"
        "from machine_lifecycle.jobs.stores import check_store\n"
        "check_store('s3://bucket')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "python -m pip install fsspec" in done.stderr
