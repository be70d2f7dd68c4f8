"""Commits that are fetched alone and kept; hosts that refuse, that ask for time, and dead ones."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.installers.command import CommandRunner, Journal, Redactor
from machine_lifecycle.installers.commits import Commits
from machine_lifecycle.installers.errors import CommandFailed, HostDown
from machine_lifecycle.installers.execute import Executor
from machine_lifecycle.installers.git import bring
from machine_lifecycle.installers.git_causes import cause_in, retry_after_in
from machine_lifecycle.installers.git_errors import GitCause, GitCloneFailed
from machine_lifecycle.installers.hosts import Hosts, host_of, reach_one
from machine_lifecycle.installers.package_errors import PackagesFailed
from machine_lifecycle.installers.repository import Repository, git_environment
from machine_lifecycle.installers.sources import Sources
from machine_lifecycle.model.installing import InstallContext, Step, StepContext
from machine_lifecycle.model.paths import Paths
from machine_lifecycle.model.plan import InstallPlan
from tests.support.git_server import Fault, Origin, git_server
from tests.support.patience import PATIENCE
from tests.support.progress import KeptProgress

LARGE = "x" * 50_000


@attrs.frozen
class Desk:
    """Brings repositories, and keeps what was said."""

    root: Path
    lines: list[str] = attrs.field(factory=list)
    hosts: Hosts = attrs.field(factory=lambda: Hosts(wait=0.001))

    @property
    def commits(self) -> Commits:
        return Commits(self.root / "commits")

    @property
    def ctx(self) -> StepContext:
        run = CommandRunner(
            log=self.root / "log",
            journal=Journal(self.root / "journal"),
            redact=Redactor(),
            report=self.lines.append,
        )
        return StepContext(report=self.lines.append, run_command=run)

    def sources(self) -> Sources:
        return Sources(ctx=self.ctx, commits=self.commits, environ={"PATH": os.defpath})

    async def bring(self, url: str, commit: str, target: str = "c", **environ: str) -> Path:
        repository, folder = Repository(url=url, commit=commit), self.root / target
        env = git_environment({"PATH": os.defpath, **environ}, repository)
        await bring(self.ctx, repository, folder, env, commits=self.commits, hosts=self.hosts)
        return folder


def git(folder: Path, *words: str) -> str:
    argv = ["git", "-C", str(folder), *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    """Two commits that are no branch's newest, with a large file of which the second has none."""
    made = Origin(tmp_path / "origins" / "pack", old=LARGE)
    made.git("config", "uploadpack.allowFilter", "true")
    made.git("rm", "--quiet", "old")
    made.commit(a="1")
    made.commit(a="2")
    return made


async def test_what_was_fetched_once_is_asked_of_nobody(desk: Desk, origin: Origin) -> None:
    wanted = origin.git("rev-parse", "HEAD~1")
    with git_server(origin.folder.parent) as address:
        url = f"http://{address}/pack/.git"
        first = await desk.bring(url, wanted)
    assert (first / "a").read_text() == "1"
    # Nobody serves it any more; a protocol that is forbidden is not needed either.
    second = await desk.bring(url, wanted, "again", GIT_ALLOW_PROTOCOL="http")
    assert (second / "a").read_text() == "1"
    assert git(second, "rev-list", "--count", "HEAD") == "1"
    assert git(second, "config", "remote.origin.url") == url
    assert git(second, "status", "--porcelain") == ""
    assert not any("alone" in line for line in desk.lines)
    shutil.rmtree(desk.commits.folder)
    assert git(second, "fsck") == ""


async def test_a_clone_is_taken_to_another_commit_that_is_kept(desk: Desk, origin: Origin) -> None:
    one, two = origin.git("rev-parse", "HEAD~1"), origin.git("rev-parse", "HEAD")
    with git_server(origin.folder.parent) as address:
        url = f"http://{address}/pack/.git"
        await desk.bring(url, two, "other")
        folder = await desk.bring(url, one)
    await desk.bring(url, two)
    assert (folder / "a").read_text() == "2"


def no_depth(_: str, body: bytes) -> Fault | None:
    """A host that can't cut off history."""
    return Fault(400) if b"deepen" in body else None


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


async def test_a_host_without_shallow_fetches_gives_the_history_without_old_files(
    desk: Desk, origin: Origin
) -> None:
    wanted = origin.git("rev-parse", "HEAD~1")
    served: list[str] = []

    def fault(path: str, body: bytes) -> Fault | None:
        served.append(path)
        return no_depth(path, body)

    with git_server(origin.folder.parent, fault=fault) as address:
        folder = await desk.bring(f"http://{address}/pack/.git", wanted)
    assert (folder / "a").read_text() == "1"
    assert git(folder, "rev-list", "--count", "HEAD") == "1"
    said = [line for line in desk.lines if "alone" in line]
    assert [line.partition("alone")[2] for line in said] == [
        ": its history is fetched, without old files"
    ]
    assert [path.name for path in desk.commits.folder.iterdir() if path.suffix != ".lock"] == [
        desk.commits.place(Repository(url=f"http://{address}/pack/.git")).name
    ]


