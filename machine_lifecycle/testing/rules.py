"""What a check finds: every rule that does not hold, told at once."""

from __future__ import annotations

__all__ = ["PATIENCE", "Rules", "RulesBroken"]

PATIENCE = 10.0
"""Seconds that something may take which should be quick."""


class RulesBroken(AssertionError):
    """What was checked breaks rules that the machine relies on.

    Attributes:
        rules: A sentence for each.
    """

    def __init__(self, subject: str, rules: tuple[str, ...]) -> None:
        """Name *subject* and every rule it breaks."""
        lines = "".join(f"\n- {rule}" for rule in rules)
        super().__init__(f"{subject} breaks {len(rules)} rule{'s'[: len(rules) > 1]}:{lines}")
        self.rules = rules


class Rules:
    """Collects what is broken; raises all of it at the end."""

    def __init__(self, subject: str) -> None:
        """Nothing is broken yet.

        Args:
            subject: What is checked.
        """
        self._subject = subject
        self._broken: list[str] = []

    def hold(self, holds: bool, rule: str) -> None:  # noqa: FBT001 - what is asserted
        """Note a rule that does not hold."""
        if not holds:
            self._broken.append(rule)

    def include(self, broken: RulesBroken) -> None:
        """Note what a check of one part found, to tell it with the rest."""
        self._broken += broken.rules

    def judge(self) -> None:
        """Raise if any was broken."""
        if self._broken:
            raise RulesBroken(self._subject, tuple(self._broken))
