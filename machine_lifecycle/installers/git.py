"""Bringing a git repository to a folder, with the program git.

Its exit status decides, never what it writes: a sparse clone writes ``error:`` lines and ends
well. It never asks anything, and reads no configuration file but the repository's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from machine_lifecycle.installers.cloning import Clone
from machine_lifecycle.installers.commits import Commits
from machine_lifecycle.installers.errors import CommandFailed, CommandTimeout, ProgramMissing
from machine_lifecycle.installers.git_causes import cause_in
from machine_lifecycle.installers.git_errors import GitCause, GitCloneFailed, GitMissing
from machine_lifecycle.installers.git_program import Git
from machine_lifecycle.installers.hosts import Hosts
from machine_lifecycle.installers.repository import Repository, check_repository
from machine_lifecycle.installers.switching import Switch
from machine_lifecycle.installers.threads import remove_tree
from machine_lifecycle.model.installing import StepContext

__all__ = ["bring", "clone_failed"]


async def bring(
    ctx: StepContext,
    repository: Repository,
    target: Path,
    env: Mapping[str, str],
    *,
    commits: Commits | None = None,
    hosts: Hosts | None = None,
) -> str:
    """Have *repository* in *target*, at the wanted commit; the full hash of what is there.

    A clone is made in a folder beside the target and put in place by one rename. A clone that is
    there already is never deleted: at the wanted commit nothing is done, else the commit is
    fetched, from another address too, and checked out; files that no commit knows stay. Safe to
    run again after any end.

    Args:
        ctx: Runs git.
        repository: What is wanted.
        target: Where it belongs.
        env: The environment git gets.
        commits: Commits that were fetched before, and will be kept; None: none are kept.
        hosts: What is known of the hosts.

    Raises:
        HostDown: Nobody answers there.
        GitCloneFailed: It can't be brought.
        GitMissing: There is no git.
        FolderInTheWay: The target holds something else.
        FilesChanged: The clone there holds work of somebody's, which a switch would lose.
    """
    check_repository(repository)
    git = Git(ctx, repository, target, env, hosts or Hosts())
    # One fixed name, so that what a killed run left is found again.
    aside = target.with_name(f".{target.name}.machine-lifecycle-commits")
    kept = commits or Commits(aside)
    try:
        if (target / ".git").exists():
            return await Switch(git, kept).run()
        return await Clone(git, kept).run()
    except ProgramMissing as error:
        raise GitMissing from error
    except CommandFailed as error:
        raise clone_failed(git, error) from error
    finally:
        await remove_tree(aside)


def clone_failed(git: Git, error: CommandFailed) -> GitCloneFailed:
    """The error of git, told of the repository that was to be brought."""
    wanted = git.wanted
    cause = cause_in(error.context, login=wanted.url != wanted.plain_url)
    if isinstance(error, CommandTimeout):
        cause = GitCause.NETWORK
    return GitCloneFailed(
        url=git.url,
        target=git.target,
        wanted=wanted.commit or wanted.branch,
        cause=cause,
        context=error.context[-12:],
        retry_after=error.retry_after,
    )
