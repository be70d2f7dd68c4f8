"""A large file over several connections: pieces of it, resumed, never of two files."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from machine_lifecycle.installers.download_errors import DownloadDiffers
from machine_lifecycle.installers.downloading import Downloader
from machine_lifecycle.installers.errors import DiskFull
from machine_lifecycle.installers.partial_file import File
from machine_lifecycle.installers.pieces import Pieces
from machine_lifecycle.installers.transfer import Patience
from tests.support.file_server import FileServer, serving_files
from tests.support.patience import PATIENCE
from tests.support.small_disk import fill, small_disk

SIZE = 100_000
DATA = os.urandom(10 * SIZE + 7)
SHA = hashlib.sha256(DATA).hexdigest()
PIECES = Pieces(connections=4, size=SIZE, least=2 * SIZE)
QUICK = Patience(connect=PATIENCE, silence=PATIENCE, first=0.001, report=0)


@attrs.define
class Bed:
    server: FileServer
    path: Path
    lines: list[str] = attrs.field(factory=list)
    pieces: Pieces = PIECES
    heard: asyncio.Event = attrs.field(factory=asyncio.Event)

    def file(self, **more: Any) -> File:
        return attrs.evolve(File(url=self.server.url("m"), sha256=SHA), **more)

    def report(self, line: str) -> None:
        self.lines.append(line)
        self.heard.set()

    async def bring(self, file: File | None = None, patience: Patience = QUICK) -> str:
        made = Downloader({}, patience, pieces=self.pieces)
        return await made.bring(file or self.file(), self.path, self.report)

    def ranges(self) -> list[str]:
        return [headers["Range"] for _, headers in self.server.asked if "Range" in headers]


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    async with serving_files() as server:
        yield Bed(server, tmp_path / ".m.partial")


async def test_several_connections_bring_it_at_once(bed: Bed) -> None:
    bed.server.add("m", DATA)
    bed.server.crowd = 4
    bed.server.files["m"].stall = None
    first = asyncio.create_task(bed.bring())
    assert await first == SHA
    assert bed.path.read_bytes() == DATA
    assert bed.server.most_at_once >= 4
    assert len(bed.ranges()) == 11
    assert len(set(bed.ranges())) == 11
    file = bed.file()
    file.partial(bed.path).place(bed.path.with_name("m"))
    assert [path.name for path in bed.path.parent.iterdir()] == ["m"]


@pytest.mark.parametrize(
    ("more", "pieces"),
    [
        ({"ranges": False}, PIECES),
        ({"tag": ""}, PIECES),
        ({"tag": 'W/"1"'}, PIECES),
        ({}, attrs.evolve(PIECES, connections=1)),
        ({}, attrs.evolve(PIECES, least=len(DATA) + 1)),
    ],
)
async def test_a_file_that_is_not_cut_comes_over_one(
    bed: Bed, more: dict[str, object], pieces: Pieces
) -> None:
    bed.server.add("m", DATA, **more)
    bed.pieces = pieces
    assert await bed.bring() == SHA
    assert bed.ranges() == []
    assert bed.server.most_at_once == 1


async def test_what_came_of_a_piece_before_a_cut_is_not_fetched_again(bed: Bed) -> None:
    served = bed.server.add("m", DATA)
    served.cuts = [len(DATA)]  # the first answer is left as soon as its size is known
    served.cuts += [60_000, 1, 90_000, 0]
    assert await bed.bring() == SHA
    assert any("a piece goes on in" in line for line in bed.lines)
    # Once more the first answer, of which little was read.
    sent = bed.server.sent - len(DATA)
    assert sent < len(DATA) + 5 * 65_536


async def test_pieces_that_come_after_their_file_was_given_up_are_fetched_again(bed: Bed) -> None:
    """One connection finds out that the server has another file by now; three more are on."""
    bed.server.add("m", DATA)
    bed.server.crowd = 99  # bodies stop in the middle until the test says so
    task = asyncio.create_task(bed.bring())
    while bed.server.at_once < 4 or not bed.path.exists():  # noqa: ASYNC110 - see below
        await asyncio.sleep(0.005)  # sleep: neither tells of it
    bed.file().partial(bed.path).forget()
    bed.server.crowded.set()
    assert await task == SHA
    assert bed.path.read_bytes() == DATA


async def test_a_later_run_brings_the_pieces_that_lack(bed: Bed) -> None:
    bed.server.add("m", DATA)
    task = asyncio.create_task(bed.bring())
    partial = bed.file().partial(bed.path)
    while not (cut := partial.cut) or len(cut.done) < 3:
        await asyncio.wait([asyncio.create_task(bed.heard.wait())])
        bed.heard.clear()
        if task.done():
            break
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    cut = partial.cut
    assert cut is not None
    done = set(cut.done)
    assert partial.size == sum(cut.span(n)[1] - cut.span(n)[0] for n in done)
    asked = len(bed.server.asked)
    assert await bed.bring() == SHA
    assert bed.path.read_bytes() == DATA
    again = [h["Range"] for _, h in bed.server.asked[asked:]]
    assert len(again) == 11 - len(done)
    # All of it is there: nobody is asked.
    asked = len(bed.server.asked)
    assert await bed.bring() == SHA
    assert len(bed.server.asked) == asked


async def test_a_file_that_changes_meanwhile_begins_anew(bed: Bed) -> None:
    served = bed.server.add("m", os.urandom(len(DATA)))
    task = asyncio.create_task(bed.bring(bed.file(sha256="")))
    await bed.heard.wait()
    served.data, served.tag = DATA, '"2"'
    assert await task == SHA
    assert bed.path.read_bytes() == DATA


async def test_another_file_is_never_kept(bed: Bed) -> None:
    bed.server.add("m", DATA[:-1] + bytes([DATA[-1] ^ 1]))
    with pytest.raises(DownloadDiffers, match="its SHA-256 is"):
        await bed.bring()
    assert list(bed.path.parent.iterdir()) == []


async def test_an_address_at_the_storage_that_ends_is_asked_for_anew(bed: Bed) -> None:
    async with serving_files("127.0.0.2") as storage:
        for name in ("a", "b"):
            storage.add(name, DATA)
        served = bed.server.add("m", b"")
        served.answers = [(302, {"Location": storage.url("a")})] * 5
        served.answers += [(302, {"Location": storage.url("b")})] * 20
        task = asyncio.create_task(bed.bring())
        await bed.heard.wait()
        storage.files["a"].login = "nobody has it"
        assert await task == SHA
        assert bed.path.read_bytes() == DATA


async def test_a_full_disk_gets_back_what_came(bed: Bed, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        bed.path = disk / ".m.partial"
        bed.server.add("m", DATA)
        fill(disk, leave=SIZE)
        with pytest.raises(DiskFull):
            await bed.bring()
        assert [path.name for path in disk.iterdir()] == ["ballast"]
