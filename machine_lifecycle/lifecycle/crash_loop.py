"""Boots that fail again and again, from one life to the next. Pure: told what happened, it answers.

A container runtime starts a machine that gave up anew at once, and it knows nothing of the life
before. So what failed is remembered in the workspace, and the next life waits before it begins.
"""

from __future__ import annotations

import attrs

__all__ = ["HEAL_AFTER", "PastLives", "wait_before"]

HEAL_AFTER = 600.0
"""Seconds that a machine must be ready so that what failed before is forgotten; as Kubernetes
forgets restarts of a container, and ``BootPolicy`` failed attempts, after ten minutes."""
_FREE = 2
"""Failures in a row after which the next life still begins at once: the first ones may be past."""
_FIRST = 5.0
"""Seconds of the first wait; doubled before each further life."""
_MOST = 60
"""Doublings: beyond 2^60 seconds a wait is at its longest anyway, and a float could overflow."""


@attrs.frozen(kw_only=True)
class PastLives:
    """How the lives before this one ended.

    Attributes:
        failures: Failed ones in a row.
        cause: Why the last of them failed, in words.
        digest: Of the configuration with which they failed.
        open: Whether a life began and nothing is known of its end.
    """

    failures: int = 0
    cause: str = ""
    digest: str = ""
    open: bool = False

    def begun(self, digest: str) -> PastLives:
        """One more life begins, with this configuration: another one than before may do better."""
        if digest != self.digest:
            return PastLives(digest=digest, open=True)
        if self.open:
            return self.failed("ended without a word: killed, or the host went down")
        return attrs.evolve(self, open=True)

    def failed(self, cause: str) -> PastLives:
        """A life failed; whether one is open stays as it is."""
        return attrs.evolve(self, failures=self.failures + 1, cause=cause)

    def ended(self, *, well: bool, cause: str) -> PastLives:
        """The life that was open ended.

        Args:
            well: Whether the machine was ready when it was told to stop.
            cause: Why it gave up; empty if it was told to stop.
        """
        if cause:
            return attrs.evolve(self.failed(cause), open=False)
        return PastLives(digest=self.digest) if well else attrs.evolve(self, open=False)

    def healed(self) -> PastLives:
        """The machine has been ready for ``HEAL_AFTER`` seconds."""
        return attrs.evolve(self, failures=0, cause="")


def wait_before(past: PastLives, longest: float) -> float:
    """Seconds that a life waits before it begins.

    Args:
        past: The lives before it.
        longest: Longest wait; 0: none at all.
    """
    over = past.failures - _FREE
    return min(_FIRST * 2.0 ** min(over - 1, _MOST), longest) if over > 0 else 0.0
