"""What a git repository is to us: where it is, which commit, and how git is spoken to."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit, urlunsplit

import attrs

from machine_lifecycle.installers.git_errors import GitUrlRefused
from machine_lifecycle.model.redaction import without_query_secrets

__all__ = [
    "FULL_SHA",
    "Repository",
    "check_repository",
    "git_environment",
    "public_address",
    "with_git_config",
]

FULL_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
"""A whole hash, of SHA-1 or SHA-256: servers hand out a single commit by no shorter one."""

_PASSED = (
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "SSH_AUTH_SOCK", "GIT_SSH", "GIT_SSH_COMMAND"),
    *("GIT_SSH_VARIANT", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_SSL_NO_VERIFY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_ALLOW_PROTOCOL", "GIT_TEMPLATE_DIR"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
)

_YIELD = frozenset({"http.lowspeedlimit", "http.lowspeedtime", "safe.directory"})
"""What somebody may know better for their own network and disks."""


_SCHEMES = frozenset({"https", "http", "ssh", "git", "git+ssh", "ssh+git", "file"})
"""That git speaks itself (git-clone(1)); others would run a program of that name."""


@attrs.frozen(kw_only=True)
class Repository:
    """What to bring.

    Attributes:
        url: ``https``, ``ssh``, ``file`` or a plain path; may hold credentials, so never shown.
        branch: Branch or tag; empty for the remote's default.
        commit: Full or abbreviated hash; empty for the branch's newest.
        recursive: Whether submodules are brought too.
        or_default: Whether the remote's default branch will do where it lacks the branch.
    """

    url: str = attrs.field(repr=False)
    branch: str = ""
    commit: str = ""
    recursive: bool = False
    or_default: bool = False

    @property
    def plain_url(self) -> str:
        """The address without a password: shown, and kept as the clone's origin."""
        parts = urlsplit(self.url)
        if not parts.scheme or "@" not in parts.netloc:
            return self.url
        login, _, host = parts.netloc.rpartition("@")
        # The name is part of where an ssh host is, and may be a token for `git+https`.
        if not parts.scheme.endswith(("http", "https")):
            host = f"{login.partition(':')[0]}@{host}"
        return urlunsplit(parts._replace(netloc=host))

    @property
    def ref(self) -> str:
        """What is wanted of it, as one word to compare."""
        return f"{self.branch}@{self.commit}"

    @property
    def shown(self) -> str:
        """What is wanted, for people."""
        at = self.commit[:12] or self.branch
        return f"{self.plain_url} at {at}" if at else self.plain_url


def public_address(url: str) -> str:
    """Where a package is from, fit to be read by others: without a login, and without a query that
    holds credentials.
    """
    plain = Repository(url=url).plain_url
    if without_query_secrets(plain) != plain:
        plain = urlunsplit(urlsplit(plain)._replace(query=""))
    return plain


def check_repository(repository: Repository) -> None:
    """Check what git would take for an option, or for a program to run.

    Raises:
        GitUrlRefused: The address, branch or commit is refused.
    """
    if "::" in repository.url.split("/", 1)[0]:  # such as `ext::`, which runs any program
        raise GitUrlRefused(text=repository.plain_url, problem="it names a helper program")
    for text in (repository.plain_url, repository.branch, repository.commit):
        if text.startswith("-"):
            raise GitUrlRefused(text=text, problem="it begins with a dash")
    if (shown := without_query_secrets(repository.plain_url)) != repository.plain_url:
        problem = "git sends nothing that follows a `?`: write https://TOKEN@HOST/… instead"
        raise GitUrlRefused(text=shown, problem=problem)
    if not repository.url.strip():
        raise GitUrlRefused(text=repository.url, problem="it is empty")
    scheme = repository.url.partition("://")[0] if "://" in repository.url else ""
    if scheme and scheme.lower() not in _SCHEMES:
        raise GitUrlRefused(text=repository.plain_url, problem=f"{scheme}:// is not known")


def with_git_config(
    environ: Mapping[str, str], config: Iterable[tuple[str, str]]
) -> dict[str, str]:
    """An environment with further settings for git, keys and values, behind those it has."""
    env = dict(environ)
    number = int(environ.get("GIT_CONFIG_COUNT") or 0)
    for key, value in config:
        env[f"GIT_CONFIG_KEY_{number}"] = key
        env[f"GIT_CONFIG_VALUE_{number}"] = value
        number += 1
    return env | ({"GIT_CONFIG_COUNT": str(number)} if number else {})


def git_environment(
    environ: Mapping[str, str],
    repository: Repository,
    *,
    global_config: bool = False,
    config: Iterable[tuple[str, str]] = (),
) -> dict[str, str]:
    """The environment git gets: no prompt, no configuration files, ours added by variables.

    Variables ``GIT_CONFIG_COUNT``, ``_KEY_n`` and ``_VALUE_n`` are passed on. A password in the
    address becomes a header that is given by variables, so that no process list shows it.

    Args:
        environ: The machine's environment.
        repository: What git is to bring.
        global_config: Whether git reads the user's and the system's settings.
        config: Further settings, keys and values.
    """
    env = {name: environ[name] for name in _PASSED if name in environ}
    given = int(environ.get("GIT_CONFIG_COUNT") or 0)
    env["GIT_CONFIG_COUNT"] = str(given)
    for number in range(given):
        for part in ("KEY", "VALUE"):
            name = f"GIT_CONFIG_{part}_{number}"
            env[name] = environ.get(name, "")
    ours = {
        "core.hooksPath": "/dev/null",
        "http.lowSpeedLimit": "1000",  # bytes per second, and
        "http.lowSpeedTime": "30",  # for how many seconds, until git gives up
        "advice.detachedHead": "false",
        "gc.auto": "0",  # there is nothing to tidy up in what is fetched once
        "maintenance.auto": "false",
        "safe.directory": "*",  # the workspace may belong to another user of the container
    }
    parts = urlsplit(repository.url)
    if repository.plain_url != repository.url and parts.scheme in {"http", "https"}:
        login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        header = "Authorization: Basic " + base64.b64encode(login.encode()).decode()
        host = parts.netloc.rpartition("@")[2]
        ours[f"http.{parts.scheme}://{host}/.extraHeader"] = header
    keys = {env[f"GIT_CONFIG_KEY_{number}"].lower() for number in range(given)}
    ours = {key: value for key, value in ours.items() if key.lower() not in _YIELD & keys}
    env = with_git_config(env, (*ours.items(), *config))
    env["GIT_TERMINAL_PROMPT"] = "0"
    env["GIT_ASKPASS"] = ""
    env["SSH_ASKPASS"] = ""
    env["LC_ALL"] = "C"  # its words choose the remedy
    if not {"GIT_SSH", "GIT_SSH_COMMAND"} & env.keys() and "core.sshcommand" not in keys:
        env["GIT_SSH_COMMAND"] = "ssh -o BatchMode=yes -o ConnectTimeout=20"
    if global_config:
        env |= {name: environ[name] for name in ("GIT_CONFIG_GLOBAL",) if name in environ}
    else:
        env["GIT_CONFIG_GLOBAL"] = "/dev/null"
        env["GIT_CONFIG_NOSYSTEM"] = "1"
    return env
