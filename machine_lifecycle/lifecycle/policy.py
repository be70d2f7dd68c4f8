"""When a failed machine is booted again. Pure: told what happened, it answers."""

from __future__ import annotations

import attrs

from machine_lifecycle.errors import LifecycleError

__all__ = ["BootPolicy", "GiveUp", "RetryIn"]


@attrs.frozen
class RetryIn:
    """Boot again after so many seconds."""

    seconds: float


@attrs.frozen
class GiveUp:
    """Don't boot again, because of *reason*."""

    reason: str


@attrs.frozen(kw_only=True)
class BootPolicy:
    """How often and how fast. Times are seconds.

    Attributes:
        attempts: Boots in a row before the machine gives up, at least 1.
        backoff: Wait before the second boot; doubled before each further one.
        backoff_max: Longest wait.
        heal_after: A machine that was ready for so long starts counting anew.
    """

    attempts: int = 3
    backoff: float = 5.0
    backoff_max: float = 120.0
    heal_after: float = 600.0

    def left(self, failures: int) -> int:
        """Boots that remain after *failures* failed ones in a row."""
        return max(0, self.attempts - failures)

    def decide(self, failures: int, error: LifecycleError) -> RetryIn | GiveUp:
        """What to do after the *failures*-th failure in a row, caused by *error*."""
        if not error.recoverable:
            return GiveUp("another attempt would end the same way")
        if not self.left(failures):
            return GiveUp(f"{failures} of {self.attempts} attempts failed")
        return RetryIn(min(self.backoff * 2.0 ** (failures - 1), self.backoff_max))
