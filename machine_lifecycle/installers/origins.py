"""Where repositories and models may come from: mirrors, allowed hosts, full commits only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

import attrs

from machine_lifecycle.config.values import parse_mirrors
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.installers.git_errors import CommitWanted, HostNotAllowed
from machine_lifecycle.installers.repository import FULL_SHA, Repository, git_environment
from machine_lifecycle.model.settings import Settings

__all__ = ["Origins"]

_REFUSED = "https://not-in-machine-allowed-hosts.invalid/"
"""Where git is sent for a host that is not allowed, by a submodule say (``.invalid``: RFC 2606)."""


@attrs.frozen(kw_only=True)
class Origins:
    """What the settings say of it.

    Attributes:
        mirrors: Beginnings of addresses, and what stands there instead.
        hosts: Those that are allowed, with a port perhaps; empty: all.
        commits_only: Whether a repository must be named by its full commit.
        global_config: Whether git reads the user's and the system's settings.
    """

    mirrors: tuple[tuple[str, str], ...] = ()
    hosts: tuple[str, ...] = ()
    commits_only: bool = False
    global_config: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Origins:
        """As the settings say."""
        hosts = (host.strip().lower() for host in settings.allowed_hosts.split(","))
        return cls(
            mirrors=tuple(parse_mirrors(settings.mirrors).items()),
            hosts=tuple(filter(None, hosts)),
            commits_only=settings.commits_only,
            global_config=settings.git_global_config,
        )

    def address(self, url: str) -> str:
        """Where *url* is asked for: at the mirror whose beginning fits best, without a login."""
        parts = urlsplit(url)
        plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        fitting = [one for one in self.mirrors if plain.startswith(one[0])]
        if not fitting:
            return url
        start, instead = max(fitting, key=lambda one: len(one[0]))
        return instead + plain.removeprefix(start)

    def allows(self, url: str) -> bool:
        """Whether something may come from there. Mirrors and folders of this machine always may."""
        there = self.address(url)
        host, netloc = _host(there)
        return not self.hosts or there != url or not host or bool({host, netloc} & {*self.hosts})

    def git_config(self) -> Iterator[tuple[str, str]]:
        """The same for git itself, which follows addresses that only it reads."""
        for start, instead in self.mirrors:
            yield f"url.{instead}.insteadOf", start
        if self.hosts:
            yield f"url.{_REFUSED}.insteadOf", "https://"
            for host in self.hosts:  # of several prefixes that match, git takes the longest
                yield f"url.https://{host}/.insteadOf", f"https://{host}/"
            for protocol in ("ssh", "git", "http"):  # for what we name ourselves, not submodules
                yield f"protocol.{protocol}.allow", "user"

    def environment(self, environ: Mapping[str, str], repository: Repository) -> dict[str, str]:
        """The environment git gets for a repository."""
        return git_environment(
            environ, repository, global_config=self.global_config, config=self.git_config()
        )

    def refused(self, repositories: Iterable[Repository]) -> Iterator[LifecycleError]:
        """What is wrong with where these come from."""
        for one in repositories:
            if not self.allows(one.url):
                yield HostNotAllowed(url=one.plain_url, host=_host(one.url)[0], hosts=self.hosts)
            if self.commits_only and not FULL_SHA.fullmatch(one.commit):
                yield CommitWanted(url=one.plain_url, ref=one.commit or one.branch)

    def refused_addresses(self, urls: Iterable[str]) -> Iterator[LifecycleError]:
        """What is wrong with where these files come from."""
        for url in urls:
            if not self.allows(url):
                plain = Repository(url=url).plain_url.partition("?")[0]
                yield HostNotAllowed(url=plain, host=_host(url)[0], hosts=self.hosts)


def _host(url: str) -> tuple[str, str]:
    """The host that an address is of, without and with its port; empty for a folder."""
    if "://" in url:
        parts = urlsplit(url)
        return parts.hostname or "", parts.netloc.rpartition("@")[2].lower()
    login, at, rest = url.partition("@")  # git@host:owner/repository
    host = rest.partition(":")[0].lower() if at and "/" not in login else ""
    return host, host