async def test_a_host_that_hands_out_branches_alone_gives_all_of_its_history(
    desk: Desk, origin: Origin
) -> None:
    origin.git("config", "uploadpack.allowAnySHA1InWant", "false")
    wanted = origin.git("rev-parse", "HEAD~1")
    with git_server(origin.folder.parent, old=True) as address:
        folder = await desk.bring(f"http://{address}/pack/.git", wanted)
    assert (folder / "a").read_text() == "1"
    said = [line.partition("alone")[2] for line in desk.lines if "hand out" in line]
    assert said == [
        ": its history is fetched, without old files",
        ", nor files alone: all of its history is fetched",
    ]
    kept = desk.commits.place(Repository(url=f"http://{address}/pack/.git"))
    assert size(kept) < len(LARGE), "the history was thrown away again"


async def test_two_find_a_commit_by_the_beginning_of_its_hash_at_once(
    desk: Desk, origin: Origin
) -> None:
    wanted = origin.git("rev-parse", "HEAD~1")
    with git_server(origin.folder.parent) as address:
        repository = Repository(url=f"http://{address}/pack/.git", commit=wanted[:10])
        machines = [desk.sources() for _ in range(4)]
        found = await asyncio.gather(*(one.resolve(repository) for one in machines))
    assert {*found} == {wanted}
    assert not list(desk.commits.folder.glob("*"))


async def test_what_a_branch_is_comes_with_it_in_one_conversation(
    desk: Desk, origin: Origin
) -> None:
    origin.git("tag", "-a", "-m", "t", "one", "HEAD~1")
    origin.git("tag", "master", "HEAD~1")
    newest = origin.git("rev-parse", "refs/heads/master")
    asked: list[str] = []

    def heard(path: str, _body: bytes) -> None:
        asked.append(path.partition("?")[0])

    with git_server(origin.folder.parent, fault=heard) as address:
        repository = Repository(url=f"http://{address}/pack/.git", branch="master")
        assert await desk.sources().newest(repository) == newest, "a branch comes before a tag"
        assert asked.count("/pack/.git/info/refs") == 1
        snapshot = await desk.sources().fetch(repository, newest)
        assert asked.count("/pack/.git/info/refs") == 1
        assert snapshot.commit == newest
        # Where something is here already, it is only looked up.
        later = origin.commit(a="3")
        assert await desk.sources().newest(repository) == later
        assert await desk.sources().newest(attrs.evolve(repository, branch="")) == later
        shutil.rmtree(desk.commits.folder)
        tag = attrs.evolve(repository, branch="one")
        assert await desk.sources().newest(tag) == origin.git("rev-parse", "one^{commit}")
        with pytest.raises(GitCloneFailed):
            await desk.sources().newest(attrs.evolve(repository, branch="none"))
    shutil.rmtree(desk.commits.folder)
    with git_server(origin.folder.parent, fault=no_depth) as address:
        repository = Repository(url=f"http://{address}/pack/.git")
        assert await desk.sources().newest(repository) == later


async def test_a_commit_that_is_nowhere_is_told_as_such(desk: Desk, origin: Origin) -> None:
    with git_server(origin.folder.parent) as address, pytest.raises(GitCloneFailed) as raised:
        await desk.bring(f"http://{address}/pack/.git", "1" * 40)
    assert raised.value.cause is GitCause.REF
    assert not raised.value.recoverable
    assert not (desk.root / "c").exists()


async def test_what_a_killed_git_left_is_no_hindrance(desk: Desk, origin: Origin) -> None:
    wanted = origin.git("rev-parse", "HEAD")
    place = desk.commits.place(Repository(url=origin.url))
    place.mkdir(parents=True)
    (place / "HEAD").write_text("ref: refs/heads/main\n")
    (place / "shallow.lock").write_text("")
    (place / "config.lock").write_text("")
    assert (await desk.bring(origin.url, wanted) / "a").read_text() == "2"


@pytest.mark.parametrize("what", ["HEAD", "HEAD:a"])
async def test_a_commit_that_is_kept_damaged_is_fetched_again(
    desk: Desk, origin: Origin, what: str
) -> None:
    wanted = origin.git("rev-parse", "HEAD")
    await desk.bring(origin.url, wanted)
    place = desk.commits.place(Repository(url=origin.url))
    name = origin.git("rev-parse", what)
    path = place / "objects" / name[:2] / name[2:]
    path.chmod(0o600)
    path.write_bytes(b"")
    assert (await desk.bring(origin.url, wanted, "again") / "a").read_text() == "2"


