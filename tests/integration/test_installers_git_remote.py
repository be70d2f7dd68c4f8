"""Remote repositories: passwords, certificates and ssh, with git's own server and the real git."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import attrs
import pytest

from machine_lifecycle.installers.command import CommandRunner, Journal, Redactor
from machine_lifecycle.installers.git import bring
from machine_lifecycle.installers.git_errors import GitCause, GitCloneFailed, GitUrlRefused
from machine_lifecycle.installers.repository import Repository, git_environment
from machine_lifecycle.model.installing import StepContext
from tests.support.git_server import Origin, git_server, self_signed
from tests.support.patience import PATIENCE

LOGIN = "robot:p%40ss-w0rd"  # as a URL writes it
PLAIN = "robot:p@ss-w0rd"


@attrs.define
class Desk:
    """Brings repositories, and keeps all that was said meanwhile."""

    folder: Path
    environ: dict[str, str] = attrs.field(factory=dict)
    lines: list[str] = attrs.field(factory=list)

    async def bring(self, url: str, *, commit: str = "", **more: Any) -> str:
        run = CommandRunner(
            log=self.folder / "log",
            journal=Journal(self.folder / "journal"),
            redact=Redactor(),
            report=self.lines.append,
        )
        repository = Repository(url=url, commit=commit)
        env = git_environment({"PATH": os.defpath, **self.environ}, repository, **more)
        ctx = StepContext(report=self.lines.append, run_command=run)
        return await bring(ctx, repository, self.folder / "c", env)

    async def fails(self, url: str, **more: Any) -> GitCloneFailed:
        with pytest.raises(GitCloneFailed) as caught:
            await self.bring(url, **more)
        return caught.value

    def said(self) -> str:
        """Everything: progress, log, journal, what lies in the clone."""
        files = (self.folder / "log", self.folder / "journal", self.folder / "c/.git/config")
        return "\n".join([*self.lines, *(path.read_text() for path in files if path.exists())])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "origins" / "pack", a="1")


async def test_a_password_in_the_address_opens_the_door_and_is_seen_nowhere(
    desk: Desk, origin: Origin
) -> None:
    with git_server(origin.folder.parent, login=PLAIN) as host:
        head = await desk.bring(f"http://{LOGIN}@{host}/pack")
        assert head == origin.git("rev-parse", "HEAD")
        # A change of the commit asks again, with the password of the list.
        newer = origin.commit(a="2")
        assert await desk.bring(f"http://{LOGIN}@{host}/pack", commit=newer) == newer
    said = desk.said()
    assert host in said
    for secret in ("p%40ss", "p@ss", "w0rd", "robot"):
        assert secret not in said


@pytest.mark.parametrize(
    ("login", "cause", "words"),
    [
        ("", GitCause.AUTH, "Give access"),
        ("robot:wrong-w0rd@", GitCause.LOGIN, "that one was refused"),
    ],
)
async def test_no_password_and_a_wrong_one_fail_at_once_each_with_its_remedy(
    desk: Desk, origin: Origin, login: str, cause: GitCause, words: str
) -> None:
    # A program that git would ask must not be asked: it would wait for a person.
    desk.environ = {"GIT_ASKPASS": "/bin/cat", "SSH_ASKPASS": "/bin/cat", "DISPLAY": ":0"}
    with git_server(origin.folder.parent, login=PLAIN) as host:
        async with asyncio.timeout(PATIENCE):
            error = await desk.fails(f"http://{login}{host}/pack")
    assert error.cause is cause
    assert not error.recoverable
    assert words in error.remedies[0].text
    assert "w0rd" not in str(error) + repr(error.to_wire()) + desk.said()


async def test_a_certificate_that_nobody_vouches_for_is_refused_until_it_is_named(
    desk: Desk, origin: Origin, tmp_path: Path
) -> None:
    certificate, key = self_signed(tmp_path)
    with git_server(origin.folder.parent, tls=(certificate, key)) as host:
        error = await desk.fails(f"https://{host}/pack")
        assert error.cause is GitCause.TLS
        assert not error.recoverable
        assert "export GIT_SSL_CAINFO=" in str(error.remedies[1].command)
        desk.environ = {"GIT_SSL_CAINFO": str(certificate)}
        assert await desk.bring(f"https://{host}/pack") == origin.git("rev-parse", "HEAD")


async def test_a_repository_that_the_server_lacks(desk: Desk, origin: Origin) -> None:
    with git_server(origin.folder.parent) as host:
        error = await desk.fails(f"http://{host}/another")
    assert error.cause is GitCause.NOT_FOUND


def _ssh(folder: Path, name: str = "ssh") -> tuple[Path, Path]:
    """A program that stands for ssh: keeps its arguments, then runs git's side here."""
    program, book = folder / name, folder / f"{name}.book"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {book}\nfor last; do :; done\nexec sh -c "$last"\n'
    )
    program.chmod(0o755)
    return program, book


