"""What node packs do to themselves when they are installed: ``install.py``, the list's script.

Both run after the pack's requirements, one pack at a time, with what must stay as it is held by
constraints. They may change files of the pack's own repository. How they left those is kept in the
clone, so that it can be told from what somebody changed by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from machine_lifecycle.config.nodes import NodeEntry
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.installers.guarding import check_unmoved
from machine_lifecycle.installers.packages import Environment
from machine_lifecycle.model.installing import InstallContext, RunCommand, StepContext

__all__ = ["INSTALL_PY", "PackScripts", "changed_by_hand"]

INSTALL_PY = "install.py"
"""The file that ComfyUI's own managers run after a pack's requirements."""
_LEFT = "refs/machine-lifecycle/scripts"
"""The state of the repository's files that its scripts left; a commit upon the one they ran on."""
_PLAIN = ("-c", "core.quotePath=false")
_NOBODY = ("-c", "user.name=machine-lifecycle", "-c", "user.email=machine-lifecycle@localhost")
"""Git makes no commit without a name; this one is never shown to anybody."""


@attrs.frozen
class PackScripts:
    """The scripts of one pack.

    Attributes:
        context: Of the installation.
        environment: What they may install into.
        node: The pack.
        folder: Where it is.
        env: The environment git gets.
    """

    context: InstallContext
    environment: Environment
    node: NodeEntry
    folder: Path
    env: Mapping[str, str] = attrs.field(repr=False)

    async def run(self, ctx: StepContext) -> None:
        """Run those that there are, and look at what they did to the environment.

        Raises:
            LifecycleError: One fails, or changes what must stay.
        """
        commands = tuple(self._commands())
        if not commands:
            return
        failed: LifecycleError | None = None
        try:
            async with self.environment.changing(ctx):
                for words in commands:
                    await ctx.run_command(words, env=self._environ, cwd=self.folder)
        except LifecycleError as error:
            failed = error  # raised later: before it failed, it may have changed the environment
        await check_unmoved(self.environment, ctx, self.node.name)
        if failed:
            raise failed
        await _keep(ctx.run_command, self.folder, self.env)

    def _commands(self) -> list[list[str]]:
        found = []
        if self.context.settings.comfyui_install_py and (self.folder / INSTALL_PY).is_file():
            found.append([str(self.environment.python), INSTALL_PY])
        if self.node.custom_script:
            found.append(["bash", "-c", self.node.custom_script])
        return found

    @property
    def _environ(self) -> dict[str, str]:
        # Packs that look for ComfyUI ask for this before they guess.
        return {**self.environment.env, "COMFYUI_PATH": str(self.context.home)}


async def changed_by_hand(
    run: RunCommand, folder: Path, env: Mapping[str, str], *words: str
) -> tuple[str, ...]:
    """Files of a repository that are neither as its commit has them nor as its scripts left them.

    Args:
        run: Runs git.
        folder: Where it is checked out.
        env: The environment git gets.
        words: Further words for ``git diff``.
    """
    # What scripts left of another commit is past.
    words_of = ["git", "rev-parse", "HEAD", f"{_LEFT}^1", _LEFT]
    told = await run(words_of, env=env, cwd=folder, check=False)
    head, on, left = told.output.split() if told.status == 0 else ("", "", "")
    against = left if left and head == on else "HEAD"
    look = ("diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", *words, against, "--")
    changed = await run(["git", *_PLAIN, *look], env=env, cwd=folder)
    return tuple(name for name in changed.output.split("\0") if name)


async def _keep(run: RunCommand, folder: Path, env: Mapping[str, str]) -> None:
    """Write down how the scripts left the files that the commit has."""
    # It ends with 1 where files were written anew with what was in them: nothing changed.
    made = await run(["git", *_NOBODY, "stash", "create"], env=env, cwd=folder, check=False)
    commit = made.output.strip()
    put = ("update-ref", _LEFT, commit) if commit else ("update-ref", "-d", _LEFT)
    await run(["git", *put], env=env, cwd=folder)