FETCH = """
import asyncio, sys
from pathlib import Path
from tests.integration.test_installers_commits import Desk
async def main():
    desk = Desk(Path(sys.argv[1]))
    await desk.bring(sys.argv[2], sys.argv[3], sys.argv[4])
asyncio.run(main())
"""


def test_two_machines_fetch_one_commit_at_once_and_it_is_asked_for_once(
    desk: Desk, origin: Origin
) -> None:
    wanted = origin.git("rev-parse", "HEAD")
    asked: list[bytes] = []

    def fault(path: str, body: bytes) -> Fault | None:
        if b"deepen" in body:
            asked.append(body)
        return None

    with git_server(origin.folder.parent, fault=fault) as address:
        url = f"http://{address}/pack/.git"
        many = [
            subprocess.Popen([sys.executable, "-c", FETCH, str(desk.root), url, wanted, f"c{n}"])
            for n in range(4)
        ]
        assert [one.wait(PATIENCE) for one in many] == [0, 0, 0, 0]
    assert len(asked) == 1
    assert {(desk.root / f"c{n}" / "a").read_text() for n in range(4)} == {"2"}


@pytest.fixture
def dead() -> Iterator[str]:
    """An address where nobody answers: the port is taken, and not listened to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def swallowing() -> Iterator[str]:
    """An address that swallows what is sent to it: as many wait as may, and nobody lets them in."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["dead", "swallowing"])
async def test_a_dead_host_is_found_out_once(
    desk: Desk, kind: str, request: pytest.FixtureRequest
) -> None:
    address: str = request.getfixturevalue(kind)
    desk.hosts.connect = 0.2

    async def one(number: int) -> LifecycleError:
        with pytest.raises(LifecycleError) as raised:
            await desk.bring(f"{address}/{number}.git", "1" * 40, f"c{number}")
        return raised.value

    errors = await asyncio.gather(*(one(number) for number in range(40)))
    assert {type(error) for error in errors} == {HostDown}
    assert {error.summary for error in errors} == {"127.0.0.1 does not answer"}
    assert not (desk.root / "log").exists(), "no git is run, which would try for minutes"


async def test_an_address_of_a_kind_that_is_not_known_here_is_passed_over() -> None:
    unknown = max(one.value for one in socket.AddressFamily) + 100
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        good = (socket.AF_INET, server.getsockname())
        await reach_one([(unknown, ("::1", 80, 0, 0)), good], PATIENCE)
    with pytest.raises(OSError, match="family"):
        await reach_one([good, (unknown, ("::1", 80, 0, 0))], PATIENCE)


async def test_behind_a_proxy_the_host_itself_need_not_be_reached(
    desk: Desk, origin: Origin, dead: str
) -> None:
    with git_server(origin.folder.parent) as address:
        environ = {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.http://{address}/.insteadOf",
            "GIT_CONFIG_VALUE_0": f"{dead}/",
        }
        folder = await desk.bring(f"{dead}/pack/.git", origin.git("rev-parse", "HEAD"), **environ)
    assert (folder / "a").read_text() == "2"


async def test_a_host_that_comes_back_is_asked_again(desk: Desk, origin: Origin) -> None:
    wanted, silent = origin.git("rev-parse", "HEAD"), [4]

    def fault(_path: str, _body: bytes) -> Fault | None:
        silent[0] -= 1
        return Fault(503) if silent[0] >= 0 else None

    with git_server(origin.folder.parent, fault=fault) as address:
        for number in range(4):
            with pytest.raises(GitCloneFailed) as raised:
                await desk.bring(f"http://{address}/{number}/.git", wanted, f"c{number}")
            assert raised.value.cause is GitCause.NETWORK
            assert raised.value.recoverable
        folder = await desk.bring(f"http://{address}/pack/.git", wanted)
        for number in range(3):  # and is trusted as before
            with pytest.raises(GitCloneFailed) as raised:
                await desk.bring(f"http://{address}/{number}/.git", wanted, f"c{number}")
            assert raised.value.cause is GitCause.NOT_FOUND
    assert (folder / "a").read_text() == "2"


async def test_a_host_that_is_back_is_asked_by_all_at_once(tmp_path: Path) -> None:
    hosts, together = Hosts(wait=0.001), asyncio.Barrier(3)
    silence = CommandFailed(argv=("git",), status=128, log=tmp_path / "log")

    async def fails() -> None:
        raise silence

    async def answers() -> None:
        await asyncio.sleep(0)

    async def with_others() -> None:
        await together.wait()

    for number in range(3):
        with pytest.raises(CommandFailed):
            await hosts.ask(f"ssh://host.invalid/{number}", fails, lambda _: True)
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        for question in (answers, with_others, with_others, with_others):
            group.create_task(hosts.ask("ssh://host.invalid/a", question, lambda _: True))


