"""One large file over HTTP: cut, resumed, refused, sent elsewhere, never taken for another."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest

from machine_lifecycle.installers.download_errors import (
    DownloadDiffers,
    DownloadInterrupted,
    DownloadMissing,
    DownloadRefused,
)
from machine_lifecycle.installers.downloading import Downloader
from machine_lifecycle.installers.errors import DiskFull, HostDown
from machine_lifecycle.installers.http_request import seconds_to_wait
from machine_lifecycle.installers.partial_file import File
from machine_lifecycle.installers.transfer import Course, Patience
from tests.support.file_server import FileServer, serving_files
from tests.support.git_server import self_signed
from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.support.small_disk import fill, small_disk

DATA = os.urandom(300_000)
SHA = hashlib.sha256(DATA).hexdigest()
QUICK = Patience(connect=PATIENCE, silence=PATIENCE, first=0.001, report=0)


class Lines(list[str]):
    """What is reported; it can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._waited: list[tuple[str, asyncio.Event]] = []

    def take(self, line: str) -> None:
        self.append(line)
        for words, event in self._waited:
            if words in line:
                event.set()

    async def said(self, words: str) -> None:
        event = asyncio.Event()
        self._waited.append((words, event))
        if not any(words in line for line in self):
            await event.wait()


@attrs.define
class Bed:
    server: FileServer
    path: Path
    lines: Lines = attrs.field(factory=Lines)
    environ: dict[str, str] = attrs.field(factory=dict)
    patience: Patience = QUICK

    def file(self, path: str = "m", **more: object) -> File:
        return attrs.evolve(File(url=self.server.url(path), sha256=SHA), **more)  # type: ignore[arg-type]

    async def bring(self, file: File | None = None) -> str:
        made = Downloader(self.environ, self.patience)
        return await made.bring(file or self.file(), self.path, self.lines.take)


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    async with serving_files() as server:
        yield Bed(server, tmp_path / ".m.partial")


async def test_a_file_comes_whole_and_checked(bed: Bed) -> None:
    bed.server.add("m", DATA)
    assert await bed.bring(bed.file(size=len(DATA))) == SHA
    assert bed.path.read_bytes() == DATA
    assert any(" of 293.0 KiB" in line for line in bed.lines)
    bed.path.unlink()
    # Nothing is known of it: what came is told.
    assert await bed.bring(bed.file(sha256="")) == SHA


async def test_what_came_before_a_cut_is_not_fetched_again(bed: Bed) -> None:
    async def arrived(size: int) -> None:
        while bed.path.stat().st_size < size:  # noqa: ASYNC110 - files offer no event
            await asyncio.sleep(0)

    bed.server.add("m", DATA, cuts=[100_000, 50_000, 1], arrived=arrived)
    assert await bed.bring() == SHA
    assert bed.path.read_bytes() == DATA
    assert bed.server.sent == len(DATA)
    assert [headers.get("If-Range") for _, headers in bed.server.asked] == [None, *['"1"'] * 3]
    assert sum("the connection was cut" in line for line in bed.lines) == 3


async def test_a_later_run_goes_on(bed: Bed) -> None:
    served = bed.server.add("m", DATA, cuts=[100_000, 0, 0, 0])
    with pytest.raises(DownloadInterrupted) as caught:
        await bed.bring()
    assert 0 < caught.value.have <= 100_000
    assert "broke off after" in caught.value.summary
    before = bed.server.sent
    assert await bed.bring() == SHA
    assert bed.server.sent - before < len(DATA)
    # All of it came, and its name alone was missing: nobody is asked again.
    served.answers = [(404, {})]
    assert await bed.bring(bed.file(size=len(DATA))) == SHA
    assert len(served.answers) == 1


async def test_whole_but_for_its_name_and_of_unknown_size(bed: Bed) -> None:
    bed.server.add("m", DATA)
    await bed.bring()
    before = bed.server.sent
    assert await bed.bring() == SHA
    assert bed.server.sent == before


async def test_a_file_that_changed_meanwhile_begins_anew(bed: Bed) -> None:
    other = os.urandom(len(DATA))
    served = bed.server.add("m", other, cuts=[100_000, 0, 0, 0])
    file = bed.file(sha256="")
    with pytest.raises(DownloadInterrupted):
        await bed.bring(file)
    served.data, served.tag = DATA, '"2"'
    assert await bed.bring(file) == SHA
    assert bed.path.read_bytes() == DATA


async def test_without_a_mark_of_its_state_the_digest_decides(bed: Bed) -> None:
    other = os.urandom(len(DATA))
    served = bed.server.add("m", other, tag="", cuts=[100_000, 0, 0, 0])
    with pytest.raises(DownloadInterrupted):
        await bed.bring()
    served.data = DATA  # what came was the beginning of another file: found out, and begun anew
    assert await bed.bring() == SHA
    assert any("beginning of another file" in line for line in bed.lines)
    # Without a digest nothing could find it out: it is not even tried.
    bed.path.unlink()
    served.cuts = [100_000, 0, 0, 0]
    with pytest.raises(DownloadInterrupted):
        await bed.bring(bed.file(sha256=""))
    asked = len(bed.server.asked)
    await bed.bring(bed.file(sha256=""))
    assert "Range" not in bed.server.asked[asked][1]


