"""Logs of real processes that go on writing while their files are put aside."""

from __future__ import annotations

import asyncio
import gzip
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from machine_lifecycle.supervisor.keeping import LogKeeper, Seen, look_at
from machine_lifecycle.supervisor.logs import Follower, follow, stored, tail
from machine_lifecycle.supervisor.marks import Marks, note, read_marks, write_marks
from machine_lifecycle.supervisor.rotation import LogRules, archives, data_start, put_aside, shorten
from tests.support.patience import PATIENCE

MANY = 200_000
_WRITER = """
import sys
for number in range(int(sys.argv[1])):
    sys.stdout.write(f"{number} " + "x" * (number % 90) + "\\n")
"""


async def _until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - files offer no event
            await asyncio.sleep(0.005)  # sleep: files offer no event


async def _writer(log: Path, lines: int) -> asyncio.subprocess.Process:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", _WRITER, str(lines), stdout=handle
        )
    finally:
        os.close(handle)


async def _closed(keeper: LogKeeper) -> None:
    keeper.close()
    await asyncio.sleep(0)  # its tasks end


def _numbers(log: Path) -> list[int]:
    content = b""
    for part in archives(log):
        content += gzip.decompress(part.read_bytes()) if part.suffix == ".gz" else part.read_bytes()
    with log.open("rb") as file:
        file.seek(data_start(file.fileno()))
        content += file.read()
    return [int(line.split(b" ")[0]) for line in content.splitlines()]


def _on_disk(log: Path) -> int:
    return sum(part.stat().st_blocks * 512 for part in (log, *archives(log)))


@pytest.mark.parametrize("compress", [False, True])
async def test_no_line_is_lost_while_a_process_writes(tmp_path: Path, *, compress: bool) -> None:
    log = tmp_path / "p.log"
    rules = LogRules(max_bytes=100_000, archives=10_000, compress=compress)
    child = await _writer(log, MANY)
    while child.returncode is None:
        await asyncio.to_thread(shorten, log, rules)
        await asyncio.sleep(0)
    shorten(log, rules)
    assert len(archives(log)) > 50
    assert _numbers(log) == list(range(MANY))
    assert tail(log, 3) == tuple(f"{n} " + "x" * (n % 90) for n in range(MANY - 3, MANY))


async def test_disk_use_is_bounded_and_the_newest_lines_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "p.log"
    alarms: list[str] = []
    keeper = LogKeeper(LogRules(max_bytes=200_000, archives=2), alarms.append)
    keeper.begin(log)
    child = await _writer(log, MANY)
    most = 0
    while child.returncode is None:
        most = max(most, sum(part.stat().st_size for part in archives(log)))
        await asyncio.sleep(0.01)  # sleep: samples
    await _until(lambda: keeper.idle)
    assert len(archives(log)) == 2
    assert _on_disk(log) < 700_000
    await _closed(keeper)
    numbers = _numbers(log)
    assert numbers == list(range(numbers[0], MANY))
    assert most <= 600_000
    assert all(part.stat().st_size <= 200_000 for part in archives(log))
    assert not alarms


async def test_a_file_system_that_does_not_answer_holds_up_the_look_alone(tmp_path: Path) -> None:
    log = tmp_path / "p.log"
    answers, looks = threading.Event(), []

    def hang(logs: Sequence[Path]) -> Sequence[Seen]:
        looks.append(threading.current_thread())
        answers.wait(PATIENCE)
        return look_at(logs)

    keeper = LogKeeper(LogRules(max_bytes=1000, archives=1), lambda _words: None, looks=hang)
    keeper.begin(log)
    log.write_bytes(b"x" * 2000)
    await _until(lambda: bool(looks))  # the loop goes on, or this could not end
    keeper.begin(tmp_path / "another.log")
    assert [thread.daemon for thread in looks] == [True], "the program's end would wait for it"
    assert not archives(log)
    answers.set()
    await _until(lambda: bool(archives(log)))
    await _closed(keeper)


def test_what_exceeds_all_archives_is_never_copied(tmp_path: Path) -> None:
    log = tmp_path / "p.log"
    log.write_bytes(b"".join(b"%06d\n" % n for n in range(100_000)))
    assert shorten(log, LogRules(max_bytes=70_000, archives=1))
    assert len(archives(log)) == 1
    assert _numbers(log)[-1] == 99_999
    assert _numbers(log)[0] >= 80_000