@attrs.frozen
class _One:
    """An installer of one clone."""

    desk: Desk
    url: str
    commit: str

    def plan(self, _: InstallContext) -> tuple[Step, ...]:
        async def run(_: StepContext) -> None:
            await self.desk.bring(self.url, self.commit)

        return (Step(id="clone", summary="clone", fingerprint="1", retries=2, run=run),)


async def test_a_host_that_says_when_to_come_back_is_waited_for(desk: Desk, origin: Origin) -> None:
    wanted, refusals = origin.git("rev-parse", "HEAD"), [Fault(429, {"Retry-After": "1"})]

    def fault(_path: str, _body: bytes) -> Fault | None:
        return refusals.pop() if refusals else None

    with git_server(origin.folder.parent, fault=fault) as address:
        made = _One(desk, f"http://{address}/pack/.git", wanted)
        paths = Paths(workspace=desk.root / "ws", runtime=desk.root / "rt")
        run = Executor(paths, resolve=lambda _: made, retry_wait=0.001)
        progress = KeptProgress()
        await run.install(InstallPlan(service="s", installer="x"), "base", progress)
    assert any("tried again in 1.0 s (as it was asked)" in line for line in progress.lines)
    assert (desk.root / "c" / "a").read_text() == "2"


@pytest.mark.parametrize(
    ("words", "passes"),
    [
        ("Failed to fetch: https://example.org/simple/a error sending request for url", True),
        ("HTTP status server error (503 Service Unavailable) for url", True),
        ("HTTP status client error (404 Not Found) for url", False),
        ("No solution found when resolving dependencies", False),
    ],
)
def test_only_a_network_is_asked_again_for_packages(words: str, passes: bool) -> None:  # noqa: FBT001 - a case
    error = PackagesFailed(what="a", python=Path("p"), log=Path("l"), context=(words,))
    assert error.recoverable is passes


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("fatal: unable to access: Could not resolve host: example.org", GitCause.NETWORK),
        ("error: RPC failed; curl 92 HTTP/2 stream 0 was not closed cleanly", GitCause.NETWORK),
        ("fatal: The requested URL returned error: 429", GitCause.NETWORK),
        ("OpenSSL SSL_read: SSL_ERROR_SYSCALL, errno 104", GitCause.NETWORK),
        ("SSL certificate problem: self-signed certificate", GitCause.TLS),
        ("error: RPC failed; HTTP 400 curl 22 returned error: 400", GitCause.OTHER),
        ("fatal: remote error: upload-pack: not our ref 1111", GitCause.REF),
        ("fatal: repository 'https://example.org/x' not found", GitCause.NOT_FOUND),
        ("fatal: something else", GitCause.OTHER),
    ],
)
def test_only_what_may_pass_by_itself_is_tried_again(words: str, cause: GitCause) -> None:
    assert cause_in([words]) is cause
    error = GitCloneFailed(url="u", target=Path("t"), cause=cause)
    assert error.recoverable is (cause is GitCause.NETWORK)


def test_what_a_server_says_of_waiting() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after_in("<= Recv header: Retry-After: 7\n") == 7
    assert retry_after_in("<= Recv header: retry-after: Thu, 01 Jan 2026 00:01:00 GMT", now) == 60
    assert retry_after_in("<= Recv header: retry-after: soon") == 0
    assert retry_after_in("<= Recv header: server: x") == 0


def test_which_host_an_address_is_of() -> None:
    assert host_of("https://example.org:8443/a/b.git") == "example.org"
    assert host_of("git@example.org:a/b.git") == "example.org"
    assert host_of("/srv/git/a") == host_of("file:///srv/git/a") == ""


def test_how_slow_is_too_slow_may_be_said_and_hooks_stay_off() -> None:
    given = {
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "http.lowSpeedLimit",
        "GIT_CONFIG_VALUE_0": "100000",
        "GIT_CONFIG_KEY_1": "core.hooksPath",
        "GIT_CONFIG_VALUE_1": "/srv/hooks",
    }
    env = git_environment(given, Repository(url="https://example.org/a"))
    argv = ["git", "config", "--get"]
    said = {
        key: subprocess.run(
            [*argv, key],
            env={"PATH": os.defpath, **env},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for key in ("http.lowSpeedLimit", "http.lowSpeedTime", "core.hooksPath")
    }
    assert said == {
        "http.lowSpeedLimit": "100000",
        "http.lowSpeedTime": "30",
        "core.hooksPath": "/dev/null",
    }