async def test_a_server_without_ranges_sends_all_of_it_again(bed: Bed) -> None:
    bed.server.add("m", DATA, ranges=False, cuts=[100_000])
    assert await bed.bring() == SHA
    assert bed.path.read_bytes() == DATA


async def test_a_size_that_nobody_tells(bed: Bed) -> None:
    bed.server.add("m", DATA, length=False, ranges=False, cuts=[100_000])
    assert await bed.bring() == SHA
    assert any("iB/s" in line and " of " not in line for line in bed.lines)


async def test_another_file_is_never_kept(bed: Bed) -> None:
    bed.server.add("m", DATA[:-1] + bytes([DATA[-1] ^ 1]))
    with pytest.raises(DownloadDiffers, match="its SHA-256 is") as caught:
        await bed.bring()
    assert not caught.value.recoverable
    assert list(bed.path.parent.iterdir()) == []
    # A wrong size is seen before anything is fetched.
    with pytest.raises(DownloadDiffers, match="it has 300,000 bytes, not 7"):
        await bed.bring(bed.file(size=7))
    assert not bed.path.exists()
    bed.server.files["m"].length = False
    with pytest.raises(DownloadDiffers, match="more than its 7 bytes"):
        await bed.bring(bed.file(size=7))


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_is_told_with_what_helps(bed: Bed, status: int) -> None:
    bed.server.add("m", DATA, answers=[(status, {})])
    bed.environ["HF_ENDPOINT"] = bed.server.url("")
    with pytest.raises(DownloadRefused, match="without a login") as caught:
        await bed.bring(File(url="https://huggingface.co/m", sha256=SHA))
    assert len(bed.server.asked) == 1
    assert "export HF_TOKEN=YOUR_TOKEN" in str(caught.value)
    bed.server.files["m"].answers = [(status, {})]
    bed.environ["HF_TOKEN"] = "hf-s3cret"
    with pytest.raises(DownloadRefused, match="with a token") as caught:
        await bed.bring(File(url="https://huggingface.co/m", sha256=SHA))
    assert "another token" in str(caught.value)
    assert "hf-s3cret" not in str(caught.value)


async def test_a_page_to_log_in_is_no_model(bed: Bed) -> None:
    bed.server.add("m", b"<html>", kind="text/html")
    with pytest.raises(DownloadRefused, match="a web page"):
        await bed.bring(bed.file(sha256=""))


@pytest.mark.parametrize("status", [404, 410, 400])
async def test_what_is_not_there_is_not_asked_for_again(bed: Bed, status: int) -> None:
    bed.server.add("m", DATA, answers=[(status, {})])
    with pytest.raises(DownloadMissing, match=f"HTTP status {status}"):
        await bed.bring()
    assert len(bed.server.asked) == 1


async def test_a_busy_server_is_asked_again(bed: Bed) -> None:
    bed.server.add("m", DATA, answers=[(503, {}), (500, {}), (429, {"Retry-After": "0"})])
    assert await bed.bring() == SHA


async def test_retry_after_is_kept_by_all_downloads_of_the_host(bed: Bed) -> None:
    bed.server.add("m", DATA, answers=[(429, {"Retry-After": "1"})])
    bed.server.add("n", DATA)
    made = Downloader({}, QUICK)
    began = time.monotonic()
    first = asyncio.create_task(made.bring(bed.file(), bed.path, bed.lines.take))
    await bed.lines.said("asked to wait")
    await made.bring(bed.file("n"), bed.path.with_name("n"), bed.lines.take)
    assert time.monotonic() - began >= 0.9
    await first
    assert [path for path, _ in bed.server.asked].count("m") == 2


async def test_a_server_that_wants_more_patience_than_there_is(bed: Bed) -> None:
    bed.server.add("m", DATA, answers=[(429, {"Retry-After": "4000"})])
    with pytest.raises(DownloadInterrupted) as caught:
        await bed.bring()
    assert caught.value.retry_after == 4000
    assert len(bed.server.asked) == 1


async def test_silence_is_cut_and_gone_on_from(bed: Bed) -> None:
    served = bed.server.add("m", DATA, stall=asyncio.Event())
    bed.patience = attrs.evolve(QUICK, silence=0.2)

    async def freed() -> None:
        await bed.lines.said("nothing came for 200 ms")
        assert served.stall is not None
        served.stall.set()

    freeing = asyncio.create_task(freed())
    assert await bed.bring() == SHA
    await freeing


async def test_a_trickle_is_cut(bed: Bed) -> None:
    # Of any speed: what is looked at is each piece, and none is as fast as that.
    course = Course(bed.file(), 0, 0, attrs.evolve(QUICK, silence=0, lowest=1e12), print, print)
    with pytest.raises(DownloadInterrupted, match="hardly anything comes"):
        course.went_on(1)


