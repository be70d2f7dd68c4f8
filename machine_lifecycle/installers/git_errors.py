"""What can go wrong while a git repository is brought to disk."""

from __future__ import annotations

import shlex
from enum import Enum
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Remedy
from machine_lifecycle.installers.errors import ProgramMissing

__all__ = [
    "CommitWanted",
    "FilesChanged",
    "FolderInTheWay",
    "GitCause",
    "GitCloneFailed",
    "GitMissing",
    "GitUrlRefused",
    "HostNotAllowed",
    "PackBlocked",
]


@attrs.define(kw_only=True, slots=False, eq=False)
class GitMissing(ProgramMissing):
    """The program git is not there."""

    code: ClassVar[str] = "git-missing"

    program: str = "git"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Install it."""
        return (Remedy("Install git", "apt-get install -y git"),)


class GitCause(Enum):
    """What stood in git's way, as far as its words tell; it chooses the remedy only."""

    AUTH = "auth"
    LOGIN = "login-refused"
    REF = "no-such-ref"
    NOT_FOUND = "not-found"
    NETWORK = "network"
    TLS = "tls"
    OTHER = "other"


@attrs.define(kw_only=True, slots=False, eq=False)
class GitCloneFailed(LifecycleError):
    """A repository could not be brought.

    Attributes:
        url: Where from, without credentials.
        target: Where to.
        wanted: Branch or commit that was asked for, or empty.
        cause: Read from git's words.
    """

    code: ClassVar[str] = "git-clone-failed"

    url: str
    target: Path
    wanted: str = ""
    cause: GitCause = GitCause.OTHER

    # A fact of the cause, so it shadows the class attribute.
    @property
    def recoverable(self) -> bool:  # type: ignore[override]  # see above
        """Whether the cause may pass by itself; a password that was refused is so again."""
        return self.cause is GitCause.NETWORK

    @property
    def summary(self) -> str:
        """What could not be brought, and why."""
        at = f" at {self.wanted}" if self.wanted else ""
        return f"could not bring {self.url}{at} to {self.target} ({self.cause.value})"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """According to the cause."""
        url = shlex.quote(self.url)
        look = f"git ls-remote {url}"
        texts = {
            GitCause.AUTH: f"Give access to {self.url}: a token in the URL, or an ssh key",
            GitCause.LOGIN: f"Put a valid token into the URL of {self.url}: that one was refused",
            GitCause.REF: f"Choose one of the branches and tags of {self.url}",
            GitCause.NOT_FOUND: f"Check that {self.url} is there and may be read",
            GitCause.NETWORK: f"Check that the host of {self.url} can be reached",
            GitCause.TLS: f"See what is wrong with the certificate of {self.url}",
            GitCause.OTHER: f"Look what git says of {self.url}",
        }
        return (Remedy(texts[self.cause], look), *self._trust())

    def _trust(self) -> tuple[Remedy, ...]:
        """How to go on with a certificate of one's own."""
        host = urlsplit(self.url).netloc.rpartition("@")[2]
        if self.cause is not GitCause.TLS or not host:
            return ()
        at = shlex.quote(host if ":" in host else f"{host}:443")
        keep = f"openssl s_client -connect {at} </dev/null 2>/dev/null | openssl x509"
        return (
            Remedy(
                "If an authority of yours signed it, name its certificate",
                "export GIT_SSL_CAINFO=/path/to/ca.pem",
            ),
            Remedy(
                "If you know the server, and it signed it itself, trust what it shows now",
                f'{keep} >"$HOME/git-ca.pem"; export GIT_SSL_CAINFO="$HOME/git-ca.pem"',
            ),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class FolderInTheWay(LifecycleError):
    """A folder holds something else than what is to be put there; nothing of it was touched.

    Attributes:
        folder: The folder.
        reason: What is there instead.
        inside: Single files of it that are in the way; empty: the folder is.
    """

    code: ClassVar[str] = "folder-in-the-way"
    recoverable: ClassVar[bool] = False

    folder: Path
    reason: str
    inside: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """Which folder, and what it holds."""
        return f"{self.folder} is in the way: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Move it, or what is in it."""
        if self.inside:
            paths = [shlex.quote(str(self.folder / name)) for name in self.inside]
            moves = " && ".join(f"mv {path} {path}.aside" for path in paths)
            return (Remedy("Move them aside", moves),)
        folder = shlex.quote(str(self.folder))
        return (Remedy("Move it aside", f"mv {folder} {folder}.aside"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class FilesChanged(LifecycleError):
    """A clone was to be taken elsewhere, and holds work of somebody's; nothing of it was touched.

    Attributes:
        folder: The clone.
        files: Files of the repository that were changed by hand.
        commits: Commits that the remote was not known to have.
        wanted: Where it was to be taken.
    """

    code: ClassVar[str] = "files-changed-by-hand"
    recoverable: ClassVar[bool] = False

    folder: Path
    files: tuple[str, ...]
    commits: tuple[str, ...] = ()
    wanted: str

    @property
    def summary(self) -> str:
        """Which clone, and what was changed."""
        what = [", ".join(self.files[:5]) + (" and more" if len(self.files) > 5 else "")]  # noqa: PLR2004
        if self.commits:
            many = "s" if len(self.commits) > 1 else ""
            what.append(f"{len(self.commits)} commit{many} of its own")
        changed = " and ".join(filter(None, what))
        return f"{self.folder} can't be taken to {self.wanted}: changed by hand: {changed}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look, then keep it aside."""
        git = f"git -C {shlex.quote(str(self.folder))}"
        found = []
        if self.files:
            found.append(Remedy("See what was changed", f"{git} diff"))
            found.append(Remedy("Put the changes aside, to be had back later", f"{git} stash"))
        if self.commits:
            keep = f"{git} tag kept-{self.commits[0][:8]} {self.commits[0]}"
            found.append(Remedy("Keep the commits under a name", keep))
        return tuple(found)


@attrs.define(kw_only=True, slots=False, eq=False)
class GitUrlRefused(ConfigurationError):
    """A repository's address, branch or commit is no such thing.

    Attributes:
        text: As written.
        problem: What is wrong with it.
    """

    code: ClassVar[str] = "git-url-refused"

    text: str
    problem: str

    @property
    def summary(self) -> str:
        """What is refused, and why."""
        return f"{self.text!r} is refused: {self.problem}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """How one looks; which are named."""
        return (
            Remedy("Name the repository as its host does: https://HOST/OWNER/REPOSITORY"),
            Remedy("See what the settings name", "machine-lifecycle settings --set"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class HostNotAllowed(ConfigurationError):
    """Something is to come from a host that the settings do not allow.

    Attributes:
        url: Its address, without credentials.
        host: The host.
        hosts: Those that are allowed.
    """

    code: ClassVar[str] = "host-not-allowed"

    url: str
    host: str
    hosts: tuple[str, ...]

    @property
    def summary(self) -> str:
        """What, and which host."""
        return f"{self.url} is of {self.host}, which is not allowed"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Allow it, or take it from elsewhere."""
        hosts = ",".join((*self.hosts, self.host))
        return (
            Remedy("Allow that host", f"export MACHINE_ALLOWED_HOSTS={hosts}"),
            Remedy("Or name a mirror of it that is allowed, in MACHINE_MIRRORS"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class CommitWanted(ConfigurationError):
    """A repository is not named by its full commit, and the settings want that.

    Attributes:
        url: Its address, without credentials.
        ref: What is named instead; empty: nothing.
    """

    code: ClassVar[str] = "commit-wanted"

    url: str
    ref: str = ""

    @property
    def summary(self) -> str:
        """Which repository, and what it is named by."""
        return f"{self.url} is named by {self.ref or 'no commit'}, not by a full commit"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Lock it."""
        return (
            Remedy("Lock all of them, and keep the lock beside the list", "machine-lifecycle lock"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class PackBlocked(ConfigurationError):
    """A pack is on a list of those that are never installed.

    Attributes:
        pack: Its name.
        reason: What that list says of it.
    """

    code: ClassVar[str] = "pack-blocked"

    pack: str
    reason: str = ""

    @property
    def summary(self) -> str:
        """Which, and why."""
        return f"{self.pack} is blocked{': ' if self.reason else ''}{self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Take it out."""
        return (Remedy(f"Take {self.pack} out of the list of packs, and out of custom_nodes"),)
