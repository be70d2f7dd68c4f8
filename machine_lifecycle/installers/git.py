"""Bringing a git repository to a folder, with the program git.

Its exit status decides, never what it writes: a sparse clone writes ``error:`` lines and ends
well. It never asks anything, and reads no configuration file but the repository's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from machine_lifecycle.installers.cloning import Clone
from machine_lifecycle.installers.errors import CommandFailed, CommandTimeout, ProgramMissing
from machine_lifecycle.installers.git_errors import GitCause, GitCloneFailed, GitMissing
from machine_lifecycle.installers.gitprogram import Git
from machine_lifecycle.installers.repository import Repository, check_repository
from machine_lifecycle.installers.switching import Switch
from machine_lifecycle.model.installing import StepContext

__all__ = ["bring", "cause_of"]

_WORDS = (
    (GitCause.TLS, ("certificate", "SSL ", "TLS")),
    (
        GitCause.AUTH,
        (
            *("could not read Username", "Authentication failed", "Permission denied"),
            *("Host key verification failed", "error: 401", "error: 403"),
        ),
    ),
    (
        GitCause.REF,
        ("not our ref", "not a tree", "pathspec", "couldn't find remote ref", "needed a single"),
    ),
    (GitCause.NOT_FOUND, ("not found", "does not exist", "does not appear to be a git repo")),
    (
        GitCause.NETWORK,
        ("Could not resolve host", "Failed to connect", "Connection ", "timed out", "early EOF"),
    ),
)
"""Git's own words, as it says them in the C locale."""


async def bring(
    ctx: StepContext, repository: Repository, target: Path, env: Mapping[str, str]
) -> str:
    """Have *repository* in *target*, at the wanted commit; the full hash of what is there.

    A clone is made in a folder beside the target and put in place by one rename. A clone that is
    there already is never deleted: at the wanted commit nothing is done, else the commit is
    fetched, from another address too, and checked out; files that no commit knows stay. Safe to
    run again after any end.

    Raises:
        GitCloneFailed: It can't be brought.
        GitMissing: There is no git.
        FolderInTheWay: The target holds something else.
        FilesChanged: The clone there holds work of somebody's, which a switch would lose.
    """
    check_repository(repository)
    git = Git(ctx, repository, target, env)
    try:
        if (target / ".git").exists():
            return await Switch(git).run()
        return await Clone(git).run()
    except ProgramMissing as error:
        raise GitMissing from error
    except CommandTimeout as error:
        raise _failed(repository, target, error, GitCause.NETWORK) from error
    except CommandFailed as error:
        raise _failed(repository, target, error, cause_of(error, repository)) from error


def cause_of(error: CommandFailed, repository: Repository) -> GitCause:
    """What stood in git's way, as far as its words tell."""
    text = "\n".join(error.context).lower()
    for cause, words in _WORDS:
        if any(word.lower() in text for word in words):
            given = repository.url != repository.plain_url
            return GitCause.LOGIN if cause is GitCause.AUTH and given else cause
    return GitCause.OTHER


def _failed(
    repository: Repository, target: Path, error: CommandFailed, cause: GitCause
) -> GitCloneFailed:
    return GitCloneFailed(
        url=repository.plain_url,
        target=target,
        wanted=repository.commit or repository.branch,
        cause=cause,
        context=error.context[-12:],
    )