@pytest.mark.parametrize("form", ["git@host.invalid:{}", "ssh://git@host.invalid:2222{}"])
async def test_ssh_is_told_never_to_ask(
    desk: Desk, origin: Origin, tmp_path: Path, form: str
) -> None:
    _, book = _ssh(tmp_path)
    desk.environ = {"PATH": f"{tmp_path}:{os.defpath}"}
    assert await desk.bring(form.format(origin.url)) == origin.git("rev-parse", "HEAD")
    assert "BatchMode=yes" in book.read_text()
    assert "git@host.invalid" in book.read_text()


@pytest.mark.parametrize("way", ["GIT_SSH_COMMAND", "GIT_SSH", "core.sshCommand"])
async def test_ones_own_ssh_is_used(desk: Desk, origin: Origin, tmp_path: Path, way: str) -> None:
    program, book = _ssh(tmp_path, "own-ssh")
    configured = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": way,
        "GIT_CONFIG_VALUE_0": str(program),
    }
    named = {way: str(program)} if "." not in way else configured
    desk.environ = {**named, "GIT_SSH_VARIANT": "ssh"}
    await desk.bring(f"git@host.invalid:{origin.url}")
    assert "host.invalid" in book.read_text()


async def test_a_key_that_ssh_refuses(desk: Desk, tmp_path: Path) -> None:
    program = tmp_path / "ssh"
    program.write_text(
        "#!/bin/sh\necho 'git@host.invalid: Permission denied (publickey).' >&2\nexit 255\n"
    )
    program.chmod(0o755)
    desk.environ = {"PATH": f"{tmp_path}:{os.defpath}"}
    error = await desk.fails("git@host.invalid:owner/pack.git")
    assert error.cause is GitCause.AUTH
    assert "ssh key" in error.remedies[0].text


async def test_the_users_settings_count_only_where_allowed(
    desk: Desk, origin: Origin, tmp_path: Path
) -> None:
    (tmp_path / ".gitconfig").write_text(f'[url "{origin.folder.parent}/"]\n\tinsteadOf = short:\n')
    desk.environ = {"HOME": str(tmp_path)}
    assert (await desk.fails("short:pack")).cause is not GitCause.LOGIN
    assert await desk.bring("short:pack", global_config=True) == origin.git("rev-parse", "HEAD")


@pytest.mark.parametrize("url", ["ext::sh -c id", "-uexec", "--upload-pack=id", "", "fd::3"])
async def test_what_git_would_take_for_a_program_or_an_option_is_refused(
    desk: Desk, url: str
) -> None:
    with pytest.raises(GitUrlRefused):
        await desk.bring(url)
    assert desk.lines == []


@pytest.mark.parametrize("login", ["t0ken", "me:t0ken", "t0ken:x-oauth-basic"])
def test_a_login_of_a_package_is_not_shown(login: str) -> None:
    repository = Repository(url=f"git+https://{login}@host.invalid/a@c0ffee")
    assert repository.plain_url == "git+https://host.invalid/a@c0ffee"


def test_an_ssh_password_is_not_shown() -> None:
    repository = Repository(url="ssh://git:s3cret@host.invalid/a")
    assert repository.plain_url == "ssh://git@host.invalid/a"
    assert repository.shown == "ssh://git@host.invalid/a"
