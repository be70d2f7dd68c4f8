"""A result on its way from a run into the queue."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

__all__ = ["Outcome"]


def _unheard(_answer: str) -> None:
    return None


@attrs.frozen
class Outcome:
    """A result to be written.

    Attributes:
        arguments: As ``ml1_turn`` takes them: id, fence, result, attestation, its key, ms, service.
        answered: Called with ``ok`` or ``lost`` once it is written.
        outputs: Bytes of small files by their keys in Redis; written before the result is.
    """

    arguments: tuple[str | int, ...]
    answered: Callable[[str], None] = _unheard
    outputs: Mapping[str, bytes] = attrs.field(factory=dict, repr=False)

    @property
    def job_id(self) -> str:
        """Whose result it is."""
        return str(self.arguments[0])

    @property
    def fence(self) -> int:
        """The run it is of."""
        return int(self.arguments[1])

    def telling(self, answered: Callable[[str], None]) -> Outcome:
        """The same, for another listener."""
        return Outcome(self.arguments, answered, self.outputs)