async def test_a_host_that_is_down_is_named_once_and_left_alone(bed: Bed) -> None:
    gone = f"127.0.0.1:{free_port()}"
    made = Downloader({}, QUICK)
    file = File(url=f"http://{gone}/m", sha256=SHA)
    with pytest.raises(HostDown) as caught:
        await made.bring(file, bed.path, bed.lines.take)
    assert caught.value.summary.startswith(f"{gone} does not answer: ")
    assert len(bed.lines) == 2
    with pytest.raises(HostDown) as again:
        await made.bring(attrs.evolve(file, url=f"http://{gone}/n"), bed.path, bed.lines.take)
    assert again.value.summary == caught.value.summary
    assert len(bed.lines) == 2


async def test_a_storage_that_answered_meanwhile_is_not_down(bed: Bed) -> None:
    """Failures count in a row: of the host that a server sends on to, too."""
    port = free_port()
    made = Downloader({}, attrs.evolve(QUICK, tries=2))
    bed.server.add("m", DATA, answers=[(302, {"Location": f"http://127.0.0.1:{port}/m"})] * 5)
    with pytest.raises(DownloadInterrupted):
        await made.bring(bed.file(), bed.path, bed.lines.take)
    async with serving_files(port=port) as storage:
        storage.add("m", DATA)
        assert await made.bring(bed.file(), bed.path, bed.lines.take) == SHA
    bed.path.unlink()
    with pytest.raises(DownloadInterrupted):
        await made.bring(bed.file(), bed.path, bed.lines.take)


async def test_no_room_is_seen_before_anything_is_fetched(bed: Bed) -> None:
    bed.server.add("m", DATA)
    usage = os.statvfs(bed.path.parent)
    size = usage.f_bavail * usage.f_frsize * 2
    bed.server.files["m"].length = False
    with pytest.raises(DiskFull) as caught:
        await bed.bring(bed.file(size=size))
    assert caught.value.needed == size
    assert not bed.path.exists()


async def test_a_full_disk_gets_back_what_came(bed: Bed, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        bed.path = disk / ".m.partial"
        data = os.urandom(2 << 20)
        bed.server.add("m", data, length=False)  # so that nobody sees it coming
        fill(disk, leave=1 << 20)
        with pytest.raises(DiskFull) as caught:
            await bed.bring(bed.file(sha256=""))
        assert caught.value.folder == disk
        assert [path.name for path in disk.iterdir()] == ["ballast"]


async def test_downloads_at_once_count_each_others_room(bed: Bed, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        data = os.urandom(3 << 20)
        bed.server.add("m", data, stall=asyncio.Event())
        made = Downloader({}, QUICK)
        file = bed.file(sha256="")
        first = asyncio.create_task(made.bring(file, disk / "a", bed.lines.take))
        await bed.lines.said("MiB of 3.0 MiB")
        with pytest.raises(DiskFull, match="about 3 MiB needed"):
            await made.bring(file, disk / "b", bed.lines.take)
        stall = bed.server.files["m"].stall
        assert stall is not None
        stall.set()
        await first


async def test_an_end_in_the_middle_leaves_what_came(bed: Bed) -> None:
    served = bed.server.add("m", DATA, stall=asyncio.Event())
    task = asyncio.create_task(bed.bring())
    await bed.lines.said("KiB of")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert served.stall is not None
    served.stall.set()
    assert await bed.bring() == SHA
    assert "Range" in bed.server.asked[-1][1]


async def test_a_proxy_is_asked_but_for_hosts_that_are_named(bed: Bed) -> None:
    bed.server.add("m", DATA)
    bed.environ = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": bed.server.url("")}
    assert await bed.bring(File(url="http://models.invalid/m", sha256=SHA)) == SHA
    assert bed.server.asked[-1][1]["Host"] == "models.invalid"
    bed.path.unlink()
    bed.environ = {"http_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}
    assert await bed.bring() == SHA


async def test_certificates_are_looked_at_and_own_ones_named(tmp_path: Path) -> None:
    made = self_signed(tmp_path)
    async with serving_files(tls=made) as server:
        bed = Bed(server, tmp_path / ".m.partial")
        server.add("m", DATA)
        file = File(url=server.url("m").replace("http:", "https:"), sha256=SHA)
        with pytest.raises(HostDown, match="certificate") as caught:
            await bed.bring(file)
        assert "export SSL_CERT_FILE" in str(caught.value)
        bed.environ["SSL_CERT_FILE"] = str(made[0])
        assert await bed.bring(file) == SHA


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("12", 12),
        ("Thu, 26 Nov 2026 18:00:30 GMT", 30),
        ("Thu, 26 Nov 2026 17:00:00 GMT", 0),
        ("soon", 0),
        ("", 0),
    ],
)
def test_what_retry_after_asks_for(header: str, seconds: float) -> None:
    assert seconds_to_wait(header, datetime(2026, 11, 26, 18, tzinfo=UTC)) == seconds