async def test_a_quiet_log_is_looked_at_when_it_is_written_again(tmp_path: Path) -> None:
    """Nothing looks at it meanwhile: the kernel tells of the first write."""
    log = tmp_path / "p.log"
    log.touch()
    keeper = LogKeeper(LogRules(max_bytes=1000, archives=1), lambda _: None)
    keeper.watch(log)
    await _until(lambda: keeper.idle)  # there is no timer then
    with log.open("ab") as file:
        file.write(b"line\n" * 1000)
    await _until(lambda: archives(log))
    assert len(read_marks(archives(log)[0]).times) >= 2
    await _closed(keeper)


def test_a_run_ends_and_its_long_log_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "p.log"
    rules = LogRules(max_bytes=10, archives=1)
    put_aside(log, rules)
    for word in ("one", "two", "three"):
        log.write_text(f"{word} is longer than ten\n")
        note(log, 0, 5.0)
        put_aside(log, rules)
        assert not log.exists()
        assert archives(log)[-1].read_text().startswith(word)
        assert read_marks(archives(log)[-1]).times == (5.0,)
    assert len(archives(log)) == 1
    log.write_text("short\n")
    put_aside(log, rules)
    assert log.read_text() == "short\n"


def test_age_puts_aside_and_removes(tmp_path: Path) -> None:
    log = tmp_path / "p.log"
    rules = LogRules(max_bytes=1 << 20, archives=5, max_age=3600)
    log.write_text("old\n")
    note(log, 0, time.time() - 4000)
    shorten(log, rules)
    (old,) = archives(log)
    assert old.read_text() == "old\n"
    os.utime(old, (0, 0))
    with log.open("a") as file:
        file.write("new\n")
    write_marks(log, Marks((4,), (time.time() - 4000,)))
    shorten(log, rules)
    assert [part.read_text() for part in archives(log)] == ["new\n"]


def test_a_follower_goes_on_behind_what_was_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "p.log"
    log.write_text("a\n")
    follower = Follower(log, 0)
    assert follower.read() == [b"a"]
    with log.open("a") as file:
        file.write("b" * 9000 + "\n")
        shorten(log, LogRules(max_bytes=10, archives=1))
        file.write("c\n")
    assert follower.read() == [b"c"]
    with log.open("a") as file:
        file.write("d\n")
    put_aside(log, LogRules(max_bytes=1, archives=1))
    log.write_text("e\n")
    assert follower.read() == [b"d"]
    assert follower.read() == [b"e"]


def test_lines_are_told_in_order_of_time(tmp_path: Path) -> None:
    one, two = tmp_path / "one.log", tmp_path / "two.log"
    one.write_text("".join(f"{n}\n" for n in range(10)))
    for offset, at in ((0, 100.0), (10, 105.0), (20, 1000.0)):
        note(one, offset, at)
    two.write_text('{"time": "1970-01-01T00:01:42.500Z", "m": 1}\nno time\n')
    note(two, 0, 50.0)
    os.utime(two, (104.5, 104.5))
    os.utime(one, (1000.0, 1000.0))
    both = {"one": one, "two": two}
    names = [line.name for line in stored(both, since=101)]
    assert names == ["one", "one", "two", "two", *["one"] * 7]
    assert [line.data for line in stored(both, lines=2)][-2:] == [b"8", b"9"]
    assert [line.data for line in stored({"one": one}, since=500)] == [b"8", b"9"]
    assert not list(stored({"one": one}, since=2000))


async def test_what_is_stored_is_told_once_and_what_follows_too(tmp_path: Path) -> None:
    log = tmp_path / "p.log"
    log.write_text("a\nb\nhal")
    found = follow({"p": log}, lines=5)
    assert [(await anext(found)).data for _ in range(2)] == [b"a", b"b"]
    with log.open("a") as file:
        file.write("f\nc\n")
    async with asyncio.timeout(PATIENCE):
        assert [(await anext(found)).data for _ in range(2)] == [b"half", b"c"]
    await found.aclose()


async def test_a_disk_that_takes_no_more_is_told_and_is_no_end(tmp_path: Path) -> None:
    """/dev/full stands for the archive: it says that the disk is full at each write."""
    log = tmp_path / "p.log"
    (tmp_path / ".p.log.part").symlink_to("/dev/full")
    log.write_text("line\n" * 100)
    alarms: list[str] = []
    keeper = LogKeeper(LogRules(max_bytes=100, archives=1), alarms.append)
    keeper.watch(log)
    with log.open("a") as file:
        file.write("more\n")
    await _until(lambda: alarms)
    assert "No space left on device" in alarms[0]
    assert log.read_text().endswith("more\n")
    (tmp_path / ".p.log.part").unlink(missing_ok=True)
    with log.open("a") as file:
        file.write("more\n")
    await _until(lambda: not alarms[-1])
    assert archives(log)
    await _closed(keeper)
